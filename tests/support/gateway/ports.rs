//! Free ports below the ephemeral range, so that no outgoing connection takes one meanwhile.

use std::net::{TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering};

const FIRST: u16 = 18_500;
const COUNT: u16 = 13_000;

/// A port that is free for TCP and UDP on 127.0.0.1 now. Processes begin at different places.
///
/// # Panics
/// Where every port is taken.
#[must_use]
pub fn free() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = (std::process::id() % 1_000) as u16 * 13;
    for _ in 0..COUNT {
        let at = start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
        let address = ("127.0.0.1", FIRST + at);
        if TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok() {
            return FIRST + at;
        }
    }
    panic!("no free port");
}
