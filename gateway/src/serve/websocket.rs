//! The opening handshake of a WebSocket, said the way each side's HTTP version says it (RFC 6455
//! section 4, RFC 8441 section 5). What follows it is never looked at here.

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use crate::exchange::{Request, Response};
use crate::ident::random;

const KEY: &str = "sec-websocket-key";
const ACCEPT: &str = "sec-websocket-accept";
/// Joined to the key before it is hashed (RFC 6455 section 1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Gives a request that came by extended CONNECT the key that HTTP/1.1 origins want.
pub(super) fn complete(request: &mut Request) {
    if request.upgrade.is_some() && !request.fields.has(KEY) {
        // Without randomness the origin refuses the handshake; nothing less safe happens.
        if let Some(nonce) = random::bytes::<16>() {
            request.fields.push("Sec-WebSocket-Key", STANDARD.encode(nonce));
        }
    }
}

/// Whether the origin understood that it was asked for a WebSocket, and not for something that it
/// answers with 101 by accident (CASES H1-16).
pub(super) fn is_accepted(request: &Request, response: &Response) -> bool {
    let wanted = request.fields.first(KEY).map(|key| accept(key));
    wanted.is_some()
        && wanted.as_deref().map(str::as_bytes) == response.fields.first(ACCEPT).map(|it| &**it)
}

/// The response for a client that asked by Upgrade.
pub(super) fn for_http1(request: &Request, mut response: Response) -> Response {
    response.status = 101;
    response.reason = Bytes::from_static(b"Switching Protocols");
    if !response.fields.has(ACCEPT)
        && let Some(key) = request.fields.first(KEY)
    {
        response.fields.push("Sec-WebSocket-Accept", accept(key));
    }
    response
}

/// The response for a client that asked by extended CONNECT.
pub(super) fn for_http2(mut response: Response) -> Response {
    response.status = 200;
    response.fields.remove(ACCEPT);
    response
}

/// `Sec-WebSocket-Accept` of a key (RFC 6455 section 4.2.2).
fn accept(key: &[u8]) -> String {
    let joined = [key, GUID].concat();
    STANDARD.encode(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &joined))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_example_of_rfc_6455_is_accepted() {
        assert_eq!(super::accept(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
