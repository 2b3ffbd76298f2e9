//! Reads a policy file into rules; finds every mistake in it, not only the first.

mod values;

use crate::error::{Position, Problem, Problems, nearest};
use crate::fact::{Gate, Key};
use crate::rule::{Action, Condition, DefaultAction, OnUnobtainable, PolicySource, Rule};
use crate::yaml::{Node, Tree};

/// The one version of the format there is.
const VERSION: &str = "1";

/// Rules in one policy. Verdicts stay within microseconds up to here.
pub(crate) const RULES_MAX: usize = 100_000;

const TOP_KEYS: [&str; 3] = ["version", "rules", "default"];
const RULE_KEYS: [&str; 7] =
    ["name", "match", "action", "message", "unobtainable", "headers", "location"];

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

fn rule(node: &Node, names: &mut Names, problems: &mut Problems) -> Option<Rule> {
    let entries = mapping(node, "a rule: a mapping with `name`, `match` and `action`", problems)?;
    let mut found = Found::default();
    for (key, value) in known_entries(entries, &RULE_KEYS, "key of a rule", problems) {
        match key {
            "name" => found.name = Some(value),
            "match" => found.conditions = Some(conditions(value, &|_| Ok(()), problems)),
            "action" => found.action = Some((value.at, action(value, problems))),
            "message" => found.message = text(value, "message", problems),
            "unobtainable" => {
                found.unobtainable = on_unobtainable(value, problems).map(|what| (value.at, what));
            }
            "headers" => found.headers = Some((value.at, headers(value, problems))),
            _ => found.location = Some((value.at, location(value, problems))),
        }
    }
    let name = names.read(node.at, found.name, problems);
    found.finish(node.at, name, problems)
}

/// The parts of a rule, before it is known which action they belong to.
#[derive(Default)]
struct Found<'n> {
    name: Option<&'n Node>,
    conditions: Option<Vec<Condition>>,
    /// `None` inside where the action is unknown.
    action: Option<(Position, Option<Action>)>,
    message: Option<String>,
    unobtainable: Option<(Position, OnUnobtainable)>,
    headers: Option<(Position, Vec<(String, String)>)>,
    location: Option<(Position, String)>,
}

impl Found<'_> {
    fn finish(self, at: Position, name: String, problems: &mut Problems) -> Option<Rule> {
        let Some((action_at, action)) = self.action else {
            problems.error(at, "a rule without an `action`", actions());
            return None;
        };
        let conditions = self.conditions.unwrap_or_else(|| {
            problems.error(
                at,
                "a rule without a `match`",
                "`match: {…}` (`{}` matches everything)",
            );
            Vec::new()
        });
        // What an unknown action may carry is unknown too.
        let action = action?;
        let owned = [
            (
                "unobtainable",
                self.unobtainable.map(|(at, _)| at),
                "`block` and `coach`",
                matches!(action, Action::Block | Action::Coach),
            ),
            (
                "headers",
                self.headers.as_ref().map(|(at, _)| *at),
                "`set_headers`",
                action == Action::SetHeaders,
            ),
            (
                "location",
                self.location.as_ref().map(|(at, _)| *at),
                "`redirect`",
                action == Action::Redirect,
            ),
        ];
        for (key, given, owner, fits) in owned {
            if let (Some(at), false) = (given, fits) {
                let what = format!("`{key}` in a rule of action `{}`", action.name());
                problems.error(at, what, format!("it only with {owner}"));
            }
        }
        if action == Action::SetHeaders && self.headers.is_none() {
            problems.error(action_at, "`set_headers` without headers", "`headers: {Name: value}`");
        }
        if action == Action::Redirect && self.location.is_none() {
            problems.error(action_at, "`redirect` without a target", "`location: https://…`");
        }
        let rule = Rule {
            name,
            at,
            conditions,
            action,
            unobtainable: self.unobtainable.map_or(OnUnobtainable::Block, |(_, what)| what),
            message: self.message,
            headers: self.headers.map_or_else(Vec::new, |(_, headers)| headers),
            location: self.location.map(|(_, location)| location),
        };
        late_keys(&rule, problems);
        Some(rule)
    }
}

/// What acts on the request must be decided before it is sent.
fn late_keys(rule: &Rule, problems: &mut Problems) {
    if !matches!(rule.action, Action::SetHeaders | Action::Redirect) {
        return;
    }
    for condition in &rule.conditions {
        if condition.key.gate() > Gate::RequestHead {
            let what = format!(
                "`{}` is known only at the {}, too late for `{}`",
                condition.key.name(),
                condition.key.gate().name(),
                rule.action.name()
            );
            problems.error(condition.at, what, "keys known with the request head");
        }
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

fn action(node: &Node, problems: &mut Problems) -> Option<Action> {
    let found = Action::ALL.into_iter().find(|action| node.text() == Some(action.name()));
    if found.is_none() {
        let names = Action::ALL.map(Action::name);
        problems.error(node.at, unknown("action", node), choice(node.text(), &names));
    }
    found
}

fn actions() -> String {
    choice(None, &Action::ALL.map(Action::name))
}

fn on_unobtainable(node: &Node, problems: &mut Problems) -> Option<OnUnobtainable> {
    let found = OnUnobtainable::ALL.into_iter().find(|what| node.text() == Some(what.name()));
    if found.is_none() {
        let names = OnUnobtainable::ALL.map(OnUnobtainable::name);
        problems.error(node.at, unknown("`unobtainable`", node), choice(node.text(), &names));
    }
    found
}

fn headers(node: &Node, problems: &mut Problems) -> Vec<(String, String)> {
    let Some(entries) = mapping(node, "a mapping of header names to values", problems) else {
        return Vec::new();
    };
    let mut headers = Vec::new();
    for (name, value) in entries {
        let text = name.text().unwrap_or_default();
        if !is_token(text) {
            problems.error(
                name.at,
                format!("`{text}` is no header name"),
                "letters, digits and `-`",
            );
            continue;
        }
        if is_framing(text) {
            let what = format!("`{text}` frames or routes the request");
            problems.error(name.at, what, "a header that does not");
            continue;
        }
        match value.text() {
            Some(value) if is_field_value(value) => {
                headers.push((text.to_owned(), value.to_owned()))
            }
            _ => {
                let what = format!("the value of `{text}` cannot be sent");
                problems.error(value.at, what, "one line of printable ASCII");
            }
        }
    }
    if headers.is_empty() && entries.is_empty() {
        problems.error(node.at, "`headers` is empty", "at least one header");
    }
    headers
}

/// RFC 9110 section 5.6.2.
fn is_token(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// Headers that a rule must not touch: the message's framing and its authority.
fn is_framing(name: &str) -> bool {
    const FRAMING: [&str; 8] = [
        "host",
        "content-length",
        "transfer-encoding",
        "connection",
        "upgrade",
        "te",
        "trailer",
        "keep-alive",
    ];
    FRAMING.iter().any(|framing| name.eq_ignore_ascii_case(framing))
}

/// RFC 9110 section 5.5, ASCII only.
fn is_field_value(value: &str) -> bool {
    value.bytes().all(|byte| byte == b'\t' || (b' '..=b'~').contains(&byte))
        && value.trim() == value
}

fn location(node: &Node, problems: &mut Problems) -> String {
    let text = node.text().unwrap_or_default();
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let host = rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/'));
    if !host || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        problems.error(node.at, "`location` is no absolute URL", "`https://host/path`, in ASCII");
    }
    text.to_owned()
}

pub(crate) fn text(node: &Node, key: &str, problems: &mut Problems) -> Option<String> {
    let text = node.text().map(str::to_owned);
    if text.is_none() {
        problems.error(node.at, format!("`{key}` is {}", node.kind()), "a text");
    }
    text
}

/// The entries of a mapping; a problem where it is none.
pub(crate) fn mapping<'n>(
    node: &'n Node,
    expected: &str,
    problems: &mut Problems,
) -> Option<&'n [(Node, Node)]> {
    if let Tree::Map(entries) = &node.value {
        return Some(entries);
    }
    problems.error(node.at, format!("{} stands here", node.kind()), expected);
    None
}

/// The entries whose key is known, each once; a problem for every other.
pub(crate) fn known_entries<'n>(
    entries: &'n [(Node, Node)],
    known: &[&'static str],
    what: &str,
    problems: &mut Problems,
) -> Vec<(&'static str, &'n Node)> {
    let entries = known_entries_at(entries, known, what, problems);
    entries.into_iter().map(|(name, _, value)| (name, value)).collect()
}

fn known_entries_at<'n, 'k>(
    entries: &'n [(Node, Node)],
    known: &[&'k str],
    what: &str,
    problems: &mut Problems,
) -> Vec<(&'k str, Position, &'n Node)> {
    let mut seen: Vec<(&'k str, Position, &'n Node)> = Vec::new();
    for (key, value) in entries {
        let Some(&name) = known.iter().find(|&&name| key.text() == Some(name)) else {
            let written = key.text().unwrap_or(key.kind());
            problems.error(
                key.at,
                format!("unknown {what} `{written}`"),
                choice(Some(written), known),
            );
            continue;
        };
        if let Some((_, first, _)) = seen.iter().find(|(other, _, _)| *other == name) {
            let expected = format!("it once (line {} has it)", first.line);
            problems.error(key.at, format!("`{name}` stands here twice"), expected);
            continue;
        }
        seen.push((name, key.at, value));
    }
    seen
}

/// "unknown action `x`", or what else stands there.
fn unknown(what: &str, node: &Node) -> String {
    match node.text() {
        Some(text) => format!("unknown {what} `{text}`"),
        None => format!("{} as {what}", node.kind()),
    }
}

/// The nearest name alone where there is one, else all of them.
pub(crate) fn choice(written: Option<&str>, known: &[&str]) -> String {
    if let Some(near) = written.and_then(|written| nearest(written, known.iter().copied())) {
        return format!("perhaps `{near}`");
    }
    let names: Vec<String> = known.iter().map(|name| format!("`{name}`")).collect();
    format!("one of {}", names.join(", "))
}
