//! The same facts for gRPC clients: a response of trailers only, whose `grpc-status` they act on
//! (the gRPC over HTTP/2 protocol, "Responses"). Its HTTP status is what others get; gRPC's own
//! mapping of those says that a `grpc-status` beside it wins.

use gateway_proto::fields::Fields;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use super::{Kind, Notice, problem};
use crate::exchange::{Request, Response};

const PERMISSION_DENIED: u8 = 7;
const UNIMPLEMENTED: u8 = 12;
const UNAVAILABLE: u8 = 14;

/// What `grpc-message` cannot hold as it is, beside what is not ASCII.
const ENCODED: &AsciiSet = &CONTROLS.add(b'%');

/// Whether the request is a gRPC call. gRPC-Web is not: its trailers are part of the body.
#[must_use]
pub fn is_call(request: &Request) -> bool {
    let Some(content_type) = request.fields.text("content-type") else { return false };
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    let rest = essence.get(.."application/grpc".len()).zip(essence.get("application/grpc".len()..));
    rest.is_some_and(|(name, rest)| {
        name.eq_ignore_ascii_case("application/grpc") && (rest.is_empty() || rest.starts_with('+'))
    })
}

/// The whole response.
pub(super) fn answer(request: &Request, notice: &Notice<'_>) -> Response {
    let content_type = request.fields.text("content-type").unwrap_or("application/grpc");
    let mut fields = Fields::new();
    fields.push("content-type", content_type.to_owned());
    say(&mut fields, notice);
    fields.push("cache-control", "no-store");
    Response::new(notice.status, fields, 0)
}

/// What ends a call whose response has begun.
#[must_use]
pub fn trailers(notice: &Notice<'_>) -> Fields {
    let mut fields = Fields::new();
    say(&mut fields, notice);
    fields
}

fn say(fields: &mut Fields, notice: &Notice<'_>) {
    fields.push("grpc-status", status(notice).to_string());
    fields.push("grpc-message", utf8_percent_encode(&words(notice), ENCODED).to_string());
}

/// Clients try again on UNAVAILABLE, and on the others not.
fn status(notice: &Notice<'_>) -> u8 {
    match (notice.kind, notice.status) {
        (Kind::Blocked | Kind::Coached | Kind::Fault, _) => PERMISSION_DENIED,
        (Kind::Failed, 405 | 501) => UNIMPLEMENTED,
        (Kind::Failed, _) => UNAVAILABLE,
    }
}

fn words(notice: &Notice<'_>) -> String {
    let facts = [
        ("rule", notice.rule),
        ("reason", notice.label),
        ("message", notice.message),
        ("go on at", notice.proceed),
    ];
    let mut words = vec![problem::title(notice.kind).to_owned()];
    words.extend(facts.iter().filter_map(|(name, fact)| Some(format!("{name}: {}", (*fact)?))));
    words.push(format!("reference: {}", notice.reference));
    words.join("; ")
}
