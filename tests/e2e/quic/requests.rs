//! What may be asked of a QUIC tunnel, and how the gateway answers.

use tests::{Gateway, Origin};

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
