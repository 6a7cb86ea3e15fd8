//! What other replicas of the controller say about the data planes of this group that are connected to them, and what
//! there is to tell them about ours.
//!
//! Generations are counted by each replica for itself, so a data plane elsewhere is compared by hashes: it holds a
//! resource as we have it when its replica does, in a generation that the data plane has acknowledged. Equal objects are
//! equal bodies on replicas of one build; for one of another build see [`Other::writes`].

use super::{DataPlane, Inner, Publisher, REASON, Rejected, ResourceId, printable};
use crate::report::Programmed;
use prost::Message as _;
use snapshot::{Cursor, Generation, Hash, Kind, SCHEMA, Transaction, pb};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Instant;

/// What tells replicas of one build from those of another while controllers are upgraded.
pub const BUILD: &str = env!("CARGO_PKG_VERSION");

/// Resources in one message: 32 bytes each, so that it stays far below the 1 MiB that a replica reads.
const HELD: usize = 8192;
/// Bytes of data planes, or of what is kept back, in one message; a single body has at most 448 KiB.
const MESSAGE_BYTES: usize = 512 * 1024;
/// Listeners that one data plane could not open, as far as they are told.
const NOT_BOUND: usize = 256;
/// What a message within another takes beside itself.
const FRAME: usize = 8;
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
    quarantine: BTreeMap<(ResourceId, Hash), Rejected>,
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
            self.quarantine = all.map(|(id, r)| ((id, r.hash), r)).collect();
        }
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
    pub(super) fn refused_elsewhere(&self, id: &ResourceId, hash: Hash) -> Option<Rejected> {
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
            let ours = self.rejected.get(id).filter(|r| r.hash == *hash);
            let present = self.store.get(id);
            let counts = match ours {
                Some(ours) => {
                    decides && ours.restored != theirs.restored && present == ours.restored.as_ref()
                }
                None => self.store.hash_of(id) == Some(*hash),
            };
            if counts {
                restore.push((id.clone(), theirs.clone()));
            }
        }
        for (id, theirs) in &restore {
            tracing::warn!(
                kind = ?id.0, key = &*id.1, reason = theirs.reason, replica,
                "a resource is kept back: a data plane of another replica refuses it"
            );
            self.accepted.remove(id);
            self.rejected.insert(id.clone(), theirs.clone());
        }
        let bodies = restore
            .into_iter()
            .map(|((kind, key), r)| (kind, key, r.restored));
        self.store.update(bodies)
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
        other.hear(from, state);
        let changed = quarantine && inner.heed(&from.replica, decides);
        let generation = inner.store.cursor().generation;
        let ready = inner.ready;
        drop(inner);
        if changed && ready {
            self.generation.send_replace(Some(generation));
        }
        self.advanced();
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
        self.inner
            .lock()
            .others
            .retain(|name, other| **name != *replica || other.parted != Some(parted));
        self.advanced();
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
    /// Among those whom the store keeps traces of removed resources for.
    reader: u64,
    held: Option<Cursor>,
    planes: BTreeMap<u64, DataPlane>,
    quarantine: Option<BTreeMap<ResourceId, Rejected>>,
    begun: bool,
}

impl Teller {
    pub fn new(publisher: &Arc<Publisher>, group: &str) -> Self {
        let reader = {
            let mut inner = publisher.inner.lock();
            inner.next_peer += 1;
            inner.next_peer
        };
        Self {
            publisher: Arc::clone(publisher),
            group: group.to_owned(),
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
        if self.quarantine.as_ref() != Some(&inner.rejected) {
            self.quarantine = Some(inner.rejected.clone());
            messages.push(pb::GroupState {
                quarantine: Some(to_wire(&inner.rejected)),
                ..pb::GroupState::default()
            });
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

fn held_to_wire(news: Transaction) -> Vec<Vec<u8>> {
    let upserts = news
        .upsert
        .iter()
        .filter_map(|r| Some((Hash::of_name(r.kind, &r.key), Hash::from_slice(&r.hash)?)));
    let removes = news.remove.iter();
    let removes = removes.map(|n| (Hash::of_name(n.kind, &n.key), Hash::default()));
    let all: Vec<(Hash, Hash)> = upserts.chain(removes).collect();
    all.chunks(HELD)
        .map(|some| {
            let held = some.iter().flat_map(|(name, body)| [name.0, body.0]);
            held.flatten().collect()
        })
        .collect()
}

fn plane_to_wire(number: u64, plane: &DataPlane) -> pb::Plane {
    let not_bound = plane.listeners.iter().filter(|l| !l.bound);
    pb::Plane {
        number,
        node_id: plane.node_id.clone(),
        build: plane.build.clone(),
        acknowledged: plane.acknowledged,
        draining: plane.draining,
        not_bound: not_bound.take(NOT_BOUND).cloned().collect(),
        refused: plane.refused.clone().unwrap_or_default(),
    }
}

fn plane_of_wire(wire: pb::Plane) -> DataPlane {
    DataPlane {
        node_id: wire.node_id,
        build: wire.build,
        acknowledged: wire.acknowledged,
        draining: wire.draining,
        listeners: wire.not_bound,
        refused: Some(wire.refused).filter(|r| !r.is_empty()),
        ..DataPlane::default()
    }
}

/// As much of it as a message takes: resources that are kept back are few. What is not told, the data planes of other
/// replicas refuse themselves.
fn to_wire(rejected: &BTreeMap<ResourceId, Rejected>) -> pb::Quarantine {
    let mut room = MESSAGE_BYTES;
    let all = rejected.iter().filter_map(|((kind, key), r)| {
        let told = pb::Quarantined {
            kind: *kind as u32,
            key: key.to_string(),
            hash: r.hash.0.to_vec(),
            reason: r.reason.clone(),
            body: r.restored.clone(),
        };
        room = room.checked_sub(told.encoded_len() + FRAME)?;
        Some(told)
    });
    pb::Quarantine { all: all.collect() }
}

fn of_wire(wire: pb::Quarantined) -> Option<(ResourceId, Rejected)> {
    let id = (Kind::from_number(wire.kind)?, wire.key.into());
    let rejected = Rejected {
        hash: Hash::from_slice(&wire.hash)?,
        reason: printable(&wire.reason, REASON),
        restored: wire.body,
    };
    Some((id, rejected))
}

#[cfg(test)]
#[path = "others_tests.rs"]
mod tests;
