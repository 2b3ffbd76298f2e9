//! Heads that pass and heads that do not.

#![expect(clippy::unwrap_used, reason = "tests")]

use super::*;

fn head(fields: &[(&str, &str)]) -> Result<RequestHead, Malformed> {
    let mut builder = HeadBuilder::default();
    for (name, value) in fields {
        builder.field(name.to_string().into(), value.to_string().into());
    }
    builder.finish()
}

const GET: [(&str, &str); 4] =
    [(":method", "GET"), (":scheme", "http"), (":authority", "a.test"), (":path", "/")];

fn get_with(more: &[(&str, &str)]) -> Result<RequestHead, Malformed> {
    head(&[&GET, more].concat())
}

#[test]
fn ordinary_requests_pass() {
    assert_eq!(get_with(&[]).unwrap().authority, "a.test");
    let by_host = [(":method", "GET"), (":scheme", "http"), (":path", "/"), ("host", "b.test:81")];
    assert_eq!(head(&by_host).unwrap().authority, "b.test:81");
    let connect = head(&[(":method", "CONNECT"), (":authority", "a.test:443")]).unwrap();
    assert_eq!((connect.path.len(), connect.scheme), (0, None));
    let extended = head(&[
        (":method", "CONNECT"),
        (":protocol", "connect-udp"),
        (":scheme", "https"),
        (":path", "/.well-known/masque/udp/192.0.2.1/53/"),
        (":authority", "gateway-acme.test"),
    ]);
    assert_eq!(extended.unwrap().protocol.unwrap(), "connect-udp");
    assert_eq!(get_with(&[("content-length", "12")]).unwrap().content_length, Some(12));
    assert!(get_with(&[("te", "trailers")]).is_ok());
    assert!(
        head(&[(":method", "OPTIONS"), (":scheme", "http"), (":authority", "a"), (":path", "*")])
            .is_ok()
    );
}

#[test]
fn cookie_crumbs_become_one_cookie() {
    let crumbs = get_with(&[("cookie", "a=1"), ("x", "y"), ("cookie", "b=2")]).unwrap();
    let cookies: Vec<_> = crumbs.fields.all("cookie").collect();
    assert_eq!(cookies, ["a=1; b=2"]);
    assert_eq!(crumbs.fields.len(), 2);
}

#[test]
fn malformed_heads_are_refused() {
    use Malformed::*;
    let cases: &[(&[(&str, &str)], Malformed)] = &[
        (&[("X-Upper", "a")], Name),
        (&[("a b", "a")], Name),
        (&[("", "a")], Name),
        (&[("x", "a\r\nb: c")], Value),
        (&[("x", "a\0")], Value),
        (&[("x", " a")], Value),
        (&[("connection", "close")], ConnectionSpecific),
        (&[("transfer-encoding", "chunked")], ConnectionSpecific),
        (&[("upgrade", "h2c")], ConnectionSpecific),
        (&[("te", "gzip")], ConnectionSpecific),
        (&[("content-length", "1"), ("content-length", "2")], ContentLength),
        (&[("content-length", "+1")], ContentLength),
        (&[("content-length", "9999999999999999999")], ContentLength),
        (&[("host", "other.test")], HostDiffers),
        (&[("host", "a.test"), ("host", "a.test")], HostDiffers),
        (&[("x", "y"), (":path", "/late")], Pseudo),
        (&[(":path", "/twice")], Pseudo),
        (&[(":status", "200")], Pseudo),
        (&[(":protocol", "websocket")], PseudoSet),
    ];
    for (more, fault) in cases {
        assert_eq!(get_with(more).unwrap_err(), *fault, "{more:?}");
    }
}

#[test]
fn each_pseudo_header_is_needed_and_clean() {
    for (name, value) in [
        (":method", "GE T"),
        (":method", ""),
        (":scheme", "ht tp"),
        (":path", ""),
        (":path", "no-slash"),
        (":path", "/a b"),
        (":path", "/ HTTP/1.1\r\nx: y"),
        (":path", "*"),
        (":authority", "user@a.test"),
        (":authority", ""),
        (":authority", "a.test/x"),
    ] {
        let fields = GET.map(|(n, v)| if n == name { (n, value) } else { (n, v) });
        assert_eq!(head(&fields).unwrap_err(), Malformed::Pseudo, "{name} {value}");
    }
    for missing in 0..4 {
        let mut fields = GET.to_vec();
        fields.remove(missing);
        assert_eq!(head(&fields).unwrap_err(), Malformed::PseudoSet);
    }
    for extra in [(":scheme", "https"), (":path", "/")] {
        let fields = [(":method", "CONNECT"), (":authority", "a.test:443"), extra];
        assert_eq!(head(&fields).unwrap_err(), Malformed::PseudoSet);
    }
    assert_eq!(head(&[(":method", "CONNECT")]).unwrap_err(), Malformed::PseudoSet);
}

#[test]
fn trailers_neither_frame_nor_route() {
    assert!(check_trailer(b"grpc-status", b"0").is_ok());
    for name in ["content-length", "host", ":path", "transfer-encoding", "Upper"] {
        assert!(check_trailer(name.as_bytes(), b"1").is_err(), "{name}");
    }
}
