//! Every metric of the data plane, declared once. `docs/metrics.md` lists them; a test compares.
//!
//! Handles are resolved here, so that a request only adds to counters: no label is looked up on its way.

use super::budget::Budget;
use super::connections::Connections;
use super::listeners::Listeners;
use super::plugins::PluginMetrics;
use super::requests::Requests;
use super::routes::Routes;
use super::upstreams::UpstreamMetrics;
use crate::h1::EdgeRule;
use prometheus::core::{AtomicU64, GenericCounter};
use prometheus::proto::{MetricFamily, MetricType};
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder,
};
use std::sync::Arc;

/// Buckets of request durations, in seconds.
pub(super) const LATENCY: &[f64] = &[
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
    60.0,
];

/// Buckets of what takes no time worth speaking of, in seconds.
pub(super) const FAST: &[f64] = &[
    0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.01, 0.1,
];

/// Status classes, as the label `code_class` has them.
pub const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// The place of a status in [`CLASSES`].
pub(super) fn class_of(status: u16) -> usize {
    usize::from(status / 100).clamp(1, CLASSES.len()) - 1
}

type Counter = GenericCounter<AtomicU64>;

/// The process's metrics.
pub struct Metrics {
    pub registry: Registry,
    /// Requests answered, by listener.
    pub listeners: Listeners,
    /// Requests and attempts, with labels from the configuration where it wants them.
    pub requests: Requests,
    /// Of labels from the configuration.
    pub budget: Arc<Budget>,
    streams_cut: [Counter; Cut::ALL.len()],
    /// Time in which requests were worked on.
    pub overhead: Histogram,
    pub connections: Connections,
    pub refused_global_cap: Counter,
    pub refused_source_cap: Counter,
    pub refused_proxy_protocol: Counter,
    pub refused_tls: Counter,
    pub refused_memory: Counter,
    pub refused_fds: Counter,
    /// Of [`Pressure`](crate::pressure::Pressure).
    pub memory_state: IntGauge,
    edge_rejected: [Counter; EdgeRule::ALL.len()],
    pub routes: Routes,
    pub upstreams: UpstreamMetrics,
    pub plugins: PluginMetrics,
    retries: [Counter; Retried::ALL.len()],
    /// How long requests waited for a permit.
    pub queue_wait_seconds: Histogram,
    pub connect_seconds: Histogram,
    pub upstream_idle: IntGauge,
    pub upstream_active: IntGauge,
    /// Idle connections to upstreams, and those over HTTP/2 that exchanges share.
    pub upstream_pool_h1: Bounded,
    pub upstream_pool_h2: Bounded,
    pub dns_names: Bounded,
    pub registries: Bounded,
    encoders: IntGauge,
    pub config_revision: Gauge,
    pub config_age: Gauge,
    pub transactions_ack: Counter,
    pub transactions_nack: Counter,
    pub transactions_resync: Counter,
    pub last_good_failures: IntCounter,
    pub panics_request: Counter,
    /// In tasks of connections, and in workers.
    pub panics_task: Counter,
    pub log_dropped: Counter,
    /// Spans.
    pub otlp_dropped: Counter,
    /// Copies of requests that are under way, and those that were not made because a bound was reached.
    pub mirrors: IntGauge,
    /// Clients whose connections are counted.
    pub sources: IntGauge,
    pub mirrors_dropped: Counter,
    /// Clients whose datagrams are passed on, and datagrams of others that were dropped because there were too many.
    pub sessions: IntGauge,
    pub sessions_refused: Counter,
    series: IntGauge,
    series_overflow: IntCounter,
}

/// A bounded table.
#[derive(Clone)]
pub struct Bounded {
    pub entries: IntGauge,
    /// What it gave up or refused because it was full.
    pub evictions: Counter,
}

/// What sort of request it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Plain,
    /// Of gRPC or gRPC-Web, by its content type.
    Grpc,
    /// Asks for an upgrade; where it lasts, has got one.
    WebSocket,
}

impl Kind {
    pub(super) const ALL: [Self; 3] = [Self::Plain, Self::Grpc, Self::WebSocket];

    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Grpc => "grpc",
            Self::WebSocket => "websocket",
        }
    }
}

/// Why an answer that had begun was cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// The client is gone.
    Client,
    /// The upstream is gone, or what it sends is broken.
    Upstream,
    /// Nothing moved for too long.
    Idle,
    /// The request took too long.
    Deadline,
    /// The data plane ended.
    Drain,
    /// The client did not take it.
    SlowReader,
}

impl Cut {
    const ALL: [Self; 6] = [
        Self::Client,
        Self::Upstream,
        Self::Idle,
        Self::Deadline,
        Self::Drain,
        Self::SlowReader,
    ];

    const fn label(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Upstream => "upstream",
            Self::Idle => "idle",
            Self::Deadline => "deadline",
            Self::Drain => "drain",
            Self::SlowReader => "slow_reader",
        }
    }
}

/// Outcomes of one attempt at an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    Ok,
    ConnectError,
    TlsError,
    Reset,
    ProtocolError,
    Timeout,
    /// There was no permit for it.
    Saturated,
}

impl Attempt {
    pub(super) const ALL: [Self; 7] = [
        Self::Ok,
        Self::ConnectError,
        Self::TlsError,
        Self::Reset,
        Self::ProtocolError,
        Self::Timeout,
        Self::Saturated,
    ];

    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::ConnectError => "connect_error",
            Self::TlsError => "tls_error",
            Self::Reset => "reset",
            Self::ProtocolError => "protocol_error",
            Self::Timeout => "timeout",
            Self::Saturated => "saturated",
        }
    }
}

/// Why a request is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retried {
    /// There was no connection.
    Connect,
    /// Its answer has a status that is to be repeated.
    Status,
    Timeout,
    /// A kept connection turned out to be closed.
    ReusedConnection,
    /// The connection was lost, or what came was no answer.
    Reset,
    /// It was not: the budget is used up.
    Budget,
}

impl Retried {
    const ALL: [Self; 6] = [
        Self::Connect,
        Self::Status,
        Self::Timeout,
        Self::ReusedConnection,
        Self::Reset,
        Self::Budget,
    ];

    const fn label(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Status => "status",
            Self::Timeout => "timeout",
            Self::ReusedConnection => "reused_connection",
            Self::Reset => "reset",
            Self::Budget => "budget",
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Declares everything in a registry of its own.
    #[allow(
        clippy::unwrap_used,
        reason = "names and labels are constants of this function: the first call in any test would fail"
    )]
    pub fn new() -> Self {
        let registry = Registry::new();
        macro_rules! declare {
            ($type:ident, $name:literal, $help:literal) => {{
                let m = $type::with_opts(Opts::new($name, $help)).unwrap();
                registry.register(Box::new(m.clone())).unwrap();
                m
            }};
            ($type:ident, $name:literal, $help:literal, $labels:expr) => {{
                let m = $type::new(Opts::new($name, $help), $labels).unwrap();
                registry.register(Box::new(m.clone())).unwrap();
                m
            }};
        }
        let histogram = |name: &str, help: &str, buckets: &[f64]| {
            let opts = HistogramOpts::new(name, help).buckets(buckets.to_vec());
            let h = Histogram::with_opts(opts).unwrap();
            registry.register(Box::new(h.clone())).unwrap();
            h
        };
        let streams_cut = declare!(
            IntCounterVec,
            "diolkos_streams_cut_total",
            "Answers that had begun and were cut.",
            &["reason"]
        );
        let refused = declare!(
            IntCounterVec,
            "diolkos_connections_refused_total",
            "Client connections closed before they could be used.",
            &["reason"]
        );
        let edge_rejected = declare!(
            IntCounterVec,
            "diolkos_edge_rejected_total",
            "Messages that the edge gate refused.",
            &["reason"]
        );
        let retries = declare!(
            IntCounterVec,
            "diolkos_upstream_retries_total",
            "Further attempts at an upstream.",
            &["reason"]
        );
        let queue_wait = HistogramOpts::new(
            "diolkos_queue_wait_seconds",
            "Time that requests waited for a permit.",
        );
        let queue_wait =
            HistogramVec::new(queue_wait.buckets(LATENCY.to_vec()), &["band"]).unwrap();
        registry.register(Box::new(queue_wait.clone())).unwrap();
        let upstream_connections = declare!(
            IntGaugeVec,
            "diolkos_upstream_connections",
            "Connections to upstreams.",
            &["state"]
        );
        let tables = declare!(
            IntGaugeVec,
            "diolkos_table_entries",
            "Entries of bounded tables.",
            &["table"]
        );
        let transactions = declare!(
            IntCounterVec,
            "diolkos_config_transactions_total",
            "Configuration transactions.",
            &["result"]
        );
        let panics = declare!(
            IntCounterVec,
            "diolkos_panics_total",
            "Panics, each confined to what it happened in.",
            &["where"]
        );
        let log_dropped = declare!(
            IntCounterVec,
            "diolkos_log_records_dropped_total",
            "Log records that their sink could not take in time.",
            &["sink"]
        );
        let evictions = declare!(
            IntCounterVec,
            "diolkos_table_evictions_total",
            "What they gave up or refused because they were full.",
            &["table"]
        );
        let bounded = |table: &str| Bounded {
            entries: tables.with_label_values(&[table]),
            evictions: evictions.with_label_values(&[table]),
        };
        let build: GaugeVec = declare!(
            GaugeVec,
            "diolkos_build_info",
            "1, labelled with the version of this build.",
            &["version"]
        );
        build
            .with_label_values(&[env!("CARGO_PKG_VERSION")])
            .set(1.0);
        // Register only on Linux, where the collector exists.
        #[cfg(target_os = "linux")]
        {
            let process = prometheus::process_collector::ProcessCollector::for_self();
            registry.register(Box::new(process)).unwrap();
        }
        let listeners = Listeners::register(&registry);
        let budget = Arc::<Budget>::default();
        let requests = Requests::register(&registry, &listeners, &budget);
        Self {
            upstreams: UpstreamMetrics::register(&registry, Arc::clone(&requests.endpoints)),
            requests,
            listeners,
            streams_cut: Cut::ALL.map(|c| streams_cut.with_label_values(&[c.label()])),
            overhead: histogram(
                "diolkos_overhead_seconds",
                "Time that the gateway worked on a request, without what it waited for.",
                FAST,
            ),
            connections: Connections::register(&registry, LATENCY),
            refused_global_cap: refused.with_label_values(&["global_cap"]),
            refused_source_cap: refused.with_label_values(&["source_cap"]),
            refused_proxy_protocol: refused.with_label_values(&["proxy_protocol"]),
            refused_tls: refused.with_label_values(&["tls"]),
            refused_memory: refused.with_label_values(&["memory"]),
            refused_fds: refused.with_label_values(&["fds"]),
            memory_state: declare!(
                IntGauge,
                "diolkos_memory_state",
                "How short memory is: 0 normal, 1 warn, 2 no keep-alive, 3 requests are refused, 4 connections are."
            ),
            edge_rejected: EdgeRule::ALL.map(|r| edge_rejected.with_label_values(&[r.name()])),
            routes: Routes::register(&registry, &budget),
            budget,
            plugins: PluginMetrics::register(&registry, panics.with_label_values(&["plugin"])),
            retries: Retried::ALL.map(|r| retries.with_label_values(&[r.label()])),
            queue_wait_seconds: queue_wait.with_label_values(&["standard"]),
            connect_seconds: histogram(
                "diolkos_upstream_connect_seconds",
                "Time to establish a connection to an upstream.",
                LATENCY,
            ),
            upstream_active: upstream_connections.with_label_values(&["active"]),
            upstream_idle: upstream_connections.with_label_values(&["idle"]),
            upstream_pool_h1: bounded("upstream_pool_h1"),
            upstream_pool_h2: bounded("upstream_pool_h2"),
            dns_names: bounded("dns_names"),
            registries: bounded("registries"),
            encoders: tables.with_label_values(&["encoders"]),
            config_revision: declare!(
                Gauge,
                "diolkos_config_revision",
                "First 48 bits of the configuration's digest: equal values mean equal configuration."
            ),
            config_age: declare!(
                Gauge,
                "diolkos_config_age_seconds",
                "Seconds since a controller last said anything, or since the process began where none has."
            ),
            transactions_ack: transactions.with_label_values(&["ack"]),
            transactions_nack: transactions.with_label_values(&["nack"]),
            transactions_resync: transactions.with_label_values(&["resync"]),
            last_good_failures: declare!(
                IntCounter,
                "diolkos_last_good_write_failures_total",
                "Failures to write the last-good copy of the configuration."
            ),
            panics_request: panics.with_label_values(&["request"]),
            panics_task: panics.with_label_values(&["task"]),
            otlp_dropped: log_dropped.with_label_values(&["otlp"]),
            log_dropped: log_dropped.with_label_values(&["access"]),
            mirrors: tables.with_label_values(&["mirrors"]),
            sources: tables.with_label_values(&["sources"]),
            mirrors_dropped: evictions.with_label_values(&["mirrors"]),
            sessions: tables.with_label_values(&["udp_sessions"]),
            sessions_refused: evictions.with_label_values(&["udp_sessions"]),
            series: declare!(IntGauge, "diolkos_series", "Series that are exported."),
            series_overflow: declare!(
                IntCounter,
                "diolkos_series_overflow_total",
                "Samples counted as those of __other__, because there may be no more series."
            ),
            registry,
        }
    }

    /// Requests of this kind that are under way and not counted apart.
    pub fn in_flight(&self, kind: Kind) -> Option<&IntGauge> {
        self.requests.plain.in_flight(kind)
    }

    pub fn stream_cut(&self, reason: Cut) {
        if let Some(counter) = self.streams_cut.get(reason as usize) {
            counter.inc();
        }
    }

    /// Counts an entry of the error catalogue, of what is no request or has no Route.
    pub fn error(&self, code: &str) {
        self.requests.plain.error(code);
    }

    /// Counts a refusal of the edge gate.
    pub fn edge_rejected(&self, rule: EdgeRule) {
        if let Some(counter) = self.edge_rejected.get(rule as usize) {
            counter.inc();
        }
    }

    /// Counts an attempt for what is no request.
    pub fn attempt(&self, outcome: Attempt) {
        self.requests.plain.attempt(outcome);
    }

    pub fn retried(&self, reason: Retried) {
        if let Some(counter) = self.retries.get(reason as usize) {
            counter.inc();
        }
    }

    /// Prometheus text.
    pub fn text(&self) -> String {
        self.encoders
            .set(i64::try_from(plugins::open_encoders()).unwrap_or(i64::MAX));
        let others = self.routes.others() + self.listeners.others() + self.requests.overflow();
        let more = others.saturating_sub(self.series_overflow.get());
        self.series_overflow.inc_by(more);
        // How many there are is one of them.
        let series = self.registry.gather().iter().map(series_of).sum();
        self.series.set(series);
        let mut families = self.registry.gather();
        families.iter_mut().for_each(leave_out_empty_labels);
        TextEncoder::new()
            .encode_to_string(&families)
            .unwrap_or_default()
    }
}

/// A label without a value is none; the library has the same labels for all series of a family.
fn leave_out_empty_labels(family: &mut MetricFamily) {
    for metric in family.mut_metric() {
        let mut labels = metric.take_label();
        labels.retain(|label| !label.value().is_empty());
        metric.set_label(labels);
    }
}

/// Lines of a family, as a histogram has them by its buckets, the last of which has no bound.
fn series_of(family: &MetricFamily) -> i64 {
    let lines = family
        .get_metric()
        .iter()
        .map(|metric| match family.get_field_type() {
            MetricType::HISTOGRAM => metric.get_histogram().get_bucket().len() + 3,
            _ => 1,
        });
    i64::try_from(lines.sum::<usize>()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn series_are_the_lines_of_the_page() {
        let metrics = Metrics::new();
        metrics.budget.allow(0);
        metrics.routes.of("d/r").count(200, Duration::ZERO);
        let page = metrics.text();
        let lines = page.lines().filter(|line| !line.starts_with('#')).count();
        assert!(
            page.contains(&format!("\ndiolkos_series {lines}\n")),
            "{lines}"
        );
        assert!(page.contains("\ndiolkos_series_overflow_total 1\n"));
        assert!(
            metrics
                .text()
                .contains("\ndiolkos_series_overflow_total 1\n")
        );
    }
}
