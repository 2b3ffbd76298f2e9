//! One session's inner network: packets in, connections and datagrams out. No session sees another's.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use gateway_proto::packet::{self, Packet, Payload, Segment};
use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::Lease;
use super::kernel::{Flows, Kernel};
use super::source::Sources;
use super::tcp::{Connection, Ends, InnerTcp, Stage};
use super::timers::Timers;
use crate::limit::window::TunnelWindow;
use crate::stream::Io;
use crate::tunnel::link::Link;

/// Connections that may be opening at once: a browser opens a few dozen, a flood thousands.
pub(super) const OPENING_MAX: usize = 256;
/// Datagrams that wait for one association to be opened, or for its socket.
const ASSOCIATION_QUEUED_MAX: usize = 64;
/// Buffer of a connection each way: 100 Mbit/s at 40 ms.
const BUFFER_BYTES: usize = 512 << 10;
/// Where the session's or the process's budget has no room for that.
const SMALL_BUFFER_BYTES: usize = 32 << 10;

/// What a client opens.
pub enum Opened {
    Tcp {
        source: SocketAddr,
        destination: SocketAddr,
        stream: Io,
    },
    /// Datagrams between two ends, the first of them waiting.
    Udp {
        source: SocketAddr,
        destination: SocketAddr,
        inbox: mpsc::Receiver<Bytes>,
    },
    /// A name query, whomever it was sent to.
    Query {
        source: SocketAddr,
        destination: SocketAddr,
        query: Bytes,
    },
}

/// What a stack goes by.
pub struct Settings {
    /// Connections and associations at once.
    pub flows_max: usize,
    /// The addresses that answer for the gateway itself.
    pub own: Vec<IpAddr>,
    /// Which source addresses the client may use.
    pub sources: Sources,
    pub window: TunnelWindow,
    /// `None` where connections end in user space.
    pub kernel: Option<InKernel>,
}

/// What a session needs for its connections in the kernel.
pub struct InKernel {
    pub kernel: Arc<Kernel>,
    /// The addresses by which the kernel knows the session.
    pub lease: Arc<Lease>,
    pub window: TunnelWindow,
}

/// See the module.
pub struct Stack {
    link: Arc<Link>,
    timers: Arc<Timers>,
    sources: Sources,
    own: Vec<IpAddr>,
    flows_max: usize,
    table: Mutex<Table>,
    kernel: Option<Arc<Flows>>,
    opened: mpsc::Sender<Opened>,
    this: Weak<Self>,
}

struct Table {
    tcp: HashMap<Ends, Arc<Connection>>,
    opening: usize,
    udp: HashMap<Ends, mpsc::Sender<Bytes>>,
    window: TunnelWindow,
}

/// Why a packet went nowhere. The label is in a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dropped {
    Packet(packet::PacketProblem),
    /// Its source is not this client's.
    Source,
    /// No more flows at once, or no more that are opening.
    Limit,
    /// Longer than the tunnel carries back.
    TooBig,
    /// A protocol that is not carried.
    Protocol,
    /// Whoever reads it does not keep up.
    Queue,
}

impl Dropped {
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Packet(problem) => problem.label(),
            Self::Source => "source",
            Self::Limit => "limit",
            Self::TooBig => "too_big",
            Self::Protocol => "protocol",
            Self::Queue => "queue",
        }
    }
}

impl Stack {
    /// A stack whose packets to the client leave by `link`. What the client opens comes out of the
    /// receiver, which holds as many as there may be flows.
    #[must_use]
    pub fn new(link: Arc<Link>, settings: Settings) -> (Arc<Self>, mpsc::Receiver<Opened>) {
        let Settings { flows_max, own, sources, window, kernel } = settings;
        let (sender, receiver) = mpsc::channel(flows_max.max(1));
        let kernel = kernel.map(|InKernel { kernel, lease, window }| {
            kernel.session(&link, lease, window, sender.clone())
        });
        let table = Table { tcp: HashMap::new(), opening: 0, udp: HashMap::new(), window };
        let stack = Arc::new_cyclic(|this| Self {
            link,
            timers: Arc::new(Timers::new()),
            sources,
            own,
            flows_max,
            table: Mutex::new(table),
            kernel,
            opened: sender,
            this: this.clone(),
        });
        (stack, receiver)
    }

    #[must_use]
    pub fn link(&self) -> &Arc<Link> {
        &self.link
    }

    /// Connections and associations there are.
    #[must_use]
    pub fn flows(&self) -> usize {
        self.in_kernel() + self.table.lock().flows()
    }

    fn in_kernel(&self) -> usize {
        self.kernel.as_ref().map_or(0, |kernel| kernel.count())
    }

    /// Lets the client send from these addresses too.
    pub fn give(&self, addresses: [IpAddr; 2]) {
        self.sources.give(addresses);
    }

    /// Takes a packet from the client.
    ///
    /// # Errors
    /// Says why it went nowhere.
    pub fn packet(&self, bytes: &[u8]) -> Result<(), Dropped> {
        let packet = Packet::read(bytes).map_err(Dropped::Packet)?;
        if !self.sources.may_send(packet.source) {
            return Err(Dropped::Source);
        }
        if bytes.len() > usize::from(self.link.widest()) {
            // The client takes the tunnel to be wider than it ever was. One that was offered more before is
            // told when that is known to be lost (`narrow`): here, it passed.
            self.answer(packet::too_big(&packet, self.link.mtu()));
        }
        match packet.payload {
            Payload::Tcp(segment) => self.segment(&packet, &segment),
            Payload::Udp { source_port, destination_port, data } => {
                let ends = Ends {
                    source: SocketAddr::new(packet.source, source_port),
                    destination: SocketAddr::new(packet.destination, destination_port),
                };
                self.datagram(ends, Bytes::copy_from_slice(data))
            }
            Payload::EchoRequest { .. } if self.own.contains(&packet.destination) => {
                self.answer(packet::echo_reply(&packet));
                Ok(())
            }
            Payload::EchoRequest { .. } | Payload::Other(_) => Err(Dropped::Protocol),
        }
    }

    fn answer(&self, packet: Option<Vec<u8>>) {
        if let Some(packet) = packet {
            self.link.push_answer(packet);
        }
    }

    fn segment(&self, packet: &Packet<'_>, segment: &Segment) -> Result<(), Dropped> {
        if let Some(kernel) = self.kernel.as_ref().filter(|it| it.takes(packet.source)) {
            let more = !segment.opens() || self.flows() < self.flows_max;
            return kernel.segment(packet, segment, more);
        }
        let ends = Ends {
            source: SocketAddr::new(packet.source, segment.source_port),
            destination: SocketAddr::new(packet.destination, segment.destination_port),
        };
        let found = self.table.lock().tcp.get(&ends).cloned();
        let flow = match found {
            Some(flow) => flow,
            None if segment.opens() => self.open(ends)?,
            None => {
                self.answer(packet::reset(packet));
                return Ok(());
            }
        };
        let stage = flow.packet(packet.bytes.to_vec(), segment);
        self.told(&flow, stage);
        Ok(())
    }

    fn open(&self, ends: Ends) -> Result<Arc<Connection>, Dropped> {
        let in_kernel = self.in_kernel();
        let mut table = self.table.lock();
        if in_kernel + table.flows() >= self.flows_max || table.opening >= OPENING_MAX {
            return Err(Dropped::Limit);
        }
        let whole = table.window.grow(2 * BUFFER_BYTES as u64);
        let buffer_bytes = if whole { BUFFER_BYTES } else { SMALL_BUFFER_BYTES };
        if !whole {
            table.window.owe(2 * SMALL_BUFFER_BYTES as u64);
        }
        let Some(flow) = Connection::new(ends, &self.link, &self.timers, buffer_bytes) else {
            table.window.release(2 * buffer_bytes as u64);
            return Err(Dropped::Limit);
        };
        table.tcp.insert(ends, Arc::clone(&flow));
        table.opening += 1;
        Ok(flow)
    }

    fn told(&self, flow: &Arc<Connection>, stage: Stage) {
        match stage {
            Stage::Opening | Stage::Open => {}
            Stage::Over => self.forget(flow),
            Stage::Opened => {
                self.table.lock().opening -= 1;
                let Ends { source, destination } = flow.ends;
                let stream = Io::Inner(InnerTcp::new(Arc::clone(flow), self.this.clone()));
                // There is room for as many as there may be flows; a stream that finds none resets
                // itself as it is dropped.
                drop(self.opened.try_send(Opened::Tcp { source, destination, stream }));
            }
        }
    }

    /// Takes a connection out of the table that nothing more will come of.
    pub(super) fn forget(&self, flow: &Arc<Connection>) {
        let mut table = self.table.lock();
        let same = table.tcp.get(&flow.ends).is_some_and(|known| Arc::ptr_eq(known, flow));
        if same {
            table.tcp.remove(&flow.ends);
            table.window.release(flow.buffered);
            if !flow.was_opened() {
                table.opening -= 1;
            }
        }
    }

    fn datagram(&self, ends: Ends, data: Bytes) -> Result<(), Dropped> {
        let Ends { source, destination } = ends;
        if destination.port() == super::DNS_PORT {
            let query = Opened::Query { source, destination, query: data };
            return self.opened.try_send(query).map_err(|_| Dropped::Queue);
        }
        let in_kernel = self.in_kernel();
        let mut table = self.table.lock();
        if let Some(association) = table.udp.get(&ends) {
            match association.try_send(data.clone()) {
                Ok(()) => return Ok(()),
                Err(mpsc::error::TrySendError::Full(_)) => return Err(Dropped::Queue),
                Err(mpsc::error::TrySendError::Closed(_)) => {}
            }
        } else if in_kernel + table.flows() >= self.flows_max {
            table.udp.retain(|_, association| !association.is_closed());
            if in_kernel + table.flows() >= self.flows_max {
                return Err(Dropped::Limit);
            }
        }
        let (sender, inbox) = mpsc::channel(ASSOCIATION_QUEUED_MAX);
        drop(sender.try_send(data));
        table.udp.insert(ends, sender);
        drop(table);
        let opened = Opened::Udp { source, destination, inbox };
        self.opened.try_send(opened).map_err(|_| Dropped::Queue)
    }

    /// Takes what further comes between two ends, in place of whoever took it before.
    #[must_use]
    pub fn take_over(&self, source: SocketAddr, destination: SocketAddr) -> mpsc::Receiver<Bytes> {
        let (sender, inbox) = mpsc::channel(ASSOCIATION_QUEUED_MAX);
        self.table.lock().udp.insert(Ends { source, destination }, sender);
        inbox
    }

    /// Forgets an association that has ended.
    pub fn close_datagrams(&self, source: SocketAddr, destination: SocketAddr) {
        self.table.lock().udp.remove(&Ends { source, destination });
    }

    /// Sends a datagram to the client.
    ///
    /// # Errors
    /// Where it does not fit the tunnel or the link is full.
    pub fn send_datagram(
        &self,
        from: SocketAddr,
        to: SocketAddr,
        data: &[u8],
    ) -> Result<(), Dropped> {
        let packet = packet::udp(from, to, data).ok_or(Dropped::Protocol)?;
        if packet.len() > usize::from(self.link.mtu()) {
            return Err(Dropped::TooBig);
        }
        if self.link.push(packet) { Ok(()) } else { Err(Dropped::Queue) }
    }

    /// Tells the client that nobody is there, so that it tries something else at once. `data` is what
    /// it sent.
    pub fn refuse_datagram(&self, source: SocketAddr, destination: SocketAddr, data: &[u8]) {
        let sent = packet::udp(source, destination, data).unwrap_or_default();
        if let Ok(packet) = Packet::read(&sent) {
            self.answer(packet::port_unreachable(&packet));
        }
    }

    /// Lets connections go on that found the link full; called when it has been drained.
    pub fn resume(&self) {
        for flow in self.timers.resume() {
            let stage = flow.tick(None);
            self.told(&flow, stage);
        }
    }

    /// Serves the connections' timers until it is dropped.
    pub async fn run_timers(&self) {
        loop {
            let (at, flow) = self.timers.next().await;
            let stage = flow.tick(Some(at));
            self.told(&flow, stage);
        }
    }

    /// The way to the client is smaller than what open connections were offered: their clients are told, and
    /// what was lost is sent again in packets that fit.
    pub fn narrow(&self) {
        let flows: Vec<_> = self.table.lock().tcp.values().cloned().collect();
        for flow in flows {
            self.answer(flow.narrowed(self.link.mtu()));
            let stage = flow.tick(None);
            self.told(&flow, stage);
        }
        if let Some(kernel) = &self.kernel {
            kernel.narrow();
        }
    }

    /// Resets every connection.
    pub fn abort(&self) {
        let flows: Vec<_> = self.table.lock().tcp.values().cloned().collect();
        for flow in flows {
            flow.abort();
            self.forget(&flow);
        }
        if let Some(kernel) = &self.kernel {
            kernel.end();
        }
    }
}

impl Table {
    fn flows(&self) -> usize {
        self.tcp.len() + self.udp.len()
    }
}
