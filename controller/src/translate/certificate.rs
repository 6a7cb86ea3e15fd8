//! Certificates in Secrets, and authorities in Secrets and ConfigMaps.
//!
//! What was last good of them serves for as long as something refers to it, whatever becomes of the object: a renewal
//! that went wrong must not close a listener.

use super::lowering::{Lowering, Unit};
use super::references::Missing;
use crate::report::Reason;
use crate::world::{ObjectId, ObjectKind, Pair};
use crds::refs::ObjectRef;
use k8s_openapi::jiff::Timestamp;
use model::Certificate;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What was last good, of those that are in use.
#[derive(Clone, Default)]
pub(super) struct LastGood {
    pairs: BTreeMap<ObjectId, Arc<Pair>>,
    authorities: BTreeMap<ObjectId, Arc<str>>,
}

/// What [`Unit::Certificate`] or [`Unit::Authorities`] comes to.
pub(super) enum Material {
    Pair(Arc<Pair>),
    Authorities(Arc<str>),
}

impl LastGood {
    /// When the certificates in use expire, in seconds since the epoch.
    pub(super) fn expiries(&self) -> impl Iterator<Item = i64> {
        self.pairs.values().map(|pair| pair.not_after)
    }

    /// What a unit uses from now on, if anything.
    pub(super) fn note(&mut self, unit: &Unit, used: Option<Material>) {
        match (unit, used) {
            (Unit::Certificate(id), Some(Material::Pair(pair))) => {
                self.pairs.insert(id.clone(), pair);
            }
            (Unit::Authorities(id), Some(Material::Authorities(pem))) => {
                self.authorities.insert(id.clone(), pem);
            }
            (Unit::Certificate(id), _) => drop(self.pairs.remove(id)),
            (Unit::Authorities(id), _) => drop(self.authorities.remove(id)),
            _ => {}
        }
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
        let last = self.last_good.pairs.get(&id).cloned();
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
        let last = self.last_good.authorities.get(&id).cloned();
        let pem = self.or_last_good(field, found, last)?;
        self.out.demands.insert(Unit::Authorities(id));
        Some(pem)
    }

    /// What the object of a unit comes to, with the resource of a certificate. Its problems are said by whoever refers
    /// to it.
    pub(super) fn material(&mut self, unit: &Unit) -> Option<Material> {
        let id = self.id;
        if let Unit::Authorities(_) = unit {
            let last = self.last_good.authorities.get(id).cloned();
            return self.bundle(id).ok().or(last).map(Material::Authorities);
        }
        let last = self.last_good.pairs.get(id).cloned();
        let pair = self.pair(id).ok().or(last)?;
        let certificate = Certificate {
            origin: id.origin(),
            chain: pair.chain.clone(),
            key: pair.key.clone(),
        };
        self.put(id.path(), &certificate);
        Some(Material::Pair(pair))
    }

    /// That of a Secret without a word about it: whoever refers to it says what is wrong.
    pub(super) fn quiet_certificate(&mut self, id: &ObjectId) -> Option<Arc<Pair>> {
        let last = self.last_good.pairs.get(id).cloned();
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
