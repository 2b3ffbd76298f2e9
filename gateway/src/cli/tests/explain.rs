//! What `sluice explain` promises.

use std::fs;
use std::path::Path;

use super::{Command, Failure, made, parse, run};
use crate::cli::{explain, explain_text};
use crate::verdict::explain::Explanation;

const POLICY: &str = "\
version: 1
rules:
  - { name: label, match: { app: [dropbox] }, action: set_headers, headers: { X-Test: secret-value } }
  - { name: watch, match: { app: [dropbox] }, action: alert }
  - { name: closed network, match: { dest_ip: [198.51.100.0/24], domain: [odd.test] }, action: block }
  - { name: gone, match: { domain: [gone.test] }, action: block }
  - { name: no keys out, match: { domain: [files.test], file_name: ['*.pem'] }, action: block }
  - name: corporate only
    match: { app: [dropbox], activity: [upload], instance: { not: [corporate] }, group: { not: [finance] } }
    action: block
  - { name: think, match: { domain: [ai.test], method: [POST] }, action: coach }
  - { name: no prompts, match: { app: [openai], activity: [post] }, action: block }
default: allow
";

fn acme() -> (tempfile::TempDir, String) {
    let (dir, gateway) = made();
    let tenant = Path::new(&gateway).join("tenants/acme");
    fs::write(tenant.join("policy.yaml"), POLICY).unwrap();
    fs::write(tenant.join("users.csv"), "user,groups\nbob@acme.test,finance\n").unwrap();
    let config = "\
identity: { directory: users.csv }
decrypt:
  rules:
    - { name: private, match: { domain: [bank.test] }, action: bypass }
    - { name: never, match: { domain: [evil.test] }, action: block }
";
    fs::write(tenant.join("tenant.yaml"), config).unwrap();
    (dir, gateway)
}

fn ask(gateway: &str, line: &[&str]) -> Result<Explanation, Failure> {
    let line = [&["explain", "acme", "--config", gateway], line].concat();
    let Command::Explain(args) = parse(&line).unwrap() else {
        return Err(Failure::Message("not explain".to_owned()));
    };
    explain::answer(&args)
}

const UPLOAD: &[&str] =
    &["--url", "https://content.dropboxapi.com/2/files/upload", "--method", "POST"];

#[test]
fn the_deciding_rule_is_told_key_by_key() {
    let (_dir, gateway) = acme();
    let answer = ask(&gateway, UPLOAD).unwrap();
    assert_eq!((answer.action, answer.rule.as_deref()), ("block", Some("corporate only")));
    assert_eq!(answer.app.as_deref(), Some("dropbox"));
    assert_eq!(answer.activity.as_deref(), Some("upload"));
    assert_eq!(answer.instance_kind, Some("unknown"));
    assert_eq!(answer.alerts, ["watch"]);
    assert_eq!(answer.decrypt.action, "decrypt");
    let why = answer.why.clone().unwrap();
    let keys: Vec<_> = why.keys.iter().map(|key| (key.key, key.result)).collect();
    assert!(keys.contains(&("instance", "true")) && keys.contains(&("group", "true")), "{keys:?}");
    let text = explain_text::describe(&answer, false);
    assert!(text.starts_with("block  by rule `corporate only`\n"), "{text}");
    assert!(text.contains("group: wants not finance"), "{text}");
    assert!(!text.contains('\u{1b}'), "{text}");
    assert!(explain_text::describe(&answer, true).contains("\u{1b}[31mblock"));
}

#[test]
fn a_message_of_a_websocket_is_asked_for_as_a_request_of_its_own() {
    let (dir, gateway) = acme();
    let url = "https://api.openai.com/v1/realtime?model=gpt-realtime";
    let message = &["--url", url, "--method", "MESSAGE"][..];
    assert_eq!(ask(&gateway, message).unwrap().action, "pending");
    let file = dir.path().join("message.json");
    for (text, action) in [("response.create", "block"), ("input_audio_buffer.clear", "allow")] {
        fs::write(&file, format!(r#"{{"type":"{text}"}}"#)).unwrap();
        let asked = [message, &["--body", file.to_str().unwrap()]].concat();
        assert_eq!(ask(&gateway, &asked).unwrap().action, action);
    }
    assert_eq!(ask(&gateway, &["--url", url]).unwrap().action, "allow", "opening it");
}

#[test]
fn a_rule_that_came_near_says_what_it_lacked() {
    let (_dir, gateway) = acme();
    let answer = ask(&gateway, &[UPLOAD, &["--user", "bob@acme.test"]].concat()).unwrap();
    assert_eq!((answer.action, answer.rule.as_deref()), ("allow", None));
    assert_eq!(answer.groups, ["finance"]);
    let near = answer.near.iter().find(|near| near.rule == "corporate only").unwrap();
    let lacked: Vec<_> = near.lacked.iter().map(|lack| (lack.key, lack.seen.as_str())).collect();
    assert_eq!(lacked, [("group", "finance")]);
}

#[test]
fn json_keeps_its_keys_and_no_header_value() {
    let (_dir, gateway) = acme();
    let answer = serde_json::to_value(ask(&gateway, UPLOAD).unwrap()).unwrap();
    for key in [
        "url",
        "app",
        "category",
        "instance",
        "instance_kind",
        "activity",
        "object",
        "operations",
        "decrypt",
        "action",
        "rule",
        "alerts",
        "near",
        "gates",
        "waits_for",
        "give",
        "set_headers",
        "why",
    ] {
        assert!(answer.get(key).is_some(), "{key}");
    }
    let pointer = |path: &str| answer.pointer(path).and_then(serde_json::Value::as_str);
    assert_eq!(pointer("/set_headers/0/rule"), Some("label"));
    assert_eq!(pointer("/set_headers/0/headers/0"), Some("X-Test"));
    assert_eq!(pointer("/gates/0/gate"), Some("connect"));
    assert!(!answer.to_string().contains("secret-value"));
}

#[test]
fn what_a_rule_waits_for_is_said_and_the_body_settles_it() {
    let (dir, gateway) = acme();
    let form = [
        "--url",
        "https://files.test/send",
        "--method",
        "POST",
        "--header",
        "Content-Type: multipart/form-data; boundary=b",
    ];
    let answer = ask(&gateway, &form).unwrap();
    assert_eq!(answer.action, "pending");
    assert!(answer.waits_for.contains(&"file_name"), "{:?}", answer.waits_for);
    assert_eq!(answer.give, ["body"]);
    let text = explain_text::describe(&answer, false);
    assert!(text.contains("--body FILE: what the request sends tells file_name"), "{text}");
    let body = dir.path().join("body");
    let part = |name: &str| {
        format!(
            "--b\r\nContent-Disposition: form-data; name=f; filename={name}\r\n\r\nx\r\n--b--\r\n"
        )
    };
    let with_body = [&form[..], &["--body", body.to_str().unwrap()]].concat();
    fs::write(&body, part("id.pem")).unwrap();
    assert_eq!(ask(&gateway, &with_body).unwrap().rule.as_deref(), Some("no keys out"));
    fs::write(&body, part("id.txt")).unwrap();
    assert_eq!(ask(&gateway, &with_body).unwrap().action, "allow");
    // What two readers could read in two ways is nothing a rule can be sure of.
    fs::write(&body, "no form at all").unwrap();
    let answer = ask(&gateway, &with_body).unwrap();
    assert_eq!(answer.block_reason.as_deref(), Some("unobtainable:file_name"));
}

#[test]
fn each_way_a_flow_can_end_is_told() {
    let (_dir, gateway) = acme();
    let told = |url: &str| {
        let answer = ask(&gateway, &["--url", url]).unwrap();
        (answer.action, answer.rule, answer.block_reason, answer.decrypt.action)
    };
    let named = |name: &str| Some(name.to_owned());
    assert_eq!(told("https://gone.test/"), ("block", named("gone"), named("rule"), "decrypt"));
    assert_eq!(told("https://bank.test/"), ("allow", None, None, "bypass"));
    let refused = named("decrypt_rule");
    assert_eq!(told("https://evil.test/"), ("block", named("never"), refused, "block"));
    assert_eq!(told("http://bank.test/"), ("allow", None, None, "not_tls"));
    let metadata = named("metadata_destination");
    assert_eq!(told("http://169.254.169.254/"), ("block", None, metadata, "not_tls"));
}

#[test]
fn a_rule_by_address_waits_for_the_address() {
    let (_dir, gateway) = acme();
    let url = ["--url", "https://odd.test/"];
    let answer = ask(&gateway, &url).unwrap();
    let text = explain_text::describe(&answer, false);
    assert!(text.contains("--dest-ip IP: the address that the name has tells dest_ip"), "{text}");
    assert!(!text.contains("--body"), "{text}");
    assert_eq!((answer.action, answer.waits_for), ("pending", vec!["dest_ip"]));
    let elsewhere = [&url[..], &["--dest-ip", "93.184.215.14"]].concat();
    assert_eq!(ask(&gateway, &elsewhere).unwrap().action, "allow");
}

#[test]
fn a_coach_rule_is_told_as_such() {
    let (_dir, gateway) = acme();
    let answer = ask(&gateway, &["--url", "https://ai.test/", "--method", "POST"]).unwrap();
    assert_eq!((answer.action, answer.rule.as_deref()), ("coach", Some("think")));
}

#[test]
fn wrong_usage_and_a_broken_tenant_are_told_apart() {
    let (_dir, gateway) = acme();
    for url in ["nonsense", "ftp://a.test/", "https://a b.test/", "https:///"] {
        assert!(matches!(ask(&gateway, &["--url", url]), Err(Failure::Usage(_))), "{url}");
    }
    let url = ["--url", "https://a.test/"];
    let no_header = [&url[..], &["--header", "nonsense"]].concat();
    assert!(matches!(ask(&gateway, &no_header), Err(Failure::Usage(_))));
    let stranger = ["explain", "nobody", "--config", &gateway, "--url", "https://a.test/"];
    assert!(matches!(run(&stranger), Err(Failure::Message(_))));
    let policy = Path::new(&gateway).join("tenants/acme/policy.yaml");
    fs::write(policy, "version: 1\nrules:\n  - { name: a, match: { apq: [x] }, action: block }\n")
        .unwrap();
    let found = ask(&gateway, &url).unwrap_err();
    let placed = |problem: &policy::Problem| problem.to_string().contains("policy.yaml:3:");
    assert!(matches!(&found, Failure::Problems(all) if all.iter().any(placed)), "{found:?}");
}
