//! Odd but legal: what works direct works through.

use bytes::Bytes;
use tests::origin::Answer;
use tests::origin::manual::Manual;
use tests::{BoxStream, Gateway, Http, Origin, Request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const BOTH: [Http; 2] = [Http::One, Http::Two];

/// Sends raw bytes inside a decrypted HTTP/1.1 connection and reads until it ends or `until` came.
async fn raw(gateway: &Gateway, url: &str, sent: &[u8], until: &str) -> String {
    let inner = gateway.browser().http(Http::One).connect(url).await.unwrap();
    let (mut stream, _) = inner.into_stream().unwrap();
    stream.write_all(sent).await.unwrap();
    stream.flush().await.unwrap();
    read_until(&mut stream, until).await
}

async fn read_until(stream: &mut BoxStream, until: &str) -> String {
    let mut read = Vec::new();
    let reading = async {
        while stream.read_buf(&mut read).await.unwrap_or(0) > 0 {
            if String::from_utf8_lossy(&read).contains(until) {
                break;
            }
        }
    };
    let limit = std::time::Duration::from_secs(20);
    assert!(tokio::time::timeout(limit, reading).await.is_ok(), "no end of the answer");
    String::from_utf8_lossy(&read).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_kib_of_cookies_pass() {
    for alpn in ["http/1.1", "h2"] {
        let origin = Origin::build().alpn(&[alpn]).start().await;
        let gateway = Gateway::start(&origin);
        let crumb = "c".repeat(4_000);
        let cookie: Vec<_> = (0..16).map(|i| format!("a{i}={crumb}")).collect();
        let cookie = cookie.join("; ");
        assert!(cookie.len() > 64_000);
        for http in BOTH {
            let request = Request::get("/").field("cookie", &cookie);
            let browser = gateway.browser().http(http);
            let reply = browser.send(&origin.url("site.test", "/hello"), request).await.unwrap();
            assert_eq!(reply.status, 200, "{http:?} to {alpn}: {}", reply.text());
            let seen = origin.last("/hello").unwrap();
            assert_eq!(seen.field("cookie"), Some(cookie.as_str()), "{http:?} to {alpn}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_we_know_nothing_of_pass_untouched() {
    let answer = Answer::of(200, "text/html", Bytes::from_static(b"\x28\xb5not\x00really"))
        .field("content-encoding", "dcb")
        .field("use-as-dictionary", "match=\"/js/*\", id=\"v1\"")
        .field("vary", "accept-encoding, available-dictionary")
        .field("set-cookie", "odd=1; expires=Tomorrow; path=/")
        .field("strict-transport-security", "max-age=31536000; preload");
    for alpn in ["http/1.1", "h2"] {
        let origin = Origin::build().alpn(&[alpn]).on("/odd", answer.clone()).start().await;
        let gateway = Gateway::start(&origin);
        for http in BOTH {
            let sent = [
                ("priority", "u=1, i"),
                ("accept-encoding", "gzip, br, zstd, dcb, dcz"),
                ("available-dictionary", ":pZGm1Av0IEBKARczz7exkNYsZb8LzaMrV7J32a2fFG4=:"),
                ("dictionary-id", "\"v1\""),
                ("x-unknown", "a=\"1\";b, c"),
            ];
            let mut request = Request::get("/");
            for (name, value) in sent {
                request = request.field(name, value);
            }
            let browser = gateway.browser().http(http);
            let reply = browser.send(&origin.url("site.test", "/odd"), request).await.unwrap();
            let seen = origin.last("/odd").unwrap();
            for (name, value) in sent {
                assert_eq!(seen.field(name), Some(value), "{http:?} to {alpn}");
            }
            for (name, value) in &answer.fields {
                assert_eq!(reply.field(name), Some(value.as_str()), "{http:?} to {alpn}");
            }
            assert_eq!(reply.body, b"\x28\xb5not\x00really");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn values_that_are_no_utf8_pass_byte_by_byte() {
    let trust = Origin::start().await;
    let gateway = Gateway::start(&trust);
    let odd: &[u8] = b"caf\xe9 \xff\x80";
    let value = http::HeaderValue::from_bytes(odd).unwrap();
    for alpn in ["http/1.1", "h2"] {
        let manual = Manual::listen(&trust, &[alpn]).await;
        let url = manual.url("site.test", "/");
        let back = value.clone();
        manual.serve(
            h2::server::Builder::new(),
            move |_,
                  request: http::Request<h2::RecvStream>,
                  mut respond: h2::server::SendResponse<Bytes>| {
                let same = request.headers().get("x-odd") == Some(&back);
                let mut reply = http::Response::new(());
                if same {
                    reply.headers_mut().insert("x-odd", back.clone());
                }
                async move { drop(respond.send_response(reply, true)) }
            },
            move |_, mut stream| async move {
                let mut read = Vec::new();
                while !read.ends_with(b"\r\n\r\n") {
                    let Ok(byte) = stream.read_u8().await else { return };
                    read.push(byte);
                }
                let same = read.windows(odd.len()).any(|window| window == odd);
                let head: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n";
                let field = if same { [b"X-Odd: ", odd, b"\r\n"].concat() } else { Vec::new() };
                let reply = [head, &field, b"\r\n"].concat();
                stream.write_all(&reply).await.ok();
                stream.flush().await.ok();
            },
        );
        let mut inner = gateway.browser().connect(&url).await.unwrap();
        let asked = http::Request::get(&url).header("x-odd", value.clone()).body(()).unwrap();
        let (response, _) = inner.http2().unwrap().send_request(asked, true).unwrap();
        let reply = response.await.unwrap();
        assert_eq!(reply.headers().get("x-odd"), Some(&value), "HTTP/2 to {alpn}");
        let authority = url.trim_start_matches("https://").trim_end_matches('/');
        let head = format!("GET / HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\nX-Odd: ");
        let inner = gateway.browser().http(Http::One).connect(&url).await.unwrap();
        let (mut stream, _) = inner.into_stream().unwrap();
        stream.write_all(&[head.as_bytes(), odd, b"\r\n\r\n"].concat()).await.unwrap();
        stream.flush().await.unwrap();
        let mut reply = Vec::new();
        stream.read_to_end(&mut reply).await.ok();
        assert!(reply.windows(odd.len()).any(|window| window == odd), "HTTP/1.1 to {alpn}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn asterisk_absolute_form_and_http10_pass() {
    for alpn in ["http/1.1", "h2"] {
        let origin = Origin::build().alpn(&[alpn]).start().await;
        let gateway = Gateway::start(&origin);
        let url = origin.url("site.test", "/");
        let host = format!("site.test:{}", origin.port());
        for http in BOTH {
            let mut inner = gateway.browser().http(http).connect(&url).await.unwrap();
            if http == Http::One {
                let reply = inner.send(Request::new("OPTIONS", "*")).await.unwrap();
                assert_eq!(reply.status, 200, "{http:?} to {alpn}");
                assert_eq!(origin.last("*").unwrap().method, "OPTIONS", "{http:?} to {alpn}");
            } else {
                assert_eq!(inner.get("/hello").await.unwrap().status, 200);
            }
        }
        let sent = format!(
            "GET https://{host}/echo?absolute HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
        );
        let reply = raw(&gateway, &url, sent.as_bytes(), "\0").await;
        assert!(reply.starts_with("HTTP/1.1 200"), "{reply}");
        assert_eq!(origin.last("/echo?absolute").unwrap().authority, host, "to {alpn}");
        // HTTP/1.0: no chunks, the end of the connection ends the body.
        let sent = format!("GET /chunked/10 HTTP/1.0\r\nHost: {host}\r\n\r\n");
        let reply = raw(&gateway, &url, sent.as_bytes(), "\0never").await;
        let (head, body) = reply.split_once("\r\n\r\n").unwrap();
        assert!(!head.to_ascii_lowercase().contains("transfer-encoding"), "{head}");
        assert_eq!(body.len(), 10, "to {alpn}: {head}");
        let sent = format!(
            "GET /hello HTTP/1.0\r\nHost: {host}\r\nConnection: keep-alive\r\n\r\n\
             GET /page HTTP/1.0\r\nHost: {host}\r\n\r\n"
        );
        let reply = raw(&gateway, &url, sent.as_bytes(), "Origin page").await;
        assert!(reply.contains("hello from") && reply.contains("Origin page"), "{reply}");
    }
    let answer = b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nuntil the end";
    let origin = Origin::build().alpn(&["http/1.1"]).on("/old", Answer::raw(answer)).start().await;
    let gateway = Gateway::start(&origin);
    for http in BOTH {
        let reply = gateway.browser().http(http).get(&origin.url("site.test", "/old")).await;
        assert_eq!(reply.unwrap().text(), "until the end", "{http:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn alternatives_on_quic_are_taken_out_and_others_kept() {
    let answer = Answer::text("x").field("alt-svc", "h3=\":443\"; ma=86400, h2=\"alt.test:443\"");
    let origin = Origin::build()
        .on("/both", answer)
        .on("/quic", Answer::text("x").field("alt-svc", "h3=\":443\", h3-29=\":443\""))
        .start()
        .await;
    let gateway = Gateway::start(&origin);
    for http in BOTH {
        let browser = gateway.browser().http(http);
        let reply = browser.get(&origin.url("site.test", "/both")).await.unwrap();
        assert_eq!(reply.field("alt-svc"), Some("h2=\"alt.test:443\""));
        let reply = browser.get(&origin.url("site.test", "/quic")).await.unwrap();
        assert_eq!(reply.field("alt-svc"), None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn priority_updates_do_no_harm() {
    let origin = Origin::start().await;
    let gateway = Gateway::start(&origin);
    let browser = gateway.browser();
    let stream = browser.open(&format!("site.test:{}", origin.port())).await.unwrap();
    let mut stream = tests::client::tls::connect(
        stream,
        "site.test",
        std::sync::Arc::new(
            tests::client::tls::config(&gateway.alice().intercept_ca_pem, None, &["h2"]).unwrap(),
        ),
    )
    .await
    .unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
    // PRIORITY_UPDATE (RFC 9218 section 7.1) for a stream that is not open yet, then a ping: the
    // connection must still be there to answer it.
    let value = b"u=0, i";
    let update = [&[0, 0, 4 + value.len() as u8, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 1][..], value];
    stream.write_all(&update.concat()).await.unwrap();
    stream.write_all(&[0, 0, 8, 6, 0, 0, 0, 0, 0]).await.unwrap();
    stream.write_all(b"still on").await.unwrap();
    stream.flush().await.unwrap();
    let mut stream: BoxStream = Box::new(stream);
    let read = read_until(&mut stream, "still on").await;
    assert!(read.contains("still on"));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_of_the_gateway_says_so() {
    let rules = "  - name: none\n    match: { url: \"*/none\" }\n    action: block\n  \
                 - name: away\n    match: { url: \"*/away\" }\n    action: redirect\n    \
                 location: https://intranet.acme.test/\n  \
                 - name: why\n    match: { url: \"*/why\" }\n    action: coach\n";
    let origin =
        Origin::build().alpn(&["http/1.1"]).on("/junk", Answer::raw(b"junk\r\n\r\n")).start();
    let origin = origin.await;
    let gateway = Gateway::build(&origin).policy(rules).start();
    for (path, status, said) in [
        ("/none", 403, "test-1; error=http_request_denied; details=\"rule\""),
        ("/why", 403, "test-1; error=http_request_denied; details=\"coach\""),
        ("/away", 302, "test-1"),
        ("/junk", 502, "test-1; error=http_protocol_error; details=\"malformed_http\""),
    ] {
        for http in BOTH {
            let url = origin.url("site.test", path);
            let reply = gateway.browser().http(http).get(&url).await.unwrap();
            assert_eq!(reply.status, status, "{path} {http:?}");
            assert_eq!(reply.field("proxy-status"), Some(said), "{path} {http:?}");
        }
    }
    let url = origin.url("unknown.example", "/");
    let reply = gateway.browser().get(&url).await.unwrap();
    let said = reply.field("proxy-status").unwrap_or_default();
    assert!(said.starts_with("test-1; error=dns_"), "{}: {said}", reply.status);
    let url = origin.url("site.test", "/");
    let reply = raw(&gateway, &url, b"GET / HTTP/1.1\r\nHost: a\nb\r\n\r\n", "\0").await;
    assert!(reply.contains("proxy-status: test-1; error=http_request_error;"), "{reply}");
    let fine = gateway.browser().get(&origin.url("site.test", "/status/500")).await.unwrap();
    assert_eq!((fine.status, fine.field("proxy-status")), (500, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_that_closes_soon_is_left_before_it_does() {
    let says = |timeout: &str| Answer::text("x").field("keep-alive", timeout);
    let origin = Origin::build()
        .alpn(&["http/1.1"])
        .on("/patient", says("timeout=60"))
        .on("/hasty", says("timeout=2, max=100"))
        .start()
        .await;
    let gateway = Gateway::start(&origin);
    let mut inner = gateway.browser().connect(&origin.url("site.test", "/")).await.unwrap();
    let mut used = Vec::new();
    for path in ["/patient", "/hasty", "/hasty"] {
        assert_eq!(inner.get(path).await.unwrap().status, 200);
        used.push(origin.last(path).unwrap().connection);
    }
    assert_eq!(used[0], used[1], "kept as long as usual");
    assert_ne!(used[1], used[2], "a request to it may meet its end");
}
