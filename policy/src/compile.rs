//! A policy in force: compiled rules, and the questions the gateway asks them.

use crate::check;
use crate::error::{Problem, Problems};
use crate::evaluate::compiled::Compiled;
use crate::evaluate::{Findings, Stop, Traits, reference};
use crate::fact::{Fact, Facts, Gate, Key, KeySet};
use crate::rule::{Action, DefaultAction, OnUnobtainable, PolicySource, Rule};
use crate::verdict::{BlockReason, Coached, DialPermit, Outcome, RuleIndex, SendPermit, Verdict};

/// A tenant's rules, ready to decide. Never changes; share it in an `Arc`.
#[derive(Debug)]
pub struct Policy {
    rules: Vec<Rule>,
    default: DefaultAction,
    keys: KeySet,
    compiled: Compiled,
}

/// The same policy judged by the evaluator that is easy to believe: slow, for tests and proofs.
#[derive(Clone, Copy, Debug)]
pub struct Reference<'p>(&'p Policy);

impl Policy {
    /// Makes a policy of a source.
    ///
    /// # Errors
    /// Rules that cannot keep their order: an `allow` that must wait above a rule that does not.
    pub fn compile(source: PolicySource) -> Result<Self, Vec<Problem>> {
        let mut problems = Problems::new(&source.file);
        check::order(&source, &mut problems);
        if problems.has_errors() {
            return Err(problems.into_vec());
        }
        Ok(Self::compile_unchecked(source))
    }

    /// Reads a policy file and makes a policy of it.
    ///
    /// # Errors
    /// All mistakes of the file.
    pub fn load(file: &str, text: &str) -> Result<Self, Vec<Problem>> {
        PolicySource::parse(file, text).and_then(Self::compile)
    }

    pub(crate) fn compile_unchecked(source: PolicySource) -> Self {
        let keys = source.rules.iter().fold(KeySet::EMPTY, |keys, rule| keys.union(rule.keys()));
        let rules: Vec<_> = source
            .rules
            .iter()
            .map(|rule| (rule.conditions.as_slice(), Traits::of(rule)))
            .collect();
        let compiled = Compiled::new(&rules, source.default == DefaultAction::Block);
        Self { rules: source.rules, default: source.default, keys, compiled }
    }

    /// Asks whether a flow may be dialled.
    ///
    /// `Allow` means go on: judge each exchange at its request head. A flow that is not taken apart
    /// has only this gate. A page (block, coach, redirect) needs the flow decrypted.
    #[must_use]
    pub fn connect(&self, facts: &Facts<'_>) -> Verdict<DialPermit> {
        self.verdict(self.compiled.evaluate(Gate::Connect, facts), || DialPermit(()))
    }

    /// Asks whether an exchange may be sent, or go on being sent or answered.
    #[must_use]
    pub fn judge(&self, gate: Gate, facts: &Facts<'_>) -> Verdict<SendPermit> {
        self.verdict(self.compiled.evaluate(gate, facts), || SendPermit(()))
    }

    /// The rule at this place.
    #[must_use]
    pub fn rule(&self, index: RuleIndex) -> Option<&Rule> {
        self.rules.get(usize::try_from(index.0).ok()?)
    }

    /// All rules, in order.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// What happens where no rule decides.
    #[must_use]
    pub fn default_action(&self) -> DefaultAction {
        self.default
    }

    /// Every key that some rule matches on; no other fact is ever looked at.
    #[must_use]
    pub fn keys(&self) -> KeySet {
        self.keys
    }

    /// Whether some rule may see a difference between these two values of a key. Where none does, the
    /// one was judged with the other.
    #[must_use]
    pub fn tells_apart(&self, key: Key, one: Fact<'_>, other: Fact<'_>) -> bool {
        self.compiled.tells_apart(key, one, other)
    }

    /// The evaluator this one is held equal to.
    #[must_use]
    pub fn reference(&self) -> Reference<'_> {
        Reference(self)
    }

    fn verdict<P>(&self, findings: Findings, permit: impl FnOnce() -> P) -> Verdict<P> {
        let outcome = match findings.stop {
            Stop::Pending(keys) => Outcome::Pending(keys),
            Stop::GoOn => Outcome::Allow { permit: permit(), rule: None },
            Stop::Default => match self.default {
                DefaultAction::Allow => Outcome::Allow { permit: permit(), rule: None },
                DefaultAction::Block => Outcome::Block { rule: None, reason: BlockReason::Default },
            },
            Stop::Rule { index, unobtainable } => {
                match self.effect(index, unobtainable.is_some()) {
                    Action::Allow => Outcome::Allow { permit: permit(), rule: Some(index) },
                    Action::Coach => Outcome::Coach(Coached { rule: index }),
                    Action::Redirect => Outcome::Redirect { rule: index },
                    Action::Block | Action::Alert | Action::SetHeaders => {
                        let reason =
                            unobtainable.map_or(BlockReason::Rule, BlockReason::Unobtainable);
                        Outcome::Block { rule: Some(index), reason }
                    }
                }
            }
        };
        let lets_go = matches!(outcome, Outcome::Allow { .. } | Outcome::Coach(_));
        let outcome = if lets_go && !findings.headers_pending.is_empty() {
            // What is sent on must carry the headers of rules that are not known to match yet.
            Outcome::Pending(findings.headers_pending)
        } else {
            outcome
        };
        let final_now = matches!(outcome, Outcome::Block { .. } | Outcome::Redirect { .. });
        let still = |keys: KeySet| if final_now { KeySet::EMPTY } else { keys };
        Verdict {
            outcome,
            alerts: findings.alerts,
            set_headers: findings.headers,
            waits_for: still(findings.waits_for),
            alerts_wait_for: still(findings.alerts_wait_for),
        }
    }

    /// What a deciding rule does.
    pub(crate) fn effect(&self, index: RuleIndex, over_unobtainable: bool) -> Action {
        let Some(rule) = self.rule(index) else {
            return Action::Block;
        };
        match (over_unobtainable, rule.unobtainable) {
            (true, OnUnobtainable::Coach) => Action::Coach,
            (true, _) => Action::Block,
            (false, _) => rule.action,
        }
    }
}

impl Reference<'_> {
    /// As [`Policy::connect`].
    #[must_use]
    pub fn connect(&self, facts: &Facts<'_>) -> Verdict<DialPermit> {
        self.0.verdict(self.find(Gate::Connect, facts), || DialPermit(()))
    }

    /// As [`Policy::judge`].
    #[must_use]
    pub fn judge(&self, gate: Gate, facts: &Facts<'_>) -> Verdict<SendPermit> {
        self.0.verdict(self.find(gate, facts), || SendPermit(()))
    }

    pub(crate) fn find(&self, gate: Gate, facts: &Facts<'_>) -> Findings {
        let rules = self.0.rules.iter().map(|rule| (rule.conditions.as_slice(), Traits::of(rule)));
        reference::evaluate(rules, self.0.default == DefaultAction::Block, gate, facts)
    }
}
