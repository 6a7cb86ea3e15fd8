//! The gRPC server of the push channel. Every replica serves, from its own snapshot.
//!
//! A connection is accepted, proves who it is by its certificate and carries streams; each stream drives one
//! [`Session`]. The rules of the protocol are in the session, those of time and transport are here.

use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::ServerConfig;
use snapshot::pb::client_message::Message as In;
use snapshot::pb::server_message::Message as Out;
use snapshot::pb::snapshot_service_server::{SnapshotService, SnapshotServiceServer};
use snapshot::pb::{Chunk, ClientMessage, Hello, Ping, ReplicaMessage, ServerMessage, Verdicts};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::{Instant, interval, sleep, sleep_until, timeout, timeout_at};
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::transport::server::Connected;
use tonic::{Request, Response, Status, Streaming};

use crate::ca::authority::{group_of, is_replica};
use crate::groups::{Group, Groups};
use crate::health::{Board, Member, Outcome};
use crate::metrics::Metrics;
use crate::publish::{HEARTBEAT, NAME, Publisher, REASON, Session, SessionError, printable};
use crate::replicas::Meeting;
use crate::tokens::{Pod, TokenError, Tokens};
use crate::watch::unix_ns;

/// Connections at a time. A data plane has one, and two for a moment.
const CONNECTIONS: usize = 4096;
/// TLS must stand after this.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// The first message must have come after this.
const HELLO: Duration = Duration::from_secs(10);
/// A transaction must be answered after this; compiling the largest takes seconds.
const ANSWER: Duration = Duration::from_secs(60);
/// Streams end after 10 to 15 minutes, unless their data planes would be refused: these spread over replicas again, and
/// show fresh certificates and tokens.
const AGE: (Duration, Duration) = (Duration::from_secs(600), Duration::from_secs(900));
/// At the stop of a replica its streams end within this time, not all at once.
const SPREAD: Duration = Duration::from_secs(2);
/// A data plane that is turned away comes again within 10 s and the time that a connection takes. In between it stays in
/// status,
const TURNED_AWAY: Duration = Duration::from_secs(30);
/// so many of them at a time; others are counted and in the log.
const LINGERING: usize = 64;
/// Messages of data planes are small.
const MESSAGE_BYTES: usize = 1 << 20;
/// A data plane that holds what this replica does not know may have it from one that is ahead of this one. While a watch is
/// interrupted here it is told nothing for so long, and goes on with what it holds: a watch begins again within 2 s of the API
/// server's return (`watch::backoff`).
const AHEAD: Duration = Duration::from_secs(3);
/// HTTP/2 pings find a peer that is gone without a word.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Who may connect.
#[derive(Clone)]
pub enum Security {
    /// Anybody, unencrypted, as one of the shared group: for tests.
    Plaintext,
    /// Certificates that the given settings accept; each names the group of its data plane.
    Mutual {
        settings: Arc<dyn Fn() -> Option<Arc<ServerConfig>> + Send + Sync>,
        /// Data planes must be Pods of their group. `None`: what they run in is not asked for, for tests.
        tokens: Option<Arc<Tokens>>,
    },
}

/// Serves until `stop`, then until all streams have ended. `interrupted`: a watch of this replica does not work, so that
/// others may be ahead of it. `meeting`: where other replicas of the controller come.
///
/// # Errors
/// The listener fails as a whole.
pub async fn serve(
    listener: TcpListener,
    security: Security,
    groups: Arc<Groups>,
    metrics: Arc<Metrics>,
    interrupted: watch::Receiver<bool>,
    meeting: Option<Meeting>,
    stop: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    let (connections, incoming) = mpsc::channel(64);
    let tokens = match &security {
        Security::Plaintext => None,
        Security::Mutual { tokens, .. } => tokens.clone(),
    };
    tokio::spawn(accept(listener, security, connections, stop.clone()));
    let service = Streams {
        groups,
        metrics,
        interrupted,
        meeting,
        tokens,
        lingering: Arc::new(Semaphore::new(LINGERING)),
        stop: stop.clone(),
    };
    let service = SnapshotServiceServer::new(service).max_decoding_message_size(MESSAGE_BYTES);
    Server::builder()
        .http2_keepalive_interval(Some(KEEP_ALIVE))
        .http2_keepalive_timeout(Some(KEEP_ALIVE))
        .max_concurrent_streams(4)
        .serve_with_incoming_shutdown(service, ReceiverStream::new(incoming), stop.cancelled())
        .await
}

async fn accept(
    listener: TcpListener,
    security: Security,
    connections: mpsc::Sender<io::Result<Connection>>,
    stop: CancellationToken,
) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept connections of data planes");
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
            tracing::warn!(%address, "too many connections of data planes");
            continue;
        };
        let (security, connections) = (security.clone(), connections.clone());
        tokio::spawn(async move {
            match timeout(HANDSHAKE, identify(stream, &security)).await {
                Ok(Ok((io, caller))) => {
                    let peer = Peer { address, caller };
                    let connection = Connection {
                        io,
                        peer,
                        _slot: slot,
                    };
                    drop(connections.send(Ok(connection)).await);
                }
                Ok(Err(reason)) => tracing::warn!(%address, reason, "a connection is refused"),
                Err(_) => {
                    tracing::warn!(%address, reason = "TLS took too long", "a connection is refused")
                }
            }
        });
    }
}

/// Finds out who connects.
async fn identify(stream: TcpStream, security: &Security) -> Result<(Box<dyn Io>, Caller), String> {
    stream.set_nodelay(true).map_err(|e| e.to_string())?;
    let Security::Mutual { settings, .. } = security else {
        return Ok((Box::new(stream), Caller::Anybody));
    };
    let settings = settings().ok_or("the certificates are not there yet")?;
    let stream = TlsAcceptor::from(settings)
        .accept(stream)
        .await
        .map_err(|e| e.to_string())?;
    let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let certificate = certificates.first().map_or(&[][..], |c| c);
    let caller = match group_of(certificate) {
        Some(group) => Caller::Group(group),
        None if is_replica(certificate) => Caller::Replica,
        None => return Err("the certificate names no group".to_owned()),
    };
    Ok((Box::new(stream), caller))
}

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// Who is at the other end of a connection.
#[derive(Clone)]
struct Peer {
    address: SocketAddr,
    caller: Caller,
}

/// Who calls, as the certificate says.
#[derive(Clone, Debug)]
enum Caller {
    /// Nobody asked.
    Anybody,
    /// A data plane of this group.
    Group(String),
    /// Another replica of the controller.
    Replica,
}

/// An accepted connection, encrypted or not.
struct Connection {
    io: Box<dyn Io>,
    peer: Peer,
    _slot: OwnedSemaphorePermit,
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

struct Streams {
    groups: Arc<Groups>,
    metrics: Arc<Metrics>,
    interrupted: watch::Receiver<bool>,
    meeting: Option<Meeting>,
    tokens: Option<Arc<Tokens>>,
    lingering: Arc<Semaphore>,
    stop: CancellationToken,
}

#[tonic::async_trait]
impl SnapshotService for Streams {
    type SyncStream = ReceiverStream<Result<ServerMessage, Status>>;
    type MeetStream = ReceiverStream<Result<ReplicaMessage, Status>>;

    async fn meet(
        &self,
        request: Request<Streaming<ReplicaMessage>>,
    ) -> Result<Response<Self::MeetStream>, Status> {
        if let Some(Peer {
            caller: Caller::Group(group),
            ..
        }) = request.extensions().get()
        {
            tracing::warn!(group, "a data plane calls as if it were a controller");
            return Err(Status::permission_denied("this is for controllers"));
        }
        let meeting = self.meeting.as_ref();
        let meeting = meeting.ok_or_else(|| Status::unimplemented("this replica is alone"))?;
        meeting.open(request.into_inner()).map(Response::new)
    }

    async fn sync(
        &self,
        request: Request<Streaming<ClientMessage>>,
    ) -> Result<Response<Self::SyncStream>, Status> {
        if self.stop.is_cancelled() {
            return Err(Status::unavailable("this replica stops"));
        }
        if !self.groups.is_ready() {
            return Err(Status::unavailable(
                "this replica has not listed everything yet",
            ));
        }
        let (metadata, extensions, inbound) = request.into_parts();
        let peer = extensions.get::<Peer>();
        let address = peer.map(|peer| peer.address.to_string());
        let address = address.unwrap_or_default();
        let Group {
            publisher, health, ..
        } = match peer.map(|peer| &peer.caller) {
            None | Some(Caller::Anybody) => self.groups.shared().clone(),
            Some(Caller::Replica) => {
                return Err(Status::permission_denied("this is for data planes"));
            }
            // Its Gateway may have come a moment ago.
            Some(Caller::Group(name)) => self
                .groups
                .get(name)
                .ok_or_else(|| Status::unavailable("there is no such group of data planes"))?,
        };
        let pod = match (&self.tokens, peer.map(|peer| &peer.caller)) {
            (Some(tokens), Some(Caller::Group(name))) => {
                let checked = tokens.check(&metadata, name).await;
                Some(checked.map_err(|error| {
                    self.metrics.refuse("token");
                    // Of all that come meanwhile that is said once.
                    if matches!(error, TokenError::Unreachable(_)) {
                        return Status::unavailable(error.to_string());
                    }
                    tracing::warn!(event = "token_refused", address, group = name, %error, "a data plane is refused");
                    Status::unauthenticated(error.to_string())
                })?)
            }
            _ => None,
        };
        let mut session = Session::new(Arc::clone(&publisher));
        if let Some(pod) = &pod {
            session = session.with_pod(&pod.name);
        }
        let (out, messages) = mpsc::channel(8);
        let mut stream = Stream {
            session,
            pod,
            inbound,
            out: out.clone(),
            metrics: Arc::clone(&self.metrics),
            interrupted: self.interrupted.clone(),
            sent: None,
            measured: false,
            health,
            shared: None,
            tokens: self.tokens.clone(),
        };
        let (stop, lingering) = (self.stop.clone(), Arc::clone(&self.lingering));
        tokio::spawn(async move {
            let ended = stream.run(&publisher, stop.clone()).await;
            // Any other is gone at once, whether or not its data plane still listens.
            let session = stream.into_session();
            let turned_away = session.is_turned_away().then_some(session);
            match ended {
                Ok(()) => tracing::info!(address, "a data plane's stream ended"),
                Err(status) => {
                    tracing::info!(address, code = ?status.code(), reason = status.message(), "a data plane's stream is ended");
                    // It may have gone already.
                    drop(out.send(Err(status)).await);
                }
            }
            drop(out);
            if let Some(session) = turned_away {
                linger(session, &lingering, &stop).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(messages)))
    }
}

/// One stream of one data plane.
struct Stream {
    session: Session,
    /// Which Pod it is, by its token; `None`: none was asked for.
    pod: Option<Pod>,
    inbound: Streaming<ClientMessage>,
    out: mpsc::Sender<Result<ServerMessage, Status>>,
    metrics: Arc<Metrics>,
    interrupted: watch::Receiver<bool>,
    /// The transaction under way.
    sent: Option<Sent>,
    /// The first transaction brings the data plane up to date; only later ones tell how long a change takes.
    measured: bool,
    health: Arc<Board>,
    /// Where the data plane shares what it finds out about endpoints.
    shared: Option<Shared>,
    /// By which it is let in again.
    tokens: Option<Arc<Tokens>>,
}

struct Shared {
    member: Member,
    news: watch::Receiver<Arc<Outcome>>,
    said: Option<Verdicts>,
}

impl Shared {
    /// What there is to tell it; nothing new is told `again`.
    fn next(&mut self, again: bool) -> Option<Out> {
        let verdicts = self.member.verdicts()?;
        if !again && self.said.as_ref() == Some(&verdicts) {
            return None;
        }
        self.said = Some(verdicts.clone());
        Some(Out::Verdicts(verdicts))
    }
}

struct Sent {
    /// Until when it must be answered.
    until: Instant,
    at: std::time::Instant,
    /// When its change was seen, in nanoseconds since the epoch.
    observed: u64,
}

impl Stream {
    /// Ends without an error when the data plane has gone.
    async fn run(&mut self, publisher: &Publisher, stop: CancellationToken) -> Result<(), Status> {
        let mut generation = publisher.subscribe();
        let mut heartbeat = interval(HEARTBEAT);
        heartbeat.reset();
        let out = self.out.clone();
        let until_hello = Instant::now() + HELLO;
        let mut welcomed = None;
        let mut old = pin!(old(self.tokens.take()));
        loop {
            let ahead = welcomed.and_then(|at: Instant| self.ahead_until(at + AHEAD));
            while ahead.is_none()
                && let Some(chunks) = self.session.next_chunks()
            {
                self.send_transaction(chunks).await?;
            }
            let until = match welcomed {
                Some(_) => self.sent.as_ref().map(|s| s.until),
                None => Some(until_hello),
            };
            tokio::select! {
                message = self.inbound.message() => match message? {
                    Some(message) => {
                        if self.take(message).await? {
                            welcomed = Some(Instant::now());
                        }
                    }
                    None => return Ok(()),
                },
                Ok(()) = generation.changed() => {}
                () = caught_up(&mut self.interrupted, ahead.unwrap_or(until_hello)), if ahead.is_some() => {}
                () = news(&mut self.shared) => self.tell(false).await?,
                _ = heartbeat.tick() => {
                    self.send(Out::Ping(Ping {})).await?;
                    self.tell(true).await?;
                }
                () = sleep_until(until.unwrap_or(until_hello)), if until.is_some() => {
                    self.count("timeout");
                    return Err(Status::deadline_exceeded("no answer"));
                }
                () = &mut old, if self.sent.is_none() => {
                    return Err(Status::unavailable("the stream is old: connect again"));
                }
                () = stop.cancelled() => {
                    sleep(SPREAD.mul_f64(rand::random())).await;
                    return Err(Status::unavailable("this replica stops: connect again"));
                }
                () = out.closed() => return Ok(()),
            }
        }
    }

    /// What is left when the stream has ended.
    fn into_session(self) -> Session {
        self.session
    }

    /// Until when the data plane is told nothing because this replica may be behind it; `None`: it may be told.
    fn ahead_until(&self, most: Instant) -> Option<Instant> {
        let is_ahead =
            Instant::now() < most && *self.interrupted.borrow() && self.session.is_ahead();
        is_ahead.then_some(most)
    }

    /// Returns whether it was the first message, and fine.
    async fn take(&mut self, message: ClientMessage) -> Result<bool, Status> {
        let shares = match &message.message {
            Some(In::Hello(hello)) => hello.shares_health,
            Some(In::Health(report)) => {
                if let Some(shared) = &self.shared {
                    shared.member.report(report);
                }
                false
            }
            _ => false,
        };
        let answer = match &message.message {
            Some(In::Ack(_)) => Some("ack"),
            Some(In::Nack(_)) => Some("nack"),
            Some(In::Resync(_)) => Some("resync"),
            _ => None,
        };
        match &message.message {
            Some(In::Hello(hello)) => self.log(hello),
            Some(In::Nack(nack)) => {
                tracing::error!(
                    resources = nack.rejected.len(),
                    message = printable(&nack.message, REASON),
                    "a data plane refuses a transaction"
                );
            }
            Some(In::Resync(resync)) => {
                let why = printable(&resync.why, REASON);
                tracing::warn!(why, "a data plane is out of step");
            }
            _ => {}
        }
        let taken = self.session.on_message(message);
        let welcome = taken.map_err(|error| match error {
            SessionError::Schema { .. } => {
                self.metrics.refuse("schema");
                Status::failed_precondition(error.to_string())
            }
            _ => Status::invalid_argument(error.to_string()),
        })?;
        if let Some(result) = answer {
            self.count(result);
            let sent = self.sent.take();
            self.measure(sent, result);
        }
        let Some(mut welcome) = welcome else {
            return Ok(false);
        };
        welcome.shares_health = shares;
        if shares {
            let member = self.health.join();
            let news = member.subscribe();
            self.shared = Some(Shared {
                member,
                news,
                said: None,
            });
        }
        self.send(Out::Welcome(welcome)).await?;
        Ok(true)
    }

    fn log(&self, hello: &Hello) {
        let said = printable(&hello.node_id, NAME);
        let build = printable(&hello.build, NAME);
        let Some(Pod { name, uid, .. }) = &self.pod else {
            return tracing::info!(node = said, build, "a data plane connects");
        };
        tracing::info!(node = name, uid, build, "a data plane connects");
        if *name != hello.node_id {
            tracing::warn!(
                event = "node_id_differs",
                node = name,
                uid,
                said,
                "a data plane calls itself otherwise than its Pod: it is called as its token says"
            );
        }
    }

    async fn send_transaction(&mut self, chunks: Vec<Chunk>) -> Result<(), Status> {
        use prost::Message as _;
        let began = std::time::Instant::now();
        let observed = chunks.last().map_or(0, |c| c.observed_unix_ns);
        for chunk in chunks {
            self.metrics.sent_bytes.inc_by(chunk.encoded_len() as u64);
            self.send(Out::Chunk(chunk)).await?;
        }
        if self.measured {
            self.observe("send", began.elapsed().as_secs_f64());
        }
        self.sent = Some(Sent {
            until: Instant::now() + ANSWER,
            at: std::time::Instant::now(),
            observed,
        });
        Ok(())
    }

    /// `again`: also what it has been told before, which would run out otherwise.
    async fn tell(&mut self, again: bool) -> Result<(), Status> {
        match self.shared.as_mut().and_then(|s| s.next(again)) {
            Some(verdicts) => self.send(verdicts).await,
            None => Ok(()),
        }
    }

    fn measure(&mut self, sent: Option<Sent>, result: &str) {
        let measured = std::mem::replace(&mut self.measured, true);
        let Some(sent) = sent.filter(|s| measured && s.observed > 0 && result == "ack") else {
            return;
        };
        self.observe("apply", sent.at.elapsed().as_secs_f64());
        self.observe(
            "total",
            unix_ns().saturating_sub(sent.observed) as f64 / 1e9,
        );
    }

    fn observe(&self, stage: &str, seconds: f64) {
        self.metrics
            .propagation
            .with_label_values(&[stage])
            .observe(seconds);
    }

    fn count(&self, result: &str) {
        self.metrics.transactions.with_label_values(&[result]).inc();
    }

    async fn send(&self, message: Out) -> Result<(), Status> {
        let message = ServerMessage {
            message: Some(message),
        };
        self.out
            .send(Ok(message))
            .await
            .map_err(|_| Status::cancelled("the data plane has gone"))
    }
}

/// Keeps in status a data plane that is turned away.
async fn linger(session: Session, slots: &Semaphore, stop: &CancellationToken) {
    if let Ok(_slot) = slots.try_acquire() {
        tokio::select! {
            () = sleep(TURNED_AWAY) => {}
            () = stop.cancelled() => {}
        }
    }
    drop(session);
}

/// Returns when a stream is old, and its data plane can come back.
async fn old(tokens: Option<Arc<Tokens>>) {
    sleep(AGE.0 + (AGE.1 - AGE.0).mul_f64(rand::random())).await;
    if let Some(tokens) = tokens {
        tokens.answered().await;
    }
}

/// Returns when all watches work again, at the latest at `most`.
async fn caught_up(interrupted: &mut watch::Receiver<bool>, most: Instant) {
    let works = async {
        if interrupted.wait_for(|is| !is).await.is_err() {
            // Nobody tells any more.
            std::future::pending::<()>().await;
        }
    };
    let _ = timeout_at(most, works).await;
}

/// Returns when there may be something to tell a data plane about endpoints.
async fn news(shared: &mut Option<Shared>) {
    if let Some(shared) = shared
        && shared.news.changed().await.is_ok()
    {
        return;
    }
    std::future::pending().await
}

#[cfg(test)]
#[path = "serve_tests.rs"]
mod tests;
