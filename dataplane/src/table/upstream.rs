//! Upstreams as tables point to them, and the registry that outlives tables.
//!
//! A table holds an `Arc<Upstream>`; the endpoints behind it change in place. So a pod that comes or goes builds no
//! table, and a retry within a request sees the endpoints of this moment.

use super::budget::RetryBudget;
use super::common::{Common, Permits, Reason, Scope};
use super::endpoints::{self, Endpoints, Group, NEVER};
use super::gate::Gate;
use super::pick::{self, Checks, Endpoint, EndpointSet, EndpointState, Moment, Terms};
use super::wire::Wire;
use crate::telemetry::RequestSeries;
use model::{
    Discovery, DiscoverySource, DnsSource, EndpointSource, HttpSource, StaticEndpoint,
    UpstreamProtocol,
};
use parking_lot::RwLock;
use snapshot::health::Opinion;
use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Where a rule sends requests. The settings are immutable; the endpoints are those of the moment.
pub struct Upstream {
    /// Resource key, such as `Service/shop/web:80`: the `upstream` label of metrics.
    pub key: Arc<str>,
    /// Without the source, which only the compiler asks for.
    pub settings: Box<model::Upstream>,
    /// What the settings allow at once.
    pub gates: Gates,
    pub wire: Wire,
    /// What requests are counted in that are counted by upstream alone, once there are some.
    pub series: OnceLock<Arc<RequestSeries>>,
    endpoints: Arc<Endpoints>,
    budget: Arc<RetryBudget>,
    common: Arc<Common>,
}

/// Bounds on what is under way to an upstream; `None`: without bound. They survive a change of the settings.
#[derive(Clone, Debug, Default)]
pub struct Gates {
    /// `concurrency`: requests, with its queue and how long one may wait in it.
    pub concurrency: Option<(Arc<Gate>, Duration)>,
    /// `circuitBreaker.maxRequests`: without a queue.
    pub requests: Option<Arc<Gate>>,
    /// `circuitBreaker.maxConnections`, with `maxPending` as its queue.
    pub connections: Option<Arc<Gate>>,
}

impl Gates {
    fn new(settings: &model::Upstream, before: Option<&Self>, common: &Common) -> Self {
        let gate = |before: Option<&Arc<Gate>>, bounds: Option<(u32, u32)>| {
            let (limit, depth) = bounds?;
            Some(match before {
                Some(gate) => {
                    gate.set(limit, depth);
                    Arc::clone(gate)
                }
                None => common.gate(Scope::Upstream, limit, depth),
            })
        };
        let of = |pick: fn(&Self) -> Option<&Arc<Gate>>| before.and_then(pick);
        let breaker = settings.circuit_breaker;
        // Over HTTP/2 exchanges share connections.
        let one_each = !matches!(
            settings.protocol,
            UpstreamProtocol::H2 | UpstreamProtocol::H2C
        );
        Self {
            concurrency: settings.concurrency.and_then(|c| {
                let before = of(|g| g.concurrency.as_ref().map(|(gate, _)| gate));
                let gate = gate(before, Some((c.max, c.queue_depth)))?;
                Some((gate, Duration::from_millis(c.queue_timeout_ms.into())))
            }),
            requests: gate(
                of(|g| g.requests.as_ref()),
                breaker.map(|b| (b.max_requests, 0)),
            ),
            connections: gate(
                of(|g| g.connections.as_ref()),
                breaker
                    .filter(|_| one_each)
                    .map(|b| (b.max_connections, b.max_pending)),
            ),
        }
    }
}

/// An endpoint for one attempt.
#[derive(Clone, Debug)]
pub struct Picked {
    pub addr: SocketAddr,
    pub endpoint: Arc<EndpointState>,
    /// What affinity cookies call it.
    pub tag: u64,
}

impl From<&Endpoint> for Picked {
    fn from(e: &Endpoint) -> Self {
        Self {
            addr: e.addr,
            endpoint: Arc::clone(&e.state),
            tag: e.tag,
        }
    }
}

/// How often a name is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Refresh {
    /// Longest time between two lookups; without `respect_ttl` the only one.
    pub interval: Duration,
    /// Sooner, where the answer's time to live says so.
    pub respect_ttl: bool,
}

impl Default for Refresh {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(30),
            respect_ttl: true,
        }
    }
}

/// A DNS name among the endpoints, for the resolver.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DnsName {
    pub host: Box<str>,
    pub port: u16,
    /// Every address of the name has this weight.
    pub weight: u32,
    /// And is in this zone.
    pub zone: Option<Arc<str>>,
    pub labels: EndpointLabels,
    pub refresh: Refresh,
}

/// What a registry says about an endpoint beside where it is.
pub type EndpointLabels = Option<Arc<[(String, String)]>>;

/// An endpoint as a registry lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registered {
    pub endpoint: StaticEndpoint,
    pub labels: EndpointLabels,
}

/// A registry among the sources of endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Poll {
    pub source: HttpSource,
    /// Why its last answer could not be had or used.
    pub trouble: Option<Arc<str>>,
}

impl Upstream {
    /// `before`: the upstream that had this key, whose endpoints go on.
    pub(crate) fn new(
        key: &str,
        settings: &model::Upstream,
        wire: Wire,
        before: Option<&Self>,
        common: &Arc<Common>,
    ) -> Self {
        Self {
            key: key.into(),
            gates: Gates::new(settings, before.map(|u| &u.gates), common),
            settings: Box::new(without_source(settings)),
            wire,
            series: OnceLock::new(),
            endpoints: before.map_or_else(Default::default, |u| Arc::clone(&u.endpoints)),
            budget: before.map_or_else(Default::default, |u| Arc::clone(&u.budget)),
            common: Arc::clone(common),
        }
    }

    /// Whether nothing but endpoints would differ.
    pub(crate) fn is_as(&self, settings: &model::Upstream, wire: &Wire) -> bool {
        *self.settings == without_source(settings) && self.wire.has_identity_of(wire)
    }

    /// The endpoint for the next attempt by the upstream's policy; `None`: 503 `no_healthy_upstream`. `hash`: of what
    /// the policy hashes of the request. `tried`: the endpoints of failed attempts, which are taken again only when
    /// there are no others.
    pub fn pick(&self, hash: Option<u64>, tried: &[SocketAddr]) -> Option<Picked> {
        self.endpoints.pick(hash, tried, |e| Picked::from(e))
    }

    /// The endpoint that an affinity cookie names, while it takes requests.
    pub fn pick_tagged(&self, tag: u64) -> Option<Picked> {
        self.endpoints.with(|set| set.by_tag(tag).map(Picked::from))
    }

    /// The endpoint of all requests with this value.
    pub fn pick_sticky(&self, key: u64, tried: &[SocketAddr]) -> Option<Picked> {
        self.endpoints
            .with(|set| set.by_rendezvous(key, tried).map(Picked::from))
    }

    /// Whether a healthy endpoint that is not among `tried` takes requests.
    pub fn can_serve(&self, tried: &[SocketAddr]) -> bool {
        self.endpoints.with(|set| set.has_healthy(tried))
    }

    /// Whether any endpoint takes requests, healthy or not.
    pub fn has_candidates(&self) -> bool {
        self.endpoints.with(|set| !set.candidates().is_empty())
    }

    /// Says how an attempt went: `good` is an answer below 500. What the client is to blame for is not reported.
    pub fn report(&self, picked: &Picked, good: bool) {
        if let Some(passive) = &self.settings.health.passive {
            let (endpoints, common) = (&self.endpoints, &self.common);
            let Picked { addr, endpoint, .. } = picked;
            endpoints::judge(endpoints, passive, common, *addr, endpoint, good, pick::now);
        }
    }

    /// Whether a request that has failed here may be tried again, if retries may be this share of the requests under
    /// way; if so it is counted.
    pub fn may_retry(&self, percent: u64) -> bool {
        let set = self.endpoints();
        let in_flight = set.endpoints().iter().map(|e| e.state.in_flight()).sum();
        self.budget.take(pick::now() / 1000, in_flight, percent)
    }

    /// Nobody checks any more.
    pub(crate) fn forget_checks(&self) {
        for e in self.endpoints().endpoints() {
            self.checked(e.addr, Checks::Silent);
        }
    }

    /// Says what active checks have found about an endpoint.
    pub(crate) fn checked(&self, addr: SocketAddr, checks: Checks) {
        let overrules = checks == Checks::Passing && self.common.health.is_alone();
        let news = self.endpoints.checked(addr, checks, overrules, pick::now());
        if news {
            match checks {
                Checks::Failing => {
                    self.common.ejected(Reason::ActiveCheck);
                    let (upstream, reason) = (&*self.key, "active_check");
                    tracing::warn!(event = "backend_unhealthy", upstream, endpoint = %addr, reason, "an endpoint fails its checks");
                }
                Checks::Passing => {
                    let (upstream, reason) = (&*self.key, "active_check");
                    tracing::info!(event = "backend_healthy", upstream, endpoint = %addr, reason, "an endpoint passes its checks again");
                }
                Checks::Silent => {}
            }
        }
        self.common.health.changed();
    }

    /// Goes on from what others have found in their checks of an endpoint.
    pub(crate) fn adopt_failing(&self, addr: SocketAddr) {
        self.endpoints
            .checked(addr, Checks::Failing, false, pick::now());
        self.common.health.changed();
    }

    /// Whether this data plane checks an endpoint, where checks are asked for.
    pub(crate) fn checks(&self, addr: SocketAddr) -> bool {
        self.common.health.checks(addr)
    }

    /// Whether this data plane finds out which of its endpoints work.
    pub(crate) fn judges(&self) -> bool {
        let health = &self.settings.health;
        health.active.is_some() || health.passive.is_some()
    }

    /// Takes what other data planes have found out about its endpoints; whether it has changed anything.
    pub(crate) fn prune(
        &self,
        verdicts: Option<&BTreeMap<SocketAddr, Opinion>>,
        until: Moment,
        now: Moment,
    ) -> bool {
        let verdicts = verdicts.filter(|_| self.judges());
        self.endpoints.prune(verdicts, until, now)
    }

    /// Ends ejections and warms endpoints up, as far as it is time; when to call it again, if ever.
    pub(crate) fn refresh(&self, now: Moment) -> Option<Moment> {
        Some(self.endpoints.refresh(now)).filter(|due| *due != NEVER)
    }

    /// The endpoints of this moment.
    pub fn endpoints(&self) -> Arc<EndpointSet> {
        self.endpoints.set()
    }

    /// DNS names whose addresses [`Self::set_resolved`] wants to be told.
    pub fn dns_names(&self) -> Vec<DnsName> {
        self.endpoints.names()
    }

    /// The addresses of a name. Until the first call it contributes nothing; a failed lookup is no call, so that
    /// stale addresses go on serving. Addresses of a name that is not (or no longer) listed are dropped.
    pub fn set_resolved(&self, host: &str, addresses: &[IpAddr]) {
        if self.endpoints.is_resolved(host, addresses) {
            return;
        }
        self.change(|sources| {
            let mut names = sources.groups.iter().flat_map(|g| &g.names);
            if names.any(|n| *n.host == *host) {
                sources.resolved.insert(host.into(), addresses.into());
            }
        });
    }

    /// Registries that [`Self::set_polled`] wants to be told about.
    pub fn registries(&self) -> Vec<Poll> {
        self.endpoints.registries()
    }

    /// What a registry says: its list, or why there is none, in which case the list before it goes on serving. Of a
    /// registry that is not (or no longer) a source nothing is taken.
    pub fn set_polled(&self, source: &HttpSource, said: Result<&[Registered], String>) {
        self.change(|sources| {
            for group in &mut sources.groups {
                let Some(poll) = &mut group.registry else {
                    continue;
                };
                if poll.source != *source {
                    continue;
                }
                match &said {
                    Ok(list) => {
                        poll.trouble = None;
                        let registry = group.registry.take();
                        *group = Group {
                            registry,
                            ..Group::registered(list)
                        };
                    }
                    Err(trouble) => poll.trouble = Some(trouble.as_str().into()),
                }
            }
            sources.forget_names();
        });
    }

    /// Endpoints that the object lists.
    pub(crate) fn set_static(&self, list: &[StaticEndpoint]) {
        self.set_groups(false, None, vec![Group::listed(list)]);
    }

    /// The addresses of one host name.
    pub(crate) fn set_dns(&self, source: &DnsSource) {
        self.set_groups(false, None, vec![Group::name(source)]);
    }

    /// What several sources say. `endpoints_of`: those of a Service.
    pub(crate) fn set_discovery<'a, E: Iterator<Item = &'a model::Endpoint>>(
        &self,
        discovery: &Discovery,
        endpoints_of: impl Fn(&str) -> E,
    ) {
        let groups = discovery.sources.iter().map(|source| match source {
            DiscoverySource::Static(list) => Group::listed(list),
            DiscoverySource::Dns(dns) => Group::name(dns),
            DiscoverySource::Service(service) => Group::service(endpoints_of(service)),
            DiscoverySource::Http(source) => Group {
                registry: Some(Poll {
                    source: source.clone(),
                    trouble: None,
                }),
                ..Group::default()
            },
        });
        let filter = discovery.filter.as_deref();
        self.set_groups(discovery.first_available, filter, groups.collect());
    }

    fn set_groups(&self, first_available: bool, filter: Option<&str>, groups: Vec<Group>) {
        self.change(|sources| {
            sources.terms = self.terms();
            sources.filter_by(filter);
            sources.replace(first_available, groups);
        });
    }

    /// Endpoints of a Service, over all of its shards.
    pub(crate) fn set_service<'a>(&self, list: impl Iterator<Item = &'a model::Endpoint>) {
        self.set_groups(false, None, vec![Group::service(list)]);
    }

    fn terms(&self) -> Terms {
        Terms {
            balance: self.settings.balance.clone(),
            min_healthy_percent: self.settings.health.min_healthy_percent,
            own_zone: self.common.own_zone.clone(),
        }
    }

    fn change(&self, edit: impl FnOnce(&mut endpoints::Sources)) {
        self.endpoints.change(pick::now(), edit);
        if self.endpoints.has_plans() || self.settings.health.active.is_some() {
            self.common.changed.notify_one();
        }
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Upstream").field(&self.key).finish()
    }
}

fn without_source(settings: &model::Upstream) -> model::Upstream {
    model::Upstream {
        source: EndpointSource::Static(Vec::new()),
        ..settings.clone()
    }
}

/// All upstreams by key: for the resolver, active checks, the admin pages and metrics. Tables have their own pointers.
#[derive(Default)]
pub struct Registry {
    upstreams: RwLock<BTreeMap<Arc<str>, Arc<Upstream>>>,
    pub common: Arc<Common>,
}

impl Registry {
    pub(crate) fn new(common: Arc<Common>) -> Self {
        Self {
            upstreams: RwLock::default(),
            common,
        }
    }

    pub fn get(&self, key: &str) -> Option<Arc<Upstream>> {
        self.upstreams.read().get(key).cloned()
    }

    /// Every upstream, in the order of keys.
    pub fn all(&self) -> Vec<Arc<Upstream>> {
        self.upstreams.read().values().cloned().collect()
    }

    pub(crate) fn insert(&self, upstream: Arc<Upstream>) {
        self.upstreams
            .write()
            .insert(Arc::clone(&upstream.key), upstream);
        // Its checks may be other ones, or none.
        self.common.changed.notify_one();
    }

    pub(crate) fn remove(&self, key: &str) {
        self.upstreams.write().remove(key);
        self.common.changed.notify_one();
    }

    /// Permits of a scope.
    pub fn permits(&self, scope: Scope) -> Permits {
        self.common.permits(scope)
    }
}

#[cfg(test)]
#[path = "tests/upstream.rs"]
mod tests;
