//! Writes HTTP/1 heads and chunks.
//!
//! Heads may come from another protocol, so every part is checked again here: no field value
//! that HTTP/2 or a rule carried in can end a line (RFC 9113 section 8.2.1).

use bytes::{BufMut, BytesMut};

use crate::fields::Fields;

use super::line::{check_text, is_token};
use super::{Malformed, RequestHead, ResponseHead};

/// What ends a chunk's data.
pub const CHUNK_END: &[u8] = b"\r\n";

/// Appends a request head to `output`.
///
/// # Errors
/// Where a part could not be read back as itself; `output` is then unchanged.
pub fn write_request_head(head: &RequestHead, output: &mut BytesMut) -> Result<(), Malformed> {
    if !is_token(&head.method) {
        return Err(Malformed::Method);
    }
    if head.target.is_empty() || !head.target.iter().all(u8::is_ascii_graphic) {
        return Err(Malformed::Target);
    }
    check_fields(&head.fields)?;
    let line = head.method.len() + head.target.len() + " HTTP/1.1 \r\n".len();
    output.reserve(line + section_bytes(&head.fields));
    output.put_slice(&head.method);
    output.put_u8(b' ');
    output.put_slice(&head.target);
    output.put_u8(b' ');
    output.put_slice(head.version.as_str().as_bytes());
    output.put_slice(b"\r\n");
    write_section(&head.fields, output);
    Ok(())
}

/// Appends a response head to `output`.
///
/// # Errors
/// Where a part could not be read back as itself; `output` is then unchanged.
pub fn write_response_head(head: &ResponseHead, output: &mut BytesMut) -> Result<(), Malformed> {
    if !(100..=999).contains(&head.status) {
        return Err(Malformed::StatusLine);
    }
    check_text(&head.reason)?;
    check_fields(&head.fields)?;
    let line = head.reason.len() + "HTTP/1.1 200 \r\n".len();
    output.reserve(line + section_bytes(&head.fields));
    output.put_slice(head.version.as_str().as_bytes());
    output.put_u8(b' ');
    for digit in [head.status / 100, head.status / 10 % 10, head.status % 10] {
        output.put_u8(b'0' + u8::try_from(digit).unwrap_or_default());
    }
    output.put_u8(b' ');
    output.put_slice(&head.reason);
    output.put_slice(b"\r\n");
    write_section(&head.fields, output);
    Ok(())
}

/// Appends the line before a chunk of `length` bytes. The data and [`CHUNK_END`] must follow.
/// A length of 0 would end the body, so nothing is written for it.
pub fn write_chunk_header(length: u64, output: &mut BytesMut) {
    if length == 0 {
        return;
    }
    let mut shift = 60 - (length.leading_zeros() & !3);
    loop {
        let nibble = u8::try_from(length >> shift & 0xf).unwrap_or_default();
        output.put_u8(if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 });
        let Some(next) = shift.checked_sub(4) else {
            break;
        };
        shift = next;
    }
    output.put_slice(b"\r\n");
}

/// Appends the last chunk and the trailers.
///
/// # Errors
/// Where a trailer could not be read back as itself; `output` is then unchanged.
pub fn write_last_chunk(trailers: &Fields, output: &mut BytesMut) -> Result<(), Malformed> {
    check_fields(trailers)?;
    output.put_slice(b"0\r\n");
    write_section(trailers, output);
    Ok(())
}

fn check_fields(fields: &Fields) -> Result<(), Malformed> {
    for field in fields.iter() {
        if !is_token(&field.name) {
            return Err(Malformed::FieldName);
        }
        check_text(&field.value)?;
    }
    Ok(())
}

fn section_bytes(fields: &Fields) -> usize {
    fields.iter().map(|field| field.name.len() + field.value.len() + 4).sum::<usize>() + 2
}

fn write_section(fields: &Fields, output: &mut BytesMut) {
    for field in fields.iter() {
        output.put_slice(&field.name);
        output.put_slice(b": ");
        output.put_slice(&field.value);
        output.put_slice(b"\r\n");
    }
    output.put_slice(b"\r\n");
}
