//! What a resource has to do with others.

use crate::publish::ResourceId;
use model::{Action, Listener, PluginUse, Route, Rule, Target, Upstream};
use snapshot::{InvalidResource, Kind, decode};
use std::collections::BTreeSet;
use std::sync::Arc;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Links {
    /// Keys of the listener that it is, or of those that it is attached to: whoever serves them needs it.
    pub(super) listeners: BTreeSet<String>,
    /// What it refers to, there or not.
    pub(super) to: BTreeSet<ResourceId>,
    /// What it is a part of; nothing of its own, but others refer to it.
    pub(super) part_of: Option<ResourceId>,
}

impl Links {
    /// Those of a resource with its body.
    ///
    /// # Errors
    /// The body is not one of its kind.
    pub(super) fn of((kind, key): &ResourceId, body: &[u8]) -> Result<Self, InvalidResource> {
        let mut links = Self::default();
        match kind {
            Kind::Listener => {
                let listener: Listener = decode(body)?;
                links.listeners.insert(key.to_string());
                links.refer(Kind::Certificate, &listener.backend_certificate);
                links.to.insert(all_tenants());
                if let Some(tls) = &listener.tls {
                    let keys = tls.certificates.iter().chain(&tls.default_certificate);
                    links.refer(Kind::Certificate, keys);
                }
            }
            Kind::Route => links.add_route(&decode(body)?),
            Kind::Upstream => {
                let upstream: Upstream = decode(body)?;
                links.to.extend(upstream.source.services().map(shards_of));
                let tls = upstream.tls.iter();
                let keys = tls.flat_map(|tls| &tls.client_certificate);
                links.refer(Kind::Certificate, keys);
            }
            // There are as many as of all others together: the key says it too, and nothing else is asked.
            Kind::EndpointShard => {
                let service = key.rsplit_once('/');
                links.part_of = service.map(|(service, _)| shards_of(service));
            }
            Kind::Tenant => links.part_of = Some(all_tenants()),
            Kind::Plugin | Kind::Certificate => {}
        }
        Ok(links)
    }

    fn add_route(&mut self, route: &Route) {
        self.listeners.extend(route.listeners.iter().cloned());
        for rule in &route.rules {
            self.add_rule(rule);
        }
    }

    fn add_rule(&mut self, rule: &Rule) {
        let backends: &[_] = match &rule.action {
            Action::Forward(backends) => backends,
            Action::Redirect(_) | Action::Respond(_) | Action::Closed { .. } => &[],
        };
        let targets = backends.iter().map(|backend| &backend.target);
        let targets = targets.chain(rule.mirrors.iter().map(|mirror| &mirror.target));
        let upstreams = targets.filter_map(|target| match target {
            Target::Upstream(key) => Some(key),
            _ => None,
        });
        self.refer(Kind::Upstream, upstreams);
        let plugins = rule.plugins.iter().filter_map(|plugin| match plugin {
            PluginUse::Ref(key) => Some(key),
            PluginUse::Inline(_) => None,
        });
        self.refer(Kind::Plugin, plugins);
    }

    fn refer<'a>(&mut self, kind: Kind, keys: impl IntoIterator<Item = &'a String>) {
        self.to
            .extend(keys.into_iter().map(|key| (kind, key.as_str().into())));
    }
}

/// What stands for all shards of a service port.
fn shards_of(service: &str) -> ResourceId {
    (Kind::EndpointShard, service.into())
}

/// What stands for all Tenants: whose a host is, every listener has to know.
fn all_tenants() -> ResourceId {
    (Kind::Tenant, Arc::default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{Discovery, DiscoverySource, EndpointSource, ObjectRef};

    #[test]
    fn a_shard_is_part_of_what_its_key_begins_with() {
        for service in ["a/web:80", "a/dns:53/udp", "Upstream/a/u"] {
            let id = (Kind::EndpointShard, format!("{service}/one").into());
            let links = Links::of(&id, &[]).unwrap();
            assert_eq!(links.part_of, Some(shards_of(service)));
        }
    }

    #[test]
    fn an_upstream_needs_the_shards_of_all_its_services() {
        let service = |name: &str| DiscoverySource::Service(name.into());
        let discovery = Discovery {
            sources: vec![service("a/web:80"), service("b/web:81")],
            ..Discovery::default()
        };
        let origin = ObjectRef::new("Upstream", "a", "u");
        let upstream = Upstream::new(origin, EndpointSource::Discovery(discovery));
        let id = (Kind::Upstream, "Upstream/a/u".into());
        let links = Links::of(&id, &snapshot::encode(&upstream).unwrap()).unwrap();
        let shards = ["a/web:80", "b/web:81"].map(shards_of);
        assert_eq!(links.to, shards.into());
    }
}
