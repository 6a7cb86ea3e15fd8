//! Steps 19 to 22 of the pipeline: what remains of a request in metrics and log, however it ended.

use super::Proxy;
use super::client_of;
use super::exchange::{Summary, request_view};
use super::work::Work;
use super::{fail, grpc, grpc_web};
use crate::engine::{ConnInfo, Down, Exchange, RequestHead, Version};
use crate::h1::Reject;
use crate::table::{Labels, ListenerTable, Rule, Table, Upstream};
use crate::telemetry::access_log::{self, Record};
use crate::telemetry::metrics::{Cut, Kind};
use crate::telemetry::{Metrics, RequestSeries};
use model::{CredentialHeader, Headers, Stage};
use prometheus::IntGauge;
use snapshot::Revision;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// One request's journey. It is accounted for when this is dropped, also when a drain comes to its deadline.
pub(super) struct Journey<'a, D: Down> {
    pub proxy: &'a Proxy,
    pub table: &'a Table,
    pub x: Exchange<'a, D>,
    pub rule: Option<&'a Rule>,
    /// `None`: its port is closed.
    pub listener: Option<&'a ListenerTable>,
    pub work: Work,
    pub summary: Summary,
    pub is_over: bool,
}

impl<D: Down> Drop for Journey<'_, D> {
    fn drop(&mut self) {
        let is_panic = !self.is_over && std::thread::panicking();
        if is_panic && self.x.down.answered().is_none() {
            return; // `refuse` accounts for it
        }
        if is_panic {
            self.proxy.shared.metrics.panics_request.inc();
            self.summary.failure = Some(fail::INTERNAL_ERROR);
            self.summary.status = self.x.down.answered().unwrap_or(0);
        } else if !self.is_over {
            self.summary.status = self.x.down.answered().unwrap_or(0);
            self.summary.cut = self.summary.progress.answered.map(|_| Cut::Drain);
        }
        let revision = self.table.revision();
        let injected = self.summary.injected.take();
        let injected = injected
            .as_ref()
            .map_or(&[][..], |up| &up.settings.credentials);
        let answered = self.x.down.answered().is_some();
        let answer = &mut self.x.answer.headers;
        leave_what_is_the_clients(&mut self.x.request.headers, injected, answer, answered);
        // What panicked may do so again.
        let rule = self.rule.filter(|_| !is_panic);
        let listener = self.listener;
        let now = Instant::now();
        let overhead = self.work.until(now);
        self.proxy
            .shared
            .metrics
            .overhead
            .observe(overhead.as_secs_f64());
        let duration = now.duration_since(self.summary.begun);
        self.proxy
            .settle(&self.x, rule, listener, revision, duration, &self.summary);
    }
}

/// Logs and spans tell of what the client sent and got: not of credentials that it never saw, and where it got no answer,
/// not of the one that was in this place before.
fn leave_what_is_the_clients(
    request: &mut Headers,
    injected: &[CredentialHeader],
    answer: &mut Headers,
    answered: bool,
) {
    for credential in injected {
        request.remove(&credential.name);
    }
    if !answered {
        answer.clear();
    }
}

impl Proxy {
    fn settle<D: Down>(
        &self,
        x: &Exchange<'_, D>,
        rule: Option<&Rule>,
        listener: Option<&ListenerTable>,
        revision: Revision,
        duration: Duration,
        summary: &Summary,
    ) {
        let metrics = &self.shared.metrics;
        // Nobody got an answer: the client left, which nginx's users know as 499.
        let status = if summary.status == 0 {
            499
        } else {
            summary.status
        };
        let response_bytes = summary.progress.response_bytes + summary.local_bytes;
        let counted = summary.counted.unwrap_or(status);
        self.count(listener, summary.apart.as_deref(), counted);
        let kind = match status {
            101 => Kind::WebSocket,
            _ if grpc::is_request(x.request) || grpc_web::is_request(x.request) => Kind::Grpc,
            _ => Kind::Plain,
        };
        let series = summary.series(metrics);
        series.duration(kind, duration);
        if let Some(cut) = summary.cut {
            metrics.stream_cut(cut);
        }
        series.bytes(summary.progress.request_bytes, response_bytes);
        if let Some(failure) = summary.failure {
            series.error(failure.code);
        }
        if let Some(rule) = rule {
            if listener.is_none_or(ListenerTable::counts_by_route) {
                let stats = || metrics.routes.of(&rule.spec.route.key);
                rule.stats.get_or_init(stats).count(counted, duration);
            }
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
        let plan = listener.map_or(Some(&access_log::JSON), |l| l.access_log.as_deref());
        let log = self.shared.access_log.as_ref().zip(plan);
        let log = log.filter(|(_, plan)| plan.wants(failed));
        if log.is_none() && summary.trace.is_none() {
            return;
        }
        let record = Record {
            listener: listener.map_or("", |l| &l.key),
            client: summary.client,
            method: x.request.method.as_str(),
            host: x.request.host.as_str(),
            uri: x.request.target.asked(),
            protocol: match x.request.version {
                Version::Http10 => "HTTP/1.0",
                Version::Http11 => "HTTP/1.1",
                Version::Http2 => "HTTP/2.0",
            },
            status,
            error: summary.failure.map(|f| f.code),
            route: rule.map(|r| &*r.spec.route.key),
            rule: rule.map(|r| r.spec.name()),
            upstream: summary.upstream,
            attempts: summary.attempts,
            revision,
            request_bytes: summary.progress.request_bytes,
            response_bytes,
            duration,
            scheme: summary.scheme,
            path: x.request.target.asked_path(),
            query: x.request.target.asked_query(),
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

    /// The log line of what never became a request.
    pub(super) fn log_refusal(
        &self,
        conn: &ConnInfo,
        reject: &Reject,
        listener: Option<&ListenerTable>,
        revision: Revision,
    ) {
        let plan = listener.map_or(Some(&access_log::JSON), |l| l.access_log.as_deref());
        let Some((log, plan)) = self.shared.access_log.as_ref().zip(plan) else {
            return;
        };
        let nothing = Headers::new();
        let record = Record {
            listener: listener.map_or("", |l| &l.key),
            client: client_of(conn),
            method: "",
            host: "",
            uri: "",
            protocol: "HTTP",
            status: reject.status,
            error: Some(reject.code),
            route: None,
            rule: None,
            upstream: None,
            attempts: 0,
            revision,
            request_bytes: 0,
            response_bytes: 0,
            duration: Duration::ZERO,
            scheme: if conn.tls.is_some() { "https" } else { "http" },
            path: "",
            query: None,
            request: &nothing,
            response: &nothing,
        };
        log.note(plan, &record);
    }

    /// Counts an answer for its listener; apart from others where there are series for it.
    pub(super) fn count(
        &self,
        listener: Option<&ListenerTable>,
        apart: Option<&RequestSeries>,
        status: u16,
    ) {
        let all = &self.shared.metrics.listeners;
        let nobody;
        let counters = match listener {
            Some(l) => l.stats.get_or_init(|| all.of(Some(&l.key))),
            None => {
                nobody = all.of(None);
                &nobody
            }
        };
        match apart {
            Some(series) => series.answered(counters, status),
            None => counters.count(status),
        }
    }

    /// In what requests of a rule are counted with these labels; `None`: with all others.
    pub(super) fn series(
        &self,
        labels: Labels,
        rule: &Rule,
        upstream: Option<&Upstream>,
    ) -> Option<Arc<RequestSeries>> {
        let all = &self.shared.metrics.requests;
        let tenant = rule.spec.route.tenant.as_deref().filter(|_| labels.tenant);
        match (tenant, upstream.filter(|_| labels.upstream)) {
            (None, None) => None,
            (None, Some(up)) => Some(Arc::clone(up.series.get_or_init(|| all.of("", &up.key)))),
            (Some(own), up) => {
                let key = up.map_or("", |up| &up.key);
                let find = || all.of(&own.tenant, key);
                Some(own.series.of(key, find))
            }
        }
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
        metrics.in_flight(kind).into_iter().for_each(IntGauge::inc);
        Self(metrics, kind)
    }

    pub(super) fn kind(&self) -> Kind {
        self.1
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let gauge = self.0.in_flight(self.1);
        gauge.into_iter().for_each(IntGauge::dec);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::Secret;

    #[test]
    fn nothing_is_told_that_is_not_the_clients() {
        let mut request = Headers::new();
        request.push("api-key", "sesame").unwrap();
        request.push("x-own", "1").unwrap();
        let mut answer = Headers::new();
        answer.push("x-user", "somebody else").unwrap();
        let injected = [CredentialHeader {
            name: "api-key".to_owned(),
            value: Secret::new("sesame"),
        }];
        leave_what_is_the_clients(&mut request, &injected, &mut answer, true);
        assert_eq!(
            (request.get("api-key"), request.get("x-own")),
            (None, Some(&b"1"[..]))
        );
        assert!(answer.contains("x-user"));
        leave_what_is_the_clients(&mut request, &[], &mut answer, false);
        assert!(!answer.contains("x-user"));
    }
}
