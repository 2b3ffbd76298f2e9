//! What is requested: one URL, or a weighted mix from a file.
//!
//! A mix is a text of lines `WEIGHT METHOD URL [BODY_BYTES]`; `#` begins a comment:
//!
//! ```text
//! # weight  method  url                             body bytes
//! 90        GET     https://site.test/page
//! 9         POST    https://site.test/upload        65536
//! 1         GET     https://site.test/bytes/10000000
//! ```
//!
//! Requests are dealt by weight in a fixed order spread over the cycle, so that two runs ask the same.

use std::path::Path;

use ::tests::Request;
use ::tests::client::message::Body;
use ::tests::gateway::Url;

/// Longest cycle: weights are shares, not counts.
const CYCLE_MAX: u32 = 100_000;

/// One kind of request.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) secure: bool,
    /// `host:port`.
    pub(crate) authority: String,
    pub(crate) request: Request,
}

/// The requests in the order they are dealt.
pub(crate) struct Mix {
    entries: Vec<Entry>,
    /// Indices into `entries`.
    cycle: Vec<usize>,
}

impl Mix {
    pub(crate) fn of(file: Option<&Path>, url: Option<&str>) -> Result<Self, String> {
        let text = match (file, url) {
            (Some(file), _) => std::fs::read_to_string(file)
                .map_err(|error| format!("{}: {error}", file.display()))?,
            (None, Some(url)) => format!("1 GET {url}"),
            (None, None) => return Err("--url or --mix is needed".to_owned()),
        };
        Self::parse(&text)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let mut entries = Vec::new();
        let mut weights = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.split(" #").next().unwrap_or_default().trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (weight, entry) = parse_line(line).ok_or_else(|| {
                format!("mix line {}: WEIGHT METHOD URL [BODY_BYTES]", number + 1)
            })?;
            entries.push(entry);
            weights.push(weight);
        }
        let total: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
        if total == 0 || total > u64::from(CYCLE_MAX) {
            return Err(format!("a mix's weights add up to 1 to {CYCLE_MAX}"));
        }
        Ok(Self { cycle: deal(&weights), entries })
    }

    /// The request number `count` of a stream.
    pub(crate) fn at(&self, count: usize) -> Option<&Entry> {
        let index = self.cycle.get(count % self.cycle.len().max(1))?;
        self.entries.get(*index)
    }
}

fn parse_line(line: &str) -> Option<(u32, Entry)> {
    let mut words = line.split_whitespace();
    let weight = words.next()?.parse().ok()?;
    let method = words.next()?;
    let url = Url::parse(words.next()?).ok()?;
    let mut request = Request::new(method, &url.path);
    if let Some(bytes) = words.next() {
        request = request.body(Body::Fill(bytes.parse().ok()?));
    }
    if words.next().is_some() {
        return None;
    }
    Some((weight, Entry { secure: url.secure, authority: url.authority, request }))
}

/// Smooth weighted round robin: each step the entry furthest behind its share goes.
fn deal(weights: &[u32]) -> Vec<usize> {
    let total: i64 = weights.iter().map(|weight| i64::from(*weight)).sum();
    let mut credit = vec![0_i64; weights.len()];
    let mut cycle = Vec::new();
    for _ in 0..total {
        for (credit, weight) in credit.iter_mut().zip(weights) {
            *credit += i64::from(*weight);
        }
        let most = credit.iter().enumerate().max_by_key(|(_, credit)| **credit);
        if let Some(index) = most.map(|(index, _)| index) {
            cycle.push(index);
            if let Some(credit) = credit.get_mut(index) {
                *credit -= total;
            }
        }
    }
    cycle
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn requests_are_dealt_by_weight() {
        let mix = Mix::parse("3 GET https://a.test/x\n1 POST http://b.test:81/y 10\n").unwrap();
        let asked: Vec<_> = (0..8).map(|i| mix.at(i).unwrap().authority.as_str()).collect();
        assert_eq!(asked.iter().filter(|host| **host == "b.test:81").count(), 2);
        assert_eq!(mix.cycle.len(), 4);
    }

    #[test]
    fn a_wrong_line_is_named() {
        let wrong = Mix::parse("1 GET https://a.test/\nGET https://a.test/\n");
        assert!(wrong.err().unwrap().starts_with("mix line 2"));
        assert!(Mix::parse("").is_err());
    }
}
