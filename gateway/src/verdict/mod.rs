//! Verdicts: facts about a flow or exchange, what policy says of them, and how a user is told.

pub mod coach;
mod connect;
mod exchange;
mod instance;
pub mod notice;
pub mod pinned;

pub use connect::{ConnectSubject, connect, decrypt};
pub use exchange::{BodyFacts, Held, Ruled, Ruling, Subject, on_exchange};
