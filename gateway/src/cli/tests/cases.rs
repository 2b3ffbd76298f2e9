//! What `sluice check` promises of a tenant's own cases, and of settings that have no effect.

use std::fs;
use std::path::Path;

use super::{made, run};
use crate::cli::cases;
use crate::config::Layout;
use crate::snapshot;

const POLICY: &str = "\
version: 1
rules:
  - { name: no uploads, match: { app: [dropbox], activity: [upload] }, action: block }
  - { name: night, match: { domain: [bank.test], time: \"22:00-06:00 UTC\" }, action: block }
default: allow
";

const CASES: &str = "\
cases:
  - name: an upload is blocked
    request: POST https://content.dropboxapi.com/2/files/upload
    user: alice@acme.test
    headers: { Content-Type: application/octet-stream }
    body: plans
    expect: { action: block, rule: no uploads, app: dropbox, activity: upload, instance: unknown }
  - name: the bank by day
    request: GET https://bank.test/
    time: 2026-11-23T12:00:00Z
    expect: { action: allow, rule: default }
  - name: the bank by night
    request: GET https://bank.test/
    time: 2026-11-23T23:00:00Z
    expect: { action: allow }
  - { name: no request, request: nonsense, expect: {} }
  - { name: nothing expected, request: GET https://bank.test/ }
";

#[test]
fn a_case_that_is_decided_otherwise_is_told_with_its_place() {
    let (_dir, gateway) = made();
    let tenant = Path::new(&gateway).join("tenants/acme");
    fs::write(tenant.join("policy.yaml"), POLICY).unwrap();
    fs::create_dir(tenant.join("cases")).unwrap();
    fs::write(tenant.join("cases/own.yaml"), CASES).unwrap();
    let found = cases::run(&Layout::new(Path::new(&gateway))).unwrap();
    let shown: Vec<String> = found.iter().map(ToString::to_string).collect();
    assert_eq!(shown.len(), 3, "{shown:#?}");
    assert!(shown[2].contains("`expect` says nothing"), "{shown:#?}");
    assert!(shown[0].starts_with("tenants/acme/cases/own.yaml:12:5: case `the bank by night`"));
    assert!(shown[0].contains("action is `block`, not `allow`"), "{shown:#?}");
    assert!(shown[1].contains("`nonsense` is not `METHOD https://host/path`"), "{shown:#?}");
    assert!(run(&["check", &gateway]).is_err());
}

#[test]
fn a_restriction_on_hosts_that_are_carried_unread_is_an_error() {
    let (_dir, gateway) = made();
    let tenant = Path::new(&gateway).join("tenants/acme/tenant.yaml");
    let check = |decrypt: &str| {
        let text = format!("restrict: {{ dropbox: [dbtid] }}\ndecrypt: {decrypt}\n");
        fs::write(&tenant, text).unwrap();
        let found = snapshot::check(Path::new(&gateway)).unwrap();
        found.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let read =
        check("{ rules: [{ name: banks, match: { category: [finance] }, action: bypass }] }");
    assert_eq!(read, Vec::<String>::new());
    let unread = check("{ rules: [{ name: files, match: { app: [dropbox] }, action: bypass }] }");
    assert_eq!(unread.len(), 2, "{unread:#?}");
    assert!(unread[0].contains("so `restrict.dropbox` has no effect"), "{unread:#?}");
    // The host of the sign-in alone is enough, by its name, its app, or a category of the tenant's own.
    fs::write(
        &tenant,
        "restrict: { google: [acme.test] }\ncategories: { ours: [accounts.google.com] }\ndecrypt: { rules: [\
         { name: a, match: { domain: [accounts.google.com] }, action: bypass },\n\
         { name: b, match: { category: [ours] }, action: bypass },\n\
         { name: c, match: { app: [gmail] }, action: bypass },\n\
         { name: d, match: { domain: [accounts.google.test] }, action: bypass }] }\n",
    )
    .unwrap();
    let found = snapshot::check(Path::new(&gateway)).unwrap();
    let rules: Vec<_> = found.iter().map(|it| it.what.split('`').nth(1).unwrap()).collect();
    assert_eq!(rules, ["a", "c"], "b never decides over that host: {found:#?}");
    let some = check(
        "{ rules: [{ name: guests, match: { group: [guests] }, action: bypass }], default: decrypt }",
    );
    assert!(!some.is_empty());
    let shielded = check(
        "{ rules: [{ name: first, match: { domain: [\"*\"] }, action: decrypt }, \
         { name: files, match: { app: [dropbox] }, action: bypass }] }",
    );
    assert_eq!(shielded, Vec::<String>::new());
}
