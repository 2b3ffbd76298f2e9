//! The list of quiche's http3_test, asked of the server inside tunnels: what a server of HTTP/3 is asked at any rate, and
//! what it must refuse. The names are the list's; docs/cases.md says which do not apply.

use std::time::Duration;

use serde_json::json;
use tests::client::http3::Http3;
use tests::client::message::{Body, Reply, Request};
use tests::origin::Answer;
use tests::{ClientError, Origin};

use super::inner_http3_rules::{World, head, outcome};

const MESSAGE_ERROR: u64 = 0x10e;
const FRAME_UNEXPECTED: u64 = 0x105;
const CLOSED_CRITICAL_STREAM: u64 = 0x104;
const DECOMPRESSION_FAILED: u64 = 0x200;

/// Content of the types that `image` asks for, and of texts.
fn origin() -> tests::origin::Build {
    let of = |kind: &str, body: &[u8]| Answer::of(200, kind, body.to_vec().into());
    // What gzip and zlib make of `hello`.
    let gzip = b"\x1f\x8b\x08\0\0\0\0\0\0\xff\xcb\x48\xcd\xc9\xc9\x07\0\x86\xa6\x10\x36\x05\0\0\0";
    let deflate = b"\x78\x9c\xcb\x48\xcd\xc9\xc9\x07\0\x06\x2c\x02\x15";
    let part = |status: u16, range: &str, body: &[u8]| Answer {
        status,
        ..of("application/octet-stream", body).field("content-range", range)
    };
    Origin::build()
        .on("/gzip", of("text/plain", gzip).field("content-encoding", "gzip"))
        .on("/deflate", of("text/plain", deflate).field("content-encoding", "deflate"))
        .on("/response-headers", of("text/plain", b"").field("server", "httpbin").field("x-a", "b"))
        .on("/redirect", Answer::status(302).field("location", "/get"))
        .on("/basic-auth", Answer::status(401).field("www-authenticate", "Basic realm=\"x\""))
        .on("/range/part", part(206, "bytes 10-19/100", b"0123456789"))
        .on("/range/beyond", part(416, "bytes */100", b""))
        .on("/cache", Answer::status(304).field("etag", "\"1\""))
        .on("/image/png", of("image/png", b"\x89PNG\r\n\x1a\n"))
        .on("/image/jpeg", of("image/jpeg", b"\xff\xd8\xff\xe0"))
        .on("/image/webp", of("image/webp", b"RIFF\0\0\0\0WEBP"))
        .on("/image/svg", of("image/svg+xml", b"<svg xmlns=\"http://www.w3.org/2000/svg\"/>"))
        .on("/xml", of("application/xml", b"<?xml version=\"1.0\"?><slideshow/>"))
        .on("/robots.txt", of("text/plain", b"User-agent: *\nDisallow: /deny\n"))
        .on("/utf8", of("text/html; charset=utf-8", "∮ E⋅da = Q".as_bytes()))
}

/// One exchange of the list that a server answers: its name, the request, and what the reply must be.
struct Asked {
    name: &'static str,
    request: Request,
    fits: fn(&Reply) -> bool,
}

fn asked(name: &'static str, request: Request, fits: fn(&Reply) -> bool) -> Asked {
    Asked { name, request, fits }
}

/// What the origin says of the request that came to it.
fn seen(reply: &Reply, field: &str) -> String {
    let fields = reply.json()["fields"].clone();
    let all = fields.as_array().into_iter().flatten();
    let one = all.filter(|pair| pair[0] == field).filter_map(|pair| pair[1].as_str()).next();
    one.unwrap_or_default().to_owned()
}

fn answered() -> Vec<Asked> {
    let get = Request::get;
    let with_body = |method: &str| {
        let body = json!({"key1": "value1", "key2": "value2"}).to_string().into_bytes();
        let request = Request::new(method, "/echo").body(Body::Bytes(body.into()));
        request.field("content-type", "application/json")
    };
    let echoes_body: fn(&Reply) -> bool = |it| {
        it.status == 200 && it.json()["body_bytes"] == 33 && seen(it, "content-length") == "33"
    };
    let mut list = vec![
        asked("get", get("/echo"), |it| it.json()["method"] == "GET"),
        asked("get, with a query", get("/echo?key1=value1&key2=value2"), |it| {
            it.json()["target"] == "/echo?key1=value1&key2=value2"
        }),
        asked("useragent", get("/echo").field("user-agent", "quiche-http3-client"), |it| {
            seen(it, "user-agent") == "quiche-http3-client"
        }),
        asked("headers", get("/echo").field("x-custom", "one").field("x-empty", ""), |it| {
            seen(it, "x-custom") == "one" && seen(it, "x-forwarded-for").is_empty()
        }),
        asked("post", with_body("POST"), echoes_body),
        asked("put", with_body("PUT"), echoes_body),
        asked("patch", with_body("PATCH"), echoes_body),
        asked("delete", with_body("DELETE"), echoes_body),
        asked("encode_utf8", get("/utf8"), |it| it.text() == "∮ E⋅da = Q"),
        asked("gzip", get("/gzip"), |it| {
            it.field("content-encoding") == Some("gzip") && it.body.starts_with(b"\x1f\x8b")
        }),
        asked("deflate", get("/deflate"), |it| {
            it.field("content-encoding") == Some("deflate") && it.body.starts_with(b"\x78\x9c")
        }),
        asked("response_headers", get("/response-headers"), |it| {
            it.field("server") == Some("httpbin") && it.field("x-a") == Some("b")
        }),
        asked("redirect", get("/redirect"), |it| {
            it.status == 302 && it.field("location") == Some("/get")
        }),
        asked("cookies", get("/set-cookie"), |it| {
            it.fields.iter().filter(|(name, _)| name == "set-cookie").count() == 2
        }),
        asked(
            "cookies, sent back",
            get("/echo").field("cookie", "a=1").field("cookie", "b=2"),
            |it| seen(it, "cookie") == "a=1; b=2",
        ),
        asked("basic_auth, without", get("/basic-auth"), |it| {
            it.status == 401 && it.field("www-authenticate").is_some()
        }),
        asked("basic_auth, with", get("/echo").field("authorization", "Basic dTpw"), |it| {
            seen(it, "authorization") == "Basic dTpw"
        }),
        asked("delay", get("/slow/500"), |it| it.status == 200),
        asked("drip", get("/sse/10/20"), |it| it.text().matches("data:").count() == 10),
        asked("range", get("/range/part").field("range", "bytes=10-19"), |it| {
            it.status == 206
                && it.field("content-range") == Some("bytes 10-19/100")
                && it.length == 10
        }),
        asked("range, beyond", get("/range/beyond").field("range", "bytes=200-"), |it| {
            it.status == 416
        }),
        asked("cache", get("/cache").field("if-none-match", "\"1\""), |it| {
            it.status == 304 && it.field("etag") == Some("\"1\"") && it.length == 0
        }),
        asked("form", Request::post("/echo", b"custname=bar&size=large".to_vec()), |it| {
            it.json()["body_bytes"] == 23
        }),
        asked("html", get("/page"), |it| it.text().contains("<h1>Origin page</h1>")),
        asked("xml", get("/xml"), |it| it.field("content-type") == Some("application/xml")),
        asked("robots", get("/robots.txt"), |it| it.text().contains("Disallow")),
        asked("zero_length_body", get("/chunked/0"), |it| it.status == 200 && it.length == 0),
        asked("req_invalid_method: a token all the same", Request::new("$GET", "/echo"), |it| {
            it.json()["method"] == "$GET"
        }),
    ];
    for (path, kind) in [
        ("/image/png", "image/png"),
        ("/image/jpeg", "image/jpeg"),
        ("/image/webp", "image/webp"),
        ("/image/svg", "image/svg+xml"),
    ] {
        list.push(asked("image", get(path).field("accept", kind), |it| {
            it.status == 200 && it.field("content-type").is_some_and(|it| it.starts_with("image/"))
        }));
    }
    list
}

#[tokio::test(flavor = "multi_thread")]
async fn h3_16_what_http3_test_asks_is_answered() {
    let world = World::of(origin().start().await).await;
    let http3 = world.connection().await;
    for Asked { name, request, fits } in answered() {
        let reply = http3.send(request).await.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(fits(&reply), "{name}: {reply:?} {}", reply.text());
    }
    for status in [200, 204, 301, 400, 401, 404, 418, 500, 503] {
        let reply = http3.get(&format!("/status/{status}")).await.unwrap();
        assert_eq!(reply.status, status, "status");
    }
    for size in [1, 10, 100, 1_000, 10_000, 100_000] {
        for path in ["bytes", "chunked"] {
            let reply = http3.get(&format!("/{path}/{size}")).await.unwrap();
            assert_eq!(reply.length, size, "stream, bytes, stream_bytes");
        }
    }
    drip_delay_reset(&http3).await.expect("the connection goes on");
}

/// A client that gives a slow answer up.
async fn drip_delay_reset(http3: &Http3) -> Result<Reply, ClientError> {
    let slow = http3.get("/sse/100/100");
    drop(tokio::time::timeout(Duration::from_millis(300), slow).await);
    http3.get("/hello").await
}

#[tokio::test(flavor = "multi_thread")]
async fn h3_16_requests_that_http3_test_calls_malformed_end_their_stream() {
    let world = World::new().await;
    let authority = world.authority();
    let http3 = world.connection().await;
    let good = [
        (":method", "GET"),
        (":scheme", "https"),
        (":authority", authority.as_str()),
        (":path", "/hello"),
        ("user-agent", "quiche-http3-client"),
    ];
    let instead = |name: &str, value: &'static str| -> Vec<(&str, &str)> {
        let other = |(one, was): (&'static str, _)| (one, if one == name { value } else { was });
        good.into_iter().map(other).collect()
    };
    let without = |name: &str| good.into_iter().filter(|(one, _)| *one != name).collect::<Vec<_>>();
    let twice = [&good[..], &[(":method", "GET")]].concat();
    let named = [&[(":$method", "GET")], &good[1..]].concat();
    for (name, fields) in [
        ("req_no_method", without(":method")),
        ("req_empty_method", instead(":method", "")),
        ("req_no_scheme", without(":scheme")),
        ("req_empty_scheme", instead(":scheme", "")),
        ("req_invalid_scheme", instead(":scheme", "$fail")),
        ("req_no_authority", without(":authority")),
        ("req_empty_authority", instead(":authority", "")),
        ("req_no_path", without(":path")),
        ("req_empty_path", instead(":path", "")),
        ("req_invalid_pseudoheader_name", named),
        ("req_duplicate_pseudoheader_bad_order", twice),
    ] {
        let code = outcome(&http3, &head(&fields)).await.expect_err(name);
        assert_eq!(code, MESSAGE_ERROR, "{name}");
    }
    let long = "x".repeat(300_000);
    let large = [&good[..], &[("x-long", long.as_str())]].concat();
    let reply = outcome(&http3, &head(&large)).await.expect("req_too_large_headers");
    assert!(reply.windows(3).any(|it| it == b"431"), "{reply:?}");
    for (name, said, sent) in [
        ("mismatched_content_length_too_long", "32", 33),
        ("mismatched_content_length_too_short", "34", 33),
    ] {
        let mut fields = instead(":method", "POST");
        fields.push(("content-length", said));
        let body = [&[0, sent][..], &vec![b'b'; usize::from(sent)]].concat();
        let bytes = [&head(&fields)[..], &body].concat();
        let code = outcome(&http3, &bytes).await.expect_err(name);
        assert_eq!(code, MESSAGE_ERROR, "{name}");
    }
    assert!(outcome(&http3, &head(&good)).await.is_ok(), "the connection goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn h3_16_frames_and_streams_that_http3_test_puts_out_of_place_end_the_connection() {
    let world = World::new().await;
    let requests: [(&str, &[u8], u64); 4] = [
        ("frames_duplicate_settings, on a request", &[4, 2, 6, 0x20], FRAME_UNEXPECTED),
        ("frames_max_push_on_request", &[13, 1, 4], FRAME_UNEXPECTED),
        ("frames_data_before_headers", &[0, 1, 7], FRAME_UNEXPECTED),
        ("frames_too_small_headers", &[1, 3, 1, 1, 1], DECOMPRESSION_FAILED),
    ];
    for (name, bytes, code) in requests {
        let http3 = world.connection().await;
        assert_eq!(outcome(&http3, bytes).await.expect_err(name), code, "{name}");
    }
    let control: (&[u8], bool) = (&[0, 4, 0], false);
    for (name, streams, code) in [
        (
            "frames_duplicate_settings",
            [(&[0, 4, 0, 4, 0][..], false), (&[2], false)],
            FRAME_UNEXPECTED,
        ),
        (
            "frames_data_on_control",
            [(&[0, 4, 0, 0, 0][..], false), (&[2], false)],
            FRAME_UNEXPECTED,
        ),
        ("stream_close_control", [(&[0, 4, 0][..], true), (&[2], false)], CLOSED_CRITICAL_STREAM),
        ("stream_close_qpack_enc", [control, (&[2], true)], CLOSED_CRITICAL_STREAM),
        ("stream_close_qpack_dec", [control, (&[3], true)], CLOSED_CRITICAL_STREAM),
    ] {
        assert_eq!(world.after(&streams).await, code, "{name}");
    }
}
