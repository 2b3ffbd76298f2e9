//! One flow's network interface: a packet in, packets out to the client's link.

use std::sync::Arc;

use gateway_proto::packet::acknowledged;
use smoltcp::phy::{self, DeviceCapabilities, Medium};
use smoltcp::time::Instant;

use crate::tunnel::link::Link;

pub(super) struct Device {
    pub(super) incoming: Option<Vec<u8>>,
    link: Arc<Link>,
    mtu: u16,
    /// What this side has last acknowledged.
    pub(super) acknowledged: Option<u32>,
    /// The link was full when there was something to send.
    pub(super) blocked: bool,
}

impl Device {
    pub(super) fn new(link: Arc<Link>) -> Self {
        let mtu = link.mtu();
        Self { incoming: None, link, mtu, acknowledged: None, blocked: false }
    }

    /// Takes over what the link carries by now; whether that is something else.
    pub(super) fn resize(&mut self) -> bool {
        let before = std::mem::replace(&mut self.mtu, self.link.mtu());
        before != self.mtu
    }

    /// Whether the link is still full.
    pub(super) fn is_blocked(&self) -> bool {
        self.link.is_full()
    }
}

pub(super) struct Incoming(Vec<u8>);

impl phy::RxToken for Incoming {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(&self.0)
    }
}

pub(super) struct Outgoing<'a> {
    link: &'a Link,
    acknowledged: &'a mut Option<u32>,
    /// It answers the packet just taken, so there is room.
    answers: bool,
}

impl phy::TxToken for Outgoing<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, write: F) -> R {
        let mut packet = vec![0; length];
        let written = write(&mut packet);
        if let Some(number) = acknowledged(&packet) {
            *self.acknowledged = Some(number);
        }
        if self.answers {
            self.link.push_answer(packet);
        } else {
            // Asked for room before; another flow may have been faster. TCP sends it again.
            let _sent = self.link.push(packet);
        }
        written
    }
}

impl phy::Device for Device {
    type RxToken<'a> = Incoming;
    type TxToken<'a> = Outgoing<'a>;

    fn receive(&mut self, _now: Instant) -> Option<(Incoming, Outgoing<'_>)> {
        let packet = self.incoming.take()?;
        let acknowledged = &mut self.acknowledged;
        Some((Incoming(packet), Outgoing { link: &self.link, acknowledged, answers: true }))
    }

    fn transmit(&mut self, _now: Instant) -> Option<Outgoing<'_>> {
        if self.link.is_full() {
            self.blocked = true;
            return None;
        }
        let acknowledged = &mut self.acknowledged;
        Some(Outgoing { link: &self.link, acknowledged, answers: false })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = self.mtu.into();
        capabilities
    }
}
