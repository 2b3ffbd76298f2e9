//! Reads what a QUIC client says first: the ClientHello in its Initial packets, which anybody can open
//! who sees them (RFC 9001 section 5.2), in version 1 and 2 (RFC 9369).
//!
//! 1. A datagram's packets are walked through, and the Initials of this client opened: `push`.
//! 2. Their CRYPTO frames are joined, in whatever order they come.
//! 3. The message is taken apart: [`ClientHello::parse`].

mod header;
mod keys;
#[cfg(test)]
mod tests;

pub(crate) use self::header::varint;
use self::header::{Invariant, Long};
use self::keys::ClientKeys;
pub use self::keys::Version;
use crate::client_hello::{ClientHello, HelloProblem};
use crate::ranges::Ranges;

/// The longest hello: what servers buffer of CRYPTO frames, some a tenth of it, and several times a
/// post-quantum hello.
pub const HELLO_BYTES_MAX: usize = 16 << 10;
/// Pieces with gaps between them: Chromium cuts its hello into a dozen and shuffles them.
const PARTS_MAX: usize = 64;
/// Packets that one hello may take: one of 16 KiB in packets that each fill a datagram takes fifteen;
/// the rest is for those that are sent again.
const PACKETS_MAX: usize = 64;
/// A client's datagram with an Initial is at least this long, and servers drop shorter ones (RFC 9000
/// section 14.1): what they do not read, nobody must go by.
const DATAGRAM_BYTES_MIN: usize = 1200;
/// The destination that a client chooses is at least this long (RFC 9000 section 7.2).
const DESTINATION_BYTES_MIN: usize = 8;

/// Joins one client's Initial packets until its ClientHello is whole, and goes on to tell later ones of
/// the same connection from those of another. Holds at most [`HELLO_BYTES_MAX`].
#[derive(Default)]
pub struct InitialReader {
    keys: Option<ClientKeys>,
    /// The number after the greatest so far.
    expected: u64,
    packets: usize,
    message: Vec<u8>,
    parts: Ranges,
}

/// What a reader knows after a datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    NeedMore,
    Done(Box<ClientHello>),
    /// This will never be a ClientHello.
    NotInitial(InitialProblem),
}

/// Why datagrams are no client's first flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum InitialProblem {
    #[error("the datagram does not begin with a QUIC long header")]
    NotLong,
    #[error("the version of QUIC is unknown")]
    Version,
    #[error("the packets' headers do not add up")]
    Header,
    #[error("the datagram is shorter than 1200 bytes")]
    Short,
    #[error("the client's destination id is shorter than 8 bytes")]
    Destination,
    #[error("no packet is an Initial that its own keys open")]
    Sealed,
    #[error("a frame is malformed or has no place in an Initial")]
    Frame,
    #[error("the same bytes of the hello come with two contents")]
    Contradiction,
    #[error("the hello is too long, or takes too many packets or pieces")]
    TooLong,
    #[error(transparent)]
    Hello(HelloProblem),
}

impl InitialProblem {
    /// A stable name for events and metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::NotLong => "quic_not_long",
            Self::Version => "quic_version",
            Self::Header => "quic_header",
            Self::Short => "quic_short_datagram",
            Self::Destination => "quic_destination",
            Self::Sealed => "quic_sealed",
            Self::Frame => "quic_frame",
            Self::Contradiction => "quic_contradiction",
            Self::TooLong => "quic_hello_too_long",
            Self::Hello(problem) => problem.label(),
        }
    }
}

impl InitialReader {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The version that the client began with.
    #[must_use]
    pub fn version(&self) -> Option<Version> {
        self.keys.as_ref().map(|keys| keys.version)
    }

    /// Takes the next datagram of this client. The caller keeps it too, for whoever answers it.
    ///
    /// After the hello is whole, [`Progress::Done`] comes again for each further Initial of the same
    /// connection, and [`InitialProblem::Sealed`] tells of one that is another's.
    pub fn push(&mut self, datagram: &[u8]) -> Progress {
        match self.advance(datagram) {
            Ok(None) => Progress::NeedMore,
            Ok(Some(hello)) => Progress::Done(Box::new(hello)),
            Err(problem) => Progress::NotInitial(problem),
        }
    }

    fn advance(&mut self, datagram: &[u8]) -> Result<Option<ClientHello>, InitialProblem> {
        let (head, _) = Invariant::read(datagram).ok_or(InitialProblem::NotLong)?;
        Version::of(head.version).ok_or(InitialProblem::Version)?;
        let mut left = datagram;
        let (mut initials, mut opened) = (0_usize, 0_usize);
        // What is behind the last packet with a long header is none of ours: a packet with a short one,
        // or what fills the datagram up (RFC 9001 section 5.7 asks for neither to be understood).
        while let Some((packet, rest)) = Long::read(left) {
            left = rest;
            // All packets of a datagram are for one connection (RFC 9000 section 12.2).
            if packet.destination != head.destination || !packet.is_initial {
                continue;
            }
            initials += 1;
            opened += usize::from(self.packet(&packet, datagram.len())?);
        }
        if left.len() == datagram.len() {
            return Err(InitialProblem::Header);
        }
        if initials > 0 && opened == 0 {
            return Err(InitialProblem::Sealed);
        }
        self.hello()
    }

    /// Reads one Initial; says whether it was this client's.
    fn packet(&mut self, packet: &Long<'_>, datagram: usize) -> Result<bool, InitialProblem> {
        if datagram < DATAGRAM_BYTES_MIN {
            return Err(InitialProblem::Short);
        }
        if self.keys.is_none() {
            if packet.destination.len() < DESTINATION_BYTES_MIN {
                return Err(InitialProblem::Destination);
            }
            self.keys = ClientKeys::derive(packet.version, packet.destination);
        }
        let Some(keys) = &self.keys else { return Err(InitialProblem::Sealed) };
        if keys.version != packet.version {
            return Ok(false);
        }
        let Some(opened) = keys.open(packet, self.expected) else { return Ok(false) };
        self.expected = self.expected.max(opened.number + 1);
        if self.whole().is_none() {
            self.packets += 1;
            if self.packets > PACKETS_MAX {
                return Err(InitialProblem::TooLong);
            }
        }
        self.frames(&opened.frames)?;
        Ok(true)
    }

    /// Walks through the frames that an Initial may carry (RFC 9000 section 12.4).
    fn frames(&mut self, mut input: &[u8]) -> Result<(), InitialProblem> {
        while let Some((kind, rest)) = input.split_first() {
            input = match *kind {
                frame::PADDING | frame::PING => rest,
                frame::ACK | frame::ACK_ECN => {
                    skip_ack(rest, *kind == frame::ACK_ECN).ok_or(InitialProblem::Frame)?
                }
                frame::CRYPTO => {
                    let (offset, data, rest) = crypto(rest).ok_or(InitialProblem::Frame)?;
                    self.add(offset, data)?;
                    rest
                }
                // What follows the end of a connection does not matter.
                frame::CLOSE => return Ok(()),
                _ => return Err(InitialProblem::Frame),
            };
        }
        Ok(())
    }

    fn add(&mut self, offset: usize, data: &[u8]) -> Result<(), InitialProblem> {
        let end = offset.checked_add(data.len()).ok_or(InitialProblem::TooLong)?;
        if end > HELLO_BYTES_MAX {
            return Err(InitialProblem::TooLong);
        }
        for (from, to) in self.parts.within(offset, end) {
            if self.message.get(from..to) != data.get(from - offset..to - offset) {
                return Err(InitialProblem::Contradiction);
            }
        }
        if self.message.len() < end {
            self.message.resize(end, 0);
        }
        if let Some(place) = self.message.get_mut(offset..end) {
            place.copy_from_slice(data);
        }
        self.parts.add(offset, end, PARTS_MAX).map_err(|_| InitialProblem::TooLong)
    }

    fn hello(&self) -> Result<Option<ClientHello>, InitialProblem> {
        let come = self.message.get(..self.parts.prefix()).unwrap_or_default();
        let not_hello = InitialProblem::Hello(HelloProblem::NotClientHello);
        if come.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
            return Err(not_hello);
        }
        if let [_, high, middle, low, ..] = come
            && number(*high, *middle, *low) + HANDSHAKE_HEADER_BYTES > HELLO_BYTES_MAX
        {
            return Err(InitialProblem::TooLong);
        }
        let Some(body) = self.whole() else { return Ok(None) };
        ClientHello::parse(body).map(Some).map_err(InitialProblem::Hello)
    }

    /// The body of the hello, once it is whole.
    fn whole(&self) -> Option<&[u8]> {
        let come = self.message.get(..self.parts.prefix())?;
        let [_, high, middle, low, body @ ..] = come else { return None };
        body.get(..number(*high, *middle, *low))
    }
}

const CLIENT_HELLO: u8 = 1;
const HANDSHAKE_HEADER_BYTES: usize = 4;

fn number(high: u8, middle: u8, low: u8) -> usize {
    usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low)
}

/// Frame types (RFC 9000 section 19).
mod frame {
    pub(super) const PADDING: u8 = 0;
    pub(super) const PING: u8 = 1;
    pub(super) const ACK: u8 = 2;
    pub(super) const ACK_ECN: u8 = 3;
    pub(super) const CRYPTO: u8 = 6;
    pub(super) const CLOSE: u8 = 0x1c;
}

pub(crate) fn skip_ack(input: &[u8], with_ecn: bool) -> Option<&[u8]> {
    let (_largest, rest) = varint(input)?;
    let (_delay, rest) = varint(rest)?;
    let (ranges, rest) = varint(rest)?;
    let (_first, mut rest) = varint(rest)?;
    // Each number takes a byte at least: what is too many ends with the bytes.
    let numbers = ranges.checked_mul(2)?.checked_add(if with_ecn { 3 } else { 0 })?;
    for _ in 0..numbers {
        rest = varint(rest)?.1;
    }
    Some(rest)
}

/// Offset and data of a CRYPTO frame, and what follows it.
fn crypto(input: &[u8]) -> Option<(usize, &[u8], &[u8])> {
    let (offset, rest) = varint(input)?;
    let (length, rest) = varint(rest)?;
    let (data, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    Some((usize::try_from(offset).ok()?, data, rest))
}

/// The answer to a client that begins with a version we do not know: those we do (RFC 9000
/// section 17.2.1). `None` where nothing is to be answered.
#[must_use]
pub fn version_negotiation(datagram: &[u8]) -> Option<Vec<u8>> {
    let (head, _) = Invariant::read(datagram)?;
    // Never an answer to an answer, nor a longer one than what was asked.
    let unknown = head.version != 0 && Version::of(head.version).is_none();
    if !unknown || datagram.len() < DATAGRAM_BYTES_MIN {
        return None;
    }
    let mut answer = vec![0x80 | 0x40, 0, 0, 0, 0];
    for id in [head.source, head.destination] {
        answer.push(u8::try_from(id.len()).ok()?);
        answer.extend_from_slice(id);
    }
    answer.extend(1_u32.to_be_bytes());
    Some(answer)
}

/// A datagram of one Initial packet as a client sends it: what probes and tests make of frames. `None`
/// where they are too few to be protected or too many for a packet.
#[must_use]
pub fn write_initial(
    version: Version,
    destination: &[u8],
    number: u32,
    frames: &[u8],
) -> Option<Vec<u8>> {
    let header = header::write(version, destination, number, frames.len())?;
    ClientKeys::derive(version, destination)?.seal(&header, frames)
}
