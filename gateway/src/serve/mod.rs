//! Drives the pipeline: the only part that sees every stage, and the only one that decides what
//! comes next.

mod answer;
mod aside;
mod bypass;
mod call_gate;
mod client;
mod coding;
mod connections;
mod datagram;
mod decide;
mod drain;
mod exchange;
mod farewell;
mod flow;
mod forward;
mod gates;
mod hold;
mod intercept;
mod issuer;
mod judge;
mod message_gate;
mod message_hold;
mod messages;
mod notice;
mod packets;
mod pipe;
pub mod pop;
mod pulse;
mod quic;
mod reach;
mod refused;
mod relay;
mod rewrite;
mod session;
mod start;
mod streams;
mod tenancy;
mod transaction;
mod tunnel;
mod udp;
mod upgrade;
mod upkeep;
mod websocket;

pub(crate) use start::guard;
pub use start::{ServeError, run};
pub(crate) use upkeep::gauges;
