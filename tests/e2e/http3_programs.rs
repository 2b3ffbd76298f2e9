//! Other people's HTTP/3 behind the stock openconnect client: libcurl, aioquic, Chromium.

use serde_json::Value;
use tests::Origin;
use tests::http3::{Chromium, Http3Origin, Program, ask, ask_trusting};

use tests::origin::Answer;

use super::openconnect::World;

const PROGRAMS: [Program; 2] = [Program::Curl, Program::Aioquic];

/// The status, whichever program says it.
fn status(reply: &Value) -> u64 {
    let said = reply["heads"].as_array().into_iter().flatten().rev();
    let said = said.filter_map(|head| head[":status"].as_str()?.parse().ok()).next();
    reply["status"].as_u64().or(said).unwrap_or_else(|| panic!("no status: {reply}"))
}

fn text(reply: &Value) -> &str {
    reply["text"].as_str().unwrap_or_default()
}

/// What the programs send as a body of that size.
fn body(size: u32) -> Vec<u8> {
    (0..size).map(|number| u8::try_from(number * 31 % 251).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_uploads_and_policy_over_http3_of_libcurl_and_aioquic() {
    let rules = "  - name: no uploads here\n    match: { domain: [drive.test], method: [POST] }\n    \
                 action: block\n";
    let world = World::with(|build| build.policy(rules)).await;
    let _client = world.connect(&[]);
    let size = 5_000_000;
    for program in PROGRAMS {
        let get = async |host: &str, path: &str| {
            let url = world.origin.url(host, path);
            ask(&world.namespace, program, &world.alice, &url, "GET", 0).await
        };
        let page = get("site.test", &format!("/hello?{program:?}")).await;
        assert_eq!(status(&page), 200, "{program:?}: {page}");
        assert!(text(&page).contains("hello from site.test"), "{program:?}: {page}");
        let event = world.gateway.await_transaction("acme", &format!("/hello?{program:?}")).await;
        for (field, value) in [
            ("http_version", "HTTP/3"),
            ("client_alpn", "h3"),
            ("access_method", "openconnect"),
            ("user", "alice@acme.test"),
            ("host", "site.test"),
            ("action", "allow"),
        ] {
            assert_eq!(event[field], value, "{program:?}: {field} of {event}");
        }

        let big = get("site.test", &format!("/chunked/{size}")).await;
        assert_eq!(big["length"], size, "{program:?}: {big}");
        let trailing = get("site.test", "/trailers").await;
        assert_eq!(status(&trailing), 200, "{program:?}: {trailing}");
        if program == Program::Aioquic {
            assert_eq!(trailing["heads"][1]["x-checksum"], "abc", "{trailing}");
        }

        let post = async |host: &str, path: &str, size: u64| {
            let url = world.origin.url(host, path);
            ask(&world.namespace, program, &world.alice, &url, "POST", size).await
        };
        let sent = post("site.test", "/upload", u64::from(size)).await;
        let wanted = tests::sha256_hex(&body(size));
        assert!(text(&sent).contains(&wanted), "{program:?}: {sent}");
        let mirrored = post("site.test", "/mirror", 500_000).await;
        assert_eq!(mirrored["sha256"], mirrored["sent"], "{program:?}: {mirrored}");

        let path = format!("/up?{program:?}");
        let blocked = post("drive.test", &path, u64::from(size)).await;
        assert_eq!(status(&blocked), 403, "{program:?}: {blocked}");
        assert!(text(&blocked).contains("no uploads here"), "{program:?}: {blocked}");
        let event = world.gateway.await_transaction("acme", &path).await;
        assert_eq!(event["rule"], "no uploads here", "{event}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bypassed_host_is_relayed_to_its_own_http3() {
    let settings = "decrypt:\n  rules:\n    - name: not the bank\n      \
                    match: { domain: [bank.test] }\n      action: bypass\n";
    let world = World::with(|build| build.settings(settings)).await;
    let chain = world.origin.pki().chain("bank.test", tests::pki::Fault::None);
    let (certificate, key) = (world.alice.file("bank.pem"), world.alice.file("bank.key"));
    std::fs::write(&certificate, chain.certificates_pem()).unwrap();
    std::fs::write(&key, chain.key_pem()).unwrap();
    let roots = world.alice.file("roots.pem");
    std::fs::write(&roots, world.origin.pki().roots_pem()).unwrap();
    let port = world.origin.port();
    let _bank = Http3Origin::start(world.namespace.origin(), port, &certificate, &key);
    let mut client = world.connect(&[]);
    for program in PROGRAMS {
        let url = world.origin.url("bank.test", &format!("/account?{program:?}"));
        let reply = ask_trusting(&world.namespace, program, &roots, &url, "POST", 300_000).await;
        assert_eq!(status(&reply), 200, "{program:?}: {reply}");
        let sum = reply["sent"].as_str().unwrap();
        assert!(text(&reply).contains("http3 origin bank.test"), "{program:?}: {reply}");
        assert!(text(&reply).contains(sum), "{program:?}: {reply}");
    }
    client.end();
    let relayed = |event: &Value| event["type"] == "flow" && event["sni"] == "bank.test";
    let event = world.gateway.await_event("acme", relayed).await;
    for (field, value) in
        [("decrypt_reason", "not the bank"), ("action", "allow"), ("host", "bank.test")]
    {
        assert_eq!(event[field], value, "{field} of {event}");
    }
    assert_eq!(event["decrypted"], false, "{event}");
    assert!(event["request_bytes"].as_u64().is_some_and(|it| it > 300_000), "{event}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_without_the_ca_is_refused_and_from_then_on_at_once() {
    let world = World::new().await;
    let roots = world.alice.file("roots.pem");
    std::fs::write(&roots, world.origin.pki().roots_pem()).unwrap();
    let _client = world.connect(&[]);
    let url = world.origin.url("site.test", "/hello");
    // libcurl gives up without a word, which means something only the second time.
    for (program, silent) in [(Program::Curl, 2), (Program::Aioquic, 0)] {
        for attempt in 0..=silent + 1 {
            let reply = ask_trusting(&world.namespace, program, &roots, &url, "GET", 0).await;
            let failed = reply["error"].is_string()
                || reply["how"].as_str().is_some_and(|how| how != "whole");
            assert!(failed, "{program:?} {attempt}: {reply}");
            if program == Program::Curl {
                // Could not connect: told by ICMP; before, a certificate that is not good.
                let code = if attempt < silent { 60 } else { 7 };
                assert_eq!(reply["code"], code, "{attempt}: {reply}");
            }
        }
    }
    let refused = |event: &Value| event["block_reason"] == "quic_refused";
    let events = world.gateway.await_events("acme", 6, refused).await;
    let why: Vec<_> =
        events.iter().map(|event| event["decrypt_reason"].as_str().unwrap()).collect();
    let (closed, known) = ("client_closed_handshake", "client_refused_certificate");
    assert_eq!(why, [closed, closed, known, known, known, known]);
    assert!(events.iter().all(|event| event["sni"] == "site.test"));
    // Over TCP the same programs with the CA go on.
    assert!(world.curl(&url, &[]).await.contains("hello from site.test"));
}

/// A page that asks for six more, one after another, and says how they came.
const ASKS_FOR_MORE: &str = "<body><script>\
    for (let i = 0; i < 6; i++) {\
      const ask = new XMLHttpRequest();\
      ask.open('GET', '/hello?more=' + i, false);\
      ask.send();\
      document.body.append(ask.responseText);\
    }\
    const kinds = performance.getEntriesByType('resource').map(one => one.nextHopProtocol);\
    document.body.append('by ' + kinds.join(' '));\
    </script></body>";

#[tokio::test(flavor = "multi_thread")]
async fn chromium_told_to_comes_over_http3_and_is_inspected() {
    let world = World::new().await;
    let _client = world.connect(&[]);
    let chromium = Chromium::on(&world.namespace, &world.alice);
    let force = format!("--origin-to-force-quic-on=site.test:{}", world.origin.port());
    let page = chromium.page(&world.origin.url("site.test", "/hello"), &[&force]).await;
    assert!(page.contains("hello from site.test"), "{page}");
    let event = world.gateway.await_transaction("acme", "/hello").await;
    assert_eq!(event["http_version"], "HTTP/3", "{event}");
    assert_eq!(event["browser"], "Chrome", "{event}");
}

#[tokio::test(flavor = "multi_thread")]
async fn chromium_invited_to_http3_finds_no_public_authority_and_goes_on_over_tls() {
    let more = Answer::of(200, "text/html", ASKS_FOR_MORE.into());
    let origin = Origin::build().invites_http3().on("/more", more);
    let world = World::of(origin, |build| build).await;
    let _client = world.connect(&[]);
    let chromium = Chromium::on(&world.namespace, &world.alice);
    let page = chromium.page(&world.origin.url("site.test", "/more"), &[]).await;
    assert!(page.contains("by h2 h2 h2 h2 h2 h2"), "{page}");
    let refused = |event: &Value| event["block_reason"] == "quic_refused";
    let event = world.gateway.await_event("acme", refused).await;
    assert_eq!(event["decrypt_reason"], "client_refused_certificate", "{event}");
    assert_eq!(event["sni"], "site.test", "{event}");
    // From then on this device is not invited, and a browser that remembers is told at once.
    let headers = world.curl(&world.origin.url("site.test", "/hello"), &["--include"]).await;
    assert!(!headers.contains("alt-svc"), "{headers}");
    let again = chromium.page(&world.origin.url("site.test", "/more"), &[]).await;
    assert!(again.contains("by h2 h2 h2 h2 h2 h2"), "{again}");
    for event in world.gateway.events("acme").await.unwrap().iter().filter(|event| refused(event)) {
        assert_eq!(event["decrypt_reason"], "client_refused_certificate", "{event}");
    }
}
