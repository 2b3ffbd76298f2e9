//! The one path that rules judge: decoded once, dot segments resolved, slashes merged. What is
//! forwarded stays as it came.

use std::borrow::Cow;

/// A path as policy sees it.
///
/// `%2F` decodes to a slash in [`CanonicalPath::as_str`], since some origins read it so, but not
/// in [`CanonicalPath::segments`], since others name objects with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CanonicalPath<'a> {
    text: Cow<'a, str>,
    /// The segments, kept apart only where an encoded slash makes them differ from the text's.
    segments: Option<Vec<String>>,
    pub marks: PathMarks,
}

/// What was unusual about the path as it came; each is a way to make two readers disagree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "independent observations of one path")]
pub struct PathMarks {
    /// `.` or `..` segments, in whatever spelling.
    pub dot_segments: bool,
    /// `//` in any spelling.
    pub repeated_slash: bool,
    pub backslash: bool,
    /// `%2F` or `%5C`.
    pub encoded_slash: bool,
    /// What decoding gave holds an encoded byte again, as `%252e` does.
    pub double_encoded: bool,
    /// A `%` without two hexadecimal digits behind it.
    pub bad_escape: bool,
    /// NUL or another control character.
    pub control: bool,
    /// Not UTF-8 after decoding; such bytes read U+FFFD.
    pub invalid_utf8: bool,
    /// UTF-8 longer than need be, such as `%c0%ae`: always also `invalid_utf8`.
    pub overlong: bool,
    /// A segment with `;parameters`.
    pub parameters: bool,
}

impl CanonicalPath<'_> {
    /// The whole path. Begins with `/`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The segments between slashes that were not encoded; the last may be empty.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        let kept = self.segments.iter().flatten().map(String::as_str);
        let text = if self.segments.is_some() { "" } else { self.as_str() };
        text.strip_prefix('/').into_iter().flat_map(|text| text.split('/')).chain(kept)
    }

    /// The same without borrowing.
    #[must_use]
    pub fn into_owned(self) -> CanonicalPath<'static> {
        CanonicalPath {
            text: Cow::Owned(self.text.into_owned()),
            segments: self.segments,
            marks: self.marks,
        }
    }
}

/// Canonicalises the path of a request target, without its query. Total, linear, and idempotent
/// but for what was encoded twice.
#[must_use]
pub fn canonical_path(path: &[u8]) -> CanonicalPath<'_> {
    if let Some(text) = plain(path) {
        return CanonicalPath {
            text: Cow::Borrowed(text),
            segments: None,
            marks: PathMarks::default(),
        };
    }
    let mut marks = PathMarks::default();
    let decoded = decode(path, true, &mut marks);
    let text = format!("/{}", resolve(&decoded, &mut marks).join("/"));
    let segments = marks.encoded_slash.then(|| {
        let mut seen = PathMarks::default();
        let kept = decode(path, false, &mut seen);
        resolve(&kept, &mut seen).into_iter().map(unescape_slash).collect()
    });
    CanonicalPath { text: Cow::Owned(text), segments, marks }
}

/// The path itself, where nothing in it needs a second look: the case of nearly every request.
fn plain(path: &[u8]) -> Option<&str> {
    let (b'/', rest) = path.split_first()? else {
        return None;
    };
    let mut before = b'/';
    for byte in rest {
        let odd = match byte {
            b'%' | b'\\' | b';' => true,
            b'/' | b'.' => before == b'/',
            _ => !byte.is_ascii_graphic(),
        };
        if odd {
            return None;
        }
        before = *byte;
    }
    std::str::from_utf8(path).ok()
}

/// Stands for an encoded slash while segments are resolved: no decoded text holds it, since
/// every byte of a control character is marked and replaced first.
const ENCODED_SLASH: char = '\u{1}';

/// Decodes once and turns backslashes into slashes.
fn decode(path: &[u8], slashes: bool, marks: &mut PathMarks) -> String {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        let byte = match byte {
            b'%' => {
                let Some((decoded, after)) = escape(after) else {
                    marks.bad_escape = true;
                    bytes.push(b'%');
                    continue;
                };
                rest = after;
                marks.double_encoded |= decoded == b'%' && starts_escape(after);
                if matches!(decoded, b'/' | b'\\') {
                    marks.encoded_slash = true;
                    marks.backslash |= decoded == b'\\';
                    bytes.push(if slashes { b'/' } else { b'\x01' });
                    continue;
                }
                decoded
            }
            b'\\' => {
                marks.backslash = true;
                b'/'
            }
            byte => *byte,
        };
        if byte.is_ascii_control() {
            marks.control = true;
            bytes.extend_from_slice(char::REPLACEMENT_CHARACTER.to_string().as_bytes());
        } else {
            bytes.push(byte);
        }
    }
    match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            marks.invalid_utf8 = true;
            marks.overlong |= is_overlong(error.as_bytes());
            String::from_utf8_lossy(error.as_bytes()).into_owned()
        }
    }
}

/// Resolves dot segments and merges slashes; the last segment is empty after a final slash.
fn resolve<'a>(text: &'a str, marks: &mut PathMarks) -> Vec<&'a str> {
    let text = text.strip_prefix('/').unwrap_or(text);
    let mut segments: Vec<&str> = Vec::new();
    let mut open = true;
    let mut pieces = text.split('/').peekable();
    while let Some(piece) = pieces.next() {
        let last = pieces.peek().is_none();
        // Some servers drop `;parameters` before they look for dots.
        let (bare, parameters) = piece.split_once(';').unwrap_or((piece, ""));
        marks.parameters |= !parameters.is_empty() || piece.ends_with(';');
        open = true;
        match bare {
            "." => marks.dot_segments = true,
            ".." => {
                marks.dot_segments = true;
                segments.pop();
            }
            "" if piece.is_empty() => marks.repeated_slash |= !last,
            _ => {
                segments.push(piece);
                open = false;
            }
        }
    }
    if open {
        segments.push("");
    }
    segments
}

fn unescape_slash(segment: &str) -> String {
    segment.replace(ENCODED_SLASH, "/")
}

/// The byte that two hexadecimal digits stand for, and what follows them.
fn escape(after_percent: &[u8]) -> Option<(u8, &[u8])> {
    let ([high, low], rest) = after_percent.split_first_chunk::<2>()?;
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|it| u8::try_from(it).ok());
    Some((digit(*high)? << 4 | digit(*low)?, rest))
}

fn starts_escape(text: &[u8]) -> bool {
    matches!(text, [high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit())
}

/// Whether the bytes hold a character in more bytes than it takes (RFC 3629 section 10).
fn is_overlong(bytes: &[u8]) -> bool {
    bytes.windows(2).any(|pair| {
        matches!(pair, [0xc0 | 0xc1, 0x80..=0xbf] | [0xe0, 0x80..=0x9f] | [0xf0, 0x80..=0x8f])
    })
}
