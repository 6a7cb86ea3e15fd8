//! Copies of requests for other upstreams (`mirrors` of a rule). A copy goes its own way once the request's body has
//! passed; what becomes of it changes nothing for the client, and nobody reads its answer.

use super::Proxy;
use crate::engine::{
    Connections, Down, DownFault, Exchange, Framing, Progress, RequestHead, ResponseHead, Timeouts,
    Timer, Tunnel, UpFault, proxy_header, relay,
};
use crate::h1::encode::LengthMismatch;
use crate::table::{ListenerTable, Mirror, Rule, Upstream};
use crate::telemetry::Metrics;
use bytes::{Bytes, BytesMut};
use model::headers::Known;
use model::{Headers, Listener};
use plugins::Side;
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

/// Copies that one thread has, from the request's routing to the end of the copy's answer; no further one begins
/// meanwhile.
const UNDER_WAY: usize = 128;
/// Bytes of a body that is copied; a request with a longer one is not.
const BODY: usize = 64 << 10;
/// For every step of a copy, and for all of it.
const STEP: Duration = Duration::from_secs(5);
const WHOLE: Duration = Duration::from_secs(30);

/// What the copies of one thread have in common.
pub(super) struct Mirrors {
    connections: Rc<Connections>,
    metrics: Arc<Metrics>,
    under_way: Cell<usize>,
}

/// What a PROXY header says.
#[derive(Clone, Copy)]
pub(super) struct Ends {
    pub client: SocketAddr,
    /// Where the client connected to.
    pub local: SocketAddr,
}

/// The copies of one request, while its body is on its way.
pub(super) struct Copies {
    /// None any more once the body is too long.
    copies: Vec<Copy>,
    body: BytesMut,
}

/// What is sent, and where to.
struct Copy {
    upstream: Arc<Upstream>,
    /// Where it has a certificate shown to upstreams.
    listener: Option<Arc<Listener>>,
    head: RequestHead,
    ends: Ends,
    slot: Slot,
}

impl Proxy {
    /// The copies of a request that has been routed; `None`: none waits for a body. Those of a request without a
    /// body, or with one that is here already, are on their way.
    pub(super) fn mirror<D: Down>(
        &self,
        x: &Exchange<'_, D>,
        listener: &ListenerTable,
        rule: &Rule,
        prefix_len: usize,
        body: Option<&Bytes>,
        ends: Ends,
    ) -> Option<RefCell<Copies>> {
        if rule.mirrors().is_empty() || x.request.upgrade.is_some() {
            return None;
        }
        let drawn = |m: &&Mirror| rand::random_range(0..1_000_000) < m.millionths;
        let chosen = rule.mirrors().iter().filter(drawn);
        let shows = Some(&listener.listener).filter(|l| l.backend_certificate.is_some());
        let copies = chosen.filter_map(|mirror| {
            let upstream = mirror.upstream.as_ref()?;
            let slot = Slot::take(&self.mirrors)?;
            Some(Copy {
                head: copy_of(x.request, rule, prefix_len, upstream)?,
                upstream: Arc::clone(upstream),
                listener: shows.cloned(),
                ends,
                slot,
            })
        });
        let mut copies = Copies {
            copies: copies.collect(),
            body: BytesMut::new(),
        };
        match (body, x.request.framing) {
            // Plugins that change the body as it passes change that of the copies, too.
            (Some(body), _) if !rule.chain().streams(Side::Request) => copies.push(body),
            (_, Framing::Empty | Framing::Length(0)) => {}
            (_, Framing::Length(n)) if n > BODY as u64 => copies.give_up(),
            _ => {
                return Some(RefCell::new(copies)).filter(|c| !c.borrow().copies.is_empty());
            }
        }
        copies.send();
        None
    }
}

/// The head of a copy: as the rule sends requests, with what the upstream of the copy wants. `None`: it cannot be
/// written.
fn copy_of(
    request: &RequestHead,
    rule: &Rule,
    prefix_len: usize,
    upstream: &Upstream,
) -> Option<RequestHead> {
    let mut head = request.clone();
    let mut room = String::new();
    let (host, path) = (request.host.name(), request.path());
    if let Some(path) = rule.target(host, path, None, prefix_len, upstream, &mut room) {
        head.target.set_path(path);
    }
    if let Some(host) = rule.host(host, upstream) {
        head.headers.set(Known::Host.name(), host.as_bytes()).ok()?;
    }
    head.headers.remove_known(Known::Expect);
    head.expects_continue = false;
    rule.request_headers().apply(&mut head.headers).ok()?;
    for credential in &upstream.settings.credentials {
        let value = credential.value.reveal();
        head.headers.set(&credential.name, value).ok()?;
    }
    Some(head)
}

impl Copies {
    /// A piece of the body on its way to the upstream.
    pub(super) fn push(&mut self, data: &[u8]) {
        if self.copies.is_empty() {
            return;
        }
        if self.body.len() + data.len() > BODY {
            self.give_up();
        } else {
            self.body.extend_from_slice(data);
        }
    }

    /// Another attempt begins, which sends the body from its beginning.
    pub(super) fn restart(&mut self) {
        self.body.clear();
    }

    /// The body is complete.
    pub(super) fn send(&mut self) {
        let body = self.body.split().freeze();
        for mut copy in self.copies.drain(..) {
            if copy.head.framing != Framing::Empty {
                copy.head.framing = Framing::Length(body.len() as u64);
            }
            copy.start(body.clone());
        }
    }

    fn give_up(&mut self) {
        for copy in self.copies.drain(..) {
            copy.slot.0.metrics.mirrors_dropped.inc();
        }
        self.body = BytesMut::new();
    }
}

impl Mirrors {
    pub(super) fn new(connections: Rc<Connections>, metrics: Arc<Metrics>) -> Rc<Self> {
        Rc::new(Self {
            connections,
            metrics,
            under_way: Cell::new(0),
        })
    }
}

impl Copy {
    fn start(self, body: Bytes) {
        tokio::task::spawn_local(async move {
            let outcome = tokio::time::timeout(WHOLE, self.exchange(body)).await;
            // Whether it worked concerns nobody but those who look at the log.
            if let Some(why) = outcome.unwrap_or(Err("time is up")).err() {
                tracing::debug!(
                    event = "mirror_failed",
                    upstream = &*self.upstream.key,
                    why,
                    "a copy of a request was lost"
                );
            }
        });
    }

    async fn exchange(&self, body: Bytes) -> Result<(), &'static str> {
        let connections = &self.slot.0.connections;
        let picked = self.upstream.pick(None, &[]).ok_or("no endpoint")?;
        let _under_way = picked.endpoint.start();
        let wire = &self.upstream.wire;
        let preface = match wire.proxy {
            None => Vec::new(),
            Some(version) => proxy_header::write(version, self.ends.client, self.ends.local),
        };
        let mut nobody = Nobody {
            body: Some(body).filter(|b| !b.is_empty()),
            answered: None,
            timer: Timer::default(),
        };
        let failed = |_: UpFault| "connecting failed";
        let shows = self.listener.as_ref();
        let shows = shows.and_then(|listener| listener.backend_certificate.as_deref());
        let want = wire
            .want(picked.addr, &preface, Tunnel::None, false, shows)
            .map_err(failed)?;
        let up = match connections.idle_h1(&want) {
            Some(up) => up,
            None => {
                let connected = connections.connect(&want, STEP, &mut nobody.timer);
                connected.await.map_err(failed)?.up
            }
        };
        let timeouts = Timeouts {
            connect: STEP,
            first_byte: STEP,
            stream_idle: STEP,
            first_event: STEP,
            ..Timeouts::default()
        };
        let (mut answer, mut progress) = (ResponseHead::default(), Progress::default());
        let (nobody, head) = (&mut nobody, &self.head);
        relay(
            nobody,
            up,
            head,
            &mut answer,
            &mut (),
            &timeouts,
            &mut progress,
        )
        .await
        .map_err(|_| "the exchange failed")
    }
}

/// Counts a copy until it is over, however it ends.
struct Slot(Rc<Mirrors>);

impl Slot {
    fn take(mirrors: &Rc<Mirrors>) -> Option<Self> {
        if mirrors.under_way.get() >= UNDER_WAY {
            mirrors.metrics.mirrors_dropped.inc();
            return None;
        }
        mirrors.under_way.set(mirrors.under_way.get() + 1);
        mirrors.metrics.mirrors.inc();
        Some(Self(Rc::clone(mirrors)))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mirrors = &self.0;
        mirrors
            .under_way
            .set(mirrors.under_way.get().saturating_sub(1));
        mirrors.metrics.mirrors.dec();
    }
}

/// The client of a copy: it has a body to give, and wants nothing.
struct Nobody {
    body: Option<Bytes>,
    answered: Option<u16>,
    timer: Timer,
}

impl Down for Nobody {
    fn poll_body(&mut self, _: &mut Context<'_>) -> Poll<Result<Option<Bytes>, DownFault>> {
        Poll::Ready(Ok(self.body.take()))
    }

    fn take_trailers(&mut self) -> Option<Box<Headers>> {
        None
    }

    fn poll_gone(&mut self, _: &mut Context<'_>) -> Poll<DownFault> {
        Poll::Pending
    }

    fn send_head(&mut self, head: &ResponseHead) {
        if !head.is_informational() {
            self.answered = Some(head.status);
        }
    }

    fn send_body(&mut self, _: Bytes) -> Result<(), LengthMismatch> {
        Ok(())
    }

    fn send_end(&mut self, _: Option<&Headers>) -> Result<(), LengthMismatch> {
        Ok(())
    }

    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<Result<(), DownFault>> {
        Poll::Ready(Ok(()))
    }

    fn queued(&self) -> usize {
        0
    }

    fn is_full(&self) -> bool {
        false
    }

    fn give_up_body(&mut self) {
        self.body = None;
    }

    fn answered(&self) -> Option<u16> {
        self.answered
    }

    fn timer(&mut self) -> &mut Timer {
        &mut self.timer
    }

    fn patience(&self) -> Duration {
        STEP
    }
}
