//! One request's spans.

use super::Target;
use crate::telemetry::access_log::Record;
use crate::telemetry::trace;
use model::Headers;
use model::headers::Known;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{Span, Status};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Spans of one request at most; attempts beyond have none.
const ATTEMPTS: usize = 16;
/// Bytes of a value that a client chose.
const TEXT: usize = 1024;

/// A request that is traced.
#[derive(Debug)]
pub(crate) struct Trace {
    target: Arc<Target>,
    trace: [u8; 16],
    span: [u8; 8],
    parent: Option<[u8; 8]>,
    state: String,
    /// The same moment twice: times are told by the wall clock and measured by the other one.
    begun: (SystemTime, Instant),
    attempts: Vec<Attempt>,
}

#[derive(Debug)]
struct Attempt {
    span: [u8; 8],
    endpoint: SocketAddr,
    tls: bool,
    begun: Instant,
    ended: Option<Instant>,
    status: Option<u16>,
    error: Option<&'static str>,
}

/// Spans for a collector.
#[derive(Debug)]
pub(crate) struct Finished {
    pub target: Arc<Target>,
    pub spans: Vec<Span>,
}

impl Trace {
    pub(super) fn new(
        target: &Arc<Target>,
        trace: [u8; 16],
        parent: Option<[u8; 8]>,
        headers: &Headers,
    ) -> Box<Self> {
        let state = headers.get("tracestate").unwrap_or_default();
        Box::new(Self {
            target: Arc::clone(target),
            trace,
            span: rand::random(),
            parent,
            state: String::from_utf8_lossy(state).into_owned(),
            begun: (SystemTime::now(), Instant::now()),
            attempts: Vec::new(),
        })
    }

    /// With an id that has been told already.
    pub(super) fn with_id(mut self: Box<Self>, span: [u8; 8]) -> Box<Self> {
        self.span = span;
        self
    }

    /// An attempt at an upstream begins, which is told about it in `headers`.
    pub(crate) fn attempt(&mut self, endpoint: SocketAddr, tls: bool, headers: &mut Headers) {
        let span: [u8; 8] = rand::random();
        let line = trace::traceparent(self.trace, span, true);
        // A constant name and hexadecimal digits, so it is taken.
        let _ = headers.set(Known::Traceparent.name(), &line);
        if self.attempts.len() < ATTEMPTS {
            self.attempts.push(Attempt {
                span,
                endpoint,
                tls,
                begun: Instant::now(),
                ended: None,
                status: None,
                error: None,
            });
        }
    }

    /// The attempt is over: what it was answered with.
    pub(crate) fn attempted(&mut self, status: Option<u16>) {
        if let Some(attempt) = self.attempts.last_mut() {
            attempt.ended = Some(Instant::now());
            attempt.status = status;
        }
    }

    /// The attempt has failed of this.
    pub(crate) fn failed(&mut self, error: &'static str) {
        if let Some(attempt) = self.attempts.last_mut() {
            attempt.ended.get_or_insert_with(Instant::now);
            attempt.error = Some(error);
        }
    }

    /// The request is over.
    pub(crate) fn finish(&self, record: &Record<'_>) -> Finished {
        let now = Instant::now();
        let mut spans = Vec::with_capacity(1 + self.attempts.len());
        spans.push(self.server(record, now));
        for (resent, attempt) in self.attempts.iter().enumerate() {
            spans.push(self.client(attempt, resent, record, now));
        }
        Finished {
            target: Arc::clone(&self.target),
            spans,
        }
    }

    fn server(&self, r: &Record<'_>, now: Instant) -> Span {
        let mut attributes = Attributes::default();
        attributes.text("http.request.method", r.method);
        attributes.text("url.scheme", r.scheme);
        // Not the query, in which credentials are common.
        attributes.text("url.path", r.path);
        attributes.text("network.protocol.name", "http");
        let version = r.protocol.strip_prefix("HTTP/").unwrap_or(r.protocol);
        attributes.text("network.protocol.version", version.trim_end_matches(".0"));
        attributes.text("client.address", &r.client.ip().to_string());
        attributes.text("server.address", without_port(r.host));
        attributes.number("http.request.body.size", r.request_bytes);
        attributes.number("http.response.body.size", r.response_bytes);
        if let Some(agent) = r.request.get_known(Known::UserAgent) {
            attributes.text("user_agent.original", &String::from_utf8_lossy(agent));
        }
        attributes.text("diolkos.listener", r.listener);
        if let Some(route) = r.route {
            attributes.text("diolkos.route", route);
        }
        if let Some(rule) = r.rule.filter(|rule| !rule.is_empty()) {
            attributes.text("diolkos.rule", rule);
        }
        attributes.answer((r.status > 0).then_some(r.status), r.error, 500);
        let name = match r.route {
            Some(route) => format!("{} {route}", r.method),
            None => r.method.to_owned(),
        };
        Span {
            span_id: self.span.to_vec(),
            parent_span_id: self.parent.map(Vec::from).unwrap_or_default(),
            flags: match self.parent {
                Some(_) => SAMPLED | PARENT_KNOWN | PARENT_REMOTE,
                None => SAMPLED | PARENT_KNOWN,
            },
            name,
            kind: SpanKind::Server.into(),
            ..self.span(self.begun.1, now, attributes)
        }
    }

    fn client(&self, attempt: &Attempt, resent: usize, r: &Record<'_>, now: Instant) -> Span {
        let mut attributes = Attributes::default();
        let Attempt { endpoint, .. } = attempt;
        let scheme = if attempt.tls { "https" } else { "http" };
        attributes.text("http.request.method", r.method);
        attributes.text("url.full", &format!("{scheme}://{endpoint}{}", r.path));
        attributes.text("server.address", &endpoint.ip().to_string());
        attributes.number("server.port", endpoint.port().into());
        attributes.text("network.peer.address", &endpoint.ip().to_string());
        attributes.number("network.peer.port", endpoint.port().into());
        if resent > 0 {
            attributes.number("http.request.resend_count", resent as u64);
        }
        attributes.answer(attempt.status, attempt.error, 400);
        Span {
            span_id: attempt.span.to_vec(),
            parent_span_id: self.span.to_vec(),
            flags: SAMPLED | PARENT_KNOWN,
            name: r.method.to_owned(),
            kind: SpanKind::Client.into(),
            ..self.span(attempt.begun, attempt.ended.unwrap_or(now), attributes)
        }
    }

    /// What all have in common.
    fn span(&self, begun: Instant, ended: Instant, attributes: Attributes) -> Span {
        Span {
            trace_id: self.trace.to_vec(),
            trace_state: self.state.clone(),
            start_time_unix_nano: self.nanos(begun),
            end_time_unix_nano: self.nanos(ended),
            attributes: attributes.list,
            status: attributes.failed.then(|| Status {
                code: StatusCode::Error.into(),
                message: String::new(),
            }),
            ..Span::default()
        }
    }

    fn nanos(&self, at: Instant) -> u64 {
        let (wall, begun) = self.begun;
        let wall = wall.duration_since(UNIX_EPOCH).unwrap_or_default();
        let nanos = (wall + at.saturating_duration_since(begun)).as_nanos();
        u64::try_from(nanos).unwrap_or(u64::MAX)
    }
}

/// Flags of a span (opentelemetry-proto, `SpanFlags`): those of W3C, and whether the parent is in another process.
const SAMPLED: u32 = 1;
const PARENT_KNOWN: u32 = 0x100;
const PARENT_REMOTE: u32 = 0x200;

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    }
}

#[derive(Default)]
struct Attributes {
    list: Vec<KeyValue>,
    failed: bool,
}

impl Attributes {
    fn text(&mut self, key: &'static str, value: &str) {
        let mut end = value.len().min(TEXT);
        while !value.is_char_boundary(end) {
            end -= 1;
        }
        let value = value.get(..end).unwrap_or_default().to_owned();
        self.push(key, Value::StringValue(value));
    }

    fn number(&mut self, key: &'static str, value: u64) {
        self.push(
            key,
            Value::IntValue(i64::try_from(value).unwrap_or(i64::MAX)),
        );
    }

    /// Statuses from `failure` on are errors.
    fn answer(&mut self, status: Option<u16>, error: Option<&'static str>, failure: u16) {
        if let Some(status) = status {
            self.number("http.response.status_code", status.into());
        }
        let bad = status.filter(|status| *status >= failure);
        self.failed = bad.is_some() || error.is_some();
        if let Some(error) = error {
            self.text("error.type", error);
        } else if let Some(bad) = bad {
            self.text("error.type", &bad.to_string());
        }
    }

    fn push(&mut self, key: &'static str, value: Value) {
        self.list.push(KeyValue {
            key: key.to_owned(),
            value: Some(AnyValue { value: Some(value) }),
            ..KeyValue::default()
        });
    }
}
