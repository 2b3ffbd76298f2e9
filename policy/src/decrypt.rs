//! Decrypt rules: which flows are taken apart, decided by what is known before that.
//!
//! ```yaml
//! decrypt:
//!   rules:
//!     - name: banks stay private
//!       match: { category: [finance, health] }
//!       action: bypass
//!   default: decrypt
//! ```

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer};

use crate::check::{Vocabulary, names};
use crate::error::{Position, Problem, Problems};
use crate::evaluate::compiled::Compiled;
use crate::evaluate::reference::Status;
use crate::evaluate::{Findings, Role, Stop, Traits, reference};
use crate::fact::{Fact, Facts, Gate, Key, KeySet};
use crate::parse::{self, Names};
use crate::rule::Condition;
use crate::schema;
use crate::verdict::RuleIndex;
use crate::yaml::Node;

/// The `decrypt` mapping of a tenant's configuration, read but not yet judged. Embed it in the
/// type of that file; [`Self::compile`] reports all its mistakes, with their places.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DecryptSource(Option<Node>);

/// Decrypt rules ready to decide.
#[derive(Debug)]
pub struct DecryptRules {
    rules: Vec<DecryptRule>,
    default: DecryptAction,
    compiled: Compiled,
}

/// One decrypt rule.
#[derive(Clone, Debug)]
pub struct DecryptRule {
    pub name: String,
    pub at: Position,
    pub conditions: Vec<Condition>,
    pub action: DecryptAction,
}

/// What is done with a flow that could be taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DecryptAction {
    /// Intercept it with the tenant's own CA.
    Decrypt,
    /// Carry it unread.
    Bypass,
    /// Refuse it.
    Block,
}

/// The answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecryptVerdict {
    /// Gather these facts and ask again.
    Pending(KeySet),
    /// `rule` is `None` where the default decided. `unobtainable` names the fact that could not be
    /// had where the rule took effect for that.
    Decided { action: DecryptAction, rule: Option<RuleIndex>, unobtainable: Option<Key> },
}

impl DecryptAction {
    pub const ALL: [Self; 3] = [Self::Decrypt, Self::Bypass, Self::Block];

    /// The name in a configuration and in events.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Decrypt => "decrypt",
            Self::Bypass => "bypass",
            Self::Block => "block",
        }
    }

    fn traits(self) -> Traits {
        Traits {
            role: Role::Decide,
            // What cannot be known is not carried unread.
            over_unobtainable: self != Self::Bypass,
            only_blocks: self == Self::Block,
            gate: Gate::Connect,
        }
    }
}

/// Whether a flow's bytes need not be read to know it.
fn known_before(key: Key) -> bool {
    let by_name = matches!(key, Key::App | Key::AppTag | Key::Category | Key::Risk);
    key.gate() == Gate::Connect || by_name
}

impl DecryptSource {
    /// The `decrypt` mapping of a whole file.
    ///
    /// # Errors
    /// What is not YAML.
    pub fn find(file: &str, text: &str) -> Result<Self, Vec<Problem>> {
        Node::parse(file, text).map(|node| Self(node.child("decrypt").cloned()))
    }

    /// A mapping that was read already; `None` means all defaults.
    #[must_use]
    pub fn new(node: Option<Node>) -> Self {
        Self(node)
    }

    /// Makes rules of it; `file` is only for messages.
    ///
    /// # Errors
    /// All mistakes.
    pub fn compile(&self, file: &str) -> Result<DecryptRules, Vec<Problem>> {
        let mut problems = Problems::new(file);
        let (rules, default) = self.read(&mut problems);
        if problems.has_errors() {
            return Err(problems.into_vec());
        }
        let shapes: Vec<_> =
            rules.iter().map(|rule| (rule.conditions.as_slice(), rule.action.traits())).collect();
        let compiled = Compiled::new(&shapes, default == DecryptAction::Block);
        Ok(DecryptRules { rules, default, compiled })
    }

    /// Everything there is to say of it: errors and warnings.
    #[must_use]
    pub fn check(&self, file: &str, known: Vocabulary<'_>) -> Vec<Problem> {
        let mut problems = Problems::new(file);
        let (rules, _) = self.read(&mut problems);
        for rule in &rules {
            names(&rule.conditions, known, &mut problems);
        }
        problems.into_vec()
    }

    fn read(&self, problems: &mut Problems) -> (Vec<DecryptRule>, DecryptAction) {
        let mut rules = Vec::new();
        let mut default = DecryptAction::Decrypt;
        let Some(node) = &self.0 else {
            return (rules, default);
        };
        let Some(entries) = parse::mapping(node, "`decrypt: {rules: […], default: …}`", problems)
        else {
            return (rules, default);
        };
        let keys = ["rules", "default"];
        for (key, value) in parse::known_entries(entries, &keys, "key of `decrypt`", problems) {
            match key {
                "default" => default = action(value, problems).unwrap_or(default),
                _ => {
                    let mut names = Names::default();
                    let items = parse::rule_items(value, problems).unwrap_or_default();
                    rules =
                        items.iter().filter_map(|item| rule(item, &mut names, problems)).collect();
                }
            }
        }
        (rules, default)
    }
}

fn rule(node: &Node, names: &mut Names, problems: &mut Problems) -> Option<DecryptRule> {
    let expected = "a rule: a mapping with `name`, `match` and `action`";
    let entries = parse::mapping(node, expected, problems)?;
    let (mut name, mut conditions, mut act) = (None, None, None);
    let keys = ["name", "match", "action"];
    for (key, value) in parse::known_entries(entries, &keys, "key of a decrypt rule", problems) {
        match key {
            "name" => name = Some(value),
            "match" => conditions = Some(parse::conditions(value, &allowed, problems)),
            _ => act = Some(action(value, problems)),
        }
    }
    let name = names.read(node.at, name, problems);
    if act.is_none() {
        problems.error(node.at, "a rule without an `action`", actions(None));
    }
    if conditions.is_none() {
        problems.error(
            node.at,
            "a rule without a `match`",
            "`match: {…}` (`{}` matches everything)",
        );
    }
    Some(DecryptRule { name, at: node.at, conditions: conditions?, action: act?? })
}

fn allowed(key: Key) -> Result<(), &'static str> {
    if known_before(key) {
        return Ok(());
    }
    Err("a key known before decryption: who, from where, when, `domain`, `dest_*`, `app`, \
         `app_tag`, `category` or `risk`")
}

fn action(node: &Node, problems: &mut Problems) -> Option<DecryptAction> {
    let found = DecryptAction::ALL.into_iter().find(|action| node.text() == Some(action.name()));
    if found.is_none() {
        let written = node.text().unwrap_or_else(|| node.kind());
        problems.error(node.at, format!("unknown action `{written}`"), actions(node.text()));
    }
    found
}

fn actions(written: Option<&str>) -> String {
    parse::choice(written, &DecryptAction::ALL.map(DecryptAction::name))
}

impl DecryptRules {
    /// Every key that some rule matches on.
    #[must_use]
    pub fn keys(&self) -> KeySet {
        self.rules.iter().flat_map(|rule| &rule.conditions).map(|it| it.key).collect()
    }

    /// Decides over what is known of a flow before it is read. What the name cannot tell (an app
    /// only its paths show) is best given as inapplicable; left deferred it counts as unobtainable,
    /// over which `decrypt` and `block` rules take effect and `bypass` rules never match.
    #[must_use]
    pub fn decide(&self, facts: &Facts<'_>) -> DecryptVerdict {
        // Evaluated one gate on, so that what the name did not tell is not waited for.
        self.verdict(&self.compiled.evaluate(Gate::RequestHead, facts))
    }

    /// As [`Self::decide`], by the evaluator that is easy to believe.
    #[must_use]
    pub fn decide_by_reference(&self, facts: &Facts<'_>) -> DecryptVerdict {
        let rules =
            self.rules.iter().map(|rule| (rule.conditions.as_slice(), rule.action.traits()));
        let blocks = self.default == DecryptAction::Block;
        self.verdict(&reference::evaluate(rules, blocks, Gate::RequestHead, facts))
    }

    /// The first rule that may let a flow pass unread of which just these facts are known, whatever
    /// the others turn out to be: `Some(None)` where the default does.
    #[must_use]
    pub fn may_bypass(&self, facts: &Facts<'_>) -> Option<Option<&DecryptRule>> {
        // What is not said may be anything.
        let mut open = facts.clone();
        for key in Key::ALL.into_iter().filter(|&key| facts.fact(key) == Fact::Deferred) {
            open.set(key, Fact::Pending);
        }
        for rule in &self.rules {
            let traits = rule.action.traits();
            match reference::status(&rule.conditions, traits, Gate::Connect, &open) {
                Status::Impossible => {}
                _ if rule.action == DecryptAction::Bypass => return Some(Some(rule)),
                Status::Certain(_) => return None,
                Status::Open { .. } => {}
            }
        }
        (self.default == DecryptAction::Bypass).then_some(None)
    }

    /// The rule at this place.
    #[must_use]
    pub fn rule(&self, index: RuleIndex) -> Option<&DecryptRule> {
        self.rules.get(usize::try_from(index.0).ok()?)
    }

    /// All rules, in order.
    #[must_use]
    pub fn rules(&self) -> &[DecryptRule] {
        &self.rules
    }

    fn verdict(&self, findings: &Findings) -> DecryptVerdict {
        match findings.stop {
            Stop::Pending(keys) => DecryptVerdict::Pending(keys),
            Stop::Rule { index, unobtainable } => {
                let action = self.rule(index).map_or(DecryptAction::Block, |rule| rule.action);
                DecryptVerdict::Decided { action, rule: Some(index), unobtainable }
            }
            // Nothing is deferred here, so nothing is left to go on to.
            Stop::GoOn | Stop::Default => {
                DecryptVerdict::Decided { action: self.default, rule: None, unobtainable: None }
            }
        }
    }
}

impl<'de> Deserialize<'de> for DecryptSource {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Node::deserialize(deserializer).map(|node| Self(Some(node)))
    }
}

impl JsonSchema for DecryptSource {
    fn schema_name() -> Cow<'static, str> {
        "Decrypt".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schema::decrypt_schema(&|key| known_before(key))
    }
}
