//! What all upstreams and rules of a process have in common: where it runs, what it counts, and whom it tells.

use super::gate::Gate;
use super::shares::Shares;
use crate::telemetry::PluginMetrics;
use model::Concurrency;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use tokio::sync::Notify;

#[derive(Debug, Default)]
pub struct Common {
    /// The zone of this data plane, for upstreams that prefer their own.
    pub own_zone: Option<Arc<str>>,
    /// What is told of plugins.
    pub(super) plugins: PluginMetrics,
    ejections: [AtomicU64; Reason::ALL.len()],
    gates: Mutex<Vec<(Scope, Weak<Gate>)>>,
    /// Those of rules and listeners, so that they survive a change of either.
    kept_gates: Mutex<KeptGates>,
    /// Told when endpoints or settings have changed in a way that something has to be done about later.
    pub(crate) changed: Notify,
    /// How this data plane shares what it finds out about endpoints.
    pub(crate) health: Shares,
}

/// By Route and number of the rule, or by owner of the listeners.
type KeptGates = BTreeMap<(Scope, Arc<str>, u32), Weak<Gate>>;

/// Why an endpoint was set aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    Consecutive,
    ErrorRate,
    ActiveCheck,
}

impl Reason {
    pub const ALL: [Self; 3] = [Self::Consecutive, Self::ErrorRate, Self::ActiveCheck];

    /// As the label `reason` has it.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Consecutive => "consecutive",
            Self::ErrorRate => "error_rate",
            Self::ActiveCheck => "active_check",
        }
    }
}

/// What a gate stands before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// All listeners of one owner.
    Gateway,
    Route,
    Upstream,
}

impl Scope {
    pub const ALL: [Self; 3] = [Self::Gateway, Self::Route, Self::Upstream];

    /// As the label `scope` has it.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Route => "route",
            Self::Upstream => "upstream",
        }
    }
}

/// The permits of a scope.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Permits {
    pub used: u64,
    pub limit: u64,
    pub waiting: u64,
}

impl Common {
    pub fn new(own_zone: Option<Arc<str>>, plugins: PluginMetrics) -> Arc<Self> {
        Arc::new(Self {
            own_zone,
            plugins,
            ..Self::default()
        })
    }

    pub(super) fn ejected(&self, reason: Reason) {
        if let Some(counter) = self.ejections.get(reason as usize) {
            counter.fetch_add(1, Relaxed);
        }
        tracing::debug!(event = "ejected", reason = reason.label());
    }

    /// Ejections so far.
    pub fn ejections(&self, reason: Reason) -> u64 {
        self.ejections
            .get(reason as usize)
            .map_or(0, |c| c.load(Relaxed))
    }

    /// A gate that is counted in the metrics as long as it is used.
    pub(super) fn gate(&self, scope: Scope, limit: u32, depth: u32) -> Arc<Gate> {
        let gate = Gate::new(limit, depth);
        let mut gates = self.gates.lock();
        gates.retain(|(_, gate)| gate.strong_count() > 0);
        gates.push((scope, Arc::downgrade(&gate)));
        gate
    }

    /// The gate of a rule, or of all listeners of an owner (`index` 0). Who is under way or waits before it stays so when
    /// the bounds change.
    pub(super) fn kept_gate(
        &self,
        scope: Scope,
        owner: &Arc<str>,
        index: u32,
        bounds: &Concurrency,
    ) -> Arc<Gate> {
        let (limit, depth) = (bounds.max, bounds.queue_depth);
        let mut gates = self.kept_gates.lock();
        let key = (scope, Arc::clone(owner), index);
        if let Some(gate) = gates.get(&key).and_then(Weak::upgrade) {
            gate.set(limit, depth);
            return gate;
        }
        gates.retain(|_, gate| gate.strong_count() > 0);
        let gate = self.gate(scope, limit, depth);
        gates.insert(key, Arc::downgrade(&gate));
        gate
    }

    /// Over all gates of a scope.
    pub fn permits(&self, scope: Scope) -> Permits {
        let gates = self.gates.lock();
        let of_scope = gates.iter().filter(|(s, _)| *s == scope);
        let live = of_scope.filter_map(|(_, gate)| gate.upgrade());
        live.fold(Permits::default(), |sum, gate| Permits {
            used: sum.used + u64::from(gate.used()),
            limit: sum.limit + u64::from(gate.limit()),
            waiting: sum.waiting + u64::from(gate.waiting()),
        })
    }
}
