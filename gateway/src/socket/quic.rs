//! What a QUIC endpoint takes for its socket: it sends by a socket of the UDP port, and receives
//! what the port's reader has put into its inbox.

use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use quinn::{AsyncUdpSocket, UdpPoller};
use quinn_udp::{RecvMeta, Transmit};

use super::inbox::Inbox;
use super::udp::UdpPort;

/// See the module.
#[derive(Debug)]
pub struct QuicSocket {
    port: Arc<UdpPort>,
    inbox: Arc<Inbox>,
}

impl QuicSocket {
    #[must_use]
    pub fn new(port: Arc<UdpPort>, inbox: Arc<Inbox>) -> Self {
        Self { port, inbox }
    }
}

impl QuicSocket {
    /// Sends the first of several datagrams, as far as is allowed; the rest is as if lost.
    fn send_less(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let Some(size) = transmit.segment_size else { return Ok(()) };
        for contents in transmit.contents.chunks(size.max(1)) {
            if !self.inbox.allows(transmit.destination, contents.len()) {
                break;
            }
            let Transmit { destination, ecn, src_ip, .. } = *transmit;
            let one = Transmit { destination, ecn, contents, segment_size: None, src_ip };
            self.port.try_send(&one)?;
        }
        Ok(())
    }
}

impl AsyncUdpSocket for QuicSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Writable { port: Arc::clone(&self.port), waiting: None })
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        // Long headers: a handshake's, whose peer may be somebody else than it says.
        let handshake = transmit.contents.first().is_some_and(|byte| byte & 0x80 != 0);
        if handshake && !self.inbox.allows(transmit.destination, transmit.contents.len()) {
            return self.send_less(transmit);
        }
        self.port.try_send(transmit)
    }

    fn poll_recv(
        &self,
        context: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        self.inbox.poll_take(context, buffers, meta).map(Ok)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.port.local_address()
    }

    fn max_transmit_segments(&self) -> usize {
        self.port.segments_max()
    }

    /// The inbox takes apart what came joined.
    fn max_receive_segments(&self) -> usize {
        1
    }

    fn may_fragment(&self) -> bool {
        self.port.may_fragment()
    }
}

/// One task's wait for room in the socket's buffer.
struct Writable {
    port: Arc<UdpPort>,
    waiting: Option<Pin<Box<dyn Future<Output = io::Result<()>> + Send + Sync>>>,
}

impl fmt::Debug for Writable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Writable").field("port", &self.port).finish_non_exhaustive()
    }
}

impl UdpPoller for Writable {
    fn poll_writable(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let port = Arc::clone(&this.port);
        let waiting =
            this.waiting.get_or_insert_with(|| Box::pin(async move { port.writable().await }));
        let ready = waiting.as_mut().poll(context);
        if ready.is_ready() {
            this.waiting = None;
        }
        ready
    }
}
