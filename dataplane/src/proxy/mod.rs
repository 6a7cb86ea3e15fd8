//! A request's journey, top to bottom (features.md section 3). The engine has parsed and sanitised it; here it is
//! routed, run through its plugins, forwarded or answered, and accounted for.

mod affinity;
mod aim;
mod before;
mod client;
mod connect;
mod due;
mod end;
mod error_page;
mod exchange;
pub mod fail;
mod forward;
mod grpc;
mod grpc_web;
mod held;
mod hops;
mod judge;
mod local;
mod mirror;
mod replay;
mod retry;
mod session;
mod settle;
mod stream;
mod tap;
mod wait;
mod work;

use crate::engine::drain::Ticket;
use crate::engine::{
    ClientSocket, ConnInfo, Connections, Down, Event, Exchange, Outcome, ResponseHead, Service,
};
use crate::h1::Reject;
use crate::pressure::{MemoryState, Pressure};
use crate::sync::Current;
use crate::table::{Action, Found, Labels, ListenerTable, PortTable, Query, Rule, Table};
use crate::telemetry::otlp::Exporter;
use crate::telemetry::{AccessLog, Metrics, trace};
use before::Stop;
use bytes::{Bytes, BytesMut};
use client::Origin;
use due::Due;
use end::End;
use exchange::{Summary, show};
use fail::Failure;
use forward::Request;
use grpc_web::GrpcWeb;
use hops::Hop;
use mirror::{Ends, Mirrors};
use model::limits;
use settle::{Journey, UnderWay};
use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::UdpSocket;
use wait::Refused;
use work::Work;

/// What all worker threads share.
pub struct Shared {
    pub current: Arc<Current>,
    pub metrics: Arc<Metrics>,
    pub pressure: Pressure,
    /// `None`: no access log.
    pub access_log: Option<AccessLog>,
    /// `None`: spans go nowhere.
    pub exporter: Option<Exporter>,
    /// Clients whose datagrams are passed on at a time.
    pub max_sessions: usize,
    /// And of each port.
    pub sessions: session::OfPorts,
}

impl Shared {
    pub fn new(
        current: Arc<Current>,
        metrics: Arc<Metrics>,
        access_log: Option<AccessLog>,
    ) -> Self {
        Self {
            current,
            pressure: Pressure::new(metrics.memory_state.clone()),
            metrics,
            access_log,
            exporter: None,
            max_sessions: limits::SESSIONS,
            sessions: session::OfPorts::default(),
        }
    }
}

/// The service of one worker thread.
pub struct Proxy {
    shared: Arc<Shared>,
    connections: Rc<Connections>,
    mirrors: Rc<Mirrors>,
    /// Room for a rewritten target.
    scratch: RefCell<String>,
}

impl Proxy {
    pub fn new(shared: Arc<Shared>, connections: Connections) -> Self {
        let connections = Rc::new(connections);
        let metrics = Arc::clone(&shared.metrics);
        Self {
            mirrors: Mirrors::new(Rc::clone(&connections), metrics),
            shared,
            connections,
            scratch: RefCell::default(),
        }
    }
}

impl Service for Proxy {
    async fn serve<D: Down>(&self, x: Exchange<'_, D>) -> Outcome {
        let begun = Instant::now();
        let table: Arc<Table> = self.shared.current.table.load_full();
        let port = table.ports.get(&x.conn.port);
        let listener = port.map(|port| port.of(x.request.host.name()));
        let peer = client_of(x.conn);
        let (client, said) = match listener {
            Some(l) => client::identify(&l.listener.forwarded, peer, &mut x.request.headers),
            None => (peer, None),
        };
        let scheme = client::scheme(&x.request.headers)
            .or(said)
            .unwrap_or_else(|| x.request.scheme());
        let tracing = listener.and_then(|l| l.tracing.as_ref());
        let trace = tracing.and_then(|tracing| tracing.begin(&mut x.request.headers));
        let under_way = UnderWay::new(&self.shared.metrics, x.request);
        let mut journey = Journey {
            proxy: self,
            table: &table,
            x,
            rule: None,
            listener,
            work: Work::begin(begun),
            summary: Summary {
                pages: listener.and_then(ListenerTable::pages),
                trace,
                shows: listener
                    .filter(|l| l.listener.shows_revision)
                    .map(|_| table.revision()),
                ..Summary::new(begun, client, scheme, under_way.kind())
            },
            is_over: false,
        };
        let Journey {
            x,
            rule,
            work,
            summary,
            ..
        } = &mut journey;
        let place = port.map(|port| &**port).zip(listener);
        let outcome = {
            let mut answer = pin!(self.answer(x, place, rule, summary));
            poll_fn(|cx| work.go_on(|| answer.as_mut().poll(cx))).await
        };
        journey.is_over = true;
        outcome
    }

    async fn keep_house(&self) {
        let mut lines = tokio::time::interval(LOG_TICK);
        let mut sweep = tokio::time::interval(Connections::SWEEP);
        loop {
            tokio::select! {
                _ = lines.tick() => if let Some(log) = &self.shared.access_log {
                    log.tick();
                },
                _ = sweep.tick() => self.connections.sweep(),
            }
        }
    }

    fn memory(&self) -> MemoryState {
        self.shared.pressure.memory()
    }

    async fn hurries(&self, before: bool) -> bool {
        let pressure = &self.shared.pressure;
        pressure
            .becomes(|memory| (memory >= MemoryState::NoKeepAlive) != before)
            .await;
        !before
    }

    fn note(&self, event: Event) {
        self.shared.metrics.note(event);
    }

    fn takes_stream(&self, port: u16, host: &str) -> bool {
        self.has_stream(port, host)
    }

    async fn pass_on(
        &self,
        socket: ClientSocket,
        begun: BytesMut,
        info: &ConnInfo,
        ticket: Ticket,
    ) {
        self.stream(socket, begun, info, ticket).await;
    }

    async fn datagrams(&self, port: u16, socket: &UdpSocket, ticket: Ticket) {
        self.sessions(port, socket, ticket).await;
    }

    /// Each request is judged by its own table, see [`client::identify`].
    fn trusts_forwarded(&self, _: &ConnInfo) -> bool {
        true
    }

    fn refuse(&self, conn: &ConnInfo, reject: &Reject, head: &mut ResponseHead) -> Bytes {
        self.shared.metrics.refused(reject);
        let table = self.shared.current.table.load();
        // Nothing is known of the request but its connection.
        let sni = conn.tls.as_ref().and_then(|tls| tls.sni.as_deref());
        let port = table.ports.get(&conn.port);
        let listener = port.map(|port| port.of(sni.unwrap_or_default()));
        self.count(listener, None, reject.status);
        tracing::debug!(
            event = "refused",
            listener = listener.map_or("", |l| &l.key),
            client = %client_of(conn),
            status = reject.status,
            code = reject.code,
            reason = reject.reason,
            "request refused"
        );
        self.log_refusal(conn, reject, listener, table.revision());
        let failure = Failure::from(*reject);
        let body = failure.answer(None, head);
        let pages = listener.and_then(ListenerTable::pages);
        let page = pages.and_then(|l| error_page::body(&l.errors, failure, None, None, head));
        if listener.is_some_and(|l| l.listener.shows_revision) {
            show(Some(table.revision()), head);
        }
        page.unwrap_or(body)
    }
}

impl Proxy {
    /// Whether memory is so short that nothing new is begun.
    fn sheds(&self) -> bool {
        self.shared.pressure.memory() >= MemoryState::Shedding
    }

    /// Everything between the request's head and the end of its answer.
    async fn answer<'t, D: Down>(
        &self,
        x: &mut Exchange<'_, D>,
        place: Option<(&'t PortTable, &'t ListenerTable)>,
        found: &mut Option<&'t Rule>,
        summary: &mut Summary,
    ) -> Outcome {
        let client = summary.client;
        let Some((port, listener)) = place else {
            return self.fail(x, None, fail::ROUTE_NOT_FOUND, summary).await;
        };
        if let Some(tls) = &x.conn.tls
            && !port.may_carry(tls, listener, x.request.host.name())
        {
            return self.fail(x, None, fail::MISDIRECTED_REQUEST, summary).await;
        }
        if listener.listener.health && x.request.path() == "/healthz" {
            return local::health(x, summary).await;
        }
        if self.sheds() {
            return self.fail(x, None, fail::OVERLOADED, summary).await;
        }
        let _permit = match &listener.gate {
            None => None,
            Some((gate, limit)) => match self.enter(x, gate, *limit).await {
                Ok(permit) => Some(permit),
                Err(Refused::Gone) => return Outcome::Close,
                Err(Refused::Answer(failure)) => return self.fail(x, None, failure, summary).await,
            },
        };
        let query = Query {
            method: x.request.method.as_str(),
            host: x.request.host.name(),
            path: x.request.path(),
            query: x.request.query(),
            headers: &x.request.headers,
            client: client.ip(),
        };
        let (rule, prefix_len) = match listener.find_silently(&query) {
            Found::Rule(matched) => (matched.rule, matched.prefix_len),
            Found::NotFound => {
                return self.fail(x, None, fail::ROUTE_NOT_FOUND, summary).await;
            }
            Found::MethodNotAllowed { allow } => return self.not_allowed(x, &allow, summary).await,
        };
        x.request.prefix_len = prefix_len;
        let rule = *found.insert(rule);
        let labels = listener.labels();
        if labels != Labels::default() {
            summary.count_in(self.series(labels, rule, None));
        }
        if rule.translates_grpc_web() {
            return self.answer_browser(x, listener, rule, summary).await;
        }
        self.answer_by(x, listener, rule, summary).await
    }

    /// The answer of a rule that takes gRPC-Web.
    async fn answer_browser<D: Down>(
        &self,
        x: &mut Exchange<'_, D>,
        listener: &ListenerTable,
        rule: &Rule,
        summary: &mut Summary,
    ) -> Outcome {
        match GrpcWeb::translate(&mut *x.down, x.request) {
            Ok(Some(mut down)) => {
                let mut translated = Exchange {
                    conn: x.conn,
                    request: &mut *x.request,
                    answer: &mut *x.answer,
                    down: &mut down,
                };
                self.answer_by(&mut translated, listener, rule, summary)
                    .await
            }
            Ok(None) => self.answer_by(x, listener, rule, summary).await,
            Err(_) => self.fail(x, None, fail::HEADER_TOO_LARGE, summary).await,
        }
    }

    /// What the rule says.
    async fn answer_by<D: Down>(
        &self,
        x: &mut Exchange<'_, D>,
        listener: &ListenerTable,
        rule: &Rule,
        summary: &mut Summary,
    ) -> Outcome {
        let (client, prefix_len) = (summary.client, x.request.prefix_len);
        let due = Due::of(rule, x.request, summary.begun);
        let body = match self.before(x, rule, client, due).await {
            Ok(body) => body,
            Err(Stop::Gone) => return Outcome::Close,
            Err(Stop::Answer(why)) => return self.instead(x, Some(rule), why, summary).await,
        };
        match rule.action() {
            Action::Forward(backends) => {
                match tell(x, listener, summary).and_then(|()| hops::count(x.request)) {
                    Ok(Hop::Next) => {}
                    Ok(Hop::Last) => return self.options(x, summary).await,
                    Ok(Hop::Nowhere) => return self.not_allowed(x, hops::METHODS, summary).await,
                    Err(_) => {
                        return self
                            .fail(x, Some(rule), fail::INTERNAL_ERROR, summary)
                            .await;
                    }
                }
                let ends = Ends {
                    client,
                    local: x.conn.local,
                };
                let copies = self.mirror(x, listener, rule, prefix_len, body.as_ref(), ends);
                let request = Request {
                    copies,
                    head: x.request,
                    body,
                    client,
                    local: x.conn.local,
                    rule,
                    due,
                    prefix_len,
                    shows: listener.listener.backend_certificate.as_deref(),
                    labels: listener.labels(),
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
                self.redirect(x, listener, rule, redirect, prefix_len, summary)
                    .await
            }
            Action::Respond(direct) => self.direct(x, rule, direct, summary).await,
            Action::Closed { code } => {
                let failure = Failure::by_code(code);
                self.fail(x, Some(rule), failure, summary).await
            }
        }
    }
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

impl Drop for Proxy {
    /// The thread ends: its last lines go to the writer.
    fn drop(&mut self) {
        if let Some(log) = &self.shared.access_log {
            log.tick();
        }
    }
}

/// How often worker threads hand over their log lines.
const LOG_TICK: Duration = Duration::from_millis(200);
