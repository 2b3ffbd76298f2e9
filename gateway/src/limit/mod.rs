//! Budgets and bounds.

pub mod bucket;
pub mod hold;
pub mod quic;
pub mod window;
