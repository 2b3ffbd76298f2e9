//! What a user is told: block, coach and fault pages for people, RFC 9457 problems for programs.

use bytes::Bytes;
use gateway_proto::fields::Fields;
use uuid::Uuid;

use crate::exchange::{Request, Response};

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

/// The answer to `request`: HTML for a navigation, a problem document for anything else.
#[must_use]
pub fn answer(request: &Request, notice: &Notice<'_>) -> (Response, Bytes) {
    let body = Bytes::from(format!("{{\"status\":{},\"rule\":{:?}}}", notice.status, notice.rule));
    let mut fields = Fields::new();
    fields.push("content-type", "application/problem+json");
    fields.push("cache-control", "no-store");
    let _ = request;
    (Response::new(notice.status, fields, body.len() as u64), body)
}

/// The page behind a coach page's "proceed": asks for the justification.
#[must_use]
pub fn confirm(rule: &str, matter: &str, reference: Uuid, token: &str) -> (Response, Bytes) {
    html(
        200,
        format!(
            "<form method=post action=/proceed><input type=hidden name=token value={token}><textarea name=justification></textarea><button>Proceed</button></form>{rule}{matter}{reference}"
        ),
    )
}

/// The page after a justification was taken: asks to repeat the action.
#[must_use]
pub fn confirmed(matter: &str, reference: Uuid) -> (Response, Bytes) {
    html(200, format!("{matter} {reference}"))
}

/// The page for a token that is used up, too old or somebody else's.
#[must_use]
pub fn expired() -> (Response, Bytes) {
    html(410, "expired".to_owned())
}

fn html(status: u16, text: String) -> (Response, Bytes) {
    let body = Bytes::from(text);
    let mut fields = Fields::new();
    fields.push("content-type", "text/html; charset=utf-8");
    fields.push("cache-control", "no-store");
    (Response::new(status, fields, body.len() as u64), body)
}
