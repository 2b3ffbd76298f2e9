//! Synthetic clients: tunnels of each method, the inner client over them, and hostile ones.

pub mod carrier;
pub mod dtls;
pub mod error;
pub mod explicit;
pub mod h2_stream;
pub mod hostile;
pub mod http3;
pub mod inner;
pub mod message;
pub mod openconnect;
pub mod packet;
pub mod peer;
pub mod quic;
pub mod secure;
pub mod tls;
pub mod tunnel;
pub mod udp;
pub mod websocket;
pub(crate) mod wire;
