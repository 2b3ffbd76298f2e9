//! What the log counts.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// The log's counters at one moment. All but `degraded` only grow.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Stats {
            $($(#[$doc])* pub $name: u64,)*
            /// The disk refuses to write, sync or split: events wait, in memory or in the log.
            pub degraded: bool,
        }

        /// The counters themselves.
        #[derive(Default)]
        pub(super) struct Counters {
            $(pub(super) $name: AtomicU64,)*
            /// Bytes written to the log and not split yet.
            pub(super) unsplit_bytes: AtomicU64,
            /// One bit for each [`Duty`] that the disk refuses.
            refused: AtomicU8,
        }

        impl Counters {
            pub(super) fn snapshot(&self) -> Stats {
                Stats {
                    $($name: self.$name.load(Ordering::Relaxed),)*
                    degraded: self.refused.load(Ordering::Relaxed) != 0,
                }
            }
        }
    };
}

counters! {
    /// Records accepted into memory.
    appended,
    /// Bytes of frames that reached the kernel.
    written_bytes,
    /// Records lost because the disk did not keep up and the buffer was full.
    dropped,
    /// Those of them that had been accepted, and made room for newer ones.
    displaced,
    /// Syncs of the log's own files: what the flush interval promises.
    syncs,
    /// Syncs of any kind: those, of new names, of full and of packed segments, and at checkpoints.
    disk_syncs,
    /// Writes or syncs the disk refused.
    disk_errors,
    /// Ends of logs found torn at start, and repaired.
    torn_tails,
    /// Damaged stretches inside logs that were stepped over.
    damaged,
    /// Records moved into segments.
    split,
    /// Records found at start to have been in their segment already.
    already_split,
    /// Whole segments removed for quota.
    evicted_segments,
    /// Records in them.
    evicted,
    /// Bytes of them.
    evicted_bytes,
    /// Whole segments removed because the disk was full.
    reclaimed_segments,
}

/// Adds to a counter.
pub(super) fn add(counter: &AtomicU64, amount: u64) {
    counter.fetch_add(amount, Ordering::Relaxed);
}

/// Takes from a counter that goes down too.
pub(super) fn take(counter: &AtomicU64, amount: u64) {
    counter.fetch_sub(amount, Ordering::Relaxed);
}

/// What the log asks of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Duty {
    Write = 1,
    Sync = 2,
    Split = 4,
}

impl Counters {
    /// Whether the disk refuses something.
    pub(super) fn is_degraded(&self) -> bool {
        self.refused.load(Ordering::Relaxed) != 0
    }

    /// Notes that the disk refused; logs it once until it works again.
    pub(super) fn refused(&self, duty: Duty, error: &std::io::Error) {
        add(&self.disk_errors, 1);
        let before = self.refused.fetch_or(duty as u8, Ordering::SeqCst);
        if before & duty as u8 == 0 {
            tracing::error!(?duty, %error, "event log: the disk refuses");
        }
    }

    pub(super) fn accepted(&self, duty: Duty) {
        let before = self.refused.fetch_and(!(duty as u8), Ordering::SeqCst);
        if before & duty as u8 != 0 {
            tracing::info!(?duty, "event log: the disk works again");
        }
    }
}
