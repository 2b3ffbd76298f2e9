//! The gateway's own answers: block, coach, redirect, refusals and failures.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use gateway_proto::fields::Fields;
use policy::fact::Key;
use policy::verdict::{BlockReason, Coached, RuleIndex, SendPermit};
use tokio::io::{AsyncRead, AsyncWrite};

use super::client::Client;
use super::flow::{Flow, FlowEnd};
use super::judge::{Asking, account_of};
use super::reach::Unreachable;
use super::transaction::Transaction;
use crate::event::Text;
use crate::exchange::{Frame, Length, Request, Response, Sink as _};
use crate::ident::Blame;
use crate::snapshot::Tenant;
use crate::tls::FaultAction;
use crate::verdict::coach::{self, CoachMemory, Matter, Offer};
use crate::verdict::notice::{self, Kind, Notice};
use crate::verdict::proxy_status;

/// How long a client that takes nothing is waited for where a call ends in its own name: some round trips
/// of a bad link.
const ENDING_TIME_MAX: Duration = Duration::from_secs(5);

/// An answer that needs no verdict on the exchange itself.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    pub(super) kind: Kind,
    pub(super) status: u16,
    pub(super) label: &'static str,
    pub(super) blame: Blame,
    pub(super) rule: Option<Arc<str>>,
    pub(super) message: Option<Arc<str>>,
    /// Where a rule sends the user instead.
    pub(super) location: Option<Arc<str>>,
    /// The user may go on after a warning.
    pub(super) may_proceed: bool,
}

/// Why traffic is refused while the event log takes no more.
pub(super) const UNRECORDED: &str = "event_log_full";

impl Refusal {
    fn new(kind: Kind, status: u16, label: &'static str, blame: Blame) -> Self {
        Self {
            kind,
            status,
            label,
            blame,
            rule: None,
            message: None,
            location: None,
            may_proceed: false,
        }
    }

    pub(super) fn guard(label: &'static str) -> Self {
        Self::new(Kind::Blocked, 403, label, Blame::Client)
    }

    pub(super) fn method() -> Self {
        Self::new(Kind::Failed, 405, "method_not_allowed", Blame::Client)
    }

    pub(super) fn protocol() -> Self {
        Self::new(Kind::Failed, 501, "protocol_not_supported", Blame::Client)
    }

    /// What cannot be recorded does not happen.
    pub(super) fn unrecorded() -> Self {
        Self::new(Kind::Failed, 503, UNRECORDED, Blame::Gateway)
    }

    pub(super) fn misdirected() -> Self {
        Self::new(Kind::Blocked, 421, "sni_host_mismatch", Blame::Client)
    }

    pub(super) fn failed(label: &'static str) -> Self {
        let status = if label.ends_with("timeout") { 504 } else { 502 };
        Self::new(Kind::Failed, status, label, Blame::Origin)
    }

    pub(super) fn rule(tenant: &Tenant, rule: Option<RuleIndex>) -> Self {
        let rule = rule.and_then(|rule| tenant.policy.rule(rule));
        Self::guard(if rule.is_some() { "rule" } else { "default" }).by(rule)
    }

    pub(super) fn unreachable(error: &Unreachable) -> Self {
        let kind = match error {
            _ if error.fault().is_some() => Kind::Fault,
            _ if error.is_refusal() => Kind::Blocked,
            _ => Kind::Failed,
        };
        Self {
            may_proceed: matches!(error, Unreachable::Fault(_, FaultAction::Warn)),
            ..Self::new(kind, error.status(), error.label(), error.blame())
        }
    }

    /// What a whole flow was refused for, said again for each of its exchanges.
    pub(super) fn of_flow(tenant: &Tenant, end: &FlowEnd) -> Self {
        let name = end.rule.as_ref().map(Text::as_str);
        let rule = name.and_then(|name| tenant.policy.rules().iter().find(|it| it.name == name));
        Self::guard(end.block_reason.unwrap_or("refused")).by(rule)
    }

    /// Says the rule that decided.
    fn by(mut self, rule: Option<&policy::Rule>) -> Self {
        self.rule = rule.map(|rule| rule.name.as_str().into());
        self.message = rule.and_then(|rule| rule.message.as_deref()).map(Into::into);
        let redirects = rule.filter(|rule| rule.action == policy::Action::Redirect);
        self.location = redirects.and_then(|rule| rule.location.as_deref()).map(Into::into);
        self
    }
}

/// A head without a body, for requests that were none.
pub(super) fn bare(status: u16) -> Response {
    let mut fields = Fields::new();
    fields.push("cache-control", "no-store");
    Response { status, reason: Bytes::new(), fields, body: Length::Exact(0) }
}

/// `100 Continue`.
pub(super) fn go_on() -> Response {
    Response {
        status: 100,
        reason: Bytes::from_static(b"Continue"),
        fields: Fields::new(),
        body: Length::None,
    }
}

/// Answers with a refusal and records it.
pub(super) async fn refusal<Io>(
    client: &mut Client<'_, Io>,
    tenant: &Tenant,
    request: &Request,
    transaction: &mut Transaction,
    refusal: &Refusal,
) where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    // Refused before its own verdict, so all that is known of the app is what the name says.
    if transaction.record.app.id.is_none() {
        let flow = transaction.flow_shared();
        let account = account_of(&flow, request);
        let account = account.as_deref();
        transaction.record.app =
            Asking { flow: &flow, tenant, url: "", request, account }.describe();
    }
    if let Some(location) = &refusal.location {
        transaction.record.verdict.action = Some("redirect".into());
        transaction.record.verdict.rule = refusal.rule.clone().map(Into::into);
        return elsewhere(client, request, transaction, location).await;
    }
    match refusal.kind {
        Kind::Failed => transaction.failed(refusal.label, refusal.blame),
        Kind::Blocked | Kind::Fault | Kind::Coached => {
            transaction.block(refusal.label);
            transaction.refused_by(refusal.rule.as_deref());
        }
    }
    let proceed = refusal.may_proceed.then(|| {
        let session = &transaction.flow().session;
        let host = request.host.text();
        let offer = Offer {
            matter: CoachMemory::fault_matter(&session.who, &host),
            rule_name: refusal.label.into(),
            reference: transaction.reference(),
            page: coach::page_of(request),
        };
        proceed_url(transaction.flow(), offer)
    });
    let host = request.host.text();
    let flow = transaction.flow_shared();
    let site = flow.worker.pop.catalog.site(&host);
    let notice = Notice {
        kind: refusal.kind,
        status: refusal.status,
        host: &host,
        app: site.app,
        activity: None,
        rule: refusal.rule.as_deref(),
        message: refusal.message.as_deref(),
        label: Some(refusal.label),
        contact: tenant.config.notice.contact.as_deref(),
        organization: tenant.config.notice.organization.as_deref(),
        reference: transaction.reference(),
        proceed: proceed.as_deref(),
    };
    send(client, request, transaction, &notice).await;
}

/// Answers a blocked exchange.
pub(super) async fn block<Io>(
    client: &mut Client<'_, Io>,
    request: &Request,
    transaction: &mut Transaction,
    reason: BlockReason,
) where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    transaction.block(reason_label(reason));
    let rule = transaction.deciding_rule();
    let said = Said { kind: Kind::Blocked, rule: rule.as_ref(), proceed: None };
    by_rule(client, request, transaction, said).await;
}

/// What made a block, as records say it.
pub(super) fn reason_label(reason: BlockReason) -> &'static str {
    match reason {
        BlockReason::Rule => "rule",
        BlockReason::Default => "default",
        BlockReason::Unobtainable(key) => unobtainable(key),
    }
}

/// Answers a coached exchange, or lets it go where the user has justified it before.
pub(super) async fn coach<Io>(
    flow: &Flow,
    client: &mut Client<'_, Io>,
    request: &Request,
    transaction: &mut Transaction,
    coached: Coached,
) -> Option<SendPermit>
where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    let tenant = transaction.tenant();
    let rule = tenant.policy.rule(coached.rule)?;
    let matter = matter(flow, request, transaction.record.app.id.as_ref(), rule);
    if let Some(justification) = flow.tenancy.coach.remembered(&matter) {
        transaction.record.verdict.justification = Some(justification.into());
        return Some(coached.proceed());
    }
    let proceed = offer(request, transaction, rule);
    // What it shows is the rule of the verdict.
    let said = Said { kind: Kind::Coached, rule: Some(rule), proceed: Some(&proceed) };
    by_rule(client, request, transaction, said).await;
    None
}

/// Where the user can go on with what a rule coaches.
fn offer(request: &Request, transaction: &Transaction, rule: &policy::Rule) -> String {
    let flow = transaction.flow();
    let offer = Offer {
        matter: matter(flow, request, transaction.record.app.id.as_ref(), rule),
        rule_name: rule.name.as_str().into(),
        reference: transaction.reference(),
        page: coach::page_of(request),
    };
    proceed_url(flow, offer)
}

/// What a justification of this exchange is good for.
fn matter(flow: &Flow, request: &Request, app: Option<&Text>, rule: &policy::Rule) -> Matter {
    Matter {
        user: Arc::clone(&flow.session.who.user),
        device: flow.session.who.device.clone(),
        app: app.map_or_else(|| request.host.text(), |app| Arc::from(app.as_str())),
        rule: content_hash(rule),
    }
}

/// Whether the user has justified this exchange before, under this rule.
pub(super) fn justified(
    flow: &Flow,
    request: &Request,
    transaction: &mut Transaction,
    rule: RuleIndex,
) -> bool {
    let tenant = transaction.tenant();
    let Some(rule) = tenant.policy.rule(rule) else { return false };
    let matter = matter(flow, request, transaction.record.app.id.as_ref(), rule);
    let Some(justification) = flow.tenancy.coach.remembered(&matter) else { return false };
    transaction.record.verdict.justification = Some(justification.into());
    true
}

/// Whether the user has justified what this rule coaches, in this app.
pub(super) fn is_remembered(
    flow: &Flow,
    tenant: &Tenant,
    request: &Request,
    app: Option<&Text>,
    rule: RuleIndex,
) -> bool {
    let rule = tenant.policy.rule(rule);
    rule.is_some_and(|rule| {
        flow.tenancy.coach.remembered(&matter(flow, request, app, rule)).is_some()
    })
}

/// Sends the user elsewhere.
pub(super) async fn redirect<Io>(
    client: &mut Client<'_, Io>,
    request: &Request,
    transaction: &mut Transaction,
) where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    let location = transaction.deciding_rule().and_then(|rule| rule.location);
    elsewhere(client, request, transaction, location.as_deref().unwrap_or("about:blank")).await;
}

async fn elsewhere<Io>(
    client: &mut Client<'_, Io>,
    request: &Request,
    transaction: &mut Transaction,
    location: &str,
) where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    let mut response = bare(302);
    response.fields.push("location", location.to_owned());
    write(client, request, transaction, response, Bytes::new()).await;
}

/// Ends a gRPC call at a message that was stopped and is recorded. Where the answer has begun, its
/// trailers say why; what has come of it goes before them, be it half a message.
pub(super) async fn stopped_call<Io>(
    client: &mut Client<'_, Io>,
    request: &Request,
    transaction: &mut Transaction,
    begun: bool,
) where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    let tenant = transaction.flow().tenant().unwrap_or_else(|| transaction.tenant());
    let named = transaction.record.verdict.rule.clone();
    let rule = named
        .as_ref()
        .and_then(|name| tenant.policy.rules().iter().find(|rule| rule.name == name.as_str()));
    let coached =
        transaction.record.verdict.action.as_ref().is_some_and(|it| it.as_str() == "coach");
    let (kind, proceed) = match rule.filter(|_| coached) {
        Some(rule) => (Kind::Coached, Some(offer(request, transaction, rule))),
        None => (Kind::Blocked, None),
    };
    let said = Said { kind, rule, proceed: proceed.as_deref() };
    if !begun {
        return by_rule(client, request, transaction, said).await;
    }
    let trailers = said.notice(&tenant, request, transaction, notice::trailers);
    let ending = async {
        std::future::poll_fn(|context| client.poll_ready(context)).await?;
        client.send(Frame::Trailers(Box::new(trailers)))?;
        client.end()?;
        std::future::poll_fn(|context| client.poll_flush(context)).await
    };
    // One that takes nothing more is not waited for.
    let ended = tokio::time::timeout(ENDING_TIME_MAX, ending).await;
    if !matches!(ended, Ok(Ok(()))) {
        client.abort(Some(h2::Reason::CANCEL));
    }
}

/// A page, or what stands in its place, that a rule shows.
struct Said<'r> {
    kind: Kind,
    rule: Option<&'r policy::Rule>,
    proceed: Option<&'r str>,
}

impl Said<'_> {
    /// What it says of this exchange.
    fn notice<R>(
        &self,
        tenant: &Tenant,
        request: &Request,
        transaction: &Transaction,
        say: impl FnOnce(&Notice<'_>) -> R,
    ) -> R {
        let host = request.host.text();
        let app = &transaction.record.app;
        say(&Notice {
            kind: self.kind,
            status: 403,
            host: &host,
            app: app.id.as_ref().map(Text::as_str),
            activity: app.activity.as_ref().map(Text::as_str),
            rule: self.rule.map(|rule| rule.name.as_str()),
            message: self.rule.and_then(|rule| rule.message.as_deref()),
            label: None,
            contact: tenant.config.notice.contact.as_deref(),
            organization: tenant.config.notice.organization.as_deref(),
            reference: transaction.reference(),
            proceed: self.proceed,
        })
    }
}

async fn by_rule<Io>(
    client: &mut Client<'_, Io>,
    request: &Request,
    transaction: &mut Transaction,
    said: Said<'_>,
) where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    let tenant = transaction.tenant();
    let (response, body) =
        said.notice(&tenant, request, transaction, |notice| notice::answer(request, notice));
    write(client, request, transaction, response, body).await;
}

async fn send<Io>(
    client: &mut Client<'_, Io>,
    request: &Request,
    transaction: &mut Transaction,
    notice: &Notice<'_>,
) where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    let (response, body) = notice::answer(request, notice);
    write(client, request, transaction, response, body).await;
}

/// Writes an answer of our own and records its status and size.
pub(super) async fn write<Io>(
    client: &mut Client<'_, Io>,
    request: &Request,
    transaction: &mut Transaction,
    mut response: Response,
    body: Bytes,
) where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    say_who(transaction, &mut response);
    transaction.record.http.status = Some(response.status);
    transaction.record.http.response_bytes = Some(body.len() as u64);
    if client.answer(request, response, body).await.is_err()
        && transaction.record.end.error.is_none()
    {
        transaction.failed("client_write", Blame::Client);
    }
}

/// `Proxy-Status`: an answer of the gateway must not be taken for the origin's.
fn say_who(transaction: &Transaction, response: &mut Response) {
    let gateway = transaction.flow().worker.pop.snapshot.gateway();
    let pop = &gateway.config.pop;
    let record = &transaction.record;
    let coached = record.verdict.action.as_ref().is_some_and(|action| action.as_str() == "coach");
    let label = match (&record.verdict.block_reason, record.end.error) {
        (Some(reason), _) => Some(reason.as_str()),
        (None, Some(error)) => Some(error),
        (None, None) => coached.then_some("coach"),
    };
    let status =
        label.map_or_else(|| proxy_status::answered(pop), |label| proxy_status::failed(pop, label));
    response.fields.push("proxy-status", status);
}

fn proceed_url(flow: &Flow, offer: Offer) -> String {
    let token = flow.tenancy.coach.offer(offer);
    let notice = flow.worker.pop.snapshot.gateway();
    format!("https://{}/proceed?token={token}", notice.config.notice.as_str())
}

/// What a rule says, without its place in the file.
fn content_hash(rule: &policy::Rule) -> u64 {
    let mut hasher = DefaultHasher::new();
    rule.name.hash(&mut hasher);
    rule.message.hash(&mut hasher);
    for condition in &rule.conditions {
        condition.key.name().hash(&mut hasher);
        condition.negated.hash(&mut hasher);
        for test in &condition.tests {
            test.written.hash(&mut hasher);
        }
    }
    hasher.finish()
}

fn unobtainable(key: Key) -> &'static str {
    match key {
        Key::FileName => "unobtainable:file_name",
        Key::FileSize => "unobtainable:file_size",
        Key::FileType => "unobtainable:file_type",
        Key::ContentType => "unobtainable:content_type",
        Key::Dlp => "unobtainable:dlp",
        Key::Threat => "unobtainable:threat",
        Key::DestCountry => "unobtainable:dest_country",
        Key::SourceCountry => "unobtainable:source_country",
        _ => "unobtainable",
    }
}
