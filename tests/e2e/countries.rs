//! Rules over where addresses are, and over addresses of names that have several.
//!
//! `loopback.mmdb` was made for these tests: 127.0.0.66 is in KP, the rest of 127.0.0.0/8 in DE.

use std::net::Ipv4Addr;
use std::process::Command;

use serde_json::Value;
use tests::client::message::Request;
use tests::dns::Dns;
use tests::gateway::binary;
use tests::{Gateway, Origin};

use crate::{await_denial, denial, says, status};

const PLACES: &[u8] = include_bytes!("loopback.mmdb");
const NEAR: Ipv4Addr = Ipv4Addr::LOCALHOST;
const FAR: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 66);
/// Blocks what lives in KP.
const NOT_KP: &str = "  - { name: not there, match: { dest_country: [KP] }, action: block }";

/// Names that begin with `near`, `far` or `both` live there.
async fn names() -> Dns {
    Dns::start_with(|name, _| match name.split('.').next() {
        Some("far") => vec![FAR],
        Some("both") => vec![NEAR, FAR],
        _ => vec![NEAR],
    })
    .await
}

/// A gateway that knows where addresses are.
fn placed(origin: &Origin, dns: &Dns, rules: &str) -> (Gateway, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("places.mmdb");
    std::fs::write(&path, PLACES).unwrap();
    let gateway = Gateway::build(origin)
        .policy(rules)
        .resolver(&dns.address.to_string())
        .gateway_yaml(&format!("events: {{ geoip: [\"{}\"] }}", path.display()))
        .start();
    (gateway, folder)
}

fn post(path: &str) -> Request {
    Request::post(path, b"text".to_vec())
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_go_by_the_country_of_the_destination() {
    let dns = names().await;
    let (near, far) = (Origin::start().await, Origin::build().at(FAR).start().await);
    let (gateway, _places) = placed(&near, &dns, NOT_KP);
    let browser = gateway.browser();
    assert_eq!(status(browser.get(&near.url("near.example", "/hello")).await), 200);
    for url in [far.url("far.example", "/secret"), far.plain_url("far.example", "/secret")] {
        let refused = denial(browser.get(&url).await);
        assert_eq!(refused.status, 403, "{refused:?}");
    }
    assert!(far.connections().is_empty());
    let event = await_denial(&gateway, "far.example", "rule").await;
    let told = (&event["rule"], &event["dest_ip"], &event["dest_country"]);
    assert_eq!(told, (&"not there".into(), &FAR.to_string().into(), &"KP".into()), "{event}");
    let event = gateway.await_transaction("acme", "near.example").await;
    assert_eq!((&event["dest_country"], &event["source_country"]), (&"DE".into(), &"DE".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_changes_is_in_force_without_a_signal() {
    const OTHER: &[u8] = include_bytes!("../../gateway/src/event/tests/places.mmdb");
    let dns = names().await;
    let origin = Origin::build().at(FAR).start().await;
    let (gateway, places) = placed(&origin, &dns, NOT_KP);
    let (browser, url) = (gateway.browser(), origin.url("far.example", "/hello"));
    assert_eq!(status(browser.get(&url).await), 403);
    // The other one does not know the address.
    let new = places.path().join("new");
    std::fs::write(&new, OTHER).unwrap();
    std::fs::rename(new, places.path().join("places.mmdb")).unwrap();
    let changed = async {
        while status(browser.get(&url).await) != 200 {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), changed).await.expect("in force");
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_go_by_the_country_of_the_client() {
    let dns = names().await;
    let origin = Origin::start().await;
    let rule = "  - { name: abroad, match: { source_country: { not: [DE] } }, action: block }\n  \
                - { name: at home, match: { source_country: [DE], method: [POST] }, action: block }";
    let (gateway, _places) = placed(&origin, &dns, rule);
    let (browser, url) = (gateway.browser(), origin.url("near.example", "/echo"));
    assert_eq!(status(browser.get(&url).await), 200);
    assert_eq!(status(browser.send(&url, post("/echo")).await), 403);
    let event = gateway.await_event("acme", |event| says(event, "rule")).await;
    assert_eq!(event["rule"], "at home", "{event}");
}

/// A name may live at an address that rules allow and at one that they do not.
#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_a_rule_tells_from_the_judged_one_is_not_dialled() {
    let dns = names().await;
    // Nothing listens at the first address.
    let far = Origin::build().at(FAR).start().await;
    let by_address = |address: &str| {
        format!("  - {{ name: closed, match: {{ dest_ip: [{address}] }}, action: block }}")
    };
    for rule in [NOT_KP.to_owned(), by_address("127.0.0.66")] {
        let (gateway, _places) = placed(&far, &dns, &rule);
        for url in [far.url("both.example", "/hello"), far.plain_url("both.example", "/hello")] {
            assert_eq!(denial(gateway.browser().get(&url).await).status, 502, "{rule}");
        }
        await_denial(&gateway, "both.example", "connect_refused").await;
        assert!(far.connections().is_empty(), "{rule}");
    }
    let (gateway, _places) = placed(&far, &dns, &by_address("192.0.2.1"));
    for url in [far.url("both.example", "/hello"), far.plain_url("both.example", "/hello")] {
        assert_eq!(status(gateway.browser().get(&url).await), 200, "no rule tells them apart");
    }
}

/// What the address must tell may be asked for only at the request's head: a rule above it that waits
/// for the head alone lets the connect gate go on.
#[tokio::test(flavor = "multi_thread")]
async fn a_rule_over_address_and_request_is_decided_whenever_it_is_asked() {
    let dns = names().await;
    let near = Origin::start().await;
    let far = Origin::build().at(FAR).pki(near.pki()).start().await;
    let rule = "  - { name: above, match: { method: [DELETE] }, action: block }\n  \
                - { name: no posts, match: { dest_country: [KP], method: [POST] }, action: block }";
    let (gateway, _places) = placed(&near, &dns, rule);
    let browser = gateway.browser();
    for _ in 0..3 {
        for (origin, name, posted) in [(&near, "near.example", 200), (&far, "far.example", 403)] {
            for url in [origin.url(name, "/echo"), origin.plain_url(name, "/echo")] {
                assert_eq!(status(browser.get(&url).await), 200, "{url}");
                assert_eq!(status(browser.send(&url, post("/echo")).await), posted, "{url}");
                let explicit = browser.clone().explicit();
                assert_eq!(status(explicit.send(&url, post("/echo")).await), posted, "{url}");
            }
        }
    }
    let wrong = |event: &Value| says(event, "undecided");
    assert!(!gateway.events("acme").await.unwrap().iter().any(wrong));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_database_rules_over_countries_fail_closed_and_check_says_so() {
    let dns = names().await;
    let origin = Origin::start().await;
    let rule = "  - { name: lenient, match: { dest_country: [KP] }, action: block, unobtainable: skip }\n  \
                - { name: strict, match: { dest_country: [KP], method: [POST] }, action: block }";
    let gateway = Gateway::build(&origin).policy(rule).resolver(&dns.address.to_string()).start();
    let (browser, url) = (gateway.browser(), origin.url("near.example", "/echo"));
    assert_eq!(status(browser.get(&url).await), 200);
    assert_eq!(status(browser.send(&url, post("/echo")).await), 403);
    gateway.await_event("acme", |event| says(event, "unobtainable:dest_country")).await;
    let told = Command::new(binary()).arg("check").arg(gateway.folder()).output().unwrap();
    let text = String::from_utf8_lossy(&[told.stdout, told.stderr].concat()).into_owned();
    assert!(text.contains("no database of `events.geoip` names countries"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_says_what_a_country_decides() {
    let dns = names().await;
    let origin = Origin::start().await;
    let (gateway, _places) = placed(&origin, &dns, NOT_KP);
    let asked = ["explain", "acme", "--url", "https://far.example/", "--json", "--dest-ip"];
    for (address, action) in [("127.0.0.66", "block"), ("127.0.0.1", "allow")] {
        let told = gateway.command(&[&asked[..], &[address]].concat());
        let told: Value = serde_json::from_slice(&told.stdout).unwrap();
        assert_eq!(told["action"], action, "{told}");
    }
}

/// One connection to the explicit listener, two destinations: a record bears its own request's.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_names_its_own_destination_is_recorded_with_that() {
    let dns = names().await;
    let origin = Origin::start().await;
    // Goes by address, so that the first one's address is known.
    let rules = format!(
        "  - {{ name: no, match: {{ domain: [other.example] }}, action: block }}\n{NOT_KP}"
    );
    let (gateway, _places) = placed(&origin, &dns, &rules);
    let proxy = std::fs::read_to_string(gateway.alice().file("proxy.url")).unwrap();
    let run = Command::new("curl")
        .args(["--silent", "--proxy", proxy.trim(), "--write-out", "%{http_code} %{num_connects};"])
        .args([&origin.plain_url("near.example", "/hello?first"), "--output", "/dev/null"])
        .args([&origin.plain_url("other.example", "/hello?second"), "--output", "/dev/null"])
        .output();
    assert_eq!(String::from_utf8_lossy(&run.unwrap().stdout), "200 1;403 0;");
    let port = Value::from(origin.plain_port());
    for (part, host, address) in [
        ("?first", "near.example", Value::from("127.0.0.1")),
        ("?second", "other.example", Value::Null),
    ] {
        let event = gateway.await_transaction("acme", part).await;
        let told = (&event["host"], &event["dest_port"], &event["dest_ip"]);
        assert_eq!(told, (&host.into(), &port, &address), "{event}");
    }
}
