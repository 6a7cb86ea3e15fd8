use super::rotation::Rotation;
use super::{Ask, Endpoint, Policy};

/// In turn: evenly for `RoundRobin`, by smooth weights for `Weighted` and while an endpoint warms up.
pub(super) struct RoundRobin(Rotation);

impl RoundRobin {
    pub(super) fn new(shares: &[u32]) -> Self {
        Self(Rotation::new(shares))
    }
}

impl Policy for RoundRobin {
    fn choose(&self, ask: &Ask<'_>, _: &[Endpoint]) -> Option<usize> {
        self.0.next(ask.turn)
    }
}
