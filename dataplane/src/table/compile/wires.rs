//! How upstreams are spoken to, which depends on certificates.

use super::{Compiler, Dirty};
use crate::table::stage::{ByKey, Key, Rejected, Staged};
use crate::table::upstream::Upstream;
use crate::table::wire::Wire;
use snapshot::Kind;
use std::collections::BTreeMap;
use std::sync::Arc;

impl Compiler {
    /// How the upstreams that are staged, or whose certificate is, will be spoken to.
    pub(super) fn wires(&self, staged: &Staged) -> Result<BTreeMap<Key, Wire>, Vec<Rejected>> {
        let certificate = |key: &str| match staged.certificates.get(key) {
            Some(staged) => staged.as_ref(),
            None => self.certificates.get(key),
        };
        let certificate = |key: &str| certificate(key).map(|ready| &*ready.pem);
        let (mut wires, mut rejected) = (BTreeMap::new(), Vec::new());
        let mut wire =
            |key: &Key, settings: &model::Upstream| match Wire::compile(settings, certificate) {
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
        if !staged.certificates.is_empty() {
            for upstream in self.registry.all() {
                let shows = upstream.settings.tls.as_ref();
                let shows = shows.and_then(|tls| tls.client_certificate.as_deref());
                if shows.is_some_and(|key| staged.certificates.contains_key(key))
                    && !staged.upstreams.contains_key(&upstream.key)
                {
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
