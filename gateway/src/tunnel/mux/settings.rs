//! What the multiplexer allows a peer.

use std::time::Duration;

/// Bounds of one tunnel's HTTP/2 connection.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Streams a peer may have open at once (`SETTINGS_MAX_CONCURRENT_STREAMS`).
    pub streams_max: u32,
    /// Size of a decoded header list, counted as RFC 9113 section 6.5.2 does, bytes.
    pub header_list_bytes: u32,
    /// A tunnel without streams is closed after this long.
    pub idle_timeout: Duration,
    /// A tunnel with streams, silent for this long, is asked for a sign of life (PING).
    pub keepalive: Duration,
    /// A peer that leaves that PING unanswered for this long is gone.
    pub keepalive_timeout: Duration,
    /// A stream whose data waits for the peer's window for this long is reset.
    pub stall_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            // Above any browser's use (Chromium stops at 1,000 requests for one proxy).
            streams_max: 1000,
            // Servers' common bound is 8 to 16 KiB per field; 64 KiB holds several such cookies.
            header_list_bytes: 64 * 1024,
            // Clients open a tunnel again at once; ten minutes outlast a reader's pause.
            idle_timeout: Duration::from_secs(600),
            // Under the 60 s after which cheap NATs forget a silent flow.
            keepalive: Duration::from_secs(45),
            // Longer than a mobile handover.
            keepalive_timeout: Duration::from_secs(20),
            // A player that has paused opens its window within this; a zero-window hold does not.
            stall_timeout: Duration::from_secs(300),
        }
    }
}
