//! Budgets: what one peer, tunnel or tenant may hold at once.

pub mod window;
