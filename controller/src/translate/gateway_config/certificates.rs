//! Certificates that Ingresses bring to the listeners of the GatewayConfig at which they are served.

use super::super::ingress::Block;
use super::super::lowering::Lowering;
use super::Allowed;
use crate::world::{Body, ObjectId, ObjectKind, Pair};
use model::HostPattern;
use std::sync::Arc;

/// One that can be used.
pub(super) struct Offered {
    pub key: String,
    pub secret: ObjectId,
    pub pair: Arc<Pair>,
    namespace: String,
    hosts: Vec<HostPattern>,
}

impl Lowering<'_> {
    /// Those of the Ingresses that attach here, the oldest first. What is wrong with others is said by their Ingresses.
    pub(super) fn offered(&mut self, is_default: bool) -> Vec<Offered> {
        let all = self.ingresses.certificates(self.id, is_default);
        all.into_iter()
            .filter_map(|(namespace, block)| {
                let Block { hosts, secret } = block;
                let hosts = hosts.iter().filter_map(|h| HostPattern::parse(h).ok());
                Some(Offered {
                    pair: self.quiet_certificate(secret)?,
                    key: secret.path(),
                    secret: secret.clone(),
                    namespace: namespace.to_owned(),
                    hosts: hosts.collect(),
                })
            })
            .collect()
    }

    /// Those for a listener: from namespaces that it takes, and for hosts that it has.
    pub(super) fn fitting<'o>(
        &mut self,
        offered: &'o [Offered],
        allowed: &Allowed,
        hostname: &HostPattern,
    ) -> Vec<&'o Offered> {
        let mut fitting: Vec<&Offered> = offered.iter().collect();
        fitting.retain(|one| {
            let hosts = &one.hosts;
            let has_host =
                hosts.is_empty() || hosts.iter().any(|h| hostname.intersect(h).is_some());
            has_host && self.takes_from(allowed, &one.namespace)
        });
        fitting
    }

    fn takes_from(&mut self, allowed: &Allowed, namespace: &str) -> bool {
        match allowed {
            Allowed::All => true,
            Allowed::Same => &*self.id.namespace == namespace,
            Allowed::Selector(selector) => {
                let id = ObjectId::new(ObjectKind::Namespace, "", namespace);
                match self.object(&id).map(|o| &o.body) {
                    Some(Body::Namespace(found)) => super::selects(selector, &found.labels),
                    _ => false,
                }
            }
        }
    }
}
