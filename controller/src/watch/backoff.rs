//! When a watch that failed is tried again.

use std::time::Duration;

use kube::runtime::utils::Backoff;
use tokio::time::Instant;

/// Bound of the pause after the first failure; it doubles with each further one.
const FIRST: Duration = Duration::from_millis(200);
/// A few watches in two seconds are nothing to an API server that has just started, and statuses are to be true within
/// five seconds of its return: kube's own pauses grow to half a minute.
const LONGEST: Duration = Duration::from_secs(2);
/// After so long without a failure the pauses begin anew.
const FORGOTTEN: Duration = Duration::from_secs(10);

/// Pauses of one watch: at random, so that those of all kinds and replicas do not move in step.
pub(super) struct Pauses {
    bound: Duration,
    last: Option<Instant>,
}

impl Pauses {
    pub(super) fn new() -> Self {
        Self {
            bound: FIRST,
            last: None,
        }
    }
}

impl Iterator for Pauses {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        if self.last.is_none_or(|last| last.elapsed() > FORGOTTEN) {
            self.bound = FIRST;
        }
        let pause = self.bound.mul_f64(0.5 + 0.5 * rand::random::<f64>());
        self.bound = LONGEST.min(self.bound * 2);
        self.last = Some(Instant::now());
        Some(pause)
    }
}

impl Backoff for Pauses {
    /// Called with all that a watch brings. That is no success yet: an API server may begin a list again and again, and
    /// never come to its end.
    fn reset(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_to_two_seconds_and_begin_anew_after_quiet() {
        let mut pauses = Pauses::new();
        let first = pauses.next().unwrap();
        assert!(first >= FIRST / 2 && first <= FIRST);
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(3600) {
            let pause = pauses.next().unwrap();
            assert!(pause <= LONGEST);
            tokio::time::sleep(pause).await;
            pauses.reset();
        }
        assert!(pauses.next().unwrap() >= LONGEST / 2);
        tokio::time::sleep(FORGOTTEN * 2).await;
        assert!(pauses.next().unwrap() <= FIRST);
    }
}
