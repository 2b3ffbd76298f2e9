//! The frames of a QUIC packet (RFC 9000 section 19, RFC 9221), as far as a limit must tell them apart.

use crate::quic_initial::{skip_ack, varint};

/// Frame types.
mod kind {
    pub(super) const PADDING: u64 = 0;
    pub(super) const PING: u64 = 1;
    pub(super) const ACK: u64 = 2;
    pub(super) const ACK_ECN: u64 = 3;
    pub(super) const RESET_STREAM: u64 = 4;
    pub(super) const STOP_SENDING: u64 = 5;
    pub(super) const CRYPTO: u64 = 6;
    pub(super) const NEW_TOKEN: u64 = 7;
    pub(super) const STREAM: u64 = 8;
    pub(super) const STREAM_LAST: u64 = 0xf;
    pub(super) const MAX_DATA: u64 = 0x10;
    pub(super) const MAX_STREAM_DATA: u64 = 0x11;
    pub(super) const MAX_STREAMS_BIDI: u64 = 0x12;
    pub(super) const DATA_BLOCKED: u64 = 0x14;
    pub(super) const STREAM_DATA_BLOCKED: u64 = 0x15;
    pub(super) const STREAMS_BLOCKED_BIDI: u64 = 0x16;
    pub(super) const STREAMS_BLOCKED_UNI: u64 = 0x17;
    pub(super) const NEW_CONNECTION_ID: u64 = 0x18;
    pub(super) const RETIRE_CONNECTION_ID: u64 = 0x19;
    pub(super) const PATH_CHALLENGE: u64 = 0x1a;
    pub(super) const PATH_RESPONSE: u64 = 0x1b;
    pub(super) const CLOSE: u64 = 0x1c;
    pub(super) const CLOSE_BY_APPLICATION: u64 = 0x1d;
    pub(super) const HANDSHAKE_DONE: u64 = 0x1e;
    /// Of the draft of acknowledgement frequencies, which libraries speak.
    pub(super) const IMMEDIATE_ACK: u64 = 0x1f;
    pub(super) const ACK_FREQUENCY: u64 = 0xaf;
    pub(super) const DATAGRAM: u64 = 0x30;
    pub(super) const DATAGRAM_WITH_LENGTH: u64 = 0x31;
}

/// A flag of STREAM frames: an offset follows.
const STREAM_OFFSET: u64 = 4;
/// A flag of STREAM frames: the stream ends.
const STREAM_END: u64 = 1;
/// What stands before the data of most STREAM frames: a short id, an offset, a length.
const STREAM_HEAD_BYTES: usize = 6;
/// A flag of STREAM frames: a length follows; without it the data fills the packet.
const STREAM_LENGTH: u64 = 2;
/// What ends a NEW_CONNECTION_ID frame.
const RESET_TOKEN_BYTES: usize = 16;
/// What PATH_CHALLENGE and PATH_RESPONSE carry.
const PATH_DATA_BYTES: usize = 8;

/// STREAM frames with so many bytes or fewer are thin: below any record of an inner protocol.
const THIN_BYTES: usize = 8;

/// What a packet has of frames that cost more than they carry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// RETIRE_CONNECTION_ID frames.
    pub retirements: u32,
    /// Thin STREAM frames that end no stream.
    pub thin: u32,
}

/// Looks through a packet, up to its end or the first frame that cannot be read: a receiver acts on
/// those before it, and then gives up (RFC 9000 section 12.4).
#[must_use]
pub fn survey(packet: &[u8]) -> Survey {
    let (mut survey, mut rest) = (Survey::default(), packet);
    while let Some((kind, after)) = varint(rest) {
        let Some(next) = skip(kind, after) else { break };
        survey.retirements += u32::from(kind == kind::RETIRE_CONNECTION_ID);
        let data = matches!(kind, kind::STREAM..=kind::STREAM_LAST) && kind & STREAM_END == 0;
        survey.thin +=
            u32::from(data && after.len() - next.len() <= THIN_BYTES + STREAM_HEAD_BYTES);
        rest = next;
    }
    survey
}

/// What a PATH_CHALLENGE asks to be given back, in a packet of a sender that puts one before whatever
/// carries data.
#[must_use]
pub fn challenge(packet: &[u8]) -> Option<u64> {
    let mut rest = packet;
    while let Some((kind, after)) = varint(rest) {
        match kind {
            kind::PATH_CHALLENGE => return after.first_chunk().map(|it| u64::from_be_bytes(*it)),
            kind::CRYPTO | kind::STREAM..=kind::STREAM_LAST => return None,
            _ => rest = skip(kind, after)?,
        }
    }
    None
}

/// What follows a frame of this type.
fn skip(kind: u64, rest: &[u8]) -> Option<&[u8]> {
    match kind {
        // Whole packets may consist of it.
        kind::PADDING => rest.get(rest.iter().take_while(|byte| **byte == 0).count()..),
        kind::PING | kind::HANDSHAKE_DONE | kind::IMMEDIATE_ACK => Some(rest),
        kind::ACK | kind::ACK_ECN => skip_ack(rest, kind == kind::ACK_ECN),
        kind::MAX_DATA
        | kind::MAX_STREAMS_BIDI..=kind::DATA_BLOCKED
        | kind::STREAMS_BLOCKED_BIDI
        | kind::STREAMS_BLOCKED_UNI
        | kind::RETIRE_CONNECTION_ID => numbers(rest, 1),
        kind::STOP_SENDING | kind::MAX_STREAM_DATA | kind::STREAM_DATA_BLOCKED => numbers(rest, 2),
        kind::RESET_STREAM => numbers(rest, 3),
        kind::ACK_FREQUENCY => numbers(rest, 4),
        kind::CRYPTO | kind::CLOSE_BY_APPLICATION => counted(numbers(rest, 1)?),
        kind::CLOSE => counted(numbers(rest, 2)?),
        kind::NEW_TOKEN | kind::DATAGRAM_WITH_LENGTH => counted(rest),
        kind::DATAGRAM => Some(&[]),
        kind::STREAM..=kind::STREAM_LAST => {
            let data = numbers(rest, if kind & STREAM_OFFSET == 0 { 1 } else { 2 })?;
            if kind & STREAM_LENGTH == 0 { Some(&[]) } else { counted(data) }
        }
        kind::NEW_CONNECTION_ID => {
            let (length, id) = numbers(rest, 2)?.split_first()?;
            id.get(usize::from(*length) + RESET_TOKEN_BYTES..)
        }
        kind::PATH_CHALLENGE | kind::PATH_RESPONSE => rest.get(PATH_DATA_BYTES..),
        _ => None,
    }
}

/// What follows so many numbers.
fn numbers(rest: &[u8], count: usize) -> Option<&[u8]> {
    (0..count).try_fold(rest, |rest, _| varint(rest).map(|(_, rest)| rest))
}

/// What follows bytes with their count before them.
fn counted(rest: &[u8]) -> Option<&[u8]> {
    let (length, rest) = varint(rest)?;
    rest.get(usize::try_from(length).ok()?..)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One frame of each type, in its shortest form but for the numbers.
    const EACH: [&[u8]; 26] = [
        &[0],
        &[1],
        &[2, 0x40, 9, 0, 1, 1, 0, 0],
        &[3, 9, 0, 0, 1, 1, 2, 3],
        &[4, 0, 0, 0],
        &[5, 0, 0],
        &[6, 0, 2, 0x19, 0x19],
        &[7, 1, 0x19],
        &[0x0a, 0, 2, 0x19, 0x19],
        &[0x0e, 0, 1, 2, 0x19, 0x19],
        &[0x10, 0],
        &[0x11, 0, 0],
        &[0x12, 0],
        &[0x13, 0],
        &[0x14, 0],
        &[0x15, 0, 0],
        &[0x16, 0],
        &[0x17, 0],
        &[0x18, 1, 0, 1, 7, 25, 25, 25, 25, 25, 25, 25, 25, 25, 25, 25, 25, 25, 25, 25, 25],
        &[0x1a, 25, 25, 25, 25, 25, 25, 25, 25],
        &[0x1b, 25, 25, 25, 25, 25, 25, 25, 25],
        &[0x1c, 0, 0, 1, 0x19],
        &[0x1d, 0, 1, 0x19],
        &[0x1e],
        &[0x31, 1, 0x19],
        &[0x40, 0xaf, 0, 1, 2, 3],
    ];

    fn retirements(packet: &[u8]) -> u32 {
        survey(packet).retirements
    }

    #[test]
    fn thin_frames_are_told_from_full_ones_and_from_ends() {
        let thin = [0x0e, 0, 0x40, 9, 1, 7];
        let full = [&[0x0e, 0, 0x40, 9, 16][..], &[7; 16]].concat();
        let end = [0x0f, 0, 0x40, 9, 0];
        let packet = [&thin[..], &full, &end, &thin, &[6, 0, 1, 7]].concat();
        assert_eq!(survey(&packet), Survey { retirements: 0, thin: 2 });
    }

    #[test]
    fn each_frame_is_passed_over_and_what_follows_is_counted() {
        for frame in EACH {
            let packet = [frame, &[0x19, 5], frame, &[0x40, 0x19, 0x40, 5]].concat();
            assert_eq!(retirements(&packet), 2, "{frame:?}");
            for cut in 1..frame.len() {
                let packet = [&[0x19, 5], frame.get(..cut).unwrap_or_default()].concat();
                assert_eq!(retirements(&packet), 1, "{frame:?} cut at {cut}");
            }
        }
    }

    #[test]
    fn data_that_fills_the_packet_is_no_frame() {
        for last in [&[0x08, 0, 0x19, 1][..], &[0x0c, 0, 1, 0x19, 1], &[0x30, 0x19, 1]] {
            assert_eq!(retirements(&[&[0x19, 5], last].concat()), 1, "{last:?}");
        }
    }

    #[test]
    fn a_challenge_is_found_before_the_data_of_its_packet() {
        let own = [0x1a, 0, 0, 0, 0, 0, 0, 1, 2];
        let ack = [2, 9, 0, 0, 1];
        assert_eq!(challenge(&[&[1][..], &ack, &own, &[0x08, 0, 7]].concat()), Some(0x102));
        assert_eq!(challenge(&[&ack[..], &[0x08, 0], &own].concat()), None);
        assert_eq!(challenge(&[0x1a, 0, 0]), None);
        assert_eq!(challenge(&[0; 40]), None);
    }

    #[test]
    fn what_stands_behind_an_unreadable_frame_does_not_count() {
        assert_eq!(retirements(&[0x19, 0, 0x2f, 0, 0x19, 0]), 1);
        assert_eq!(retirements(&[]), 0);
    }
}
