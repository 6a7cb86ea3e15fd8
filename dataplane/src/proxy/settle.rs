//! Steps 19 to 22 of the pipeline: what remains of a request in metrics and log, however it ended.

use super::Proxy;
use super::exchange::{Summary, request_view};
use super::{grpc, grpc_web};
use crate::engine::{Down, Exchange, RequestHead, Version};
use crate::table::Rule;
use crate::telemetry::Metrics;
use crate::telemetry::access_log::{Plan, Record};
use crate::telemetry::metrics::{Cut, Kind};
use model::Stage;
use std::sync::Arc;
use std::time::Instant;

/// Listeners whose counters a thread remembers; a process has at most 16 at a time, but they may come and go.
const REMEMBERED: usize = 32;

/// One request's journey. It is accounted for when this is dropped, also when a drain comes to its deadline.
pub(super) struct Journey<'a, D: Down> {
    pub proxy: &'a Proxy,
    pub x: Exchange<'a, D>,
    pub rule: Option<Arc<Rule>>,
    pub log: Option<&'a Plan>,
    pub begun: Instant,
    pub summary: Summary,
    pub is_over: bool,
}

impl<D: Down> Drop for Journey<'_, D> {
    fn drop(&mut self) {
        if !self.is_over {
            if std::thread::panicking() {
                return; // `refuse` accounts for it
            }
            self.summary.status = self.x.down.answered().unwrap_or(0);
            self.summary.cut = self.summary.progress.answered.map(|_| Cut::Drain);
        }
        let (rule, log) = (self.rule.as_deref(), self.log);
        self.proxy
            .settle(&self.x, rule, log, self.begun, &self.summary);
    }
}

impl Proxy {
    fn settle<D: Down>(
        &self,
        x: &Exchange<'_, D>,
        rule: Option<&Rule>,
        log: Option<&Plan>,
        begun: Instant,
        summary: &Summary,
    ) {
        let metrics = &self.shared.metrics;
        let duration = begun.elapsed();
        // Nobody got an answer: the client left, which nginx's users know as 499.
        let status = if summary.status == 0 {
            499
        } else {
            summary.status
        };
        let response_bytes = summary.progress.response_bytes + summary.local_bytes;
        let counted = summary.counted.unwrap_or(status);
        self.count(&x.conn.listener, counted);
        let kind = match status {
            101 => Kind::WebSocket,
            _ if grpc::is_request(x.request) || grpc_web::is_request(x.request) => Kind::Grpc,
            _ => Kind::Plain,
        };
        metrics.duration(kind, duration.as_secs_f64());
        if let Some(cut) = summary.cut {
            metrics.stream_cut(cut);
        }
        if summary.progress.request_bytes > 0 {
            metrics.request_bytes.inc_by(summary.progress.request_bytes);
        }
        metrics.response_bytes.inc_by(response_bytes);
        if let Some(failure) = summary.failure {
            metrics.error(failure.code);
        }
        if let Some(rule) = rule {
            let route = &rule.spec.route;
            route
                .stats
                .get_or_init(|| metrics.routes.of(&route.key))
                .count(counted, duration);
            let chain = rule.chain();
            if !chain.is_empty(Stage::PostResponse) {
                let request = request_view(x.request, summary.client, None);
                chain.finished(
                    &plugins::Exchange {
                        request,
                        response: None,
                    },
                    summary.upstream.is_none(),
                );
            }
        }
        let failed = status >= 500 || summary.failure.is_some();
        let log = self.shared.access_log.as_ref().zip(log);
        let log = log.filter(|(_, plan)| plan.wants(failed));
        if log.is_none() && summary.trace.is_none() {
            return;
        }
        let record = Record {
            listener: &x.conn.listener,
            client: summary.client,
            method: x.request.method.as_str(),
            host: x.request.host.as_str(),
            uri: x.request.target.as_str(),
            protocol: match x.request.version {
                Version::Http10 => "HTTP/1.0",
                Version::Http11 => "HTTP/1.1",
                Version::Http2 => "HTTP/2.0",
            },
            status,
            error: summary.failure.map(|f| f.code),
            route: rule.map(|r| &*r.spec.route.key),
            rule: rule.map(|r| &*r.spec.name),
            upstream: summary.upstream,
            attempts: summary.attempts,
            request_bytes: summary.progress.request_bytes,
            response_bytes,
            duration,
            scheme: summary.scheme,
            path: x.request.path(),
            query: x.request.query(),
            request: &x.request.headers,
            response: &x.answer.headers,
        };
        if let Some((access_log, plan)) = log {
            access_log.note(plan, &record);
        }
        if let (Some(trace), Some(exporter)) = (&summary.trace, &self.shared.exporter) {
            exporter.send(trace.finish(&record));
        }
    }

    /// Counts an answer for its listener.
    pub(super) fn count(&self, listener: &Arc<str>, status: u16) {
        let mut known = self.listeners.borrow_mut();
        if let Some((_, counters)) = known.iter().find(|(key, _)| Arc::ptr_eq(key, listener)) {
            return counters.count(status);
        }
        if known.len() >= REMEMBERED {
            known.clear();
        }
        let counters = self.shared.metrics.listener(listener);
        counters.count(status);
        known.push((Arc::clone(listener), counters));
    }
}

/// Counts a request as under way until it is dropped, also by a panic.
pub(super) struct UnderWay<'a>(&'a Metrics, Kind);

impl<'a> UnderWay<'a> {
    pub(super) fn new(metrics: &'a Metrics, request: &RequestHead) -> Self {
        let kind = match request.upgrade {
            Some(_) => Kind::WebSocket,
            None if grpc::is_request(request) || grpc_web::is_request(request) => Kind::Grpc,
            None => Kind::Plain,
        };
        metrics.in_flight(kind).inc();
        Self(metrics, kind)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.in_flight(self.1).dec();
    }
}
