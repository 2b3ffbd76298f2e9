//! The evaluator that is easy to believe: one rule at a time, as the documentation reads. The
//! compiled one is held equal to it, and explanations are made from it.

use std::net::IpAddr;

use smallvec::SmallVec;

use super::{Findings, Role, State, Stop, Traits, Undecided, state};
use crate::fact::{Facts, Gate, Key, KeySet, Value};
use crate::pattern::{Folded, Pattern, fold, without_scheme};
use crate::rule::{Condition, Want};
use crate::verdict::RuleIndex;
use crate::window;

/// What one condition says of the facts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Truth {
    True,
    False,
    Pending,
    Deferred,
    Unobtainable,
}

/// What one rule says of the facts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    Impossible,
    /// Matches, or has the effect of a match because this fact cannot be had.
    Certain(Option<Key>),
    Open {
        pending: KeySet,
        deferred: KeySet,
    },
}

/// Judges `rules` in order.
pub(crate) fn evaluate<'r>(
    rules: impl IntoIterator<Item = (&'r [Condition], Traits)>,
    default_blocks: bool,
    gate: Gate,
    facts: &Facts<'_>,
) -> Findings {
    let mut findings = Findings {
        stop: Stop::Default,
        alerts: SmallVec::new(),
        headers: SmallVec::new(),
        headers_pending: KeySet::EMPTY,
        waits_for: KeySet::EMPTY,
        alerts_wait_for: KeySet::EMPTY,
    };
    let mut undecided = Undecided::default();
    let mut any = false;
    for (index, (conditions, traits)) in (0..).map(RuleIndex).zip(rules) {
        match (traits.role, status(conditions, traits, gate, facts)) {
            (_, Status::Impossible) => {}
            (Role::Alert, Status::Certain(_)) => findings.alerts.push(index),
            (Role::Alert, Status::Open { pending, deferred }) => {
                findings.alerts_wait_for = findings.alerts_wait_for.union(pending).union(deferred);
            }
            (Role::Headers, Status::Certain(_)) => findings.headers.push(index),
            (Role::Headers, Status::Open { pending, .. }) => {
                findings.headers_pending = findings.headers_pending.union(pending);
            }
            (Role::Decide, Status::Certain(key)) => {
                findings.stop = undecided.stop(index, traits, key, gate);
                return findings;
            }
            (Role::Decide, Status::Open { pending, deferred }) => {
                any = true;
                findings.waits_for = findings.waits_for.union(deferred);
                undecided.pending = undecided.pending.union(pending);
                let before_send = traits.gate <= Gate::RequestBody;
                undecided.before_send |= before_send;
                undecided.lenient |= !traits.only_blocks;
                undecided.lenient_before_send |= before_send && !traits.only_blocks;
            }
        }
    }
    findings.stop = undecided.stop_at_default(default_blocks, any);
    findings
}

/// Judges one rule.
pub(crate) fn status(
    conditions: &[Condition],
    traits: Traits,
    gate: Gate,
    facts: &Facts<'_>,
) -> Status {
    let (mut pending, mut deferred) = (KeySet::EMPTY, KeySet::EMPTY);
    let mut unobtainable: Option<Key> = None;
    for condition in conditions {
        let key = condition.key;
        match truth(condition, state(key, facts.fact(key), gate)) {
            Truth::True => {}
            Truth::False => return Status::Impossible,
            Truth::Pending => pending.insert(key),
            Truth::Deferred => deferred.insert(key),
            Truth::Unobtainable => {
                unobtainable = Some(unobtainable.map_or(key, |first| first.min(key)));
            }
        }
    }
    if unobtainable.is_some() && !traits.over_unobtainable {
        return Status::Impossible;
    }
    if pending.is_empty() && deferred.is_empty() {
        return Status::Certain(unobtainable);
    }
    Status::Open { pending, deferred }
}

/// Judges one condition.
pub(crate) fn truth(condition: &Condition, state: State<'_>) -> Truth {
    let holds = |holds: bool| if holds { Truth::True } else { Truth::False };
    match state {
        State::Known(value) => {
            let any = condition.tests.iter().any(|test| matches(&test.want, condition.key, value));
            holds(any != condition.negated)
        }
        State::Inapplicable => holds(condition.negated),
        State::Pending => Truth::Pending,
        State::Deferred => Truth::Deferred,
        State::Unobtainable(_) => Truth::Unobtainable,
    }
}

fn matches(want: &Want, key: Key, value: Value<'_>) -> bool {
    match (want, value) {
        (Want::Text(pattern), Value::Text(text)) => text_matches(pattern, key, text),
        (Want::Text(pattern), Value::Texts(texts)) => {
            texts.iter().any(|text| text_matches(pattern, key, text))
        }
        (Want::Number { low, high }, Value::Number(number)) => (*low..=*high).contains(&number),
        (Want::Network(network), Value::Address(address)) => network.contains(&canonical(address)),
        (Want::Window(window), Value::Moment(moment)) => {
            let Some(now) = window::second_of_week(&window.zone, moment) else {
                return false;
            };
            window.spans().iter().any(|&(from, to)| (from..to).contains(&now))
        }
        _ => false,
    }
}

/// An IPv4 address carried in IPv6 is that IPv4 address.
fn canonical(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

fn text_matches(pattern: &Pattern, key: Key, text: &str) -> bool {
    let mut buffer = Folded::new();
    let folded = fold(text, &mut buffer);
    let text = if key == Key::Url && !pattern.whole_url { without_scheme(folded) } else { folded };
    pattern.matches_folded(text)
}
