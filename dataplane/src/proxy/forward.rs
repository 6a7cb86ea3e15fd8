//! Steps 12 to 18 of the pipeline: choose an upstream and an endpoint, connect, relay; again where that is allowed.

use super::Proxy;
use super::affinity::{Bond, hash_of};
use super::exchange::{ResponseStage, Summary, request_view};
use super::fail::{self, Failure};
use super::grpc;
use super::held::{Collected, Held, Source};
use super::mirror::Copies;
use super::retry::Retries;
use super::tap::{Tap, Why, verdict};
use super::wait::{Refused, pause};
use crate::engine::{
    AnyUp, Down, DownExt, DownFault, Fault, Framing, Method, Progress, RequestHead, ResponseHead,
    Timeouts, UpFault, relay,
};
use crate::table::{Backend, Picked, Rule, Upstream, WeightedBackends};
use crate::telemetry::metrics::{Attempt, Cut};
use bytes::Bytes;
use model::{Stage, limits};
use plugins::{Filters, Side};
use std::cell::RefCell;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

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
    /// Where the client connected to.
    pub local: SocketAddr,
    pub rule: &'a Rule,
    /// Bytes of the path that the rule's prefix matched.
    pub prefix_len: usize,
    /// Copies that wait for the body.
    pub copies: Option<RefCell<Copies>>,
}

impl Request<'_> {
    /// Whether a body comes with it.
    pub(super) fn has_body(&self) -> bool {
        !matches!(self.head.framing, Framing::Empty | Framing::Length(0))
    }

    /// Whether nothing of it is still with the client.
    fn is_read(&self) -> bool {
        self.body.is_some() || !self.has_body()
    }
}

/// Where an attempt goes.
struct Aim<'a> {
    backend: Backend<'a>,
    upstream: &'a Arc<Upstream>,
    /// Of what the upstream's policy hashes.
    hash: Option<u64>,
    /// With the limit of one attempt as the total.
    timeouts: Timeouts,
}

/// What the attempts at one request share.
struct Attempts<'a> {
    bond: Bond<'a>,
    retries: Retries<'a>,
    /// Endpoints of attempts that failed.
    tried: Vec<SocketAddr>,
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
        let rule = request.rule;
        let limit = match rule.timeouts().request_ms {
            0 => None,
            millis => Some(Duration::from_millis(millis.into())),
        };
        // A client of gRPC says itself how long it waits.
        let limit = [limit, grpc::timeout(request.head)]
            .into_iter()
            .flatten()
            .min();
        let deadline = limit.map(|limit| Instant::now() + limit);
        let _permit = match rule.gate() {
            None => None,
            Some((gate, limit)) => match self.permit(down, request.is_read(), gate, *limit).await {
                Ok(permit) => Some(permit),
                Err(refused) => return refused.into(),
            },
        };
        let bond = Bond::of(rule, request.head);
        let (backend, mut bound) = match bond.bound(backends) {
            Some((backend, picked)) => (Some(backend), Some(picked)),
            None => (backends.next(), None),
        };
        let Some(backend) = backend else {
            return instead(fail::INVALID_BACKEND);
        };
        // The head as it came is needed again only for another backend.
        let original = backends.has_tiers().then(|| request.head.clone());
        let mut aim = match self.aim(&mut request, backend) {
            Ok(aim) => aim,
            Err(failure) => return instead(failure),
        };
        let mut attempts = Attempts {
            bond,
            retries: Retries::new(self, rule.retry(), &request, deadline),
            tried: Vec::new(),
        };
        loop {
            let picked = bound.take();
            let picked = picked.or_else(|| {
                let Attempts { bond, tried, .. } = &attempts;
                bond.pick(aim.upstream, aim.hash, tried)
            });
            let Some(picked) = picked else {
                return instead(fail::NO_HEALTHY_UPSTREAM);
            };
            let attempt = self.attempt(down, &request, &aim, &picked, &attempts, answer, summary);
            let wait = match attempt.await {
                ControlFlow::Break(end) => return end,
                ControlFlow::Continue(wait) => wait,
            };
            let read = request.is_read() || summary.progress.request_complete;
            if !pause(down, read, wait).await {
                return End::Gone;
            }
            attempts.tried.push(picked.addr);
            let next = backends.after(&aim.backend, &attempts.tried);
            if next.index != aim.backend.index
                && let Some(original) = &original
            {
                request.head.clone_from(original);
                aim = match self.aim(&mut request, next) {
                    Ok(aim) => aim,
                    Err(failure) => return instead(failure),
                };
            }
        }
    }

    /// One attempt; how long to wait before another, where there may be one.
    #[allow(
        clippy::too_many_arguments,
        reason = "the parts of one exchange, each of another owner"
    )]
    async fn attempt<D: Down>(
        &self,
        down: &mut D,
        request: &Request<'_>,
        aim: &Aim<'_>,
        picked: &Picked,
        attempts: &Attempts<'_>,
        answer: &mut ResponseHead,
        summary: &mut Summary,
    ) -> ControlFlow<End, Duration> {
        let (upstream, metrics) = (aim.upstream, &self.shared.metrics);
        let Attempts {
            bond,
            retries,
            tried,
        } = attempts;
        retries.begin();
        summary.attempts += 1;
        summary.upstream = Some(picked.addr);
        summary.progress = Progress::default();
        let _under_way = picked.endpoint.start();
        let Some(mut timeouts) = within(aim.timeouts, retries) else {
            return ControlFlow::Break(instead(fail::UPSTREAM_TIMEOUT));
        };
        let read = request.is_read();
        let permits = self.permits(down, read, &upstream.gates, timeouts.connect);
        let _permits = match permits.await {
            Ok(permits) => permits,
            Err(refused) => {
                metrics.attempt(Attempt::Saturated);
                return ControlFlow::Break(refused.into());
            }
        };
        // After a stale connection the pool most likely holds others of its kind.
        let fresh = tried.contains(&picked.addr);
        let begun = Instant::now();
        let up = self.connect(down, upstream, picked, request, fresh, timeouts.connect);
        let fault = match up.await {
            Err(fault) => Fault::Up(fault),
            Ok(up) => {
                let took = begun.elapsed();
                for limit in [&mut timeouts.total, &mut timeouts.head] {
                    *limit = limit.map(|limit| limit.saturating_sub(took));
                }
                let mut tap = Tap::new(
                    request.rule,
                    aim.backend,
                    request.head,
                    request.client,
                    retries,
                    bond.cookie(upstream, picked),
                );
                tap.copy_to(request.copies.as_ref());
                let exchange = self.exchange(
                    down, up, request, &mut tap, retries, answer, &timeouts, summary,
                );
                let result = exchange.await;
                if let Some(came) = summary.progress.first_byte {
                    let took = came.duration_since(begun).as_secs_f64();
                    metrics.first_byte_seconds.observe(took);
                }
                let good = tap.status().map(|status| status < 500);
                let fault = match result {
                    Ok(end) => {
                        metrics.attempt(Attempt::Ok);
                        upstream.report(picked, good.unwrap_or(true));
                        return ControlFlow::Break(end);
                    }
                    Err(fault) => fault,
                };
                if let (Fault::Aborted | Fault::Down(_), Some(good)) = (fault, good) {
                    upstream.report(picked, good);
                }
                if let Some(wait) = tap.again() {
                    metrics.attempt(Attempt::Ok);
                    return ControlFlow::Continue(wait);
                }
                if let Some(why) = tap.into_why() {
                    return ControlFlow::Break(stopped(why, summary));
                }
                fault
            }
        };
        if summary.progress.answered == Some(101) {
            // The attempt was good; that a tunnel ends says little about an endpoint.
            metrics.attempt(Attempt::Ok);
            return ControlFlow::Break(faulty(&fault, summary));
        }
        let (up_fault, to_blame) = match fault {
            Fault::Up(fault) => (fault, true),
            // A client that is slow to send its request is no fault of the endpoint.
            Fault::Total if summary.progress.answered.is_none() => {
                (UpFault::Timeout, summary.progress.request_complete)
            }
            _ => return ControlFlow::Break(faulty(&fault, summary)),
        };
        picked.endpoint.failed();
        metrics.attempt(outcome(up_fault));
        if to_blame {
            upstream.report(picked, false);
        }
        let untouched = summary.progress.request_bytes == 0 || request.body.is_some();
        let again = match summary.progress.answered {
            None => retries.after_fault(up_fault, untouched),
            Some(_) => None,
        };
        match again {
            Some(wait) => ControlFlow::Continue(wait),
            None => ControlFlow::Break(faulty(&fault, summary)),
        }
    }

    /// Makes the request one for this backend.
    fn aim<'a>(&self, request: &mut Request<'_>, backend: Backend<'a>) -> Result<Aim<'a>, Failure> {
        let upstream = backend.upstream.ok_or(fail::INVALID_BACKEND)?;
        // What clients send is hashed, not what it is rewritten to.
        let hash = hash_of(upstream, request.head, request.client.ip());
        self.address_to(request, &backend, upstream)
            .map_err(|_| fail::INTERNAL_ERROR)?;
        Ok(Aim {
            backend,
            upstream,
            hash,
            timeouts: timeouts(request.rule, upstream),
        })
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
        let host = head.host.name();
        let path = head.target.path();
        if let Some(path) = rule.target(host, path, None, *prefix_len, upstream, &mut room) {
            head.target.set_path(path);
        }
        self.scratch.replace(room);
        if let Some(host) = rule.host(head.host.name(), upstream) {
            head.headers.set("host", host.as_bytes())?;
        }
        let chain = rule.chain();
        if chain.buffers(Side::Response).is_some() || chain.streams(Side::Response) {
            // A body that a plugin reads must come as it is.
            head.headers.remove("accept-encoding");
        }
        rule.request_headers().apply(&mut head.headers)?;
        backend.request_headers.apply(&mut head.headers)?;
        for credential in &upstream.settings.credentials {
            head.headers
                .set(&credential.name, credential.value.reveal())?;
        }
        Ok(())
    }

    /// One attempt on an open connection.
    #[allow(
        clippy::too_many_arguments,
        reason = "the parts of one exchange, each of another owner"
    )]
    async fn exchange<D: Down>(
        &self,
        down: &mut D,
        up: AnyUp,
        request: &Request<'_>,
        tap: &mut Tap<'_>,
        retries: &Retries<'_>,
        answer: &mut ResponseHead,
        timeouts: &Timeouts,
        summary: &mut Summary,
    ) -> Result<End, Fault> {
        let collect = request.rule.chain().buffers(Side::Response);
        let source = match (&request.body, &retries.replay) {
            (Some(body), _) => Source::Whole { body, given: false },
            (None, Some(replay)) => Source::Kept(replay),
            (None, None) => Source::Client,
        };
        let head = &*request.head;
        let progress = &mut summary.progress;
        if matches!(source, Source::Client) && collect.is_none() {
            let result = relay(down, up, head, answer, tap, timeouts, progress).await;
            return result.map(|()| End::Done);
        }
        let mut held = Held::new(down, source, collect);
        let result = relay(&mut held, up, head, answer, tap, timeouts, progress).await;
        let collected = held.into_answer();
        match (result, collected) {
            (Ok(()), None) => Ok(End::Done),
            (Ok(()), Some(collected)) => Ok(self.judge(down, request, collected).await),
            (Err(fault), collected) => {
                if collected.is_some() {
                    // What was collected has not been sent.
                    summary.progress.answered = None;
                }
                Err(fault)
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
        let mut body = body.freeze();
        let (outcome, mut filters) = {
            let mut reader = ResponseStage {
                request: request_view(request.head, request.client, None),
                answer: &mut head,
                body: Some(&body),
                filters: Filters::default(),
            };
            let chain = request.rule.chain();
            let outcome = chain.run(Stage::PreResponse, &mut reader, false).await;
            (outcome, reader.filters)
        };
        if let Err(why) = verdict(outcome) {
            return End::Instead(why);
        }
        if !filters.is_empty() {
            match filters.whole(body) {
                Ok(filtered) => body = filtered,
                Err(_) => return instead(fail::PLUGIN_ERROR),
            }
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
}

fn instead(failure: Failure) -> End {
    End::Instead(Why::Failure(failure))
}

impl From<Refused> for End {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Answer(failure) => instead(failure),
            Refused::Gone => Self::Gone,
        }
    }
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
        UpFault::Reset { .. } | UpFault::Unprocessed => Attempt::Reset,
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
    Timeouts {
        connect,
        first_byte: ms(t.first_byte_ms),
        stream_idle: ms(t.stream_idle_ms),
        first_event: ms(t.first_event_ms),
        head: None,
        total: (t.backend_request_ms > 0).then(|| ms(t.backend_request_ms)),
    }
}

/// The timeouts of an attempt that begins now; `None`: there is no time left.
fn within(timeouts: Timeouts, retries: &Retries<'_>) -> Option<Timeouts> {
    let left = match retries.deadline {
        None => None,
        Some(due) => Some(due.checked_duration_since(Instant::now())?),
    };
    let total = [timeouts.total, left].into_iter().flatten().min();
    let head = retries.per_try();
    let connect = [Some(timeouts.connect), total, head]
        .into_iter()
        .flatten()
        .min();
    Some(Timeouts {
        connect: connect.unwrap_or(timeouts.connect),
        head,
        total,
        ..timeouts
    })
}
