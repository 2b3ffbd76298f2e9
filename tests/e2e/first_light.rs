//! A request decrypted, decided, forwarded and logged, over every pair of protocols.

use tests::curl::Curl;
use tests::{Gateway, Http, Leg, Origin, Request};

#[tokio::test(flavor = "multi_thread")]
async fn curl_fetches_a_page_through_the_tunnel_over_http1_and_http2() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    for (option, version) in [("--http1.1", "1.1"), ("--http2", "2")] {
        let curl = Curl::tunnel(&gateway, &gateway.alice()).flag(option);
        let got = curl.get(&origin.url("site.test", &format!("/hello?v={version}"))).await;
        assert_eq!((got.status, got.version.as_str()), (200, version), "{}", got.said);
        assert!(got.body.contains("hello from site.test"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_fetches_a_page_through_the_explicit_listener() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let alice = gateway.alice();
    for (option, version) in [("--http1.1", "1.1"), ("--http2", "2")] {
        let got = Curl::explicit(&alice).flag(option).get(&origin.url("site.test", "/hello")).await;
        assert_eq!((got.status, got.version.as_str()), (200, version), "{}", got.said);
    }
    let plain = Curl::explicit(&alice).get(&origin.plain_url("site.test", "/hello")).await;
    assert_eq!(plain.status, 200, "absolute-form over plain HTTP: {}", plain.said);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_pair_of_legs_and_inner_protocols_works() {
    for alpn in [&["h2", "http/1.1"][..], &["http/1.1"], &["h2"], &[]] {
        let origin = Origin::build().alpn(alpn).start().await;
        let gateway = Gateway::start(&origin);
        for leg in [Leg::Http1, Leg::Http2] {
            for http in [Http::One, Http::Two] {
                let browser = gateway.browser().leg(leg).http(http);
                let got = browser.get(&origin.url("site.test", "/echo")).await;
                let got = got.unwrap_or_else(|error| panic!("{leg:?} {http:?} {alpn:?}: {error}"));
                assert_eq!(got.status, 200, "{leg:?} {http:?} {alpn:?}: {}", got.text());
                let authority = format!("site.test:{}", origin.port());
                assert_eq!(got.json()["authority"], authority);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_is_recorded_with_who_where_and_what() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let url = origin.url("site.test", "/echo?q=1");
    let request = Request::post("/", "some body").field("user-agent", "kit/1");
    assert_eq!(gateway.browser().send(&url, request).await.unwrap().status, 200);
    let event = gateway.await_transaction("acme", "/echo").await;
    for (field, value) in [
        ("tenant", "acme"),
        ("user", "alice@acme.test"),
        ("device", "laptop-1"),
        ("access_method", "tls"),
        ("client_ip", "127.0.0.1"),
        ("host", "site.test"),
        ("sni", "site.test"),
        ("dest_ip", "127.0.0.1"),
        ("egress_ip", "127.0.0.1"),
        ("binding", "certificate"),
        ("client_tls", "1.3"),
        ("method", "POST"),
        ("user_agent", "kit/1"),
        ("action", "allow"),
        ("pop", "test-1"),
    ] {
        assert_eq!(event[field], value, "{field} of {event}");
    }
    assert_eq!(event["status"], 200);
    assert_eq!(event["decrypted"], true);
    assert_eq!(event["dest_port"], origin.port());
    assert_eq!(event["request_bytes"], 9);
    for field in ["id", "time", "session_id", "flow_id", "policy_version", "total_ms", "client_ja4"]
    {
        assert!(!event[field].is_null(), "{field} of {event}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_says_when_it_was_written_and_what_the_gateway_added() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    // The second finds the origin's connection in the pool.
    for path in ["/echo?first", "/echo?second"] {
        let url = origin.url("site.test", path);
        gateway.browser().send(&url, Request::post("/", "some body")).await.unwrap();
        let closed = gateway.await_transaction("acme", path).await;
        assert_eq!(closed["egress_ip"], "127.0.0.1", "{closed}");
        // The handshake with the origin came before the exchange: it is not taken off its time.
        assert!(closed["gateway_ms"].as_f64().unwrap() > 0.0, "{closed}");
        let opened = gateway
            .await_event("acme", |one| one["id"] == closed["id"] && one["state"] == "open")
            .await;
        assert!(opened["time"].as_str() < closed["time"].as_str(), "{opened} {closed}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_streams_share_one_tunnel() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let browser = gateway.browser();
    let tunnel = browser.tunnel().await.unwrap();
    let authority = format!("site.test:{}", origin.port());
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let (mut tunnel, browser) = (tunnel.share().unwrap(), browser.clone());
        let authority = authority.clone();
        tasks.spawn(async move {
            let stream = tunnel.open(&authority).await.unwrap();
            browser.inner(stream, &authority).await.unwrap().get("/hello").await.unwrap().status
        });
    }
    assert!(tasks.join_all().await.iter().all(|status| *status == 200));
    let sessions = gateway.admin_get("/v1/sessions?tenant=acme").await.unwrap().text();
    assert_eq!(sessions.matches("\"session_id\"").count().max(1), 1, "{sessions}");
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_http_inside_a_tunnel_is_decided_and_forwarded() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let got = gateway.browser().get(&origin.plain_url("site.test", "/echo")).await.unwrap();
    assert_eq!(got.status, 200, "{}", got.text());
    let event = gateway.await_transaction("acme", "http://site.test").await;
    assert_eq!(event["status"], 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_backup_name_answers_too() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let browser = gateway.browser().asking_for("gateway-backup-acme.pop.test");
    assert_eq!(browser.get(&origin.url("site.test", "/hello")).await.unwrap().status, 200);
}
