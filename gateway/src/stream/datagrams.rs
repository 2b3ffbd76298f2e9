//! The client's end of one flow of datagrams, whatever carries them.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::packet::{Dropped, Stack};

/// Datagrams that wait to be written to a stream of a tunnel: some 300 KiB, what a congestion
/// controller sends at once over 100 Mbit/s and 25 ms. What is beyond is lost, as on any full link.
const QUEUED_MAX: usize = 256;
/// And so many bytes of them, since one may have 64 KiB.
const QUEUED_BYTES_MAX: usize = 512 << 10;

/// What comes from a client, and the way back.
pub struct Datagrams {
    /// Closed where the client has ended the flow.
    pub inbox: mpsc::Receiver<Bytes>,
    pub outbox: Outbox,
    /// The longest that can be sent back.
    pub size_max: usize,
}

/// The way back to a client.
#[derive(Clone)]
pub enum Outbox {
    /// As IP packets of a packet tunnel.
    Packets { stack: Arc<Stack>, source: SocketAddr, destination: SocketAddr },
    /// By whoever writes them to a stream of a tunnel.
    Stream { queue: mpsc::Sender<Waiting>, room: Arc<Semaphore> },
}

/// Datagrams for a stream of a tunnel.
pub struct Outgoing(mpsc::Receiver<Waiting>);

/// A datagram, and its part of what may wait.
pub struct Waiting {
    datagram: Bytes,
    _room: OwnedSemaphorePermit,
}

impl Outgoing {
    /// The next one; `None` once the flow is over.
    pub async fn next(&mut self) -> Option<Bytes> {
        self.0.recv().await.map(|waiting| waiting.datagram)
    }
}

impl Outbox {
    /// A way back by a stream, and its other end.
    #[must_use]
    pub fn stream() -> (Self, Outgoing) {
        let (queue, waiting) = mpsc::channel(QUEUED_MAX);
        let room = Arc::new(Semaphore::new(QUEUED_BYTES_MAX));
        (Self::Stream { queue, room }, Outgoing(waiting))
    }

    /// Sends a datagram to the client; UDP may lose it.
    ///
    /// # Errors
    /// Says why it was lost.
    pub fn send(&self, datagram: &[u8]) -> Result<(), Dropped> {
        match self {
            Self::Packets { stack, source, destination } => {
                stack.send_datagram(*destination, *source, datagram)
            }
            Self::Stream { queue, room } => {
                let bytes = u32::try_from(datagram.len()).map_err(|_| Dropped::TooBig)?;
                let room = Arc::clone(room).try_acquire_many_owned(bytes);
                let room = room.map_err(|_| Dropped::Queue)?;
                let datagram = Bytes::copy_from_slice(datagram);
                let waiting = Waiting { datagram, _room: room };
                queue.try_send(waiting).map_err(|_| Dropped::Queue)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_waits_for_a_stream_is_bounded_in_number_and_bytes() {
        for (size, most) in [(0, QUEUED_MAX), (1_200, QUEUED_MAX), (65_507, 8)] {
            let (outbox, mut outgoing) = Outbox::stream();
            let sent = (0..1_000).take_while(|_| outbox.send(&vec![7; size]).is_ok()).count();
            assert_eq!(sent, most, "of {size} bytes");
            assert_eq!(outgoing.next().await.map(|it| it.len()), Some(size));
            assert!(outbox.send(&vec![7; size]).is_ok(), "room again");
            drop(outbox);
            let mut left = 0;
            while outgoing.next().await.is_some() {
                left += 1;
            }
            assert_eq!(left, most);
        }
    }
}
