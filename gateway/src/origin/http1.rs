//! The origin's side over HTTP/1.1.

use std::io;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use gateway_proto::fields::Fields;
use gateway_proto::http1::{self, HeadReader, Limits, RequestHead};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::exchange::framing::{Incoming, Outgoing, length_of};
use crate::exchange::{Frame, Length, Request, Response, Sink, Source, Version, Wire};

/// How much earlier than announced an idle connection is left: what is under way when the origin
/// closes is lost, and not all of that may be sent again.
const LEAVE_EARLIER: Duration = Duration::from_secs(2);

/// One HTTP/1.1 connection to an origin.
pub struct Http1<Io> {
    wire: Wire<Io>,
    reader: HeadReader,
    incoming: Incoming,
    outgoing: Outgoing,
    method: Bytes,
    keep_alive: bool,
    /// What the origin said of its patience with an idle connection.
    patience: Option<Duration>,
    /// The request has been written to its end.
    sent: bool,
    answered: bool,
}

impl<Io: AsyncRead + AsyncWrite + Unpin> Http1<Io> {
    pub fn new(io: Io) -> Self {
        Self {
            wire: Wire::new(io),
            reader: HeadReader::new(),
            incoming: Incoming::none(),
            outgoing: Outgoing::None,
            method: Bytes::new(),
            keep_alive: true,
            patience: None,
            sent: true,
            answered: true,
        }
    }

    pub fn io(&self) -> &Io {
        self.wire.io()
    }

    /// Whether another exchange may use this connection: both bodies ended cleanly, nothing is
    /// left over, nobody asked to close.
    pub fn is_reusable(&self) -> bool {
        self.keep_alive
            && self.sent
            && self.answered
            && self.incoming.is_done()
            && self.wire.read.is_empty()
            && !self.wire.has_output()
            && !self.wire.at_end()
    }

    /// Whether an idle connection is still whole: bytes that nobody asked for, or an end, make
    /// it useless (CASES H1-21).
    pub fn poll_idle(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.wire.poll_fill(context).map(|_| ())
    }

    /// How long it may wait for its next exchange, where the origin said so.
    pub fn idle_time_max(&self) -> Option<Duration> {
        self.patience.map(|patience| patience.saturating_sub(LEAVE_EARLIER))
    }

    /// Gives buffers back while the connection waits in a pool.
    pub fn release_idle_memory(&mut self) {
        self.wire.release_idle_memory();
    }

    /// Queues the request's head.
    ///
    /// # Errors
    /// Where the method, target or a field cannot be written.
    pub fn start(&mut self, request: &Request) -> io::Result<()> {
        self.method = request.method.clone();
        self.keep_alive = true;
        self.answered = false;
        self.outgoing = match request.body {
            Length::None | Length::Exact(0) => Outgoing::None,
            Length::Exact(length) => Outgoing::Exact(length),
            Length::Framed | Length::UntilClose => Outgoing::Chunked,
        };
        self.sent = self.outgoing == Outgoing::None;
        let mut fields = Fields::new();
        if !request.fields.has("host") {
            fields.push("Host", request.authority());
        }
        for field in request.fields.iter() {
            fields.push(field.name.clone(), field.value.clone());
        }
        if let Some(protocol) = &request.upgrade {
            fields.push("Connection", "Upgrade");
            fields.push("Upgrade", protocol.clone());
        }
        match self.outgoing {
            Outgoing::Chunked => {
                fields.remove("content-length");
                fields.push("Transfer-Encoding", "chunked");
            }
            Outgoing::Exact(length) if !fields.has("content-length") => {
                fields.push("Content-Length", length.to_string());
            }
            Outgoing::None if wants_length(request) => fields.push("Content-Length", "0"),
            _ => {}
        }
        let head = RequestHead {
            method: request.method.clone(),
            target: request.target.clone(),
            version: http1::Version::Http11,
            fields,
        };
        http1::write_request_head(&head, self.wire.buffer())
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))
    }

    /// The next head: interim responses (1xx) first, then the final one.
    pub fn poll_response(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Response>> {
        loop {
            let parsed = self
                .reader
                .response(&mut self.wire.read, &Limits::RESPONSE)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            if let Some(head) = parsed {
                return Poll::Ready(self.canonical(head));
            }
            if ready!(self.wire.poll_fill(context))? == 0 {
                let kind = if self.wire.read.is_empty() {
                    io::ErrorKind::ConnectionReset
                } else {
                    io::ErrorKind::UnexpectedEof
                };
                return Poll::Ready(Err(kind.into()));
            }
        }
    }

    fn canonical(&mut self, mut head: http1::ResponseHead) -> io::Result<Response> {
        let length = http1::response_body(&head, &self.method)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        if !head.is_interim() {
            self.answered = true;
            self.keep_alive =
                head.persistent() && length != http1::BodyLength::UntilClose && head.status != 101;
            self.incoming = Incoming::new(length);
            self.patience = head.fields.text("keep-alive").and_then(patience);
        }
        http1::strip_hop_by_hop(&mut head.fields);
        if let http1::BodyLength::Exact(length) = length {
            say_once(&mut head.fields, length);
        }
        Ok(Response {
            status: head.status,
            reason: head.reason,
            fields: head.fields,
            body: length_of(length),
        })
    }

    /// The transport after an upgrade, with bytes that already came behind the response.
    pub fn into_upgraded(self) -> (Io, Bytes) {
        self.wire.into_parts()
    }
}

/// The `timeout` of a `Keep-Alive` field, seconds: RFC 2068 section 19.7.1.1, which nobody has
/// written anew and common servers send.
fn patience(keep_alive: &str) -> Option<Duration> {
    let value = keep_alive.split(',').find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("timeout").then(|| value.trim().trim_matches('"'))
    })?;
    value.parse().ok().map(Duration::from_secs)
}

/// An HTTP/2 request without a body says so by ending its stream. Where its method expects one,
/// HTTP/1.1 origins ask for a length, and answer 411 (RFC 9110 section 8.6).
fn wants_length(request: &Request) -> bool {
    request.version == Version::Http2
        && matches!(request.method(), "POST" | "PUT" | "PATCH")
        && !request.fields.has("content-length")
}

/// Makes several equal lengths one, so that nobody behind us can read another (RFC 9110 section
/// 8.6).
fn say_once(fields: &mut Fields, length: u64) {
    let listed = fields.first("content-length").is_some_and(|it| it.contains(&b','));
    if listed || fields.all("content-length").nth(1).is_some() {
        fields.set("Content-Length", length.to_string());
    }
}

impl<Io: AsyncRead + AsyncWrite + Unpin> Source for Http1<Io> {
    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Option<Frame>>> {
        self.incoming.poll_frame(&mut self.wire, context)
    }

    fn is_ended(&self) -> bool {
        self.incoming.is_done()
    }
}

impl<Io: AsyncRead + AsyncWrite + Unpin> Sink for Http1<Io> {
    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.wire.poll_room(context)
    }

    fn send(&mut self, frame: Frame) -> io::Result<()> {
        self.outgoing.send(frame, &mut self.wire)
    }

    fn end(&mut self) -> io::Result<()> {
        self.outgoing.end(&mut self.wire)?;
        self.sent = true;
        Ok(())
    }

    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.wire.poll_drain(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origins_patience_is_read_in_each_of_its_forms() {
        for (said, seconds) in [
            ("timeout=5", Some(5)),
            ("timeout=15, max=100", Some(15)),
            ("max=3,Timeout = \"7\"", Some(7)),
            ("max=100", None),
            ("timeout=soon", None),
            ("timeout", None),
            ("", None),
        ] {
            assert_eq!(patience(said), seconds.map(Duration::from_secs), "{said}");
        }
    }
}
