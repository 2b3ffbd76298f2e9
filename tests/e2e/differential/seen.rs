//! What one side saw of the other's message, word for word.

use std::fmt::Write as _;

use super::shape::Pairs;

/// How a message that was read ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Clean,
    /// The connection ended first.
    Cut,
    /// HTTP/2: the stream was reset with this code.
    Reset(u32),
    /// It had not ended when the reader gave up.
    Hung,
}

/// How a message that was read said where its body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    Nothing,
    Sized,
    Chunked,
    Close,
    /// HTTP/2: a body, but no length.
    Open,
}

/// A message as it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// HTTP/1: the version that its first line names.
    pub version: String,
    /// Method or status.
    pub what: String,
    /// Target or reason.
    pub text: String,
    /// HTTP/2: `:authority` and `:scheme`. HTTP/1 has `Host` among its fields.
    pub authority: Option<String>,
    pub scheme: Option<String>,
    pub interim: Vec<(u16, String, Pairs)>,
    pub fields: Pairs,
    pub told: Told,
    pub body: Vec<u8>,
    /// Chunk extensions, joined.
    pub extensions: String,
    pub trailers: Pairs,
    pub end: End,
}

impl Seen {
    /// Nothing but an end.
    pub fn nothing(end: End) -> Self {
        Self {
            version: String::new(),
            what: String::new(),
            text: String::new(),
            authority: None,
            scheme: None,
            interim: Vec::new(),
            fields: Vec::new(),
            told: Told::Nothing,
            body: Vec::new(),
            extensions: String::new(),
            trailers: Vec::new(),
            end,
        }
    }

    /// The first value of `name`.
    pub fn field(&self, name: &str) -> Option<String> {
        let hit = self.fields.iter().find(|(it, _)| it.eq_ignore_ascii_case(name.as_bytes()));
        hit.map(|(_, value)| show(value))
    }

    /// Line by line where `self`, seen direct, differs from `through`.
    pub fn differences(&self, through: &Self) -> Vec<String> {
        let mut found = Vec::new();
        let mut tell = |what: &str, direct: String, through: String| {
            if direct != through {
                found.push(format!("{what}: direct {direct}, through {through}"));
            }
        };
        tell("version", self.version.clone(), through.version.clone());
        tell("method or status", self.what.clone(), through.what.clone());
        tell("target or reason", format!("`{}`", self.text), format!("`{}`", through.text));
        tell("authority", format!("{:?}", self.authority), format!("{:?}", through.authority));
        tell("scheme", format!("{:?}", self.scheme), format!("{:?}", through.scheme));
        tell("interim", interim(&self.interim), interim(&through.interim));
        tell("fields", pairs(&self.fields), pairs(&through.fields));
        tell("framing", format!("{:?}", self.told), format!("{:?}", through.told));
        tell("extensions", self.extensions.clone(), through.extensions.clone());
        tell("body", digest(&self.body), digest(&through.body));
        tell("trailers", pairs(&self.trailers), pairs(&through.trailers));
        tell("end", format!("{:?}", self.end), format!("{:?}", through.end));
        found
    }
}

/// Bytes as text that shows each one.
pub fn show(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

fn digest(body: &[u8]) -> String {
    let start = show(&body[..body.len().min(40)]);
    format!("{} bytes {} `{start}`", body.len(), &tests::sha256_hex(body)[..12])
}

fn interim(all: &[(u16, String, Pairs)]) -> String {
    let mut text = String::new();
    for (status, reason, fields) in all {
        write!(text, "{status} {reason} {}; ", pairs(fields)).expect("text");
    }
    text
}

fn pairs(fields: &Pairs) -> String {
    /// A field of more than this is told by its length.
    const SHOWN: usize = 120;
    let one = |(name, value): &(Vec<u8>, Vec<u8>)| {
        if value.len() > SHOWN {
            let digest = &tests::sha256_hex(value)[..8];
            format!("{}: <{} bytes {digest}>", show(name), value.len())
        } else {
            format!("{}: {}", show(name), show(value))
        }
    };
    format!("[{}]", fields.iter().map(one).collect::<Vec<_>>().join(" | "))
}
