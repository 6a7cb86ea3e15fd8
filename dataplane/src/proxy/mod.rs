//! A request's journey, top to bottom (features.md section 3). The engine has parsed and sanitised it; here it is
//! routed, run through its plugins, forwarded or answered, and accounted for.

mod affinity;
mod budget;
mod client;
mod connect;
mod error_page;
mod exchange;
pub mod fail;
mod forward;
mod grpc;
mod held;
mod local;
mod mirror;
mod replay;
mod retry;
mod tap;
mod wait;

use crate::engine::{
    ConnInfo, Connections, Down, DownExt, DownFault, Event, Exchange, Framing, Outcome,
    RequestHead, ResponseHead, Service, Version,
};
use crate::h1::Reject;
use crate::sync::Current;
use crate::table::{Action, Found, ListenerTable, Query, Rule, Table};
use crate::telemetry::access_log::{self, Plan, Record};
use crate::telemetry::metrics::{Cut, Kind, ListenerCounters};
use crate::telemetry::{AccessLog, Metrics, trace};
use budget::RetryBudget;
use bytes::{Bytes, BytesMut};
use client::Origin;
use exchange::{RequestStage, Summary, request_view};
use fail::Failure;
use forward::{End, Request};
use mirror::{Ends, Mirrors};
use model::{AcceptedCodings, Stage};
use plugins::Side;
use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tap::{Why, verdict};

/// What all worker threads share.
pub struct Shared {
    pub current: Arc<Current>,
    pub metrics: Arc<Metrics>,
    /// `None`: no access log.
    pub access_log: Option<AccessLog>,
    started: Instant,
    budget: RetryBudget,
}

impl Shared {
    pub fn new(
        current: Arc<Current>,
        metrics: Arc<Metrics>,
        access_log: Option<AccessLog>,
    ) -> Self {
        Self {
            current,
            metrics,
            access_log,
            started: Instant::now(),
            budget: RetryBudget::default(),
        }
    }
}

/// The service of one worker thread.
pub struct Proxy {
    shared: Arc<Shared>,
    connections: Rc<Connections>,
    mirrors: Rc<Mirrors>,
    /// Counters of the listeners that this thread has met, by key.
    listeners: RefCell<Vec<(Arc<str>, ListenerCounters)>>,
    /// Room for a rewritten target.
    scratch: RefCell<String>,
}

/// Listeners whose counters a thread remembers; a process has at most 16 at a time, but they may come and go.
const REMEMBERED: usize = 32;

impl Proxy {
    pub fn new(shared: Arc<Shared>, connections: Connections) -> Self {
        let connections = Rc::new(connections);
        let metrics = Arc::clone(&shared.metrics);
        Self {
            mirrors: Mirrors::new(Rc::clone(&connections), metrics),
            shared,
            connections,
            listeners: RefCell::default(),
            scratch: RefCell::default(),
        }
    }

    /// Everything between the request's head and the end of its answer.
    async fn answer<D: Down>(
        &self,
        x: &mut Exchange<'_, D>,
        listener: Option<&ListenerTable>,
        found: &mut Option<Arc<Rule>>,
        summary: &mut Summary,
    ) -> Outcome {
        let client = summary.client;
        let Some(listener) = listener else {
            return self.fail(x, None, fail::ROUTE_NOT_FOUND, summary).await;
        };
        if let (Some(tls), Some(front)) = (&x.conn.tls, &listener.tls)
            && !front.is_one_for(tls, x.request.host.name())
        {
            return self.fail(x, None, fail::MISDIRECTED_REQUEST, summary).await;
        }
        if listener.listener.health && x.request.path() == "/healthz" {
            return local::health(x, summary).await;
        }
        let query = Query {
            method: x.request.method.as_str(),
            host: x.request.host.name(),
            path: x.request.path(),
            query: x.request.query(),
            headers: &x.request.headers,
            client: client.ip(),
        };
        let (rule, prefix_len) = match listener.find_silently(&query) {
            Found::Rule(matched) => (Arc::clone(matched.rule), matched.prefix_len),
            Found::NotFound => {
                return self.fail(x, None, fail::ROUTE_NOT_FOUND, summary).await;
            }
            Found::MethodNotAllowed { allow } => return self.not_allowed(x, &allow, summary).await,
        };
        x.request.prefix_len = prefix_len;
        let rule = &**found.insert(rule);
        let body = match self.before(x, rule, client).await {
            Ok(body) => body,
            Err(Stop::Gone) => return Outcome::Close,
            Err(Stop::Answer(why)) => return self.instead(x, Some(rule), why, summary).await,
        };
        match rule.action() {
            Action::Forward(backends) => {
                if tell(x, listener, summary).is_err() {
                    return self
                        .fail(x, Some(rule), fail::INTERNAL_ERROR, summary)
                        .await;
                }
                let ends = Ends {
                    client,
                    local: x.conn.local,
                };
                let copies = self.mirror(x, rule, prefix_len, body.as_ref(), ends);
                let request = Request {
                    copies,
                    head: x.request,
                    body,
                    client,
                    local: x.conn.local,
                    rule,
                    prefix_len,
                };
                let end = self
                    .forward(x.down, request, backends, x.answer, summary)
                    .await;
                match end {
                    End::Done => {
                        summary.status = x.down.answered().unwrap_or(0);
                        Outcome::Done
                    }
                    End::Gone => {
                        // A tunnel has been what was asked for; any other answer is one that nobody got.
                        summary.status = x.down.answered().filter(|s| *s == 101).unwrap_or(0);
                        Outcome::Close
                    }
                    End::Cut(failure) => {
                        summary.status = x.down.answered().unwrap_or(0);
                        summary.failure = Some(failure);
                        Outcome::Close
                    }
                    End::Instead(why) => self.instead(x, Some(rule), why, summary).await,
                }
            }
            Action::Redirect(redirect) => {
                self.redirect(x, rule, redirect, prefix_len, summary).await
            }
            Action::Respond(direct) => self.direct(x, rule, direct, summary).await,
            Action::Closed { code } => {
                let failure = Failure::by_code(code);
                self.fail(x, Some(rule), failure, summary).await
            }
        }
    }

    /// Steps 7 to 11: the body's cap, the body itself where a plugin needs it, and `pre_request`.
    async fn before<D: Down>(
        &self,
        x: &mut Exchange<'_, D>,
        rule: &Rule,
        client: SocketAddr,
    ) -> Result<Option<Bytes>, Stop> {
        if let Framing::Length(length) = x.request.framing
            && length > rule.max_request_body()
        {
            return Err(fail::REQUEST_TOO_LARGE.into());
        }
        let chain = rule.chain();
        if chain.asks_codings() {
            x.request.accepts = AcceptedCodings::of(&x.request.headers);
        }
        let mut body = None;
        if let Some(max) = chain.buffers(Side::Request) {
            let max = max.min(rule.max_request_body());
            body = Some(read_whole(x.down, x.request, max).await?);
        }
        if !chain.is_empty(Stage::PreRequest) {
            let mut stage = RequestStage {
                request: x.request,
                client,
                body: body.as_ref(),
            };
            verdict(chain.run(Stage::PreRequest, &mut stage, false).await).map_err(Stop::Answer)?;
        }
        if chain.streams(Side::Request) && x.request.framing != Framing::Empty {
            x.request.framing = Framing::Chunked;
        }
        Ok(body)
    }

    /// Steps 19 to 22: metrics and log.
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
        self.count(&x.conn.listener, status);
        let kind = match status {
            101 => Kind::WebSocket,
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
                .count(status, duration);
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
        if let Some((access_log, plan)) = self.shared.access_log.as_ref().zip(log)
            && plan.wants(failed)
        {
            access_log.note(
                plan,
                &Record {
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
                },
            );
        }
    }

    fn count(&self, listener: &Arc<str>, status: u16) {
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

impl Drop for Proxy {
    /// The thread ends: its last lines go to the writer.
    fn drop(&mut self) {
        if let Some(log) = &self.shared.access_log {
            log.tick();
        }
    }
}

impl Service for Proxy {
    async fn serve<D: Down>(&self, x: Exchange<'_, D>) -> Outcome {
        let begun = Instant::now();
        let table: Arc<Table> = self.shared.current.table.load_full();
        let listener = table.listeners.get(&*x.conn.listener).map(|l| &**l);
        let peer = client_of(x.conn);
        let client = match listener {
            Some(l) => client::identify(&l.listener.forwarded, peer, &mut x.request.headers),
            None => peer,
        };
        let scheme = client::scheme(x.request.scheme(), &x.request.headers);
        let _under_way = UnderWay::new(&self.shared.metrics, x.request);
        let mut journey = Journey {
            proxy: self,
            x,
            rule: None,
            log: listener.map_or(Some(&access_log::JSON), |l| l.access_log.as_deref()),
            begun,
            summary: Summary {
                pages: listener.and_then(ListenerTable::pages),
                ..Summary::new(client, scheme)
            },
            is_over: false,
        };
        let Journey {
            x, rule, summary, ..
        } = &mut journey;
        let outcome = self.answer(x, listener, rule, summary).await;
        journey.is_over = true;
        outcome
    }

    fn note(&self, event: Event) {
        let metrics = &self.shared.metrics;
        metrics.connections.note(event);
        match event {
            Event::H2Budget => metrics.edge_rejected("h2_budget"),
            Event::NoProxyHeader => metrics.refused_proxy_protocol.inc(),
            Event::OpeningCut => metrics.refused_tls.inc(),
            _ => {}
        }
    }

    /// Each request is judged by its own table, see [`client::identify`].
    fn trusts_forwarded(&self, _: &ConnInfo) -> bool {
        true
    }

    fn refuse(&self, conn: &ConnInfo, reject: &Reject, head: &mut ResponseHead) -> Bytes {
        let metrics = &self.shared.metrics;
        if reject.status == 500 {
            metrics.panics_request.inc();
        } else {
            metrics.edge_rejected(reject.code);
        }
        metrics.error(reject.code);
        self.count(&conn.listener, reject.status);
        tracing::debug!(
            event = "refused",
            listener = &*conn.listener,
            client = %client_of(conn),
            status = reject.status,
            code = reject.code,
            reason = reject.reason,
            "request refused"
        );
        let failure = Failure::from(*reject);
        let body = failure.answer(None, head);
        let table = self.shared.current.table.load();
        let pages = table.listeners.get(&*conn.listener).and_then(|l| l.pages());
        let page = pages.and_then(|l| error_page::body(&l.errors, failure, None, None, head));
        page.unwrap_or(body)
    }
}

/// One request's journey. It is accounted for when this is dropped, also when a drain comes to its deadline.
struct Journey<'a, D: Down> {
    proxy: &'a Proxy,
    x: Exchange<'a, D>,
    rule: Option<Arc<Rule>>,
    log: Option<&'a Plan>,
    begun: Instant,
    summary: Summary,
    is_over: bool,
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

/// Why a request is not forwarded.
enum Stop {
    Answer(Why),
    /// The client is gone.
    Gone,
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Answer(Why::Failure(failure))
    }
}

/// The whole body of a request that a plugin judges before it goes on.
async fn read_whole<D: Down>(
    down: &mut D,
    request: &mut RequestHead,
    max: u64,
) -> Result<Bytes, Stop> {
    let too_large = || Stop::from(fail::REQUEST_TOO_LARGE);
    if matches!(request.framing, Framing::Length(length) if length > max) {
        return Err(too_large());
    }
    if request.framing == Framing::Empty {
        return Ok(Bytes::new());
    }
    down.send_continue(request);
    let gone = |fault| match fault {
        DownFault::Closed => Stop::Gone,
        DownFault::Timeout => fail::REQUEST_TIMEOUT.into(),
        DownFault::Reject(reject) => Failure::from(reject).into(),
    };
    down.flush().await.map_err(gone)?;
    let mut whole = BytesMut::new();
    while let Some(data) = down.read_body().await.map_err(gone)? {
        if (whole.len() + data.len()) as u64 > max {
            return Err(too_large());
        }
        whole.extend_from_slice(&data);
    }
    Ok(whole.freeze())
}

/// Writes what the upstream is told about the client.
fn tell<D: Down>(
    x: &mut Exchange<'_, D>,
    listener: &ListenerTable,
    summary: &Summary,
) -> Result<(), model::headers::InvalidHeader> {
    trace::remove_invalid(&mut x.request.headers);
    let origin = Origin {
        peer: client_of(x.conn),
        client: summary.client,
        scheme: summary.scheme,
        host: &x.request.host,
    };
    client::tell(
        &listener.listener.forwarded,
        &origin,
        &mut x.request.headers,
    )
}

/// The other end of the connection; one that came over a dual-stack socket is the IPv4 address that it is.
fn client_of(conn: &ConnInfo) -> SocketAddr {
    SocketAddr::new(conn.peer.ip().to_canonical(), conn.peer.port())
}

/// Counts a request as under way until it is dropped, also by a panic.
struct UnderWay<'a>(&'a Metrics, Kind);

impl<'a> UnderWay<'a> {
    fn new(metrics: &'a Metrics, request: &RequestHead) -> Self {
        let kind = match request.upgrade {
            Some(_) => Kind::WebSocket,
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

/// How often worker threads hand over their log lines.
pub const LOG_TICK: Duration = Duration::from_millis(200);
