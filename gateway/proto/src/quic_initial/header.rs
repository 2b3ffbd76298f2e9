//! Long headers of QUIC (RFC 9000 section 17.2, RFC 9369 section 3.2), and the invariant part of those
//! of unknown versions (RFC 8999 section 5.1).

use super::keys::Version;

/// Longest connection id of the versions we know.
const CONNECTION_ID_BYTES_MAX: usize = 20;

/// What every version's long header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Invariant<'a> {
    pub(super) version: u32,
    pub(super) destination: &'a [u8],
    pub(super) source: &'a [u8],
}

/// A packet with a long header of a known version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Long<'a> {
    pub(super) version: Version,
    pub(super) is_initial: bool,
    pub(super) destination: &'a [u8],
    /// The whole packet, and where its protected packet number begins.
    pub(super) packet: &'a [u8],
    pub(super) number_at: usize,
}

impl<'a> Invariant<'a> {
    /// Reads the head of a datagram; gives what follows too.
    pub(super) fn read(datagram: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (first, rest) = datagram.split_first()?;
        if first & 0x80 == 0 {
            return None;
        }
        let (version, rest) = rest.split_first_chunk::<4>()?;
        let (destination, rest) = short_list(rest)?;
        let (source, rest) = short_list(rest)?;
        Some((Self { version: u32::from_be_bytes(*version), destination, source }, rest))
    }
}

impl<'a> Long<'a> {
    /// Reads the first packet of a datagram; gives the packets behind it too. `None` where it is no
    /// packet of a version we know, or has no length.
    pub(super) fn read(datagram: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let first = *datagram.first()?;
        let (head, rest) = Invariant::read(datagram)?;
        let version = Version::of(head.version)?;
        let ids_fit = head.destination.len() <= CONNECTION_ID_BYTES_MAX
            && head.source.len() <= CONNECTION_ID_BYTES_MAX;
        // The fixed bit may be greased only towards who said so (RFC 9287), which no client can know
        // of a server that it has not met.
        if !ids_fit || first & 0x40 == 0 {
            return None;
        }
        let kind = (first >> 4) & 3;
        if kind == version.retry() {
            return None;
        }
        let is_initial = kind == version.initial();
        let rest = if is_initial {
            let (token, rest) = varint(rest)?;
            rest.split_at_checked(usize::try_from(token).ok()?)?.1
        } else {
            rest
        };
        let (length, rest) = varint(rest)?;
        let number_at = datagram.len() - rest.len();
        let end = number_at.checked_add(usize::try_from(length).ok()?)?;
        let (packet, behind) = datagram.split_at_checked(end)?;
        let destination = head.destination;
        Some((Self { version, is_initial, destination, packet, number_at }, behind))
    }
}

/// The header of an Initial without token or source, with a number of four bytes.
pub(super) fn write(
    version: Version,
    destination: &[u8],
    number: u32,
    frames: usize,
) -> Option<Vec<u8>> {
    let length = u16::try_from(frames + NUMBER_BYTES + TAG_BYTES).ok()?;
    let mut header = vec![0xc3 | version.initial() << 4];
    header.extend(version.number().to_be_bytes());
    header.push(u8::try_from(destination.len()).ok()?);
    header.extend(destination);
    header.extend([0, 0]);
    header.extend((length < 0x4000).then_some(length | 0x4000)?.to_be_bytes());
    header.extend(number.to_be_bytes());
    Some(header)
}

const NUMBER_BYTES: usize = 4;
const TAG_BYTES: usize = 16;

/// A list with a length of one byte before it.
fn short_list(input: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = input.split_first()?;
    rest.split_at_checked(usize::from(*length))
}

/// A variable-length integer (RFC 9000 section 16).
pub(crate) fn varint(input: &[u8]) -> Option<(u64, &[u8])> {
    let first = *input.first()?;
    let (bytes, rest) = input.split_at_checked(1 << (first >> 6))?;
    let value = bytes.iter().fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
    let bits = 8 * bytes.len() as u32 - 2;
    Some((value & ((1 << bits) - 1), rest))
}
