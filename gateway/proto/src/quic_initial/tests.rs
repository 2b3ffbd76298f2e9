#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use proptest::prelude::*;

use super::*;

const DESTINATION: [u8; 8] = [0x83, 0x94, 0xc8, 0xf0, 0x3e, 0x51, 0x57, 0x08];

/// The CRYPTO frame of RFC 9001 appendix A.2, which RFC 9369 appendix A.2 uses too.
const CRYPTO: &str = "060040f1010000ed0303ebf8fa56f12939b9584a3896472ec40bb863cfd3e868\
    04fe3a47f06a2b69484c00000413011302010000c000000010000e00000b6578\
    616d706c652e636f6dff01000100000a00080006001d00170018001000070005\
    04616c706e000500050100000000003300260024001d00209370b2c9caa47fba\
    baf4559fedba753de171fa71f50f1ce15d43e994ec74d748002b000302030400\
    0d0010000e0403050306030203080408050806002d00020101001c0002400100\
    3900320408ffffffffffffffff05048000ffff07048000ffff08011001048000\
    75300901100f088394c8f03e51570806048000ffff";

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<_> = hex.bytes().map(|digit| char::from(digit).to_digit(16).unwrap()).collect();
    digits.chunks(2).map(|pair| u8::try_from(pair[0] << 4 | pair[1]).unwrap()).collect()
}

fn crypto_frame(offset: usize, data: &[u8]) -> Vec<u8> {
    let two = |value: usize| u16::try_from(value | 0x4000).unwrap().to_be_bytes();
    [&[6][..], &two(offset), &two(data.len()), data].concat()
}

/// The message inside [`CRYPTO`].
fn hello() -> Vec<u8> {
    bytes(CRYPTO)[4..].to_vec()
}

/// A datagram of one Initial packet with these frames, padded to 1200 bytes.
fn datagram(version: Version, number: u32, frames: &[u8]) -> Vec<u8> {
    initial(version, &DESTINATION, number, frames, 1162)
}

fn initial(version: Version, to: &[u8], number: u32, frames: &[u8], padded: usize) -> Vec<u8> {
    let mut payload = frames.to_vec();
    payload.resize(padded.max(frames.len()), 0);
    write_initial(version, to, number, &payload).unwrap()
}

fn done(progress: &Progress) -> &ClientHello {
    let Progress::Done(hello) = progress else { unreachable_progress(progress) };
    hello
}

#[expect(clippy::panic, reason = "tests")]
fn unreachable_progress(progress: &Progress) -> ! {
    panic!("not done: {progress:?}")
}

#[test]
fn published_packets_are_read_in_both_versions() {
    let published = [
        (
            Version::V1,
            "c000000001088394c8f03e5157080000449e7b9aec34d1b1c98dd7689fb8ec11",
            "e221af44860018ab0856972e194cd934",
        ),
        (
            Version::V2,
            "d76b3343cf088394c8f03e5157080000449ea0c95e82ffe67b6abcdb4298b485",
            "a18b2faa745b6fe189cf772a9f84cbfc",
        ),
    ];
    for (version, head, tag) in published {
        let packet = datagram(version, 2, &bytes(CRYPTO));
        // The tag stands for all between.
        assert!(packet.starts_with(&bytes(head)) && packet.ends_with(&bytes(tag)), "{version:?}");
        let mut reader = InitialReader::new();
        let progress = reader.push(&packet);
        assert_eq!(done(&progress).server_name(), Some("example.com"));
        assert!(done(&progress).offers(b"alpn"));
        assert_eq!(reader.version(), Some(version));
    }
}

#[test]
fn a_hello_is_joined_from_pieces_in_any_order_over_packets_and_datagrams() {
    let hello = hello();
    let piece = |from: usize, to: usize| crypto_frame(from, &hello[from..to]);
    let shuffled = [piece(200, hello.len()), vec![1, 0, 0], piece(50, 120)].concat();
    let mut reader = InitialReader::new();
    assert_eq!(reader.push(&datagram(Version::V1, 0, &shuffled)), Progress::NeedMore);
    let twice = initial(Version::V1, &DESTINATION, 1, &piece(100, 160), 500);
    let twice = [twice, initial(Version::V1, &DESTINATION, 2, &piece(0, 50), 700)].concat();
    assert_eq!(reader.push(&twice), Progress::NeedMore);
    let last = datagram(Version::V1, 3, &piece(150, 220));
    assert_eq!(done(&reader.push(&last)).server_name(), Some("example.com"));
    // Sent again after that, it is still the same connection.
    assert!(matches!(reader.push(&last), Progress::Done(_)));
    let acknowledged = [&[2, 5, 0, 1, 1, 0, 0][..], &[3, 5, 0, 0, 1, 7, 7, 7]].concat();
    assert!(matches!(reader.push(&datagram(Version::V1, 300, &acknowledged)), Progress::Done(_)));
}

#[test]
fn another_connection_is_told_apart() {
    let mut reader = InitialReader::new();
    let frames = bytes(CRYPTO);
    assert!(matches!(reader.push(&datagram(Version::V1, 0, &frames)), Progress::Done(_)));
    let other = initial(Version::V1, &[7; 9], 0, &frames, 1162);
    assert_eq!(reader.push(&other), Progress::NotInitial(InitialProblem::Sealed));
    let changed = datagram(Version::V2, 1, &frames);
    assert_eq!(reader.push(&changed), Progress::NotInitial(InitialProblem::Sealed));
    // Alone it is a connection of its own.
    assert!(matches!(InitialReader::new().push(&other), Progress::Done(_)));
}

#[test]
fn two_contents_for_the_same_bytes_are_refused() {
    let hello = hello();
    let mut reader = InitialReader::new();
    let first = datagram(Version::V1, 0, &crypto_frame(0, &hello[..100]));
    assert_eq!(reader.push(&first), Progress::NeedMore);
    let mut other = hello;
    other[99] ^= 1;
    let second = datagram(Version::V1, 1, &crypto_frame(90, &other[90..]));
    assert_eq!(reader.push(&second), Progress::NotInitial(InitialProblem::Contradiction));
}

#[test]
fn what_is_no_initial_is_refused() {
    let frames = bytes(CRYPTO);
    let good = datagram(Version::V1, 0, &frames);
    let changed = |at: usize, byte: u8| {
        let mut packet = good.clone();
        packet[at] = byte;
        packet
    };
    let sealed = |frames: &[u8]| datagram(Version::V1, 0, frames);
    let mut many = Vec::new();
    for at in 0..=PARTS_MAX {
        many.extend(crypto_frame(2 * at + 1, b"x"));
    }
    let cases: [(Vec<u8>, InitialProblem); 15] = [
        (b"".to_vec(), InitialProblem::NotLong),
        (good[..10].to_vec(), InitialProblem::NotLong),
        (changed(0, 0x43), InitialProblem::NotLong),
        (changed(1, 0x1a), InitialProblem::Version),
        (changed(5, 255), InitialProblem::Header),
        (changed(5, 21), InitialProblem::Header),
        (changed(0, 0x80), InitialProblem::Header),
        (good[..1100].to_vec(), InitialProblem::Header),
        (initial(Version::V1, &DESTINATION, 0, &frames, 900), InitialProblem::Short),
        (initial(Version::V1, &[1; 7], 0, &frames, 1170), InitialProblem::Destination),
        (changed(1000, good[1000] ^ 1), InitialProblem::Sealed),
        (sealed(&[0x08, 0, 0]), InitialProblem::Frame),
        (sealed(&crypto_frame(0, &[2])), InitialProblem::Hello(HelloProblem::NotClientHello)),
        (sealed(&crypto_frame(0x3f00, &[0; 300])), InitialProblem::TooLong),
        (sealed(&many), InitialProblem::TooLong),
    ];
    for (bytes, problem) in cases {
        let progress = InitialReader::new().push(&bytes);
        assert_eq!(progress, Progress::NotInitial(problem));
    }
}

#[test]
fn a_hello_that_never_ends_is_given_up() {
    let mut reader = InitialReader::new();
    for number in 0..PACKETS_MAX {
        let ping = datagram(Version::V1, u32::try_from(number).unwrap(), &[1]);
        assert_eq!(reader.push(&ping), Progress::NeedMore);
    }
    let ping = datagram(Version::V1, 99, &[1]);
    assert_eq!(reader.push(&ping), Progress::NotInitial(InitialProblem::TooLong));
    let mut reader = InitialReader::new();
    let long = datagram(Version::V1, 0, &crypto_frame(0, &[1, 1, 0, 0]));
    assert_eq!(reader.push(&long), Progress::NotInitial(InitialProblem::TooLong));
}

#[test]
fn an_unknown_version_is_answered_with_the_known_one() {
    let mut asked = vec![0xc0, 0x1a, 0x2a, 0x3a, 0x4a, 3, 1, 2, 3, 2, 8, 9];
    assert_eq!(version_negotiation(&asked), None, "too short to be answered");
    asked.resize(1200, 0);
    let answer = version_negotiation(&asked).unwrap();
    assert_eq!(answer, [0xc0, 0, 0, 0, 0, 2, 8, 9, 3, 1, 2, 3, 0, 0, 0, 1]);
    assert_eq!(version_negotiation(&datagram(Version::V1, 0, &[1])), None);
    let mut answer_to_nobody = answer;
    answer_to_nobody.resize(1200, 0);
    assert_eq!(version_negotiation(&answer_to_nobody), None);
}

proptest! {
    /// However the hello is cut, shuffled, repeated and spread over packets, it is the same.
    #[test]
    fn any_cut_in_any_order_gives_the_same_hello(
        mut cuts in prop::collection::vec(1..240_usize, 0..12),
        order in Just((0..13).collect::<Vec<usize>>()).prop_shuffle(),
        again in prop::collection::vec(0..13_usize, 0..4),
    ) {
        let hello = hello();
        cuts.extend([0, hello.len()]);
        cuts.sort_unstable();
        let pieces: Vec<_> = cuts.windows(2).map(|pair| (pair[0], pair[1])).collect();
        let whole = ClientHello::parse(&hello[4..]).unwrap();
        let mut reader = InitialReader::new();
        let mut last = Progress::NeedMore;
        let sent = again.into_iter().chain(order).filter_map(|at| pieces.get(at));
        for (number, (from, to)) in sent.enumerate() {
            let frames = [crypto_frame(*from, &hello[*from..*to]), vec![1]].concat();
            last = reader.push(&datagram(Version::V1, u32::try_from(number).unwrap(), &frames));
        }
        prop_assert_eq!(last, Progress::Done(Box::new(whole)));
    }

    /// A packet that was changed anywhere is nobody's: nothing of it is believed.
    #[test]
    fn a_changed_packet_says_nothing(at in 0..1_200_usize, bit in 0..8_u8) {
        let mut packet = datagram(Version::V1, 0, &bytes(CRYPTO));
        let at = at % packet.len();
        packet[at] ^= 1 << bit;
        let progress = InitialReader::new().push(&packet);
        prop_assert!(!matches!(progress, Progress::Done(_)), "bit {} of byte {}", bit, at);
    }
}
