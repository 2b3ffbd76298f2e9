//! Verdicts: facts about a flow or exchange, what policy says of them, and how a user is told.

pub mod accounts;
pub mod coach;
mod connect;
mod content;
mod exchange;
pub mod explain;
mod facts;
pub mod file_type;
mod held;
mod instance;
pub mod notice;
pub mod pinned;
pub mod proxy_status;
pub mod question;
pub mod quic;
mod response;

pub use connect::{ConnectSubject, connect, decrypt};
pub use exchange::{BodyFacts, Ruled, Ruling, Subject, describe, on_exchange, on_held};
pub use facts::{activity, by_name};
pub use held::{Held, Searched, Settled};
pub use response::{ResponseFacts, keys as response_keys};
