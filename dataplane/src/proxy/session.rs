//! Datagrams (UDPRoute): the first one of a client begins a session with an endpoint, to which its others go, and from
//! which answers come back, until nothing has moved for a while.
//!
//! There are only so many sessions, of all ports and of each. When all are taken, datagrams of further clients are dropped: a client that is made up
//! must not cost one that is served its session.

use super::Proxy;
use super::affinity::hash_of_client;
use super::fail::{self, Failure};
use super::stream::{Passage, idle, rule_of};
use super::wait::Permits;
use crate::engine::drain::Ticket;
use crate::table::{Action, Entry, Gate, InFlight, ListenerTable, Permit, Picked, Upstream};
use crate::telemetry::metrics::Attempt;
use foldhash::fast::RandomState;
use futures_util::FutureExt;
use futures_util::stream::{FuturesUnordered, StreamExt};
use parking_lot::Mutex;
use prometheus::IntGauge;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::task::Poll;
use std::time::Duration;
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout, timeout_at};

/// No datagram is longer.
const DATAGRAM: usize = 64 << 10;
/// How long answers are waited for when the port is closed.
const LAST_ANSWERS: Duration = Duration::from_secs(1);
/// How often it is asked whether a session's endpoint still takes requests.
const CHECK: Duration = Duration::from_secs(1);
/// Pause after a shortage of memory.
const PAUSE: Duration = Duration::from_millis(50);

/// What one client's datagrams go to.
struct Session<'a> {
    client: SocketAddr,
    socket: UdpSocket,
    idle: Duration,
    /// When something moved last.
    last: Cell<Instant>,
    checked: Cell<Instant>,
    /// Another session stands in for it.
    over: Notify,
    /// The endpoint has no such port.
    refused: Cell<bool>,
    upstream: Arc<Upstream>,
    picked: Picked,
    passage: RefCell<Passage<'a>>,
    _under_way: InFlight,
    _permits: Permits,
    _place: Place<'a>,
}

/// One of the sessions that there may be.
struct Place<'a> {
    all: &'a IntGauge,
    of_port: Arc<AtomicUsize>,
}

impl<'a> Place<'a> {
    /// `None`: all are taken, or memory is too short for one.
    fn take(proxy: &'a Proxy, of_port: &Arc<AtomicUsize>, limit: u32) -> Option<Self> {
        let all = &proxy.shared.metrics.sessions;
        all.inc();
        let others = of_port.fetch_add(1, Ordering::Relaxed);
        // It is given back where it is one too many.
        let place = Self {
            all,
            of_port: Arc::clone(of_port),
        };
        let of_all = usize::try_from(all.get()).unwrap_or(0);
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let is_free = of_all <= proxy.shared.max_sessions && others < limit;
        (is_free && !proxy.sheds()).then_some(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.all.dec();
        self.of_port.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How many sessions the ports have, each port's threads together.
#[derive(Default)]
pub struct OfPorts(Mutex<HashMap<u16, Weak<AtomicUsize>>>);

impl OfPorts {
    fn of(&self, port: u16) -> Arc<AtomicUsize> {
        let mut all = self.0.lock();
        all.retain(|_, count| count.strong_count() > 0);
        let known = all.get(&port).and_then(Weak::upgrade);
        known.unwrap_or_else(|| {
            let count = Arc::default();
            all.insert(port, Arc::downgrade(&count));
            count
        })
    }
}

impl Proxy {
    /// Passes the datagrams of a port on, until it is closed.
    pub(super) async fn sessions(&self, port: u16, socket: &UdpSocket, mut ticket: Ticket) {
        let mut sessions: HashMap<SocketAddr, Rc<Session<'_>>, RandomState> = HashMap::default();
        let count = self.shared.sessions.of(port);
        let mut room = vec![0; DATAGRAM];
        let answers = RefCell::new(vec![0; DATAGRAM]);
        let answers = &answers;
        let mut under_way = FuturesUnordered::new();
        loop {
            let closed = poll_fn(|cx| match ticket.poll(cx) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            });
            let received = tokio::select! {
                () = closed => break,
                Some(ended) = under_way.next(), if !under_way.is_empty() => {
                    let ended: Rc<Session<'_>> = ended;
                    if sessions.get(&ended.client).is_some_and(|s| Rc::ptr_eq(s, &ended)) {
                        sessions.remove(&ended.client);
                    }
                    continue;
                }
                received = socket.recv_from(&mut room) => received,
            };
            let (length, client) = match received {
                Ok(received) => received,
                Err(error) => {
                    tracing::warn!(port, %error, "datagrams cannot be received");
                    sleep(PAUSE).await;
                    continue;
                }
            };
            let datagram = room.get(..length).unwrap_or_default();
            if let Some(session) = sessions.get(&client) {
                if session.can_go_on() {
                    session.send(datagram);
                    continue;
                }
                session.over.notify_one();
            }
            let Some(session) = self.begin(port, client, &count) else {
                sessions.remove(&client);
                continue;
            };
            let session = Rc::new(session);
            session.send(datagram);
            sessions.insert(client, Rc::clone(&session));
            under_way.push(async move {
                let answers = AssertUnwindSafe(session.answers(socket, answers));
                if answers.catch_unwind().await.is_err() {
                    self.shared.metrics.panics_task.inc();
                }
                session
            });
        }
        let last = async { while under_way.next().await.is_some() {} };
        // Whatever is left then is told of as cut.
        let _ = timeout(LAST_ANSWERS, last).await;
    }

    /// `None`: the datagram goes nowhere.
    fn begin(
        &self,
        port: u16,
        client: SocketAddr,
        count: &Arc<AtomicUsize>,
    ) -> Option<Session<'_>> {
        let table = self.shared.current.table.load();
        let listener = table.datagrams.get(&port)?;
        let metrics = &self.shared.metrics;
        let limit = listener.listener.caps.connections;
        let Some(place) = Place::take(self, count, limit) else {
            metrics.sessions_refused.inc();
            return None;
        };
        let peer = SocketAddr::new(client.ip().to_canonical(), client.port());
        let mut passage = Passage::of_datagrams(self, listener, peer);
        match self.aim_at(listener, peer, &mut passage) {
            Ok((socket, idle, upstream, picked, permits)) => Some(Session {
                client,
                socket,
                idle,
                last: Cell::new(Instant::now()),
                checked: Cell::new(Instant::now()),
                over: Notify::new(),
                refused: Cell::new(false),
                _under_way: picked.endpoint.start(),
                upstream,
                picked,
                passage: RefCell::new(passage),
                _permits: permits,
                _place: place,
            }),
            Err(failure) => {
                passage.fail(failure);
                None
            }
        }
    }

    /// A socket to an endpoint of the rule.
    #[allow(
        clippy::type_complexity,
        reason = "the parts of a session, of which there is one"
    )]
    fn aim_at(
        &self,
        listener: &ListenerTable,
        client: SocketAddr,
        passage: &mut Passage<'_>,
    ) -> Result<(UdpSocket, Duration, Arc<Upstream>, Picked, Permits), Failure> {
        let metrics = &self.shared.metrics;
        let rule = rule_of(listener, "", client.ip()).ok_or(fail::ROUTE_NOT_FOUND)?;
        let rule = passage.rule.insert(rule);
        let backends = match rule.action() {
            Action::Forward(backends) => backends,
            Action::Closed { code } => return Err(Failure::by_code(code)),
            Action::Redirect(_) | Action::Respond(_) => return Err(fail::INTERNAL_ERROR),
        };
        let backend = backends.next().ok_or(fail::INVALID_BACKEND)?;
        let upstream = backend.upstream.ok_or(fail::INVALID_BACKEND)?;
        if upstream.wire.is_tls() {
            // Nothing less is done than what the upstream asks for.
            return Err(fail::UPSTREAM_TLS_ERROR);
        }
        let hash = hash_of_client(upstream, client.ip());
        let picked = upstream.pick(hash, &[]);
        let picked = picked.ok_or(fail::NO_HEALTHY_UPSTREAM)?;
        passage.attempts = 1;
        passage.upstream = Some(picked.addr);
        let gates = &upstream.gates;
        let concurrency = gates.concurrency.as_ref().map(|(gate, _)| gate);
        let permits = [
            concurrency,
            gates.requests.as_ref(),
            gates.connections.as_ref(),
        ];
        let permits = permits.map(|gate| gate.map(permit).transpose());
        let [a, b, c] = permits;
        let (Ok(a), Ok(b), Ok(c)) = (a, b, c) else {
            metrics.attempt(Attempt::Saturated);
            return Err(fail::UPSTREAM_CONCURRENCY_EXCEEDED);
        };
        let socket = connected(picked.addr).map_err(|_| {
            metrics.attempt(Attempt::ConnectError);
            fail::UPSTREAM_CONNECT_ERROR
        })?;
        let permits = [a, b, c];
        Ok((socket, idle(rule), Arc::clone(upstream), picked, permits))
    }
}

/// A permit at once: a datagram does not wait.
fn permit(gate: &Arc<Gate>) -> Result<Permit, ()> {
    match gate.enter() {
        Entry::Permitted(permit) => Ok(permit),
        Entry::Queued(_) | Entry::Full => Err(()),
    }
}

/// A socket that takes answers from this address alone.
fn connected(address: SocketAddr) -> io::Result<UdpSocket> {
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    socket.connect(&address.into())?;
    UdpSocket::from_std(socket.into())
}

impl Session<'_> {
    /// Whether its endpoint still takes requests.
    fn can_go_on(&self) -> bool {
        let now = Instant::now();
        if now.duration_since(self.checked.get()) < CHECK {
            return true;
        }
        self.checked.set(now);
        self.upstream.pick_tagged(self.picked.tag).is_some()
    }

    fn send(&self, datagram: &[u8]) {
        self.last.set(Instant::now());
        // At once, whatever is known of a new socket's readiness. What there is no room for is lost, as on any other part
        // of its way.
        match SockRef::from(&self.socket).send(datagram) {
            Ok(_) => self.passage.borrow_mut().moved.from_client += datagram.len() as u64,
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                self.refused.set(true);
                self.over.notify_one();
            }
            Err(_) => {}
        }
    }

    /// Passes answers on until there is no session any more.
    async fn answers(&self, to: &UdpSocket, room: &RefCell<Vec<u8>>) {
        // A refusal is an error and nothing to read.
        let interest = Interest::READABLE | Interest::ERROR;
        loop {
            let due = self.last.get() + self.idle;
            let ready = tokio::select! {
                () = self.over.notified() => break,
                ready = timeout_at(due, self.socket.ready(interest)) => ready,
            };
            let Ok(ready) = ready else {
                match self.last.get() + self.idle <= Instant::now() {
                    true => break,
                    false => continue,
                }
            };
            if ready.is_ok_and(|ready| ready.is_error()) {
                if matches!(self.socket.take_error(), Ok(Some(_))) {
                    self.refused.set(true);
                    break;
                }
                // It has been seen.
                let _ = (self.socket).try_io(Interest::ERROR, || {
                    Err::<(), _>(io::ErrorKind::WouldBlock.into())
                });
            }
            let mut room = room.borrow_mut();
            match self.socket.try_recv(&mut room) {
                Ok(length) => {
                    self.last.set(Instant::now());
                    let answer = room.get(..length).unwrap_or_default();
                    let client = self.client.into();
                    if SockRef::from(to).send_to(answer, &client).is_ok() {
                        self.passage.borrow_mut().moved.from_upstream += length as u64;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => {
                    self.refused.set(true);
                    break;
                }
            }
        }
        let mut passage = self.passage.borrow_mut();
        let refused = self.refused.get();
        let attempt = match refused {
            true => {
                passage.failure = Some(fail::UPSTREAM_CONNECT_ERROR);
                self.picked.endpoint.failed();
                Attempt::ConnectError
            }
            false => Attempt::Ok,
        };
        passage.end(attempt);
        if refused || passage.moved.from_upstream > 0 {
            self.upstream.report(&self.picked, !refused);
        }
    }
}
