//! Reads list files, line by line, in the formats people have.

use std::net::IpAddr;

use smallvec::SmallVec;

use super::name::{Covers, canonical, category};
use super::{Builder, ListError, ListFormat, MALFORMED_SHOWN_MAX, ReadList};

/// Lines that say something, of which the format is guessed.
const GUESS_LINES: usize = 100;

/// Bytes shown of a line that was not understood.
const SHOWN_BYTES_MAX: usize = 60;

/// Names that hosts files give to the machine itself.
const OWN_NAMES: [&str; 12] = [
    "localhost",
    "localhost.localdomain",
    "local",
    "broadcasthost",
    "ip6-localhost",
    "ip6-loopback",
    "ip6-localnet",
    "ip6-mcastprefix",
    "ip6-allnodes",
    "ip6-allrouters",
    "ip6-allhosts",
    "0.0.0.0",
];

/// What a line is.
enum Line {
    Said,
    /// Well-formed, and nothing of whole domains.
    PassedOver,
    Malformed,
}

struct Reading {
    builder: Builder,
    /// Reused for each name.
    buffer: String,
}

pub(super) fn list(text: &[u8], format: Option<ListFormat>) -> Result<ReadList, ListError> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let format = format.unwrap_or_else(|| guess(text));
    let mut reading = Reading { builder: Builder::new(), buffer: String::new() };
    let (mut said, mut passed_over, mut malformed) = (0_usize, 0_usize, 0_usize);
    let mut malformed_shown = Vec::new();
    for (number, line) in (1_u32..).zip(text.split(|&byte| byte == b'\n')) {
        let line = line.trim_ascii();
        if is_comment(line, format) {
            continue;
        }
        let what = match std::str::from_utf8(line) {
            Ok(line) => reading.line(line, format, said + passed_over == 0)?,
            Err(_) => Line::Malformed,
        };
        match what {
            Line::Said => said += 1,
            Line::PassedOver => passed_over += 1,
            Line::Malformed => {
                malformed += 1;
                if malformed_shown.len() < MALFORMED_SHOWN_MAX {
                    let shown = line.get(..SHOWN_BYTES_MAX).unwrap_or(line);
                    malformed_shown.push((number, String::from_utf8_lossy(shown).into_owned()));
                }
            }
        }
    }
    if malformed > said + passed_over {
        return Err(ListError::NotOfFormat(format));
    }
    if said == 0 && passed_over > 0 {
        return Err(ListError::Empty(format));
    }
    let list = reading.builder.finish()?;
    Ok(ReadList { list, format, passed_over, malformed, malformed_shown })
}

/// Whether a line says nothing at all.
fn is_comment(line: &[u8], format: ListFormat) -> bool {
    match (format, line) {
        (_, []) => true,
        // `##` hides parts of pages; a single `#` is a comment here too.
        (ListFormat::Adblock, [b'#', b'#' | b'@' | b'?' | b'$' | b'%', ..]) => false,
        (ListFormat::Adblock, [b'[', ..]) => true,
        (_, [b'#' | b'!' | b';', ..] | [b'/', b'/', ..]) => true,
        _ => false,
    }
}

fn guess(text: &[u8]) -> ListFormat {
    let (mut adblock, mut hosts, mut csv, mut plain) = (0, 0, 0, 0);
    let lines = text.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii);
    for line in lines.filter(|line| !line.is_empty()).take(GUESS_LINES) {
        let line = String::from_utf8_lossy(line);
        let first = line.split_ascii_whitespace().next().unwrap_or_default();
        if line.starts_with("||") || line.starts_with("@@") || line.starts_with("[Adblock") {
            adblock += 1;
        } else if is_comment(line.as_bytes(), ListFormat::Plain) {
            continue;
        } else if first.len() < line.len() && first.parse::<IpAddr>().is_ok() {
            hosts += 1;
        } else if line.contains([',', ';', '\t']) {
            csv += 1;
        } else {
            plain += 1;
        }
    }
    // Adblock lists hold many rules of other kinds; `||` stands in no other format.
    match adblock {
        0 if hosts > plain.max(csv) => ListFormat::Hosts,
        0 if csv > plain => ListFormat::Csv,
        0 => ListFormat::Plain,
        _ => ListFormat::Adblock,
    }
}

impl Reading {
    fn line(&mut self, line: &str, format: ListFormat, first: bool) -> Result<Line, ListError> {
        match format {
            ListFormat::Plain => self.plain(line),
            ListFormat::Hosts => self.hosts(line),
            ListFormat::Adblock => self.adblock(line),
            ListFormat::Csv => self.csv(line, first),
        }
    }

    fn add(&mut self, written: &str, only: Option<Covers>, set: u16) -> Result<Line, ListError> {
        let Some((name, covers)) = canonical(written, &mut self.buffer) else {
            return Ok(Line::Malformed);
        };
        self.builder.add(name, only.unwrap_or(covers), set)?;
        Ok(Line::Said)
    }

    fn plain(&mut self, line: &str) -> Result<Line, ListError> {
        let mut words = line.split_ascii_whitespace();
        let name = words.next().unwrap_or_default();
        match words.next() {
            Some(word) if !word.starts_with('#') => Ok(Line::Malformed),
            _ => self.add(name, None, 0),
        }
    }

    fn hosts(&mut self, line: &str) -> Result<Line, ListError> {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_ascii_whitespace();
        if !words.next().is_some_and(is_address) {
            return Ok(Line::Malformed);
        }
        let mut what = Line::Malformed;
        for name in words {
            let own = OWN_NAMES.iter().any(|known| known.eq_ignore_ascii_case(name));
            what = if own { Line::PassedOver } else { self.add(name, Some(Covers::SELF), 0)? };
        }
        Ok(what)
    }

    fn adblock(&mut self, line: &str) -> Result<Line, ListError> {
        let (rule, covers) = match line.strip_prefix("@@") {
            Some(rule) => (rule, Covers::EXCEPT),
            None => (line, Covers::BOTH),
        };
        let Some(rule) = rule.strip_prefix("||") else { return Ok(Line::PassedOver) };
        let (pattern, options) = rule.split_once('$').unwrap_or((rule, ""));
        // Others hold for some requests of the domain only.
        let whole = options.split(',').all(|option| {
            matches!(option, "" | "important" | "all" | "document" | "doc" | "popup")
        });
        let Some(name) = pattern.strip_suffix('^').or_else(|| pattern.strip_suffix("^|")) else {
            return Ok(Line::PassedOver);
        };
        if !whole || name.contains(['/', '*', '^', ':', '?']) {
            return Ok(Line::PassedOver);
        }
        self.add(name, Some(covers), 0)
    }

    fn csv(&mut self, line: &str, first: bool) -> Result<Line, ListError> {
        // The first of them: a name holds none.
        let separator = line.chars().find(|it| matches!(it, ',' | ';' | '\t')).unwrap_or(',');
        let mut fields = line.split(separator).map(|field| field.trim().trim_matches('"').trim());
        let name = fields.next().unwrap_or_default();
        if first
            && ["domain", "host", "hostname", "name", "url"]
                .iter()
                .any(|it| it.eq_ignore_ascii_case(name))
        {
            return Ok(Line::PassedOver);
        }
        let categories: SmallVec<[Box<str>; 4]> =
            fields.flat_map(|field| field.split('|')).filter_map(category).collect();
        let set = self.builder.sets.id(categories)?;
        self.add(name, None, set)
    }
}

/// As hosts files write it; some leave a zone behind (`fe80::1%lo0`).
fn is_address(text: &str) -> bool {
    text.split('%').next().is_some_and(|address| address.parse::<IpAddr>().is_ok())
}
