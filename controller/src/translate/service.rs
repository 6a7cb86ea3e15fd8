//! Service ports as upstreams, and their endpoints.

use super::lowering::{Dep, Lowering, PortKey, Speech};
use crate::report::Reason;
use model::{Endpoint, EndpointShard, EndpointSource, Upstream, UpstreamProtocol};

/// `appProtocol` of a port that speaks HTTP/2 in clear (KEP-3726).
pub(super) const H2C: &str = "kubernetes.io/h2c";

impl Lowering<'_> {
    /// The upstream that a Service port is where a Route names it directly, with all defaults.
    pub(super) fn service_upstream(&mut self, port: &PortKey, speech: Speech) {
        let Some(service) = self.service(&port.service) else {
            return;
        };
        let declared = service.ports.iter().find(|p| port.is(p));
        let Some(declared) = declared.filter(|_| service.external_name.is_none()) else {
            return;
        };
        let source = EndpointSource::Service(port.to_string());
        let mut upstream = Upstream::new(self.id.origin(), source);
        let policy = self.policy_of(port, &declared.name);
        match declared.app_protocol.as_deref() {
            _ if policy.is_some() => {}
            Some(H2C) => upstream.protocol = UpstreamProtocol::H2C,
            Some(asked @ ("https" | "kubernetes.io/wss")) => {
                // Nothing says which name and which authority its certificate is to be checked against.
                let message = format!(
                    "port {} is declared as {asked} and is spoken to in clear: name the Service in a BackendTLSPolicy, or in an Upstream with tls",
                    port.port
                );
                self.warn("", Reason::TlsNotConfigured, message);
            }
            _ => {}
        }
        if speech == Speech::Grpc {
            upstream.protocol = match policy {
                Some(_) => UpstreamProtocol::H2,
                None => UpstreamProtocol::H2C,
            };
        }
        match policy {
            None => {}
            Some(Some(tls)) => upstream.tls = Some(tls),
            // Nothing less is done than what the policy asks for.
            Some(None) => upstream.source = EndpointSource::Static(Vec::new()),
        }
        self.put(port.upstream_key(speech), &upstream);
    }

    /// One shard for each EndpointSlice that has the port.
    pub(super) fn shards(&mut self, port: &PortKey) {
        let slices = Dep::Slices(port.service.clone());
        self.out.deps.insert(slices);
        let Some(service) = self.service(&port.service) else {
            return;
        };
        // Slices name their ports as the Service does; the number is that of the Pods.
        let Some(named) = service.ports.iter().find(|p| port.is(p)) else {
            return;
        };
        let mut any = false;
        for (id, slice) in self.world.slices(&port.service) {
            self.out.deps.insert(Dep::Object(id.clone()));
            let Some((_, number)) = slice.ports.iter().find(|(name, _)| *name == named.name) else {
                continue;
            };
            if slice.endpoints.is_empty() {
                continue;
            }
            any = true;
            let endpoints = slice.endpoints.iter().map(|e| Endpoint {
                address: e.address,
                port: *number,
                ready: e.ready,
                serving: e.serving,
                terminating: e.terminating,
                zone: e.zone.clone(),
            });
            let shard = EndpointShard {
                service: port.to_string(),
                endpoints: endpoints.collect(),
            };
            self.put(format!("{port}/{}", id.name), &shard);
        }
        if !any {
            let message = format!("port {} has no endpoints: requests answer 503", port.port);
            self.warn("", Reason::NoEndpoints, message);
        }
    }
}
