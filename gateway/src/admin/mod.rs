//! The admin endpoint: metrics, health, drain, events, sessions.

mod dataexport;
mod events;
mod explain;
mod reply;
mod routes;
mod server;

pub use server::Admin;
