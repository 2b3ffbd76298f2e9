//! One exchange: through the gates, forwarded or answered, recorded.

use std::sync::Arc;
use std::time::Duration;

use gateway_proto::h3::RequestHead;
use h2::RecvStream;
use h2::server::SendResponse;
use policy::fact::Gate;
use policy::verdict::{DialPermit, SendPermit};
use tokio::io::{AsyncRead, AsyncWrite};

use super::answer::{self, Refusal};
use super::client::Client;
use super::connections::{self, After, How};
use super::flow::Flow;
use super::forward::{self, Failure, Forwarded};
use super::gates::{Cleared, Exchange};
use super::judge::{Asking, ResponseGate, account_of};
use super::message_gate;
use super::pulse::Pulse;
use super::reach::{self, Opened};
use super::transaction::Transaction;
use super::upgrade;
use super::watch::Watch;
use crate::config::FrontingAction;
use crate::exchange::http1::{Http1, Http1Error};
use crate::exchange::http3::{Http3, Unreadable};
use crate::exchange::muxed::Muxed;
use crate::exchange::{Request, Response, Scheme, Version, http2};
use crate::snapshot::Tenant;
use crate::stream::Io;
use crate::tunnel::quic::{Arriving, Rest};
use crate::verdict::{BodyFacts, Ruled, proxy_status};

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
    mut client: Box<Http1<Io>>,
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
            Err(error) => return Box::pin(malformed(flow, &mut client, &error)).await,
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
            Next::Upgrade(upgrade) => return Box::pin(upgrade.splice_http1(*client)).await,
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

/// Serves one HTTP/3 stream of a decrypted connection.
pub(super) async fn serve_http3(flow: &Arc<Flow>, way: &Way, arriving: Arriving) {
    serve_accepted(flow, way, Http3::accept(arriving, flow.port).await).await;
}

/// Serves one plain request that came on a tunnel's own HTTP/3 connection.
pub(super) async fn serve_behind(flow: &Arc<Flow>, head: RequestHead, rest: Rest) {
    serve_accepted(flow, &Way::Asked, Http3::behind(head, rest).await).await;
}

async fn serve_accepted(
    flow: &Arc<Flow>,
    way: &Way,
    accepted: Result<(Request, Http3), Unreadable>,
) {
    match accepted {
        Ok((mut request, client)) => {
            if matches!(way, Way::Asked) {
                // Meant for the gateway.
                request.fields.remove("proxy-authorization");
            }
            let mut client = Client::<Io>::Http3(Box::new(client));
            Box::pin(run(flow, way, &mut client, request, &mut Pulse::default())).await;
        }
        // It went away, and nothing had been asked for.
        Err(Unreadable::Gone) => {}
        Err(unreadable) => {
            let Some(tenant) = flow.tenant() else { return };
            let mut transaction = Transaction::unreadable(flow, &tenant);
            transaction.record.http.version = Some(Version::Http3.as_str().into());
            transaction.failed(unreadable.label(), crate::ident::Blame::Client);
            transaction.block(unreadable.label());
        }
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
    if let Way::Asked = way {
        transaction.name_destination(&request);
    }
    let url: Arc<str> =
        format!("{}://{}{}", request.scheme.as_str(), request.authority(), request.target()).into();
    transaction.record.http.url = Some(Arc::clone(&url).into());
    if let Way::Notice = way {
        return super::notice::serve(flow, client, &request, &mut transaction).await;
    }
    if flow.worker.events.refuses_traffic() {
        return refuse(client, &tenant, &request, &mut transaction, &Refusal::unrecorded()).await;
    }
    if let Some(refusal) = misplaced(flow, &tenant, way, &request) {
        return refuse(client, &tenant, &request, &mut transaction, &refusal).await;
    }
    let mut exchange = Exchange::new(flow, &tenant, &url, &request);
    let cleared = exchange.clear(way, client, &request, &mut transaction).await;
    let (permit, dial) = match cleared {
        Cleared::Go { send, dial } => (send, dial),
        Cleared::Answered => return next_after_answer(client, &request),
        Cleared::Gone => return Next::Close,
    };
    super::rewrite::request(&tenant, &mut request, &transaction.set_headers);
    super::websocket::complete(&mut request);
    if message_gate::reads(flow, &request) {
        // What is compressed cannot be read; both sides do without where it is not offered.
        request.fields.remove("sec-websocket-extensions");
    }
    let ((Some(dial), _) | (None, Way::Through(dial))) = (&dial, way) else { return Next::Close };
    let next = exchange.forward(client, &request, &mut transaction, pulse, dial, permit).await;
    // The origin answered before it had all.
    if let Some(watch) = exchange.replay.watched(client) {
        exchange.asking(&request).judge_watched(watch, &mut transaction);
    }
    if let Some(peek) = &exchange.replay.peek {
        transaction.peeked(peek);
    }
    next
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

impl Exchange<'_> {
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
                    self.replay.tell(transaction);
                    connections::give_back(self.flow, opened, after);
                    return Next::Continue;
                }
                Ok(Forwarded::Upgraded(response)) => {
                    return self.upgrade(opened, request, *response, transaction);
                }
                Err(failure) => {
                    if failure.wants_http1() {
                        connections::http1_only(self.flow, &opened.key);
                    }
                    let again = attempt < ATTEMPTS_MAX
                        && forward::may_retry(request, &failure, pooled, &self.replay);
                    if !again {
                        forward::give_up(&mut opened.lease);
                        self.replay.tell(transaction);
                        if self.replay.is_stopped() {
                            let begun = !failure.unanswered;
                            answer::stopped_call(client, request, transaction, begun).await;
                            return next_after_answer(client, request);
                        }
                        if let Some(ruled) = self.stopped.take() {
                            // What was stopped was not allowed: there is no permit to use.
                            let _permit = self.obey(client, request, transaction, ruled).await;
                            return next_after_answer(client, request);
                        }
                        return self.failed(client, request, transaction, &failure).await;
                    }
                    how = How { fresh: true, http1: how.http1 || failure.wants_http1() };
                    self.replay.rewind();
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
            // A client that cannot be told is noticed when its body is read.
            drop(self.replay.ask_for(client, request).await);
        }
        forward::send(permit, &mut opened.lease, request).await?;
        let key = &opened.key;
        let account = self.account.as_deref();
        let asking = Asking { flow, tenant: self.tenant, url: self.url, request, account };
        let gate = ResponseGate { asking, settled: self.settled.as_ref() };
        let stopped = &mut self.stopped;
        let mut judge =
            |response: &Response, watched: Option<Watch>, transaction: &mut Transaction| {
                *after = After::of(flow, (key, version), request, response);
                *stopped = gate.judge(response, transaction);
                if let Some(watch) = watched {
                    gate.asking.judge_watched(watch, transaction);
                }
                stopped.is_none()
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
            self.flow.tenancy.profiles.note_binds_login(&key, std::time::Instant::now());
            client.abort(Some(h2::Reason::HTTP_1_1_REQUIRED));
        }
        mixes
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
            let account = account_of(&flow, &asked);
            let account = account.as_deref();
            let asking =
                Asking { flow: &flow, tenant: &tenant, url: &url, request: &asked, account };
            let ruling = asking.judge(BodyFacts::None, Gate::RequestHead, None);
            // A coach page cannot be shown on an open WebSocket; it was justified when it began.
            matches!(ruling.ruled, Ruled::Allow(_) | Ruled::Coach(_))
        });
        let messages = message_gate::reads(self.flow, request)
            .then(|| message_gate::gate(self.flow, self.tenant, request, self.url));
        let upgrade =
            upgrade::Upgrade::new(opened.lease, request, response, transaction, recheck, messages);
        match upgrade {
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
