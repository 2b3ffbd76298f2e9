//! What one side does to its connection or stream, the other side learns: hang-ups, resets,
//! refusals, early answers, logins.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::{Request as HttpRequest, Response};
use tests::client::message::Body;
use tests::origin::manual::Manual;
use tests::{BoxStream, ClientError, Gateway, Http, Inner, Origin, Request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::timeout;

const BOTH: [Http; 2] = [Http::One, Http::Two];
/// Nothing here takes long on an idle machine.
const WAIT: Duration = Duration::from_secs(20);

type Asked = HttpRequest<RecvStream>;
type Respond = SendResponse<Bytes>;

fn plain() -> h2::server::Builder {
    h2::server::Builder::new()
}

/// Reads a request's body to its end.
async fn drain(body: &mut RecvStream) -> Result<usize, h2::Error> {
    let mut total = 0;
    while let Some(data) = body.data().await {
        let data = data?;
        total += data.len();
        body.flow_control().release_capacity(data.len())?;
    }
    Ok(total)
}

fn answer(mut respond: Respond, text: &'static str) {
    let mut sender = respond.send_response(Response::new(()), false).unwrap();
    sender.send_data(Bytes::from_static(text.as_bytes()), true).unwrap();
}

/// One HTTP/1.1 head, read off a stream; empty at its end.
async fn head(stream: &mut BoxStream) -> String {
    let mut read = Vec::new();
    while !read.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => read.push(byte),
            Err(_) => return String::new(),
        }
    }
    String::from_utf8_lossy(&read).into_owned()
}

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(WAIT, future).await.unwrap_or_else(|_| panic!("nothing came: {what}"))
}

/// An HTTP/1.1 or HTTP/2 origin that takes requests, may begin an answer, and tells when each is
/// given up.
async fn patient(
    trust: &Origin,
    alpn: &'static str,
    begin: bool,
) -> (String, mpsc::Receiver<&'static str>) {
    let manual = Manual::listen(trust, &[alpn]).await;
    let url = manual.url("site.test", "/");
    let (told, tells) = mpsc::channel(16);
    let other = told.clone();
    manual.serve(
        plain(),
        move |_, _request: Asked, mut respond: Respond| {
            let told = told.clone();
            async move {
                told.send("asked").await.ok();
                if begin {
                    let mut sender = respond.send_response(Response::new(()), false).unwrap();
                    sender.send_data(Bytes::from_static(b"begun"), false).unwrap();
                    std::future::poll_fn(|cx| sender.poll_reset(cx)).await.ok();
                } else {
                    std::future::poll_fn(|cx| respond.poll_reset(cx)).await.ok();
                }
                told.send("given up").await.ok();
            }
        },
        move |_, mut stream| {
            let told = other.clone();
            async move {
                if head(&mut stream).await.is_empty() {
                    return;
                }
                told.send("asked").await.ok();
                if begin {
                    let begun = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nbegun";
                    stream.write_all(begun).await.unwrap();
                    stream.flush().await.unwrap();
                }
                // The end of the connection, in whatever way.
                stream.read_u8().await.ok();
                told.send("given up").await.ok();
            }
        },
    );
    (url, tells)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_gives_up_is_noticed_before_and_amid_the_response() {
    let trust = Origin::start().await;
    let gateway = Gateway::start(&trust);
    for alpn in ["http/1.1", "h2"] {
        for begin in [false, true] {
            let (url, mut tells) = patient(&trust, alpn, begin).await;
            for http in BOTH {
                let what = format!("{http:?} to {alpn}, begun: {begin}");
                let mut inner = gateway.browser().http(http).connect(&url).await.unwrap();
                if begin {
                    let mut incoming = inner.start(Request::get("/")).await.unwrap();
                    assert_eq!(incoming.data().await.unwrap().as_deref(), Some(&b"begun"[..]));
                    assert_eq!(within(&what, tells.recv()).await, Some("asked"), "{what}");
                } else {
                    let asked = tells.recv();
                    let waiting = inner.start(Request::get("/"));
                    tokio::select! {
                        asked = within(&what, asked) => assert_eq!(asked, Some("asked"), "{what}"),
                        early = waiting => panic!("{what}: {:?}", early.map(|it| it.reply)),
                    }
                }
                drop(inner);
                assert_eq!(within(&what, tells.recv()).await, Some("given up"), "{what}");
            }
        }
    }
    let gone = |event: &serde_json::Value| event["error"] == "client_gone";
    let event = gateway.await_event("acme", gone).await;
    assert_eq!(event["error_side"], "client");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origins_reset_reaches_the_client_with_its_reason() {
    let trust = Origin::start().await;
    let gateway = Gateway::start(&trust);
    let manual = Manual::listen(&trust, &["h2"]).await;
    let url = manual.url("site.test", "/");
    manual.serve(
        plain(),
        |_, request: Asked, mut respond: Respond| async move {
            let path = request.uri().path().trim_start_matches('/').to_owned();
            let (place, code) = path.split_once('/').unwrap();
            let reason = Reason::from(code.parse::<u32>().unwrap());
            if place == "before" {
                return respond.send_reset(reason);
            }
            let mut sender = respond.send_response(Response::new(()), false).unwrap();
            sender.send_data(Bytes::from_static(b"begun"), false).unwrap();
            // Not before the client has the head: resets overtake what waits to be sent.
            let mut body = request.into_body();
            drain(&mut body).await.ok();
            sender.send_reset(reason);
        },
        |_, _| async {},
    );
    let reasons =
        [Reason::CANCEL, Reason::ENHANCE_YOUR_CALM, Reason::INTERNAL_ERROR, Reason::REFUSED_STREAM];
    for reason in reasons {
        let code = u32::from(reason);
        let mut inner = gateway.browser().connect(&url).await.unwrap();
        let error = inner.get(&format!("/before/{code}")).await.unwrap_err();
        assert_eq!(reason_of(&error), Some(reason), "{error}");
        let requests = inner.http2().unwrap();
        let asked = HttpRequest::post(format!("{url}amid/{code}")).body(()).unwrap();
        let (response, mut upload) = requests.send_request(asked, false).unwrap();
        let mut body = within("the head", response).await.unwrap().into_body();
        assert_eq!(within("a piece", body.data()).await.unwrap().unwrap(), "begun");
        upload.send_data(Bytes::new(), true).unwrap();
        let error = within("the reset", body.data()).await.unwrap().unwrap_err();
        assert_eq!(error.reason(), Some(reason), "amid");
    }
    // HTTP/1.1 has no resets: a page before the response, a cut amid it.
    let browser = gateway.browser().http(Http::One);
    let reply = browser.get(&format!("{url}before/2")).await.unwrap();
    assert_eq!(reply.status, 502);
}

fn reason_of(error: &ClientError) -> Option<Reason> {
    match error {
        ClientError::Http2(error) => error.reason(),
        _ => None,
    }
}

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

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_that_wants_http1_gets_it_and_is_remembered() {
    let trust = Origin::start().await;
    let gateway = Gateway::start(&trust);
    let manual = Manual::listen(&trust, &["h2", "http/1.1"]).await;
    let url = manual.url("site.test", "/");
    let refused = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&refused);
    manual.serve(
        plain(),
        move |_, _request: Asked, mut respond: Respond| {
            counted.fetch_add(1, Ordering::SeqCst);
            async move { respond.send_reset(Reason::HTTP_1_1_REQUIRED) }
        },
        |_, mut stream| async move {
            while !head(&mut stream).await.is_empty() {
                let reply = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nold";
                stream.write_all(reply).await.unwrap();
                stream.flush().await.unwrap();
            }
        },
    );
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
    let manual = Manual::listen(&trust, &["h2", "http/1.1"]).await;
    let url = manual.url("site.test", "/");
    let refused = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&refused);
    manual.serve(
        plain(),
        move |_, request: Asked, mut respond: Respond| {
            counted.fetch_add(1, Ordering::SeqCst);
            async move {
                // More of the body than anybody keeps to send it again.
                drain(&mut request.into_body()).await.ok();
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
    let mut inner = gateway.browser().connect(&url).await.unwrap();
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

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_goes_on_after_an_early_response_until_the_origin_stops_it() {
    let trust = Origin::start().await;
    let gateway = Gateway::start(&trust);
    for alpn in ["http/1.1", "h2"] {
        let manual = Manual::listen(&trust, &[alpn]).await;
        let url = manual.url("site.test", "/");
        let (told, mut tells) = mpsc::channel::<usize>(4);
        let other = told.clone();
        manual.serve(
            plain(),
            move |_, request: Asked, mut respond: Respond| {
                let told = told.clone();
                async move {
                    let stop = request.uri().path() == "/stop";
                    let mut sender = respond.send_response(Response::new(()), false).unwrap();
                    sender.send_data(Bytes::from_static(b"early"), true).unwrap();
                    if stop {
                        // Dropped, the stream ends with NO_ERROR behind the response.
                        return;
                    }
                    let bytes = drain(&mut request.into_body()).await.unwrap_or(0);
                    told.send(bytes).await.ok();
                }
            },
            move |_, mut stream| {
                let told = other.clone();
                async move {
                    let stop = head(&mut stream).await.contains("/stop");
                    let reply = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nearly";
                    stream.write_all(reply).await.unwrap();
                    stream.flush().await.unwrap();
                    let mut body = vec![0; 12];
                    if !stop && stream.read_exact(&mut body).await.is_ok() {
                        told.send(body.len()).await.ok();
                    }
                }
            },
        );
        // HTTP/2: the response is read whole before the rest of the body is sent.
        let mut inner = gateway.browser().connect(&url).await.unwrap();
        let asked = HttpRequest::post(&url).header("content-length", 12).body(()).unwrap();
        let (response, mut upload) = inner.http2().unwrap().send_request(asked, false).unwrap();
        upload.send_data(Bytes::from_static(b"first "), false).unwrap();
        let mut body = within("the early head", response).await.unwrap().into_body();
        assert_eq!(within("its body", body.data()).await.unwrap().unwrap(), "early");
        upload.send_data(Bytes::from_static(b"second"), true).unwrap();
        assert_eq!(within("the upload", tells.recv()).await, Some(12), "HTTP/2 to {alpn}");
        // HTTP/1.1: likewise.
        let inner = gateway.browser().http(Http::One).connect(&url).await.unwrap();
        let (mut stream, _) = inner.into_stream().unwrap();
        let authority = url.trim_start_matches("https://").trim_end_matches('/');
        let first =
            format!("POST / HTTP/1.1\r\nHost: {authority}\r\nContent-Length: 12\r\n\r\nfirst ");
        stream.write_all(first.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        assert!(within("the early head", head(&mut stream)).await.starts_with("HTTP/1.1 200"));
        stream.write_all(b"second").await.unwrap();
        stream.flush().await.unwrap();
        assert_eq!(within("the upload", tells.recv()).await, Some(12), "HTTP/1.1 to {alpn}");
        // An origin that stops the upload after its whole response is no failure.
        for http in BOTH {
            let stop = url.clone() + "stop";
            let request = Request::new("POST", "/").body(Body::Fill(4_000_000));
            let reply = gateway.browser().http(http).send(&stop, request).await;
            // An HTTP/1.1 client may be cut off while it still writes.
            match reply {
                Ok(reply) => assert_eq!(reply.text(), "early", "{http:?} to {alpn}"),
                Err(error) => assert!(http == Http::One && error.is_cut(), "{http:?}: {error}"),
            }
        }
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
async fn a_client_that_waits_is_told_once_to_go_on() {
    let origin = Origin::build().alpn(&["http/1.1"]).start().await;
    let rule = "  - { name: no keys, match: { file_name: [\"*.pem\"] }, action: block }";
    let gateway = Gateway::build(&origin).policy(rule).start();
    let url = origin.url("site.test", "/");
    let inner = gateway.browser().http(Http::One).connect(&url).await.unwrap();
    let (mut stream, _) = inner.into_stream().unwrap();
    let body = "--b\r\nContent-Disposition: form-data; name=\"f\"; filename=\"a.txt\"\r\n\r\nx\r\n--b--\r\n";
    let asked = format!(
        "POST /upload HTTP/1.1\r\nHost: site.test\r\nExpect: 100-continue\r\nConnection: close\r\n\
         Content-Type: multipart/form-data; boundary=b\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(asked.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    let first = head(&mut stream).await;
    assert!(first.starts_with("HTTP/1.1 100 "), "{first}");
    stream.write_all(body.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    let second = head(&mut stream).await;
    assert!(second.starts_with("HTTP/1.1 200 "), "{second}");
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

#[tokio::test(flavor = "multi_thread")]
async fn a_client_over_plain_tcp_may_end_its_side_and_wait() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let url = origin.plain_url("site.test", "/");
    let inner = gateway.browser().connect(&url).await.unwrap();
    let (mut stream, _) = inner.into_stream().unwrap();
    let asked =
        format!("GET /slow/700 HTTP/1.1\r\nHost: site.test:{}\r\n\r\n", origin.plain_port());
    stream.write_all(asked.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut reply = String::new();
    within("the answer", stream.read_to_string(&mut reply)).await.unwrap();
    assert!(reply.starts_with("HTTP/1.1 200") && reply.ends_with("slow\n"), "{reply}");
}
