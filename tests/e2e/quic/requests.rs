//! What may be asked of a QUIC tunnel, and how the gateway answers.

use tests::{Gateway, Origin};
use tokio::io::AsyncReadExt;

#[tokio::test(flavor = "multi_thread")]
async fn protocols_that_are_not_spoken_are_answered_and_the_tunnel_goes_on() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let tunnel = gateway.browser().quic().await.unwrap();
    for protocol in ["connect-ip", "connect-tcp", "webtransport", "websocket", "made-up"] {
        let head = [
            (":method", "CONNECT"),
            (":protocol", protocol),
            (":scheme", "https"),
            (":authority", "x.test"),
            (":path", "/"),
        ];
        let (status, _) = tunnel.ask(&head).await.unwrap();
        assert_eq!(status, 501, "{protocol}");
    }
    let authority = format!("site.test:{}", origin.port());
    tunnel.open(&authority).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_is_too_large_is_answered_with_431() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let tunnel = gateway.browser().quic().await.unwrap();
    let authority = format!("site.test:{}", origin.port());
    for size in [66_000, 300_000] {
        let long = "x".repeat(size);
        let head = [(":method", "CONNECT"), (":authority", &authority), ("x-long", &long)];
        let (status, _) = tunnel.ask(&head).await.unwrap();
        assert_eq!(status, 431, "{size}");
    }
    tunnel.open(&authority).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_targets_of_connect_udp_are_answered_with_400() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let tunnel = gateway.browser().quic().await.unwrap();
    for path in ["/", "/.well-known/masque/udp/x.test/", "/.well-known/masque/udp/x.test/0/"] {
        let head = [
            (":method", "CONNECT"),
            (":protocol", "connect-udp"),
            (":scheme", "https"),
            (":authority", "gateway-acme.pop.test"),
            (":path", path),
        ];
        let (status, _) = tunnel.ask(&head).await.unwrap();
        assert_eq!(status, 400, "{path}");
    }
}

/// `GET http://…` and `GET https://…` of the proxy itself, without a tunnel for the stream.
#[tokio::test(flavor = "multi_thread")]
async fn requests_that_name_their_own_destination_are_judged_and_sent_on() {
    let origin = Origin::start().await;
    let rule = "  - { name: closed, match: { url: [\"*/closed*\"] }, action: block }";
    let gateway = Gateway::build(&origin).policy(rule).start();
    let tunnel = gateway.browser().quic().await.unwrap();
    let ask = async |scheme: &str, path: &str| {
        let port = if scheme == "http" { origin.plain_port() } else { origin.port() };
        let authority = format!("site.test:{port}");
        let head = [
            (":method", "GET"),
            (":scheme", scheme),
            (":authority", &authority),
            (":path", path),
            ("content-length", "0"),
            ("proxy-authorization", "Basic c2VjcmV0"),
        ];
        let (status, mut stream) = tunnel.ask(&head).await.unwrap();
        let mut body = Vec::new();
        stream.read_to_end(&mut body).await.unwrap();
        (status, String::from_utf8_lossy(&body).into_owned(), body.len())
    };
    for scheme in ["http", "https"] {
        let path = format!("/hello?{scheme}");
        let (status, body, _) = ask(scheme, &path).await;
        assert_eq!(status, 200, "{scheme}: {body}");
        assert!(body.contains("hello from site.test"), "{scheme}: {body}");
        let event = gateway.await_transaction("acme", &path).await;
        let told = (&event["access_method"], &event["http_version"], &event["user"]);
        assert_eq!(told, (&"quic".into(), &"HTTP/3".into(), &"alice@acme.test".into()), "{event}");
        let port = if scheme == "http" { origin.plain_port() } else { origin.port() };
        let told = (&event["host"], &event["dest_port"], &event["host_source"]);
        assert_eq!(told, (&"site.test".into(), &port.into(), &"http_host".into()), "{event}");
        assert_eq!(origin.last(&path).unwrap().field("proxy-authorization"), None);
        let (status, body, _) = ask(scheme, "/closed").await;
        assert_eq!(status, 403, "{scheme}: {body}");
    }
    assert!(origin.last("/closed").is_none());
    let (status, _, length) = ask("http", "/bytes/3000000").await;
    assert_eq!((status, length), (200, 3_000_000));
}
