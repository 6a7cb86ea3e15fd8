//! One HTTP/2 connection: opened, driven, probed when in doubt.

use super::exchange::H2Up;
use super::pool::Gate;
use super::slots::Slots;
use crate::engine::dial::UpSocket;
use crate::engine::fault::UpFault;
use crate::engine::pool::{Keep, PoolCounters};
use bytes::Bytes;
use h2::client::{Builder, Connection, SendRequest};
use h2::{Ping, PingPong};
use std::cell::Cell;
use std::fmt;
use std::future::{Future, pending, poll_fn};
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout};

/// Window of one stream: what an upstream may send ahead of a slow client.
const STREAM_WINDOW: u32 = 128 << 10;
/// Window of a connection: room for all of its streams' windows up to this many, so that clients who take nothing
/// cannot hold up their neighbours.
const FULL_WINDOWS: usize = 128;
/// What the frames in one stream's window may cost beside their bytes. The crate counts what each that nobody has taken yet
/// lacks to 256 bytes, over all streams, and ends the connection where that is too much: events are small, and a few
/// clients who take nothing must not end the streams of their neighbours. This is a window full of frames of 28 bytes.
const STREAM_OVERHEAD: usize = 1 << 20;
/// Bytes of a header list, as for HTTP/1; h2's default is 16 MiB.
const HEADER_LIST: u32 = crate::h1::MAX_HEAD as u32;
/// Bytes of one stream's request that wait within h2.
const SEND_BUFFER: usize = 64 << 10;
/// How many streams the peer allows before it has said so; a number that it cannot say.
const UNTOLD: usize = usize::MAX - 1;
/// Without a byte from the peer for so long, a connection with exchanges is in doubt.
const SILENCE: Duration = Duration::from_secs(5);
/// A doubtful connection that has not dispelled the doubt by then gets no more exchanges,
const SUSPECT: Duration = Duration::from_secs(1);
/// and by then is given up.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two probes without an answer between them. gRPC servers end connections on which pings come more often.
const PING_PAUSE: Duration = Duration::from_secs(5 * 60 + 1);

/// Bounds of one connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Streams at a time; the peer may allow less.
    pub max_streams: usize,
    /// Exchanges in its life.
    pub uses: u32,
    pub keep: Keep,
}

/// A connection of several exchanges.
pub struct H2Conn {
    pub(super) sender: SendRequest<Bytes>,
    slots: Slots,
    pub(super) health: Rc<Health>,
    /// Open once the peer's settings have come, or the connection is over.
    gate: Rc<Gate>,
    pub(super) peer: SocketAddr,
    pub(super) tls: bool,
    limits: Limits,
    uses: Cell<u32>,
    /// Since when it has no exchange.
    idle_since: Cell<Option<Instant>>,
    counters: Arc<PoolCounters>,
}

/// Begins HTTP/2 on a new connection. `gate` opens once the peer has said how many streams it takes.
///
/// # Errors
/// The connection ended.
pub(crate) async fn handshake(
    socket: UpSocket,
    peer: SocketAddr,
    limits: Limits,
    counters: Arc<PoolCounters>,
    gate: Rc<Gate>,
) -> Result<Rc<H2Conn>, UpFault> {
    let tls = socket.is_tls();
    let health = Rc::new(Health::new());
    let io = Heard {
        socket,
        health: Rc::clone(&health),
    };
    let max_streams = limits.max_streams.max(1);
    let windows = u32::try_from(max_streams.min(FULL_WINDOWS)).unwrap_or(1);
    let opened = Builder::new()
        .enable_push(false)
        .max_concurrent_streams(0)
        .initial_max_send_streams(UNTOLD)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(STREAM_WINDOW * windows)
        .data_frame_budget(STREAM_OVERHEAD * windows as usize)
        .max_header_list_size(HEADER_LIST)
        .max_send_buffer_size(SEND_BUFFER)
        .handshake::<_, Bytes>(io)
        .await;
    let (sender, connection) = opened.map_err(|e| {
        UpFault::Connect(
            e.get_io()
                .map_or(io::ErrorKind::ConnectionAborted, io::Error::kind),
        )
    })?;
    let (closed_in, closed) = watch::channel(false);
    let slots = Slots::new(sender.clone(), closed, max_streams);
    tokio::task::spawn_local(drive(
        connection,
        Rc::clone(&health),
        Rc::clone(&gate),
        closed_in,
    ));
    Ok(Rc::new(H2Conn {
        sender,
        slots,
        health,
        gate,
        peer,
        tls,
        limits,
        uses: Cell::new(0),
        idle_since: Cell::new(None),
        counters,
    }))
}

/// Runs the connection until its end.
async fn drive(
    mut connection: Connection<Heard, Bytes>,
    health: Rc<Health>,
    gate: Rc<Gate>,
    closed: watch::Sender<bool>,
) {
    let ping = connection.ping_pong();
    let run = poll_fn(|cx| {
        let polled = Pin::new(&mut connection).poll(cx);
        if !health.settled.get() && connection.max_concurrent_send_streams() != UNTOLD {
            health.settled.set(true);
            gate.open(None);
        }
        polled
    });
    tokio::select! {
        result = run => {
            if let Err(error) = result {
                tracing::debug!(event = "upstream_h2_ended", %error, "HTTP/2 connection ended");
            }
        }
        () = probe(ping, &health) => {
            tracing::debug!(event = "upstream_h2_dead", "HTTP/2 connection does not answer");
        }
    }
    // Nobody waits for the number any more: the receiver may be gone.
    let _ = closed.send(true);
    gate.open(None);
}

impl H2Conn {
    /// An exchange on this connection, if it takes one more.
    pub async fn open(self: &Rc<Self>) -> Option<H2Up> {
        let slot = self.slots.take().await?;
        let before = self.uses.get();
        self.uses.set(before.saturating_add(1));
        if self.uses.get() >= self.limits.uses {
            self.slots.retire();
        }
        if self.idle_since.take().is_some() {
            self.counters.h2.idle.fetch_sub(1, Relaxed);
        }
        if before > 0 {
            self.counters.reused.fetch_add(1, Relaxed);
        }
        self.health.doubt();
        Some(H2Up::new(Rc::clone(self), slot, before > 0))
    }

    /// Whether the peer takes extended CONNECT (RFC 8441), as far as it has said.
    pub(super) fn takes_connect(&self) -> bool {
        self.sender.is_extended_connect_protocol_enabled()
    }

    /// Waits until the peer has said what it takes.
    pub(super) async fn settle(&self) {
        // A connection that ended shows that to the exchange.
        let _ = self.gate.wait().await;
    }

    /// An exchange is over and its slot given back.
    pub(super) fn freed(&self) {
        if self.slots.is_idle() && self.idle_since.get().is_none() {
            self.idle_since.set(Some(Instant::now()));
            self.counters.h2.idle.fetch_add(1, Relaxed);
        }
    }

    /// Whether [`Self::open`] can be expected to give an exchange that gets on.
    pub(super) fn has_room(&self) -> bool {
        self.health.settled.get() && self.slots.free() > 0 && !self.health.is_suspect()
    }

    /// It will take no exchange any more.
    pub(super) fn is_over(&self) -> bool {
        self.slots.is_over()
    }

    /// The peer has reset a stream.
    pub(super) fn was_reset(&self) {
        self.counters.h2.resets.fetch_add(1, Relaxed);
    }

    pub(super) fn keep(&self) -> Keep {
        self.limits.keep
    }

    /// Idle for longer than this, or than its upstream allows.
    pub(super) fn is_expired(&self, idle: Duration) -> bool {
        let idle = idle.min(self.limits.keep.idle);
        self.idle_since
            .get()
            .is_some_and(|since| since.elapsed() > idle)
    }
}

impl Drop for H2Conn {
    fn drop(&mut self) {
        if self.idle_since.get().is_some() {
            self.counters.h2.idle.fetch_sub(1, Relaxed);
        }
    }
}

impl fmt::Debug for H2Conn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("H2Conn")
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}

/// What is known of a connection's peer.
pub(super) struct Health {
    /// When a byte last came.
    heard: Cell<Instant>,
    /// The peer's settings have come.
    settled: Cell<bool>,
    /// An exchange has got something since the last probe.
    progress: Cell<bool>,
    probed: Cell<Option<Instant>>,
    /// Since when a probe is under way.
    probing: Cell<Option<Instant>>,
    wanted: Notify,
}

impl Health {
    fn new() -> Self {
        Self {
            heard: Cell::new(Instant::now()),
            settled: Cell::new(false),
            progress: Cell::new(false),
            probed: Cell::new(None),
            probing: Cell::new(None),
            wanted: Notify::new(),
        }
    }

    /// An exchange has got a head or a piece of a body.
    pub(super) fn progress(&self) {
        self.progress.set(true);
    }

    /// Somebody is about to wait for the peer, or has waited in vain: if it has been silent for long, it is asked.
    pub(super) fn doubt(&self) {
        if self.probing.get().is_some() || self.heard.get().elapsed() < SILENCE {
            return;
        }
        let allowed = self.progress.get()
            || self
                .probed
                .get()
                .is_none_or(|at| at.elapsed() >= PING_PAUSE);
        let now = Instant::now();
        self.probing.set(Some(now));
        if allowed {
            self.progress.set(false);
            self.probed.set(Some(now));
            self.wanted.notify_one();
        }
    }

    /// The peer was asked, or could not be, and has been silent since.
    fn is_suspect(&self) -> bool {
        self.probing
            .get()
            .is_some_and(|since| self.heard.get() < since && since.elapsed() > SUSPECT)
    }

    fn heard(&self) {
        self.heard.set(Instant::now());
        self.probing.set(None);
    }
}

/// Sends a PING whenever one is wanted. Returns when the peer answers nothing.
async fn probe(ping: Option<PingPong>, health: &Health) {
    let Some(mut ping) = ping else {
        return pending().await;
    };
    loop {
        health.wanted.notified().await;
        let mut pong = pin!(ping.ping(Ping::opaque()));
        loop {
            let asked = Instant::now();
            match timeout(PATIENCE, &mut pong).await {
                Ok(Ok(_)) => break,
                // The connection is at its end and says so itself.
                Ok(Err(_)) => return pending().await,
                // It is busy: the answer waits behind other frames.
                Err(_) if health.heard.get() > asked => {}
                Err(_) => return,
            }
        }
    }
}

/// Notes when something was read.
struct Heard {
    socket: UpSocket,
    health: Rc<Health>,
}

impl AsyncRead for Heard {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.socket).poll_read(cx, buf))?;
        if buf.filled().len() > before {
            self.health.heard();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Heard {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, data)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, data)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
