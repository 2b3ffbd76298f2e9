//! Reads one rule: its parts, and whether they belong together.

use super::entries::{choice, known_entries, mapping, text, unknown};
use super::{Names, conditions};
use crate::error::{Position, Problems};
use crate::fact::Gate;
use crate::rule::{Action, Condition, OnUnobtainable, Rule};
use crate::yaml::Node;

/// `to` is another word for `location`.
const RULE_KEYS: [&str; 8] =
    ["name", "match", "action", "message", "unobtainable", "headers", "location", "to"];

pub(super) fn rule(node: &Node, names: &mut Names, problems: &mut Problems) -> Option<Rule> {
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
            key => {
                if found.location.is_some() {
                    let what = format!("`{key}` beside its other name");
                    problems.error(value.at, what, "`location` or `to`");
                }
                found.location = Some((value.at, location(value, problems)));
            }
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
