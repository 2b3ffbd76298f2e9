//! Stepping aside: what cannot be decrypted is noticed, named, counted, and passes undecrypted only
//! by a rule or by the tenant's setting.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tests::client::tls;
use tests::gateway::Browser;
use tests::origin::openssl::OpensslOrigin;
use tests::pki::{Chain, Pki};
use tests::{BoxStream, ClientError, Gateway, Http, Identity, Inner, Leg, Origin, Reply, Request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{await_denial, denial};

/// A client that trusts the origin's own CA and no other, with a certificate or none. It comes over
/// HTTP/1.1, since the library behind the kit's HTTP/2 drops what a stream has queued, a last
/// alert too, when the stream is dropped.
struct Program<'a> {
    browser: Browser,
    pki: &'a Pki,
    certificate: Option<Chain>,
}

impl<'a> Program<'a> {
    fn pinned(browser: Browser, pki: &'a Pki) -> Self {
        Self { browser: browser.leg(Leg::Http1), pki, certificate: None }
    }

    /// With a certificate of alice's own.
    fn certified(browser: Browser, pki: &'a Pki) -> Self {
        Self { certificate: Some(pki.client("alice")), ..Self::pinned(browser, pki) }
    }

    async fn open(&self, authority: &str) -> Result<BoxStream, ClientError> {
        self.browser.open(authority).await
    }

    async fn get(&self, authority: &str, path: &str) -> Result<Reply, ClientError> {
        let stream = self.open(authority).await?;
        let trusted = self.pki.roots_pem();
        let config = tls::config(&trusted, self.certificate.as_ref(), &["http/1.1"])?;
        Inner::tls(stream, authority, Arc::new(config)).await?.get(path).await
    }
}

/// What `/v1/pinned` says of a host.
async fn sightings(gateway: &Gateway, tenant: &str, host: &str) -> Vec<Value> {
    let all = gateway.admin_get(&format!("/v1/pinned?tenant={tenant}")).await.unwrap().json();
    let all = all["pinned"].as_array().unwrap().clone();
    all.into_iter().filter(|seen| seen["host"] == host).collect()
}

/// Pastes the rule that `/v1/pinned` suggests for a host into tenant.yaml, as an operator does.
async fn paste_suggestion(gateway: &Gateway, host: &str) {
    let seen = sightings(gateway, "acme", host).await;
    let rule = seen[0]["suggested_rule"].as_str().unwrap();
    gateway.write("tenants/acme/tenant.yaml", &format!("decrypt:\n  rules:\n{rule}"));
    let checked = gateway.command(&["explain", "acme", "--url", "https://unrelated.test/"]);
    assert!(checked.status.success(), "{rule}: {}", String::from_utf8_lossy(&checked.stderr));
}

/// Repeats `attempt` until it succeeds: a changed configuration is in force within a second.
async fn until_ok<T, F>(mut attempt: impl FnMut() -> F) -> T
where
    F: Future<Output = Result<T, ClientError>>,
{
    let trying = async {
        loop {
            if let Ok(done) = attempt().await {
                return done;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(15), trying).await.expect("never worked")
}

/// Waits until a tenant has `count` records that fit: what a client sees ends before the gateway
/// has learned from it.
async fn await_count(gateway: &Gateway, count: usize, fits: impl Fn(&Value) -> bool) {
    let counting = async {
        while gateway.events("acme").await.unwrap().iter().filter(|it| fits(it)).count() < count {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let outcome = tokio::time::timeout(Duration::from_secs(10), counting).await;
    outcome.unwrap_or_else(|_| panic!("no {count} such records"));
}

/// A program that is refused its page twice: by then it is known to be pinned.
async fn refuse_twice(gateway: &Gateway, program: &Program<'_>, host: &str) {
    for attempt in 1..=2 {
        program.get(host, "/secret").await.unwrap_err();
        await_count(gateway, attempt, |event| event["error"] == "client_pinned").await;
    }
}

fn authority(name: &str, port: u16) -> String {
    format!("{name}:{port}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pinned_client_is_never_let_pass_where_the_setting_is_block() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let host = authority("pinned.test", origin.port());
    let program = Program::pinned(gateway.browser(), origin.pki());
    for _ in 0..6 {
        let error = program.get(&host, "/secret").await.unwrap_err();
        assert!(matches!(error, ClientError::Tls(_)), "{error}");
    }
    assert!(origin.last("/secret").is_none());
    let event = gateway.await_event("acme", |event| event["error"] == "client_pinned").await;
    assert_eq!((&event["host"], &event["type"]), (&"pinned.test".into(), &"flow".into()));
    await_count(&gateway, 6, |event| event["error"] == "client_pinned").await;
    let seen = sightings(&gateway, "acme", "pinned.test").await;
    assert_eq!(seen.len(), 1, "{seen:?}");
    let seen = &seen[0];
    assert_eq!((&seen["count"], &seen["passed"]), (&6.into(), &0.into()), "{seen}");
    assert_eq!((&seen["device"], &seen["reason"]), (&"laptop-1".into(), &"client_pinned".into()));
    // The rule that it suggests works as it stands.
    paste_suggestion(&gateway, "pinned.test").await;
    let got = until_ok(|| program.get(&host, "/hello")).await;
    assert_eq!(got.status, 200);
    gateway
        .await_event("acme", |event| {
            event["host"] == "pinned.test" && event["decrypted"] == false && event["rule"].is_null()
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pinned_program_passes_on_its_device_only_and_each_time_is_on_record() {
    let origin = Origin::start().await;
    let setting = "decryption: { client_pinned: bypass }\n";
    let gateway = Gateway::build(&origin).tenant("globex").settings(setting).start();
    gateway.write("tenants/globex/tenant.yaml", setting);
    let host = authority("pinned.test", origin.port());
    let pinned = |identity: &Identity| Program::pinned(gateway.browser_of(identity), origin.pki());
    let program = pinned(&gateway.alice());
    refuse_twice(&gateway, &program, &host).await;
    assert!(origin.last("/secret").is_none(), "neither was let through");
    for visit in 0..3 {
        let got = program.get(&host, "/secret").await.unwrap();
        assert_eq!(got.status, 200, "visit {visit}");
    }
    await_count(&gateway, 3, |event| {
        event["host"] == "pinned.test"
            && event["decrypt_reason"] == "client_pinned"
            && event["decrypted"] == false
    })
    .await;
    let seen = sightings(&gateway, "acme", "pinned.test").await;
    assert_eq!((&seen[0]["count"], &seen[0]["passed"]), (&5.into(), &3.into()), "{seen:?}");

    // Another program of the same device, another device, another tenant: decrypted as ever.
    let url = origin.url("pinned.test", "/hello");
    let inner = gateway.browser().http(Http::Two).connect(&url).await.unwrap();
    let shown = issuer(&inner.shown[0]);
    assert!(shown.contains("acme"), "the browser beside it is shown the tenant's leaf: {shown}");
    let second = gateway.enroll("acme", "alice@acme.test", "laptop-2");
    let bob = gateway.enroll("globex", "bob@globex.test", "laptop-1");
    for other in [pinned(&second), pinned(&bob)] {
        assert!(matches!(other.get(&host, "/hello").await, Err(ClientError::Tls(_))));
    }
    // Other hosts of the same program are decrypted too.
    let other = authority("other.test", origin.port());
    assert!(matches!(program.get(&other, "/hello").await, Err(ClientError::Tls(_))));
}

fn issuer(certificate: &[u8]) -> String {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).unwrap();
    parsed.issuer().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_passes_is_cut_when_the_setting_is_taken_back() {
    let origin = Origin::start().await;
    let setting = "decryption: { client_pinned: bypass }\n";
    let gateway = Gateway::build(&origin).settings(setting).start();
    let host = authority("pinned.test", origin.port());
    let program = Program::pinned(gateway.browser(), origin.pki());
    refuse_twice(&gateway, &program, &host).await;
    let stream = program.open(&host).await.unwrap();
    let config = tls::config(&origin.pki().roots_pem(), None, &["http/1.1"]).unwrap();
    let mut inner = Inner::tls(stream, &host, Arc::new(config)).await.unwrap();
    assert_eq!(inner.get("/hello").await.unwrap().status, 200);
    // A reload that changes nothing of it cuts nothing.
    let marker = "{ name: marker, match: { domain: [marker.test] }, action: block }";
    let other = format!("{setting}decrypt: {{ rules: [{marker}] }}\n");
    gateway.write("tenants/acme/tenant.yaml", &other);
    until_ok(|| async {
        gateway.browser().get(&origin.url("marker.test", "/hello")).await.ok();
        let events = gateway.events("acme").await?;
        let blocked = events.iter().any(|event| event["block_reason"] == "decrypt_rule");
        blocked.then_some(()).ok_or(ClientError::Timeout)
    })
    .await;
    assert_eq!(inner.get("/hello").await.unwrap().status, 200);
    gateway.write("tenants/acme/tenant.yaml", "decryption: { client_pinned: block }\n");
    gateway.await_event("acme", |event| event["error"] == "withdrawn").await;
    assert!(inner.get("/hello").await.is_err());
    assert!(program.get(&host, "/hello").await.is_err(), "decrypted again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_leaves_thrice_right_after_the_leaf_is_pinned_too() {
    let origin = Origin::start().await;
    let setting = "decryption: { client_pinned: bypass }\n";
    let gateway = Gateway::build(&origin).settings(setting).start();
    let host = authority("pinned.test", origin.port());
    let browser = gateway.browser().leg(Leg::Http1);
    // It trusts the CA of its device, then looks for its pin and leaves without a word.
    let trusted = gateway.alice().intercept_ca_pem;
    let config = Arc::new(tls::config(&trusted, None, &["http/1.1"]).unwrap());
    for attempt in 1..=3 {
        let stream = browser.open(&host).await.unwrap();
        let mut stream = tls::connect(stream, "pinned.test", Arc::clone(&config)).await.unwrap();
        stream.shutdown().await.unwrap();
        await_count(&gateway, attempt, |event| event["error"] == "client_closed_unused").await;
    }
    let stream = browser.open(&host).await.unwrap();
    let refused = tls::connect(stream, "pinned.test", config).await;
    assert!(refused.is_err(), "it is shown the origin's own certificate, which is no CA of its");
    let program = Program::pinned(browser, origin.pki());
    assert_eq!(program.get(&host, "/hello").await.unwrap().status, 200);
    assert_eq!(sightings(&gateway, "acme", "pinned.test").await[0]["reason"], "client_pinned");
}

/// `openssl s_client` through the explicit listener, given one request.
async fn s_client(gateway: &Gateway, host: &str, options: &[&str]) -> (bool, String) {
    let url = gateway.alice().proxy_url.unwrap();
    let rest = url.strip_prefix("http://").unwrap();
    let (credentials, proxy) = rest.rsplit_once('@').unwrap();
    let (user, token) = credentials.split_once(':').unwrap();
    let user = user.replace("%40", "@");
    let mut command = Command::new("openssl");
    command
        .args(["s_client", "-quiet", "-connect", host, "-proxy", proxy])
        .args(["-proxy_user", &user, "-proxy_pass", &format!("pass:{token}")])
        .args(["-servername", host.split(':').next().unwrap()])
        .args(options)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let run = tokio::task::spawn_blocking(move || {
        use std::io::Write;
        let mut child = command.spawn().expect("the openssl command");
        let mut stdin = child.stdin.take().expect("its input");
        // A client that has failed already takes no request.
        stdin.write_all(b"GET / HTTP/1.0\r\n\r\n").ok();
        drop(stdin);
        child.wait_with_output().expect("openssl's output")
    });
    let output = tokio::time::timeout(Duration::from_secs(30), run).await.unwrap().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    (output.status.success() && said.contains("HTTP/1.0 200"), said)
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}

#[tokio::test(flavor = "multi_thread")]
async fn openssl_that_verifies_the_origins_own_ca_is_let_pass_after_two_refusals() {
    let origin = Origin::start().await;
    let server = OpensslOrigin::start(origin.pki(), "pinned.test", &[]);
    let setting = "decryption: { client_pinned: bypass }\n";
    let gateway = Gateway::build(&origin).settings(setting).start();
    let roots = file(&origin.pki().roots_pem());
    let roots = roots.path().to_str().unwrap();
    let host = authority("pinned.test", server.port());
    let verify = ["-CAfile", roots, "-verify_return_error"];
    let mut refused = 0;
    for version in ["-tls1_3", "-tls1_2"] {
        let options = [&verify[..], &[version]].concat();
        for _ in 0..2 {
            let (worked, said) = s_client(&gateway, &host, &options).await;
            assert!(!worked && said.contains("certificate verify failed"), "{version}: {said}");
            refused += 1;
            await_count(&gateway, refused, |event| event["error"] == "client_pinned").await;
        }
        let (worked, said) = s_client(&gateway, &host, &options).await;
        assert!(worked, "{version}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn uc_46_an_origin_that_demands_a_client_certificate_is_named_and_passes_by_the_setting() {
    let origin = Origin::build().wants_client_certificate(true).start().await;
    let gateway = Gateway::start(&origin);
    let url = origin.url("mutual.test", "/hello");
    let page = denial(gateway.browser().send(&url, Request::get("/").navigation()).await);
    assert!(page.text.contains("client_certificate_wanted"), "{}", page.text);
    assert_eq!(page.status, 403);
    await_denial(&gateway, "mutual.test", "client_certificate_wanted").await;
    let seen = sightings(&gateway, "acme", "mutual.test").await;
    assert_eq!(seen[0]["reason"], "client_certificate_wanted", "{seen:?}");

    let host = authority("mutual.test", origin.port());
    let program = Program::certified(gateway.browser(), origin.pki());
    assert!(program.get(&host, "/hello").await.is_err(), "blocked by default");
    gateway
        .write("tenants/acme/tenant.yaml", "decryption: { client_certificate_wanted: bypass }\n");
    let got = until_ok(|| program.get(&host, "/hello")).await;
    assert_eq!(got.status, 200);
    assert!(origin.connections().iter().any(|one| one.client_certificates > 0), "alice's own");
    gateway
        .await_event("acme", |event| {
            event["decrypt_reason"] == "client_certificate_wanted" && event["decrypted"] == false
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn uc_46_real_servers_that_demand_a_client_certificate_are_told_in_both_versions() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    for (name, version) in [("mutual12.test", "-tls1_2"), ("mutual13.test", "-tls1_3")] {
        let options = [
            "-Verify",
            "1",
            "-verify_return_error",
            "-partial_chain",
            "-CAfile",
            "ca.pem",
            version,
        ];
        let server = OpensslOrigin::start(origin.pki(), name, &options);
        let url = format!("https://{name}:{}/", server.port());
        let page = denial(gateway.browser().get(&url).await);
        assert!(page.text.contains("client_certificate_wanted"), "{version}: {}", page.text);
        paste_suggestion(&gateway, name).await;
        let host = authority(name, server.port());
        let program = Program::certified(gateway.browser(), origin.pki());
        let got = until_ok(|| program.get(&host, "/")).await;
        assert_eq!(got.status, 200, "{version}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn uc_46_an_origin_that_only_asks_is_served_without_one_unless_the_tenant_lets_it_pass() {
    let origin = Origin::build().wants_client_certificate(false).start().await;
    let gateway = Gateway::start(&origin);
    let url = origin.url("asks.test", "/hello");
    assert_eq!(gateway.browser().get(&url).await.unwrap().status, 200);
    let event = gateway.await_transaction("acme", "asks.test").await;
    assert_eq!(event["decrypted"], true, "{event}");
    let seen = sightings(&gateway, "acme", "asks.test").await;
    assert_eq!(seen[0]["reason"], "client_certificate_wanted", "{seen:?}");
    let setting = "decryption: { client_certificate_wanted: bypass }\n";
    gateway.write("tenants/acme/tenant.yaml", setting);
    let program = Program::pinned(gateway.browser(), origin.pki());
    let host = authority("asks.test", origin.port());
    let got = until_ok(|| program.get(&host, "/hello")).await;
    assert_eq!(got.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_that_wants_a_reason_first_is_not_passed_by() {
    let origin = Origin::build().wants_client_certificate(true).start().await;
    let coach = "  - { name: think first, match: { domain: [mutual.test] }, action: coach }";
    let gateway = Gateway::build(&origin)
        .policy(coach)
        .settings("decryption: { client_certificate_wanted: bypass }\n")
        .start();
    let program = Program::certified(gateway.browser(), origin.pki());
    let host = authority("mutual.test", origin.port());
    for _ in 0..3 {
        program.get(&host, "/secret").await.unwrap_err();
    }
    denial(gateway.browser().get(&origin.url("mutual.test", "/secret")).await);
    assert!(origin.last("/secret").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn uc_42_uc_43_a_legacy_origin_is_named_and_passes_by_the_suggested_rule() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let roots = file(&origin.pki().roots_pem());
    let roots = roots.path().to_str().unwrap();
    for (name, options) in [
        ("tls11.test", &["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"][..]),
        ("cbc.test", &["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA:@SECLEVEL=0"]),
    ] {
        let old = OpensslOrigin::start(origin.pki(), name, options);
        let url = format!("https://{name}:{}/", old.port());
        let page = denial(gateway.browser().send(&url, Request::get("/").navigation()).await);
        assert!(page.text.contains("origin_tls_obsolete"), "{}", page.text);
        assert!(page.text.contains("bypass"), "the page says what can be done: {}", page.text);
        let event = await_denial(&gateway, name, "origin_tls_obsolete").await;
        assert_eq!(event["origin_cert_fault"], "weak", "{event}");
        let seen = sightings(&gateway, "acme", name).await;
        assert_eq!(seen[0]["reason"], "origin_tls_obsolete", "{seen:?}");
        paste_suggestion(&gateway, name).await;
        let host = authority(name, old.port());
        let client = [options, &["-CAfile", roots, "-verify_return_error"]].concat();
        until_ok(|| async {
            let (worked, said) = s_client(&gateway, &host, &client).await;
            worked.then_some(()).ok_or(ClientError::Malformed(said))
        })
        .await;
    }
}

/// A server that speaks first inside TLS, as mail does, and then echoes.
async fn greeter(origin: &Origin, name: &str) -> u16 {
    let chain = origin.pki().chain(name, tests::Fault::None);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain.certificates, chain.key)
        .unwrap();
    config.alpn_protocols = vec![b"imap".to_vec()];
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(tcp).await else { return };
                stream.write_all(b"* OK mail.test ready\r\n").await.ok();
                let (mut reader, mut writer) = tokio::io::split(stream);
                tokio::io::copy(&mut reader, &mut writer).await.ok();
            });
        }
    });
    port
}

/// Speaks no HTTP in TLS: sends `first` and reads what comes, until the end.
async fn speak(
    stream: BoxStream,
    name: &str,
    trusted_pem: &str,
    alpn: &[&str],
    first: &[u8],
) -> Result<Vec<u8>, ClientError> {
    let config = tls::config(trusted_pem, None, alpn)?;
    let mut stream = tls::connect(stream, name, Arc::new(config)).await?;
    stream.write_all(first).await.map_err(ClientError::Broken)?;
    let mut got = vec![0; 64];
    let read = tokio::time::timeout(Duration::from_secs(20), stream.read(&mut got)).await;
    let count = read.map_err(|_| ClientError::Timeout)?.map_err(ClientError::Broken)?;
    got.truncate(count);
    Ok(got)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_http_inside_tls_is_named_and_passes_by_the_suggested_rule() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let browser = gateway.browser();
    let own = gateway.alice().intercept_ca_pem;
    let cases: [(&str, &str, &[&str], &[u8]); 4] = [
        ("imap.test", "alpn_not_http", &["imap"], b""),
        ("custom.test", "alpn_not_http", &["x-own/1", "x-own/2"], b"hello"),
        ("line.test", "unknown_protocol", &[], b"a1 LOGIN alice secret\r\n"),
        ("smtp.test", "server_first", &[], b""),
    ];
    for (name, reason, alpn, first) in cases {
        let port = greeter(&origin, name).await;
        let host = authority(name, port);
        let stream = browser.open(&host).await.unwrap();
        match speak(stream, name, &own, alpn, first).await {
            Err(ClientError::Tls(error)) if reason == "alpn_not_http" => {
                assert!(error.to_string().contains("NoApplicationProtocol"), "{name}: {error}");
            }
            Ok(got) => assert!(got.is_empty(), "{name}: {got:?}"),
            // Cut rather than ended: it came to nothing either way.
            Err(error) => assert!(error.is_cut() && reason != "alpn_not_http", "{name}: {error}"),
        }
        let event = await_denial(&gateway, name, "not_http").await;
        assert_eq!((&event["type"], &event["action"]), (&"flow".into(), &"block".into()));
        assert_eq!(event["decrypt_reason"], reason, "{event}");
        if let Some(first) = alpn.first() {
            assert_eq!(event["client_alpn"], *first, "{event}");
        }
        let seen = sightings(&gateway, "acme", name).await;
        assert_eq!((&seen[0]["reason"], &seen[0]["count"]), (&"not_http".into(), &1.into()));
        paste_suggestion(&gateway, name).await;
        let roots = origin.pki().roots_pem();
        let alpn: &[&str] = if name == "custom.test" { &["imap"] } else { alpn };
        let greeting = until_ok(|| async {
            let stream = browser.open(&host).await?;
            speak(stream, name, &roots, alpn, first).await
        })
        .await;
        assert!(greeting.starts_with(b"* OK"), "{name}: {greeting:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_stays_on_record_though_the_client_refuses_the_page() {
    let origin = Origin::start().await;
    let rule = "  - { name: no site, match: { domain: [pinned.test] }, action: block }";
    let gateway = Gateway::build(&origin).policy(rule).start();
    let program = Program::pinned(gateway.browser(), origin.pki());
    let host = authority("pinned.test", origin.port());
    program.get(&host, "/hello").await.unwrap_err();
    let event = gateway.await_event("acme", |event| event["error"] == "client_pinned").await;
    assert_eq!((&event["action"], &event["rule"]), (&"block".into(), &"no site".into()));
    assert_eq!(event["block_reason"], "rule", "{event}");
    assert!(origin.connections().is_empty(), "nothing was dialled");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hello_that_cannot_be_read_is_not_carried_unread() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let host = authority("site.test", origin.port());
    // A handshake record with a ClientHello whose inside is noise: a lenient server might take it.
    let mut hello = vec![22, 3, 1, 0, 44, 1, 0, 0, 40, 3, 3];
    hello.extend([0xff; 38]);
    let mut stream = gateway.browser().leg(Leg::Http1).open(&host).await.unwrap();
    stream.write_all(&hello).await.unwrap();
    let mut got = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut got)).await;
    ended.expect("the stream ends").ok();
    assert!(got.is_empty(), "{got:?}");
    let event = await_denial(&gateway, "site.test", "hello_malformed").await;
    assert_eq!(event["action"], "block", "{event}");
    assert!(origin.connections().is_empty(), "nothing was dialled");
}
