//! How many series there may be for labels whose values come from the configuration (`metrics.maxSeries`).

use model::limits;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// The series that may be, and those that are. None goes away before the process ends.
#[derive(Debug)]
pub struct Budget {
    most: AtomicUsize,
    used: AtomicUsize,
}

impl Default for Budget {
    fn default() -> Self {
        let budget = Self {
            most: AtomicUsize::new(0),
            used: AtomicUsize::new(0),
        };
        budget.allow(limits::SERIES);
        budget
    }
}

impl Budget {
    /// From now on there may be so many. Those that there are stay.
    pub fn allow(&self, series: u32) {
        let series = usize::try_from(series).unwrap_or(usize::MAX);
        self.most.store(series, Relaxed);
    }

    /// Whether there may be so many more, which there are then.
    pub(super) fn take(&self, series: usize) -> bool {
        let most = self.most.load(Relaxed);
        let more = |used: usize| used.checked_add(series).filter(|used| *used <= most);
        self.used.fetch_update(Relaxed, Relaxed, more).is_ok()
    }

    /// These are not made after all.
    pub(super) fn give_back(&self, series: usize) {
        self.used.fetch_sub(series, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_are_taken_than_may_be() {
        let budget = Budget::default();
        budget.allow(10);
        assert!(budget.take(7) && !budget.take(4) && budget.take(3) && !budget.take(1));
        budget.give_back(3);
        assert!(budget.take(2) && !budget.take(2));
        budget.allow(5);
        assert!(!budget.take(1), "those that there are stay");
        budget.allow(11);
        assert!(budget.take(2));
    }
}
