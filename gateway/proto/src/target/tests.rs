//! Hosts, authorities, targets and paths in hostile spellings.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::net::{IpAddr, Ipv4Addr};

use proptest::prelude::*;

use super::*;

fn host(text: &str) -> Result<Host, HostError> {
    Host::parse(text.as_bytes())
}

fn path(text: &str) -> String {
    canonical_path(text.as_bytes()).as_str().to_owned()
}

#[test]
fn sd_04_every_spelling_of_an_address_is_that_address() {
    let loopback = Host::Ip(IpAddr::V4(Ipv4Addr::LOCALHOST));
    for text in [
        "127.0.0.1",
        "2130706433",
        "0x7f.1",
        "0177.0.0.1",
        "127.1",
        "127.0.1",
        "0x7f000001",
        "017700000001",
        "0X7F.0.0.1",
        "127.0.0.1.",
        "0x7f.0x0.0x0.0x1",
        "[::ffff:127.0.0.1]",
        "[::FFFF:7f00:1]",
        "１２７.０.０.１",
        "127。0。0。1",
        "0000000177.0.0.1",
        "0177.0.0x.1",
    ] {
        assert_eq!(host(text).as_ref(), Ok(&loopback), "{text}");
    }
    assert_eq!(host("0"), Ok(Host::Ip(IpAddr::V4(Ipv4Addr::UNSPECIFIED))));
    for text in [
        "256.0.0.1",
        "1.2.3.4.5",
        "4294967296",
        "0x100000000",
        "1.2.3.256",
        "1.2.65536",
        "08.1",
        "1..2",
        "a.1",
        "a.0x",
        "1.2.3.0xg1.5",
        "+1.2.3.4",
        "1.2.3.+4",
        "99999999999999999999",
    ] {
        assert!(host(text).is_err(), "{text}");
    }
    assert_eq!(host("1.2.3.4a").unwrap().name(), Some("1.2.3.4a"));
    // Addresses that hide another are left to the guard, which judges what is dialled.
    assert!(host("[64:ff9b::7f00:1]").unwrap().ip().unwrap().is_ipv6());
}

#[test]
fn sd_16_hosts_are_canonical_or_refused() {
    for (text, fault) in [
        ("a%00.test", HostError::Character),
        ("a%2etest", HostError::Character),
        ("a@b.test", HostError::Character),
        ("a#b.test", HostError::Character),
        ("a\\b.test", HostError::Character),
        ("a\tb.test", HostError::Character),
        ("a\0.test", HostError::Character),
        ("a b.test", HostError::Character),
        ("a\u{e9}%41.test", HostError::Character),
        ("a,b.test", HostError::Character),
        ("*.test", HostError::Character),
        ("", HostError::Empty),
        (".", HostError::EmptyLabel),
        ("a..test", HostError::EmptyLabel),
        (".a.test", HostError::EmptyLabel),
        ("a.test..", HostError::EmptyLabel),
        ("xn--a.test", HostError::Idna),
        ("xn--\u{fffd}", HostError::Idna),
        ("[fe80::1%25lo]", HostError::ZoneId),
        ("[fe80::1%lo]", HostError::ZoneId),
        ("[::1", HostError::Ipv6),
        ("[]", HostError::Ipv6),
        ("[v1.a]", HostError::Ipv6),
        ("[1.2.3.4]", HostError::Ipv6),
    ] {
        assert_eq!(host(text), Err(fault), "{text:?}");
    }
    assert!(Host::parse(b"a\xff.test").is_err());
    let label = "a".repeat(63);
    assert!(host(&format!("{label}.test")).is_ok());
    assert_eq!(host(&format!("{label}a.test")), Err(HostError::TooLong));
    let long = "ab.".repeat(84);
    assert!(host(&long).is_ok());
    assert_eq!(host(&format!("{long}abc")), Err(HostError::TooLong));
    assert_eq!(host(&"a.".repeat(2000)), Err(HostError::TooLong));
}

#[test]
fn pe_07_one_host_has_one_form() {
    for text in [
        "example.test",
        "EXAMPLE.Test",
        "example.test.",
        "ｅｘａｍｐｌｅ.test",
        "example．test",
        "example。test",
        "exa\u{ad}mple.test",
    ] {
        assert_eq!(host(text).unwrap().name(), Some("example.test"), "{text}");
    }
    for text in ["bücher.test", "BÜCHER.test", "bu\u{308}cher.test", "XN--BCHER-KVA.test."] {
        assert_eq!(host(text).unwrap().name(), Some("xn--bcher-kva.test"), "{text}");
    }
    assert_eq!(host("r3---sn-x.a_b.test").unwrap().name(), Some("r3---sn-x.a_b.test"));
}

#[test]
fn pe_07_mixed_scripts_are_flagged() {
    for text in ["\u{430}pple.test", "www.p\u{430}ypal.test", "goog\u{4cf}e.test", "\u{3b1}bc.test"]
    {
        assert!(host(text).unwrap().is_mixed_script(), "{text}");
    }
    for text in [
        "apple.test",
        "bücher.test",
        "яндекс.test",
        "\u{65e5}\u{672c}abc.test",
        "한국.test",
        "ひらカタ漢字.test",
        "ελλάδα.test",
        "xn--80ak6aa92e.test",
        "a-1.яндекс.test",
    ] {
        assert!(!host(text).unwrap().is_mixed_script(), "{text}");
    }
}

#[test]
fn authorities_have_a_host_and_perhaps_a_port() {
    let parse = |text: &str| Authority::parse(text.as_bytes());
    assert_eq!(parse("A.test:0443").unwrap().to_string(), "a.test:443");
    assert_eq!(parse("[::1]:8443").unwrap().to_string(), "[::1]:8443");
    assert_eq!(parse("[::ffff:1.2.3.4]").unwrap().to_string(), "1.2.3.4");
    assert_eq!(parse("a.test").unwrap().port_or(443), 443);
    for text in ["u@a.test", "u:p@a.test:443", "a.test@b.test", "@a.test"] {
        assert_eq!(parse(text), Err(AuthorityError::Userinfo), "{text}");
    }
    for text in ["a:", "a:0", "a:65536", "a:+1", "a:1x", "a:000443", "a:1:2", "::1", "a: 1"] {
        assert_eq!(parse(text), Err(AuthorityError::Port), "{text}");
    }
    for text in ["", ":443", "[::1]x", "[::1]:", "a/b", "[::1"] {
        assert!(parse(text).is_err(), "{text}");
    }
}

#[test]
fn targets_have_four_forms() {
    let parse =
        |method: &str, text: &'static str| RequestTarget::parse(method.as_bytes(), text.as_bytes());
    let Ok(RequestTarget::Origin(resource)) = parse("GET", "/a?b?c") else {
        return assert!(parse("GET", "/a?b?c").is_ok(), "origin form");
    };
    assert_eq!((resource.path, resource.query), (&b"/a"[..], Some(&b"b?c"[..])));
    let absolute = parse("GET", "HTTPS://A.test:8443?x").unwrap();
    let resource = absolute.resource().unwrap();
    assert_eq!((resource.path, resource.query), (&b""[..], Some(&b"x"[..])));
    assert!(matches!(
        absolute,
        RequestTarget::Absolute { scheme: Scheme::Https, authority, .. }
            if authority.to_string() == "a.test:8443"
    ));
    assert!(matches!(parse("CONNECT", "a.test:443"), Ok(RequestTarget::Authority(_))));
    assert_eq!(parse("OPTIONS", "*"), Ok(RequestTarget::Asterisk));
    for (method, text, fault) in [
        ("GET", "*", TargetError::Form),
        ("GET", "", TargetError::Form),
        ("GET", "a.test", TargetError::Form),
        ("GET", "ftp://a.test/", TargetError::Scheme),
        ("GET", "/a#b", TargetError::Fragment),
        ("GET", "http://a.test\\@b.test/", TargetError::Form),
        ("GET", "http://u@a.test/", TargetError::Authority(AuthorityError::Userinfo)),
        ("GET", "http:///a", TargetError::Authority(AuthorityError::Host(HostError::Empty))),
        ("CONNECT", "a.test", TargetError::PortMissing),
        ("CONNECT", "/", TargetError::Authority(AuthorityError::Host(HostError::Character))),
    ] {
        assert_eq!(parse(method, text), Err(fault), "{method} {text}");
    }
}

#[test]
fn pe_08_paths_are_decoded_once_and_resolved() {
    for (text, canonical) in [
        ("/", "/"),
        ("", "/"),
        ("/a/b", "/a/b"),
        ("/a/b/", "/a/b/"),
        ("/a/../b", "/b"),
        ("/a/./b", "/a/b"),
        ("/a/.", "/a/"),
        ("/a/..", "/"),
        ("/../../a", "/a"),
        ("//a", "/a"),
        ("/a///b", "/a/b"),
        ("/a/%2e%2e/b", "/b"),
        ("/a/.%2E/b", "/b"),
        ("/%61dmin", "/admin"),
        ("/a%252e", "/a%2e"),
        ("/a\\b", "/a/b"),
        ("/a\\..\\b", "/b"),
        ("/a/..;x/b", "/b"),
        ("/a;x/b", "/a;x/b"),
        ("/a%2fb", "/a/b"),
        ("/a%2f..%2fb", "/b"),
        ("/a%5c..%5Cb", "/b"),
        ("/a%zz%4", "/a%zz%4"),
        ("/a%00b", "/a\u{fffd}b"),
        ("/caf%c3%a9", "/café"),
        ("/.a", "/.a"),
        ("/%c0%ae%c0%ae/a", "/\u{fffd}\u{fffd}\u{fffd}\u{fffd}/a"),
        ("/...", "/..."),
        ("/a%2f", "/a/"),
        ("/%", "/%"),
        ("/a/;/b", "/a/;/b"),
        ("/a.b/..c", "/a.b/..c"),
        ("a", "/a"),
    ] {
        assert_eq!(path(text), canonical, "{text}");
    }
}

#[test]
fn pe_08_what_is_unusual_about_a_path_is_marked() {
    let marks = |text: &str| canonical_path(text.as_bytes()).marks;
    assert_eq!(marks("/plain/path.html"), PathMarks::default());
    assert_eq!(marks("/caf%c3%a9%20x"), PathMarks::default());
    assert!(marks("/a/%2e").dot_segments && marks("/a/..;/").dot_segments);
    assert!(marks("/a//b").repeated_slash && !marks("/a/").repeated_slash);
    assert!(marks("/a\\b").backslash && marks("/a%5cb").backslash);
    assert!(marks("/a%2Fb").encoded_slash && marks("/a%5cb").encoded_slash);
    assert!(marks("/%252e").double_encoded && !marks("/100%25").double_encoded);
    assert!(marks("/%zz").bad_escape && marks("/a%2").bad_escape);
    assert!(marks("/%00").control && marks("/%0a").control);
    assert!(marks("/%ff").invalid_utf8 && !marks("/%ff").overlong);
    assert!(marks("/%c0%ae").overlong && marks("/%e0%80%af").invalid_utf8);
    assert!(marks("/a;b/c").parameters && marks("/a;").parameters);
}

#[test]
fn pe_08_an_encoded_slash_parts_the_text_but_not_the_segments() {
    let path = canonical_path(b"/api/projects/group%2Fname/../x%2f");
    assert_eq!(path.as_str(), "/api/projects/group/x/");
    let segments: Vec<&str> = path.segments().collect();
    assert_eq!(segments, ["api", "projects", "x/"]);
    assert_eq!(canonical_path(b"/a/b/").segments().collect::<Vec<_>>(), ["a", "b", ""]);
    assert_eq!(path.clone().into_owned(), path);
}

proptest! {
    #[test]
    fn a_canonical_host_is_its_own_canonical_form(text in "[a-zA-Z0-9.üßа。・-]{1,30}") {
        if let Ok(host) = Host::parse(text.as_bytes()) {
            prop_assert_eq!(Host::parse(host.to_string().as_bytes()), Ok(host));
        }
    }

    #[test]
    fn no_canonical_path_holds_a_dot_segment(
        text in prop::collection::vec(
            prop::sample::select(vec!["/", ".", "..", "%2e", "%2F", "\\", "a", ";", "%5c", "%c3"]),
            0..12,
        ),
    ) {
        let text = text.concat();
        let path = canonical_path(text.as_bytes());
        prop_assert!(path.as_str().starts_with('/'));
        prop_assert!(!path.as_str().contains("//"));
        let mut segments = path.as_str().split('/');
        let odd = segments.any(|it| matches!(it.split(';').next(), Some("." | "..")));
        prop_assert!(!odd, "{} -> {}", text, path.as_str());
    }

    #[test]
    fn any_bytes_have_a_canonical_path(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let path = canonical_path(&bytes);
        prop_assert!(!path.as_str().chars().any(|it| it.is_ascii_control()));
    }
}
