use super::draw::below;
use super::rotation::Rotation;
use super::{Ask, Endpoint, Policy, is_less_busy};

/// Up to so many endpoints are all looked at.
const SCAN: usize = 8;
/// Beyond that, so many: the one whose turn it is, and others at random. Two would do; more cost little and come
/// closer to the true minimum.
const CHOICES: usize = 4;

/// The fewest requests under way in proportion to the weight. Among equals it goes by turns, so that an idle
/// upstream shares by weight.
pub(super) struct LeastRequest(Rotation);

impl LeastRequest {
    pub(super) fn new(shares: &[u32]) -> Self {
        Self(Rotation::new(shares))
    }
}

impl Policy for LeastRequest {
    fn choose(&self, ask: &Ask<'_>, among: &[Endpoint]) -> Option<usize> {
        let n = among.len();
        let first = self.0.next(ask.turn)?;
        let mut best = (first, among.get(first)?);
        let mut consider = |at: usize| {
            if let Some(e) = among.get(at)
                && is_less_busy(e, best.1)
            {
                best = (at, e);
            }
        };
        if n <= SCAN {
            (1..n).for_each(|step| consider((first + step) % n));
        } else {
            (1..CHOICES).for_each(|_| consider(below(n)));
        }
        Some(best.0)
    }
}
