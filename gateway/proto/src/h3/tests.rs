#![expect(clippy::unwrap_used, reason = "tests")]

use bytes::{Bytes, BytesMut};

use super::*;
use crate::capsule::write_varint;

fn frame(kind: u64, payload: &[u8]) -> Vec<u8> {
    let mut out = BytesMut::new();
    write_varint(kind, &mut out);
    write_varint(payload.len() as u64, &mut out);
    out.extend_from_slice(payload);
    out.to_vec()
}

/// Reads `bytes` in pieces of `step`, DATA joined.
fn events(mut reader: FrameReader, bytes: &[u8], step: usize) -> Result<Vec<Event>, Fault> {
    let mut events: Vec<Event> = Vec::new();
    for piece in bytes.chunks(step) {
        let mut chunk = Bytes::copy_from_slice(piece);
        while let Some(event) = reader.next(&mut chunk)? {
            match (events.last_mut(), event) {
                (Some(Event::Data(before)), Event::Data(more)) => {
                    *before = [before.as_ref(), more.as_ref()].concat().into();
                }
                (_, event) => events.push(event),
            }
        }
        assert!(chunk.is_empty());
    }
    reader.finish().map(|()| events)
}

fn code(reader: FrameReader, bytes: &[u8]) -> Code {
    events(reader, bytes, usize::MAX).unwrap_err().code
}

#[test]
fn a_request_is_headers_data_and_trailers_however_it_is_split() {
    let bytes = [
        frame(0x21, b"grease"),
        frame(1, b"head"),
        frame(0, b"one"),
        frame(0, b""),
        frame(0x40, b""),
        frame(0, b"two"),
        frame(1, b"trailers"),
    ]
    .concat();
    for step in [1, 2, 3, 7, 1000] {
        let events = events(FrameReader::request(100), &bytes, step).unwrap();
        assert_eq!(
            events,
            [
                Event::Headers("head".into()),
                Event::Data("onetwo".into()),
                Event::Headers("trailers".into()),
            ]
        );
    }
}

#[test]
fn frames_out_of_place_end_the_connection() {
    let request = || FrameReader::request(100);
    let head = frame(1, b"h");
    for kind in [3_u64, 4, 5, 7, 13, 2, 6, 8, 9] {
        assert_eq!(code(request(), &frame(kind, &[0])), Code::FRAME_UNEXPECTED, "{kind}");
        let later = [head.clone(), frame(kind, &[0])].concat();
        assert_eq!(code(request(), &later), Code::FRAME_UNEXPECTED, "{kind}");
    }
    assert_eq!(code(request(), &frame(0, b"d")), Code::FRAME_UNEXPECTED);
    for late in [frame(0, b"d"), frame(1, b"h")] {
        let bytes = [head.clone(), head.clone(), late].concat();
        assert_eq!(code(request(), &bytes), Code::FRAME_UNEXPECTED);
    }
    let mut tunnel = request();
    tunnel.tunnel();
    assert_eq!(code(tunnel, &head), Code::FRAME_UNEXPECTED);
}

#[test]
fn a_control_stream_begins_with_settings_and_has_them_once() {
    let control = FrameReader::control;
    let settings = frame(4, &[]);
    for kind in [0_u64, 1, 7, 13, 0x21] {
        assert_eq!(code(control(), &frame(kind, &[0])), Code::MISSING_SETTINGS, "{kind}");
    }
    for kind in [0_u64, 1, 4, 5, 2] {
        let bytes = [settings.clone(), frame(kind, &[])].concat();
        assert_eq!(code(control(), &bytes), Code::FRAME_UNEXPECTED, "{kind}");
    }
    let bytes = [settings.clone(), frame(7, &[4]), frame(13, &[9]), frame(3, &[1])].concat();
    assert_eq!(
        events(control(), &bytes, 1).unwrap(),
        [
            Event::Settings(Settings::default()),
            Event::Goaway(4),
            Event::MaxPushId(9),
            Event::CancelPush(1)
        ]
    );
    for payload in [&[][..], &[1, 2], &[0x40]] {
        let bytes = [settings.clone(), frame(7, payload)].concat();
        assert_eq!(code(control(), &bytes), Code::FRAME_ERROR);
    }
    assert_eq!(code(control(), &frame(4, &[0; 2000])), Code::EXCESSIVE_LOAD);
}

#[test]
fn what_is_cut_off_or_too_long_is_told() {
    let cut = frame(1, b"head");
    assert_eq!(code(FrameReader::request(100), cut.get(..3).unwrap()), Code::FRAME_ERROR);
    assert_eq!(code(FrameReader::request(100), &[0x40]), Code::FRAME_ERROR);
    let long = [frame(1, &[7; 200]), frame(0, b"d")].concat();
    assert_eq!(
        events(FrameReader::request(100), &long, 9).unwrap(),
        [Event::HeadersTooLarge, Event::Data("d".into())]
    );
    let endless = frame(0x21, &vec![0; 2 << 20]);
    assert_eq!(code(FrameReader::request(100), &endless), Code::EXCESSIVE_LOAD);
}

#[test]
fn settings_are_checked() {
    let settings = Settings {
        qpack_max_table_capacity: 0,
        qpack_blocked_streams: 0,
        max_field_section_size: Some(65_536),
        enable_connect_protocol: true,
        h3_datagram: true,
    };
    let mut out = BytesMut::new();
    put_settings(&settings, &mut out);
    let events = events(FrameReader::control(), &out, 2).unwrap();
    assert_eq!(events, [Event::Settings(settings)]);
    let fault = |payload: &[u8]| Settings::parse(payload).unwrap_err().code;
    for id in [0, 2, 3, 4, 5] {
        assert_eq!(fault(&[id, 1]), Code::SETTINGS_ERROR);
    }
    assert_eq!(fault(&[6, 1, 6, 1]), Code::SETTINGS_ERROR);
    assert_eq!(fault(&[0x33, 2]), Code::SETTINGS_ERROR);
    assert_eq!(fault(&[8, 2]), Code::SETTINGS_ERROR);
    assert_eq!(fault(&[6]), Code::FRAME_ERROR);
    assert_eq!(Settings::parse(&[0x21, 7]).unwrap(), Settings::default());
}

fn decoded(section: &[u8], most: usize) -> Result<(qpack::Decoded, Vec<(Bytes, Bytes)>), Fault> {
    let mut fields = Vec::new();
    let outcome = qpack::decode(section, most, |name, value| fields.push((name, value)))?;
    Ok((outcome, fields))
}

#[test]
fn what_is_encoded_is_decoded() {
    let mut section = BytesMut::new();
    qpack::encode_prefix(&mut section);
    qpack::encode_status(200, &mut section);
    qpack::encode_status(407, &mut section);
    qpack::encode_field(b"Proxy-Status", b"fra-1; error=x", &mut section);
    qpack::encode_field(b"cookie", &[b'c'; 300], &mut section);
    let (outcome, fields) = decoded(&section, 10_000).unwrap();
    assert_eq!(outcome, qpack::Decoded::Whole);
    let expected: [(&str, Vec<u8>); 4] = [
        (":status", b"200".to_vec()),
        (":status", b"407".to_vec()),
        ("proxy-status", b"fra-1; error=x".to_vec()),
        ("cookie", vec![b'c'; 300]),
    ];
    for ((name, value), (wanted_name, wanted_value)) in fields.iter().zip(expected) {
        assert_eq!((name.as_ref(), value.as_ref()), (wanted_name.as_bytes(), &wanted_value[..]));
    }
    assert_eq!(decoded(&section, 200).unwrap().0, qpack::Decoded::TooLarge);
}

#[test]
fn the_examples_of_the_rfc_are_read() {
    // RFC 9204 appendix B.1: literal with a static name.
    let section = [&[0, 0, 0x51, 0x0b][..], b"/index.html"].concat();
    let (_, fields) = decoded(&section, 1000).unwrap();
    assert_eq!(fields, [(Bytes::from(":path"), Bytes::from("/index.html"))]);
    // Huffman-coded: RFC 7541 appendix C.4.1.
    let coded =
        [0, 0, 0x50, 0x8c, 0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff];
    let (_, fields) = decoded(&coded, 1000).unwrap();
    assert_eq!(fields, [(Bytes::from(":authority"), Bytes::from("www.example.com"))]);
}

#[test]
fn references_to_a_dynamic_table_end_the_connection() {
    for section in [
        &[1, 0, 0xc1][..], // waits for an insert
        &[0, 0x80, 0xc1],  // base below zero
        &[0, 0, 0x80],     // indexed, dynamic
        &[0, 0, 0x10],     // indexed, post-base
        &[0, 0, 0x40, 1, b'v'],
        &[0, 0, 0x00, 1, b'v'],
        &[0, 0, 0xff, 36], // 99: beyond the static table
        &[0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
        &[0, 0, 0x51, 5, b'v'],
        &[0],
        &[],
    ] {
        let fault = decoded(section, 1000).unwrap_err();
        assert_eq!(fault.code, Code::QPACK_DECOMPRESSION_FAILED, "{section:?}");
    }
    assert!(decoded(&[0, 0, 0xff, 35], 1000).is_ok(), "98 is the last");
}

#[test]
fn instructions_for_tables_without_capacity_end_the_connection() {
    assert!(qpack::EncoderStream.read(&[0x20, 0x20]).is_ok());
    for bytes in [&[0x3f, 0x01][..], &[0x21], &[0xc0, 0], &[0x41, b'n', 1, b'v'], &[0x00]] {
        let fault = qpack::EncoderStream.read(bytes).unwrap_err();
        assert_eq!(fault.code, Code::QPACK_ENCODER_STREAM_ERROR);
    }
    let mut stream = qpack::DecoderStream::default();
    assert!(stream.read(&[0x44, 0x7f]).is_ok());
    assert!(stream.read(&[0x85, 0x01, 0x40]).is_ok(), "a cancellation in two parts");
    for bytes in [&[0x84][..], &[0x00], &[0x01]] {
        let fault = qpack::DecoderStream::default().read(bytes).unwrap_err();
        assert_eq!(fault.code, Code::QPACK_DECODER_STREAM_ERROR);
    }
}

#[test]
fn a_stream_says_what_it_is_for() {
    let mut reader = StreamTypeReader::new();
    assert_eq!(reader.next(&mut Bytes::from_static(&[0x40])), None);
    let mut rest = Bytes::from_static(&[0x03, 9]);
    assert_eq!(reader.next(&mut rest), Some(StreamType::QpackDecoder));
    assert_eq!(rest, Bytes::from_static(&[9]));
    for (byte, kind) in [
        (0, StreamType::Control),
        (1, StreamType::Push),
        (2, StreamType::QpackEncoder),
        (0x21, StreamType::Unknown),
    ] {
        assert_eq!(StreamTypeReader::new().next(&mut vec![byte].into()), Some(kind));
    }
}
