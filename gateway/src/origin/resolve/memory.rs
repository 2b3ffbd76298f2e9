//! What one tenant remembers of names: fresh answers, and stale ones for while they are asked anew.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{OnceCell, Semaphore};

use super::ask::Answer;
use crate::tls::Bounded;

/// Names remembered per tenant, found or not.
pub(super) const NAMES_MAX: usize = 4096;

/// Queries of one tenant under way at a time, so that a flood of made-up names by one tenant
/// neither occupies the resolver nor delays the others.
pub(super) const QUERIES_MAX: usize = 256;

/// Addresses past their time are still used this long where a name's servers give no answer: an
/// outage is over, or known, within a day (RFC 8767 section 5 suggests one to three).
const STALE_TIME_MAX: Duration = Duration::from_secs(24 * 3600);

/// Until then after their time they are used at once, while the name is asked for again: names
/// in use then cost nobody a lookup, and an address that moved is noticed by the next request.
const REVALIDATING_TIME_MAX: Duration = Duration::from_secs(30);

/// Servers that failed are left alone this long where stale addresses serve (RFC 8767 section 5).
const STALE_RECHECK: Duration = Duration::from_secs(30);

/// One tenant's memory and budget.
pub(super) struct View {
    pub(super) names: Mutex<Bounded<String, Entry>>,
    pub(super) queries: Semaphore,
}

/// What is remembered of one name.
pub(super) struct Entry {
    cell: Arc<OnceCell<Answer>>,
    last: Option<Stale>,
}

/// Addresses past their time.
#[derive(Clone)]
pub(super) struct Stale {
    pub(super) addresses: Arc<[IpAddr]>,
    until: Instant,
}

/// Where the answer is, or will be.
pub(super) struct Place {
    pub(super) cell: Arc<OnceCell<Answer>>,
    /// What served before, while `cell` is empty or holds a failure.
    pub(super) stale: Option<Stale>,
    /// Nobody has asked yet.
    pub(super) is_new: bool,
}

impl View {
    pub(super) fn new() -> Self {
        let names = Mutex::new(Bounded::new(NAMES_MAX));
        Self { names, queries: Semaphore::new(QUERIES_MAX) }
    }

    pub(super) fn place(&self, host: &str, now: Instant) -> Place {
        let mut names = self.names.lock();
        let Some(entry) = names.find(host) else {
            let cell = Arc::new(OnceCell::new());
            names.insert(host.to_owned(), Entry { cell: Arc::clone(&cell), last: None });
            return Place { cell, stale: None, is_new: true };
        };
        let is_new = entry.cell.get().is_some_and(|answer| now >= entry.expiry(answer));
        if is_new {
            if let Some(answer) = entry.cell.get().cloned() {
                entry.retire(answer);
            }
            entry.cell = Arc::new(OnceCell::new());
        }
        entry.last.take_if(|last| now >= last.until + STALE_TIME_MAX);
        let stale = match entry.cell.get().map(|answer| &answer.addresses) {
            Some(Ok(_)) => None,
            // There is nothing: that is an answer, not an outage.
            Some(Err(error)) if error.is_absence() => None,
            Some(Err(_)) | None => entry.last.clone(),
        };
        Place { cell: Arc::clone(&entry.cell), stale, is_new }
    }
}

impl Entry {
    /// When the name is to be asked for again.
    fn expiry(&self, answer: &Answer) -> Instant {
        match &answer.addresses {
            Err(error) if !error.is_absence() && self.last.is_some() => {
                answer.until + STALE_RECHECK
            }
            _ => answer.until,
        }
    }

    fn retire(&mut self, answer: Answer) {
        match answer.addresses {
            Ok(addresses) => self.last = Some(Stale { addresses, until: answer.until }),
            Err(error) if error.is_absence() => self.last = None,
            Err(_) => {}
        }
    }
}

impl Stale {
    /// Whether they serve without waiting for the new answer.
    pub(super) fn serves_at_once(&self, now: Instant) -> bool {
        now < self.until + REVALIDATING_TIME_MAX
    }
}
