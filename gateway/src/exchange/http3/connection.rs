//! What inner HTTP/3 connections are offered.

use std::time::Duration;

use gateway_proto::h3::Settings;
use quinn::{TransportConfig, VarInt};

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

/// What is promised: heads as large as over HTTP/2, and no extension.
#[must_use]
pub fn settings() -> Settings {
    Settings { max_field_section_size: Some(HEADER_LIST_BYTES_MAX.into()), ..Settings::default() }
}
