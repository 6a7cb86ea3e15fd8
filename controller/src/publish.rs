//! One store of resources for any number of data planes, and the server's side of each of their streams.
//!
//! A [`Session`] is a state machine without sockets: what it is told (hello, acknowledgement, refusal) and what it has
//! to send are plain values, so that gRPC, the in-process link of standalone mode and the tests drive the same code.
//! At most one transaction is under way on a session; what changes meanwhile merges into the next one.
//!
//! A data plane that refuses a resource does not hold up the others: the [`Publisher`] puts back what was accepted
//! before, remembers why, and goes on. What a data plane of another replica of the controller has refused is kept back as
//! well (`others`), so that equal worlds stay equal snapshots. When all that refused it are gone it gets another chance
//! (`refusals`). Where it is not for one data plane to hold all back, it alone is given something else (`lacks`), and so is
//! one whose build is older than what a resource needs (`skew`). One that is cut off and serves on is not forgotten (`pods`).

mod lacks;
mod others;
mod pods;
mod refusals;
mod session;
mod skew;
mod wire;

pub use others::{BUILD, ReplicaStream, Teller};
pub(crate) use session::{NAME, REASON, printable};
pub use session::{Session, SessionError};
pub use snapshot::ResourceId;

use crate::report::Programmed;
use bytes::Bytes;
use lacks::Lacks;
use others::Other;
use parking_lot::{Mutex, MutexGuard};
use pods::Pods;
use refusals::Rejected;
use snapshot::{CAPABILITIES, Capability, Cursor, Digest, Generation, Hash, Kind, Store, pb};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// A stream carries a message at least this often.
pub const HEARTBEAT: Duration = Duration::from_secs(15);

/// How many generations a stream may lag behind before it needs everything anew.
const KEPT_GENERATIONS: Generation = 1024;

/// How many generations are remembered with the time of their making.
const TIMED_GENERATIONS: usize = 1024;

/// See the module.
pub struct Publisher {
    server_id: String,
    inner: Mutex<Inner>,
    generation: watch::Sender<Option<Generation>>,
    progress: Arc<watch::Sender<u64>>,
}

#[derive(Default)]
struct Inner {
    ready: bool,
    store: Store,
    observed_unix_ns: u64,
    peers: BTreeMap<u64, DataPlane>,
    next_peer: u64,
    /// What every data plane had accepted of resources whose present body some have not acknowledged yet, or all refuse.
    /// An absent body means that there was no such resource.
    accepted: BTreeMap<ResourceId, Accepted>,
    rejected: BTreeMap<ResourceId, Rejected>,
    /// What present bodies have replaced, while there is a replica of another build.
    replaced: BTreeMap<ResourceId, Hash>,
    /// What other replicas say, by their names.
    others: BTreeMap<Arc<str>, Other>,
    /// Up to which generation other replicas have been told what is here.
    readers: BTreeMap<u64, Generation>,
    /// When the last generations were made.
    made: VecDeque<(Generation, Instant)>,
    /// The generation of the first publication.
    first: Generation,
    /// Those that get the traffic of the group.
    pods: Pods,
}

struct Accepted {
    body: Option<Bytes>,
    /// Of the change that is waiting.
    since: Generation,
}

/// A connected data plane.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DataPlane {
    /// The name that it gives itself.
    pub node_id: String,
    pub build: String,
    /// The newest generation that it has acknowledged; `None` while it holds nothing of ours.
    pub acknowledged: Option<Generation>,
    /// Digest of what it holds.
    pub digest: Digest,
    /// It takes no new connections and is not waited for.
    pub draining: bool,
    /// As of its last acknowledgement.
    pub listeners: Vec<pb::ListenerState>,
    /// Why it refused the last transaction as a whole.
    pub refused: Option<String>,
    /// Why nothing can be sent to it: its stream has ended, and it comes again and again.
    pub turned_away: Option<String>,
    /// Capabilities that resources may need and that it lacks: none, but for one of an older build.
    missing: Vec<&'static str>,
    /// What it alone is given otherwise.
    lacks: Lacks,
}

impl DataPlane {
    /// Whether it refuses anything, or is not given it.
    pub fn is_rejecting(&self) -> bool {
        self.refused.is_some() || self.turned_away.is_some() || !self.lacks.is_empty()
    }

    /// One of these listeners that it could not open.
    fn not_bound(&self, resources: &[&ResourceId]) -> Option<&pb::ListenerState> {
        let mut not_bound = self.listeners.iter().filter(|l| !l.bound);
        not_bound.find(|l| {
            let listens = |(kind, key): &&ResourceId| *kind == Kind::Listener && **key == *l.key;
            resources.iter().any(listens)
        })
    }
}

impl Publisher {
    /// `server_id` must differ after each start.
    pub fn new(server_id: impl Into<String>) -> Arc<Self> {
        Self::counting(server_id, Arc::default())
    }

    /// One that counts its progress together with others.
    pub fn counting(server_id: impl Into<String>, progress: Arc<watch::Sender<u64>>) -> Arc<Self> {
        Self::knowing(CAPABILITIES, server_id, progress)
    }

    /// The same, of resources that may need other capabilities than those of this build.
    pub fn knowing(
        capabilities: &'static [Capability],
        server_id: impl Into<String>,
        progress: Arc<watch::Sender<u64>>,
    ) -> Arc<Self> {
        let inner = Inner {
            store: Store::knowing(capabilities),
            ..Inner::default()
        };
        Arc::new(Self {
            server_id: server_id.into(),
            inner: Mutex::new(inner),
            generation: watch::Sender::new(None),
            progress,
        })
    }

    /// Makes one generation of some changed bodies (`None`: removed). Nothing is sent before the first call, which
    /// may bring nothing: a data plane may then serve an empty configuration.
    ///
    /// A body that a data plane has refused stays out until it changes. `observed_unix_ns`: when the change was seen.
    pub fn publish(
        &self,
        changes: impl IntoIterator<Item = (ResourceId, Option<Bytes>)>,
        observed_unix_ns: u64,
    ) -> Generation {
        let mut inner = self.inner.lock();
        let next = inner.store.cursor().generation + 1;
        let is_mixed = inner.is_mixed();
        if !is_mixed {
            inner.replaced.clear();
        }
        let mut effective = Vec::new();
        for (id, body) in changes {
            let Some(body) = body else {
                inner.accepted.remove(&id);
                inner.rejected.remove(&id);
                inner.replaced.remove(&id);
                effective.push((id.0, id.1, None));
                continue;
            };
            let hash = Hash::of(&body);
            let rejected = inner.rejected.get(&id);
            if rejected.is_some_and(|r| r.refusal.hash == hash) {
                continue;
            }
            inner.rejected.remove(&id);
            if let Some(refusal) = inner.refused_elsewhere(&id, hash) {
                inner.accepted.remove(&id);
                effective.push((id.0, id.1.clone(), Some(refusal.restored.clone())));
                let kept = Rejected {
                    body,
                    since: Generation::MAX,
                    refusal,
                    by: BTreeSet::new(),
                };
                inner.rejected.insert(id, kept);
                continue;
            }
            let before = inner.store.get(&id).cloned();
            let replaced = inner.store.hash_of(&id);
            if replaced != Some(hash) {
                if let Some(replaced) = replaced.filter(|_| is_mixed) {
                    inner.replaced.insert(id.clone(), replaced);
                }
                let entry = inner.accepted.entry(id.clone());
                let waiting = entry.or_insert(Accepted {
                    body: before,
                    since: next,
                });
                waiting.since = next;
            }
            effective.push((id.0, id.1, Some(body)));
        }
        let changed = inner.store.update(effective);
        let first = !std::mem::replace(&mut inner.ready, true);
        if first {
            inner.first = inner.store.cursor().generation;
        }
        if changed {
            inner.observed_unix_ns = observed_unix_ns;
            inner.made.push_back((next, Instant::now()));
            if inner.made.len() > TIMED_GENERATIONS {
                inner.made.pop_front();
            }
        }
        inner.forget_tombstones();
        let generation = inner.store.cursor().generation;
        drop(inner);
        if changed || first {
            self.generation.send_replace(Some(generation));
        }
        generation
    }

    /// The generation that is served; `None` before the first publication. Notified on every change, also when a
    /// refused resource was put back.
    pub fn subscribe(&self) -> watch::Receiver<Option<Generation>> {
        self.generation.subscribe()
    }

    /// Counts what data planes did: connected, acknowledged, refused, drained, left.
    pub fn progress(&self) -> watch::Receiver<u64> {
        self.progress.subscribe()
    }

    fn advanced(&self) {
        self.progress.send_modify(|n| *n = n.wrapping_add(1));
    }

    /// Generation and digest of what is served.
    pub fn cursor(&self) -> Cursor {
        self.inner.lock().store.cursor()
    }

    /// Number of resources and bytes of their bodies.
    pub fn size(&self) -> (usize, usize) {
        let inner = self.inner.lock();
        (inner.store.len(), inner.store.bytes())
    }

    /// The connected data planes.
    pub fn data_planes(&self) -> Vec<DataPlane> {
        self.inner.lock().peers.values().cloned().collect()
    }

    /// When the first generation was made that a data plane lacks; `None`: it has everything, or drains.
    pub fn behind_since(&self, plane: &DataPlane) -> Option<Instant> {
        let inner = self.inner.lock();
        let acknowledged = plane.acknowledged.unwrap_or(0);
        let mut later = inner.made.iter().filter(|(g, _)| *g > acknowledged);
        let is_told = !plane.draining && plane.turned_away.is_none();
        later.next().filter(|_| is_told).map(|(_, at)| *at)
    }

    /// Resources that data planes have refused, with their words.
    pub fn rejections(&self) -> Vec<(ResourceId, String)> {
        let inner = self.inner.lock();
        let kept = inner.rejected.iter();
        let kept = kept.map(|(id, r)| (id.clone(), r.refusal.reason.clone()));
        kept.chain(inner.lacking()).collect()
    }

    /// Something has become of data planes; `changed`: and of what is served.
    fn settle(&self, inner: MutexGuard<'_, Inner>, changed: bool) {
        let generation = inner.store.cursor().generation;
        let ready = inner.ready;
        drop(inner);
        if changed && ready {
            self.generation.send_replace(Some(generation));
        }
        self.advanced();
    }

    /// How far an object of these resources has come: every data plane that is connected to any replica and does not
    /// drain must have acknowledged them as they are now, and no Pod must serve that is connected to none.
    pub fn programmed<'a>(
        &self,
        resources: impl IntoIterator<Item = &'a ResourceId>,
    ) -> Programmed {
        let resources: Vec<&ResourceId> = resources.into_iter().collect();
        let inner = self.inner.lock();
        let rejected = resources.iter().find_map(|id| inner.rejected.get(*id));
        if let Some(rejected) = rejected {
            return Programmed::Rejected(rejected.refusal.reason.clone());
        }
        let here = inner.programmed_here(&resources);
        let elsewhere = inner.programmed_elsewhere(&resources);
        let out_of_sight = inner.programmed_out_of_sight(&resources);
        // The worst of it; none at all is said only where there is none anywhere.
        let found = here.into_iter().chain(elsewhere).chain(out_of_sight);
        found
            .max_by_key(Programmed::rank)
            .unwrap_or(Programmed::NoDataPlane)
    }
}

impl Inner {
    /// How far these resources have come with the data planes that are connected here; `None`: there are none.
    fn programmed_here(&self, resources: &[&ResourceId]) -> Option<Programmed> {
        let planes = || self.peers.values().filter(|p| !p.draining);
        planes().next()?;
        let present = |id: &ResourceId| self.store.hash_of(id);
        let lacking = planes().filter_map(|plane| plane.lacking(resources, present));
        let lacking = lacking.max_by_key(Programmed::rank);
        if lacking.is_some() {
            return lacking;
        }
        let newest = resources
            .iter()
            .map(|id| self.store.generation_of(id))
            .try_fold(0, |newest, generation| Some(newest.max(generation?)));
        let Some(newest) = newest else {
            return Some(Programmed::Pending);
        };
        let mut not_bound = None;
        for plane in planes() {
            if plane
                .acknowledged
                .is_none_or(|generation| generation < newest)
            {
                return Some(Programmed::Pending);
            }
            not_bound = not_bound.or_else(|| plane.not_bound(resources));
        }
        Some(match not_bound {
            Some(state) => Programmed::NotBound(format!("{}: {}", state.key, state.error)),
            None => Programmed::Yes,
        })
    }

    /// The generation that every connected data plane has acknowledged.
    fn passed(&self) -> Option<Generation> {
        let told = self.peers.values().filter(|p| p.turned_away.is_none());
        told.map(|p| p.acknowledged.unwrap_or(0)).min()
    }

    /// Counts a data plane in; gives its number.
    fn join(&mut self, data_plane: DataPlane) -> u64 {
        // When it was turned away last is not of interest any more.
        let is_other = |p: &DataPlane| p.turned_away.is_none() || p.node_id != data_plane.node_id;
        self.peers.retain(|_, plane| is_other(plane));
        self.found(&data_plane.node_id);
        self.next_peer += 1;
        self.peers.insert(self.next_peer, data_plane);
        self.next_peer
    }

    fn forget_tombstones(&mut self) {
        let horizon = self
            .store
            .cursor()
            .generation
            .saturating_sub(KEPT_GENERATIONS);
        let holding = self.peers.values().filter_map(|p| p.acknowledged);
        let holding = holding.chain(self.readers.values().copied()).min();
        self.store.forget(holding.unwrap_or(horizon).max(horizon));
    }

    /// What a data plane holds counts for nothing any more.
    fn knows_nothing_of(&mut self, peer: u64) {
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.acknowledged = None;
        }
    }

    /// `digest`: of what it holds by its own words.
    fn acknowledged(&mut self, peer: u64, generation: Generation, digest: Digest) {
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.acknowledged = Some(generation);
            peer.digest = digest;
            peer.refused = None;
        }
        self.forget_accepted();
        self.forget_tombstones();
    }
}

#[cfg(test)]
#[path = "publish_tests.rs"]
pub(crate) mod tests;
