//! A connection's journey where nothing looks into it (TLSRoute, TCPRoute): the rule by the host that its TLS handshake
//! names, an endpoint, and bytes both ways.

use super::affinity::hash_of_client;
use super::end::outcome;
use super::fail::{self, Failure};
use super::wait::Permits;
use super::{Proxy, client_of};
use crate::engine::splice::{Moved, Parted, Patience, splice};
use crate::engine::{
    ClientSocket, ConnInfo, Event, Fault, Protocol, UpFault, UpSocket, drain::Ticket, proxy_header,
};
use crate::table::{
    Action, Entry, Found, Gate, Gates, InFlight, ListenerTable, Permit, Picked, Query, Rule, budget,
};
use crate::telemetry::access_log::{self, Plan, Record};
use crate::telemetry::metrics::{Attempt, Cut, Retried};
use bytes::BytesMut;
use model::{Headers, ListenerProtocol, limits};
use snapshot::Revision;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout};

static NO_HEADERS: Headers = Headers::new();

/// The rule for all that comes to a host; empty: none is named.
pub(super) fn rule_of(listener: &ListenerTable, host: &str, client: IpAddr) -> Option<Arc<Rule>> {
    let query = Query {
        method: "",
        host,
        path: "/",
        query: None,
        headers: &NO_HEADERS,
        client,
    };
    match listener.find_silently(&query) {
        Found::Rule(matched) => Some(Arc::clone(matched.rule)),
        Found::MethodNotAllowed { .. } | Found::NotFound => None,
    }
}

/// How long nothing may move.
pub(super) fn idle(rule: &Rule) -> Duration {
    Duration::from_millis(rule.timeouts().stream_idle_ms.into())
}

/// An upstream's connection, and what of the upstream it takes.
struct Reached {
    socket: UpSocket,
    _under_way: InFlight,
    _permits: Permits,
}

impl Proxy {
    /// Whether a rule takes connections to a host.
    pub(super) fn has_stream(&self, port: u16, host: &str) -> bool {
        let table = self.shared.current.table.load();
        let listener = table.ports.get(&port).map(|port| port.of(host));
        listener.is_some_and(|l| {
            let nobody = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
            l.listener.protocol == ListenerProtocol::Tls && rule_of(l, host, nobody).is_some()
        })
    }

    /// Passes a connection on, to its end.
    pub(super) async fn stream(
        &self,
        socket: ClientSocket,
        begun: BytesMut,
        conn: &ConnInfo,
        mut ticket: Ticket,
    ) {
        let host = conn.tls.as_ref().and_then(|tls| tls.sni.as_deref());
        let host = host.unwrap_or_default();
        let as_it_is = conn.tls.is_some() && matches!(socket, ClientSocket::Plain(_));
        let client = client_of(conn);
        let mut drain = limits::DRAIN;
        // Connections last: none of them keeps a table.
        let (mut passage, rule) = {
            let table = self.shared.current.table.load();
            let listener = table.ports.get(&conn.port).map(|port| port.of(host));
            // There may be another configuration than when the connection was opened.
            let listener = listener.filter(|l| match (l.listener.protocol, &conn.tls) {
                (ListenerProtocol::Tcp, None) => true,
                (ListenerProtocol::Tls, Some(_)) => l.tls.is_none() == as_it_is,
                _ => false,
            });
            if let Some(listener) = listener {
                drain = Duration::from_millis(listener.listener.drain_ms.into());
            }
            let protocol = match as_it_is {
                true => Protocol::TlsPassthrough,
                false => Protocol::Tcp,
            };
            let passage = Passage::of_connection(self, listener, client, host, protocol);
            (
                passage,
                listener.and_then(|l| rule_of(l, host, client.ip())),
            )
        };
        if self.sheds() {
            return passage.fail(fail::OVERLOADED);
        }
        let Some(rule) = rule else {
            return passage.fail(fail::ROUTE_NOT_FOUND);
        };
        passage.rule = Some(Arc::clone(&rule));
        let reached = self.reach(&rule, client, conn.local, as_it_is, &mut passage);
        let reached = match reached.await {
            Ok(reached) => reached,
            Err(failure) => return passage.fail(failure),
        };
        let patience = Patience {
            idle: idle(&rule),
            drain,
        };
        let Reached {
            socket: upstream,
            _under_way,
            _permits,
        } = reached;
        let client = (socket, begun);
        let spliced = splice(client, upstream, patience, &mut ticket, &mut passage.moved).await;
        passage.is_over = true;
        match spliced {
            Ok(()) => {}
            Err(Parted::Client) => passage.cut = Some(Cut::Client),
            Err(Parted::Idle) => passage.cut = Some(Cut::Idle),
            Err(Parted::Drain) => passage.cut = Some(Cut::Drain),
            Err(Parted::Upstream) => {
                passage.cut = Some(Cut::Upstream);
                passage.failure = Some(fail::UPSTREAM_RESET);
            }
        }
    }

    /// A connection to an endpoint of the rule. Where there is none, another endpoint is tried once.
    async fn reach(
        &self,
        rule: &Rule,
        client: SocketAddr,
        local: SocketAddr,
        as_it_is: bool,
        passage: &mut Passage<'_>,
    ) -> Result<Reached, Failure> {
        let metrics = &self.shared.metrics;
        let backends = match rule.action() {
            Action::Forward(backends) => backends,
            Action::Closed { code } => return Err(Failure::by_code(code)),
            Action::Redirect(_) | Action::Respond(_) => return Err(fail::INTERNAL_ERROR),
        };
        let mut backend = backends.next().ok_or(fail::INVALID_BACKEND)?;
        let mut tried = Vec::new();
        loop {
            let upstream = backend.upstream.ok_or(fail::INVALID_BACKEND)?;
            let hash = hash_of_client(upstream, client.ip());
            let picked = upstream.pick(hash, &tried);
            let picked = picked.ok_or(fail::NO_HEALTHY_UPSTREAM)?;
            passage.attempts += 1;
            passage.upstream = Some(picked.addr);
            let under_way = picked.endpoint.start();
            let limit = match upstream.settings.connect_ms {
                0 => limits::CONNECT,
                own => Duration::from_millis(own.into()),
            };
            let permits = self.permits_of(&upstream.gates, limit).await;
            let permits = permits.inspect_err(|_| metrics.attempt(Attempt::Saturated))?;
            let preface = match upstream.wire.proxy {
                None => Vec::new(),
                Some(version) => proxy_header::write(version, client, local),
            };
            let begun = Instant::now();
            let dialled =
                match upstream
                    .wire
                    .dial(picked.addr, &preface, as_it_is, passage.shows.as_deref())
                {
                    Ok(dial) => self.connections.dial(&dial, limit).await,
                    Err(fault) => Err(fault),
                };
            let fault = match dialled {
                Ok(socket) => {
                    metrics
                        .connect_seconds
                        .observe(begun.elapsed().as_secs_f64());
                    metrics.attempt(Attempt::Ok);
                    upstream.report(&picked, true);
                    return Ok(Reached {
                        socket,
                        _under_way: under_way,
                        _permits: permits,
                    });
                }
                Err(fault) => fault,
            };
            let Picked { addr, endpoint, .. } = &picked;
            endpoint.failed();
            metrics.attempt(outcome(fault));
            upstream.report(&picked, false);
            let failure = Failure::of(&Fault::Up(fault)).unwrap_or(fail::UPSTREAM_CONNECT_ERROR);
            if !tried.is_empty() {
                return Err(failure);
            }
            let within = upstream.may_retry(budget::PERCENT);
            metrics.retried(match fault {
                _ if !within => Retried::Budget,
                UpFault::ConnectTimeout => Retried::Timeout,
                _ => Retried::Connect,
            });
            if !within {
                return Err(failure);
            }
            tried.push(*addr);
            backend = backends.after(&backend, &tried);
        }
    }

    /// The permits of an upstream for one connection. `patience`: how long it may wait for them.
    async fn permits_of(&self, gates: &Gates, patience: Duration) -> Result<Permits, Failure> {
        let Gates {
            concurrency,
            requests,
            connections,
        } = gates;
        let mut permits = Permits::default();
        if let Some((gate, limit)) = concurrency {
            permits[0] = Some(self.permit_of(gate, *limit).await?);
        }
        if let Some(gate) = requests {
            permits[1] = Some(self.permit_of(gate, patience).await?);
        }
        if let Some(gate) = connections {
            permits[2] = Some(self.permit_of(gate, patience).await?);
        }
        Ok(permits)
    }

    async fn permit_of(&self, gate: &Arc<Gate>, limit: Duration) -> Result<Permit, Failure> {
        let waiting = match gate.enter() {
            Entry::Permitted(permit) => return Ok(permit),
            Entry::Queued(waiting) => waiting,
            Entry::Full if gate.has_queue() => return Err(fail::QUEUE_FULL),
            Entry::Full => return Err(fail::UPSTREAM_CONCURRENCY_EXCEEDED),
        };
        let begun = Instant::now();
        let result = timeout(limit, waiting).await;
        let waited = begun.elapsed().as_secs_f64();
        self.shared.metrics.queue_wait_seconds.observe(waited);
        result.map_err(|_| fail::QUEUE_TIMEOUT)
    }
}

/// The journey of one connection, or of one client's datagrams. It is accounted for when this is dropped, also when a
/// drain comes to its deadline.
pub(super) struct Passage<'a> {
    proxy: &'a Proxy,
    listener: Option<Arc<str>>,
    plan: Option<Arc<Plan>>,
    pub rule: Option<Arc<Rule>>,
    client: SocketAddr,
    host: &'a str,
    /// The certificate that its listener has shown to upstreams.
    shows: Option<Box<str>>,
    /// What it is counted under, where it is a connection.
    counted: Option<Protocol>,
    /// For the log.
    name: &'static str,
    begun: Instant,
    pub attempts: u32,
    revision: Revision,
    pub upstream: Option<SocketAddr>,
    pub moved: Moved,
    pub failure: Option<Failure>,
    cut: Option<Cut>,
    is_over: bool,
}

impl<'a> Passage<'a> {
    fn of_connection(
        proxy: &'a Proxy,
        listener: Option<&ListenerTable>,
        client: SocketAddr,
        host: &'a str,
        protocol: Protocol,
    ) -> Self {
        let connections = &proxy.shared.metrics.connections;
        connections.note(Event::Opened(protocol));
        connections.note(Event::Spoke(protocol));
        let mut passage = Self::new(proxy, listener, client);
        passage.host = host;
        passage.counted = Some(protocol);
        passage
    }

    pub(super) fn of_datagrams(
        proxy: &'a Proxy,
        listener: &ListenerTable,
        client: SocketAddr,
    ) -> Self {
        Self::new(proxy, Some(listener), client)
    }

    fn new(proxy: &'a Proxy, listener: Option<&ListenerTable>, client: SocketAddr) -> Self {
        Self {
            proxy,
            listener: listener.map(|l| Arc::clone(&l.key)),
            plan: listener.and_then(|l| l.access_log.clone()),
            rule: None,
            client,
            host: "",
            shows: listener.and_then(|l| l.listener.backend_certificate.as_deref().map(Into::into)),
            counted: None,
            name: listener.map_or("", |l| l.listener.protocol.name()),
            begun: Instant::now(),
            attempts: 0,
            revision: proxy.shared.current.revision(),
            upstream: None,
            moved: Moved::default(),
            failure: None,
            cut: None,
            is_over: false,
        }
    }

    /// It ends before anything was passed on.
    pub(super) fn fail(mut self, failure: Failure) {
        self.failure = Some(failure);
        self.is_over = true;
    }

    /// It ends as it should, or has a failure that says how.
    pub(super) fn end(&mut self, attempt: Attempt) {
        self.proxy.shared.metrics.attempt(attempt);
        self.is_over = true;
    }
}

impl Drop for Passage<'_> {
    fn drop(&mut self) {
        let metrics = &self.proxy.shared.metrics;
        if let Some(protocol) = self.counted {
            metrics.connections.note(Event::Closed(protocol));
        }
        if std::thread::panicking() {
            return;
        }
        if !self.is_over {
            self.cut = Some(Cut::Drain);
        }
        if let Some(cut) = self.cut {
            metrics.stream_cut(cut);
        }
        if let Some(failure) = self.failure {
            metrics.error(failure.code);
        }
        let plan = match &self.listener {
            Some(_) => self.plan.as_deref(),
            None => Some(&access_log::JSON),
        };
        let log = self.proxy.shared.access_log.as_ref().zip(plan);
        let Some((log, plan)) = log.filter(|(_, plan)| plan.wants(self.failure.is_some())) else {
            return;
        };
        let rule = self.rule.as_deref();
        log.note(
            plan,
            &Record {
                listener: self.listener.as_deref().unwrap_or_default(),
                client: self.client,
                method: "",
                host: self.host,
                uri: "",
                protocol: self.name,
                status: 0,
                error: self.failure.map(|f| f.code),
                route: rule.map(|r| &*r.spec.route.key),
                rule: rule.map(|r| r.spec.name()),
                upstream: self.upstream,
                attempts: self.attempts,
                revision: self.revision,
                request_bytes: self.moved.from_client,
                response_bytes: self.moved.from_upstream,
                duration: self.begun.elapsed(),
                scheme: "",
                path: "",
                query: None,
                request: &NO_HEADERS,
                response: &NO_HEADERS,
            },
        );
    }
}
