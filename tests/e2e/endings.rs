//! What one side ends early, the other side learns: hang-ups, resets, early answers, half-closed sides.

use bytes::Bytes;
use h2::Reason;
use http::{Request as HttpRequest, Response};
use tests::client::message::Body;
use tests::origin::manual::Manual;
use tests::{Gateway, Http, Origin, Request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use crate::by_hand::{Asked, BOTH, Respond, drain, head, plain, reason_of, within};

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
