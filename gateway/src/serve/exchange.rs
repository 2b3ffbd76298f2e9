//! One exchange: facts, verdict, body held where a rule needs it, forwarded or answered, recorded.

use std::sync::Arc;
use std::time::Duration;

use gateway_proto::target::canonical_path;
use h2::RecvStream;
use h2::server::SendResponse;
use policy::fact::Gate;
use policy::verdict::{DialPermit, Outcome, SendPermit};
use tokio::io::{AsyncRead, AsyncWrite};

use super::answer::{self, Refusal};
use super::client::Client;
use super::connections::{self, After, How};
use super::flow::Flow;
use super::forward::{self, Failure, Forwarded};
use super::hold::{self, Hold, Replay};
use super::pulse::Pulse;
use super::reach::{self, Opened};
use super::transaction::Transaction;
use super::upgrade;
use crate::config::FrontingAction;
use crate::event::Text;
use crate::exchange::http1::{Http1, Http1Error};
use crate::exchange::muxed::Muxed;
use crate::exchange::{Request, Response, Scheme, Sink, Version, http2};
use crate::snapshot::Tenant;
use crate::stream::Io;
use crate::verdict::{BodyFacts, Held, Ruled, Ruling, Subject, connect, on_exchange, proxy_status};

/// One on a pooled connection, one on a fresh one, one over HTTP/1.1 where that was asked for.
const ATTEMPTS_MAX: usize = 3;

/// How a connection's exchanges may go on.
pub(super) enum Way {
    /// The connect gate let this flow through to its destination.
    Through(DialPermit),
    /// Nothing is dialled; each exchange gets this answer.
    Refused(Refusal),
    /// Each request names its own destination, and the connect gate is asked for each.
    Asked,
    /// The flow goes to the gateway's own notice pages.
    Notice,
}

/// What follows an exchange on its connection.
pub(super) enum Next {
    Continue,
    Close,
    Upgrade(Box<upgrade::Upgrade>),
}

/// Serves exchanges on an HTTP/1.1 connection until it ends.
pub(super) async fn serve_http1<Io>(
    flow: &Arc<Flow>,
    way: &Way,
    mut client: Http1<Io>,
    idle: Duration,
) where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    let mut pulse = Pulse::default();
    let draining = flow.worker.pop.draining.clone();
    loop {
        let next = tokio::select! {
            biased;
            next = client.next(idle) => next,
            () = draining.cancelled() => Ok(None),
        };
        let request = match next {
            Ok(Some(request)) => request,
            Ok(None) => break,
            Err(error) => return malformed(flow, &mut client, &error).await,
        };
        if draining.is_cancelled() {
            client.close_after();
        }
        // Boxed: an idle connection and a WebSocket live long and must not hold its memory.
        let mut once = Client::Http1(&mut client);
        let next = Box::pin(run(flow, way, &mut once, request, &mut pulse)).await;
        match next {
            Next::Continue if client.is_persistent() => {}
            Next::Continue | Next::Close => break,
            Next::Upgrade(upgrade) => return upgrade.splice_http1(client).await,
        }
    }
    // The client may already be gone; there is nobody to tell.
    drop(client.shutdown().await);
}

/// Serves one HTTP/2 stream of a decrypted connection.
pub(super) async fn serve_http2(
    flow: &Arc<Flow>,
    way: &Way,
    request: http::Request<RecvStream>,
    respond: SendResponse<bytes::Bytes>,
) {
    // What is no request has been answered there.
    let Ok((request, client)) = http2::canonical(request, respond, Scheme::Https, flow.port) else {
        return;
    };
    let mut client = Client::<Io>::Http2(client);
    let next = Box::pin(run(flow, way, &mut client, request, &mut Pulse::default())).await;
    if let (Next::Upgrade(upgrade), Client::Http2(client)) = (next, client) {
        upgrade.splice_http2(client).await;
    }
}

/// Serves one plain request that came on a tunnel's own HTTP/2 connection.
pub(super) async fn serve_muxed(flow: &Arc<Flow>, request: Request, client: Muxed) {
    let mut client = Client::<Io>::Muxed(client);
    run(flow, &Way::Asked, &mut client, request, &mut Pulse::default()).await;
}

/// Answers and records what was no well-formed request.
async fn malformed<Io>(flow: &Arc<Flow>, client: &mut Http1<Io>, error: &Http1Error)
where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    let Some(tenant) = flow.tenant() else { return };
    let mut transaction = Transaction::unreadable(flow, &tenant);
    transaction.failed(error.label(), error.blame());
    let Some(status) = error.status() else { return };
    transaction.block(error.label());
    transaction.record.http.status = Some(status);
    client.close_after();
    let mut response = answer::bare(status);
    let gateway = flow.worker.pop.snapshot.gateway();
    let why = proxy_status::malformed(&gateway.config.pop, error.label());
    response.fields.push("proxy-status", why);
    let sent = client.start(response).is_ok();
    if sent {
        drop(client.shutdown().await);
    }
}

/// Runs one exchange to its end.
async fn run<Io>(
    flow: &Arc<Flow>,
    way: &Way,
    client: &mut Client<'_, Io>,
    mut request: Request,
    pulse: &mut Pulse,
) -> Next
where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    let Some(tenant) = flow.tenant() else { return Next::Close };
    let mut transaction = Transaction::begin(flow, &tenant, &request);
    let url: Arc<str> =
        format!("{}://{}{}", request.scheme.as_str(), request.authority(), request.target()).into();
    transaction.record.http.url = Some(Arc::clone(&url).into());
    if let Way::Notice = way {
        return super::notice::serve(flow, client, &request, &mut transaction).await;
    }
    if let Some(refusal) = misplaced(flow, &tenant, way, &request) {
        return refuse(client, &tenant, &request, &mut transaction, &refusal).await;
    }
    let mut exchange = Exchange { flow, tenant: &tenant, url: &url, replay: Replay::default() };
    let cleared = exchange.clear(way, client, &request, &mut transaction).await;
    let (permit, dial) = match cleared {
        Cleared::Go { send, dial } => (send, dial),
        Cleared::Answered => return next_after_answer(client, &request),
        Cleared::Gone => return Next::Close,
    };
    super::rewrite::request(&tenant, &mut request, &transaction.set_headers);
    super::websocket::complete(&mut request);
    let ((Some(dial), _) | (None, Way::Through(dial))) = (&dial, way) else { return Next::Close };
    exchange.forward(client, &request, &mut transaction, pulse, dial, permit).await
}

/// What makes an exchange not belong on this connection, before policy is asked.
fn misplaced(flow: &Flow, tenant: &Tenant, way: &Way, request: &Request) -> Option<Refusal> {
    if let Way::Refused(refusal) = way {
        return Some(refusal.clone());
    }
    match request.method() {
        // An extended CONNECT for what nobody here speaks (RFC 9220 section 3).
        "CONNECT" if request.upgrade.is_some() => return Some(Refusal::protocol()),
        // TRACE reflects cookies; CONNECT inside a decrypted stream would be an open relay.
        "TRACE" | "CONNECT" => return Some(Refusal::method()),
        _ => {}
    }
    // Each intercepted connection has a certificate for one name (RFC 9110 section 7.4).
    let fronted = matches!(way, Way::Through(_))
        && request.scheme == Scheme::Https
        && *request.host.text() != *flow.host;
    let blocked = tenant.config.decryption.sni_host_mismatch == FrontingAction::Block;
    (fronted && blocked).then(Refusal::misdirected)
}

async fn refuse<Io>(
    client: &mut Client<'_, Io>,
    tenant: &Tenant,
    request: &Request,
    transaction: &mut Transaction,
    refusal: &Refusal,
) -> Next
where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    answer::refusal(client, tenant, request, transaction, refusal).await;
    next_after_answer(client, request)
}

/// After an answer of our own the rest of the body is read and dropped, unless the client still
/// waits to be asked for it: then nobody can tell what comes next on the connection.
fn next_after_answer<Io>(client: &mut Client<'_, Io>, request: &Request) -> Next
where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    match client {
        Client::Http1(_) if request.expects_continue => Next::Close,
        _ => Next::Continue,
    }
}

/// What came of the gates before sending.
enum Cleared {
    Go { send: SendPermit, dial: Option<DialPermit> },
    Answered,
    Gone,
}

/// What the gates of one exchange share.
struct Exchange<'a> {
    flow: &'a Arc<Flow>,
    tenant: &'a Arc<Tenant>,
    url: &'a str,
    replay: Replay,
}

impl Exchange<'_> {
    /// Takes the exchange through the gates that come before it is sent.
    async fn clear<Io>(
        &mut self,
        way: &Way,
        client: &mut Client<'_, Io>,
        request: &Request,
        transaction: &mut Transaction,
    ) -> Cleared
    where
        Io: AsyncRead + AsyncWrite + Unpin,
    {
        let mut dial = None;
        if let Way::Asked = way {
            match self.connect_gate(request).await {
                Ok(permit) => dial = Some(permit),
                Err(refusal) => {
                    answer::refusal(client, self.tenant, request, transaction, &refusal).await;
                    return Cleared::Answered;
                }
            }
        }
        let body = if request.body.is_none() { BodyFacts::None } else { BodyFacts::Unread };
        let began = std::time::Instant::now();
        let mut ruling = self.judge(request, body, Gate::RequestHead);
        let mut spent = began.elapsed();
        if !request.body.is_none() && ruling.needs_body() {
            let held = self.hold(client, request).await;
            let Ok(held) = held else {
                transaction.failed("request_truncated", crate::ident::Blame::Client);
                return Cleared::Gone;
            };
            let began = std::time::Instant::now();
            ruling = match &held {
                Hold::Whole(held) => {
                    transaction.held(held);
                    self.judge(request, BodyFacts::Held(held), Gate::RequestBody)
                }
                Hold::Unobtainable(why) => {
                    transaction.not_held(*why);
                    self.judge(request, BodyFacts::Unobtainable(*why), Gate::RequestBody)
                }
            };
            spent += began.elapsed();
        }
        transaction.record.cost.policy = Some(spent);
        transaction.ruled(&mut ruling);
        match ruling.ruled {
            Ruled::Allow(send) => Cleared::Go { send, dial },
            Ruled::Coach(coached) => {
                match answer::coach(self.flow, client, request, transaction, coached).await {
                    Some(send) => Cleared::Go { send, dial },
                    None => Cleared::Answered,
                }
            }
            Ruled::Block(reason) => {
                answer::block(client, request, transaction, reason).await;
                Cleared::Answered
            }
            Ruled::Redirect => {
                answer::redirect(client, request, transaction).await;
                Cleared::Answered
            }
            Ruled::Pending(_) => {
                transaction.block("undecided");
                answer::block(client, request, transaction, policy::verdict::BlockReason::Default)
                    .await;
                Cleared::Answered
            }
        }
    }

    /// The connect gate of a request that names its own destination.
    async fn connect_gate(&self, request: &Request) -> Result<DialPermit, Refusal> {
        let pop = &self.flow.worker.pop;
        pop.guard
            .load()
            .check_name(&request.host, request.port)
            .map_err(|refused| Refusal::guard(refused.label()))?;
        let host = request.host.text();
        let mut subject = self.flow.subject(request.host.ip());
        subject.host = &host;
        subject.port = request.port;
        let mut verdict = connect(&self.tenant.policy, &subject);
        if verdict.resolve_permit().is_some() {
            let resolved =
                reach::resolve(self.flow, self.tenant, &connections::target_of(request)).await;
            subject.address =
                resolved.map_err(|error| Refusal::unreachable(&error))?.first().copied();
            verdict = connect(&self.tenant.policy, &subject);
        }
        match verdict.outcome {
            Outcome::Allow { permit, .. } => Ok(permit),
            Outcome::Coach(coached) => Ok(coached.dial()),
            Outcome::Block { rule, .. } => Err(Refusal::rule(self.tenant, rule)),
            Outcome::Redirect { rule } => Err(Refusal::rule(self.tenant, Some(rule))),
            Outcome::Pending(_) => Err(Refusal::guard("undecided")),
        }
    }

    fn judge(&self, request: &Request, body: BodyFacts<'_>, gate: Gate) -> Ruling {
        let (path, query) = split(request.target());
        let path = canonical_path(path.as_bytes());
        let host = request.host.text();
        let mut subject = self.flow.subject(self.flow.seen.lock().address);
        subject.host = &host;
        subject.port = request.port;
        // Resolved or not, this exchange has a destination: a policy that goes by address has
        // been asked at the connect gate.
        on_exchange(
            &Subject {
                policy: &self.tenant.policy,
                catalog: &self.flow.worker.pop.catalog,
                config: &self.tenant.config,
                connect: subject,
                request,
                path: path.as_str(),
                query,
                url: self.url,
                body,
            },
            gate,
        )
    }

    async fn hold<Io>(
        &mut self,
        client: &mut Client<'_, Io>,
        request: &Request,
    ) -> std::io::Result<Hold>
    where
        Io: AsyncRead + AsyncWrite + Unpin,
    {
        let limits = &self.tenant.config.limits;
        hold::hold(
            client,
            request,
            &mut self.replay,
            &self.flow.worker.pop.holds,
            limits.hold_bytes.bytes(),
            Duration::from_millis(limits.hold_ms),
        )
        .await
    }

    /// Sends the exchange, once more on a fresh connection where an idle one had died.
    async fn forward<Io>(
        &mut self,
        client: &mut Client<'_, Io>,
        request: &Request,
        transaction: &mut Transaction,
        pulse: &mut Pulse,
        dial: &DialPermit,
        permit: SendPermit,
    ) -> Next
    where
        Io: AsyncRead + AsyncWrite + Unpin,
    {
        if !request.body.is_none() {
            transaction.open();
        }
        let mut how = How::default();
        for attempt in 1.. {
            let leased = connections::lease(self.flow, self.tenant, request, dial, how).await;
            let (mut opened, pooled) = match leased {
                Ok(leased) => leased,
                Err(error) => {
                    transaction.refresh();
                    let refusal = Refusal::unreachable(&error);
                    answer::refusal(client, self.tenant, request, transaction, &refusal).await;
                    return next_after_answer(client, request);
                }
            };
            transaction.refresh();
            transaction.origin_version(opened.lease.version());
            if self.mixes_logins(client, request, &opened) {
                transaction.failed("http1_required", crate::ident::Blame::Client);
                return Next::Close;
            }
            let mut after = After::Pooled;
            let outcome =
                self.attempt(client, request, transaction, pulse, &permit, &mut opened, &mut after);
            match outcome.await {
                Ok(Forwarded::Done) => {
                    connections::give_back(self.flow, opened, after);
                    return Next::Continue;
                }
                Ok(Forwarded::Upgraded(response)) => {
                    return self.upgrade(opened, request, *response, transaction);
                }
                Err(failure)
                    if attempt < ATTEMPTS_MAX
                        && forward::may_retry(request, &failure, pooled, &self.replay) =>
                {
                    if failure.wants_http1() {
                        let key = reach::profile_key(&opened.key);
                        self.flow.tenancy.profiles.note_http1_only(&key);
                        self.flow.tenancy.pool.forget(self.flow.worker.index, &opened.key);
                    }
                    how = How { fresh: true, http1: how.http1 || failure.wants_http1() };
                    self.replay.rewind();
                }
                Err(failure) => {
                    forward::give_up(&mut opened.lease);
                    return self.failed(client, request, transaction, &failure).await;
                }
            }
        }
        Next::Close
    }

    /// Sends the exchange once.
    #[expect(clippy::too_many_arguments, reason = "what one attempt needs, from one caller")]
    async fn attempt<Io>(
        &mut self,
        client: &mut Client<'_, Io>,
        request: &Request,
        transaction: &mut Transaction,
        pulse: &mut Pulse,
        permit: &SendPermit,
        opened: &mut Opened,
        after: &mut After,
    ) -> Result<Forwarded, Failure>
    where
        Io: AsyncRead + AsyncWrite + Unpin,
    {
        let (flow, version) = (self.flow, opened.lease.version());
        if version == Version::Http2 {
            // Only HTTP/2 origins can say that they did nothing with a request.
            self.replay.keep();
            // Nor are they asked whether they want a body: they stop one that they do not.
            if request.expects_continue {
                self.go_on(client).await;
            }
        }
        forward::send(permit, &mut opened.lease, request).await?;
        let key = &opened.key;
        let mut judge = |response: &Response| {
            *after = After::of(flow, (key, version), request, response);
            true
        };
        let (lease, replay) = (&mut opened.lease, &mut self.replay);
        forward::run(client, replay, lease, request, transaction, pulse, &mut judge).await
    }

    /// A login of several messages needs a connection of its own, which a client on HTTP/2 does
    /// not have. It is told to come over HTTP/1.1, as an origin would tell it.
    fn mixes_logins<Io>(
        &self,
        client: &mut Client<'_, Io>,
        request: &Request,
        opened: &Opened,
    ) -> bool
    where
        Io: AsyncRead + AsyncWrite + Unpin,
    {
        let mixes = client.knows_resets()
            && opened.lease.version() != Version::Http2
            && connections::needs_own_connection(request);
        if mixes {
            let key = reach::profile_key(&opened.key);
            self.flow.tenancy.profiles.note_binds_login(&key);
            client.abort(Some(h2::Reason::HTTP_1_1_REQUIRED));
        }
        mixes
    }

    /// Tells a client that waits for it to send its body.
    async fn go_on<Io>(&self, client: &mut Client<'_, Io>)
    where
        Io: AsyncRead + AsyncWrite + Unpin,
    {
        let told = client.interim(answer::go_on());
        // A client that cannot be told is noticed when its body is read.
        if told.is_ok() {
            drop(std::future::poll_fn(|context| client.poll_flush(context)).await);
        }
    }

    fn upgrade(
        &self,
        opened: Opened,
        request: &Request,
        response: Response,
        transaction: &mut Transaction,
    ) -> Next {
        let transaction = transaction.hand_over();
        let (flow, asked) = (Arc::clone(self.flow), request.detached());
        let url = self.url.to_owned();
        let recheck = Box::new(move || {
            let Some(tenant) = flow.tenant() else { return false };
            let again =
                Exchange { flow: &flow, tenant: &tenant, url: &url, replay: Replay::default() };
            let ruling = again.judge(&asked, BodyFacts::None, Gate::RequestHead);
            // A coach page cannot be shown on an open WebSocket; it was justified when it began.
            matches!(ruling.ruled, Ruled::Allow(_) | Ruled::Coach(_))
        });
        match upgrade::Upgrade::new(opened.lease, request, response, transaction, recheck) {
            Some(upgrade) => Next::Upgrade(Box::new(upgrade)),
            None => Next::Close,
        }
    }

    async fn failed<Io>(
        &self,
        client: &mut Client<'_, Io>,
        request: &Request,
        transaction: &mut Transaction,
        failure: &Failure,
    ) -> Next
    where
        Io: AsyncRead + AsyncWrite + Unpin,
    {
        transaction.failed(failure.label, failure.blame);
        let told_by_reset = failure.reset.is_some() && client.knows_resets();
        if failure.unanswered && !told_by_reset {
            let refusal = Refusal::failed(failure.label);
            answer::refusal(client, self.tenant, request, transaction, &refusal).await;
            // It did not say that the connection ends, so the next request may be on its way.
            return next_after_answer(client, request);
        }
        // As the client would have seen it without us; RPC libraries act on the reason.
        client.abort(failure.reset);
        Next::Close
    }
}

/// Path and query of an origin-form target.
fn split(target: &str) -> (&str, &str) {
    target.split_once('?').unwrap_or((target, ""))
}

/// For the record: what a held body showed.
impl Transaction {
    fn held(&mut self, held: &Held) {
        let content = &mut self.record.content;
        content.file_name = held.file_names.first().map(|it| Text::copied(it));
        content.file_type = held.file_type.as_deref().map(Text::copied);
        content.file_size = held.file_size;
    }

    fn not_held(&mut self, why: policy::fact::Unobtainable) {
        self.record.content.inspection = Some(crate::event::Inspection::None);
        self.record.content.inspection_reason = Some(why.label().into());
    }
}
