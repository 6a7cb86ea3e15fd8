//! Now and then everything that has been translated is looked at again, a little at a time while nothing else is to do.

use super::{Clock, Owner, unix_ns};
use crate::translate::{Mismatch, Recheck};
use std::time::Duration;
use tokio::time::Instant;

/// Longest that a change waits for it.
const SLICE: Duration = Duration::from_millis(5);
/// After each slice, so that it takes a fifth of a core at most.
const PAUSE: Duration = Duration::from_millis(20);
/// Units at a time, after which it is looked at the clock.
const UNITS: usize = 8;
/// As many are named in the log of one recheck.
const NAMED: usize = 32;

/// When it is looked again, and how far it is.
pub(super) struct Rechecks {
    every: Duration,
    due: Option<Instant>,
    under_way: Option<Recheck>,
    /// Of the one under way.
    found: usize,
    took: Duration,
}

impl Rechecks {
    /// Zero: never.
    pub(super) fn new(every: Duration, now: Instant) -> Self {
        let mut rechecks = Self {
            every,
            due: None,
            under_way: None,
            found: 0,
            took: Duration::ZERO,
        };
        rechecks.later(now);
        rechecks
    }

    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// At random, so that not all replicas are busy at once.
    fn later(&mut self, now: Instant) {
        let pause = self.every.mul_f64(0.75 + 0.5 * rand::random::<f64>());
        self.due = (!self.every.is_zero()).then(|| now + pause);
    }
}

impl Owner {
    /// The next slice.
    pub(super) fn recheck(&mut self) {
        let began = Clock::now();
        let (mut recheck, mut found) = match self.rechecks.under_way.take() {
            Some(recheck) => (recheck, Mismatch::default()),
            None => self.translator.recheck(&self.world),
        };
        while !recheck.is_done() && began.elapsed() < SLICE {
            found.merge(
                self.translator
                    .recheck_next(&self.world, &mut recheck, UNITS),
            );
        }
        self.mend(found);
        self.rechecks.took += began.elapsed();
        let now = Instant::now();
        if !recheck.is_done() {
            self.rechecks.under_way = Some(recheck);
            self.rechecks.due = Some(now + PAUSE);
            return;
        }
        let found = std::mem::take(&mut self.rechecks.found);
        if found > NAMED {
            tracing::error!(
                event = "incremental_mismatch",
                found,
                "not all of them were named"
            );
        }
        let seconds = std::mem::take(&mut self.rechecks.took).as_secs_f64();
        tracing::debug!(found, seconds, "everything has been looked at again");
        self.rechecks.later(now);
    }

    fn mend(&mut self, mut found: Mismatch) {
        if found.of.is_empty() {
            return;
        }
        let metrics = &self.with.metrics;
        metrics.incremental_mismatches.inc_by(found.of.len() as u64);
        for object in &found.of {
            if self.rechecks.found < NAMED {
                tracing::error!(
                    event = "incremental_mismatch",
                    object,
                    "what is held of it is not what its translation gives; it is replaced"
                );
            }
            self.rechecks.found += 1;
        }
        let references = std::mem::take(&mut found.delta.references);
        self.publish(found.delta, unix_ns(), false);
        self.refer(references);
    }
}
