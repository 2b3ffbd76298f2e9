//! Budgets and bounds.

pub mod hold;
pub mod quic;
pub mod window;
