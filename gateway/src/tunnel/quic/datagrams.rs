//! HTTP datagrams in QUIC datagrams (RFC 9297 section 2): each to the stream that it names.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use gateway_proto::capsule::{CONTEXT_UDP, read_varint, udp_payload, write_varint};
use gateway_proto::h3::{Code, Fault};
use tokio::sync::mpsc;

use super::shared::Shared;

/// Datagrams that wait for one stream: some milliseconds of a fast upload.
const WAITING_MAX: usize = 256;
/// The largest quarter of a stream id.
const QUARTER_MAX: u64 = (1 << 60) - 1;

/// Streams that take datagrams, by the quarter of their ids.
pub(super) type Inlets = HashMap<u64, mpsc::Sender<Bytes>>;

/// What became of a QUIC datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delivered {
    Yes,
    /// The stream does not keep up.
    Full,
    /// No stream of that number takes datagrams.
    Stray,
}

impl Shared {
    /// Gives a QUIC datagram to its stream.
    ///
    /// # Errors
    /// Where it names none (RFC 9297 section 2.1): the connection is over.
    pub(super) fn deliver(&self, mut datagram: Bytes) -> Result<Delivered, Fault> {
        let fault = || Fault::new(Code::DATAGRAM_ERROR, "a datagram names no stream");
        let (quarter, width) = read_varint(&datagram).ok_or_else(fault)?;
        if quarter > QUARTER_MAX {
            return Err(fault());
        }
        datagram.advance(width);
        let inlets = self.inlets.lock();
        let Some(inlet) = inlets.get(&quarter) else { return Ok(Delivered::Stray) };
        Ok(match inlet.try_send(datagram) {
            Ok(()) => Delivered::Yes,
            Err(_) => Delivered::Full,
        })
    }
}

/// The datagrams of one stream, both ways.
pub struct Datagrams {
    shared: Arc<Shared>,
    quarter: u64,
    incoming: mpsc::Receiver<Bytes>,
}

impl Datagrams {
    pub(super) fn open(shared: &Arc<Shared>, stream: u64) -> Self {
        let (inlet, incoming) = mpsc::channel(WAITING_MAX);
        let quarter = stream / 4;
        shared.inlets.lock().insert(quarter, inlet);
        Self { shared: Arc::clone(shared), quarter, incoming }
    }

    /// The next UDP payload that came in a QUIC datagram.
    pub async fn next(&mut self) -> Bytes {
        loop {
            match self.incoming.recv().await {
                // Other contexts than zero were never agreed on (RFC 9298 section 4): dropped.
                Some(datagram) => {
                    if let Some(payload) = udp_payload(&datagram) {
                        return payload;
                    }
                }
                // Not while this lives.
                None => return std::future::pending().await,
            }
        }
    }

    /// Whether UDP payloads go to the client in QUIC datagrams.
    #[must_use]
    pub fn are_taken(&self) -> bool {
        self.shared.takes_datagrams()
    }

    /// Sends a UDP payload; false where it does not fit the path's packets.
    #[must_use]
    pub fn send(&self, payload: &[u8]) -> bool {
        let mut datagram = BytesMut::with_capacity(payload.len() + 9);
        write_varint(self.quarter, &mut datagram);
        write_varint(CONTEXT_UDP, &mut datagram);
        datagram.put_slice(payload);
        !matches!(
            self.shared.connection.send_datagram(datagram.freeze()),
            Err(quinn::SendDatagramError::TooLarge)
        )
    }
}

impl Drop for Datagrams {
    fn drop(&mut self) {
        let mut inlets = self.shared.inlets.lock();
        inlets.remove(&self.quarter);
        if inlets.is_empty() {
            *inlets = Inlets::new();
        }
    }
}
