//! Which Secrets and ConfigMaps something refers to, and at which version their values are held.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::reader::Wishes;
use crate::world::{ObjectId, Values};

/// What is referred to. Belongs to the owner of the world.
#[derive(Debug)]
pub struct Held {
    objects: BTreeMap<ObjectId, Versions>,
    wishes: Arc<Wishes>,
}

#[derive(Debug, Default)]
struct Versions {
    /// Of the metadata; `None`: there is no such object.
    seen: Option<String>,
    /// Of the values that the world has.
    read: Option<String>,
    /// Whether an attempt to read it has come to an end, or there is nothing to read.
    is_settled: bool,
}

impl Held {
    pub fn new(wishes: Arc<Wishes>) -> Self {
        Self {
            objects: BTreeMap::new(),
            wishes,
        }
    }

    pub fn contains(&self, id: &ObjectId) -> bool {
        self.objects.contains_key(id)
    }

    pub fn ids(&self) -> impl Iterator<Item = &ObjectId> {
        self.objects.keys()
    }

    /// Objects of which nothing is known yet but that they are there.
    pub fn unsettled(&self) -> impl Iterator<Item = &ObjectId> {
        let unsettled = |(id, versions): (_, &Versions)| (!versions.is_settled).then_some(id);
        self.objects.iter().filter_map(unsettled)
    }

    /// Something refers to it from now on. `seen`: the version of its metadata, where it exists.
    pub fn hold(&mut self, id: ObjectId, seen: Option<String>) {
        if self.objects.contains_key(&id) {
            return;
        }
        let is_settled = seen.is_none();
        if !is_settled {
            self.wishes.add(&id);
        }
        let versions = Versions {
            seen,
            read: None,
            is_settled,
        };
        self.objects.insert(id, versions);
    }

    /// Nothing refers to it any more. Gives what the world may keep of it.
    pub fn release(&mut self, id: &ObjectId) -> Option<Values> {
        self.wishes.forget(id);
        let version = self.objects.remove(id)?.seen?;
        Some(Values::Unread { version })
    }

    /// Its metadata has this version.
    pub fn seen(&mut self, id: &ObjectId, version: String) {
        if let Some(versions) = self.objects.get_mut(id) {
            if versions.read.as_ref() != Some(&version) {
                self.wishes.add(id);
            }
            versions.seen = Some(version);
        }
    }

    /// It is gone.
    pub fn gone(&mut self, id: &ObjectId) {
        if let Some(versions) = self.objects.get_mut(id) {
            *versions = Versions {
                is_settled: true,
                ..Versions::default()
            };
            self.wishes.forget(id);
        }
    }

    /// An attempt to read it has come to an end; `version`: that of the values which the world gets now. Returns
    /// whether anybody still wants them.
    pub fn settle(&mut self, id: &ObjectId, version: Option<&str>) -> bool {
        let Some(versions) = self.objects.get_mut(id) else {
            return false;
        };
        versions.is_settled = true;
        if versions.seen.is_none() {
            return false;
        }
        if let Some(version) = version {
            versions.read = Some(version.to_owned());
        }
        true
    }
}
