use super::draw::below;
use super::random::at_random;
use super::{Ask, Endpoint, Policy, is_less_busy};

/// The less busy of two at random (Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing").
pub(super) struct P2C;

impl Policy for P2C {
    fn choose(&self, _: &Ask<'_>, among: &[Endpoint]) -> Option<usize> {
        let first = at_random(among)?;
        let n = among.len();
        if n == 1 {
            return Some(first);
        }
        // Another than the first, all equally likely.
        let second = (first + 1 + below(n - 1)) % n;
        let (a, b) = (among.get(first)?, among.get(second)?);
        Some(if is_less_busy(b, a) { second } else { first })
    }
}
