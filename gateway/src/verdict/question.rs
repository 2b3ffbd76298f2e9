//! A request that was not made: what `explain` is asked about.

use std::net::{IpAddr, Ipv4Addr};

use bytes::Bytes;
use gateway_proto::fields::Fields;
use gateway_proto::target::{RequestTarget, TargetError};
use policy::catalog::MESSAGE;

use crate::exchange::{Length, Request, Scheme, Version};
use crate::ident::Who;

/// The user where none is named: a stranger whom no directory knows.
pub const NOBODY: &str = "nobody";
/// Where the tunnel comes from where no address is named.
pub const SOURCE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Who asks for what, when.
#[derive(Debug)]
pub struct Question {
    pub who: Who,
    pub source: IpAddr,
    /// The destination's address, where it is known.
    pub address: Option<IpAddr>,
    /// Seconds since the Unix epoch.
    pub now: i64,
    pub request: Request,
    /// `None` where it was not said; a method that carries a body then has one nobody has seen.
    pub body: Option<Bytes>,
}

/// Why a question makes no sense.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuestionError {
    #[error("`{url}` is no URL that can be asked for, such as `https://www.example.com/`: {error}")]
    Url { url: String, error: TargetError },
    #[error("`{0}` is no method, such as `GET`")]
    Method(String),
    #[error("`{0}` is no header, such as `Content-Type: text/plain`")]
    Header(String),
}

/// The request that a browser would make of a URL.
///
/// # Errors
/// Where the URL is not absolute, or the method or a header is malformed.
pub fn request(
    url: &str,
    method: Option<&str>,
    headers: &[(String, String)],
    body: Option<&Bytes>,
) -> Result<Request, QuestionError> {
    let method = method.unwrap_or_else(|| if body.is_some() { "POST" } else { "GET" });
    if !is_token(method) {
        return Err(QuestionError::Method(method.to_owned()));
    }
    // A browser keeps the fragment to itself.
    let asked = url.split_once('#').map_or(url, |(asked, _)| asked);
    let wrong = |error| QuestionError::Url { url: url.to_owned(), error };
    if !asked.bytes().all(|byte| byte > b' ' && byte != 0x7f) {
        return Err(wrong(TargetError::Form));
    }
    let parsed = RequestTarget::parse(b"GET", asked.as_bytes()).map_err(wrong)?;
    let RequestTarget::Absolute { scheme, authority, resource } = parsed else {
        return Err(wrong(TargetError::Form));
    };
    let scheme = match scheme {
        gateway_proto::target::Scheme::Http => Scheme::Http,
        gateway_proto::target::Scheme::Https => Scheme::Https,
    };
    let target = match resource.whole {
        [b'/', ..] => Bytes::copy_from_slice(resource.whole),
        other => [b"/", other].concat().into(),
    };
    Ok(Request {
        version: Version::Http2,
        method: Bytes::copy_from_slice(method.as_bytes()),
        scheme,
        port: authority.port_or(scheme.port()),
        host: authority.host,
        target: ascii(target),
        fields: fields(headers, body)?,
        body: length(method, body),
        upgrade: None,
        expects_continue: false,
    })
}

/// `Name: value`.
///
/// # Errors
/// Where there is no colon.
pub fn header(line: &str) -> Result<(String, String), QuestionError> {
    let (name, value) =
        line.split_once(':').ok_or_else(|| QuestionError::Header(line.to_owned()))?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

/// Letters of other scripts as a browser sends them.
fn ascii(target: Bytes) -> Bytes {
    if target.is_ascii() {
        return target;
    }
    let encoded = target.iter().fold(String::with_capacity(target.len() * 2), |mut text, byte| {
        if byte.is_ascii() {
            text.push(char::from(*byte));
        } else {
            text.push_str(percent_encoding::percent_encode_byte(*byte));
        }
        text
    });
    encoded.into()
}

fn fields(headers: &[(String, String)], body: Option<&Bytes>) -> Result<Fields, QuestionError> {
    let mut fields = Fields::new();
    for (name, value) in headers {
        let printable = value.bytes().all(|byte| byte >= b' ' && byte != 0x7f || byte == b'\t');
        if !is_token(name) || !printable {
            return Err(QuestionError::Header(format!("{name}: {value}")));
        }
        // The URL names the host.
        if !name.eq_ignore_ascii_case("host") {
            fields.push(name.clone().into_bytes(), value.clone().into_bytes());
        }
    }
    if let Some(body) = body
        && !fields.has("content-length")
    {
        fields.push("Content-Length", body.len().to_string().into_bytes());
    }
    Ok(fields)
}

fn length(method: &str, body: Option<&Bytes>) -> Length {
    match (body, method) {
        (Some(body), _) => Length::Exact(u64::try_from(body.len()).unwrap_or(u64::MAX)),
        (None, "POST" | "PUT" | "PATCH" | MESSAGE) => Length::Framed,
        (None, _) => Length::None,
    }
}

/// A method or a field name (RFC 9110 section 5.6.2).
fn is_token(text: &str) -> bool {
    let marks = b"!#$%&'*+-.^_`|~";
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || marks.contains(&byte))
}
