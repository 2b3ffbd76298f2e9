//! ClientHellos in pieces, and in disguise.
#![expect(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;

use super::*;

/// A ClientHello message with the given extensions.
fn message(extensions: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.push(32);
    body.extend([9; 32]);
    body.extend([0, 4, 0x13, 0x01, 0x0a, 0x0a, 1, 0]);
    let mut list = Vec::new();
    for (kind, data) in extensions {
        list.extend(kind.to_be_bytes());
        list.extend(sized(data));
    }
    body.extend(sized(&list));
    let mut message = vec![1];
    message.extend(u32::try_from(body.len()).unwrap().to_be_bytes().get(1..).unwrap());
    message.extend(body);
    message
}

/// Data with its length in two bytes before it.
fn sized(data: &[u8]) -> Vec<u8> {
    let mut sized = u16::try_from(data.len()).unwrap().to_be_bytes().to_vec();
    sized.extend(data);
    sized
}

/// A message in records of at most `step` bytes.
fn records(message: &[u8], step: usize) -> Vec<u8> {
    let mut stream = Vec::new();
    for piece in message.chunks(step) {
        stream.extend([22, 3, 1]);
        stream.extend(sized(piece));
    }
    stream
}

fn sni(name: &[u8]) -> (u16, Vec<u8>) {
    (0, sized(&[&[0], sized(name).as_slice()].concat()))
}

fn parse(extensions: &[(u16, Vec<u8>)]) -> Result<ClientHello, HelloProblem> {
    match ClientHelloReader::new().push(&records(&message(extensions), 4096)) {
        Progress::Done(hello) => Ok(*hello),
        Progress::NotTls(problem) => Err(problem),
        Progress::NeedMore => Err(HelloProblem::TooLong),
    }
}

fn read(stream: &[u8], step: usize) -> Progress {
    let mut reader = ClientHelloReader::new();
    let mut progress = Progress::NeedMore;
    for piece in stream.chunks(step) {
        progress = reader.push(piece);
        if progress != Progress::NeedMore {
            break;
        }
    }
    progress
}

#[test]
fn a_hello_says_what_it_offers() {
    let hello = parse(&[
        sni(b"WWW.Example.TEST."),
        (16, sized(b"\x02h2\x08http/1.1")),
        (43, vec![4, 0x1a, 0x1a, 3, 4]),
        (10, sized(&[0x11, 0xec, 0, 29])),
        (13, sized(&[4, 3, 8, 4])),
        (51, sized(&[0x11, 0xec, 0, 2, 1, 2, 0, 29, 0, 1, 5])),
        (0xfe0d, vec![0, 0, 1, 0, 1]),
        (0xff01, vec![0]),
    ])
    .unwrap();
    assert_eq!(hello.server_name(), Some("www.example.test"));
    assert!(hello.offers(b"h2") && hello.offers(b"http/1.1") && !hello.offers(b"h3"));
    assert_eq!(hello.supported_versions, [0x1a1a, 0x0304]);
    assert_eq!(hello.groups, [0x11ec, 29]);
    assert_eq!(hello.key_share_groups, [0x11ec, 29]);
    assert_eq!(hello.signature_algorithms, [0x0403, 0x0804]);
    assert_eq!(hello.cipher_suites, [0x1301, 0x0a0a]);
    assert_eq!(hello.extensions, [0, 16, 43, 10, 13, 51, 0xfe0d, 0xff01]);
    assert_eq!(hello.session_id, [9; 32]);
    assert_eq!(hello.ech, Ech::Outer);
}

#[test]
fn ct_06_a_hello_in_one_byte_records_and_segments_is_read() {
    let message = message(&[sni(b"a.test")]);
    let whole = read(&records(&message, 4096), 1 << 16);
    assert!(matches!(whole, Progress::Done(_)));
    for (record, segment) in [(1, 1), (1, 1 << 20), (3, 2), (4096, 1), (5, 7)] {
        assert_eq!(read(&records(&message, record), segment), whole, "{record} {segment}");
    }
}

#[test]
fn ct_08_what_is_no_hello_is_known_at_once() {
    let valid = records(&message(&[sni(b"a.test")]), 4096);
    for end in 0..valid.len() {
        assert_eq!(read(valid.get(..end).unwrap(), 5), Progress::NeedMore, "{end}");
    }
    let cases: [(&[u8], HelloProblem); 9] = [
        (b"GET / HTTP/1.1\r\n", HelloProblem::NotHandshake),
        (b"SSH-2.0", HelloProblem::NotHandshake),
        (b"\x15\x03\x01\x00\x02", HelloProblem::NotHandshake),
        (b"\x16\x02", HelloProblem::NotHandshake),
        (b"\x16\x03\x05", HelloProblem::NotHandshake),
        (b"\x16\x03\x01\x00\x00", HelloProblem::RecordLength),
        (b"\x16\x03\x01\x40\x01", HelloProblem::RecordLength),
        (b"\x16\x03\x01\x00\x04\x02", HelloProblem::NotClientHello),
        (b"\x16\x03\x01\x00\x04\x01\x01\x00\x00", HelloProblem::TooLong),
    ];
    for (bytes, problem) in cases {
        assert_eq!(read(bytes, 1), Progress::NotTls(problem), "{}", bytes.escape_ascii());
    }
    let interleaved = [&b"\x16\x03\x01\x00\x01\x01"[..], b"\x15\x03\x01\x00\x02\x01\x00"].concat();
    assert_eq!(read(&interleaved, 1), Progress::NotTls(HelloProblem::NotHandshake));
    let mut spent = ClientHelloReader::new();
    assert!(matches!(spent.push(b"X"), Progress::NotTls(_)));
    assert!(matches!(spent.push(&valid), Progress::NotTls(_)));
}

#[test]
fn ct_08_lengths_that_do_not_add_up_are_refused() {
    let broken: [(u16, Vec<u8>); 9] = [
        (16, vec![0, 3, 2, b'h']),
        (16, sized(&[0])),
        (16, [sized(b"\x02h2"), vec![0]].concat()),
        (43, vec![3, 3, 4, 3]),
        (43, vec![2, 3, 4, 0]),
        (10, sized(&[0])),
        (13, vec![]),
        (51, sized(&[0, 29, 0, 9, 1])),
        (51, sized(&[0])),
    ];
    for extension in broken {
        let case = format!("{extension:?}");
        assert_eq!(parse(&[extension]), Err(HelloProblem::Malformed), "{case}");
    }
    let twice = parse(&[sni(b"a.test"), sni(b"b.test")]);
    assert_eq!(twice, Err(HelloProblem::ExtensionRepeated));
}

#[test]
fn ct_10_server_names_are_canonical_or_refused() {
    let name = |text: &[u8]| parse(&[sni(text)]).unwrap().sni;
    for text in [&b"example.test"[..], b"EXAMPLE.test", b"example.test."] {
        assert_eq!(name(text), Sni::Name("example.test".into()));
    }
    for text in [&b"127.0.0.1"[..], b"2130706433", b"::1", b"0x7f.1", b"[::1]", b"1.2.3.4."] {
        assert_eq!(name(text), Sni::Invalid(SniProblem::Address), "{}", text.escape_ascii());
    }
    for text in [&b""[..], b"a\0.test", b"a..test", b".", b"a b", b"a.test:443", b"a/b", b"*.test"]
    {
        assert_eq!(name(text), Sni::Invalid(SniProblem::NotAName), "{}", text.escape_ascii());
    }
    let two = [&[0][..], &sized(b"a.test"), &[0], &sized(b"b.test")].concat();
    let two = parse(&[(0, sized(&two))]).unwrap().sni;
    assert_eq!(two, Sni::Invalid(SniProblem::Several));
    for data in [vec![], vec![0, 0], vec![0, 9, 0], sized(&[1, 0, 1, b'a']), vec![0, 4, 0, 0, 1]] {
        let sni = parse(&[(0, data)]).unwrap().sni;
        assert_eq!(sni, Sni::Invalid(SniProblem::Malformed));
    }
    assert_eq!(parse(&[]).unwrap().sni, Sni::Absent);
}

#[test]
fn ct_24_large_post_quantum_hellos_are_read() {
    let share = [&[0x11, 0xec][..], &sized(&[5; 1216])].concat();
    let hello = parse(&[(51, sized(&share)), (0xffce, vec![1; 15 << 10])]).unwrap();
    assert_eq!(hello.key_share_groups, [0x11ec]);
}

#[test]
fn pe_03_ech_is_noticed() {
    let ech = |data: &[u8]| parse(&[(0xfe0d, data.to_vec())]).unwrap().ech;
    assert_eq!(parse(&[]).unwrap().ech, Ech::Absent);
    assert_eq!(ech(&[0, 0, 1, 0, 1, 9, 0, 0, 0, 0]), Ech::Outer);
    assert_eq!(ech(&[1]), Ech::Inner);
    for data in [&[][..], &[0], &[2, 0], &[1, 0]] {
        assert_eq!(ech(data), Ech::Malformed);
    }
}

#[test]
fn hellos_without_extensions_are_read() {
    let mut old = message(&[]);
    old.truncate(old.len() - 2);
    *old.get_mut(3).unwrap() -= 2;
    assert!(matches!(read(&records(&old, 100), 9), Progress::Done(_)));
}

proptest! {
    #[test]
    fn a_hello_is_the_same_however_it_is_split(
        name in "[a-z]{1,20}\\.test",
        filler in 0_usize..3000,
        record in 1_usize..2000,
        segment in 1_usize..2000,
    ) {
        let message = message(&[sni(name.as_bytes()), (0xaaaa, vec![0; filler])]);
        let Progress::Done(hello) = read(&records(&message, record), segment) else {
            return Err(TestCaseError::fail("not read"));
        };
        prop_assert_eq!(hello.server_name(), Some(name.as_str()));
    }
}
