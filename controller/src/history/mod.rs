//! Which configurations there were, and the way back to one of them (features.md D7).
//!
//! Every replica remembers its last revisions and how the objects that changed were before ([`History`]). A rollback is
//! an object of the cluster ([`store`]), so that all replicas agree and one that starts anew does, too: it says which
//! objects are held as they were, and how that is. All other objects, and all endpoints and certificates, are followed
//! as ever.

mod rollback;
pub mod store;

pub use rollback::{InvalidRollback, Rollback};

use crate::world::{Object, ObjectId};
use k8s_openapi::jiff::Timestamp;
use prometheus::{IntCounter, IntGauge};
use serde_json::{Value, json};
use snapshot::Revision;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// Entries that are kept.
const ENTRIES: usize = 128;
/// Former versions of objects that are kept with them, in all.
const VERSIONS: usize = 10_000;
/// Changed objects that an entry names.
const NAMED: usize = 100;
/// Revisions whose entry is known: endpoints come and go without one.
const SEEN: usize = 4096;

/// See the module. Belongs to the owner of the world.
pub struct History {
    entries: VecDeque<Entry>,
    /// Which entry a revision belongs to, oldest first.
    seen: VecDeque<(Revision, u64)>,
    /// Of each group.
    latest: BTreeMap<Arc<str>, Revision>,
    /// How objects were that have changed since the last entry.
    pending: BTreeMap<ObjectId, Option<Object>>,
    /// Others that have.
    noted: BTreeSet<ObjectId>,
    versions: usize,
    next: u64,
    kept: IntGauge,
    dropped: IntCounter,
}

/// A change of the configuration.
struct Entry {
    number: u64,
    /// Seconds since the epoch.
    at: i64,
    /// Of the groups of data planes that it changed.
    revisions: BTreeMap<Arc<str>, Revision>,
    /// At most [`NAMED`].
    changes: Vec<(ObjectId, &'static str)>,
    changed: usize,
    /// How its objects were before.
    before: BTreeMap<ObjectId, Option<Object>>,
}

/// What a change of the configuration was.
#[derive(Clone, Debug)]
pub struct Changed {
    /// Of the groups of data planes that it changed.
    pub revisions: BTreeMap<Arc<str>, Revision>,
    /// At most [`NAMED`] objects of those that were `added`, `changed` or `removed`.
    pub objects: Vec<(ObjectId, &'static str)>,
    /// How many there were.
    pub count: usize,
}

impl History {
    /// `kept` shows how many entries there are, `dropped` counts those that have made room.
    pub fn new(kept: IntGauge, dropped: IntCounter) -> Self {
        Self {
            entries: VecDeque::new(),
            seen: VecDeque::new(),
            latest: BTreeMap::new(),
            pending: BTreeMap::new(),
            noted: BTreeSet::new(),
            versions: 0,
            next: 0,
            kept,
            dropped,
        }
    }

    /// An object of the configuration changes that was so before; `None`: it was not there.
    pub fn note(&mut self, id: ObjectId, before: Option<Object>) {
        self.pending.entry(id).or_insert(before);
    }

    /// Another one changes.
    pub fn note_other(&mut self, id: ObjectId) {
        self.noted.insert(id);
    }

    /// Something has been published at `at` (seconds since the epoch): the groups that it changed have these revisions
    /// now. `by_objects`: more than endpoints. Returns whether that made an entry.
    pub fn published(
        &mut self,
        at: i64,
        by_objects: bool,
        revisions: Vec<(Arc<str>, Revision)>,
        is_there: impl Fn(&ObjectId) -> bool,
    ) -> bool {
        let others = std::mem::take(&mut self.noted);
        let mut changed = BTreeMap::new();
        for (group, revision) in revisions {
            if self.latest.insert(Arc::clone(&group), revision) != Some(revision) {
                changed.insert(group, revision);
            }
        }
        let makes_entry = self.entries.is_empty() || (by_objects && !changed.is_empty());
        if makes_entry {
            let before = std::mem::take(&mut self.pending);
            self.versions += before.len();
            let own = before.iter().map(|(id, before)| {
                let how = match (before, is_there(id)) {
                    (None, _) => "added",
                    (_, false) => "removed",
                    _ => "changed",
                };
                (id.clone(), how)
            });
            let others = others.into_iter().map(|id| (id, "changed"));
            let count = before.len() + others.len();
            let entry = Entry {
                number: self.next,
                at,
                revisions: changed.clone(),
                changes: own.chain(others).take(NAMED).collect(),
                changed: count,
                before,
            };
            self.entries.push_back(entry);
            self.next += 1;
        }
        let number = self.next.saturating_sub(1);
        self.seen
            .extend(changed.into_values().map(|revision| (revision, number)));
        let surplus = self.seen.len().saturating_sub(SEEN);
        self.seen.drain(..surplus);
        while self.entries.len() > ENTRIES || (self.versions > VERSIONS && self.entries.len() > 1) {
            if let Some(gone) = self.entries.pop_front() {
                self.versions -= gone.before.len();
                self.dropped.inc();
            }
        }
        self.kept
            .set(i64::try_from(self.entries.len()).unwrap_or(i64::MAX));
        makes_entry
    }

    /// What changed last; `None`: nothing since the beginning.
    pub fn last(&self) -> Option<Changed> {
        let entry = self.entries.back().filter(|entry| entry.number > 0)?;
        Some(Changed {
            revisions: entry.revisions.clone(),
            objects: entry.changes.clone(),
            count: entry.changed,
        })
    }

    /// What the last change of the configuration of a group made of it, endpoints apart.
    pub fn revision_of(&self, group: &str) -> Option<Revision> {
        let mut entries = self.entries.iter().rev();
        entries.find_map(|entry| entry.revisions.get(group).copied())
    }

    /// How the objects were at a revision that have changed since; `None`: it is not remembered.
    pub fn back_to(&self, revision: Revision) -> Option<BTreeMap<ObjectId, Option<Object>>> {
        let mut seen = self.seen.iter().rev();
        let number = seen.find_map(|(one, number)| (*one == revision).then_some(*number))?;
        let first = self.entries.front()?.number;
        if number < first {
            return None;
        }
        let mut objects = BTreeMap::new();
        let later = self.entries.iter().filter(|entry| entry.number > number);
        for before in later.map(|entry| &entry.before).chain([&self.pending]) {
            for (id, version) in before {
                objects.entry(id.clone()).or_insert_with(|| version.clone());
            }
        }
        Some(objects)
    }

    /// For the admin port, the newest first.
    pub fn to_json(&self, shared: &str) -> Value {
        let entries = self.entries.iter().rev().map(|entry| {
            let changes = entry.changes.iter().map(|(id, how)| {
                json!({"kind": id.kind.name(), "namespace": id.namespace, "name": id.name, "change": how})
            });
            let mut of_gateways = entry.revisions.clone();
            let revision = of_gateways.remove(shared);
            let of_gateways = of_gateways.iter();
            let of_gateways = of_gateways.map(|(group, r)| (group.to_string(), r.to_string().into()));
            json!({
                "time": Timestamp::from_second(entry.at).unwrap_or_default().to_string(),
                "revision": revision.map(|r| r.to_string()),
                "gateways": of_gateways.collect::<serde_json::Map<String, Value>>(),
                "changes": changes.collect::<Vec<_>>(),
                "changed": entry.changed,
            })
        });
        entries.collect::<Vec<_>>().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history() -> History {
        let gauge = IntGauge::new("kept", "kept").unwrap();
        let mut history = History::new(gauge, IntCounter::new("dropped", "dropped").unwrap());
        assert!(history.published(0, true, at(0), |_| true), "the beginning");
        history
    }

    fn at(revision: u64) -> Vec<(Arc<str>, Revision)> {
        vec![("s".into(), Revision(revision))]
    }

    fn route(name: &str, generation: i64) -> Object {
        let value = json!({"apiVersion": "diolkos.io/v1alpha1", "kind": "Route",
            "metadata": {"namespace": "a", "name": name, "generation": generation}, "spec": {"rules": []}});
        Object::from_json(&value).unwrap().unwrap()
    }

    #[test]
    fn the_way_back_is_how_objects_were() {
        let mut history = history();
        let (first, second, other) = (route("x", 1), route("x", 2), route("y", 1));
        history.note(first.id.clone(), None);
        assert!(history.published(1, true, at(1), |_| true));
        // Nothing that data planes are sent, and then endpoints.
        history.note(first.id.clone(), Some(first.clone()));
        assert!(!history.published(2, true, at(1), |_| true));
        assert!(!history.published(3, false, at(2), |_| true));
        history.note(first.id.clone(), Some(second));
        history.note(other.id.clone(), Some(other.clone()));
        assert!(history.published(4, true, at(3), |id| *id != other.id));

        let back = |revision| history.back_to(Revision(revision)).unwrap();
        assert_eq!(back(0)[&first.id], None);
        let since_first = BTreeMap::from([
            (first.id.clone(), Some(first)),
            (other.id.clone(), Some(other.clone())),
        ]);
        assert_eq!(back(1), since_first);
        assert_eq!(back(2), since_first, "endpoints are none of it");
        assert!(back(3).is_empty());
        assert_eq!(history.back_to(Revision(9)), None);

        let shown = history.to_json("s");
        assert_eq!(shown[0]["revision"], "000000000003");
        assert_eq!(
            shown[0]["changes"][1],
            json!({"kind": "Route", "namespace": "a", "name": "y", "change": "removed"})
        );
        assert_eq!(shown[1]["changes"][0]["change"], "added");
        assert_eq!(history.revision_of("s"), Some(Revision(3)));
    }

    #[test]
    fn old_entries_make_room() {
        let mut history = history();
        for n in 1..=200 {
            history.note(route("x", 0).id, Some(route("x", n)));
            history.published(n, true, at(n as u64), |_| true);
        }
        assert_eq!(history.kept.get(), ENTRIES as i64);
        assert_eq!(history.dropped.get(), 201 - ENTRIES as u64);
        assert_eq!(history.versions, ENTRIES);
        assert_eq!(history.back_to(Revision(10)), None);
        let back = history.back_to(Revision(150)).unwrap();
        assert_eq!(back.into_values().next().unwrap(), Some(route("x", 151)));
    }
}
