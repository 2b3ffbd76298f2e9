//! When the connections of one session must be looked at without a packet: to send again, to
//! acknowledge late, and because the link has room once more.

use std::collections::BinaryHeap;
use std::sync::{Arc, Weak};
use std::time::Instant;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::tcp::Connection;

/// The timers of one session.
pub(super) struct Timers {
    began: Instant,
    /// A connection has one entry that counts, and some that it has outlived: each is looked at once
    /// and dropped.
    due: Mutex<BinaryHeap<Due>>,
    sooner: Notify,
    /// Those that found the link full.
    blocked: Mutex<Vec<Weak<Connection>>>,
}

struct Due {
    at: Instant,
    flow: Weak<Connection>,
}

impl Timers {
    pub(super) fn new() -> Self {
        Self {
            began: Instant::now(),
            due: Mutex::default(),
            sooner: Notify::new(),
            blocked: Mutex::default(),
        }
    }

    /// The time, as the user-space stack counts it.
    pub(super) fn now(&self) -> smoltcp::time::Instant {
        let micros = i64::try_from(self.began.elapsed().as_micros()).unwrap_or(i64::MAX);
        smoltcp::time::Instant::from_micros(micros)
    }

    pub(super) fn instant(&self, at: smoltcp::time::Instant) -> Instant {
        let micros = u64::try_from(at.total_micros()).unwrap_or(0);
        self.began + std::time::Duration::from_micros(micros)
    }

    pub(super) fn arm(&self, at: Instant, flow: &Arc<Connection>) {
        let mut due = self.due.lock();
        let sooner = due.peek().is_none_or(|first| at < first.at);
        due.push(Due { at, flow: Arc::downgrade(flow) });
        drop(due);
        if sooner {
            self.sooner.notify_one();
        }
    }

    pub(super) fn blocked(&self, flow: &Arc<Connection>) {
        self.blocked.lock().push(Arc::downgrade(flow));
    }

    /// Those that waited for room on the link, in the order in which they came to wait.
    pub(super) fn resume(&self) -> Vec<Arc<Connection>> {
        let waiting = std::mem::take(&mut *self.blocked.lock());
        waiting.iter().filter_map(Weak::upgrade).collect()
    }

    /// Waits for the next connection whose time has come.
    pub(super) async fn next(&self) -> (Instant, Arc<Connection>) {
        loop {
            let first = self.due.lock().peek().map(|first| first.at);
            let wait = async {
                match first {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = wait => {}
                () = self.sooner.notified() => continue,
            }
            let mut due = self.due.lock();
            if due.peek().is_none_or(|first| first.at > Instant::now()) {
                continue;
            }
            let found = due.pop();
            drop(due);
            if let Some(Due { at, flow }) = found
                && let Some(flow) = flow.upgrade()
            {
                return (at, flow);
            }
        }
    }
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    /// The soonest is the greatest: a heap gives the greatest first.
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        other.at.cmp(&self.at)
    }
}
