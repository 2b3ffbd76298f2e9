//! What a sink has done so far.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use dashmap::DashMap;
use parking_lot::Mutex;

use super::Heads;
use super::error::SinkError;

/// Written by the sink's thread, read by others.
#[derive(Default)]
pub(super) struct Counts {
    pub(super) sent: AtomicU64,
    /// By [`SinkError::label`].
    failures: Mutex<BTreeMap<&'static str, u64>>,
    pub(super) missed: AtomicU64,
    pub(super) rejected: AtomicU64,
    pub(super) failing: AtomicBool,
    /// Number of the next event to be sent, by tenant.
    pub(super) reached: DashMap<Box<str>, u64>,
}

/// A sink's counts at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SinkStats {
    /// Events that the peer took.
    pub sent: u64,
    /// Attempts that failed, by the reason; what they held is sent again.
    pub failures: BTreeMap<&'static str, u64>,
    /// Events that a quota or a full disk took before they were sent.
    pub missed: u64,
    /// Events passed over: larger, each alone, than the peer takes, or unreadable.
    pub rejected: u64,
    /// Events in the log that the sink has not come to yet.
    pub lag: u64,
    /// The last attempt failed.
    pub failing: bool,
}

impl Counts {
    pub(super) fn stats(&self, heads: &Heads) -> SinkStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        // Tenants that are none of this sink's have not been come to, and never are.
        let behind = |tenant: &str, next: u64| {
            self.reached.get(tenant).map_or(0, |reached| next.saturating_sub(*reached))
        };
        SinkStats {
            sent: read(&self.sent),
            failures: self.failures.lock().clone(),
            missed: read(&self.missed),
            rejected: read(&self.rejected),
            lag: heads.iter().map(|head| behind(head.key(), *head.value())).sum(),
            failing: self.failing.load(Ordering::Relaxed),
        }
    }

    pub(super) fn failed(&self, error: &SinkError) {
        *self.failures.lock().entry(error.label()).or_default() += 1;
    }

    pub(super) fn add(counter: &AtomicU64, amount: u64) {
        counter.fetch_add(amount, Ordering::Relaxed);
    }
}
