//! Tunnels: accept, handshake, SNI → tenant, credential → session.

pub mod accept;
mod device;
pub mod dtls;
pub mod http1;
pub mod link;
pub mod mux;
pub mod path;
pub mod quic;
mod session;

pub use session::{Session, SessionTable};
