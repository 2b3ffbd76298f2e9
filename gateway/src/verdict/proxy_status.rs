//! `Proxy-Status` (RFC 9209) on the gateway's own answers: which hop answered, and why.

/// The registered error types (RFC 9209 section 2.3) of our labels. docs/standards.md has the same
/// table for people; a test keeps it so.
const ERRORS: [(&str, &[&str]); 16] = [
    ("dns_timeout", &["dns_timeout"]),
    (
        "dns_error",
        &[
            "dns_nxdomain",
            "dns_no_address",
            "dns_servfail",
            "dns_refused",
            "dns_unreachable",
            "dns_malformed",
            "dns_busy",
            "dns_name",
        ],
    ),
    (
        "destination_ip_prohibited",
        &["private_destination", "own_address", "metadata_destination", "sni_ip_mismatch"],
    ),
    ("destination_ip_unroutable", &["unreachable", "no_address", "destination_moved"]),
    ("connection_refused", &["connect_refused"]),
    ("connection_terminated", &["connect_reset", "origin_reset"]),
    ("connection_timeout", &["connect_timeout"]),
    (
        "tls_protocol_error",
        &[
            "origin_handshake_timeout",
            "origin_closed_handshake",
            "origin_tls_obsolete",
            "origin_not_tls",
            "origin_tls_malformed",
            "origin_tls_internal",
            "client_certificate_wanted",
        ],
    ),
    ("tls_alert_received", &["origin_tls_alert"]),
    (
        "tls_certificate_error",
        &[
            "origin_certificate",
            "untrusted_root",
            "self_signed",
            "expired",
            "not_yet_valid",
            "name_mismatch",
            "revoked",
            "incomplete_chain",
            "weak",
        ],
    ),
    (
        "http_request_denied",
        &[
            "rule",
            "default",
            "coach",
            "unobtainable",
            "undecided",
            "decrypt_rule",
            "port_not_allowed",
            "no_sni",
            "sni_host_mismatch",
            "not_tls_on_443",
            "authentication_required",
            "refused",
        ],
    ),
    (
        "http_request_error",
        &["method_not_allowed", "protocol_not_supported", "bad_authority", "request_unsayable"],
    ),
    ("http_response_incomplete", &["response_truncated"]),
    ("http_response_timeout", &["origin_timeout", "stalled"]),
    (
        "http_protocol_error",
        &["malformed_http", "interim_flood", "unexpected_upgrade", "origin_http2"],
    ),
    ("http_upgrade_failed", &["bad_websocket_accept", "no_upgrade"]),
];

/// Whatever else went wrong lies with the gateway.
const OTHER: &str = "proxy_internal_error";

/// The field of an answer that says why, by one of our stable labels.
#[must_use]
pub fn failed(pop: &str, label: &str) -> String {
    with_error(pop, error_of(label), label)
}

/// The field of an answer to what was no well-formed request.
#[must_use]
pub fn malformed(pop: &str, label: &str) -> String {
    with_error(pop, "http_request_error", label)
}

/// The field of an answer that is no error: a redirect, or a page of the gateway's own.
#[must_use]
pub fn answered(pop: &str) -> String {
    member(pop)
}

fn with_error(pop: &str, error: &str, label: &str) -> String {
    format!("{}; error={error}; details={}", member(pop), string(label))
}

fn error_of(label: &str) -> &'static str {
    // `unobtainable:file_type` and the like are one reason.
    let reason = label.split(':').next().unwrap_or(label);
    ERRORS.iter().find(|(_, labels)| labels.contains(&reason)).map_or(OTHER, |(error, _)| error)
}

/// The pop's name as a member of a structured list: a token where it is one, else a string
/// (RFC 9651 sections 3.3.3 and 3.3.4).
fn member(pop: &str) -> String {
    let first = pop.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'*');
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:/".contains(&byte);
    if first && pop.bytes().all(token) { pop.to_owned() } else { string(pop) }
}

fn string(text: &str) -> String {
    let printable = text.chars().filter(|it| it.is_ascii_graphic() || *it == ' ');
    let escaped = printable.flat_map(|it| {
        let escape = matches!(it, '"' | '\\').then_some('\\');
        escape.into_iter().chain(Some(it))
    });
    format!("\"{}\"", escaped.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_has_its_registered_error_and_is_said_too() {
        assert_eq!(
            failed("fra-1", "dns_nxdomain"),
            "fra-1; error=dns_error; details=\"dns_nxdomain\""
        );
        assert!(failed("p", "unobtainable:dlp").starts_with("p; error=http_request_denied;"));
        assert!(failed("p", "never heard of").contains("error=proxy_internal_error"));
    }

    #[test]
    fn any_name_makes_a_field_that_parses() {
        assert_eq!(answered("fra-1"), "fra-1");
        assert_eq!(answered("1st \"pop\""), "\"1st \\\"pop\\\"\"");
        assert_eq!(answered("frankfurt, main\r\n"), "\"frankfurt, main\"");
    }

    #[test]
    fn the_documented_table_is_this_one() {
        let documented = include_str!("../../../docs/standards.md");
        for (error, labels) in ERRORS {
            let labels: Vec<_> = labels.iter().map(|label| format!("`{label}`")).collect();
            let row = format!("| `{error}` | {} |", labels.join(", "));
            assert!(documented.contains(&row), "docs/standards.md lacks:\n{row}");
        }
    }
}
