//! Requests by route: the one label of the default metrics whose values come from configuration, so it has a bound.

use super::budget::Budget;
use super::metrics::{CLASSES, class_of};
use parking_lot::Mutex;
use prometheus::core::{AtomicF64, AtomicU64, GenericCounter};
use prometheus::{CounterVec, IntCounterVec, Opts, Registry};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// Series that one Route takes.
const SERIES: usize = CLASSES.len() + 2;
/// Label of everything beyond the cap.
pub const OTHER: &str = "__other__";

/// Counters of one route, found once for each compiled rule.
#[derive(Debug)]
pub struct RouteStats {
    classes: [GenericCounter<AtomicU64>; 5],
    seconds: GenericCounter<AtomicF64>,
    count: GenericCounter<AtomicU64>,
}

impl RouteStats {
    pub fn count(&self, status: u16, duration: Duration) {
        let counter = self.classes.get(class_of(status));
        counter.into_iter().for_each(GenericCounter::inc);
        self.seconds.inc_by(duration.as_secs_f64());
        self.count.inc();
    }
}

/// The routes that were asked for so far.
pub struct Routes {
    requests: IntCounterVec,
    seconds: CounterVec,
    count: IntCounterVec,
    known: Mutex<HashMap<String, Arc<RouteStats>>>,
    /// Those beyond it share [`OTHER`].
    budget: Arc<Budget>,
}

impl Routes {
    #[allow(
        clippy::unwrap_used,
        reason = "names and labels are constants of this function: the first call in any test would fail"
    )]
    pub(super) fn register(registry: &Registry, budget: &Arc<Budget>) -> Self {
        let requests = Opts::new(
            "diolkos_route_requests_total",
            "Requests answered, by Route.",
        );
        let seconds = Opts::new(
            "diolkos_route_request_seconds_sum",
            "Time from the request's head to the last byte of its answer, by Route.",
        );
        let count = Opts::new(
            "diolkos_route_request_seconds_count",
            "Requests timed, by Route.",
        );
        let routes = Self {
            requests: IntCounterVec::new(requests, &["route", "code_class"]).unwrap(),
            seconds: CounterVec::new(seconds, &["route"]).unwrap(),
            count: IntCounterVec::new(count, &["route"]).unwrap(),
            known: Mutex::default(),
            budget: Arc::clone(budget),
        };
        registry
            .register(Box::new(routes.requests.clone()))
            .unwrap();
        registry.register(Box::new(routes.seconds.clone())).unwrap();
        registry.register(Box::new(routes.count.clone())).unwrap();
        routes
    }

    /// Requests of Routes that have no series of their own.
    pub(super) fn others(&self) -> u64 {
        let known = self.known.lock();
        known.get(OTHER).map_or(0, |other| other.count.get())
    }

    /// The counters of a route, by `NAMESPACE/NAME`.
    pub fn of(&self, route: &str) -> Arc<RouteStats> {
        let mut known = self.known.lock();
        if let Some(stats) = known.get(route) {
            return Arc::clone(stats);
        }
        let label = if self.budget.take(SERIES) {
            route
        } else {
            OTHER
        };
        if let Some(stats) = known.get(label) {
            return Arc::clone(stats);
        }
        let stats = Arc::new(RouteStats {
            classes: CLASSES.map(|class| self.requests.with_label_values(&[label, class])),
            seconds: self.seconds.with_label_values(&[label]),
            count: self.count.with_label_values(&[label]),
        });
        known.insert(label.to_owned(), Arc::clone(&stats));
        stats
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::limits;

    #[test]
    fn routes_beyond_the_cap_share_one_label() {
        let budget = Arc::new(Budget::default());
        let routes = Routes::register(&Registry::new(), &budget);
        let most = limits::SERIES as usize / SERIES;
        for i in 0..most * 2 {
            routes.of(&format!("ns/{i}")).count(200, Duration::ZERO);
        }
        assert_eq!(routes.known.lock().len(), most + 1);
        assert_eq!(routes.others(), most as u64);
        assert!(Arc::ptr_eq(&routes.of("ns/1"), &routes.of("ns/1")));
        assert!(Arc::ptr_eq(&routes.of("ns/x"), &routes.of("ns/y")));
        // With room for one more.
        budget.allow(limits::SERIES + 7);
        assert!(!Arc::ptr_eq(&routes.of("ns/x"), &routes.of("ns/y")));
        assert_eq!(routes.known.lock().len(), most + 2);
        budget.allow(0);
        assert!(Arc::ptr_eq(&routes.of("ns/z"), &routes.of("ns/y")));
    }
}
