//! Frames however they are cut, and bytes that are no frames.

#![expect(clippy::unwrap_used, reason = "tests")]

use bytes::BufMut;
use proptest::prelude::*;

use super::*;
use crate::h2::encode;

/// Reads everything out of `bytes`, fed in pieces of `piece`, parts of DATA joined.
fn read(bytes: &[u8], piece: usize) -> Result<Vec<Frame>, Fault> {
    let mut reader = FrameReader::new(65536);
    let mut buffer = BytesMut::new();
    let mut frames: Vec<Frame> = Vec::new();
    for chunk in [PREFACE, bytes].concat().chunks(piece) {
        buffer.extend_from_slice(chunk);
        while let Some(frame) = reader.next(&mut buffer)? {
            match (frames.last_mut(), frame) {
                (
                    Some(Frame::Data { part, end, .. }),
                    Frame::Data { part: more, end: ends, content: None, .. },
                ) => {
                    *part = [part.as_ref(), more.as_ref()].concat().into();
                    *end = ends;
                }
                (_, frame) => frames.push(frame),
            }
        }
    }
    Ok(frames)
}

fn raw(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    out.put_uint(payload.len() as u64, 3);
    out.put_slice(&[kind, flags]);
    out.put_u32(stream);
    out.put_slice(payload);
    out
}

#[test]
fn frames_are_the_same_however_they_arrive() {
    let mut sent = BytesMut::new();
    encode::settings(
        &Parameters { initial_window_size: Some(1), ..Parameters::default() },
        &mut sent,
    );
    encode::headers(1, &[7; 40_000], false, &mut sent);
    sent.extend_from_slice(&raw(DATA, FLAG_PADDED | FLAG_END_STREAM, 1, b"\x03abcd\0\0\0"));
    sent.extend_from_slice(&raw(0xbe, 0xff, 9, b"unknown"));
    encode::data_head(3, 0, true, &mut sent);
    encode::ping(true, *b"12345678", &mut sent);
    encode::window_update(0, 5, &mut sent);
    encode::reset(5, Code::CANCEL, &mut sent);
    encode::goaway(0, Code::NO_ERROR, &mut sent);
    encode::settings_ack(&mut sent);
    let whole = read(&sent, usize::MAX).unwrap();
    assert_eq!(whole.len(), 10);
    assert_eq!(
        whole.get(2).unwrap(),
        &Frame::Data {
            stream: 1,
            flow: 8,
            content: Some(4),
            part: Bytes::from_static(b"abcd"),
            end: true
        }
    );
    for piece in [1, 2, 3, 7, 10, 1000] {
        assert_eq!(read(&sent, piece).unwrap(), whole, "pieces of {piece}");
    }
}

#[test]
fn each_violation_has_its_code() {
    let long = vec![0; 16_385];
    for (frame, code, why) in [
        (raw(DATA, 0, 0, b"x"), Code::PROTOCOL_ERROR, "data on 0"),
        (raw(DATA, FLAG_PADDED, 1, b"\x05abc"), Code::PROTOCOL_ERROR, "padding"),
        (raw(DATA, FLAG_PADDED, 1, b""), Code::FRAME_SIZE_ERROR, "no pad length"),
        (raw(DATA, 0, 1, &long), Code::FRAME_SIZE_ERROR, "too large"),
        (raw(HEADERS, 4, 0, b""), Code::PROTOCOL_ERROR, "headers on 0"),
        (raw(HEADERS, 4 | FLAG_PADDED, 1, b"\x02a"), Code::PROTOCOL_ERROR, "padding"),
        (raw(HEADERS, 4 | FLAG_PRIORITY, 1, b"abc"), Code::FRAME_SIZE_ERROR, "priority"),
        (raw(PRIORITY, 0, 0, b"abcde"), Code::PROTOCOL_ERROR, "priority on 0"),
        (raw(RST_STREAM, 0, 1, b"abc"), Code::FRAME_SIZE_ERROR, "rst size"),
        (raw(RST_STREAM, 0, 0, b"abcd"), Code::PROTOCOL_ERROR, "rst on 0"),
        (raw(SETTINGS, 0, 1, b""), Code::PROTOCOL_ERROR, "settings on 1"),
        (raw(SETTINGS, 0, 0, b"abc"), Code::FRAME_SIZE_ERROR, "settings size"),
        (raw(SETTINGS, 1, 0, b"abcdef"), Code::FRAME_SIZE_ERROR, "ack size"),
        (raw(SETTINGS, 0, 0, &[0, 2, 0, 0, 0, 2]), Code::PROTOCOL_ERROR, "push 2"),
        (raw(SETTINGS, 0, 0, &[0, 4, 128, 0, 0, 0]), Code::FLOW_CONTROL_ERROR, "window"),
        (raw(SETTINGS, 0, 0, &[0, 5, 0, 0, 0, 1]), Code::PROTOCOL_ERROR, "frame size 1"),
        (raw(PUSH_PROMISE, 4, 1, b"abcd"), Code::PROTOCOL_ERROR, "push"),
        (raw(PING, 0, 0, b"abc"), Code::FRAME_SIZE_ERROR, "ping size"),
        (raw(PING, 0, 1, b"12345678"), Code::PROTOCOL_ERROR, "ping on 1"),
        (raw(GOAWAY, 0, 0, b"abc"), Code::FRAME_SIZE_ERROR, "goaway size"),
        (raw(GOAWAY, 0, 1, b"12345678"), Code::PROTOCOL_ERROR, "goaway on 1"),
        (raw(WINDOW_UPDATE, 0, 0, &[0; 4]), Code::PROTOCOL_ERROR, "increment 0"),
        (raw(WINDOW_UPDATE, 0, 1, b"abc"), Code::FRAME_SIZE_ERROR, "update size"),
        (raw(CONTINUATION, 4, 1, b""), Code::PROTOCOL_ERROR, "continuation alone"),
        (
            [raw(HEADERS, 0, 1, b""), raw(DATA, 0, 1, b"")].concat(),
            Code::PROTOCOL_ERROR,
            "interrupted",
        ),
        (
            [raw(HEADERS, 0, 1, b""), raw(CONTINUATION, 4, 3, b"")].concat(),
            Code::PROTOCOL_ERROR,
            "continued on another stream",
        ),
    ] {
        assert_eq!(read(&frame, usize::MAX).unwrap_err().code, code, "{why}");
    }
}

#[test]
fn some_violations_end_only_their_stream() {
    for (frame, code) in [
        (raw(WINDOW_UPDATE, 0, 1, &[0; 4]), Code::PROTOCOL_ERROR),
        (raw(PRIORITY, 0, 1, b"abc"), Code::FRAME_SIZE_ERROR),
        (raw(PRIORITY, 0, 1, &[0, 0, 0, 1, 9]), Code::PROTOCOL_ERROR),
    ] {
        let frames = read(&frame, usize::MAX).unwrap();
        assert!(
            matches!(frames.as_slice(), [Frame::Broken { stream: 1, fault }] if fault.code == code),
            "{frames:?}"
        );
    }
}

#[test]
fn a_header_block_without_end_is_bounded_in_frames_and_bytes() {
    let endless = |payload: &[u8]| {
        let mut frames = raw(HEADERS, 0, 1, payload);
        let continuation = raw(CONTINUATION, 0, 1, payload);
        (0..30).for_each(|_| frames.extend_from_slice(&continuation));
        frames
    };
    for payload in [&[][..], &[0; 16_000]] {
        let fault = read(&endless(payload), usize::MAX).unwrap_err();
        assert_eq!(fault.code, Code::ENHANCE_YOUR_CALM);
    }
}

proptest! {
    #[test]
    fn any_bytes_in_any_pieces_give_the_same(
        bytes in prop::collection::vec(any::<u8>(), 0..400),
        piece in 1_usize..50,
    ) {
        let small: Vec<u8> = bytes.chunks(12).flat_map(|chunk| {
            let (kind, flags) = (chunk.first().unwrap() % 11, chunk.last().unwrap());
            raw(kind, *flags, u32::from(chunk.len() as u8 % 4), chunk)
        }).collect();
        for sent in [&bytes, &small] {
            prop_assert_eq!(read(sent, piece), read(sent, usize::MAX));
        }
    }
}
