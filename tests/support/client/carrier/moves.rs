//! What a driver does next: opens what is wanted, gives up what is dead, moves to the backup.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use gateway_proto::openconnect::frame::{Frame, Kind, read_dtls};

use super::datagram::{DatagramSide, News};
use super::driver::{Driver, Role};
use super::record::Happening;
use super::tls_side::{OpenTls, TlsSide};
use super::{Carrier, GatewayAt, lock};
use crate::client::error::ClientError;
use crate::client::openconnect::bootstrap::{Door, Opened};
use crate::client::secure::{Dtls13, Patience, Psk12, Session};

/// A connection that ended is dialled again after so long, lest a gateway that hangs up is stormed.
const RECONNECT: Duration = Duration::from_millis(100);

impl Driver {
    /// Gives up what is dead and opens what is wanted.
    pub(super) fn tend(&mut self) {
        let now = Instant::now();
        if self.datagrams.as_mut().is_some_and(|side| side.handle_time(now)) {
            self.datagrams_dead(now);
        }
        if self.tls.open().is_some_and(|open| open.handle_time(now)) {
            self.tls_lost("nobody answers");
        }
        if self.datagrams.is_none() && self.datagrams_again.is_none_or(|again| again <= now) {
            self.open_datagrams(now);
        }
        let may_dial = self.tls_again.is_none_or(|again| again <= now);
        if matches!(self.tls, TlsSide::Closed) && may_dial && self.wants_tls(now) {
            self.dial();
        }
    }

    /// When [`Driver::tend`] has something to do.
    pub(super) fn due(&mut self) -> Option<Instant> {
        let datagrams = match &self.datagrams {
            Some(side) => Some(side.deadline()),
            None => self.datagrams_again,
        };
        let tls = match &self.tls {
            TlsSide::Open(open) => Some(open.deadline()),
            TlsSide::Dialling(_) => None,
            TlsSide::Closed => self.tls_due(),
        };
        datagrams.into_iter().chain(tls).min()
    }

    /// When TLS will be wanted; `None` where that takes something else than time.
    fn tls_due(&self) -> Option<Instant> {
        self.plan.tls.as_ref()?;
        if self.carrier() == Carrier::Datagrams && matches!(self.plan.role, Role::Fallback(_)) {
            return None;
        }
        let patience = self.without_datagrams + self.plan.timing.fallback_after;
        let wanted = match self.plan.role {
            Role::Fallback(_) if self.addresses.is_some() => patience,
            Role::Fallback(_) | Role::Bootstrap => self.begun,
        };
        Some(self.tls_again.map_or(wanted, |again| again.max(wanted)))
    }

    fn wants_tls(&self, now: Instant) -> bool {
        self.tls_due().is_some_and(|due| due <= now)
    }

    fn here(&self) -> Option<&GatewayAt> {
        self.plan.gateways.get(self.gateway)
    }

    fn dial(&mut self) {
        let (Some(gateway), Some(config)) = (self.here(), &self.plan.tls) else { return };
        let (name, config) = (gateway.name.clone(), Arc::clone(config));
        let door = Door { address: gateway.tcp, name, config };
        self.tls = TlsSide::dial(door, self.cookie.clone(), self.addresses);
    }

    fn open_datagrams(&mut self, now: Instant) {
        let (Some(gateway), timing) = (self.here(), self.plan.timing) else { return };
        let (mut udp, mut patience) = (gateway.udp, timing.patience);
        // Where the port is left to the gateway, both ports of a production gateway are the same.
        let told =
            lock(&self.shared.parameters).as_ref().and_then(|it| Some(it.datagram.as_ref()?.port));
        if udp.port() == 0 {
            udp.set_port(told.unwrap_or_else(|| gateway.tcp.port()));
        }
        let session = match &self.plan.role {
            Role::Fallback(_) if self.addresses.is_none() => return,
            Role::Fallback(config) => {
                Session::Dtls13(Box::new(Dtls13::new(now, config, &gateway.name)))
            }
            Role::Bootstrap => {
                let TlsSide::Open(open) = &self.tls else { return };
                let parameters = &open.channel.parameters;
                let Some(offer) = &parameters.datagram else { return };
                let idle = parameters.datagram_patience.unwrap_or(patience.idle);
                patience = Patience { idle: idle.min(patience.idle), ..patience };
                Session::Psk12(Box::new(Psk12::new(now, offer)))
            }
        };
        match DatagramSide::open(now, udp, session, patience, timing.handshake_max) {
            Ok(side) => self.datagrams = Some(side),
            Err(error) => {
                self.failed(error);
                self.datagrams_again = Some(now + timing.retry);
            }
        }
    }

    /// A packet of the stack's.
    pub(super) fn carry(&mut self, packet: &[u8]) {
        let now = Instant::now();
        let carried = match (self.carrier(), &mut self.datagrams, self.tls.open()) {
            (Carrier::Datagrams, Some(side), _) => {
                side.send(now, Kind::Data, packet);
                true
            }
            (Carrier::Tls, _, Some(open)) => open.send(now, Kind::Data, packet),
            _ => false,
        };
        if !carried {
            lock(&self.shared.counts).dropped += 1;
        }
    }

    pub(super) fn take_datagram_news(&mut self, now: Instant, news: News) {
        match news {
            News::Up { took } => self.datagrams_up(now, took),
            News::Frame(plain) => match read_dtls(Bytes::from(plain)) {
                Ok(frame) => self.take_datagram_frame(now, &frame),
                Err(problem) => self.failed(problem),
            },
            News::Goodbye => self.fail_over(now),
            News::Failed(why) => {
                self.failed(why);
                self.datagrams_dead(now);
            }
        }
    }

    fn datagrams_up(&mut self, now: Instant, took: Duration) {
        self.note(Happening::Handshake { took });
        self.datagrams_again = None;
        if matches!(self.plan.role, Role::Fallback(_)) {
            // No goodbye: that would end the session, which goes on.
            self.tls = TlsSide::Closed;
            self.tls_again = None;
        } else if let (Some(side), Some(addresses)) = (&mut self.datagrams, self.addresses) {
            // As the stock client probes: an id, and zeros as far as the tunnel goes.
            let mut probe = vec![0; addresses.mtu];
            if let Some((id, _)) = probe.split_first_chunk_mut() {
                *id = 1_u32.to_be_bytes();
            }
            side.send(now, Kind::DpdRequest, &probe);
        }
    }

    fn take_datagram_frame(&mut self, now: Instant, frame: &Frame) {
        match frame.kind {
            Kind::Data => self.deliver(frame),
            Kind::DpdRequest => {
                if let Some(side) = &mut self.datagrams {
                    side.send(now, Kind::DpdResponse, &frame.payload);
                }
            }
            Kind::DpdResponse => {
                let whole = self.addresses.is_some_and(|it| it.mtu == frame.payload.len());
                lock(&self.shared.counts).mtu_confirmed += u64::from(whole);
            }
            Kind::Disconnect | Kind::Terminate => self.fail_over(now),
            Kind::KeepAlive | Kind::Compressed => {}
        }
    }

    pub(super) fn take_tls_frame(&mut self, frame: &Frame) {
        let now = Instant::now();
        if let Some(open) = self.tls.open() {
            open.heard(now);
        }
        match frame.kind {
            Kind::Data => self.deliver(frame),
            Kind::DpdRequest => {
                if let Some(open) = self.tls.open() {
                    open.send(now, Kind::DpdResponse, &frame.payload);
                }
            }
            Kind::Disconnect | Kind::Terminate => self.fail_over(now),
            Kind::DpdResponse | Kind::KeepAlive | Kind::Compressed => {}
        }
    }

    /// The datagram channel is of no more use: shake hands anew, at once where it had worked.
    fn datagrams_dead(&mut self, now: Instant) {
        let Some(side) = self.datagrams.take() else { return };
        if side.is_up {
            self.note(Happening::DatagramsDead);
            self.without_datagrams = now;
            self.datagrams_again = None;
        } else {
            self.note(Happening::HandshakeFailed);
            self.datagrams_again = Some(now + self.plan.timing.retry);
            let tls_failed = matches!(self.tls, TlsSide::Closed) && self.tls_again.is_some();
            if self.plan.tls.is_none() || tls_failed {
                self.hopeless(now, ClientError::Tls(std::io::Error::other(self.last_failure())));
            }
        }
    }

    pub(super) fn tls_opened(&mut self, opened: Opened) {
        let open = OpenTls::new(Instant::now(), opened);
        let parameters = open.channel.parameters.clone();
        self.cookie = Some(open.channel.cookie.clone());
        self.tls_again = None;
        if self.addresses != Some(parameters.addresses) {
            self.addresses = Some(parameters.addresses);
            self.stack.set_addresses(parameters.addresses);
        }
        *lock(&self.shared.parameters) = Some(parameters);
        self.tls = TlsSide::Open(Box::new(open));
        self.note(Happening::TlsOpened);
        if matches!(self.plan.role, Role::Bootstrap) {
            // Its key belonged to the connection before.
            self.datagrams = None;
            self.datagrams_again = None;
        }
    }

    pub(super) fn tls_refused(&mut self, error: ClientError) {
        self.tls = TlsSide::Closed;
        self.failed(&error);
        let now = Instant::now();
        self.tls_again = Some(now + self.plan.timing.retry);
        if self.datagrams.is_none() {
            self.hopeless(now, error);
        }
    }

    pub(super) fn tls_lost(&mut self, why: &str) {
        self.tls = TlsSide::Closed;
        self.tls_again = Some(Instant::now() + RECONNECT);
        self.failed(why);
        self.note(Happening::TlsLost);
    }

    /// The gateway said goodbye: on to the next, at once where there is one.
    fn fail_over(&mut self, now: Instant) {
        self.datagrams = None;
        self.tls = TlsSide::Closed;
        self.without_datagrams = now;
        let again = (self.plan.gateways.len() < 2).then(|| now + self.plan.timing.retry);
        self.datagrams_again = again;
        self.tls_again = again;
        self.note(Happening::FailedOver);
        self.next_gateway();
    }

    fn next_gateway(&mut self) {
        if self.plan.gateways.len() > 1 {
            self.gateway = (self.gateway + 1) % self.plan.gateways.len();
            // A cookie is the gateway's that gave it.
            self.cookie = None;
            self.datagrams = None;
        }
    }

    /// Neither way works here: on to the next gateway. Whoever waits for the first channel is told when
    /// the last one has failed, and then the tunnel is over.
    fn hopeless(&mut self, now: Instant, error: ClientError) {
        let is_last = self.gateway + 1 >= self.plan.gateways.len();
        self.next_gateway();
        if !is_last {
            (self.tls_again, self.datagrams_again) = (None, None);
            self.without_datagrams = now;
        } else if let Some(waiting) = self.waiting.take() {
            waiting.send(Err(error)).ok();
            self.over = true;
        }
    }

    fn last_failure(&self) -> String {
        let failure = lock(&self.shared.counts).last_failure.clone();
        failure.unwrap_or_else(|| "nobody answers".to_owned())
    }
}
