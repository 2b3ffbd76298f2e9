//! CONNECT-UDP over a QUIC tunnel: QUIC datagrams, or capsules on the stream.

use bytes::{BufMut, Bytes, BytesMut};
use gateway_proto::capsule::{CapsuleReader, udp_payload, write_udp, write_varint};
use quinn::Connection;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::QuicStream;
use crate::client::error::ClientError;
use crate::client::tunnel::WAIT_MAX;

/// A datagram flow to one destination.
pub struct QuicUdp {
    stream: QuicStream,
    connection: Connection,
    incoming: mpsc::Receiver<Bytes>,
    capsules: BytesMut,
    reader: CapsuleReader,
    datagrams: bool,
}

/// How a payload came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Came {
    Datagram(Vec<u8>),
    Capsule(Vec<u8>),
}

impl QuicUdp {
    pub(super) fn new(
        stream: QuicStream,
        connection: Connection,
        incoming: mpsc::Receiver<Bytes>,
        datagrams: bool,
    ) -> Self {
        let (capsules, reader) = (BytesMut::new(), CapsuleReader::new());
        Self { stream, connection, incoming, capsules, reader, datagrams }
    }

    /// Sends a payload the way this client prefers.
    ///
    /// # Errors
    /// Where the stream or connection breaks, or the payload does not fit.
    pub async fn send(&mut self, payload: &[u8]) -> Result<(), ClientError> {
        if !self.datagrams {
            return self.send_capsule(payload).await;
        }
        let mut datagram = BytesMut::new();
        write_varint(self.stream.id() / 4, &mut datagram);
        datagram.put_u8(0);
        datagram.put_slice(payload);
        let sent = self.connection.send_datagram(datagram.freeze());
        sent.map_err(|error| ClientError::Broken(std::io::Error::other(error)))
    }

    /// Sends a payload in a capsule.
    ///
    /// # Errors
    /// Where the stream breaks.
    pub async fn send_capsule(&mut self, payload: &[u8]) -> Result<(), ClientError> {
        let mut capsule = BytesMut::new();
        write_udp(payload, &mut capsule);
        self.stream.write_all(&capsule).await?;
        Ok(self.stream.flush().await?)
    }

    /// The next payload.
    ///
    /// # Errors
    /// [`ClientError::Timeout`] after 20 s.
    pub async fn receive(&mut self) -> Result<Vec<u8>, ClientError> {
        match self.came().await? {
            Came::Datagram(payload) | Came::Capsule(payload) => Ok(payload),
        }
    }

    /// The next payload, and how it came.
    ///
    /// # Errors
    /// [`ClientError::Timeout`] after 20 s.
    pub async fn came(&mut self) -> Result<Came, ClientError> {
        timeout(WAIT_MAX, self.came_unbounded()).await.unwrap_or(Err(ClientError::Timeout))
    }

    async fn came_unbounded(&mut self) -> Result<Came, ClientError> {
        let wrong = |what: &str| ClientError::Malformed(what.to_owned());
        loop {
            let capsule = self.reader.datagram(&mut self.capsules);
            if let Some(datagram) = capsule.map_err(|error| wrong(error.label()))? {
                let payload = udp_payload(&datagram).ok_or_else(|| wrong("another context"))?;
                return Ok(Came::Capsule(payload.to_vec()));
            }
            tokio::select! {
                datagram = self.incoming.recv() => {
                    let datagram = datagram.ok_or_else(|| wrong("the flow is over"))?;
                    let payload = udp_payload(&datagram).ok_or_else(|| wrong("another context"))?;
                    return Ok(Came::Datagram(payload.to_vec()));
                }
                read = self.stream.read_buf(&mut self.capsules) => {
                    if read? == 0 {
                        return Err(ClientError::Broken(std::io::ErrorKind::UnexpectedEof.into()));
                    }
                }
            }
        }
    }
}
