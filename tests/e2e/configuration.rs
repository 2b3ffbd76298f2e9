//! Mistakes are all named with their place; a bad edit harms nobody.

use std::process::Command;
use std::time::{Duration, Instant};

use tests::gateway::binary;
use tests::{Gateway, Origin};

const TEN_MISTAKES: &str = "version: 1
rules:
  - name: one
    match: { appp: [dropbox] }
    action: block
  - name: two
    match: { app: [dropbox] }
    action: blok
  - name: three
    match: { dest_port: [70000] }
    action: block
  - name: four
    match: { source_ip: [10.0.0.0/99] }
    action: block
  - name: five
    match: { app: [box] }
    action: redirect
  - match: { app: [box] }
    action: block
  - name: one
    match: { app: [box] }
    action: block
  - name: eight
    match: { file_size: [huge] }
    action: block
  - name: nine
    matches: { app: [box] }
    action: block
default: maybe
";

#[tokio::test(flavor = "multi_thread")]
async fn ten_mistakes_give_ten_messages_with_their_places() {
    let origin = Origin::start().await;
    let gateway = Gateway::build(&origin).configure();
    gateway.write("tenants/acme/policy.yaml", TEN_MISTAKES);
    let folder = gateway.folder();
    let run = Command::new(binary()).arg("check").arg(&folder).output().unwrap();
    assert_eq!(run.status.code(), Some(1));
    let said =
        String::from_utf8_lossy(&run.stdout).into_owned() + &String::from_utf8_lossy(&run.stderr);
    for line in [4, 8, 10, 13, 17, 18, 20, 24, 27, 29] {
        let place = format!("policy.yaml:{line}:");
        assert!(said.contains(&place), "nothing about line {line}:\n{said}");
    }
    for column in said.lines().filter(|line| line.contains("policy.yaml:")) {
        let after = column.split("policy.yaml:").nth(1).unwrap();
        let numbers: Vec<_> = after.split(':').take(2).map(|n| n.trim().parse::<u32>()).collect();
        assert!(numbers.iter().all(Result::is_ok), "no line and column in `{column}`");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn check_finds_nothing_wrong_with_what_init_writes() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("fresh");
    let run =
        |arguments: &[&str]| Command::new(binary()).args(arguments).arg(&config).output().unwrap();
    assert!(run(&["init"]).status.success());
    let checked = run(&["check"]);
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_usage_is_exit_code_two() {
    for arguments in [&["nonsense"][..], &["enroll"], &["serve", "--nope"]] {
        let run = Command::new(binary()).args(arguments).output().unwrap();
        assert_eq!(run.status.code(), Some(2), "{arguments:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_edit_keeps_the_last_good_policy_even_over_a_restart() {
    let origin = Origin::start().await;
    let rule = "  - { name: closed, match: { domain: [site.test] }, action: block }";
    let gateway = Gateway::build(&origin).policy(rule).tenant("globex").expects_errors().start();
    gateway.write("tenants/acme/policy.yaml", "version: 1\nrules: [nonsense\n");
    gateway.hang_up();
    let begun = Instant::now();
    while gateway.metric("sluice_config_last_reload_successful", &[]).await != Some(0.0) {
        assert!(begun.elapsed() < Duration::from_secs(5), "the failure is not in the metrics");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let url = origin.url("site.test", "/hello");
    assert_eq!(crate::denial(gateway.browser().get(&url).await).status, 403);
    assert!(gateway.log().iter().any(|line| line.contains("policy.yaml:")), "{:?}", gateway.log());
    gateway.restart();
    assert_eq!(crate::denial(gateway.browser().get(&url).await).status, 403);
    let bob = gateway.enroll("globex", "bob@globex.test", "laptop-9");
    assert_eq!(gateway.browser_of(&bob).get(&url).await.unwrap().status, 200, "others go on");
}

#[tokio::test(flavor = "multi_thread")]
async fn first_start_makes_everything_a_newcomer_needs() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("pop");
    let run = |arguments: &[&str]| {
        let run = Command::new(binary()).args(arguments).output().unwrap();
        assert!(run.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&run.stderr));
        String::from_utf8_lossy(&run.stdout).into_owned()
    };
    let at = config.to_str().unwrap();
    run(&["init", at, "--domain", "pop.test", "--tenant", "acme"]);
    run(&["tenant", "add", "globex", "--config", at]);
    let listed = run(&["tenant", "list", "--config", at]);
    assert!(listed.contains("acme") && listed.contains("globex"), "{listed}");
    let out = folder.path().join("device");
    let said =
        run(&["enroll", "acme", "alice@acme.test", "--out", out.to_str().unwrap(), "--config", at]);
    assert!(said.contains("curl"), "{said}");
    for file in ["client.pem", "tunnel-ca.pem", "intercept-ca.pem"] {
        assert!(out.join(file).is_file(), "{file}");
    }
    for kind in ["gateway", "tenant", "policy"] {
        serde_json::from_str::<serde_json::Value>(&run(&["schema", kind])).unwrap();
    }
    use std::os::unix::fs::PermissionsExt;
    let key = config.join("tenants/acme/ca/intercept.key").metadata().unwrap();
    assert_eq!(key.permissions().mode() & 0o077, 0, "a CA key others can read");
}
