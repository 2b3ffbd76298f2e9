//! A body that is held back, whole, until it has been judged.

use std::fmt::Write as _;
use std::ops::Range;

use aws_lc_rs::digest;
use bytes::Bytes;
use gateway_proto::fields::Fields;
use gateway_proto::multipart;
use policy::catalog::Operation;
use policy::content::{Hit, Profiles, Text};
use policy::fact::Unobtainable;
use smallvec::SmallVec;

use super::file_type;
use crate::event::Inspection;
use crate::exchange::Coding;

/// What a whole body says of the files it carries.
#[derive(Debug, Default)]
pub struct Held {
    pub bytes: Bytes,
    /// Of every file in it, as either spelling gives it.
    pub file_names: Vec<String>,
    pub file_type: Option<String>,
    /// Of the largest file, bytes.
    pub file_size: Option<u64>,
    /// Where the largest file is; `None` where its bytes are not here as they were sent.
    file: Option<Range<usize>>,
    /// What of the tenant's profiles is in it, where that was asked for, or why that cannot be told.
    pub searched: Option<Result<Searched, Unobtainable>>,
}

/// What a search of a body found.
#[derive(Clone, Debug)]
pub struct Searched {
    pub hits: Vec<Hit>,
    /// All of it was text. What is packed, encrypted or a picture was searched as it is.
    pub is_text: bool,
}

/// What a held body said, without its bytes: they need not be kept until the response comes.
#[derive(Debug)]
pub struct Settled {
    pub(super) held: Held,
    pub(super) instance: Option<String>,
    pub(super) operations: SmallVec<[Operation<'static>; 1]>,
}

impl Held {
    /// The same files, without the bytes.
    pub(super) fn without_bytes(&self) -> Self {
        Self {
            bytes: Bytes::new(),
            file_names: self.file_names.clone(),
            file_type: self.file_type.clone(),
            file_size: self.file_size,
            file: None,
            searched: self.searched.clone(),
        }
    }

    /// Looks for what the profiles describe. A body in a coding that is not read here, or that unpacks to
    /// more than `bytes_max`, cannot be searched.
    pub fn search(&mut self, fields: &Fields, profiles: &Profiles, bytes_max: usize) {
        let content_type = fields.first("content-type").map_or(b"".as_slice(), |it| it);
        let unpacked = match fields.text("content-encoding").map(str::trim) {
            None | Some("" | "identity") => Ok(self.bytes.clone()),
            coding => Coding::named(coding).read(&self.bytes, bytes_max).map(Bytes::from),
        };
        self.searched = Some(unpacked.map(|bytes| {
            let text = Text::of(content_type, &bytes);
            Searched { hits: profiles.search(&text), is_text: text.is_text() }
        }));
    }

    /// How much of it was searched.
    #[must_use]
    pub fn inspection(&self) -> Inspection {
        match &self.searched {
            Some(Ok(Searched { is_text: true, .. })) => Inspection::Full,
            Some(Ok(_)) => Inspection::Partial,
            Some(Err(_)) | None => Inspection::None,
        }
    }

    /// Reads a whole body of this Content-Type (empty where there is none).
    ///
    /// # Errors
    /// Where it is malformed: the origin may read it otherwise, so nothing in it may be believed.
    pub fn of(content_type: &[u8], bytes: Bytes) -> Result<Self, Unobtainable> {
        let parts = parts(content_type, &bytes).ok_or(Unobtainable::Unreadable)?;
        let Some((parts, as_sent)) = parts else {
            let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            let file_type = file_type::of_content(&bytes).map(ToOwned::to_owned);
            let file = Some(0..bytes.len());
            return Ok(Self { file_size: Some(size), file, bytes, file_type, ..Self::default() });
        };
        let files: Vec<_> = parts.into_iter().filter(multipart::Part::is_file).collect();
        let largest = files.iter().max_by_key(|file| file.bytes);
        let file_size = largest.map(|file| file.bytes);
        let file = largest.filter(|_| as_sent).and_then(range);
        let file_names = files
            .into_iter()
            .flat_map(|file| [file.file_name, file.extended_file_name])
            .flatten()
            .collect();
        Ok(Self { bytes, file_names, file_size, file, ..Self::default() })
    }

    /// The SHA-256 of the largest file as it was sent, in hexadecimal. Takes as long as its bytes are many:
    /// about a millisecond for a megabyte.
    #[must_use]
    pub fn sha256(&self) -> Option<String> {
        let bytes = self.bytes.get(self.file.clone()?)?;
        let mut digits = String::with_capacity(64);
        for byte in digest::digest(&digest::SHA256, bytes).as_ref() {
            // Into a string, which takes everything.
            write!(digits, "{byte:02x}").ok()?;
        }
        Some(digits)
    }
}

/// Where a part's content stands in the body.
fn range(part: &multipart::Part) -> Option<Range<usize>> {
    let start = usize::try_from(part.start).ok()?;
    Some(start..start.checked_add(usize::try_from(part.bytes).ok()?)?)
}

/// Largest body whose lines are mended to be read: what clients send in one piece with its
/// description, and no more memory than that for a moment.
const MENDED_BYTES_MAX: usize = 8 << 20;

/// The parts of a multipart body, and whether they are read from it as it was sent; `Some(None)` where it is none, `None` where it cannot be read in
/// one way only. What is not a form (RFC 2387) may end its lines without CR: some API clients send
/// that and their origins take it, while a form that does is read differently by different origins.
#[expect(clippy::option_option, reason = "malformed, none, or parts")]
fn parts(content_type: &[u8], bytes: &[u8]) -> Option<Option<(Vec<multipart::Part>, bool)>> {
    let strict = multipart::parts(content_type, bytes);
    let kind = content_type.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii();
    let is_form = kind.eq_ignore_ascii_case(b"multipart/form-data");
    match strict {
        Ok(None) => return Some(None),
        Ok(Some(parts)) if is_form || !has_bare_delimiter(bytes) => {
            return Some(Some((parts, true)));
        }
        Err(_) if is_form => return None,
        _ if bytes.len() > MENDED_BYTES_MAX => return None,
        _ => {}
    }
    let mended = multipart::parts(content_type, &with_cr(bytes)).ok()?;
    match strict {
        // Read in either way it must have the same parts, or some are hidden from one reader.
        Ok(parts) => same_names(parts.as_deref(), mended.as_deref())
            .then(|| parts.map(|parts| (parts, true))),
        Err(_) => Some(mended.map(|parts| (parts, false))),
    }
}

/// Whether what may be a delimiter stands behind a lone LF.
fn has_bare_delimiter(bytes: &[u8]) -> bool {
    memchr::memmem::find_iter(bytes, b"\n--")
        .any(|at| at.checked_sub(1).and_then(|before| bytes.get(before)) != Some(&b'\r'))
}

fn same_names(one: Option<&[multipart::Part]>, other: Option<&[multipart::Part]>) -> bool {
    let names = |parts: Option<&[multipart::Part]>| -> Vec<_> {
        let named = |part: &multipart::Part| {
            (part.name.clone(), part.file_name.clone(), part.extended_file_name.clone())
        };
        parts.unwrap_or_default().iter().map(named).collect()
    };
    names(one) == names(other)
}

/// The same with a CR before each LF.
fn with_cr(bytes: &[u8]) -> Vec<u8> {
    let mut mended = Vec::with_capacity(bytes.len() + bytes.len() / 16);
    let mut before = 0;
    for &byte in bytes {
        if byte == b'\n' && before != b'\r' {
            mended.push(b'\r');
        }
        mended.push(byte);
        before = byte;
    }
    mended
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn only_what_is_no_form_may_leave_out_the_cr() {
        let body = "--b\nContent-Disposition: attachment; filename=\"a.pem\"\n\nkey\n--b--\n";
        let of = |kind: &str| {
            Held::of(format!("{kind}; boundary=b").as_bytes(), Bytes::from_static(body.as_bytes()))
        };
        assert_eq!(of("multipart/related").unwrap().file_names, ["a.pem"]);
        assert_eq!(of("multipart/form-data").unwrap_err(), Unobtainable::Unreadable);
    }

    #[test]
    fn the_digest_is_of_the_largest_file_as_it_was_sent() {
        // `printf 'the whole of it' | sha256sum`
        let digest = "47809887be58d96f08ff76d8b48b3983127d513754098362659ef2e9c94be619";
        let raw = Held::of(b"application/pdf", Bytes::from_static(b"the whole of it")).unwrap();
        assert_eq!(raw.sha256().as_deref(), Some(digest));
        let part = |name: &str, content: &str| {
            format!(
                "--b\r\nContent-Disposition: form-data; name=f; filename={name}\r\n\r\n{content}\r\n"
            )
        };
        let form = [&part("a", "less"), &part("b", "the whole of it"), "--b--\r\n"].concat();
        let form = Held::of(b"multipart/form-data; boundary=b", form.into()).unwrap();
        assert_eq!(form.sha256().as_deref(), Some(digest));
        assert_eq!(form.without_bytes().sha256(), None);
        // Read with its line ends mended, it is not there as it was sent.
        let bare = "--b\nContent-Disposition: attachment; filename=a\n\nthe whole\n--b--\n";
        let bare = Held::of(b"multipart/related; boundary=b", bare.into()).unwrap();
        assert_eq!((bare.file_size, bare.sha256()), (Some(9), None));
    }

    #[test]
    fn a_part_that_only_some_readers_see_hides_nothing() {
        let part = |name: &str, end: &str| {
            format!("--b{end}Content-Disposition: attachment; filename=\"{name}\"{end}{end}text")
        };
        let of = |body: String| {
            Held::of(b"multipart/related; boundary=b", body.into()).map(|held| held.file_names)
        };
        let hidden = format!("{}\n{}\r\n--b--\r\n", part("a.txt", "\r\n"), part("b.pem", "\n"));
        assert_eq!(of(hidden), Err(Unobtainable::Unreadable));
        let dashes = format!("{}\n-- \n--c\r\n--b--\r\n", part("a.txt", "\r\n"));
        assert_eq!(of(dashes).unwrap(), ["a.txt"], "a signature below a text is none");
    }
}
