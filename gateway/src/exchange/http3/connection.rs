//! What inner HTTP/3 connections are offered.

use std::time::Duration;

use gateway_proto::h3::Settings;
use quinn::{TransportConfig, VarInt};

use crate::exchange::http2::{HEADER_LIST_BYTES_MAX, STREAM_WINDOW_BYTES};

/// Requests at once before a client has shown that it has more, as a page with many pictures has; then as many as over
/// HTTP/2.
pub const STREAMS_GRANTED: u32 = 32;
/// The three that HTTP/3 has, those by which clients keep extensions possible, and some that are not
/// freed yet.
const SIDE_STREAMS_MAX: u32 = 16;
/// What may come and not be read, of all streams: four uploads at full size.
const RECEIVE_BYTES: u32 = 4 * STREAM_WINDOW_BYTES;
/// What is sent and not acknowledged, of all streams: 100 Mbit/s at 80 ms.
const SEND_BYTES: u32 = 1 << 20;
/// The same of a connection where memory is short.
const SMALL_BYTES: u32 = 128 << 10;
/// The peer of a connection that says nothing is gone after this.
const SILENCE_TIME_MAX: Duration = Duration::from_secs(60);

/// How much a connection may hold, both ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    Whole,
    Small,
}

impl Room {
    #[must_use]
    pub fn bytes(self) -> u64 {
        let (receive, send) = self.windows();
        u64::from(receive) + u64::from(send)
    }

    fn windows(self) -> (u32, u32) {
        match self {
            Self::Whole => (RECEIVE_BYTES, SEND_BYTES),
            Self::Small => (SMALL_BYTES, SMALL_BYTES),
        }
    }
}

/// How QUIC is to carry inner HTTP/3.
#[must_use]
pub fn transport(room: Room) -> TransportConfig {
    let (receive, send) = room.windows();
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(STREAMS_GRANTED))
        .max_concurrent_uni_streams(VarInt::from_u32(SIDE_STREAMS_MAX))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES.min(receive)))
        .receive_window(VarInt::from_u32(receive))
        .send_window(send.into())
        .datagram_receive_buffer_size(None)
        .max_idle_timeout(SILENCE_TIME_MAX.try_into().ok());
    transport
}

/// What is promised: heads as large as over HTTP/2, and no extension.
#[must_use]
pub fn settings() -> Settings {
    Settings { max_field_section_size: Some(HEADER_LIST_BYTES_MAX.into()), ..Settings::default() }
}
