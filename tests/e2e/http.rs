//! The web inside is not broken: trailers, early hints, WebSockets, streams of events.

use std::time::{Duration, Instant};

use bytes::BytesMut;
use tests::client::message::Body;
use tests::origin::Answer;
use tests::origin::websocket::{accept, frame, read_frame};
use tests::{Gateway, Http, Origin, Request};
use tokio::io::AsyncWriteExt;

use crate::by_hand::{BOTH, head};

#[tokio::test(flavor = "multi_thread")]
async fn trailers_pass_both_ways() {
    for alpn in ["http/1.1", "h2"] {
        let origin = Origin::build().alpn(&[alpn]).start().await;
        let gateway = Gateway::start(&origin);
        for http in BOTH {
            let browser = gateway.browser().http(http);
            let request = Request::get("/").field("te", "trailers");
            let got = browser.send(&origin.url("site.test", "/trailers"), request).await.unwrap();
            assert_eq!(got.text(), "body\n");
            assert_eq!(got.trailer("grpc-status"), Some("0"), "{http:?} over {alpn}");
            assert_eq!(got.trailer("x-checksum"), Some("abc"), "{http:?} over {alpn}");
            let request = Request::post("/", "data").trailer("x-sum", "123");
            let got = browser.send(&origin.url("site.test", "/echo"), request).await.unwrap();
            assert_eq!(got.json()["trailers"][0][1], "123", "{http:?} over {alpn}: {}", got.text());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn early_hints_and_continue_pass() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    for http in BOTH {
        let browser = gateway.browser().http(http);
        let got = browser.get(&origin.url("site.test", "/hints")).await.unwrap();
        assert_eq!((got.status, got.text().as_str()), (200, "hinted\n"));
        assert!(got.early.iter().any(|(status, _)| *status == 103), "{http:?}: {:?}", got.early);
        let request = Request::post("/", "waited for").field("expect", "100-continue");
        let got = browser.send(&origin.url("site.test", "/echo"), request).await.unwrap();
        assert_eq!(got.json()["body_bytes"], 10);
    }
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
async fn bodies_of_every_framing_arrive_whole() {
    for alpn in ["http/1.1", "h2"] {
        let origin = Origin::build().alpn(&[alpn]).start().await;
        let gateway = Gateway::start(&origin);
        for http in BOTH {
            let mut inner =
                gateway.browser().http(http).connect(&origin.url("site.test", "/")).await.unwrap();
            for path in ["/bytes/0", "/bytes/1", "/bytes/100000", "/chunked/0", "/chunked/100000"] {
                let got = inner.get(path).await.unwrap_or_else(|e| panic!("{path} {http:?}: {e}"));
                let wanted: u64 = path.rsplit('/').next().unwrap().parse().unwrap();
                assert_eq!(got.length, wanted, "{path} {http:?} over {alpn}");
            }
            for body in [Body::Fill(0), Body::Fill(100_000), Body::FillUnsized(100_000)] {
                let (wanted, what) = (body.length(), format!("{body:?} {http:?} over {alpn}"));
                let got = inner.send(Request::new("POST", "/upload").body(body)).await;
                let got = got.unwrap_or_else(|error| panic!("{what}: {error}"));
                assert_eq!(got.json()["bytes"], wanted, "{http:?} over {alpn}");
            }
            let head = inner.send(Request::new("HEAD", "/bytes/5000")).await.unwrap();
            assert_eq!((head.length, head.field("content-length")), (0, Some("5000")));
            assert_eq!(inner.get("/status/204").await.unwrap().status, 204);
            assert_eq!(inner.get("/status/304").await.unwrap().status, 304);
            assert_eq!(inner.get("/hello").await.unwrap().status, 200, "still in step");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_pass_unchanged_in_order_and_hop_by_hop_ones_do_not() {
    let origin = Origin::build().alpn(&["http/1.1"]).start().await;
    let gateway = Gateway::start(&origin);
    let request = Request::get("/")
        .field("X-CamelCase", "kept")
        .field("Cookie", "a=1")
        .field("X-Twice", "one")
        .field("X-Twice", "two")
        .field("Connection", "keep-alive, X-Hop")
        .field("X-Hop", "gone")
        .field("Proxy-Authorization", "Basic Zm9yZ2Vk");
    let browser = gateway.browser().http(Http::One);
    let got = browser.send(&origin.url("site.test", "/echo"), request).await.unwrap();
    assert_eq!(got.status, 200, "{}", got.text());
    let seen = origin.last("/echo").unwrap();
    assert!(seen.fields.iter().any(|(name, value)| name == "X-CamelCase" && value == "kept"));
    let twice: Vec<_> =
        seen.fields.iter().filter(|(n, _)| n == "X-Twice").map(|(_, v)| v).collect();
    assert_eq!(twice, ["one", "two"]);
    assert!(seen.field("x-hop").is_none() && seen.field("proxy-authorization").is_none());
    let cookies = gateway.browser().get(&origin.url("site.test", "/set-cookie")).await.unwrap();
    assert_eq!(cookies.fields.iter().filter(|(name, _)| name == "set-cookie").count(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn server_sent_events_come_without_delay() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    for http in BOTH {
        let url = origin.url("site.test", "/");
        let mut inner = gateway.browser().http(http).connect(&url).await.unwrap();
        // Ten events half a second apart take five seconds; the first must not wait for the last.
        let begun = Instant::now();
        let mut incoming = inner.start(Request::get("/sse/10/500")).await.unwrap();
        let first = incoming.data().await.unwrap().unwrap();
        assert!(first.starts_with(b"data: 0"));
        assert!(begun.elapsed() < Duration::from_secs(3), "{http:?}: {:?}", begun.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_opens_and_echoes() {
    let origin = Origin::build().alpn(&["http/1.1"]).start().await;
    let gateway = Gateway::start(&origin);
    let url = origin.url("site.test", "/ws");
    let mut inner = gateway.browser().http(Http::One).connect(&url).await.unwrap();
    let key = "dGhlIHNhbXBsZSBub25jZQ==";
    let request = Request::get("/ws")
        .field("Connection", "Upgrade")
        .field("Upgrade", "websocket")
        .field("Sec-WebSocket-Version", "13")
        .field("Sec-WebSocket-Key", key);
    let answer = inner.start(request).await.unwrap().finish().await.unwrap();
    assert_eq!(answer.status, 101);
    assert_eq!(answer.field("sec-websocket-accept"), Some(accept(key).as_str()));
    let (mut stream, early) = inner.into_stream().unwrap();
    let mut buffer = BytesMut::from(&early[..]);
    for size in [1, 125, 126, 70_000] {
        let message = vec![b'm'; size];
        stream.write_all(&frame(2, &message, Some([1, 2, 3, 4]))).await.unwrap();
        stream.flush().await.unwrap();
        let (opcode, echoed) = read_frame(&mut stream, &mut buffer).await.unwrap().unwrap();
        assert_eq!((opcode, echoed.len()), (2, size));
    }
    stream.write_all(&frame(8, &1_000_u16.to_be_bytes(), Some([9; 4]))).await.unwrap();
    stream.flush().await.unwrap();
    assert_eq!(read_frame(&mut stream, &mut buffer).await.unwrap().unwrap().0, 8);
    drop(stream);
    let event = gateway.await_transaction("acme", "/ws").await;
    assert_eq!(event["status"], 101);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_response_is_a_cut_response_for_the_client() {
    for alpn in ["http/1.1", "h2"] {
        let origin = Origin::build().alpn(&[alpn]).start().await;
        let gateway = Gateway::start(&origin);
        for http in BOTH {
            let url = origin.url("site.test", "/reset");
            let outcome = gateway.browser().http(http).get(&url).await;
            // A stream that an HTTP/2 origin resets may lose its head too: then nothing of it has
            // reached the client, which is told so.
            let told = outcome.map_or(true, |reply| reply.status == 502);
            assert!(told, "a truncated body looked whole: {http:?} over {alpn}");
        }
        let event = gateway.await_transaction("acme", "/reset").await;
        assert_eq!(event["error_side"], "origin", "{event}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn responses_that_are_not_http_are_refused() {
    let raws: [(&str, &[u8]); 5] = [
        ("/two-lengths", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd"),
        (
            "/length-and-chunked",
            b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        ("/bare-lf", b"HTTP/1.1 200 OK\nContent-Length: 0\n\n"),
        ("/no-http", b"hello, this is not HTTP\r\n\r\n"),
        (
            "/bad-chunk",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n",
        ),
    ];
    let mut build = Origin::build().alpn(&["http/1.1"]);
    for (path, raw) in raws {
        build = build.on(path, Answer::raw(raw));
    }
    let origin = build.start().await;
    let gateway = Gateway::start(&origin);
    for (path, _) in raws {
        for http in BOTH {
            match gateway.browser().http(http).get(&origin.url("site.test", path)).await {
                Ok(reply) => assert!(reply.status >= 500, "{path} {http:?}: {}", reply.status),
                Err(error) => assert!(error.is_cut(), "{path} {http:?}: {error}"),
            }
        }
    }
    assert_eq!(
        gateway.browser().get(&origin.url("site.test", "/hello")).await.unwrap().status,
        200
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_smuggle_are_refused() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let host = format!("Host: site.test:{}\r\n", origin.port());
    for lines in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding : chunked\r\n",
        "Transfer-Encoding:\x0bchunked\r\n",
        "X: a\r\n Transfer-Encoding: chunked\r\n",
        "Host: other.test\r\n",
        "Content-Length: +5\r\n",
        "X: a\nTransfer-Encoding: chunked\r\n",
    ] {
        let url = origin.url("site.test", "/");
        let inner = gateway.browser().http(Http::One).connect(&url).await.unwrap();
        let (stream, _) = inner.into_stream().unwrap();
        let tail = "\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\n";
        let text = format!("POST /echo HTTP/1.1\r\n{host}{lines}{tail}{host}\r\n");
        let mut stream = stream;
        stream.write_all(text.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        let mut answer = Vec::new();
        let reading = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut answer);
        tokio::time::timeout(Duration::from_secs(15), reading).await.expect("closed").ok();
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(
            answer.is_empty()
                || answer.starts_with("HTTP/1.1 4")
                || answer.starts_with("HTTP/1.1 5"),
            "{lines:?}: {answer}"
        );
    }
    assert!(origin.last("/smuggled").is_none(), "a request was smuggled");
}
