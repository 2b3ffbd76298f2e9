//! One field of a foreign format: its name there, and how it is made from an event.

use serde_json::{Map, Value};

use super::value::Event;

/// A field of a foreign format.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The name there; a dot steps into an object.
    pub name: &'static str,
    pub source: Source,
}

/// Where its value comes from.
#[derive(Clone, Copy, Debug)]
pub enum Source {
    /// The same value as this field of ours.
    Field(&'static str),
    /// Always this text.
    Text(&'static str),
    /// Always this number.
    Number(u64),
    /// Made from fields of ours, as the text says.
    Made(&'static str, fn(&Event) -> Option<Value>),
}

pub(super) const fn field(name: &'static str, ours: &'static str) -> Row {
    Row { name, source: Source::Field(ours) }
}

pub(super) const fn text(name: &'static str, text: &'static str) -> Row {
    Row { name, source: Source::Text(text) }
}

pub(super) const fn number(name: &'static str, number: u64) -> Row {
    Row { name, source: Source::Number(number) }
}

pub(super) const fn made(
    name: &'static str,
    how: &'static str,
    make: fn(&Event) -> Option<Value>,
) -> Row {
    Row { name, source: Source::Made(how, make) }
}

impl Row {
    /// The field's value for this event; absent where what it is made from is.
    #[must_use]
    pub fn value(&self, event: &Event) -> Option<Value> {
        match self.source {
            Source::Field(ours) => event.get(ours).cloned(),
            Source::Text(text) => Some(text.into()),
            Source::Number(number) => Some(number.into()),
            Source::Made(_, make) => make(event),
        }
    }

    /// Puts the value where the name says.
    pub(super) fn put(&self, event: &Event, object: &mut Map<String, Value>) {
        let Some(value) = self.value(event) else { return };
        let mut place = object;
        let mut steps = self.name.split('.').peekable();
        while let Some(step) = steps.next() {
            if steps.peek().is_none() {
                place.insert(step.to_owned(), value);
                return;
            }
            let inner = place.entry(step).or_insert_with(|| Value::Object(Map::new()));
            let Value::Object(inner) = inner else { return };
            place = inner;
        }
    }
}
