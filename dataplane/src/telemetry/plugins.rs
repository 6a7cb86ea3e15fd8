//! What plugins take and how often they fail, by type. A type shows once a rule has a plugin of it.

use super::metrics::FAST;
use model::FailurePolicy;
use parking_lot::Mutex;
use plugins::Meter;
use prometheus::core::{AtomicU64, GenericCounter};
use prometheus::{Histogram, HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// The plugins' metrics.
#[derive(Clone, Debug)]
pub struct PluginMetrics {
    seconds: HistogramVec,
    failures: IntCounterVec,
    /// Of all types.
    panics: GenericCounter<AtomicU64>,
    /// There are no more than [`plugins::TYPES`].
    known: Arc<Mutex<BTreeMap<Box<str>, Arc<OfType>>>>,
}

/// Those of one type.
#[derive(Debug)]
struct OfType {
    seconds: Histogram,
    failed: GenericCounter<AtomicU64>,
    ignored: GenericCounter<AtomicU64>,
    panics: GenericCounter<AtomicU64>,
}

impl Meter for OfType {
    fn took(&self, time: Duration) {
        self.seconds.observe(time.as_secs_f64());
    }

    fn failed(&self, policy: FailurePolicy) {
        match policy {
            FailurePolicy::Fail => self.failed.inc(),
            FailurePolicy::Ignore => self.ignored.inc(),
        }
    }

    fn panicked(&self) {
        self.panics.inc();
    }
}

impl Default for PluginMetrics {
    #[allow(
        clippy::unwrap_used,
        reason = "names and labels are constants of this function: the first call in any test would fail"
    )]
    fn default() -> Self {
        let seconds = HistogramOpts::new(
            "diolkos_plugin_seconds",
            "Time that a plugin took for one stage of a request, or for one body.",
        );
        let failures = Opts::new(
            "diolkos_plugin_failures_total",
            "Plugins that went wrong, by what their failurePolicy made of it.",
        );
        Self {
            seconds: HistogramVec::new(seconds.buckets(FAST.to_vec()), &["type"]).unwrap(),
            failures: IntCounterVec::new(failures, &["type", "policy"]).unwrap(),
            panics: GenericCounter::new("panics", "Of plugins.").unwrap(),
            known: Arc::default(),
        }
    }
}

impl PluginMetrics {
    #[allow(
        clippy::unwrap_used,
        reason = "names and labels are constants of this file: the first call in any test would fail"
    )]
    /// `panics`: which counts those of plugins.
    pub(super) fn register(registry: &Registry, panics: GenericCounter<AtomicU64>) -> Self {
        let metrics = Self {
            panics,
            ..Self::default()
        };
        registry
            .register(Box::new(metrics.seconds.clone()))
            .unwrap();
        registry
            .register(Box::new(metrics.failures.clone()))
            .unwrap();
        metrics
    }

    /// Who is told of plugins of a type.
    pub fn of(&self, kind: &str) -> Arc<dyn Meter> {
        let mut known = self.known.lock();
        if let Some(of_type) = known.get(kind) {
            return Arc::clone(of_type) as _;
        }
        let failures = |policy| self.failures.with_label_values(&[kind, policy]);
        let of_type = Arc::new(OfType {
            seconds: self.seconds.with_label_values(&[kind]),
            failed: failures("fail"),
            ignored: failures("ignore"),
            panics: self.panics.clone(),
        });
        known.insert(kind.into(), Arc::clone(&of_type));
        of_type
    }
}

#[cfg(test)]
mod tests {
    use crate::telemetry::Metrics;

    #[test]
    fn panics_of_plugins_have_a_series_of_their_own() {
        let metrics = Metrics::new();
        metrics.plugins.of("CORS").panicked();
        metrics.plugins.of("Mock").panicked();
        let families = metrics.registry.gather();
        let panics = families.iter().find(|f| f.name() == "diolkos_panics_total");
        let of = |place: &str| {
            let series = panics.unwrap().get_metric().iter();
            let mut found = series.filter(|m| m.get_label().iter().any(|l| l.value() == place));
            found.next().map(|m| m.get_counter().get_value())
        };
        assert_eq!((of("plugin"), of("request")), (Some(2.0), Some(0.0)));
    }
}
