//! Pods by their labels as endpoints, in the namespace of the Upstream.

use super::super::gateway_config::selects;
use super::super::lowering::{Dep, Lowering};
use super::port;
use super::source::Origin;
use crate::report::Reason;
use crate::world::{Body, ObjectKind};
use crds::PodSelector;
use model::{Endpoint, EndpointShard, EndpointSource, Upstream};

/// Endpoints in one shard, which travels as a whole.
const SHARD: usize = 500;

const FIELD: &str = "spec.selector";

impl Lowering<'_> {
    pub(super) fn pods(
        &mut self,
        selector: &PodSelector,
        upstream: &mut Upstream,
    ) -> Option<Origin> {
        let labels = selector.labels();
        if labels.match_labels.is_empty() && labels.match_expressions.is_empty() {
            // All Pods of a namespace are hardly ever meant.
            let message = "must name at least one label in matchLabels or matchExpressions";
            self.error(FIELD, Reason::Invalid, message);
            return None;
        }
        self.valid(format!("{FIELD}.port"), port(selector.port))?;
        let namespace = self.id.namespace.clone();
        let mut endpoints = Vec::new();
        for object in self.world.in_namespace(ObjectKind::Pod, &namespace) {
            if let Body::Pod(pod) = &object.body
                && let Some(address) = pod.address
                && selects(&labels, &pod.labels)
            {
                endpoints.push(Endpoint {
                    address,
                    port: selector.port,
                    ready: pod.ready && !pod.terminating,
                    serving: pod.ready,
                    terminating: pod.terminating,
                    zone: None,
                });
            }
        }
        // Pods of the host's network share an address; while one of them is ready, it is.
        endpoints.sort_by_key(|e| (e.address, std::cmp::Reverse((e.ready, e.serving))));
        endpoints.dedup_by_key(|e| e.address);
        self.out.deps.insert(Dep::Pods(namespace));
        if endpoints.is_empty() {
            let message = "no Pod with an address has these labels: requests answer 503";
            self.warn(FIELD, Reason::NoEndpoints, message);
        }
        let service = format!("Upstream/{}", self.id.path());
        for (i, shard) in endpoints.chunks(SHARD).enumerate() {
            let shard = EndpointShard {
                service: service.clone(),
                endpoints: shard.to_vec(),
            };
            self.put(format!("{service}/{i}"), &shard);
        }
        upstream.source = EndpointSource::Service(service);
        Some(Origin::default())
    }
}
