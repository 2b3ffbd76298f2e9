//! The admin endpoint: metrics, health, drain, events, sessions.

mod reply;
mod routes;
mod server;

pub use server::Admin;
