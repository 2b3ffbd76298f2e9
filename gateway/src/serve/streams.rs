//! One inner HTTP/2 connection: stream after stream, until the client ends it, it has idled too
//! long, or the gateway drains.

use std::time::Duration;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::exchange::http2;

/// A client that has begun its preface has all of it on its way.
const PREFACE_TIME_MAX: Duration = Duration::from_secs(10);
/// The connection is looked at this often; found idle twice in a row it is over, so that none
/// idles for more than five minutes. Browsers open a new one at once.
const IDLE_LOOK_INTERVAL: Duration = Duration::from_secs(150);
/// After a GOAWAY and the last exchange a client has this long to close. One that reads slowly
/// still has some 64 KiB of its last responses to come.
const FAREWELL: Duration = Duration::from_secs(30);

/// Serves a connection. `websocket` says whether extended CONNECT may be promised, once that is
/// known; `each` starts what serves one stream, tracked by the tracker it is given.
pub(super) async fn serve<Io>(
    io: Io,
    mut websocket: watch::Receiver<Option<bool>>,
    draining: &CancellationToken,
    mut each: impl FnMut(http::Request<RecvStream>, SendResponse<Bytes>, &TaskTracker),
) where
    Io: AsyncRead + AsyncWrite + Unpin,
{
    let mut promised = *websocket.borrow_and_update() == Some(true);
    let handshake = timeout(PREFACE_TIME_MAX, http2::builder(promised).handshake(io));
    let Ok(Ok(mut connection)) = handshake.await else { return };
    let running = TaskTracker::new();
    let (mut leaving, mut found_idle) = (false, false);
    loop {
        let wanted = *websocket.borrow() == Some(true);
        let accepted = tokio::select! {
            accepted = accept(&mut connection, wanted, &mut promised) => accepted,
            Ok(()) = websocket.changed(), if !promised => continue,
            () = sleep(IDLE_LOOK_INTERVAL), if !leaving => {
                leaving = found_idle && running.is_empty();
                found_idle = running.is_empty();
                if leaving {
                    connection.graceful_shutdown();
                    running.close();
                }
                continue;
            }
            () = draining.cancelled(), if !leaving => {
                leaving = true;
                connection.graceful_shutdown();
                running.close();
                continue;
            }
            // A client that does not answer the GOAWAY is left once its exchanges are done.
            () = farewell(&running), if leaving => return,
        };
        let Some(Ok((request, respond))) = accepted else { return };
        found_idle = false;
        each(request, respond, &running);
    }
}

/// The next stream. Promises WebSockets meanwhile, once that is wanted (RFC 8441 section 3 lets it
/// come late): our first SETTINGS must have been acknowledged before further ones go out.
async fn accept<Io: AsyncRead + AsyncWrite + Unpin>(
    connection: &mut h2::server::Connection<Io, Bytes>,
    wanted: bool,
    promised: &mut bool,
) -> Option<Result<(http::Request<RecvStream>, SendResponse<Bytes>), h2::Error>> {
    std::future::poll_fn(|context| {
        let accepted = connection.poll_accept(context);
        if accepted.is_ready() || *promised || !wanted {
            return accepted;
        }
        *promised = connection.enable_connect_protocol().is_ok();
        connection.poll_accept(context)
    })
    .await
}

async fn farewell(running: &TaskTracker) {
    running.wait().await;
    sleep(FAREWELL).await;
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use h2::client::SendRequest;
    use tokio::io::{AsyncWriteExt, duplex};
    use tokio::task::JoinHandle;
    use tokio::time::Instant;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// A connection whose every stream is answered after `work`; the task ends with it.
    async fn connected(work: Duration) -> (SendRequest<Bytes>, JoinHandle<Instant>) {
        let (near, far) = duplex(64 * 1024);
        let serving = tokio::spawn(async move {
            let (_, unknown) = watch::channel(None);
            serve(far, unknown, &CancellationToken::new(), |_, mut respond, running| {
                tokio::spawn(running.track_future(async move {
                    sleep(work).await;
                    respond.send_response(http::Response::new(()), true).unwrap();
                }));
            })
            .await;
            Instant::now()
        });
        let (requests, connection) = h2::client::handshake(near).await.unwrap();
        tokio::spawn(async move {
            connection.await.ok();
        });
        (requests, serving)
    }

    async fn ask(requests: &SendRequest<Bytes>) -> http::StatusCode {
        let request = http::Request::get("https://site.test/").body(()).unwrap();
        let mut requests = requests.clone().ready().await.unwrap();
        requests.send_request(request, true).unwrap().0.await.unwrap().status()
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_ends_within_five_minutes_and_a_busy_one_does_not() {
        let (requests, serving) = connected(1_000 * SECOND).await;
        let began = Instant::now();
        assert_eq!(ask(&requests).await, 200, "an exchange longer than that is finished");
        assert!(began.elapsed() >= 1_000 * SECOND);
        let idle_since = Instant::now();
        let lived = serving.await.unwrap() - idle_since;
        assert!(lived >= IDLE_LOOK_INTERVAL && lived <= 2 * IDLE_LOOK_INTERVAL + SECOND);
        drop(requests);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_in_use_now_and_then_goes_on() {
        let (requests, serving) = connected(SECOND).await;
        for _ in 0..10 {
            sleep(140 * SECOND).await;
            assert_eq!(ask(&requests).await, 200);
        }
        assert!(!serving.is_finished());
    }

    #[tokio::test(start_paused = true)]
    async fn a_preface_that_never_ends_is_not_waited_for() {
        let (mut near, far) = duplex(1024);
        near.write_all(b"PRI * HTTP").await.unwrap();
        let began = Instant::now();
        let (_, unknown) = watch::channel(None);
        serve(far, unknown, &CancellationToken::new(), |_, _, _| {}).await;
        assert!(began.elapsed() <= PREFACE_TIME_MAX + SECOND);
    }
}
