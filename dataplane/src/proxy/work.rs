//! How long a request is worked on here, without what it waits for.

use std::task::Poll;
use std::time::{Duration, Instant};

/// Time that goes by only while something is done.
#[derive(Debug)]
pub(super) struct Work {
    /// Up to where it began to wait.
    done: Duration,
    /// `None`: it waits.
    since: Option<Instant>,
}

impl Work {
    pub(super) fn begin(at: Instant) -> Self {
        Self {
            done: Duration::ZERO,
            since: Some(at),
        }
    }

    /// Goes on with it up to where it has to wait.
    pub(super) fn go_on<T>(&mut self, poll: impl FnOnce() -> Poll<T>) -> Poll<T> {
        let since = *self.since.get_or_insert_with(Instant::now);
        let result = poll();
        if result.is_pending() {
            self.done += since.elapsed();
            self.since = None;
        }
        result
    }

    /// All of it.
    pub(super) fn until(&self, now: Instant) -> Duration {
        let at_it = self.since.map(|since| now.saturating_duration_since(since));
        self.done + at_it.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_is_no_work() {
        let (millis, hour) = (Duration::from_millis, Duration::from_secs(3600));
        let now = Instant::now();
        let mut work = Work::begin(now - millis(5));
        assert_eq!(work.until(now), millis(5));
        assert!(work.go_on(|| Poll::<()>::Pending).is_pending());
        let done = work.done;
        assert!(done >= millis(5));
        // However long it waits, and when it is given up meanwhile.
        assert_eq!(work.until(now + hour), done);
        assert_eq!(work.go_on(|| Poll::Ready(7)), Poll::Ready(7));
        assert!(work.until(Instant::now() + millis(3)) >= done + millis(3));
        assert!(work.until(Instant::now()) < hour);
    }
}
