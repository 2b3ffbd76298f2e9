//! One DTLS connection: its handshake, then packets both ways until one side ends it or falls silent.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use gateway_proto::dtls::{DtlsHello, is_hello_retry};
use gateway_proto::openconnect::frame::{Kind, put_dtls, read_dtls};
use tokio::time::sleep_until;
use zeroize::Zeroizing;

use super::cstp::DPD;
use super::path::Path;
use super::session::{Attached, PacketSession};
use crate::serve::pop::Worker;
use crate::socket::{UdpPort, Way};
use crate::stream::packet::Dropped;
use crate::tunnel::accept::{Refusal, RefusalReason};
use crate::tunnel::dtls::{Broken, DtlsIdentity, Engine, Mailbox, Modern, Output, Psk};

/// Packets sent between two looks at everything else: what one send can carry.
const BATCH: usize = 48;
/// A client that was silent for [`DPD`] is asked twice, so long apart; after as much again twice its channel is
/// dead. More questions would do harm: where a firewall has stopped to let a client's datagrams out, it takes
/// the path for good as long as it hears us.
const ASK: Duration = Duration::from_secs(3);
const DEAD_AFTER: Duration = Duration::from_secs(DPD.as_secs() + 3 * ASK.as_secs());

/// One DTLS connection and its way.
pub(super) struct Connection {
    engine: Engine,
    out: Output,
    port: Arc<UdpPort>,
    way: Way,
    heard: Instant,
    /// Bytes that may still be sent to an address that is not proven: as many as came from there. The
    /// engine asks for its cookie several times, which would be more.
    credit: usize,
}

impl Connection {
    fn new(port: &Arc<UdpPort>, way: Way, engine: Engine, out: Output) -> Self {
        let heard = Instant::now();
        Self { engine, out, port: Arc::clone(port), way, heard, credit: 0 }
    }

    pub(super) fn psk(port: &Arc<UdpPort>, way: Way, key: &Zeroizing<[u8; 32]>) -> Option<Self> {
        let engine = Engine::Psk(Box::new(Psk::new(key)?));
        Some(Self::new(port, way, engine, Output::default()))
    }

    pub(super) fn modern(
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
    pub(super) async fn handshake(
        &mut self,
        flight: &[Bytes],
        mailbox: &mut Mailbox,
    ) -> Result<Option<Vec<u8>>, bool> {
        for datagram in flight {
            self.credit += datagram.len();
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
                Some(datagram) => {
                    self.credit += datagram.len();
                    self.engine.datagram(now, &datagram, &mut self.out)
                }
                None => self.engine.tick(now, &mut self.out),
            };
            self.flush().await;
            done.map_err(|_| self.out.certificate.is_some())?;
        }
        Ok(self.out.certificate.take())
    }

    /// Sends what there is; gives the length of what the system finds too long.
    async fn flush(&mut self) -> Option<usize> {
        let credit = &mut self.credit;
        self.out.datagrams.retain(|it| !is_hello_retry(it) || spend(credit, it.len()));
        if self.out.datagrams.is_empty() {
            return None;
        }
        let too_long = self.port.send(self.way, &self.out.datagrams).await;
        self.out.datagrams.clear();
        too_long
    }

    /// Moves packets until one side ends the channel.
    pub(super) async fn run(&mut self, attached: &Attached, mailbox: &mut Mailbox) {
        let packets = &attached.session;
        let is_ipv4 = self.way.peer.ip().to_canonical().is_ipv4();
        let path = Path::new(Instant::now(), &self.engine, attached, is_ipv4);
        let over = packets.over.clone();
        tokio::select! {
            () = self.exchange(attached, mailbox, path) => {}
            () = over.cancelled() => {}
        }
        if self.out.closed && packets.is_only_channel() {
            // The client has gone; with a TLS channel beside it would go on there.
            packets.session.ended.cancel();
        }
        packets.dtls_down(attached.channel);
        self.close().await;
    }

    pub(super) async fn close(&mut self) {
        self.engine.close(&mut self.out);
        self.flush().await;
    }

    async fn exchange(&mut self, attached: &Attached, mailbox: &mut Mailbox, mut path: Path) {
        let Attached { session, channel } = attached;
        let mut packets = Vec::new();
        let mut datagrams = Vec::new();
        let mut looks = tokio::time::interval(DPD);
        self.records(attached, &mut path);
        self.flush().await;
        while !self.out.closed {
            let wake = self.out.wake.into_iter().chain(path.wake()).min();
            let done = tokio::select! {
                count = mailbox.datagrams.recv_many(&mut datagrams, BATCH) => {
                    if count == 0 {
                        return;
                    }
                    let now = Instant::now();
                    datagrams.drain(..).try_for_each(|it| self.engine.datagram(now, &it, &mut self.out))
                }
                () = session.link.take(*channel, BATCH, &mut packets) => {
                    self.send(&mut packets, &mut path, session)
                }
                () = at(wake) => self.tick(&mut path, attached),
                () = session.asked.notified() => self.ask(&mut path),
                _ = looks.tick() => {
                    let silence = self.heard.elapsed();
                    if silence > DEAD_AFTER {
                        return;
                    }
                    let left = DPD.saturating_sub(silence);
                    looks.reset_after(if left.is_zero() { ASK } else { left });
                    let asks = left.is_zero() && silence < DPD + 2 * ASK;
                    if asks { self.ask(&mut path) } else { Ok(()) }
                }
            };
            if done.is_err() {
                return;
            }
            if !self.records(attached, &mut path) {
                return session.session.ended.cancel();
            }
            if let Some(bytes) = self.flush().await {
                path.is_too_long(Instant::now(), bytes);
            }
            session.stack.resume();
        }
    }

    fn send(
        &mut self,
        packets: &mut Vec<Vec<u8>>,
        path: &mut Path,
        session: &PacketSession,
    ) -> Result<(), Broken> {
        let mut largest = 0;
        for packet in packets.drain(..) {
            if path.fits(&packet) {
                largest = packet.len().max(largest);
                self.frame(Kind::Data, &packet)?;
                continue;
            }
            let pieces = path.cut(&packet);
            if pieces.is_empty() {
                session.dropped(Dropped::TooBig);
            }
            pieces.iter().try_for_each(|piece| self.frame(Kind::Data, piece))?;
        }
        path.passed(Instant::now(), largest);
        Ok(())
    }

    /// Asks the client whether it lives.
    fn ask(&mut self, path: &mut Path) -> Result<(), Broken> {
        path.asks_otherwise(Instant::now());
        self.frame(Kind::DpdRequest, &[])
    }

    /// Looks at the time; asks the client whether as much as a packet of some size reaches it.
    fn tick(&mut self, path: &mut Path, attached: &Attached) -> Result<(), Broken> {
        let now = Instant::now();
        self.engine.tick(now, &mut self.out)?;
        let question = path.tick(now, attached);
        question.map_or(Ok(()), |size| self.frame(Kind::DpdRequest, &vec![0; size.into()]))
    }

    fn frame(&mut self, kind: Kind, payload: &[u8]) -> Result<(), Broken> {
        let mut record = Vec::with_capacity(payload.len() + 1);
        put_dtls(kind, payload, &mut record);
        self.engine.send(&record, &mut self.out)
    }

    /// Takes what the peer has said; false where it said goodbye.
    fn records(&mut self, attached: &Attached, path: &mut Path) -> bool {
        if self.out.records.is_empty() {
            return true;
        }
        let now = Instant::now();
        self.heard = now;
        path.heard();
        attached.session.link.alive();
        for record in std::mem::take(&mut self.out.records) {
            let Ok(frame) = read_dtls(record.into()) else { continue };
            match frame.kind {
                Kind::Data => {
                    path.passed(now, frame.payload.len());
                    attached.session.packet(attached.channel, &frame.payload);
                }
                Kind::DpdRequest => {
                    // With the same bytes: the client measures its path by them.
                    if self.frame(Kind::DpdResponse, &frame.payload).is_err() {
                        return true;
                    }
                }
                Kind::DpdResponse => path.answered(now, frame.payload.len(), attached),
                Kind::Disconnect | Kind::Terminate => return false,
                Kind::KeepAlive | Kind::Compressed => {}
            }
        }
        true
    }
}

fn spend(credit: &mut usize, cost: usize) -> bool {
    credit.checked_sub(cost).map(|left| *credit = left).is_some()
}

async fn at(wake: Option<Instant>) {
    match wake {
        Some(at) => sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
