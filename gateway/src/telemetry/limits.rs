//! The limits that refuse something, told by the labels of what they refuse.

/// Each limit (the closed label set of `sluice_limit_refusals_total`), and the `error`,
/// `block_reason` or `inspection_reason` that its refusals carry. docs/operating.md has the values.
pub(crate) const LIMITS: [(&str, &str); 25] = [
    ("tunnels", "too_many_tunnels"),
    ("tunnel_handshake_time", "handshake_timeout"),
    ("tunnel_attention", "http2_flood"),
    ("quic_tunnel_attention", "http3_flood"),
    ("keepalive_time", "keepalive_timeout"),
    ("first_bytes_time", "slow_first_bytes"),
    ("hello_bytes", "hello_too_long"),
    ("client_handshake_time", "client_handshake_timeout"),
    ("dns_queries", "dns_busy"),
    ("dns_time", "dns_timeout"),
    ("connect_time", "connect_timeout"),
    ("origin_handshake_time", "origin_handshake_timeout"),
    ("head_bytes", "head_too_large"),
    ("head_fields", "too_many_fields"),
    ("head_time", "slow_head"),
    ("target_bytes", "target_too_long"),
    ("method_bytes", "method_too_long"),
    ("trailer_bytes", "trailers_too_large"),
    ("interim_responses", "interim_flood"),
    ("response_time", "origin_timeout"),
    ("stall_time", "stalled"),
    ("idle_time", "idle"),
    ("hold_bytes", "bound"),
    ("hold_time", "timeout"),
    ("event_log", "event_log_full"),
];

/// The limit whose refusals carry `label`.
#[must_use]
pub(crate) fn limit_of(label: &str) -> Option<&'static str> {
    LIMITS.iter().find(|(_, refusal)| *refusal == label).map(|(limit, _)| *limit)
}
