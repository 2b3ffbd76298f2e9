//! What the snapshot promises: units are swapped alone, and mistakes never take service down.

#![expect(clippy::unwrap_used, reason = "tests")]
#![expect(clippy::print_stderr, reason = "figures are printed, not asserted")]

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use super::*;
use crate::config::GatewayConfig;
use crate::ident::{CaMaterial, Purpose};

/// A directory with gateway.yaml and the tenant `acme`.
fn directory() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("gateway.yaml"), "pop: one\n").unwrap();
    add_tenant(dir.path(), "acme");
    dir
}

fn add_tenant(dir: &Path, name: &str) {
    let folder = dir.join("tenants").join(name);
    fs::create_dir_all(folder.join("ca")).unwrap();
    for (purpose, file) in [(Purpose::Intercept, "intercept"), (Purpose::Device, "device")] {
        let (_, issued) = CaMaterial::generate(purpose, name, SystemTime::now()).unwrap();
        fs::write(folder.join(format!("ca/{file}.pem")), &issued.cert_pem).unwrap();
        fs::write(folder.join(format!("ca/{file}.key")), issued.key_pem.as_bytes()).unwrap();
    }
    fs::write(folder.join("tenant.yaml"), "").unwrap();
    fs::write(folder.join("policy.yaml"), policy::SAMPLE).unwrap();
}

fn write_tenant(dir: &Path, file: &str, text: &str) {
    fs::write(dir.join("tenants/acme").join(file), text).unwrap();
}

fn load(dir: &Path) -> (Snapshot, Vec<String>) {
    let (snapshot, problems) = Snapshot::load(dir).unwrap();
    (snapshot, problems.iter().map(ToString::to_string).collect())
}

#[test]
fn a_new_directory_loads_without_problems() {
    let dir = directory();
    let (snapshot, problems) = load(dir.path());
    assert_eq!(problems, Vec::<String>::new());
    assert_eq!(snapshot.tenants().len(), 1);
    let acme = snapshot.tenant("acme").unwrap();
    assert_eq!((acme.generation, acme.origin_generation), (1, 1));
    assert_eq!(acme.policy_version.len(), 12);
    assert_eq!(snapshot.health(), Health { last_reload_successful: true, units_failed: 0 });
    assert_eq!(check(dir.path()).unwrap(), []);
}

#[test]
fn a_broken_edit_keeps_the_last_good_copy_and_the_next_start_has_it_too() {
    let dir = directory();
    add_tenant(dir.path(), "beta");
    write_tenant(dir.path(), "tenant.yaml", "notice: { contact: help@acme.test }\n");
    let (snapshot, _) = load(dir.path());
    write_tenant(dir.path(), "tenant.yaml", "notice: { contakt: x }\n");
    snapshot.reload();
    assert_eq!(snapshot.health().units_failed, 1);
    let contact =
        |snapshot: &Snapshot| snapshot.tenant("acme").unwrap().config.notice.contact.clone();
    assert_eq!(contact(&snapshot).as_deref(), Some("help@acme.test"));

    let (again, problems) = load(dir.path());
    assert_eq!(
        problems,
        ["tenants/acme/tenant.yaml:1:11: unknown key `contakt`, expected `contact`"]
    );
    assert_eq!(contact(&again).as_deref(), Some("help@acme.test"));
    assert_eq!(again.health(), Health { last_reload_successful: false, units_failed: 1 });
    assert_eq!(again.tenants().len(), 2);

    write_tenant(dir.path(), "tenant.yaml", "notice: { contact: it@acme.test }\n");
    again.reload();
    assert_eq!(contact(&again).as_deref(), Some("it@acme.test"));
    assert_eq!(again.health().units_failed, 0);
}

#[test]
fn a_broken_gateway_file_keeps_the_last_good_copy_and_the_next_start_has_it_too() {
    let dir = directory();
    let (snapshot, _) = load(dir.path());
    fs::write(dir.path().join("gateway.yaml"), "pop: [\n").unwrap();
    snapshot.reload();
    assert_eq!(snapshot.gateway().config.pop, "one");
    assert_eq!(snapshot.health().units_failed, 1);
    let (again, problems) = load(dir.path());
    assert_eq!(again.gateway().config.pop, "one");
    assert_eq!(problems.len(), 1);
    fs::write(dir.path().join("gateway.yaml"), "pop: two\n").unwrap();
    again.reload();
    assert_eq!(again.gateway().config.pop, "two");
    assert_eq!(again.gateway().generation, 2);
}

#[test]
fn nothing_is_served_without_a_gateway_file_that_ever_loaded() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("gateway.yaml"), "popp: x\n").unwrap();
    let error = Snapshot::load(dir.path()).unwrap_err();
    assert_eq!(error.problems().len(), 1);
}

#[test]
fn one_tenants_edit_swaps_that_tenant_only() {
    let dir = directory();
    add_tenant(dir.path(), "beta");
    let (snapshot, _) = load(dir.path());
    let (acme, beta) = (snapshot.tenant("acme").unwrap(), snapshot.tenant("beta").unwrap());
    let followed = snapshot.follow("acme").unwrap();
    write_tenant(dir.path(), "policy.yaml", "version: 1\nrules: []\ndefault: block\n");
    snapshot.reload();
    assert!(Arc::ptr_eq(&beta, &snapshot.tenant("beta").unwrap()));
    let edited = snapshot.tenant("acme").unwrap();
    assert_eq!((edited.generation, edited.origin_generation), (2, 1));
    assert_ne!(edited.policy_version, acme.policy_version);
    assert!(Arc::ptr_eq(&edited.intercept_ca, &acme.intercept_ca));
    assert_eq!(*followed.borrow(), 2);

    write_tenant(dir.path(), "tenant.yaml", "decryption: { expired: warn }\n");
    snapshot.reload();
    assert_eq!(snapshot.tenant("acme").unwrap().origin_generation, 2);
}

#[test]
fn tenants_come_and_go_with_their_folders() {
    let dir = directory();
    let (snapshot, _) = load(dir.path());
    add_tenant(dir.path(), "beta");
    snapshot.reload();
    let followed = snapshot.follow("beta").unwrap();
    fs::remove_dir_all(dir.path().join("tenants/beta")).unwrap();
    snapshot.reload();
    assert!(snapshot.tenant("beta").is_none());
    assert_eq!(*followed.borrow(), 0);
    assert_eq!(snapshot.health().units_failed, 0);
}

#[test]
fn a_files_own_mistakes_have_their_places() {
    let dir = directory();
    write_tenant(
        dir.path(),
        "tenant.yaml",
        "identity:\n  directory: users.csv\n  jwks: keys.json\n  issuer: i\n  audience: a\n\
         origin:\n  extra_roots: [none.pem]\ndecrypt: { default: decypt }\n",
    );
    write_tenant(dir.path(), "users.csv", "user,groups\n,finance\n");
    write_tenant(dir.path(), "keys.json", "{}");
    write_tenant(dir.path(), "policy.yaml", "version: 1\nrules: []\ndefault: maybe\n");
    write_tenant(dir.path(), "revoked.yaml", "serials: [xyz]\n");
    write_tenant(dir.path(), "tokens.csv", "alice\n");
    write_tenant(dir.path(), "ca/device.pem", "junk");
    let found = check(dir.path()).unwrap();
    let places: Vec<String> = found
        .iter()
        .map(|it| format!("{}:{}:{}", it.file.replacen("tenants/acme/", "", 1), it.line, it.column))
        .collect();
    assert_eq!(
        places,
        [
            "ca/device.pem:1:1",
            "keys.json:1:1",
            "policy.yaml:3:10",
            "revoked.yaml:1:1",
            "tenant.yaml:7:17",
            "tenant.yaml:8:21",
            "tokens.csv:1:1",
            "users.csv:2:1",
        ],
        "{found:#?}"
    );
}

#[test]
fn an_explicit_listener_needs_its_tenant() {
    let dir = directory();
    let text = "listen: { explicit: { \"127.0.0.1:3128\": acne } }\n";
    fs::write(dir.path().join("gateway.yaml"), text).unwrap();
    let found = check(dir.path()).unwrap();
    let shown: Vec<String> = found.iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["gateway.yaml:1:41: no tenant `acne`, expected `acme`"]);
}

#[tokio::test]
async fn saved_changes_are_in_force_without_a_signal() {
    let dir = directory();
    let (snapshot, _) = load(dir.path());
    let watcher = tokio::spawn(Watcher::new(snapshot.clone()).run());
    let mut changes = snapshot.changes();
    let mut next = async || {
        tokio::time::timeout(Duration::from_secs(20), changes.changed()).await.unwrap().unwrap();
    };
    write_tenant(dir.path(), "tenant.yaml", "notice: { contact: a@acme.test }\n");
    next().await;
    let contact = snapshot.tenant("acme").unwrap().config.notice.contact.clone();
    assert_eq!(contact.as_deref(), Some("a@acme.test"));

    write_tenant(dir.path(), "revoked.yaml", "devices: [laptop-7]\n");
    next().await;
    assert!(snapshot.tenant("acme").unwrap().revoked.revokes(None, Some("laptop-7")));

    // Replaced by a rename, as editors and `write_atomically` do.
    let folder = dir.path().join("tenants/acme");
    fs::write(folder.join("new"), "notice: { contact: b@acme.test }\n").unwrap();
    fs::rename(folder.join("new"), folder.join("tenant.yaml")).unwrap();
    next().await;
    let contact = snapshot.tenant("acme").unwrap().config.notice.contact.clone();
    assert_eq!(contact.as_deref(), Some("b@acme.test"));

    fs::write(dir.path().join("gateway.yaml"), "pop: two\n").unwrap();
    next().await;
    assert_eq!(snapshot.gateway().config.pop, "two");
    watcher.abort();
}

#[test]
fn the_tunnel_certificate_follows_the_tenants() {
    let dir = directory();
    let layout = Layout::new(dir.path());
    let (snapshot, _) = load(dir.path());
    let first = fs::read(layout.tunnel().join("cert.pem")).unwrap();
    let names = [TenantName::parse("acme").unwrap(), TenantName::parse("beta").unwrap()];
    let config = GatewayConfig::default();
    assert!(!ensure_tunnel_identity(&layout, &config, &names[..1], SystemTime::now()).unwrap());
    assert!(ensure_tunnel_identity(&layout, &config, &names, SystemTime::now()).unwrap());
    assert_ne!(fs::read(layout.tunnel().join("cert.pem")).unwrap(), first);

    let shown = snapshot.tunnel_identity(&names[0]).unwrap();
    assert!(Arc::ptr_eq(&shown, &snapshot.tunnel_identity(&names[0]).unwrap()));
    let (_, cert) =
        x509_parser::parse_x509_certificate(shown.certified.cert.first().unwrap()).unwrap();
    let names = cert.subject_alternative_name().unwrap().unwrap();
    let names: Vec<String> = names.value.general_names.iter().map(ToString::to_string).collect();
    let expected = ["gateway-acme.localhost", "gateway-backup-acme.localhost"];
    assert_eq!(names.len(), 2);
    assert!(expected.iter().all(|name| names.iter().any(|it| it.contains(name))), "{names:?}");
}

#[test]
fn the_operators_own_tunnel_certificate_is_never_overwritten() {
    let dir = directory();
    let tunnel = dir.path().join("tunnel");
    fs::create_dir_all(&tunnel).unwrap();
    let (authority, _) = CaMaterial::generate(Purpose::Tunnel, "own", SystemTime::now()).unwrap();
    let own = authority.issue_server("gw", &["*.test".to_owned()], SystemTime::now()).unwrap();
    fs::write(tunnel.join("cert.pem"), &own.cert_pem).unwrap();
    fs::write(tunnel.join("cert.key"), own.key_pem.as_bytes()).unwrap();
    let (snapshot, problems) = load(dir.path());
    assert_eq!(problems, Vec::<String>::new());
    assert_eq!(fs::read_to_string(tunnel.join("cert.pem")).unwrap(), own.cert_pem);
    assert!(!tunnel.join("ca.pem").exists());
    let acme = TenantName::parse("acme").unwrap();
    let beta = TenantName::parse("beta").unwrap();
    let shown = snapshot.tunnel_identity(&acme).unwrap();
    assert!(Arc::ptr_eq(&shown, &snapshot.tunnel_identity(&beta).unwrap()));
}

#[test]
fn the_admin_token_is_compared_whole() {
    let dir = directory();
    fs::write(dir.path().join("token"), "0123456789abcdef\n").unwrap();
    let text = "admin: { listen: \"0.0.0.0:9901\", token_file: token }\n";
    fs::write(dir.path().join("gateway.yaml"), text).unwrap();
    let (snapshot, problems) = load(dir.path());
    assert_eq!(problems, Vec::<String>::new());
    let gateway = snapshot.gateway();
    assert!(gateway.admin_token_required());
    assert!(gateway.admin_token_is("0123456789abcdef"));
    assert!(!gateway.admin_token_is("0123456789abcde") && !gateway.admin_token_is(""));
}

fn resident_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Prints what 2,000 tenants cost; the bounds are watched by the soak and the bench.
#[test]
fn two_thousand_tenants_load_and_one_reloads_alone() {
    const TENANTS: usize = 2_000;
    let dir = directory();
    let folder = dir.path().join("tenants");
    for index in 0..TENANTS - 1 {
        let copy = folder.join(format!("t{index}"));
        fs::create_dir_all(copy.join("ca")).unwrap();
        for file in [
            "tenant.yaml",
            "policy.yaml",
            "ca/intercept.pem",
            "ca/intercept.key",
            "ca/device.pem",
            "ca/device.key",
        ] {
            fs::copy(folder.join("acme").join(file), copy.join(file)).unwrap();
        }
    }
    let before = resident_kib();
    let start = Instant::now();
    let (snapshot, problems) = load(dir.path());
    let loaded = start.elapsed();
    let resident = resident_kib().saturating_sub(before);
    assert_eq!((problems.len(), snapshot.tenants().len()), (0, TENANTS));

    write_tenant(dir.path(), "policy.yaml", "version: 1\nrules: []\n");
    let start = Instant::now();
    let acme = UnitName::Tenant(TenantName::parse("acme").unwrap());
    snapshot.reload_changed(&[inotify::Changed::Unit(acme)]);
    let one = start.elapsed();
    assert_eq!(snapshot.tenant("acme").unwrap().generation, 2);

    let start = Instant::now();
    snapshot.reload_changed(&[inotify::Changed::Everything]);
    let looked = start.elapsed();
    eprintln!(
        "2,000 tenants: loaded in {loaded:?}, {} KiB each, one reloaded in {one:?}, \
         all looked at in {looked:?}",
        resident / TENANTS as u64
    );
}
