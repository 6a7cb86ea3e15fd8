//! Which checks this data plane does where several share them: with more than two that follow one controller, each
//! endpoint is checked by two of them, and the others go by what those say (features.md F51).

use super::pick::hash;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use tokio::sync::watch;

/// Data planes that check an endpoint.
const CHECKERS: usize = 2;

#[derive(Debug, Default)]
pub(crate) struct Shares {
    /// Number of data planes and which of them this is, 32 bits each; 0: there are no others that it knows.
    place: AtomicU64,
    /// Ticks when this data plane may think otherwise of an endpoint.
    changes: watch::Sender<u64>,
}

impl Shares {
    /// This data plane is number `index` of `count`. Returns whether that is news.
    pub(crate) fn set(&self, index: u32, count: u32) -> bool {
        let place = match index < count {
            true => u64::from(count) << 32 | u64::from(index),
            false => 0,
        };
        self.place.swap(place, Relaxed) != place
    }

    /// Nobody else checks.
    pub(crate) fn alone(&self) {
        self.place.store(0, Relaxed);
    }

    pub(crate) fn is_alone(&self) -> bool {
        self.place.load(Relaxed) == 0
    }

    /// Whether this data plane checks an endpoint.
    pub(crate) fn checks(&self, addr: SocketAddr) -> bool {
        let place = self.place.load(Relaxed);
        let (count, index) = (place >> 32, place & 0xffff_ffff);
        if count <= CHECKERS as u64 {
            return true;
        }
        // Rendezvous hashing: a data plane that comes or goes moves few checks.
        let of_addr = hash::address(addr);
        let rank = |i: u64| (hash::join(of_addr, hash::mix(i)), i);
        let own = rank(index);
        let before = (0..count).filter(|i| rank(*i) > own);
        before.take(CHECKERS).count() < CHECKERS
    }

    pub(crate) fn changed(&self) {
        self.changes.send_modify(|n| *n = n.wrapping_add(1));
    }

    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plane(index: u32, count: u32) -> Shares {
        let shares = Shares::default();
        shares.set(index, count);
        shares
    }

    fn addr(n: u16) -> SocketAddr {
        SocketAddr::from(([10, 0, (n >> 8) as u8, n as u8], 80))
    }

    #[test]
    fn alone_and_in_twos_every_one_checks_all() {
        for shares in [
            Shares::default(),
            plane(0, 1),
            plane(0, 2),
            plane(1, 2),
            plane(5, 3),
        ] {
            assert!((0..100).all(|n| shares.checks(addr(n))));
        }
        let shares = plane(0, 30);
        assert!(!(0..100).all(|n| shares.checks(addr(n))));
        shares.alone();
        assert!((0..100).all(|n| shares.checks(addr(n))));
    }

    #[test]
    fn of_many_two_check_each_endpoint() {
        const COUNT: u32 = 10;
        let planes: Vec<_> = (0..COUNT).map(|i| plane(i, COUNT)).collect();
        let mut work = [0_u32; COUNT as usize];
        for n in 0..1000 {
            let checkers = planes.iter().enumerate();
            let checkers: Vec<_> = checkers.filter(|(_, p)| p.checks(addr(n))).collect();
            assert_eq!(checkers.len(), CHECKERS);
            checkers.iter().for_each(|(i, _)| work[*i] += 1);
        }
        // 200 each, more or less.
        assert!(work.iter().all(|n| (150..250).contains(n)), "{work:?}");
    }

    #[test]
    fn one_more_moves_few_checks() {
        let (before, after) = (plane(0, 10), plane(0, 11));
        let moved = (0..1000).filter(|n| before.checks(addr(*n)) != after.checks(addr(*n)));
        assert!(moved.count() < 60);
    }
}
