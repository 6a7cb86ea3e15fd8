//! The endpoints behind an upstream, which change in place: where they come from, which of them are set aside, and
//! the set of the moment.

use super::common::{Common, Reason};
use super::filter::Filter;
use super::pick::{Ask, Checks, Endpoint, EndpointSet, EndpointState, Moment, Terms, WARM, hash};
use super::upstream::{DnsName, EndpointLabels, Poll, Refresh, Registered};
use arc_swap::ArcSwap;
use model::{DnsSource, PassiveHealth, StaticEndpoint};
use parking_lot::Mutex;
use snapshot::health::Opinion;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Survives a change of the upstream's settings.
pub(super) struct Endpoints {
    set: ArcSwap<EndpointSet>,
    turn: AtomicU64,
    /// When [`Self::refresh`] has something to do; [`NEVER`]: nothing.
    due: AtomicU64,
    /// Taken to make a new set: by the compiler, the resolver, and whoever finds that an endpoint fails.
    sources: Mutex<Sources>,
}

pub(super) const NEVER: Moment = u64::MAX;

#[derive(Default)]
pub(super) struct Sources {
    pub(super) terms: Terms,
    /// Of groups that each say where endpoints are, those after the first that has a ready one do not count.
    pub(super) first_available: bool,
    /// What does not pass is as if no group had named it.
    filter: Option<Filter>,
    pub(super) groups: Vec<Group>,
    pub(super) resolved: BTreeMap<Box<str>, Box<[IpAddr]>>,
}

/// What one source says.
#[derive(Default)]
pub(super) struct Group {
    /// The registry that says it, which is asked again and again.
    pub(super) registry: Option<Poll>,
    pub(super) members: Vec<Member>,
    pub(super) names: Vec<DnsName>,
}

impl Group {
    /// Endpoints that are written down: addresses, and names that have to be resolved.
    pub(super) fn listed(list: &[StaticEndpoint]) -> Self {
        let mut group = Self::default();
        for endpoint in list {
            group.add(endpoint, None);
        }
        group
    }

    /// The same as a registry has written it down.
    pub(super) fn registered(list: &[Registered]) -> Self {
        let mut group = Self::default();
        for Registered { endpoint, labels } in list {
            group.add(endpoint, labels.clone());
        }
        group
    }

    fn add(&mut self, endpoint: &StaticEndpoint, labels: EndpointLabels) {
        let StaticEndpoint {
            host,
            port,
            weight,
            zone,
        } = endpoint;
        let zone: Option<Arc<str>> = zone.as_deref().map(Into::into);
        match literal(host) {
            Some(ip) => self.members.push(Member {
                labels,
                ..Member::fixed(SocketAddr::new(ip, *port), *weight, zone)
            }),
            None => self.names.push(DnsName {
                host: host.as_str().into(),
                port: *port,
                weight: *weight,
                zone,
                labels,
                refresh: Refresh::default(),
            }),
        }
    }

    /// The endpoints of a Service.
    pub(super) fn service<'a>(list: impl Iterator<Item = &'a model::Endpoint>) -> Self {
        let member = |e: &model::Endpoint| Member {
            addr: SocketAddr::new(e.address, e.port),
            weight: 1,
            ready: e.ready,
            serving: e.serving,
            zone: e.zone.clone(),
            labels: None,
        };
        Self {
            members: list.map(member).collect(),
            ..Self::default()
        }
    }

    /// The addresses of one name.
    pub(super) fn name(source: &DnsSource) -> Self {
        let name = DnsName {
            host: source.hostname.as_str().into(),
            port: source.port,
            weight: 1,
            zone: None,
            labels: None,
            refresh: Refresh {
                interval: Duration::from_millis(source.refresh_ms.into()),
                respect_ttl: source.respect_ttl,
            },
        };
        Self {
            names: vec![name],
            ..Self::default()
        }
    }

    fn members<'a>(
        &'a self,
        resolved: &'a BTreeMap<Box<str>, Box<[IpAddr]>>,
    ) -> impl Iterator<Item = Member> + 'a {
        let named = self.names.iter().flat_map(|name| {
            let addresses = resolved.get(&name.host).map_or(&[][..], |a| a);
            addresses.iter().map(|ip| {
                let addr = SocketAddr::new(*ip, name.port);
                Member {
                    labels: name.labels.clone(),
                    ..Member::fixed(addr, name.weight, name.zone.clone())
                }
            })
        });
        self.members.iter().cloned().chain(named)
    }
}

fn literal(host: &str) -> Option<IpAddr> {
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    bare.unwrap_or(host).parse().ok()
}

#[derive(Clone)]
pub(super) struct Member {
    pub(super) addr: SocketAddr,
    pub(super) weight: u32,
    pub(super) ready: bool,
    pub(super) serving: bool,
    pub(super) zone: Option<Arc<str>>,
    pub(super) labels: EndpointLabels,
}

impl Member {
    pub(super) fn fixed(addr: SocketAddr, weight: u32, zone: Option<Arc<str>>) -> Self {
        Self {
            addr,
            weight,
            ready: true,
            serving: true,
            zone,
            labels: None,
        }
    }
}

impl Default for Endpoints {
    fn default() -> Self {
        Self {
            set: ArcSwap::from_pointee(EndpointSet::new(&Terms::default(), Vec::new(), None)),
            turn: AtomicU64::default(),
            due: AtomicU64::new(NEVER),
            sources: Mutex::default(),
        }
    }
}

impl Endpoints {
    /// The set of this moment.
    pub(super) fn set(&self) -> Arc<EndpointSet> {
        self.set.load_full()
    }

    pub(super) fn names(&self) -> Vec<DnsName> {
        let sources = self.sources.lock();
        let names = sources.groups.iter().flat_map(|group| &group.names);
        names.cloned().collect()
    }

    /// The registries among the sources.
    pub(super) fn registries(&self) -> Vec<Poll> {
        let sources = self.sources.lock();
        let registries = sources.groups.iter().filter_map(|g| g.registry.clone());
        registries.collect()
    }

    /// Whether these are the addresses of the name already.
    pub(super) fn is_resolved(&self, host: &str, addresses: &[IpAddr]) -> bool {
        let sources = self.sources.lock();
        sources
            .resolved
            .get(host)
            .is_some_and(|a| **a == *addresses)
    }

    /// As [`EndpointSet::pick`], on the set of this moment.
    pub(super) fn pick<T>(
        &self,
        hash: Option<u64>,
        tried: &[SocketAddr],
        then: impl FnOnce(&Endpoint) -> T,
    ) -> Option<T> {
        let turn = &self.turn;
        let ask = Ask { turn, hash, tried };
        self.set.load().pick(&ask).map(then)
    }

    /// Looks into the set of this moment.
    pub(super) fn with<T>(&self, look: impl FnOnce(&EndpointSet) -> T) -> T {
        look(&self.set.load())
    }

    /// Changes the sources and makes a new set of them.
    pub(super) fn change(&self, now: Moment, edit: impl FnOnce(&mut Sources)) {
        let mut sources = self.sources.lock();
        edit(&mut sources);
        self.rebuild(&sources, now);
    }

    /// Sets an endpoint aside if the settings allow so many; whether that was done.
    pub(super) fn eject(&self, addr: SocketAddr, passive: &PassiveHealth, now: Moment) -> bool {
        let sources = self.sources.lock();
        let set = self.set.load();
        let Some(endpoint) = find(set.endpoints(), addr) else {
            return false;
        };
        if endpoint.state.is_ejected() {
            return false;
        }
        let all = set.endpoints().len();
        let ejected = set
            .endpoints()
            .iter()
            .filter(|e| e.state.is_ejected())
            .count();
        let percent = usize::try_from(passive.max_eject_percent).unwrap_or(100);
        if ejected >= (all * percent / 100).max(1) {
            return false;
        }
        endpoint.state.eject(passive.ejection_ms.into(), now);
        self.rebuild(&sources, now);
        true
    }

    /// Notes what active checks have found; whether it is another endpoint for it. `overrules`: whatever others say.
    pub(super) fn checked(
        &self,
        addr: SocketAddr,
        checks: Checks,
        overrules: bool,
        now: Moment,
    ) -> bool {
        let sources = self.sources.lock();
        let set = self.set.load();
        let Some(endpoint) = find(set.endpoints(), addr) else {
            return false;
        };
        let news = endpoint.state.set_checks(checks, now);
        if news | (overrules && endpoint.state.prune(None, now)) {
            self.rebuild(&sources, now);
        }
        news
    }

    /// Takes what other data planes have found, until then; whether any endpoint is another one for it.
    pub(super) fn prune(
        &self,
        verdicts: Option<&BTreeMap<SocketAddr, Opinion>>,
        until: Moment,
        now: Moment,
    ) -> bool {
        let sources = self.sources.lock();
        let mut news = false;
        for e in self.set.load().endpoints() {
            let verdict = verdicts.and_then(|v| v.get(&e.addr));
            if verdict.is_some() || e.state.is_pruned() {
                let verdict = verdict.map(|v| (until, *v == Opinion::FailsChecks));
                news |= e.state.prune(verdict, now);
            }
        }
        if news {
            self.rebuild(&sources, now);
        }
        news
    }

    /// Ends ejections and warms endpoints up, as far as it is time; when there will be something to do again.
    pub(super) fn refresh(&self, now: Moment) -> Moment {
        let due = self.due.load(Relaxed);
        if due > now {
            return due;
        }
        let sources = self.sources.lock();
        for e in self.set.load().endpoints() {
            if e.state.ejected_until().is_some_and(|until| until <= now) {
                e.state.restore(now);
            }
            if e.state.pruned_until().is_some_and(|until| until <= now) {
                e.state.prune(None, now);
            }
        }
        self.rebuild(&sources, now);
        self.due.load(Relaxed)
    }

    fn rebuild(&self, sources: &Sources, now: Moment) {
        let before = self.set.load();
        let slow_start = sources.terms.balance.slow_start_ms;
        let mut due = NEVER;
        let mut all = sources.merge(before.endpoints(), slow_start, now);
        for e in &mut all {
            let (warmth, next) = warmth(e.state.fresh_since(), slow_start, now);
            e.warmth = warmth;
            let ends = [e.state.ejected_until(), e.state.pruned_until()];
            due = ends.into_iter().flatten().fold(due.min(next), Moment::min);
        }
        let set = EndpointSet::new(&sources.terms, all, Some(&before));
        self.set.store(Arc::new(set));
        self.due.store(due, Relaxed);
    }

    /// Whether [`Self::refresh`] has to be called some time.
    pub(super) fn has_plans(&self) -> bool {
        self.due.load(Relaxed) != NEVER
    }
}

/// How warm an endpoint is, and when it will be warmer.
fn warmth(fresh_since: Moment, slow_start_ms: u32, now: Moment) -> (u8, Moment) {
    let steps = u64::from(WARM) - 1;
    let length = u64::from(slow_start_ms);
    if length == 0 || fresh_since == 0 {
        return (WARM, NEVER);
    }
    let done = now.saturating_sub(fresh_since).saturating_mul(steps) / length;
    if done >= steps {
        return (WARM, NEVER);
    }
    let next = fresh_since + ((done + 1) * length).div_ceil(steps);
    (u8::try_from(done + 1).unwrap_or(WARM), next)
}

fn find(sorted: &[Endpoint], addr: SocketAddr) -> Option<&Endpoint> {
    let at = sorted.binary_search_by_key(&addr, |e| e.addr).ok()?;
    sorted.get(at)
}

impl Sources {
    /// Lets only those endpoints pass for which this condition holds; `None`: all.
    pub(super) fn filter_by(&mut self, text: Option<&str>) {
        if self.filter.as_ref().map(|filter| &*filter.text) != text {
            self.filter = text.map(Filter::new);
        }
    }

    /// Other groups take the place of those that are there. What is known of names and registries that stay, stays.
    pub(super) fn replace(&mut self, first_available: bool, mut groups: Vec<Group>) {
        for group in &mut groups {
            let Some(poll) = &group.registry else {
                continue;
            };
            let said =
                |g: &&mut Group| g.registry.as_ref().is_some_and(|p| p.source == poll.source);
            if let Some(before) = self.groups.iter_mut().find(said) {
                *group = std::mem::take(before);
            }
        }
        (self.first_available, self.groups) = (first_available, groups);
        self.forget_names();
    }

    /// Forgets the addresses of names that are no longer listed.
    pub(super) fn forget_names(&mut self) {
        let groups = &self.groups;
        let listed = |host: &str| {
            let mut names = groups.iter().flat_map(|g| &g.names);
            names.any(|n| *n.host == *host)
        };
        self.resolved.retain(|host, _| listed(host));
    }

    /// One endpoint an address, in the order of addresses. Named twice (a Pod in two slices while they are
    /// rebalanced), it is ready if it is so anywhere, and has the greater weight.
    fn merge(&self, before: &[Endpoint], slow_start_ms: u32, now: Moment) -> Vec<Endpoint> {
        let mut members = Vec::new();
        for group in &self.groups {
            let passes = |m: &Member| self.filter.as_ref().is_none_or(|f| f.passes(m));
            members.extend(group.members(&self.resolved).filter(passes));
            if self.first_available && members.iter().any(|m: &Member| m.ready) {
                break;
            }
        }
        members.sort_by_key(|m| m.addr);
        members.dedup_by(|next, kept| {
            let same = next.addr == kept.addr;
            if same {
                kept.ready |= next.ready;
                kept.serving |= next.serving;
                kept.weight = kept.weight.max(next.weight);
                kept.zone = kept.zone.take().or_else(|| next.zone.take());
            }
            same
        });
        let state_of = |addr: SocketAddr| match find(before, addr) {
            Some(e) => Arc::clone(&e.state),
            None => {
                let state = EndpointState::default();
                if slow_start_ms > 0 {
                    state.fresh(now);
                }
                Arc::new(state)
            }
        };
        let endpoint = |m: Member| Endpoint {
            addr: m.addr,
            weight: m.weight,
            ready: m.ready,
            serving: m.serving,
            zone: m.zone,
            tag: hash::address(m.addr),
            warmth: WARM,
            state: state_of(m.addr),
        };
        members.into_iter().map(endpoint).collect()
    }
}

/// Notes how an attempt went, and sets its endpoint aside where it fails too often.
pub(super) fn judge(
    endpoints: &Endpoints,
    passive: &PassiveHealth,
    common: &Common,
    addr: SocketAddr,
    state: &EndpointState,
    good: bool,
    now: impl FnOnce() -> Moment,
) {
    let consecutive = if good {
        state.good();
        0
    } else {
        state.bad()
    };
    // Where it may not be ejected, it is asked for again after as many failures, not with each.
    let too_many = !good && consecutive.is_multiple_of(passive.consecutive_errors.max(1));
    if state.is_ejected() || (!too_many && passive.error_rate_percent == 0) {
        return;
    }
    let now = now();
    let mut reason = too_many.then_some(Reason::Consecutive);
    if passive.error_rate_percent > 0 {
        let number = now / u64::from(passive.window_ms.max(1));
        let (requests, failures) = state.count(number, !good);
        let share = u64::from(passive.error_rate_percent);
        if !good && requests >= passive.min_requests.into() && failures * 100 >= requests * share {
            reason = reason.or(Some(Reason::ErrorRate));
        }
    }
    if let Some(reason) = reason
        && endpoints.eject(addr, passive, now)
    {
        common.ejected(reason);
        common.changed.notify_one();
    }
}

#[cfg(test)]
#[path = "tests/health.rs"]
mod tests;
