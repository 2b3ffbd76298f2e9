//! The client's side of a plain request that came on a tunnel's own HTTP/2 connection
//! (`GET http://…` through the proxy).

use std::io;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use gateway_proto::target::Authority;
use tokio::io::AsyncWrite;

use super::body::{Frame, Length, Sink, Source};
use super::canonical::{Request, Response, Scheme, Version};
use crate::tunnel::mux::{self, BodyHint, Code, MuxStream, RecvHalf, Responder};

/// The two halves of the stream: its request body and its response.
pub struct Muxed {
    receive: Option<RecvHalf>,
    responder: Option<Responder>,
    stream: Option<MuxStream>,
    waiting: Bytes,
    ending: bool,
}

/// Turns a tunnel request into the canonical one. `None` where its authority or path make no
/// sense; the stream has then been reset.
#[must_use]
pub fn canonical(request: mux::Request) -> Option<(Request, Muxed)> {
    let mux::Request { method, authority, path, fields, body, mut responder, .. } = request;
    let Ok(authority) = Authority::parse(&authority) else {
        responder.reset(Code::PROTOCOL_ERROR);
        return None;
    };
    let expects_continue =
        fields.text("expect").is_some_and(|it| it.eq_ignore_ascii_case("100-continue"));
    let request = Request {
        version: Version::Http2,
        method,
        scheme: Scheme::Http,
        port: authority.port_or(Scheme::Http.port()),
        host: authority.host,
        target: path,
        fields,
        body: match body {
            BodyHint::Tunnel | BodyHint::Empty => Length::None,
            BodyHint::Sized(length) => Length::Exact(length),
            BodyHint::Unsized => Length::Framed,
        },
        upgrade: None,
        expects_continue,
    };
    let receive = responder.take_body();
    let muxed = Muxed {
        receive,
        responder: Some(responder),
        stream: None,
        waiting: Bytes::new(),
        ending: false,
    };
    Some((request, muxed))
}

impl Muxed {
    pub fn interim(&mut self, response: &Response) {
        if let Some(responder) = &self.responder {
            responder.inform(response.status, &response.fields);
        }
    }

    /// Begins the final response.
    pub fn start(&mut self, response: &Response) {
        if let Some(responder) = self.responder.take() {
            self.stream = Some(responder.respond(response.status, &response.fields));
        }
    }

    /// Ready when the client has given the stream up.
    pub fn poll_gone(&mut self, context: &mut Context<'_>) -> Poll<()> {
        match (&mut self.responder, &mut self.stream) {
            (Some(responder), _) => responder.poll_abandoned(context),
            (None, Some(stream)) => stream.poll_abandoned(context),
            (None, None) => Poll::Pending,
        }
    }

    /// Breaks the response off.
    pub fn abort(&mut self) {
        // Dropping a stream that has not ended resets it.
        self.stream = None;
        if let Some(responder) = self.responder.take() {
            responder.reset(Code::INTERNAL_ERROR);
        }
    }
}

impl Source for Muxed {
    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Option<Frame>>> {
        let Some(receive) = &mut self.receive else { return Poll::Ready(Ok(None)) };
        let chunk = ready!(receive.poll_chunk(context))?;
        Poll::Ready(Ok(chunk.map(Frame::Data)))
    }
}

impl Sink for Muxed {
    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(stream) = &mut self.stream else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        while !self.waiting.is_empty() {
            let count =
                ready!(std::pin::Pin::new(&mut *stream).poll_write(context, &self.waiting))?;
            self.waiting.advance(count);
        }
        if self.ending {
            ready!(std::pin::Pin::new(stream).poll_shutdown(context))?;
            self.ending = false;
        }
        Poll::Ready(Ok(()))
    }

    fn send(&mut self, frame: Frame) -> io::Result<()> {
        // Trailers towards a proxy client are dropped: nothing it can use is in them.
        if let Frame::Data(data) = frame {
            self.waiting = data;
        }
        Ok(())
    }

    fn end(&mut self) -> io::Result<()> {
        self.ending = true;
        Ok(())
    }

    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_ready(context)
    }
}
