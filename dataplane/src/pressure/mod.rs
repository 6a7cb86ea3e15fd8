//! How short memory is, and what is given up for it, step by step, so that the process is not killed for all of it.
//!
//! The use is looked at beside the requests, which pay for it with one load of a number.

mod meter;

pub use meter::Meter;

use prometheus::IntGauge;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How often the use of memory is looked at. What jemalloc frees is back with the system a second later.
pub const TICK: Duration = Duration::from_millis(100);
/// Hundredths of the limit by which the use must have fallen below the beginning of a state for it to end.
const BACK: u64 = 3;

/// Bytes of memory in use, and how many there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Use {
    pub used: u64,
    pub limit: u64,
}

/// How short memory is. Each state gives up what those before it do, and more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum MemoryState {
    #[default]
    Normal,
    /// It is only said.
    Warn,
    /// The next request of each connection is its last, and those without one are closed.
    NoKeepAlive,
    /// Requests are refused.
    Shedding,
    /// Connections are refused.
    Closed,
}

impl MemoryState {
    const ALL: [Self; 5] = [
        Self::Normal,
        Self::Warn,
        Self::NoKeepAlive,
        Self::Shedding,
        Self::Closed,
    ];

    /// Hundredths of the limit.
    const fn begins(self) -> u64 {
        match self {
            Self::Normal => 0,
            Self::Warn => 80,
            Self::NoKeepAlive => 88,
            Self::Shedding => 92,
            Self::Closed => 95,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Warn => "warn",
            Self::NoKeepAlive => "no_keep_alive",
            Self::Shedding => "shedding",
            Self::Closed => "closed",
        }
    }

    /// The state after this one.
    fn after(self, now: Use) -> Self {
        let holds = |state: &Self| {
            let back = if *state <= self { BACK } else { 0 };
            let begins = state.begins().saturating_sub(back);
            u128::from(now.used) * 100 >= u128::from(now.limit) * u128::from(begins)
        };
        let known = now.limit > 0;
        let state = Self::ALL.into_iter().rev().find(holds);
        state.filter(|_| known).unwrap_or_default()
    }
}

/// The state that all threads see. It is the metric itself.
#[derive(Clone, Debug)]
pub struct Pressure {
    memory: IntGauge,
    /// The same for those who wait for another one.
    changes: Arc<watch::Sender<MemoryState>>,
}

impl Pressure {
    pub(crate) fn new(memory: IntGauge) -> Self {
        Self {
            memory,
            changes: Arc::default(),
        }
    }

    pub fn memory(&self) -> MemoryState {
        let number = usize::try_from(self.memory.get()).unwrap_or(0);
        MemoryState::ALL.get(number).copied().unwrap_or_default()
    }

    /// Waits until the state is one of these.
    pub async fn becomes(&self, wanted: impl Fn(MemoryState) -> bool) {
        let mut changes = self.changes.subscribe();
        // The sender is here: it does not go.
        let _ = changes.wait_for(|memory| wanted(*memory)).await;
    }

    /// Takes what is in use now.
    pub fn note(&self, now: Use) {
        let before = self.memory();
        let after = before.after(now);
        if after == before {
            return;
        }
        self.memory.set(after as i64);
        self.changes.send_replace(after);
        let (state, Use { used, limit }) = (after.name(), now);
        if after > before {
            tracing::warn!(event = "memory", state, used, limit, "memory is short");
        } else {
            tracing::info!(event = "memory", state, used, limit, "memory is freed");
        }
    }

    /// Follows the meter for ever.
    pub(crate) async fn follow(self, meter: Meter) {
        let mut ticks = tokio::time::interval(TICK);
        loop {
            ticks.tick().await;
            if let Some(now) = meter.read() {
                self.note(now);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use MemoryState::{Closed, NoKeepAlive, Normal, Shedding, Warn};

    #[test]
    fn a_state_begins_at_its_share_and_ends_below_it() {
        let mut state = Normal;
        for (used, expected) in [
            (0, Normal),
            (799, Normal),
            (800, Warn),
            (879, Warn),
            (880, NoKeepAlive),
            (919, NoKeepAlive),
            (920, Shedding),
            (949, Shedding),
            (950, Closed),
            (2000, Closed),
            // Down: each holds for three hundredths more.
            (920, Closed),
            (919, Shedding),
            (890, Shedding),
            (889, NoKeepAlive),
            (850, NoKeepAlive),
            (849, Warn),
            (770, Warn),
            (769, Normal),
            // And all the way, in both directions.
            (1000, Closed),
            (100, Normal),
            // What has not begun does not hold below its share.
            (900, NoKeepAlive),
        ] {
            state = state.after(Use { used, limit: 1000 });
            assert_eq!(state, expected, "{used}");
        }
        let unlimited = Use { used: 1, limit: 0 };
        assert_eq!(Closed.after(unlimited), Normal);
        let most = Use {
            used: u64::MAX,
            limit: u64::MAX,
        };
        assert_eq!(Normal.after(most), Closed);
    }

    #[test]
    fn all_threads_see_the_state_and_the_metric_is_its_number() {
        let gauge = IntGauge::new("memory", "state").unwrap();
        let pressure = Pressure::new(gauge.clone());
        for (number, state) in (0..).zip(MemoryState::ALL) {
            let used = state.begins();
            pressure.note(Use { used, limit: 100 });
            assert_eq!((pressure.memory(), gauge.get()), (state, number));
        }
    }
}
