//! Origins: resolve, dial, verify, pool, send.

pub mod dial;
pub mod resolve;
