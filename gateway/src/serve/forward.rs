//! Forwards one permitted exchange: request out, response back, both bodies streaming.

use std::io;
use std::task::Poll;
use std::time::{Duration, Instant};

use h2::Reason;
use policy::verdict::SendPermit;
use tokio::io::{AsyncRead, AsyncWrite};

use super::client::Client;
use super::hold::Replay;
use super::pulse::{BEAT, Pulse};
use super::relay::{Pump, PumpError};
use super::transaction::Transaction;
use super::watch::Watch;
use super::websocket;
use crate::exchange::http2::stream_error;
use crate::exchange::{Request, Response, Sink, Version};
use crate::ident::Blame;
use crate::origin::Lease;

/// An origin may think for this long before its first byte: longer than common servers' own
/// limits, short enough that dead ones are noticed.
const RESPONSE_TIME_MAX: Duration = Duration::from_secs(300);
/// Neither side moved a byte of a body for this long: long polling and SSE send keep-alives far
/// more often.
const STALL_TIME_MAX: Duration = Duration::from_secs(900);
/// Interim responses relayed per exchange; more is a flood (CASES H1-18).
const INTERIM_MAX: usize = 20;
/// After the whole response an origin may go on reading the request this long without taking a
/// byte; most that answer early never take another.
const UPLOAD_LINGER_MAX: Duration = Duration::from_secs(30);

/// How an exchange failed.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) label: &'static str,
    pub(super) blame: Blame,
    /// Nothing of the response has reached the client: it can still be answered.
    pub(super) unanswered: bool,
    /// The request may be sent again on a fresh connection, where that does no harm.
    pub(super) retryable: bool,
    /// The origin says that it did nothing with the request: sending it again never does harm.
    pub(super) unprocessed: bool,
    /// The reason of the origin's RST_STREAM.
    pub(super) reset: Option<Reason>,
}

impl Failure {
    fn origin(label: &'static str) -> Self {
        Self {
            label,
            blame: Blame::Origin,
            unanswered: true,
            retryable: false,
            unprocessed: false,
            reset: None,
        }
    }

    /// From what an origin's connection or stream said.
    fn of(error: &io::Error) -> Self {
        let failure = Self::origin(origin_label(error));
        let Some(said) = stream_error(error).filter(|said| said.is_remote()) else {
            return failure;
        };
        let reset = said.reason().filter(|_| said.is_reset());
        // A stream above GOAWAY's last one, or refused (RFC 9113 section 8.7).
        let unprocessed = said.is_go_away()
            || matches!(reset, Some(Reason::REFUSED_STREAM | Reason::HTTP_1_1_REQUIRED));
        Self { reset, unprocessed, ..failure }
    }

    /// Whether the origin wants to be asked over HTTP/1.1.
    pub(super) fn wants_http1(&self) -> bool {
        self.reset == Some(Reason::HTTP_1_1_REQUIRED)
    }

    /// From a request body that goes no further: the client broke off, or a message was stopped.
    fn of_upload(replay: &Replay, unanswered: bool) -> Self {
        if replay.is_stopped() {
            return Self { blame: Blame::Gateway, unanswered, ..Self::origin("blocked_message") };
        }
        Self::client("request_truncated")
    }

    fn client(label: &'static str) -> Self {
        Self { blame: Blame::Client, unanswered: false, ..Self::origin(label) }
    }

    fn begun(mut self) -> Self {
        self.unanswered = false;
        self.retryable = false;
        self.unprocessed = false;
        self
    }
}

/// How a forwarded exchange ended well.
pub(super) enum Forwarded {
    Done,
    /// The origin switched protocols; the client has not been told yet.
    Upgraded(Box<Response>),
}

/// A response head, judged before it goes on, and the request's body, where that has gone by and is asked
/// for.
pub(super) type Judge<'j> =
    &'j mut (dyn FnMut(&Response, Option<Watch>, &mut Transaction) -> bool + Send);

/// Sends the request. The permit is used up: one exchange, one sending.
pub(super) async fn send(
    _permit: &SendPermit,
    lease: &mut Lease,
    request: &Request,
) -> Result<(), Failure> {
    lease.start(request).await.map_err(|error| Failure { retryable: true, ..Failure::of(&error) })
}

/// Moves both bodies until the exchange has ended.
pub(super) async fn run<Io: AsyncRead + AsyncWrite + Unpin>(
    client: &mut Client<'_, Io>,
    replay: &mut Replay,
    lease: &mut Lease,
    request: &Request,
    transaction: &mut Transaction,
    pulse: &mut Pulse,
    judge: Judge<'_>,
) -> Result<Forwarded, Failure> {
    let mut upload = if request.body.is_none() { Pump::bodiless() } else { Pump::new() };
    let sent_at = Instant::now();
    let mut progress = Progress::default();
    let mut interim = 0;
    let asked_for = replay.was_asked_for();
    let mut continued = !request.expects_continue || asked_for;
    let mut response = loop {
        let response =
            head(client, replay, lease, &mut upload, transaction, pulse, &mut progress).await?;
        if switches(request, lease, &response)? {
            return Ok(Forwarded::Upgraded(Box::new(response)));
        }
        if !(100..200).contains(&response.status) {
            break response;
        }
        interim += 1;
        if interim > INTERIM_MAX {
            return Err(Failure::origin("interim_flood"));
        }
        continued |= response.status == 100;
        // What the client was told already it is not told again.
        if response.status != 100 || !asked_for {
            client.tell(response).await.map_err(|_| Failure::client("client_write"))?;
        }
    };
    replay.settle();
    let waited = sent_at.elapsed();
    transaction.waited += waited;
    transaction.record.cost.first_byte = Some(waited);
    transaction.record.http.status = Some(response.status);
    // The body that mattered is the request's, where it has one: rules looked at its type.
    if request.body.is_none()
        && let Some(content_type) = response.fields.first("content-type")
    {
        transaction.record.http.content_type = Some(crate::event::Text::lossy(content_type));
    }
    let watched = replay.watched(client);
    if !judge(&response, watched, transaction) {
        return Err(Failure { blame: Blame::Gateway, ..Failure::origin("blocked_response") });
    }
    super::rewrite::response(&mut response, || transaction.invites_quic());
    if !continued && upload.bytes() == 0 {
        // The origin answered without asking for the body, so it may never be sent, and nobody
        // can tell what comes next on the connection.
        upload.give_up();
        client.close_after();
    }
    let bodiless = response.body.is_none()
        || request.method() == "HEAD"
        || matches!(response.status, 204 | 304);
    client.start(request, response).map_err(|_| Failure::client("client_write"))?;
    let mut download = Pump::new();
    if bodiless {
        client.end().map_err(|_| Failure::client("client_write"))?;
        download = Pump::bodiless();
    }
    bodies(client, replay, lease, &mut upload, &mut download, transaction, pulse).await?;
    Ok(Forwarded::Done)
}

/// Whether the origin switches protocols with this response.
fn switches(request: &Request, lease: &Lease, response: &Response) -> Result<bool, Failure> {
    let successful = (200..300).contains(&response.status);
    match (&request.upgrade, lease.version()) {
        // A 101 that nobody asked for is a smuggling attempt (CASES H1-16, H1-18).
        (None, _) | (_, Version::Http2) if response.status == 101 => {
            Err(Failure::origin("unexpected_upgrade"))
        }
        (None, _) => Ok(false),
        (Some(_), Version::Http2) => Ok(successful),
        (Some(_), _) if response.status == 101 => {
            let proven = websocket::is_accepted(request, response);
            if proven { Ok(true) } else { Err(Failure::origin("bad_websocket_accept")) }
        }
        // To a client that asked by extended CONNECT, any 2xx says that the stream is open.
        (Some(_), _) if successful && request.version == Version::Http2 => {
            Err(Failure::origin("no_upgrade"))
        }
        (Some(_), _) => Ok(false),
    }
}

/// Uploads while it waits for the next response head.
async fn head<Io: AsyncRead + AsyncWrite + Unpin>(
    client: &mut Client<'_, Io>,
    replay: &mut Replay,
    lease: &mut Lease,
    upload: &mut Pump,
    transaction: &mut Transaction,
    pulse: &mut Pulse,
    progress: &mut Progress,
) -> Result<Response, Failure> {
    std::future::poll_fn(|context| {
        if !upload.is_done() {
            let mut source = replay.before(client);
            match upload.poll(&mut source, lease, context) {
                Poll::Ready(Err(PumpError::Source(_))) => {
                    return Poll::Ready(Err(Failure::of_upload(replay, true)));
                }
                // The origin may have answered and closed: its answer is read below.
                Poll::Ready(Err(PumpError::Sink(error))) if upload.bytes() == 0 => {
                    return Poll::Ready(Err(Failure { retryable: true, ..Failure::of(&error) }));
                }
                Poll::Ready(Err(PumpError::Sink(_))) => upload.give_up(),
                Poll::Ready(Ok(())) | Poll::Pending => {}
            }
        }
        if let Poll::Ready(response) = lease.poll_response(context) {
            let response = response.map_err(|error| Failure {
                retryable: error.kind() == io::ErrorKind::ConnectionReset && upload.bytes() == 0,
                ..Failure::of(&error)
            });
            return Poll::Ready(response);
        }
        if client.poll_gone(context).is_ready() {
            return Poll::Ready(Err(Failure::client("client_gone")));
        }
        while pulse.poll_beat(context).is_ready() {
            // The origin thinks from when it has the whole request, and not before.
            let still = progress.still(upload.bytes(), 0);
            if upload.is_done() && still > RESPONSE_TIME_MAX {
                return Poll::Ready(Err(Failure::origin("origin_timeout")));
            }
            if still > STALL_TIME_MAX {
                return Poll::Ready(Err(Failure::origin("stalled")));
            }
            if transaction.began.elapsed() >= BEAT {
                transaction.progress(upload.bytes(), 0);
            }
        }
        Poll::Pending
    })
    .await
}

/// Moves the response body, and what is left of the request body, until both have ended.
async fn bodies<Io: AsyncRead + AsyncWrite + Unpin>(
    client: &mut Client<'_, Io>,
    replay: &mut Replay,
    lease: &mut Lease,
    upload: &mut Pump,
    download: &mut Pump,
    transaction: &mut Transaction,
    pulse: &mut Pulse,
) -> Result<(), Failure> {
    let waiting = Instant::now();
    transaction.underway = true;
    let mut progress = Progress::default();
    let outcome = std::future::poll_fn(|context| {
        if !upload.is_done() {
            let mut source = replay.before(client);
            match upload.poll(&mut source, lease, context) {
                Poll::Ready(Err(PumpError::Source(_))) if !download.is_done() => {
                    return Poll::Ready(Err(Failure::of_upload(replay, false)));
                }
                // The origin takes no more, or the client gives no more after the whole
                // response: neither ends the exchange badly.
                Poll::Ready(Err(_)) => upload.give_up(),
                Poll::Ready(Ok(())) | Poll::Pending => {}
            }
        }
        if !download.is_done() {
            match download.poll(lease, client, context) {
                Poll::Ready(Err(PumpError::Source(error))) => {
                    return Poll::Ready(Err(Failure::of(&error).begun()));
                }
                Poll::Ready(Err(PumpError::Sink(_))) => {
                    return Poll::Ready(Err(Failure::client("client_write")));
                }
                Poll::Pending if client.poll_gone(context).is_ready() => {
                    return Poll::Ready(Err(Failure::client("client_gone")));
                }
                Poll::Ready(Ok(())) | Poll::Pending => {}
            }
        }
        transaction.record.http.request_bytes = Some(upload.bytes());
        transaction.record.http.response_bytes = Some(download.bytes());
        // As it goes: the session may end amid it.
        replay.tell(transaction);
        // An origin may answer early and still want the whole request (RFC 9113 section 8.1).
        if download.is_done() && upload.is_done() {
            return Poll::Ready(Ok(()));
        }
        while pulse.poll_beat(context).is_ready() {
            let still = progress.still(upload.bytes(), download.bytes());
            if download.is_done() && still > UPLOAD_LINGER_MAX {
                return Poll::Ready(Ok(()));
            }
            if still > STALL_TIME_MAX {
                return Poll::Ready(Err(Failure::origin("stalled").begun()));
            }
            if transaction.began.elapsed() >= BEAT {
                transaction.progress(upload.bytes(), download.bytes());
            }
        }
        Poll::Pending
    })
    .await;
    transaction.underway = false;
    transaction.waited += waiting.elapsed();
    transaction.record.http.request_bytes = Some(upload.bytes());
    transaction.record.http.response_bytes = Some(download.bytes());
    outcome
}

/// How far the bodies of an exchange have come, and since when no further.
struct Progress {
    moved: (u64, u64),
    since: tokio::time::Instant,
}

impl Default for Progress {
    fn default() -> Self {
        Self { moved: (0, 0), since: tokio::time::Instant::now() }
    }
}

impl Progress {
    /// How long nothing has moved, now that so many bytes have.
    fn still(&mut self, up: u64, down: u64) -> Duration {
        if self.moved != (up, down) {
            *self = Self { moved: (up, down), ..Self::default() };
        }
        self.since.elapsed()
    }
}

fn origin_label(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::InvalidData => "malformed_http",
        io::ErrorKind::UnexpectedEof => "response_truncated",
        io::ErrorKind::InvalidInput => "request_unsayable",
        _ => "origin_reset",
    }
}

/// Whether a failed attempt may be tried once more on a fresh connection (RFC 9110 section
/// 9.2.2): the origin says that it did nothing with it and the whole body is still at hand, or
/// the connection was an idle one that had died and sending twice does no harm.
pub(super) fn may_retry(
    request: &Request,
    failure: &Failure,
    pooled: bool,
    replay: &Replay,
) -> bool {
    let stale = pooled && failure.retryable && request.body.is_none() && request.is_idempotent();
    stale || (failure.unanswered && failure.unprocessed && replay.can_repeat())
}

/// Whether this version multiplexes, so that giving up must be said per stream.
pub(super) fn give_up(lease: &mut Lease) {
    if lease.version() == Version::Http2 {
        lease.cancel();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn time_counts_from_the_last_byte_that_moved() {
        let second = Duration::from_secs(1);
        let mut progress = Progress::default();
        for moved in 1..=600 {
            tokio::time::advance(second).await;
            assert_eq!(progress.still(moved, 0), Duration::ZERO, "an upload of ten minutes");
        }
        tokio::time::advance(200 * second).await;
        assert_eq!(progress.still(600, 0), 200 * second, "then the origin thinks");
        assert_eq!(progress.still(600, 1), Duration::ZERO);
    }
}
