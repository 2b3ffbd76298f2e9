//! DTLS: each datagram to its connection, and each connection to its session.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use gateway_proto::dtls::{DtlsHello, HelloReader, Progress};
use gateway_proto::openconnect::frame::{Kind, put_dtls, read_dtls};
use rustls::pki_types::{CertificateDer, UnixTime};
use tokio::time::sleep_until;
use zeroize::Zeroizing;

use super::cstp::DPD;
use super::session::{self, Attached, Made, PacketSession, open};
use super::table::Device;
use crate::ident::AccessMethod;
use crate::serve::pop::Worker;
use crate::serve::refused;
use crate::serve::udp::Came;
use crate::snapshot::Tenant;
use crate::socket::{Batch, To, UdpPort, Way};
use crate::stream::packet::Sources;
use crate::tunnel::accept::{HANDSHAKE_TIME_MAX, Refusal, RefusalReason, TunnelTls};
use crate::tunnel::dtls::{Broken, Delivered, DtlsIdentity, Engine, Mailbox, Modern, Output, Psk};

/// A whole ClientHello is there by then; it comes in one flight.
const HELLO_TIME_MAX: Duration = Duration::from_secs(2);
/// Datagrams of a flight that are kept for the engine.
const HELLO_DATAGRAMS_MAX: usize = 16;
/// Packets sent between two looks at everything else: what one send can carry.
const BATCH: usize = 48;
/// Packet sizes that are tried on a path: Ethernet with IPv4 and IPv6 outside, common tunnels, and the
/// least that IPv6 inside needs (RFC 8899 section 5).
const PATHS: [u16; 4] = [1_500, 1_480, 1_428, 1_400];
const MTU_MIN: u16 = 1_280;

/// Gives one datagram to its connection.
pub(in crate::serve) fn take(
    worker: &Arc<Worker>,
    port: &Arc<UdpPort>,
    way: Way,
    datagram: &[u8],
    came: Came,
) {
    let metrics = &worker.pop.metrics;
    let alone = Batch { way, ecn: None, size: datagram.len(), joined: datagram };
    let datagram = Bytes::copy_from_slice(datagram);
    let peers = &worker.pop.packets.peers;
    match peers.deliver(way.peer, &datagram) {
        Delivered::Yes => {}
        Delivered::Full => metrics.datagram_dropped("queue"),
        Delivered::Stray => {
            if !came.pass_on(worker, To::Others, &alone) {
                metrics.datagram_dropped("stray");
            }
        }
        // Draining: clients go elsewhere.
        Delivered::First if came == Came::Directly && worker.pop.draining.is_cancelled() => {
            let _passed = came.pass_on(worker, To::Newest, &alone);
        }
        Delivered::First => match peers.open(way.peer) {
            Some(mailbox) => {
                let _first = peers.deliver(way.peer, &datagram);
                let (worker, port) = (Arc::clone(worker), Arc::clone(port));
                let tasks = worker.pop.tasks.clone();
                tasks.spawn(peer(worker, port, way, mailbox, came));
            }
            None => metrics.datagram_dropped("limit"),
        },
    }
}

/// One peer, from its first datagram to its end.
async fn peer(worker: Arc<Worker>, port: Arc<UdpPort>, way: Way, mut mailbox: Mailbox, came: Came) {
    let evicted = mailbox.evicted.clone();
    let met = tokio::select! {
        met = meet(&worker, &port, way, &mut mailbox, came) => met,
        () = evicted.cancelled() => Err(None),
        () = worker.pop.stopping.cancelled() => Err(None),
    };
    match met {
        Ok((mut connection, attached)) => {
            worker.pop.packets.peers.connected(&mailbox);
            connection.run(&attached, &mut mailbox).await;
        }
        Err(Some(refusal)) => refused::record(&worker, way.peer, AccessMethod::Dtls, &refusal),
        // A stranger that went away, or made room for others.
        Err(None) => {}
    }
    worker.pop.packets.peers.close(&mailbox);
}

/// The handshake, and the session that it leads to.
async fn meet(
    worker: &Arc<Worker>,
    port: &Arc<UdpPort>,
    way: Way,
    mailbox: &mut Mailbox,
    came: Came,
) -> Result<(Connection, Attached), Option<Refusal>> {
    let (hello, flight) = hello(mailbox).await.ok_or(None)?;
    let offer = worker.pop.packets.offered(&hello.hello.session_id);
    let mut connection = match &offer {
        // Nobody but the client of a live TLS channel knows its App-ID.
        Some(offer) => Connection::psk(port, way, &offer.key),
        None if hello.offers_1_3() => Connection::modern(worker, port, way, &hello)?,
        None => {
            // Its TLS channel may be with another process; what follows goes there as nobody's here.
            for datagram in &flight {
                let alone = Batch { way, ecn: None, size: datagram.len(), joined: datagram };
                let _passed = came.pass_on(worker, To::Others, &alone);
            }
            None
        }
    }
    .ok_or(None)?;
    let handshake = connection.handshake(&flight, mailbox);
    let handshake = tokio::time::timeout(HANDSHAKE_TIME_MAX, handshake).await.map_err(|_| None)?;
    let certificate = handshake.map_err(|seen| {
        // The library ends the handshake over what it cannot verify.
        let reason = RefusalReason::UnsupportedCertificate;
        seen.then_some(Refusal { tenant: None, reason })
    })?;
    let packets = match offer {
        Some(offer) => offer.session.upgrade().ok_or(None)?,
        None => {
            let certificate = certificate.ok_or(None)?;
            match admit(worker, way, &hello, &certificate).await {
                Ok(packets) => packets,
                Err(refusal) => {
                    // Its handshake is done: it would wait for us.
                    connection.close().await;
                    return Err(Some(refusal));
                }
            }
        }
    };
    let attached = packets.attach();
    Ok((connection, attached))
}

/// Reads the first flight, however it is split.
async fn hello(mailbox: &mut Mailbox) -> Option<(Box<DtlsHello>, Vec<Bytes>)> {
    let mut reader = HelloReader::new();
    let mut flight = Vec::new();
    let reading = async {
        while flight.len() < HELLO_DATAGRAMS_MAX {
            let datagram = mailbox.datagrams.recv().await?;
            let progress = reader.push(&datagram);
            flight.push(datagram);
            match progress {
                Progress::Done(hello) => return Some(hello),
                Progress::NeedMore => {}
                Progress::NotHello(_) => return None,
            }
        }
        None
    };
    let hello = tokio::time::timeout(HELLO_TIME_MAX, reading).await.ok()??;
    Some((hello, flight))
}

/// Checks the certificate by the code that checks those of TLS tunnels, and finds or opens the session.
async fn admit(
    worker: &Arc<Worker>,
    way: Way,
    hello: &DtlsHello,
    certificate: &[u8],
) -> Result<Arc<PacketSession>, Refusal> {
    let pop = &worker.pop;
    let certificate = CertificateDer::from(certificate);
    let strange = |reason| Refusal { tenant: None, reason };
    let tenants = match hello.hello.server_name() {
        Some(name) => pop.snapshot.tenant_by_name(name).into_iter().collect(),
        // No name was asked for: the certificate says whose the client is.
        None => pop.snapshot.tenants_by_issuer(&certificate),
    };
    let verify = |tenant: &Arc<Tenant>| {
        pop.tenancy(tenant).tunnel.verify(tenant, &certificate, UnixTime::now())
    };
    let mut verified = tenants.into_iter().map(|tenant| (verify(&tenant), tenant));
    let first = verified.next().ok_or_else(|| strange(RefusalReason::UnknownTenant))?;
    let (identity, tenant) = verified.find(|(verified, _)| verified.is_ok()).unwrap_or(first);
    let refuse = |reason| Refusal { tenant: Some(tenant.name.clone()), reason };
    let identity = identity.map_err(refuse)?;
    let device = Device { tenant: tenant.name.clone(), serial: Arc::clone(&identity.serial) };
    // A client that lost step, moved, or comes back from TLS goes on where it was.
    if let Some(known) = goes_on_with(worker, &device).await {
        return Ok(known);
    }
    let limits = pop.snapshot.gateway().config.limits.tunnels as usize;
    let counted = pop.tunnel(limits).ok_or_else(|| refuse(RefusalReason::TooManyTunnels))?;
    let lease = pop.packets.pool.lease(&[]);
    let lease = lease.ok_or_else(|| refuse(RefusalReason::TooManyTunnels))?;
    let facts = TunnelTls { version: "DTLS 1.3", kx: None, http2: false };
    let way = (way.peer, AccessMethod::Dtls);
    let (session, device) = open(worker, &tenant, identity, &facts, way)
        .ok_or_else(|| refuse(RefusalReason::TooManyTunnels))?;
    let sources = Sources::chosen();
    let made = Made { session, lease, device, cookie: None, sources, mtu: MTU_MIN };
    Ok(PacketSession::start(worker, &tenant, made, counted))
}

/// The session that a new DTLS connection of this device goes on with: one whose connection before is gone
/// or gives no answer. Two clients that share a certificate each have their own.
async fn goes_on_with(worker: &Worker, device: &Device) -> Option<Arc<PacketSession>> {
    let sessions = worker.pop.packets.of(device);
    if let Some(free) = sessions.iter().find(|session| !session.has_dtls()) {
        return Some(Arc::clone(free));
    }
    session::silent(sessions).await
}

/// One DTLS connection and its way.
struct Connection {
    engine: Engine,
    out: Output,
    port: Arc<UdpPort>,
    way: Way,
    heard: Instant,
    /// Packet sizes that are being tried.
    probes: Vec<u16>,
}

impl Connection {
    fn new(port: &Arc<UdpPort>, way: Way, engine: Engine, out: Output) -> Self {
        let heard = Instant::now();
        Self { engine, out, port: Arc::clone(port), way, heard, probes: Vec::new() }
    }

    fn psk(port: &Arc<UdpPort>, way: Way, key: &Zeroizing<[u8; 32]>) -> Option<Self> {
        let engine = Engine::Psk(Box::new(Psk::new(key)?));
        Some(Self::new(port, way, engine, Output::default()))
    }

    fn modern(
        worker: &Worker,
        port: &Arc<UdpPort>,
        way: Way,
        hello: &DtlsHello,
    ) -> Result<Option<Self>, Option<Refusal>> {
        let snapshot = &worker.pop.snapshot;
        let Some(config) = worker.pop.dtls.clone() else { return Ok(None) };
        let tenant = hello.hello.server_name().map(|name| {
            let refusal = Refusal { tenant: None, reason: RefusalReason::UnknownTenant };
            snapshot.tenant_by_name(name).ok_or(refusal)
        });
        let tenant = tenant.transpose().map_err(Some)?;
        let refuse = |why: String| {
            let reason = RefusalReason::Gateway(why);
            Some(Refusal { tenant: tenant.as_ref().map(|it| it.name.clone()), reason })
        };
        let shown = match &tenant {
            Some(tenant) => snapshot.tunnel_identity(&tenant.name),
            None => Ok(snapshot.common_tunnel_identity()),
        };
        let shown = shown.map_err(|error| refuse(error.to_string()))?;
        let identity = shown.for_dtls().map(|(leaf, key)| DtlsIdentity::new(leaf, key));
        let identity = identity.ok_or_else(|| {
            refuse("tunnel/cert.pem is not ECDSA (P-256, P-384), which DTLS 1.3 needs".to_owned())
        })?;
        let mut out = Output::default();
        let engine = Modern::new(config, identity, Instant::now(), &mut out);
        let engine = Engine::Modern(Box::new(engine.map_err(|_| None)?));
        Ok(Some(Self::new(port, way, engine, out)))
    }

    /// Runs the handshake; its outcome is the client's certificate, if it has shown one. A failure says
    /// whether one had been shown.
    async fn handshake(
        &mut self,
        flight: &[Bytes],
        mailbox: &mut Mailbox,
    ) -> Result<Option<Vec<u8>>, bool> {
        for datagram in flight {
            let read = self.engine.datagram(Instant::now(), datagram, &mut self.out);
            self.flush().await;
            read.map_err(|_| false)?;
        }
        while !self.out.connected {
            let wake = self.out.wake;
            let step = tokio::select! {
                datagram = mailbox.datagrams.recv() => Some(datagram.ok_or(false)?),
                () = at(wake) => None,
            };
            let now = Instant::now();
            let done = match step {
                Some(datagram) => self.engine.datagram(now, &datagram, &mut self.out),
                None => self.engine.tick(now, &mut self.out),
            };
            self.flush().await;
            done.map_err(|_| self.out.certificate.is_some())?;
        }
        Ok(self.out.certificate.take())
    }

    async fn flush(&mut self) {
        if !self.out.datagrams.is_empty() {
            self.port.send(self.way, &self.out.datagrams).await;
            self.out.datagrams.clear();
        }
    }

    /// Moves packets until one side ends the channel.
    async fn run(&mut self, attached: &Attached, mailbox: &mut Mailbox) {
        let packets = &attached.session;
        packets.dtls_up(attached.channel);
        if matches!(self.engine, Engine::Modern(_)) {
            self.probe();
        }
        let over = packets.over.clone();
        tokio::select! {
            () = self.exchange(attached, mailbox) => {}
            () = over.cancelled() => {}
        }
        if self.out.closed && packets.is_only_channel() {
            // The client has gone; with a TLS channel beside it would go on there.
            packets.session.ended.cancel();
        }
        packets.dtls_down(attached.channel);
        self.close().await;
    }

    async fn close(&mut self) {
        self.engine.close(&mut self.out);
        self.flush().await;
    }

    async fn exchange(&mut self, attached: &Attached, mailbox: &mut Mailbox) {
        let Attached { session, channel } = attached;
        let mut packets = Vec::new();
        let mut datagrams = Vec::new();
        let mut looks = tokio::time::interval(DPD);
        self.records(attached);
        self.flush().await;
        while !self.out.closed {
            let wake = self.out.wake;
            let done = tokio::select! {
                count = mailbox.datagrams.recv_many(&mut datagrams, BATCH) => {
                    if count == 0 {
                        return;
                    }
                    let now = Instant::now();
                    datagrams.drain(..).try_for_each(|it| self.engine.datagram(now, &it, &mut self.out))
                }
                () = session.link.take(*channel, BATCH, &mut packets) => self.send(&mut packets),
                () = at(wake) => self.engine.tick(Instant::now(), &mut self.out),
                () = session.asked.notified() => self.frame(Kind::DpdRequest, &[]),
                _ = looks.tick() => {
                    let silence = self.heard.elapsed();
                    if silence > 3 * DPD {
                        return;
                    }
                    if silence < DPD { Ok(()) } else { self.frame(Kind::DpdRequest, &[]) }
                }
            };
            if done.is_err() {
                return;
            }
            if !self.records(attached) {
                return session.session.ended.cancel();
            }
            self.flush().await;
            session.stack.resume();
        }
    }

    fn send(&mut self, packets: &mut Vec<Vec<u8>>) -> Result<(), Broken> {
        packets.drain(..).try_for_each(|packet| self.frame(Kind::Data, &packet))
    }

    fn frame(&mut self, kind: Kind, payload: &[u8]) -> Result<(), Broken> {
        let mut record = Vec::with_capacity(payload.len() + 1);
        put_dtls(kind, payload, &mut record);
        self.engine.send(&record, &mut self.out)
    }

    /// Takes what the peer has said; false where it said goodbye.
    fn records(&mut self, attached: &Attached) -> bool {
        if self.out.records.is_empty() {
            return true;
        }
        self.heard = Instant::now();
        attached.session.link.alive();
        for record in std::mem::take(&mut self.out.records) {
            let Ok(frame) = read_dtls(record.into()) else { continue };
            match frame.kind {
                Kind::Data => attached.session.packet(attached.channel, &frame.payload),
                Kind::DpdRequest => {
                    // With the same bytes: the client measures its path by them.
                    if self.frame(Kind::DpdResponse, &frame.payload).is_err() {
                        return true;
                    }
                }
                Kind::DpdResponse => self.probed(attached, frame.payload.len()),
                Kind::Disconnect | Kind::Terminate => return false,
                Kind::KeepAlive | Kind::Compressed => {}
            }
        }
        true
    }

    /// Asks the client to answer questions as long as packets could be.
    fn probe(&mut self) {
        let ip = if self.way.peer.ip().to_canonical().is_ipv4() { 20 } else { 40 };
        let around = ip + 8 + self.engine.overhead() + 1;
        self.probes = PATHS.iter().map(|path| path - around).collect();
        for size in self.probes.clone() {
            drop(self.frame(Kind::DpdRequest, &vec![0; size.into()]));
        }
    }

    fn probed(&mut self, attached: &Attached, size: usize) {
        let link = &attached.session.link;
        if let Ok(size) = u16::try_from(size)
            && self.probes.contains(&size)
            && size > link.mtu()
        {
            link.set_mtu(size);
        }
    }
}

async fn at(wake: Option<Instant>) {
    match wake {
        Some(at) => sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
