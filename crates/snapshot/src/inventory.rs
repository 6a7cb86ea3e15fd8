//! What a data plane holds, told in a few kilobytes, so that a controller that has never seen its state sends what is
//! different and not everything: one that has been restarted, say, while something was changed.

use crate::{Digest, Hash};

/// Resources in one bucket, more or less: so many are sent for one that is different.
const PER_BUCKET: usize = 32;
/// Buckets, of 8 bytes each.
const MOST: usize = 4096;

/// The digest of everything, and sums over parts of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    pub digest: Digest,
    pub buckets: Buckets,
}

/// A sum over the resources of each bucket; the hash of a resource's name says which one it is in. Sums that are equal by
/// chance cost a full transaction: the result has another digest then.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Buckets(Vec<u64>);

impl Buckets {
    /// As many as so many resources need, all empty.
    pub fn for_resources(count: usize) -> Self {
        let buckets = (count / PER_BUCKET).next_power_of_two().min(MOST);
        Self(vec![0; buckets])
    }

    /// As they come from the other end; `None`: they are no such buckets, or there are none.
    pub fn from_wire(sums: Vec<u64>) -> Option<Self> {
        (sums.len().is_power_of_two() && sums.len() <= MOST).then_some(Self(sums))
    }

    pub fn into_wire(self) -> Vec<u64> {
        self.0
    }

    /// As many, all empty.
    #[must_use]
    pub fn emptied(&self) -> Self {
        Self(vec![0; self.0.len()])
    }

    /// Counts a resource in.
    pub fn add(&mut self, name: Hash, body: Hash) {
        let at = self.place(name);
        if let Some(sum) = self.0.get_mut(at) {
            // Both are hashes already.
            *sum = sum
                .wrapping_add(number(name.0, 8))
                .wrapping_add(number(body.0, 0));
        }
    }

    /// Whether a resource of this name may be held otherwise there.
    pub fn differs(&self, other: &Self, name: Hash) -> bool {
        self.0.len() != other.0.len()
            || self.0.get(self.place(name)) != other.0.get(self.place(name))
    }

    fn place(&self, name: Hash) -> usize {
        // There is a power of two of them: the last bits say which.
        (number(name.0, 0) as usize) & self.0.len().saturating_sub(1)
    }
}

/// Eight bytes from `at`, which is 0 or 8.
fn number(bytes: [u8; 16], at: usize) -> u64 {
    let (all, _) = bytes.as_chunks::<8>();
    all.get(at / 8)
        .map_or(0, |eight| u64::from_be_bytes(*eight))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_few_and_a_power_of_two() {
        for (count, buckets) in [(0, 1), (31, 1), (1000, 32), (10_000, 512), (1 << 30, MOST)] {
            assert_eq!(Buckets::for_resources(count).0.len(), buckets, "{count}");
        }
        for length in [0, 3, 2 * MOST] {
            assert_eq!(Buckets::from_wire(vec![0; length]), None, "{length}");
        }
        assert!(Buckets::from_wire(vec![0; MOST]).is_some());
    }

    #[test]
    fn a_changed_resource_makes_its_bucket_differ() {
        let name = |n: u32| Hash::of(&n.to_be_bytes());
        let mut one = Buckets::for_resources(1000);
        let mut other = one.emptied();
        for n in 0..1000 {
            one.add(name(n), Hash::of(b"same"));
            let body: &[u8] = if n == 7 { b"other" } else { b"same" };
            other.add(name(n), Hash::of(body));
        }
        assert!(one.differs(&other, name(7)));
        let differing = (0..1000).filter(|n| one.differs(&other, name(*n))).count();
        assert!((1..3 * PER_BUCKET).contains(&differing), "{differing}");
        assert!(!one.differs(&one.clone(), name(7)));
    }
}
