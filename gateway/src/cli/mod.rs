//! The command line.

pub mod events;

mod events_line;
