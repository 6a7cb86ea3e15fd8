//! Certificates in Secrets, and authorities in Secrets and ConfigMaps.
//!
//! What was last good of them serves for as long as something refers to it, whatever becomes of the object: a renewal
//! that went wrong must not close a listener.

use super::lowering::{Lowering, Unit};
use super::references::Missing;
use crate::report::Reason;
use crate::world::{Data, ObjectId, ObjectKind, Pair, pem};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use crds::refs::ObjectRef;
use k8s_openapi::jiff::Timestamp;
use model::Certificate;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What was last good, of those that are in use.
#[derive(Clone, Default)]
pub(super) struct LastGood {
    pairs: BTreeMap<ObjectId, Good<Arc<Pair>>>,
    authorities: BTreeMap<ObjectId, Good<Arc<str>>>,
}

#[derive(Clone, PartialEq)]
pub(super) struct Good<T> {
    value: T,
    /// What the object holds now cannot be used.
    stands_in: bool,
}

impl<T: Clone + PartialEq> Good<T> {
    fn last(all: &BTreeMap<ObjectId, Self>, id: &ObjectId) -> Option<T> {
        all.get(id).map(|good| good.value.clone())
    }

    /// The present value, or else the last good one.
    fn or_last<E>(
        present: Result<T, E>,
        all: &BTreeMap<ObjectId, Self>,
        id: &ObjectId,
    ) -> Option<Self> {
        let stands_in = present.is_err();
        let value = present.ok().or_else(|| Self::last(all, id))?;
        Some(Self { value, stands_in })
    }

    /// Returns whether another one stands in now, or one more, or one less.
    fn note(all: &mut BTreeMap<ObjectId, Self>, id: &ObjectId, used: Option<Self>) -> bool {
        let before = match &used {
            Some(used) => all.insert(id.clone(), used.clone()),
            None => all.remove(id),
        };
        let stands_in = |good: &Option<Self>| good.as_ref().is_some_and(|good| good.stands_in);
        (stands_in(&before) || stands_in(&used)) && before != used
    }

    /// Takes over what stands in elsewhere where nothing is known that is good.
    fn recall(all: &mut BTreeMap<ObjectId, Self>, id: &ObjectId, value: T) -> bool {
        let good = Self {
            value,
            stands_in: true,
        };
        let known = all.get(id);
        let takes = known.is_none_or(|known| known.stands_in && *known != good);
        if takes {
            all.insert(id.clone(), good);
        }
        takes
    }
}

/// What [`Unit::Certificate`] or [`Unit::Authorities`] comes to.
pub(super) enum Material {
    Pair(Good<Arc<Pair>>),
    Authorities(Good<Arc<str>>),
}

impl LastGood {
    /// When the certificates in use expire, in seconds since the epoch.
    pub(super) fn expiries(&self) -> impl Iterator<Item = i64> {
        self.pairs.values().map(|good| good.value.not_after)
    }

    /// What a unit uses from now on, if anything. Returns whether [`Self::stand_ins`] gives something else now.
    pub(super) fn note(&mut self, unit: &Unit, used: Option<Material>) -> bool {
        match (unit, used) {
            (Unit::Certificate(id), Some(Material::Pair(good))) => {
                Good::note(&mut self.pairs, id, Some(good))
            }
            (Unit::Authorities(id), Some(Material::Authorities(good))) => {
                Good::note(&mut self.authorities, id, Some(good))
            }
            (Unit::Certificate(id), _) => Good::note(&mut self.pairs, id, None),
            (Unit::Authorities(id), _) => Good::note(&mut self.authorities, id, None),
            _ => false,
        }
    }

    pub(super) fn retain(&mut self, keep: impl Fn(&ObjectId) -> bool) {
        self.pairs.retain(|id, _| keep(id));
        self.authorities.retain(|id, _| keep(id));
    }

    /// What is used in place of what objects hold now, as manifests with the values that are used.
    pub(super) fn stand_ins(&self) -> impl Iterator<Item = Value> {
        let mut all: BTreeMap<&ObjectId, BTreeMap<&str, String>> = BTreeMap::new();
        for (id, good) in self.pairs.iter().filter(|(_, good)| good.stands_in) {
            let data = all.entry(id).or_default();
            data.insert(pem::CHAIN, STANDARD.encode(&good.value.chain));
            data.insert(pem::KEY, STANDARD.encode(good.value.key.reveal()));
        }
        for (id, good) in self.authorities.iter().filter(|(_, good)| good.stands_in) {
            let data = all.entry(id).or_default();
            data.insert(pem::AUTHORITIES, STANDARD.encode(&*good.value));
        }
        all.into_iter().map(|(id, data)| {
            let field = match id.kind {
                ObjectKind::ConfigMap => "binaryData",
                _ => "data",
            };
            json!({
                "apiVersion": "v1",
                "kind": id.kind.name(),
                "metadata": {"namespace": id.namespace, "name": id.name},
                field: data,
            })
        })
    }

    /// Takes over what [`Self::stand_ins`] of another replica gave of an object, where nothing good of it is known
    /// here. Returns whether it did.
    pub(super) fn recall(&mut self, id: &ObjectId, data: &Data) -> bool {
        let pair = data.pair().ok().cloned();
        let authorities = data.authorities().ok().cloned();
        let pair = pair.is_some_and(|pair| Good::recall(&mut self.pairs, id, pair));
        pair | authorities.is_some_and(|pem| Good::recall(&mut self.authorities, id, pem))
    }
}

impl Lowering<'_> {
    /// The certificate that a reference comes to, with the key of its resource; `None`, and a problem, where there is
    /// none that can be used.
    pub(super) fn certificate(
        &mut self,
        field: &str,
        reference: &ObjectRef,
    ) -> Option<(String, Arc<Pair>)> {
        let id = self.referred(field, reference, &[ObjectKind::Secret])?;
        let found = self.pair(&id);
        let last = Good::last(&self.last_good.pairs, &id);
        let pair = self.or_last_good(field, found, last)?;
        if pair.not_after < self.world.now() {
            let when = Timestamp::from_second(pair.not_after).unwrap_or_default();
            let message = format!("the certificate in {id} expired at {when}");
            self.warn(field, Reason::CertificateExpired, message);
        }
        let key = id.path();
        self.out.demands.insert(Unit::Certificate(id));
        Some((key, pair))
    }

    /// The authorities in `ca.crt` of a Secret or ConfigMap, as PEM; `None`, and a problem, where there are none.
    pub(super) fn authorities(&mut self, field: &str, reference: &ObjectRef) -> Option<Arc<str>> {
        let kinds = [ObjectKind::Secret, ObjectKind::ConfigMap];
        let id = self.referred(field, reference, &kinds)?;
        let found = self.bundle(&id);
        let last = Good::last(&self.last_good.authorities, &id);
        let pem = self.or_last_good(field, found, last)?;
        self.out.demands.insert(Unit::Authorities(id));
        Some(pem)
    }

    /// What the object of a unit comes to, with the resource of a certificate. Its problems are said by whoever refers
    /// to it.
    pub(super) fn material(&mut self, unit: &Unit) -> Option<Material> {
        let id = self.id;
        if let Unit::Authorities(_) = unit {
            let good = Good::or_last(self.bundle(id), &self.last_good.authorities, id);
            return good.map(Material::Authorities);
        }
        let good = Good::or_last(self.pair(id), &self.last_good.pairs, id)?;
        let pair = &good.value;
        let certificate = Certificate {
            origin: id.origin(),
            chain: pair.chain.clone(),
            key: pair.key.clone(),
        };
        self.put(id.path(), &certificate);
        Some(Material::Pair(good))
    }

    /// That of a Secret without a word about it: whoever refers to it says what is wrong.
    pub(super) fn quiet_certificate(&mut self, id: &ObjectId) -> Option<Arc<Pair>> {
        let last = Good::last(&self.last_good.pairs, id);
        self.pair(id).ok().or(last)
    }

    fn pair(&mut self, id: &ObjectId) -> Result<Arc<Pair>, Missing> {
        self.data(id)?.pair().cloned().map_err(|why| {
            let message = format!("{id} cannot be used as a certificate: {why}");
            (Reason::InvalidCertificate, message)
        })
    }

    fn bundle(&mut self, id: &ObjectId) -> Result<Arc<str>, Missing> {
        self.data(id)?.authorities().cloned().map_err(|why| {
            let message = format!("{id} cannot be used as authorities: {why}");
            (Reason::InvalidCertificate, message)
        })
    }

    fn or_last_good<T>(
        &mut self,
        field: &str,
        found: Result<T, Missing>,
        last: Option<T>,
    ) -> Option<T> {
        match found {
            Ok(found) => Some(found),
            Err((reason, message)) => {
                let serves = match last {
                    Some(_) => "; what was last good of it serves on",
                    None => "",
                };
                self.error(field, reason, format!("{message}{serves}"));
                last
            }
        }
    }
}

#[cfg(test)]
#[path = "certificate_tests.rs"]
mod tests;
