//! Understands bytes: everything a stranger sends is parsed here, without I/O, clock or panic.

pub mod fields;
pub mod h2;
