//! Maglev hashing (Eisenbud et al., NSDI 2016, section 3.4): a table of prime size in which each endpoint has places
//! in proportion to its weight; a key belongs to the endpoint at its place.

use super::hash;
use std::net::SocketAddr;

/// The size of the table by the number of endpoints, with at least 100 places for each as long as that is affordable.
/// Steps are far apart: where one is crossed, every key moves once.
const SIZES: [(usize, u32); 3] = [(160, 16_381), (6_553, 65_537), (usize::MAX, 655_373)];

/// The endpoint at each place.
pub(super) struct Maglev(Box<[u32]>);

/// One endpoint while the table is filled.
struct Filler {
    index: u32,
    /// Where it would like to be next, and how far from there the time after.
    at: u64,
    step: u64,
    /// Relative to the heaviest.
    share: f64,
    claim: f64,
}

impl Maglev {
    pub(super) fn new(members: &[(SocketAddr, u32)]) -> Self {
        let Some(heaviest) = members.iter().map(|(_, w)| *w).max().filter(|w| *w > 0) else {
            return Self(Box::default());
        };
        let size = SIZES.iter().find(|(upto, _)| members.len() <= *upto);
        let size = size.map_or(655_373, |(_, size)| *size);
        let m = u64::from(size);
        const EMPTY: u32 = u32::MAX;
        let mut table = vec![EMPTY; size as usize];
        let filler = |(index, (addr, weight)): (u32, &(SocketAddr, u32))| {
            let name = hash::address(*addr);
            Filler {
                index,
                at: name % m,
                step: hash::mix(name) % (m - 1) + 1,
                share: f64::from(*weight) / f64::from(heaviest),
                claim: 0.0,
            }
        };
        let mut fillers: Vec<Filler> = (0..).zip(members).map(filler).collect();
        let mut left = table.len();
        while left > 0 {
            for filler in &mut fillers {
                filler.claim += filler.share;
                if filler.claim < 1.0 {
                    continue;
                }
                filler.claim -= 1.0;
                // A place is free, and the steps of a prime visit all of them.
                loop {
                    let place = table.get_mut(filler.at as usize);
                    filler.at = (filler.at + filler.step) % m;
                    if let Some(place) = place.filter(|p| **p == EMPTY) {
                        *place = filler.index;
                        break;
                    }
                }
                left -= 1;
                if left == 0 {
                    break;
                }
            }
        }
        Self(table.into())
    }

    /// The endpoints to which a key belongs, best first, with repetitions.
    pub(super) fn walk(&self, key: u64) -> impl Iterator<Item = usize> {
        let size = self.0.len() as u64;
        let tries = if size == 0 { 0 } else { 64_u64 };
        (0..tries).filter_map(move |i| {
            let key = if i == 0 { key } else { hash::join(key, i) };
            self.0
                .get((key % size) as usize)
                .map(|index| *index as usize)
        })
    }
}
