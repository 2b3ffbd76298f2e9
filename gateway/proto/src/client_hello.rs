//! Reads a ClientHello whole, however it is split over records and segments (RFC 8446
//! section 4.1.2), and says what it offers.
//!
//! 1. Records are joined: [`ClientHelloReader::push`].
//! 2. The message is taken apart: [`ClientHello::parse`].

use std::sync::Arc;

use crate::target::Host;

/// The longest hello: four times the 16 KiB that post-quantum hellos stay well below, and what
/// TLS libraries take at most.
pub const HELLO_BYTES_MAX: usize = 64 << 10;

/// The longest record body: 2^14, since a hello is never encrypted (RFC 8446 section 5.1).
const RECORD_BYTES_MAX: usize = 1 << 14;

/// Names, protocols and numbers in one list: far above any client, and what bounds our memory.
const LIST_MAX: usize = 512;

/// Joins handshake records until the ClientHello is whole. Holds at most [`HELLO_BYTES_MAX`].
#[derive(Debug, Default)]
pub struct ClientHelloReader {
    /// The header of the record under way.
    header: Vec<u8>,
    /// Bytes to come of the record under way.
    record_left: usize,
    /// The handshake message so far, its 4-byte header included.
    message: Vec<u8>,
    finished: bool,
}

/// What a reader knows after some bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    NeedMore,
    Done(Box<ClientHello>),
    /// This will never be a ClientHello.
    NotTls(HelloProblem),
}

/// Why bytes are no ClientHello.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum HelloProblem {
    #[error("the first record is not a TLS handshake record")]
    NotHandshake,
    #[error("a record is empty or longer than 2^14 bytes")]
    RecordLength,
    #[error("the first message is not a ClientHello")]
    NotClientHello,
    #[error("the ClientHello is longer than 64 KiB")]
    TooLong,
    #[error("the ClientHello's parts do not add up")]
    Malformed,
    #[error("an extension comes twice")]
    ExtensionRepeated,
}

impl HelloProblem {
    /// A stable name for events and metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::NotHandshake => "not_handshake",
            Self::RecordLength => "record_length",
            Self::NotClientHello => "not_client_hello",
            Self::TooLong => "hello_too_long",
            Self::Malformed => "hello_malformed",
            Self::ExtensionRepeated => "extension_repeated",
        }
    }
}

impl ClientHelloReader {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes of the stream. The caller keeps them too, for whoever does the
    /// handshake. After an answer other than [`Progress::NeedMore`] the reader is spent.
    pub fn push(&mut self, bytes: &[u8]) -> Progress {
        if self.finished {
            return Progress::NotTls(HelloProblem::NotHandshake);
        }
        let progress = self.advance(bytes);
        self.finished = progress != Progress::NeedMore;
        progress
    }

    fn advance(&mut self, mut bytes: &[u8]) -> Progress {
        loop {
            if self.record_left == 0 {
                let missing = RECORD_HEADER_BYTES.saturating_sub(self.header.len());
                let (taken, rest) = split_at_most(bytes, missing);
                self.header.extend_from_slice(taken);
                bytes = rest;
                match record_length(&self.header) {
                    Err(problem) => return Progress::NotTls(problem),
                    Ok(None) => return Progress::NeedMore,
                    Ok(Some(length)) => self.record_left = length,
                }
                self.header.clear();
            }
            let (taken, rest) = split_at_most(bytes, self.record_left);
            self.record_left -= taken.len();
            self.message.extend_from_slice(taken);
            bytes = rest;
            match self.message() {
                Ok(None) if bytes.is_empty() => return Progress::NeedMore,
                Ok(None) => {}
                Ok(Some(body)) => {
                    return match ClientHello::parse(body) {
                        Ok(hello) => Progress::Done(Box::new(hello)),
                        Err(problem) => Progress::NotTls(problem),
                    };
                }
                Err(problem) => return Progress::NotTls(problem),
            }
        }
    }

    /// The body of the ClientHello message, once it is whole.
    fn message(&self) -> Result<Option<&[u8]>, HelloProblem> {
        match self.message.as_slice() {
            [] | [1] | [1, _] | [1, _, _] => Ok(None),
            [1, high, middle, low, body @ ..] => {
                let length =
                    usize::from(*high) << 16 | usize::from(*middle) << 8 | usize::from(*low);
                if length + HANDSHAKE_HEADER_BYTES > HELLO_BYTES_MAX {
                    return Err(HelloProblem::TooLong);
                }
                Ok(body.get(..length))
            }
            _ => Err(HelloProblem::NotClientHello),
        }
    }
}

const RECORD_HEADER_BYTES: usize = 5;
const HANDSHAKE_HEADER_BYTES: usize = 4;

/// The length a record's header gives, checked as far as the header has come.
fn record_length(header: &[u8]) -> Result<Option<usize>, HelloProblem> {
    if header.first().is_some_and(|kind| *kind != 22)
        || header.get(1).is_some_and(|major| *major != 3)
        || header.get(2).is_some_and(|minor| *minor > 4)
    {
        return Err(HelloProblem::NotHandshake);
    }
    let [_, _, _, high, low] = header else {
        return Ok(None);
    };
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    if length == 0 || length > RECORD_BYTES_MAX {
        return Err(HelloProblem::RecordLength);
    }
    Ok(Some(length))
}

fn split_at_most(bytes: &[u8], length: usize) -> (&[u8], &[u8]) {
    bytes.split_at_checked(length).unwrap_or((bytes, b""))
}

/// What a client offers. Lists are in the client's order and keep GREASE values (RFC 8701).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientHello {
    pub legacy_version: u16,
    pub session_id: Vec<u8>,
    pub cipher_suites: Vec<u16>,
    /// The types of the extensions.
    pub extensions: Vec<u16>,
    pub sni: Sni,
    pub alpn: Vec<Vec<u8>>,
    pub ech: Ech,
    pub supported_versions: Vec<u16>,
    pub groups: Vec<u16>,
    pub key_share_groups: Vec<u16>,
    pub signature_algorithms: Vec<u16>,
}

/// The name a client asks for (RFC 6066 section 3).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Sni {
    #[default]
    Absent,
    /// Canonical: lower case, A-labels, no trailing dot.
    Name(Arc<str>),
    Invalid(SniProblem),
}

/// Why a server name is no name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum SniProblem {
    #[error("the server name list is empty or malformed")]
    Malformed,
    #[error("there are several server names")]
    Several,
    #[error("the server name is an address")]
    Address,
    #[error("the server name is no host name")]
    NotAName,
}

impl SniProblem {
    /// A stable name for events and metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Malformed => "sni_malformed",
            Self::Several => "sni_several",
            Self::Address => "sni_address",
            Self::NotAName => "sni_not_a_name",
        }
    }
}

/// Encrypted Client Hello (RFC 9849 section 5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Ech {
    #[default]
    Absent,
    /// An outer hello, real or GREASE: no observer can tell which.
    Outer,
    /// An inner hello, which never travels in the clear by right.
    Inner,
    Malformed,
}

impl ClientHello {
    /// Takes apart the body of a ClientHello message, without its 4-byte header.
    ///
    /// # Errors
    /// Where lengths do not add up or an extension repeats. A server name that is no name is no
    /// error here but [`Sni::Invalid`]: the caller has a policy for it.
    pub fn parse(body: &[u8]) -> Result<Self, HelloProblem> {
        Self::read(body)?.ok_or(HelloProblem::Malformed)
    }

    /// The name asked for, where it is a name.
    #[must_use]
    pub fn server_name(&self) -> Option<&str> {
        match &self.sni {
            Sni::Name(name) => Some(name),
            Sni::Absent | Sni::Invalid(_) => None,
        }
    }

    /// Whether the client offers `protocol` by ALPN.
    #[must_use]
    pub fn offers(&self, protocol: &[u8]) -> bool {
        self.alpn.iter().any(|offered| offered == protocol)
    }

    fn read(body: &[u8]) -> Result<Option<Self>, HelloProblem> {
        let mut input = Input(body);
        let mut hello = Self::default();
        let Some(mut extensions) = hello.read_fixed(&mut input) else {
            return Ok(None);
        };
        while !extensions.is_empty() {
            let (Some(kind), Some(data)) = (extensions.number(), extensions.list16()) else {
                return Ok(None);
            };
            if hello.extensions.len() >= LIST_MAX {
                return Ok(None);
            }
            if hello.extensions.contains(&kind) {
                return Err(HelloProblem::ExtensionRepeated);
            }
            hello.extensions.push(kind);
            if hello.read_extension(kind, data).is_none() {
                return Ok(None);
            }
        }
        Ok(Some(hello))
    }

    /// Reads all before the extensions and returns those; old clients send none.
    fn read_fixed<'a>(&mut self, input: &mut Input<'a>) -> Option<Input<'a>> {
        self.legacy_version = input.number()?;
        input.take(32)?;
        let session_id = input.list8()?;
        if session_id.0.len() > 32 {
            return None;
        }
        self.session_id = session_id.0.to_vec();
        self.cipher_suites = input.list16()?.numbers()?;
        let compressions = input.list8()?;
        if self.cipher_suites.is_empty() || compressions.is_empty() {
            return None;
        }
        if input.is_empty() {
            return Some(Input(b""));
        }
        let extensions = input.list16()?;
        input.is_empty().then_some(extensions)
    }

    fn read_extension(&mut self, kind: u16, mut data: Input<'_>) -> Option<()> {
        match kind {
            extension::SERVER_NAME => self.sni = read_sni(data),
            extension::SUPPORTED_GROUPS => self.groups = data.list16()?.numbers()?,
            extension::SIGNATURE_ALGORITHMS => {
                self.signature_algorithms = data.list16()?.numbers()?;
            }
            extension::ALPN => {
                let mut list = data.list16()?;
                while !list.is_empty() {
                    let protocol = list.list8()?;
                    if protocol.is_empty() || self.alpn.len() >= LIST_MAX {
                        return None;
                    }
                    self.alpn.push(protocol.0.to_vec());
                }
            }
            extension::SUPPORTED_VERSIONS => self.supported_versions = data.list8()?.numbers()?,
            extension::KEY_SHARE => {
                let mut shares = data.list16()?;
                while !shares.is_empty() {
                    let group = shares.number()?;
                    shares.list16()?;
                    if self.key_share_groups.len() >= LIST_MAX {
                        return None;
                    }
                    self.key_share_groups.push(group);
                }
            }
            extension::ENCRYPTED_CLIENT_HELLO => {
                self.ech = match data.0 {
                    [0, _, ..] => Ech::Outer,
                    [1] => Ech::Inner,
                    _ => Ech::Malformed,
                };
                return Some(());
            }
            _ => return Some(()),
        }
        // What these extensions hold, they hold exactly. The name has its own outcome.
        (data.is_empty() || kind == extension::SERVER_NAME).then_some(())
    }
}

fn read_sni(data: Input<'_>) -> Sni {
    match sni_name(data) {
        Err(problem) => Sni::Invalid(problem),
        Ok(name) => match Host::parse(name) {
            Ok(Host::Name(name)) => Sni::Name(name),
            Ok(Host::Ip(_)) => Sni::Invalid(SniProblem::Address),
            // An IPv6 address stands without brackets here, and so is no host.
            Err(_) if is_address(name) => Sni::Invalid(SniProblem::Address),
            Err(_) => Sni::Invalid(SniProblem::NotAName),
        },
    }
}

fn is_address(name: &[u8]) -> bool {
    let text = std::str::from_utf8(name).unwrap_or_default();
    text.parse::<std::net::IpAddr>().is_ok()
}

/// The one name of the list (RFC 6066 section 3: one name per type, and there is one type).
fn sni_name(mut data: Input<'_>) -> Result<&[u8], SniProblem> {
    let mut list = data.list16().ok_or(SniProblem::Malformed)?;
    let kind = list.take(1).ok_or(SniProblem::Malformed)?;
    let name = list.list16().ok_or(SniProblem::Malformed)?;
    if kind != [0] || !data.is_empty() {
        return Err(SniProblem::Malformed);
    }
    if list.is_empty() { Ok(name.0) } else { Err(SniProblem::Several) }
}

/// Extension types (IANA "TLS ExtensionType Values").
pub(crate) mod extension {
    pub(crate) const SERVER_NAME: u16 = 0;
    pub(crate) const SUPPORTED_GROUPS: u16 = 10;
    pub(crate) const SIGNATURE_ALGORITHMS: u16 = 13;
    pub(crate) const ALPN: u16 = 16;
    pub(crate) const SUPPORTED_VERSIONS: u16 = 43;
    pub(crate) const KEY_SHARE: u16 = 51;
    pub(crate) const ENCRYPTED_CLIENT_HELLO: u16 = 0xfe0d;
}

/// Bytes still to be read, in TLS's notation (RFC 8446 section 3).
#[derive(Clone, Copy)]
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<u16> {
        let (number, rest) = self.0.split_first_chunk::<2>()?;
        self.0 = rest;
        Some(u16::from_be_bytes(*number))
    }

    /// A list with a length of one byte before it.
    fn list8(&mut self) -> Option<Self> {
        let (length, rest) = self.0.split_first()?;
        self.0 = rest;
        self.take(usize::from(*length)).map(Self)
    }

    /// A list with a length of two bytes before it.
    fn list16(&mut self) -> Option<Self> {
        let length = self.number()?;
        self.take(usize::from(length)).map(Self)
    }

    /// All of it as 16-bit numbers.
    fn numbers(self) -> Option<Vec<u16>> {
        let (numbers, rest) = self.0.as_chunks::<2>();
        let fits = rest.is_empty() && numbers.len() <= LIST_MAX;
        fits.then(|| numbers.iter().map(|number| u16::from_be_bytes(*number)).collect())
    }
}

/// Whether a value stands for nothing but to be skipped (RFC 8701).
#[must_use]
pub fn is_grease(value: u16) -> bool {
    value & 0x0f0f == 0x0a0a && value >> 8 == value & 0xff
}

#[cfg(test)]
mod tests;
