//! The application and the page record, and what alerts share with the first.

use super::words;
use crate::event::format::source::{Row, field, made, text};
use crate::event::format::value::Event;

/// What was done in which app, with what.
pub(super) const APP: &[Row] = &[
    field("request_id", "id"),
    field("connection_id", "flow_id"),
    field("app_session_id", "session_id"),
    made("activity", "`activity` in the product's words", words::activity),
    field("object", "object"),
    field("object_type", "object_type"),
    field("from_user", "from_user"),
    field("to_user", "to_user"),
    field("instance", "instance"),
    field("instance_id", "instance"),
    field("nsdeviceuid", "device"),
    field("device_classification", "device_class"),
    field("managed_app", "instance_kind"),
    made("url", "`url` without its scheme", words::url),
    made("page", "authority and path of `url`", words::page),
    field("referer", "referer"),
    field("protocol", "http_version"),
    field("file_path", "file_name"),
    field("file_type", "file_type"),
    field("file_size", "file_size"),
    field("mime_type", "content_type"),
    field("sha256", "sha256"),
    field("browser", "browser"),
    field("browser_version", "browser_version"),
];

/// The application record.
pub(super) const APPLICATION: &[Row] = &[
    text("type", "nspolicy"),
    text("record_type", "application"),
    text("alert", "no"),
    field("useragent", "user_agent"),
    field("dstport", "dest_port"),
    field("netskope_pop", "pop"),
    field("client_bytes", "request_bytes"),
    field("server_bytes", "response_bytes"),
    made("numbytes", "`request_bytes` and `response_bytes` together", Event::traffic),
    made("conn_duration", "`total_ms` in whole seconds", words::duration),
    field("justification_reason", "justification"),
    made("justification_type", "`justification` where there is one", words::justification_type),
];

/// The page record.
pub(super) const PAGE: &[Row] = &[
    text("type", "connection"),
    text("record_type", "page"),
    field("request_id", "id"),
    field("connection_id", "flow_id"),
    field("app_session_id", "session_id"),
    made("url", "`url` without its scheme", words::url),
    made("page", "authority and path of `url`", words::page),
    field("domain", "host"),
    field("dstport", "dest_port"),
    field("protocol", "http_version"),
    field("useragent", "user_agent"),
    field("browser", "browser"),
    field("browser_version", "browser_version"),
    field("netskope_pop", "pop"),
    field("resp_content_type", "content_type"),
    field("resp_content_len", "response_bytes"),
    field("client_bytes", "request_bytes"),
    field("server_bytes", "response_bytes"),
    made("numbytes", "`request_bytes` and `response_bytes` together", Event::traffic),
    made("conn_duration", "`total_ms` in whole seconds", words::duration),
    made("conn_starttime", "`time` less `total_ms`, in seconds since 1970", words::began),
    made("conn_endtime", "`time` in seconds since 1970", words::seconds),
    field("ssl_decrypt_policy", "decrypt_reason"),
];
