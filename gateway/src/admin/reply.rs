//! Replies of the admin endpoint.

use http_body_util::Full;
use hyper::Response;
use hyper::body::Bytes;
use serde_json::{Value, json};

/// A reply with a body of this type.
pub(super) fn body(
    status: u16,
    content_type: &'static str,
    body: Vec<u8>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() =
        hyper::StatusCode::from_u16(status).unwrap_or(hyper::StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert("content-type", hyper::header::HeaderValue::from_static(content_type));
    headers.insert("cache-control", hyper::header::HeaderValue::from_static("no-store"));
    headers.insert("x-content-type-options", hyper::header::HeaderValue::from_static("nosniff"));
    response
}

pub(super) fn text(status: u16, text: &str) -> Response<Full<Bytes>> {
    body(status, "text/plain; charset=utf-8", format!("{text}\n").into_bytes())
}

pub(super) fn json(value: &Value) -> Response<Full<Bytes>> {
    body(200, "application/json", format!("{value:#}\n").into_bytes())
}

/// An RFC 9457 problem.
pub(super) fn problem(status: u16, detail: &str) -> Response<Full<Bytes>> {
    let title = hyper::StatusCode::from_u16(status).ok().and_then(|it| it.canonical_reason());
    let value = json!({ "status": status, "title": title, "detail": detail });
    body(status, "application/problem+json", format!("{value:#}\n").into_bytes())
}
