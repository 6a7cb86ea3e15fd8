//! The retry budget of an upstream: a share of its requests under way, and always ten a second (F55). An upstream
//! that fails uses up nobody else's.

use std::sync::atomic::{AtomicU64, Ordering};

const PER_SECOND: u64 = 10;
/// Of rules that do not say.
pub(crate) const PERCENT: u64 = 20;

/// Counts the retries of the current second.
#[derive(Debug, Default)]
pub(super) struct RetryBudget {
    /// The second in the upper, its retries in the lower half.
    state: AtomicU64,
}

impl RetryBudget {
    /// Whether another retry is within the budget; if so it is counted.
    pub(super) fn take(&self, second: u64, requests_in_flight: u64, percent: u64) -> bool {
        let allowed = PER_SECOND.max(requests_in_flight * percent / 100);
        let second = second & 0xffff_ffff;
        let spend = |state: u64| {
            let spent = if state >> 32 == second {
                state & 0xffff_ffff
            } else {
                0
            };
            (spent < allowed).then_some(second << 32 | (spent + 1))
        };
        self.state
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, spend)
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_a_second_or_a_fifth_of_what_is_under_way() {
        let budget = RetryBudget::default();
        assert_eq!((0..20).filter(|_| budget.take(1, 0, PERCENT)).count(), 10);
        assert_eq!((0..20).filter(|_| budget.take(2, 0, 0)).count(), 10);
        assert_eq!(
            (0..500).filter(|_| budget.take(3, 1000, PERCENT)).count(),
            200
        );
    }
}
