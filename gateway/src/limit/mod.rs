//! Budgets and bounds.

pub mod hold;
pub mod window;
