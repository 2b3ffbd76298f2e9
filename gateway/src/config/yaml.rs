//! A YAML file as a tree in which every key and value knows its place.

use serde_saphyr::granit_parser::{self, Event, Parser, ScalarStyle, Span};

use super::problem::{Position, Problem};

/// Deepest nesting. The schema needs 6; more is a mistake or an attack on the stack.
const DEPTH_MAX: usize = 32;

/// One value and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) at: Position,
    pub(crate) content: Content,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// `plain` scalars (without quotes) may also mean null, a truth value or a number.
    Scalar {
        text: String,
        plain: bool,
    },
    List(Vec<Node>),
    Map(Map),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Map {
    pub(crate) entries: Vec<Entry>,
    /// Keys of entries taken out because they were reported already.
    pub(crate) removed: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) key: Node,
    pub(crate) value: Node,
}

impl Node {
    pub(crate) fn empty_map() -> Self {
        Self { at: Position { line: 1, column: 1 }, content: Content::Map(Map::default()) }
    }

    /// The text of a scalar.
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.content {
            Content::Scalar { text, .. } => Some(text),
            Content::List(_) | Content::Map(_) => None,
        }
    }

    pub(crate) fn is_null(&self) -> bool {
        matches!(&self.content, Content::Scalar { text, plain: true }
            if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    /// The value under a path of keys and list indexes (as decimal text).
    pub(crate) fn find(&self, path: &[&str]) -> Option<&Self> {
        let Some((step, rest)) = path.split_first() else { return Some(self) };
        let child = match &self.content {
            Content::Map(map) => {
                &map.entries.iter().find(|entry| entry.key.text() == Some(step))?.value
            }
            Content::List(items) => items.get(step.parse::<usize>().ok()?)?,
            Content::Scalar { .. } => return None,
        };
        child.find(rest)
    }

    /// Where the value under a path stands, else the nearest existing ancestor.
    pub(crate) fn position(&self, path: &[&str]) -> Position {
        let mut path = path;
        loop {
            if let Some(node) = self.find(path) {
                return node.at;
            }
            let Some((_, ancestors)) = path.split_last() else { return self.at };
            path = ancestors;
        }
    }
}

/// Parses one document. An empty file is an empty mapping. Anchors and aliases are refused: no
/// configuration needs them, and they let a small file unfold into a huge one.
pub(crate) fn parse(file: &str, text: &str) -> Result<Node, Problem> {
    let options = granit_parser::options! {
        emit_comments: false,
        flow_nesting_limit: 32,
        block_nesting_limit: 32,
    };
    let mut builder = Builder { file, parser: Parser::new_from_str_with_options(text, options) };
    let mut root = None;
    while let Some((event, span)) = builder.next()? {
        match event {
            Event::StreamStart | Event::DocumentStart(..) | Event::DocumentEnd => {}
            Event::StreamEnd => break,
            _ if root.is_some() => {
                return Err(builder.problem(&span, "a second document", "one document per file"));
            }
            event => root = Some(builder.node(event, &span, 0)?),
        }
    }
    Ok(match root {
        Some(node) if !node.is_null() => node,
        _ => Node::empty_map(),
    })
}

struct Builder<'a> {
    file: &'a str,
    parser: Parser<'a, granit_parser::StrInput<'a>>,
}

impl<'a> Builder<'a> {
    fn next(&mut self) -> Result<Option<(Event<'a>, Span)>, Problem> {
        match self.parser.next() {
            None => Ok(None),
            Some(Ok(found)) => Ok(Some(found)),
            Some(Err(error)) => {
                let marker = error.marker();
                let at = Position { line: marker.line(), column: marker.col() + 1 };
                Err(Problem::at(self.file, at, error.info().to_string(), "well-formed YAML"))
            }
        }
    }

    fn problem(&self, span: &Span, what: &str, expected: &str) -> Problem {
        Problem::at(self.file, position(span), what, expected)
    }

    fn node(&mut self, event: Event<'a>, span: &Span, depth: usize) -> Result<Node, Problem> {
        if depth > DEPTH_MAX {
            return Err(self.problem(span, "nesting too deep", "at most 32 levels"));
        }
        let (anchored, content) = match event {
            Event::Scalar(text, style, anchor, _) => {
                let plain = style == ScalarStyle::Plain;
                (anchor != 0, Content::Scalar { text: text.into_owned(), plain })
            }
            Event::SequenceStart(_, anchor, _) => (anchor != 0, self.list(depth)?),
            Event::MappingStart(_, anchor, _) => (anchor != 0, self.map(depth)?),
            _ => (true, Content::List(Vec::new())),
        };
        if anchored {
            return Err(self.problem(span, "an anchor or alias", "the value written out"));
        }
        Ok(Node { at: position(span), content })
    }

    fn list(&mut self, depth: usize) -> Result<Content, Problem> {
        let mut items = Vec::new();
        while let Some((event, span)) = self.next()? {
            if matches!(event, Event::SequenceEnd) {
                break;
            }
            items.push(self.node(event, &span, depth + 1)?);
        }
        Ok(Content::List(items))
    }

    fn map(&mut self, depth: usize) -> Result<Content, Problem> {
        let mut entries = Vec::new();
        while let Some((event, span)) = self.next()? {
            if matches!(event, Event::MappingEnd) {
                break;
            }
            let key = self.node(event, &span, depth + 1)?;
            let Some((event, span)) = self.next()? else { break };
            entries.push(Entry { key, value: self.node(event, &span, depth + 1)? });
        }
        Ok(Content::Map(Map { entries, removed: Vec::new() }))
    }
}

fn position(span: &Span) -> Position {
    Position { line: span.start.line(), column: span.start.col() + 1 }
}
