//! Keeps a full smoltcp socket from going deaf.
//!
//! smoltcp 0.13.1 rounds its receive window down to the window scale, so that the right edge it has offered
//! moves back by a few bytes as its buffer fills. A peer that has used the edge it was first given then
//! stands beyond the window, and smoltcp throws every acknowledgement from there away, with the window in
//! it (RFC 9293 section 3.10.7.4 asks to process those). Two sides that write to each other until both
//! windows are closed wait for each other forever.
//!
//! An acknowledgement without data is not about its own sequence number, so one that stands beyond the edge
//! is put on it before smoltcp sees it.

use smoltcp::wire::{IpAddress, TcpOption, TcpPacket, TcpSeqNumber};

use super::wire;

/// What this side has last offered.
#[derive(Debug, Default)]
pub(super) struct Edge {
    /// The end of the window; `None` before the first acknowledgement.
    offered: Option<TcpSeqNumber>,
    own_scale: u8,
    /// Scaling counts where both sides offer it.
    peer_scales: bool,
}

impl Edge {
    /// Looks at a packet that leaves.
    pub(super) fn note(&mut self, packet: &[u8]) {
        let Some(tcp) = wire::read(packet).and_then(|read| read.tcp()) else { return };
        if tcp.syn() {
            self.own_scale = scale(&tcp).unwrap_or(0);
        } else if tcp.ack() {
            let shift = if self.peer_scales { self.own_scale } else { 0 };
            self.offered = Some(tcp.ack_number() + (usize::from(tcp.window_len()) << shift));
        }
    }

    /// Puts an acknowledgement that stands beyond the edge onto it.
    pub(super) fn pull_back(&mut self, packet: &mut [u8]) {
        let Some(read) = wire::read(packet) else { return };
        let Some(tcp) = read.tcp() else { return };
        if tcp.syn() {
            self.peer_scales = scale(&tcp).is_some();
            return;
        }
        let Some(edge) = self.offered else { return };
        let is_bare = tcp.ack() && !tcp.rst() && !tcp.fin() && tcp.payload().is_empty();
        if !is_bare || tcp.seq_number() <= edge {
            return;
        }
        let (from, to) = (IpAddress::from(read.from), IpAddress::from(read.to));
        // A wrong checksum must stay one.
        if !tcp.verify_checksum(&from, &to) {
            return;
        }
        let header = match packet.first() {
            Some(first) if first >> 4 == 4 => usize::from(first & 0xf) * 4,
            _ => 40,
        };
        let Some(segment) = packet.get_mut(header..) else { return };
        let mut tcp = TcpPacket::new_unchecked(segment);
        tcp.set_seq_number(edge);
        tcp.fill_checksum(&from, &to);
    }
}

/// The window scale that an opening segment offers.
fn scale(tcp: &TcpPacket<&[u8]>) -> Option<u8> {
    let mut options = tcp.options();
    while !options.is_empty() {
        let (rest, option) = TcpOption::parse(options).ok()?;
        if let TcpOption::WindowScale(scale) = option {
            return Some(scale);
        }
        options = rest;
    }
    None
}
