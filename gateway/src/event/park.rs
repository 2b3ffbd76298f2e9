//! Lines taken out of the write-ahead log on their way into the tenants' segments.
//!
//! To append to a segment takes as much work for one line as for a hundred: its file has to be
//! opened, since only some of them are kept open. So lines of many tenants wait until each has
//! several, and lines of a few do not wait. What waits is in the log until it is in a segment.

use std::collections::HashMap;
use std::io;
use std::time::{Duration, Instant};

use super::store::Batch;

/// Bytes of lines that wait; with what the memory behind them has to spare, up to twice that.
const BYTES_MAX: usize = 32 * 1024 * 1024;
/// What a tenant has on average when more of it would not make it cheaper.
const TENANT_BYTES_ENOUGH: usize = 16 * 1024;
/// Lines wait this long for each tenant that has some: opening files takes a twentieth of a core at
/// most.
const TIME_PER_TENANT: Duration = Duration::from_micros(160);
/// No line waits longer: whoever follows a log sees it within a second.
const TIME_MAX: Duration = Duration::from_millis(800);

#[derive(Default)]
pub(super) struct Parked {
    batches: HashMap<Box<str>, Batch>,
    /// Of their lines.
    bytes: usize,
    /// When the first of them came.
    since: Option<Instant>,
}

impl Parked {
    pub(super) fn push(&mut self, tenant: &str, line: &[u8]) {
        self.bytes += line.len() + 1;
        match self.batches.get_mut(tenant) {
            Some(batch) => batch.push(line),
            None => self.batches.entry(tenant.into()).or_default().push(line),
        }
    }

    /// Notes that there are lines since now, where there were none before.
    pub(super) fn begin(&mut self, now: Instant) {
        if !self.is_empty() {
            self.since.get_or_insert(now);
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// Whether there is so much that it should not wait for more.
    pub(super) fn is_enough(&self) -> bool {
        self.bytes >= (self.batches.len() * TENANT_BYTES_ENOUGH).min(BYTES_MAX)
    }

    /// Whether the lines have waited long enough.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        let tenants = u32::try_from(self.batches.len()).unwrap_or(u32::MAX);
        let wait = TIME_PER_TENANT.saturating_mul(tenants).min(TIME_MAX);
        self.since.is_some_and(|since| now.duration_since(since) >= wait)
    }

    /// Hands each tenant's lines to `write` and forgets those it took whole. Stops at the first that
    /// it did not; says how many bytes were taken.
    pub(super) fn settle(
        &mut self,
        mut write: impl FnMut(&str, &mut Batch) -> io::Result<()>,
    ) -> (usize, io::Result<()>) {
        let before = self.bytes;
        let mut result = Ok(());
        self.batches.retain(|tenant, batch| {
            if result.is_err() {
                return true;
            }
            let waiting = batch.waiting();
            result = write(tenant, batch);
            self.bytes -= waiting - batch.waiting();
            result.is_err()
        });
        if self.batches.is_empty() {
            self.since = None;
        }
        (before - self.bytes, result)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    const LINE: &[u8] = &[b'x'; 1023];

    fn parked(tenants: usize, lines: usize, now: Instant) -> Parked {
        let mut parked = Parked::default();
        for tenant in 0..tenants {
            (0..lines).for_each(|_| parked.push(&format!("tenant-{tenant}"), LINE));
        }
        parked.begin(now);
        parked
    }

    #[test]
    fn lines_of_many_tenants_wait_longer_than_those_of_a_few_and_none_for_ever() {
        let now = Instant::now();
        let after = |milliseconds| now + Duration::from_millis(milliseconds);
        assert!(parked(1, 1, now).is_due(after(1)));
        let some = parked(1_000, 1, now);
        assert!(!some.is_due(after(159)) && some.is_due(after(160)));
        let many = parked(9_000, 1, now);
        assert!(!many.is_due(after(799)) && many.is_due(after(800)));
        assert!(!Parked::default().is_due(after(1_000_000)));
    }

    #[test]
    fn what_waits_is_bounded_whoever_writes() {
        let now = Instant::now();
        assert!(!parked(2, 15, now).is_enough() && parked(2, 16, now).is_enough());
        let enough = BYTES_MAX / 1024 / 5_000 + 1;
        assert!(!parked(5_000, enough - 1, now).is_enough());
        assert!(parked(5_000, enough, now).is_enough());
    }

    #[test]
    fn what_the_disk_did_not_take_stays_and_is_taken_once() {
        let mut parked = parked(3, 2, Instant::now());
        let (mut calls, mut taken) = (0, 0);
        let (bytes, result) = parked.settle(|_, batch| {
            calls += 1;
            if calls == 2 {
                taken += batch.take(1);
                return Err(io::ErrorKind::StorageFull.into());
            }
            taken += batch.take(2);
            Ok(())
        });
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!((calls, bytes, taken, parked.bytes()), (2, 3 * 1024, 3, 3 * 1024));
        let (bytes, result) = parked.settle(|_, batch| {
            taken += batch.take(2);
            Ok(())
        });
        result.unwrap();
        assert_eq!((bytes, taken, parked.bytes()), (3 * 1024, 6, 0));
        assert!(parked.is_empty());
    }
}
