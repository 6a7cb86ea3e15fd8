//! Requests by route: the one label of the default metrics whose values come from configuration, so it has a cap.

use super::metrics::CLASSES;
use parking_lot::Mutex;
use prometheus::core::{AtomicF64, AtomicU64, GenericCounter};
use prometheus::{CounterVec, IntCounterVec, Opts, Registry};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// Routes with series of their own (`metrics.maxSeries` divided by the series that one route takes); the others
/// share [`OTHER`].
pub const MAX_ROUTES: usize = 285;
/// Label of everything beyond the cap.
pub const OTHER: &str = "__other__";

/// Counters of one route, found once for each compiled route.
#[derive(Debug)]
pub struct RouteStats {
    classes: [GenericCounter<AtomicU64>; 5],
    seconds: GenericCounter<AtomicF64>,
    count: GenericCounter<AtomicU64>,
}

impl RouteStats {
    pub fn count(&self, status: u16, duration: Duration) {
        let class = usize::from(status / 100).clamp(1, 5) - 1;
        if let Some(counter) = self.classes.get(class) {
            counter.inc();
        }
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
}

impl Routes {
    #[allow(
        clippy::unwrap_used,
        reason = "names and labels are constants of this function: the first call in any test would fail"
    )]
    pub(super) fn register(registry: &Registry) -> Self {
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
        };
        registry
            .register(Box::new(routes.requests.clone()))
            .unwrap();
        registry.register(Box::new(routes.seconds.clone())).unwrap();
        registry.register(Box::new(routes.count.clone())).unwrap();
        routes
    }

    /// The counters of a route, by `NAMESPACE/NAME`.
    pub fn of(&self, route: &str) -> Arc<RouteStats> {
        let mut known = self.known.lock();
        if let Some(stats) = known.get(route) {
            return Arc::clone(stats);
        }
        let label = if known.len() < MAX_ROUTES {
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

    #[test]
    fn routes_beyond_the_cap_share_one_label() {
        let routes = Routes::register(&Registry::new());
        for i in 0..MAX_ROUTES * 2 {
            routes.of(&format!("ns/{i}")).count(200, Duration::ZERO);
        }
        assert!(routes.known.lock().len() <= MAX_ROUTES + 1);
        let other = routes.of("ns/another");
        assert_eq!(other.count.get(), MAX_ROUTES as u64);
        assert!(Arc::ptr_eq(&routes.of("ns/1"), &routes.of("ns/1")));
    }
}
