//! What is counted of clients' connections, apart from their requests, and of streams of all connections.

use crate::engine::{Event, Protocol, TlsFailure};
use prometheus::core::{AtomicU64, GenericCounter};
use prometheus::{Histogram, HistogramOpts, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};
use std::collections::BTreeMap;

type Counter = GenericCounter<AtomicU64>;

/// The connections' metrics.
pub struct Connections {
    /// By [`Protocol`].
    open: [IntGauge; Protocol::ALL.len()],
    total: [Counter; Protocol::ALL.len()],
    resets_client: Counter,
    resets_us: Counter,
    /// By upstreams.
    pub resets_upstream: Counter,
    handshakes: Histogram,
    failures: [Counter; TlsFailure::ALL.len()],
}

impl Connections {
    #[allow(
        clippy::unwrap_used,
        reason = "names and labels are constants of this function: the first call in any test would fail"
    )]
    pub(super) fn register(registry: &Registry, buckets: &[f64]) -> Self {
        let counter = |name: &str, help: &str, label: &str| {
            let vec = IntCounterVec::new(Opts::new(name, help), &[label]).unwrap();
            registry.register(Box::new(vec.clone())).unwrap();
            vec
        };
        let open = Opts::new("diolkos_connections", "Open client connections.");
        let open = IntGaugeVec::new(open, &["protocol"]).unwrap();
        registry.register(Box::new(open.clone())).unwrap();
        let total = counter(
            "diolkos_connections_total",
            "Client connections accepted.",
            "protocol",
        );
        let resets = counter(
            "diolkos_h2_resets_total",
            "HTTP/2 streams reset, by who did it.",
            "by",
        );
        let handshakes = HistogramOpts::new(
            "diolkos_tls_handshake_seconds",
            "Time of a completed TLS handshake with a client.",
        );
        let handshakes = Histogram::with_opts(handshakes.buckets(buckets.to_vec())).unwrap();
        registry.register(Box::new(handshakes.clone())).unwrap();
        let failures = counter(
            "diolkos_tls_failures_total",
            "TLS handshakes with clients that failed.",
            "reason",
        );
        let protocols = Protocol::ALL.map(label);
        Self {
            open: protocols.map(|p| open.with_label_values(&[p])),
            total: protocols.map(|p| total.with_label_values(&[p])),
            resets_client: resets.with_label_values(&["client"]),
            resets_us: resets.with_label_values(&["us"]),
            resets_upstream: resets.with_label_values(&["upstream"]),
            handshakes,
            failures: TlsFailure::ALL.map(|f| failures.with_label_values(&[f.name()])),
        }
    }

    /// Open connections by protocol.
    pub fn open(&self) -> BTreeMap<&'static str, i64> {
        let protocols = Protocol::ALL.map(label);
        let open = self.open.iter().map(IntGauge::get);
        protocols.into_iter().zip(open).collect()
    }

    /// Counts what happened; what is counted among refusals is not counted here.
    pub fn note(&self, event: Event) {
        let open = |protocol: Protocol| self.open.get(protocol as usize);
        match event {
            Event::Opened(protocol) => open(protocol).into_iter().for_each(IntGauge::inc),
            Event::Closed(protocol) => open(protocol).into_iter().for_each(IntGauge::dec),
            Event::Spoke(protocol) => {
                let total = self.total.get(protocol as usize);
                total.into_iter().for_each(Counter::inc);
            }
            Event::H2Resets { client, us } => {
                self.resets_client.inc_by(client.into());
                self.resets_us.inc_by(us.into());
            }
            Event::Handshake(time) => self.handshakes.observe(time.as_secs_f64()),
            Event::HandshakeFailed(why) => {
                if let Some(counter) = self.failures.get(why as usize) {
                    counter.inc();
                }
            }
            Event::H2Budget | Event::NoProxyHeader | Event::OpeningCut | Event::Refused(_) => {}
        }
    }
}

fn label(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Http1 => "h1",
        Protocol::Http2 => "h2",
        Protocol::TlsPassthrough => "tls_passthrough",
        Protocol::Tcp => "tcp",
    }
}
