//! The driver of a tunnel: one loop over its packets, its two channels and the clock.

use std::sync::Arc;
use std::time::Instant;

use gateway_proto::openconnect::frame::Frame;
use rustls::ClientConfig;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::sleep_until;

use super::datagram::{self, DATAGRAM_BYTES, DatagramSide};
use super::record::Happening;
use super::tls_side::{self, TlsSide};
use super::{Carrier, GatewayAt, Shared, Status, Timing, lock};
use crate::client::error::ClientError;
use crate::client::packet::{Addresses, PacketChannel, PacketStack};
use crate::client::secure::Dtls13Config;

/// Packets, datagrams or frames handled in one turn, so that neither direction waits long.
const TURN_MAX: usize = 64;

/// What TLS is for.
#[derive(Clone)]
pub(crate) enum Role {
    /// The tunnel itself; datagrams are agreed in it (OpenConnect).
    Bootstrap,
    /// Used while there are no datagrams, which are secured by the same certificate (DTLS).
    Fallback(Dtls13Config),
}

/// All a driver needs to know.
pub(crate) struct Plan {
    /// The first, and the backup where there is one.
    pub(crate) gateways: Vec<GatewayAt>,
    pub(crate) role: Role,
    /// For the TLS side; `None` where there is none.
    pub(crate) tls: Option<Arc<ClientConfig>>,
    /// Who the stack is. `None` asks the gateway over TLS.
    pub(crate) addresses: Option<Addresses>,
    pub(crate) timing: Timing,
    pub(crate) buffer_bytes: usize,
}

pub(crate) struct Driver {
    pub(super) plan: Plan,
    inner: PacketChannel,
    pub(super) stack: PacketStack,
    publish: watch::Sender<Status>,
    pub(super) shared: Arc<Shared>,
    closing: mpsc::Receiver<()>,
    /// Whoever waits for the first channel, until there is one.
    pub(super) waiting: Option<oneshot::Sender<Result<(), ClientError>>>,
    pub(super) begun: Instant,
    pub(super) gateway: usize,
    pub(super) datagrams: Option<DatagramSide>,
    pub(super) datagrams_again: Option<Instant>,
    /// Since when there are no datagrams.
    pub(super) without_datagrams: Instant,
    pub(super) tls: TlsSide,
    pub(super) tls_again: Option<Instant>,
    pub(super) cookie: Option<String>,
    pub(super) addresses: Option<Addresses>,
    /// The last carrier that was one.
    carried: Carrier,
    pub(super) over: bool,
}

enum Happened {
    Packet(Option<Vec<u8>>),
    Datagram(usize),
    Tls(tls_side::News),
    Close,
    Nothing,
}

impl Driver {
    pub(crate) fn new(
        plan: Plan,
        inner: PacketChannel,
        stack: PacketStack,
        publish: watch::Sender<Status>,
        shared: Arc<Shared>,
        closing: mpsc::Receiver<()>,
        waiting: oneshot::Sender<Result<(), ClientError>>,
    ) -> Self {
        let now = Instant::now();
        // Of a DTLS client that knows who it is, TLS is a fallback even if it comes first.
        let wants_datagrams = matches!(plan.role, Role::Fallback(_)) && plan.addresses.is_some();
        Self {
            addresses: plan.addresses,
            plan,
            inner,
            stack,
            publish,
            shared,
            closing,
            waiting: Some(waiting),
            begun: now,
            gateway: 0,
            datagrams: None,
            datagrams_again: None,
            without_datagrams: now,
            tls: TlsSide::Closed,
            tls_again: None,
            cookie: None,
            carried: if wants_datagrams { Carrier::Datagrams } else { Carrier::Tls },
            over: false,
        }
    }

    /// Works until the tunnel is over.
    pub(crate) async fn run(mut self) {
        let mut buffer = vec![0; DATAGRAM_BYTES];
        let mut news = Vec::new();
        while !self.over {
            self.tend();
            self.flush(&mut news).await;
            self.publish();
            match self.wait(&mut buffer).await {
                Happened::Packet(Some(packet)) => self.carry_all(packet),
                Happened::Packet(None) => break,
                Happened::Datagram(length) => self.take_datagrams(&mut buffer, length),
                Happened::Tls(news) => self.take_tls(news),
                Happened::Close => {
                    self.goodbye(&mut news).await;
                    break;
                }
                Happened::Nothing => {}
            }
        }
        self.publish.send_modify(|status| {
            status.carrier = Carrier::Nothing;
            status.ended = true;
        });
    }

    pub(super) fn carrier(&self) -> Carrier {
        if self.datagrams.as_ref().is_some_and(|side| side.is_up) {
            Carrier::Datagrams
        } else if self.tls.is_open() {
            Carrier::Tls
        } else {
            Carrier::Nothing
        }
    }

    /// Waits for whatever comes first. Each branch can be cancelled.
    async fn wait(&mut self, buffer: &mut [u8]) -> Happened {
        let carries = self.carrier() != Carrier::Nothing;
        let due = self.due();
        let Self { inner, datagrams, tls, closing, .. } = self;
        let received = async {
            match datagrams {
                Some(side) => side.socket.recv(buffer).await,
                None => std::future::pending().await,
            }
        };
        let time = async {
            match due {
                Some(due) => sleep_until(due.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            received = received => match received {
                Ok(length) => Happened::Datagram(length),
                // A refused port is told by somebody whom nobody has authenticated.
                Err(_) => Happened::Nothing,
            },
            // Without a carrier packets stay where they are, as in a card's queue.
            packet = inner.incoming.recv(), if carries => Happened::Packet(packet),
            news = tls.news() => Happened::Tls(news),
            _ = closing.recv() => Happened::Close,
            () = time => Happened::Nothing,
        }
    }

    /// Carries a packet, and those that wait behind it.
    fn carry_all(&mut self, first: Vec<u8>) {
        self.carry(&first);
        for _ in 1..TURN_MAX {
            let Ok(packet) = self.inner.incoming.try_recv() else { break };
            self.carry(&packet);
        }
    }

    /// Takes a datagram in, and those that wait behind it.
    fn take_datagrams(&mut self, buffer: &mut [u8], length: usize) {
        let Some(side) = &mut self.datagrams else { return };
        let now = Instant::now();
        side.handle_datagram(now, buffer.get(..length).unwrap_or_default());
        for _ in 1..TURN_MAX {
            let Ok(length) = side.socket.try_recv(buffer) else { return };
            side.handle_datagram(now, buffer.get(..length).unwrap_or_default());
        }
    }

    fn take_tls(&mut self, news: tls_side::News) {
        match news {
            tls_side::News::Dialled(opened) => self.tls_opened(*opened),
            tls_side::News::DialFailed(error) => self.tls_refused(error),
            tls_side::News::Lost => self.tls_lost("the connection ended"),
            tls_side::News::Frame(frame) => {
                self.take_tls_frame(&frame);
                for _ in 1..TURN_MAX {
                    let next = self.tls.open().and_then(|open| open.channel.try_receive());
                    let Some(frame) = next else { break };
                    self.take_tls_frame(&frame);
                }
            }
        }
    }

    /// Sends what the datagram side has to send, and hears what it says.
    async fn flush(&mut self, news: &mut Vec<datagram::News>) {
        let now = Instant::now();
        // Answers to what came may themselves be datagrams.
        while let Some(side) = &mut self.datagrams {
            side.flush(now, news).await;
            if news.is_empty() {
                break;
            }
            for one in news.drain(..) {
                self.take_datagram_news(now, one);
            }
        }
        news.clear();
    }

    /// Hands a packet to the stack.
    pub(super) fn deliver(&self, frame: &Frame) {
        if self.inner.outgoing.try_send(frame.payload.to_vec()).is_err() {
            lock(&self.shared.counts).dropped += 1;
        }
    }

    async fn goodbye(&mut self, news: &mut Vec<datagram::News>) {
        if let Some(side) = &mut self.datagrams {
            side.close();
            side.flush(Instant::now(), news).await;
        }
        if let TlsSide::Open(open) = std::mem::replace(&mut self.tls, TlsSide::Closed) {
            open.channel.close().await;
        }
    }

    /// Tells everybody where the tunnel stands, and counts changes of the carrier.
    fn publish(&mut self) {
        let (carrier, gateway) = (self.carrier(), self.gateway);
        if carrier != Carrier::Nothing && carrier != self.carried {
            let has_fallen = {
                let counts = lock(&self.shared.counts);
                counts.fallbacks > counts.returns
            };
            match carrier {
                Carrier::Tls => self.note(Happening::FellBack),
                _ if has_fallen => self.note(Happening::Returned),
                _ => {}
            }
            self.carried = carrier;
        }
        self.publish.send_if_modified(|status| {
            let next = Status { carrier, gateway, ended: false };
            std::mem::replace(status, next) != next
        });
        if carrier != Carrier::Nothing
            && let Some(waiting) = self.waiting.take()
        {
            // Whoever asked may have gone; then the tunnel goes too.
            waiting.send(Ok(())).ok();
        }
    }

    pub(super) fn note(&self, what: Happening) {
        lock(&self.shared.counts).note(self.begun.elapsed(), what);
    }

    pub(super) fn failed(&self, why: impl ToString) {
        lock(&self.shared.counts).last_failure = Some(why.to_string());
    }
}
