//! Reads a policy file into rules; finds every mistake in it, not only the first.

mod entries;
mod rule;
mod values;

pub(crate) use entries::{choice, known_entries, mapping};

use entries::{known_entries_at, unknown};
use rule::rule;

use crate::error::{Position, Problem, Problems};
use crate::fact::Key;
use crate::rule::{Condition, DefaultAction, PolicySource, Rule};
use crate::yaml::{Node, Tree};

/// The one version of the format there is.
const VERSION: &str = "1";

/// Rules in one policy. Verdicts stay within microseconds up to here.
pub(crate) const RULES_MAX: usize = 100_000;

const TOP_KEYS: [&str; 3] = ["version", "rules", "default"];
impl PolicySource {
    /// Reads a policy file.
    ///
    /// # Errors
    /// All its mistakes, in the order of the file.
    pub fn parse(file: &str, text: &str) -> Result<Self, Vec<Problem>> {
        let mut problems = Problems::new(file);
        let source = read(file, text, &mut problems);
        match source {
            Some(source) if !problems.has_errors() => Ok(source),
            _ => Err(problems.into_vec()),
        }
    }
}

/// Reads a policy file as far as it can be read; `None` where nothing can.
pub(crate) fn read(file: &str, text: &str, problems: &mut Problems) -> Option<PolicySource> {
    let node = match Node::parse(file, text) {
        Ok(node) => node,
        Err(found) => {
            problems.extend(found);
            return None;
        }
    };
    let entries = mapping(&node, "a mapping with `version`, `rules` and `default`", problems)?;
    let mut source =
        PolicySource { file: file.to_owned(), rules: Vec::new(), default: DefaultAction::Allow };
    let mut version = false;
    for (key, value) in known_entries(entries, &TOP_KEYS, "key", problems) {
        match key {
            "version" => {
                version = true;
                if value.text() != Some(VERSION) {
                    problems.error(value.at, "unknown `version`", format!("`{VERSION}`"));
                }
            }
            "rules" => source.rules = rules(value, problems),
            _ => source.default = default_action(value, problems),
        }
    }
    if !version {
        problems.error(node.at, "`version` is missing", format!("`version: {VERSION}`"));
    }
    Some(source)
}

fn default_action(value: &Node, problems: &mut Problems) -> DefaultAction {
    match value.text() {
        Some("allow") => DefaultAction::Allow,
        Some("block") => DefaultAction::Block,
        _ => {
            problems.error(value.at, unknown("default", value), "`allow` or `block`");
            DefaultAction::Block
        }
    }
}

fn rules(value: &Node, problems: &mut Problems) -> Vec<Rule> {
    let Some(items) = rule_items(value, problems) else {
        return Vec::new();
    };
    let mut rules = Vec::with_capacity(items.len());
    let mut names = Names::default();
    for item in items {
        let before = problems.errors();
        let rule = rule(item, &mut names, problems);
        // A rule that was not read whole is not compared with others: it would seem to be another.
        rules.extend(rule.filter(|_| problems.errors() == before));
    }
    rules
}

/// The items of a list of rules, within the bound.
pub(crate) fn rule_items<'n>(value: &'n Node, problems: &mut Problems) -> Option<&'n [Node]> {
    let items = match &value.value {
        Tree::List(items) => items,
        Tree::Null => return Some(&[]),
        Tree::Scalar(_) | Tree::Map(_) => {
            problems.error(value.at, format!("`rules` is {}", value.kind()), "a list of rules");
            return None;
        }
    };
    if items.len() > RULES_MAX {
        let what = format!("{} rules", items.len());
        problems.error(value.at, what, format!("at most {RULES_MAX}"));
        return None;
    }
    Some(items)
}

/// Names seen so far and where, to refuse a second use.
#[derive(Default)]
pub(crate) struct Names(std::collections::HashMap<String, Position>);

impl Names {
    /// The name of a rule, checked.
    pub(crate) fn read(
        &mut self,
        at: Position,
        name: Option<&Node>,
        problems: &mut Problems,
    ) -> String {
        let Some(node) = name else {
            problems.error(at, "a rule without a `name`", "`name: …`, which events and pages show");
            return String::new();
        };
        let name = match node.text() {
            Some(name) if !name.trim().is_empty() => name.to_owned(),
            _ => {
                let what = format!("the `name` of a rule is {}", node.kind());
                problems.error(node.at, what, "a text");
                return String::new();
            }
        };
        if let Some(first) = self.0.get(&name) {
            let what = format!("a second rule is named `{name}`");
            let expected = format!("a name of its own (line {} has this one)", first.line);
            problems.error(node.at, what, expected);
        } else {
            self.0.insert(name.clone(), node.at);
        }
        name
    }
}

/// The conditions of a `match`. `allowed` may refuse a key with what is expected instead.
pub(crate) fn conditions(
    node: &Node,
    allowed: &dyn Fn(Key) -> Result<(), &'static str>,
    problems: &mut Problems,
) -> Vec<Condition> {
    if node.value == Tree::Null {
        problems.error(node.at, "`match` is empty", "`{}`, which matches everything, or keys");
        return Vec::new();
    }
    let Some(entries) = mapping(node, "a mapping of match keys", problems) else {
        return Vec::new();
    };
    let names: Vec<&str> = Key::ALL.iter().map(|key| key.name()).collect();
    let mut conditions = Vec::new();
    for (name, at, value) in known_entries_at(entries, &names, "match key", problems) {
        let Some(key) = Key::from_name(name) else {
            continue;
        };
        if let Err(expected) = allowed(key) {
            problems.error(at, format!("`{name}` cannot be known here"), expected);
            continue;
        }
        let (negated, tests) = values::condition(key, value, problems);
        conditions.push(Condition { key, at, negated, tests });
    }
    conditions
}
