//! Writes one JSON object on one line, whatever the text in it.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Duration;

/// Bytes kept of a URL or referer: what browsers and servers commonly take of one.
pub(super) const URL_BYTES_MAX: usize = 8 * 1024;
/// Bytes kept of any other text: a name, a label, a header.
pub(super) const TEXT_BYTES_MAX: usize = 1024;
/// Bytes kept of a text inside a list, of which a line can have many.
pub(super) const ENTRY_BYTES_MAX: usize = 256;
/// Entries kept of a list (groups, tags, alerts, DLP hits).
pub(super) const LIST_MAX: usize = 128;
/// Stands where text was cut.
pub(super) const CUT: &str = "…";

/// An object being written at the end of a buffer.
///
/// The name of every field is ours; what comes from outside is only ever a value, escaped so that
/// no byte of it can end the line, the string, or move a terminal's cursor.
pub(super) struct Line<'a> {
    out: &'a mut Vec<u8>,
    empty: bool,
    /// Bytes kept of a text: fewer inside a list.
    text_bytes_max: usize,
}

impl<'a> Line<'a> {
    pub(super) fn begin(out: &'a mut Vec<u8>) -> Self {
        Self::nested(out, TEXT_BYTES_MAX)
    }

    fn nested(out: &'a mut Vec<u8>, text_bytes_max: usize) -> Self {
        out.push(b'{');
        Self { out, empty: true, text_bytes_max }
    }

    pub(super) fn end(self) {
        self.out.push(b'}');
    }

    fn key(&mut self, name: &'static str) {
        if !self.empty {
            self.out.push(b',');
        }
        self.empty = false;
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
    }

    /// A text of up to [`TEXT_BYTES_MAX`], or [`ENTRY_BYTES_MAX`] inside a list.
    pub(super) fn text(&mut self, name: &'static str, value: Option<&str>) {
        self.bounded(name, value, self.text_bytes_max);
    }

    pub(super) fn bounded(&mut self, name: &'static str, value: Option<&str>, bytes_max: usize) {
        if let Some(value) = value {
            self.key(name);
            string(self.out, value, bytes_max);
        }
    }

    /// One of our own labels or an id: nothing in it needs escaping.
    pub(super) fn label(&mut self, name: &'static str, value: Option<&str>) {
        if let Some(value) = value {
            self.key(name);
            self.out.push(b'"');
            self.out.extend_from_slice(value.as_bytes());
            self.out.push(b'"');
        }
    }

    /// Something that prints as a label does: an address, a time.
    pub(super) fn printed(&mut self, name: &'static str, value: Option<impl std::fmt::Display>) {
        if let Some(value) = value {
            self.key(name);
            print(self.out, format_args!("\"{value}\""));
        }
    }

    pub(super) fn id(&mut self, name: &'static str, value: Option<uuid::Uuid>) {
        if let Some(value) = value {
            let mut buffer = uuid::Uuid::encode_buffer();
            self.label(name, Some(value.hyphenated().encode_lower(&mut buffer)));
        }
    }

    pub(super) fn number(&mut self, name: &'static str, value: Option<u64>) {
        if let Some(value) = value {
            self.key(name);
            decimal(self.out, value);
        }
    }

    pub(super) fn boolean(&mut self, name: &'static str, value: Option<bool>) {
        if let Some(value) = value {
            self.key(name);
            self.out.extend_from_slice(if value { b"true" } else { b"false" });
        }
    }

    /// Milliseconds with three decimals.
    pub(super) fn milliseconds(&mut self, name: &'static str, value: Option<Duration>) {
        if let Some(value) = value {
            self.key(name);
            thousandths(self.out, value.as_micros());
        }
    }

    /// Microseconds with three decimals.
    pub(super) fn microseconds(&mut self, name: &'static str, value: Option<Duration>) {
        if let Some(value) = value {
            self.key(name);
            thousandths(self.out, value.as_nanos());
        }
    }

    /// A list of texts; absent when empty, cut at [`LIST_MAX`].
    pub(super) fn texts<'t>(
        &mut self,
        name: &'static str,
        values: impl ExactSizeIterator<Item = &'t str>,
    ) {
        self.list(name, LIST_MAX, values, |out, value| string(out, value, ENTRY_BYTES_MAX));
    }

    /// A list of objects; absent when empty, cut at `length_max`.
    pub(super) fn objects<T>(
        &mut self,
        name: &'static str,
        length_max: usize,
        values: impl ExactSizeIterator<Item = T>,
        write: impl Fn(&mut Line<'_>, T),
    ) {
        self.list(name, length_max, values, |out, value| object(out, |line| write(line, value)));
    }

    /// A nested object.
    pub(super) fn object(&mut self, name: &'static str, write: impl FnOnce(&mut Line<'_>)) {
        self.key(name);
        object(self.out, write);
    }

    fn list<T>(
        &mut self,
        name: &'static str,
        length_max: usize,
        values: impl ExactSizeIterator<Item = T>,
        write: impl Fn(&mut Vec<u8>, T),
    ) {
        if values.len() == 0 {
            return;
        }
        self.key(name);
        self.out.push(b'[');
        for (index, value) in values.take(length_max).enumerate() {
            if index > 0 {
                self.out.push(b',');
            }
            write(self.out, value);
        }
        self.out.push(b']');
    }
}

fn object(out: &mut Vec<u8>, write: impl FnOnce(&mut Line<'_>)) {
    let mut line = Line::nested(out, ENTRY_BYTES_MAX);
    write(&mut line);
    line.end();
}

#[expect(clippy::let_underscore_must_use, reason = "writing into memory does not fail")]
fn print(out: &mut Vec<u8>, value: std::fmt::Arguments<'_>) {
    let _ = out.write_fmt(value);
}

/// Digits of the largest number.
const DIGITS: usize = 20;

fn decimal(out: &mut Vec<u8>, value: u64) {
    let mut digits = [b'0'; DIGITS];
    let mut rest = value;
    let mut used = 0;
    for place in digits.iter_mut().rev() {
        *place = b'0' + (rest % 10) as u8;
        rest /= 10;
        used += 1;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(DIGITS - used..).unwrap_or_default());
}

fn thousandths(out: &mut Vec<u8>, value: u128) {
    decimal(out, u64::try_from(value / 1000).unwrap_or(u64::MAX));
    let rest = (value % 1000) as u16;
    let digit = |value: u16| b'0' + (value % 10) as u8;
    out.extend_from_slice(&[b'.', digit(rest / 100), digit(rest / 10), digit(rest)]);
}

/// Writes a JSON string of at most `bytes_max` bytes of `value`, then, where it was longer, the
/// marker with the whole length and a checksum that tells equal values from different ones.
fn string(out: &mut Vec<u8>, value: &str, bytes_max: usize) {
    out.push(b'"');
    if value.len() <= bytes_max {
        escape(out, value);
    } else {
        let (kept, _) =
            value.split_at_checked(value.floor_char_boundary(bytes_max)).unwrap_or(("", ""));
        escape(out, kept);
        let digest = crc32fast::hash(value.as_bytes());
        print(out, format_args!("{CUT}({} bytes, crc32 {digest:08x})", value.len()));
    }
    out.push(b'"');
}

/// Whether a text of an event ends in the marker of one that was cut.
#[must_use]
pub fn is_cut(text: &str) -> bool {
    // Hardly a text does, and none other needs a closer look.
    if !text.ends_with(')') {
        return false;
    }
    let marker = text.rsplit_once(CUT).map(|(_, marker)| marker);
    marker
        .is_some_and(|it| it.starts_with('(') && it.contains(" bytes, crc32 ") && it.ends_with(')'))
}

/// Copies runs of plain bytes and escapes what lies between them.
fn escape(out: &mut Vec<u8>, value: &str) {
    // Without an early exit, so that the compiler looks at many bytes at once.
    if !value.bytes().fold(false, |special, byte| special | is_special(byte)) {
        out.extend_from_slice(value.as_bytes());
        return;
    }
    let mut rest = value;
    while let Some(at) = rest.bytes().position(is_special) {
        let Some((plain, tail)) = rest.split_at_checked(at) else { break };
        out.extend_from_slice(plain.as_bytes());
        let mut characters = tail.chars();
        if let Some(character) = characters.next() {
            escape_one(out, character);
        }
        rest = characters.as_str();
    }
    out.extend_from_slice(rest.as_bytes());
}

/// Bytes that may need escaping. All that is not ASCII is looked at as a character.
fn is_special(byte: u8) -> bool {
    !(0x20..0x7f).contains(&byte) | (byte == b'"') | (byte == b'\\')
}

fn escape_one(out: &mut Vec<u8>, character: char) {
    match character {
        '"' => out.extend_from_slice(b"\\\""),
        '\\' => out.extend_from_slice(b"\\\\"),
        '\n' => out.extend_from_slice(b"\\n"),
        '\r' => out.extend_from_slice(b"\\r"),
        '\t' => out.extend_from_slice(b"\\t"),
        hidden if misleads(hidden) => {
            for unit in hidden.encode_utf16(&mut [0; 2]) {
                print(out, format_args!("\\u{unit:04x}"));
            }
        }
        shown => out.extend_from_slice(shown.encode_utf8(&mut [0; 4]).as_bytes()),
    }
}

/// Characters that end a line, steer a terminal, or change how their neighbours are read:
/// controls (C0, DEL, C1), line and paragraph separators, bidirectional and other invisible
/// format characters, the byte order mark, and tags.
pub(super) fn misleads(character: char) -> bool {
    matches!(character,
        '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{ad}' | '\u{61c}' | '\u{180e}'
        | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Text for a terminal: what would steer it, or mislead who reads it, is shown as an escape.
#[must_use]
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(misleads) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if misleads(character) {
            // Writing into memory does not fail.
            let _written = write!(shown, "\\u{:04x}", u32::from(character)).is_ok();
        } else {
            shown.push(character);
        }
    }
    Cow::Owned(shown)
}
