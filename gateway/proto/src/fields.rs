//! Header fields as they came: order, case and duplicates kept, no copy of the bytes.

use std::fmt;

use bytes::Bytes;
use smallvec::SmallVec;

/// One header field. `name` keeps the sender's case; compare with [`Field::is`].
#[derive(Clone, PartialEq, Eq)]
pub struct Field {
    pub name: Bytes,
    pub value: Bytes,
}

impl Field {
    /// Whether this field has `name` (ASCII case-insensitive, RFC 9110 section 5.1).
    #[must_use]
    pub fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name.as_bytes())
    }
}

/// Values carry cookies and tokens: they do not appear in logs by way of Debug.
impl fmt::Debug for Field {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?}: {} bytes", self.name, self.value.len())
    }
}

/// An ordered list of header or trailer fields. Names are few, so lookups are linear.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields {
    list: SmallVec<[Field; 16]>,
}

impl Fields {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The first value of `name`.
    #[must_use]
    pub fn first(&self, name: &str) -> Option<&Bytes> {
        self.all(name).next()
    }

    /// The first value of `name`, if it is UTF-8.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.first(name).and_then(|value| std::str::from_utf8(value).ok())
    }

    /// Every value of `name`, in order.
    pub fn all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a Bytes> {
        self.list.iter().filter(move |field| field.is(name)).map(|field| &field.value)
    }

    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.list.iter().any(|field| field.is(name))
    }

    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Field> {
        self.list.iter()
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.list.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub fn push(&mut self, name: impl Into<Bytes>, value: impl Into<Bytes>) {
        self.list.push(Field { name: name.into(), value: value.into() });
    }

    /// Removes every field named `name`.
    pub fn remove(&mut self, name: &str) {
        self.list.retain(|field| !field.is(name));
    }

    /// Gives `name` this one value: in the place and spelling of its first field, or at the end
    /// where there is none.
    pub fn set(&mut self, name: &'static str, value: impl Into<Bytes>) {
        let value = value.into();
        let mut found = false;
        self.list.retain(|field| {
            if !field.is(name) {
                return true;
            }
            let first = !std::mem::replace(&mut found, true);
            if first {
                field.value = value.clone();
            }
            first
        });
        if !found {
            self.push(Bytes::from_static(name.as_bytes()), value);
        }
    }

    /// Keeps the fields for which `keep` holds.
    pub fn retain(&mut self, mut keep: impl FnMut(&Field) -> bool) {
        self.list.retain(|field| keep(field));
    }
}
