//! Steps 12 to 18 of the pipeline: choose an upstream and an endpoint, connect, relay; again where that is allowed.

use super::Proxy;
use super::exchange::{ResponseStage, Summary, request_view};
use super::fail::{self, Failure};
use super::held::{Collected, Held};
use super::tap::{Tap, Why, verdict};
use crate::engine::{
    Down, DownExt, DownFault, Fault, Framing, H1Up, Keep, Method, PoolKey, Progress, RequestHead,
    ResponseHead, Timeouts, UpFault, relay,
};
use crate::table::{Backend, Picked, Rule, Upstream, WeightedBackends};
use crate::telemetry::metrics::{Attempt, Cut, Kind};
use bytes::Bytes;
use model::{Stage, limits};
use plugins::Side;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::Instant;

/// One more attempt after the first (F56).
const ATTEMPTS: u32 = 2;

/// How an exchange with an upstream ended.
pub(super) enum End {
    /// The answer has left.
    Done,
    /// The client has seen nothing of an answer: it gets this one.
    Instead(Why),
    /// The answer had begun and cannot be completed: the connection is cut.
    Cut(Failure),
    /// The client is gone.
    Gone,
}

/// What is forwarded, and for whom.
pub(super) struct Request<'a> {
    pub head: &'a mut RequestHead,
    /// The whole body, where it had to be read before.
    pub body: Option<Bytes>,
    pub client: SocketAddr,
    pub rule: &'a Rule,
    /// Bytes of the path that the rule's prefix matched.
    pub prefix_len: usize,
}

impl Proxy {
    pub(super) async fn forward<D: Down>(
        &self,
        down: &mut D,
        mut request: Request<'_>,
        backends: &WeightedBackends,
        answer: &mut ResponseHead,
        summary: &mut Summary,
    ) -> End {
        let Some(backend) = backends.next() else {
            return instead(fail::INVALID_BACKEND);
        };
        let Some(upstream) = backend.upstream else {
            return instead(fail::INVALID_BACKEND);
        };
        if self.address_to(&mut request, &backend, upstream).is_err() {
            return instead(fail::INTERNAL_ERROR);
        }
        let timeouts = timeouts(request.rule, upstream);
        let mut failed: Option<SocketAddr> = None;
        loop {
            let Some(picked) = upstream.pick(failed) else {
                return instead(fail::NO_HEALTHY_UPSTREAM);
            };
            summary.attempts += 1;
            summary.upstream = Some(picked.addr);
            summary.progress = Progress::default();
            // After a stale connection the pool most likely holds others of its kind.
            let fresh = failed == Some(picked.addr);
            let under_way = picked.endpoint.start();
            let up = self
                .connect(down, upstream, &picked, fresh, timeouts.connect)
                .await;
            let fault = match up {
                Err(fault) => Fault::Up(fault),
                Ok(up) => {
                    let result =
                        self.exchange(down, up, &request, &backend, answer, &timeouts, summary);
                    match result.await {
                        Ok(end) => {
                            self.shared.metrics.attempt(Attempt::Ok);
                            return end;
                        }
                        Err((fault, why)) => {
                            if let Some(why) = why {
                                return stopped(why, summary);
                            }
                            fault
                        }
                    }
                }
            };
            drop(under_way);
            if summary.progress.answered == Some(101) {
                // The attempt was good; that a tunnel ends says little about an endpoint.
                self.shared.metrics.attempt(Attempt::Ok);
                return faulty(&fault, summary);
            }
            let Fault::Up(up_fault) = fault else {
                return faulty(&fault, summary);
            };
            picked.endpoint.failed();
            self.shared.metrics.attempt(outcome(up_fault));
            if summary.attempts >= ATTEMPTS || !self.may_retry(up_fault, &request, summary) {
                return faulty(&fault, summary);
            }
            failed = Some(picked.addr);
        }
    }

    /// Rewrites the target and host, and makes the header edits of rule and backend.
    fn address_to(
        &self,
        request: &mut Request<'_>,
        backend: &Backend<'_>,
        upstream: &Upstream,
    ) -> Result<(), model::headers::InvalidHeader> {
        let Request {
            head,
            rule,
            prefix_len,
            ..
        } = request;
        let mut room = self.scratch.take();
        if let Some(path) = rule.target(head.target.path(), None, *prefix_len, upstream, &mut room)
        {
            head.target.set_path(path);
        }
        self.scratch.replace(room);
        if let Some(host) = rule.host(upstream) {
            head.headers.set("host", host.as_bytes())?;
        }
        let chain = rule.chain();
        if chain.buffers(Side::Response).is_some() || chain.streams(Side::Response) {
            // A body that a plugin reads must come as it is.
            head.headers.remove("accept-encoding");
        }
        rule.request_headers().apply(&mut head.headers)?;
        backend.request_headers.apply(&mut head.headers)
    }

    async fn connect<D: Down>(
        &self,
        down: &mut D,
        upstream: &Upstream,
        picked: &Picked,
        fresh: bool,
        limit: Duration,
    ) -> Result<H1Up<TcpStream>, UpFault> {
        let key = PoolKey {
            address: picked.addr,
            tls: 0,
        };
        if !fresh && let Some(up) = self.pool.take(key) {
            return Ok(up);
        }
        let begun = Instant::now();
        let kept = &upstream.settings.connection;
        let keep = Keep {
            connections: usize::try_from(kept.pool_size).unwrap_or(usize::MAX),
            idle: Duration::from_millis(kept.pool_idle_ms.into()),
        };
        let up = self.pool.connect(key, keep, limit, down.timer()).await?;
        self.shared
            .metrics
            .connect_seconds
            .observe(begun.elapsed().as_secs_f64());
        Ok(up)
    }

    /// One attempt on an open connection.
    #[allow(
        clippy::too_many_arguments,
        reason = "the parts of one exchange, each of another owner"
    )]
    async fn exchange<D: Down>(
        &self,
        down: &mut D,
        up: H1Up<TcpStream>,
        request: &Request<'_>,
        backend: &Backend<'_>,
        answer: &mut ResponseHead,
        timeouts: &Timeouts,
        summary: &mut Summary,
    ) -> Result<End, (Fault, Option<Why>)> {
        let Request {
            head,
            body,
            client,
            rule,
            ..
        } = request;
        let collect = rule.chain().buffers(Side::Response);
        let mut tap = Tap::new(rule, *backend, head, *client, collect.is_some());
        let progress = &mut summary.progress;
        if body.is_none() && collect.is_none() {
            return match relay(down, up, head, answer, &mut tap, timeouts, progress).await {
                Ok(()) => Ok(End::Done),
                Err(fault) => Err((fault, tap.why())),
            };
        }
        let mut held = Held::new(down, body.as_ref(), collect);
        let result = relay(&mut held, up, head, answer, &mut tap, timeouts, progress).await;
        let collected = held.into_answer();
        match (result, collected) {
            (Ok(()), None) => Ok(End::Done),
            (Ok(()), Some(collected)) => Ok(self.judge(down, request, collected).await),
            (Err(fault), collected) => {
                if collected.is_some() {
                    // What was collected has not been sent.
                    summary.progress.answered = None;
                }
                Err((fault, tap.why()))
            }
        }
    }

    /// `pre_response` on a whole answer, which is sent if it passes.
    async fn judge<D: Down>(
        &self,
        down: &mut D,
        request: &Request<'_>,
        collected: Collected,
    ) -> End {
        let Collected {
            head: Some(mut head),
            body,
            trailers,
            ..
        } = collected
        else {
            return instead(fail::INTERNAL_ERROR);
        };
        let body = body.freeze();
        let outcome = {
            let mut reader = ResponseStage {
                request: request_view(request.head, request.client, None),
                answer: &mut head,
                body: Some(&body),
            };
            let chain = request.rule.chain();
            chain.run(Stage::PreResponse, &mut reader, false).await
        };
        if let Err(why) = verdict(outcome) {
            return End::Instead(why);
        }
        let bodiless = request.head.method == Method::Head || matches!(head.status, 204 | 304);
        if !bodiless && trailers.is_none() {
            head.framing = Framing::Length(body.len() as u64);
        }
        down.send_head(&head);
        let sent = down
            .send_body(body)
            .and_then(|()| down.send_end(trailers.as_ref()));
        match (sent, down.flush().await) {
            (Ok(()), Ok(())) => End::Done,
            (Err(_), _) => End::Cut(fail::INTERNAL_ERROR),
            (_, Err(_)) => End::Gone,
        }
    }

    /// Whether the request can be sent again: never once the client has seen an answer or once its body has gone.
    fn may_retry(&self, fault: UpFault, request: &Request<'_>, summary: &Summary) -> bool {
        let metrics = &self.shared.metrics;
        let body_is_here = summary.progress.request_bytes == 0 || request.body.is_some();
        let (allowed, counter) = if fault.is_before_sending() {
            (true, &metrics.retries_connect)
        } else {
            let stale = fault.is_stale_connection() && request.head.method.is_idempotent();
            (stale && body_is_here, &metrics.retries_reused)
        };
        if !allowed || summary.progress.answered.is_some() {
            return false;
        }
        let second = self.shared.started.elapsed().as_secs();
        let in_flight = u64::try_from(metrics.in_flight(Kind::Plain).get()).unwrap_or(0);
        if !self.shared.budget.take(second, in_flight) {
            metrics.retries_budget.inc();
            return false;
        }
        counter.inc();
        true
    }
}

fn instead(failure: Failure) -> End {
    End::Instead(Why::Failure(failure))
}

/// A plugin or a cap stopped the exchange.
fn stopped(why: Why, summary: &Summary) -> End {
    match (summary.progress.answered, why) {
        (None, why) => End::Instead(why),
        (Some(_), Why::Failure(failure)) => End::Cut(failure),
        (Some(_), Why::Reply(_)) => End::Cut(fail::PLUGIN_ERROR),
    }
}

fn faulty(fault: &Fault, summary: &mut Summary) -> End {
    if summary.progress.answered.is_some() {
        summary.cut = cut(fault);
    }
    match (Failure::of(fault), summary.progress.answered) {
        (None, _) => End::Gone,
        (Some(failure), None) => instead(failure),
        (Some(failure), Some(_)) => End::Cut(failure),
    }
}

/// Why an answer that had begun came to no end; `None`: a fault of ours or of a plugin.
fn cut(fault: &Fault) -> Option<Cut> {
    Some(match fault {
        Fault::Down(DownFault::Closed | DownFault::Reject(_)) => Cut::Client,
        Fault::Down(DownFault::Timeout) => Cut::SlowReader,
        Fault::Up(UpFault::Timeout) | Fault::Idle => Cut::Idle,
        Fault::Up(_) => Cut::Upstream,
        Fault::Total => Cut::Deadline,
        Fault::Aborted | Fault::Length => return None,
    })
}

fn outcome(fault: UpFault) -> Attempt {
    match fault {
        UpFault::Connect(_) => Attempt::ConnectError,
        UpFault::Tls => Attempt::TlsError,
        UpFault::Reset { .. } => Attempt::Reset,
        UpFault::Protocol(_) => Attempt::ProtocolError,
        UpFault::ConnectTimeout | UpFault::Timeout => Attempt::Timeout,
    }
}

/// The rule's timeouts; its connect timeout gives way to the upstream's, and that to the default.
fn timeouts(rule: &Rule, upstream: &Upstream) -> Timeouts {
    let t = rule.timeouts();
    let ms = |ms: u32| Duration::from_millis(ms.into());
    let connect = match (t.connect_ms, upstream.settings.connect_ms) {
        (0, 0) => limits::CONNECT,
        (0, own) => ms(own),
        (rule, _) => ms(rule),
    };
    let total = [t.request_ms, t.backend_request_ms]
        .into_iter()
        .filter(|v| *v > 0)
        .min();
    Timeouts {
        connect,
        first_byte: ms(t.first_byte_ms),
        stream_idle: ms(t.stream_idle_ms),
        total: total.map(ms),
    }
}
