//! One session's connections in the kernel.
//!
//! The kernel sees none of the ends that a client names: each connection comes from the session's own
//! address, at a port of its own, and goes to the gateway's. So every destination and every port is caught
//! without a rule for it, no two sessions meet, and a client cannot name anything in the namespace.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use gateway_proto::packet::{self, Packet, PacketProblem, Segment, narrowed};
use gateway_proto::tcp::{OFFLOAD_BYTES, Relabel, TcpPacket, put_reset};
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::Kernel;
use super::entry::Entry;
use super::network::Size;
use super::stream::KernelTcp;
use crate::ident::random;
use crate::limit::window::TunnelWindow;
use crate::stream::Io;
use crate::stream::packet::tcp::Ends;
use crate::stream::packet::{Dropped, Lease, OPENING_MAX, Opened};
use crate::tunnel::link::Link;

/// Connections of a session with buffers as large as the path takes: downloads, and what else came first.
/// Half of the session's budget is left for the rest.
const LARGE_MAX: usize = 4;
/// How long an address rests after its session: what the kernel has accepted meanwhile is gone by then.
pub(super) const REST: Duration = Duration::from_secs(2);
/// Below it are the listeners' own.
const PORT_MIN: u16 = 1_024;

/// See the module.
pub(in crate::stream::packet) struct Flows {
    kernel: Arc<Kernel>,
    link: Arc<Link>,
    pub(super) lease: Arc<Lease>,
    opened: mpsc::Sender<Opened>,
    table: Mutex<Table>,
}

struct Table {
    by_ends: HashMap<Ends, u16>,
    by_port: HashMap<u16, Entry>,
    /// The port given last: none is given again before all others.
    port: u16,
    numbers: u64,
    opening: usize,
    large: usize,
    window: TunnelWindow,
    /// The session has ended.
    over: bool,
}

impl Flows {
    pub(super) fn new(
        kernel: Arc<Kernel>,
        link: Arc<Link>,
        lease: Arc<Lease>,
        window: TunnelWindow,
        opened: mpsc::Sender<Opened>,
    ) -> Self {
        // A session that has the address of another begins elsewhere.
        let port = random::bytes().map_or(PORT_MIN, u16::from_ne_bytes);
        let table = Mutex::new(Table::new(port, window));
        Self { kernel, link, lease, opened, table }
    }

    /// Connections there are.
    pub(in crate::stream::packet) fn count(&self) -> usize {
        self.table.lock().by_port.len()
    }

    /// Whether the kernel has this family.
    pub(in crate::stream::packet) fn takes(&self, address: IpAddr) -> bool {
        address.is_ipv4() || self.kernel.has_ipv6
    }

    /// The session's address of a family, which stands for all that its client uses.
    fn own(&self, family: IpAddr) -> IpAddr {
        match family {
            IpAddr::V4(_) => self.lease.ipv4().into(),
            IpAddr::V6(_) => self.lease.ipv6().into(),
        }
    }

    /// Takes a segment from the client. There may be `more` connections beside those there are.
    pub(in crate::stream::packet) fn segment(
        &self,
        packet: &Packet<'_>,
        segment: &Segment,
        more: bool,
    ) -> Result<(), Dropped> {
        let tcp = TcpPacket::read(packet.bytes);
        let tcp = tcp.ok_or(Dropped::Packet(PacketProblem::Malformed))?;
        if !tcp.is_sound() {
            return Err(Dropped::Packet(PacketProblem::Checksum));
        }
        let ends = Ends { source: tcp.source, destination: tcp.destination };
        let now = Instant::now();
        let mut table = self.table.lock();
        if table.over {
            return Ok(());
        }
        let known = table.by_ends.get(&ends).copied();
        let port = match known {
            Some(port) if segment.opens() && table.is_followed(port, &tcp) => {
                self.forget(&mut table, port);
                self.open(&mut table, ends, &tcp, more, now)?
            }
            Some(port) => port,
            None if segment.opens() => self.open(&mut table, ends, &tcp, more, now)?,
            None => {
                drop(table);
                if let Some(reset) = packet::reset(packet) {
                    self.link.push_answer(reset);
                }
                return Ok(());
            }
        };
        let Some(entry) = table.by_port.get_mut(&port) else { return Ok(()) };
        let relabel = self.inward(entry, port);
        let last = entry.client_sent(&tcp, now);
        let mut frame = Vec::with_capacity(OFFLOAD_BYTES + packet.bytes.len());
        frame.resize(OFFLOAD_BYTES, 0);
        let put = tcp.put(&relabel, &mut frame);
        if last {
            table.remove(port);
        } else {
            table.settle(port);
        }
        drop(table);
        put.ok_or(Dropped::Packet(PacketProblem::Malformed))?;
        if self.kernel.write(&frame) { Ok(()) } else { Err(Dropped::Queue) }
    }

    /// What the kernel sees of a connection.
    fn inward(&self, entry: &Entry, port: u16) -> Relabel {
        let family = entry.ends.source.ip();
        Relabel {
            source: SocketAddr::new(self.own(family), port),
            destination: SocketAddr::new(self.kernel.own(family), entry.listener()),
            mtu: self.link.mtu(),
        }
    }

    fn open(
        &self,
        table: &mut Table,
        ends: Ends,
        syn: &TcpPacket<'_>,
        more: bool,
        now: Instant,
    ) -> Result<u16, Dropped> {
        if !more || table.opening >= OPENING_MAX {
            return Err(Dropped::Limit);
        }
        let port = table.free_port().ok_or(Dropped::Limit)?;
        let size = table.afford();
        table.numbers += 1;
        let entry = Entry::new(ends, size, table.numbers, syn, now);
        table.opening += 1;
        table.by_ends.insert(ends, port);
        table.by_port.insert(port, entry);
        Ok(port)
    }

    /// A packet of the kernel for a connection of this session; false where there is none such.
    pub(super) fn kernel_sent(&self, tcp: &TcpPacket<'_>, piece_bytes: Option<usize>) -> bool {
        let port = tcp.destination.port();
        let mut table = self.table.lock();
        let Some(entry) = table.by_port.get_mut(&port) else { return false };
        let Ends { source, destination } = entry.ends;
        if entry.kernel_sent(tcp) {
            table.remove(port);
        } else {
            table.settle(port);
        }
        drop(table);
        let relabel = Relabel { source: destination, destination: source, mtu: self.link.mtu() };
        for _ in 0..self.link.push_all(tcp.cut(&relabel, piece_bytes)) {
            self.kernel.metrics.packet_dropped(Dropped::Queue.label());
        }
        true
    }

    /// The kernel has opened a connection.
    pub(super) fn accepted(self: &Arc<Self>, port: u16, stream: TcpStream) {
        let mut table = self.table.lock();
        let over = table.over;
        let Some(entry) = table.by_port.get_mut(&port).filter(|it| it.is_opening() && !over) else {
            drop(table);
            // It was reset meanwhile, or its session has ended.
            return drop(KernelTcp::stray(stream));
        };
        let (ends, number) = (entry.ends, entry.number);
        entry.hold();
        table.opening -= 1;
        drop(table);
        let stream = Io::Kernel(KernelTcp::new(stream, Arc::clone(self), port, number));
        let Ends { source, destination } = ends;
        // There is room for as many as there may be flows.
        drop(self.opened.try_send(Opened::Tcp { source, destination, stream }));
    }

    /// A flow has let its connection go.
    pub(super) fn let_go(&self, port: u16, number: u64) {
        let mut table = self.table.lock();
        if let Some(entry) = table.by_port.get_mut(&port).filter(|entry| entry.number == number) {
            entry.let_go(Instant::now());
            table.settle(port);
        }
    }

    /// Whether the session has ended.
    pub(super) fn is_over(&self) -> bool {
        self.table.lock().over
    }

    /// Resets what nothing will come of.
    pub(super) fn sweep(&self, now: Instant) {
        let mut table = self.table.lock();
        let stale = table.by_port.iter().filter(|(_, entry)| entry.is_stale(now));
        let stale: Vec<u16> = stale.map(|(port, _)| *port).collect();
        stale.into_iter().for_each(|port| self.forget(&mut table, port));
    }

    /// Tells both sides of every connection what passes now: the clients, whose packets may be what is lost, and
    /// the kernel, which then sends again what was lost and too long. What is too long for the way otherwise
    /// is cut (`kernel_sent`).
    pub(in crate::stream::packet) fn narrow(&self) {
        let mtu = self.link.mtu();
        let table = self.table.lock();
        let mut frames = Vec::new();
        for (port, entry) in &table.by_port {
            let Ends { source, destination } = entry.ends;
            let Some(unacknowledged) = entry.client_expects() else { continue };
            if let Some(told) = narrowed(source, destination, entry.reset_number(), mtu) {
                self.link.push_answer(told);
            }
            let Relabel { source, destination, .. } = self.inward(entry, *port);
            frames.extend(narrowed(destination, source, unacknowledged, mtu));
        }
        drop(table);
        for packet in frames {
            let mut frame = vec![0; OFFLOAD_BYTES];
            frame.extend_from_slice(&packet);
            let _written = self.kernel.write(&frame);
        }
    }

    /// Resets every connection in the kernel; no other comes after.
    pub(in crate::stream::packet) fn end(&self) {
        let mut table = self.table.lock();
        table.over = true;
        let ports: Vec<u16> = table.by_port.keys().copied().collect();
        for port in ports {
            self.tell_client(&table, port);
            self.forget(&mut table, port);
        }
        drop(table);
        self.kernel.leave(self);
    }

    /// The client of a connection is told that it has ended.
    fn tell_client(&self, table: &Table, port: u16) {
        let Some(entry) = table.by_port.get(&port) else { return };
        let Some(number) = entry.client_expects() else { return };
        let mut packet = Vec::new();
        let Ends { source, destination } = entry.ends;
        if put_reset(destination, source, number, &mut packet).is_some() {
            self.link.push_answer(packet);
        }
    }

    /// Takes a connection from the kernel and out of the table.
    fn forget(&self, table: &mut Table, port: u16) {
        let Some(entry) = table.remove(port) else { return };
        let Relabel { source, destination, .. } = self.inward(&entry, port);
        let mut frame = vec![0; OFFLOAD_BYTES];
        if put_reset(source, destination, entry.reset_number(), &mut frame).is_some() {
            // One that it does not believe it answers, and that answer is answered (`Kernel::take`).
            let _written = self.kernel.write(&frame);
        }
    }
}

impl Table {
    fn new(port: u16, window: TunnelWindow) -> Self {
        Self {
            by_ends: HashMap::new(),
            by_port: HashMap::new(),
            port,
            numbers: 0,
            opening: 0,
            large: 0,
            window,
            over: false,
        }
    }

    fn is_followed(&self, port: u16, syn: &TcpPacket<'_>) -> bool {
        self.by_port.get(&port).is_some_and(|entry| entry.is_followed_by(syn))
    }

    fn free_port(&mut self) -> Option<u16> {
        for _ in PORT_MIN..=u16::MAX {
            self.port = self.port.checked_add(1).unwrap_or(PORT_MIN).max(PORT_MIN);
            if !self.by_port.contains_key(&self.port) {
                return Some(self.port);
            }
        }
        None
    }

    /// The largest buffers that the budgets have room for.
    fn afford(&mut self) -> Size {
        if self.large < LARGE_MAX && self.window.grow(Size::Large.bytes()) {
            self.large += 1;
            return Size::Large;
        }
        if self.window.grow(Size::Middle.bytes()) {
            return Size::Middle;
        }
        self.window.owe(Size::Small.bytes());
        Size::Small
    }

    /// Gives back what a connection has no more use for.
    fn settle(&mut self, port: u16) {
        let Some(entry) = self.by_port.get_mut(&port) else { return };
        let was_large = entry.is_large();
        self.window.release(entry.spare());
        self.large -= usize::from(was_large && !entry.is_large());
    }

    fn remove(&mut self, port: u16) -> Option<Entry> {
        let entry = self.by_port.remove(&port)?;
        self.by_ends.remove(&entry.ends);
        self.window.release(entry.set_aside());
        self.opening -= usize::from(entry.is_opening());
        self.large -= usize::from(entry.is_large());
        Some(entry)
    }
}

#[cfg(test)]
mod tests;
