//! The life of a client's connection: what it speaks, and over HTTP/1 request after request into a service.

use super::buffers::{self, Scratch};
use super::client::ClientSocket;
use super::deadline::ClientTimeouts;
use super::down::{After, Begun, H1Down, Next};
use super::drain::Ticket;
use super::edge::EdgePolicies;
use super::h2;
use super::head::{RequestHead, ResponseHead};
use super::io::Socket;
use super::sanitize;
use super::tls::{TlsFailure, TlsInfo};
use super::traits::{Down, DownExt};
use crate::h1::{HeadLimits, Reject};
use crate::pressure::MemoryState;
use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use model::limits;
use std::future::Future;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::time::Instant;

/// Where a connection came from.
#[derive(Clone, Debug)]
pub struct ConnInfo {
    /// Unique within the process.
    pub id: u64,
    pub peer: SocketAddr,
    pub local: SocketAddr,
    /// Of the listeners that it is for; not that of `local` where another one stands in for it (`--http`).
    pub port: u16,
    /// `None`: it is not encrypted.
    pub tls: Option<Box<TlsInfo>>,
}

/// Bounds of one client connection.
#[derive(Clone, Debug)]
pub struct ConnConfig {
    pub timeouts: ClientTimeouts,
    /// Requests on one connection; by up to a tenth less, so that connections opened together do not end together.
    pub requests: u32,
    /// The request that comes after this time is the connection's last; likewise by up to a tenth less.
    pub lifetime: Duration,
    pub head: HeadLimits,
    /// Which ambiguous forms requests may have.
    pub edge: EdgePolicies,
}

impl Default for ConnConfig {
    fn default() -> Self {
        Self {
            timeouts: ClientTimeouts::default(),
            requests: 10_000,
            lifetime: limits::CLIENT_LIFETIME,
            head: HeadLimits::default(),
            edge: EdgePolicies::default(),
        }
    }
}

impl ConnConfig {
    /// What a connection that begins now may have.
    pub(crate) fn allowance(&self, info: &ConnInfo) -> Allowance {
        let lifetime = self.lifetime - self.lifetime.mul_f64((info.id % 100) as f64 / 1000.0);
        Allowance {
            requests: self.requests - (info.id % u64::from(self.requests / 10 + 1)) as u32,
            until: Instant::now() + lifetime,
        }
    }
}

/// What a connection may still have.
#[derive(Debug)]
pub(crate) struct Allowance {
    requests: u32,
    until: Instant,
}

impl Allowance {
    /// Takes a request of it; whether that is the last one.
    pub(crate) fn take(&mut self, service: &impl Service) -> bool {
        self.requests = self.requests.saturating_sub(1);
        self.requests == 0
            || Instant::now() >= self.until
            || service.memory() >= MemoryState::NoKeepAlive
    }
}

/// What a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Http1,
    Http2,
    /// TLS that is passed on.
    TlsPassthrough,
    /// Anything else that is passed on.
    Tcp,
}

impl Protocol {
    pub const ALL: [Self; 4] = [Self::Http1, Self::Http2, Self::TlsPassthrough, Self::Tcp];
}

/// What happens to connections, for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// One is open. Until it has sent something it counts as HTTP/1.
    Opened(Protocol),
    /// It has shown what it speaks, or has ended without.
    Spoke(Protocol),
    /// It is no longer open, or speaks something else than thought.
    Closed(Protocol),
    /// Streams were reset.
    H2Resets { client: u32, us: u32 },
    /// An HTTP/2 connection was ended because of what its client sent, or did not take.
    H2Budget,
    /// A TLS handshake took so long.
    Handshake(Duration),
    /// A TLS handshake failed.
    HandshakeFailed(TlsFailure),
    /// A connection did not begin with the PROXY protocol, or came from where nobody may use it, and was closed.
    NoProxyHeader,
    /// A connection was closed before its handshake was done, because too many others had begun.
    OpeningCut,
    /// One was closed when it came, for want of this.
    Refused(Shortage),
}

/// What there is too little of for another connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shortage {
    Memory,
    Descriptors,
}

/// One request and what is needed to answer it.
#[derive(Debug)]
pub struct Exchange<'a, D> {
    pub conn: &'a ConnInfo,
    /// Sanitised.
    pub request: &'a mut RequestHead,
    /// Room for the answer's head, reused from exchange to exchange. Holds an old answer at first.
    pub answer: &'a mut ResponseHead,
    pub down: &'a mut D,
}

/// How a service left an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Answered completely.
    Done,
    /// To be answered with this refusal if nothing was sent; the connection closes.
    Reject(Reject),
    /// The connection is cut: the client is gone, or its answer is broken.
    Close,
}

/// Answers requests. One value serves all connections of a thread.
pub trait Service: 'static {
    /// Answers one request: locally by [`DownExt::respond`] or from an upstream by [`relay`](super::relay::relay).
    fn serve<D: Down>(&self, exchange: Exchange<'_, D>) -> impl Future<Output = Outcome>;

    /// Whether connections to a port and the host of their TLS handshake (empty: none) are passed on.
    fn takes_stream(&self, port: u16, host: &str) -> bool {
        let _ = (port, host);
        false
    }

    /// Passes a connection on, to its end. `begun`: what of it has been read.
    fn pass_on(
        &self,
        socket: ClientSocket,
        begun: BytesMut,
        info: &ConnInfo,
        ticket: Ticket,
    ) -> impl Future<Output = ()> {
        drop((socket, begun, info, ticket));
        std::future::ready(())
    }

    /// Passes the datagrams of a port on, until the ticket says that it is closed.
    fn datagrams(&self, port: u16, socket: &UdpSocket, ticket: Ticket) -> impl Future<Output = ()> {
        let _ = (port, socket);
        drop(ticket);
        std::future::ready(())
    }

    /// What the thread does beside serving connections, for as long as it lives. If this ends, or panics, the worker is
    /// started anew.
    fn keep_house(&self) -> impl Future<Output = ()> {
        std::future::pending()
    }

    /// Whether forwarding fields of this client are believed; else the edge gate removes them.
    fn trusts_forwarded(&self, conn: &ConnInfo) -> bool {
        let _ = conn;
        false
    }

    /// How short memory is.
    fn memory(&self) -> MemoryState {
        MemoryState::Normal
    }

    /// Waits until it is no longer `before` that memory is too short for idle connections; how it is then.
    fn hurries(&self, before: bool) -> impl Future<Output = bool> {
        let _ = before;
        std::future::pending()
    }

    /// Something happened to a connection.
    fn note(&self, event: Event) {
        let _ = event;
    }

    /// The answer to a message that never became a request, or to a request whose service panicked: for the log and
    /// for answers in another form than the catalogue's `{"error":"CODE"}`. `head` has status and no fields.
    fn refuse(&self, conn: &ConnInfo, reject: &Reject, head: &mut ResponseHead) -> Bytes {
        let _ = conn;
        // A constant name and value, so it is taken.
        let _ = head.headers.push("content-type", "application/json");
        Bytes::from([r#"{"error":""#, reject.code, r#""}"#].concat())
    }
}

/// Serves one connection to its end.
pub async fn serve_connection<S: Socket + Send + Sync, V: Service>(
    socket: S,
    info: &ConnInfo,
    service: &V,
    config: &ConnConfig,
    ticket: Ticket,
) {
    let mut open = Open::new(service);
    let mut begun = Begun::new(socket, ticket);
    let http2 = match &info.tls {
        // Within TLS it is agreed (RFC 9113 section 3.3).
        Some(tls) => Some(tls.http2),
        None => begun.begins_with(h2::PREFACE, &config.timeouts).await,
    };
    match http2 {
        None => {}
        Some(false) => {
            open.speaks(Protocol::Http1);
            serve_http1(begun, info, service, config).await;
        }
        Some(true) => {
            open.speaks(Protocol::Http2);
            let Begun { io, ticket, .. } = begun;
            // Apart, so that its state costs connections of the other kind nothing.
            Box::pin(h2::conn::serve(
                io.socket, io.input, info, service, config, ticket,
            ))
            .await;
        }
    }
}

/// Counts a connection as open under what it speaks.
struct Open<'a, V: Service> {
    service: &'a V,
    protocol: Protocol,
    spoke: bool,
}

impl<'a, V: Service> Open<'a, V> {
    fn new(service: &'a V) -> Self {
        let protocol = Protocol::Http1;
        service.note(Event::Opened(protocol));
        Self {
            service,
            protocol,
            spoke: false,
        }
    }

    fn speaks(&mut self, protocol: Protocol) {
        if protocol != self.protocol {
            self.service.note(Event::Opened(protocol));
            self.service.note(Event::Closed(self.protocol));
            self.protocol = protocol;
        }
        self.spoke = true;
        self.service.note(Event::Spoke(protocol));
    }
}

impl<V: Service> Drop for Open<'_, V> {
    fn drop(&mut self) {
        if !self.spoke {
            self.service.note(Event::Spoke(self.protocol));
        }
        self.service.note(Event::Closed(self.protocol));
    }
}

async fn serve_http1<S: Socket, V: Service>(
    begun: Begun<S>,
    info: &ConnInfo,
    service: &V,
    config: &ConnConfig,
) {
    let mut down = H1Down::new(begun, config);
    let trust = service.trusts_forwarded(info);
    let mut allowance = config.allowance(info);
    // Apart, and not while the connection rests: idle connections are many, and the state of a request is large.
    while down.wait().await
        && Box::pin(exchanges(&mut down, info, service, trust, &mut allowance)).await
    {}
    down.close().await;
}

/// Serves the request that has begun to come and those that follow it closely; whether the connection can serve others.
async fn exchanges<S: Socket, V: Service>(
    down: &mut H1Down<S>,
    info: &ConnInfo,
    service: &V,
    trust: bool,
    allowance: &mut Allowance,
) -> bool {
    loop {
        let mut scratch = buffers::take_scratch();
        if allowance.take(service) {
            down.close_after_answer();
        }
        let go_on = exchange(down, info, service, trust, &mut scratch).await;
        buffers::put_scratch(scratch);
        if !go_on {
            return false;
        }
        match down.wait_a_moment().await {
            After::Request => {}
            After::Rest => return true,
            After::End => return false,
        }
    }
}

/// Serves one request; whether the connection can serve another.
async fn exchange<S: Socket, V: Service>(
    down: &mut H1Down<S>,
    info: &ConnInfo,
    service: &V,
    trust: bool,
    scratch: &mut Scratch,
) -> bool {
    let Scratch { request, answer } = scratch;
    let outcome = match down.next(request).await {
        Next::Closed => return false,
        Next::Reject(reject) => Outcome::Reject(reject),
        Next::Request => {
            sanitize::client_headers(&mut request.headers, trust);
            request.secure = info.tls.is_some();
            let exchange = Exchange {
                conn: info,
                request,
                answer,
                down: &mut *down,
            };
            // A panic ends this exchange and nothing else.
            AssertUnwindSafe(service.serve(exchange))
                .catch_unwind()
                .await
                .unwrap_or(Outcome::Reject(Reject::internal_error(
                    "panic in a request",
                )))
        }
    };
    let reject = match outcome {
        Outcome::Close => {
            down.close_after_answer();
            return false;
        }
        _ if down.has_answered() => None,
        Outcome::Done => Some(Reject::internal_error(
            "service left a request without answer",
        )),
        Outcome::Reject(reject) => Some(reject),
    };
    if let Some(reject) = reject {
        down.close_after_answer();
        answer.reset(reject.status);
        let body = service.refuse(info, &reject, answer);
        // The connection ends in any case.
        let _ = down.respond(answer, body).await;
        return false;
    }
    down.drain().await;
    down.is_reusable()
}
