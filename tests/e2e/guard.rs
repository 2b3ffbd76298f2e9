//! Destinations that no tenant may reach (SD).

use std::net::Ipv4Addr;

use tests::dns::Dns;
use tests::{Gateway, Http, Origin};

use crate::{await_denial, denial};

#[tokio::test(flavor = "multi_thread")]
async fn sd_01_sd_02_private_addresses_are_refused() {
    let origin = Origin::start().await;
    let gateway = Gateway::build(&origin).allow_private("[]").start();
    for host in [
        "127.0.0.1",
        "[::1]",
        "0.0.0.0",
        "[::]",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "169.254.1.1",
        "224.0.0.1",
        "255.255.255.255",
        "192.0.2.1",
        "[fe80::1]",
        "[fc00::1]",
        "[ff02::1]",
        "[2001:db8::1]",
    ] {
        let refused = denial(gateway.browser().get(&format!("https://{host}:8000/")).await);
        assert_eq!(refused.status, 403, "{host}: {refused:?}");
    }
    await_denial(&gateway, "127.0.0.1", "private_destination").await;
    assert!(origin.connections().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn sd_03_metadata_addresses_stay_closed_whatever_is_allowed() {
    let origin = Origin::start().await;
    let gateway = Gateway::build(&origin).allow_private("[0.0.0.0/0, \"::/0\"]").start();
    for host in ["169.254.169.254", "[fd00:ec2::254]", "metadata.google.internal"] {
        let refused = denial(gateway.browser().get(&format!("http://{host}:80/")).await);
        assert_eq!(refused.status, 403, "{host}: {refused:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sd_04_addresses_in_disguise_are_the_addresses_they_are() {
    let origin = Origin::start().await;
    let gateway = Gateway::build(&origin).allow_private("[]").start();
    for host in [
        "2130706433",
        "0x7f.1",
        "0177.0.0.1",
        "127.1",
        "0x7f000001",
        "[::ffff:127.0.0.1]",
        "[::127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
    ] {
        let url = format!("http://{host}:{}/", origin.plain_port());
        let refused = denial(gateway.browser().get(&url).await);
        assert!([400, 403].contains(&refused.status), "{host}: {refused:?}");
    }
    assert!(origin.connections().is_empty(), "{:?}", origin.connections());
}

#[tokio::test(flavor = "multi_thread")]
async fn sd_05_a_name_that_resolves_to_a_private_address_is_refused() {
    let origin = Origin::start().await;
    let gateway = Gateway::build(&origin).allow_private("[]").start();
    for http in [Http::One, Http::Two] {
        let url = origin.url("rebound.test", "/secret");
        let refused = denial(gateway.browser().http(http).get(&url).await);
        assert_eq!(refused.status, 403, "{refused:?}");
    }
    await_denial(&gateway, "rebound.test", "private_destination").await;
    assert!(origin.connections().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn sd_14_the_gateways_own_ports_are_closed_to_its_clients() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let ports = gateway.ports();
    for port in [ports.admin, ports.tunnel, ports.explicit] {
        for host in ["127.0.0.1", "self.test"] {
            let refused =
                denial(gateway.browser().get(&format!("http://{host}:{port}/metrics")).await);
            assert_eq!(refused.status, 403, "{host}:{port}: {refused:?}");
            assert!(!refused.text.contains("sluice_"), "metrics leaked");
        }
    }
    let other = gateway.browser().get(&origin.url("site.test", "/hello")).await;
    assert_eq!(other.unwrap().status, 200, "other ports of an allowed network stay open");
}

#[tokio::test(flavor = "multi_thread")]
async fn sd_16_odd_hosts_are_refused_or_one_string_everywhere() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    for host in ["a%00.test", "a@b.test", "a#.test", "a\\b.test", "[fe80::1%25lo]", "a..test", ""] {
        let browser = gateway.browser().leg(tests::Leg::Http1);
        let opened = browser.open(&format!("{host}:{}", origin.port())).await;
        assert!(opened.is_err(), "`{host}` was opened");
    }
    let canonical = gateway.browser().leg(tests::Leg::Http1).http(Http::One);
    let stream = canonical.open(&format!("SITE.Test.:{}", origin.port())).await.unwrap();
    let authority = format!("site.test:{}", origin.port());
    let mut inner = canonical.inner(stream, &authority).await.unwrap();
    assert_eq!(inner.get("/hello").await.unwrap().status, 200);
    let event = gateway.await_transaction("acme", "/hello").await;
    assert_eq!(event["host"], "site.test");
}

#[tokio::test(flavor = "multi_thread")]
async fn smtp_is_not_reachable() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let refused = denial(gateway.browser().get("http://site.test:25/").await);
    assert_eq!(refused.status, 403, "{refused:?}");
    await_denial(&gateway, "site.test", "port_not_allowed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_that_is_down_is_an_origin_error() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let closed = tests::gateway::ports::free();
    let refused = denial(gateway.browser().get(&format!("https://site.test:{closed}/")).await);
    assert!((500..600).contains(&refused.status), "{refused:?}");
    let event = await_denial(&gateway, "site.test", "connect_refused").await;
    assert_eq!(event["error_side"], "origin", "{event}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sd_06_a_name_is_resolved_once_and_that_answer_is_checked_and_dialled() {
    let origin = Origin::start().await;
    let (open, closed) = (Ipv4Addr::new(127, 0, 0, 1), Ipv4Addr::new(127, 0, 0, 2));
    // Each name changes its address with every question, and asks not to be remembered.
    let dns =
        Dns::start(
            move |name, before| {
                if name.starts_with("opens") == (before % 2 == 0) { open } else { closed }
            },
        )
        .await;
    let gateway = Gateway::build(&origin)
        .resolver(&dns.address.to_string())
        .allow_private("[127.0.0.1/32]")
        .start();
    let got = gateway.browser().get(&origin.url("opens.example", "/hello")).await.unwrap();
    assert_eq!(got.status, 200, "{}", got.text());
    assert_eq!(dns.asked("opens.example"), 1, "asked again between check and dial");
    let before = origin.connections().len();
    let refused = denial(gateway.browser().get(&origin.url("closes.example", "/secret")).await);
    assert_eq!(refused.status, 403, "{refused:?}");
    await_denial(&gateway, "closes.example", "private_destination").await;
    assert_eq!(dns.asked("closes.example"), 1, "asked until an answer pleased");
    assert_eq!(origin.connections().len(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn sd_19_dns_that_goes_round_the_gateways_resolver_can_be_closed() {
    let origin = Origin::start().await;
    let rule = "  - { name: no strange resolvers, match: { domain: [dns.test] }, action: block }\n  \
                - { name: no DNS over TLS, match: { dest_port: [853] }, action: block }";
    let gateway = Gateway::build(&origin).policy(rule).start();
    let query =
        origin.url("dns.test", "/dns-query?dns=AAABAAABAAAAAAAAA3d3dwdleGFtcGxlA2NvbQAAAQAB");
    assert_eq!(denial(gateway.browser().get(&query).await).status, 403);
    assert_eq!(denial(gateway.browser().get("https://other.test:853/").await).status, 403);
    let event = gateway.await_transaction("acme", "other.test").await;
    assert_eq!(event["rule"], "no DNS over TLS", "{event}");
    assert!(origin.connections().is_empty());
}
