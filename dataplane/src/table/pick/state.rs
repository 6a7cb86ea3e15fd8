//! What is known about one endpoint, by all threads at once. It outlives tables and endpoint sets: an address that
//! stays keeps its state.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Instant;

/// A moment: milliseconds since the process began, at least 1.
pub type Moment = u64;

/// This moment.
pub(crate) fn now() -> Moment {
    static BEGUN: OnceLock<Instant> = OnceLock::new();
    let begun = BEGUN.get_or_init(Instant::now);
    u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX - 1) + 1
}

/// What active checks of this data plane say about an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Checks {
    /// Nothing: there are none, others do them, or there has been none yet.
    Silent,
    Passing,
    Failing,
}

#[derive(Debug, Default)]
pub struct EndpointState {
    in_flight: AtomicU64,
    requests: AtomicU64,
    failures: AtomicU64,
    /// Failures in a row.
    consecutive: AtomicU32,
    window: Window,
    /// Until when it is ejected; 0: it is not.
    ejected_until: AtomicU64,
    /// How often it has been ejected lately.
    ejections: AtomicU32,
    /// When the last ejection ended; 0: there was none.
    restored: AtomicU64,
    /// What active checks say: a [`Checks`].
    checks: AtomicU8,
    /// Until when other data planes say that it does not work; 0: they do not.
    pruned_until: AtomicU64,
    /// They have it from active checks.
    pruned_by_checks: AtomicBool,
    /// From when on it warms up; 0: it is warm.
    fresh_since: AtomicU64,
}

impl EndpointState {
    /// Counts a request until the guard is dropped.
    pub fn start(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Relaxed);
        self.requests.fetch_add(1, Relaxed);
        InFlight(Arc::clone(self))
    }

    /// Notes an attempt that failed before an answer was complete.
    pub fn failed(&self) {
        self.failures.fetch_add(1, Relaxed);
    }

    pub fn in_flight(&self) -> u64 {
        self.in_flight.load(Relaxed)
    }

    /// Requests ever started.
    pub fn requests(&self) -> u64 {
        self.requests.load(Relaxed)
    }

    pub fn failures(&self) -> u64 {
        self.failures.load(Relaxed)
    }

    /// Whether it is set aside for failing requests.
    pub fn is_ejected(&self) -> bool {
        self.ejected_until.load(Relaxed) != 0
    }

    /// Whether active checks say that it does not work.
    pub fn is_failing_checks(&self) -> bool {
        self.checks() == Checks::Failing
    }

    pub(crate) fn checks(&self) -> Checks {
        match self.checks.load(Relaxed) {
            0 => Checks::Silent,
            1 => Checks::Passing,
            _ => Checks::Failing,
        }
    }

    /// Whether other data planes say that it does not work.
    pub fn is_pruned(&self) -> bool {
        self.pruned_until.load(Relaxed) != 0
    }

    /// Whether they have that from active checks.
    pub(crate) fn is_pruned_by_checks(&self) -> bool {
        self.is_pruned() && self.pruned_by_checks.load(Relaxed)
    }

    /// Neither ejected nor failing checks, here or by the verdict of others.
    pub fn is_healthy(&self) -> bool {
        !self.is_ejected() && !self.is_failing_checks() && !self.is_pruned()
    }

    /// Notes a good answer.
    pub(in crate::table) fn good(&self) {
        // A line that all threads only read stays in all caches.
        if self.consecutive.load(Relaxed) != 0 {
            self.consecutive.store(0, Relaxed);
        }
    }

    /// Notes a failure; how many there have been in a row.
    pub(in crate::table) fn bad(&self) -> u32 {
        self.consecutive.fetch_add(1, Relaxed).saturating_add(1)
    }

    /// See [`Window::count`].
    pub(in crate::table) fn count(&self, number: u64, failed: bool) -> (u64, u64) {
        self.window.count(number, failed)
    }

    /// Sets it aside; for how long follows from how often that has happened. Not concurrently.
    pub(in crate::table) fn eject(&self, first_ms: u64, now: Moment) {
        /// As in Envoy: no ejection is longer, unless the first one is to be.
        const LONGEST_MS: u64 = 300_000;
        // One is forgotten for each time that it did well for as long as a first ejection lasts.
        let restored = self.restored.load(Relaxed);
        let well = now
            .saturating_sub(restored)
            .checked_div(first_ms)
            .unwrap_or(0);
        let well = if restored == 0 { u64::MAX } else { well };
        let before = self.ejections.load(Relaxed);
        let before = before.saturating_sub(u32::try_from(well).unwrap_or(u32::MAX));
        self.ejections.store(before + 1, Relaxed);
        let length = first_ms
            .saturating_mul(u64::from(before) + 1)
            .min(LONGEST_MS.max(first_ms));
        self.ejected_until
            .store(now.saturating_add(length).max(1), Relaxed);
        self.consecutive.store(0, Relaxed);
        self.window.clear();
    }

    /// When the ejection ends; `None`: it is not ejected.
    pub(in crate::table) fn ejected_until(&self) -> Option<Moment> {
        Some(self.ejected_until.load(Relaxed)).filter(|until| *until != 0)
    }

    /// Takes requests again, and warms up.
    pub(in crate::table) fn restore(&self, now: Moment) {
        self.ejected_until.store(0, Relaxed);
        self.restored.store(now, Relaxed);
        self.fresh(now);
    }

    /// Says what active checks have found; whether it is another endpoint for it.
    pub(in crate::table) fn set_checks(&self, checks: Checks, now: Moment) -> bool {
        const FAILING: u8 = Checks::Failing as u8;
        let before = self.checks.swap(checks as u8, Relaxed);
        let news = (before == FAILING) != (checks == Checks::Failing);
        if news && before == FAILING {
            self.fresh(now);
        }
        news
    }

    /// Says what others have found: until when it holds, and whether it comes from active checks; whether it is
    /// another endpoint for it.
    pub(in crate::table) fn prune(&self, verdict: Option<(Moment, bool)>, now: Moment) -> bool {
        let (until, by_checks) = verdict.unwrap_or((0, false));
        self.pruned_by_checks.store(by_checks, Relaxed);
        let before = self.pruned_until.swap(until, Relaxed);
        let news = (before != 0) != (until != 0);
        if news && until == 0 {
            self.fresh(now);
        }
        news
    }

    /// When the verdict of others ends; `None`: there is none.
    pub(in crate::table) fn pruned_until(&self) -> Option<Moment> {
        Some(self.pruned_until.load(Relaxed)).filter(|until| *until != 0)
    }

    /// Begins to warm up.
    pub(in crate::table) fn fresh(&self, now: Moment) {
        self.fresh_since.store(now, Relaxed);
    }

    pub(in crate::table) fn fresh_since(&self) -> Moment {
        self.fresh_since.load(Relaxed)
    }
}

/// Requests and failures of one window of time: 24 bits of its number, 20 bits each of the counts.
#[derive(Debug, Default)]
struct Window(AtomicU64);

impl Window {
    const COUNT: u64 = (1 << 20) - 1;

    /// Counts a request in the window of this number; requests and failures in it so far. Full counters stay so.
    fn count(&self, number: u64, failed: bool) -> (u64, u64) {
        let number = number & 0xff_ffff;
        let next = |packed: u64| {
            let (requests, failures) = if packed >> 40 == number {
                ((packed >> 20) & Self::COUNT, packed & Self::COUNT)
            } else {
                (0, 0)
            };
            let (requests, failures) = (requests + 1, failures + u64::from(failed));
            (requests <= Self::COUNT).then_some(number << 40 | requests << 20 | failures)
        };
        let packed = match self.0.try_update(Relaxed, Relaxed, next) {
            Ok(before) => next(before).unwrap_or(before),
            Err(full) => full,
        };
        ((packed >> 20) & Self::COUNT, packed & Self::COUNT)
    }

    fn clear(&self) {
        self.0.store(0, Relaxed);
    }
}

/// One request on its way to an endpoint; see [`EndpointState::start`].
#[derive(Debug)]
pub struct InFlight(Arc<EndpointState>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters() {
        let state = Arc::new(EndpointState::default());
        let (a, b) = (state.start(), state.start());
        state.failed();
        drop(a);
        assert_eq!(
            (state.in_flight(), state.requests(), state.failures()),
            (1, 2, 1)
        );
        drop(b);
        assert_eq!(state.in_flight(), 0);
    }

    #[test]
    fn a_window_begins_with_zero() {
        let w = Window::default();
        assert_eq!(w.count(7, true), (1, 1));
        assert_eq!(w.count(7, false), (2, 1));
        assert_eq!(w.count(8, false), (1, 0));
        w.0.store(8 << 40 | Window::COUNT << 20 | 3, Relaxed);
        assert_eq!(w.count(8, true), (Window::COUNT, 3));
    }

    #[test]
    fn each_ejection_is_longer_and_good_times_are_remembered() {
        let state = EndpointState::default();
        let mut now = 1000;
        for n in 1..=3 {
            state.eject(100, now);
            assert_eq!(state.ejected_until(), Some(now + 100 * n));
            now += 100 * n;
            state.restore(now);
            assert!(state.is_healthy());
        }
        // Two good stretches forget two of three.
        now += 200;
        state.eject(100, now);
        assert_eq!(state.ejected_until(), Some(now + 200));
        state.restore(now + 200);
        for _ in 0..10_000 {
            state.eject(100, now);
            state.restore(now);
        }
        state.eject(100, now);
        assert_eq!(state.ejected_until(), Some(now + 300_000));
    }
}
