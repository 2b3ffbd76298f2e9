//! How far the log has come, and the waking of the threads that bring it further.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::Thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::watch;

/// The latest ticket each stage has served. A ticket stands for all that was appended before it
/// was drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Served {
    /// In the kernel: survives the process.
    pub(super) written: u64,
    /// On the disk: survives the machine.
    pub(super) synced: u64,
    /// In the tenants' segments: readable.
    pub(super) split: u64,
}

impl Served {
    /// Every ticket there will be.
    pub(super) const ALL: Self = Self { written: u64::MAX, synced: u64::MAX, split: u64::MAX };
}

/// Shared by appenders, threads and waiters.
pub(super) struct Progress {
    drawn: AtomicU64,
    /// The newest ticket of somebody who waits to read.
    split_wanted: AtomicU64,
    served: watch::Sender<Served>,
}

impl Progress {
    pub(super) fn new() -> Self {
        let (drawn, split_wanted) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { drawn, split_wanted, served: watch::Sender::new(Served::default()) }
    }

    /// Draws a ticket for everything appended so far.
    pub(super) fn draw(&self) -> u64 {
        self.drawn.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// Says that somebody waits until what this ticket stands for can be read.
    pub(super) fn want_split(&self, ticket: u64) {
        self.split_wanted.fetch_max(ticket, Ordering::SeqCst);
    }

    pub(super) fn is_split_wanted(&self) -> bool {
        self.split_wanted.load(Ordering::SeqCst) > self.served().split
    }

    /// The newest ticket: what a thread serves with the work it is about to begin.
    pub(super) fn newest(&self) -> u64 {
        self.drawn.load(Ordering::SeqCst)
    }

    pub(super) fn served(&self) -> Served {
        *self.served.borrow()
    }

    pub(super) fn serve(&self, update: impl FnOnce(&mut Served)) {
        self.served.send_if_modified(|served| {
            let before = *served;
            update(served);
            *served != before
        });
    }

    pub(super) fn watch(&self) -> watch::Receiver<Served> {
        self.served.subscribe()
    }
}

/// Wakes one thread, and ends it; a wake that comes before the thread sleeps is not lost.
#[derive(Default)]
pub(super) struct Bell {
    rung: AtomicBool,
    stopped: AtomicBool,
    thread: Mutex<Option<Thread>>,
}

impl Bell {
    /// Says who is to be woken; called once by the thread itself.
    pub(super) fn answer(&self) {
        *self.thread.lock() = Some(std::thread::current());
    }

    /// Rings. Costs one atomic operation while it is rung already.
    pub(super) fn ring(&self) {
        if !self.rung.swap(true, Ordering::SeqCst) {
            self.wake();
        }
    }

    /// Asks the thread to finish what there is and end.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        self.rung.store(true, Ordering::SeqCst);
        self.wake();
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    /// Waits for a ring and takes it back.
    pub(super) fn wait(&self) {
        while !self.rung.swap(false, Ordering::SeqCst) {
            std::thread::park();
        }
    }

    /// Lets time pass whoever rings, but not once stopped.
    pub(super) fn pause(&self, time: Duration) {
        let began = Instant::now();
        while !self.is_stopped() {
            let left = time.saturating_sub(began.elapsed());
            if left.is_zero() {
                return;
            }
            std::thread::park_timeout(left);
        }
    }

    fn wake(&self) {
        if let Some(thread) = &*self.thread.lock() {
            thread.unpark();
        }
    }
}
