//! The compiled evaluator is held equal to the reference, and both to the order of arrival.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::sync::OnceLock;

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, RngSeed};

use super::compiled::Compiled;
use super::{Findings, Stop, Traits, reference};
use crate::error::Position;
use crate::fact::{Fact, Facts, Gate, Key, KeyKind, KeySet, Unobtainable, Value};
use crate::pattern::Pattern;
use crate::rule::{Action, Condition, OnUnobtainable, Rule, Test, Want};
use crate::verdict::RuleIndex;
use crate::window::{Window, days, zone};

/// Policies tried in an ordinary run; `SLUICE_POLICY_CASES` asks for more. Each is judged at four
/// gates over several sets of facts.
const CASES: u32 = 1_500;

/// Sets of facts for each policy.
const FACTS: usize = 4;

fn cases() -> u32 {
    std::env::var("SLUICE_POLICY_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(CASES)
}

/// The seed of this run, printed so that it can be had again: `SLUICE_POLICY_SEED`.
fn seed() -> u64 {
    static SEED: OnceLock<u64> = OnceLock::new();
    *SEED.get_or_init(|| {
        let given = std::env::var("SLUICE_POLICY_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = given.unwrap_or_else(|| RandomState::new().hash_one(0));
        let line = format!("policy property tests: SLUICE_POLICY_SEED={seed}\n");
        std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes()).unwrap();
        seed
    })
}

fn config() -> Config {
    // No file of old failures: this crate reads and writes nothing. A failure prints its case.
    let rng_seed = RngSeed::Fixed(seed());
    Config { cases: cases(), failure_persistence: None, rng_seed, ..Config::default() }
}

const TEXTS: [&str; 17] = [
    "a", "b", "ab", "*.x", "a*", "*b*", "*", "*cyd", "Ä*", "a.x", "*a*", "*.a.x", "abc", "*c*",
    "abcy*", "abcyd*", "*bcyd",
];
const URLS: [&str; 8] =
    ["a.x/p", "a.x/*", "https://a.x/*", "*.zip", "*", "http://*", "*q=1*", "*://a.x/p"];
const SEEN: [&str; 12] =
    ["a", "B", "ab", "a.x", "q.a.x", "abcyd", "", "ärger", "xyz", "bbbbabab", "c", ".x"];
const SEEN_URLS: [&str; 6] = [
    "https://a.x/p",
    "HTTP://A.X/p?q=1",
    "a.x/p",
    "https://b/f.zip?u=https://a.x/",
    "https://a.x/",
    "",
];
const NETS: [&str; 6] =
    ["10.0.0.0/8", "10.1.2.3/32", "0.0.0.0/0", "::/0", "fe80::/10", "10.1.0.0/16"];
const ADDRESSES: [&str; 5] = ["10.1.2.3", "10.200.0.1", "::ffff:10.1.2.3", "fe80::1", "192.0.2.1"];
const SPANS: [(u64, u64); 6] = [(0, 0), (1, 9), (5, 5), (70, 100), (0, u64::MAX), (9, 70)];
const NUMBERS: [u64; 6] = [0, 1, 5, 9, 70, 443];
/// A Monday, 2026-11-23, at 07:30, 12:00 and 23:30 UTC; a Sunday; beyond the calendar.
const MOMENTS: [i64; 5] = [1_795_419_000, 1_795_435_200, 1_795_476_600, 1_795_348_800, i64::MAX];
const TEXT_LISTS: [&[&str]; 4] = [&[], &["a", "ab"], &["xyz", "B", "a.x"], &["ärger", "ab", "ab"]];

fn wants(kind: KeyKind) -> Vec<Want> {
    let pattern = |text: &&str| Want::Text(Pattern::parse(text).unwrap());
    match kind {
        KeyKind::Text => TEXTS.iter().map(pattern).collect(),
        KeyKind::Url => URLS.iter().map(pattern).collect(),
        KeyKind::Number | KeyKind::Size => {
            SPANS.iter().map(|&(low, high)| Want::Number { low, high }).collect()
        }
        KeyKind::Address => NETS.iter().map(|net| Want::Network(net.parse().unwrap())).collect(),
        KeyKind::Time => [("mon-fri", 8, 18), ("sun", 22, 9), ("sat-mon", 0, 0)]
            .into_iter()
            .flat_map(|(on, from, to)| {
                ["UTC", "Europe/Berlin", "America/New_York"].into_iter().map(move |name| {
                    let zone = zone(name).unwrap();
                    Window { days: days(on).unwrap(), from: from * 3600, to: to * 3600, zone }
                })
            })
            .map(Want::Window)
            .collect(),
    }
}

fn values(kind: KeyKind) -> Vec<Value<'static>> {
    match kind {
        KeyKind::Text => {
            let one = SEEN.into_iter().map(Value::Text);
            one.chain(TEXT_LISTS.into_iter().map(Value::Texts)).collect()
        }
        KeyKind::Url => {
            let one = SEEN_URLS.into_iter().map(Value::Text);
            one.chain([Value::Texts(&["a.x/p", "https://b/f.zip"])]).collect()
        }
        KeyKind::Number | KeyKind::Size => NUMBERS.into_iter().map(Value::Number).collect(),
        KeyKind::Address => {
            let parsed = ADDRESSES.iter().map(|text| text.parse::<IpAddr>().unwrap());
            parsed.map(Value::Address).collect()
        }
        KeyKind::Time => MOMENTS.into_iter().map(Value::Moment).collect(),
    }
}

/// Few keys in most policies, so that rules meet facts; one key of each kind among them.
fn key() -> impl Strategy<Value = Key> {
    prop_oneof![
        6 => prop::sample::select(vec![
            Key::User, Key::Domain, Key::DestIp, Key::DestPort, Key::Time, Key::App, Key::Url,
            Key::Activity, Key::Dlp, Key::FileSize, Key::Threat,
        ]),
        1 => prop::sample::select(Key::ALL.to_vec()),
    ]
}

fn rule() -> impl Strategy<Value = Rule> {
    let condition = (key(), any::<bool>(), prop::collection::vec(any::<Index>(), 1..4));
    let conditions = prop::collection::vec(condition, 0..4);
    let action = prop::sample::select(Action::ALL.to_vec());
    let unobtainable = prop::sample::select(OnUnobtainable::ALL.to_vec());
    (conditions, action, unobtainable).prop_map(|(conditions, action, unobtainable)| {
        // A key stands once in a rule.
        let by_key: BTreeMap<Key, _> =
            conditions.into_iter().map(|(key, not, picks)| (key, (not, picks))).collect();
        let conditions = by_key.into_iter().map(|(key, (negated, picks))| {
            let all = wants(key.kind());
            let tests = picks.into_iter().map(|pick| Test {
                at: Position::default(),
                written: String::new(),
                want: pick.get(&all).clone(),
            });
            Condition { key, at: Position::default(), negated, tests: tests.collect() }
        });
        Rule {
            name: String::new(),
            at: Position::default(),
            conditions: conditions.collect(),
            action,
            unobtainable,
            message: None,
            headers: Vec::new(),
            location: None,
        }
    })
}

/// Small policies mostly; some span words of the bit sets.
fn rules() -> impl Strategy<Value = Vec<Rule>> {
    prop_oneof![
        4 => prop::collection::vec(rule(), 0..12),
        1 => prop::collection::vec(rule(), 60..140),
    ]
}

/// Policies whose sets are sparse, and longer than one block of words, as only large ones are: few rules
/// for each of many domains.
fn many_rules() -> impl Strategy<Value = Vec<Rule>> {
    let count = prop::sample::select(vec![300_usize, 1_000, 5_000]);
    (prop::collection::vec(rule(), 20..60), count).prop_map(|(templates, count)| {
        let of = |number: usize| {
            let mut rule = templates.get(number % templates.len()).unwrap().clone();
            // Some are left as they are, anywhere among the others.
            if number % 89 != 7 {
                rule.conditions.retain(|condition| condition.key != Key::Domain);
                let want = Want::Text(Pattern::parse(&format!("n{}.x", number / 2)).unwrap());
                rule.conditions.push(Condition {
                    key: Key::Domain,
                    at: Position::default(),
                    negated: false,
                    tests: vec![Test { at: Position::default(), written: String::new(), want }],
                });
            }
            rule
        };
        (0..count).map(of).collect()
    })
}

/// A large policy costs as much as a hundred small ones.
fn few() -> Config {
    Config { cases: (cases() / 100).max(1), max_shrink_iters: 64, ..config() }
}

fn fact(key: Key) -> impl Strategy<Value = Fact<'static>> {
    let reasons = vec![Unobtainable::Bound, Unobtainable::EngineDown];
    prop_oneof![
        8 => prop::sample::select(values(key.kind())).prop_map(Fact::Known),
        1 => Just(Fact::Inapplicable),
        1 => Just(Fact::Pending),
        3 => Just(Fact::Deferred),
        1 => prop::sample::select(reasons).prop_map(Fact::Unobtainable),
        1 => Just(Fact::Known(Value::Texts(&["a", "wrong kind for most"]))),
    ]
}

fn facts() -> impl Strategy<Value = Facts<'static>> {
    Vec::from(Key::ALL.map(fact)).prop_map(|all| {
        let mut facts = Facts::new();
        for (key, fact) in Key::ALL.into_iter().zip(all) {
            facts.set(key, fact);
        }
        facts
    })
}

/// Both evaluators over the same rules.
struct Both {
    rules: Vec<Rule>,
    compiled: Compiled,
    default_blocks: bool,
}

impl Both {
    fn new(rules: Vec<Rule>, default_blocks: bool) -> Self {
        let compiled = Compiled::new(&shapes(&rules), default_blocks);
        Self { rules, compiled, default_blocks }
    }

    fn reference(&self, gate: Gate, facts: &Facts<'_>) -> Findings {
        reference::evaluate(shapes(&self.rules), self.default_blocks, gate, facts)
    }
}

fn shapes(rules: &[Rule]) -> Vec<(&[Condition], Traits)> {
    rules.iter().map(|rule| (rule.conditions.as_slice(), Traits::of(rule))).collect()
}

/// A rule that blocks where each of these keys has a certain value.
fn wanting(keys: impl IntoIterator<Item = Key>) -> Rule {
    let condition = |key: Key| Condition {
        key,
        at: Position::default(),
        negated: false,
        tests: wants(key.kind())
            .into_iter()
            .take(1)
            .map(|want| Test { at: Position::default(), written: String::new(), want })
            .collect(),
    };
    Rule {
        name: String::new(),
        at: Position::default(),
        conditions: keys.into_iter().map(condition).collect(),
        action: Action::Block,
        unobtainable: OnUnobtainable::Block,
        message: None,
        headers: Vec::new(),
        location: None,
    }
}

/// Rules beyond the combinations of keys that are told apart are looked at whatever the others say.
#[test]
fn a_key_that_only_a_late_combination_uses_is_looked_at() {
    let common: Vec<Key> = Key::ALL.into_iter().take(9).collect();
    let subsets = (1..1_u32 << common.len()).map(|subset| {
        let chosen = common.iter().enumerate().filter(move |(at, _)| subset & (1 << at) != 0);
        wanting(chosen.map(|(_, &key)| key))
    });
    let rules: Vec<Rule> = subsets.chain([wanting([Key::Threat])]).collect();
    let index = RuleIndex(u32::try_from(rules.len() - 1).unwrap());
    let both = Both::new(rules, false);
    let mut facts = Facts::new();
    Key::ALL.into_iter().for_each(|key| facts.set(key, Fact::Inapplicable));
    for (threat, stop) in
        [("a", Stop::Rule { index, unobtainable: None }), ("other", Stop::Default)]
    {
        facts.set(Key::Threat, Fact::Known(Value::Text(threat)));
        let found = both.compiled.evaluate(Gate::Response, &facts);
        assert_eq!(found.stop, stop);
        assert_eq!(found, both.reference(Gate::Response, &facts));
    }
}

proptest! {
    #![proptest_config(few())]

    #[test]
    fn compiled_equals_reference_over_thousands_of_rules(
        rules in many_rules(),
        default_blocks in any::<bool>(),
        facts in prop::collection::vec(facts(), FACTS),
        domains in prop::collection::vec(0..2_600_usize, FACTS),
    ) {
        let both = Both::new(rules, default_blocks);
        for (mut facts, domain) in facts.into_iter().zip(domains) {
            // Every other time a domain that some rules are about.
            let domain = format!("n{domain}.x");
            if domain.len() % 2 == 0 {
                facts.set(Key::Domain, Fact::Known(Value::Text(domain.leak())));
            }
            for gate in Gate::ALL {
                let compiled = both.compiled.evaluate(gate, &facts);
                prop_assert_eq!(compiled, both.reference(gate, &facts), "at {:?}", gate);
            }
        }
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn compiled_equals_reference(
        rules in rules(),
        default_blocks in any::<bool>(),
        facts in prop::collection::vec(facts(), FACTS),
    ) {
        let both = Both::new(rules, default_blocks);
        for facts in &facts {
            for gate in Gate::ALL {
                let compiled = both.compiled.evaluate(gate, facts);
                prop_assert_eq!(compiled, both.reference(gate, facts), "at {:?}", gate);
            }
        }
    }

    #[test]
    fn what_is_not_told_apart_is_judged_alike(
        rules in rules(),
        default_blocks in any::<bool>(),
        one in facts(),
        other in facts(),
    ) {
        let both = Both::new(rules, default_blocks);
        for key in Key::ALL {
            let mut swapped = one.clone();
            swapped.set(key, other.fact(key));
            if !both.compiled.tells_apart(key, one.fact(key), other.fact(key)) {
                for gate in Gate::ALL {
                    let judged = both.compiled.evaluate(gate, &swapped);
                    prop_assert_eq!(judged, both.compiled.evaluate(gate, &one), "{:?}", key);
                }
            }
        }
    }

    #[test]
    fn a_verdict_does_not_depend_on_the_order_of_arrival(
        rules in rules(),
        default_blocks in any::<bool>(),
        facts in facts(),
        late in prop::collection::vec(any::<bool>(), Key::COUNT),
        order in prop::collection::vec(any::<Index>(), Key::COUNT),
    ) {
        let both = Both::new(rules, default_blocks);
        let mut settled = facts;
        let pending = Key::ALL.into_iter().filter(|&key| settled.fact(key) == Fact::Pending);
        for key in pending.collect::<Vec<_>>() {
            settled.set(key, Fact::Inapplicable);
        }
        for gate in Gate::ALL {
            let whole = both.compiled.evaluate(gate, &settled);
            let mut arriving = settled.clone();
            for (key, late) in Key::ALL.into_iter().zip(&late) {
                // What a later gate gives cannot be waited for at this one.
                if *late && settled.fact(key) != Fact::Deferred {
                    arriving.set(key, Fact::Pending);
                }
            }
            let mut order = order.iter();
            let answer = loop {
                let answer = both.compiled.evaluate(gate, &arriving);
                let mut asked = match answer.stop {
                    Stop::Pending(keys) => keys,
                    _ => KeySet::EMPTY,
                };
                if asked.is_empty() {
                    asked = answer.headers_pending;
                }
                let asked: Vec<Key> = asked.iter().collect();
                let Some(pick) = order.next().filter(|_| !asked.is_empty()) else {
                    break answer;
                };
                let key = *pick.get(&asked);
                arriving.set(key, settled.fact(key));
            };
            prop_assert_eq!(answer.stop, whole.stop, "at {:?}", gate);
            prop_assert_eq!(answer.waits_for, whole.waits_for);
            prop_assert_eq!(answer.headers, whole.headers);
            prop_assert!(answer.alerts.iter().all(|alert| whole.alerts.contains(alert)));
        }
    }

    #[test]
    fn an_allow_stands_only_on_facts_that_are_had(
        rules in rules(),
        facts in facts(),
    ) {
        let both = Both::new(rules, true);
        for gate in Gate::ALL {
            let Stop::Rule { index, .. } = both.compiled.evaluate(gate, &facts).stop else {
                continue;
            };
            let rule = both.rules.get(usize::try_from(index.0).unwrap()).unwrap();
            let had = |key| matches!(
                super::state(key, facts.fact(key), gate),
                super::State::Known(_) | super::State::Inapplicable
            );
            prop_assert!(rule.action != Action::Allow || rule.keys().iter().all(had));
        }
    }
}
