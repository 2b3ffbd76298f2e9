//! Tunnels: from an accepted connection to a session with inner streams.

pub mod mux;
