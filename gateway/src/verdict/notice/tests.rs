#![expect(clippy::unwrap_used, reason = "tests")]

use bytes::Bytes;
use gateway_proto::fields::Fields;
use gateway_proto::target::Host;
use uuid::Uuid;

use super::*;
use crate::exchange::{Length, Scheme, Version};

fn request(fields: &[(&'static str, &'static str)]) -> Request {
    let mut list = Fields::new();
    for (name, value) in fields {
        list.push(*name, *value);
    }
    Request {
        version: Version::Http11,
        method: Bytes::from_static(b"GET"),
        scheme: Scheme::Https,
        host: Host::parse(b"app.test").unwrap(),
        port: 443,
        target: Bytes::from_static(b"/"),
        fields: list,
        body: Length::None,
        upgrade: None,
        expects_continue: false,
    }
}

fn notice<'a>(rule: &'a str, host: &'a str) -> Notice<'a> {
    Notice {
        kind: Kind::Blocked,
        status: 403,
        host,
        app: Some("dropbox"),
        activity: Some("upload"),
        rule: Some(rule),
        message: Some("Use the company's Dropbox."),
        label: Some("rule"),
        contact: None,
        organization: None,
        reference: Uuid::nil(),
        proceed: None,
    }
}

fn text(body: &Bytes) -> &str {
    std::str::from_utf8(body).unwrap()
}

#[test]
fn a_navigation_gets_a_page_and_a_program_a_problem_with_the_same_facts() {
    let (response, page) =
        answer(&request(&[("sec-fetch-mode", "navigate")]), &notice("corporate only", "app.test"));
    assert_eq!(response.fields.text("content-type"), Some("text/html; charset=utf-8"));
    let (response, problem) =
        answer(&request(&[("accept", "*/*")]), &notice("corporate only", "app.test"));
    assert_eq!(response.fields.text("content-type"), Some("application/problem+json"));
    for body in [&page, &problem] {
        for fact in ["corporate only", "dropbox", "upload", "company", "app.test"] {
            assert!(text(body).contains(fact), "{fact}");
        }
    }
}

#[test]
fn fetch_metadata_wins_over_accept() {
    let asked = request(&[("sec-fetch-mode", "cors"), ("accept", "text/html")]);
    let (response, _) = answer(&asked, &notice("r", "app.test"));
    assert_eq!(response.fields.text("content-type"), Some("application/problem+json"));
    let old = request(&[("accept", "text/html,*/*")]);
    let (response, _) = answer(&old, &notice("r", "app.test"));
    assert_eq!(response.fields.text("content-type"), Some("text/html; charset=utf-8"));
}

#[test]
fn sl_15_what_a_request_names_is_inert_in_the_page() {
    let hostile = "<script>alert(1)</script>\"'";
    let (response, page) =
        answer(&request(&[("sec-fetch-mode", "navigate")]), &notice(hostile, hostile));
    assert!(!text(&page).contains("<script"));
    let policy = response.fields.text("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'"));
}

#[test]
fn grpc_calls_are_answered_with_a_status_they_understand() {
    for content_type in ["application/grpc", "application/grpc+proto", "Application/gRPC; a=b"] {
        let call = request(&[("content-type", content_type), ("accept", "text/html")]);
        let (response, body) = answer(&call, &notice("no \u{e4}%\n", "app.test"));
        assert_eq!((response.status, body.len()), (403, 0));
        assert_eq!(response.fields.text("content-type"), Some(content_type));
        assert_eq!(response.fields.text("grpc-status"), Some("7"));
        let message = response.fields.text("grpc-message").unwrap();
        assert!(message.starts_with("Blocked by policy; rule: no %C3%A4%25%0A; "), "{message}");
    }
    for content_type in ["application/grpc-web", "application/grpcx", "application/json"] {
        let other = request(&[("content-type", content_type)]);
        assert_eq!(answer(&other, &notice("no", "app.test")).0.status, 403, "{content_type}");
    }
    let call = request(&[("content-type", "application/grpc")]);
    for (kind, status, wanted) in
        [(Kind::Failed, 502, "14"), (Kind::Failed, 501, "12"), (Kind::Fault, 403, "7")]
    {
        let failed = Notice { kind, status, ..notice("no", "app.test") };
        let (response, _) = answer(&call, &failed);
        assert_eq!(response.fields.text("grpc-status"), Some(wanted));
        assert_eq!(response.status, status);
    }
}
