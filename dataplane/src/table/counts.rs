//! What endpoints do, counted for the metrics.

use super::pick;
use super::upstream::Upstream;
use std::ops::AddAssign;

/// Endpoints by what they do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EndpointCounts {
    pub healthy: u64,
    /// Ejected or failing checks, here or by the verdict of others.
    pub ejected: u64,
    pub warming: u64,
    /// On their way out: they still answer and get nothing new.
    pub draining: u64,
    /// Upstreams that use every endpoint because too few are healthy.
    pub panicking: u64,
}

impl EndpointCounts {
    pub fn of(upstream: &Upstream) -> Self {
        let set = upstream.endpoints();
        let mut counts = Self {
            panicking: u64::from(set.is_panicking()),
            ..Self::default()
        };
        for e in set.endpoints() {
            match (e.ready, e.state.is_healthy()) {
                (true, false) => counts.ejected += 1,
                (true, true) if e.warmth < pick::WARM => counts.warming += 1,
                (true, true) => counts.healthy += 1,
                (false, _) => counts.draining += u64::from(e.serving),
            }
        }
        counts
    }
}

impl AddAssign for EndpointCounts {
    fn add_assign(&mut self, more: Self) {
        self.healthy += more.healthy;
        self.ejected += more.ejected;
        self.warming += more.warming;
        self.draining += more.draining;
        self.panicking += more.panicking;
    }
}
