//! Reads a serde type out of a YAML tree and reports every mistake, not only the first.
//!
//! A pass stops at its first fault, as serde does. The entry at fault is then taken out of the
//! tree and the pass is repeated, until one goes through: every key has a default, so what is left
//! always reads further than before.

use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Expected, IntoDeserializer,
    MapAccess, SeqAccess, Unexpected, VariantAccess, Visitor,
};
use std::fmt;

use policy::yaml::{Node, Tree};
use policy::{Position, Problem};

use super::problem::{any_error, problem, sort};
use super::suggest;

/// Most problems reported for one file: past this a person starts over.
const PROBLEMS_MAX: usize = 100;

/// A value with the tree it came from, for checks that need positions afterwards.
pub(crate) struct Read<T> {
    pub(crate) value: T,
    pub(crate) tree: Node,
}

/// Reads a document.
///
/// # Errors
/// All problems of the file, in order of position.
pub(crate) fn read<T: DeserializeOwned>(file: &str, text: &str) -> Result<Read<T>, Vec<Problem>> {
    let tree = Node::parse(file, text)?;
    let (value, problems) = read_tree(file, &tree);
    match value {
        Some(value) if !any_error(&problems) => Ok(Read { value, tree }),
        _ => Err(problems),
    }
}

/// Reads what can be read, and says what could not.
pub(crate) fn read_tree<T: DeserializeOwned>(file: &str, tree: &Node) -> (Option<T>, Vec<Problem>) {
    let mut tree = tree.clone();
    let mut removed = Vec::new();
    let mut problems = Vec::new();
    let value = loop {
        let fault = match T::deserialize(Reader { node: &tree, removed: &removed }) {
            Ok(value) => break Some(value),
            Err(fault) => fault,
        };
        if !fault.echo {
            let at = fault.at.unwrap_or(tree.at);
            problems.push(problem(file, at, fault.what, fault.expected));
        }
        if problems.len() >= PROBLEMS_MAX || !remove(&mut tree, &fault.path, &mut removed) {
            break None;
        }
    };
    sort(&mut problems);
    (value, problems)
}

/// Where the value under a path of keys and list indexes stands, else its nearest ancestor.
pub(crate) fn position(root: &Node, path: &[&str]) -> Position {
    let mut node = root;
    for step in path {
        let child = match &node.value {
            Tree::List(items) => step.parse::<usize>().ok().and_then(|index| items.get(index)),
            Tree::Map(_) | Tree::Null | Tree::Scalar(_) => node.child(step),
        };
        let Some(child) = child else { break };
        node = child;
    }
    node.at
}

/// A key taken out because it was reported already, with the place of its mapping.
type Removed = (Position, String);

/// Takes the entry at fault out. False where nothing is left to take out.
fn remove(node: &mut Node, path: &[usize], removed: &mut Vec<Removed>) -> bool {
    let Some((&index, rest)) = path.split_last() else { return false };
    match &mut node.value {
        Tree::Map(entries) if index < entries.len() => {
            if rest.is_empty() {
                let (key, _) = entries.remove(index);
                removed.extend(key.text().map(|key| (node.at, key.to_owned())));
                return true;
            }
            entries.get_mut(index).is_some_and(|(_, value)| remove(value, rest, removed))
        }
        Tree::List(items) if index < items.len() => {
            if rest.is_empty() {
                items.remove(index);
                return true;
            }
            items.get_mut(index).is_some_and(|item| remove(item, rest, removed))
        }
        Tree::Null | Tree::Scalar(_) | Tree::List(_) | Tree::Map(_) => false,
    }
}

/// A fault on its way out of the tree. `path` grows from the fault to the root.
#[derive(Debug)]
struct Fault {
    at: Option<Position>,
    path: Vec<usize>,
    what: String,
    expected: String,
    /// The required key that is missing, if that is the fault.
    missing: Option<&'static str>,
    /// A consequence of a fault already reported.
    echo: bool,
}

impl Fault {
    fn new(what: String, expected: String) -> Self {
        Self { at: None, path: Vec::new(), what, expected, missing: None, echo: false }
    }

    /// Adds where it happened, if nothing deeper did.
    fn at(mut self, reader: &Reader<'_>) -> Self {
        if self.at.is_none() {
            self.at = Some(reader.node.at);
            if let Some(key) = self.missing {
                self.echo = reader.removed.iter().any(|(at, k)| *at == reader.node.at && k == key);
            }
            if self.expected.is_empty() {
                explain_library(&mut self, reader.node);
            }
        }
        self
    }

    fn under(mut self, index: usize) -> Self {
        self.path.push(index);
        self
    }
}

/// Messages of parsers that say what is wrong but neither the value nor what would be right.
const LIBRARY_MESSAGES: &[(&str, &str)] = &[
    ("socket address", "an address with port, such as `0.0.0.0:8443` or `[::]:8443`"),
    ("IP address", "an IP address, such as `192.0.2.7`"),
];

fn explain_library(fault: &mut Fault, node: &Node) {
    for (part, expected) in LIBRARY_MESSAGES {
        if fault.what.contains(part) && fault.what.contains("invalid") {
            fault.what = format!("found {}", describe(node));
            (*expected).clone_into(&mut fault.expected);
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.what)
    }
}

impl std::error::Error for Fault {}

impl de::Error for Fault {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(message.to_string(), String::new())
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(format!("found {}", plain_words(found)), expectation(expected))
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(format!("found {}", plain_words(found)), expectation(expected))
    }

    fn invalid_length(length: usize, expected: &dyn Expected) -> Self {
        Self::new(format!("found {length} values"), expected.to_string())
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        let expected = suggest::one_of(field, expected);
        Self::new(format!("unknown key `{}`", suggest::shorten(field)), expected)
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let expected = suggest::one_of(variant, expected);
        Self::new(format!("found `{}`", suggest::shorten(variant)), expected)
    }

    fn missing_field(field: &'static str) -> Self {
        let mut fault = Self::new(format!("no key `{field}` here"), format!("`{field}: …`"));
        fault.missing = Some(field);
        fault
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self::new(format!("key `{field}` a second time"), "each key once".to_owned())
    }
}

/// What was expected, without names of Rust types.
fn expectation(expected: &dyn Expected) -> String {
    match expected.to_string().as_str() {
        "u8" => "a whole number from 0 to 255".to_owned(),
        "u16" => "a whole number from 0 to 65535".to_owned(),
        "u32" | "u64" | "usize" => "a whole number".to_owned(),
        "a boolean" => "`true` or `false`".to_owned(),
        "a sequence" => "a list".to_owned(),
        "a map" => "a mapping".to_owned(),
        "a string" => "text".to_owned(),
        other if other.starts_with("struct ") => "a mapping".to_owned(),
        other => other.to_owned(),
    }
}

fn plain_words(found: Unexpected<'_>) -> String {
    match found {
        Unexpected::Str(text) => format!("`{}`", suggest::shorten(text)),
        Unexpected::Unit | Unexpected::Option => "nothing".to_owned(),
        Unexpected::Seq => "a list".to_owned(),
        Unexpected::Map => "a mapping".to_owned(),
        Unexpected::Bool(value) => format!("`{value}`"),
        Unexpected::Unsigned(value) => format!("`{value}`"),
        Unexpected::Signed(value) => format!("`{value}`"),
        Unexpected::Float(value) => format!("`{value}`"),
        other => other.to_string(),
    }
}

fn describe(node: &Node) -> String {
    match node.text() {
        Some(text) => format!("`{}`", suggest::shorten(text)),
        None => node.kind().to_owned(),
    }
}

/// Deserializes one node.
#[derive(Clone, Copy)]
struct Reader<'t> {
    node: &'t Node,
    removed: &'t [Removed],
}

/// What a scalar means by the YAML 1.2 core schema.
enum Scalar<'t> {
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Text(&'t str),
}

fn resolve(text: &str) -> Scalar<'_> {
    match text {
        "true" | "True" | "TRUE" => return Scalar::Bool(true),
        "false" | "False" | "FALSE" => return Scalar::Bool(false),
        _ => {}
    }
    let numeric = text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.'));
    if !numeric {
        return Scalar::Text(text);
    }
    if let Ok(number) = text.parse() {
        return Scalar::Unsigned(number);
    }
    if let Ok(number) = text.parse() {
        return Scalar::Signed(number);
    }
    text.parse().map_or(Scalar::Text(text), Scalar::Float)
}

impl<'t> Reader<'t> {
    fn child(&self, node: &'t Node) -> Self {
        Self { node, removed: self.removed }
    }

    fn list(self, items: &'t [Node]) -> ListReader<'t> {
        ListReader { parent: self, items, next: 0 }
    }

    fn map(self, entries: &'t [(Node, Node)]) -> MapReader<'t> {
        MapReader { parent: self, entries, next: 0 }
    }
}

impl<'de> Deserializer<'de> for Reader<'_> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.node.value {
            Tree::Null => visitor.visit_unit(),
            Tree::Scalar(text) => match resolve(text) {
                Scalar::Bool(value) => visitor.visit_bool(value),
                Scalar::Unsigned(value) => visitor.visit_u64(value),
                Scalar::Signed(value) => visitor.visit_i64(value),
                Scalar::Float(value) => visitor.visit_f64(value),
                Scalar::Text(value) => visitor.visit_str(value),
            },
            Tree::List(items) => visitor.visit_seq(self.list(items)),
            Tree::Map(entries) => visitor.visit_map(self.map(entries)),
        }
        .map_err(|fault: Fault| fault.at(&self))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        if self.node.value == Tree::Null { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    /// Text wherever text is wanted, whether or not it looks like a number.
    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.node.text() {
            Some(text) => visitor.visit_str(text).map_err(|fault: Fault| fault.at(&self)),
            None => self.deserialize_any(visitor),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_str(visitor)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_str(visitor)
    }

    /// A section whose key stands there with nothing below it has its defaults.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.deserialize_map(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        if self.node.value == Tree::Null {
            return visitor.visit_map(self.map(&[])).map_err(|fault| fault.at(&self));
        }
        // Serde would take a list for a struct, its values in the order of the fields.
        if matches!(self.node.value, Tree::List(_)) {
            let fault = Fault::new("found a list".to_owned(), "a mapping".to_owned());
            return Err(fault.at(&self));
        }
        self.deserialize_any(visitor)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        if self.node.value == Tree::Null {
            return visitor.visit_seq(self.list(&[])).map_err(|fault| fault.at(&self));
        }
        self.deserialize_any(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match self.node.text() {
            Some(text) => visitor.visit_enum(VariantReader(text)),
            None => Err(Fault::new(
                format!("found {}", self.node.kind()),
                suggest::one_of("", variants),
            )),
        }
        .map_err(|fault| fault.at(&self))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf unit unit_struct
        tuple tuple_struct ignored_any
    }
}

struct ListReader<'t> {
    parent: Reader<'t>,
    items: &'t [Node],
    next: usize,
}

impl<'de> SeqAccess<'de> for ListReader<'_> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Fault> {
        let Some(item) = self.items.get(self.next) else { return Ok(None) };
        let index = self.next;
        self.next += 1;
        let reader = self.parent.child(item);
        seed.deserialize(reader).map(Some).map_err(|fault| fault.at(&reader).under(index))
    }
}

struct MapReader<'t> {
    parent: Reader<'t>,
    entries: &'t [(Node, Node)],
    next: usize,
}

impl<'de> MapAccess<'de> for MapReader<'_> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Fault> {
        let Some((key, _)) = self.entries.get(self.next) else { return Ok(None) };
        let index = self.next;
        let reader = self.parent.child(key);
        if let Some(name) = key.text() {
            let mut earlier = self.entries.iter().take(index);
            if earlier.any(|(other, _)| other.text() == Some(name)) {
                let what = format!("key `{}` a second time", suggest::shorten(name));
                let fault = Fault::new(what, "each key once".to_owned());
                return Err(fault.at(&reader).under(index));
            }
        }
        seed.deserialize(reader).map(Some).map_err(|fault| fault.at(&reader).under(index))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        let index = self.next;
        self.next += 1;
        let Some((_, value)) = self.entries.get(index) else {
            return Err(de::Error::custom("a key without a value"));
        };
        let reader = self.parent.child(value);
        seed.deserialize(reader).map_err(|fault| fault.at(&reader).under(index))
    }
}

struct VariantReader<'t>(&'t str);

impl<'de> EnumAccess<'de> for VariantReader<'_> {
    type Error = Fault;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Fault> {
        let text: de::value::StrDeserializer<'_, Fault> = self.0.into_deserializer();
        Ok((seed.deserialize(text)?, self))
    }
}

impl<'de> VariantAccess<'de> for VariantReader<'_> {
    type Error = Fault;

    fn unit_variant(self) -> Result<(), Fault> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, _seed: T) -> Result<T::Value, Fault> {
        Err(de::Error::custom("a word that needs a value"))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _len: usize, _visitor: V) -> Result<V::Value, Fault> {
        Err(de::Error::custom("a word that needs a value"))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _fields: &'static [&'static str],
        _visitor: V,
    ) -> Result<V::Value, Fault> {
        Err(de::Error::custom("a word that needs a value"))
    }
}
