//! What a tenant must not notice of another: verdicts, bytes, quotas, and its own predecessor (TI).

use std::time::Duration;

use serde_json::Value;
use tests::{Browser, Gateway, Leg, Origin, Request};

const WAIT: Duration = Duration::from_secs(15);

#[tokio::test(flavor = "multi_thread")]
async fn ti_07_verdicts_of_one_tenant_are_never_anothers() {
    let origin = Origin::start().await;
    let rule = |parity: &str| {
        format!("  - {{ name: half, match: {{ domain: ['*.{parity}.test'] }}, action: block }}")
    };
    let gateway = Gateway::build(&origin)
        .tenant("globex")
        .policy(&rule("even"))
        .policy_of("globex", &rule("odd"))
        .start();
    let bob = gateway.enroll("globex", "bob@globex.test", "laptop-9");
    let mut tasks = tokio::task::JoinSet::new();
    // The same names at the same time, decided in opposite ways.
    for number in 0..200_u32 {
        // Neither the order of the tenants nor that of the hosts is a pattern.
        let mixed = number.wrapping_mul(2_654_435_761) >> 16;
        let (acme, even) = (mixed & 1 == 0, mixed & 2 == 0);
        let browser = if acme { gateway.browser() } else { gateway.browser_of(&bob) };
        let host = if even { "even.test" } else { "odd.test" };
        let url = origin.url(&format!("h{}.{host}", mixed % 7), "/hello");
        tasks.spawn(async move {
            let status = crate::status(browser.get(&url).await);
            assert_eq!(status, if acme == even { 403 } else { 200 }, "{acme} {url}");
        });
    }
    let asked = tasks.join_all().await.len();
    assert_eq!(asked, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn ti_11_no_byte_of_one_tenant_shows_up_at_another() {
    let origin = Origin::start().await;
    let gateway = Gateway::build(&origin).tenant("globex").start();
    let bob = gateway.enroll("globex", "bob@globex.test", "laptop-9");
    let url = origin.url("site.test", "/mirror");
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..100_usize {
        let (browser, canary) = if number % 2 == 0 {
            (gateway.browser(), b"ACME-CANARY.".as_slice())
        } else {
            (gateway.browser_of(&bob), b"globex-canary".as_slice())
        };
        let url = url.clone();
        tasks.spawn(async move {
            // Sizes around those of buffers, so that a reused one would be seen at its edges.
            let length = [1, 1_000, 16_383, 16_384, 16_385, 65_536, 200_000][number % 7];
            let body: Vec<u8> = canary.iter().copied().cycle().take(length).collect();
            let reply = browser.send(&url, Request::post("/", body.clone())).await.unwrap();
            assert!(reply.body == body, "{number}: {length} bytes came back changed");
        });
    }
    assert_eq!(tasks.join_all().await.len(), 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn ti_15_a_tenant_at_its_limit_stops_no_other() {
    let origin = Origin::start().await;
    let gateway =
        Gateway::build(&origin).tenant("globex").settings("limits: { tunnels: 2 }\n").start();
    let bob = gateway.enroll("globex", "bob@globex.test", "laptop-9");
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut tunnel = gateway.browser().tunnel().await.unwrap();
        // Open streams keep it in use.
        tunnel.open(&format!("site.test:{}", origin.port())).await.unwrap();
        held.push(tunnel);
    }
    let url = origin.url("site.test", "/hello");
    assert!(gateway.browser().get(&url).await.is_err(), "a third tunnel of acme");
    gateway.await_refusal("acme", "too_many_tunnels").await;
    for _ in 0..5 {
        assert_eq!(gateway.browser_of(&bob).get(&url).await.unwrap().status, 200);
    }
    drop(held);
}

#[tokio::test(flavor = "multi_thread")]
async fn ti_18_nothing_inside_a_tunnel_names_another_tenant() {
    let origin = Origin::start().await;
    let gateway = Gateway::build(&origin).tenant("globex").start();
    let globex = gateway.name("globex");
    // Towards the other tenant's own gateway name, in every way a stream can say it.
    let port = gateway.ports().tunnel;
    for leg in [Leg::Http1, Leg::Http2] {
        let refused =
            gateway.browser().leg(leg).get(&format!("https://{globex}:{port}/hello")).await;
        assert_eq!(crate::denial(refused).status, 403);
    }
    let mut tunnel = gateway.browser().leg(Leg::Http1).tunnel().await.unwrap();
    let claims =
        [("x-tenant", "globex"), ("forwarded", "host=globex"), ("x-forwarded-host", &globex)];
    let authority = format!("site.test:{}", origin.port());
    let stream = tunnel.open_with(&authority, &claims).await.unwrap();
    let mut inner = gateway.browser().inner(stream, &authority).await.unwrap();
    assert_eq!(inner.get("/claimed").await.unwrap().status, 200);
    let event = gateway.await_transaction("acme", "/claimed").await;
    assert_eq!(event["tenant"], "acme");
    let of_globex = gateway.events("globex").await.unwrap();
    assert!(of_globex.is_empty(), "{of_globex:?}");
}

/// Asks, gives a reason where one is wanted, and asks again.
async fn justify(browser: &Browser, url: &str) {
    let page = browser.send(url, Request::get("/").navigation()).await.unwrap();
    assert_eq!(page.status, 403);
    let text = page.text();
    let at = text.find("https://notice.sluice.test").expect("a way to proceed");
    let proceed: String = text[at..].chars().take_while(|it| *it != '"').collect();
    let answer = Request::post("/", "justification=work")
        .field("content-type", "application/x-www-form-urlencoded");
    assert_eq!(browser.send(&proceed, answer).await.unwrap().status, 200);
    assert_eq!(browser.get(url).await.unwrap().status, 200, "remembered");
}

const COACH: &str =
    "  - { name: think first, match: { domain: [site.test] }, action: coach, message: Why? }";

#[tokio::test(flavor = "multi_thread")]
async fn ti_14_a_deleted_tenant_leaves_nothing_to_its_successor() {
    let origin = Origin::start().await;
    let gateway = Gateway::build(&origin).tenant("globex").policy_of("globex", COACH).start();
    let folder = gateway.folder();
    let bob = gateway.enroll("globex", "bob@globex.test", "laptop-9");
    let url = origin.url("site.test", "/hello");
    justify(&gateway.browser_of(&bob), &url).await;
    gateway.await_transaction("globex", "/hello").await;
    let mut tunnel = gateway.browser_of(&bob).tunnel().await.unwrap();

    std::fs::rename(folder.join("tenants/globex"), folder.join("gone")).unwrap();
    tunnel.ended(WAIT).await.expect("the tunnel outlived its tenant");
    assert!(gateway.browser_of(&bob).get(&url).await.is_err(), "a tunnel of a tenant that is gone");
    gateway.await_refusal("_pop", "unknown_tenant").await;
    let closed = |event: &Value| event["type"] == "session" && event["state"] == "close";
    gateway.await_event("globex", closed).await;

    // The name is free once its events are out of the way.
    let early = gateway.command(&["tenant", "add", "globex"]);
    let said = String::from_utf8_lossy(&early.stderr).into_owned();
    assert!(!early.status.success() && said.contains("events of an earlier tenant"), "{said}");
    std::fs::rename(folder.join("data/events/globex"), folder.join("old-events")).unwrap();
    let added = gateway.command(&["tenant", "add", "globex"]);
    assert!(added.status.success(), "{}", String::from_utf8_lossy(&added.stderr));
    gateway.set_policy("globex", COACH);
    let successor = gateway.enroll("globex", "bob@globex.test", "laptop-9");
    let browser = gateway.browser_of(&successor);
    let seen = origin.connections().len();
    let ready = async {
        while browser.tunnel().await.is_err() || crate::status(browser.get(&url).await) != 403 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    // Until the policy is in force; whatever was remembered of the old tenant would answer 200.
    tokio::time::timeout(WAIT, ready).await.expect("the successor is served, and is asked again");
    assert!(gateway.browser_of(&bob).get(&url).await.is_err(), "the old device's certificate");
    // It bears the names of a device of the successor's, and is of another issuer.
    gateway.await_refusal("globex", "tunnel_intercepted").await;
    justify(&browser, &url).await;
    let connections = origin.connections();
    assert!(connections.len() > seen, "an origin connection of the old tenant was used");
    assert!(!connections[seen].resumed, "a session of the old tenant was resumed");
    let events = gateway.events("globex").await.unwrap();
    let old = bob.serial();
    assert!(!events.is_empty() && events.iter().all(|event| !event.to_string().contains(&old)));
    let lines = std::fs::read_dir(folder.join("old-events")).unwrap().count();
    assert!(lines > 0, "what was moved away stays as it is");
}

#[tokio::test(flavor = "multi_thread")]
async fn ti_14_a_namesake_put_in_place_at_once_gets_no_session_of_the_old_one() {
    let origin = Origin::start().await;
    let gateway = Gateway::build(&origin)
        .tenant("globex")
        .tenant("spare")
        .policy_of("globex", COACH)
        .policy_of("spare", COACH)
        .start();
    let folder = gateway.folder();
    let bob = gateway.enroll("globex", "bob@globex.test", "laptop-9");
    let url = origin.url("site.test", "/hello");
    justify(&gateway.browser_of(&bob), &url).await;
    let mut tunnel = gateway.browser_of(&bob).tunnel().await.unwrap();
    // So quickly that whoever watches may see the new tenant only.
    std::fs::rename(folder.join("tenants/globex"), folder.join("gone")).unwrap();
    std::fs::rename(folder.join("tenants/spare"), folder.join("tenants/globex")).unwrap();
    tunnel.ended(WAIT).await.expect("the tunnel of a stranger goes on");
    let successor = gateway.enroll("globex", "bob@globex.test", "laptop-9");
    let page = gateway.browser_of(&successor).get(&url).await;
    assert_eq!(crate::status(page), 403, "a stranger's reason was taken for his own");
}
