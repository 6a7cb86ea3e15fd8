//! The sending side: the current resources by generation, and what a stream lacks.

use crate::capability::{CAPABILITIES, Capability, Needing, needed};
use crate::patch;
use crate::pb;
use crate::{Digest, Hash, Inventory, Kind};
use bytes::Bytes;
use model::limits;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, OnceLock};

/// Counts the changes of one store; larger is newer. Identity across replicas is the digest, never this.
pub type Generation = u64;

/// How many past states are remembered, so that a data plane that reconnects with one of them gets a difference.
const HISTORY: usize = 1024;

/// A resource by kind and key. The key is one text, however many keep it.
pub type ResourceId = (Kind, Arc<str>);

/// The current configuration as encoded resources.
///
/// What a stream lacks is the range of generations after the one that it acknowledged. Removed resources leave a
/// tombstone until [`Store::forget`] says that every stream has passed it.
pub struct Store {
    generation: Generation,
    digest: Digest,
    live: BTreeMap<ResourceId, Entry>,
    removed: BTreeMap<ResourceId, Generation>,
    /// What generations after `forgotten` changed, as far as it has not changed again since.
    changed: BTreeSet<(Generation, ResourceId)>,
    /// What went and what changed up to here is not known any more: older cursors need everything.
    forgotten: Generation,
    history: VecDeque<Cursor>,
    /// What live bodies have replaced that streams may still hold.
    bases: BTreeMap<ResourceId, Arc<Base>>,
    capabilities: &'static [Capability],
    needing: BTreeMap<ResourceId, Needing>,
}

/// The body before the live one.
struct Base {
    /// It was live from here
    from: Generation,
    /// to before this one.
    until: Generation,
    hash: Hash,
    body: Bytes,
    /// Made once for all streams; `None`: it is not worth it.
    patch: OnceLock<Option<Vec<u8>>>,
}

impl Base {
    fn patch_to(&self, resource: &pb::Resource) -> Option<pb::Patch> {
        let patch = self
            .patch
            .get_or_init(|| patch::make(&self.body, &resource.body));
        Some(pb::Patch {
            kind: resource.kind,
            key: resource.key.clone(),
            base: self.hash.0.to_vec(),
            hash: resource.hash.clone(),
            size: u32::try_from(resource.body.len()).ok()?,
            patch: patch.clone()?,
        })
    }
}

/// What each resource of a transaction may travel as a patch of. To make patches takes longer than the store may be locked
/// for.
pub struct Bases(Vec<Option<Arc<Base>>>);

struct Entry {
    generation: Generation,
    hash: Hash,
    body: Bytes,
}

/// What one stream holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    pub generation: Generation,
    pub digest: Digest,
}

/// One step from what a stream holds to the current state.
#[derive(Clone, Debug)]
pub struct Transaction {
    pub full: bool,
    pub base: Digest,
    /// What the stream holds afterwards.
    pub result: Cursor,
    pub upsert: Vec<pb::Resource>,
    pub patch: Vec<pb::Patch>,
    pub remove: Vec<pb::Name>,
}

/// What a store held at one time. Names are hashed to compare it, which takes longer than the store may be locked for.
pub struct Listing {
    at: Cursor,
    resources: Vec<(ResourceId, Hash)>,
}

/// What of a [`Listing`] is in buckets that are different with somebody else.
pub struct Different {
    at: Cursor,
    of: usize,
    ids: Vec<ResourceId>,
}

impl Listing {
    pub fn different(self, held: &Inventory) -> Different {
        let resources = self.resources.iter();
        let names = resources.map(|((kind, key), _)| Hash::of_name(*kind as u32, key));
        let names: Vec<Hash> = names.collect();
        let mut here = held.buckets.emptied();
        for (name, (_, body)) in names.iter().zip(&self.resources) {
            here.add(*name, *body);
        }
        let of = self.resources.len();
        let all = self.resources.into_iter().zip(names);
        let different = all.filter(|(_, name)| here.differs(&held.buckets, *name));
        Different {
            at: self.at,
            of,
            ids: different.map(|((id, _), _)| id).collect(),
        }
    }
}

impl Default for Store {
    fn default() -> Self {
        Self::knowing(CAPABILITIES)
    }
}

impl Store {
    /// One whose resources may need these.
    pub fn knowing(capabilities: &'static [Capability]) -> Self {
        Self {
            generation: 0,
            digest: Digest::default(),
            live: BTreeMap::new(),
            removed: BTreeMap::new(),
            changed: BTreeSet::new(),
            forgotten: 0,
            history: VecDeque::new(),
            bases: BTreeMap::new(),
            capabilities,
            needing: BTreeMap::new(),
        }
    }

    /// Current generation and digest.
    pub fn cursor(&self) -> Cursor {
        Cursor {
            generation: self.generation,
            digest: self.digest,
        }
    }

    /// Number of live resources.
    pub fn len(&self) -> usize {
        self.live.len()
    }

    pub fn is_empty(&self) -> bool {
        self.live.is_empty()
    }

    /// Bytes of all live bodies.
    pub fn bytes(&self) -> usize {
        self.live.values().map(|e| e.body.len()).sum()
    }

    /// The body of a live resource.
    pub fn get(&self, id: &ResourceId) -> Option<&Bytes> {
        self.live.get(id).map(|e| &e.body)
    }

    /// The hash of a live resource's body.
    pub fn hash_of(&self, id: &ResourceId) -> Option<Hash> {
        self.live.get(id).map(|e| e.hash)
    }

    /// The generation in which a live resource got its present body.
    pub fn generation_of(&self, id: &ResourceId) -> Option<Generation> {
        self.live.get(id).map(|e| e.generation)
    }

    /// Live resources that not every data plane understands, with what they need.
    pub fn needing(&self) -> impl Iterator<Item = (&ResourceId, &Needing)> {
        self.needing.iter()
    }

    /// All that resources may need.
    pub fn capabilities(&self) -> &'static [Capability] {
        self.capabilities
    }

    /// Which of the capabilities that resources may need are not among these.
    pub fn lacking(&self, offered: &[String]) -> Vec<&'static str> {
        let names = self.capabilities.iter().map(|c| c.name);
        let lacking = names.filter(|name| !offered.iter().any(|o| o == name));
        lacking.collect()
    }

    /// Keys of the live resources of a kind.
    pub fn keys(&self, kind: Kind) -> impl Iterator<Item = &str> {
        let ids = self.live.keys().filter(move |id| id.0 == kind);
        ids.map(|id| &*id.1)
    }

    /// Makes one generation out of some changed bodies (`None`: removed). Bodies that are what they were count as no
    /// change. Returns whether there was any.
    pub fn update<K: Into<Arc<str>>, B: Into<Bytes>>(
        &mut self,
        changes: impl IntoIterator<Item = (Kind, K, Option<B>)>,
    ) -> bool {
        let next = self.generation + 1;
        let before = self.live.len();
        let mut any = false;
        for (kind, key, body) in changes {
            let id = (kind, key.into());
            any |= match body {
                Some(body) => self.put(id, body.into(), next),
                None => self.take(id, next),
            };
        }
        if any {
            self.generation = next;
            self.history.push_back(self.cursor());
            if self.history.len() > HISTORY {
                self.history.pop_front();
            }
            self.forget_changes();
        }
        if self.live.len() > 2 * before {
            // What came in its order has left the nodes of the tree half empty.
            self.live = std::mem::take(&mut self.live).into_iter().collect();
        }
        any
    }

    /// Makes the store hold exactly these resources. Returns whether anything changed.
    pub fn replace(&mut self, all: impl IntoIterator<Item = (Kind, String, Vec<u8>)>) -> bool {
        let mut gone: BTreeSet<ResourceId> = self.live.keys().cloned().collect();
        let mut changes = Vec::new();
        for (kind, key, body) in all {
            let id = (kind, key.into());
            gone.remove(&id);
            changes.push((id.0, id.1, Some(body)));
        }
        changes.extend(gone.into_iter().map(|(kind, key)| (kind, key, None)));
        self.update(changes)
    }

    fn put(&mut self, id: ResourceId, body: Bytes, next: Generation) -> bool {
        let hash = Hash::of(&body);
        if let Some(old) = self.live.get(&id) {
            if old.hash == hash {
                return false;
            }
            self.digest.remove(id.0 as u32, &id.1, old.hash);
            self.changed.remove(&(old.generation, id.clone()));
            if patch::is_patched(id.0 as u32) {
                let base = Base {
                    from: old.generation,
                    until: next,
                    hash: old.hash,
                    body: old.body.clone(),
                    patch: OnceLock::new(),
                };
                self.bases.insert(id.clone(), Arc::new(base));
            }
        } else if let Some(generation) = self.removed.remove(&id) {
            self.changed.remove(&(generation, id.clone()));
        }
        self.digest.add(id.0 as u32, &id.1, hash);
        self.note(&id, next);
        self.note_needs(&id, &body);
        let generation = next;
        self.live.insert(
            id,
            Entry {
                generation,
                hash,
                body,
            },
        );
        true
    }

    fn take(&mut self, id: ResourceId, next: Generation) -> bool {
        let Some(old) = self.live.remove(&id) else {
            return false;
        };
        self.digest.remove(id.0 as u32, &id.1, old.hash);
        self.changed.remove(&(old.generation, id.clone()));
        self.bases.remove(&id);
        self.needing.remove(&id);
        self.note(&id, next);
        self.removed.insert(id, next);
        true
    }

    /// A body is about to take the place of the live one.
    fn note_needs(&mut self, id: &ResourceId, body: &[u8]) {
        let needed: Vec<_> = needed(self.capabilities, id.0, body).collect();
        let replaced = self.needing.remove(id);
        if needed.is_empty() {
            return;
        }
        let before = match replaced {
            Some(replaced) => replaced.before,
            None => self.get(id).cloned(),
        };
        let needing = Needing {
            capabilities: needed,
            before,
        };
        self.needing.insert(id.clone(), needing);
    }

    fn note(&mut self, id: &ResourceId, next: Generation) {
        // Who lacks any of the first generation lacks all of it.
        if self.generation > 0 {
            self.changed.insert((next, id.clone()));
        }
    }

    /// Nobody who resumes holds less than the oldest state that is remembered.
    fn forget_changes(&mut self) {
        if let Some(oldest) = self.history.front() {
            self.forgotten = self.forgotten.max(oldest.generation);
        }
        let forgotten = |(at, _): &(Generation, ResourceId)| *at <= self.forgotten;
        while self.changed.first().is_some_and(forgotten) {
            self.changed.pop_first();
        }
    }

    /// Where a stream stands that says it holds `digest`. `None`: unknown here, it needs everything.
    pub fn resume(&self, digest: Digest) -> Option<Cursor> {
        let known = self.history.iter().rev().find(|c| c.digest == digest)?;
        (known.generation >= self.forgotten).then_some(*known)
    }

    /// What a stream lacks; `held: None` means that it holds nothing that is known here. `None`: nothing is lacking.
    pub fn since(&self, held: Option<Cursor>) -> Option<Transaction> {
        if held.is_some_and(|c| c.digest == self.digest) {
            return None;
        }
        let held = held.filter(|c| c.generation >= self.forgotten);
        let mut transaction = Transaction {
            full: held.is_none(),
            base: held.map(|c| c.digest).unwrap_or_default(),
            result: self.cursor(),
            upsert: Vec::new(),
            patch: Vec::new(),
            remove: Vec::new(),
        };
        let Some(held) = held else {
            let all = self.live.iter().map(|(id, e)| self.resource(id, e));
            transaction.upsert = all.collect();
            return Some(transaction);
        };
        let first = (held.generation + 1, (Kind::ALL[0], Arc::default()));
        for (_, id) in self.changed.range(first..) {
            match self.live.get(id) {
                Some(entry) => transaction.upsert.push(self.resource(id, entry)),
                None => transaction.remove.push(pb::Name {
                    kind: id.0 as u32,
                    key: id.1.to_string(),
                }),
            }
        }
        Some(transaction)
    }

    /// What the resources of a transaction, as it has just been made, may travel as patches of to a stream that reads them and
    /// has acknowledged `held`.
    pub fn bases(&self, transaction: &Transaction, held: Cursor) -> Bases {
        let all = transaction.upsert.iter();
        Bases(all.map(|r| self.base_of(r, held)).collect())
    }

    fn base_of(&self, resource: &pb::Resource, held: Cursor) -> Option<Arc<Base>> {
        // A patch does not say what its result needs.
        if !patch::is_patched(resource.kind) || !resource.requires.is_empty() {
            return None;
        }
        let id = (
            Kind::from_number(resource.kind)?,
            resource.key.as_str().into(),
        );
        let base = self.bases.get(&id)?;
        let is_held = (base.from..base.until).contains(&held.generation);
        is_held.then(|| Arc::clone(base))
    }

    /// What is live, to be compared with what somebody holds.
    pub fn listing(&self) -> Listing {
        let live = self.live.iter();
        Listing {
            at: self.cursor(),
            resources: live.map(|(id, e)| (id.clone(), e.hash)).collect(),
        }
    }

    /// What a stream lacks that says it holds what has this digest, of which nothing is known here: what differs, and what
    /// has changed since that was found out. Where something of what it holds is gone, which nobody here can name, the
    /// result is not what it says, and the stream needs everything after all. `None`: that is hardly less than everything.
    pub fn since_listing(&self, held: Digest, different: Different) -> Option<Transaction> {
        if different.ids.len() >= different.of / 2 {
            return None;
        }
        let later = self.since(Some(different.at));
        let mut transaction = later.unwrap_or_else(|| Transaction {
            full: false,
            base: held,
            result: self.cursor(),
            upsert: Vec::new(),
            patch: Vec::new(),
            remove: Vec::new(),
        });
        if transaction.full {
            return None;
        }
        transaction.base = held;
        let ids = different.ids.iter();
        let as_listed = ids.filter_map(|id| {
            let entry = self.live.get(id)?;
            (entry.generation <= different.at.generation).then(|| self.resource(id, entry))
        });
        transaction.upsert.extend(as_listed);
        Some(transaction)
    }

    fn resource(&self, id: &ResourceId, entry: &Entry) -> pb::Resource {
        let needing = self.needing.get(id);
        let requires = needing.map_or(&[][..], |needing| &needing.capabilities);
        pb::Resource {
            kind: id.0 as u32,
            key: id.1.to_string(),
            hash: entry.hash.0.to_vec(),
            body: entry.body.clone(),
            requires: requires.iter().map(|&name| name.to_owned()).collect(),
        }
    }

    /// Every stream has passed `generation`: tombstones up to it go, and bodies that were replaced.
    pub fn forget(&mut self, generation: Generation) {
        self.bases.retain(|_, base| base.until > generation);
        let keep = self.removed.len();
        self.removed.retain(|id, at| {
            let keep = *at > generation;
            if !keep {
                self.changed.remove(&(*at, id.clone()));
            }
            keep
        });
        if self.removed.len() < keep {
            self.forgotten = self.forgotten.max(generation);
        }
    }
}

impl Transaction {
    /// Has those resources travel as patches for which that is worth it.
    pub fn patch(&mut self, bases: Bases) {
        let mut bases = bases.0.into_iter();
        let patches = &mut self.patch;
        self.upsert.retain(|resource| {
            let base = bases.next().flatten();
            let patch = base.and_then(|base| base.patch_to(resource));
            let is_whole = patch.is_none();
            patches.extend(patch);
            is_whole
        });
    }

    /// The transaction as messages of at most [`limits::CHUNK_BYTES`]; there is always at least one.
    pub fn into_chunks(self, number: u64, observed_unix_ns: u64) -> Vec<pb::Chunk> {
        /// What a resource takes beside key and body, generously.
        const OVERHEAD: usize = 64;
        let mut chunks = vec![pb::Chunk {
            transaction: number,
            full: self.full,
            base_digest: self.base.to_bytes().to_vec(),
            ..pb::Chunk::default()
        }];
        let mut size = OVERHEAD;
        let mut last = |bytes: usize| -> usize {
            size += bytes + OVERHEAD;
            if size > limits::CHUNK_BYTES {
                size = bytes + OVERHEAD;
                let sequence = chunks.len() as u32;
                chunks.push(pb::Chunk {
                    transaction: number,
                    sequence,
                    ..pb::Chunk::default()
                });
            }
            chunks.len() - 1
        };
        let places: Vec<usize> = self
            .upsert
            .iter()
            .map(|r| last(r.key.len() + r.body.len()))
            .collect();
        let patches = self.patch.iter();
        let patches: Vec<usize> = patches.map(|p| last(p.key.len() + p.patch.len())).collect();
        let removes: Vec<usize> = self.remove.iter().map(|n| last(n.key.len())).collect();
        for (at, resource) in places.into_iter().zip(self.upsert) {
            chunks[at].upsert.push(resource);
        }
        for (at, patch) in patches.into_iter().zip(self.patch) {
            chunks[at].patch.push(patch);
        }
        for (at, name) in removes.into_iter().zip(self.remove) {
            chunks[at].remove.push(name);
        }
        if let Some(last) = chunks.last_mut() {
            last.commit = true;
            last.result_digest = self.result.digest.to_bytes().to_vec();
            last.observed_unix_ns = observed_unix_ns;
        }
        chunks
    }
}
