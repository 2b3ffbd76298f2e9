//! DTLS 1.2 with a pre-shared key: OpenConnect's data channel, whose two ends have the key from the TLS
//! connection that carries the client's identity.

use gateway_proto::dtls12::{PskProblem, PskServer};
use zeroize::Zeroizing;

use super::{Broken, Output};
use crate::ident::random;

/// One connection.
pub struct Psk(PskServer);

impl Psk {
    /// A server that waits for its client's first flight. `None` where the system has no random bytes.
    #[must_use]
    pub fn new(key: &Zeroizing<[u8; 32]>) -> Option<Self> {
        Some(Self(PskServer::new(**key, random::bytes()?)))
    }

    pub(super) fn datagram(&mut self, datagram: &[u8], out: &mut Output) -> Result<(), Broken> {
        let outcome = self.0.datagram(datagram).map_err(broken)?;
        out.datagrams.extend(outcome.datagrams);
        out.records.extend(outcome.records);
        out.connected |= outcome.connected;
        out.closed |= outcome.closed;
        Ok(())
    }

    pub(super) fn send(&mut self, record: &[u8], out: &mut Output) -> Result<(), Broken> {
        out.datagrams.push(self.0.seal(record).map_err(broken)?);
        Ok(())
    }

    pub(super) fn close(&mut self, out: &mut Output) {
        out.datagrams.extend(self.0.close().ok());
    }
}

fn broken(problem: PskProblem) -> Broken {
    Broken(problem.to_string())
}
