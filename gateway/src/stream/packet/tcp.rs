//! One inner TCP connection in user space: smoltcp with an interface of its own, so that a poll costs
//! the same however many connections there are (decisions/0009).

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use gateway_proto::packet::{Segment, narrowed, set_sequence};
use memmap2::MmapMut;
use parking_lot::Mutex;
use self_cell::{MutBorrow, self_cell};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet, SocketStorage};
use smoltcp::socket::tcp::{RecvError, Socket, SocketBuffer, State};
use smoltcp::wire::{HardwareAddress, IpCidr, IpListenEndpoint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::device::Device;
use super::flight::Flight;
use super::stack::Stack;
use super::timers::Timers;
use crate::ident::random;
use crate::tunnel::link::Link;

/// A client that opens a connection answers within this; the SYN is repeated meanwhile.
const OPENING_TIME_MAX: Duration = Duration::from_secs(10);
/// Data that nobody acknowledges for this long has no reader (RFC 9293 section 3.8.3, R2).
const UNACKNOWLEDGED_TIME_MAX: Duration = Duration::from_secs(120);
/// A client that has all of the data says so of our end too within this.
const LAST_WORD_TIME_MAX: Duration = Duration::from_secs(10);
/// A client that does not close what we have closed (as in the kernel's network).
const CLOSED_TIME_MAX: Duration = Duration::from_secs(120);
/// How often such a client is looked at.
const CLOSED_LOOK: Duration = Duration::from_secs(30);

/// Windows are rounded to less than this: 2^4 bytes for our buffers.
const EDGE_BYTES: usize = 64;

/// Whether a segment only acknowledges.
fn is_bare(segment: &Segment) -> bool {
    segment.data_bytes == 0 && segment.ack && !segment.syn && !segment.fin && !segment.rst
}

/// The two ends of a connection, as the client sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Ends {
    pub(super) source: SocketAddr,
    pub(super) destination: SocketAddr,
}

/// One connection, shared by whoever reads and writes it, the packets that come, and its timer.
pub(super) struct Connection {
    pub(super) ends: Ends,
    state: Mutex<Inner>,
    timers: Arc<Timers>,
    /// Buffers, bytes: what the session's budget gets back.
    pub(super) buffered: u64,
}

struct Inner {
    interface: Interface,
    device: Device,
    sockets: Buffered,
    handle: SocketHandle,
    flight: Flight,
    reader: Option<Waker>,
    writer: Option<Waker>,
    /// When the timer will look next.
    armed: Option<Instant>,
    /// Somebody was told that it is open.
    announced: bool,
    /// Nobody has the stream any more.
    left: bool,
    /// Since when the client of such a connection has all that was written.
    delivered: Option<Instant>,
}

/// What a poll came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Opening,
    /// Open since this poll.
    Opened,
    Open,
    /// Nothing more will come of it.
    Over,
}

impl Connection {
    /// A connection that waits for its SYN, with a buffer of `buffer_bytes` each way.
    pub(super) fn new(
        ends: Ends,
        link: &Arc<Link>,
        timers: &Arc<Timers>,
        buffer_bytes: usize,
    ) -> Option<Arc<Self>> {
        let mut device = Device::new(Arc::clone(link));
        let interface = interface(ends.destination.ip(), &mut device, timers.now())?;
        let address = ends.destination.ip().into();
        let endpoint = IpListenEndpoint { addr: Some(address), port: ends.destination.port() };
        let (sockets, handle) = listening(endpoint, buffer_bytes)?;
        let inner = Inner {
            interface,
            device,
            sockets,
            handle,
            flight: Flight::new(buffer_bytes),
            reader: None,
            writer: None,
            armed: None,
            announced: false,
            left: false,
            delivered: None,
        };
        Some(Arc::new(Self {
            ends,
            state: Mutex::new(inner),
            timers: Arc::clone(timers),
            buffered: 2 * buffer_bytes as u64,
        }))
    }

    /// Takes a packet of this connection.
    pub(super) fn packet(self: &Arc<Self>, mut packet: Vec<u8>, segment: &Segment) -> Stage {
        let mut state = self.state.lock();
        if is_bare(segment) && state.with(|it| it.recv_capacity() - it.recv_queue()) < EDGE_BYTES {
            // smoltcp rounds the window it offers down to the window's scale, so that its edge moves back
            // as the buffer fills. It would pass over acknowledgements of a client that has used the
            // window to its first edge, and with them the client's window: both sides would wait for
            // ever. What a bare acknowledgement says does not hang on its own number.
            if let Some(expected) = state.device.acknowledged {
                set_sequence(&mut packet, expected);
            }
        }
        state.device.incoming = Some(packet);
        self.poll(&mut state)
    }

    /// Looks at the time, and sends what waits.
    pub(super) fn tick(self: &Arc<Self>, at: Option<Instant>) -> Stage {
        let mut state = self.state.lock();
        if at.is_some() && state.armed == at {
            state.armed = None;
        }
        self.poll(&mut state)
    }

    /// Whether it was ever open.
    pub(super) fn was_opened(&self) -> bool {
        self.state.lock().announced
    }

    /// Ends it at once: the client is told with a reset.
    pub(super) fn abort(self: &Arc<Self>) {
        let mut state = self.state.lock();
        state.with(|socket| socket.abort());
        self.poll(&mut state);
    }

    /// What tells its client that the way has become smaller: the client's own segments may be what is lost.
    pub(super) fn narrowed(&self, mtu: u16) -> Option<Vec<u8>> {
        let expected = self.state.lock().device.acknowledged?;
        narrowed(self.ends.source, self.ends.destination, expected, mtu)
    }

    fn poll(self: &Arc<Self>, state: &mut Inner) -> Stage {
        if state.is_forsaken() {
            state.with(|socket| socket.abort());
        }
        self.resize(state);
        loop {
            state.device.blocked = false;
            let now = self.timers.now();
            let Inner { interface, device, sockets, .. } = state;
            sockets.with_dependent_mut(|_, sockets| interface.poll(now, device, sockets));
            state.device.incoming = None;
            self.arm(state, now);
            if !state.device.blocked {
                break;
            }
            // Waits in line first, and looks then: whoever drains the link looks at the line after.
            self.timers.blocked(self);
            if state.device.is_blocked() {
                break;
            }
        }
        state.after()
    }

    /// Follows the link. An interface keeps the size it was made with; what is sent again after is cut anew.
    fn resize(&self, state: &mut Inner) {
        if state.device.resize() {
            let (own, now) = (self.ends.destination.ip(), self.timers.now());
            if let Some(resized) = interface(own, &mut state.device, now) {
                state.interface = resized;
            }
        }
    }

    /// Sets the timer, unless it would only find the link full.
    fn arm(self: &Arc<Self>, state: &mut Inner, now: smoltcp::time::Instant) {
        if state.device.blocked {
            return;
        }
        let Inner { interface, sockets, .. } = state;
        let next = sockets.with_dependent(|_, sockets| interface.poll_at(now, sockets));
        let Some(next) = next else { return };
        let next = self.timers.instant(next);
        if state.armed.is_none_or(|armed| next < armed) {
            state.armed = Some(next);
            self.timers.arm(next, self);
        }
    }
}

impl Inner {
    /// Does something with the socket.
    fn with<R>(&mut self, act: impl FnOnce(&mut Socket<'_>) -> R) -> R {
        let handle = self.handle;
        self.sockets.with_dependent_mut(|_, sockets| act(sockets.get_mut(handle)))
    }

    /// Whether nothing will come of its end: its client has everything and does not say the last word.
    fn is_forsaken(&mut self) -> bool {
        let Some(since) = self.delivered else { return false };
        let state = self.with(|socket| socket.state());
        let most = if state == State::FinWait2 { CLOSED_TIME_MAX } else { LAST_WORD_TIME_MAX };
        since.elapsed() >= most
    }

    /// Wakes whoever can go on, and says where the connection stands.
    fn after(&mut self) -> Stage {
        let Standing { state, readable, sendable, queued } = self.with(|it| Standing::of(it));
        let opened =
            !self.announced && !matches!(state, State::Listen | State::SynReceived | State::Closed);
        self.announced |= opened;
        if self.announced {
            // Only of data: smoltcp's timeout counts where there is nothing to acknowledge, too.
            let patience = (queued > 0).then_some(UNACKNOWLEDGED_TIME_MAX.into());
            self.with(|socket| socket.set_timeout(patience));
        }
        if self.left && queued == 0 {
            self.delivered.get_or_insert_with(Instant::now);
        }
        self.flight.acknowledged(queued, Instant::now());
        if readable && let Some(reader) = self.reader.take() {
            reader.wake();
        }
        if (!sendable || self.flight.has_room(queued))
            && let Some(writer) = self.writer.take()
        {
            writer.wake();
        }
        match state {
            // One that was reset while it opened listens again: nobody comes back to it.
            State::Closed | State::Listen => Stage::Over,
            // What still comes is answered with a reset; the memory is worth more than a quiet port.
            State::TimeWait if self.left => Stage::Over,
            State::SynReceived => Stage::Opening,
            _ if opened => Stage::Opened,
            _ => Stage::Open,
        }
    }
}

/// What counts of a socket after a poll.
struct Standing {
    state: State,
    /// There is something to read, or never will be.
    readable: bool,
    sendable: bool,
    queued: usize,
}

impl Standing {
    fn of(socket: &Socket<'_>) -> Self {
        Self {
            state: socket.state(),
            readable: socket.can_recv() || !socket.may_recv(),
            sendable: socket.may_send(),
            queued: socket.send_queue(),
        }
    }
}

/// The one socket of a connection.
type OneSocket<'a> = SocketSet<'a>;

self_cell! {
    /// A socket and the memory of its buffers. It is the kernel's own: what was never used takes none,
    /// and all of it goes back when the connection is over. (The allocator would fill it with zeros.)
    struct Buffered {
        owner: MutBorrow<MmapMut>,
        #[not_covariant]
        dependent: OneSocket,
    }
}

/// An interface with one address, for packets as large as its device takes.
fn interface(
    address: IpAddr,
    device: &mut Device,
    now: smoltcp::time::Instant,
) -> Option<Interface> {
    let mut config = Config::new(HardwareAddress::Ip);
    // Sequence numbers must not be guessed (RFC 9293 section 3.4.1).
    config.random_seed = u64::from_ne_bytes(random::bytes()?);
    let mut interface = Interface::new(config, device, now);
    let prefix = if address.is_ipv4() { 32 } else { 128 };
    // One address fits: the list has room for two.
    interface.update_ip_addrs(|addresses| {
        let _full = addresses.push(IpCidr::new(address.into(), prefix));
    });
    Some(interface)
}

/// A socket that waits for a SYN, with `buffer_bytes` each way. `None` where there is no memory.
fn listening(endpoint: IpListenEndpoint, buffer_bytes: usize) -> Option<(Buffered, SocketHandle)> {
    let memory = MmapMut::map_anon(2 * buffer_bytes).ok()?;
    let mut added = None;
    let sockets = Buffered::new(MutBorrow::new(memory), |memory| {
        let (receive, send) = memory.borrow_mut().split_at_mut(buffer_bytes);
        let mut socket = Socket::new(SocketBuffer::new(receive), SocketBuffer::new(send));
        socket.set_nagle_enabled(false);
        socket.set_timeout(Some(OPENING_TIME_MAX.into()));
        let listens = socket.listen(endpoint).is_ok();
        let mut sockets = SocketSet::new(vec![SocketStorage::EMPTY]);
        let handle = sockets.add(socket);
        added = listens.then_some(handle);
        sockets
    });
    Some((sockets, added?))
}

/// The gateway's end of an inner TCP connection.
pub struct InnerTcp {
    flow: Arc<Connection>,
    /// The client's side was ended in order.
    shut: bool,
    stack: Weak<Stack>,
}

impl InnerTcp {
    pub(super) fn new(flow: Arc<Connection>, stack: Weak<Stack>) -> Self {
        Self { flow, shut: false, stack }
    }

    fn told(&self, stage: Stage) {
        if stage == Stage::Over
            && let Some(stack) = self.stack.upgrade()
        {
            stack.forget(&self.flow);
        }
    }
}

impl AsyncRead for InnerTcp {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let flow = Arc::clone(&self.flow);
        let mut state = flow.state.lock();
        let into = buffer.initialize_unfilled();
        match state.with(|socket| (socket.recv_slice(into), socket.may_recv())) {
            (Ok(0), true) => {
                state.reader = Some(context.waker().clone());
                Poll::Pending
            }
            (Ok(count), _) => {
                buffer.advance(count);
                // The window has opened; the client may have to be told.
                let stage = flow.poll(&mut state);
                drop(state);
                self.told(stage);
                Poll::Ready(Ok(()))
            }
            (Err(RecvError::Finished), _) => Poll::Ready(Ok(())),
            (Err(RecvError::InvalidState), _) => {
                Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
            }
        }
    }
}

impl AsyncWrite for InnerTcp {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let flow = Arc::clone(&self.flow);
        let mut state = flow.state.lock();
        let queued = state.with(|socket| socket.send_queue());
        // Not in crumbs: a writer that was told to wait is woken when there is room for more.
        let room = if state.flight.has_room(queued) { state.flight.room(queued) } else { 0 };
        let (now, _) = data.split_at(room.min(data.len()));
        match state.with(|socket| socket.send_slice(now)) {
            Ok(0) if !data.is_empty() => {
                state.writer = Some(context.waker().clone());
                Poll::Pending
            }
            Ok(count) => {
                state.flight.wrote(count, queued + count, Instant::now());
                let stage = flow.poll(&mut state);
                drop(state);
                self.told(stage);
                Poll::Ready(Ok(count))
            }
            Err(_) => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // What was written is on its way as fast as the client takes it.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.shut {
            self.shut = true;
            let flow = Arc::clone(&self.flow);
            let mut state = flow.state.lock();
            state.with(|socket| socket.close());
            let stage = flow.poll(&mut state);
            drop(state);
            self.told(stage);
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for InnerTcp {
    /// As a socket of the kernel: what was written still goes out, unless something was left unread.
    fn drop(&mut self) {
        let flow = Arc::clone(&self.flow);
        let mut state = flow.state.lock();
        (state.reader, state.writer) = (None, None);
        state.left = true;
        state.with(|socket| {
            // Nothing of ours comes that an acknowledgement could wait for.
            socket.set_ack_delay(None);
            socket.set_keep_alive(Some(CLOSED_LOOK.into()));
            if socket.recv_queue() > 0 {
                socket.abort();
            } else {
                socket.close();
            }
        });
        let stage = flow.poll(&mut state);
        drop(state);
        self.told(stage);
    }
}

#[cfg(test)]
mod tests;
