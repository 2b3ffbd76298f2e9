//! Which connection to an origin an exchange gets: after refusals, resets and other settings, and for
//! logins that are bound to one.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use tests::origin::manual::Manual;
use tests::{BoxStream, Gateway, Http, Inner, Origin, Request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use crate::by_hand::{Asked, BOTH, Respond, answer, drain, head, plain, reason_of, within};

#[tokio::test(flavor = "multi_thread")]
async fn what_an_origin_did_not_process_is_sent_again() {
    let trust = Origin::start().await;
    let gateway = Gateway::start(&trust);
    let manual = Manual::listen(&trust, &["h2"]).await;
    let url = manual.url("site.test", "/");
    let attempts = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&attempts);
    manual.serve(
        plain(),
        move |_, request: Asked, mut respond: Respond| {
            let first = counted.fetch_add(1, Ordering::SeqCst).is_multiple_of(2);
            async move {
                let bytes = drain(&mut request.into_body()).await.unwrap_or(0);
                if first {
                    return respond.send_reset(Reason::REFUSED_STREAM);
                }
                answer(respond, if bytes == 9 { "whole" } else { "not whole" });
            }
        },
        |_, _| async {},
    );
    for http in BOTH {
        // A POST too: the origin said that it did nothing with it.
        let request = Request::post("/", "nine byte");
        let reply = gateway.browser().http(http).send(&url, request).await.unwrap();
        assert_eq!((reply.status, reply.text().as_str()), (200, "whole"), "{http:?}");
    }
    assert_eq!(attempts.load(Ordering::SeqCst), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_beyond_a_goaway_move_to_a_new_connection() {
    let trust = Origin::start().await;
    let gateway = Gateway::start(&trust);
    let manual = Manual::listen(&trust, &["h2"]).await;
    let url = manual.url("site.test", "/");
    let serving = tokio::spawn(async move {
        // The first connection takes a request and says that it processed none.
        let mut first = manual.accept().await.stream;
        first.write_all(&frame(SETTINGS, 0, &[])).await.unwrap();
        first.flush().await.unwrap();
        let mut preface = [0; 24];
        first.read_exact(&mut preface).await.unwrap();
        while frame_type(&mut first).await != Some(HEADERS) {}
        let nothing = [0_u32.to_be_bytes(), 0_u32.to_be_bytes()].concat();
        first.write_all(&frame(GOAWAY, 0, &nothing)).await.unwrap();
        first.flush().await.unwrap();
        let second = manual.accept().await.stream;
        let mut requests = plain().handshake::<_, Bytes>(second).await.unwrap();
        while let Some(Ok((_, respond))) = requests.accept().await {
            answer(respond, "moved");
        }
    });
    let request = Request::post("/", "nothing lost");
    let reply = within("the reply", gateway.browser().send(&url, request)).await.unwrap();
    assert_eq!((reply.status, reply.text().as_str()), (200, "moved"));
    serving.abort();
}

const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;

fn frame(kind: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, 0], &stream.to_be_bytes(), payload].concat()
}

/// The type of the next frame, which is read whole.
async fn frame_type(stream: &mut BoxStream) -> Option<u8> {
    let mut head = [0; 9];
    stream.read_exact(&mut head).await.ok()?;
    let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
    let mut payload = vec![0; length];
    stream.read_exact(&mut payload).await.ok()?;
    Some(head[3])
}

/// An origin that offers HTTP/2 and takes HTTP/1.1 only, which it says at once or when it has
/// read the request; with how often it had to.
async fn wants_http1(trust: &Origin, reads_first: bool) -> (String, Arc<AtomicUsize>) {
    let manual = Manual::listen(trust, &["h2", "http/1.1"]).await;
    let url = manual.url("site.test", "/");
    let refused = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&refused);
    manual.serve(
        plain(),
        move |_, request: Asked, mut respond: Respond| {
            counted.fetch_add(1, Ordering::SeqCst);
            async move {
                if reads_first {
                    drain(&mut request.into_body()).await.ok();
                }
                respond.send_reset(Reason::HTTP_1_1_REQUIRED);
            }
        },
        |_, mut stream| async move {
            while !head(&mut stream).await.is_empty() {
                let reply = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nold";
                stream.write_all(reply).await.unwrap();
                stream.flush().await.unwrap();
            }
        },
    );
    (url, refused)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_that_wants_http1_gets_it_and_is_remembered() {
    let trust = Origin::start().await;
    let gateway = Gateway::start(&trust);
    let (url, refused) = wants_http1(&trust, false).await;
    for http in [Http::Two, Http::One, Http::Two] {
        let reply = gateway.browser().http(http).get(&url).await.unwrap();
        assert_eq!((reply.status, reply.text().as_str()), (200, "old"), "{http:?}");
    }
    assert_eq!(refused.load(Ordering::SeqCst), 1, "HTTP/2 was tried once");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_that_wants_http1_after_an_upload_has_gone_is_remembered_too() {
    let trust = Origin::start().await;
    let gateway = Gateway::start(&trust);
    let (url, refused) = wants_http1(&trust, true).await;
    let mut inner = gateway.browser().connect(&url).await.unwrap();
    // More than anybody keeps to send it again.
    let error = inner.send(Request::post("/", vec![b'x'; 300_000])).await.unwrap_err();
    assert_eq!(reason_of(&error), Some(Reason::HTTP_1_1_REQUIRED), "{error}");
    assert_eq!(inner.get("/").await.unwrap().text(), "old");
    assert_eq!(refused.load(Ordering::SeqCst), 1, "HTTP/2 was tried once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spare_connection_that_died_meanwhile_costs_nobody_a_request() {
    let trust = Origin::start().await;
    let gateway = Gateway::start(&trust);
    for alpn in ["http/1.1", "h2"] {
        let manual = Manual::listen(&trust, &[alpn]).await;
        let url = manual.url("site.test", "/");
        let (closed, mut closes) = mpsc::channel(1);
        tokio::spawn(async move {
            // The one that the gateway opens to see whom it is to stand for.
            drop(manual.accept().await);
            closed.send(()).await.ok();
            manual.serve(
                plain(),
                |_, _, respond| async { answer(respond, "here") },
                |_, mut stream| async move {
                    head(&mut stream).await;
                    let reply = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nhere";
                    stream.write_all(reply).await.unwrap();
                    stream.shutdown().await.ok();
                },
            );
        });
        let mut inner = gateway.browser().connect(&url).await.unwrap();
        closes.recv().await.unwrap();
        // Closing takes a moment to be seen; a request that cannot be sent twice waits for it.
        tokio::time::sleep(Duration::from_millis(300)).await;
        let reply = inner.send(Request::post("/", "a form")).await.unwrap();
        assert_eq!((reply.status, reply.text().as_str()), (200, "here"), "{alpn}");
    }
}

/// An HTTP/1.1 origin that logs connections in: after `NTLM three` the connection is its user's.
async fn logs_in(mut stream: BoxStream) {
    let mut user = false;
    loop {
        let asked = head(&mut stream).await;
        if asked.is_empty() {
            return;
        }
        user |= asked.to_ascii_lowercase().contains("authorization: ntlm three");
        let (status, fields) = match user {
            true => ("200 OK", "x-user: alice\r\n"),
            false if asked.to_ascii_lowercase().contains("authorization: ntlm one") => {
                ("401 Unauthorized", "WWW-Authenticate: NTLM two\r\n")
            }
            false => {
                ("401 Unauthorized", "WWW-Authenticate: Negotiate\r\nWWW-Authenticate: NTLM\r\n")
            }
        };
        let reply = format!("HTTP/1.1 {status}\r\n{fields}Content-Length: 0\r\n\r\n");
        if stream.write_all(reply.as_bytes()).await.is_err() || stream.flush().await.is_err() {
            return;
        }
    }
}

async fn ask(inner: &mut Inner, authorization: Option<&str>) -> (u16, Option<String>) {
    let mut request = Request::get("/");
    if let Some(authorization) = authorization {
        request = request.field("Authorization", authorization);
    }
    let reply = inner.send(request).await.unwrap();
    (reply.status, reply.field("x-user").map(str::to_owned))
}

#[tokio::test(flavor = "multi_thread")]
async fn ti_04_a_login_bound_to_a_connection_stays_with_its_client() {
    let trust = Origin::start().await;
    let gateway = Gateway::start(&trust);
    let manual = Manual::listen(&trust, &["http/1.1"]).await;
    let url = manual.url("site.test", "/");
    manual.serve(plain(), |_, _: Asked, _: Respond| async {}, |_, stream| logs_in(stream));
    let browser = gateway.browser().http(Http::One);
    let mut alice = browser.connect(&url).await.unwrap();
    let mut mallory = browser.connect(&url).await.unwrap();
    let nobody = (401, None);
    let logged_in = (200, Some("alice".to_owned()));
    assert_eq!(ask(&mut alice, None).await, nobody);
    assert_eq!(ask(&mut alice, Some("NTLM one")).await, nobody);
    // Between the messages of a login somebody else comes and goes.
    assert_eq!(ask(&mut mallory, None).await, nobody);
    assert_eq!(ask(&mut alice, Some("NTLM three")).await, logged_in);
    for _ in 0..3 {
        assert_eq!(ask(&mut mallory, None).await, nobody, "another's login");
        assert_eq!(ask(&mut alice, None).await, logged_in, "without being asked again");
    }
    drop(alice);
    for _ in 0..3 {
        let mut other = browser.connect(&url).await.unwrap();
        assert_eq!(ask(&mut other, None).await, nobody, "left behind by alice");
    }
    // HTTP/2 cannot carry it: such a client is told, and not offered HTTP/2 again.
    let mut offered = gateway.browser().offers(&["h2", "http/1.1"]).connect(&url).await.unwrap();
    assert_eq!(offered.alpn.as_deref(), Some("http/1.1"));
    assert_eq!(ask(&mut offered, Some("NTLM one")).await, nobody);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_ends_with_the_settings_it_was_made_under() {
    let trust = Origin::start().await;
    let gateway = Gateway::start(&trust);
    let manual = Manual::listen(&trust, &["http/1.1"]).await;
    let url = manual.url("site.test", "/");
    manual.serve(plain(), |_, _: Asked, _: Respond| async {}, |_, stream| logs_in(stream));
    let mut alice = gateway.browser().http(Http::One).connect(&url).await.unwrap();
    assert_eq!(ask(&mut alice, Some("NTLM one")).await, (401, None));
    let logged_in = (200, Some("alice".to_owned()));
    assert_eq!(ask(&mut alice, Some("NTLM three")).await, logged_in);
    gateway.write("tenants/acme/tenant.yaml", "decryption: { expired: warn }\n");
    within("a connection under the new settings", async {
        while ask(&mut alice, None).await == logged_in {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    assert_eq!(ask(&mut alice, None).await, (401, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_http2_cannot_carry_is_sent_to_http1() {
    let trust = Origin::start().await;
    let gateway = Gateway::start(&trust);
    let manual = Manual::listen(&trust, &["http/1.1"]).await;
    let url = manual.url("site.test", "/");
    manual.serve(plain(), |_, _: Asked, _: Respond| async {}, |_, stream| logs_in(stream));
    let mut inner = gateway.browser().connect(&url).await.unwrap();
    let request = Request::get("/").field("authorization", "NTLM one");
    let error = inner.send(request).await.unwrap_err();
    assert_eq!(reason_of(&error), Some(Reason::HTTP_1_1_REQUIRED), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_wrong_for_a_name_is_not_used_again() {
    for alpn in ["http/1.1", "h2"] {
        let origin = Origin::build().alpn(&[alpn]).start().await;
        let gateway = Gateway::start(&origin);
        for http in BOTH {
            let url = origin.url("site.test", "/");
            let mut inner = gateway.browser().http(http).connect(&url).await.unwrap();
            let told = inner.get("/status/421").await.unwrap();
            assert_eq!((told.status, told.field("proxy-status")), (421, None), "the origin's own");
            assert_eq!(inner.get("/hello").await.unwrap().status, 200);
            let (wrong, right) = (origin.last("/status").unwrap(), origin.last("/hello").unwrap());
            assert_ne!(wrong.connection, right.connection, "{http:?} to {alpn}");
        }
    }
}
