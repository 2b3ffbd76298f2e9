//! What is known of a flow or exchange, and what is not yet.

use std::net::IpAddr;

/// The four moments at which rules are judged, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Gate {
    Connect,
    RequestHead,
    RequestBody,
    Response,
}

/// Everything a rule can match on. The discriminant indexes [`Facts`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Key {
    User,
    Group,
    Device,
    DeviceClass,
    Os,
    AccessMethod,
    SourceIp,
    SourceCountry,
    Domain,
    DestIp,
    DestPort,
    DestCountry,
    Time,
    App,
    AppTag,
    Category,
    Risk,
    Instance,
    Url,
    Activity,
    Method,
    ContentType,
    FileType,
    FileName,
    FileSize,
    FromUser,
    ToUser,
    Dlp,
    Threat,
    Inspection,
}

impl Key {
    pub const COUNT: usize = 30;
}

/// A value a fact can have.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    Text(&'a str),
    /// Several values at once (groups, tags, an instance's kind and id): any may match.
    Texts(&'a [&'a str]),
    Number(u64),
    Address(IpAddr),
    /// Seconds since the Unix epoch.
    Moment(i64),
}

/// Why a fact cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unobtainable {
    /// A memory or time bound of the hold was reached.
    Bound,
    Timeout,
    NotDecrypted,
    EngineDown,
    /// Its gate has passed and nobody gathered it: a defect, so it fails closed.
    NotGathered,
}

/// The state of one fact.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub enum Fact<'a> {
    Known(Value<'a>),
    /// This gate can still give it: the caller must gather it and ask again.
    Pending,
    /// A later gate gives it.
    #[default]
    Deferred,
    /// It does not exist here (a GET has no body).
    Inapplicable,
    Unobtainable(Unobtainable),
}

/// All facts of one evaluation. What is never set is deferred until its gate.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    slots: [Fact<'a>; Key::COUNT],
}

impl<'a> Facts<'a> {
    #[must_use]
    pub fn new() -> Self {
        Self { slots: [Fact::Deferred; Key::COUNT] }
    }

    pub fn set(&mut self, key: Key, fact: Fact<'a>) {
        if let Some(slot) = self.slots.get_mut(key as usize) {
            *slot = fact;
        }
    }

    #[must_use]
    pub fn fact(&self, key: Key) -> Fact<'a> {
        self.slots.get(key as usize).copied().unwrap_or_default()
    }
}

impl Default for Facts<'_> {
    fn default() -> Self {
        Self::new()
    }
}

/// A set of keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeySet(u32);

impl KeySet {
    pub const EMPTY: Self = Self(0);

    pub fn insert(&mut self, key: Key) {
        self.0 |= 1 << (key as u8);
    }

    #[must_use]
    pub fn contains(self, key: Key) -> bool {
        self.0 & (1 << (key as u8)) != 0
    }

    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}
