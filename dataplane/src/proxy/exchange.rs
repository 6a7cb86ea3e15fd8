//! What is known about one request while it passes, and what remains of it for metrics and log.

use super::error_page;
use super::fail::Failure;
use crate::engine::{Framing, Progress, RequestHead, ResponseHead};
use crate::table::Upstream;
use crate::telemetry::apart::Apart;
use crate::telemetry::metrics::{Cut, Kind};
use crate::telemetry::otlp::Trace;
use crate::telemetry::{Metrics, RequestSeries};
use bytes::Bytes;
use model::Listener;
use model::headers::InvalidHeader;
use plugins::{Edits, Exchange, Filters, Passing, Reader, RequestView, ResponseView};
use snapshot::Revision;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

/// The request as plugins see it.
pub(super) fn request_view<'a>(
    request: &'a RequestHead,
    client: SocketAddr,
    body: Option<&'a [u8]>,
) -> RequestView<'a> {
    RequestView {
        method: request.method.as_str(),
        scheme: request.scheme(),
        host: request.host.name(),
        port: request.host.port(),
        path: request.path(),
        prefix_len: request.prefix_len,
        query: request.query(),
        headers: &request.headers,
        client,
        accepts: request.accepts,
        body,
    }
}

/// Request stages: edits go to the request.
pub(super) struct RequestStage<'a> {
    pub request: &'a mut RequestHead,
    pub client: SocketAddr,
    pub body: Option<&'a Bytes>,
}

impl Reader for RequestStage<'_> {
    fn exchange(&self) -> Exchange<'_> {
        Exchange {
            request: request_view(self.request, self.client, self.body.map(|b| &b[..])),
            response: None,
        }
    }

    fn apply(&mut self, edits: &Edits) -> Result<(), InvalidHeader> {
        edits.apply(&mut self.request.headers)
    }
}

/// Response stages: edits go to the answer.
pub(super) struct ResponseStage<'a> {
    pub request: RequestView<'a>,
    pub answer: &'a mut ResponseHead,
    pub body: Option<&'a [u8]>,
    /// What plugins put in the body's way.
    pub filters: Filters,
}

impl Reader for ResponseStage<'_> {
    fn exchange(&self) -> Exchange<'_> {
        Exchange {
            request: self.request,
            response: Some(ResponseView {
                status: self.answer.status,
                headers: &self.answer.headers,
                length: match (self.body, self.answer.framing) {
                    (Some(body), _) => Some(body.len() as u64),
                    (None, Framing::Length(length)) => Some(length),
                    (None, _) => None,
                },
                body: self.body,
            }),
        }
    }

    fn apply(&mut self, edits: &Edits) -> Result<(), InvalidHeader> {
        edits.apply(&mut self.answer.headers)
    }

    fn filter_answer(&mut self, filter: Passing) -> Result<(), plugins::Failure> {
        self.filters.push(filter);
        Ok(())
    }
}

/// Tells the client by which configuration it is answered, where that is asked for. What an upstream says in its place
/// goes.
pub(super) fn show(revision: Option<Revision>, head: &mut ResponseHead) {
    if let Some(revision) = revision {
        // A constant name and digits; a head that is full goes without.
        let _ = head.headers.set("x-diolkos-revision", revision.digits());
    }
}

/// What became of a request.
#[derive(Debug)]
pub(super) struct Summary {
    /// When its head was there.
    pub begun: Instant,
    /// Behind proxies that are trusted.
    pub client: SocketAddr,
    /// `http` or `https`, as the client used it.
    pub scheme: &'static str,
    /// The listener, where it has bodies of its own for failures.
    pub pages: Option<Arc<Listener>>,
    pub progress: Progress,
    /// Status of the final head; 0: the client got none.
    pub status: u16,
    /// The status that metrics count where it is another: that of a failure which gRPC is told with 200.
    pub counted: Option<u16>,
    pub failure: Option<Failure>,
    /// Why the answer was cut, where it had begun.
    pub cut: Option<Cut>,
    /// Bytes of a body that the gateway made itself.
    pub local_bytes: u64,
    pub upstream: Option<SocketAddr>,
    /// The upstream whose credentials are among the request's headers.
    pub injected: Option<Arc<Upstream>>,
    pub attempts: u32,
    /// Where it is traced.
    pub trace: Option<Box<Trace>>,
    /// The revision that the client is told.
    pub shows: Option<Revision>,
    pub kind: Kind,
    /// Where it is counted; `None`: with all others.
    pub apart: Option<Apart>,
}

impl Summary {
    /// Of a request that nothing has happened to.
    pub(super) fn new(
        begun: Instant,
        client: SocketAddr,
        scheme: &'static str,
        kind: Kind,
    ) -> Self {
        Self {
            begun,
            client,
            scheme,
            pages: None,
            progress: Progress::default(),
            status: 0,
            counted: None,
            failure: None,
            cut: None,
            local_bytes: 0,
            upstream: None,
            injected: None,
            attempts: 0,
            trace: None,
            shows: None,
            kind,
            apart: None,
        }
    }

    /// From now on it is counted in these series; `None`: with all others.
    pub(super) fn count_in(&mut self, series: Option<Arc<RequestSeries>>) {
        self.apart = series.map(|series| Apart::new(series, self.kind));
    }

    /// What it is counted in.
    pub(super) fn series<'a>(&'a self, metrics: &'a Metrics) -> &'a RequestSeries {
        self.apart.as_deref().unwrap_or(&metrics.requests.plain)
    }
}

impl Summary {
    /// A failure's answer: head and body.
    pub(super) fn failure(
        &mut self,
        failure: Failure,
        message: Option<&str>,
        request: &RequestHead,
        head: &mut ResponseHead,
    ) -> Bytes {
        self.failure = Some(failure);
        let body = failure.answer(message, head);
        let page = self.pages.as_ref().and_then(|listener| {
            error_page::body(
                &listener.errors,
                failure,
                message,
                Some(&request.headers),
                head,
            )
        });
        page.unwrap_or(body)
    }
}
