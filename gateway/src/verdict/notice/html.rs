//! The pages: one self-contained document, light and dark, readable by a screen reader, without
//! script, without a byte from elsewhere.

use bytes::Bytes;
use gateway_proto::fields::Fields;
use uuid::Uuid;

use super::{Kind, Notice};
use crate::exchange::Response;

/// Nothing but this document's own style may load (CASES SL-15).
const CONTENT_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; \
                              frame-ancestors 'none'; form-action ";

const STYLE: &str = include_str!("notice.css");

/// Headers of every page. Where `proceed` leads elsewhere, forms may be sent there.
pub(super) fn headers(fields: &mut Fields, proceed: Option<&str>) {
    let origin = proceed.and_then(|url| url.split('/').nth(2));
    let to = origin.map_or_else(|| "'self'".to_owned(), |host| format!("https://{host}"));
    fields.push("content-type", "text/html; charset=utf-8");
    fields.push("content-security-policy", format!("{CONTENT_POLICY}{to}"));
    fields.push("x-content-type-options", "nosniff");
    fields.push("referrer-policy", "no-referrer");
}

/// The page of a notice.
pub(super) fn page(notice: &Notice<'_>) -> String {
    let (tone, mark, heading, lead) = words(notice);
    let mut body = format!(
        "<p class=\"mark\" aria-hidden=\"true\">{mark}</p><h1>{}</h1><p class=\"lead\">{}</p>",
        escape(heading),
        escape(&lead)
    );
    if let Some(message) = notice.message {
        body.push_str(&format!("<blockquote>{}</blockquote>", escape(message)));
    }
    body.push_str(&facts(notice));
    if let Some(proceed) = notice.proceed {
        let label = if notice.kind == Kind::Fault {
            "Go on in spite of the risk"
        } else {
            "Give a reason and go on"
        };
        body.push_str(&format!(
            "<p><a class=\"button\" href=\"{}\" rel=\"noreferrer\">{label}</a></p>",
            escape(proceed)
        ));
    }
    if let Some(contact) = notice.contact {
        body.push_str(&format!("<p class=\"ask\">Questions? {}</p>", escape(contact)));
    }
    document(tone, heading, &body, notice.organization)
}

fn words<'a>(notice: &Notice<'a>) -> (&'static str, &'static str, &'static str, String) {
    let app = notice.app.unwrap_or(notice.host);
    match notice.kind {
        Kind::Blocked if notice.label == Some("client_certificate_wanted") => (
            "stop",
            "✕",
            "This site asks for your certificate",
            format!(
                "{} lets nobody in without a certificate of their own, and it cannot be shown \
                 while the connection is inspected. Your administrators can exempt this site: a \
                 decrypt rule with the action bypass.",
                notice.host
            ),
        ),
        Kind::Fault if notice.label == Some("origin_tls_obsolete") => (
            "stop",
            "⚠",
            "This site’s encryption is out of date",
            format!(
                "{} offers no encryption that is still thought safe. If you need it \
                 nevertheless, your administrators can exempt this site: a decrypt rule with the \
                 action bypass.",
                notice.host
            ),
        ),
        Kind::Blocked if notice.activity.is_some_and(|it| it != "browse") => {
            let activity = notice.activity.unwrap_or("this");
            (
                "stop",
                "✕",
                "This is blocked",
                format!(
                    "Your organization does not allow “{}” in {app}.",
                    activity.replace('_', " ")
                ),
            )
        }
        Kind::Blocked => (
            "stop",
            "✕",
            "This is blocked",
            format!("Your organization does not allow access to {app}."),
        ),
        Kind::Coached => (
            "think",
            "!",
            "Please think first",
            format!("Your organization asks you for a reason before you go on in {app}."),
        ),
        Kind::Fault => (
            "stop",
            "⚠",
            "This site cannot be trusted",
            format!("The certificate of {} does not prove that it is that site.", notice.host),
        ),
        Kind::Failed => (
            "fail",
            "…",
            "This did not work",
            format!("{} could not be reached, or did not answer as it should.", notice.host),
        ),
    }
}

fn facts(notice: &Notice<'_>) -> String {
    let reference = notice.reference.to_string();
    let rows = [
        ("Site", Some(notice.host)),
        ("App", notice.app),
        ("Activity", notice.activity),
        ("Rule", notice.rule),
        // That a rule or the default decided is said by the row above, or by its absence.
        ("Reason", notice.label.filter(|label| !matches!(*label, "rule" | "default"))),
        ("Reference", Some(reference.as_str())),
    ];
    let rows: String = rows
        .into_iter()
        .filter_map(|(name, value)| {
            value.map(|value| format!("<div><dt>{name}</dt><dd>{}</dd></div>", escape(value)))
        })
        .collect();
    format!("<dl>{rows}</dl>")
}

/// The page behind a coach or fault page: asks for the justification.
#[must_use]
pub fn confirm(rule: &str, matter: &str, reference: Uuid, token: &str) -> (Response, Bytes) {
    let body = format!(
        "<p class=\"mark\" aria-hidden=\"true\">!</p><h1>Give a reason</h1>\
         <p class=\"lead\">For <strong>{matter}</strong>, rule “{rule}”. Your reason is recorded.</p>\
         <form method=\"post\" action=\"/proceed\">\
         <input type=\"hidden\" name=\"token\" value=\"{token}\">\
         <label for=\"justification\">Why do you need this?</label>\
         <textarea id=\"justification\" name=\"justification\" rows=\"3\" maxlength=\"500\" required autofocus></textarea>\
         <button class=\"button\" type=\"submit\">Go on</button></form>\
         <dl><div><dt>Reference</dt><dd>{reference}</dd></div></dl>",
        matter = escape(matter),
        rule = escape(rule),
        token = escape(token),
    );
    respond(200, "think", "Give a reason", &body)
}

/// The page after a justification was taken: leads on to `page`, or asks to repeat the action.
#[must_use]
pub fn confirmed(matter: &str, reference: Uuid, page: Option<&str>) -> (Response, Bytes) {
    let matter = escape(matter);
    let on = page.map_or_else(
        || "<p>Go back and repeat what you were doing.</p>".to_owned(),
        |url| {
            let url = escape(url);
            format!(
                "<p><a class=\"button\" href=\"{url}\" rel=\"noreferrer\">Go on to the page</a></p>"
            )
        },
    );
    let body = format!(
        "<p class=\"mark\" aria-hidden=\"true\">✓</p><h1>Thank you</h1>\
         <p class=\"lead\">You may go on in <strong>{matter}</strong> for 30 minutes.</p>{on}\
         <dl><div><dt>Reference</dt><dd>{reference}</dd></div></dl>",
    );
    respond(200, "fine", "Thank you", &body)
}

/// The page for a token that is used up, too old or somebody else's.
#[must_use]
pub fn expired() -> (Response, Bytes) {
    let body = "<p class=\"mark\" aria-hidden=\"true\">…</p><h1>This page has expired</h1>\
                <p class=\"lead\">It works once, for five minutes, for the person it was shown to. \
                Go back and repeat what you were doing.</p>";
    respond(410, "fail", "This page has expired", body)
}

fn respond(status: u16, tone: &str, title: &str, body: &str) -> (Response, Bytes) {
    let mut fields = Fields::new();
    headers(&mut fields, None);
    fields.push("cache-control", "no-store");
    let body = Bytes::from(document(tone, title, body, None));
    (Response::new(status, fields, body.len() as u64), body)
}

fn document(tone: &str, title: &str, body: &str, organization: Option<&str>) -> String {
    let by =
        organization.map_or_else(String::new, |it| format!("<p class=\"by\">{}</p>", escape(it)));
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta name=\"color-scheme\" content=\"light dark\"><meta name=\"robots\" content=\"noindex\">\
         <title>{}</title><style>{STYLE}</style></head>\
         <body class=\"{tone}\"><main>{by}{body}</main></body></html>",
        escape(title)
    )
}

/// Text that came from a request or a rule, made inert.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}
