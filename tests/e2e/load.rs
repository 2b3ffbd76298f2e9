//! `sluice-load` against a gateway.

use std::path::PathBuf;
use std::process::{Command, Output};

use tests::client::peer::{NAME, Peer, trusted_pem};
use tests::{Gateway, Origin, Pki};

fn binary() -> PathBuf {
    env!("CARGO_BIN_EXE_sluice-load").into()
}

async fn load(arguments: Vec<String>) -> Output {
    let run = tokio::task::spawn_blocking(move || Command::new(binary()).args(arguments).output());
    run.await.unwrap().unwrap()
}

fn arguments(gateway: &Gateway, more: &[&str]) -> Vec<String> {
    let alice = gateway.alice();
    let mut all = vec![
        "--gateway".to_owned(),
        format!("{}:{}", gateway.name("acme"), gateway.ports().tunnel),
        "--address".to_owned(),
        "127.0.0.1".to_owned(),
    ];
    for (option, file) in [
        ("--identity", "client.pem"),
        ("--tunnel-ca", "tunnel-ca.pem"),
        ("--intercept-ca", "intercept-ca.pem"),
    ] {
        all.extend([option.to_owned(), alice.file(file)]);
    }
    all.extend(more.iter().map(|one| (*one).to_owned()));
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_loop_run_sends_every_request_that_was_due() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let url = origin.url("site.test", "/bytes/1000");
    let more = [
        "--tunnels",
        "4",
        "--streams",
        "5",
        "--rate",
        "100",
        "--duration",
        "3",
        "--json",
        "--url",
        &url,
    ];
    let run = load(arguments(&gateway, &more)).await;
    let text = String::from_utf8_lossy(&run.stdout).into_owned();
    assert!(run.status.success(), "{text}{}", String::from_utf8_lossy(&run.stderr));
    let result: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&result["tunnels"], &result["streams"]), (&4.into(), &20.into()));
    assert_eq!((&result["requests"], &result["never_sent"]), (&300.into(), &0.into()));
    assert_eq!(result["received_bytes"], 300_000);
    assert!(result["latency_ms"]["p99.9"].as_f64().unwrap() > 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mix_is_dealt_over_every_protocol() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let folder = tempfile::tempdir().unwrap();
    let mix = folder.path().join("mix");
    let lines = format!(
        "3 GET {}\n1 POST {} 20000\n",
        origin.url("site.test", "/hello"),
        origin.url("other.test", "/upload")
    );
    std::fs::write(&mix, lines).unwrap();
    let mix = mix.to_str().unwrap();
    for leg in ["http1", "http2"] {
        for inner in ["http1", "http2"] {
            let more =
                ["--streams", "2", "--leg", leg, "--inner", inner, "--duration", "1", "--mix", mix];
            let run = load(arguments(&gateway, &more)).await;
            let text = String::from_utf8_lossy(&run.stdout).into_owned();
            assert!(run.status.success(), "{leg} {inner}: {text}");
            assert!(text.contains("p99.9"), "{text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn quic_tunnels_carry_a_load() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let url = origin.url("site.test", "/bytes/1000");
    let mut more = vec!["--method", "quic", "--tunnels", "3", "--streams", "4"];
    more.extend(["--rate", "100", "--duration", "2", "--json", "--url", &url]);
    let run = load(arguments(&gateway, &more)).await;
    let text = String::from_utf8_lossy(&run.stdout).into_owned();
    assert!(run.status.success(), "{text}{}", String::from_utf8_lossy(&run.stderr));
    let result: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&result["tunnels"], &result["streams"]), (&3.into(), &12.into()));
    assert_eq!((&result["requests"], &result["received_bytes"]), (&200.into(), &200_000.into()));
    // The generator says goodbye; whatever ends a connection otherwise is a violation.
    let closed = |it: &serde_json::Value| it["type"] == "session" && it["state"] == "close";
    assert_eq!(gateway.await_event("acme", closed).await["error"], "client_closed");
    let events = gateway.events("acme").await.unwrap();
    assert!(events.iter().all(|event| event["access_method"] == "quic"));
}

/// As the contract writes the command: no further file names, and the records say which it was.
#[tokio::test(flavor = "multi_thread")]
async fn every_method_is_on_record_by_its_name_and_ends_cleanly() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let url = origin.url("site.test", "/hello");
    for method in ["tls", "dtls", "openconnect", "explicit"] {
        let mut more = vec!["--method", method, "--rate", "10", "--duration", "1", "--json"];
        more.extend(["--url", &url]);
        let explicit = gateway.explicit_address().to_string();
        if method == "explicit" {
            more.extend(["--gateway", &explicit]);
        }
        let mut all = arguments(&gateway, &more);
        if method == "explicit" {
            all.drain(..2);
        }
        let run = load(all).await;
        let text = String::from_utf8_lossy(&run.stdout).into_owned();
        assert!(run.status.success(), "{method}: {text}{}", String::from_utf8_lossy(&run.stderr));
        let of = |event: &serde_json::Value, what: &str| {
            event["access_method"] == method && event["type"] == what && event["state"] == "close"
        };
        drop(gateway.await_event("acme", |event| of(event, "transaction")).await);
        drop(gateway.await_event("acme", |event| of(event, "session")).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn http3_goes_inside_tunnels_of_every_kind() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let url = origin.url("site.test", "/bytes/1000");
    for method in ["tls", "quic", "dtls", "openconnect"] {
        let mut more = vec!["--method", method, "--inner", "http3", "--streams", "3"];
        more.extend(["--rate", "50", "--duration", "2", "--json", "--url", &url]);
        let run = load(arguments(&gateway, &more)).await;
        let text = String::from_utf8_lossy(&run.stdout).into_owned();
        assert!(run.status.success(), "{method}: {text}{}", String::from_utf8_lossy(&run.stderr));
        let result: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(result["received_bytes"], 100_000, "{method}: {text}");
        let inside = |event: &serde_json::Value| {
            event["access_method"] == method && event["http_version"] == "HTTP/3"
        };
        drop(gateway.await_event("acme", inside).await);
    }
}

/// The packet methods against the kit's own small gateway, which shows the generator alone.
#[tokio::test(flavor = "multi_thread")]
async fn packet_tunnels_carry_a_load() {
    let origin = Origin::start().await;
    let pki = Pki::new();
    let there = ([127, 0, 0, 1], origin.port()).into();
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: String| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let client = pki.client("alice@acme.test");
    let identity = file("client.pem", client.certificates_pem() + &client.key_pem());
    let tunnel_ca = file("tunnel-ca.pem", trusted_pem(&pki));
    let intercept_ca = file("intercept-ca.pem", origin.pki().root_pem());
    let url = "https://site.test/hello";
    for method in ["dtls", "openconnect"] {
        let peer = Peer::before(Some(there), &pki, NAME).await;
        let gateway = format!("{NAME}:{}", peer.at.tcp.port());
        let mut all = vec!["--method", method, "--gateway", &gateway, "--address", "127.0.0.1"];
        all.extend(["--identity", &identity, "--tunnel-ca", &tunnel_ca]);
        all.extend(["--intercept-ca", &intercept_ca, "--streams", "4", "--inner", "http2"]);
        all.extend(["--rate", "50", "--duration", "2", "--json", "--url", url]);
        let run = load(all.into_iter().map(str::to_owned).collect()).await;
        let text = String::from_utf8_lossy(&run.stdout).into_owned();
        assert!(run.status.success(), "{method}: {text}{}", String::from_utf8_lossy(&run.stderr));
        let result: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&result["tunnels"], &result["streams"]), (&1.into(), &4.into()));
        assert_eq!(result["requests"], 100);
        let carried = &result["carried"];
        assert_eq!(
            (&carried["by_datagrams"], &carried["by_tls"]),
            (&1.into(), &0.into()),
            "{text}"
        );
    }
}
