//! One request's stream: its head and body in, the response out.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use gateway_proto::fields::Fields;
use gateway_proto::h3::qpack::{Decoded, decode};
use gateway_proto::h3::{Code, Event, Fault, FrameReader, RequestHead, check_trailer};
use quinn::{RecvStream, StoppedError, VarInt};
use tokio::io::ReadBuf;
use tokio::time::timeout;

use super::head::{self, HeadFault, Unreadable};
use super::outgoing::Outgoing;
use crate::exchange::http2::HEADER_LIST_BYTES_MAX;
use crate::exchange::{Frame, Length, Request, Response, Scheme, Sink, Source};
use crate::tunnel::quic::{Arriving, Owner, Rest};

/// A head comes in a flight or two.
const HEAD_TIME_MAX: Duration = Duration::from_secs(30);
/// A request whose method needs no body has its end right behind its head, if not in the same packet.
const END_TIME_MAX: Duration = Duration::from_millis(500);
/// What is read at once.
const CHUNK_BYTES_MAX: usize = 16 * 1024;

/// See the module.
pub struct Http3 {
    owner: Owner,
    receive: RecvStream,
    frames: FrameReader,
    /// Read from the stream, not yet from its frames.
    unread: Bytes,
    /// A piece of the body that was looked at to see whether there is one.
    ahead: Option<Frame>,
    received_all: bool,
    /// Bytes still announced by `content-length`.
    left: Option<u64>,
    outgoing: Outgoing,
    stopped: Option<Stopped>,
    /// It has its answer, or is counted as one that will not have it.
    settled: bool,
}

type Stopped = Pin<Box<dyn Future<Output = Result<Option<VarInt>, StoppedError>> + Send + Sync>>;

impl Http3 {
    /// Reads the head that a stream begins with. `port` is that of the connection.
    ///
    /// # Errors
    /// Where it is no request; the client has then been told.
    pub async fn accept(arriving: Arriving, port: u16) -> Result<(Request, Self), Unreadable> {
        let (owner, send, receive) = arriving.into_parts();
        let frames = FrameReader::request(HEADER_LIST_BYTES_MAX.into());
        let mut stream = Self::new(Rest { owner, send, receive, frames, unread: Bytes::new() });
        let head = timeout(HEAD_TIME_MAX, stream.head()).await.unwrap_or(Err(Unreadable::Slow));
        stream.begin(head.and_then(|head| head::canonical(head, Scheme::Https, port))).await
    }

    /// The request whose head was read from a tunnel's own stream: it names its own destination.
    ///
    /// # Errors
    /// Where it is none that could be sent on; the client has then been told.
    pub async fn behind(head: RequestHead, rest: Rest) -> Result<(Request, Self), Unreadable> {
        let secure = head.scheme.as_deref().is_some_and(|it| it.eq_ignore_ascii_case(b"https"));
        let scheme = if secure { Scheme::Https } else { Scheme::Http };
        let request = head::canonical(head, scheme, scheme.port());
        Self::new(rest).begin(request).await
    }

    fn new(rest: Rest) -> Self {
        let Rest { owner, send, receive, frames, unread } = rest;
        Self {
            owner,
            receive,
            frames,
            unread,
            ahead: None,
            received_all: false,
            left: None,
            outgoing: Outgoing::new(send),
            stopped: None,
            settled: false,
        }
    }

    async fn begin(
        mut self,
        request: Result<Request, Unreadable>,
    ) -> Result<(Request, Self), Unreadable> {
        match request {
            Ok(mut request) => {
                if let Length::Exact(length) = request.body {
                    self.left = Some(length);
                }
                self.measure(&mut request).await;
                Ok((request, self))
            }
            Err(unreadable) => {
                self.tell(unreadable).await;
                Err(unreadable)
            }
        }
    }

    async fn head(&mut self) -> Result<RequestHead, Unreadable> {
        let event = poll_fn(|context| self.poll_event(context)).await;
        let section = match event {
            Ok(Some(Event::Headers(section))) => section,
            Ok(Some(Event::HeadersTooLarge)) => return Err(Unreadable::TooLarge),
            _ => return Err(Unreadable::Gone),
        };
        head::read(&section).map_err(|fault| match fault {
            HeadFault::Stream(unreadable) => unreadable,
            HeadFault::Connection(fault) => {
                drop(self.owner.fail(fault));
                Unreadable::Gone
            }
        })
    }

    /// Sees whether there is a body at all where its length was not announced.
    async fn measure(&mut self, request: &mut Request) {
        if request.body != Length::Framed {
            return;
        }
        let bodiless = matches!(request.method(), "GET" | "HEAD" | "OPTIONS" | "DELETE" | "TRACE");
        let patience = if bodiless { END_TIME_MAX } else { Duration::ZERO };
        match timeout(patience, poll_fn(|context| self.poll_frame(context))).await {
            Ok(Ok(None)) => request.body = Length::None,
            Ok(Ok(frame)) => self.ahead = frame,
            // What broke says so when it is read; what has not come yet may come.
            Ok(Err(_)) | Err(_) => {}
        }
    }

    /// Says why there is no answer to what was no request.
    async fn tell(&mut self, unreadable: Unreadable) {
        let Some(status) = unreadable.status() else {
            self.given_up();
            return self.reset(unreadable.code());
        };
        self.outgoing.head(status, &Fields::new());
        self.outgoing.begin(Length::None, true);
        // The client may be gone.
        drop(timeout(HEAD_TIME_MAX, poll_fn(|context| self.outgoing.poll_room(context))).await);
    }

    /// The client wants no answer any more, or has no right to one.
    fn given_up(&mut self) {
        if !std::mem::replace(&mut self.settled, true) {
            self.owner.given_up();
        }
    }

    /// The next thing on the stream; `None` at its end.
    fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Option<Event>>> {
        loop {
            match self.frames.next(&mut self.unread) {
                Ok(None) => {}
                Ok(event) => return Poll::Ready(Ok(event)),
                Err(fault) => return Poll::Ready(Err(self.broken(fault))),
            }
            let mut chunk = [0; CHUNK_BYTES_MAX];
            let mut buffer = ReadBuf::new(&mut chunk);
            if let Err(error) = ready!(self.receive.poll_read_buf(context, &mut buffer)) {
                self.given_up();
                return Poll::Ready(Err(error.into()));
            }
            if buffer.filled().is_empty() {
                return Poll::Ready(match self.frames.finish() {
                    Ok(()) => Ok(None),
                    Err(fault) => Err(self.broken(fault)),
                });
            }
            self.unread = Bytes::copy_from_slice(buffer.filled());
        }
    }

    /// The connection is over.
    fn broken(&self, fault: Fault) -> io::Error {
        self.owner.fail(fault)
    }

    /// The message is malformed, the connection goes on (RFC 9114 section 4.1.2).
    fn malformed(&mut self) -> io::Error {
        self.given_up();
        self.reset(Code::MESSAGE_ERROR);
        io::ErrorKind::InvalidData.into()
    }

    fn body(&mut self, event: Option<Event>) -> io::Result<Option<Frame>> {
        match event {
            Some(Event::Data(data)) => {
                if let Some(left) = self.left {
                    let Some(left) = left.checked_sub(data.len() as u64) else {
                        return Err(self.malformed());
                    };
                    self.left = Some(left);
                }
                return Ok(Some(Frame::Data(data)));
            }
            Some(Event::Headers(section)) => {
                let trailers = self.trailers(&section)?;
                self.whole()?;
                return Ok(Some(Frame::Trailers(Box::new(trailers))));
            }
            Some(_) => return Err(self.malformed()),
            None => {}
        }
        self.whole()?;
        Ok(None)
    }

    /// The body has ended; it must be as long as was announced.
    fn whole(&mut self) -> io::Result<()> {
        self.received_all = true;
        if self.left.is_some_and(|left| left > 0) {
            return Err(self.malformed());
        }
        Ok(())
    }

    fn trailers(&mut self, section: &[u8]) -> io::Result<Fields> {
        let mut fields = Fields::new();
        let mut clean = true;
        let decoded = decode(section, HEADER_LIST_BYTES_MAX as usize, |name, value| {
            clean &= check_trailer(&name, &value).is_ok();
            fields.push(name, value);
        });
        match decoded {
            Err(fault) => Err(self.broken(fault)),
            Ok(Decoded::Whole) if clean => Ok(fields),
            Ok(_) => Err(self.malformed()),
        }
    }

    /// Sends an interim response (100, 103).
    pub fn interim(&mut self, response: &Response) {
        self.outgoing.head(response.status, &response.fields);
    }

    /// Begins the final response.
    pub fn start(&mut self, response: &Response, is_head: bool) {
        let bodiless = is_head
            || matches!(response.status, 204 | 304)
            || matches!(response.body, Length::None | Length::Exact(0));
        self.settled = true;
        self.outgoing.head(response.status, &response.fields);
        self.outgoing.begin(response.body, bodiless);
    }

    /// Ready when the client has given this exchange up.
    pub fn poll_gone(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let stopped =
            self.stopped.get_or_insert_with(|| Box::pin(self.outgoing.stream().stopped()));
        match ready!(stopped.as_mut().poll(context)) {
            // All was said and heard: there is nothing left to give up.
            Ok(None) => {
                self.stopped = Some(Box::pin(std::future::pending()));
                Poll::Pending
            }
            Ok(Some(_)) | Err(_) => {
                self.given_up();
                self.stopped = Some(Box::pin(std::future::ready(Ok(Some(VarInt::from_u32(0))))));
                Poll::Ready(())
            }
        }
    }

    /// Ends the stream with an error instead of a clean end.
    pub fn reset(&mut self, code: Code) {
        self.outgoing.reset(code);
        if !self.received_all {
            self.received_all = true;
            // It may be over already.
            drop(self.receive.stop(VarInt::from_u32(code.0)));
        }
    }
}

impl Source for Http3 {
    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Option<Frame>>> {
        if let Some(frame) = self.ahead.take() {
            return Poll::Ready(Ok(Some(frame)));
        }
        if self.received_all {
            return Poll::Ready(Ok(None));
        }
        let event = ready!(self.poll_event(context))?;
        Poll::Ready(self.body(event))
    }

    fn is_ended(&self) -> bool {
        self.received_all && self.ahead.is_none()
    }
}

impl Sink for Http3 {
    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.outgoing.poll_room(context)
    }

    fn send(&mut self, frame: Frame) -> io::Result<()> {
        self.outgoing.send(frame)
    }

    fn end(&mut self) -> io::Result<()> {
        self.outgoing.end()
    }

    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.outgoing.poll_room(context)
    }
}

impl Drop for Http3 {
    fn drop(&mut self) {
        if self.outgoing.is_finished() {
            self.owner.deliver_rest(self.outgoing.stream());
        }
        if !self.received_all {
            // After a whole response the rest of the request is of no interest (RFC 9114 section 4.1).
            let whole = self.outgoing.is_finished();
            let code = if whole { Code::NO_ERROR } else { Code::REQUEST_CANCELLED };
            drop(self.receive.stop(VarInt::from_u32(code.0)));
        }
    }
}
