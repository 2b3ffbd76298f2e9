//! One HTTP/3 connection: its control stream, its requests one after another, its end.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use gateway_proto::h3::{Code, Fault, Settings, StreamType, put_goaway, put_settings};
use quinn::{RecvStream, SendStream, TransportConfig, VarInt};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::critical::{self, Seen};
use crate::exchange::http2::{
    CONNECTION_WINDOW_BYTES, HEADER_LIST_BYTES_MAX, STREAM_WINDOW_BYTES, STREAMS_MAX,
};

/// The three that HTTP/3 has, those by which clients keep extensions possible, and some that are not
/// freed yet.
const SIDE_STREAMS_MAX: u32 = 16;
/// What is sent and not acknowledged, of all streams: 100 Mbit/s at 80 ms.
const SEND_BYTES_MAX: u64 = 1 << 20;
/// The peer of a connection that says nothing is gone after this.
const SILENCE_TIME_MAX: Duration = Duration::from_secs(60);
/// A frame of some bytes has room at once, unless the client wants none.
const GOODBYE_TIME_MAX: Duration = Duration::from_secs(1);
/// Streams of requests have the numbers 0, 4, 8, … (RFC 9000 section 2.1).
const STREAM_STEP: u64 = 4;

/// How QUIC is to carry inner HTTP/3: with the windows of HTTP/2.
#[must_use]
pub fn transport() -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(STREAMS_MAX))
        .max_concurrent_uni_streams(VarInt::from_u32(SIDE_STREAMS_MAX))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW_BYTES))
        .send_window(SEND_BYTES_MAX)
        .datagram_receive_buffer_size(None)
        .max_idle_timeout(SILENCE_TIME_MAX.try_into().ok());
    transport
}

/// See the module.
pub struct Connection {
    quic: quinn::Connection,
    /// Our control stream; it ends with the connection.
    control: SendStream,
    critical: JoinSet<Result<(), Fault>>,
    seen: Seen,
    /// Of the next request that is served.
    next: u64,
    /// Requests from this one on are not served.
    last: Option<u64>,
}

impl Connection {
    /// Says our settings.
    ///
    /// # Errors
    /// Where the connection is gone.
    pub async fn open(quic: quinn::Connection) -> io::Result<Self> {
        let mut control = quic.open_uni().await?;
        let settings = Settings {
            max_field_section_size: Some(HEADER_LIST_BYTES_MAX.into()),
            ..Settings::default()
        };
        let mut hello = BytesMut::from(&[StreamType::CONTROL][..]);
        put_settings(&settings, &mut hello);
        control.write_all(&hello).await?;
        let (critical, seen) = (JoinSet::new(), Seen::default());
        Ok(Self { quic, control, critical, seen, next: 0, last: None })
    }

    #[must_use]
    pub fn quic(&self) -> &quinn::Connection {
        &self.quic
    }

    /// The streams of the next request; `None` when the connection is over.
    pub async fn accept(&mut self) -> Option<(SendStream, RecvStream)> {
        loop {
            tokio::select! {
                accepted = self.quic.accept_bi() => {
                    let (send, receive) = accepted.ok()?;
                    if let Some(streams) = self.admit(send, receive) {
                        return Some(streams);
                    }
                }
                side = self.quic.accept_uni() => {
                    let side = side.ok()?;
                    self.critical.spawn(critical::serve(side, self.seen.clone()));
                }
                Some(ended) = self.critical.join_next() => {
                    if let Ok(Err(fault)) = ended {
                        self.close(fault);
                        return None;
                    }
                }
            }
        }
    }

    fn admit(
        &mut self,
        mut send: SendStream,
        mut receive: RecvStream,
    ) -> Option<(SendStream, RecvStream)> {
        let id = u64::from(VarInt::from(send.id()));
        if self.last.is_some_and(|last| id >= last) {
            // Not served, as was said: it may be sent again elsewhere. Either half may be over already.
            let code = VarInt::from_u32(Code::REQUEST_REJECTED.0);
            drop((send.reset(code), receive.stop(code)));
            return None;
        }
        self.next = self.next.max(id + STREAM_STEP);
        Some((send, receive))
    }

    /// Says that no further request is served (RFC 9114 section 5.2).
    pub async fn goaway(&mut self) {
        if self.last.is_none() {
            self.last = Some(self.next);
            let mut frame = BytesMut::new();
            put_goaway(self.next, &mut frame);
            // A client that is gone, or takes nothing, needs no goodbye.
            drop(timeout(GOODBYE_TIME_MAX, self.control.write_all(&frame)).await);
        }
    }

    /// Ends the connection for what the client did.
    pub fn close(&self, fault: Fault) {
        close(&self.quic, fault);
    }

    /// Ends it in peace.
    pub fn finish(&self) {
        self.quic.close(VarInt::from_u32(Code::NO_ERROR.0), b"");
    }
}

pub(super) fn close(quic: &quinn::Connection, fault: Fault) {
    tracing::debug!("an inner HTTP/3 connection is closed: {fault}");
    quic.close(VarInt::from_u32(fault.code.0), fault.why.as_bytes());
}
