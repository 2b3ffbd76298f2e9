//! What one evaluation finds, whichever evaluator made it.

mod candidates;
pub(crate) mod compiled;
pub(crate) mod reference;
#[cfg(test)]
mod tests;

use smallvec::SmallVec;

use crate::fact::{Fact, Gate, Key, KeyKind, KeySet, Unobtainable, Value};
use crate::rule::{Action, OnUnobtainable, Rule};
use crate::verdict::RuleIndex;

/// What an evaluator must know of a rule beside its conditions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Traits {
    pub(crate) role: Role,
    /// Takes effect over a fact that cannot be had; else it then never matches.
    pub(crate) over_unobtainable: bool,
    /// Deciding, it can only block.
    pub(crate) only_blocks: bool,
    pub(crate) gate: Gate,
}

/// What a match does to the evaluation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Role {
    /// Noted, and evaluation goes on; never waited for.
    Alert,
    /// Noted, and evaluation goes on; must be known before anything is sent.
    Headers,
    /// Ends the evaluation.
    Decide,
}

impl Traits {
    pub(crate) fn of(rule: &Rule) -> Self {
        let role = match rule.action {
            Action::Alert => Role::Alert,
            Action::SetHeaders => Role::Headers,
            Action::Allow | Action::Block | Action::Coach | Action::Redirect => Role::Decide,
        };
        let falls_closed = matches!(rule.action, Action::Block | Action::Coach);
        Self {
            role,
            over_unobtainable: falls_closed && rule.unobtainable != OnUnobtainable::Skip,
            only_blocks: rule.action == Action::Block && rule.unobtainable != OnUnobtainable::Coach,
            gate: rule.gate(),
        }
    }
}

/// The answer, before it is known what the rules' actions are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Findings {
    pub(crate) stop: Stop,
    /// Certain rules of [`Role::Alert`] above the stop.
    pub(crate) alerts: SmallVec<[RuleIndex; 4]>,
    /// Certain rules of [`Role::Headers`] above the stop.
    pub(crate) headers: SmallVec<[RuleIndex; 4]>,
    /// Pending keys of undecided rules of [`Role::Headers`] above the stop.
    pub(crate) headers_pending: KeySet,
    /// Deferred keys of undecided deciding rules above the stop.
    pub(crate) waits_for: KeySet,
    /// Pending and deferred keys of undecided rules of [`Role::Alert`] above the stop.
    pub(crate) alerts_wait_for: KeySet,
}

/// Where an evaluation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Rules above the first certain one wait for facts of this gate.
    Pending(KeySet),
    /// Nothing decides yet, and something above what would must be asked first, at its gate.
    GoOn,
    /// This rule matches; `unobtainable` where only because that fact cannot be had.
    Rule { index: RuleIndex, unobtainable: Option<Key> },
    /// No rule does.
    Default,
}

/// What is asked of the undecided rules above a certain one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Undecided {
    pub(crate) pending: KeySet,
    /// One that could do other than block.
    pub(crate) lenient: bool,
    /// One that is decided before anything is sent.
    pub(crate) before_send: bool,
    /// One that is both.
    pub(crate) lenient_before_send: bool,
}

impl Undecided {
    /// Whether the rule that is certain may decide now.
    ///
    /// A rule decides at its own gate. Facts that came early do not let it overtake a rule above
    /// that will be decided before anything is sent and could decide otherwise.
    pub(crate) fn stop(
        self,
        index: RuleIndex,
        certain: Traits,
        key: Option<Key>,
        gate: Gate,
    ) -> Stop {
        if !self.pending.is_empty() {
            return Stop::Pending(self.pending);
        }
        let overtaken =
            if certain.only_blocks { self.lenient_before_send } else { self.before_send };
        if certain.gate > gate && overtaken {
            return Stop::GoOn;
        }
        Stop::Rule { index, unobtainable: key }
    }

    /// The default decides only where nothing above could still do otherwise.
    pub(crate) fn stop_at_default(self, default_blocks: bool, any: bool) -> Stop {
        if !self.pending.is_empty() {
            return Stop::Pending(self.pending);
        }
        let overtaken = if default_blocks { self.lenient } else { any };
        if overtaken { Stop::GoOn } else { Stop::Default }
    }
}

/// The state of one fact at one gate, as both evaluators see it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum State<'a> {
    Known(Value<'a>),
    Pending,
    Deferred,
    Inapplicable,
    Unobtainable(Unobtainable),
}

/// Judges a fact's state: one that nobody gathered by its gate, or of the wrong kind, is
/// unobtainable.
pub(crate) fn state<'a>(key: Key, fact: Fact<'a>, gate: Gate) -> State<'a> {
    match fact {
        Fact::Known(value) if fits(key.kind(), value) => State::Known(value),
        Fact::Known(_) => State::Unobtainable(Unobtainable::NotGathered),
        Fact::Pending => State::Pending,
        Fact::Deferred if key.gate() <= gate => State::Unobtainable(Unobtainable::NotGathered),
        Fact::Deferred => State::Deferred,
        Fact::Inapplicable => State::Inapplicable,
        Fact::Unobtainable(reason) => State::Unobtainable(reason),
    }
}

fn fits(kind: KeyKind, value: Value<'_>) -> bool {
    match kind {
        KeyKind::Text | KeyKind::Url => matches!(value, Value::Text(_) | Value::Texts(_)),
        KeyKind::Number | KeyKind::Size => matches!(value, Value::Number(_)),
        KeyKind::Address => matches!(value, Value::Address(_)),
        // Beyond the calendar no window has an answer.
        KeyKind::Time => match value {
            Value::Moment(moment) => jiff::Timestamp::from_second(moment).is_ok(),
            Value::Text(_) | Value::Texts(_) | Value::Number(_) | Value::Address(_) => false,
        },
    }
}
