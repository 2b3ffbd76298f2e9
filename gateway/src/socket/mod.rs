//! Sockets: listeners, and what the operating system has to be told about them.

mod handover;
mod inbox;
mod limits;
mod listen;
mod quic;
mod udp;
mod unproven;

pub use handover::{Handover, Passed, To};
pub use inbox::{Inbox, Known};
pub use limits::{raise_descriptor_limit, refuse_core_dumps};
pub use listen::{Accepting, BACKLOG, bind};
pub use quic::QuicSocket;
pub use udp::{Batch, Buffers, UdpPort, Way};
