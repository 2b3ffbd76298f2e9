//! The OCSF classes of category 4, Network Activity.

use serde_json::{Value, json};

use super::common;
use crate::event::format::source::{Row, field, made, number};
use crate::event::format::value::Event;

/// Both ends and what lies between them.
pub(super) const ENDS: &[Row] = &[
    number("category_uid", 4),
    common::STATUS,
    field("src_endpoint.ip", "client_ip"),
    field("src_endpoint.port", "client_port"),
    field("src_endpoint.location.country", "source_country"),
    field("src_endpoint.autonomous_system.number", "source_asn"),
    field("dst_endpoint.hostname", "host"),
    field("dst_endpoint.ip", "dest_ip"),
    field("dst_endpoint.port", "dest_port"),
    field("dst_endpoint.location.country", "dest_country"),
    field("dst_endpoint.autonomous_system.number", "dest_asn"),
    field("connection_info.uid", "flow_id"),
    number("connection_info.direction_id", 2),
    field("traffic.bytes_out", "request_bytes"),
    field("traffic.bytes_in", "response_bytes"),
    made("traffic.bytes", "`request_bytes` and `response_bytes` together", Event::traffic),
    field("tls.version", "client_tls"),
    made("tls.sni", "`sni`, where there is a `client_tls`", |event| {
        event.get("client_tls").and_then(|_| event.get("sni").cloned())
    }),
    made("ja4_fingerprint_list", "`client_ja4`", |event| {
        Some(json!([{ "type_id": 1, "value": event.text("client_ja4")? }]))
    }),
    field("app_name", "app"),
    made("duration", "`total_ms` in whole milliseconds", |event| {
        event.millis("total_ms").map(Value::from)
    }),
];

/// 4002.
pub(super) const HTTP_ACTIVITY: &[Row] = &[
    number("class_uid", 4002),
    made(
        "activity_id",
        "1 CONNECT, 2 DELETE, 3 GET, 4 HEAD, 5 OPTIONS, 6 POST, 7 PUT, 8 TRACE, 9 PATCH, 0 where unknown, else 99",
        |event| {
            let methods =
                ["CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "POST", "PUT", "TRACE", "PATCH"];
            let Some(method) = event.text("method") else { return Some(0.into()) };
            let place = methods.iter().position(|known| *known == method);
            Some(place.map_or(99, |place| place + 1).into())
        },
    ),
    field("http_request.http_method", "method"),
    field("http_request.version", "http_version"),
    field("http_request.user_agent", "user_agent"),
    field("http_request.referrer", "referer"),
    field("http_request.body_length", "request_bytes"),
    field("http_request.uid", "id"),
    field("http_request.url.url_string", "url"),
    made("http_request.url.scheme", "scheme of `url`", |event| Some(event.url()?.scheme.into())),
    made("http_request.url.hostname", "authority of `url`", |event| {
        Some(event.url()?.authority.into())
    }),
    made("http_request.url.path", "path of `url`", |event| Some(event.url()?.path.into())),
    made("http_request.url.query_string", "query of `url`", |event| {
        Some(event.url()?.query?.into())
    }),
    made("http_request.url.categories", "`category` as a list, where there is a `url`", |event| {
        event.get("url")?;
        Some(json!([event.text("category")?]))
    }),
    made("http_response.code", "`status`; 0 where there was no response", |event| {
        Some(event.number("status").unwrap_or(0).into())
    }),
    field("http_response.content_type", "content_type"),
    field("http_response.body_length", "response_bytes"),
    made("http_response.latency", "`ttfb_ms` in whole milliseconds", |event| {
        event.millis("ttfb_ms").map(Value::from)
    }),
    made(
        "file",
        "`file_name`, `file_size`, `file_type` and `sha256`, where there is a name",
        common::file,
    ),
];

/// 4001.
pub(super) const NETWORK_ACTIVITY: &[Row] = &[
    number("class_uid", 4001),
    made(
        "activity_id",
        "5 where blocked, 4 where there is an `error`, 1 for `open`, 6 for `update`, else 2",
        |event| Some(if event.is("action", "block") { 5 } else { progress(event) }.into()),
    ),
];

/// 4014.
pub(super) const TUNNEL_ACTIVITY: &[Row] = &[
    number("category_uid", 4),
    common::STATUS,
    number("class_uid", 4014),
    made("activity_id", "1 for `open`, 3 for `update`, 2 for `close`, 99 where refused", |event| {
        Some(
            match event.text("state") {
                _ if event.get("error").is_some() => 99,
                Some("open") => 1,
                Some("update") => 3,
                _ => 2,
            }
            .into(),
        )
    }),
    field("src_endpoint.ip", "client_ip"),
    field("src_endpoint.port", "client_port"),
    field("src_endpoint.location.country", "source_country"),
    field("src_endpoint.autonomous_system.number", "source_asn"),
    field("dst_endpoint.name", "pop"),
    field("session.uid", "session_id"),
    field("user.name", "user"),
    field("protocol_name", "access_method"),
    field("traffic.bytes_out", "request_bytes"),
    field("traffic.bytes_in", "response_bytes"),
    made("traffic.bytes", "`request_bytes` and `response_bytes` together", Event::traffic),
    field("tls.version", "tunnel_tls"),
    field("unmapped.binding", "binding"),
    field("unmapped.tunnel_kx", "tunnel_kx"),
];

fn progress(event: &Event) -> u64 {
    match event.text("state") {
        _ if event.get("error").is_some() => 4,
        Some("open") => 1,
        Some("update") => 6,
        _ => 2,
    }
}
