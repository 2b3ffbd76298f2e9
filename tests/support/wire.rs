//! A link below IP: two devices of the kernel with a bad network between them, so that TCP loses packets
//! too. Needs root.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tun_rs::{DeviceBuilder, SyncDevice};

use crate::link::{Counts, Datagram, Impairment, Lane};

/// How long a quiet wire sleeps before it looks whether it is to end.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Packets taken in a row before those that have arrived are looked at.
const BATCH: usize = 64;
const PACKET_BYTES: usize = 65_536;

/// Two devices and what lies between them. Dropping it ends both.
pub struct Wire {
    lanes: Arc<[Mutex<Lane>; 2]>,
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Wire {
    /// Makes two devices with these names and lets packets through between them.
    ///
    /// # Panics
    /// Where there can be none.
    #[must_use]
    pub fn between(one: &str, other: &str, impairment: Impairment, seed: u64) -> Self {
        let device = |name: &str| {
            let device = DeviceBuilder::new().name(name).enable(false).build_sync();
            let device = device.expect("a device: root, and /dev/net/tun");
            device.set_nonblocking(true).expect("a device");
            Arc::new(device)
        };
        let (one, other) = (device(one), device(other));
        let lane = |seed| Mutex::new(Lane::new(impairment, seed));
        let lanes = Arc::new([lane(seed), lane(seed ^ u64::MAX)]);
        let over = Arc::new(AtomicBool::new(false));
        let ways = [(&one, &other), (&other, &one)];
        let threads = ways.into_iter().enumerate().map(|(number, (from, to))| {
            let (from, to, lanes) = (Arc::clone(from), Arc::clone(to), Arc::clone(&lanes));
            let over = Arc::clone(&over);
            std::thread::spawn(move || {
                let mut buffer = vec![0; PACKET_BYTES];
                while !over.load(Ordering::Relaxed) {
                    carry(&from, &to, &lanes[number], &mut buffer);
                }
            })
        });
        let threads = threads.collect();
        Self { lanes, over, threads }
    }

    /// Impairs both ways alike from now on.
    pub fn set(&self, impairment: Impairment) {
        self.lanes.iter().for_each(|lane| locked(lane).set(impairment));
    }
}

impl Wire {
    /// What became of what the first device sent, and of what the other did.
    #[must_use]
    pub fn counts(&self) -> [Counts; 2] {
        [locked(&self.lanes[0]).counts(), locked(&self.lanes[1]).counts()]
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}

fn locked(lane: &Mutex<Lane>) -> MutexGuard<'_, Lane> {
    lane.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits for a packet or an arrival, and serves both.
fn carry(from: &SyncDevice, to: &SyncDevice, lane: &Mutex<Lane>, buffer: &mut [u8]) {
    let due = locked(lane).poll_timeout();
    let wait = due.map_or(LOOK_EVERY, |due| due.saturating_duration_since(Instant::now()));
    let wait = wait.min(LOOK_EVERY);
    let wait = Timespec { tv_sec: 0, tv_nsec: wait.as_nanos() as i64 };
    poll(&mut [PollFd::new(from, PollFlags::IN)], Some(&wait)).ok();
    for _ in 0..BATCH {
        let Ok(length) = from.recv(buffer) else { break };
        let datagram = Datagram { flow: 0, bytes: buffer[..length].to_vec() };
        locked(lane).send(Instant::now(), datagram);
    }
    while let Some(arrived) = locked(lane).poll(Instant::now()) {
        // A device that takes no more loses packets, as networks do.
        to.send(&arrived.bytes).ok();
    }
}
