//! What is known of a flow or exchange, and what is not yet.

use std::net::IpAddr;

/// The four moments at which rules are judged, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Gate {
    /// A flow's destination and name are known; nothing was resolved or dialled.
    Connect,
    /// One exchange's request line and headers are known.
    RequestHead,
    /// The request body, or as much of it as may be held, is known. A request without a body has
    /// no such gate: what a body would have given, its response gives.
    RequestBody,
    /// The response is known, and nothing of it was given to the client.
    Response,
}

impl Gate {
    pub const ALL: [Self; 4] =
        [Self::Connect, Self::RequestHead, Self::RequestBody, Self::Response];

    /// The stable name, as docs, traces and messages use it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::RequestHead => "request head",
            Self::RequestBody => "request body",
            Self::Response => "response",
        }
    }
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

/// What a key compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// Text without regard to case, exact or with `*` at either end.
    Text,
    /// As text, also against the URL without its scheme.
    Url,
    /// A number against a number, a comparison or a range.
    Number,
    /// A number that may be written with a unit (`10MiB`).
    Size,
    /// An address against an address or a network.
    Address,
    /// A moment against windows of the week.
    Time,
}

impl Key {
    pub const COUNT: usize = 30;

    /// Every key, in the order of the discriminants.
    pub const ALL: [Self; Self::COUNT] = [
        Self::User,
        Self::Group,
        Self::Device,
        Self::DeviceClass,
        Self::Os,
        Self::AccessMethod,
        Self::SourceIp,
        Self::SourceCountry,
        Self::Domain,
        Self::DestIp,
        Self::DestPort,
        Self::DestCountry,
        Self::Time,
        Self::App,
        Self::AppTag,
        Self::Category,
        Self::Risk,
        Self::Instance,
        Self::Url,
        Self::Activity,
        Self::Method,
        Self::ContentType,
        Self::FileType,
        Self::FileName,
        Self::FileSize,
        Self::FromUser,
        Self::ToUser,
        Self::Dlp,
        Self::Threat,
        Self::Inspection,
    ];

    /// The name in a policy and in events.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Group => "group",
            Self::Device => "device",
            Self::DeviceClass => "device_class",
            Self::Os => "os",
            Self::AccessMethod => "access_method",
            Self::SourceIp => "source_ip",
            Self::SourceCountry => "source_country",
            Self::Domain => "domain",
            Self::DestIp => "dest_ip",
            Self::DestPort => "dest_port",
            Self::DestCountry => "dest_country",
            Self::Time => "time",
            Self::App => "app",
            Self::AppTag => "app_tag",
            Self::Category => "category",
            Self::Risk => "risk",
            Self::Instance => "instance",
            Self::Url => "url",
            Self::Activity => "activity",
            Self::Method => "method",
            Self::ContentType => "content_type",
            Self::FileType => "file_type",
            Self::FileName => "file_name",
            Self::FileSize => "file_size",
            Self::FromUser => "from_user",
            Self::ToUser => "to_user",
            Self::Dlp => "dlp",
            Self::Threat => "threat",
            Self::Inspection => "inspection",
        }
    }

    /// The key of this name, if it is one.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|key| key.name() == name)
    }

    /// The gate at which it is known at the latest; it may be known earlier.
    #[must_use]
    pub const fn gate(self) -> Gate {
        match self {
            Self::User
            | Self::Group
            | Self::Device
            | Self::DeviceClass
            | Self::Os
            | Self::AccessMethod
            | Self::SourceIp
            | Self::SourceCountry
            | Self::Domain
            | Self::DestIp
            | Self::DestPort
            | Self::DestCountry
            | Self::Time => Gate::Connect,
            Self::App
            | Self::AppTag
            | Self::Category
            | Self::Risk
            | Self::Instance
            | Self::Url
            | Self::Activity
            | Self::Method => Gate::RequestHead,
            Self::ContentType
            | Self::FileType
            | Self::FileName
            | Self::FileSize
            | Self::FromUser
            | Self::ToUser
            | Self::Dlp => Gate::RequestBody,
            Self::Threat | Self::Inspection => Gate::Response,
        }
    }

    /// How its values are written and compared.
    #[must_use]
    pub const fn kind(self) -> KeyKind {
        match self {
            Self::SourceIp | Self::DestIp => KeyKind::Address,
            Self::DestPort | Self::Risk => KeyKind::Number,
            Self::FileSize => KeyKind::Size,
            Self::Time => KeyKind::Time,
            Self::Url => KeyKind::Url,
            _ => KeyKind::Text,
        }
    }
}

/// A value a fact can have. The kind must be the one its key compares ([`Key::kind`]); a value of
/// another kind is a defect of whoever gathered it and counts as unobtainable.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// A URL is written whole: `https://host/path?query`.
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
    /// What carries it is malformed: others may read it otherwise.
    Unreadable,
    /// Its gate has passed and nobody gathered it: a defect, so it fails closed.
    NotGathered,
}

impl Unobtainable {
    /// The stable name, as events and traces use it.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Bound => "bound",
            Self::Timeout => "timeout",
            Self::NotDecrypted => "not_decrypted",
            Self::EngineDown => "engine_down",
            Self::Unreadable => "unreadable",
            Self::NotGathered => "not_gathered",
        }
    }
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
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

    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether every key of the other is in this one.
    #[must_use]
    pub fn holds(self, other: Self) -> bool {
        other.0 & !self.0 == 0
    }

    /// The keys in both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The keys of this set that are known at this gate at the latest.
    #[must_use]
    pub fn at(self, gate: Gate) -> Self {
        self.iter().filter(|key| key.gate() == gate).collect()
    }

    /// Whether some key of it is known by the destination's address alone.
    #[must_use]
    pub fn by_address(self) -> bool {
        self.contains(Key::DestIp) || self.contains(Key::DestCountry)
    }

    /// In the order of [`Key::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Key> {
        let mut left = self.0;
        std::iter::from_fn(move || {
            let key = Key::ALL.get(left.trailing_zeros() as usize)?;
            left &= left - 1;
            Some(*key)
        })
    }
}

impl FromIterator<Key> for KeySet {
    fn from_iter<I: IntoIterator<Item = Key>>(keys: I) -> Self {
        let mut set = Self::EMPTY;
        for key in keys {
            set.insert(key);
        }
        set
    }
}
