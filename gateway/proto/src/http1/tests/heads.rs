//! Heads: request and status lines, fields, Host, hop-by-hop fields, and writing them again.

use proptest::prelude::*;

use super::*;

#[test]
fn a_plain_request_is_read_as_it_came() {
    let head =
        request(b"GET /a?b=%20 HTTP/1.1\r\nHost: A.test:8080\r\nX-Y:  z \t\r\n\r\n").unwrap();
    assert_eq!(head.method.as_ref(), b"GET");
    assert_eq!(head.target.as_ref(), b"/a?b=%20");
    assert_eq!(head.version, Version::Http11);
    assert_eq!(head.fields.text("x-y"), Some("z"));
    assert!(head.persistent());
}

#[test]
fn a_plain_response_is_read_as_it_came() {
    let head = response(b"HTTP/1.1 404 Not \xc3\xa4 Found\r\nA:\r\n\r\n").unwrap();
    assert_eq!((head.status, head.reason.as_ref()), (404, &b"Not \xc3\xa4 Found"[..]));
    assert_eq!(head.fields.text("a"), Some(""));
    assert_eq!(response(b"HTTP/1.1 200\r\n\r\n").unwrap().reason.as_ref(), b"");
    assert!(response(b"HTTP/1.1 103 Early Hints\r\n\r\n").unwrap().is_interim());
    assert!(!response(b"HTTP/1.1 101 Switching\r\n\r\n").unwrap().is_interim());
}

#[test]
fn status_lines_with_another_shape_are_refused() {
    for line in [
        "HTTP/1.1 20",
        "HTTP/1.1 2000",
        "HTTP/1.1 99 x",
        "HTTP/1.1 099 x",
        "HTTP/1.1  200 OK",
        "HTTP/1.1 200\tOK",
        "HTTP/1.1",
        "ICY 200 OK",
        "http/1.1 200 OK",
        "HTTP/2.0 200 OK",
        "HTTP/1.1 +20 OK",
        "HTTP/1.1 200 O\x0bK",
        "",
    ] {
        assert!(response(format!("{line}\r\nA: b\r\n\r\n").as_bytes()).is_err(), "{line:?}");
    }
}

#[test]
fn h1_07_bare_lf_bare_cr_nul_and_controls_are_refused() {
    let cases: [(&[u8], Malformed); 12] = [
        (b"GET / HTTP/1.1\nHost: a.test\r\n\r\n", Malformed::BareLf),
        (b"GET / HTTP/1.1\r\nHost: a.test\n\r\n", Malformed::BareLf),
        (b"GET / HTTP/1.1\r\nHost: a.test\r\n\n", Malformed::BareLf),
        (b"\nGET / HTTP/1.1\r\nHost: a.test\r\n\r\n", Malformed::BareLf),
        (b"GET / HTTP/1.1\rHost: a.test\r\n\r\n", Malformed::BareCr),
        (b"GET / HTTP/1.1\r\nHost: a.test\rX: y\r\n\r\n", Malformed::BareCr),
        (b"GET / HTTP/1.1\r\nHost: a.test\r\nX: \ry\r\n\r\n", Malformed::BareCr),
        (b"GET / HTTP/1.1\r\nHost: a.test\r\nX\r: y\r\n\r\n", Malformed::BareCr),
        (b"GET / HTTP/1.1\r\nHost: a.test\r\nX: a\0b\r\n\r\n", Malformed::ControlCharacter),
        (b"GET / HTTP/1.1\r\nHost: a.test\r\nX: a\x0bb\r\n\r\n", Malformed::ControlCharacter),
        (b"GET / HTTP/1.1\r\nHost: a.test\r\nX\0: b\r\n\r\n", Malformed::ControlCharacter),
        (b"GET /\x7f HTTP/1.1\r\nHost: a.test\r\n\r\n", Malformed::ControlCharacter),
    ];
    for (text, fault) in cases {
        assert_eq!(request(text), Err(fault), "{}", text.escape_ascii());
    }
}

#[test]
fn h1_08_folded_fields_are_refused() {
    for fields in ["X: a\r\n b\r\n", "X: a\r\n\tb\r\n", "X:\r\n a\r\n", "X: a\r\n \r\n"] {
        assert_eq!(request(&with_fields(fields)), Err(Malformed::ObsFold), "{fields:?}");
    }
    assert_eq!(request(b"GET / HTTP/1.1\r\n Host: a.test\r\n\r\n"), Err(Malformed::ObsFold));
    assert_eq!(response(b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n"), Err(Malformed::ObsFold));
}

#[test]
fn h1_09_field_names_are_tokens_right_before_their_colon() {
    for (fields, fault) in [
        ("X : a\r\n", Malformed::SpaceBeforeColon),
        ("X\t: a\r\n", Malformed::SpaceBeforeColon),
        (": a\r\n", Malformed::FieldName),
        ("X Y: a\r\n", Malformed::FieldName),
        ("X(: a\r\n", Malformed::FieldName),
        ("X\u{e9}: a\r\n", Malformed::FieldName),
        ("X\r\n", Malformed::NoColon),
        ("X a\r\n", Malformed::NoColon),
    ] {
        assert_eq!(request(&with_fields(fields)), Err(fault), "{fields:?}");
    }
    let head = request(&with_fields("Content_Length: 7\r\n")).unwrap();
    assert_eq!(request_body(&head), Ok(BodyLength::None));
    assert_eq!(head.fields.text("content_length"), Some("7"));
    assert!(!head.fields.has("content-length"));
}

#[test]
fn h1_10_host_is_there_once_and_names_a_host() {
    let with_host = |hosts: &str| request(format!("GET / HTTP/1.1\r\n{hosts}\r\n").as_bytes());
    assert_eq!(with_host(""), Err(Malformed::HostMissing));
    assert_eq!(with_host("Host: a.test\r\nhost: a.test\r\n"), Err(Malformed::HostRepeated));
    for value in [
        "",
        " ",
        "a.test, b.test",
        "user@a.test",
        "a.test/x",
        "a.test?x",
        "a.test#x",
        "a.test:",
        "a.test:x",
        "a.test:99999",
        "a.test:-1",
        "http://a.test",
        "a test",
        "a%00.test",
        "[::1",
        "[fe80::1%25lo]",
        "a..test",
        "a\\b",
        "b\u{fc}cher.test",
    ] {
        let text = format!("Host: {value}\r\n");
        assert_eq!(with_host(&text), Err(Malformed::HostInvalid), "{value:?}");
    }
    assert!(request(b"GET / HTTP/1.0\r\n\r\n").is_ok());
    assert_eq!(request(b"GET / HTTP/1.0\r\nHost:\r\n\r\n"), Err(Malformed::HostInvalid));
    assert!(with_host("Host: [::1]:443\r\n").is_ok());
    assert!(with_host("Host: a_b.test.\r\n").is_ok());
}

#[test]
fn h1_12_connect_and_trace_are_parsed_for_the_caller_to_decide() {
    let head = request(b"CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n").unwrap();
    assert_eq!(head.method.as_ref(), b"CONNECT");
    for target in ["a.test", "/", "*", "http://a.test/", "a.test:443/", "u@a.test:443", ":443"] {
        let text = format!("CONNECT {target} HTTP/1.1\r\nHost: a.test\r\n\r\n");
        assert_eq!(request(text.as_bytes()), Err(Malformed::Target), "{target:?}");
    }
    assert!(request(b"TRACE / HTTP/1.1\r\nHost: a.test\r\n\r\n").is_ok());
}

#[test]
fn h1_14_other_versions_are_refused() {
    for (version, fault) in [
        ("HTTP/1.2", Malformed::VersionUnsupported),
        ("HTTP/2.0", Malformed::VersionUnsupported),
        ("HTTP/0.9", Malformed::VersionUnsupported),
        ("http/1.1", Malformed::VersionSyntax),
        ("HTTP/1", Malformed::VersionSyntax),
        ("HTTP/1.10", Malformed::VersionSyntax),
        ("HTTP/01.1", Malformed::VersionSyntax),
        ("HTTP/1.1 ", Malformed::RequestLine),
        (" HTTP/1.1", Malformed::RequestLine),
        ("HTTP/1.1\t", Malformed::ControlCharacter),
    ] {
        let text = format!("GET / {version}\r\nHost: a.test\r\n\r\n");
        assert_eq!(request(text.as_bytes()), Err(fault), "{version:?}");
    }
    assert_eq!(request(b"GET /\r\n\r\n"), Err(Malformed::RequestLine));
    assert_eq!(Malformed::VersionUnsupported.status(), 505);
}

#[test]
fn methods_and_targets_with_another_shape_are_refused() {
    for (line, fault) in [
        ("G(T /", Malformed::Method),
        (" /", Malformed::Method),
        ("GET /a#b", Malformed::Fragment),
        ("GET /a\u{e9}", Malformed::Target),
        ("GET a", Malformed::Target),
        ("GET *", Malformed::Target),
        ("GET ?a", Malformed::Target),
        ("GET //\t", Malformed::ControlCharacter),
    ] {
        let text = format!("{line} HTTP/1.1\r\nHost: a.test\r\n\r\n");
        assert_eq!(request(text.as_bytes()), Err(fault), "{line:?}");
    }
    assert!(request(b"OPTIONS * HTTP/1.1\r\nHost: a.test\r\n\r\n").is_ok());
    assert!(request(b"GET /{a}|\"b\" HTTP/1.1\r\nHost: a.test\r\n\r\n").is_ok());
}

#[test]
fn h1_22_what_is_too_long_is_refused_with_its_own_status() {
    let long = "x".repeat(200 << 10);
    let many = "X: y\r\n".repeat(10_000);
    for (text, fault, status) in [
        (format!("GET /{long} HTTP/1.1\r\n\r\n"), Malformed::TargetTooLong, 414),
        (format!("GET /{long}"), Malformed::TargetTooLong, 414),
        (format!("{long} / HTTP/1.1\r\n\r\n"), Malformed::MethodTooLong, 400),
        (long.clone(), Malformed::MethodTooLong, 400),
        (format!("{} / HTTP/1.1\r\n\r\n", "M".repeat(33)), Malformed::MethodTooLong, 400),
        (format!("GET / HTTP/1.1\r\nX: {long}\r\n\r\n"), Malformed::HeadTooLarge, 431),
        (format!("GET / HTTP/1.1\r\nX: {long}"), Malformed::HeadTooLarge, 431),
        (format!("GET / HTTP/1.1\r\nHost: a.test\r\n{many}\r\n"), Malformed::TooManyFields, 431),
    ] {
        assert_eq!(request(text.as_bytes()), Err(fault));
        assert_eq!(fault.status(), status);
    }
}

#[test]
fn h1_22_limits_are_exact() {
    let fields = |count: usize| with_fields(&"X: y\r\n".repeat(count - 1));
    assert!(request(&fields(Limits::REQUEST.fields)).is_ok());
    assert_eq!(request(&fields(Limits::REQUEST.fields + 1)), Err(Malformed::TooManyFields));
    let target = |bytes: usize| {
        format!("GET /{} HTTP/1.1\r\nHost: a.test\r\n\r\n", "x".repeat(bytes - 1)).into_bytes()
    };
    assert!(request(&target(Limits::REQUEST.target_bytes)).is_ok());
    assert_eq!(request(&target(Limits::REQUEST.target_bytes + 1)), Err(Malformed::TargetTooLong));
    let empty = with_fields("X: \r\n").len();
    let head = |bytes: usize| with_fields(&format!("X: {}\r\n", "y".repeat(bytes - empty)));
    assert!(request(&head(Limits::REQUEST.head_bytes)).is_ok());
    assert_eq!(request(&head(Limits::REQUEST.head_bytes + 1)), Err(Malformed::HeadTooLarge));
}

#[test]
fn h1_23_response_heads_have_their_own_bounds() {
    let cookies = |count: usize| {
        format!("HTTP/1.1 200 OK\r\n{}\r\n", "Set-Cookie: a=b\r\n".repeat(count)).into_bytes()
    };
    assert!(response(&cookies(1000)).is_ok());
    assert_eq!(response(&cookies(10_000)), Err(Malformed::TooManyFields));
    let large = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "y".repeat(1 << 20));
    assert_eq!(response(large.as_bytes()), Err(Malformed::HeadTooLarge));
}

#[test]
fn h1_13_pipelined_requests_come_out_in_order() {
    let mut buffer = BytesMut::new();
    for number in 0..100 {
        let text = format!("\r\nGET /{number} HTTP/1.1\r\nHost: a.test\r\n\r\n");
        buffer.extend_from_slice(text.as_bytes());
    }
    let mut reader = HeadReader::new();
    for number in 0..100 {
        let head = reader.request(&mut buffer, &Limits::REQUEST).unwrap().unwrap();
        assert_eq!(head.target, format!("/{number}"));
    }
    assert!(buffer.is_empty());
    assert_eq!(request(b"\r\n\r\nGET / HTTP/1.1\r\n\r\n"), Err(Malformed::RequestLine));
}

#[test]
fn h1_24_a_connection_option_cannot_remove_what_we_judge_by() {
    let mut fields = request(&with_fields(
        "Connection: x-tenant, authorization, close, host, content-length\r\n\
         Connection: cookie\r\nX-Tenant: 1\r\nAuthorization: b\r\nCookie: c\r\n\
         Content-Length: 0\r\nProxy-Authorization: p\r\nKeep-Alive: 5\r\nTE: gzip, trailers\r\n\
         Upgrade: h2c\r\nHTTP2-Settings: A\r\nProxy-Connection: close\r\nAccept: d\r\n",
    ))
    .unwrap()
    .fields;
    assert_eq!(hop_by_hop(&fields).count(), 9);
    strip_hop_by_hop(&mut fields);
    let names: Vec<&[u8]> = fields.iter().map(|field| field.name.as_ref()).collect();
    let kept: [&[u8]; 6] =
        [b"Host", b"Authorization", b"Cookie", b"Content-Length", b"TE", b"Accept"];
    assert_eq!(names, kept);
    assert_eq!(fields.text("te"), Some("trailers"));
}

#[test]
fn a_replaced_value_keeps_its_fields_place_and_spelling() {
    let mut fields =
        request(&with_fields("a: 1\r\nX-Two: 2\r\nx-two: 3\r\nb: 4\r\n")).unwrap().fields;
    fields.set("x-two", "5");
    fields.set("x-new", "6");
    let all: Vec<(&[u8], &[u8])> =
        fields.iter().skip(1).map(|field| (&field.name[..], &field.value[..])).collect();
    let wanted: [(&[u8], &[u8]); 4] =
        [(b"a", b"1"), (b"X-Two", b"5"), (b"b", b"4"), (b"x-new", b"6")];
    assert_eq!(all, wanted);
}

#[test]
fn persistence_follows_version_and_connection() {
    let persistent = |text: &str| request(text.as_bytes()).unwrap().persistent();
    assert!(persistent("GET / HTTP/1.1\r\nHost: a\r\n\r\n"));
    assert!(!persistent("GET / HTTP/1.1\r\nHost: a\r\nConnection: x, Close\r\n\r\n"));
    assert!(!persistent("GET / HTTP/1.0\r\n\r\n"));
    assert!(persistent("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"));
    assert!(!persistent("GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n"));
}

#[test]
fn secrets_do_not_show_in_debug_output() {
    let head =
        request(b"GET /?token=hunter2 HTTP/1.1\r\nHost: a.test\r\nAuthorization: hunter2\r\n\r\n")
            .unwrap();
    assert!(!format!("{head:?} {:?}", head.fields).contains("hunter2"));
}

#[test]
fn nothing_that_would_end_a_line_is_written() {
    let good = request(&with_fields("X: y\r\n")).unwrap();
    let mut output = BytesMut::new();
    for value in ["a\r\nX: y", "a\nb", "a\rb", "a\0b"] {
        let mut head = good.clone();
        head.fields.push("X-Carried", value.to_owned());
        assert!(write_request_head(&head, &mut output).is_err(), "{value:?}");
    }
    for name in ["", "a b", "a:b", "a\r\nb"] {
        let mut head = good.clone();
        head.fields.push(name.to_owned(), "v");
        assert!(write_request_head(&head, &mut output).is_err(), "{name:?}");
    }
    for target in ["", "/ HTTP/1.1\r\nX: y", "/a b"] {
        let head = RequestHead { target: target.to_owned().into(), ..good.clone() };
        assert!(write_request_head(&head, &mut output).is_err(), "{target:?}");
    }
    let head = RequestHead { method: "GET /".into(), ..good };
    assert!(write_request_head(&head, &mut output).is_err());
    assert!(output.is_empty());
}

proptest! {
    #[test]
    fn a_head_is_the_same_however_it_is_split(
        names in prop::collection::vec("[A-Za-z-]{1,12}", 0..8),
        values in prop::collection::vec("[ -~\t]{0,20}", 8),
        step in 1_usize..9,
    ) {
        let fields: String =
            names.iter().zip(&values).map(|(name, value)| format!("X{name}: {value}\r\n")).collect();
        let text = [with_fields(&fields), b"left over".to_vec()].concat();
        let mut whole = BytesMut::from(text.as_slice());
        let expected = parse_request(&mut whole, &Limits::REQUEST).unwrap().unwrap();
        prop_assert_eq!(whole.as_ref(), b"left over");

        let mut reader = HeadReader::new();
        let mut buffer = BytesMut::new();
        let mut head = None;
        for piece in text.chunks(step) {
            buffer.extend_from_slice(piece);
            if head.is_none() {
                head = reader.request(&mut buffer, &Limits::REQUEST).unwrap();
            }
        }
        prop_assert!(head.as_ref() == Some(&expected));
        prop_assert_eq!(buffer.as_ref(), b"left over");

        let mut written = BytesMut::new();
        write_request_head(&expected, &mut written).unwrap();
        prop_assert!(parse_request(&mut written, &Limits::REQUEST).unwrap() == Some(expected));
    }

    #[test]
    fn what_is_read_httparse_reads_alike(
        seed in prop::collection::vec(0_usize..12, 1..24),
    ) {
        let pieces = [
            "GET / HTTP/1.1\r\n", "Host: a.test\r\n", "X: y\r\n", "\r\n", " ", ":", "\n", "A",
            "\t", "Content-Length: 1\r\n", "\r", "\u{e9}",
        ];
        let tail: String = seed.iter().filter_map(|at| pieces.get(*at)).copied().collect();
        let text = format!("GET / HTTP/1.1\r\nHost: a.test\r\n{tail}");
        let mut buffer = BytesMut::from(text.as_bytes());
        if let Ok(Some(head)) = parse_request(&mut buffer, &Limits::REQUEST) {
            let mut storage = [httparse::EMPTY_HEADER; 32];
            let mut theirs = httparse::Request::new(&mut storage);
            let end = theirs.parse(text.as_bytes()).unwrap().unwrap();
            prop_assert_eq!(end, text.len() - buffer.len());
            prop_assert_eq!(theirs.headers.len(), head.fields.len());
            for (our, their) in head.fields.iter().zip(theirs.headers.iter()) {
                prop_assert_eq!(our.name.as_ref(), their.name.as_bytes());
                prop_assert_eq!(our.value.as_ref(), their.value);
            }
        }
    }
}
