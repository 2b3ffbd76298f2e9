//! Why a verdict is what it is: the deciding rule key by key, and the rules that came near.

use std::cmp::Reverse;

use serde::Serialize;

use crate::compile::Policy;
use crate::evaluate::reference::{Status, Truth, status, truth};
use crate::evaluate::{Findings, State, Stop, Traits, state};
use crate::fact::{Fact, Facts, Gate, Value};
use crate::rule::{Condition, DefaultAction, Rule};
use crate::verdict::RuleIndex;

/// Rules that came near, at most: more are noise.
const NEAR_MAX: usize = 5;

/// One evaluation, told. Values appear as the facts give them; facts hold no secret.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Trace {
    pub gate: &'static str,
    pub judged: Judged,
    /// The rule that decided, if one did.
    pub rule: Option<RuleTrace>,
    /// Rules of action `alert` and `set_headers` that match above the decision.
    pub alerts: Vec<RuleTrace>,
    pub set_headers: Vec<RuleTrace>,
    /// Rules above the decision that are not decided yet.
    pub undecided: Vec<RuleTrace>,
    /// Rules that do not match, those that lack the least first.
    pub near: Vec<RuleTrace>,
}

/// How the evaluation ended.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Judged {
    /// These facts must be gathered first.
    Pending(Vec<&'static str>),
    /// Nothing decides yet.
    GoOn,
    /// The rule decided with this action.
    Rule { action: &'static str, unobtainable: Option<&'static str> },
    /// The default decided with this action.
    Default { action: &'static str },
}

/// One rule over these facts.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RuleTrace {
    pub name: String,
    pub line: u32,
    pub action: &'static str,
    /// All keys of a rule that matches or may; only what was lacking of one that does not.
    pub keys: Vec<KeyTrace>,
}

/// One key of a rule over these facts.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct KeyTrace {
    pub key: &'static str,
    /// `true`, `false`, `pending`, `deferred` or `unobtainable`.
    pub result: &'static str,
    /// What the rule wants: `not` in front where it is negated.
    pub wants: String,
    /// What was seen; a state or a reason where there is no value.
    pub saw: String,
}

impl Policy {
    /// Tells how this policy judges these facts at this gate.
    #[must_use]
    pub fn explain(&self, gate: Gate, facts: &Facts<'_>) -> Trace {
        let findings = self.reference().find(gate, facts);
        let stop = match findings.stop {
            Stop::Rule { index, .. } => Some(index),
            Stop::Pending(_) | Stop::GoOn | Stop::Default => None,
        };
        let full = |index: RuleIndex| self.rule(index).map(|rule| trace(rule, gate, facts));
        let (undecided, near) = self.not_matching(stop, gate, facts);
        Trace {
            gate: gate.name(),
            judged: self.judged(&findings),
            rule: stop.and_then(full),
            alerts: findings.alerts.iter().copied().filter_map(full).collect(),
            set_headers: findings.headers.iter().copied().filter_map(full).collect(),
            undecided,
            near,
        }
    }

    fn judged(&self, findings: &Findings) -> Judged {
        match findings.stop {
            Stop::Pending(keys) => Judged::Pending(keys.iter().map(|key| key.name()).collect()),
            Stop::GoOn => Judged::GoOn,
            Stop::Rule { index, unobtainable } => Judged::Rule {
                action: self.effect(index, unobtainable.is_some()).name(),
                unobtainable: unobtainable.map(|key| key.name()),
            },
            Stop::Default => Judged::Default {
                action: match self.default_action() {
                    DefaultAction::Allow => "allow",
                    DefaultAction::Block => "block",
                },
            },
        }
    }

    /// The undecided rules above the decision, and the nearest that do not match, wherever they
    /// stand: a rule below the decision did not come near by its place, but its author wonders.
    fn not_matching(
        &self,
        stop: Option<RuleIndex>,
        gate: Gate,
        facts: &Facts<'_>,
    ) -> (Vec<RuleTrace>, Vec<RuleTrace>) {
        let mut undecided = Vec::new();
        let mut near: Vec<(usize, &Rule)> = Vec::new();
        for (index, rule) in (0..).map(RuleIndex).zip(self.rules()) {
            match status(&rule.conditions, Traits::of(rule), gate, facts) {
                Status::Open { .. } if stop.is_none_or(|stop| index < stop) => {
                    undecided.push(trace(rule, gate, facts));
                }
                Status::Open { .. } | Status::Certain(_) => {}
                Status::Impossible => near.push((lacking(rule, gate, facts).count(), rule)),
            }
        }
        // A rule that lacks all its keys has nothing to do with this exchange.
        near.retain(|&(lacks, rule)| lacks < rule.conditions.len() || lacks == 1);
        // Of two that lack as much, the one of which more holds came nearer.
        near.sort_by_key(|&(lacks, rule)| (lacks, Reverse(rule.conditions.len())));
        let near = near.into_iter().take(NEAR_MAX).map(|(_, rule)| RuleTrace {
            keys: lacking(rule, gate, facts).collect(),
            ..head(rule)
        });
        (undecided, near.collect())
    }
}

fn head(rule: &Rule) -> RuleTrace {
    let action = rule.action.name();
    RuleTrace { name: rule.name.clone(), line: rule.at.line, action, keys: Vec::new() }
}

fn trace(rule: &Rule, gate: Gate, facts: &Facts<'_>) -> RuleTrace {
    let keys = rule.conditions.iter().map(|condition| key_trace(condition, gate, facts));
    RuleTrace { keys: keys.collect(), ..head(rule) }
}

/// The keys that keep a rule from matching.
fn lacking<'a>(
    rule: &'a Rule,
    gate: Gate,
    facts: &'a Facts<'_>,
) -> impl Iterator<Item = KeyTrace> + 'a {
    let traits = Traits::of(rule);
    let unheld = move |truth| truth == Truth::Unobtainable && !traits.over_unobtainable;
    rule.conditions
        .iter()
        .filter(move |condition| {
            let truth = truth(condition, state(condition.key, facts.fact(condition.key), gate));
            truth == Truth::False || unheld(truth)
        })
        .map(move |condition| key_trace(condition, gate, facts))
}

fn key_trace(condition: &Condition, gate: Gate, facts: &Facts<'_>) -> KeyTrace {
    let fact = facts.fact(condition.key);
    let state = state(condition.key, fact, gate);
    let result = match truth(condition, state) {
        Truth::True => "true",
        Truth::False => "false",
        Truth::Pending => "pending",
        Truth::Deferred => "deferred",
        Truth::Unobtainable => "unobtainable",
    };
    let wants: Vec<&str> = condition.tests.iter().map(|test| test.written.as_str()).collect();
    let not = if condition.negated { "not " } else { "" };
    let wants = format!("{not}{}", wants.join(", "));
    KeyTrace { key: condition.key.name(), result, wants, saw: saw(fact, state) }
}

fn saw(fact: Fact<'_>, state: State<'_>) -> String {
    match (state, fact) {
        (State::Unobtainable(reason), _) => reason.label().to_owned(),
        (State::Inapplicable, _) => "does not apply".to_owned(),
        (State::Pending, _) => "not gathered yet".to_owned(),
        (State::Deferred, _) => "known later".to_owned(),
        (State::Known(value), _) => match value {
            Value::Text(text) => text.to_owned(),
            Value::Texts(texts) => texts.join(", "),
            Value::Number(number) => number.to_string(),
            Value::Address(address) => address.to_string(),
            Value::Moment(moment) => jiff::Timestamp::from_second(moment)
                .map_or_else(|_| moment.to_string(), |at| at.to_string()),
        },
    }
}
