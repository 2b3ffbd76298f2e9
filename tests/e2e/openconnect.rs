//! The stock `openconnect` client: nothing but a URL and a certificate, and whatever happens to its
//! network.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tests::client::dtls::DtlsTo;
use tests::client::packet::Addresses;
use tests::link::UdpRelay;
use tests::namespace::Namespace;
use tests::openconnect::Openconnect;
use tests::webdriver::Chromium;
use tests::{Gateway, Identity, Origin};

const INNER: &str = "100.96.0.1";
/// What takes a few round trips, on a busy machine.
const SOON: Duration = Duration::from_secs(10);

/// An origin, a gateway and a client machine behind it.
pub(super) struct World {
    pub(super) origin: Origin,
    pub(super) gateway: Gateway,
    pub(super) alice: Identity,
    pub(super) namespace: Namespace,
}

impl World {
    pub(super) async fn new() -> Self {
        Self::with(|build| build).await
    }

    pub(super) async fn with(
        change: impl FnOnce(tests::gateway::Build) -> tests::gateway::Build,
    ) -> Self {
        Self::of(Origin::build(), change).await
    }

    pub(super) async fn of(
        origin: tests::origin::Build,
        change: impl FnOnce(tests::gateway::Build) -> tests::gateway::Build,
    ) -> Self {
        Self::at(Namespace::new(), origin, change).await
    }

    pub(super) async fn at(
        namespace: Namespace,
        origin: tests::origin::Build,
        change: impl FnOnce(tests::gateway::Build) -> tests::gateway::Build,
    ) -> Self {
        namespace.name_server(INNER);
        let origin = origin.at(namespace.origin()).start().await;
        let gateway = change(Gateway::build(&origin).beyond(namespace.origin())).start();
        let alice = gateway.alice();
        Self { origin, gateway, alice, namespace }
    }

    pub(super) fn connect(&self, options: &[&str]) -> Openconnect {
        Openconnect::connect(&self.namespace, &self.gateway, &self.alice, options)
    }

    /// What curl on the client machine gets.
    pub(super) async fn curl(&self, url: &str, options: &[&str]) -> String {
        let mut command = self.namespace.command("curl");
        command
            .args(["--silent", "--show-error", "--max-time", "40", "--cacert"])
            .arg(self.alice.file("intercept-ca.pem"))
            .args(options)
            .arg(url);
        let run = tokio::task::spawn_blocking(move || command.output()).await;
        let output = run.expect("curl's thread").expect("the curl command");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "curl {url}: {said}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_url_and_a_certificate_are_enough_and_data_goes_over_dtls() {
    let world = World::new().await;
    let mut client = world.connect(&[]);
    client.wait_for("(DTLS1.2)-(PSK)-(AES-256-GCM)", SOON);
    for option in ["--http1.1", "--http2"] {
        let page = world.curl(&world.origin.url("site.test", "/hello"), &[option]).await;
        assert!(page.contains("hello from site.test"), "{page}");
    }
    let event = world.gateway.await_transaction("acme", "/hello").await;
    for (field, value) in [
        ("access_method", "openconnect"),
        ("user", "alice@acme.test"),
        ("device", "laptop-1"),
        ("host", "site.test"),
        ("host_source", "dns"),
    ] {
        assert_eq!(event[field], value, "{field} of {event}");
    }
    assert_eq!(event["dest_ip"], world.namespace.origin().to_string());
    assert_eq!(event["client_ip"], world.namespace.client().to_string());
    let size = 20_000_000;
    let big = world.origin.url("site.test", &format!("/bytes/{size}"));
    let got = world.curl(&big, &["--output", "/dev/null", "--write-out", "%{size_download}"]).await;
    assert_eq!(got, size.to_string());
    client.end();
    let closed =
        |event: &serde_json::Value| event["type"] == "session" && event["state"] == "close";
    let closed = world.gateway.await_event("acme", closed).await;
    assert!(closed["error"].is_null(), "{closed}");
}

/// What a page does besides loading: many requests at once, a WebSocket, an upload.
const TALK: &str = r#"
(async () => {
  const sizes = await Promise.all([...Array(100).keys()].map(async (number) =>
    (await (await fetch(`/bytes/${1000 + number}`)).arrayBuffer()).byteLength - number));
  const echoed = await new Promise((resolve, reject) => {
    const socket = new WebSocket(`wss://${location.host}/ws`);
    socket.onopen = () => socket.send("héllo");
    socket.onmessage = (event) => { socket.close(); resolve(event.data); };
    socket.onerror = () => reject("the socket failed");
  });
  const upload = await fetch("/upload", { method: "POST", body: new Uint8Array(300000) });
  return [sizes.filter((size) => size === 1000).length, echoed, (await upload.json()).bytes];
})().then(done, (error) => done(String(error)));
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_without_any_proxy_setting_loads_an_intercepted_page() {
    let world = World::with(|build| build.host("www.dropbox.com")).await;
    let client = world.connect(&[]);
    client.wait_for("Established DTLS connection", SOON);
    let url = world.origin.url("www.dropbox.com", "/page");
    let (namespace, alice) = (world.namespace, world.alice);
    let browse = move || {
        let browser = Chromium::start_in(&namespace, &alice);
        browser.open(&url);
        browser.find("//h1[text()='Origin page']");
        (browser.run_until_done(TALK), namespace)
    };
    let (said, _namespace) = tokio::task::spawn_blocking(browse).await.expect("the browser");
    assert_eq!(said, serde_json::json!([100, "héllo", 300_000]));
    let event = world.gateway.await_transaction("acme", "dropbox.com").await;
    for (field, value) in [
        ("access_method", "openconnect"),
        ("user", "alice@acme.test"),
        ("app", "dropbox"),
        ("host", "www.dropbox.com"),
    ] {
        assert_eq!(event[field], value, "{field} of {event}");
    }
    assert!(event["user_agent"].as_str().is_some_and(|it| it.contains("Chrome")), "{event}");
    assert_eq!(event["decrypted"], true, "{event}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_udp_it_goes_on_over_tls_and_comes_back() {
    let world = World::new().await;
    let client = world.connect(&["--force-dpd=2"]);
    client.wait_for("Established DTLS connection", SOON);
    let url = world.origin.url("site.test", "/hello");
    assert!(world.curl(&url, &[]).await.contains("hello"));
    let udp = world.gateway.ports().tunnel;
    world.namespace.block_udp(udp);
    client.wait_for("DTLS Dead Peer Detection", Duration::from_secs(30));
    assert!(world.curl(&url, &[]).await.contains("hello"), "over TLS");
    world.namespace.unblock();
    client.wait_for_times("Established DTLS connection", 2, Duration::from_secs(90));
    assert!(world.curl(&url, &[]).await.contains("hello"), "over DTLS again");
    let sessions = world.gateway.events("acme").await.unwrap();
    let opened = sessions.iter().filter(|it| it["type"] == "session" && it["state"] == "open");
    assert_eq!(opened.count(), 1, "one session all along");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_there_is_no_udp_at_all_tls_is_enough() {
    let world = World::new().await;
    let client = world.connect(&["--no-dtls"]);
    assert_eq!(client.times("DTLS connected"), 0, "{:#?}", client.said());
    let page = world.curl(&world.origin.url("site.test", "/hello"), &[]).await;
    assert!(page.contains("hello from site.test"), "{page}");
    let size = 5_000_000;
    let big = world.origin.url("site.test", &format!("/bytes/{size}"));
    let got = world.curl(&big, &["--output", "/dev/null", "--write-out", "%{size_download}"]).await;
    assert_eq!(got, size.to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_gateway_lets_it_go_and_the_next_one_takes_it_as_it_was() {
    let world = World::new().await;
    let client = world.connect(&["--reconnect-timeout=60"]);
    let url = world.origin.url("site.test", "/hello");
    assert!(world.curl(&url, &[]).await.contains("hello"));
    world.gateway.terminate();
    assert_eq!(world.gateway.exit_code(), Some(0));
    world.gateway.restart();
    client.wait_for_times("CSTP connected", 2, Duration::from_secs(60));
    client.wait_for_times("Established DTLS connection", 2, Duration::from_secs(60));
    assert!(world.curl(&url, &[]).await.contains("hello"), "through the new process");
    // With the address it had.
    let address = |line: &&String| line.starts_with("Configured as") || line.contains("Reconnect");
    let said = client.said();
    let configured: Vec<_> = said.iter().filter(address).collect();
    assert_eq!(configured.len(), 1, "{configured:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_takes_over_from_a_client_that_was_lost_over_dtls_and_gets_addresses_of_its_own() {
    let world = World::new().await;
    let relay = UdpRelay::start(world.gateway.address(), 1).await;
    let (alice, name) = (&world.alice, world.gateway.name("acme"));
    let tls = world.gateway.address();
    let to = DtlsTo::new(relay.address, tls, &name, &alice.tunnel_ca_pem, &alice.chain).unwrap();
    let to = to.addresses(Addresses::of(Ipv4Addr::new(10, 77, 0, 2)));
    let lost = to.without_fallback().connect().await.unwrap();
    let site = SocketAddr::from((world.namespace.origin(), world.origin.port()));
    drop(lost.stack().connect(site).await.unwrap());
    relay.block(true);
    let _client = world.connect(&[]);
    assert!(world.curl(&world.origin.url("site.test", "/hello"), &[]).await.contains("hello"));
    let events = world.gateway.events("acme").await.unwrap();
    let opened = |it: &&serde_json::Value| it["type"] == "session" && it["state"] == "open";
    assert_eq!(events.iter().filter(opened).count(), 1, "one device, one session");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_device_loses_its_tunnel_within_a_second() {
    let world = World::new().await;
    let client = world.connect(&[]);
    world.gateway.revoke_device("acme", "laptop-1");
    client.wait_for("SSL", Duration::from_secs(5));
    let closed =
        |event: &serde_json::Value| event["type"] == "session" && event["state"] == "close";
    drop(world.gateway.await_event("acme", closed).await);
    drop(world.gateway.await_refusal("acme", "revoked").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn policy_blocks_by_name_and_a_page_says_so() {
    let rules = "  - name: no forum\n    match: { domain: [forum.test] }\n    action: block\n";
    let world = World::with(|build| build.policy(rules)).await;
    let _client = world.connect(&[]);
    let blocked = world
        .curl(&world.origin.url("forum.test", "/thread"), &["--write-out", "%{http_code}"])
        .await;
    assert!(blocked.contains("no forum") && blocked.ends_with("403"), "{blocked}");
    let page = world.curl(&world.origin.url("site.test", "/hello"), &[]).await;
    assert!(page.contains("hello from site.test"));
}
