//! Verdicts: facts about a flow or exchange, what policy says of them, and how a user is told.

pub mod coach;
mod connect;
mod exchange;
pub mod explain;
mod facts;
mod held;
mod instance;
pub mod notice;
pub mod pinned;
pub mod proxy_status;
pub mod question;

pub use connect::{ConnectSubject, connect, decrypt};
pub use exchange::{BodyFacts, Ruled, Ruling, Subject, on_exchange};
pub use held::Held;
