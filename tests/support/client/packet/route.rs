//! Takes a packet in: to a flow, a socket, a ping, or whoever observes.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use smoltcp::wire::IpProtocol;

use super::stack::Shared;
use super::stream::PacketStream;
use super::tables::{FLOWS_MAX, Tables};
use super::wire::{self, Echo, Read};

impl Shared {
    /// Hands `packet` to whom it is for; drops it where that one's queue is full, or nobody wants it.
    pub(super) fn route(self: &Arc<Self>, packet: Vec<u8>) {
        let mut tables = self.tables();
        let taken = match wire::read(&packet) {
            Some(read) if read.protocol == IpProtocol::Tcp => {
                return self.route_tcp(&mut tables, packet);
            }
            Some(read) if read.protocol == IpProtocol::Udp => route_udp(&tables, &read),
            Some(read) => narrow(&tables, &read) || self.route_echo(&mut tables, &read),
            None => false,
        };
        if !taken {
            observe(&tables, packet);
        }
    }

    /// The channel has ended: so do all flows.
    pub(super) fn end(&self) {
        let mut tables = self.tables();
        for flow in tables.flows.values() {
            flow.reset();
        }
        tables.sockets.clear();
        tables.pings.clear();
        tables.observer = None;
        tables.listener = None;
    }

    fn route_tcp(self: &Arc<Self>, tables: &mut Tables, packet: Vec<u8>) {
        let read = wire::read(&packet);
        let Some((from, to)) = read.and_then(|read| read.endpoints()) else { return };
        if let Some(flow) = tables.flows.get(&(to, from)) {
            return flow.take(packet);
        }
        let opens = read
            .and_then(|read| read.tcp())
            .is_some_and(|header| header.syn() && !header.ack() && !header.rst());
        if !opens || tables.listener.is_none() || tables.flows.len() >= FLOWS_MAX {
            return observe(tables, packet);
        }
        let Some(flow) = self.listening(to) else { return };
        let flow = self.begin(tables, (to, from), flow);
        let stream = PacketStream::new(None, Arc::clone(&flow));
        // A full backlog loses the connection: the stream is dropped, and with it the flow.
        if let Some(listener) = &tables.listener {
            listener.try_send((to, stream)).ok();
        }
        flow.take(packet);
    }

    fn route_echo(&self, tables: &mut Tables, read: &Read<'_>) -> bool {
        let Some(echo) = read.echo() else { return false };
        if echo.is_reply {
            let waiting = tables.pings.remove(&(echo.identifier, echo.sequence));
            return waiting.is_some_and(|waiting| waiting.send(echo.data.to_vec()).is_ok());
        }
        if matches!(read.to, IpAddr::V4(to) if to.is_broadcast() || to.is_multicast()) {
            return false;
        }
        let reply = wire::echo(read.to, read.from, &Echo { is_reply: true, ..echo });
        self.outgoing.try_send(reply).ok();
        true
    }
}

/// The flow whose packets do not pass sends smaller ones from now on, as every host's does.
fn narrow(tables: &Tables, read: &Read<'_>) -> bool {
    let Some(narrowed) = read.narrowed() else { return false };
    let flow = tables.flows.get(&(narrowed.from, narrowed.to));
    flow.is_some_and(|flow| flow.narrow(narrowed.mtu))
}

fn route_udp(tables: &Tables, read: &Read<'_>) -> bool {
    let (Some((from, to)), Some(payload)) = (read.endpoints(), read.udp()) else { return false };
    let Some(socket) = tables.sockets.get(&to.port()) else { return false };
    let from: SocketAddr = from;
    socket.try_send((from, payload.to_vec())).ok();
    true
}

fn observe(tables: &Tables, packet: Vec<u8>) {
    if let Some(observer) = &tables.observer {
        // Nobody reads as fast as a flood comes.
        observer.try_send(packet).ok();
    }
}
