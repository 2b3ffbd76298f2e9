//! Scans multipart/form-data (RFC 7578) and its kin as they pass: the name, type and size of
//! each part, holding no content.
//!
//! 1. [`Boundary::of`] reads the boundary out of the Content-Type.
//! 2. [`Multipart::push`] takes the body in pieces; [`Multipart::parts`] says what was seen.

mod header;

use memchr::memmem;

use self::header::read_part_header;

/// Bytes of a boundary (RFC 2046 section 5.1.1).
const BOUNDARY_BYTES_MAX: usize = 70;

/// The header of one part: a name and type with long percent-encoded file names fit many times.
const HEADER_BYTES_MAX: usize = 16 << 10;

/// Parts that are kept and judged; more of them is an evasion, not a form.
pub const PARTS_MAX: usize = 256;

/// What stands between the line that ends in a boundary and its end: padding only.
const PADDING_BYTES_MAX: usize = 256;

/// The delimiter between parts: CR LF, two hyphens and the boundary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Boundary {
    delimiter: Vec<u8>,
}

impl Boundary {
    /// Reads the boundary out of a Content-Type; `None` where that is not multipart.
    ///
    /// # Errors
    /// Where it is multipart, but two readers could see two boundaries or none.
    pub fn of(content_type: &[u8]) -> Result<Option<Self>, MultipartError> {
        let Some(parameters) = header::multipart_parameters(content_type) else {
            return Ok(None);
        };
        let mut parameters = header::Parameters::new(parameters);
        let mut found = None;
        while let Some((name, value)) = parameters.next().map_err(|_| MultipartError::Boundary)? {
            if name.eq_ignore_ascii_case(b"boundary") && found.replace(value).is_some() {
                return Err(MultipartError::Boundary);
            }
        }
        let boundary = found.ok_or(MultipartError::Boundary)?;
        let valid = (1..=BOUNDARY_BYTES_MAX).contains(&boundary.len())
            && boundary.iter().all(|byte| byte.is_ascii_graphic() || *byte == b' ')
            && boundary.last() != Some(&b' ');
        if !valid {
            return Err(MultipartError::Boundary);
        }
        let mut delimiter = b"\r\n--".to_vec();
        delimiter.extend_from_slice(&boundary);
        Ok(Some(Self { delimiter }))
    }
}

/// One part as seen so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// The form field.
    pub name: Option<String>,
    /// The file's name as `filename` gives it; never with a control character.
    pub file_name: Option<String>,
    /// The file's name as `filename*` gives it, decoded (RFC 8187). Where both are there,
    /// origins differ in which they take: judge by both.
    pub extended_file_name: Option<String>,
    /// Lower case, without parameters.
    pub content_type: Option<String>,
    /// Lower case; anything but the identity hides the content from who looks at the bytes.
    pub transfer_encoding: Option<String>,
    /// Where its content begins in the body, bytes.
    pub start: u64,
    /// Bytes of content so far; exact once complete.
    pub bytes: u64,
    pub complete: bool,
}

impl Part {
    /// Whether the part carries a file.
    #[must_use]
    pub fn is_file(&self) -> bool {
        self.file_name.is_some() || self.extended_file_name.is_some()
    }
}

/// Why a body cannot be read as a form: what an inspector would see may not be what the origin
/// sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum MultipartError {
    #[error("the boundary is missing, repeated or malformed")]
    Boundary,
    #[error("the body does not begin with its boundary")]
    Preamble,
    #[error("a boundary is not followed by a line end")]
    BoundaryLine,
    #[error("a part's header is longer than 16 KiB")]
    HeaderTooLong,
    #[error("a part's header is malformed")]
    Header,
    #[error("a part says its name twice, in two ways")]
    NameRepeated,
    #[error("a file name holds a control character")]
    ControlCharacter,
    #[error("there are more than 256 parts")]
    TooManyParts,
    #[error("bytes follow the last boundary")]
    Epilogue,
    #[error("the body ended before its last boundary")]
    Truncated,
}

impl MultipartError {
    /// A stable name for events and metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Boundary => "multipart_boundary",
            Self::Preamble => "multipart_preamble",
            Self::BoundaryLine => "multipart_boundary_line",
            Self::HeaderTooLong => "multipart_header_too_long",
            Self::Header => "multipart_header",
            Self::NameRepeated => "multipart_name_repeated",
            Self::ControlCharacter => "multipart_control_character",
            Self::TooManyParts => "multipart_too_many_parts",
            Self::Epilogue => "multipart_epilogue",
            Self::Truncated => "multipart_truncated",
        }
    }
}

/// The parts of a whole body; `None` where `content_type` is not multipart.
///
/// # Errors
/// Where the body cannot be read in one way only.
pub fn parts(content_type: &[u8], body: &[u8]) -> Result<Option<Vec<Part>>, MultipartError> {
    let Some(boundary) = Boundary::of(content_type)? else {
        return Ok(None);
    };
    let mut form = Multipart::new(&boundary);
    form.push(body)?;
    form.finish()?;
    Ok(Some(form.parts))
}

/// A form on its way. Holds part headers and at most one part header's worth of bytes.
#[derive(Debug)]
pub struct Multipart {
    finder: memmem::Finder<'static>,
    delimiter_bytes: usize,
    state: State,
    /// Bytes that could not be judged yet.
    held: Vec<u8>,
    /// Bytes of the body so far.
    pushed: u64,
    parts: Vec<Part>,
    failed: Option<MultipartError>,
}

impl Multipart {
    #[must_use]
    pub fn new(boundary: &Boundary) -> Self {
        Self {
            finder: memmem::Finder::new(&boundary.delimiter).into_owned(),
            delimiter_bytes: boundary.delimiter.len(),
            // The first delimiter has no line before it, so one is put there.
            held: b"\r\n".to_vec(),
            pushed: 0,
            state: State::Preamble,
            parts: Vec::new(),
            failed: None,
        }
    }

    /// Takes the next bytes of the body.
    ///
    /// # Errors
    /// Where the body cannot be read in one way only; the same error comes for all that follows.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), MultipartError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let mut input = std::mem::take(&mut self.held);
        input.extend_from_slice(bytes);
        self.pushed = self.pushed.saturating_add(bytes.len() as u64);
        let left = self.scan(&input).inspect_err(|error| self.failed = Some(*error))?;
        input.drain(..input.len().saturating_sub(left));
        input.shrink_to(HEADER_BYTES_MAX);
        self.held = input;
        Ok(())
    }

    /// The parts so far; the last may be incomplete.
    #[must_use]
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Says that the body ended.
    ///
    /// # Errors
    /// Where it ended early, or had failed before.
    pub fn finish(&self) -> Result<&[Part], MultipartError> {
        match (self.failed, self.state) {
            (Some(error), _) => Err(error),
            (None, State::Epilogue) => Ok(&self.parts),
            (None, State::Boundary) if self.held.starts_with(b"--") => Ok(&self.parts),
            (None, _) => Err(MultipartError::Truncated),
        }
    }

    /// Goes through `input` and says how many bytes at its end are to be held.
    fn scan(&mut self, input: &[u8]) -> Result<usize, MultipartError> {
        let mut rest = input;
        loop {
            let step = match self.state {
                State::Preamble => self.preamble(rest)?,
                State::Boundary => self.boundary(rest)?,
                State::Header { searched } => self.header(rest, searched)?,
                State::ContentStart => self.content_start(rest)?,
                State::Content => self.content(rest),
                State::Epilogue => epilogue(rest)?,
            };
            match step {
                Step::Taken(after) => rest = after,
                Step::Hold(held) => return Ok(held.len()),
            }
        }
    }

    /// A preamble is allowed by MIME and sent by nobody in a form: two readers would differ.
    fn preamble<'a>(&mut self, input: &'a [u8]) -> Result<Step<'a>, MultipartError> {
        let delimiter = self.finder.needle();
        if let Some(after) = input.strip_prefix(delimiter) {
            self.state = State::Boundary;
            return Ok(Step::Taken(after));
        }
        if delimiter.starts_with(input) {
            return Ok(Step::Hold(input));
        }
        Err(MultipartError::Preamble)
    }

    /// What follows a delimiter: padding and a line end, or the hyphens that end the form.
    fn boundary<'a>(&mut self, input: &'a [u8]) -> Result<Step<'a>, MultipartError> {
        if let Some(after) = input.strip_prefix(b"--") {
            self.state = State::Epilogue;
            return Ok(Step::Taken(after));
        }
        let padding = input.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        match input.get(padding..).unwrap_or_default() {
            _ if padding > PADDING_BYTES_MAX => Err(MultipartError::BoundaryLine),
            [b'\r', b'\n', after @ ..] => {
                self.state = State::Header { searched: 0 };
                Ok(Step::Taken(after))
            }
            [] | [b'\r'] => Ok(Step::Hold(input)),
            [b'-'] if padding == 0 => Ok(Step::Hold(input)),
            _ => Err(MultipartError::BoundaryLine),
        }
    }

    fn header<'a>(&mut self, input: &'a [u8], searched: usize) -> Result<Step<'a>, MultipartError> {
        // A part without any field begins with the empty line itself.
        if let Some(after) = input.strip_prefix(b"\r\n") {
            return self.begin_part(b"", after);
        }
        let from = searched.saturating_sub(HEADER_END.len());
        let unsearched = input.get(from..).unwrap_or_default();
        let Some(end) = memmem::find(unsearched, HEADER_END).map(|at| from + at) else {
            if input.len() > HEADER_BYTES_MAX {
                return Err(MultipartError::HeaderTooLong);
            }
            self.state = State::Header { searched: input.len() };
            return Ok(Step::Hold(input));
        };
        if end > HEADER_BYTES_MAX {
            return Err(MultipartError::HeaderTooLong);
        }
        let (header, after) = input.split_at_checked(end).unwrap_or((input, b""));
        self.begin_part(header, after.get(HEADER_END.len()..).unwrap_or_default())
    }

    fn begin_part<'a>(
        &mut self,
        header: &[u8],
        after: &'a [u8],
    ) -> Result<Step<'a>, MultipartError> {
        // A delimiter inside a header ends the part for some readers and not for others.
        if self.finder.find(&[b"\r\n", header].concat()).is_some() {
            return Err(MultipartError::Header);
        }
        if self.parts.len() >= PARTS_MAX {
            return Err(MultipartError::TooManyParts);
        }
        // What comes after the header are the last of the bytes so far.
        let start = self.pushed.saturating_sub(after.len() as u64);
        self.parts.push(Part { start, ..read_part_header(header)? });
        self.state = State::ContentStart;
        Ok(Step::Taken(after))
    }

    /// Where content begins with the boundary, some readers take the header's line end for the
    /// delimiter's.
    fn content_start<'a>(&mut self, input: &'a [u8]) -> Result<Step<'a>, MultipartError> {
        let dashes = self.finder.needle().get(2..).unwrap_or_default();
        if input.starts_with(dashes) {
            return Err(MultipartError::Header);
        }
        if dashes.starts_with(input) {
            return Ok(Step::Hold(input));
        }
        self.state = State::Content;
        Ok(Step::Taken(input))
    }

    fn content<'a>(&mut self, input: &'a [u8]) -> Step<'a> {
        let Some(part) = self.parts.last_mut() else {
            return Step::Hold(b"");
        };
        if let Some((content, found)) =
            self.finder.find(input).and_then(|at| input.split_at_checked(at))
        {
            part.bytes = part.bytes.saturating_add(content.len() as u64);
            part.complete = true;
            self.state = State::Boundary;
            return Step::Taken(found.get(self.delimiter_bytes..).unwrap_or_default());
        }
        // The last bytes may begin a delimiter.
        let keep = input.len().min(self.delimiter_bytes.saturating_sub(1));
        let (content, held) = input.split_at_checked(input.len() - keep).unwrap_or((b"", input));
        part.bytes = part.bytes.saturating_add(content.len() as u64);
        Step::Hold(held)
    }
}

/// After the last boundary a line end may come, and nothing else.
fn epilogue(input: &[u8]) -> Result<Step<'_>, MultipartError> {
    match input {
        [] | [b'\r'] | [b'\r', b'\n'] => Ok(Step::Hold(input)),
        _ => Err(MultipartError::Epilogue),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Preamble,
    Boundary,
    Header {
        /// Bytes already searched for the header's end.
        searched: usize,
    },
    ContentStart,
    Content,
    Epilogue,
}

/// What ends a part's header.
const HEADER_END: &[u8] = b"\r\n\r\n";

/// What a state did with its input.
enum Step<'a> {
    /// It took all before this.
    Taken(&'a [u8]),
    /// It needs more bytes behind these.
    Hold(&'a [u8]),
}

#[cfg(test)]
mod tests;
