//! How the watches of each kind stand. Gauges speak of kinds: one of many namespaces that is amiss is enough.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus::IntGaugeVec;
use tokio::sync::watch;
use tokio::time::Instant;

use super::Verb;
use super::target::Target;
use crate::metrics::Metrics;
use crate::outage::REMIND;
use crate::world::ObjectKind;

/// See the module. Bounded by what is followed.
pub struct Standing {
    metrics: Arc<Metrics>,
    amiss: Mutex<Amiss>,
    interrupted: watch::Sender<bool>,
}

#[derive(Default)]
struct Amiss {
    down: BTreeSet<Target>,
    /// Since when, and what was refused last.
    forbidden: BTreeMap<Target, (Instant, Verb)>,
    /// Those that fail, and since when.
    failing: BTreeMap<Target, Instant>,
    /// When it was last said that any does.
    said: Option<Instant>,
}

impl Standing {
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            metrics,
            amiss: Mutex::default(),
            interrupted: watch::Sender::new(false),
        }
    }

    /// Whether any watch is interrupted, so that there may be changes which are not known here.
    pub fn interrupted(&self) -> watch::Receiver<bool> {
        self.interrupted.subscribe()
    }

    /// A watch works. Whether it was not permitted until now.
    pub(super) fn up(&self, target: &Target) -> bool {
        let mut amiss = self.amiss.lock();
        amiss.down.remove(target);
        if let Some(since) = amiss.failing.remove(target) {
            let after = since.elapsed();
            tracing::info!(watch = %target, ?after, "the watch works again");
        }
        let was_forbidden = amiss.forbidden.remove(target).is_some();
        self.tell(target.kind, &amiss);
        was_forbidden
    }

    /// A watch is interrupted, or not begun.
    pub(super) fn down(&self, target: &Target) {
        let mut amiss = self.amiss.lock();
        amiss.down.insert(target.clone());
        self.tell(target.kind, &amiss);
    }

    /// What is followed of one kind is interrupted by an error. The log has each once, and a line a minute for all.
    pub(super) fn fails(&self, targets: &[Target], error: &dyn Display) {
        let mut amiss = self.amiss.lock();
        let now = Instant::now();
        let mut begun = None;
        for target in targets {
            amiss.down.insert(target.clone());
            amiss.failing.entry(target.clone()).or_insert_with(|| {
                begun = Some(target);
                now
            });
            self.tell(target.kind, &amiss);
        }
        if let Some(watch) = begun {
            tracing::warn!(%watch, %error, "the watch is interrupted; what is known stays in effect");
        } else if amiss.said.is_some_and(|said| now - said < REMIND) {
            return;
        } else {
            let since = amiss.failing.values().min();
            let lasting = since.map(Instant::elapsed).unwrap_or_default();
            tracing::warn!(watches = amiss.failing.len(), ?lasting, %error, "watches are still interrupted");
        }
        amiss.said = Some(now);
    }

    /// The cluster does not know a kind any more: there is nothing to follow.
    pub(super) fn absent(&self, kind: ObjectKind) {
        let mut amiss = self.amiss.lock();
        amiss.down.retain(|target| target.kind != kind);
        amiss.failing.retain(|target, _| target.kind != kind);
        amiss.forbidden.retain(|target, _| target.kind != kind);
        self.tell(kind, &amiss);
    }

    /// It may not be listed or watched. For how long that has been so; `None`: it is new that this may not be done.
    pub(super) fn forbidden(&self, target: &Target, verb: Verb) -> Option<Duration> {
        let mut amiss = self.amiss.lock();
        let known = amiss.forbidden.get(target).copied();
        let since = known.map_or_else(Instant::now, |(since, _)| since);
        amiss.forbidden.insert(target.clone(), (since, verb));
        amiss.failing.remove(target);
        self.tell(target.kind, &amiss);
        known
            .is_some_and(|(_, of)| of == verb)
            .then(|| since.elapsed())
    }

    fn tell(&self, kind: ObjectKind, amiss: &Amiss) {
        let is_down = amiss.down.iter().any(|target| target.kind == kind);
        let is_forbidden = amiss.forbidden.keys().any(|target| target.kind == kind);
        let set = |gauge: &IntGaugeVec, is: bool| {
            gauge.with_label_values(&[kind.name()]).set(i64::from(is));
        };
        set(&self.metrics.watch_up, !is_down);
        set(&self.metrics.missing_permissions, is_forbidden);
        // What is forbidden nobody knows.
        let mut interrupted = amiss.down.iter();
        let interrupted = interrupted.any(|target| !amiss.forbidden.contains_key(target));
        self.interrupted
            .send_if_modified(|is| std::mem::replace(is, interrupted) != interrupted);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::Scope;

    #[test]
    fn a_kind_stands_as_its_worst_namespace() {
        let metrics = Arc::new(Metrics::new().unwrap());
        let standing = Standing::new(Arc::clone(&metrics));
        let scope: Scope = "a,b".parse().unwrap();
        let routes = Target::of(ObjectKind::Route, &scope);
        let [a, b] = &routes[..] else { panic!() };
        let interrupted = standing.interrupted();
        let seen = || {
            let of = |gauge: &IntGaugeVec| gauge.with_label_values(&["Route"]).get();
            (of(&metrics.watch_up), of(&metrics.missing_permissions))
        };
        standing.down(a);
        standing.down(b);
        standing.up(a);
        assert_eq!(seen(), (0, 0));
        assert!(*interrupted.borrow());
        standing.up(b);
        assert_eq!(seen(), (1, 0));
        assert!(!*interrupted.borrow());
        standing.down(b);
        assert_eq!(standing.forbidden(b, Verb::Watch), None);
        assert!(standing.forbidden(b, Verb::Watch).is_some());
        assert_eq!(standing.forbidden(b, Verb::List), None, "that is news");
        assert!(!standing.up(a));
        assert_eq!(seen(), (0, 1));
        assert!(!*interrupted.borrow(), "nobody knows what is forbidden");
        assert!(standing.up(b));
        assert_eq!(seen(), (1, 0));
        standing.down(a);
        standing.absent(ObjectKind::Route);
        assert_eq!(seen(), (1, 0));
        assert!(!*interrupted.borrow());
    }
}
