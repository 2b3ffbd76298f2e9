//! What the commands promise.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod cases;
mod explain;
mod replay;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command as Process;
use std::time::SystemTime;

use super::*;
use crate::config::Layout;
use crate::ident::TenantName;
use crate::snapshot;

fn parse(line: &[&str]) -> Result<Command, clap::Error> {
    let arguments = Arguments::try_parse_from(std::iter::once(&"sluice").chain(line))?;
    Ok(arguments.command.unwrap_or(Command::Serve(arguments.serve)))
}

fn run(line: &[&str]) -> Result<(), Failure> {
    match parse(line).unwrap() {
        Command::Init(args) => init::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Tenant(args) => tenant::run(&args),
        Command::Enroll(args) => enroll::run(&args),
        Command::Revoke(args) => revoke::run(&args),
        Command::Explain(args) => super::explain::run(&args),
        other => Err(Failure::Message(format!("{other:?}"))),
    }
}

fn made() -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let gateway = dir.path().join("gw").to_str().unwrap().to_owned();
    run(&["init", &gateway, "--domain", "acme.test", "--tenant", "acme"]).unwrap();
    (dir, gateway)
}

fn openssl(arguments: &[&str]) {
    let output = Process::new("openssl").args(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "openssl {arguments:?}: {text}");
}

#[test]
fn the_command_line_is_consistent() {
    use clap::CommandFactory as _;
    Arguments::command().debug_assert();
}

#[test]
fn no_command_means_serve() {
    assert!(matches!(parse(&[]), Ok(Command::Serve(_))));
    assert!(matches!(parse(&["--config", "x"]), Ok(Command::Serve(_))));
    assert!(parse(&["revoke", "acme"]).is_err());
    assert!(parse(&["revoke", "acme", "--serial", "1", "--device", "d"]).is_err());
}

#[test]
fn what_init_writes_checks_clean_and_is_not_written_twice() {
    let (_dir, gateway) = made();
    assert_eq!(snapshot::check(Path::new(&gateway)).unwrap(), []);
    assert!(run(&["check", &gateway]).is_ok());
    assert!(matches!(run(&["init", &gateway]), Err(Failure::Message(_))));
}

#[test]
fn templates_say_the_defaults() {
    use crate::config::{GatewayConfig, TenantConfig, read};
    // Every key of the template that is commented out, with its comment sign taken away.
    let name = TenantName::parse("acme").unwrap();
    let uncommented = |text: &str| {
        let lines = text.lines().map(|line| {
            let bare = line.trim_start();
            let key = bare.strip_prefix("# ").filter(|rest| {
                let word = rest.split(':').next().unwrap_or_default();
                rest.contains(':') && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
            });
            let indent = line.len() - bare.len();
            key.map_or_else(|| line.to_owned(), |key| format!("{}{key}", " ".repeat(indent)))
        });
        lines.collect::<Vec<_>>().join("\n")
    };
    let text = templates::gateway("localhost", &name).replace("# token_file", "# # token_file");
    let text = uncommented(&text.replace("# tls:", "# # tls:"));
    let read = read::<GatewayConfig>("gateway.yaml", &text);
    let mut config = read.map_err(|problems| format!("{problems:#?}\n{text}")).unwrap().value;
    config.listen.explicit.clear();
    assert_eq!(config, GatewayConfig::default());
    assert!(crate::config::read::<TenantConfig>("tenant.yaml", templates::TENANT).is_ok());
}

#[test]
fn openssl_accepts_what_is_issued() {
    let (dir, gateway) = made();
    let out = dir.path().join("out").to_str().unwrap().to_owned();
    run(&[
        "enroll",
        "acme",
        "bob@acme.test",
        "--device",
        "laptop-7",
        "--out",
        &out,
        "--config",
        &gateway,
    ])
    .unwrap();
    let acme = format!("{gateway}/tenants/acme/ca");
    for authority in ["intercept", "device"] {
        let pem = format!("{acme}/{authority}.pem");
        openssl(&["verify", "-x509_strict", "-check_ss_sig", "-CAfile", &pem, &pem]);
    }
    let device = format!("{acme}/device.pem");
    let client = format!("{out}/client.pem");
    openssl(&["verify", "-x509_strict", "-purpose", "sslclient", "-CAfile", &device, &client]);
    let cert = format!("{gateway}/tunnel/cert.pem");
    let ca = format!("{out}/tunnel-ca.pem");
    for name in ["gateway-acme.acme.test", "gateway-backup-acme.acme.test"] {
        let host = ["-purpose", "sslserver", "-verify_hostname", name];
        openssl(&[&["verify", "-x509_strict", "-CAfile", &ca][..], &host, &[&cert]].concat());
    }
}

#[test]
fn keys_are_for_their_owner_only() {
    let (_dir, gateway) = made();
    let mode = |path: &str| {
        fs::metadata(format!("{gateway}/{path}")).unwrap().permissions().mode() & 0o777
    };
    let alice = "enrolled/acme/user-alice@acme.test";
    for secret in [
        "tunnel/ca.key",
        "tunnel/cert.key",
        "tenants/acme/ca/intercept.key",
        "tenants/acme/ca/device.key",
        "tenants/acme/tokens.csv",
        &format!("{alice}/client.pem"),
        &format!("{alice}/proxy.url"),
    ] {
        assert_eq!(mode(secret), 0o600, "{secret}");
    }
    for folder in ["", "tunnel", "tenants", "tenants/acme", "tenants/acme/ca", alice] {
        assert_eq!(mode(folder), 0o700, "{folder}");
    }
}

#[test]
fn the_token_of_proxy_url_opens_the_explicit_listener() {
    let (_dir, gateway) = made();
    let url = fs::read_to_string(format!("{gateway}/enrolled/acme/user-alice@acme.test/proxy.url"));
    let url = url.unwrap();
    let rest = url.trim().strip_prefix("http://alice%40acme.test:").unwrap();
    let token = rest.strip_suffix("@127.0.0.1:3128").unwrap();
    let (snapshot, _) = snapshot::Snapshot::load(Path::new(&gateway)).unwrap();
    let acme = snapshot.tenant("acme").unwrap();
    let found = acme.tokens.check("alice@acme.test", token).unwrap();
    assert!(found.device.unwrap().starts_with("device-"));
    assert!(acme.tokens.check("alice@acme.test", "x").is_none());
    let kept = fs::read_to_string(format!("{gateway}/tenants/acme/tokens.csv")).unwrap();
    assert!(!kept.contains(token));
}

#[test]
fn a_tenant_appears_whole_and_in_the_tunnel_certificate() {
    let (_dir, gateway) = made();
    run(&["tenant", "add", "beta", "--config", &gateway]).unwrap();
    assert_eq!(snapshot::check(Path::new(&gateway)).unwrap(), []);
    let cert = format!("{gateway}/tunnel/cert.pem");
    let ca = format!("{gateway}/tunnel/ca.pem");
    openssl(&["verify", "-verify_hostname", "gateway-beta.acme.test", "-CAfile", &ca, &cert]);
    assert!(matches!(
        run(&["tenant", "add", "beta", "--config", &gateway]),
        Err(Failure::Message(_))
    ));
    assert!(matches!(
        run(&["tenant", "add", "Beta", "--config", &gateway]),
        Err(Failure::Usage(_))
    ));
    let names = Layout::new(Path::new(&gateway)).tenant_names().unwrap();
    assert_eq!(names.len(), 2);
}

#[test]
fn ti_14_a_name_used_before_begins_with_nothing() {
    let (_dir, gateway) = made();
    let root = Path::new(&gateway);
    let add = || run(&["tenant", "add", "beta", "--config", &gateway]);
    let policy = root.join("tenants/beta/policy.yaml");
    add().unwrap();
    fs::write(&policy, "version: 1\nrules: []\ndefault: allow\n").unwrap();
    // A gateway ran, kept its copies and wrote events; then it stopped and the tenant went.
    assert!(snapshot::Snapshot::load(root).unwrap().0.tenant("beta").is_some());
    fs::create_dir_all(root.join("data/events/beta")).unwrap();
    fs::remove_dir_all(root.join("tenants/beta")).unwrap();

    let told = |it: &str| it.contains("data/events/beta");
    assert!(matches!(add(), Err(Failure::Message(text)) if told(&text)), "handed on");
    fs::remove_dir_all(root.join("data/events/beta")).unwrap();
    add().unwrap();
    fs::write(&policy, "version: 1\nrules: [nonsense\n").unwrap();
    let (snapshot, problems) = snapshot::Snapshot::load(root).unwrap();
    assert!(!problems.is_empty());
    assert!(snapshot.tenant("beta").is_none(), "served by the policy of an earlier tenant");
}

#[test]
fn revocations_add_up() {
    let (_dir, gateway) = made();
    run(&["revoke", "acme", "--serial", "4A:00:1B", "--config", &gateway]).unwrap();
    run(&["revoke", "acme", "--device", "laptop-7", "--config", &gateway]).unwrap();
    let (snapshot, problems) = snapshot::Snapshot::load(Path::new(&gateway)).unwrap();
    assert_eq!(problems, []);
    let acme = snapshot.tenant("acme").unwrap();
    assert!(acme.revoked.revokes(Some("4a001b"), None));
    assert!(acme.revoked.revokes(None, Some("laptop-7")));
    assert!(matches!(
        run(&["revoke", "acme", "--serial", "zz", "--config", &gateway]),
        Err(Failure::Usage(_))
    ));
    assert!(matches!(
        run(&["revoke", "nobody", "--serial", "1", "--config", &gateway]),
        Err(Failure::Message(_))
    ));
}

#[test]
fn names_that_could_break_a_file_or_a_url_are_refused() {
    let (dir, gateway) = made();
    let layout = Layout::new(Path::new(&gateway));
    let name = TenantName::parse("acme").unwrap();
    let config = crate::config::read_gateway(&layout).unwrap();
    let enroll = |user: &str, device: &str| {
        let out = dir.path().join("odd");
        enroll::enroll(&layout, &config, &name, user, Some(device), &out, SystemTime::now())
    };
    for user in ["", "a b", "a:b", "a,b", "a\nb", "ä@acme.test"] {
        assert!(matches!(enroll(user, "d"), Err(Failure::Usage(_))), "{user}");
    }
    for device in ["", "a b", "a,b", "a\0b"] {
        assert!(matches!(enroll("alice", device), Err(Failure::Usage(_))), "{device}");
    }
    assert!(enroll("o'brien+x@acme.test", "d").is_ok());
}

fn replayed(policy_text: &str, events: &[serde_json::Value]) -> Vec<serde_json::Value> {
    let policy = policy::Policy::load("policy.yaml", policy_text).unwrap();
    let catalog = super::explain::catalog().unwrap();
    let judge = super::replay::Judge { policy: &policy, catalog: &catalog, json: true };
    let mut changes = super::replay::Changes::default();
    let lines = events.iter().map(|event| judge.line(event.to_string().as_bytes()));
    let told = lines.filter_map(|line| changes.take(line));
    told.map(|change| serde_json::from_str(&change).unwrap()).collect()
}

fn upload(id: &str, user: &str) -> serde_json::Value {
    serde_json::json!({
        "id": id, "type": "transaction", "state": "close", "time": "2026-11-22T10:00:00.000000Z",
        "user": user, "groups": ["staff"], "access_method": "tls", "client_ip": "192.0.2.7",
        "host": "www.dropbox.com", "dest_ip": "198.51.100.1", "dest_port": 443, "method": "POST",
        "url": "https://www.dropbox.com/upload", "request_bytes": 10, "app": "dropbox",
        "category": "cloud-storage", "instance_kind": "personal", "activity": "upload",
        "action": "allow",
    })
}

#[test]
fn replay_tells_whose_verdict_changes_and_counts_each_transaction_once() {
    let text = "version: 1\nrules:\n  - { name: no personal storage, match: { app: [dropbox], \
                activity: [upload], instance: [personal] }, action: block }\n";
    let mut open = upload("1", "alice@acme.test");
    open["state"] = "open".into();
    let mut corporate = upload("2", "bob@acme.test");
    corporate["instance_kind"] = "corporate".into();
    let events = [open, upload("1", "alice@acme.test"), upload("1", "alice@acme.test"), corporate];
    let found = replayed(text, &events);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0]["now"]["action"], "block");
    assert_eq!(found[0]["now"]["rule"], "no personal storage");
    assert_eq!(found[0]["was"]["action"], "allow");
}

#[test]
fn replay_says_which_fact_was_never_gathered() {
    let text =
        "version: 1\nrules:\n  - { name: big, match: { file_size: \">10MiB\" }, action: block }\n";
    let found = replayed(text, &[upload("1", "alice@acme.test")]);
    assert_eq!(found[0]["undecidable"], serde_json::json!(["file_size"]));
    let mut known = upload("2", "alice@acme.test");
    known["file_size"] = 5.into();
    let mut without_body = upload("3", "alice@acme.test");
    without_body["request_bytes"] = 0.into();
    assert_eq!(replayed(text, &[known, without_body]), Vec::<serde_json::Value>::new());
}

#[test]
fn replay_judges_flows_at_the_connect_gate() {
    let text =
        "version: 1\nrules:\n  - { name: no ssh, match: { dest_port: 22 }, action: block }\n";
    let flow = serde_json::json!({
        "id": "1", "type": "flow", "state": "close", "time": "2026-11-22T10:00:00Z",
        "user": "alice@acme.test", "host": "git.acme.test", "dest_port": 22, "action": "allow",
    });
    assert_eq!(replayed(text, &[flow])[0]["now"]["action"], "block");
}
