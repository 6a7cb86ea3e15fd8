//! What other replicas of the controller say about the data planes of this group that are connected to them, and what
//! there is to tell them about ours.
//!
//! Generations are counted by each replica for itself, so a data plane elsewhere is compared by hashes: it holds a
//! resource as we have it when its replica does, in a generation that the data plane has acknowledged. Equal objects are
//! equal bodies on replicas of one build; for one of another build see [`Other::writes`].

use super::lacks::Lack;
use super::refusals::{Refusal, Rejected};
use super::wire::{
    FRAME, MESSAGE_BYTES, held_to_wire, of_wire, plane_of_wire, plane_to_wire, to_wire,
};
use super::{DataPlane, Inner, Publisher, ResourceId};
use crate::report::Programmed;
use prost::Message as _;
use snapshot::{Cursor, Generation, Hash, SCHEMA, Transaction, pb};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Instant;

/// What tells replicas of one build from those of another while controllers are upgraded.
pub const BUILD: &str = env!("CARGO_PKG_VERSION");

/// Length of a name or hash.
const HASH: usize = 16;

/// One stream of another replica. A cut network leaves an old one behind beside the next: what is said on it after that,
/// and its end, mean nothing any more.
#[derive(Clone, Debug)]
pub struct ReplicaStream {
    /// The other replica's name, which differs after each start.
    pub replica: Arc<str>,
    /// The later of two has the greater one, as the other replica counts them.
    pub number: u64,
    /// It writes what we write; another build may not.
    pub is_same_build: bool,
}

impl ReplicaStream {
    /// `hello`: the first message on it.
    pub fn of(hello: pb::ReplicaHello) -> Self {
        Self {
            replica: hello.replica.into(),
            number: hello.stream,
            is_same_build: hello.build == BUILD && hello.schema == SCHEMA,
        }
    }
}

/// What one other replica has said.
#[derive(Default)]
pub(super) struct Other {
    /// The number of the stream that it has said it on.
    stream: u64,
    is_other_build: bool,
    /// By the hash of kind and key: the hash of the body, and in which of its generations it is so at the latest.
    held: HashMap<Hash, (Hash, Generation)>,
    planes: BTreeMap<u64, DataPlane>,
    quarantine: BTreeMap<(ResourceId, Hash), Refusal>,
    /// Its stream has ended then: its data planes are looked for elsewhere.
    parted: Option<Instant>,
}

impl Other {
    fn hear(&mut self, from: &ReplicaStream, state: pb::GroupState) {
        if state.full || from.number > self.stream {
            *self = Self::default();
        }
        self.stream = from.number;
        self.is_other_build = !from.is_same_build;
        self.parted = None;
        let (held, _) = state.held.as_chunks::<{ 2 * HASH }>();
        for pair in held {
            let (name, body) = pair.split_at(HASH);
            let (Some(name), Some(body)) = (Hash::from_slice(name), Hash::from_slice(body)) else {
                continue;
            };
            match body == Hash::default() {
                true => drop(self.held.remove(&name)),
                false => drop(self.held.insert(name, (body, state.generation))),
            }
        }
        for number in state.gone {
            self.planes.remove(&number);
        }
        for plane in state.planes {
            self.planes.insert(plane.number, plane_of_wire(plane));
        }
        if let Some(quarantine) = state.quarantine {
            let all = quarantine.all.into_iter().filter_map(of_wire);
            self.quarantine = all
                .map(|(id, refusal)| ((id, refusal.hash), refusal))
                .collect();
        }
    }

    pub(super) fn planes(&self) -> impl Iterator<Item = &DataPlane> {
        self.planes.values()
    }

    /// The hash of a resource's body there.
    fn body_of(&self, (kind, key): &ResourceId) -> Option<Hash> {
        let held = self.held.get(&Hash::of_name(*kind as u32, key));
        held.map(|(body, _)| *body)
    }

    /// Whether it holds all of these in what the data plane has acknowledged.
    fn holds(&self, plane: &DataPlane, resources: &[Wanted<'_>]) -> bool {
        let Some(acknowledged) = plane.acknowledged else {
            return false;
        };
        resources.iter().all(|wanted| {
            let held = self.held.get(&wanted.name);
            held.is_some_and(|(body, since)| {
                let is_it = *body == wanted.body || self.writes(wanted, *body);
                is_it && *since <= acknowledged
            })
        })
    }

    /// Whether a body that is not ours may be what another build makes of the same objects. What was here before is not,
    /// nor is what serves there in place of something that is kept back. Whether it is of an older version otherwise, which
    /// the other replica is about to replace, cannot be told: it counts, as nothing were programmed else for as long as an
    /// upgrade takes.
    fn writes(&self, wanted: &Wanted<'_>, body: Hash) -> bool {
        let keeps_back = || {
            let mut kept = self
                .quarantine
                .range((wanted.id.clone(), Hash::default())..);
            kept.next().is_some_and(|((id, _), _)| id == wanted.id)
        };
        self.is_other_build && wanted.replaced != Some(body) && !keeps_back()
    }
}

/// A resource as a data plane is to have it.
struct Wanted<'a> {
    id: &'a ResourceId,
    name: Hash,
    body: Hash,
    /// See [`Inner::replaced`].
    replaced: Option<Hash>,
}

impl Inner {
    /// Whether there is a replica of another build.
    pub(super) fn is_mixed(&self) -> bool {
        self.others.values().any(|other| other.is_other_build)
    }

    /// Why a body is kept back although no data plane of ours has refused it.
    pub(super) fn refused_elsewhere(&self, id: &ResourceId, hash: Hash) -> Option<Refusal> {
        if self.others.values().all(|o| o.quarantine.is_empty()) {
            return None;
        }
        let found = (id.clone(), hash);
        self.others
            .values()
            .find_map(|other| other.quarantine.get(&found).cloned())
    }

    /// Keeps back what another replica does. What the leader (`decides`) serves in its place is what serves everywhere.
    fn heed(&mut self, replica: &str, decides: bool) -> bool {
        let Some(other) = self.others.get(replica) else {
            return false;
        };
        let mut restore = Vec::new();
        for ((id, hash), theirs) in &other.quarantine {
            let ours = self.rejected.get(id).filter(|r| r.refusal.hash == *hash);
            let present = self.store.get(id);
            let counts = match ours {
                Some(ours) => {
                    let restored = &ours.refusal.restored;
                    decides && *restored != theirs.restored && present == Some(restored)
                }
                None => self.store.hash_of(id) == Some(*hash),
            };
            if counts {
                restore.push((id.clone(), theirs.clone()));
            }
        }
        let mut bodies = Vec::with_capacity(restore.len());
        for (id, refusal) in restore {
            tracing::warn!(
                kind = ?id.0, key = &*id.1, reason = refusal.reason, replica,
                "a resource is kept back: a data plane of another replica refuses it"
            );
            self.accepted.remove(&id);
            bodies.push((id.0, Arc::clone(&id.1), Some(refusal.restored.clone())));
            if let Some(ours) = self.rejected.get_mut(&id) {
                ours.refusal = refusal;
            } else if let Some(body) = self.store.get(&id) {
                let kept = Rejected {
                    body: body.clone(),
                    since: self.store.generation_of(&id).unwrap_or_default(),
                    refusal,
                    by: BTreeSet::new(),
                };
                self.rejected.insert(id, kept);
            }
        }
        self.store.update(bodies)
    }

    /// What data planes of other replicas alone go without.
    pub(super) fn lacking_elsewhere(&self) -> impl Iterator<Item = (&ResourceId, &Lack)> {
        self.others.values().flat_map(|other| {
            let planes = other.planes.values().filter(|plane| !plane.draining);
            let lacks = planes.flat_map(|plane| plane.lacks.iter());
            lacks.filter(|(id, lack)| other.body_of(id) == Some(lack.refused))
        })
    }

    /// What is kept back, as another replica is to know it. `follower`: the one that the leader tells, which needs not hear
    /// its own words; what a follower itself tells is its own alone. So nothing is kept back because each has it from the
    /// other.
    fn refusals(&self, follower: Option<&str>) -> BTreeMap<ResourceId, Refusal> {
        let heard = |refused: &(ResourceId, Hash)| {
            let others = self.others.iter();
            let mut others = others.filter(|(name, _)| follower.is_some_and(|f| ***name != *f));
            others.any(|(_, other)| other.quarantine.contains_key(refused))
        };
        let told = self.rejected.iter().filter(|(id, rejected)| {
            !rejected.by.is_empty() || heard(&((*id).clone(), rejected.refusal.hash))
        });
        told.map(|(id, rejected)| (id.clone(), rejected.refusal.clone()))
            .collect()
    }

    /// How far these resources have come with the data planes of other replicas; `None`: there are none.
    pub(super) fn programmed_elsewhere(&self, resources: &[&ResourceId]) -> Option<Programmed> {
        if self.others.values().all(|o| o.planes.is_empty()) {
            return None;
        }
        let wanted = resources.iter().copied().map(|id| {
            Some(Wanted {
                id,
                name: Hash::of_name(id.0 as u32, &id.1),
                body: self.store.hash_of(id)?,
                replaced: self.replaced.get(id).copied(),
            })
        });
        let Some(wanted) = wanted.collect::<Option<Vec<_>>>() else {
            return Some(Programmed::Pending);
        };
        let lacking = self.others.values().flat_map(|other| {
            let planes = other.planes.values().filter(|plane| !plane.draining);
            planes.filter_map(|plane| plane.lacking(resources, |id| other.body_of(id)))
        });
        let lacking = lacking.max_by_key(Programmed::rank);
        if lacking.is_some() {
            return lacking;
        }
        let mut found = None;
        for (replica, other) in &self.others {
            for plane in other.planes.values().filter(|p| !p.draining) {
                if other.parted.is_some() && self.is_connected_beside(replica, &plane.node_id) {
                    continue;
                }
                if !other.holds(plane, &wanted) {
                    return Some(Programmed::Pending);
                }
                if found.is_none() {
                    found = Some(Programmed::Yes);
                }
                let not_bound = plane.not_bound(resources);
                if let Some(state) = not_bound {
                    let text = format!("{}: {}", state.key, state.error);
                    found = Some(Programmed::NotBound(text));
                }
            }
        }
        found
    }

    /// Whether a data plane has found another replica than the one that is gone.
    fn is_connected_beside(&self, replica: &str, node_id: &str) -> bool {
        let others = self.others.iter();
        let others = others.filter(|(name, other)| ***name != *replica && other.parted.is_none());
        let mut planes = others
            .flat_map(|(_, other)| other.planes.values())
            .chain(self.peers.values());
        planes.any(|plane| plane.node_id == node_id)
    }
}

impl Publisher {
    /// Takes what another replica says. `decides`: it leads.
    pub fn hear(&self, from: &ReplicaStream, state: pb::GroupState, decides: bool) {
        let mut inner = self.inner.lock();
        let quarantine = state.quarantine.is_some();
        let other = inner.others.entry(Arc::clone(&from.replica)).or_default();
        if other.stream > from.number {
            return;
        }
        let moves = state.full
            || from.number > other.stream
            || !state.gone.is_empty()
            || !state.planes.is_empty();
        other.hear(from, state);
        if moves {
            inner.look_for_pods();
        }
        let changed = quarantine && inner.heed(&from.replica, decides) | inner.lift();
        self.settle(inner, changed);
    }

    /// Another replica's stream has ended. Unless a later one has come, its data planes count for as long as they may be
    /// on their way to another one: until [`Self::forget`], and what they had acknowledged is what they have. `at`: now.
    pub fn part(&self, from: &ReplicaStream, at: Instant) {
        let mut inner = self.inner.lock();
        let other = inner.others.get_mut(&from.replica);
        if let Some(other) = other.filter(|other| other.stream <= from.number) {
            other.parted = Some(at);
        }
        drop(inner);
        self.advanced();
    }

    /// A replica that has parted at that time and not come back since is not counted any more.
    pub fn forget(&self, replica: &str, parted: Instant) {
        let mut inner = self.inner.lock();
        inner
            .others
            .retain(|name, other| **name != *replica || other.parted != Some(parted));
        inner.look_for_pods();
        let changed = inner.lift();
        self.settle(inner, changed);
    }

    /// Whether any data plane of the group is connected to any replica.
    pub fn has_data_planes(&self) -> bool {
        let inner = self.inner.lock();
        !inner.peers.is_empty() || inner.others.values().any(|o| !o.planes.is_empty())
    }

    /// Data planes that are connected to other replicas.
    pub fn elsewhere(&self) -> Vec<DataPlane> {
        let inner = self.inner.lock();
        let others = inner.others.values();
        others.flat_map(|o| o.planes.values().cloned()).collect()
    }
}

/// Tells one other replica about a group: everything at first, then what is new.
pub struct Teller {
    publisher: Arc<Publisher>,
    group: String,
    /// Whom the leader tells; `None`: a follower tells the leader.
    follower: Option<String>,
    /// Among those whom the store keeps traces of removed resources for.
    reader: u64,
    held: Option<Cursor>,
    planes: BTreeMap<u64, DataPlane>,
    quarantine: Option<BTreeMap<ResourceId, Refusal>>,
    begun: bool,
}

impl Teller {
    /// `follower`: whom the leader tells; `None`: a follower tells the leader.
    pub fn new(publisher: &Arc<Publisher>, group: &str, follower: Option<&str>) -> Self {
        let reader = {
            let mut inner = publisher.inner.lock();
            inner.next_peer += 1;
            inner.next_peer
        };
        Self {
            publisher: Arc::clone(publisher),
            group: group.to_owned(),
            follower: follower.map(str::to_owned),
            reader,
            held: None,
            planes: BTreeMap::new(),
            quarantine: None,
            begun: false,
        }
    }

    /// What is new since the last call.
    pub fn news(&mut self) -> Vec<pb::GroupState> {
        let publisher = Arc::clone(&self.publisher);
        let mut inner = publisher.inner.lock();
        let mut messages = Vec::new();
        let news = self.held_news(&mut inner);
        // A data plane is known before what it is to hold: it counts as one that lacks it.
        self.tell_planes(&inner, &mut messages);
        let held = news.map_or_else(Vec::new, held_to_wire);
        messages.extend(held.into_iter().map(|held| pb::GroupState {
            held,
            ..pb::GroupState::default()
        }));
        let quarantine = inner.refusals(self.follower.as_deref());
        if self.quarantine.as_ref() != Some(&quarantine) {
            messages.push(pb::GroupState {
                quarantine: Some(to_wire(&quarantine)),
                ..pb::GroupState::default()
            });
            self.quarantine = Some(quarantine);
        }
        drop(inner);
        let generation = self.held.map_or(0, |c| c.generation);
        for message in &mut messages {
            message.group.clone_from(&self.group);
            message.generation = generation;
        }
        if let Some(first) = messages.first_mut() {
            first.full = !std::mem::replace(&mut self.begun, true);
        }
        messages
    }

    /// The group is no more; nothing to say where no data plane of it was told.
    pub fn farewell(self) -> Option<pb::GroupState> {
        (!self.planes.is_empty()).then(|| pb::GroupState {
            group: self.group.clone(),
            full: true,
            ..pb::GroupState::default()
        })
    }

    /// Resources that are not as they were told. They matter only where a data plane is to hold them.
    fn held_news(&mut self, inner: &mut Inner) -> Option<Transaction> {
        if inner.peers.is_empty() {
            return None;
        }
        let now = inner.store.cursor();
        let before = self.held.replace(now);
        inner.readers.insert(self.reader, now.generation);
        if before == Some(now) {
            return None;
        }
        let news = inner.store.since(before)?;
        if news.full && self.begun {
            // What was told and is gone since cannot be told apart any more.
            self.begun = false;
            self.planes.clear();
            self.quarantine = None;
        }
        Some(news)
    }

    fn tell_planes(&mut self, inner: &Inner, messages: &mut Vec<pb::GroupState>) {
        let gone: Vec<u64> = self
            .planes
            .keys()
            .filter(|n| !inner.peers.contains_key(n))
            .copied()
            .collect();
        let changed: Vec<(u64, DataPlane)> = inner
            .peers
            .iter()
            .filter(|(n, plane)| self.planes.get(n) != Some(plane))
            .map(|(n, plane)| (*n, plane.clone()))
            .collect();
        for number in &gone {
            self.planes.remove(number);
        }
        if !gone.is_empty() {
            messages.push(pb::GroupState {
                gone,
                ..pb::GroupState::default()
            });
        }
        let mut room = 0;
        for (number, plane) in &changed {
            let told = plane_to_wire(*number, plane);
            let bytes = told.encoded_len() + FRAME;
            if bytes > room {
                messages.push(pb::GroupState::default());
                room = MESSAGE_BYTES;
            }
            room = room.saturating_sub(bytes);
            if let Some(message) = messages.last_mut() {
                message.planes.push(told);
            }
        }
        self.planes.extend(changed);
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        self.publisher.inner.lock().readers.remove(&self.reader);
    }
}

#[cfg(test)]
#[path = "others_tests.rs"]
mod tests;
