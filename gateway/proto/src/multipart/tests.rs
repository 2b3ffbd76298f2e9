//! Forms as senders make them, in pieces, and made to be read in two ways.
#![expect(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;

use super::*;

fn boundary(content_type: &str) -> Result<Option<Boundary>, MultipartError> {
    Boundary::of(content_type.as_bytes())
}

fn scan(body: &[u8], step: usize) -> Result<Vec<Part>, MultipartError> {
    let mut form = Multipart::new(&boundary("multipart/form-data; boundary=B").unwrap().unwrap());
    for piece in body.chunks(step) {
        form.push(piece)?;
    }
    form.finish().map(<[Part]>::to_vec)
}

/// The one part of a form with this header.
fn part(header: &str) -> Result<Part, MultipartError> {
    let body = format!("--B\r\n{header}\r\n\r\nx\r\n--B--\r\n");
    scan(body.as_bytes(), 1000).map(|parts| parts.into_iter().next().unwrap())
}

fn disposition(parameters: &str) -> Result<Part, MultipartError> {
    part(&format!("Content-Disposition: form-data; {parameters}"))
}

const FORM: &[u8] = b"--B\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nhello\r\n\
    --B \t\r\ncontent-disposition: form-data; name=\"f\"; filename=\"r\xc3\xa9sum\xc3\xa9.PDF\"\r\n\
    Content-Type: Application/PDF; q=1\r\n\r\n%PDF\r\n--C\r\n--\r\n\
    --B\r\nContent-Disposition: form-data; name=e\r\n\r\n\r\n\
    --B\r\n\r\nbare\r\n--B--\r\n";

#[test]
fn every_part_is_seen_with_its_name_type_and_size() {
    let parts = scan(FORM, 1000).unwrap();
    let sizes: Vec<u64> = parts.iter().map(|part| part.bytes).collect();
    assert_eq!(sizes, [5, 13, 0, 4]);
    assert!(parts.iter().all(|part| part.complete));
    let file = parts.get(1).unwrap();
    assert_eq!(file.name.as_deref(), Some("f"));
    assert_eq!(file.file_name.as_deref(), Some("résumé.PDF"));
    assert!(file.is_file() && !parts.first().unwrap().is_file());
    assert_eq!(super::parts(b"multipart/form-data; boundary=B", FORM), Ok(Some(parts.clone())));
    assert_eq!(super::parts(b"text/plain", FORM), Ok(None));
    assert_eq!(file.content_type.as_deref(), Some("application/pdf"));
}

#[test]
fn a_form_is_the_same_however_it_is_split() {
    let whole = scan(FORM, 1000).unwrap();
    for step in 1..FORM.len() {
        assert_eq!(scan(FORM, step).as_ref(), Ok(&whole), "{step}");
    }
}

#[test]
fn a_form_cut_short_is_not_complete() {
    for end in 0..FORM.len() - 2 {
        let cut = scan(FORM.get(..end).unwrap(), 7);
        assert_eq!(cut, Err(MultipartError::Truncated), "{end}");
    }
    assert!(scan(FORM.strip_suffix(b"\r\n").unwrap(), 7).is_ok());
}

#[test]
fn boundaries_are_read_in_one_way_or_not() {
    let of = |parameters: &str| boundary(&format!("Multipart/Form-Data{parameters}"));
    assert_eq!(boundary("text/plain; boundary=a"), Ok(None));
    assert!(boundary("multipart/related; type=\"x\"; BOUNDARY=\"a b\"; ").unwrap().is_some());
    assert!(of("; boundary=----WebKitFormBoundaryAbc123").unwrap().is_some());
    for parameters in [
        "",
        ";",
        "; boundary",
        "; boundary=",
        "; boundary=\"\"",
        "; boundary=a; boundary=b",
        "; boundary=a; boundary=a",
        "; boundary=\"a",
        "; boundary=\"a \"",
        "; boundary=a b",
        "; boundary =a",
        "; boundary=\"a\" b",
        "; boundary=a, boundary=b",
        "; boundary=\u{e9}",
        &format!("; boundary={}", "a".repeat(71)),
    ] {
        assert_eq!(of(parameters), Err(MultipartError::Boundary), "{parameters}");
    }
}

#[test]
fn file_names_are_read_in_every_spelling() {
    let name = |parameters: &str| disposition(parameters).unwrap().file_name.unwrap();
    assert_eq!(name("name=a; filename=b.txt"), "b.txt");
    assert_eq!(name("FILENAME=\"b.txt\"; name=a"), "b.txt");
    assert_eq!(name("filename=\"a\\\"b\\\\c\""), "a\"b\\c");
    assert_eq!(name("filename=\"C:\\dir\\b.txt\""), "C:\\dir\\b.txt");
    assert_eq!(name("filename=\"a;b=c.txt\""), "a;b=c.txt");
    assert_eq!(name("filename=\"a%0D%0A%22.txt\""), "a%0D%0A%22.txt");
    assert_eq!(name("filename=\"\""), "");
    let both = disposition("filename=\"n.txt\"; filename*=UTF-8''na%C3%AFve.exe").unwrap();
    assert_eq!(both.file_name.as_deref(), Some("n.txt"));
    assert_eq!(both.extended_file_name.as_deref(), Some("naïve.exe"));
    let latin = disposition("filename*=iso-8859-1'en'%A3.txt").unwrap();
    assert_eq!(latin.extended_file_name.as_deref(), Some("£.txt"));
}

#[test]
fn file_names_that_read_two_ways_are_refused() {
    for (parameters, fault) in [
        ("filename=a; filename=b", MultipartError::NameRepeated),
        ("filename*=UTF-8''a; filename*=UTF-8''b", MultipartError::NameRepeated),
        ("filename=\"a", MultipartError::Header),
        ("filename=\"a\"b", MultipartError::Header),
        ("filename=a b", MultipartError::Header),
        ("filename=", MultipartError::Header),
        ("filename =a", MultipartError::Header),
        ("filename*0=\"a\"; filename*1=\".exe\"", MultipartError::Header),
        ("filename*0*=UTF-8''a", MultipartError::Header),
        ("filename*=a", MultipartError::Header),
        ("filename*=utf-7''a", MultipartError::Header),
        ("filename*=UTF-8''a%0d%0ab", MultipartError::ControlCharacter),
        ("filename*=UTF-8''a%00b", MultipartError::ControlCharacter),
        ("filename=\"a\rb\"", MultipartError::ControlCharacter),
        ("filename=\"a\nb\"", MultipartError::ControlCharacter),
        ("filename=\"a\0b\"", MultipartError::ControlCharacter),
        ("filename=\"a\tb\"", MultipartError::ControlCharacter),
        ("filename=\"a\r\n b\"", MultipartError::Header),
        ("name=a\r\nContent-Disposition: form-data; filename=b", MultipartError::NameRepeated),
        ("name=a\r\nContent-Type: a/b\r\nContent-Type: c/d", MultipartError::NameRepeated),
        ("name=a\r\n folded: b", MultipartError::Header),
        ("name=a\r\nX : b", MultipartError::Header),
        ("name=a\r\n--B", MultipartError::Header),
    ] {
        assert_eq!(disposition(parameters), Err(fault), "{parameters:?}");
    }
}

#[test]
fn bodies_that_read_two_ways_are_refused() {
    for (body, fault) in [
        (&b"preamble\r\n--B\r\n"[..], MultipartError::Preamble),
        (b"\r\n--B\r\n", MultipartError::Preamble),
        (b"--C\r\n", MultipartError::Preamble),
        (b"--Bx\r\n", MultipartError::BoundaryLine),
        (b"--B\n", MultipartError::BoundaryLine),
        (b"--B -\r\n", MultipartError::BoundaryLine),
        (b"--B\r\nX: y\r\n\r\n--B--", MultipartError::Header),
        (b"--B--\r\nmore", MultipartError::Epilogue),
        (b"--B\r\nX: y\r\n\r\nz\r\n--Bx", MultipartError::BoundaryLine),
    ] {
        for step in [1, 3, 100] {
            assert_eq!(scan(body, step), Err(fault), "{}", body.escape_ascii());
        }
    }
}

#[test]
fn what_is_held_is_bounded() {
    let parts = b"--B\r\n\r\nx\r\n".repeat(PARTS_MAX + 1);
    assert_eq!(scan(&parts, 100), Err(MultipartError::TooManyParts));
    let header = [b"--B\r\nX: ", "y".repeat(HEADER_BYTES_MAX).as_bytes()].concat();
    assert_eq!(scan(&header, 100), Err(MultipartError::HeaderTooLong));
    let padding = [b"--B", " ".repeat(300).as_bytes()].concat();
    assert_eq!(scan(&padding, 100), Err(MultipartError::BoundaryLine));
    let mut form = Multipart::new(&boundary("multipart/form-data; boundary=B").unwrap().unwrap());
    form.push(b"--B\r\n\r\n").unwrap();
    for _ in 0..100 {
        form.push(&[b'\r'; 100_000]).unwrap();
        assert!(form.held.len() < 8 && form.held.capacity() <= HEADER_BYTES_MAX);
    }
    assert!(form.parts().first().unwrap().bytes > 9_999_000);
}

proptest! {
    #[test]
    fn any_content_has_its_size(
        content in prop::collection::vec(prop::sample::select(b"\r\n-Bx".to_vec()), 0..200),
        step in 1_usize..50,
    ) {
        prop_assume!(!content.starts_with(b"--B"));
        prop_assume!(memmem::find(&content, b"\r\n--B").is_none());
        let body = [b"--B\r\n\r\n", content.as_slice(), b"\r\n--B--"].concat();
        let parts = scan(&body, step).unwrap();
        prop_assert_eq!(parts.first().map(|part| part.bytes), Some(content.len() as u64));
    }
}
