//! Sockets: listeners, and what the operating system has to be told about them.

mod handover;
mod limits;
mod listen;
mod udp;

pub use handover::Handover;
pub use limits::{raise_descriptor_limit, refuse_core_dumps};
pub use listen::{Accepting, bind};
pub use udp::{Buffers, UdpPort, Way};
