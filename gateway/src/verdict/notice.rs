//! What a user is told: pages for people, RFC 9457 problems for programs.

mod grpc;
mod html;
mod problem;

use bytes::Bytes;
use gateway_proto::fields::Fields;
use uuid::Uuid;

use crate::exchange::{Request, Response};

pub use grpc::{is_call, trailers};
pub use html::{confirm, confirmed, expired};

/// What happened, from the user's point of view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Blocked,
    /// `proceed` leads on.
    Coached,
    /// The origin's certificate is at fault; `proceed` leads on where the tenant allows it.
    Fault,
    /// The exchange could not be carried out.
    Failed,
}

impl Kind {
    /// The stable name in problems.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Blocked => "blocked",
            Self::Coached => "coached",
            Self::Fault => "certificate-fault",
            Self::Failed => "failed",
        }
    }
}

/// Everything a page or problem says.
#[derive(Clone, Debug)]
pub struct Notice<'a> {
    pub kind: Kind,
    pub status: u16,
    pub host: &'a str,
    pub app: Option<&'a str>,
    pub activity: Option<&'a str>,
    pub rule: Option<&'a str>,
    pub message: Option<&'a str>,
    /// Stable label of a fault or failure.
    pub label: Option<&'a str>,
    pub contact: Option<&'a str>,
    pub organization: Option<&'a str>,
    pub reference: Uuid,
    /// Where the user may go on.
    pub proceed: Option<&'a str>,
}

/// The answer to `request`: HTML for a navigation, trailers for a gRPC call, a problem document for
/// anything else.
#[must_use]
pub fn answer(request: &Request, notice: &Notice<'_>) -> (Response, Bytes) {
    if grpc::is_call(request) {
        return (grpc::answer(request, notice), Bytes::new());
    }
    let mut fields = Fields::new();
    let body = if is_navigation(request) {
        html::headers(&mut fields, notice.proceed);
        html::page(notice)
    } else {
        fields.push("content-type", "application/problem+json");
        problem::document(notice)
    };
    fields.push("cache-control", "no-store");
    let body = Bytes::from(body);
    (Response::new(notice.status, fields, body.len() as u64), body)
}

/// `Sec-Fetch-Mode: navigate`, or, from clients without that header, `Accept` with text/html.
fn is_navigation(request: &Request) -> bool {
    match request.fields.text("sec-fetch-mode") {
        Some(mode) => mode.eq_ignore_ascii_case("navigate"),
        None => request
            .fields
            .all("accept")
            .filter_map(|value| std::str::from_utf8(value).ok())
            .any(|value| value.to_ascii_lowercase().contains("text/html")),
    }
}

#[cfg(test)]
mod tests;
