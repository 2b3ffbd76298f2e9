//! One packet session: its inner network, and the channels that come and go while it lives.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::flows;
use super::table::Device;
use crate::ident::{Blame, ClientIdentity};
use crate::serve::pop::{TunnelGuard, Worker};
use crate::serve::session::{self, Credential};
use crate::snapshot::Tenant;
use crate::stream::packet::{Dropped, InKernel, Lease, Names, Settings, Sources, Stack};
use crate::tunnel::Session;
use crate::tunnel::accept::TunnelTls;
use crate::tunnel::link::{Channel, Link};

/// A client that lost every channel has this long to come back: what openconnect tries by itself.
pub(super) const AWAY_TIME_MAX: Duration = Duration::from_secs(300);
/// Receive buffers of all flows of one session together.
const SESSION_WINDOW_BYTES: u64 = 64 << 20;
/// A client answers within a round trip; one that comes anew has its tunnel back within a second.
const ANSWER_TIME_MAX: Duration = Duration::from_millis(300);
/// Clients with one certificate that are asked whether they live. More are no device but a load test, and
/// each has a session of its own.
const SHARING_MAX: usize = 4;
/// How often a draining session looks whether it has become idle.
const IDLE_LOOK: Duration = Duration::from_millis(200);

/// See the module.
pub(super) struct PacketSession {
    pub(super) session: Arc<Session>,
    pub(super) link: Arc<Link>,
    pub(super) stack: Arc<Stack>,
    pub(super) names: Names,
    pub(super) lease: Arc<Lease>,
    pub(super) device: Device,
    /// The cookie by which OpenConnect clients come back.
    cookie: Mutex<Option<String>>,
    channels: watch::Sender<usize>,
    /// The live DTLS channel.
    dtls: Mutex<Option<Channel>>,
    /// The live channel inside TLS.
    tls: Mutex<Option<Channel>>,
    /// The largest packet that the client was told of over TLS, which itself carries any.
    told: AtomicU16,
    /// Somebody wants to know whether the client lives: its DTLS channel asks.
    pub(super) asked: Notify,
    /// Its channels must end.
    pub(super) over: CancellationToken,
    worker: Arc<Worker>,
}

/// What a session is made from.
pub(super) struct Made {
    pub(super) session: Arc<Session>,
    pub(super) lease: Lease,
    pub(super) device: Device,
    pub(super) cookie: Option<String>,
    pub(super) sources: Sources,
    pub(super) mtu: u16,
}

/// Opens the session of a client that has shown its certificate. `None` where a limit is reached or
/// the certificate was revoked meanwhile; its record is then written.
pub(super) fn open(
    worker: &Arc<Worker>,
    tenant: &Arc<Tenant>,
    identity: ClientIdentity,
    facts: &TunnelTls,
    way: (std::net::SocketAddr, crate::ident::AccessMethod),
) -> Option<(Arc<Session>, Device)> {
    let device = Device { tenant: tenant.name.clone(), serial: Arc::clone(&identity.serial) };
    let credential = Credential::Certificate(identity);
    let session = session::open(worker, tenant, credential, Some(facts), way.0, way.1)?;
    Some((session, device))
}

/// Of these sessions one whose client does not answer.
pub(super) async fn silent(sessions: Vec<Arc<PacketSession>>) -> Option<Arc<PacketSession>> {
    if sessions.is_empty() || sessions.len() > SHARING_MAX {
        return None;
    }
    let asked = Instant::now();
    sessions.iter().for_each(|session| session.asked.notify_one());
    tokio::time::sleep(ANSWER_TIME_MAX).await;
    sessions.into_iter().find(|session| session.link.silence() >= asked.elapsed())
}

impl PacketSession {
    /// Starts the session; it runs until it is revoked, its client says goodbye or stays away.
    pub(super) fn start(
        worker: &Arc<Worker>,
        tenant: &Tenant,
        made: Made,
        counted: TunnelGuard,
    ) -> Arc<Self> {
        let Made { session, lease, device, cookie, sources, mtu } = made;
        let pop = &worker.pop;
        let link = Arc::new(Link::new(mtu));
        let lease = Arc::new(lease);
        let kernel = pop.packets.kernel.as_ref().map(|kernel| InKernel {
            kernel: Arc::clone(kernel),
            lease: Arc::clone(&lease),
            window: pop.windows.tunnel(SESSION_WINDOW_BYTES),
        });
        let settings = Settings {
            flows_max: streams_max(worker, tenant),
            own: pop.packets.pool.own().to_vec(),
            sources,
            window: pop.windows.tunnel(SESSION_WINDOW_BYTES),
            kernel,
        };
        let (stack, opened) = Stack::new(Arc::clone(&link), settings);
        let this = Arc::new(Self {
            session,
            link,
            stack,
            names: Names::default(),
            lease,
            device,
            cookie: Mutex::new(cookie),
            channels: watch::Sender::new(0),
            dtls: Mutex::default(),
            tls: Mutex::default(),
            told: AtomicU16::new(mtu),
            asked: Notify::new(),
            over: CancellationToken::new(),
            worker: Arc::clone(worker),
        });
        pop.packets.add(this.device.clone(), &this);
        let running = Arc::clone(&this);
        pop.tasks.spawn(async move {
            let ending = tokio::select! {
                never = flows::run(Arc::clone(&running), opened) => never,
                ending = running.outlived() => ending,
            };
            running.end(ending);
            drop(counted);
        });
        this
    }

    /// Waits until there is no reason to go on.
    async fn outlived(&self) -> Option<(&'static str, Blame)> {
        let pop = &self.worker.pop;
        tokio::select! {
            () = self.session.ended.cancelled() => None,
            () = pop.stopping.cancelled() => None,
            () = self.away() => Some(("client_away", Blame::Client)),
            () = self.drained() => None,
        }
    }

    /// Waits until the client has had no channel for too long.
    async fn away(&self) {
        let mut channels = self.channels.subscribe();
        loop {
            // The sender lives as long as this session.
            drop(channels.wait_for(|count| *count == 0).await);
            if timeout(AWAY_TIME_MAX, channels.wait_for(|count| *count > 0)).await.is_err() {
                return;
            }
        }
    }

    /// Waits for a drain, and then for a moment without a flow.
    async fn drained(&self) {
        self.worker.pop.draining.cancelled().await;
        while self.stack.flows() > 0 {
            tokio::time::sleep(IDLE_LOOK).await;
        }
    }

    fn end(self: &Arc<Self>, ending: Option<(&'static str, Blame)>) {
        self.worker.pop.packets.remove(&self.device, self);
        self.stack.abort();
        self.over.cancel();
        session::close(&self.worker, &self.session, ending);
    }

    /// Counts a channel for as long as the guard lives.
    pub(super) fn attach(self: &Arc<Self>) -> Attached {
        self.channels.send_modify(|count| *count += 1);
        Attached { session: Arc::clone(self), channel: self.link.channel() }
    }

    pub(super) fn worker(&self) -> &Arc<Worker> {
        &self.worker
    }

    /// A channel that carries packets of `mtu` bytes, as far as is known yet.
    pub(super) fn dtls_up(&self, channel: Channel, mtu: u16) {
        let mut live = self.dtls.lock();
        *live = Some(channel);
        self.link.set_mtu(mtu);
        drop(live);
        self.link.heard(channel);
    }

    /// Its packets may have this size from now on; false where another channel has taken its place.
    pub(super) fn dtls_carries(&self, channel: Channel, mtu: u16) -> bool {
        let live = self.dtls.lock();
        let is_live = *live == Some(channel);
        if is_live {
            self.link.set_mtu(mtu);
        }
        is_live
    }

    /// The largest packet that the client was told of.
    pub(super) fn told(&self) -> u16 {
        self.told.load(Ordering::Relaxed)
    }

    /// What there is for the client goes over TLS from now on, even before it says a word there.
    pub(super) fn dtls_down(&self, channel: Channel) {
        let mut live = self.dtls.lock();
        if live.take_if(|live| *live == channel).is_none() {
            return;
        }
        self.link.set_mtu(self.told());
        drop(live);
        if let Some(tls) = *self.tls.lock() {
            self.link.hand_over(tls);
        }
    }

    /// A channel whose client was told of packets of `mtu` bytes.
    pub(super) fn tls_up(&self, channel: Channel, mtu: u16) {
        *self.tls.lock() = Some(channel);
        self.told.store(mtu, Ordering::Relaxed);
        let live = self.dtls.lock();
        if live.is_none() {
            self.link.set_mtu(mtu);
        }
        drop(live);
        self.link.heard(channel);
    }

    pub(super) fn tls_down(&self, channel: Channel) {
        self.tls.lock().take_if(|live| *live == channel);
    }

    pub(super) fn has_a_cookie(&self) -> bool {
        self.cookie.lock().is_some()
    }

    pub(super) fn has_dtls(&self) -> bool {
        self.dtls.lock().is_some()
    }

    pub(super) fn is_only_channel(&self) -> bool {
        *self.channels.borrow() <= 1
    }

    pub(super) fn has_cookie(&self, cookie: &str) -> bool {
        self.cookie.lock().as_deref() == Some(cookie)
    }

    /// A client that came over DTLS goes on over TLS, where it is told its addresses.
    pub(super) fn take_cookie(&self, cookie: &str) {
        *self.cookie.lock() = Some(cookie.to_owned());
        self.stack.give([self.lease.ipv4().into(), self.lease.ipv6().into()]);
    }

    /// A packet came from the client on `channel`.
    pub(super) fn packet(&self, channel: Channel, packet: &[u8]) {
        self.link.heard(channel);
        if let Err(dropped) = self.stack.packet(packet) {
            self.dropped(dropped);
        }
    }

    pub(super) fn dropped(&self, dropped: Dropped) {
        self.worker.pop.metrics.packet_dropped(dropped.label());
    }
}

fn streams_max(worker: &Worker, tenant: &Tenant) -> usize {
    let all = worker.pop.snapshot.gateway().config.limits.streams_per_tunnel;
    tenant.config.limits.streams_per_tunnel.map_or(all, |own| own.min(all)) as usize
}

/// One channel of a session.
pub(super) struct Attached {
    pub(super) session: Arc<PacketSession>,
    pub(super) channel: Channel,
}

impl Drop for Attached {
    fn drop(&mut self) {
        self.session.channels.send_modify(|count| *count = count.saturating_sub(1));
    }
}
