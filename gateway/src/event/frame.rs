//! The frame of the write-ahead log: `length u32 · crc32 u32 · tenant length u8 · tenant · line`,
//! numbers little-endian; the length counts what follows the checksum, the checksum covers it.

/// Length and checksum.
const HEADER_BYTES: usize = 8;
/// Longest payload believed. The bounds of all fields sum up to less even with every character
/// escaped (1.9 MB); this keeps a damaged length from swallowing the rest.
pub(super) const PAYLOAD_BYTES_MAX: usize = 2 * 1024 * 1024;
/// How every line begins; together with the checksum it tells a frame from chance.
const LINE_START: &[u8] = b"{\"id\":\"";

/// Appends one frame whose line `write` produces. Leaves `out` as it was where the line is longer
/// than a frame holds, and says so with `false`.
pub(super) fn append(out: &mut Vec<u8>, tenant: &str, write: impl FnOnce(&mut Vec<u8>)) -> bool {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER_BYTES]);
    out.push(u8::try_from(tenant.len()).unwrap_or(0));
    out.extend_from_slice(tenant.as_bytes());
    write(out);
    let payload = out.get(start + HEADER_BYTES..).unwrap_or_default();
    let length = payload.len();
    let checksum = crc32fast::hash(payload);
    let header = u32::try_from(length).ok().filter(|_| length <= PAYLOAD_BYTES_MAX);
    let Some((header, place)) = header.zip(out.get_mut(start..start + HEADER_BYTES)) else {
        out.truncate(start);
        return false;
    };
    for (byte, value) in
        place.iter_mut().zip(header.to_le_bytes().into_iter().chain(checksum.to_le_bytes()))
    {
        *byte = value;
    }
    true
}

/// What stands at the beginning of some bytes of a log.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next<'a> {
    Frame {
        tenant: &'a str,
        line: &'a [u8],
        bytes: usize,
    },
    /// Good so far as it goes; the rest is not here (yet).
    Partial,
    /// No frame.
    Damaged,
    /// Nothing left.
    End,
}

/// Reads the frame at the beginning of `bytes`.
pub(super) fn next(bytes: &[u8]) -> Next<'_> {
    if bytes.is_empty() {
        return Next::End;
    }
    let Some((length, rest)) = number(bytes) else { return Next::Partial };
    let Some((checksum, rest)) = number(rest) else { return Next::Partial };
    let length = length as usize;
    if length <= LINE_START.len() || length > PAYLOAD_BYTES_MAX {
        return Next::Damaged;
    }
    let Some((payload, _)) = rest.split_at_checked(length) else { return Next::Partial };
    if crc32fast::hash(payload) != checksum {
        return Next::Damaged;
    }
    parse(payload).map_or(Next::Damaged, |(tenant, line)| Next::Frame {
        tenant,
        line,
        bytes: HEADER_BYTES + length,
    })
}

/// Bytes of the whole frames at the beginning of `bytes`, which are nothing but frames, that fit
/// in `limit`.
pub(super) fn whole(bytes: &[u8], limit: usize) -> usize {
    if limit >= bytes.len() {
        return bytes.len();
    }
    let mut whole = 0;
    while let Some((length, _)) = bytes.get(whole..).and_then(number) {
        let end = whole + HEADER_BYTES + length as usize;
        if end > limit {
            break;
        }
        whole = end;
    }
    whole
}

/// How many frames these are, which are nothing but whole frames.
pub(super) fn count(bytes: &[u8]) -> u64 {
    let (mut count, mut at) = (0, 0);
    while let Some((length, _)) = bytes.get(at..).and_then(number) {
        at += HEADER_BYTES + length as usize;
        count += 1;
    }
    count
}

/// Where the next whole frame begins, past a damaged one. A power cut may lose a page in the
/// middle of what was not synced yet; what follows it is still good.
pub(super) fn resync(bytes: &[u8]) -> Option<usize> {
    memchr::memmem::find_iter(bytes, LINE_START).find_map(|line| {
        (1..=crate::event::segments::NAME_BYTES_MAX).find_map(|tenant| {
            let start = line.checked_sub(HEADER_BYTES + 1 + tenant)?;
            let rest = bytes.get(start..)?;
            let named = rest.get(HEADER_BYTES).copied().map(usize::from) == Some(tenant);
            (start > 0 && named && matches!(next(rest), Next::Frame { .. })).then_some(start)
        })
    })
}

fn number(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (number, rest) = bytes.split_first_chunk::<4>()?;
    Some((u32::from_le_bytes(*number), rest))
}

fn parse(payload: &[u8]) -> Option<(&str, &[u8])> {
    let (length, rest) = payload.split_first()?;
    let (tenant, line) = rest.split_at_checked(usize::from(*length))?;
    let tenant = std::str::from_utf8(tenant).ok()?;
    let fits = super::segments::is_directory_name(tenant) && line.starts_with(LINE_START);
    fits.then_some((tenant, line))
}
