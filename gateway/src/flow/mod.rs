//! Flows: what an inner stream is, and whether its destination may be reached at all.

pub mod guard;
pub mod peek;
