//! One TCP connection over packets, without I/O or clock: smoltcp with an interface of its own.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{self, DeviceCapabilities, Medium};
use smoltcp::socket::tcp::{RecvError, Socket, SocketBuffer, State};
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr};

use super::edge::Edge;

/// Packets a flow holds that were not yet taken up or sent on. TCP makes good what does not fit.
const HELD_PACKETS: usize = 512;

/// One connection. Give it packets and the time, take packets from it.
///
/// After [`TcpFlow::handle_packet`] and after any call that reads, writes or closes, [`TcpFlow::poll`]
/// does the work; then [`TcpFlow::poll_transmit`] gives what is to be sent.
pub struct TcpFlow {
    interface: Interface,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    queues: Queues,
    local: SocketAddr,
    begun: Instant,
}

/// What can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readable {
    Bytes(usize),
    Nothing,
    /// The peer has sent its last byte.
    End,
}

impl TcpFlow {
    /// A connection that opens itself with the first poll.
    ///
    /// # Errors
    /// Where the addresses do not fit each other, or a port is 0.
    pub fn connect(
        now: Instant,
        local: SocketAddr,
        remote: SocketAddr,
        mtu: usize,
        buffer_bytes: usize,
        seed: u64,
    ) -> io::Result<Self> {
        let mut flow = Self::new(now, local, mtu, buffer_bytes, seed);
        let socket = flow.sockets.get_mut::<Socket<'_>>(flow.handle);
        let connecting = socket.connect(flow.interface.context(), remote, local);
        connecting.map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        Ok(flow)
    }

    /// A connection that waits for its opening segment.
    ///
    /// # Errors
    /// Where the port is 0.
    pub fn listen(
        now: Instant,
        local: SocketAddr,
        mtu: usize,
        buffer_bytes: usize,
        seed: u64,
    ) -> io::Result<Self> {
        let mut flow = Self::new(now, local, mtu, buffer_bytes, seed);
        let listening = flow.socket_mut().listen(local);
        listening.map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        Ok(flow)
    }

    fn new(now: Instant, local: SocketAddr, mtu: usize, buffer_bytes: usize, seed: u64) -> Self {
        let mut queues = Queues {
            edge: Edge::default(),
            mtu,
            received: VecDeque::new(),
            to_send: VecDeque::new(),
        };
        let interface = interface(local, seed, &mut queues);
        let buffer = || SocketBuffer::new(vec![0; buffer_bytes]);
        let mut socket = Socket::new(buffer(), buffer());
        socket.set_nagle_enabled(false);
        let mut sockets = SocketSet::new(Vec::with_capacity(1));
        let handle = sockets.add(socket);
        Self { interface, sockets, handle, queues, local, begun: now }
    }

    /// Sends packets of at most `mtu` bytes from now on; whether that is less than before.
    pub fn narrow(&mut self, mtu: usize) -> bool {
        if mtu >= self.queues.mtu {
            return false;
        }
        self.queues.mtu = mtu;
        // An interface keeps the size it was made with.
        self.interface = interface(self.local, 0, &mut self.queues);
        true
    }

    /// Takes a packet that is for this connection. Where too many wait already it is dropped.
    pub fn handle_packet(&mut self, mut packet: Vec<u8>) {
        self.queues.edge.pull_back(&mut packet);
        if self.queues.received.len() < HELD_PACKETS {
            self.queues.received.push_back(packet);
        }
    }

    /// Works through what came and what is due; says when it wants to be polled again.
    pub fn poll(&mut self, now: Instant) -> Option<Instant> {
        let time = self.time(now);
        self.interface.poll(time, &mut self.queues, &mut self.sockets);
        let wait = self.interface.poll_delay(time, &self.sockets)?;
        Some(now + Duration::from_micros(wait.total_micros()))
    }

    /// The next packet to send.
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.queues.to_send.pop_front()
    }

    /// Whether the queue of packets to send was full: there may be more after it is emptied.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.queues.to_send.len() >= HELD_PACKETS
    }

    #[must_use]
    pub fn state(&self) -> State {
        self.sockets.get::<Socket<'_>>(self.handle).state()
    }

    /// Whether the opening handshake is still under way.
    #[must_use]
    pub fn is_opening(&self) -> bool {
        matches!(self.state(), State::Listen | State::SynSent | State::SynReceived)
    }

    /// # Errors
    /// Where the connection was reset or never came to be.
    pub fn read(&mut self, into: &mut [u8]) -> io::Result<Readable> {
        let opening = self.is_opening();
        match self.socket_mut().recv_slice(into) {
            Ok(0) => Ok(Readable::Nothing),
            Ok(count) => Ok(Readable::Bytes(count)),
            Err(RecvError::Finished) => Ok(Readable::End),
            Err(RecvError::InvalidState) if opening => Ok(Readable::Nothing),
            Err(RecvError::InvalidState) => Err(io::ErrorKind::ConnectionReset.into()),
        }
    }

    /// Takes as much of `bytes` as there is room for; 0 asks to come again.
    ///
    /// # Errors
    /// Where the connection takes no more.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.is_opening() {
            return Ok(0);
        }
        let sent = self.socket_mut().send_slice(bytes);
        sent.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    #[must_use]
    pub fn can_read(&self) -> bool {
        let socket = self.sockets.get::<Socket<'_>>(self.handle);
        socket.can_recv() || (!socket.may_recv() && !self.is_opening())
    }

    #[must_use]
    pub fn can_write(&self) -> bool {
        let socket = self.sockets.get::<Socket<'_>>(self.handle);
        socket.can_send() || (!socket.may_send() && !self.is_opening())
    }

    /// Bytes written that the peer has not acknowledged.
    #[must_use]
    pub fn unsent(&self) -> usize {
        self.sockets.get::<Socket<'_>>(self.handle).send_queue()
    }

    /// Sends no more than what was written, then FIN.
    pub fn close(&mut self) {
        // Nobody is left to wait for a late acknowledgement of the peer's end.
        self.socket_mut().set_ack_delay(None);
        self.socket_mut().close();
    }

    /// Resets.
    pub fn abort(&mut self) {
        self.socket_mut().abort();
    }

    fn socket_mut(&mut self) -> &mut Socket<'static> {
        self.sockets.get_mut::<Socket<'static>>(self.handle)
    }

    fn time(&self, now: Instant) -> smoltcp::time::Instant {
        let since = now.saturating_duration_since(self.begun).as_micros();
        smoltcp::time::Instant::from_micros(i64::try_from(since).unwrap_or(i64::MAX))
    }
}

/// An interface of one address, for packets as large as `queues` says.
fn interface(local: SocketAddr, seed: u64, queues: &mut Queues) -> Interface {
    let mut config = Config::new(HardwareAddress::Ip);
    config.random_seed = seed;
    let start = smoltcp::time::Instant::ZERO;
    let mut interface = Interface::new(config, queues, start);
    let address = IpAddress::from(local.ip());
    interface.update_ip_addrs(|addresses| {
        let length = if local.is_ipv4() { 32 } else { 128 };
        // The list has room for two, and this is the first.
        addresses.push(IpCidr::new(address, length)).ok();
    });
    // On a medium without neighbours the router's address is never used, but must be there.
    match address {
        IpAddress::Ipv4(v4) => interface.routes_mut().add_default_ipv4_route(v4).ok(),
        IpAddress::Ipv6(v6) => interface.routes_mut().add_default_ipv6_route(v6).ok(),
    };
    interface
}

struct Queues {
    edge: Edge,
    mtu: usize,
    received: VecDeque<Vec<u8>>,
    to_send: VecDeque<Vec<u8>>,
}

impl phy::Device for Queues {
    type RxToken<'a> = Arrived;
    type TxToken<'a> = Leaving<'a>;

    fn receive(
        &mut self,
        _: smoltcp::time::Instant,
    ) -> Option<(Self::RxToken<'_>, Self::TxToken<'_>)> {
        if self.to_send.len() >= HELD_PACKETS {
            return None;
        }
        let packet = self.received.pop_front()?;
        Some((Arrived(packet), Leaving(&mut self.to_send, &mut self.edge)))
    }

    fn transmit(&mut self, _: smoltcp::time::Instant) -> Option<Self::TxToken<'_>> {
        (self.to_send.len() < HELD_PACKETS).then_some(Leaving(&mut self.to_send, &mut self.edge))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = self.mtu;
        capabilities
    }
}

struct Arrived(Vec<u8>);

impl phy::RxToken for Arrived {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, take: F) -> R {
        take(&self.0)
    }
}

struct Leaving<'a>(&'a mut VecDeque<Vec<u8>>, &'a mut Edge);

impl phy::TxToken for Leaving<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, fill: F) -> R {
        let mut packet = vec![0; length];
        let result = fill(&mut packet);
        self.1.note(&packet);
        self.0.push_back(packet);
        result
    }
}
