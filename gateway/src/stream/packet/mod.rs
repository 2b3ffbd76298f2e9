//! Inner IP packets into flows: a TCP/IP stack in user space for each session, or the kernel's in a network
//! of the gateway's own.

mod device;
mod flight;
pub mod kernel;
mod names;
mod pool;
mod source;
mod stack;
mod tcp;
mod timers;

pub use names::Names;
pub use pool::{AddressPool, Lease};
pub use source::Sources;
pub use stack::{Dropped, InKernel, Opened, Settings, Stack};
pub use tcp::InnerTcp;

use stack::OPENING_MAX;

/// Where name queries go.
const DNS_PORT: u16 = 53;
