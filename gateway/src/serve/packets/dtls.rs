//! DTLS: each datagram to its connection, and each connection to its session.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use gateway_proto::dtls::{DtlsHello, HelloReader, Progress};
use rustls::pki_types::{CertificateDer, UnixTime};

use super::channel::Connection;
use super::path::MTU_MIN;
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
use crate::tunnel::dtls::{Delivered, Mailbox};

/// A whole ClientHello is there by then; it comes in one flight.
const HELLO_TIME_MAX: Duration = Duration::from_secs(2);
/// Datagrams of a flight that are kept for the engine.
const HELLO_DATAGRAMS_MAX: usize = 16;

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
    let facts = TunnelTls::dtls();
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
