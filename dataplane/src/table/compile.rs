//! From changes to tables.
//!
//! Everything that can fail (expressions, plugin settings) happens first and by itself; only when all of it has
//! worked does anything change. What follows works on the keys that the changes touch: rules that name a changed
//! upstream or plugin are linked anew, hosts that a changed Route names are listed anew, endpoints are replaced in
//! place. Everything else is shared with the table before.

use super::common::Common;
use super::gate::Gate;
use super::hosts::{Entry, HostRules};
use super::rule::{Links, ReadyPlugin, Rule, RuleSpec};
use super::stage::{Key, ReadyCertificate, ReadyListener, Rejected, Route, Staged};
use super::upstream::{Registry, Upstream};
use super::wire::Wire;
use super::{ListenerTable, Table};
use crate::engine::TlsFront;
use crate::engine::tls::TlsPolicy;
use crate::telemetry::access_log::Plan;
use foldhash::fast::FixedState;
use hashbrown::HashSet;
use model::{Concurrency, EndpointShard, EndpointSource, HostPattern, Listener};
use plugins::Chain;
use snapshot::{Changes, Kind};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

type Map<K, V> = hashbrown::HashMap<K, V, FixedState>;
type Keys = HashSet<Key, FixedState>;

/// Owns what was received and builds tables from it. One task has it.
pub struct Compiler {
    table: Arc<Table>,
    registry: Arc<Registry>,
    listeners: BTreeMap<Key, ListenerState>,
    routes: Map<Key, Route>,
    plugins: Map<Key, Arc<ReadyPlugin>>,
    certificates: Map<Key, ReadyCertificate>,
    sources: Map<Key, EndpointSource>,
    shards: Map<Key, EndpointShard>,
    /// Routes by the upstreams and plugins that they name, shards and upstreams by their Service.
    by_upstream: Index,
    by_plugin: Index,
    shards_of: Index,
    upstreams_of: Index,
    empty_chain: Arc<Chain>,
}

struct ListenerState {
    listener: Arc<Listener>,
    tls: Option<TlsPolicy>,
    access_log: Option<Arc<Plan>>,
    /// Routes by the hosts that they have on this listener.
    claims: Map<HostPattern, Keys>,
}

/// Which keys point to a key.
#[derive(Default)]
struct Index(Map<Key, Keys>);

impl Index {
    fn add(&mut self, to: &str, from: &Key) {
        match self.0.get_mut(to) {
            Some(keys) => {
                keys.insert(Arc::clone(from));
            }
            None => {
                self.0
                    .insert(to.into(), std::iter::once(Arc::clone(from)).collect());
            }
        }
    }

    fn remove(&mut self, to: &str, from: &str) {
        if let Some(keys) = self.0.get_mut(to) {
            keys.remove(from);
            if keys.is_empty() {
                self.0.remove(to);
            }
        }
    }

    fn get(&self, to: &str) -> impl Iterator<Item = &Key> {
        self.0.get(to).into_iter().flatten()
    }
}

/// What has to be done again.
#[derive(Default)]
struct Dirty {
    /// Upstreams and plugins whose pointers in rules are out of date.
    links: Keys,
    /// Routes that have such pointers.
    routes: Keys,
    /// Upstreams with other endpoints.
    endpoints: Keys,
    listeners: Keys,
    hosts: BTreeMap<Key, BTreeSet<HostPattern>>,
}

impl Default for Compiler {
    fn default() -> Self {
        Self::new()
    }
}

impl Compiler {
    /// With nothing in it: the table is empty.
    pub fn new() -> Self {
        Self::with(Arc::default())
    }

    /// As [`Self::new`], for a process that has this in common.
    pub fn with(common: Arc<Common>) -> Self {
        Self {
            table: Arc::default(),
            registry: Arc::new(Registry::new(common)),
            listeners: BTreeMap::new(),
            routes: Map::default(),
            plugins: Map::default(),
            certificates: Map::default(),
            sources: Map::default(),
            shards: Map::default(),
            by_upstream: Index::default(),
            by_plugin: Index::default(),
            shards_of: Index::default(),
            upstreams_of: Index::default(),
            empty_chain: Arc::default(),
        }
    }

    /// The table of all changes so far.
    pub fn table(&self) -> Arc<Table> {
        Arc::clone(&self.table)
    }

    /// The upstreams of all changes so far.
    pub fn registry(&self) -> Arc<Registry> {
        Arc::clone(&self.registry)
    }

    /// Takes changes and gives the table that has them. It is the same table (by pointer) when only endpoints
    /// changed; these are in use at once.
    ///
    /// # Errors
    /// Every resource that cannot be compiled. Nothing has changed then, endpoints included.
    pub fn apply(&mut self, changes: Changes) -> Result<Arc<Table>, Vec<Rejected>> {
        let mut staged = Staged::compile(changes)?;
        if staged.full {
            self.remove_all_but(&mut staged);
        }
        let wires = self.wires(&staged)?;
        let mut dirty = Dirty::default();
        self.rewire(&wires, &staged.upstreams, &mut dirty);
        self.put_plugins(staged.plugins, &mut dirty);
        self.put_upstreams(staged.upstreams, wires, &mut dirty);
        self.put_shards(staged.shards, &mut dirty);
        self.put_certificates(staged.certificates, &mut dirty);
        self.put_listeners(staged.listeners, &mut dirty);
        self.put_routes(staged.routes, &mut dirty);
        self.link_again(&mut dirty);
        self.set_endpoints(&dirty.endpoints);
        self.build(&dirty);
        Ok(self.table())
    }

    /// What a full transaction does not name is gone.
    fn remove_all_but(&self, staged: &mut Staged) {
        fn add<'a, T>(
            staged: &mut BTreeMap<String, Option<T>>,
            present: impl Iterator<Item = &'a Key>,
        ) {
            for key in present {
                staged.entry(key.to_string()).or_insert(None);
            }
        }
        add(&mut staged.listeners, self.listeners.keys());
        add(&mut staged.routes, self.routes.keys());
        add(&mut staged.upstreams, self.sources.keys());
        add(&mut staged.shards, self.shards.keys());
        add(&mut staged.plugins, self.plugins.keys());
        add(&mut staged.certificates, self.certificates.keys());
    }

    /// How the upstreams that are staged, or whose certificate is, will be spoken to.
    fn wires(&self, staged: &Staged) -> Result<BTreeMap<String, Wire>, Vec<Rejected>> {
        let certificate = |key: &str| match staged.certificates.get(key) {
            Some(staged) => staged.as_ref(),
            None => self.certificates.get(key),
        };
        let certificate = |key: &str| certificate(key).map(|ready| &*ready.pem);
        let (mut wires, mut rejected) = (BTreeMap::new(), Vec::new());
        let mut wire =
            |key: &str, settings: &model::Upstream| match Wire::compile(settings, certificate) {
                Ok(wire) => drop(wires.insert(key.to_owned(), wire)),
                Err(reason) => rejected.push(Rejected {
                    kind: Kind::Upstream,
                    key: key.to_owned(),
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
                    && !staged.upstreams.contains_key(&*upstream.key)
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
    fn rewire(
        &self,
        wires: &BTreeMap<String, Wire>,
        staged: &BTreeMap<String, Option<model::Upstream>>,
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

    fn put_plugins(
        &mut self,
        plugins: BTreeMap<String, Option<Arc<ReadyPlugin>>>,
        dirty: &mut Dirty,
    ) {
        for (key, plugin) in plugins {
            let key = Key::from(key);
            dirty.routes.extend(self.by_plugin.get(&key).cloned());
            match plugin {
                Some(plugin) => self.plugins.insert(Arc::clone(&key), plugin),
                None => self.plugins.remove(&key),
            };
            dirty.links.insert(key);
        }
    }

    fn put_upstreams(
        &mut self,
        upstreams: BTreeMap<String, Option<model::Upstream>>,
        mut wires: BTreeMap<String, Wire>,
        dirty: &mut Dirty,
    ) {
        for (key, upstream) in upstreams {
            let wire = wires.remove(&key);
            let key = Key::from(key);
            if let Some(EndpointSource::Service(service)) = self.sources.remove(&key) {
                self.upstreams_of.remove(&service, &key);
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
            if let EndpointSource::Service(service) = &settings.source {
                self.upstreams_of.add(service, &key);
            }
            dirty.endpoints.insert(Arc::clone(&key));
            self.sources.insert(key, settings.source);
        }
    }

    fn put_shards(&mut self, shards: BTreeMap<String, Option<EndpointShard>>, dirty: &mut Dirty) {
        for (key, shard) in shards {
            let key = Key::from(key);
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
    fn put_certificates(
        &mut self,
        certificates: BTreeMap<String, Option<ReadyCertificate>>,
        dirty: &mut Dirty,
    ) {
        for (key, certificate) in certificates {
            for (name, state) in &self.listeners {
                if let Some(tls) = &state.listener.tls
                    && (tls.certificates.contains(&key)
                        || tls.default_certificate.as_ref() == Some(&key))
                {
                    dirty.listeners.insert(Arc::clone(name));
                }
            }
            match certificate {
                Some(certificate) => self.certificates.insert(key.into(), certificate),
                None => self.certificates.remove(&*key),
            };
        }
    }

    fn put_listeners(
        &mut self,
        listeners: BTreeMap<String, Option<ReadyListener>>,
        dirty: &mut Dirty,
    ) {
        for (key, listener) in listeners {
            let key = Key::from(key);
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
                }
                (Some(ready), before) => {
                    // Other hosts: all of them, before and after.
                    let hosts = dirty.hosts.entry(Arc::clone(&key)).or_default();
                    hosts.extend(
                        before
                            .into_iter()
                            .flat_map(|state| state.claims.keys().cloned()),
                    );
                    let mut state = ListenerState {
                        listener: Arc::new(ready.listener),
                        tls: ready.tls,
                        access_log: ready.access_log,
                        claims: Map::default(),
                    };
                    for (name, route) in self
                        .routes
                        .iter()
                        .filter(|(_, r)| r.listeners.contains(&key))
                    {
                        state.claim(name, &route.hosts, hosts);
                    }
                    self.listeners.insert(Arc::clone(&key), state);
                }
            }
            dirty.listeners.insert(key);
        }
    }

    fn put_routes(
        &mut self,
        routes: BTreeMap<String, Option<Route<Arc<RuleSpec>>>>,
        dirty: &mut Dirty,
    ) {
        for (key, route) in routes {
            let key = Key::from(key);
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
                self.routes.insert(key, route);
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
            if let Some(state) = self.listeners.get_mut(name) {
                let hosts = dirty.hosts.entry(Arc::clone(name)).or_default();
                state.claim(key, &route.hosts, hosts);
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
            if let Some(state) = self.listeners.get_mut(name) {
                let hosts = dirty.hosts.entry(Arc::clone(name)).or_default();
                state.unclaim(key, &route.hosts, hosts);
            }
        }
    }

    /// Rules that point to something that is another one now. Their expressions are not compiled again.
    fn link_again(&mut self, dirty: &mut Dirty) {
        for key in std::mem::take(&mut dirty.routes) {
            let Some(mut route) = self.routes.remove(&key) else {
                continue;
            };
            for rule in &mut route.rules {
                let mut links = rule.spec.upstreams().chain(rule.spec.plugins());
                let stale = links.any(|to| dirty.links.contains(to));
                drop(links);
                if stale {
                    *rule = Arc::new(Rule::link(Arc::clone(&rule.spec), self));
                }
            }
            for name in &route.listeners {
                if let Some(state) = self.listeners.get(name) {
                    let hosts = dirty.hosts.entry(Arc::clone(name)).or_default();
                    hosts.extend(state.effective(&route.hosts));
                }
            }
            self.routes.insert(key, route);
        }
    }

    fn set_endpoints(&self, keys: &Keys) {
        for key in keys {
            let Some(upstream) = self.registry.get(key) else {
                continue;
            };
            match self.sources.get(key) {
                Some(EndpointSource::Static(list)) => upstream.set_static(list),
                Some(EndpointSource::Service(service)) => {
                    let shards = self
                        .shards_of
                        .get(service)
                        .filter_map(|shard| self.shards.get(shard));
                    upstream.set_service(shards.flat_map(|shard| &shard.endpoints));
                }
                Some(EndpointSource::Dns(dns)) => upstream.set_dns(dns),
                None => {}
            }
        }
    }

    fn build(&mut self, dirty: &Dirty) {
        if dirty.listeners.is_empty() && dirty.hosts.values().all(BTreeSet::is_empty) {
            return;
        }
        let mut listeners = self.table.listeners.clone();
        listeners.retain(|key, _| self.listeners.contains_key(key));
        for key in dirty.listeners.iter().chain(dirty.hosts.keys()) {
            let Some(state) = self.listeners.get(key) else {
                continue;
            };
            let mut table = match listeners.get(key) {
                Some(before) => ListenerTable::clone(before),
                None => ListenerTable::new(Arc::clone(&state.listener)),
            };
            table.listener = Arc::clone(&state.listener);
            if dirty.listeners.contains(key) {
                table.tls = self.front(state);
                table.access_log.clone_from(&state.access_log);
            }
            for host in dirty.hosts.get(key).into_iter().flatten() {
                table.put(host, self.list(state, host));
            }
            listeners.insert(Arc::clone(key), Arc::new(table));
        }
        self.table = Arc::new(Table { listeners });
    }

    /// What new connections of an HTTPS listener get. A certificate that is not there is one that its names do without.
    fn front(&self, state: &ListenerState) -> Option<TlsFront> {
        let (policy, tls) = (state.tls.as_ref()?, state.listener.tls.as_ref()?);
        let get = |key: &String| self.certificates.get(&**key).map(|c| &*c.server);
        let certificates = tls.certificates.iter().filter_map(get);
        let default = tls.default_certificate.as_ref().and_then(get);
        Some(TlsFront::new(policy, certificates, default))
    }

    /// What the Routes that claim a host serve there.
    fn list(&self, state: &ListenerState, host: &HostPattern) -> Option<Arc<HostRules>> {
        let routes = state
            .claims
            .get(host)?
            .iter()
            .filter_map(|key| self.routes.get(key));
        let entries = routes.flat_map(|route| &route.rules).flat_map(|rule| {
            rule.spec.matches.iter().map(|matcher| Entry {
                rule: Arc::clone(rule),
                matcher: Arc::clone(matcher),
            })
        });
        Some(Arc::new(HostRules::new(host.clone(), entries)))
    }
}

impl Links for Compiler {
    fn upstream(&self, key: &str) -> Option<Arc<Upstream>> {
        self.registry.get(key)
    }

    fn plugin(&self, key: &str) -> Option<Arc<ReadyPlugin>> {
        self.plugins.get(key).cloned()
    }

    fn empty_chain(&self) -> Arc<Chain> {
        Arc::clone(&self.empty_chain)
    }

    fn gate(&self, route: &Arc<str>, rule: u32, bounds: &Concurrency) -> Arc<Gate> {
        let common = &self.registry.common;
        common.rule_gate(route, rule, bounds.max, bounds.queue_depth)
    }
}

impl ListenerState {
    /// The part of a Route's hosts that this listener lets through.
    fn effective(&self, hosts: &[HostPattern]) -> impl Iterator<Item = HostPattern> {
        hosts
            .iter()
            .filter_map(|host| host.intersect(&self.listener.hostname))
    }

    fn claim(&mut self, route: &Key, hosts: &[HostPattern], dirty: &mut BTreeSet<HostPattern>) {
        let effective: Vec<_> = self.effective(hosts).collect();
        for host in effective {
            self.claims
                .entry(host.clone())
                .or_default()
                .insert(Arc::clone(route));
            dirty.insert(host);
        }
    }

    fn unclaim(&mut self, route: &Key, hosts: &[HostPattern], dirty: &mut BTreeSet<HostPattern>) {
        let effective: Vec<_> = self.effective(hosts).collect();
        for host in effective {
            if let Some(routes) = self.claims.get_mut(&host) {
                routes.remove(route);
                if routes.is_empty() {
                    self.claims.remove(&host);
                }
            }
            dirty.insert(host);
        }
    }
}
