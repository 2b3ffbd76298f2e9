//! YAML as a tree in which every node knows its place, so that all mistakes can be reported.

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;
use serde_saphyr::granit_parser::{Event, Parser, ScalarStyle, Span};

use crate::error::{Position, Problem, Problems};

/// Nodes in one document, aliases counted each time: a "billion laughs" ends here. A policy of
/// 10,000 rules has about 300,000.
const NODES_MAX: usize = 2_000_000;

/// Depth of nesting: a policy needs six.
const DEPTH_MAX: usize = 64;

/// One node and where it begins.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    pub at: Position,
    pub value: Tree,
}

/// What a node holds. Scalars keep the text as written, so that `NO` stays a country.
#[derive(Clone, Debug, PartialEq)]
pub enum Tree {
    Null,
    Scalar(String),
    List(Vec<Node>),
    Map(Vec<(Node, Node)>),
}

impl Node {
    /// Reads one document; an empty file is null.
    ///
    /// # Errors
    /// What is not YAML, with its place; a parser cannot go on after that, so it is one problem.
    pub fn parse(file: &str, text: &str) -> Result<Self, Vec<Problem>> {
        let mut problems = Problems::new(file);
        match Builder::default().document(text) {
            Ok(node) => Ok(node),
            Err((at, what, expected)) => {
                problems.error(at, what, expected);
                Err(problems.into_vec())
            }
        }
    }

    /// The text of a scalar.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Tree::Scalar(text) => Some(text),
            Tree::Null | Tree::List(_) | Tree::Map(_) => None,
        }
    }

    /// The value under `name`, where this is a mapping that has it.
    #[must_use]
    pub fn child(&self, name: &str) -> Option<&Self> {
        match &self.value {
            Tree::Map(entries) => {
                entries.iter().find(|(key, _)| key.text() == Some(name)).map(|(_, value)| value)
            }
            Tree::Null | Tree::Scalar(_) | Tree::List(_) => None,
        }
    }

    /// What it is, for a message: "a list".
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self.value {
            Tree::Null => "nothing",
            Tree::Scalar(_) => "a single value",
            Tree::List(_) => "a list",
            Tree::Map(_) => "a mapping",
        }
    }

    fn count(&self) -> usize {
        match &self.value {
            Tree::Null | Tree::Scalar(_) => 1,
            Tree::List(items) => 1 + items.iter().map(Self::count).sum::<usize>(),
            Tree::Map(entries) => {
                1 + entries.iter().map(|(key, value)| key.count() + value.count()).sum::<usize>()
            }
        }
    }
}

type Fault = (Position, String, String);

/// A collection whose end has not come yet.
struct Open {
    node: Node,
    anchor: usize,
    key: Option<Node>,
}

#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    anchors: Vec<(usize, Node)>,
    root: Option<Node>,
    nodes: usize,
}

impl Builder {
    fn document(mut self, text: &str) -> Result<Node, Fault> {
        let mut documents = 0;
        for next in Parser::new_from_str(text) {
            let (event, span) = next.map_err(|error| {
                let at = place(error.marker().line(), error.marker().col() + 1);
                (at, format!("not YAML: {}", error.info()), String::new())
            })?;
            if matches!(event, Event::DocumentStart(..)) {
                documents += 1;
                if documents > 1 {
                    let expected = "one document in this file".to_owned();
                    return Err((start(&span), "a second document begins here".into(), expected));
                }
            }
            self.event(event, &span)?;
        }
        let nothing = Node { at: place(1, 1), value: Tree::Null };
        Ok(self.root.unwrap_or(nothing))
    }

    fn event(&mut self, event: Event<'_>, span: &Span) -> Result<(), Fault> {
        let at = start(span);
        match event {
            Event::Scalar(text, style, anchor, _) => {
                let null = style == ScalarStyle::Plain
                    && matches!(text.as_ref(), "" | "~" | "null" | "Null" | "NULL");
                let value = if null { Tree::Null } else { Tree::Scalar(text.into_owned()) };
                self.close(Node { at, value }, anchor)
            }
            Event::SequenceStart(_, anchor, _) => self.enter(at, Tree::List(Vec::new()), anchor),
            Event::MappingStart(_, anchor, _) => self.enter(at, Tree::Map(Vec::new()), anchor),
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(open) => self.close(open.node, open.anchor),
                None => Ok(()),
            },
            Event::Alias(id) => {
                let found = self.anchors.iter().rev().find(|(anchor, _)| *anchor == id);
                let Some((_, node)) = found else {
                    let what = "an alias inside what it refers to".to_owned();
                    return Err((at, what, String::new()));
                };
                let node = Node { at, value: node.value.clone() };
                self.nodes += node.count();
                self.close(node, 0)
            }
            _ => Ok(()),
        }
    }

    fn enter(&mut self, at: Position, value: Tree, anchor: usize) -> Result<(), Fault> {
        if self.open.len() >= DEPTH_MAX {
            let expected = format!("at most {DEPTH_MAX} levels");
            return Err((at, "nested too deeply".to_owned(), expected));
        }
        self.open.push(Open { node: Node { at, value }, anchor, key: None });
        Ok(())
    }

    fn close(&mut self, node: Node, anchor: usize) -> Result<(), Fault> {
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            let expected = format!("at most {NODES_MAX} values, aliases counted each time");
            return Err((node.at, "the document is too large".to_owned(), expected));
        }
        if anchor != 0 {
            self.nodes += node.count();
            self.anchors.push((anchor, node.clone()));
        }
        let Some(parent) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        match &mut parent.node.value {
            Tree::List(items) => items.push(node),
            Tree::Map(entries) => match parent.key.take() {
                None => parent.key = Some(node),
                Some(key) => entries.push((key, node)),
            },
            Tree::Null | Tree::Scalar(_) => {}
        }
        Ok(())
    }
}

fn start(span: &Span) -> Position {
    place(span.start.line(), span.start.col() + 1)
}

fn place(line: usize, column: usize) -> Position {
    let narrow = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    Position { line: narrow(line), column: narrow(column) }
}

/// Inside another file's serde types. Plain `yes`, `no` and their like arrive as booleans there
/// and are kept as `yes` and `no`.
impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Tree>::deserialize(deserializer)?;
        let narrow = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
        let location = spanned.referenced;
        let at = Position { line: narrow(location.line()), column: narrow(location.column()) };
        Ok(Self { at, value: spanned.value })
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TreeVisitor)
    }
}

struct TreeVisitor;

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Tree;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a value, a list or a mapping")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Tree, E> {
        Ok(Tree::Null)
    }

    fn visit_none<E: de::Error>(self) -> Result<Tree, E> {
        Ok(Tree::Null)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Tree, E> {
        Ok(Tree::Scalar(if value { "yes" } else { "no" }.to_owned()))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Tree, E> {
        Ok(Tree::Scalar(value.to_string()))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Tree, E> {
        Ok(Tree::Scalar(value.to_string()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Tree, E> {
        Ok(Tree::Scalar(value.to_string()))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Tree, E> {
        Ok(Tree::Scalar(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Tree, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Tree::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Tree, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = access.next_entry()? {
            entries.push(entry);
        }
        Ok(Tree::Map(entries))
    }
}
