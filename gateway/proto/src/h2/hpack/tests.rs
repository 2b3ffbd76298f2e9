//! The codec against RFC 7541's examples and against an independent one.

#![expect(clippy::unwrap_used, reason = "tests")]

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::*;

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> =
        text.chars().filter_map(|digit| digit.to_digit(16)).map(|d| d as u8).collect();
    digits.chunks(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect()
}

fn decode(decoder: &mut Decoder, block: &[u8], max: usize) -> (Decoded, Vec<(Bytes, Bytes)>) {
    let mut fields = Vec::new();
    let decoded = decoder.decode(block, max, |name, value| fields.push((name, value))).unwrap();
    (decoded, fields)
}

#[test]
fn the_examples_of_appendix_c_decode() {
    let mut decoder = Decoder::new();
    let blocks = [
        "828684418cf1e3c2e5f23a6ba0ab90f4ff",
        "828684be5886a8eb10649cbf",
        "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf",
    ];
    let last: Vec<_> = blocks.map(|b| decode(&mut decoder, &hex(b), 65536).1).pop_last();
    let text: Vec<_> =
        last.iter().map(|(n, v)| format!("{}={}", n.escape_ascii(), v.escape_ascii())).collect();
    assert_eq!(
        text,
        [
            ":method=GET",
            ":scheme=https",
            ":path=/index.html",
            ":authority=www.example.com",
            "custom-key=custom-value"
        ]
    );
}

trait PopLast<T> {
    fn pop_last(self) -> T;
}

impl<T, const N: usize> PopLast<T> for [T; N] {
    fn pop_last(self) -> T {
        self.into_iter().last().unwrap()
    }
}

#[test]
fn a_bomb_of_references_stops_at_the_bound() {
    let mut decoder = Decoder::new();
    let mut bomb =
        vec![0x40, 1, b'a', 0x7f, 0x80 | ((3900 - 127) & 0x7f) as u8, ((3900 - 127) >> 7) as u8];
    bomb.extend(std::iter::repeat_n(b'x', 3900));
    bomb.extend(std::iter::repeat_n(0x80 | 62, 10_000));
    let (decoded, fields) = decode(&mut decoder, &bomb, 65536);
    assert_eq!(decoded, Decoded::TooLarge);
    assert_eq!(fields.len(), 65536 / (3900 + 1 + 32));
    let (decoded, fields) = decode(&mut decoder, &[0x80 | 62], 65536);
    assert_eq!((decoded, fields.len()), (Decoded::Whole, 1), "still in step");
}

#[test]
fn malformed_blocks_are_compression_errors() {
    for block in [
        "80",                   // index 0
        "be",                   // index beyond the tables
        "3f e2 1f",             // table size 4097
        "20",                   // size update at the end
        "82 20 82",             // size update after a field
        "20 20 20 82",          // three size updates
        "00 01",                // string cut off
        "7f ff ff ff ff 0f",    // integer too large
        "00 81 38 00",          // padding not of ones
        "00 84 ff ff ff ff 00", // EOS
        "00 82 1f ff 00",       // padding longer than seven bits
    ] {
        let fault = Decoder::new().decode(&hex(block), 65536, |_, _| {}).unwrap_err();
        assert_eq!(fault.code, crate::h2::Code::COMPRESSION_ERROR, "{block}");
    }
}

#[test]
fn statuses_and_upper_case_names_encode() {
    let mut out = BytesMut::new();
    encode_status(200, &mut out);
    encode_status(103, &mut out);
    encode_field(b"Set-Cookie", b"a=b", &mut out);
    encode_field(b"X-Long", &[b'v'; 300], &mut out);
    let list = loona_hpack::Decoder::new().decode(&out).unwrap();
    let text = |bytes: &str| bytes.as_bytes().to_vec();
    let expected = [
        (text(":status"), text("200")),
        (text(":status"), text("103")),
        (text("set-cookie"), text("a=b")),
        (text("x-long"), vec![b'v'; 300]),
    ];
    assert_eq!(list, expected);
}

proptest! {
    #[test]
    fn another_encoders_blocks_decode_alike(
        lists in prop::collection::vec(
            prop::collection::vec(("[a-d]{1,8}|accept|cookie|:path", "[ -~]{0,40}"), 0..12), 1..5),
    ) {
        let (mut encoder, mut decoder) = (loona_hpack::Encoder::new(), Decoder::new());
        for list in lists {
            let block = encoder.encode(list.iter().map(|(n, v)| (n.as_bytes(), v.as_bytes())));
            let (_, fields) = decode(&mut decoder, &block, 1 << 20);
            let expected: Vec<_> =
                list.into_iter().map(|(n, v)| (Bytes::from(n), Bytes::from(v))).collect();
            prop_assert_eq!(fields, expected);
        }
    }

    #[test]
    fn any_bytes_decode_as_another_decoder_does_or_are_refused(
        block in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut ours = Vec::new();
        let decoded = Decoder::new()
            .decode(&block, 1 << 20, |n, v| ours.push((n.to_vec(), v.to_vec())));
        let mut other = loona_hpack::Decoder::new();
        other.set_max_allowed_table_size(4096);
        if decoded.is_ok() {
            prop_assert_eq!(Ok(ours), other.decode(&block));
        }
    }
}
