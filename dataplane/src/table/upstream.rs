//! Upstreams as tables point to them, and the registry that outlives tables.
//!
//! A table holds an `Arc<Upstream>`; the endpoints behind it change in place. So a pod that comes or goes builds no
//! table, and a retry within a request sees the endpoints of this moment.

use super::pick::{Endpoint, EndpointSet, EndpointState};
use arc_swap::ArcSwap;
use model::{BalancePolicy, EndpointSource, StaticEndpoint};
use parking_lot::{Mutex, RwLock};
use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Where a rule sends requests. The settings are immutable; the endpoints are those of the moment.
pub struct Upstream {
    /// Resource key, such as `Service/shop/web:80`: the `upstream` label of metrics.
    pub key: Arc<str>,
    /// Without the source, which only the compiler asks for.
    pub settings: Box<model::Upstream>,
    endpoints: Arc<Endpoints>,
}

/// An endpoint for one attempt.
#[derive(Clone, Debug)]
pub struct Picked {
    pub addr: SocketAddr,
    pub endpoint: Arc<EndpointState>,
}

/// A DNS name among the static endpoints, for the resolver.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DnsName {
    pub host: Box<str>,
    pub port: u16,
    /// Every address of the name has this weight.
    pub weight: u32,
}

impl Upstream {
    /// `before`: the upstream that had this key, whose endpoints go on.
    pub(crate) fn new(key: &str, settings: &model::Upstream, before: Option<&Self>) -> Self {
        Self {
            key: key.into(),
            settings: Box::new(without_source(settings)),
            endpoints: before.map_or_else(Default::default, |u| Arc::clone(&u.endpoints)),
        }
    }

    /// Whether nothing but endpoints would differ.
    pub(crate) fn has_settings_of(&self, settings: &model::Upstream) -> bool {
        *self.settings == without_source(settings)
    }

    /// The endpoint for the next attempt; `None`: 503 `no_healthy_upstream`. `except` is the address of a failed
    /// attempt: it is taken again only when there is no other.
    pub fn pick(&self, except: Option<SocketAddr>) -> Option<Picked> {
        let set = self.endpoints.set.load();
        let turn = match set.candidates() {
            // Nothing to choose: no counter to fight for.
            [] | [_] => 0,
            _ => self.endpoints.turn.fetch_add(1, Ordering::Relaxed),
        };
        let chosen = set.pick(turn, except)?;
        Some(Picked {
            addr: chosen.addr,
            endpoint: Arc::clone(&chosen.state),
        })
    }

    /// The endpoints of this moment.
    pub fn endpoints(&self) -> Arc<EndpointSet> {
        self.endpoints.set.load_full()
    }

    /// DNS names whose addresses [`Self::set_resolved`] wants to be told.
    pub fn dns_names(&self) -> Vec<DnsName> {
        self.endpoints.sources.lock().names.clone()
    }

    /// The addresses of a name. Until the first call it contributes nothing; a failed lookup is no call, so that
    /// stale addresses go on serving. Addresses of a name that is not (or no longer) listed are dropped.
    pub fn set_resolved(&self, host: &str, addresses: &[IpAddr]) {
        self.endpoints.change(|sources| {
            if sources.names.iter().any(|n| *n.host == *host) {
                sources.resolved.insert(host.into(), addresses.into());
            }
        });
    }

    /// Endpoints that the object lists.
    pub(crate) fn set_static(&self, list: &[StaticEndpoint]) {
        let mut members = Vec::new();
        let mut names = Vec::new();
        for StaticEndpoint {
            host, port, weight, ..
        } in list
        {
            match literal(host) {
                Some(ip) => members.push(Member::fixed(SocketAddr::new(ip, *port), *weight)),
                None => names.push(DnsName {
                    host: host.as_str().into(),
                    port: *port,
                    weight: *weight,
                }),
            }
        }
        self.endpoints.change(|sources| {
            sources.policy = self.settings.balance.policy;
            sources
                .resolved
                .retain(|host, _| names.iter().any(|n| n.host == *host));
            sources.members = members;
            sources.names = names;
        });
    }

    /// Endpoints of a Service, over all of its shards.
    pub(crate) fn set_service<'a>(&self, list: impl Iterator<Item = &'a model::Endpoint>) {
        let member = |e: &model::Endpoint| Member {
            addr: SocketAddr::new(e.address, e.port),
            weight: 1,
            ready: e.ready,
            serving: e.serving,
        };
        self.endpoints.change(|sources| {
            sources.policy = self.settings.balance.policy;
            sources.members = list.map(member).collect();
            sources.names.clear();
            sources.resolved.clear();
        });
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

fn literal(host: &str) -> Option<IpAddr> {
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    bare.unwrap_or(host).parse().ok()
}

/// What survives a change of the settings.
struct Endpoints {
    set: ArcSwap<EndpointSet>,
    turn: AtomicU64,
    /// Taken by writers only: the compiler and the resolver.
    sources: Mutex<Sources>,
}

impl Default for Endpoints {
    fn default() -> Self {
        Self {
            set: ArcSwap::from_pointee(EndpointSet::new(BalancePolicy::RoundRobin, Vec::new())),
            turn: AtomicU64::default(),
            sources: Mutex::new(Sources {
                policy: BalancePolicy::RoundRobin,
                members: Vec::new(),
                names: Vec::new(),
                resolved: BTreeMap::new(),
            }),
        }
    }
}

struct Sources {
    policy: BalancePolicy,
    members: Vec<Member>,
    names: Vec<DnsName>,
    resolved: BTreeMap<Box<str>, Box<[IpAddr]>>,
}

#[derive(Clone, Copy)]
struct Member {
    addr: SocketAddr,
    weight: u32,
    ready: bool,
    serving: bool,
}

impl Member {
    fn fixed(addr: SocketAddr, weight: u32) -> Self {
        Self {
            addr,
            weight,
            ready: true,
            serving: true,
        }
    }
}

impl Endpoints {
    fn change(&self, edit: impl FnOnce(&mut Sources)) {
        let mut sources = self.sources.lock();
        edit(&mut sources);
        let before = self.set.load();
        let set = EndpointSet::new(sources.policy, sources.merge(before.endpoints()));
        self.set.store(Arc::new(set));
    }
}

impl Sources {
    /// One endpoint an address, in the order of addresses. Named twice (a Pod in two slices while they are
    /// rebalanced), it is ready if it is so anywhere, and has the greater weight.
    fn merge(&self, before: &[Endpoint]) -> Vec<Endpoint> {
        let mut members = self.members.clone();
        for name in &self.names {
            let addresses = self.resolved.get(&name.host).map_or(&[][..], |a| a);
            members.extend(
                addresses
                    .iter()
                    .map(|ip| Member::fixed(SocketAddr::new(*ip, name.port), name.weight)),
            );
        }
        members.sort_by_key(|m| m.addr);
        members.dedup_by(|next, kept| {
            let same = next.addr == kept.addr;
            if same {
                kept.ready |= next.ready;
                kept.serving |= next.serving;
                kept.weight = kept.weight.max(next.weight);
            }
            same
        });
        let state_of = |addr: SocketAddr| {
            let at = before.binary_search_by_key(&addr, |e| e.addr).ok();
            at.and_then(|i| before.get(i))
                .map_or_else(Default::default, |e| Arc::clone(&e.state))
        };
        let endpoint = |m: Member| Endpoint {
            addr: m.addr,
            weight: m.weight,
            ready: m.ready,
            serving: m.serving,
            state: state_of(m.addr),
        };
        members.into_iter().map(endpoint).collect()
    }
}

/// All upstreams by key: for the resolver, the admin pages and metrics. Tables have their own pointers.
#[derive(Default)]
pub struct Registry(RwLock<BTreeMap<Arc<str>, Arc<Upstream>>>);

impl Registry {
    pub fn get(&self, key: &str) -> Option<Arc<Upstream>> {
        self.0.read().get(key).cloned()
    }

    /// Every upstream, in the order of keys.
    pub fn all(&self) -> Vec<Arc<Upstream>> {
        self.0.read().values().cloned().collect()
    }

    pub(crate) fn insert(&self, upstream: Arc<Upstream>) {
        self.0.write().insert(Arc::clone(&upstream.key), upstream);
    }

    pub(crate) fn remove(&self, key: &str) {
        self.0.write().remove(key);
    }
}

#[cfg(test)]
#[path = "tests/upstream.rs"]
mod tests;
