//! Every metric of the controller, declared in one place.

use std::time::Instant;

use prometheus::core::Collector;
use prometheus::{
    Encoder, Gauge, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Opts, Registry, TextEncoder,
};

use crate::groups::Groups;

/// Buckets of times on the configuration path, in seconds.
const PROPAGATION: [f64; 12] = [
    0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0,
];

/// The metrics of one process.
pub struct Metrics {
    registry: Registry,
    revision: Gauge,
    lag: Gauge,
    /// Stages watch, compile, send, apply, total.
    pub propagation: HistogramVec,
    /// Results ack, nack, resync, timeout.
    pub transactions: IntCounterVec,
    pub sent_bytes: IntCounter,
    data_planes: IntGaugeVec,
    /// Reasons token, schema.
    refused: IntCounterVec,
    pub objects: IntGaugeVec,
    pub objects_quarantined: IntGaugeVec,
    /// When the first of all certificates in use expires, in seconds since the epoch; 0 while none is in use.
    pub cert_not_after: IntGauge,
    /// Within 30d, 14d, 7d, 3d, 1d.
    pub certs_expiring: IntGaugeVec,
    /// Modes incremental, full.
    pub translate: HistogramVec,
    pub incremental_mismatches: IntCounter,
    /// Where translate, task.
    pub panics: IntCounterVec,
    pub watch_up: IntGaugeVec,
    pub watch_restarts: IntCounterVec,
    pub missing_permissions: IntGaugeVec,
    pub removals_held: IntCounter,
    /// Results written, skipped_equal, conflict, failed.
    pub status_writes: IntCounterVec,
    pub status_queue: IntGauge,
    pub leader: IntGauge,
    pub leader_transitions: IntCounter,
    /// What data planes report about endpoints.
    pub health_reports: IntGauge,
    pub health_reports_omitted: IntCounter,
    /// Replicas that follow this one.
    pub followers: IntGauge,
    /// Tokens of data planes that were reviewed.
    pub tokens: IntGauge,
    pub tokens_evicted: IntCounter,
    /// Revisions that are remembered.
    pub revisions: IntGauge,
    pub revisions_dropped: IntCounter,
    /// Objects that a rollback holds.
    pub rolled_back: IntGauge,
    /// Versions that stand in for others, as they are kept for a controller that starts alone.
    pub stand_ins: IntGauge,
    pub stand_ins_dropped: IntCounter,
    /// Changes of which no Event tells.
    pub events_dropped: IntCounter,
}

impl Metrics {
    /// # Errors
    /// Two metrics of one name.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let made = Declare(&registry);
        let build = made.gauges(
            "diolkos_build_info",
            "Version of the running program; always 1",
            &["version"],
        )?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        #[cfg(target_os = "linux")]
        registry.register(Box::new(
            prometheus::process_collector::ProcessCollector::for_self(),
        ))?;
        let tables = made.gauges(
            "diolkos_table_entries",
            "Entries of bounded tables",
            &["table"],
        )?;
        let evictions = made.counters(
            "diolkos_table_evictions_total",
            "What they gave up or refused because they were full",
            &["table"],
        )?;
        let metrics = Self {
            revision: made.float(
                "diolkos_config_revision",
                "First 48 bits of the configuration's root digest",
            )?,
            lag: made.float(
                "diolkos_config_lag_seconds",
                "Age of the oldest change that some connected data plane has not acknowledged",
            )?,
            propagation: made.times(
                "diolkos_config_propagation_seconds",
                "From an event of the API server to its acknowledgement, by stage",
                &["stage"],
            )?,
            transactions: made.counters(
                "diolkos_config_transactions_total",
                "Transactions by how data planes answered",
                &["result"],
            )?,
            sent_bytes: made.counter(
                "diolkos_config_sent_bytes_total",
                "Bytes of transactions sent",
            )?,
            data_planes: made.gauges(
                "diolkos_dataplanes",
                "Connected data planes by state",
                &["state"],
            )?,
            refused: made.counters(
                "diolkos_dataplanes_refused_total",
                "Streams of data planes that were refused",
                &["reason"],
            )?,
            objects: made.gauges("diolkos_objects", "Objects that are held", &["kind"])?,
            objects_quarantined: made.gauges(
                "diolkos_objects_quarantined",
                "Objects whose last accepted version serves in place of the present one",
                &["kind"],
            )?,
            cert_not_after: made.gauge(
                "diolkos_cert_not_after_seconds",
                "When the first of all certificates in use expires",
            )?,
            certs_expiring: made.gauges(
                "diolkos_certs_expiring",
                "Certificates in use that expire within this time or have expired",
                &["within"],
            )?,
            translate: made.times(
                "diolkos_translate_seconds",
                "Time of one translation",
                &["mode"],
            )?,
            incremental_mismatches: made.counter(
                "diolkos_incremental_mismatch_total",
                "Objects of which something else was held than translating them anew gave; it must be 0",
            )?,
            panics: made.counters(
                "diolkos_panics_total",
                "Panics, by where they came; what is not as it was before ends the process, or begins anew",
                &["where"],
            )?,
            watch_up: made.gauges(
                "diolkos_watch_up",
                "1 while the watch of a kind works",
                &["kind"],
            )?,
            watch_restarts: made.counters(
                "diolkos_watch_restarts_total",
                "Lists that were begun anew after the first",
                &["kind"],
            )?,
            removals_held: made.counter(
                "diolkos_config_removals_held_total",
                "Objects that a new list lacked, with most of their kind, and that stayed in effect for a while",
            )?,
            missing_permissions: made.gauges(
                "diolkos_missing_permissions",
                "1 while a kind may not be listed or watched",
                &["kind"],
            )?,
            status_writes: made.counters(
                "diolkos_status_writes_total",
                "Writes of status by result",
                &["result"],
            )?,
            status_queue: made.gauge(
                "diolkos_status_queue_depth",
                "Objects whose status waits to be written",
            )?,
            leader: made.gauge("diolkos_leader", "1 while this replica leads")?,
            leader_transitions: made.counter(
                "diolkos_leader_transitions_total",
                "How often leading was won or lost",
            )?,
            followers: tables.with_label_values(&["replicas"]),
            tokens: tables.with_label_values(&["tokens"]),
            tokens_evicted: evictions.with_label_values(&["tokens"]),
            health_reports: tables.with_label_values(&["health_reports"]),
            health_reports_omitted: evictions.with_label_values(&["health_reports"]),
            revisions: tables.with_label_values(&["revisions"]),
            revisions_dropped: evictions.with_label_values(&["revisions"]),
            rolled_back: tables.with_label_values(&["rolled_back"]),
            stand_ins: tables.with_label_values(&["stand_ins"]),
            stand_ins_dropped: evictions.with_label_values(&["stand_ins"]),
            events_dropped: evictions.with_label_values(&["events"]),
            registry,
        };
        // A rate is computed from zero, so the closed label sets stand from the start.
        for stage in ["watch", "compile", "send", "apply", "total"] {
            metrics.propagation.with_label_values(&[stage]);
        }
        for place in ["translate", "task"] {
            metrics.panics.with_label_values(&[place]);
        }
        for result in ["ack", "nack", "resync", "timeout"] {
            metrics.transactions.with_label_values(&[result]);
        }
        for reason in ["token", "schema"] {
            metrics.refused.with_label_values(&[reason]);
        }
        for result in ["written", "skipped_equal", "conflict", "failed"] {
            metrics.status_writes.with_label_values(&[result]);
        }
        for mode in ["incremental", "full"] {
            metrics.translate.with_label_values(&[mode]);
        }
        Ok(metrics)
    }

    /// Counts a data plane that is not let in.
    pub fn refuse(&self, reason: &str) {
        self.refused.with_label_values(&[reason]).inc();
    }

    /// All metrics as Prometheus text.
    ///
    /// # Errors
    /// A metric that cannot be written as text.
    pub fn render(&self, groups: &Groups) -> Result<String, prometheus::Error> {
        self.observe(groups);
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    fn observe(&self, groups: &Groups) {
        let shared = groups.shared().publisher.cursor();
        self.revision.set(shared.digest.revision().to_f64());
        let mut states = [
            ("current", 0),
            ("behind", 0),
            ("rejecting", 0),
            ("draining", 0),
        ];
        let mut oldest: Option<Instant> = None;
        for group in groups.all() {
            let publisher = &group.publisher;
            let current = publisher.cursor().generation;
            for plane in publisher.data_planes() {
                let state = match () {
                    () if plane.draining => 3,
                    () if plane.is_rejecting() => 2,
                    () if plane.acknowledged.is_none_or(|g| g < current) => 1,
                    () => 0,
                };
                states[state].1 += 1;
                oldest = oldest
                    .into_iter()
                    .chain(publisher.behind_since(&plane))
                    .min();
            }
        }
        for (state, count) in states {
            self.data_planes.with_label_values(&[state]).set(count);
        }
        self.lag
            .set(oldest.map_or(0.0, |at| at.elapsed().as_secs_f64()));
    }
}

/// Makes metrics and registers them.
struct Declare<'a>(&'a Registry);

impl Declare<'_> {
    fn register<C: Collector + Clone + 'static>(&self, metric: C) -> Result<C, prometheus::Error> {
        self.0.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    fn float(&self, name: &str, help: &str) -> Result<Gauge, prometheus::Error> {
        self.register(Gauge::new(name, help)?)
    }

    fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
        self.register(IntGauge::new(name, help)?)
    }

    fn gauges(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<IntGaugeVec, prometheus::Error> {
        self.register(IntGaugeVec::new(Opts::new(name, help), labels)?)
    }

    fn counter(&self, name: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
        self.register(IntCounter::new(name, help)?)
    }

    fn counters(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<IntCounterVec, prometheus::Error> {
        self.register(IntCounterVec::new(Opts::new(name, help), labels)?)
    }

    fn times(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<HistogramVec, prometheus::Error> {
        let options = HistogramOpts::new(name, help).buckets(PROPAGATION.to_vec());
        self.register(HistogramVec::new(options, labels)?)
    }
}
