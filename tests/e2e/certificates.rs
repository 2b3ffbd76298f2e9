//! Origins with faulty certificates (UC): never a good lock for a bad origin.

use std::process::Command;

use tests::gateway::binary;
use tests::origin::Answer;
use tests::origin::openssl::OpensslOrigin;
use tests::pki::chain_below_ca;
use tests::{Fault, Gateway, Http, Origin, Request};

use crate::{await_denial, denial};

/// Fault, the setting that governs it, the name it is served under.
const CASES: [(Fault, &str, &str); 20] = [
    (Fault::SelfSigned, "self_signed", "uc-01.test"),
    (Fault::UntrustedRoot, "untrusted_root", "uc-02.test"),
    (Fault::TamperedSignature, "untrusted_root", "uc-03.test"),
    (Fault::FakeIssuer, "untrusted_root", "uc-04.test"),
    (Fault::NoSan, "name_mismatch", "uc-06.test"),
    (Fault::NameMismatch, "name_mismatch", "uc-07.test"),
    (Fault::WildcardTooShallow, "name_mismatch", "x.uc-08.test"),
    (Fault::WildcardOnPublicSuffix, "name_mismatch", "uc-09.co.uk"),
    (Fault::WildcardAlone, "name_mismatch", "uc-10.test"),
    (Fault::Expired, "expired", "uc-15.test"),
    (Fault::ExpiredIntermediate, "expired", "uc-16.test"),
    (Fault::ExpiredRoot, "expired", "uc-17.test"),
    (Fault::NotYetValid, "not_yet_valid", "uc-18.test"),
    (Fault::IssuerNotCa, "untrusted_root", "uc-20.test"),
    (Fault::PathLength, "untrusted_root", "uc-22.test"),
    (Fault::NameConstraints, "untrusted_root", "uc-23.test"),
    (Fault::UnknownCriticalExtension, "untrusted_root", "uc-25.test"),
    (Fault::IssuerKeyUsage, "untrusted_root", "uc-27.test"),
    (Fault::ClientUsageOnly, "untrusted_root", "uc-28.test"),
    (Fault::IncompleteChain, "incomplete_chain", "uc-36.test"),
];

/// Faults whose one right name is beyond doubt; for the rest any refusal will do.
fn exact(fault: Fault) -> bool {
    use Fault::{
        Expired, IncompleteChain, NameMismatch, NoSan, NotYetValid, SelfSigned, UntrustedRoot,
    };
    matches!(
        fault,
        SelfSigned | UntrustedRoot | NoSan | NameMismatch | Expired | NotYetValid | IncompleteChain
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn uc_every_certificate_fault_shows_a_page_and_no_request_passes() {
    let mut build = Origin::build();
    for (fault, _, name) in CASES {
        build = build.fault(name, fault);
    }
    let origin = build.start().await;
    let gateway = Gateway::build(&origin).host("*.co.uk").start();
    let control = gateway.browser().get(&origin.url("good.test", "/hello")).await;
    assert_eq!(control.unwrap().status, 200, "a good origin passes");
    for (fault, label, name) in CASES {
        for http in [Http::One, Http::Two] {
            let url = origin.url(name, "/secret");
            let request = Request::get("/").navigation();
            let page = denial(gateway.browser().http(http).send(&url, request).await);
            assert!(page.text.contains("<html") || page.text.contains("<!"), "{fault:?}: {page:?}");
        }
        let event = gateway
            .await_event("acme", |event| {
                event["host"] == name && !event["origin_cert_fault"].is_null()
            })
            .await;
        if exact(fault) {
            assert_eq!(event["origin_cert_fault"], label, "{fault:?}: {event}");
        }
        assert_eq!(event["action"], "block", "{fault:?}: {event}");
    }
    assert!(origin.last("/secret").is_none(), "a request went to a faulty origin");
}

#[tokio::test(flavor = "multi_thread")]
async fn uc_30_a_sha1_signature_is_refused() {
    let origin = Origin::build().fault("sha1.test", Fault::WeakSha1).start().await;
    let gateway = Gateway::start(&origin);
    denial(gateway.browser().get(&origin.url("sha1.test", "/secret")).await);
    assert!(origin.last("/secret").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn uc_31_a_short_rsa_key_is_refused_even_where_its_issuer_is_trusted() {
    let origin = Origin::start().await;
    let weak = OpensslOrigin::start_rsa(origin.pki(), "rsa1024.test", 1_024);
    let strong = OpensslOrigin::start_rsa(origin.pki(), "rsa2048.test", 2_048);
    let gateway = Gateway::start(&origin);
    let control = gateway.browser().http(Http::One);
    let control = control.get(&format!("https://rsa2048.test:{}/", strong.port())).await.unwrap();
    assert_eq!(control.status, 200, "a longer key passes: {}", control.text());
    denial(gateway.browser().get(&format!("https://rsa1024.test:{}/", weak.port())).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn uc_42_uc_43_old_versions_and_ciphers_of_an_origin_are_refused() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    for (name, options) in [
        ("tls10.test", &["-tls1", "-cipher", "ALL:@SECLEVEL=0"][..]),
        ("tls11.test", &["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"]),
        ("cbc.test", &["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA:@SECLEVEL=0"]),
        ("null.test", &["-tls1_2", "-cipher", "ECDHE-ECDSA-NULL-SHA:@SECLEVEL=0"]),
    ] {
        let old = OpensslOrigin::start(origin.pki(), name, options);
        denial(gateway.browser().get(&format!("https://{name}:{}/", old.port())).await);
    }
    let new = OpensslOrigin::start(origin.pki(), "tls12.test", &["-tls1_2"]);
    let control = gateway.browser().http(Http::One);
    let control = control.get(&format!("https://tls12.test:{}/", new.port())).await.unwrap();
    assert_eq!(control.status, 200, "TLS 1.2 with an AEAD passes: {}", control.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn uc_34_a_chain_that_ends_in_a_tenants_own_ca_is_refused() {
    let origin = Origin::start().await;
    let gateway = Gateway::build(&origin).tenant("globex").configure();
    let ca = |tenant: &str, kind: &str| {
        let read = |end: &str| gateway.read(&format!("tenants/{tenant}/ca/{kind}.{end}"));
        (read("pem"), read("key"))
    };
    let (mut build, mut trusted) = (Origin::build().pki(origin.pki()), String::new());
    let mut names = Vec::new();
    for tenant in ["acme", "globex"] {
        let (pem, key) = ca(tenant, "intercept");
        let name = format!("{tenant}-ca.test");
        build = build.chain(&name, chain_below_ca(&name, &pem, &key));
        trusted.push_str(&pem);
        names.push(name);
    }
    let evil = build.start().await;
    // Not even an operator who pasted the CAs into the trusted roots opens this.
    let roots = gateway.folder().parent().unwrap().join("origin-roots.pem");
    std::fs::write(roots, evil.pki().roots_pem() + &trusted).unwrap();
    gateway.restart();
    for name in names {
        denial(gateway.browser().get(&evil.url(&name, "/secret")).await);
    }
    assert!(evil.last("/secret").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn uc_12_an_address_with_its_own_certificate_is_good() {
    let origin = Origin::start().await;
    // A client that asks for an address sends no SNI.
    let gateway = Gateway::build(&origin).settings("decryption: { no_sni: allow }\n").start();
    let got = gateway.browser().get(&origin.url("127.0.0.1", "/hello")).await.unwrap();
    assert_eq!(got.status, 200, "{}", got.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn uc_46_an_origin_that_wants_a_client_certificate_gets_none() {
    let origin = Origin::build().wants_client_certificate(false).start().await;
    let gateway = Gateway::start(&origin);
    let url = origin.url("site.test", "/hello");
    // By default blocked or passed without a certificate, as the setting says; never with one.
    gateway.browser().get(&url).await.ok();
    assert!(origin.connections().iter().all(|one| one.client_certificates == 0));

    let strict = Origin::build().wants_client_certificate(true).start().await;
    let gateway = Gateway::start(&strict);
    denial(gateway.browser().get(&strict.url("site.test", "/hello")).await);
    assert!(strict.connections().iter().all(|one| one.client_certificates == 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_that_a_tenant_allows_passes_and_is_still_recorded() {
    let origin = Origin::build().fault("old.test", Fault::Expired).start().await;
    let gateway = Gateway::build(&origin)
        .tenant("globex")
        .settings("decryption: { expired: allow }\n")
        .start();
    let url = origin.url("old.test", "/hello");
    assert_eq!(gateway.browser().get(&url).await.unwrap().status, 200);
    let event = gateway.await_transaction("acme", "old.test").await;
    assert_eq!(event["origin_cert_fault"], "expired", "{event}");
    let bob = gateway.enroll("globex", "bob@globex.test", "laptop-9");
    denial(gateway.browser_of(&bob).get(&url).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_that_a_tenant_warns_of_shows_a_page_first() {
    let origin = Origin::build().fault("old.test", Fault::Expired).start().await;
    let gateway = Gateway::build(&origin).settings("decryption: { expired: warn }\n").start();
    let url = origin.url("old.test", "/secret");
    let page = denial(gateway.browser().send(&url, Request::get("/").navigation()).await);
    assert!(page.text.contains("notice.sluice.test"), "a way to proceed: {}", page.text);
    assert!(origin.last("/secret").is_none());
    await_denial(&gateway, "old.test", "expired").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sd_22_no_url_of_a_certificate_is_fetched() {
    let tempting = Origin::start().await;
    let at = |path: &str| format!("http://127.0.0.1:{}{path}", tempting.plain_port());
    let pki = std::sync::Arc::new(tests::Pki::new());
    let chain = pki.chain_with_urls("aia.test", &at("/issuer.der"), &at("/ocsp"));
    let origin = Origin::build().pki(&pki).chain("aia.test", chain).start().await;
    // The address could be dialled: only that nobody tries keeps it untouched.
    let gateway = Gateway::start(&origin);
    denial(gateway.browser().get(&origin.url("aia.test", "/secret")).await);
    await_denial(&gateway, "aia.test", "incomplete_chain").await;
    assert!(tempting.connections().is_empty(), "{:?}", tempting.connections());
    assert!(origin.last("/secret").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn uc_36_a_missing_intermediate_is_fetched_where_the_tenant_wants_that() {
    let pki = std::sync::Arc::new(tests::Pki::new());
    let der = |bytes: Vec<u8>| Answer::of(200, "application/pkix-cert", bytes.into());
    let (right, wrong) = (pki.intermediate_der(), tests::Pki::new().intermediate_der());
    let place = Origin::build()
        .on("/right.der", der(right))
        .on("/wrong.der", der(wrong))
        .on("/huge.der", der(vec![b'x'; 1_000_000]))
        .start()
        .await;
    let at = |path: &str| format!("http://127.0.0.1:{}{path}", place.plain_port());
    let elsewhere = "http://169.254.169.254/right.der".to_owned();
    let mut build = Origin::build().pki(&pki);
    for (name, url) in [
        ("right.test", at("/right.der")),
        ("wrong.test", at("/wrong.der")),
        ("huge.test", at("/huge.der")),
        ("missing.test", at("/status/404")),
        ("guarded.test", elsewhere),
    ] {
        build = build.chain(name, pki.chain_with_urls(name, &url, &at("/ocsp")));
    }
    let origin = build.start().await;
    let gateway =
        Gateway::build(&origin).settings("origin: { fetch_intermediates: true }\n").start();
    for name in ["wrong.test", "huge.test", "missing.test", "guarded.test"] {
        denial(gateway.browser().get(&origin.url(name, "/secret")).await);
        await_denial(&gateway, name, "incomplete_chain").await;
    }
    for _ in 0..3 {
        let reply = gateway.browser().get(&origin.url("right.test", "/hello")).await.unwrap();
        assert_eq!(reply.status, 200);
    }
    let event = gateway.await_transaction("acme", "right.test").await;
    assert_eq!(event.get("origin_cert_fault"), None, "{event}");
    let asked = place.requests().iter().filter(|one| one.target == "/right.der").count();
    assert_eq!(asked, 1, "it was kept");
    assert!(place.requests().iter().all(|one| one.target != "/ocsp"));
}

#[tokio::test(flavor = "multi_thread")]
async fn uc_39_a_revoked_leaf_and_a_revoked_intermediate_are_refused() {
    let names = [("leaf.test", Fault::Revoked), ("middle.test", Fault::RevokedIntermediate)];
    let mut build = Origin::build();
    for (name, fault) in names {
        build = build.fault(name, fault);
    }
    let origin = build.start().await;
    let gateway = Gateway::build(&origin)
        .lists(origin.pki().lists_pem())
        .tenant("globex")
        .tenant("initech")
        .settings_of("globex", "decryption: { revoked: allow }\n")
        .settings_of("initech", "decryption: { revoked: warn }\n")
        .start();
    assert_eq!(
        gateway.browser().get(&origin.url("good.test", "/hello")).await.unwrap().status,
        200
    );
    let bob = gateway.enroll("globex", "bob@globex.test", "laptop-9");
    let carol = gateway.enroll("initech", "carol@initech.test", "laptop-3");
    for (name, _) in names {
        let url = origin.url(name, "/secret");
        let page = || Request::get("/").navigation();
        let blocked = denial(gateway.browser().send(&url, page()).await);
        assert!(!blocked.text.contains("/proceed"), "{}", blocked.text);
        await_denial(&gateway, name, "revoked").await;
        let warned = denial(gateway.browser_of(&carol).send(&url, page()).await);
        assert!(warned.text.contains("notice.sluice.test"), "a way to proceed: {}", warned.text);
        assert!(origin.last("/secret").is_none(), "a request went to {name}");
        let allowed = gateway.browser_of(&bob).get(&origin.url(name, "/hello")).await;
        assert_eq!(allowed.unwrap().status, 200);
        let event = gateway.await_transaction("globex", name).await;
        assert_eq!(event["origin_cert_fault"], "revoked", "{event}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn uc_41_an_old_list_counts_and_a_new_one_is_in_force_without_a_restart() {
    let origin = Origin::build().fault("site.test", Fault::Revoked).start().await;
    let lists = origin.pki().old_empty_lists_pem();
    let gateway = Gateway::build(&origin).lists(lists).start();
    let url = origin.url("site.test", "/hello");
    let browser = gateway.browser();
    assert_eq!(browser.get(&url).await.unwrap().status, 200, "lists that are past their time");
    let count = async |name: &str| gateway.metric(name, &[]).await;
    assert_eq!(count("sluice_revocation_lists").await, Some(2.0));
    assert_eq!(count("sluice_revocation_lists_expired").await, Some(2.0));

    let file = gateway.folder().parent().unwrap().join("origin-crls.pem");
    std::fs::write(&file, origin.pki().lists_pem()).unwrap();
    gateway.hang_up();
    let since = std::time::Instant::now();
    while count("sluice_revocation_lists_expired").await != Some(0.0) {
        assert!(since.elapsed().as_secs() < 60, "the new lists are not in force");
    }
    denial(browser.get(&url).await);
    await_denial(&gateway, "site.test", "revoked").await;

    std::fs::write(&file, "no list").unwrap();
    let check = Command::new(binary()).arg("check").arg(gateway.folder()).output().unwrap();
    let said = String::from_utf8_lossy(&check.stdout).into_owned();
    let said = said + &String::from_utf8_lossy(&check.stderr);
    let line = 1 + gateway.read("gateway.yaml").lines().position(|it| it.contains("crls")).unwrap();
    let place = format!("gateway.yaml:{line}:10: no revocation list in it");
    assert!(said.contains(&place), "{place}: {said}");
    gateway.hang_up();
    denial(gateway.browser().get(&url).await);
}
