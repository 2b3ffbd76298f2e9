//! Every mistake in a file is found, each at its place.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::Config;

use policy::decrypt::{DecryptAction, DecryptSource, DecryptVerdict};
use policy::fact::{Fact, Facts, Key, KeySet, Unobtainable, Value};
use policy::verdict::RuleIndex;
use policy::yaml::Node;
use policy::{Policy, PolicySource, SAMPLE, Severity, Vocabulary, check, policy_schema};

const KNOWN: Vocabulary<'_> = Vocabulary {
    apps: &["dropbox", "google-drive", "slack"],
    categories: policy::catalog::names::CATEGORIES,
    dlp: Some(&["payment-cards"]),
    own_categories: &[],
    countries: Some(false),
    catalog: None,
};

fn lines(text: &str) -> Vec<String> {
    check("policy.yaml", text, KNOWN).iter().map(ToString::to_string).collect()
}

#[test]
fn ten_mistakes_give_ten_messages_with_their_places() {
    let text = "\
version: 2
rulez: []
rules:
  - name: one
    match: { aplication: [x], dest_ip: 10.0.0.0/33 }
    action: blok
  - match: {}
    action: allow
    reason: none
  - name: one
    match: { time: { from: \"25:00\" }, risk: high, app: [] }
    action: redirect
  - name: three
    match: { dlp: [payment-cards] }
    action: set_headers
    headers: { Host: x }
    unobtainable: skip
  - { name: four, match: { file_size: 1 }, action: allow }
  - { name: five, match: {}, action: block }
default: maybe
";
    let wanted = [
        "policy.yaml:1:10: unknown `version`, expected `1`",
        "policy.yaml:2:1: unknown key `rulez`, expected perhaps `rules`",
        "policy.yaml:5:14: unknown match key `aplication`, expected one of",
        "policy.yaml:5:40: `10.0.0.0/33` is no value for `dest_ip`, expected an address or",
        "policy.yaml:6:13: unknown action `blok`, expected perhaps `block`",
        "policy.yaml:7:5: a rule without a `name`, expected",
        "policy.yaml:9:5: unknown key of a rule `reason`, expected one of `name`",
        "policy.yaml:10:11: a second rule is named `one`, expected a name of its own (line 4",
        "policy.yaml:11:28: `25:00` as `from` of a time window, expected a time such as",
        "policy.yaml:11:45: `high` is no value for `risk`, expected a number up to 100",
        "policy.yaml:11:56: `app` has an empty list, expected a value",
        "policy.yaml:12:13: `redirect` without a target, expected `location: https://…`",
        "policy.yaml:14:14: `dlp` is known only at the request body, too late for `set_headers`",
        "policy.yaml:16:16: `Host` frames or routes the request",
        "policy.yaml:17:19: `unobtainable` in a rule of action `set_headers`, expected it only",
        "policy.yaml:18:5: `four` allows only at the request body, and `five` (line 19) below it decides",
        "policy.yaml:20:10: unknown default `maybe`, expected `allow` or `block`",
    ];
    let found = lines(text);
    for wanted in wanted {
        assert!(found.iter().any(|line| line.starts_with(wanted)), "{wanted}\n{found:#?}");
    }
    assert_eq!(found.len(), wanted.len(), "{found:#?}");
    assert!(PolicySource::parse("policy.yaml", text).is_err());
}

#[test]
fn what_is_not_yaml_says_where() {
    let found = lines("version: 1\nrules: [\n");
    assert_eq!(found.len(), 1);
    assert!(found.concat().starts_with("policy.yaml:2:8: not YAML"), "{found:?}");
    assert!(lines("").concat().contains("nothing stands here"), "{:?}", lines(""));
    assert!(lines("version: 1\n---\nversion: 1\n").concat().contains("a second document"));
    let twice = lines("version: 1\ndefault: allow\ndefault: block\n").concat();
    assert!(twice.starts_with("policy.yaml:3:1: `default` stands here twice"), "{twice}");
}

#[test]
fn a_document_that_unfolds_without_end_is_refused() {
    let mut text = String::from("version: 1\na0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let alias = format!("*a{}", level - 1);
        text += &format!("a{level}: &a{level} [{}]\n", vec![alias; 10].join(", "));
    }
    assert!(lines(&text).concat().contains("the document is too large"));
    let deep = format!("version: {}1{}\n", "[".repeat(100), "]".repeat(100));
    assert_eq!(lines(&deep).len(), 1);
}

#[test]
fn an_allow_that_waits_above_a_rule_that_does_not_is_refused() {
    let text = "\
version: 1
rules:
  - { name: pdf may, match: { file_type: pdf }, action: allow }
  - { name: no shares, match: { domain: shares.test }, action: block }
";
    let problems = Policy::load("policy.yaml", text).unwrap_err();
    let line = problems.first().unwrap().to_string();
    assert!(
        line.starts_with("policy.yaml:3:5: `pdf may` allows only at the request body"),
        "{line}"
    );
    let turned = "\
version: 1
rules:
  - { name: no shares, match: { domain: shares.test }, action: block }
  - { name: pdf may, match: { file_type: pdf }, action: allow }
";
    assert!(Policy::load("policy.yaml", turned).is_ok());
}

#[test]
fn rules_that_do_nothing_are_warned_of() {
    let text = "\
version: 1
rules:
  - { name: all storage, match: { category: cloud-storage, domain: \"*.test\" }, action: block }
  - { name: one app, match: { app: dropbx, category: [cloud-storage], domain: a.test }, action: coach }
  - { name: nothing, match: { activity: uplaod, app: { not: [\"*\"] } }, action: alert }
  - { name: late, match: { threat: none }, action: coach }
  - { name: early, match: { category: clowd-storage, dlp: cards }, action: block }
";
    let found = check("policy.yaml", text, KNOWN);
    assert!(found.iter().all(|problem| problem.severity == Severity::Warning));
    let found: Vec<String> = found.iter().map(ToString::to_string).collect();
    for wanted in [
        "policy.yaml:4:5: warning: `one app` can never match: `all storage` (line 3)",
        "policy.yaml:4:36: warning: no `app` is named `dropbx`, expected perhaps `dropbox`",
        "policy.yaml:5:41: warning: no `activity` is named `uplaod`, expected perhaps `upload`",
        "policy.yaml:5:49: warning: `nothing` excludes every value of `app`",
        "policy.yaml:6:5: warning: `late` waits for the response, and `early` (line 7) may block",
        "policy.yaml:7:39: warning: no `category` is named `clowd-storage`, expected perhaps `cl",
        "policy.yaml:7:59: warning: no `dlp` is named `cards`",
    ] {
        assert!(found.iter().any(|line| line.starts_with(wanted)), "{wanted}\n{found:#?}");
    }
    assert!(Policy::load("policy.yaml", text).is_ok(), "a warning keeps nothing out of force");
}

#[test]
fn the_sample_checks_clean() {
    assert_eq!(lines(SAMPLE), Vec::<String>::new());
}

#[test]
fn a_country_is_not_a_truth_value() {
    let text =
        "version: 1\nrules:\n  - { name: n, match: { dest_country: [NO, on] }, action: block }\n";
    let source = PolicySource::parse("policy.yaml", text).unwrap();
    let rule = source.rules.first().unwrap();
    let written: Vec<&str> = rule
        .conditions
        .iter()
        .flat_map(|condition| condition.tests.iter().map(|test| test.written.as_str()))
        .collect();
    assert_eq!(written, ["NO", "on"]);
}

#[test]
fn the_schema_knows_every_key() {
    let schema = policy_schema().to_value().to_string();
    for key in Key::ALL {
        assert!(schema.contains(&format!("\"{}\":{{", key.name())), "{}", key.name());
        assert_eq!(Key::from_name(key.name()), Some(key));
    }
}

#[test]
fn the_documentation_has_every_key_with_its_gate() {
    let page = include_str!("../../docs/policy.md");
    for key in Key::ALL {
        let row = format!("| `{}` | {} |", key.name(), key.gate().name());
        assert!(page.contains(&row), "docs/policy.md lacks {row}");
    }
    for action in policy::Action::ALL {
        assert!(page.contains(&format!("| `{}` |", action.name())), "{}", action.name());
    }
}

#[derive(serde::Deserialize)]
struct Tenant {
    decrypt: DecryptSource,
}

const TENANT: &str = "\
name: acme
decrypt:
  rules:
    - { name: odd ports, match: { dest_port: { not: [443] } }, action: block }
    - { name: private, match: { category: [finance, health] }, action: bypass }
    - { name: inside, match: { dest_ip: 10.0.0.0/8 }, action: bypass }
  default: decrypt
";

#[test]
fn decrypt_rules_decide_by_what_the_name_tells() {
    let tenant: Tenant = serde_saphyr::from_str(TENANT).unwrap();
    let embedded = tenant.decrypt.compile("tenant.yaml").unwrap();
    let found = DecryptSource::find("tenant.yaml", TENANT).unwrap().compile("tenant.yaml").unwrap();
    let place = |rules: &policy::decrypt::DecryptRules| rules.rules().first().unwrap().at;
    assert_eq!(place(&embedded), place(&found));
    let decided = |action, rule: Option<u32>, unobtainable| DecryptVerdict::Decided {
        action,
        rule: rule.map(RuleIndex),
        unobtainable,
    };
    let mut facts = Facts::new();
    facts.set(Key::DestPort, Fact::Known(Value::Number(443)));
    facts.set(Key::Category, Fact::Known(Value::Texts(&["finance"])));
    facts.set(Key::DestIp, Fact::Pending);
    assert_eq!(embedded.decide(&facts), decided(DecryptAction::Bypass, Some(1), None));
    facts.set(Key::Category, Fact::Known(Value::Texts(&["unknown"])));
    let address: KeySet = [Key::DestIp].into_iter().collect();
    assert_eq!(embedded.decide(&facts), DecryptVerdict::Pending(address));
    facts.set(Key::DestIp, Fact::Unobtainable(Unobtainable::Timeout));
    assert_eq!(embedded.decide(&facts), decided(DecryptAction::Decrypt, None, None));
    facts.set(Key::DestPort, Fact::Unobtainable(Unobtainable::Bound));
    let closed = decided(DecryptAction::Block, Some(0), Some(Key::DestPort));
    assert_eq!(embedded.decide(&facts), closed);
    assert_eq!(embedded.decide_by_reference(&facts), closed);
}

#[test]
fn decrypt_mistakes_have_their_places_in_the_whole_file() {
    let text = "\
a: 1
decrypt:
  rules:
    - { name: x, match: { url: \"a/*\" }, action: decript }
    - { match: { app: dropbx } }
  defalt: bypass
";
    let source = DecryptSource::find("tenant.yaml", text).unwrap();
    let found: Vec<String> =
        source.check("tenant.yaml", KNOWN).iter().map(ToString::to_string).collect();
    for wanted in [
        "tenant.yaml:4:27: `url` cannot be known here, expected a key known before decryption",
        "tenant.yaml:4:49: unknown action `decript`, expected perhaps `decrypt`",
        "tenant.yaml:5:7: a rule without a `name`",
        "tenant.yaml:5:7: a rule without an `action`",
        "tenant.yaml:6:3: unknown key of `decrypt` `defalt`, expected perhaps `default`",
    ] {
        assert!(found.iter().any(|line| line.starts_with(wanted)), "{wanted}\n{found:#?}");
    }
    assert!(source.compile("tenant.yaml").is_err());
    let nothing = DecryptSource::default().compile("tenant.yaml").unwrap();
    let decided = nothing.decide(&Facts::new());
    assert!(matches!(
        decided,
        DecryptVerdict::Decided { action: DecryptAction::Decrypt, rule: None, .. }
    ));
}

#[test]
fn a_trace_names_what_decided_and_what_was_lacking() {
    let policy = Policy::load("policy.yaml", SAMPLE).unwrap();
    let mut facts = Facts::new();
    facts.set(Key::App, Fact::Known(Value::Text("dropbox")));
    facts.set(Key::Category, Fact::Known(Value::Texts(&["cloud-storage"])));
    facts.set(Key::Activity, Fact::Known(Value::Text("upload")));
    facts.set(Key::Instance, Fact::Known(Value::Texts(&["corporate", "acme"])));
    facts.set(Key::Time, Fact::Known(Value::Moment(1_795_435_200)));
    let trace = policy.explain(policy::fact::Gate::RequestHead, &facts);
    let near = trace.near.iter().find(|rule| rule.name == "corporate storage only").unwrap();
    let lacked = near.keys.first().unwrap();
    assert_eq!((lacked.key, lacked.result), ("instance", "false"));
    assert_eq!((lacked.wants.as_str(), lacked.saw.as_str()), ("not corporate", "corporate, acme"));
    facts.set(Key::Instance, Fact::Known(Value::Text("personal")));
    let trace = policy.explain(policy::fact::Gate::RequestHead, &facts);
    let rule = trace.rule.unwrap_or_else(|| panic!("no rule decided"));
    assert_eq!(rule.name, "corporate storage only");
    assert!(rule.keys.iter().all(|key| key.result == "true"));
}

#[test]
fn what_came_nearer_is_told_first_and_windows_are_told_in_words() {
    let text = "version: 1\nrules:\n  \
        - { name: far, match: { category: [ads] }, action: block }\n  \
        - { name: night, match: { app: [dropbox], time: { days: [sat, sun], from: \"22:00\", to: \"05:00\", zone: Europe/Berlin } }, action: block }\n  \
        - { name: early, match: { time: { to: \"05:00\" } }, action: block }\n";
    let policy = Policy::load("policy.yaml", text).unwrap();
    let mut facts = Facts::new();
    facts.set(Key::App, Fact::Known(Value::Text("dropbox")));
    facts.set(Key::Category, Fact::Known(Value::Texts(&["cloud-storage"])));
    // A Monday at noon.
    facts.set(Key::Time, Fact::Known(Value::Moment(1_795_435_200)));
    let near = policy.explain(policy::fact::Gate::RequestHead, &facts).near;
    let told: Vec<_> = near
        .iter()
        .map(|rule| (rule.name.as_str(), rule.keys.first().map_or("", |key| key.wants.as_str())))
        .collect();
    assert_eq!(
        told,
        [
            ("night", "sat,sun 22:00-05:00 Europe/Berlin"),
            ("far", "ads"),
            ("early", "00:00-05:00 UTC")
        ]
    );
}

#[test]
fn any_text_is_read_without_a_panic() {
    for text in [
        "\u{feff}version: 1",
        "? [a]\n: b",
        "*a",
        "&a [*a]",
        "!!binary x",
        "%YAML 1.2\n---\n- 1",
        "\0",
        "{a: b, a: c}",
        "- - - -",
    ] {
        let _problems = check("p", text, KNOWN);
        let _node = Node::parse("p", text);
    }
}

proptest! {
    #![proptest_config(Config { cases: 1_000, failure_persistence: None, ..Config::default() })]

    #[test]
    fn a_damaged_file_is_read_without_a_panic(
        cuts in prop::collection::vec((any::<Index>(), "[ \\[\\]{}:,*&!|>%@`\"'#\n\t~a0-]{0,4}"), 1..6),
    ) {
        let mut text: Vec<char> = SAMPLE.lines().filter(|line| !line.contains('#')).flat_map(|line| line.chars().chain(['\n'])).collect();
        for (at, put) in &cuts {
            let at = at.index(text.len());
            text.splice(at..(at + 2).min(text.len()), put.chars());
        }
        let text: String = text.into_iter().collect();
        let errors = check("p", &text, KNOWN).iter().any(|problem| problem.severity == Severity::Error);
        prop_assert_eq!(errors, Policy::load("p", &text).is_err());
    }
}

#[test]
fn rules_over_countries_that_nobody_knows_are_told() {
    let text =
        "version: 1\nrules:\n  - { name: r, match: { dest_country: [KP] }, action: block }\n";
    let told = [
        "policy.yaml:3:25: warning: `dest_country` cannot be had: no database of `events.geoip` names \
         countries, expected such a database in gateway.yaml",
    ];
    assert_eq!(lines(text), told);
    let known = Vocabulary { countries: Some(true), ..KNOWN };
    assert!(check("policy.yaml", text, known).is_empty());
}

#[test]
fn a_profile_that_no_tenant_yaml_has_is_told() {
    let text =
        "version: 1\nrules:\n  - { name: r, match: { dlp: [payment-card] }, action: block }\n";
    let told = |dlp| {
        let problems = check("policy.yaml", text, Vocabulary { dlp, ..Vocabulary::default() });
        problems.iter().map(|it| it.expected.clone()).collect::<Vec<_>>()
    };
    assert_eq!(told(Some(&["payment-cards"])), ["perhaps `payment-cards`"]);
    assert_eq!(told(Some(&[])), ["a profile under `content.profiles` of tenant.yaml"]);
    assert!(told(Some(&["payment-card"])).is_empty());
    assert!(told(None).is_empty(), "nothing is known of profiles");
}

#[test]
fn keys_that_rule_each_other_out_are_told() {
    let catalog = policy::catalog::Catalog::builtin().unwrap();
    let known = Vocabulary {
        own_categories: &["partners"],
        catalog: Some(&catalog),
        ..Vocabulary::default()
    };
    let warned = |rule: &str| {
        let text = format!("version: 1\nrules:\n  - {{ name: r, match: {rule}, action: block }}\n");
        let found = check("policy.yaml", &text, known);
        found.iter().filter(|it| it.what.contains("can never match")).count()
    };
    for never in [
        "{ app: dropbox, category: [mail] }",
        "{ app: [dropbox, box], category: { not: [cloud-storage] } }",
        "{ app: gmail, app_tag: [ai-training] }",
        "{ app: dropbox, risk: \">=95\" }",
        "{ app: dropbox, domain: [www.box.com] }",
    ] {
        assert_eq!(warned(never), 1, "{never}");
    }
    for may in [
        "{ app: dropbox, category: [cloud-storage, mail] }",
        "{ app: [dropbox, gmail], category: [mail] }",
        "{ app: dropbox, category: [partners] }",
        "{ app: dropbox, domain: [\"*.dropbox.com\"] }",
        "{ app: onedrive, domain: [graph.microsoft.com] }",
        "{ app: { not: [dropbox] }, category: [mail] }",
    ] {
        assert_eq!(warned(may), 0, "{may}");
    }
}
