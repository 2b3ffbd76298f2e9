//! A record's text: a label, a string shared with the session, or one of its own.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

/// Text of one field. Cheap to make from what a stage already holds: a stable label costs
/// nothing, a shared string one reference count.
#[derive(Clone)]
pub enum Text {
    Label(&'static str),
    Shared(Arc<str>),
    Owned(Box<str>),
}

impl Text {
    /// Copies text that somebody else owns.
    #[must_use]
    pub fn copied(text: &str) -> Self {
        Self::Owned(text.into())
    }

    /// Takes bytes as they came from the wire; what is not UTF-8 becomes U+FFFD.
    #[must_use]
    pub fn lossy(bytes: &[u8]) -> Self {
        Self::Owned(String::from_utf8_lossy(bytes).into())
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Label(text) => text,
            Self::Shared(text) => text,
            Self::Owned(text) => text,
        }
    }
}

impl From<&'static str> for Text {
    fn from(text: &'static str) -> Self {
        Self::Label(text)
    }
}

impl From<Arc<str>> for Text {
    fn from(text: Arc<str>) -> Self {
        Self::Shared(text)
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self::Owned(text.into_boxed_str())
    }
}

impl From<Box<str>> for Text {
    fn from(text: Box<str>) -> Self {
        Self::Owned(text)
    }
}

impl From<Cow<'static, str>> for Text {
    fn from(text: Cow<'static, str>) -> Self {
        match text {
            Cow::Borrowed(text) => Self::Label(text),
            Cow::Owned(text) => text.into(),
        }
    }
}

impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Text {}

impl fmt::Debug for Text {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(formatter)
    }
}

impl fmt::Display for Text {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}
