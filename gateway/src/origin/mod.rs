//! Origins: resolve, dial, verify, pool, send.

pub mod dial;
pub mod gather;
pub mod http1;
pub mod http2;
mod lease;
pub mod pool;
pub mod resolve;

pub use lease::{Lease, OriginIo, UpgradedIo};
