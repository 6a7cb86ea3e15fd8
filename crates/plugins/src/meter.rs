//! What is told of each run of a plugin, for metrics.

use crate::Failure;
use model::FailurePolicy;
use std::time::{Duration, Instant};

/// Is told how long plugins took and when they failed. The chain knows no more of metrics than this.
pub trait Meter: Send + Sync + 'static {
    /// One stage of one exchange, or one body of it in all, took so long.
    fn took(&self, time: Duration);

    /// It went wrong, and this is what was done about it.
    fn failed(&self, policy: FailurePolicy);

    /// It went wrong by a panic.
    fn panicked(&self);
}

/// What a panic in a plugin is to its exchange: a failure like any other.
pub(crate) fn panicked(meter: Option<&dyn Meter>) -> Failure {
    if let Some(meter) = meter {
        meter.panicked();
    }
    Failure("it panicked".into())
}

/// Reads the clock between runs that follow each other: the end of one is the beginning of the next.
pub(crate) struct Lap(Instant);

impl Lap {
    pub(crate) fn begin() -> Self {
        Self(Instant::now())
    }

    /// What began with this, or with the last call, is over.
    pub(crate) fn tell(&mut self, meter: Option<&dyn Meter>) {
        let Some(meter) = meter else { return };
        let now = Instant::now();
        meter.took(now.duration_since(self.0));
        self.0 = now;
    }
}
