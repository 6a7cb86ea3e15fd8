//! What is counted of upstreams as a whole: read from where it happens when somebody asks, so that requests do not pay.

use super::requests::OwnEndpoints;
use crate::table::{EndpointCounts, Reason, Registry as Upstreams, Scope};
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};
use std::sync::{Arc, OnceLock};

/// The upstreams' metrics.
#[derive(Clone)]
pub struct UpstreamMetrics {
    source: Arc<OnceLock<Arc<Upstreams>>>,
    /// Upstreams whose endpoints are counted apart.
    own: Arc<OwnEndpoints>,
    /// What they are like; never set.
    endpoints: IntGaugeVec,
    panicking: IntGauge,
    ejections: IntCounterVec,
    permits: IntGaugeVec,
    queue_depth: IntGaugeVec,
}

impl UpstreamMetrics {
    #[allow(
        clippy::unwrap_used,
        reason = "names and labels are constants of this function: the first call in any test would fail"
    )]
    pub(super) fn register(registry: &Registry, own: Arc<OwnEndpoints>) -> Self {
        let gauges = |name: &str, help: &str, labels: &[&str]| {
            IntGaugeVec::new(Opts::new(name, help), labels).unwrap()
        };
        let ejections = Opts::new(
            "diolkos_ejections_total",
            "Endpoints set aside, by what they did.",
        );
        let panicking = Opts::new(
            "diolkos_panic_mode_upstreams",
            "Upstreams that use every endpoint because too few are healthy.",
        );
        let metrics = Self {
            source: Arc::default(),
            own,
            endpoints: endpoints(),
            panicking: IntGauge::with_opts(panicking).unwrap(),
            ejections: IntCounterVec::new(ejections, &["reason"]).unwrap(),
            permits: gauges(
                "diolkos_concurrency_permits",
                "Requests and connections that have a permit, and how many may.",
                &["scope", "state"],
            ),
            queue_depth: gauges(
                "diolkos_queue_depth",
                "Requests that wait for a permit.",
                &["band"],
            ),
        };
        registry.register(Box::new(metrics.clone())).unwrap();
        metrics
    }

    /// From now on these upstreams are counted. Only the first call counts.
    pub fn follow(&self, upstreams: Arc<Upstreams>) {
        let _ = self.source.set(upstreams);
    }

    /// Sets what is kept, and gives the endpoints, which are counted anew each time: upstreams go away.
    fn read(&self) -> IntGaugeVec {
        let nobody = Upstreams::default();
        let source = self.source.get().map_or(&nobody, |s| &**s);
        let signed = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let endpoints = endpoints();
        let show = |upstream: &str, counts: EndpointCounts| {
            for (state, count) in [
                ("healthy", counts.healthy),
                ("ejected", counts.ejected),
                ("warming", counts.warming),
                ("draining", counts.draining),
            ] {
                let gauge = endpoints.with_label_values(&[state, upstream]);
                gauge.set(signed(count));
            }
        };
        let (mut rest, mut panicking) = (EndpointCounts::default(), 0);
        for upstream in source.all() {
            let counts = EndpointCounts::of(&upstream);
            panicking += counts.panicking;
            match self.own.has(&upstream.key) {
                true => show(&upstream.key, counts),
                false => rest += counts,
            }
        }
        show("", rest);
        self.panicking.set(signed(panicking));
        for reason in Reason::ALL {
            let counter = self.ejections.with_label_values(&[reason.label()]);
            counter.inc_by(
                source
                    .common
                    .ejections(reason)
                    .saturating_sub(counter.get()),
            );
        }
        let mut waiting = 0;
        for scope in Scope::ALL {
            let permits = source.permits(scope);
            let gauge = |state| self.permits.with_label_values(&[scope.label(), state]);
            gauge("used").set(signed(permits.used));
            gauge("limit").set(signed(permits.limit));
            waiting += permits.waiting;
        }
        self.queue_depth
            .with_label_values(&["standard"])
            .set(signed(waiting));
        endpoints
    }
}

#[allow(
    clippy::unwrap_used,
    reason = "name and labels are constants of this function: the first call in any test would fail"
)]
fn endpoints() -> IntGaugeVec {
    let opts = Opts::new(
        "diolkos_endpoints",
        "Endpoints of all upstreams, by what they do.",
    );
    IntGaugeVec::new(opts, &["state", "upstream"]).unwrap()
}

impl Collector for UpstreamMetrics {
    fn desc(&self) -> Vec<&Desc> {
        let vectors = [&self.permits, &self.queue_depth];
        let mut all: Vec<_> = vectors.into_iter().flat_map(Collector::desc).collect();
        all.extend(self.endpoints.desc());
        all.extend(self.panicking.desc());
        all.extend(self.ejections.desc());
        all
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let endpoints = self.read();
        let vectors = [&endpoints, &self.permits, &self.queue_depth];
        let mut all: Vec<_> = vectors.into_iter().flat_map(Collector::collect).collect();
        all.extend(self.panicking.collect());
        all.extend(self.ejections.collect());
        all
    }
}
