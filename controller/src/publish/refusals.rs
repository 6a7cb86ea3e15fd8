//! What data planes refuse: what all go back to because of it, and when it gets another chance.

use super::lacks::{Lacks, Why};
use super::{Accepted, DataPlane, Inner, REASON, ResourceId, printable};
use crate::report::Programmed;
use bytes::Bytes;
use snapshot::{Generation, Hash, Kind, pb};
use std::collections::BTreeSet;

/// A body that is kept back because a data plane has refused it.
pub(super) struct Rejected {
    pub body: Bytes,
    /// The generation in which it was sent.
    pub since: Generation,
    pub refusal: Refusal,
    /// Data planes connected here that have refused it.
    pub by: BTreeSet<u64>,
}

/// As replicas tell each other of it.
#[derive(Clone, PartialEq)]
pub(super) struct Refusal {
    pub hash: Hash,
    pub reason: String,
    /// What serves in its place.
    pub restored: Bytes,
}

/// What a refusal has led to.
#[derive(Default)]
pub(super) struct Consequence {
    /// All are given something else.
    pub serves: bool,
    /// The one that refuses is.
    pub lacks: bool,
}

impl DataPlane {
    /// Why it goes without one of these resources. `present`: what the hash of a body is where it is connected.
    pub(super) fn lacking(
        &self,
        resources: &[&ResourceId],
        present: impl Fn(&ResourceId) -> Option<Hash>,
    ) -> Option<Programmed> {
        if let Some(why) = &self.turned_away {
            let text = format!("data plane {} is turned away: {why}", self.node_id);
            return Some(Programmed::TooOld(text));
        }
        if self.lacks.is_empty() {
            return None;
        }
        let mut lacking = resources.iter().filter_map(|id| {
            let lack = self.lacks.get(id)?;
            (present(id) == Some(lack.refused)).then_some(&lack.why)
        });
        let (why, node) = (lacking.next()?, &self.node_id);
        Some(match why {
            Why::Refuses(_) => Programmed::Lacking(format!("data plane {node} refuses it: {why}")),
            Why::TooOld(_) => {
                Programmed::TooOld(format!("data plane {node} is too old for it: {why}"))
            }
        })
    }
}

impl Inner {
    /// What all data planes have is what to go back to, and no longer what was before it.
    pub(super) fn forget_accepted(&mut self) {
        let Some(passed) = self.passed() else {
            return;
        };
        let (peers, store) = (&self.peers, &self.store);
        let lacks = |plane: &DataPlane, id: &ResourceId| {
            let lack = plane.lacks.get(id);
            lack.is_some_and(|lack| store.hash_of(id) == Some(lack.refused))
        };
        self.accepted
            .retain(|id, a| a.since > passed || peers.values().all(|plane| lacks(plane, id)));
    }

    /// A data plane has gone. Returns whether anything else is served now.
    pub(super) fn leave(&mut self, peer: u64) -> bool {
        if let Some(plane) = self.peers.remove(&peer) {
            self.missed(&plane.node_id, plane.acknowledged);
        }
        for rejected in self.rejected.values_mut() {
            rejected.by.remove(&peer);
        }
        self.forget_accepted();
        self.lift()
    }

    /// Takes what a data plane refuses of a transaction.
    pub(super) fn reject(
        &mut self,
        peer: u64,
        rejected: &[pb::Rejection],
        transaction: Generation,
    ) -> Consequence {
        let Some(plane) = self.peers.get(&peer) else {
            return Consequence::default();
        };
        let mut lacks = plane.lacks.clone();
        let understands = |kind, body: &[u8]| plane.understands(&self.store, kind, body);
        // It has had what was before.
        let follows = plane.acknowledged.is_some();
        let mut consequence = Consequence::default();
        let mut restore = Vec::new();
        for rejection in rejected {
            let Some(kind) = Kind::from_number(rejection.kind) else {
                continue;
            };
            let id: ResourceId = (kind, rejection.key.as_str().into());
            let (Some(body), Some(since)) = (self.store.get(&id), self.store.generation_of(&id))
            else {
                continue;
            };
            let (body, reason) = (body.clone(), printable(&rejection.reason, REASON));
            let goes_back = follows && lacks.get(&id).is_none();
            if since > transaction {
                // It has changed since, and the new body gets its own chance; or another one was first to refuse it.
                let same = self.rejected.get_mut(&id);
                if let Some(same) = same.filter(|r| goes_back && r.since <= transaction) {
                    same.by.insert(peer);
                }
                continue;
            }
            match self.older(&lacks, &id) {
                Some(older) if goes_back => {
                    let refusal = Refusal {
                        hash: Hash::of(&body),
                        reason,
                        restored: older.clone(),
                    };
                    let rejected = Rejected {
                        body,
                        since,
                        refusal,
                        by: BTreeSet::from([peer]),
                    };
                    self.accepted.remove(&id);
                    self.rejected.insert(id.clone(), rejected);
                    restore.push((id.0, id.1, Some(older)));
                }
                older => {
                    let older = older.filter(|body| understands(id.0, body));
                    consequence.lacks |= lacks.refuse(&id, &body, older, reason, understands);
                    // Whoever takes neither version holds none back from others.
                    if let Some(rejected) = self.rejected.get_mut(&id) {
                        rejected.by.remove(&peer);
                    }
                }
            }
        }
        if let Some(plane) = self.peers.get_mut(&peer) {
            plane.lacks = lacks;
        }
        consequence.serves = self.store.update(restore) | self.lift();
        consequence
    }

    /// The version that was accepted before one that is refused.
    pub(super) fn older(&self, lacks: &Lacks, id: &ResourceId) -> Option<Bytes> {
        let lack = lacks.get(id);
        let accepted = self.accepted.get(id).and_then(|a| a.body.as_ref());
        let refused = [self.store.hash_of(id), lack.map(|lack| lack.refused)];
        let own = lack.and_then(|lack| lack.older());
        let mut older = own.into_iter().chain(accepted);
        older
            .find(|body| !refused.contains(&Some(Hash::of(body))))
            .cloned()
    }

    /// What nobody who is connected refuses any more gets another chance. Returns whether there was any.
    pub(super) fn lift(&mut self) -> bool {
        let next = self.store.cursor().generation + 1;
        let stands = |(id, r): &(&ResourceId, &Rejected)| {
            !r.by.is_empty() || self.refused_elsewhere(id, r.refusal.hash).is_some()
        };
        let lifted = self.rejected.iter().filter(|entry| !stands(entry));
        let lifted: Vec<ResourceId> = lifted.map(|(id, _)| id.clone()).collect();
        let mut bodies = Vec::with_capacity(lifted.len());
        for id in lifted {
            let Some(rejected) = self.rejected.remove(&id) else {
                continue;
            };
            let waiting = Accepted {
                body: Some(rejected.refusal.restored),
                since: next,
            };
            self.accepted.insert(id.clone(), waiting);
            bodies.push((id.0, id.1, Some(rejected.body)));
        }
        self.store.update(bodies)
    }

    /// Resources that some data planes alone go without, with their words.
    pub(super) fn lacking(&self) -> impl Iterator<Item = (ResourceId, String)> {
        let here = self.peers.values().filter(|plane| !plane.draining);
        let here = here.flat_map(|plane| plane.lacks.iter());
        let here = here.filter(|(id, lack)| self.store.hash_of(id) == Some(lack.refused));
        let all = here.chain(self.lacking_elsewhere());
        all.map(|(id, lack)| (id.clone(), lack.why.to_string()))
    }
}
