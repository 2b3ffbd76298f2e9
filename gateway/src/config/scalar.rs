//! Values people write with units or ranges: sizes, shares, port ranges, networks, fingerprints.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::str::FromStr;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::de::{Error as _, Unexpected};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Reads and writes a value as text: what failed to parse is shown with what was expected.
macro_rules! from_text {
    ($type:ty, $expected:literal) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse()
                    .map_err(|_| D::Error::invalid_value(Unexpected::Str(&text), &$expected))
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    };
}

/// The text is not of the form expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

impl fmt::Display for Malformed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("malformed")
    }
}

/// A number of bytes: `1048576`, `512KiB`, `10GiB`, `10GB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, JsonSchema)]
#[schemars(with = "String", extend("pattern" = "^[0-9]+ ?([KMGT]i?B|B)?$"))]
pub struct ByteSize(pub u64);

from_text!(ByteSize, "a size, such as `512MiB` or `10GiB`");

impl ByteSize {
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

const UNITS: &[(&str, u64)] = &[
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("B", 1),
    ("", 1),
];

impl fmt::Display for ByteSize {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = |(_, factor): &&(&str, u64)| self.0 > 0 && self.0.is_multiple_of(*factor);
        let binary = UNITS.iter().take(4).rev().find(whole);
        match binary {
            Some((unit, factor)) => write!(formatter, "{}{unit}", self.0 / factor),
            None => write!(formatter, "{}", self.0),
        }
    }
}

impl FromStr for ByteSize {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let (unit, factor) =
            UNITS.iter().find(|(unit, _)| text.ends_with(unit)).ok_or(Malformed)?;
        let number = text.strip_suffix(unit).ok_or(Malformed)?.trim_end();
        let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        let number: u64 = digits.then(|| number.parse().ok()).flatten().ok_or(Malformed)?;
        number.checked_mul(*factor).map(Self).ok_or(Malformed)
    }
}

/// How much memory the process may use: a share of what the machine (or its cgroup) has, or bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(with = "String")]
pub enum MemoryLimit {
    /// Of the machine's or cgroup's memory, 1 to 95.
    Percent(u8),
    Bytes(ByteSize),
}

from_text!(MemoryLimit, "a share from `1%` to `95%`, or a size such as `4GiB`");

/// Above this share the kernel's own needs are no longer met.
const MEMORY_PERCENT_MAX: u8 = 95;
/// Below this the gateway cannot hold its own tables.
const MEMORY_BYTES_MIN: u64 = 64 << 20;

impl fmt::Display for MemoryLimit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Percent(percent) => write!(formatter, "{percent}%"),
            Self::Bytes(size) => size.fmt(formatter),
        }
    }
}

impl FromStr for MemoryLimit {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        if let Some(percent) = text.strip_suffix('%') {
            let percent: u8 = percent.parse().map_err(|_| Malformed)?;
            let allowed = (1..=MEMORY_PERCENT_MAX).contains(&percent);
            return allowed.then_some(Self::Percent(percent)).ok_or(Malformed);
        }
        let size: ByteSize = text.parse()?;
        (size.0 >= MEMORY_BYTES_MIN).then_some(Self::Bytes(size)).ok_or(Malformed)
    }
}

impl MemoryLimit {
    /// The limit in bytes on a machine with `available` bytes.
    #[must_use]
    pub fn bytes_of(self, available: u64) -> u64 {
        match self {
            Self::Percent(percent) => (available / 100).saturating_mul(u64::from(percent)),
            Self::Bytes(size) => size.0.min(available),
        }
    }
}

/// Ports: `443` or `"8000-8999"`.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(with = "String", extend("pattern" = "^[0-9]{1,5}(-[0-9]{1,5})?$"))]
pub struct PortRange(pub RangeInclusive<u16>);

from_text!(PortRange, "a port from 1 to 65535, or a range such as `8000-8999`");

impl fmt::Display for PortRange {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, last) = (self.0.start(), self.0.end());
        if first == last {
            write!(formatter, "{first}")
        } else {
            write!(formatter, "{first}-{last}")
        }
    }
}

impl FromStr for PortRange {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let port = |text: &str| text.trim().parse::<u16>().map_err(|_| Malformed);
        let (first, last) = (port(first)?, port(last)?);
        (first > 0 && first <= last).then_some(Self(first..=last)).ok_or(Malformed)
    }
}

impl PortRange {
    #[must_use]
    pub fn contains(&self, port: u16) -> bool {
        self.0.contains(&port)
    }
}

/// A network: `10.0.0.0/8`, or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(with = "String")]
pub struct Network(pub IpNet);

from_text!(Network, "a network such as `10.0.0.0/8`, or an address");

impl fmt::Display for Network {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl FromStr for Network {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        if let Ok(net) = text.parse::<IpNet>() {
            return Ok(Self(net.trunc()));
        }
        text.parse::<IpAddr>().map(|address| Self(IpNet::from(address))).map_err(|_| Malformed)
    }
}

/// A name server: an address, with a port where that is not 53.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(with = "String")]
pub struct NameServer(pub SocketAddr);

from_text!(NameServer, "a name server's address, such as `192.0.2.53` or `192.0.2.53:5353`");

impl fmt::Display for NameServer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl FromStr for NameServer {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        const DNS_PORT: u16 = 53;
        let plain = |address: IpAddr| Self(SocketAddr::new(address, DNS_PORT));
        text.parse().map(plain).or_else(|_| text.parse().map(Self)).map_err(|_| Malformed)
    }
}

/// A host name in lower case, or `*.suffix` for every name below a suffix.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, JsonSchema)]
#[schemars(with = "String")]
pub struct HostPattern(pub String);

from_text!(HostPattern, "a host name such as `wiki.acme.test`, or `*.acme.test`");

impl fmt::Display for HostPattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl FromStr for HostPattern {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let name = text.strip_prefix("*.").unwrap_or(text).trim_end_matches('.');
        let ok = host_name(name);
        let text = text.trim_end_matches('.').to_ascii_lowercase();
        ok.then_some(Self(text)).ok_or(Malformed)
    }
}

/// A DNS name in lower case.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, JsonSchema)]
#[schemars(with = "String")]
pub struct HostName(pub String);

from_text!(HostName, "a host name such as `gateway.acme.test`");

impl fmt::Display for HostName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl FromStr for HostName {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        host_name(text).then(|| Self(text.to_ascii_lowercase())).ok_or(Malformed)
    }
}

impl HostName {
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Letters, digits, `-` and `_` in labels of 1 to 63 bytes, at most 253 in all (RFC 1035 2.3.4).
fn host_name(name: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    name.len() <= 253 && name.split('.').all(label)
}

/// The SHA-256 of a token, as 64 hexadecimal digits. Tokens are random and long, so a plain hash
/// does not let them be guessed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, JsonSchema)]
#[schemars(with = "String", extend("pattern" = "^[0-9a-f]{64}$"))]
pub struct TokenHash(pub [u8; 32]);

from_text!(TokenHash, "the SHA-256 of the token as 64 hexadecimal digits");

impl fmt::Display for TokenHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&crate::ident::hex::encode(&self.0))
    }
}

impl FromStr for TokenHash {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let bytes = crate::ident::hex::decode(text).ok_or(Malformed)?;
        bytes.try_into().map(Self).map_err(|_| Malformed)
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("TokenHash(…)")
    }
}
