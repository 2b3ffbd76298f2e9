//! Memory that held bodies may use, of the whole process.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A shared allowance of bytes.
#[derive(Clone, Debug)]
pub struct HoldBudget {
    left: Arc<AtomicUsize>,
}

impl HoldBudget {
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        Self { left: Arc::new(AtomicUsize::new(bytes)) }
    }

    /// An empty share, given back when it is dropped.
    #[must_use]
    pub fn share(&self) -> HoldShare {
        HoldShare { budget: self.clone(), taken: 0 }
    }
}

/// One exchange's part of the allowance.
#[derive(Debug)]
pub struct HoldShare {
    budget: HoldBudget,
    taken: usize,
}

impl HoldShare {
    /// Takes `bytes` more; `false`, and nothing taken, where the allowance is used up.
    pub fn grow(&mut self, bytes: usize) -> bool {
        let taken = self
            .budget
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(bytes));
        if taken.is_ok() {
            self.taken += bytes;
        }
        taken.is_ok()
    }
}

impl Drop for HoldShare {
    fn drop(&mut self) {
        self.budget.left.fetch_add(self.taken, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_goes_back_whole() {
        let budget = HoldBudget::new(10);
        let mut share = budget.share();
        assert!(share.grow(8));
        assert!(!share.grow(3));
        drop(share);
        assert!(budget.share().grow(10));
    }
}
