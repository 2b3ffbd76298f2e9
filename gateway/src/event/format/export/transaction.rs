//! The transaction record, with the names of the product's web transaction log.

use serde_json::Value;

use super::words;
use crate::event::format::source::{Row, field, made};
use crate::event::format::value::Event;

/// Who asked what, where, and what policy said.
pub(super) const WHO_AND_WHAT: &[Row] = &[
    made("x-type", "`WebSocket` where `status` is 101, else `http_transaction`", |event| {
        let upgraded = event.number("status") == Some(101);
        Some(if upgraded { "WebSocket" } else { "http_transaction" }.into())
    }),
    made("x-cs-timestamp", "`time` in seconds since 1970", words::seconds),
    made("date", "`time`, the day", |event| Some(event.text("time")?.get(..10)?.into())),
    made("time", "`time`, hours, minutes and seconds", |event| {
        Some(event.text("time")?.get(11..19)?.into())
    }),
    field("x-transaction-id", "id"),
    field("x-request-id", "id"),
    field("x-cs-session-id", "session_id"),
    field("x-cs-tunnel-id", "session_id"),
    field("cs-username", "user"),
    field("x-c-authn-user", "user"),
    field("x-c-authz-groups", "groups"),
    field("x-c-device", "agent_device"),
    field("x-c-device-uid", "device"),
    field("x-c-hostname", "device"),
    field("x-c-device-classification", "device_class"),
    made("x-c-os", "`os`, else `agent_os`", words::os),
    field("x-c-browser", "browser"),
    field("x-c-browser-version", "browser_version"),
    field("x-c-country", "source_country"),
    field("c-ip", "client_ip"),
    field("x-cs-src-ip", "client_ip"),
    field("x-cs-src-port", "client_port"),
    field("x-policy-src-ip", "client_ip"),
    made(
        "x-cs-access-method",
        "`explicit` as `Explicit Proxy`, else `Client`",
        words::access_method,
    ),
    field("cs-host", "host"),
    field("x-policy-dst-host", "host"),
    field("x-cs-site", "host"),
    made(
        "x-policy-dst-host-source",
        "`host_source`: `Sni`, `HttpHostHeader`, else `OriginalDestDomain`",
        |event| {
            Some(
                match event.text("host_source")? {
                    "sni" => "Sni",
                    "http_host" => "HttpHostHeader",
                    _ => "OriginalDestDomain",
                }
                .into(),
            )
        },
    ),
    field("x-s-country", "dest_country"),
    field("x-s-dp-name", "pop"),
    made(
        "x-cs-traffic-type",
        "`CloudApp` where there is an `app`, else `Web`",
        words::traffic_type,
    ),
    made("x-category", "`category` in words", words::category),
    field("x-cs-app", "app"),
    made("x-cs-app-category", "`category` in words", words::category),
    field("x-cs-app-tags", "app_tags"),
    made("x-cs-app-cci", "100 less `risk`", |event| words::confidence(event).map(Value::from)),
    made(
        "x-cs-app-ccl",
        "`excellent` from an `x-cs-app-cci` of 90, `high` 75, `medium` 60, `low` 50, else `poor`",
        words::confidence_level,
    ),
    made("x-cs-app-activity", "`activity` in the product's words", words::activity),
    field("x-cs-app-instance-id", "instance"),
    field("x-cs-app-instance-name", "instance"),
    made(
        "x-cs-app-instance-tags",
        "`Sanctioned` where `instance_kind` is `corporate`, else `Unsanctioned`",
        |event| {
            let corporate = event.text("instance_kind")? == "corporate";
            Some(if corporate { "Sanctioned" } else { "Unsanctioned" }.into())
        },
    ),
    field("x-cs-app-object-name", "object"),
    field("x-cs-app-object-type", "object_type"),
    field("x-cs-app-from-user", "from_user"),
    field("x-cs-app-to-user", "to_user"),
    made(
        "x-policy-action",
        "`coach` as `useralert`, with a `justification` as `proceed`; else `action`",
        words::action,
    ),
    made(
        "x-action",
        "`coach` as `useralert`, with a `justification` as `proceed`; else `action`",
        words::action,
    ),
    field("x-action-reason", "block_reason"),
    field("x-policy-name", "rule"),
    field("x-policy-justification-reason", "justification"),
    made(
        "x-policy-justification-type",
        "`justification` where there is one",
        words::justification_type,
    ),
    field("x-error", "error"),
];

/// The exchange, its TLS and its content.
pub(super) const HOW: &[Row] = &[
    field("cs-method", "method"),
    field("x-cs-url", "url"),
    made("cs-uri-scheme", "scheme of `url`", |event| Some(event.url()?.scheme.into())),
    made("x-cs-uri-path", "path of `url`", |event| Some(event.url()?.path.into())),
    made("cs-uri-query", "query of `url`", |event| Some(event.url()?.query?.into())),
    made("cs-uri", "path and query of `url`", |event| {
        let url = event.url()?;
        Some(match url.query {
            Some(query) => format!("{}?{query}", url.path).into(),
            None => url.path.into(),
        })
    }),
    field("cs-uri-port", "dest_port"),
    field("x-cs-dst-ip", "dest_ip"),
    field("x-cs-dst-port", "dest_port"),
    field("x-policy-dst-ip", "dest_ip"),
    field("s-ip", "dest_ip"),
    field("x-sr-dst-ip", "dest_ip"),
    field("x-sr-dst-port", "dest_port"),
    field("x-sr-src-ip", "egress_ip"),
    made("x-cs-http-version", "`http_version` without its stroke", words::http_version),
    field("cs-referer", "referer"),
    field("cs-user-agent", "user_agent"),
    field("sc-status", "status"),
    field("rs-status", "status"),
    field("cs-bytes", "request_bytes"),
    field("sc-bytes", "response_bytes"),
    field("sr-bytes", "request_bytes"),
    field("rs-bytes", "response_bytes"),
    made("bytes", "`request_bytes` and `response_bytes` together", Event::traffic),
    made("cs-content-type", "`content_type` of a request with a body", |event| {
        sends(event).then(|| event.get("content_type").cloned()).flatten()
    }),
    made("sc-content-type", "`content_type` of a request without a body", |event| {
        (!sends(event)).then(|| event.get("content_type").cloned()).flatten()
    }),
    made("time-taken", "`total_ms` in whole milliseconds", |event| {
        event.millis("total_ms").map(Value::from)
    }),
    field("x-cs-sni", "sni"),
    made("x-cs-ssl-version", "`client_tls` behind `TLSv`", |event| {
        words::tls_version(event, "client_tls")
    }),
    made("x-sr-ssl-version", "`origin_tls` behind `TLSv`", |event| {
        words::tls_version(event, "origin_tls")
    }),
    made("x-ssl-policy-action", "`Decrypt` or `Do not decrypt`, by `decrypted`", |event| {
        let decrypted = event.get("decrypted")?.as_bool()?;
        Some(if decrypted { "Decrypt" } else { "Do not decrypt" }.into())
    }),
    made("x-ssl-bypass", "`Yes` where not `decrypted`, else `No`", |event| {
        let decrypted = event.get("decrypted")?.as_bool()?;
        Some(if decrypted { "No" } else { "Yes" }.into())
    }),
    field("x-ssl-policy-name", "decrypt_reason"),
    field("x-ssl-policy-issuer", "origin_issuer"),
    made("x-r-cert-issuer-cn", "the CN of `origin_issuer`", |event| {
        let issuer = event.text("origin_issuer")?;
        let name = issuer.split(',').find_map(|part| part.trim().strip_prefix("CN="));
        Some(name.unwrap_or(issuer).into())
    }),
    made("x-r-cert-valid", "`No` where there is an `origin_cert_fault`", |event| {
        event.get("origin_tls").map(|_| yes(event.get("origin_cert_fault").is_none()))
    }),
    made("x-r-cert-expired", "whether that fault is `expired` or `not_yet_valid`", |event| {
        fault(event, &["expired", "not_yet_valid"])
    }),
    made("x-r-cert-self-signed", "whether that fault is `self_signed`", |event| {
        fault(event, &["self_signed"])
    }),
    made("x-r-cert-mismatch", "whether that fault is `name_mismatch`", |event| {
        fault(event, &["name_mismatch"])
    }),
    made("x-r-cert-untrusted-root", "whether that fault is `untrusted_root`", |event| {
        fault(event, &["untrusted_root"])
    }),
    made("x-r-cert-incomplete-chain", "whether that fault is `incomplete_chain`", |event| {
        fault(event, &["incomplete_chain"])
    }),
    made("x-r-cert-revoked", "whether that fault is `revoked`", |event| fault(event, &["revoked"])),
    field("x-rs-file-type", "file_type"),
    field("x-rs-file-size", "file_size"),
    field("x-rs-file-sha256", "sha256"),
    made("x-tp-malware-name", "`name` of `threat`", |event| {
        event.get("threat")?.get("name").cloned()
    }),
    made("x-tp-engine", "`engine` of `threat`", |event| {
        event.get("threat")?.get("engine").cloned()
    }),
];

fn sends(event: &Event) -> bool {
    event.number("request_bytes").is_some_and(|bytes| bytes > 0)
}

fn yes(holds: bool) -> Value {
    if holds { "Yes".into() } else { "No".into() }
}

fn fault(event: &Event, faults: &[&str]) -> Option<Value> {
    event.get("origin_tls")?;
    Some(yes(event.text("origin_cert_fault").is_some_and(|fault| faults.contains(&fault))))
}
