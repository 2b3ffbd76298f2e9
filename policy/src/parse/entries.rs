//! Reads mappings key by key, and says what is unknown, missing or twice there.

use crate::error::{Position, Problems, nearest};
use crate::yaml::{Node, Tree};

pub(super) fn text(node: &Node, key: &str, problems: &mut Problems) -> Option<String> {
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

pub(super) fn known_entries_at<'n, 'k>(
    entries: &'n [(Node, Node)],
    known: &[&'k str],
    what: &str,
    problems: &mut Problems,
) -> Vec<(&'k str, Position, &'n Node)> {
    let mut seen: Vec<(&'k str, Position, &'n Node)> = Vec::new();
    for (key, value) in entries {
        let Some(&name) = known.iter().find(|&&name| key.text() == Some(name)) else {
            let written = key.text().unwrap_or_else(|| key.kind());
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
pub(super) fn unknown(what: &str, node: &Node) -> String {
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
