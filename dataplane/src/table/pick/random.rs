use super::draw::below;
use super::{Ask, Endpoint, Policy, accepts};

/// Any endpoint; one that warms up as often as its share has grown.
pub(super) struct Random;

impl Policy for Random {
    fn choose(&self, _: &Ask<'_>, among: &[Endpoint]) -> Option<usize> {
        at_random(among)
    }
}

/// Draws again where a warming endpoint does not accept. All may be warming alike, so not for ever.
pub(super) fn at_random(among: &[Endpoint]) -> Option<usize> {
    const DRAWS: usize = 8;
    if among.len() <= 1 {
        return (!among.is_empty()).then_some(0);
    }
    let mut at = below(among.len());
    for _ in 1..DRAWS {
        if among.get(at).is_some_and(accepts) {
            break;
        }
        at = below(among.len());
    }
    Some(at)
}
