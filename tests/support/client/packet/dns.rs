//! Asks a name server inside the tunnel.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use hickory_proto::op::{Message, Query};
use hickory_proto::rr::{Name, RecordType};

use super::{PacketSocket, PacketStack};
use crate::client::error::ClientError;

/// A question unanswered for so long is asked again, as resolvers do…
const AGAIN: Duration = Duration::from_secs(2);
/// …so many times in all.
const TRIES: usize = 5;

impl PacketStack {
    /// Asks `server` for `name` and gives its answer as it is, whatever its code.
    ///
    /// # Errors
    /// [`ClientError::Timeout`] where no answer comes, [`ClientError::Malformed`] where it is none.
    pub async fn lookup(
        &self,
        server: SocketAddr,
        name: &str,
        kind: RecordType,
    ) -> Result<Message, ClientError> {
        let unusable = |what: &dyn std::fmt::Display| ClientError::Unsupported(what.to_string());
        let mut name = Name::from_str(name).map_err(|error| unusable(&error))?;
        name.set_fqdn(true);
        let mut query = Message::query();
        query.metadata.recursion_desired = true;
        query.add_query(Query::query(name, kind));
        let asked = query.to_vec().map_err(|error| unusable(&error))?;
        let mut socket = self.udp()?;
        for _ in 0..TRIES {
            socket.send_to(server, &asked).await?;
            match answer(&mut socket, server, query.metadata.id).await {
                Err(ClientError::Timeout) => {}
                other => return other,
            }
        }
        Err(ClientError::Timeout)
    }

    /// The addresses of `name`, IPv4 and IPv6.
    ///
    /// # Errors
    /// As [`PacketStack::lookup`].
    pub async fn resolve(
        &self,
        server: SocketAddr,
        name: &str,
    ) -> Result<Vec<IpAddr>, ClientError> {
        let mut found = Vec::new();
        for kind in [RecordType::A, RecordType::AAAA] {
            let answer = self.lookup(server, name, kind).await?;
            found.extend(answer.answers.iter().filter_map(|record| record.data.ip_addr()));
        }
        Ok(found)
    }
}

async fn answer(
    socket: &mut PacketSocket,
    server: SocketAddr,
    id: u16,
) -> Result<Message, ClientError> {
    loop {
        let (from, bytes) = socket.receive(AGAIN).await?;
        if from != server {
            continue;
        }
        let message = Message::from_vec(&bytes);
        let message = message.map_err(|error| ClientError::Malformed(error.to_string()))?;
        if message.metadata.id == id {
            return Ok(message);
        }
    }
}
