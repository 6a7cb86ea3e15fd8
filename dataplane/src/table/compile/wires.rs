//! How upstreams are spoken to, which depends on certificates.

use super::{Compiler, Dirty};
use crate::table::stage::{ByKey, Key, Rejected, Staged};
use crate::table::upstream::Upstream;
use crate::table::wire::Wire;
use snapshot::Kind;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

impl Compiler {
    /// Certificates that listeners will have shown to upstreams.
    pub(super) fn shown(&self, staged: &Staged) -> BTreeSet<Key> {
        if staged.listeners.is_empty() {
            return self.shown.clone();
        }
        let stay = self.listeners.iter();
        let stay = stay.filter(|(key, _)| !staged.listeners.contains_key(*key));
        let stay = stay.map(|(_, state)| &*state.listener);
        let come = staged.listeners.values().flatten();
        stay.chain(come.map(|ready| &ready.listener))
            .filter_map(|listener| listener.backend_certificate.as_deref())
            .map(Key::from)
            .collect()
    }

    /// How the upstreams that are staged, or whose certificate is, will be spoken to. `shown`: see [`Self::shown`].
    pub(super) fn wires(
        &self,
        staged: &Staged,
        shown: &BTreeSet<Key>,
    ) -> Result<BTreeMap<Key, Wire>, Vec<Rejected>> {
        let certificate = |key: &str| match staged.certificates.get(key) {
            Some(staged) => staged.as_ref(),
            None => self.certificates.get(key),
        };
        let certificate = |key: &str| certificate(key).map(|ready| &*ready.pem);
        let (mut wires, mut rejected) = (BTreeMap::new(), Vec::new());
        let compile = |settings: &model::Upstream| {
            Wire::compile(settings, certificate)?.showing(settings, shown.iter(), certificate)
        };
        let mut wire = |key: &Key, settings: &model::Upstream| match compile(settings) {
            Ok(wire) => drop(wires.insert(Arc::clone(key), wire)),
            Err(reason) => rejected.push(Rejected {
                kind: Kind::Upstream,
                key: key.to_string(),
                reason: format!("tls: {reason}"),
            }),
        };
        for (key, settings) in &staged.upstreams {
            if let Some(settings) = settings {
                wire(key, settings);
            }
        }
        let others = *shown != self.shown
            || shown
                .iter()
                .any(|key| staged.certificates.contains_key(key));
        if others || !staged.certificates.is_empty() {
            for upstream in self.registry.all() {
                let Some(tls) = &upstream.settings.tls else {
                    continue;
                };
                let is_other = match tls.client_certificate.as_deref() {
                    Some(key) => staged.certificates.contains_key(key),
                    None => others,
                };
                if is_other && !staged.upstreams.contains_key(&upstream.key) {
                    wire(&upstream.key, &upstream.settings);
                }
            }
        }
        if rejected.is_empty() {
            Ok(wires)
        } else {
            Err(rejected)
        }
    }

    /// Upstreams of which nothing but the certificate has changed.
    pub(super) fn rewire(
        &self,
        wires: &BTreeMap<Key, Wire>,
        staged: &ByKey<model::Upstream>,
        dirty: &mut Dirty,
    ) {
        for (key, wire) in wires {
            let Some(before) = self.registry.get(key) else {
                continue;
            };
            if staged.contains_key(key) || before.wire.has_identity_of(wire) {
                continue;
            }
            let common = &self.registry.common;
            let after = Upstream::new(key, &before.settings, wire.clone(), Some(&before), common);
            dirty.routes.extend(self.by_upstream.get(key).cloned());
            dirty.links.insert(Arc::clone(&after.key));
            self.registry.insert(Arc::new(after));
        }
    }
}
