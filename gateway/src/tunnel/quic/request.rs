//! What a client asked for, and the ways to answer.

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use gateway_proto::fields::Fields;
use gateway_proto::h3::qpack::{self, Decoded};
use gateway_proto::h3::{Code, Event, FrameReader, HeadBuilder, RequestHead, put_headers};
use quinn::{RecvStream, SendStream};
use tokio::time::timeout;

use super::datagrams::Datagrams;
use super::http3::{Arriving, Owner};
use super::stream::{Begun, QuicStream};

/// A head's fields, counted as RFC 9114 section 4.2.2 does; as much as over HTTP/2.
pub(super) const HEAD_BYTES_MAX: usize = 64 * 1024;
/// The whole head must be there by then (CASES RX-01).
const HEAD_TIME_MAX: Duration = Duration::from_secs(20);

/// One request, its head checked (RFC 9114 section 4.3, RFC 9220).
pub struct Request {
    pub head: RequestHead,
    begun: Begun,
}

/// The answering end of one request. Dropped unused, it cancels the stream.
pub struct Responder(QuicStream);

/// Reads a head.
pub(super) async fn read(arriving: Arriving) -> Option<Request> {
    let mut begun = Begun::new(arriving, FrameReader::request(HEAD_BYTES_MAX as u64));
    match timeout(HEAD_TIME_MAX, head(&mut begun)).await {
        Ok(Ok(Some(head))) => return Some(Request { head, begun }),
        Ok(Ok(None)) => {
            // The client is told even where it has not sent all.
            let responder = Responder(QuicStream::new(begun));
            drop(responder.finish(431, &Fields::new(), Bytes::new()).await);
        }
        Ok(Err(code)) => give_up(begun, code),
        Err(_) => give_up(begun, Code::REQUEST_INCOMPLETE),
    }
    None
}

fn give_up(begun: Begun, code: Code) {
    begun.arriving.shared.given_up();
    QuicStream::new(begun).reset(code);
}

impl Request {
    /// The head, and the way to answer it or to make a tunnel of it.
    #[must_use]
    pub fn into_parts(self) -> (RequestHead, Responder) {
        let mut stream = QuicStream::new(self.begun);
        stream.follow(self.head.method.as_ref() == b"CONNECT", self.head.content_length);
        (self.head, Responder(stream))
    }

    /// The head, and what of the stream is behind it, for who moves bodies by itself.
    #[must_use]
    pub fn into_rest(self) -> (RequestHead, Rest) {
        let Begun { arriving, frames, raw, .. } = self.begun;
        let (owner, send, receive) = arriving.into_parts();
        let unread = raw.into_iter().flatten().collect();
        (self.head, Rest { owner, send, receive, frames, unread })
    }
}

/// A stream behind its request's head.
pub struct Rest {
    pub owner: Owner,
    pub send: SendStream,
    pub receive: RecvStream,
    pub frames: FrameReader,
    /// Read from the stream, not yet from its frames.
    pub unread: Bytes,
}

/// The head; `None` where it is too large.
async fn head(stream: &mut Begun) -> Result<Option<RequestHead>, Code> {
    let section = match stream.event().await {
        Ok(Some(Event::Headers(section))) => section,
        Ok(Some(Event::HeadersTooLarge)) => return Ok(None),
        Ok(_) => return Err(Code::REQUEST_INCOMPLETE),
        Err(_) => return Err(Code::REQUEST_CANCELLED),
    };
    let mut builder = HeadBuilder::default();
    let decoded = qpack::decode(&section, HEAD_BYTES_MAX, |name, value| builder.field(name, value));
    match decoded {
        Ok(Decoded::Whole) => builder.finish().map(Some).map_err(|_| Code::MESSAGE_ERROR),
        Ok(Decoded::TooLarge) => Ok(None),
        Err(fault) => {
            drop(stream.arriving.shared.fail(fault));
            Err(Code::REQUEST_CANCELLED)
        }
    }
}

impl Responder {
    /// Sends the response's head; a tunnel's bytes follow on the stream.
    ///
    /// # Errors
    /// Where the client has given the stream up.
    pub async fn respond(mut self, status: u16, fields: &Fields) -> io::Result<QuicStream> {
        self.answer(status, fields).await?;
        Ok(self.0)
    }

    /// The datagrams that belong to this request.
    #[must_use]
    pub fn datagrams(&self) -> Datagrams {
        self.0.datagrams()
    }

    /// Sends a whole response. A request body not read yet is no longer wanted.
    ///
    /// # Errors
    /// Where the client has given the stream up.
    pub async fn finish(mut self, status: u16, fields: &Fields, body: Bytes) -> io::Result<()> {
        self.answer(status, fields).await?;
        if !body.is_empty() {
            self.0.write_chunk(body).await?;
        }
        self.0.finish();
        Ok(())
    }

    async fn answer(&mut self, status: u16, fields: &Fields) -> io::Result<()> {
        let sent = self.0.put(encode(status, fields)).await;
        // It wants no answer any more.
        sent.inspect_err(|_| self.0.given_up())
    }

    /// Refuses the request with `code`, without a response.
    pub fn reset(mut self, code: Code) {
        self.0.reset(code);
    }
}

fn encode(status: u16, fields: &Fields) -> Bytes {
    let mut section = BytesMut::new();
    qpack::encode_prefix(&mut section);
    qpack::encode_status(status, &mut section);
    for field in fields.iter() {
        qpack::encode_field(&field.name, &field.value, &mut section);
    }
    let mut out = BytesMut::with_capacity(section.len() + 8);
    put_headers(&section, &mut out);
    out.freeze()
}
