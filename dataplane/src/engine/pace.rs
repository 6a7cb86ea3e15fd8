//! The least that a client must send of a body or take of an answer: drops keep no exchange open.
//!
//! A client that is waited for has a grace period. What it moves then earns time, at so many bytes a second and only up
//! to a bound, so that a fast transfer may pause, and a slow one ends soon after it began.

use model::limits;
use std::time::Duration;
use tokio::time::Instant;

/// How slow a client may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PaceLimits {
    /// Bytes that earn a second.
    pub rate: u64,
    /// From when it is waited for.
    pub grace: Duration,
    /// Time that it may have earned.
    pub credit: Duration,
}

impl Default for PaceLimits {
    fn default() -> Self {
        Self {
            rate: limits::CLIENT_RATE,
            grace: limits::CLIENT_GRACE,
            credit: limits::CLIENT_CREDIT,
        }
    }
}

impl PaceLimits {
    fn earned(&self, bytes: u64) -> Duration {
        let earned = Duration::from_millis(bytes.saturating_mul(1000) / self.rate.max(1));
        earned.min(self.credit)
    }
}

/// One direction of one exchange, for as long as its client is waited for.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    due: Instant,
    /// Bytes that have been counted.
    moved: u64,
}

impl Pace {
    /// It is waited for from now on; `moved` bytes are behind it and have earned it time.
    pub fn new(limits: &PaceLimits, now: Instant, moved: u64) -> Self {
        Self {
            due: now + limits.grace.max(limits.earned(moved)),
            moved,
        }
    }

    /// Bytes are behind it now, `moved` in all: by when it must have moved more.
    pub fn due(&mut self, limits: &PaceLimits, now: Instant, moved: u64) -> Instant {
        let more = moved.saturating_sub(self.moved);
        self.moved = self.moved.max(moved);
        self.due = (self.due + limits.earned(more)).min(now + limits.credit);
        self.due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: PaceLimits = PaceLimits {
        rate: 240,
        grace: Duration::from_secs(10),
        credit: Duration::from_secs(30),
    };

    /// After how many seconds a client is given up that moves `bytes` every `every` seconds.
    fn ends_after(bytes: u64, every: u64) -> Option<u64> {
        let begun = Instant::now();
        let (mut pace, mut moved) = (Pace::new(&LIMITS, begun, 0), 0);
        let mut due = pace.due(&LIMITS, begun, 0);
        for second in (every..3600).step_by(every as usize) {
            let now = begun + Duration::from_secs(second);
            if due < now {
                return Some((due - begun).as_secs());
            }
            moved += bytes;
            due = pace.due(&LIMITS, now, moved);
        }
        None
    }

    #[test]
    fn the_slow_are_given_up_and_the_others_are_not() {
        assert_eq!(ends_after(0, 1), Some(10));
        assert_eq!(ends_after(1, 1), Some(10));
        assert_eq!(ends_after(120, 1), Some(19));
        assert_eq!(ends_after(240, 1), None);
        assert_eq!(
            ends_after(24_000, 20),
            Some(10),
            "the grace is for the first bytes"
        );
        assert_eq!(ends_after(24_000, 9), None);
    }

    #[test]
    fn a_fast_transfer_may_pause_but_not_for_ever() {
        let begun = Instant::now();
        let in_the_midst = Pace::new(&LIMITS, begun, 1 << 20).due(&LIMITS, begun, 1 << 20);
        assert_eq!(in_the_midst, begun + Duration::from_secs(30));
        let mut pace = Pace::new(&LIMITS, begun, 0);
        let due = pace.due(&LIMITS, begun, 1 << 40);
        assert_eq!(due, begun + Duration::from_secs(30));
    }
}
