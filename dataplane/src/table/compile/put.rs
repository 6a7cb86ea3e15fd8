//! Changes take the place of what was there, and what they touch is noted.

use super::listener::ListenerState;
use super::{Compiler, Dirty};
use crate::by_host::ByHost;
use crate::table::rule::{ReadyPlugin, Rule, RuleSpec};
use crate::table::stage::{ByKey, Key, ReadyCertificate, ReadyListener, Route};
use crate::table::upstream::Upstream;
use crate::table::wire::Wire;
use model::{EndpointShard, Tenant};
use std::collections::BTreeMap;
use std::sync::Arc;

impl Compiler {
    pub(super) fn put_plugins(&mut self, plugins: ByKey<Arc<ReadyPlugin>>, dirty: &mut Dirty) {
        for (key, plugin) in plugins {
            dirty.routes.extend(self.by_plugin.get(&key).cloned());
            match plugin {
                Some(plugin) => self.plugins.insert(Arc::clone(&key), plugin),
                None => self.plugins.remove(&key),
            };
            dirty.links.insert(key);
        }
    }

    pub(super) fn put_upstreams(
        &mut self,
        upstreams: ByKey<model::Upstream>,
        mut wires: BTreeMap<Key, Wire>,
        dirty: &mut Dirty,
    ) {
        for (key, upstream) in upstreams {
            let wire = wires.remove(&key);
            if let Some(before) = self.sources.remove(&key) {
                for service in before.services() {
                    self.upstreams_of.remove(service, &key);
                }
            }
            let before = self.registry.get(&key);
            let (Some(settings), Some(wire)) = (upstream, wire) else {
                // Its endpoints stay as they are, for requests that still see the table before.
                self.registry.remove(&key);
                dirty.routes.extend(self.by_upstream.get(&key).cloned());
                dirty.links.insert(key);
                continue;
            };
            if !before.as_ref().is_some_and(|u| u.is_as(&settings, &wire)) {
                let common = &self.registry.common;
                let upstream = Upstream::new(&key, &settings, wire, before.as_deref(), common);
                self.registry.insert(Arc::new(upstream));
                dirty.routes.extend(self.by_upstream.get(&key).cloned());
                dirty.links.insert(Arc::clone(&key));
            }
            for service in settings.source.services() {
                self.upstreams_of.add(service, &key);
            }
            dirty.endpoints.insert(Arc::clone(&key));
            self.sources.insert(key, settings.source);
        }
    }

    pub(super) fn put_shards(&mut self, shards: ByKey<EndpointShard>, dirty: &mut Dirty) {
        for (key, shard) in shards {
            if let Some(before) = self.shards.remove(&key) {
                self.shards_of.remove(&before.service, &key);
                dirty
                    .endpoints
                    .extend(self.upstreams_of.get(&before.service).cloned());
            }
            if let Some(shard) = shard {
                self.shards_of.add(&shard.service, &key);
                dirty
                    .endpoints
                    .extend(self.upstreams_of.get(&shard.service).cloned());
                self.shards.insert(key, shard);
            }
        }
    }

    /// Listeners that name one get another front; what they serve stays.
    pub(super) fn put_certificates(
        &mut self,
        certificates: ByKey<ReadyCertificate>,
        dirty: &mut Dirty,
    ) {
        for (key, certificate) in certificates {
            for (name, state) in &self.listeners {
                if let Some(tls) = &state.listener.tls
                    && (tls.certificates.iter().any(|name| **name == *key)
                        || tls.default_certificate.as_deref() == Some(&*key))
                {
                    dirty.listeners.insert(Arc::clone(name));
                }
            }
            match certificate {
                Some(certificate) => self.certificates.insert(key, certificate),
                None => self.certificates.remove(&key),
            };
        }
    }

    /// Every listener asks the same owners.
    pub(super) fn put_tenants(&mut self, tenants: ByKey<Tenant>, dirty: &mut Dirty) {
        if tenants.is_empty() {
            return;
        }
        for (key, tenant) in tenants {
            match tenant {
                Some(tenant) => self.tenants.insert(key, tenant),
                None => self.tenants.remove(&key),
            };
        }
        let mut owners = ByHost::default();
        for (key, tenant) in &self.tenants {
            for host in &tenant.hosts {
                owners.add(host, Arc::clone(key));
            }
        }
        self.owners = Arc::new(owners);
        dirty.owners = true;
    }

    pub(super) fn put_listeners(&mut self, listeners: ByKey<ReadyListener>, dirty: &mut Dirty) {
        for (key, listener) in listeners {
            let before = self.listeners.get_mut(&key);
            match (listener, before) {
                (None, None) => continue,
                (None, Some(_)) => {
                    self.listeners.remove(&key);
                }
                (Some(ready), Some(state))
                    if state.listener.hostname == ready.listener.hostname =>
                {
                    if *state.listener == ready.listener {
                        continue;
                    }
                    state.listener = Arc::new(ready.listener);
                    state.tls = ready.tls;
                    state.access_log = ready.access_log;
                    state.tracing = ready.tracing;
                }
                (Some(ready), _) => {
                    // Other hosts: all of them, before and after.
                    let hosts = dirty.hosts.entry(Arc::clone(&key)).or_default();
                    let served = self.table.listeners.get(&key).into_iter();
                    for host in served.flat_map(|listener| listener.hosts()) {
                        hosts.touch(&host.pattern);
                    }
                    let state = ListenerState {
                        listener: Arc::new(ready.listener),
                        tls: ready.tls,
                        access_log: ready.access_log,
                        tracing: ready.tracing,
                    };
                    for (name, route) in self
                        .routes
                        .iter()
                        .filter(|(_, r)| r.listeners.contains(&key))
                    {
                        for host in state.effective(&route.hosts) {
                            hosts.claim(host, name);
                        }
                    }
                    self.listeners.insert(Arc::clone(&key), state);
                }
            }
            dirty.listeners.insert(key);
        }
    }

    pub(super) fn put_routes(&mut self, routes: ByKey<Route<Arc<RuleSpec>>>, dirty: &mut Dirty) {
        for (key, route) in routes {
            if let Some(before) = self.routes.remove(&key) {
                self.unclaim(&key, &before, dirty);
            }
            if let Some(route) = route {
                let link = |spec: Arc<RuleSpec>| Arc::new(Rule::link(spec, self));
                let route = Route {
                    listeners: route
                        .listeners
                        .into_iter()
                        .map(|l| self.listener_key(l))
                        .collect(),
                    hosts: route.hosts,
                    rules: route.rules.into_iter().map(link).collect(),
                };
                self.claim(&key, &route, dirty);
                dirty.routes.remove(&key);
                self.routes.insert(key, Box::new(route));
            }
        }
    }

    /// The same text in the one place where it stands already: thousands of Routes name one listener.
    fn listener_key(&self, key: Key) -> Key {
        self.listeners
            .get_key_value(&key)
            .map_or(key, |(own, _)| Arc::clone(own))
    }

    fn claim(&mut self, key: &Key, route: &Route, dirty: &mut Dirty) {
        for rule in &route.rules {
            rule.spec
                .upstreams()
                .for_each(|to| self.by_upstream.add(to, key));
            rule.spec
                .plugins()
                .for_each(|to| self.by_plugin.add(to, key));
        }
        for name in &route.listeners {
            if let Some(state) = self.listeners.get(name) {
                let hosts = dirty.hosts.entry(Arc::clone(name)).or_default();
                for host in state.effective(&route.hosts) {
                    hosts.claim(host, key);
                }
            }
        }
    }

    fn unclaim(&mut self, key: &Key, route: &Route, dirty: &mut Dirty) {
        for rule in &route.rules {
            rule.spec
                .upstreams()
                .for_each(|to| self.by_upstream.remove(to, key));
            rule.spec
                .plugins()
                .for_each(|to| self.by_plugin.remove(to, key));
        }
        for name in &route.listeners {
            if let Some(state) = self.listeners.get(name) {
                let hosts = dirty.hosts.entry(Arc::clone(name)).or_default();
                for host in state.effective(&route.hosts) {
                    hosts.touch(&host);
                }
            }
        }
    }
}
