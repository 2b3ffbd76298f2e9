//! The QUIC endpoint of one worker: what is promised to clients, and what is not.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use quinn::{
    Endpoint, EndpointConfig, IdleTimeout, ServerConfig, TokioRuntime, TransportConfig, VarInt,
};

use super::congestion::Congestion;
use super::crypto::{Chooser, Meeting, Seen};
use super::ids::Generator;
use super::keys::QuicKeys;
use crate::ident::random;
use crate::limit::quic::Bounded;
use crate::socket::QuicSocket;

/// QUIC version 1 (RFC 9000); the library has no version 2 (RFC 9369).
const VERSIONS: [u32; 1] = [1];
/// Under the 30 s after which many NATs forget a silent UDP flow (RFC 9000 section 10.1.2).
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// Longer than a mobile handover, and two keep-alives.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// Streams before anyone knows whose tunnel it is.
const STREAMS_AT_FIRST: u32 = 16;
/// Control and QPACK streams, and a few of types to come.
const UNI_STREAMS_MAX: u32 = 8;
/// What one stream may send unread: 300 Mbit/s at 100 ms.
const STREAM_WINDOW_BYTES: u32 = 4 << 20;
/// What a whole tunnel may send unread, and has unacknowledged, before it has been given more.
pub const WINDOW_BYTES_MIN: u32 = 1 << 20;
/// QUIC datagrams that wait for the gateway, or for the way to the client.
const DATAGRAM_BUFFER_BYTES: usize = 512 << 10;
/// Handshakes of which the first packet has come and that wait to be looked at.
const INCOMING_MAX: usize = 1_024;
/// What may come of one while it waits: the rest of a large ClientHello.
const INCOMING_BYTES_MAX: u64 = 16 << 10;
const INCOMING_BYTES_ALL_MAX: u64 = 4 << 20;
/// A client has this long to come back with its token (RFC 9000 section 8.1.2).
const TOKEN_TIME_MAX: Duration = Duration::from_secs(15);
/// Stateless resets are answers to strangers: at most fifty a second.
const RESET_INTERVAL_MIN: Duration = Duration::from_millis(20);

/// One worker's endpoint and what its handshakes need.
#[derive(Clone)]
pub struct QuicEndpoint {
    pub endpoint: Endpoint,
    chooser: Arc<Chooser>,
    server: ServerConfig,
}

impl QuicEndpoint {
    /// # Errors
    /// Where the socket or the system's random numbers fail.
    pub fn new(
        socket: QuicSocket,
        keys: &QuicKeys,
        worker: u16,
        chooser: Arc<Chooser>,
    ) -> io::Result<Self> {
        let nonce = random::bytes::<8>().ok_or(io::ErrorKind::Unsupported)?;
        let (ids, nonce) = (Arc::clone(&keys.ids), u64::from_be_bytes(nonce));
        let mut config = EndpointConfig::new(Arc::clone(&keys.reset) as _);
        config
            .cid_generator(move || Box::new(Generator::new(Arc::clone(&ids), worker, nonce)))
            .supported_versions(VERSIONS.to_vec())
            // Its first byte tells a datagram of QUIC from one of DTLS (RFC 9443).
            .grease_quic_bit(false)
            .min_reset_interval(RESET_INTERVAL_MIN);
        let meeting = Meeting { chooser: Arc::clone(&chooser), seen: Arc::default() };
        let bounded = Arc::new(Bounded(Arc::new(meeting)));
        let mut server = ServerConfig::new(bounded, Arc::clone(&keys.token) as _);
        server
            .transport_config(Arc::new(transport()))
            .retry_token_lifetime(TOKEN_TIME_MAX)
            .migration(true)
            .max_incoming(INCOMING_MAX)
            .incoming_buffer_size(INCOMING_BYTES_MAX)
            .incoming_buffer_size_total(INCOMING_BYTES_ALL_MAX);
        let (socket, runtime) = (Arc::new(socket), Arc::new(TokioRuntime));
        let endpoint =
            Endpoint::new_with_abstract_socket(config, Some(server.clone()), socket, runtime)?;
        Ok(Self { endpoint, chooser, server })
    }

    /// The configuration of one handshake, and what will be seen of it.
    #[must_use]
    pub fn meeting(&self) -> (Arc<ServerConfig>, Arc<Mutex<Seen>>) {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let meeting = Meeting { chooser: Arc::clone(&self.chooser), seen: Arc::clone(&seen) };
        let mut server = self.server.clone();
        server.crypto = Arc::new(Bounded(Arc::new(meeting)));
        (Arc::new(server), seen)
    }
}

fn transport() -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(STREAMS_AT_FIRST))
        .max_concurrent_uni_streams(VarInt::from_u32(UNI_STREAMS_MAX))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(WINDOW_BYTES_MIN))
        .send_window(WINDOW_BYTES_MIN.into())
        .congestion_controller_factory(Arc::new(Congestion::default()))
        .keep_alive_interval(Some(KEEP_ALIVE))
        .max_idle_timeout(IdleTimeout::try_from(SILENCE_MAX).ok())
        .datagram_receive_buffer_size(Some(DATAGRAM_BUFFER_BYTES))
        .datagram_send_buffer_size(DATAGRAM_BUFFER_BYTES);
    transport
}
