//! What one data plane is given in place of what it refuses, or is too old for (`skew`), while others are given it.
//!
//! A data plane that has followed us before and refuses a new version holds all back from it. One that has come anew, of
//! another build perhaps, takes nothing from those that serve it: it alone is given the version before that, if there is
//! one; else, for a Route, one that answers 500, so that its requests do not come to a wider Route of somebody else; and
//! nothing where it refuses that as well, or does not understand it. Only a Tenant cannot be gone without: the data plane
//! stays at what it has.

use super::ResourceId;
use bytes::Bytes;
use model::{Action, Route, Rule};
use snapshot::{Capability, Digest, Hash, Kind, Store, pb};
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
    /// The body that the data plane is not given.
    pub refused: Hash,
    pub why: Why,
    pub instead: Instead,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// It refuses it, in its words.
    Refuses(String),
    /// It lacks this capability.
    TooOld(String),
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refuses(words) => f.write_str(words),
            Self::TooOld(name) => write!(f, "it lacks the capability `{name}`"),
        }
    }
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

    /// Takes a refusal of a body, or of what was given instead. `older`: what was accepted before. `understands`: whether
    /// the data plane does, a body of a kind. Returns whether anything else can be given.
    pub(super) fn refuse(
        &mut self,
        id: &ResourceId,
        body: &Bytes,
        older: Option<Bytes>,
        reason: String,
        understands: impl Fn(Kind, &[u8]) -> bool,
    ) -> bool {
        let refused = Hash::of(body);
        let before = self.get(id).filter(|lack| lack.refused == refused);
        let before = before.map(|lack| &lack.instead);
        let or_closed = || without_older(id, body, understands);
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
        let why = Why::Refuses(reason);
        let lack = Lack {
            refused,
            why,
            instead,
        };
        Arc::make_mut(&mut self.0).insert(id.clone(), lack);
        true
    }

    /// Takes that the data plane is too old for a body, of which it lacks this capability. `older`: one that it is not too
    /// old for.
    pub(super) fn withhold(
        &mut self,
        id: &ResourceId,
        body: &Bytes,
        older: Option<Bytes>,
        capability: &str,
        understands: impl Fn(Kind, &[u8]) -> bool,
    ) {
        let or_closed = || without_older(id, body, understands);
        let lack = Lack {
            refused: Hash::of(body),
            why: Why::TooOld(capability.to_owned()),
            instead: older.map_or_else(or_closed, Instead::Older),
        };
        Arc::make_mut(&mut self.0).insert(id.clone(), lack);
    }

    /// Whether there is a Tenant that cannot be given in any version.
    pub(super) fn has_no_tenant(&self) -> bool {
        let mut all = self.iter();
        all.any(|(id, lack)| id.0 == Kind::Tenant && lack.instead == Instead::Nothing)
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

    /// Replaces in a transaction what the data plane refuses, or takes it out. `known`: what resources may need.
    pub(super) fn replace(&self, upsert: &mut Vec<pb::Resource>, known: &'static [Capability]) {
        if self.is_empty() {
            return;
        }
        let named = self.iter();
        let named = named.map(|((kind, key), lack)| ((*kind as u32, &**key), (*kind, lack)));
        let by_name: HashMap<(u32, &str), (Kind, &Lack)> = named.collect();
        upsert.retain_mut(|resource| {
            let lack = by_name.get(&(resource.kind, &*resource.key)).copied();
            let Some((kind, lack)) = lack else {
                return true;
            };
            let Some(body) = lack.body(&resource.body) else {
                return false;
            };
            resource.hash = Hash::of(&body).0.to_vec();
            let requires = snapshot::needed(known, kind, &body);
            resource.requires = requires.map(str::to_owned).collect();
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

/// What is given in place of a body that has no version before it.
fn without_older(
    id: &ResourceId,
    body: &[u8],
    understands: impl Fn(Kind, &[u8]) -> bool,
) -> Instead {
    let closed = match id.0 {
        Kind::Route => closed(body).filter(|closed| understands(id.0, closed)),
        _ => None,
    };
    closed.map_or(Instead::Nothing, |closed| {
        Instead::Closed(Hash::of(&closed))
    })
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
