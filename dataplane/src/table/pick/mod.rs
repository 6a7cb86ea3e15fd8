//! The endpoints of an upstream at one moment, and which of them is next.
//!
//! An [`EndpointSet`] is immutable and made anew whenever an endpoint comes, goes, is ejected, comes back or has
//! warmed up a little; so a pick only reads what was prepared. Each policy is a file of its own.

mod consistent;
pub(crate) mod draw;
pub mod hash;
mod least_request;
mod maglev;
mod p2c;
mod random;
mod ring;
mod rotation;
mod round_robin;
mod state;
mod zone;

pub(crate) use consistent::Places;
pub(crate) use state::{Checks, now};
pub use state::{EndpointState, InFlight, Moment};

use model::{Balance, BalancePolicy};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use zone::Split;

/// One address of an upstream.
#[derive(Clone, Debug)]
pub struct Endpoint {
    pub addr: SocketAddr,
    pub weight: u32,
    /// May take new requests.
    pub ready: bool,
    /// Answers, also while terminating.
    pub serving: bool,
    pub zone: Option<Arc<str>>,
    /// What affinity cookies call it.
    pub tag: u64,
    /// How warm it is, 1 to [`WARM`].
    pub warmth: u8,
    pub state: Arc<EndpointState>,
}

/// Steps of slow start: a new endpoint begins with one of them, a tenth of its share.
pub const WARM: u8 = 10;

/// What a pick depends on besides the endpoints.
pub struct Ask<'a> {
    /// The upstream's count of turns. A policy that takes turns draws one.
    pub turn: &'a AtomicU64,
    /// What is hashed of the request; `None`: the request has none, or the policy wants none.
    pub hash: Option<u64>,
    /// Endpoints of failed attempts: passed over as long as there is another.
    pub tried: &'a [SocketAddr],
}

/// Chooses among the candidates of a set. Made anew for each set, so it may precompute what it likes.
trait Policy: Send + Sync {
    /// A place in `among`; `None` when none of them may be taken.
    fn choose(&self, ask: &Ask<'_>, among: &[Endpoint]) -> Option<usize>;
}

/// Whether one has fewer requests under way than another, in proportion to their shares.
fn is_less_busy(one: &Endpoint, other: &Endpoint) -> bool {
    let busy =
        |e: &Endpoint, by: &Endpoint| u128::from(e.state.in_flight()) * u128::from(share(by));
    busy(one, other) < busy(other, one)
}

/// Weight, as far as it is warm.
fn share(e: &Endpoint) -> u64 {
    u64::from(e.weight) * u64::from(e.warmth)
}

/// Whether a random draw of it counts: always when it is warm.
fn accepts(e: &Endpoint) -> bool {
    e.warmth >= WARM || draw::below(WARM.into()) < e.warmth.into()
}

/// How sets of an upstream are made.
#[derive(Clone, Debug, Default)]
pub(crate) struct Terms {
    pub balance: Balance,
    /// See [`model::Health`].
    pub min_healthy_percent: u8,
    /// The zone of this data plane.
    pub own_zone: Option<Arc<str>>,
}

/// Endpoints among which a policy chooses.
struct Group {
    members: Box<[Endpoint]>,
    policy: Box<dyn Policy>,
}

impl Group {
    fn new(balance: &Balance, members: Box<[Endpoint]>, places: Option<&Arc<Places>>) -> Self {
        let shares = |weighted: bool| -> Box<[u32]> {
            let cold = members.iter().any(|e| e.warmth < WARM);
            let share = |e: &Endpoint| {
                let weight = if weighted { e.weight } else { 1 };
                let warmth = if cold { e.warmth.into() } else { 1 };
                weight.saturating_mul(warmth)
            };
            members.iter().map(share).collect()
        };
        let policy: Box<dyn Policy> = match (balance.policy, &balance.hash, places) {
            (BalancePolicy::ConsistentHash, Some(settings), Some(places)) => {
                let places = Arc::clone(places);
                Box::new(consistent::Consistent::new(settings, places, &members))
            }
            (BalancePolicy::Weighted, ..) => Box::new(round_robin::RoundRobin::new(&shares(true))),
            (BalancePolicy::LeastRequest, ..) => {
                Box::new(least_request::LeastRequest::new(&shares(true)))
            }
            (BalancePolicy::P2C, ..) => Box::new(p2c::P2C),
            // Without what to hash, which the wire does not let through, it goes anywhere.
            (BalancePolicy::Random | BalancePolicy::ConsistentHash, ..) => Box::new(random::Random),
            (BalancePolicy::RoundRobin, ..) => {
                Box::new(round_robin::RoundRobin::new(&shares(false)))
            }
        };
        Self { members, policy }
    }

    fn pick(&self, ask: &Ask<'_>) -> Option<&Endpoint> {
        let at = self.policy.choose(ask, &self.members)?;
        let chosen = self.members.get(at)?;
        if !ask.tried.contains(&chosen.addr) {
            return Some(chosen);
        }
        let (before, after) = self.members.split_at(at);
        let mut others = after.iter().chain(before);
        others
            .find(|e| !ask.tried.contains(&e.addr))
            .or(Some(chosen))
    }
}

/// All endpoints of an upstream at one moment. Immutable.
pub struct EndpointSet {
    all: Box<[Endpoint]>,
    candidates: Group,
    split: Option<Box<Split>>,
    /// Kept for the set after this one.
    places: Option<Arc<Places>>,
    healthy: usize,
    panic: bool,
}

impl EndpointSet {
    /// `all` is sorted by address and without duplicates. `before`: the set that this one follows.
    pub(crate) fn new(terms: &Terms, all: Vec<Endpoint>, before: Option<&Self>) -> Self {
        let balance = &terms.balance;
        let weighs = !matches!(
            balance.policy,
            BalancePolicy::RoundRobin | BalancePolicy::Random
        );
        let usable = |e: &&Endpoint| !weighs || e.weight > 0;
        let take = |want: fn(&Endpoint) -> bool| -> Vec<Endpoint> {
            all.iter()
                .filter(usable)
                .filter(|e| want(e))
                .cloned()
                .collect()
        };
        let mut ready = take(|e| e.ready);
        if ready.is_empty() {
            // Better an endpoint that is on its way out than none.
            ready = take(|e| e.serving);
        }
        let places = balance.hash.as_ref().map(|settings| {
            let members = ready.iter().map(|e| (e.addr, e.weight)).collect();
            let before = before.and_then(|b| b.places.as_ref());
            Places::renew(settings.table, members, before)
        });
        let healthy = ready.iter().filter(|e| e.state.is_healthy()).count();
        let panic = healthy < ready.len()
            && healthy * 100 < ready.len() * usize::from(terms.min_healthy_percent);
        if !panic {
            ready.retain(|e| e.state.is_healthy());
        }
        let prefers = balance.prefer_zone && balance.policy != BalancePolicy::ConsistentHash;
        let own_zone = terms.own_zone.as_deref().filter(|_| prefers);
        Self {
            split: own_zone
                .and_then(|own| Split::new(balance, own, &ready))
                .map(Box::new),
            candidates: Group::new(balance, ready.into(), places.as_ref()),
            all: all.into(),
            places,
            healthy,
            panic,
        }
    }

    /// Every endpoint, sorted by address.
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.all
    }

    /// Those that take requests now: the ready ones that are healthy; where there is none that is ready, those that
    /// still serve; where too few are healthy, the others as well (panic mode). Sorted by address.
    pub fn candidates(&self) -> &[Endpoint] {
        &self.candidates.members
    }

    /// Too few are healthy, so that all are used.
    pub fn is_panicking(&self) -> bool {
        self.panic
    }

    /// Whether a request can be served by one that is healthy, and not among `tried`.
    pub fn has_healthy(&self, tried: &[SocketAddr]) -> bool {
        if tried.is_empty() {
            return self.healthy > 0;
        }
        let candidates = self.candidates().iter();
        let mut healthy = candidates.filter(|e| !self.panic || e.state.is_healthy());
        healthy.any(|e| !tried.contains(&e.addr))
    }

    /// The endpoint for the next attempt; `None`: none may be taken.
    pub fn pick(&self, ask: &Ask<'_>) -> Option<&Endpoint> {
        match &self.split {
            None => self.candidates.pick(ask),
            Some(split) => split.pick(ask),
        }
    }

    /// The candidate that affinity calls so.
    pub fn by_tag(&self, tag: u64) -> Option<&Endpoint> {
        self.candidates().iter().find(|e| e.tag == tag)
    }

    /// The candidate that a value belongs to, by rendezvous hashing: when endpoints come or go, only the values of
    /// those move. O(n).
    pub fn by_rendezvous(&self, key: u64, tried: &[SocketAddr]) -> Option<&Endpoint> {
        let rank = |e: &&Endpoint| hash::join(hash::address(e.addr), key);
        let untried = self
            .candidates()
            .iter()
            .filter(|e| !tried.contains(&e.addr));
        untried
            .max_by_key(rank)
            .or_else(|| self.candidates().iter().max_by_key(rank))
    }
}

#[cfg(test)]
#[path = "../tests/pick.rs"]
mod tests;
