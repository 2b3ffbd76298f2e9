//! One flow: what is known of an inner stream, and the record of one without exchanges.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use gateway_proto::client_hello::ClientHello;
use gateway_proto::ja4::{Transport, ja4};
use gateway_proto::target::Host;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::connections::Bound;
use super::intercept;
use super::pop::Worker;
use super::reach::{Opened, Target};
use super::relay::{SpliceSide, Spliced};
use super::tenancy::Tenancy;
use crate::event::{self, HostSource, Record, RecordType, Text};
use crate::exchange::Scheme;
use crate::ident::{Blame, FlowId};
use crate::snapshot::{Places, Tenant};
use crate::tls::{ClientTls, OriginFacts, quic};
use crate::tunnel::Session;
use crate::verdict::pinned::Reason;
use crate::verdict::{ConnectSubject, by_name};

/// One inner stream and what is known of it.
pub(super) struct Flow {
    pub(super) worker: Arc<Worker>,
    pub(super) session: Arc<Session>,
    pub(super) tenancy: Arc<Tenancy>,
    pub(super) id: FlowId,
    /// Where the client asked to go.
    pub(super) asked: Host,
    pub(super) port: u16,
    pub(super) sni: Option<Arc<str>>,
    pub(super) ja4: Option<Arc<str>>,
    /// The first protocol offered by a client that offers no HTTP at all.
    pub(super) foreign_alpn: Option<Text>,
    /// The name policy goes by: the SNI where there is one, else what CONNECT named.
    pub(super) host: Arc<str>,
    pub(super) host_source: HostSource,
    /// Dial the address that CONNECT named, not one of the name's.
    pub(super) pinned_address: Option<IpAddr>,
    /// Where addresses are, as known when the flow began.
    pub(super) places: Arc<Places>,
    pub(super) seen: Mutex<Seen>,
    /// A connection opened ahead of the first exchange.
    pub(super) first: Mutex<Option<Opened>>,
    /// Connections that carry this client's login.
    pub(super) bound: Bound,
    /// Whether the origin takes WebSockets on what the client speaks; `None` until it is known.
    pub(super) websocket: Arc<watch::Sender<Option<bool>>>,
}

/// What is learned of the two TLS sides while the flow lives.
#[derive(Clone, Default)]
pub(super) struct Seen {
    pub(super) decrypted: Option<bool>,
    pub(super) decrypt_reason: Option<Text>,
    /// Why it passes undecrypted although the rules would decrypt it.
    pub(super) aside: Option<Reason>,
    pub(super) client: Option<ClientTls>,
    pub(super) origin: Option<OriginFacts>,
    pub(super) fault: Option<&'static str>,
    pub(super) address: Option<IpAddr>,
    /// Where the gateway dialled it from.
    pub(super) egress: Option<IpAddr>,
    /// The name whose address rules were asked of, and that address.
    pub(super) judged: Option<(Arc<str>, IpAddr)>,
    pub(super) dialled: Dialled,
    /// Something was asked for, so that there is a record of a transaction.
    pub(super) exchanged: bool,
    /// The client is to speak HTTP/1.1: the origin binds logins to connections.
    pub(super) offer_http1_only: bool,
}

/// Time for DNS, connecting and TLS.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Dialled {
    pub(super) dns: Option<Duration>,
    pub(super) connect: Option<Duration>,
    pub(super) tls: Option<Duration>,
}

impl Dialled {
    /// What came since it was `before`: names are added up, the others replaced.
    pub(super) fn since(self, before: Self) -> Duration {
        let dns = self.dns.unwrap_or_default().saturating_sub(before.dns.unwrap_or_default());
        let anew = |now: Option<Duration>, then| now.filter(|_| now != then).unwrap_or_default();
        dns + anew(self.connect, before.connect) + anew(self.tls, before.tls)
    }
}

impl Flow {
    pub(super) fn new(
        worker: Arc<Worker>,
        session: Arc<Session>,
        asked: Host,
        port: u16,
    ) -> Option<Self> {
        let tenant = worker.pop.snapshot.tenant(session.tenant.as_str())?;
        let tenancy = worker.pop.tenancy(&tenant);
        let places = Arc::clone(&worker.pop.snapshot.gateway().places);
        Some(Self {
            host: asked.to_string().into(),
            host_source: HostSource::Connect,
            worker,
            session,
            tenancy,
            id: FlowId::fresh(),
            asked,
            port,
            sni: None,
            ja4: None,
            foreign_alpn: None,
            pinned_address: None,
            places,
            seen: Mutex::default(),
            first: Mutex::default(),
            bound: Bound::default(),
            websocket: Arc::new(watch::Sender::new(None)),
        })
    }

    /// Gives a flow to `address` the name that its client asked for it by.
    pub(super) fn named(mut self, name: Arc<str>, address: IpAddr) -> Self {
        self.host = name;
        self.host_source = HostSource::Dns;
        self.pinned_address = Some(address);
        self
    }

    /// A flow for plain requests that each name their own destination.
    pub(super) fn proxy(worker: Arc<Worker>, session: Arc<Session>) -> Option<Self> {
        let nowhere = Host::parse(b"unspecified.invalid").ok()?;
        Self::new(worker, session, nowhere, 80)
    }

    /// A flow of datagrams.
    pub(super) fn datagrams(
        worker: Arc<Worker>,
        session: Arc<Session>,
        asked: Host,
        port: u16,
    ) -> Option<Self> {
        Self::new(worker, session, asked, port)
    }

    /// The tenant as it is now; an exchange keeps what it began with.
    pub(super) fn tenant(&self) -> Option<Arc<Tenant>> {
        self.worker.pop.snapshot.tenant(self.session.tenant.as_str())
    }

    /// The address of `host` that rules were asked of.
    pub(super) fn judged(&self, host: &str) -> Option<IpAddr> {
        let seen = self.seen.lock();
        seen.judged.as_ref().filter(|(judged, _)| **judged == *host).map(|(_, address)| *address)
    }

    /// The next request goes elsewhere.
    pub(super) fn forget_destination(&self) {
        let mut seen = self.seen.lock();
        (seen.address, seen.egress, seen.judged) = (None, None, None);
    }

    pub(super) fn target(&self, scheme: Scheme) -> Target {
        Target {
            scheme,
            host: Arc::clone(&self.host),
            port: self.port,
            pinned_address: self.pinned_address,
        }
    }

    /// What policy looks at before anything of the flow is read.
    pub(super) fn subject<'a>(
        &'a self,
        tenant: &'a Tenant,
        address: Option<IpAddr>,
    ) -> ConnectSubject<'a> {
        ConnectSubject {
            who: &self.session.who,
            access: self.session.access,
            source: self.session.source(),
            host: &self.host,
            address,
            port: self.port,
            places: tenant.goes_by_country.then_some(&*self.places),
            now: now(),
            labels: &tenant.labels,
            site: self.worker.pop.catalog.settled_site(&self.host),
        }
    }

    /// The same of a flow that is not read further: its name is all there will be of the app.
    pub(super) fn unread<'a>(
        &'a self,
        tenant: &'a Tenant,
        address: Option<IpAddr>,
    ) -> ConnectSubject<'a> {
        let site = Some(self.worker.pop.catalog.site(&self.host));
        ConnectSubject { site, ..self.subject(tenant, address) }
    }

    /// The "where" of this flow's records.
    pub(super) fn destination(&self) -> event::Destination {
        let seen = self.seen.lock();
        let judged = seen.judged.as_ref().map(|(_, address)| *address);
        event::Destination {
            flow_id: Some(self.id),
            host: Some(Arc::clone(&self.host).into()),
            ip: seen.address.or(judged),
            port: Some(self.port),
            sni: self.sni.clone().map(Into::into),
            host_source: Some(self.host_source),
            country: None,
            egress_ip: seen.egress,
        }
    }

    /// The "tls" of this flow's records.
    pub(super) fn tls(&self) -> event::Tls {
        let seen = self.seen.lock();
        let text = |it: &str| Text::copied(it);
        let agreed = seen.client.as_ref().and_then(|it| it.alpn.as_deref()).map(Text::lossy);
        event::Tls {
            decrypted: seen.decrypted,
            decrypt_reason: seen.decrypt_reason.clone(),
            client_version: seen.client.as_ref().map(|it| it.version.into()),
            client_alpn: agreed.or_else(|| self.foreign_alpn.clone()),
            client_ja4: self.ja4.clone().map(Into::into),
            origin_version: seen.origin.as_ref().map(|it| it.version.into()),
            origin_kx: seen.origin.as_ref().and_then(|it| it.kx).map(Into::into),
            origin_alpn: seen.origin.as_ref().and_then(|it| it.alpn.as_deref()).map(Text::lossy),
            origin_issuer: seen.origin.as_ref().map(|it| text(&it.certificate.issuer)),
            origin_cert_fault: seen.fault.map(Into::into),
        }
    }

    /// Time for DNS, connecting and TLS since this was last asked.
    pub(super) fn dialled(&self) -> Dialled {
        std::mem::take(&mut self.seen.lock().dialled)
    }

    /// Writes the `flow` record: for streams that were not decrypted, not HTTP, or refused.
    pub(super) fn record(&self, tenant: &Tenant, began: Instant, end: &FlowEnd) {
        let mut record = Record::now(RecordType::Flow);
        record.client = Some(self.session.client());
        record.policy_version = Some(Arc::clone(&tenant.policy_version).into());
        record.destination = self.destination();
        record.tls = self.tls();
        record.tls.decrypted.get_or_insert(false);
        let site = self.worker.pop.catalog.site(&self.host);
        record.app = by_name(&tenant.labels, &self.host, &site);
        record.verdict.action = Some(end.action.into());
        record.verdict.rule = end.rule.clone();
        record.verdict.block_reason = end.block_reason.map(Into::into);
        record.http.request_bytes = Some(end.bytes.0);
        record.http.response_bytes = Some(end.bytes.1);
        record.end.error = end.error;
        record.end.error_side = end.blame;
        record.cost.total = Some(began.elapsed());
        let dialled = self.seen.lock().dialled;
        record.cost.dns = dialled.dns;
        record.cost.connect = dialled.connect;
        record.cost.tls = dialled.tls;
        self.session.add_bytes(end.bytes.0, end.bytes.1);
        self.worker.events.append(self.session.tenant.as_str(), &record);
        if end.action == "block" && end.rule.is_some() {
            self.worker.events.append(self.session.tenant.as_str(), &record.alert());
        }
        self.worker.pop.metrics.flow_ended(self.session.tenant.as_str(), &record);
    }
}

/// How a flow without exchanges ended.
pub(super) struct FlowEnd {
    pub(super) action: &'static str,
    pub(super) rule: Option<Text>,
    pub(super) block_reason: Option<&'static str>,
    pub(super) bytes: (u64, u64),
    pub(super) error: Option<&'static str>,
    pub(super) blame: Option<Blame>,
}

impl FlowEnd {
    pub(super) fn refused(reason: &'static str, blame: Blame) -> Self {
        Self {
            action: "block",
            rule: None,
            block_reason: Some(reason),
            bytes: (0, 0),
            error: Some(reason),
            blame: Some(blame),
        }
    }

    /// Ended by the gateway, without a verdict against it.
    pub(super) fn ended(label: &'static str) -> Self {
        Self { action: "allow", block_reason: None, ..Self::refused(label, Blame::Gateway) }
    }

    pub(super) fn moved(from_client: u64, to_client: u64) -> Self {
        Self {
            action: "allow",
            rule: None,
            block_reason: None,
            bytes: (from_client, to_client),
            error: None,
            blame: None,
        }
    }

    pub(super) fn relayed(spliced: &Spliced) -> Self {
        let (error, blame) = match spliced.error {
            None => (None, None),
            Some((SpliceSide::Client, _)) => (Some("client_reset"), Some(Blame::Client)),
            Some((SpliceSide::Origin, _)) => (Some("origin_reset"), Some(Blame::Origin)),
            Some((SpliceSide::Idle, _)) => (Some("idle"), Some(Blame::Gateway)),
            Some((SpliceSide::Withdrawn, _)) => (Some("withdrawn"), Some(Blame::Gateway)),
        };
        Self {
            action: "allow",
            rule: None,
            block_reason: None,
            bytes: (spliced.from_client, spliced.to_client),
            error,
            blame,
        }
    }
}

impl Flow {
    /// Takes over what a ClientHello says.
    pub(super) fn learn(&mut self, hello: &ClientHello, transport: Transport) {
        self.ja4 = Some(ja4(hello, transport).into());
        let spoken: &[&[u8]] = match transport {
            Transport::Quic => &[quic::ALPN],
            Transport::Tcp | Transport::Dtls => &intercept::ALPN,
        };
        if !spoken.iter().any(|protocol| hello.offers(protocol)) {
            self.foreign_alpn = hello.alpn.first().map(|protocol| Text::lossy(protocol));
        }
        let Some(sni) = hello.server_name() else { return };
        let sni: Arc<str> = sni.into();
        if *sni != *self.host {
            self.host_source = HostSource::Sni;
            if let Host::Ip(address) = self.asked {
                self.pinned_address = Some(address);
            }
            self.host = Arc::clone(&sni);
        }
        self.sni = Some(sni);
    }
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
