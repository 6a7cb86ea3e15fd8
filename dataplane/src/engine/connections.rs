//! Connections to upstreams of one worker thread: which one an exchange gets, and of which protocol.

use super::deadline::Timer;
use super::dial::{Dial, UpSocket};
use super::fault::UpFault;
use super::h2up::{Claim, H2Pool, H2Up, Lead, Limits, handshake};
use super::head::{Method, RequestHead, ResponseHead};
use super::pool::{Keep, Pool, PoolConfig, PoolCounters, PoolKey};
use super::tls_client::{Alpn, TlsClient};
use super::traits::Up;
use super::up::H1Up;
use crate::h1::encode::LengthMismatch;
use bytes::Bytes;
use model::Headers;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

/// Whether an exchange may become a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tunnel {
    None,
    /// Over HTTP/1 by `Upgrade`, over HTTP/2 by an extended CONNECT.
    Any,
    /// Its method would be lost over HTTP/2.
    Http1,
}

impl Tunnel {
    /// What the request asks for.
    pub fn of(head: &RequestHead) -> Self {
        match head.upgrade {
            None => Self::None,
            Some(_) if head.method == Method::Get => Self::Any,
            Some(_) => Self::Http1,
        }
    }
}

/// What an exchange asks of its connection.
#[derive(Clone, Copy, Debug)]
pub struct Want<'a> {
    pub address: SocketAddr,
    pub tls: Option<&'a TlsClient>,
    /// HTTP/2 without TLS. With TLS its ALPN decides.
    pub h2c: bool,
    /// The exchange may become a tunnel, which over HTTP/2 its peer must allow.
    pub tunnel: bool,
    /// How else to connect where HTTP/2 was chosen and allows none.
    pub http1: Option<&'a TlsClient>,
    /// Exchanges at a time on one HTTP/2 connection.
    pub max_streams: usize,
    /// See [`Dial::keepalive`].
    pub keepalive: Option<Duration>,
    /// PROXY header: the connection is this client's, and is not kept.
    pub preface: &'a [u8],
    pub keep: Keep,
    /// Take no idle HTTP/1 connection: they are most likely stale.
    pub fresh: bool,
}

impl Want<'_> {
    /// HTTP/1 in clear, with the default of everything else.
    pub fn http1(address: SocketAddr) -> Self {
        Self {
            address,
            tls: None,
            h2c: false,
            tunnel: false,
            http1: None,
            max_streams: 1,
            keepalive: None,
            preface: &[],
            keep: Keep::default(),
            fresh: false,
        }
    }

    fn key(&self) -> PoolKey {
        PoolKey {
            address: self.address,
            tls: self.tls.map_or(0, TlsClient::id),
        }
    }

    fn dial(&self) -> Dial<'_> {
        Dial {
            address: self.address,
            tls: self.tls,
            keepalive: self.keepalive,
            preface: self.preface,
        }
    }

    fn alpn(&self) -> Alpn {
        match self.tls {
            Some(tls) => tls.alpn(),
            None if self.h2c => Alpn::H2,
            None => Alpn::H1,
        }
    }

    /// What an opened connection speaks.
    fn speaks_h2(&self, socket: &UpSocket) -> Result<bool, UpFault> {
        let chosen = socket.alpn() == Some(b"h2");
        match self.alpn() {
            Alpn::H2 if socket.is_tls() && !chosen => {
                Err(UpFault::Protocol("the upstream did not choose h2"))
            }
            Alpn::H2 => Ok(true),
            Alpn::Either => Ok(chosen),
            Alpn::H1 | Alpn::Nothing => Ok(false),
        }
    }
}

/// The pools of one thread.
#[derive(Debug)]
pub struct Connections {
    pub h1: Rc<Pool<UpSocket>>,
    pub h2: Rc<H2Pool>,
    counters: Arc<PoolCounters>,
    uses: u32,
}

/// An exchange and whether a connection was opened for it.
#[derive(Debug)]
pub struct Connected {
    pub up: AnyUp,
    pub opened: bool,
}

impl Connections {
    pub fn new(config: PoolConfig, counters: Arc<PoolCounters>) -> Self {
        Self {
            h1: Pool::new(config, Arc::clone(&counters)),
            h2: H2Pool::new(config, Arc::clone(&counters)),
            counters,
            uses: config.uses,
        }
    }

    /// How often [`Self::sweep`] is due.
    pub const SWEEP: Duration = Duration::from_secs(5);

    /// A connection that no exchange has.
    ///
    /// # Errors
    /// A fault of connecting, after `limit` at the latest.
    pub async fn dial(&self, dial: &Dial<'_>, limit: Duration) -> Result<UpSocket, UpFault> {
        let opened = tokio::time::timeout(limit, dial.open(&self.counters)).await;
        opened.unwrap_or(Err(UpFault::ConnectTimeout))
    }

    /// Closes what has been idle for too long.
    pub fn sweep(&self) {
        self.h1.sweep();
        self.h2.sweep();
    }

    /// An idle connection of an upstream that speaks nothing but HTTP/1.
    pub fn idle_h1(&self, want: &Want<'_>) -> Option<AnyUp> {
        let h1 = want.alpn() == Alpn::H1;
        if h1 { self.take_h1(want) } else { None }
    }

    /// An exchange on a shared connection, or on a new one; [`Self::idle_h1`] has found none. One that wants a tunnel gets
    /// a connection that can become one where the upstream has such.
    ///
    /// # Errors
    /// Nothing was sent: a fault of connecting, or an upstream that does not speak what it should.
    pub async fn connect(
        &self,
        want: &Want<'_>,
        limit: Duration,
        timer: &mut Timer,
    ) -> Result<Connected, UpFault> {
        let opened = async {
            let connected = if want.alpn() == Alpn::H1 || !want.preface.is_empty() {
                self.open(want, None).await?
            } else {
                self.share(want).await?
            };
            match &connected.up {
                AnyUp::H2(up) if want.tunnel => up.settle().await,
                _ => return Ok(connected),
            }
            match want.http1 {
                tls @ Some(_) if !connected.up.takes_tunnel() => {
                    drop(connected);
                    self.http1(&Want { tls, ..*want }).await
                }
                _ => Ok(connected),
            }
        };
        timer
            .within(limit, opened)
            .await
            .unwrap_or(Err(UpFault::ConnectTimeout))
    }

    fn take_h1(&self, want: &Want<'_>) -> Option<AnyUp> {
        if want.fresh || !want.preface.is_empty() {
            return None;
        }
        self.h1.take(want.key()).map(AnyUp::H1)
    }

    /// For an upstream that speaks HTTP/2, or may.
    async fn share(&self, want: &Want<'_>) -> Result<Connected, UpFault> {
        loop {
            match self.h2.claim(want.key(), want.max_streams).await {
                Claim::Exchange(up) => {
                    let up = AnyUp::H2(up);
                    return Ok(Connected { up, opened: false });
                }
                Claim::Wait(gate) => gate.wait().await?,
                Claim::Lead(lead) => return self.open(want, Some(lead)).await,
                Claim::Http1 => return self.http1(want).await,
            }
        }
    }

    /// For an upstream that is known to speak HTTP/1.
    async fn http1(&self, want: &Want<'_>) -> Result<Connected, UpFault> {
        match self.take_h1(want) {
            Some(up) => Ok(Connected { up, opened: false }),
            None => self.open(want, None).await,
        }
    }

    /// Opens a connection; the leader's is for others too.
    async fn open(&self, want: &Want<'_>, lead: Option<Lead>) -> Result<Connected, UpFault> {
        let opened = want.dial().open(&self.counters).await;
        let spoken = opened.and_then(|socket| Ok((want.speaks_h2(&socket)?, socket)));
        let (h2, socket) = match spoken {
            Ok(spoken) => spoken,
            Err(fault) => {
                if let Some(lead) = lead {
                    lead.failed(fault);
                }
                return Err(fault);
            }
        };
        if h2 {
            let up = self.begin_h2(want, socket, lead).await?;
            return Ok(Connected { up, opened: true });
        }
        if let Some(lead) = lead {
            lead.http1();
        }
        let up = if want.preface.is_empty() {
            self.h1.adopt_new(want.key(), socket, want.keep)
        } else {
            H1Up::new(socket)
        };
        let up = AnyUp::H1(up);
        Ok(Connected { up, opened: true })
    }

    async fn begin_h2(
        &self,
        want: &Want<'_>,
        socket: UpSocket,
        lead: Option<Lead>,
    ) -> Result<AnyUp, UpFault> {
        let limits = Limits {
            max_streams: want.max_streams,
            uses: self.uses,
            keep: want.keep,
        };
        let gate = lead.as_ref().map(Lead::gate).unwrap_or_default();
        let counters = Arc::clone(&self.counters);
        let conn = match handshake(socket, want.address, limits, counters, gate).await {
            Ok(conn) => conn,
            Err(fault) => {
                if let Some(lead) = lead {
                    lead.failed(fault);
                }
                return Err(fault);
            }
        };
        // Its own exchange need not wait for the peer's settings.
        let up = conn.open().await;
        if let Some(lead) = lead {
            lead.opened(&conn);
        }
        let up = up.ok_or(UpFault::Connect(std::io::ErrorKind::ConnectionAborted))?;
        Ok(AnyUp::H2(Box::new(up)))
    }
}

/// An exchange with an upstream in whatever protocol it speaks.
#[derive(Debug)]
pub enum AnyUp {
    H1(Box<H1Up<UpSocket>>),
    H2(Box<H2Up>),
}

impl AnyUp {
    /// Whether the connection has served an exchange before.
    pub fn is_reused(&self) -> bool {
        match self {
            Self::H1(up) => up.is_reused(),
            Self::H2(up) => up.is_reused(),
        }
    }

    /// Whether it can become a tunnel, if the upstream agrees.
    pub fn takes_tunnel(&self) -> bool {
        match self {
            Self::H1(_) => true,
            Self::H2(up) => up.takes_tunnel(),
        }
    }

    pub fn is_h2(&self) -> bool {
        matches!(self, Self::H2(_))
    }
}

impl Up for AnyUp {
    fn send_head(&mut self, head: &RequestHead) {
        match self {
            Self::H1(up) => up.send_head(head),
            Self::H2(up) => up.send_head(head),
        }
    }

    fn send_body(&mut self, data: Bytes) -> Result<(), LengthMismatch> {
        match self {
            Self::H1(up) => up.send_body(data),
            Self::H2(up) => up.send_body(data),
        }
    }

    fn send_end(&mut self, trailers: Option<&Headers>) -> Result<(), LengthMismatch> {
        match self {
            Self::H1(up) => up.send_end(trailers),
            Self::H2(up) => up.send_end(trailers),
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), UpFault>> {
        match self {
            Self::H1(up) => up.poll_flush(cx),
            Self::H2(up) => up.poll_flush(cx),
        }
    }

    fn is_full(&self) -> bool {
        match self {
            Self::H1(up) => up.is_full(),
            Self::H2(up) => up.is_full(),
        }
    }

    fn has_queued(&self) -> bool {
        match self {
            Self::H1(up) => up.has_queued(),
            Self::H2(up) => up.has_queued(),
        }
    }

    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        head: &mut ResponseHead,
    ) -> Poll<Result<(), UpFault>> {
        match self {
            Self::H1(up) => up.poll_head(cx, head),
            Self::H2(up) => up.poll_head(cx, head),
        }
    }

    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, UpFault>> {
        match self {
            Self::H1(up) => up.poll_body(cx),
            Self::H2(up) => up.poll_body(cx),
        }
    }

    fn take_trailers(&mut self) -> Option<Box<Headers>> {
        match self {
            Self::H1(up) => up.take_trailers(),
            Self::H2(up) => up.take_trailers(),
        }
    }

    fn release(self) {
        match self {
            Self::H1(up) => up.release(),
            Self::H2(up) => up.release(),
        }
    }
}
