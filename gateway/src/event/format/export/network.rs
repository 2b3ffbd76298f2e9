//! The network record.

use super::words;
use crate::event::format::source::{Row, field, made, text};
use crate::event::format::value::Event;

pub(super) const NETWORK: &[Row] = &[
    text("type", "network"),
    text("record_type", "network"),
    field("network_session_id", "flow_id"),
    field("srcport", "client_port"),
    field("dstport", "dest_port"),
    field("domain", "host"),
    field("protocol", "client_alpn"),
    field("tunnel_id", "session_id"),
    field("tunnel_type", "access_method"),
    field("client_bytes", "request_bytes"),
    field("server_bytes", "response_bytes"),
    made("numbytes", "`request_bytes` and `response_bytes` together", Event::traffic),
    made("session_duration", "`total_ms` in whole seconds", words::duration),
    made("start_time", "`time` less `total_ms`, in seconds since 1970", words::began),
    made("end_time", "`time` in seconds since 1970", words::seconds),
    field("flow_status", "state"),
];
