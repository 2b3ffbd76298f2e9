//! A network of the gateway's own: a namespace with one device, whose packets this process reads and writes,
//! and listeners for the connections in them. Nothing leads out of it.
//!
//! A process of its own makes it (`make.rs`) and hands over the descriptors. It can become root of a user
//! namespace, which a process with threads cannot; the gateway itself needs and keeps no privilege.

use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use ipnet::{Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use super::handover::{self, Said};

/// Making it takes some milliseconds.
const MAKING_TIME_MAX: Duration = Duration::from_secs(10);
/// This program, whatever lies at its path by now.
const THIS_PROGRAM: &str = "/proc/self/exe";
/// The command that makes the network; not one for people.
pub const COMMAND: &str = "inner-network";

/// How much of its data the kernel keeps for a connection. Each size has a listener of its own, from which
/// connections have their buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Size {
    /// As much as the path takes, up to [`LARGE_BUFFER_BYTES`] each way.
    Large,
    /// As in user space.
    Middle,
    /// Where the session's or the process's budget has no room.
    Small,
}

/// 400 Mbit/s at 40 ms: what BBR keeps on its way is twice what a path carries in a round trip.
pub(super) const LARGE_BUFFER_BYTES: usize = 4 << 20;
/// 80 Mbit/s at 40 ms.
const MIDDLE_BUFFER_BYTES: usize = 512 << 10;
const SMALL_BUFFER_BYTES: usize = 64 << 10;

impl Size {
    pub(super) const ALL: [Self; 3] = [Self::Large, Self::Middle, Self::Small];

    /// Where its listeners are.
    pub(super) fn port(self) -> u16 {
        match self {
            Self::Large => 1,
            Self::Middle => 2,
            Self::Small => 3,
        }
    }

    /// Buffer of a connection each way.
    pub(super) fn buffer_bytes(self) -> usize {
        match self {
            Self::Large => LARGE_BUFFER_BYTES,
            Self::Middle => MIDDLE_BUFFER_BYTES,
            Self::Small => SMALL_BUFFER_BYTES,
        }
    }

    /// Buffers of a connection, bytes.
    pub(super) fn bytes(self) -> u64 {
        2 * self.buffer_bytes() as u64
    }
}

/// Why there is no such network.
#[derive(Debug, thiserror::Error)]
pub enum Unavailable {
    #[error("{0}")]
    Cannot(String),
    #[error("the process that makes the network does not answer: {0}")]
    Maker(#[from] io::Error),
}

/// See the module.
pub struct Network {
    pub(super) device: OwnedFd,
    pub(super) listeners: Vec<TcpListener>,
    pub(super) has_ipv6: bool,
    /// The kernel's congestion control for what goes to clients.
    pub congestion: String,
    /// Settings that could not be written: the machine's own hold instead.
    pub unset: Vec<String>,
}

impl Network {
    /// Makes it, with these addresses and all others of their networks behind the device.
    ///
    /// # Errors
    /// Where the process may not, or the kernel cannot.
    pub fn make(ipv4: Ipv4Net, ipv6: Ipv6Net) -> Result<Self, Unavailable> {
        let (here, there) = UnixStream::pair()?;
        here.set_read_timeout(Some(MAKING_TIME_MAX))?;
        let mut maker = Command::new(THIS_PROGRAM)
            .args([COMMAND, &ipv4.to_string(), &ipv6.to_string()])
            .stdin(Stdio::from(OwnedFd::from(there)))
            .stdout(Stdio::null())
            .spawn()?;
        let received = handover::receive(&here);
        if received.is_err() {
            // It may still be at work; nobody waits for it any more.
            drop(maker.kill());
        }
        drop(maker.wait());
        let (said, descriptors) = received?;
        let made = match said {
            Said::Made(made) => made,
            Said::Cannot(why) => return Err(Unavailable::Cannot(why)),
        };
        let mut descriptors = descriptors.into_iter();
        let missing = || io::Error::from(io::ErrorKind::UnexpectedEof);
        let device = descriptors.next().ok_or_else(missing)?;
        let listeners: Vec<_> = descriptors.map(TcpListener::from).collect();
        if listeners.len() != made.listeners.len() {
            return Err(missing().into());
        }
        let (congestion, unset) = (made.congestion, made.unset);
        Ok(Self { device, listeners, has_ipv6: made.has_ipv6, congestion, unset })
    }
}
