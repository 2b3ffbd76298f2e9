//! The same facts for programs: RFC 9457 problem documents and RFC 9209 `Proxy-Status`.

use serde_json::json;

use super::{Kind, Notice};

/// The problem document.
pub(super) fn document(notice: &Notice<'_>) -> String {
    let title = match notice.kind {
        Kind::Blocked => "Blocked by policy",
        Kind::Coached => "Needs a justification",
        Kind::Fault => "The site's certificate cannot be trusted",
        Kind::Failed => "The request could not be carried out",
    };
    let mut document = json!({
        "type": format!("urn:sluice:problem:{}", notice.kind.name()),
        "title": title,
        "status": notice.status,
        "instance": format!("urn:uuid:{}", notice.reference),
        "reference": notice.reference.to_string(),
        "host": notice.host,
    });
    let known = [
        ("detail", notice.message),
        ("app", notice.app),
        ("activity", notice.activity),
        ("rule", notice.rule),
        ("error", notice.label),
        ("contact", notice.contact),
        ("proceed", notice.proceed),
    ];
    if let Some(document) = document.as_object_mut() {
        for (name, value) in known {
            if let Some(value) = value {
                document.insert(name.to_owned(), value.into());
            }
        }
    }
    format!("{document:#}\n")
}

/// `Proxy-Status` (RFC 9209): which hop answered and why. Only tokens of our own go into it.
pub(super) fn proxy_status(notice: &Notice<'_>) -> String {
    let error = match (notice.kind, notice.label) {
        (Kind::Blocked | Kind::Coached, _) => "http_request_denied",
        (Kind::Fault, _) => "tls_certificate_error",
        (Kind::Failed, Some(label)) => registered(label),
        (Kind::Failed, None) => "proxy_internal_error",
    };
    match notice.label {
        Some(label) => format!("sluice; error={error}; details=\"{label}\""),
        None => format!("sluice; error={error}"),
    }
}

/// The registered error type of RFC 9209 section 2.3 that fits one of our labels.
fn registered(label: &str) -> &'static str {
    match label {
        "dns_timeout" => "dns_timeout",
        label if label.starts_with("dns_") => "dns_error",
        "connect_refused" => "connection_refused",
        "connect_timeout" => "connection_timeout",
        "unreachable" | "no_address" => "destination_ip_unroutable",
        "origin_reset" | "connect_reset" => "connection_terminated",
        "origin_timeout" | "stalled" => "http_response_timeout",
        "malformed_http" => "http_protocol_error",
        "response_truncated" => "http_response_incomplete",
        label if label.starts_with("origin_") => "tls_protocol_error",
        "method_not_allowed" => "http_request_error",
        _ => "proxy_internal_error",
    }
}
