//! Looks into forms that nothing holds, as they go by, for the record alone: whether they carry a file.

use gateway_proto::multipart::{Boundary, Multipart};

use super::transaction::Transaction;
use crate::event::{App, Text};
use crate::exchange::{Frame, Request};
use crate::verdict::file_type;

/// Of a body that is looked at: what stands before a file in a form is small, and a form without any
/// costs no more than this.
const LOOKED_AT_BYTES_MAX: usize = 16 * 1024;
/// What is known of a form whose body nobody read.
const BARE: &str = "form_post";

/// One form on its way.
pub(super) struct Peek {
    boundary: Boundary,
    form: Multipart,
    left: usize,
}

impl Peek {
    /// Where no more is known of the request than that it is a form, and its body can be read as it is.
    pub(super) fn of(request: &Request, app: &App) -> Option<Self> {
        let fields = &request.fields;
        if !is_bare(app) || fields.first("content-encoding").is_some() {
            return None;
        }
        let boundary = Boundary::of(fields.first("content-type")?).ok()??;
        let form = Multipart::new(&boundary);
        Some(Self { boundary, form, left: LOOKED_AT_BYTES_MAX })
    }

    pub(super) fn note(&mut self, frame: &Frame) {
        let Frame::Data(data) = frame else { return };
        if self.left == 0 || self.file_name().is_some() {
            return;
        }
        let piece = data.get(..self.left).unwrap_or(data);
        self.left = self.left.saturating_sub(piece.len());
        if self.form.push(piece).is_err() {
            // Who reads it otherwise may see other parts: it shows nothing.
            *self = Self { left: 0, ..self.anew() };
        }
    }

    /// The body is sent once more, from its beginning.
    pub(super) fn restart(&mut self) {
        *self = self.anew();
    }

    fn anew(&self) -> Self {
        let boundary = self.boundary.clone();
        Self { form: Multipart::new(&boundary), boundary, left: LOOKED_AT_BYTES_MAX }
    }

    /// The name of the first file; browsers send an empty one where none was chosen.
    fn file_name(&self) -> Option<&str> {
        let parts = self.form.parts().iter();
        parts
            .flat_map(|part| [&part.file_name, &part.extended_file_name])
            .filter_map(|name| name.as_deref())
            .find(|name| !name.is_empty())
    }
}

fn is_bare(app: &App) -> bool {
    app.activity.as_ref().is_some_and(|it| it.as_str() == BARE)
}

/// For the record: what a form that went by showed.
impl Transaction {
    pub(super) fn peeked(&mut self, peek: &Peek) {
        let Some(name) = peek.file_name().filter(|_| is_bare(&self.record.app)) else { return };
        let app = &mut self.record.app;
        app.activity = Some("upload".into());
        app.object = Some(Text::copied(name));
        app.object_type = Some("file".into());
        let content = &mut self.record.content;
        if content.file_name.is_none() {
            content.file_name = Some(Text::copied(name));
            content.file_type = file_type::named(Some(name), None);
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use bytes::Bytes;

    use super::*;

    fn seen(pieces: &[&str]) -> Option<String> {
        let boundary = Boundary::of(b"multipart/form-data; boundary=b").unwrap().unwrap();
        let form = Multipart::new(&boundary);
        let mut peek = Peek { boundary, form, left: LOOKED_AT_BYTES_MAX };
        for piece in pieces {
            peek.note(&Frame::Data(Bytes::copy_from_slice(piece.as_bytes())));
        }
        peek.file_name().map(ToOwned::to_owned)
    }

    const FIELD: &str = "--b\r\nContent-Disposition: form-data; name=\"note\"\r\n\r\nhello\r\n";
    const FILE: &str =
        "--b\r\nContent-Disposition: form-data; name=\"f\"; filename=\"a.pdf\"\r\n\r\n%PDF";

    #[test]
    fn a_file_shows_by_the_head_of_its_part_however_it_is_cut() {
        assert_eq!(seen(&[FIELD, FILE]).as_deref(), Some("a.pdf"));
        let (one, two) = FILE.split_at(60);
        assert_eq!(seen(&[FIELD, one, two]).as_deref(), Some("a.pdf"));
        assert_eq!(seen(&[FIELD, "--b--\r\n"]), None);
    }

    #[test]
    fn an_input_without_a_chosen_file_is_none() {
        let empty = FILE.replace("a.pdf", "").replace("%PDF", "\r\n--b--\r\n");
        assert_eq!(seen(&[&empty]), None);
    }

    #[test]
    fn what_comes_late_or_can_be_read_in_two_ways_shows_nothing() {
        let long = FIELD.replace("hello", &"x".repeat(LOOKED_AT_BYTES_MAX));
        assert_eq!(seen(&[&long, FILE]), None);
        assert_eq!(seen(&["preamble\r\n", FILE]), None);
    }
}
