//! One flow: peek, ask the connect gate, then bypass, refuse, intercept or relay.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use gateway_proto::client_hello::ClientHello;
use gateway_proto::ja4::{Transport, ja4};
use gateway_proto::target::Host;
use parking_lot::Mutex;
use policy::decrypt::DecryptAction;
use policy::verdict::{DialPermit, Outcome};
use tokio::sync::watch;

use super::aside;
use super::connections::Bound;
use super::intercept;
use super::notice;
use super::pop::Worker;
use super::reach::{self, Opened, Target, Unreachable};
use super::relay::{SpliceSide, Spliced, splice};
use super::tenancy::Tenancy;
use crate::config::{AddressAction, BypassAction, FrontingAction};
use crate::event::{self, HostSource, Record, RecordType, Text};
use crate::exchange::Scheme;
use crate::flow::peek::{self, Peeked};
use crate::ident::{Blame, FlowId};
use crate::snapshot::Tenant;
use crate::stream::{Io, Rewind};
use crate::tls::{ClientTls, OriginFacts};
use crate::tunnel::Session;
use crate::verdict::pinned::Reason;
use crate::verdict::{ConnectSubject, connect, decrypt};

/// A relayed flow that moves nothing for this long is over.
const IDLE_TIME_MAX: Duration = Duration::from_secs(900);

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
    foreign_alpn: Option<Text>,
    /// The name policy goes by: the SNI where there is one, else what CONNECT named.
    pub(super) host: Arc<str>,
    pub(super) host_source: HostSource,
    /// Dial the address that CONNECT named, not one of the name's.
    pub(super) pinned_address: Option<IpAddr>,
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
    pub(super) dns: Option<Duration>,
    pub(super) connect: Option<Duration>,
    pub(super) tls: Option<Duration>,
    /// The client is to speak HTTP/1.1: the origin binds logins to connections.
    pub(super) offer_http1_only: bool,
}

impl Flow {
    fn new(worker: Arc<Worker>, session: Arc<Session>, asked: Host, port: u16) -> Option<Self> {
        let tenant = worker.pop.snapshot.tenant(session.tenant.as_str())?;
        let tenancy = worker.pop.tenancy(&tenant);
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
            seen: Mutex::default(),
            first: Mutex::default(),
            bound: Bound::default(),
            websocket: Arc::new(watch::Sender::new(None)),
        })
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

    pub(super) fn target(&self, scheme: Scheme) -> Target {
        Target {
            scheme,
            host: Arc::clone(&self.host),
            port: self.port,
            pinned_address: self.pinned_address,
        }
    }

    pub(super) fn subject<'a>(&'a self, address: Option<IpAddr>) -> ConnectSubject<'a> {
        ConnectSubject {
            who: &self.session.who,
            access: self.session.access,
            source: self.session.peer.ip(),
            host: &self.host,
            address,
            port: self.port,
            source_country: None,
            now: now(),
        }
    }

    /// The "where" of this flow's records.
    pub(super) fn destination(&self) -> event::Destination {
        let seen = self.seen.lock();
        event::Destination {
            flow_id: Some(self.id),
            host: Some(Arc::clone(&self.host).into()),
            ip: seen.address,
            port: Some(self.port),
            sni: self.sni.clone().map(Into::into),
            host_source: Some(self.host_source),
            country: None,
            egress_ip: None,
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
    pub(super) fn dialled(&self) -> (Option<Duration>, Option<Duration>, Option<Duration>) {
        let mut seen = self.seen.lock();
        (seen.dns.take(), seen.connect.take(), seen.tls.take())
    }

    /// Writes the `flow` record: for streams that were not decrypted, not HTTP, or refused.
    pub(super) fn record(&self, tenant: &Tenant, began: Instant, end: &FlowEnd) {
        let mut record = Record::now(RecordType::Flow);
        record.client = Some(Arc::clone(&self.session.client));
        record.policy_version = Some(Arc::clone(&tenant.policy_version).into());
        record.destination = self.destination();
        record.tls = self.tls();
        record.tls.decrypted.get_or_insert(false);
        let site = self.worker.pop.catalog.site(&self.host);
        record.app.id = site.app.map(Text::copied);
        record.app.category = site.categories.first().map(|it| Text::copied(it));
        record.app.risk = site.risk;
        record.verdict.action = Some(end.action.into());
        record.verdict.rule = end.rule.clone();
        record.verdict.block_reason = end.block_reason.map(Into::into);
        record.http.request_bytes = Some(end.bytes.0);
        record.http.response_bytes = Some(end.bytes.1);
        record.end.error = end.error;
        record.end.error_side = end.blame;
        record.cost.total = Some(began.elapsed());
        let seen = self.seen.lock();
        record.cost.dns = seen.dns;
        record.cost.connect = seen.connect;
        record.cost.tls = seen.tls;
        drop(seen);
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

    fn relayed(spliced: &Spliced) -> Self {
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

/// Serves one CONNECT stream to its end.
pub(super) async fn serve(
    worker: Arc<Worker>,
    session: Arc<Session>,
    asked: Host,
    port: u16,
    mut io: Io,
    prefix: Bytes,
) {
    let began = Instant::now();
    let Some(mut flow) = Flow::new(worker, session, asked, port) else { return };
    let Some(tenant) = flow.tenant() else { return };
    let _counted = flow.session.stream();
    if notice::is_notice(&flow) {
        let peeked = peek::peek(&mut io, prefix).await;
        if let Peeked::Tls { raw, hello } = peeked {
            flow.learn(&hello);
            let io = Rewind::new(raw, io);
            Box::pin(intercept::notice(Arc::new(flow), tenant, io, began)).await;
        }
        return;
    }
    if let Err(refused) = flow.worker.pop.guard.load().check_name(&flow.asked, port) {
        // What was asked for is never dialled; a page can still say so, once decrypted.
        let label = refused.label();
        let peeked = peek::peek(&mut io, prefix).await;
        let end = FlowEnd::refused(label, Blame::Client);
        return Box::pin(refuse(flow, &tenant, io, peeked, began, end)).await;
    }
    let peeked = peek::peek(&mut io, prefix).await;
    if let Peeked::Tls { hello, .. } = &peeked {
        flow.learn(hello);
    }
    Box::pin(decide(flow, tenant, io, peeked, began)).await;
}

impl Flow {
    /// Takes over what the ClientHello says.
    fn learn(&mut self, hello: &ClientHello) {
        self.ja4 = Some(ja4(hello, Transport::Tcp).into());
        if !intercept::ALPN.iter().any(|protocol| hello.offers(protocol)) {
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

async fn decide(mut flow: Flow, tenant: Arc<Tenant>, io: Io, peeked: Peeked, began: Instant) {
    if let Some(end) = contradiction(&mut flow, &tenant, &peeked) {
        return refuse(flow, &tenant, io, peeked, began, end).await;
    }
    let permit = match connect_gate(&flow, &tenant, can_show_page(&flow, &tenant, &peeked)).await {
        Ok(permit) => permit,
        Err(end) => return refuse(flow, &tenant, io, peeked, began, end).await,
    };
    match peeked {
        Peeked::Tls { raw, .. } => {
            let site = flow.worker.pop.catalog.site(&flow.host);
            let (action, rule) = decrypt(&tenant.decrypt, &flow.subject(flow.asked.ip()), &site);
            let rule = rule.map(|rule| Text::copied(&rule.name));
            flow.seen.lock().decrypt_reason =
                Some(rule.clone().unwrap_or_else(|| "default".into()));
            match action {
                DecryptAction::Decrypt if flow.foreign_alpn.is_some() => {
                    aside::refuse_foreign(&flow, &tenant, io, began).await;
                }
                DecryptAction::Decrypt => {
                    flow.seen.lock().decrypted = Some(true);
                    intercept::serve(Arc::new(flow), tenant, permit, Rewind::new(raw, io), began)
                        .await;
                }
                DecryptAction::Bypass => bypass(&flow, &tenant, &permit, io, raw, began).await,
                DecryptAction::Block => {
                    let end = FlowEnd { rule, ..FlowEnd::refused("decrypt_rule", Blame::Gateway) };
                    flow.record(&tenant, began, &end);
                }
            }
        }
        Peeked::Http { raw } => intercept::plain(Arc::new(flow), permit, io, raw).await,
        Peeked::Other { raw, protocol } => {
            flow.seen.lock().decrypt_reason = Some(protocol.into());
            let not_tls = flow.port == 443;
            if not_tls && tenant.config.decryption.not_tls_on_443 == BypassAction::Block {
                let end = FlowEnd::refused("not_tls_on_443", Blame::Client);
                return flow.record(&tenant, began, &end);
            }
            bypass(&flow, &tenant, &permit, io, raw, began).await;
        }
        Peeked::Broken { label } => {
            let end = FlowEnd::refused(label, Blame::Client);
            let end = match label {
                "client_reset" | "ended_early" => {
                    FlowEnd { action: "allow", block_reason: None, ..end }
                }
                _ => end,
            };
            flow.record(&tenant, began, &end);
        }
    }
}

/// CONNECT and ClientHello must agree, as far as the tenant's settings demand it.
fn contradiction(flow: &mut Flow, tenant: &Tenant, peeked: &Peeked) -> Option<FlowEnd> {
    let Peeked::Tls { .. } = peeked else { return None };
    let settings = &tenant.config.decryption;
    match (&flow.sni, &flow.asked) {
        (None, Host::Name(_)) => (settings.no_sni == FrontingAction::Block)
            .then(|| FlowEnd::refused("no_sni", Blame::Client)),
        // An address has no name to send (RFC 6066 section 3).
        (None, Host::Ip(_)) => None,
        (Some(sni), Host::Name(_)) => {
            let differs = flow.asked.to_string() != **sni;
            (differs && settings.sni_host_mismatch == FrontingAction::Block)
                .then(|| FlowEnd::refused("sni_host_mismatch", Blame::Client))
        }
        // Whether the name resolves to the address is seen once it is resolved.
        (Some(_), Host::Ip(_)) => None,
    }
}

/// Whether a page can be shown on this flow: it is plain HTTP, or TLS that is decrypted.
fn can_show_page(flow: &Flow, tenant: &Tenant, peeked: &Peeked) -> bool {
    let site = flow.worker.pop.catalog.site(&flow.host);
    match peeked {
        Peeked::Http { .. } => true,
        Peeked::Tls { .. } => {
            decrypt(&tenant.decrypt, &flow.subject(flow.asked.ip()), &site).0
                == DecryptAction::Decrypt
        }
        Peeked::Other { .. } | Peeked::Broken { .. } => false,
    }
}

/// Asks the connect gate; resolves the name first where the policy needs its address.
pub(super) async fn connect_gate(
    flow: &Flow,
    tenant: &Tenant,
    page: bool,
) -> Result<DialPermit, FlowEnd> {
    let mut address = match flow.asked {
        Host::Ip(address) => Some(address),
        Host::Name(_) => None,
    };
    let mut verdict = connect(&tenant.policy, &flow.subject(address));
    if verdict.resolve_permit().is_some() {
        let resolved = reach::resolve(flow, tenant, &flow.target(Scheme::Https)).await;
        address = resolved.map_err(|error| unreachable_end(&error))?.first().copied();
        verdict = connect(&tenant.policy, &flow.subject(address));
    }
    let rule_text = |rule| tenant.policy.rule(rule).map(|it| Text::copied(&it.name));
    match verdict.outcome {
        Outcome::Allow { permit, .. } => Ok(permit),
        // Each exchange is judged again, and answered with the page.
        Outcome::Coach(coached) if page => Ok(coached.dial()),
        // There is nowhere to justify it: refused.
        Outcome::Coach(coached) => Err(FlowEnd {
            rule: rule_text(coached.rule),
            ..FlowEnd::refused("rule", Blame::Gateway)
        }),
        Outcome::Block { rule, .. } => Err(FlowEnd {
            rule: rule.and_then(rule_text),
            error: None,
            blame: None,
            ..FlowEnd::refused(if rule.is_some() { "rule" } else { "default" }, Blame::Gateway)
        }),
        Outcome::Redirect { rule } => {
            Err(FlowEnd { rule: rule_text(rule), ..FlowEnd::refused("rule", Blame::Gateway) })
        }
        Outcome::Pending(_) => Err(FlowEnd::refused("undecided", Blame::Gateway)),
    }
}

/// Refuses a flow: over a page where it can be decrypted, else by ending it.
async fn refuse(
    flow: Flow,
    tenant: &Arc<Tenant>,
    io: Io,
    peeked: Peeked,
    began: Instant,
    end: FlowEnd,
) {
    let site = flow.worker.pop.catalog.site(&flow.host);
    let bypassed = matches!(peeked, Peeked::Tls { .. })
        && decrypt(&tenant.decrypt, &flow.subject(flow.asked.ip()), &site).0
            != DecryptAction::Decrypt;
    match peeked {
        Peeked::Tls { raw, .. } if !bypassed => {
            flow.seen.lock().decrypted = Some(true);
            let io = Rewind::new(raw, io);
            intercept::refuse(Arc::new(flow), Arc::clone(tenant), io, began, end).await;
        }
        Peeked::Http { raw } => {
            intercept::refuse_plain(Arc::new(flow), Arc::clone(tenant), io, raw, end).await;
        }
        _ => flow.record(tenant, began, &end),
    }
}

/// Relays a flow as it is. A name's flow goes only where the gateway's own resolver says that
/// the name lives.
pub(super) async fn bypass(
    flow: &Flow,
    tenant: &Tenant,
    permit: &DialPermit,
    mut io: Io,
    raw: Bytes,
    began: Instant,
) {
    let end = match open_raw(flow, tenant, permit).await {
        Err(error) => unreachable_end(&error),
        Ok(mut origin) => {
            let mut client = Rewind::new(raw, &mut io);
            let withdrawn = withdrawn(flow, || still_bypassed(flow));
            let spliced = splice(&mut client, &mut origin, IDLE_TIME_MAX, withdrawn).await;
            FlowEnd::relayed(&spliced)
        }
    };
    flow.record(tenant, began, &end);
}

/// Ready when the session has ended, or when a new configuration of the tenant no longer lets
/// `allowed` hold (DESIGN part 4: judged again within two seconds of a swap).
pub(super) async fn withdrawn(flow: &Flow, allowed: impl Fn() -> bool) {
    let Some(mut changed) = flow.worker.pop.snapshot.follow(flow.session.tenant.as_str()) else {
        return;
    };
    loop {
        tokio::select! {
            () = flow.session.ended.cancelled() => return,
            swapped = changed.changed() => {
                if swapped.is_err() || !allowed() {
                    return;
                }
            }
        }
    }
}

/// Whether the policy in force now would let this flow pass undecrypted.
fn still_bypassed(flow: &Flow) -> bool {
    let Some(tenant) = flow.tenant() else { return false };
    let subject = flow.subject(flow.seen.lock().address);
    if !matches!(connect(&tenant.policy, &subject).outcome, Outcome::Allow { .. }) {
        return false;
    }
    let site = flow.worker.pop.catalog.site(&flow.host);
    let action = decrypt(&tenant.decrypt, &subject, &site).0;
    let aside = flow.seen.lock().aside;
    match (action, aside) {
        _ if flow.ja4.is_none() => true,
        (DecryptAction::Bypass, _) => true,
        (DecryptAction::Decrypt, Some(reason)) => aside::lets_pass(&tenant, reason),
        (DecryptAction::Decrypt | DecryptAction::Block, _) => false,
    }
}

async fn open_raw(
    flow: &Flow,
    tenant: &Tenant,
    permit: &DialPermit,
) -> Result<tokio::net::TcpStream, Unreachable> {
    let mut target = flow.target(Scheme::Https);
    if let Some(address) = target.pinned_address.take() {
        let known = reach::resolve(flow, tenant, &target).await?;
        if !known.contains(&address) {
            return Err(Unreachable::NameElsewhere);
        }
        target.pinned_address = Some(address);
    }
    reach::dial(flow, tenant, permit, &target).await
}

pub(super) fn unreachable_end(error: &Unreachable) -> FlowEnd {
    FlowEnd {
        action: if error.is_refusal() { "block" } else { "allow" },
        block_reason: error.is_refusal().then(|| error.label()),
        ..FlowEnd::refused(error.label(), error.blame())
    }
}

/// Whether an SNI that names another place than CONNECT's address is taken.
pub(super) fn name_elsewhere_is_blocked(tenant: &Tenant) -> bool {
    tenant.config.decryption.sni_ip_mismatch == AddressAction::Block
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
