//! Consistent hashing on a ring (Karger et al.): each endpoint has points on it, a key belongs to the next point.

use super::hash;
use std::net::SocketAddr;

/// Points of an endpoint of weight 1: shares are off by about 8 %.
const POINTS: u64 = 160;
/// Points of a ring at most, about 12 MiB.
const MAX_POINTS: u64 = 1 << 20;

/// Points in the order of their hashes.
pub(super) struct Ring(Box<[(u64, u32)]>);

impl Ring {
    pub(super) fn new(members: &[(SocketAddr, u32)]) -> Self {
        let heaviest = members
            .iter()
            .map(|(_, w)| u64::from(*w))
            .max()
            .unwrap_or(0);
        let total: u64 = members.iter().map(|(_, w)| u64::from(*w)).sum();
        // Halved as often as needed. That depends on weights and numbers only by powers of two, so that as a rule one
        // that comes or goes leaves the points of the others alone.
        let mut halvings = 0;
        while (heaviest >> halvings) > 16 || (total * POINTS) >> halvings > MAX_POINTS {
            halvings += 1;
        }
        let mut points = Vec::new();
        for (index, (addr, weight)) in (0_u32..).zip(members) {
            let count = ((u64::from(*weight) * POINTS) >> halvings).max(1);
            let name = hash::address(*addr);
            points.extend((0..count).map(|i| (hash::join(name, i), index)));
        }
        points.sort_unstable();
        Self(points.into())
    }

    /// The endpoints to which a key belongs, best first, with repetitions.
    pub(super) fn walk(&self, key: u64) -> impl Iterator<Item = usize> {
        let from = self.0.partition_point(|(point, _)| *point < key);
        let (before, after) = self.0.split_at(from);
        after.iter().chain(before).map(|(_, index)| *index as usize)
    }
}
