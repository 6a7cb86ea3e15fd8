//! What one data plane is given in place of what it refuses, while others are given it.
//!
//! A data plane that has followed us before and refuses a new version holds all back from it. One that has come anew, of
//! another build perhaps, takes nothing from those that serve it: it alone is given the version before that, if there is
//! one; else, for a Route, one that answers 500, so that its requests do not come to a wider Route of somebody else; and
//! nothing where it refuses that as well. Only a Tenant cannot be gone without: the data plane stays at what it has.

use super::ResourceId;
use bytes::Bytes;
use model::{Action, Route, Rule};
use snapshot::{Digest, Hash, Kind, Store, pb};
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

/// What a closed rule answers.
const PLUGIN_ERROR: &str = "plugin_error";

/// By resource. It is empty nearly always, and cloned with its data plane.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Lacks(Arc<BTreeMap<ResourceId, Lack>>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lack {
    /// The body that the data plane refuses.
    pub refused: Hash,
    /// In its words.
    pub reason: String,
    pub instead: Instead,
}

#[derive(Clone, PartialEq, Eq)]
pub(super) enum Instead {
    /// What was accepted before.
    Older(Bytes),
    /// A Route that answers 500, with its hash.
    Closed(Hash),
    Nothing,
}

/// A body may hold secrets.
impl fmt::Debug for Instead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Older(body) => write!(f, "Older({} bytes)", body.len()),
            Self::Closed(hash) => write!(f, "Closed({hash:?})"),
            Self::Nothing => f.write_str("Nothing"),
        }
    }
}

impl Lack {
    /// The version before, where it is given.
    pub(super) fn older(&self) -> Option<&Bytes> {
        match &self.instead {
            Instead::Older(body) => Some(body),
            _ => None,
        }
    }

    fn hash(&self) -> Option<Hash> {
        match &self.instead {
            Instead::Older(body) => Some(Hash::of(body)),
            Instead::Closed(hash) => Some(*hash),
            Instead::Nothing => None,
        }
    }

    /// What is given in place of a body.
    fn body(&self, refused: &[u8]) -> Option<Bytes> {
        match &self.instead {
            Instead::Older(body) => Some(body.clone()),
            Instead::Closed(_) => closed(refused),
            Instead::Nothing => None,
        }
    }
}

impl Lacks {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn get(&self, id: &ResourceId) -> Option<&Lack> {
        self.0.get(id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&ResourceId, &Lack)> {
        self.0.iter()
    }

    /// Takes a refusal of a body, or of what was given instead. `older`: what was accepted before. Returns whether
    /// anything else can be given.
    pub(super) fn refuse(
        &mut self,
        id: &ResourceId,
        body: &Bytes,
        older: Option<Bytes>,
        reason: String,
    ) -> bool {
        let refused = Hash::of(body);
        let before = self.get(id).filter(|lack| lack.refused == refused);
        let before = before.map(|lack| &lack.instead);
        let or_closed = || match id.0 {
            Kind::Route => closed(body).map_or(Instead::Nothing, |b| Instead::Closed(Hash::of(&b))),
            _ => Instead::Nothing,
        };
        let instead = match before {
            None => older.map_or_else(or_closed, Instead::Older),
            Some(Instead::Older(_)) => or_closed(),
            Some(Instead::Closed(_)) => Instead::Nothing,
            Some(Instead::Nothing) => return false,
        };
        if instead == Instead::Nothing && id.0 == Kind::Tenant {
            // Its hosts would be anybody's: what the data plane has stays as it is.
            return false;
        }
        let lack = Lack {
            refused,
            reason,
            instead,
        };
        Arc::make_mut(&mut self.0).insert(id.clone(), lack);
        true
    }

    /// Those of bodies that are present: another one gets its chance.
    pub(super) fn present(&self, store: &Store) -> Self {
        let is_present =
            |(id, lack): &(&ResourceId, &Lack)| store.hash_of(id) == Some(lack.refused);
        if self.iter().all(|entry| is_present(&entry)) {
            return self.clone();
        }
        let present = self.iter().filter(is_present);
        present
            .map(|(id, lack)| (id.clone(), lack.clone()))
            .collect()
    }

    /// The digest of what the data plane holds where others hold what has this one.
    pub(super) fn digest(&self, of_others: Digest) -> Digest {
        let mut digest = of_others;
        for ((kind, key), lack) in self.iter() {
            digest.remove(*kind as u32, key, lack.refused);
            if let Some(instead) = lack.hash() {
                digest.add(*kind as u32, key, instead);
            }
        }
        digest
    }

    /// Replaces in a transaction what the data plane refuses, or takes it out.
    pub(super) fn replace(&self, upsert: &mut Vec<pb::Resource>) {
        if self.is_empty() {
            return;
        }
        let named = self.iter();
        let named = named.map(|((kind, key), lack)| ((*kind as u32, &**key), lack));
        let by_name: HashMap<(u32, &str), &Lack> = named.collect();
        upsert.retain_mut(|resource| {
            let lack = by_name.get(&(resource.kind, &*resource.key)).copied();
            let Some(lack) = lack else {
                return true;
            };
            let Some(body) = lack.body(&resource.body) else {
                return false;
            };
            resource.hash = Hash::of(&body).0.to_vec();
            resource.body = body;
            true
        });
    }
}

impl FromIterator<(ResourceId, Lack)> for Lacks {
    fn from_iter<I: IntoIterator<Item = (ResourceId, Lack)>>(all: I) -> Self {
        Self(Arc::new(all.into_iter().collect()))
    }
}

/// The body of a Route for the same requests that does nothing but answer 500.
fn closed(route: &[u8]) -> Option<Bytes> {
    let mut route: Route = snapshot::decode(route).ok()?;
    let rules = route.rules.into_iter().map(|rule| {
        let action = Action::Closed {
            code: PLUGIN_ERROR.to_owned(),
        };
        Rule {
            name: rule.name,
            precedence: rule.precedence,
            hides_methods: rule.hides_methods,
            ..Rule::new(rule.matches, action)
        }
    });
    route.rules = rules.collect();
    snapshot::encode(&route).ok().map(Bytes::from)
}
