//! What translation gives, as it travels.

use crate::fill::fill;
use bytes::Bytes;
use model::{EndpointShard, Model};
use snapshot::{Kind, ResourceId, Section};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;

/// The resources by kind and key. They are kept as encoded, which takes a fraction of the memory of parsed ones and is
/// shared with what is sent; the few that somebody asks for are decoded for them.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Resources(BTreeMap<ResourceId, Bytes>);

impl Resources {
    /// Returns whether that changed anything.
    pub(super) fn put(&mut self, id: &ResourceId, body: &Bytes) -> bool {
        match self.0.entry(id.clone()) {
            Entry::Occupied(old) if old.get() == body => return false,
            Entry::Occupied(mut old) => drop(old.insert(body.clone())),
            Entry::Vacant(place) => drop(place.insert(body.clone())),
        }
        true
    }

    pub(super) fn take(&mut self, id: &ResourceId) {
        self.0.remove(id);
    }

    pub(super) fn fill(&mut self) {
        fill(&mut self.0);
    }

    /// As it travels.
    pub(super) fn body(&self, id: &ResourceId) -> Option<Bytes> {
        self.0.get(id).cloned()
    }

    pub fn contains(&self, kind: Kind, key: &str) -> bool {
        self.0.contains_key(&(kind, key.into()))
    }

    pub fn get<S: Section>(&self, key: &str) -> Option<S> {
        decoded(self.0.get(&(S::KIND, key.into()))?)
    }

    /// All of one kind, by their keys.
    pub fn all<S: Section>(&self) -> impl Iterator<Item = (&str, S)> {
        self.from(S::KIND, "")
            .filter_map(|(key, body)| Some((key, decoded(body)?)))
    }

    /// How many there are of one kind.
    pub fn count(&self, kind: Kind) -> usize {
        self.from(kind, "").count()
    }

    /// The endpoint shards of a port of a Service.
    pub fn shards(&self, service: &str) -> impl Iterator<Item = EndpointShard> {
        let prefix = format!("{service}/");
        self.from(Kind::EndpointShard, &prefix)
            .take_while(move |(key, _)| key.starts_with(&prefix))
            .filter_map(|(_, body)| decoded(body))
    }

    /// Everything, parsed.
    pub fn model(&self) -> Model {
        Model {
            listeners: self.parsed(),
            routes: self.parsed(),
            upstreams: self.parsed(),
            shards: self.parsed(),
            plugins: self.parsed(),
            certificates: self.parsed(),
            tenants: self.parsed(),
        }
    }

    fn parsed<S: Section>(&self) -> BTreeMap<String, S> {
        let all = self.all();
        all.map(|(key, item)| (key.to_owned(), item)).collect()
    }

    fn from<'a>(
        &'a self,
        kind: Kind,
        key: &str,
    ) -> impl Iterator<Item = (&'a str, &'a Bytes)> + use<'a> {
        self.0
            .range((kind, key.into())..)
            .take_while(move |((of, _), _)| *of == kind)
            .map(|((_, key), body)| (&**key, body))
    }
}

/// Names alone: bodies hold private keys.
impl fmt::Debug for Resources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
impl Resources {
    pub(crate) fn of(model: &Model) -> Self {
        let all = snapshot::sections::bodies(model);
        let all = all.map(|(kind, key, body)| ((kind, key.into()), body.unwrap().into()));
        Self(all.collect())
    }
}

/// What was encoded here can be decoded: `crates/snapshot/tests/roundtrip.rs`.
fn decoded<S: Section>(body: &Bytes) -> Option<S> {
    snapshot::decode(body).ok()
}
