//! The table: what a data plane does with each request, compiled from the model.
//!
//! A [`Compiler`] takes the changes of a snapshot and gives an immutable [`Table`] that shares everything untouched
//! with the one before. Requests and `explain` go through the same [`ListenerTable::find`].
//!
//! A Route of one rule, one prefix and one backend takes about 0.9 KiB here, compiler included, and half of that again
//! for each host that only it has. A lookup allocates nothing unless it meets a regular expression, an escaped query
//! value, or ends in a 405.
//!
//! Reading order: [`find`] (matching), [`rule`] (what a rule does), [`upstream`] and [`pick`] (where it goes), [`gate`] (how much at once),
//! [`compile`] (how a table comes to be).

mod backends;
pub(crate) mod budget;
mod common;
pub mod compile;
mod counts;
mod endpoints;
pub mod explain;
mod filter;
pub mod find;
pub mod gate;
pub mod hosts;
pub mod matcher;
mod names;
pub mod observe;
pub mod pick;
mod port;
pub mod redirect;
mod rewrite;
pub mod rule;
mod shares;
mod stage;
mod template;
pub mod upstream;
mod weights;
mod wire;

pub use backends::{Backend, WeightedBackends};
pub use common::{Common, Permits, Reason, Scope};
pub use compile::Compiler;
pub use counts::EndpointCounts;
pub use explain::{Explanation, explain};
pub use find::{Found, Matched, Query};
pub use gate::{Entry, Gate, Permit};
pub use observe::{Observer, Silent, Trace};
pub use pick::{EndpointSet, EndpointState, InFlight};
pub use port::PortTable;
pub use redirect::Redirect;
pub use rule::{Action, Mirror, Rule};
pub use stage::{Rejected, Staged};
pub use upstream::{
    DnsName, EndpointLabels, Gates, Picked, Poll, Refresh, Registered, Registry, Upstream,
};
pub use wire::Wire;

use crate::by_host::ByHost;
use crate::engine::TlsFront;
use crate::telemetry::access_log::Plan;
use crate::telemetry::listeners::ListenerCounters;
use crate::telemetry::otlp::Tracing;
use hosts::{HostRules, Lengths, Sharded};
use model::{HostPattern, HostRank, Listener, Metrics};
use snapshot::Revision;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Everything that is served, at one moment. One request sees one table from beginning to end.
#[derive(Debug, Default)]
pub struct Table {
    /// By resource key, `NAMESPACE/CONFIG/LISTENER`.
    pub listeners: BTreeMap<Arc<str>, Arc<ListenerTable>>,
    /// The same by the ports that they share, but for those of datagrams.
    pub ports: BTreeMap<u16, Arc<PortTable>>,
    /// Those of datagrams, by their ports: of several on one the first.
    pub datagrams: BTreeMap<u16, Arc<ListenerTable>>,
    /// Changes with endpoints, for which no table is built.
    revision: AtomicU64,
}

impl Table {
    /// Of the configuration that this is of.
    pub fn revision(&self) -> Revision {
        Revision(self.revision.load(Ordering::Relaxed))
    }

    /// What its listeners say of metrics, where they say something.
    pub fn metrics(&self) -> impl Iterator<Item = &Metrics> {
        let all = self.listeners.values();
        all.filter_map(|table| table.listener.metrics.as_ref())
    }

    /// Whether the page of metrics is there: each listener's is where it says, and without listeners it is where it is
    /// by default.
    pub fn shows_metrics_at(&self, path: &str) -> bool {
        let mut places = self.listeners.values().map(|table| {
            let metrics = table.listener.metrics.as_ref();
            metrics.and_then(|m| m.path.as_deref())
        });
        match self.listeners.is_empty() {
            true => path == Metrics::PATH,
            false => places.any(|place| place.unwrap_or(Metrics::PATH) == path),
        }
    }

    pub(crate) fn set_revision(&self, revision: Revision) {
        self.revision.store(revision.0, Ordering::Relaxed);
    }
}

/// Labels of metrics with values from the configuration, beside the Route.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Labels {
    pub tenant: bool,
    pub upstream: bool,
}

/// Keys of Tenants by the hosts that they own.
type Owners = Arc<ByHost<Arc<str>>>;

/// What one listener serves.
#[derive(Clone, Debug)]
pub struct ListenerTable {
    /// Of the resource.
    pub key: Arc<str>,
    pub listener: Arc<Listener>,
    /// What new connections get, where TLS ends here.
    pub tls: Option<TlsFront>,
    /// `None`: nothing is logged.
    pub access_log: Option<Arc<Plan>>,
    /// `None`: nothing is traced.
    pub tracing: Option<Tracing>,
    /// What every request passes first, and how long it may wait there.
    pub gate: Option<(Arc<Gate>, Duration)>,
    exact: Sharded,
    /// By suffix, as in [`HostPattern::Wildcard`].
    wildcard: Sharded,
    wildcard_lengths: Lengths,
    /// In the order of rank, best first: each of them is tried for hosts that nothing before has taken.
    regexes: Vec<HostRules>,
    any: Option<HostRules>,
    /// Whose a host is, whichever listener serves it.
    owners: Owners,
    /// Hosts with a rule whose precedence is not 0.
    precedence_hosts: usize,
    /// What its requests are counted in, once there are some.
    pub stats: Arc<OnceLock<Arc<ListenerCounters>>>,
}

impl ListenerTable {
    fn new(key: Arc<str>, listener: Arc<Listener>) -> Self {
        Self {
            key,
            stats: Arc::default(),
            access_log: None,
            tracing: None,
            gate: None,
            listener,
            tls: None,
            exact: Sharded::default(),
            wildcard: Sharded::default(),
            wildcard_lengths: Lengths::default(),
            regexes: Vec::new(),
            any: None,
            owners: Owners::default(),
            precedence_hosts: 0,
        }
    }

    /// Whether some rule has a precedence, so that the walk cannot end at the first match.
    pub fn has_precedence(&self) -> bool {
        self.precedence_hosts > 0
    }

    /// Whether requests are counted by Route as well.
    pub fn counts_by_route(&self) -> bool {
        let metrics = self.listener.metrics.as_ref();
        metrics.is_none_or(|metrics| metrics.by_route)
    }

    /// Which labels its requests are counted with.
    pub fn labels(&self) -> Labels {
        let metrics = self.listener.metrics.as_ref();
        Labels {
            tenant: metrics.is_some_and(|metrics| metrics.by_tenant),
            upstream: metrics.is_some_and(|metrics| metrics.by_upstream),
        }
    }

    /// The listener, where it has bodies of its own for failures.
    pub fn pages(&self) -> Option<Arc<Listener>> {
        (!self.listener.errors.is_empty()).then(|| Arc::clone(&self.listener))
    }

    /// Every host that is served, in no particular order.
    pub fn hosts(&self) -> impl Iterator<Item = &HostRules> {
        let named = self.exact.iter().chain(self.wildcard.iter());
        named.chain(&self.regexes).chain(&self.any)
    }

    /// What one host serves.
    fn rules(&self, host: &HostPattern) -> Option<&HostRules> {
        match host {
            HostPattern::Any => self.any.as_ref(),
            HostPattern::Exact(name) => self.exact.get(name),
            HostPattern::Wildcard(suffix) => self.wildcard.get(suffix),
            HostPattern::Regex(_) => {
                let place = self.place_of_regex(host).ok();
                place.and_then(|at| self.regexes.get(at))
            }
        }
    }

    /// Replaces what one host serves. Only its shard is cloned.
    fn put(&mut self, host: &HostPattern, rules: Option<HostRules>) {
        let added = rules.is_some();
        self.precedence_hosts += usize::from(rules.as_ref().is_some_and(|r| r.has_precedence()));
        let before = match host {
            HostPattern::Any => std::mem::replace(&mut self.any, rules),
            HostPattern::Exact(name) => self.exact.put(name, rules),
            HostPattern::Regex(_) => self.put_regex(host, rules),
            HostPattern::Wildcard(suffix) => {
                let before = self.wildcard.put(suffix, rules);
                match (before.is_some(), added) {
                    (false, true) => self.wildcard_lengths.add(suffix.len()),
                    (true, false) => self.wildcard_lengths.remove(suffix.len()),
                    _ => {}
                }
                before
            }
        };
        self.precedence_hosts -= usize::from(before.is_some_and(|r| r.has_precedence()));
    }

    /// Where an expression stands, or is to stand.
    fn place_of_regex(&self, host: &HostPattern) -> Result<usize, usize> {
        let rank = HostRank::of(host);
        self.regexes
            .binary_search_by(|one| rank.cmp(&HostRank::of(&one.pattern)))
    }

    fn put_regex(&mut self, host: &HostPattern, rules: Option<HostRules>) -> Option<HostRules> {
        match (self.place_of_regex(host), rules) {
            (Ok(at), Some(rules)) => self
                .regexes
                .get_mut(at)
                .map(|slot| std::mem::replace(slot, rules)),
            (Ok(at), None) => Some(self.regexes.remove(at)),
            (Err(at), Some(rules)) => {
                self.regexes.insert(at, rules);
                None
            }
            (Err(_), None) => None,
        }
    }
}

#[cfg(test)]
mod tests;
