//! What a peer asked for, and the ways to answer.

use std::future::poll_fn;
use std::task::{Context, Poll};

use bytes::Bytes;
use gateway_proto::fields::Fields;
use gateway_proto::h2::Code;

use super::stream::{MuxStream, RecvHalf, SendHalf};

/// What follows the request's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyHint {
    /// CONNECT, plain or extended: the stream carries bytes both ways once answered with 2xx.
    Tunnel,
    /// Nothing: the head ended the stream.
    Empty,
    /// A body of exactly so many bytes (checked as it arrives).
    Sized(u64),
    /// A body of unknown length.
    Unsized,
}

/// One request, its head checked (RFC 9113 section 8.3, RFC 8441).
#[derive(Debug)]
pub struct Request {
    pub method: Bytes,
    /// Absent only for plain CONNECT.
    pub scheme: Option<Bytes>,
    /// From `:authority`, else from `host`; for CONNECT `host:port`. Never with user information.
    pub authority: Bytes,
    /// Empty for plain CONNECT.
    pub path: Bytes,
    /// `:protocol` of an extended CONNECT.
    pub protocol: Option<Bytes>,
    /// Without pseudo-headers; no connection-specific field; cookies joined into one.
    pub fields: Fields,
    pub body: BodyHint,
    pub responder: Responder,
}

/// The answering end of one request. Dropped unused, it resets the stream (`CANCEL`).
#[derive(Debug)]
pub struct Responder {
    recv: Option<RecvHalf>,
    send: SendHalf,
}

impl Responder {
    pub(super) fn new(recv: RecvHalf, send: SendHalf) -> Self {
        Self { recv: Some(recv), send }
    }

    /// Takes the request's body, to be read before or beside the answer. What
    /// [`Responder::respond`] then returns reads as ended. `None` the second time.
    #[must_use]
    pub fn take_body(&mut self) -> Option<RecvHalf> {
        self.recv.take()
    }

    /// Sends an interim response (1xx other than 101), before the final one.
    pub fn inform(&self, status: u16, fields: &Fields) {
        self.send.head(status, fields);
    }

    /// Sends the response's head; a body, or a tunnel's bytes, follow on the stream.
    #[must_use]
    pub fn respond(self, status: u16, fields: &Fields) -> MuxStream {
        self.send.head(status, fields);
        MuxStream::new(self.recv, self.send)
    }

    /// Sends a whole response. A request body not read yet is no longer wanted
    /// (RFC 9113 section 8.1).
    pub fn finish(mut self, status: u16, fields: &Fields, body: Bytes) {
        self.send.whole(status, fields, body);
    }

    /// Refuses the request with `code`, without a response.
    pub fn reset(self, code: Code) {
        self.send.reset(code);
    }

    /// Waits until the peer has given the stream up (or the tunnel ended), for work that should
    /// stop then.
    pub async fn abandoned(&mut self) {
        poll_fn(|context| self.poll_abandoned(context)).await;
    }

    /// See [`Responder::abandoned`].
    pub fn poll_abandoned(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.send.poll_broken(context)
    }
}
