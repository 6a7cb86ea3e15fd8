//! From changes to tables.
//!
//! Everything that can fail (expressions, plugin settings) happens first and by itself; only when all of it has
//! worked does anything change. What follows works on the keys that the changes touch: rules that name a changed
//! upstream or plugin are linked anew, hosts that a changed Route names are listed anew, endpoints are replaced in
//! place. Everything else is shared with the table before.

mod index;
mod listener;
mod put;
mod wires;

use super::common::{Common, Scope};
use super::gate::Gate;
use super::hosts::{Entry, HostRules};
use super::rule::{Links, ReadyPlugin, Rule};
use super::stage::{ByKey, Key, ReadyCertificate, Rejected, Route, Staged};
use super::upstream::{Registry, Upstream};
use super::{ListenerTable, Owners, PortTable, Table};
use crate::engine::TlsFront;
use foldhash::fast::FixedState;
use hashbrown::HashSet;
use index::Index;
use listener::ListenerState;
use model::{
    Concurrency, EndpointShard, EndpointSource, HostPattern, Listener, ListenerProtocol, Tenant,
};
use plugins::Meter;
use snapshot::Changes;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

type Map<K, V> = hashbrown::HashMap<K, V, FixedState>;
type Keys = HashSet<Key, FixedState>;

/// Owns what was received and builds tables from it. One task has it.
pub struct Compiler {
    table: Arc<Table>,
    registry: Arc<Registry>,
    listeners: BTreeMap<Key, ListenerState>,
    routes: Map<Key, Box<Route>>,
    plugins: Map<Key, Arc<ReadyPlugin>>,
    certificates: Map<Key, ReadyCertificate>,
    tenants: BTreeMap<Key, Tenant>,
    owners: Owners,
    /// Keys of those that listeners have shown to upstreams.
    shown: BTreeSet<Key>,
    sources: Map<Key, EndpointSource>,
    shards: Map<Key, EndpointShard>,
    /// Routes by the upstreams and plugins that they name, shards and upstreams by their Service.
    by_upstream: Index,
    by_plugin: Index,
    shards_of: Index,
    upstreams_of: Index,
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
    /// Hosts have other owners.
    owners: bool,
    /// By listener.
    hosts: BTreeMap<Key, Hosts>,
}

/// Hosts to be listed anew, with the Routes that have come to them. Those that were there before are in the table.
#[derive(Default)]
struct Hosts(BTreeMap<HostPattern, Vec<Key>>);

impl Hosts {
    /// What it serves is another.
    fn touch(&mut self, host: &HostPattern) {
        if !self.0.contains_key(host) {
            self.0.insert(host.clone(), Vec::new());
        }
    }

    /// A Route has come to it.
    fn claim(&mut self, host: HostPattern, route: &Key) {
        self.0.entry(host).or_default().push(Arc::clone(route));
    }
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
            tenants: BTreeMap::new(),
            owners: Owners::default(),
            shown: BTreeSet::new(),
            sources: Map::default(),
            shards: Map::default(),
            by_upstream: Index::default(),
            by_plugin: Index::default(),
            shards_of: Index::default(),
            upstreams_of: Index::default(),
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
        let mut staged = Staged::default();
        staged.add(changes);
        self.put(staged)
    }

    /// The same for changes that were compiled part by part.
    ///
    /// # Errors
    /// As [`Self::apply`].
    pub fn put(&mut self, mut staged: Staged) -> Result<Arc<Table>, Vec<Rejected>> {
        if !staged.rejected.is_empty() {
            return Err(staged.rejected);
        }
        if staged.full {
            self.remove_all_but(&mut staged);
        }
        let shown = self.shown(&staged);
        let wires = self.wires(&staged, &shown)?;
        self.shown = shown;
        let mut dirty = Dirty::default();
        self.rewire(&wires, &staged.upstreams, &mut dirty);
        self.put_plugins(staged.plugins, &mut dirty);
        self.put_upstreams(staged.upstreams, wires, &mut dirty);
        self.put_shards(staged.shards, &mut dirty);
        self.put_certificates(staged.certificates, &mut dirty);
        self.put_tenants(staged.tenants, &mut dirty);
        self.put_listeners(staged.listeners, &mut dirty);
        self.put_routes(staged.routes, &mut dirty);
        self.link_again(&mut dirty);
        self.set_endpoints(&dirty.endpoints);
        self.build(&dirty);
        Ok(self.table())
    }

    /// What a full transaction does not name is gone.
    fn remove_all_but(&self, staged: &mut Staged) {
        fn add<'a, T>(staged: &mut ByKey<T>, present: impl Iterator<Item = &'a Key>) {
            for key in present {
                staged.entry(Arc::clone(key)).or_insert(None);
            }
        }
        add(&mut staged.listeners, self.listeners.keys());
        add(&mut staged.routes, self.routes.keys());
        add(&mut staged.upstreams, self.sources.keys());
        add(&mut staged.shards, self.shards.keys());
        add(&mut staged.plugins, self.plugins.keys());
        add(&mut staged.certificates, self.certificates.keys());
        add(&mut staged.tenants, self.tenants.keys());
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
                    for host in state.effective(&route.hosts) {
                        hosts.touch(&host);
                    }
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
                    upstream.set_service(self.endpoints_of(service));
                }
                Some(EndpointSource::Dns(dns)) => upstream.set_dns(dns),
                Some(EndpointSource::Discovery(discovery)) => {
                    upstream.set_discovery(discovery, |service| self.endpoints_of(service));
                }
                None => {}
            }
        }
    }

    /// The endpoints of a Service, over all of its shards.
    fn endpoints_of(&self, service: &str) -> impl Iterator<Item = &model::Endpoint> + use<'_> {
        let shards = self.shards_of.get(service);
        let shards = shards.filter_map(|shard| self.shards.get(shard));
        shards.flat_map(|shard| &shard.endpoints)
    }

    fn build(&mut self, dirty: &Dirty) {
        let same_hosts = dirty.hosts.values().all(|hosts| hosts.0.is_empty());
        if dirty.listeners.is_empty() && same_hosts && !dirty.owners {
            return;
        }
        let mut listeners = self.table.listeners.clone();
        listeners.retain(|key, _| self.listeners.contains_key(key));
        for key in self.touched(dirty) {
            let Some(state) = self.listeners.get(key) else {
                continue;
            };
            let mut table = match listeners.get(key) {
                Some(before) => ListenerTable::clone(before),
                None => ListenerTable::new(Arc::clone(key), Arc::clone(&state.listener)),
            };
            table.listener = Arc::clone(&state.listener);
            table.owners = Arc::clone(&self.owners);
            if dirty.listeners.contains(key) {
                table.tls = self.front(state);
                table.access_log.clone_from(&state.access_log);
                table.tracing.clone_from(&state.tracing);
                table.gate = self.gate_of(key, &state.listener);
            }
            for (host, come) in dirty.hosts.get(key).into_iter().flat_map(|hosts| &hosts.0) {
                let rules = self.list(key, state, host, table.rules(host), come);
                table.put(host, rules);
            }
            listeners.insert(Arc::clone(key), Arc::new(table));
        }
        let ports = self.ports(&listeners, dirty);
        let mut datagrams: BTreeMap<u16, Arc<ListenerTable>> = BTreeMap::new();
        for listener in listeners.values().filter(|l| takes_datagrams(l)) {
            let place = |l: &ListenerTable| (l.listener.order, Arc::clone(&l.key));
            let first = datagrams.entry(listener.listener.port);
            let first = first.or_insert_with(|| Arc::clone(listener));
            if place(listener) < place(first) {
                *first = Arc::clone(listener);
            }
        }
        self.table = Arc::new(Table {
            listeners,
            ports,
            datagrams,
            revision: AtomicU64::default(),
        });
    }

    /// Keys of listeners that are others now, or were there before.
    fn touched<'a>(&'a self, dirty: &'a Dirty) -> impl Iterator<Item = &'a Key> {
        let all = self.listeners.keys().filter(|_| dirty.owners);
        dirty.listeners.iter().chain(dirty.hosts.keys()).chain(all)
    }

    /// The ports of these listeners, of which those that have nothing to do with the dirty ones stay as they are.
    fn ports(
        &self,
        listeners: &BTreeMap<Key, Arc<ListenerTable>>,
        dirty: &Dirty,
    ) -> BTreeMap<u16, Arc<PortTable>> {
        let mut ports = self.table.ports.clone();
        let touched = self.touched(dirty);
        let touched = touched.flat_map(|key| [self.table.listeners.get(key), listeners.get(key)]);
        let touched: BTreeSet<u16> = touched.flatten().map(|l| l.listener.port).collect();
        let mut of_port: BTreeMap<u16, Vec<Arc<ListenerTable>>> = BTreeMap::new();
        for listener in listeners.values().filter(|l| !takes_datagrams(l)) {
            if touched.contains(&listener.listener.port) {
                let all = of_port.entry(listener.listener.port).or_default();
                all.push(Arc::clone(listener));
            }
        }
        for port in touched {
            let before = ports.remove(&port);
            let all = of_port.remove(&port).unwrap_or_default();
            if let Some(table) = PortTable::new(all, before.as_deref()) {
                ports.insert(port, Arc::new(table));
            }
        }
        ports
    }

    /// What new connections of a listener get whose TLS ends here. A certificate that is not there is one that its names do without.
    fn front(&self, state: &ListenerState) -> Option<TlsFront> {
        let (policy, tls) = (state.tls.as_ref()?, state.listener.tls.as_ref()?);
        let get = |key: &String| self.certificates.get(&**key).map(|c| &*c.server);
        let certificates = tls.certificates.iter().filter_map(get);
        let default = tls.default_certificate.as_ref().and_then(get);
        Some(TlsFront::new(policy, certificates, default))
    }

    /// Before the requests of a listener and of all others of its owner, which is what its key says before the last slash.
    fn gate_of(&self, key: &Key, listener: &Listener) -> Option<(Arc<Gate>, Duration)> {
        let bounds = listener.concurrency.as_ref()?;
        let owner = key.rsplit_once('/').map_or(&**key, |(owner, _)| owner);
        let common = &self.registry.common;
        let gate = common.kept_gate(Scope::Gateway, &owner.into(), 0, bounds);
        Some((gate, Duration::from_millis(bounds.queue_timeout_ms.into())))
    }

    /// What Routes serve at a host: those that did before, and those that have come.
    fn list(
        &self,
        listener: &Key,
        state: &ListenerState,
        host: &HostPattern,
        before: Option<&HostRules>,
        come: &[Key],
    ) -> Option<HostRules> {
        let there = before.into_iter().flat_map(HostRules::entries);
        let there = there.map(|entry| &entry.rule.spec.route.key);
        let keys: HashSet<&Key, FixedState> = there.chain(come).collect();
        let routes = keys.into_iter().filter_map(|key| self.routes.get(key));
        let routes = routes.filter(|route| {
            let mut hosts = state.effective(&route.hosts);
            route.listeners.contains(listener) && hosts.any(|one| one == *host)
        });
        let rules = routes.flat_map(|route| &route.rules);
        let entries: Vec<Entry> = rules.flat_map(Entry::all).collect();
        (!entries.is_empty()).then(|| HostRules::new(host.clone(), entries))
    }
}

fn takes_datagrams(table: &ListenerTable) -> bool {
    table.listener.protocol == ListenerProtocol::Udp
}

impl Links for Compiler {
    fn upstream(&self, key: &str) -> Option<Arc<Upstream>> {
        self.registry.get(key)
    }

    fn plugin(&self, key: &str) -> Option<Arc<ReadyPlugin>> {
        self.plugins.get(key).cloned()
    }

    fn meter(&self, kind: &str) -> Arc<dyn Meter> {
        self.registry.common.plugins.of(kind)
    }

    fn gate(&self, route: &Arc<str>, rule: u32, bounds: &Concurrency) -> Arc<Gate> {
        let common = &self.registry.common;
        common.kept_gate(Scope::Route, route, rule, bounds)
    }
}
