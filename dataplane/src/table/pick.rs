//! The endpoints of an upstream, and which of them is next.

use super::weights::Schedule;
use model::BalancePolicy;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What is known about one endpoint. It outlives tables and endpoint sets: an address that stays keeps its state.
#[derive(Debug, Default)]
pub struct EndpointState {
    in_flight: AtomicU64,
    requests: AtomicU64,
    failures: AtomicU64,
}

impl EndpointState {
    /// Counts a request until the guard is dropped.
    pub fn start(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        self.requests.fetch_add(1, Ordering::Relaxed);
        InFlight(Arc::clone(self))
    }

    /// Notes an attempt that failed before an answer was complete.
    pub fn failed(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }

    pub fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Requests ever started.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }
}

/// One request on its way to an endpoint; see [`EndpointState::start`].
#[derive(Debug)]
pub struct InFlight(Arc<EndpointState>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One address of an upstream.
#[derive(Clone, Debug)]
pub struct Endpoint {
    pub addr: SocketAddr,
    pub weight: u32,
    /// May take new requests.
    pub ready: bool,
    /// Answers, also while terminating.
    pub serving: bool,
    pub state: Arc<EndpointState>,
}

/// Chooses among the candidates of a set. It is made anew for each set, so it may precompute what it likes; all that
/// lasts is the number of the turn.
pub trait Picker: Send + Sync {
    /// A place in `candidates`; `None` when none of them may be taken.
    fn pick(&self, turn: u64, candidates: &[Endpoint]) -> Option<usize>;
}

/// In turn.
struct RoundRobin;

impl Picker for RoundRobin {
    fn pick(&self, turn: u64, candidates: &[Endpoint]) -> Option<usize> {
        turn.checked_rem(candidates.len() as u64)
            .map(|i| i as usize)
    }
}

/// In turn by smooth weights.
struct Weighted(Schedule);

impl Picker for Weighted {
    fn pick(&self, turn: u64, _: &[Endpoint]) -> Option<usize> {
        self.0.at(turn)
    }
}

fn picker(policy: BalancePolicy, candidates: &[Endpoint]) -> Box<dyn Picker> {
    match policy {
        BalancePolicy::RoundRobin
        | BalancePolicy::LeastRequest
        | BalancePolicy::Random
        | BalancePolicy::P2C
        | BalancePolicy::ConsistentHash => Box::new(RoundRobin),
        BalancePolicy::Weighted => {
            let weights: Vec<u32> = candidates.iter().map(|e| e.weight).collect();
            Box::new(Weighted(Schedule::new(&weights)))
        }
    }
}

/// All endpoints of an upstream at one moment. Immutable.
pub struct EndpointSet {
    all: Box<[Endpoint]>,
    candidates: Box<[Endpoint]>,
    picker: Box<dyn Picker>,
}

impl EndpointSet {
    /// `all` is sorted by address and without duplicates.
    pub(crate) fn new(policy: BalancePolicy, all: Vec<Endpoint>) -> Self {
        let usable = |e: &&Endpoint| policy != BalancePolicy::Weighted || e.weight > 0;
        let take = |want: fn(&Endpoint) -> bool| -> Box<[Endpoint]> {
            all.iter()
                .filter(usable)
                .filter(|e| want(e))
                .cloned()
                .collect()
        };
        let mut candidates = take(|e| e.ready);
        if candidates.is_empty() {
            // Better an endpoint that is on its way out than none.
            candidates = take(|e| e.serving);
        }
        Self {
            picker: picker(policy, &candidates),
            candidates,
            all: all.into(),
        }
    }

    /// Every endpoint, sorted by address.
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.all
    }

    /// Those that take requests now: the ready ones; where there is none, those that still serve.
    pub fn candidates(&self) -> &[Endpoint] {
        &self.candidates
    }

    /// The endpoint of this turn. `except` (the address of a failed attempt) is passed over as long as there is
    /// another candidate.
    pub fn pick(&self, turn: u64, except: Option<SocketAddr>) -> Option<&Endpoint> {
        let at = self.picker.pick(turn, &self.candidates)?;
        let chosen = self.candidates.get(at)?;
        if Some(chosen.addr) != except || self.candidates.len() == 1 {
            return Some(chosen);
        }
        self.candidates.get((at + 1) % self.candidates.len())
    }
}

#[cfg(test)]
#[path = "tests/pick.rs"]
mod tests;
