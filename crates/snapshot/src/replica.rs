//! The receiving side: chunks are staged, checked as a whole, and committed in one step.

use crate::{Buckets, CAPABILITIES, Capability, Changes, Digest, Hash, Inventory, Kind};
use crate::{patch, pb};
use std::collections::{BTreeMap, HashMap};

/// Bytes of bodies that one transaction may bring.
const MAX_STAGED_BYTES: usize = 512 << 20;

/// What a data plane holds, by hash; most bodies live in what was compiled from them.
pub struct Replica {
    /// In a tree, which has no room to spare: of all of this there is much.
    held: BTreeMap<Id, Hash>,
    /// What patches are made of: bodies of those kinds that come as patches.
    bodies: BTreeMap<Id, Box<[u8]>>,
    digest: Digest,
    incoming: Option<Incoming>,
    capabilities: &'static [Capability],
}

/// The hash of a resource's name.
type Id = Hash;

struct Incoming {
    transaction: u64,
    next: u32,
    bytes: usize,
    chunks: Vec<pb::Chunk>,
}

/// A complete and consistent transaction, not yet in effect.
pub struct Staged {
    pub transaction: u64,
    /// Everything that was held before is gone.
    full: bool,
    /// Empty where they have been taken by parts.
    pub changes: Changes,
    pub digest: Digest,
    /// When the change was seen by the controller, in nanoseconds since the epoch; 0: unknown.
    pub observed_unix_ns: u64,
    /// The chunks as they came, for the last-good copy, with whole bodies in place of patches.
    pub chunks: Vec<pb::Chunk>,
    held: HashMap<Id, Option<Hash>>,
    bodies: HashMap<Id, Option<Box<[u8]>>>,
}

/// Where a replica stands after a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Applied {
    pub transaction: u64,
    pub digest: Digest,
    /// Resources held.
    pub resources: usize,
}

/// Why a transaction cannot be staged. What was held before stays.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// It does not continue what is held: the server has to send everything.
    #[error("out of step: {0}")]
    Resync(String),
    /// It holds resources that this build cannot read.
    #[error("{} resources cannot be used", .rejected.len())]
    Rejected {
        transaction: u64,
        rejected: Vec<pb::Rejection>,
    },
}

fn resync(why: impl Into<String>) -> ApplyError {
    ApplyError::Resync(why.into())
}

impl Default for Replica {
    fn default() -> Self {
        Self::knowing(CAPABILITIES)
    }
}

impl Replica {
    /// One that may hold what needs these.
    pub fn knowing(capabilities: &'static [Capability]) -> Self {
        Self {
            held: BTreeMap::new(),
            bodies: BTreeMap::new(),
            digest: Digest::default(),
            incoming: None,
            capabilities,
        }
    }

    /// What of that a resource needs is not known here: fields that would be passed over.
    fn lacks<'a>(&self, resource: &'a pb::Resource) -> Option<&'a String> {
        let knows = |name: &String| self.capabilities.iter().any(|c| c.name == name);
        resource.requires.iter().find(|name| !knows(name))
    }

    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// What is held, for a controller.
    pub fn inventory(&self) -> Inventory {
        let mut buckets = Buckets::for_resources(self.held.len());
        self.held
            .iter()
            .for_each(|(id, hash)| buckets.add(*id, *hash));
        Inventory {
            digest: self.digest,
            buckets,
        }
    }

    /// Number of resources held.
    pub fn len(&self) -> usize {
        self.held.len()
    }

    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Takes the next chunk; gives the transaction when it is complete.
    ///
    /// # Errors
    /// [`ApplyError`]; the transaction is dropped as a whole.
    pub fn receive(&mut self, chunk: pb::Chunk) -> Result<Option<Staged>, ApplyError> {
        let mut all = Changes::default();
        let staged = self.receive_by_parts(chunk, &mut |part| all.append(part))?;
        Ok(staged.map(|staged| Staged {
            changes: all,
            ..staged
        }))
    }

    /// The same, but what a complete transaction changes goes to `take` part by part, so that not all of it is in
    /// memory at once. It means nothing where this ends in an error.
    ///
    /// # Errors
    /// As [`Self::receive`].
    pub fn receive_by_parts(
        &mut self,
        chunk: pb::Chunk,
        take: &mut dyn FnMut(Changes),
    ) -> Result<Option<Staged>, ApplyError> {
        let chunk = self.patched(chunk)?;
        let bytes: usize = chunk.upsert.iter().map(|r| r.body.len()).sum();
        let incoming = match (self.incoming.take(), chunk.sequence) {
            (_, 0) => Incoming {
                transaction: chunk.transaction,
                next: 0,
                bytes: 0,
                chunks: Vec::new(),
            },
            (Some(i), n) if i.transaction == chunk.transaction && i.next == n => i,
            _ => return Err(resync("a chunk is missing")),
        };
        let mut incoming = incoming;
        incoming.next += 1;
        incoming.bytes += bytes;
        if incoming.bytes > MAX_STAGED_BYTES {
            return Err(resync("the transaction is too large"));
        }
        let commit = chunk.commit;
        incoming.chunks.push(chunk);
        if !commit {
            self.incoming = Some(incoming);
            return Ok(None);
        }
        self.stage(incoming, take).map(Some)
    }

    /// The same with whole bodies in place of patches.
    fn patched(&self, mut chunk: pb::Chunk) -> Result<pb::Chunk, ApplyError> {
        for patch in std::mem::take(&mut chunk.patch) {
            let id = Hash::of_name(patch.kind, &patch.key);
            let held = self.held.get(&id).copied();
            let base = self.bodies.get(&id);
            let base = base.filter(|_| held.is_some() && held == Hash::from_slice(&patch.base));
            let base = base.ok_or_else(|| resync("a patch of what is not held"))?;
            chunk
                .upsert
                .push(patch::apply(base, patch).map_err(resync)?);
        }
        Ok(chunk)
    }

    fn stage(
        &self,
        incoming: Incoming,
        take: &mut dyn FnMut(Changes),
    ) -> Result<Staged, ApplyError> {
        let (Some(first), Some(last)) = (incoming.chunks.first(), incoming.chunks.last()) else {
            return Err(resync("an empty transaction"));
        };
        let full = first.full;
        if !full && Digest::from_slice(&first.base_digest) != Some(self.digest) {
            return Err(resync("another base than what is held"));
        }
        let mut digest = if full { Digest::default() } else { self.digest };
        take(Changes {
            full,
            ..Changes::default()
        });
        let mut held: HashMap<Id, Option<Hash>> = HashMap::new();
        let mut bodies = HashMap::new();
        let mut rejected = Vec::new();
        let old = |held: &HashMap<_, Option<Hash>>, id: &Id| match held.get(id) {
            Some(staged) => *staged,
            None if full => None,
            None => self.held.get(id).copied(),
        };
        for chunk in &incoming.chunks {
            let mut changes = Changes::default();
            for r in &chunk.upsert {
                let id = Hash::of_name(r.kind, &r.key);
                let hash = Hash::of(&r.body);
                if Hash::from_slice(&r.hash) != Some(hash) {
                    return Err(resync("a body does not have its hash"));
                }
                let reject = |reason: String| pb::Rejection {
                    kind: r.kind,
                    key: r.key.clone(),
                    reason,
                };
                match (Kind::from_number(r.kind), self.lacks(r)) {
                    (None, _) => {
                        rejected.push(reject("this data plane does not know the kind".into()));
                    }
                    (_, Some(name)) => {
                        let reason = format!("this data plane lacks the capability `{name}`");
                        rejected.push(reject(reason));
                    }
                    (Some(kind), None) => {
                        if let Err(e) = changes.upsert(kind, r.key.clone(), &r.body) {
                            rejected.push(reject(e.to_string()));
                        }
                    }
                }
                if let Some(hash) = old(&held, &id) {
                    digest.remove(r.kind, &r.key, hash);
                }
                digest.add(r.kind, &r.key, hash);
                held.insert(id, Some(hash));
                if patch::is_patched(r.kind) {
                    bodies.insert(id, Some(Box::from(&*r.body)));
                }
            }
            take(changes);
        }
        let mut changes = Changes::default();
        for n in incoming.chunks.iter().flat_map(|c| &c.remove) {
            let id = Hash::of_name(n.kind, &n.key);
            if let Some(hash) = old(&held, &id) {
                digest.remove(n.kind, &n.key, hash);
            }
            if let Some(kind) = Kind::from_number(n.kind) {
                changes.remove(kind, n.key.clone());
            }
            held.insert(id, None);
            if patch::is_patched(n.kind) {
                bodies.insert(id, None);
            }
        }
        take(changes);
        if Digest::from_slice(&last.result_digest) != Some(digest) {
            return Err(resync("the result has another digest"));
        }
        let (transaction, observed_unix_ns) = (incoming.transaction, last.observed_unix_ns);
        if !rejected.is_empty() {
            return Err(ApplyError::Rejected {
                transaction,
                rejected,
            });
        }
        Ok(Staged {
            transaction,
            full,
            changes: Changes::default(),
            digest,
            observed_unix_ns,
            chunks: incoming.chunks,
            held,
            bodies,
        })
    }

    /// The transaction is in effect.
    pub fn commit(&mut self, staged: Staged) -> Applied {
        if staged.full {
            let held = staged.held.into_iter();
            // Made at once, its nodes are full.
            self.held = held.filter_map(|(id, hash)| Some((id, hash?))).collect();
            let bodies = staged.bodies.into_iter();
            self.bodies = bodies.filter_map(|(id, body)| Some((id, body?))).collect();
        } else {
            for (id, body) in staged.bodies {
                match body {
                    Some(body) => self.bodies.insert(id, body),
                    None => self.bodies.remove(&id),
                };
            }
            for (id, hash) in staged.held {
                match hash {
                    Some(hash) => self.held.insert(id, hash),
                    None => self.held.remove(&id),
                };
            }
        }
        self.digest = staged.digest;
        Applied {
            transaction: staged.transaction,
            digest: self.digest,
            resources: self.held.len(),
        }
    }
}
