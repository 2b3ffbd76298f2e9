//! The stack: takes packets in, hands each to whom it is for.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};

use super::flow::TcpFlow;
use super::stream::{FlowHandle, PacketStream, drive};
use super::tables::{FLOWS_MAX, Key, Tables, WAITING_MAX};
use super::wire::{self, Echo};
use super::{Addresses, BUFFER_BYTES, PacketChannel, PacketSocket};
use crate::client::error::ClientError;
use crate::client::tunnel::WAIT_MAX;

/// A user-space TCP/IP stack with one or two addresses. Clones share it; it ends with the last clone,
/// stream and socket, or with its channel.
#[derive(Clone)]
pub struct PacketStack {
    pub(super) shared: Arc<Shared>,
    /// Stops taking packets in when the last clone is gone.
    _router: Arc<Router>,
}

pub(super) struct Shared {
    addresses: Mutex<Addresses>,
    pub(super) outgoing: mpsc::Sender<Vec<u8>>,
    tables: Mutex<Tables>,
    buffer_bytes: usize,
}

struct Router(tokio::task::AbortHandle);

impl Drop for Router {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl PacketStack {
    /// Begins to work on `channel`; needs a tokio runtime.
    #[must_use]
    pub fn start(addresses: Addresses, channel: PacketChannel) -> Self {
        Self::with_buffers(addresses, channel, BUFFER_BYTES)
    }

    /// The same with TCP buffers of another size, each way.
    #[must_use]
    pub fn with_buffers(addresses: Addresses, channel: PacketChannel, buffer_bytes: usize) -> Self {
        let shared = Arc::new(Shared {
            addresses: Mutex::new(addresses),
            outgoing: channel.outgoing,
            tables: Mutex::new(Tables::new(seed())),
            buffer_bytes,
        });
        let mut incoming = channel.incoming;
        let routing = Arc::clone(&shared);
        let router = tokio::spawn(async move {
            while let Some(packet) = incoming.recv().await {
                routing.route(packet);
            }
            routing.end();
        });
        Self { shared, _router: Arc::new(Router(router.abort_handle())) }
    }

    /// Who the stack is.
    #[must_use]
    pub fn addresses(&self) -> Addresses {
        *self.shared.addresses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Becomes somebody else, for what is opened from now on.
    pub fn set_addresses(&self, addresses: Addresses) {
        *self.shared.addresses.lock().unwrap_or_else(PoisonError::into_inner) = addresses;
    }

    /// Opens a TCP connection.
    ///
    /// # Errors
    /// [`ClientError::Connect`] where it is refused, [`ClientError::Timeout`] where nobody answers
    /// within 20 s, [`ClientError::Unsupported`] where the stack has no address of this family.
    pub async fn connect(&self, remote: SocketAddr) -> Result<PacketStream, ClientError> {
        let addresses = self.addresses();
        let local = self.shared.own(remote.ip())?;
        let flow = {
            let mut tables = self.shared.tables();
            if tables.flows.len() >= FLOWS_MAX {
                return Err(ClientError::Unsupported("too many flows".to_owned()));
            }
            let taken = |tables: &Tables, port: u16| {
                tables.flows.contains_key(&((local, port).into(), remote))
            };
            let none = || ClientError::Unsupported("no free port".to_owned());
            let own: SocketAddr = (local, tables.port(taken).ok_or_else(none)?).into();
            let (now, bytes) = (Instant::now().into_std(), self.shared.buffer_bytes);
            let flow = TcpFlow::connect(now, own, remote, addresses.mtu, bytes, seed());
            let flow = flow.map_err(ClientError::Connect)?;
            self.shared.begin(&mut tables, (own, remote), flow)
        };
        let stream = PacketStream::new(Some(self.clone()), flow);
        match timeout(WAIT_MAX, stream.opened()).await {
            Ok(Ok(())) => Ok(stream),
            Ok(Err(error)) => Err(ClientError::Connect(error)),
            Err(_) => Err(ClientError::Timeout),
        }
    }

    /// A UDP socket on a port of the stack's choice, for both families.
    ///
    /// # Errors
    /// Where no port is free.
    pub fn udp(&self) -> Result<PacketSocket, ClientError> {
        let (deliver, arrived) = mpsc::channel(WAITING_MAX);
        let mut tables = self.shared.tables();
        let taken = |tables: &Tables, port: u16| tables.sockets.contains_key(&port);
        let none = || ClientError::Unsupported("no free port".to_owned());
        let port = tables.port(taken).ok_or_else(none)?;
        tables.sockets.insert(port, deliver);
        Ok(PacketSocket::new(self.clone(), port, arrived))
    }

    /// A UDP socket on a given port, as servers have it.
    ///
    /// # Errors
    /// Where the port is taken.
    pub fn udp_at(&self, port: u16) -> Result<PacketSocket, ClientError> {
        let (deliver, arrived) = mpsc::channel(WAITING_MAX);
        let mut tables = self.shared.tables();
        if tables.sockets.contains_key(&port) {
            return Err(ClientError::Unsupported(format!("port {port} is taken")));
        }
        tables.sockets.insert(port, deliver);
        Ok(PacketSocket::new(self.clone(), port, arrived))
    }

    /// Sends an echo request and waits for its reply.
    ///
    /// # Errors
    /// [`ClientError::Timeout`] where none comes within `wait`.
    pub async fn ping(
        &self,
        target: IpAddr,
        data: &[u8],
        wait: Duration,
    ) -> Result<Duration, ClientError> {
        let own = self.shared.own(target)?;
        let (identifier, sequence) = {
            let unique = crate::unique();
            ((unique >> 16 & 0xffff) as u16, (unique & 0xffff) as u16)
        };
        let (reply, replied) = oneshot::channel();
        self.shared.tables().pings.insert((identifier, sequence), reply);
        let request = Echo { is_reply: false, identifier, sequence, data };
        let begun = Instant::now();
        self.inject(wire::echo(own, target, &request)).await?;
        let answer = timeout(wait, replied).await;
        self.shared.tables().pings.remove(&(identifier, sequence));
        match answer {
            Ok(Ok(came)) if came == data => Ok(begun.elapsed()),
            Ok(Ok(_)) => Err(ClientError::Malformed("an echo with other data".to_owned())),
            Ok(Err(_)) | Err(_) => Err(ClientError::Timeout),
        }
    }

    /// Sends a packet as it is.
    ///
    /// # Errors
    /// Where the channel has ended.
    pub async fn inject(&self, packet: Vec<u8>) -> Result<(), ClientError> {
        let sent = self.shared.outgoing.send(packet).await;
        sent.map_err(|_| ClientError::Broken(std::io::ErrorKind::BrokenPipe.into()))
    }

    /// From now on, every packet that is for no flow, socket or ping of this stack. One observer; a
    /// further one takes its place.
    #[must_use]
    pub fn observe(&self) -> mpsc::Receiver<Vec<u8>> {
        let (deliver, observed) = mpsc::channel(WAITING_MAX);
        self.shared.tables().observer = Some(deliver);
        observed
    }

    /// From now on, every TCP connection that comes in, whatever address and port it is for, with that
    /// address. This makes a server of a stack, which must outlive the streams.
    #[must_use]
    pub fn listen(&self) -> mpsc::Receiver<(SocketAddr, PacketStream)> {
        let (deliver, accepted) = mpsc::channel(WAITING_MAX);
        self.shared.tables().listener = Some(deliver);
        accepted
    }
}

impl Shared {
    pub(super) fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn own(&self, peer: IpAddr) -> Result<IpAddr, ClientError> {
        let addresses = *self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        let none = || ClientError::Unsupported(format!("no address towards {peer}"));
        addresses.towards(peer).ok_or_else(none)
    }

    /// Puts a flow into the tables and sets it going.
    pub(super) fn begin(
        self: &Arc<Self>,
        tables: &mut Tables,
        key: Key,
        flow: TcpFlow,
    ) -> Arc<FlowHandle> {
        let handle = Arc::new(FlowHandle::new(flow));
        tables.flows.insert(key, Arc::clone(&handle));
        tokio::spawn(drive(Arc::clone(self), key, Arc::clone(&handle)));
        handle
    }

    /// A flow for a connection that comes in.
    pub(super) fn listening(&self, local: SocketAddr) -> Option<TcpFlow> {
        let mtu = self.addresses.lock().unwrap_or_else(PoisonError::into_inner).mtu;
        TcpFlow::listen(Instant::now().into_std(), local, mtu, self.buffer_bytes, seed()).ok()
    }
}

fn seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(crate::unique())
}
