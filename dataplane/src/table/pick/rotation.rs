//! Taking turns, evenly or by weight.

use super::super::weights::Schedule;
use std::sync::atomic::{AtomicU64, Ordering};

/// Whose turn it is.
pub(super) enum Rotation {
    /// All alike: so many of them.
    Even(u64),
    ByWeight(Schedule),
}

impl Rotation {
    pub(super) fn new(weights: &[u32]) -> Self {
        match weights {
            [first, rest @ ..] if *first > 0 && rest.iter().all(|w| w == first) => {
                Self::Even(weights.len() as u64)
            }
            _ => Self::ByWeight(Schedule::new(weights)),
        }
    }

    /// The next one; `None` when nobody has a weight. Draws no turn where it would make no difference.
    pub(super) fn next(&self, turn: &AtomicU64) -> Option<usize> {
        let draw = || turn.fetch_add(1, Ordering::Relaxed);
        match self {
            Self::Even(0) => None,
            Self::Even(1) => Some(0),
            Self::Even(n) => usize::try_from(draw() % n).ok(),
            Self::ByWeight(schedule) if schedule.is_constant() => schedule.at(0),
            Self::ByWeight(schedule) => schedule.at(draw()),
        }
    }
}
