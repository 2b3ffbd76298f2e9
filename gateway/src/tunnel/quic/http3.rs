//! The server side of one HTTP/3 connection.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::BytesMut;
use gateway_proto::h3::{Code, Fault, Settings, StreamType, put_goaway, put_settings};
use quinn::{Connection, RecvStream, SendStream, VarInt};
use tokio::task::JoinSet;

use super::datagrams::Delivered;
use super::ending::QuicEnding;
use super::request::{self, HEAD_BYTES_MAX, Request};
use super::shared::{Shared, number};
use super::unidirectional;

/// No request has this number: a first GOAWAY says "soon" (RFC 9114 section 5.2).
const STREAM_ID_LAST: u64 = (1 << 62) - 4;

/// See the module.
pub struct Http3 {
    shared: Arc<Shared>,
    control: SendStream,
    readers: JoinSet<()>,
    /// Requests from this stream on are rejected.
    limit: u64,
    /// The first stream that no request has come on.
    next: u64,
    /// QUIC datagrams that were looked at.
    datagrams: u64,
}

/// A request stream whose head is still to be read.
pub struct Arriving {
    pub(super) shared: Arc<Shared>,
    pub(super) send: SendStream,
    pub(super) recv: RecvStream,
}

/// The connection that a stream is of.
pub struct Owner(Arc<Shared>);

impl Owner {
    /// Closes the connection over a violation.
    pub fn fail(&self, fault: Fault) -> io::Error {
        self.0.fail(fault)
    }

    /// A stream was work for nothing; too many end the connection.
    pub fn given_up(&self) {
        self.0.given_up();
    }

    /// A stream has said all: a connection that is to be closed waits until the client has it.
    pub fn deliver_rest(&self, stream: &SendStream) {
        self.0.deliver_rest(stream);
    }
}

impl Http3 {
    /// Begins to speak HTTP/3 in a tunnel.
    ///
    /// # Errors
    /// Where the connection is over already.
    pub async fn begin(connection: Connection) -> io::Result<Self> {
        let settings = Settings {
            max_field_section_size: Some(HEAD_BYTES_MAX as u64),
            enable_connect_protocol: true,
            h3_datagram: true,
            ..Settings::default()
        };
        Self::begin_with(connection, settings).await
    }

    /// Begins to speak HTTP/3, promising this much.
    ///
    /// # Errors
    /// Where the connection is over already.
    pub async fn begin_with(connection: Connection, settings: Settings) -> io::Result<Self> {
        let mut control = connection.open_uni().await?;
        let mut out = BytesMut::from(&[StreamType::CONTROL][..]);
        put_settings(&settings, &mut out);
        control.write_chunk(out.freeze()).await?;
        let shared = Arc::new(Shared::new(connection));
        let readers = JoinSet::new();
        Ok(Self { shared, control, readers, limit: STREAM_ID_LAST, next: 0, datagrams: 0 })
    }

    #[must_use]
    pub fn connection(&self) -> &Connection {
        &self.shared.connection
    }

    /// The next request stream; `None` once the connection is over. `dropped` is told of QUIC
    /// datagrams that went nowhere.
    pub async fn next(&mut self, mut dropped: impl FnMut(&'static str)) -> Option<Arriving> {
        loop {
            let connection = &self.shared.connection;
            tokio::select! {
                stream = connection.accept_bi() => {
                    let (mut send, mut recv) = stream.ok()?;
                    let id = u64::from(VarInt::from(recv.id()));
                    if id >= self.limit {
                        // Whether it has ended or not is all the same now.
                        drop(send.reset(number(Code::REQUEST_REJECTED)));
                        drop(recv.stop(number(Code::REQUEST_REJECTED)));
                        continue;
                    }
                    self.next = self.next.max(id + 4);
                    return Some(Arriving { shared: Arc::clone(&self.shared), send, recv });
                }
                stream = connection.accept_uni() => {
                    let stream = stream.ok()?;
                    while self.readers.try_join_next().is_some() {}
                    self.readers.spawn(unidirectional::read(Arc::clone(&self.shared), stream));
                }
                datagram = connection.read_datagram() => {
                    let datagram = datagram.ok()?;
                    self.datagrams += 1;
                    match self.shared.deliver(datagram) {
                        Ok(Delivered::Yes) => {}
                        Ok(Delivered::Full) => dropped("queue"),
                        Ok(Delivered::Stray) => dropped("stray"),
                        Err(fault) => drop(self.shared.fail(fault)),
                    }
                }
            }
        }
    }

    /// Says that the gateway will go: clients should open no more streams here.
    pub async fn warn(&mut self) {
        self.shared.leaving.store(true, Ordering::Relaxed);
        self.goaway(STREAM_ID_LAST).await;
    }

    /// Says which requests are served; later ones are rejected.
    pub async fn refuse_more(&mut self) {
        self.limit = self.next;
        self.goaway(self.limit).await;
    }

    async fn goaway(&mut self, id: u64) {
        let mut out = BytesMut::new();
        put_goaway(id, &mut out);
        // Where the connection is over nobody needs telling.
        drop(self.control.write_chunk(out.freeze()).await);
    }

    /// Ready when clients have all that ended streams said since the warning.
    pub async fn delivered(&self) {
        self.shared.delivering.close();
        self.shared.delivering.wait().await;
    }

    /// Closes the connection, in order.
    pub fn close(&self) {
        self.shared.connection.close(number(Code::NO_ERROR), b"");
    }

    /// QUIC datagrams that came and were never looked at: of too many the library keeps the newest.
    #[must_use]
    pub fn datagrams_lost(&self) -> u64 {
        self.shared.connection.stats().frame_rx.datagram.saturating_sub(self.datagrams)
    }

    /// Why the connection is over.
    #[must_use]
    pub fn ending(&self) -> QuicEnding {
        if let Some(fault) = self.shared.fault.get() {
            return (*fault).into();
        }
        match self.shared.connection.close_reason() {
            Some(error) => (&error).into(),
            None => QuicEnding::Closed,
        }
    }
}

impl Arriving {
    /// Both directions of the stream, for who reads heads and bodies by itself.
    #[must_use]
    pub fn into_parts(self) -> (Owner, SendStream, RecvStream) {
        (Owner(self.shared), self.send, self.recv)
    }

    /// Reads the request's head. `None` where it is malformed, late or too large; the client has
    /// then been told.
    pub async fn head(self) -> Option<Request> {
        request::read(self).await
    }
}
