//! WebSockets cross whichever way each side opens them: Upgrade or extended CONNECT.

use std::sync::Arc;

use h2::Reason;
use tests::client::websocket::{self, Opened, WebSocket};
use tests::gateway::Browser;
use tests::origin::Answer;
use tests::origin::manual::Manual;
use tests::{ClientError, Gateway, Http, Origin};
use tokio::sync::mpsc;

const BOTH: [Http; 2] = [Http::One, Http::Two];
const CLOSE: u8 = 8;
const PING: u8 = 9;

type Asked = http::Request<h2::RecvStream>;
type Respond = h2::server::SendResponse<bytes::Bytes>;

async fn open(
    browser: &Browser,
    origin: &Origin,
    path: &str,
    fields: &[(&str, &str)],
) -> Result<Opened, ClientError> {
    let inner = browser.connect(&origin.url("site.test", "/")).await?;
    websocket::open(inner, &format!("site.test:{}", origin.port()), path, fields).await
}

/// Messages of each length form, a ping, and a close with its code and reason.
async fn talk(socket: &mut WebSocket, pair: &str) {
    for size in [1, 125, 126, 70_000] {
        socket.send(2, &vec![b'm'; size]).await.unwrap();
        let echoed = socket.receive().await.unwrap().map(|(code, data)| (code, data.len()));
        assert_eq!(echoed, Some((2, size)), "{pair}");
    }
    socket.send(PING, b"are you there").await.unwrap();
    let (opcode, payload) = socket.receive().await.unwrap().unwrap();
    assert_eq!((opcode, payload.as_slice()), (PING, &b"are you there"[..]), "{pair}");
    let closing = [&4_001_u16.to_be_bytes()[..], b"enough"].concat();
    socket.send(CLOSE, &closing).await.unwrap();
    let (opcode, payload) = socket.receive().await.unwrap().unwrap();
    assert_eq!((opcode, payload), (CLOSE, closing), "{pair}");
    assert!(socket.receive().await.unwrap().is_none(), "{pair}: ended in order");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_crosses_every_pair_of_versions() {
    for alpn in ["http/1.1", "h2"] {
        let origin = Origin::build().alpn(&[alpn]).start().await;
        let gateway = Gateway::start(&origin);
        for http in BOTH {
            let pair = format!("{http:?} to {alpn}");
            let path = format!("/ws?{}", http.alpn());
            let offers = [("sec-websocket-protocol", "chat"), EXTENSIONS];
            let opened = open(&gateway.browser().http(http), &origin, &path, &offers).await;
            let mut socket = opened.unwrap_or_else(|e| panic!("{pair}: {e}")).expect_open();
            assert_eq!(socket.reply.status, if http == Http::One { 101 } else { 200 });
            assert_eq!(socket.reply.field("sec-websocket-accept").is_some(), http == Http::One);
            talk(&mut socket, &pair).await;
            let status = socket.reply.status;
            // Fails where the origin had gone for good, and the gateway has said so.
            socket.end().await.ok();
            let seen = origin.last(&path).unwrap();
            assert_eq!(seen.method, if alpn == "h2" { "CONNECT" } else { "GET" }, "{pair}");
            assert_eq!(seen.field("sec-websocket-extensions"), Some(EXTENSIONS.1), "{pair}");
            assert_eq!(seen.field("sec-websocket-protocol"), Some("chat"), "{pair}");
            assert_eq!(seen.field("sec-websocket-key").is_some(), alpn == "http/1.1", "{pair}");
            let event = gateway.await_transaction("acme", &path).await;
            assert_eq!(event["method"], "GET", "{pair}");
            assert_eq!(event["status"], status, "{pair}");
            assert!(event["request_bytes"].as_u64() > Some(70_000), "{pair}: {event}");
            assert!(event["error"].is_null(), "{pair}: {event}");
        }
    }
}

const EXTENSIONS: (&str, &str) =
    ("sec-websocket-extensions", "permessage-deflate; client_max_window_bits");

#[tokio::test(flavor = "multi_thread")]
async fn it_is_promised_on_http2_only_where_the_origin_allows_it() {
    let origin = Origin::build().no_websocket_on_http2().start().await;
    let gateway = Gateway::start(&origin);
    let url = origin.url("site.test", "/hello");
    for _ in 0..2 {
        let mut inner = gateway.browser().connect(&url).await.unwrap();
        assert_eq!(inner.get("/hello").await.unwrap().status, 200);
        let requests = inner.http2().unwrap();
        assert!(!requests.is_extended_connect_protocol_enabled());
    }
    // Such an origin has them over HTTP/1.1, and a browser then comes that way.
    let mut socket =
        open(&gateway.browser().http(Http::One), &origin, "/ws", &[]).await.unwrap().expect_open();
    talk(&mut socket, "Upgrade past an HTTP/2 without RFC 8441").await;
    assert_eq!(origin.last("/ws").unwrap().version, "1.1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_handshake_passes_as_it_is() {
    for alpn in ["http/1.1", "h2"] {
        let refusal = Answer::text("not you").field("x-why", "closed");
        let refusal = Answer { status: 403, ..refusal };
        let origin = Origin::build().alpn(&[alpn]).on("/ws", refusal).start().await;
        let gateway = Gateway::start(&origin);
        for http in BOTH {
            let browser = gateway.browser().http(http);
            let reply = open(&browser, &origin, "/ws", &[]).await.unwrap().expect_refusal();
            assert_eq!((reply.status, reply.text().as_str()), (403, "not you"), "{http:?} {alpn}");
            assert_eq!(reply.field("x-why"), Some("closed"));
            assert!(reply.field("proxy-status").is_none(), "the origin's own answer");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn h1_16_a_switch_that_proves_nothing_is_refused() {
    let liar = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\
                 sec-websocket-accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n\r\n";
    let origin = Origin::build()
        .alpn(&["http/1.1"])
        .on("/liar", Answer::raw(liar))
        .on("/fine", Answer::text("no WebSocket here"))
        .start()
        .await;
    let gateway = Gateway::start(&origin);
    for http in BOTH {
        let browser = gateway.browser().http(http);
        let reply = open(&browser, &origin, "/liar", &[]).await.unwrap().expect_refusal();
        assert_eq!(reply.status, 502, "{http:?}");
        let status = reply.field("proxy-status").unwrap();
        assert!(status.contains("error=http_upgrade_failed"), "{status}");
    }
    // By extended CONNECT any 2xx would say that the stream is open.
    let reply = open(&gateway.browser(), &origin, "/fine", &[]).await.unwrap().expect_refusal();
    assert_eq!(reply.status, 502);
    let browser = gateway.browser().http(Http::One);
    let reply = open(&browser, &origin, "/fine", &[]).await.unwrap().expect_refusal();
    assert_eq!((reply.status, reply.text().as_str()), (200, "no WebSocket here"));
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_hold_for_it_whichever_way_it_is_opened_and_while_it_is_open() {
    let rules = "  - name: no secret sockets\n    match: { url: \"*/ws/secret\", method: GET }\n    \
                 action: block\n";
    let origin = Origin::start().await;
    let gateway = Gateway::build(&origin).policy(rules).start();
    let mut sockets = Vec::new();
    for http in BOTH {
        let browser = gateway.browser().http(http);
        let reply = open(&browser, &origin, "/ws/secret", &[]).await.unwrap().expect_refusal();
        assert_eq!(reply.status, 403, "{http:?}");
        let mut socket = open(&browser, &origin, "/ws", &[]).await.unwrap().expect_open();
        socket.send(1, b"still allowed").await.unwrap();
        assert!(socket.receive().await.unwrap().is_some());
        sockets.push(socket);
    }
    assert!(origin.last("/ws/secret").is_none());
    gateway.set_policy(
        "acme",
        "  - name: none at all\n    match: { url: \"*/ws\" }\n    action: block\n",
    );
    for mut socket in sockets {
        // A reset or an end, but neither silence nor a message.
        match socket.receive().await {
            Ok(Some(frame)) => panic!("a message after the policy withdrew it: {frame:?}"),
            Err(ClientError::Timeout) => panic!("left open"),
            Ok(None) | Err(_) => {}
        }
    }
    let withdrawn = |event: &serde_json::Value| event["error"] == "withdrawn";
    gateway.await_event("acme", withdrawn).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_on_one_side_is_a_reset_on_the_other() {
    let trust = Origin::start().await;
    let gateway = Gateway::start(&trust);
    let manual = Manual::listen(&trust, &["h2"]).await;
    let url = manual.url("site.test", "/");
    let (ended, mut ends) = mpsc::unbounded_channel();
    let mut builder = h2::server::Builder::new();
    builder.enable_connect_protocol();
    let ended = Arc::new(ended);
    let handler = move |_, request: Asked, mut respond: Respond| {
        let ended = Arc::clone(&ended);
        async move {
            let path = request.uri().path().to_owned();
            let mut sender = respond.send_response(http::Response::new(()), false).unwrap();
            if path == "/reset" {
                // Not before the client has the head: a reset overtakes what waits to be sent.
                request.into_body().data().await;
                return sender.send_reset(Reason::ENHANCE_YOUR_CALM);
            }
            let reason = std::future::poll_fn(|context| sender.poll_reset(context)).await;
            ended.send(reason.ok()).ok();
        }
    };
    manual.serve(builder, handler, |_, _| async {});
    let authority = url.trim_start_matches("https://").trim_end_matches('/').to_owned();
    for http in BOTH {
        let inner = gateway.browser().http(http).connect(&url).await.unwrap();
        let opened = websocket::open(inner, &authority, "/reset", &[]).await.unwrap();
        let mut socket = opened.expect_open();
        socket.send(1, b"go").await.unwrap();
        let outcome = socket.receive().await;
        let cut = matches!(&outcome, Ok(None)) || outcome.as_ref().is_err_and(ClientError::is_cut);
        assert!(cut, "{http:?}: {outcome:?}");
    }
    let inner = gateway.browser().connect(&url).await.unwrap();
    let socket = websocket::open(inner, &authority, "/held", &[]).await.unwrap().expect_open();
    let connection = socket.reset(Reason::CANCEL);
    let reason = tokio::time::timeout(std::time::Duration::from_secs(20), ends.recv()).await;
    assert_eq!(reason.expect("the origin hears of it"), Some(Some(Reason::CANCEL)));
    let event = gateway.await_transaction("acme", "/held").await;
    assert_eq!(event["error"], "client_reset", "{event}");
    drop(connection);
}

#[tokio::test(flavor = "multi_thread")]
async fn open_ones_do_not_use_up_the_origin_for_others() {
    // An HTTP/2 origin that takes one stream at a time: each WebSocket holds a connection.
    let trust = Origin::start().await;
    let gateway = Gateway::start(&trust);
    let manual = Manual::listen(&trust, &["h2"]).await;
    let url = manual.url("site.test", "/");
    let mut builder = h2::server::Builder::new();
    builder.enable_connect_protocol().max_concurrent_streams(1);
    let handler = |_, request: Asked, mut respond: Respond| async move {
        let held = request.method() == http::Method::CONNECT;
        let sender = respond.send_response(http::Response::new(()), !held);
        if held {
            std::future::pending::<()>().await;
        }
        drop(sender);
    };
    manual.serve(builder, handler, |_, _| async {});
    let authority = url.trim_start_matches("https://").trim_end_matches('/').to_owned();
    let mut open = Vec::new();
    for _ in 0..4 {
        let inner = gateway.browser().connect(&url).await.unwrap();
        let opened = websocket::open(inner, &authority, "/ws", &[]).await.unwrap();
        open.push(opened.expect_open());
        assert_eq!(gateway.browser().get(&url).await.unwrap().status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_the_drain_is_told_with_1012_and_recorded() {
    let origin = Origin::start().await;
    let gateway = Gateway::build(&origin).gateway_yaml("limits: { drain_s: 1 }").start();
    let mut sockets = Vec::new();
    for http in BOTH {
        for browser in [gateway.browser(), gateway.browser().explicit()] {
            let path = format!("/ws?{}", sockets.len());
            let opened = open(&browser.http(http), &origin, &path, &[]).await.unwrap();
            let mut socket = opened.expect_open();
            socket.send(1, b"hello").await.unwrap();
            assert_eq!(socket.receive().await.unwrap(), Some((1, b"hello".to_vec())));
            sockets.push(socket);
        }
    }
    gateway.terminate();
    for socket in &mut sockets {
        assert_eq!(socket.receive().await.unwrap(), Some((CLOSE, 1_012_u16.to_be_bytes().into())));
        socket.send(CLOSE, &1_012_u16.to_be_bytes()).await.unwrap();
    }
    assert_eq!(gateway.exit_code(), Some(0));
    gateway.restart();
    for number in 0..sockets.len() {
        let event = gateway.await_transaction("acme", &format!("/ws?{number}")).await;
        assert_eq!((&event["state"], &event["error"]), (&"close".into(), &"drained".into()));
    }
}
