//! When a stream that ended, or did not come about, is tried again.

use std::time::Duration;

/// Bound of the pause after a stream that had stood; it doubles with each attempt that fails
const FIRST: Duration = Duration::from_millis(100);
/// up to here.
const LONGEST: Duration = Duration::from_secs(10);
/// A controller that welcomes and falls over again and again is not asked more often than this. Whoever kept a stream
/// for so long looks for another controller at once, however long it had looked for the one before.
const PROVEN: Duration = Duration::from_secs(1);

/// Each pause is random below its bound, so that many data planes do not come at once.
pub(super) struct Pauses {
    bound: Duration,
}

impl Pauses {
    pub(super) fn new() -> Self {
        Self { bound: FIRST }
    }

    /// Whether a stream stood long enough for its end to be nothing unusual.
    pub(super) fn is_proven(stood: Duration) -> bool {
        stood >= PROVEN
    }

    /// Before the next attempt. `stood`: for how long the last stream was one, from its Welcome on.
    pub(super) fn after(&mut self, stood: Duration) -> Duration {
        if Self::is_proven(stood) {
            self.bound = FIRST;
        }
        let pause = self.bound.mul_f64(rand::random());
        self.bound = LONGEST.min(self.bound * 2);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_while_nothing_stands_and_begin_anew_after_a_stream_that_did() {
        let mut pauses = Pauses::new();
        let mut bounds = Vec::new();
        for _ in 0..10 {
            bounds.push(pauses.bound);
            let bound = pauses.bound;
            assert!(pauses.after(PROVEN / 2) <= bound);
        }
        assert!(bounds.windows(2).all(|w| w[1] == LONGEST.min(w[0] * 2)));
        assert_eq!(pauses.bound, LONGEST);
        // The controllers were away for long, came back, and the one that took us has gone a second later.
        assert!(pauses.after(PROVEN) <= FIRST);
        assert_eq!(pauses.bound, FIRST * 2);
    }
}
