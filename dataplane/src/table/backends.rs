//! The backends of a rule, in tiers, and whose turn it is.

use super::names::Names;
use super::pick::hash;
use super::rule::{Links, NO_EDITS};
use super::upstream::Upstream;
use super::weights::Schedule;
use model::HeaderEdits;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a rule says about one backend.
pub(super) struct BackendSpec {
    weight: u32,
    priority: u16,
    pub(super) resolved: bool,
    /// Resource key, or what was asked for in vain.
    pub(super) target: Arc<str>,
    /// Most backends edit no headers.
    edits: Option<Box<Edits>>,
}

/// Edits of the requests of one backend, and of the answers.
struct Edits {
    request: HeaderEdits,
    response: HeaderEdits,
}

impl BackendSpec {
    pub(super) fn weight(&self) -> u32 {
        self.weight
    }

    pub(super) fn new(backend: model::Backend, names: &Names) -> Self {
        let (target, resolved) = names.of_target(backend.target);
        let edits = Edits {
            request: backend.request_headers,
            response: backend.response_headers,
        };
        let has_edits = !edits.request.is_empty() || !edits.response.is_empty();
        Self {
            weight: backend.weight,
            // An object has room for far less.
            priority: u16::try_from(backend.priority).unwrap_or(u16::MAX),
            target,
            resolved,
            edits: has_edits.then(|| Box::new(edits)),
        }
    }
}

/// What the backends of a rule lead to. Most rules have one, which takes no memory of its own.
pub(super) enum LinkedBackends {
    One(Option<Arc<Upstream>>),
    Many(Box<Many>),
}

/// More backends than one, or none.
pub(super) struct Many {
    upstreams: Box<[Option<Arc<Upstream>>]>,
    /// By which a value is shared out among them, see [`WeightedBackends::of_value`].
    seeds: Box<[u64]>,
    /// In the order of priorities.
    tiers: Box<[Tier]>,
}

/// The backends of a rule with whose turn it is.
#[derive(Clone, Copy)]
pub struct WeightedBackends<'t> {
    specs: &'t [BackendSpec],
    linked: &'t LinkedBackends,
}

/// Backends of equal priority.
struct Tier {
    /// Positions in the rule.
    members: Box<[u16]>,
    schedule: Schedule,
    turn: AtomicU64,
}

impl Tier {
    /// A position in the rule, by weight; `None` when all weights are zero.
    fn draw(&self) -> Option<usize> {
        let turn = if self.schedule.is_constant() {
            0
        } else {
            self.turn.fetch_add(1, Ordering::Relaxed)
        };
        let member = self.members.get(self.schedule.at(turn)?)?;
        Some(usize::from(*member))
    }
}

/// One backend of a rule.
#[derive(Clone, Copy)]
pub struct Backend<'t> {
    /// Position in the rule.
    pub index: usize,
    /// `None`: 500 `invalid_backend`.
    pub upstream: Option<&'t Arc<Upstream>>,
    /// Key of the upstream, or what the Route asked for in vain.
    pub target: &'t str,
    pub weight: u32,
    /// Backends of a higher number serve only where none of a lower one can.
    pub priority: u32,
    pub request_headers: &'t HeaderEdits,
    pub response_headers: &'t HeaderEdits,
}

impl LinkedBackends {
    pub(super) fn new(specs: &[BackendSpec], links: &impl Links) -> Self {
        let upstream = |b: &BackendSpec| {
            if b.resolved {
                links.upstream(&b.target)
            } else {
                None
            }
        };
        if let [only] = specs {
            return Self::One(upstream(only));
        }
        let mut priorities: Vec<u16> = specs.iter().map(|b| b.priority).collect();
        priorities.sort_unstable();
        priorities.dedup();
        let tier = |priority: u16| {
            let (members, weights): (Vec<u16>, Vec<u32>) = (0_u16..)
                .zip(specs.iter())
                .filter(|(_, b)| b.priority == priority)
                .map(|(i, b)| (i, b.weight))
                .unzip();
            Tier {
                members: members.into(),
                schedule: Schedule::new(&weights),
                turn: AtomicU64::new(0),
            }
        };
        Self::Many(Box::new(Many {
            upstreams: specs.iter().map(upstream).collect(),
            seeds: seeds(specs),
            tiers: priorities.into_iter().map(tier).collect(),
        }))
    }
}

/// By the target, so that others in the list change nothing; a target that is there before has another.
fn seeds(specs: &[BackendSpec]) -> Box<[u64]> {
    let seed = |(at, b): (usize, &BackendSpec)| {
        let before = specs.iter().take(at).filter(|o| o.target == b.target);
        hash::join(hash::bytes(b.target.as_bytes()), before.count() as u64)
    };
    specs.iter().enumerate().map(seed).collect()
}

/// What a backend of this weight bids for a value. That with the highest bid gets it: each its share by weight, and of
/// those that remain each keeps its own when another goes (weighted rendezvous hashing).
fn bid(seed: u64, value: u64, weight: u32) -> f64 {
    // Within (0, 1), both excluded, and exact.
    let drawn = ((hash::join(seed, value) >> 12) as f64 + 0.5) / (1_u64 << 52) as f64;
    -f64::from(weight) / drawn.ln()
}

impl<'t> WeightedBackends<'t> {
    pub(super) fn new(specs: &'t [BackendSpec], linked: &'t LinkedBackends) -> Self {
        Self { specs, linked }
    }

    fn tiers(self) -> &'t [Tier] {
        match self.linked {
            LinkedBackends::One(_) => &[],
            LinkedBackends::Many(many) => &many.tiers,
        }
    }

    fn upstream(self, at: usize) -> Option<&'t Arc<Upstream>> {
        match self.linked {
            LinkedBackends::One(only) if at == 0 => only.as_ref(),
            LinkedBackends::One(_) => None,
            LinkedBackends::Many(many) => many.upstreams.get(at)?.as_ref(),
        }
    }

    /// The backend of the next request; `None` when all weights are zero: 500 `invalid_backend`.
    ///
    /// In a rule of one tier the weights decide alone, so that the share of a backend that cannot serve gets its
    /// error. With more, a request goes to the first tier in which any backend has a healthy endpoint, or else any
    /// endpoint at all.
    pub fn next(self) -> Option<Backend<'t>> {
        let tiers = self.tiers();
        match (tiers, self.specs) {
            ([], [only]) => return self.get(0).filter(|_| only.weight > 0),
            ([only], _) => return self.get(only.draw()?),
            _ => {}
        }
        let mut drawn = None;
        for tier in tiers {
            let Some(at) = tier.draw() else { continue };
            drawn = drawn.or(Some(at));
            let mut order = std::iter::once(at).chain(self.others(tier, at));
            if let Some(at) = order.find(|at| self.can_serve(*at, &[])) {
                return self.get(at);
            }
        }
        let all = tiers.iter();
        let all = all.flat_map(|tier| self.others(tier, usize::MAX));
        let any = all
            .filter_map(|at| self.get(at))
            .find(|b| b.upstream.is_some_and(|u| u.has_candidates()));
        any.or_else(|| self.get(drawn?))
    }

    /// The backend of all requests with this value, by weight, for as long as it can serve. One that does not exist has
    /// its share of the values where weights decide alone.
    pub fn of_value(self, value: u64) -> Option<Backend<'t>> {
        let LinkedBackends::Many(many) = self.linked else {
            return self.next();
        };
        let serves = |b: &Backend<'_>| match b.upstream {
            None => !self.has_tiers(),
            Some(upstream) => upstream.can_serve(&[]),
        };
        let bids = self.to_bind().filter(serves).filter_map(|b| {
            let seed = many.seeds.get(b.index)?;
            Some((bid(*seed, value, b.weight), b))
        });
        let highest = bids.max_by(|(one, _), (other, _)| one.total_cmp(other));
        // None is well. Where they are used nevertheless it is by turns, as without affinity.
        highest.map(|(_, b)| b).or_else(|| self.next())
    }

    /// The backend for another attempt at a request: the same as before, unless a rule of several tiers has another
    /// in the same tier or a later one with a healthy endpoint that was not tried, and this one has none.
    pub fn after(self, before: &Backend<'t>, tried: &[SocketAddr]) -> Backend<'t> {
        let tiers = self.tiers();
        if tiers.len() <= 1 || self.can_serve(before.index, tried) {
            return *before;
        }
        let later = tiers.iter().filter(|tier| {
            let mut members = tier
                .members
                .iter()
                .filter_map(|m| self.specs.get(usize::from(*m)));
            members
                .next()
                .is_some_and(|b| u32::from(b.priority) >= before.priority)
        });
        let mut others = later.flat_map(|tier| self.others(tier, before.index));
        others
            .find(|at| self.can_serve(*at, tried))
            .and_then(|at| self.get(at))
            .unwrap_or(*before)
    }

    /// The backends that a client may be bound to, in the order of the Route: with a weight, and of the first tier in
    /// which one can serve; where none can, of all tiers.
    pub fn to_bind(self) -> impl Iterator<Item = Backend<'t>> {
        let tiers = if self.has_tiers() { self.tiers() } else { &[] };
        let mut ordered = tiers.iter().flat_map(move |t| self.others(t, usize::MAX));
        let serving = ordered.find(|at| self.can_serve(*at, &[]));
        let tier = serving.and_then(|at| self.get(at)).map(|b| b.priority);
        self.iter()
            .filter(move |b| b.weight > 0 && tier.is_none_or(|tier| b.priority == tier))
    }

    /// All backends in the order of the Route.
    pub fn iter(self) -> impl Iterator<Item = Backend<'t>> {
        (0..self.specs.len()).filter_map(move |i| self.get(i))
    }

    /// Whether backends wait for others to fail.
    pub fn has_tiers(self) -> bool {
        self.tiers().len() > 1
    }

    /// Those of a tier that have a weight, but for one.
    fn others(self, tier: &'t Tier, but: usize) -> impl Iterator<Item = usize> + use<'t> {
        let members = tier.members.iter().map(|m| usize::from(*m));
        members.filter(move |at| *at != but && self.specs.get(*at).is_some_and(|b| b.weight > 0))
    }

    fn can_serve(self, at: usize, tried: &[SocketAddr]) -> bool {
        self.upstream(at).is_some_and(|u| u.can_serve(tried))
    }

    fn get(self, index: usize) -> Option<Backend<'t>> {
        static NONE: Edits = Edits {
            request: NO_EDITS,
            response: NO_EDITS,
        };
        let backend = self.specs.get(index)?;
        let edits = backend.edits.as_deref().unwrap_or(&NONE);
        Some(Backend {
            index,
            upstream: self.upstream(index),
            target: &backend.target,
            weight: backend.weight,
            priority: backend.priority.into(),
            request_headers: &edits.request,
            response_headers: &edits.response,
        })
    }
}
