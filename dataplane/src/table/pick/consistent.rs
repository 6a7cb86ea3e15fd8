//! Consistent hashing over the endpoints of an upstream.
//!
//! The table is made of all endpoints that are ready, well or not: one that is ejected is stepped over, and when it
//! comes back everything is as before. So a table is made anew only when endpoints come or go.

use super::maglev::Maglev;
use super::random::at_random;
use super::ring::Ring;
use super::{Ask, Endpoint, Policy};
use model::{ConsistentHash, HashTable};
use std::net::SocketAddr;
use std::sync::Arc;

/// Which endpoint a key belongs to.
pub(crate) struct Places {
    kind: HashTable,
    members: Box<[(SocketAddr, u32)]>,
    table: Table,
}

enum Table {
    Ring(Ring),
    Maglev(Maglev),
}

impl Places {
    pub(super) fn new(kind: HashTable, members: Vec<(SocketAddr, u32)>) -> Self {
        Self {
            kind,
            table: match kind {
                HashTable::Ring => Table::Ring(Ring::new(&members)),
                HashTable::Maglev => Table::Maglev(Maglev::new(&members)),
            },
            members: members.into(),
        }
    }

    /// The one before where it is the same.
    pub(super) fn renew(
        kind: HashTable,
        members: Vec<(SocketAddr, u32)>,
        before: Option<&Arc<Self>>,
    ) -> Arc<Self> {
        match before {
            Some(b) if b.kind == kind && *b.members == *members => Arc::clone(b),
            _ => Arc::new(Self::new(kind, members)),
        }
    }

    /// Calls `visit` with members, best first, until it says that one will do.
    fn find(&self, key: u64, visit: impl FnMut(&usize) -> bool) -> Option<usize> {
        /// Beyond that nearly everybody is out.
        const STEPS: usize = 1024;
        match &self.table {
            Table::Ring(ring) => ring.walk(key).take(STEPS).find(visit),
            Table::Maglev(maglev) => maglev.walk(key).find(visit),
        }
    }
}

/// Requests with the same value go to the same endpoint; those without one go anywhere.
pub(super) struct Consistent {
    places: Arc<Places>,
    /// By member: its place among the candidates, if it is one.
    candidate: Box<[Option<u32>]>,
    /// Sum of the candidates' weights.
    total_weight: u64,
    bounded_load_percent: u32,
}

impl Consistent {
    /// `candidates` are sorted by address.
    pub(super) fn new(
        settings: &ConsistentHash,
        places: Arc<Places>,
        candidates: &[Endpoint],
    ) -> Self {
        let place = |(addr, _): &(SocketAddr, u32)| {
            let at = candidates.binary_search_by_key(addr, |e| e.addr).ok()?;
            u32::try_from(at).ok()
        };
        Self {
            candidate: places.members.iter().map(place).collect(),
            places,
            total_weight: candidates.iter().map(|e| u64::from(e.weight)).sum(),
            bounded_load_percent: settings.bounded_load_percent,
        }
    }

    fn place(&self, member: usize) -> Option<usize> {
        self.candidate
            .get(member)
            .copied()
            .flatten()
            .map(|at| at as usize)
    }
}

impl Policy for Consistent {
    fn choose(&self, ask: &Ask<'_>, among: &[Endpoint]) -> Option<usize> {
        let Some(key) = ask.hash else {
            return at_random(among);
        };
        let load = Load::new(self.bounded_load_percent, self.total_weight, among);
        let may = |at: usize| among.get(at).is_some_and(|e| load.has_room(e));
        let found = self
            .places
            .find(key, |member| self.place(*member).is_some_and(&may));
        if let Some(member) = found {
            return self.place(member);
        }
        // Nearly everybody is out: the same one each time, if possible.
        let n = among.len();
        let start = (key as usize).checked_rem(n)?;
        (0..n)
            .map(|step| (start + step) % n)
            .find(|at| may(*at))
            .or(Some(start))
    }
}

/// How much an endpoint may take (Mirrokni et al., "Consistent Hashing with Bounded Loads").
struct Load {
    percent: u128,
    /// Requests under way, with the one to be placed. Summed up for each pick, which is O(n): the bound is optional.
    requests: u128,
    weights: u128,
}

impl Load {
    fn new(percent: u32, weights: u64, among: &[Endpoint]) -> Self {
        let requests = if percent == 0 {
            0
        } else {
            among.iter().map(|e| e.state.in_flight()).sum::<u64>() + 1
        };
        Self {
            percent: percent.into(),
            requests: requests.into(),
            weights: weights.into(),
        }
    }

    /// Whether one more stays within the endpoint's share of the average, times the percentage, rounded up.
    fn has_room(&self, e: &Endpoint) -> bool {
        if self.percent == 0 {
            return true;
        }
        let bound = (self.requests * u128::from(e.weight) * self.percent)
            .div_ceil(100 * self.weights.max(1));
        u128::from(e.state.in_flight()) < bound
    }
}
