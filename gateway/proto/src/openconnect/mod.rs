//! What the OpenConnect (AnyConnect-compatible) protocol says on the wire.

pub mod frame;
