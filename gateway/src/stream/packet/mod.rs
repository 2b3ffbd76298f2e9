//! Inner IP packets into flows: a TCP/IP stack in user space for each session.

mod device;
mod flight;
mod names;
mod pool;
mod source;
mod stack;
mod tcp;
mod timers;

pub use names::Names;
pub use pool::{AddressPool, Lease};
pub use source::Sources;
pub use stack::{Dropped, Opened, Settings, Stack};
pub use tcp::InnerTcp;

/// Where name queries go.
const DNS_PORT: u16 = 53;
