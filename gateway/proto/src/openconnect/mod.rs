//! The AnyConnect-compatible protocol as OpenConnect clients speak it
//! (draft-mavrogiannopoulos-openconnect): a bootstrap in HTTP/1.1 over TLS, then IP packets in frames.

pub mod frame;
mod tunnel;

pub use tunnel::{AUTH_COMPLETE, AppId, DtlsOffer, TUNNEL_TARGET, TunnelReply, TunnelRequest};
