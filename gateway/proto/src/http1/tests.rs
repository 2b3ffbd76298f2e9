//! Cases of group H1: one reading of every message, or none.
#![expect(clippy::unwrap_used, reason = "tests")]

mod bodies;
mod heads;

use bytes::BytesMut;

use super::*;

fn request(text: &[u8]) -> Result<RequestHead, Malformed> {
    let mut buffer = BytesMut::from(text);
    let head = parse_request(&mut buffer, &Limits::REQUEST)?;
    Ok(head.unwrap())
}

fn response(text: &[u8]) -> Result<ResponseHead, Malformed> {
    let mut buffer = BytesMut::from(text);
    let head = parse_response(&mut buffer, &Limits::RESPONSE)?;
    Ok(head.unwrap())
}

/// A request with `fields` between its Host and its end.
fn with_fields(fields: &str) -> Vec<u8> {
    format!("POST / HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n").into_bytes()
}

fn framing(fields: &str) -> Result<BodyLength, Malformed> {
    request_body(&request(&with_fields(fields))?)
}

fn response_framing(fields: &str, method: &[u8]) -> Result<BodyLength, Malformed> {
    let text = format!("HTTP/1.1 200 OK\r\n{fields}\r\n");
    response_body(&response(text.as_bytes())?, method)
}
