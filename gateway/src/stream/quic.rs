//! QUIC over one flow of datagrams: a socket that is none, for one client and one connection.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use parking_lot::Mutex;
use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, Endpoint, EndpointConfig, ServerConfig, TokioRuntime, UdpPoller};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::datagrams::{Datagrams, Outbox};

/// The longest datagram that is read: nobody sends longer ones over the Internet, and an endpoint has
/// room for 32 of them.
const DATAGRAM_BYTES_MAX: u16 = 1_500;
/// Both ends of the flow, to the endpoint: which addresses they have is of no interest to it.
const CLIENT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 1);
const HERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2)), 443);

/// A server for the client at the other end of `datagrams`, which has sent `first` already. The token
/// is cancelled when the client has ended the flow.
///
/// # Errors
/// Where the endpoint cannot be made.
pub fn endpoint(
    datagrams: Datagrams,
    first: Vec<Bytes>,
    config: ServerConfig,
) -> io::Result<(Endpoint, CancellationToken)> {
    let ended = CancellationToken::new();
    let Datagrams { inbox, outbox, size_max } = datagrams;
    let incoming = Mutex::new(Incoming { first: first.into(), inbox: Some(inbox) });
    let socket = Arc::new(FlowSocket { incoming, outbox, size_max, ended: ended.clone() });
    let mut settings = EndpointConfig::default();
    // The limits of this value are far away.
    drop(settings.max_udp_payload_size(DATAGRAM_BYTES_MAX));
    // What travels inside a tunnel is told apart by its first byte.
    settings.grease_quic_bit(false);
    let runtime = Arc::new(TokioRuntime);
    let endpoint = Endpoint::new_with_abstract_socket(settings, Some(config), socket, runtime)?;
    Ok((endpoint, ended))
}

struct FlowSocket {
    incoming: Mutex<Incoming>,
    outbox: Outbox,
    size_max: usize,
    ended: CancellationToken,
}

struct Incoming {
    first: VecDeque<Bytes>,
    inbox: Option<mpsc::Receiver<Bytes>>,
}

impl Incoming {
    fn poll(&mut self, context: &mut Context<'_>, ended: &CancellationToken) -> Poll<Bytes> {
        if let Some(datagram) = self.first.pop_front() {
            return Poll::Ready(datagram);
        }
        let Some(inbox) = &mut self.inbox else { return Poll::Pending };
        match inbox.poll_recv(context) {
            Poll::Ready(Some(datagram)) => Poll::Ready(datagram),
            Poll::Ready(None) => {
                // An error would be the endpoint's, and logged as one; its owner is told instead.
                self.inbox = None;
                ended.cancel();
                Poll::Pending
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncUdpSocket for FlowSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(AlwaysWritable)
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let segment = transmit.segment_size.unwrap_or(transmit.contents.len()).max(1);
        for datagram in transmit.contents.chunks(segment) {
            // What a full tunnel loses, the connection's own control notices.
            if datagram.len() <= self.size_max {
                let _lost = self.outbox.send(datagram);
            }
        }
        Ok(())
    }

    fn poll_recv(
        &self,
        context: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut incoming = self.incoming.lock();
        let mut count = 0;
        for (buffer, meta) in buffers.iter_mut().zip(meta) {
            let datagram = match incoming.poll(context, &self.ended) {
                Poll::Ready(datagram) => datagram,
                Poll::Pending if count > 0 => break,
                Poll::Pending => return Poll::Pending,
            };
            // One that is too long was never agreed on; cut, it opens nowhere.
            let length = datagram.len().min(buffer.len());
            let (to, from) = (buffer.get_mut(..length), datagram.get(..length));
            if let (Some(to), Some(from)) = (to, from) {
                to.copy_from_slice(from);
            }
            *meta = RecvMeta { addr: CLIENT, len: length, stride: length, ecn: None, dst_ip: None };
            count += 1;
        }
        Poll::Ready(Ok(count))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(HERE)
    }

    fn may_fragment(&self) -> bool {
        false
    }
}

impl fmt::Debug for FlowSocket {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("FlowSocket").finish_non_exhaustive()
    }
}

/// Sending never waits.
#[derive(Debug)]
struct AlwaysWritable;

impl UdpPoller for AlwaysWritable {
    fn poll_writable(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
