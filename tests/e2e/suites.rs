//! Suites written by others, through the gateway, by the scripts of `tests/interop`. What each gives
//! direct, and what other proxies give, is in docs/standards.md.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use tests::{Fault, Gateway, Identity, Origin};

/// A suite gets this long, seconds; each takes a tenth of it on a quiet machine.
const SECONDS_MAX: &str = "240";

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("interop")
}

/// What `tests/interop/install` has put there.
fn installed(part: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/interop").join(part);
    assert!(path.exists(), "{} is missing: tests/interop/install makes it", path.display());
    path
}

/// The origin's files for `suite.test`.
struct Files {
    folder: tempfile::TempDir,
    roots: PathBuf,
}

impl Files {
    fn of(origin: &Origin) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let chain = origin.pki().chain("suite.test", Fault::None);
        let write = |name: &str, text: String| {
            std::fs::write(folder.path().join(name), text).expect("a file");
        };
        write("chain.pem", chain.certificates_pem());
        write("key.pem", chain.key_pem());
        write("roots.pem", origin.pki().roots_pem());
        let roots = folder.path().join("roots.pem");
        Self { folder, roots }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }
}

/// Runs a suite's command to its one JSON object.
async fn run(mut command: Command) -> Value {
    let run = tokio::task::spawn_blocking(move || command.stdin(Stdio::null()).output());
    let output = run.await.expect("the suite's thread").expect("the suite's command");
    let (said, wrong) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}\n{said}\n{wrong}"))
}

/// One of the suites in Python, through alice's explicit listener.
async fn python(script: &str, files: &Files, alice: &Identity, more: &[&str]) -> Value {
    let mut command = Command::new("timeout");
    command
        .arg(SECONDS_MAX)
        .arg(installed("venv/bin/python"))
        .arg(scripts().join(script))
        .args(["--via", alice.proxy_url.as_deref().expect("an explicit listener")])
        .args(["--ca", &alice.file("intercept-ca.pem"), "--name", "suite.test"])
        .args(["--chain", &files.path("chain.pem"), "--key", &files.path("key.pem")])
        .args(more);
    run(command).await
}

fn passes(said: &Value, cases: usize) {
    let passed = said["passed"].as_array().map_or(0, Vec::len);
    assert_eq!((passed, &said["failed"]), (cases, &serde_json::json!({})), "{}", said["suite"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn autobahn_finds_the_websockets_of_the_origin_unharmed() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    // The others measure speed, and compression at length: minutes.
    let others = ["--without", "9.*", "--without", "12.*", "--without", "13.*"];
    let said = python("autobahn.py", &Files::of(&origin), &gateway.alice(), &others).await;
    passes(&said, 247);
    let event = gateway.await_event("acme", |one| one["host"] == "suite.test").await;
    assert_eq!(event["decrypted"], true, "{event}");
}

#[tokio::test(flavor = "multi_thread")]
async fn h2_20_every_grpc_interoperability_case_passes() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let programs = installed("grpc").display().to_string();
    let more = ["--programs", &programs];
    let said = python("grpc_cases.py", &Files::of(&origin), &gateway.alice(), &more).await;
    passes(&said, 14);
    let call = gateway.await_transaction("acme", "/grpc.testing.TestService/EmptyCall").await;
    assert_eq!(call["decrypted"], true, "{call}");
}

#[tokio::test(flavor = "multi_thread")]
async fn h1_28_the_cache_tests_say_what_they_say_direct() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let (files, alice) = (Files::of(&origin), gateway.alice());
    let suite = |via: Option<String>, ca: String| {
        let mut command = Command::new("timeout");
        command
            .args([SECONDS_MAX, "node"])
            .arg(scripts().join("cache_tests.mjs"))
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("MODULES", installed("node/node_modules"))
            .envs([("CHAIN", files.path("chain.pem")), ("KEY", files.path("key.pem"))])
            .envs([("CA", ca), ("NAME", "suite.test".to_owned())])
            .envs(via.map(|via| ("VIA", via)));
        run(command)
    };
    // Mostly waits, so beside each other.
    let direct = suite(None, files.roots.display().to_string());
    let through = suite(alice.proxy_url.clone(), alice.file("intercept-ca.pem"));
    let (direct, through) = tokio::join!(direct, through);
    let verdicts = |said: &Value| said["verdicts"].as_object().cloned().expect("verdicts");
    let (direct, through) = (verdicts(&direct), verdicts(&through));
    assert!(direct.len() >= 350, "{} verdicts", direct.len());
    // Two accepted differences. Where the origin hangs up without an answer, the client gets our 502;
    // and so it does for a transfer coding that nobody knows, by which a body cannot be framed.
    let cut = direct.iter().filter(|(_, one)| **one == "TypeError: fetch failed");
    let cut: Vec<_> = cut.map(|(id, _)| (id, through.get(id))).collect();
    assert_eq!(cut.len(), 9);
    assert!(
        cut.iter().all(|(_, now)| now.is_some_and(|it| *it != "TypeError: fetch failed")),
        "{cut:#?}"
    );
    let unframed = &through["headers-store-Transfer-Encoding"];
    assert_eq!(unframed, "Setup: Response 1 status is 502, not 200");
    let accepted = |id: &str, one: &Value| {
        id == "headers-store-Transfer-Encoding" || one == "TypeError: fetch failed"
    };
    let differ: Vec<_> = direct
        .iter()
        .filter(|(id, one)| !accepted(id, one))
        .map(|(id, one)| (id, one, through.get(id)))
        .filter(|(_, one, now)| now.is_none_or(|now| now != *one))
        .collect();
    assert!(differ.is_empty(), "{differ:#?}");
    gateway.await_event("acme", |one| one["host"] == "suite.test").await;
}
