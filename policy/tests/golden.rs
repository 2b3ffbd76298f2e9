//! Runs policy/cases/*.yaml: facts in, the expected verdict out, by both evaluators.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use policy::fact::{Fact, Facts, Gate, Key, KeyKind, KeySet, Unobtainable, Value};
use policy::verdict::{BlockReason, Outcome, RuleIndex, Verdict};
use policy::{Policy, SAMPLE};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    /// The text of a policy, or `sample`.
    policy: String,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    gate: String,
    #[serde(default)]
    facts: BTreeMap<String, Given>,
    expect: Expected,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Given {
    Number(u64),
    Text(String),
    Texts(Vec<String>),
    State(State),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    /// `pending`, `deferred`, `inapplicable`, or a reason for which it cannot be had.
    state: String,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Expected {
    /// `allow`, `block`, `coach`, `redirect` or `pending`.
    outcome: String,
    rule: Option<String>,
    /// Of a block without a rule `default`; else the key that could not be had.
    because: Option<String>,
    #[serde(default)]
    pending: Vec<String>,
    #[serde(default)]
    alerts: Vec<String>,
    #[serde(default)]
    set_headers: Vec<String>,
    #[serde(default)]
    waits_for: Vec<String>,
    #[serde(default)]
    alerts_wait_for: Vec<String>,
}

#[test]
fn every_case_has_its_verdict() {
    let mut ran = 0;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("cases");
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let file: File = serde_saphyr::from_str(&text).unwrap_or_else(|e| panic!("{path:?}: {e}"));
        let rules = if file.policy == "sample" { SAMPLE } else { &file.policy };
        let policy = Policy::load(&path.display().to_string(), rules).unwrap_or_else(|problems| {
            panic!("{}", problems.iter().map(|p| format!("{p}\n")).collect::<String>())
        });
        for case in &file.cases {
            run(&policy, case, &path);
            ran += 1;
        }
    }
    assert!(ran >= 30, "only {ran} cases ran");
}

fn run(policy: &Policy, case: &Case, path: &Path) {
    let (strs, addresses) = prepare(case);
    let mut facts = Facts::new();
    for (name, given) in &case.facts {
        let key = Key::from_name(name).unwrap_or_else(|| panic!("{}: key {name}", case.name));
        facts.set(key, fact(name, given, key, &strs, &addresses));
    }
    let gate = Gate::ALL.into_iter().find(|gate| gate.name() == case.gate);
    let gate = gate.unwrap_or_else(|| panic!("{}: gate {}", case.name, case.gate));
    let reference = policy.reference();
    let answers = if gate == Gate::Connect {
        [told(policy, policy.connect(&facts)), told(policy, reference.connect(&facts))]
    } else {
        [told(policy, policy.judge(gate, &facts)), told(policy, reference.judge(gate, &facts))]
    };
    for answer in answers {
        assert_eq!(answer, case.expect, "{}: {}", path.display(), case.name);
    }
}

type Strs<'c> = BTreeMap<&'c str, Vec<&'c str>>;

fn prepare(case: &Case) -> (Strs<'_>, BTreeMap<&str, IpAddr>) {
    let (mut strs, mut addresses) = (BTreeMap::new(), BTreeMap::new());
    for (name, given) in &case.facts {
        match given {
            Given::Texts(texts) => {
                strs.insert(name.as_str(), texts.iter().map(String::as_str).collect());
            }
            Given::Text(text) => {
                if let Ok(address) = text.parse() {
                    addresses.insert(name.as_str(), address);
                }
            }
            Given::Number(_) | Given::State(_) => {}
        }
    }
    (strs, addresses)
}

fn fact<'c>(
    name: &str,
    given: &'c Given,
    key: Key,
    strs: &'c Strs<'c>,
    addresses: &BTreeMap<&str, IpAddr>,
) -> Fact<'c> {
    match (given, key.kind()) {
        (Given::State(state), _) => match state.state.as_str() {
            "pending" => Fact::Pending,
            "deferred" => Fact::Deferred,
            "inapplicable" => Fact::Inapplicable,
            "bound" => Fact::Unobtainable(Unobtainable::Bound),
            "timeout" => Fact::Unobtainable(Unobtainable::Timeout),
            "not_decrypted" => Fact::Unobtainable(Unobtainable::NotDecrypted),
            "engine_down" => Fact::Unobtainable(Unobtainable::EngineDown),
            other => panic!("state {other}"),
        },
        (Given::Number(number), _) => Fact::Known(Value::Number(*number)),
        (Given::Texts(_), _) => Fact::Known(Value::Texts(strs.get(name).unwrap())),
        (Given::Text(_), KeyKind::Address) => {
            Fact::Known(Value::Address(*addresses.get(name).unwrap()))
        }
        (Given::Text(text), KeyKind::Time) => {
            Fact::Known(Value::Moment(text.parse::<jiff::Timestamp>().unwrap().as_second()))
        }
        (Given::Text(text), _) => Fact::Known(Value::Text(text)),
    }
}

fn told<P>(policy: &Policy, verdict: Verdict<P>) -> Expected {
    let name = |index: RuleIndex| policy.rule(index).unwrap().name.clone();
    let names = |rules: &[RuleIndex]| rules.iter().copied().map(name).collect::<Vec<_>>();
    let keys = |keys: KeySet| keys.iter().map(|key| key.name().to_owned()).collect::<Vec<_>>();
    let (mut because, mut pending) = (None, Vec::new());
    let (outcome, rule) = match verdict.outcome {
        Outcome::Pending(keys_wanted) => {
            pending = keys(keys_wanted);
            ("pending", None)
        }
        Outcome::Allow { rule, .. } => ("allow", rule),
        Outcome::Block { rule, reason } => {
            because = match reason {
                BlockReason::Rule => None,
                BlockReason::Default => Some("default".to_owned()),
                BlockReason::Unobtainable(key) => Some(key.name().to_owned()),
            };
            ("block", rule)
        }
        Outcome::Coach(coached) => ("coach", Some(coached.rule)),
        Outcome::Redirect { rule } => ("redirect", Some(rule)),
    };
    Expected {
        outcome: outcome.to_owned(),
        rule: rule.map(name),
        because,
        pending,
        alerts: names(&verdict.alerts),
        set_headers: names(&verdict.set_headers),
        waits_for: keys(verdict.waits_for),
        alerts_wait_for: keys(verdict.alerts_wait_for),
    }
}
