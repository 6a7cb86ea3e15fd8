//! What goes to the other data planes through the controller, and what comes from them.

use crate::push::Health;
use crate::table::Registry;
use crate::table::pick::{Checks, now};
use snapshot::health::{Opinion, Opinions};
use snapshot::pb::Verdicts;
use std::collections::BTreeMap;
use tokio::sync::watch;

/// A controller that says how long its verdicts hold cannot make them hold for longer, in milliseconds.
const LONGEST: u64 = 300_000;

impl Health for Registry {
    fn changes(&self) -> watch::Receiver<u64> {
        self.common.health.changes()
    }

    fn opinions(&self) -> Opinions {
        let mut opinions = Opinions::default();
        for upstream in self.all().into_iter().filter(|u| u.judges()) {
            for e in upstream.endpoints().endpoints() {
                let opinion = match e.state.checks() {
                    Checks::Failing => Opinion::FailsChecks,
                    _ if e.state.is_ejected() => Opinion::Ejected,
                    Checks::Passing if e.state.is_pruned_by_checks() => Opinion::PassesChecks,
                    _ => continue,
                };
                opinions.insert(&upstream.key, e.addr, opinion);
            }
        }
        opinions
    }

    fn take(&self, verdicts: &Verdicts) {
        if self.common.health.set(verdicts.index, verdicts.count) {
            tracing::debug!(
                event = "checks_shared",
                index = verdicts.index,
                count = verdicts.count,
                "checks of endpoints are shared"
            );
        }
        let opinions = Opinions::of_wire(&verdicts.upstreams, 0);
        let now = now();
        let until = now + u64::from(verdicts.ttl_ms).clamp(1, LONGEST);
        let mut changed = false;
        for upstream in self.all() {
            let of_upstream: Option<&BTreeMap<_, _>> = opinions.of(&upstream.key);
            changed |= upstream.prune(of_upstream, until, now);
        }
        if changed {
            tracing::info!(
                event = "verdicts",
                unhealthy = opinions.len(),
                "what data planes find out together about endpoints has changed"
            );
        }
        if changed || !opinions.is_empty() {
            // They end some time, and a check of our own may say otherwise.
            self.common.changed.notify_one();
        }
    }

    fn alone(&self) {
        self.common.health.alone();
    }
}
