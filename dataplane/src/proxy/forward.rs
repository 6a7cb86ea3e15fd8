//! Steps 12 to 18 of the pipeline: choose an upstream and an endpoint, connect, relay; again where that is allowed.

use super::Proxy;
use super::affinity::Bond;
use super::aim::{self, Aim};
use super::due::Due;
use super::end::{End, faulty, instead, outcome, stopped};
use super::exchange::Summary;
use super::fail;
use super::held::{Held, Source};
use super::mirror::Copies;
use super::retry::Retries;
use super::tap::Tap;
use super::wait::{Patience, pause};
use crate::engine::{
    AnyUp, Down, Fault, Framing, Progress, RequestHead, ResponseHead, Timeouts, UpFault, relay,
};
use crate::table::{Labels, Picked, Rule, WeightedBackends};
use crate::telemetry::metrics::Attempt;
use bytes::Bytes;
use plugins::Side;
use std::cell::RefCell;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// What is forwarded, and for whom.
pub(super) struct Request<'a> {
    pub head: &'a mut RequestHead,
    /// The whole body, where it had to be read before.
    pub body: Option<Bytes>,
    pub client: SocketAddr,
    /// Where the client connected to.
    pub local: SocketAddr,
    pub rule: &'a Rule,
    pub due: Due,
    /// Bytes of the path that the rule's prefix matched.
    pub prefix_len: usize,
    /// The certificate that the listener has shown to upstreams.
    pub shows: Option<&'a str>,
    /// What it is counted with.
    pub labels: Labels,
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
        backends: WeightedBackends<'_>,
        answer: &mut ResponseHead,
        summary: &mut Summary,
    ) -> End {
        let rule = request.rule;
        let _permit = match rule.gate() {
            None => None,
            Some((gate, limit)) => {
                let waits = Patience::new(*limit, request.due.at);
                match self.permit(down, request.is_read(), gate, waits).await {
                    Ok(permit) => Some(permit),
                    Err(refused) => return refused.into(),
                }
            }
        };
        let bond = Bond::of(rule.affinity(), request.head, summary.scheme);
        let (backend, mut bound) = bond.first(backends);
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
            retries: Retries::new(self, rule.retry(), &request),
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
            if let Some(trace) = &mut summary.trace {
                let tls = aim.upstream.wire.is_tls();
                trace.attempt(picked.addr, tls, &mut request.head.headers);
            }
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
        if request.labels.upstream {
            summary.count_in(self.series(request.labels, request.rule, Some(upstream)));
        }
        summary.progress = Progress::default();
        let _under_way = picked.endpoint.start();
        if !upstream.settings.credentials.is_empty() {
            summary.injected = Some(Arc::clone(upstream));
        }
        let read = request.is_read();
        let waits = Patience::new(aim.timeouts.connect, retries.due.at);
        let permits = self.permits(down, read, &upstream.gates, waits);
        let _permits = match permits.await {
            Ok(permits) => permits,
            Err(refused) => {
                summary.series(metrics).attempt(Attempt::Saturated);
                return ControlFlow::Break(refused.into());
            }
        };
        let Some(mut timeouts) = aim::within(aim.timeouts, retries) else {
            return ControlFlow::Break(instead(fail::UPSTREAM_TIMEOUT));
        };
        // After a stale connection the pool most likely holds others of its kind.
        let fresh = tried.contains(&picked.addr);
        let begun = Instant::now();
        let up = self.connect(down, upstream, picked, request, fresh, timeouts.connect);
        let fault = match up.await {
            Err(fault) => fault,
            Ok(up) => {
                timeouts.spend_since(begun);
                let mut tap = Tap::new(
                    request.rule,
                    aim.backend,
                    request.head,
                    request.client,
                    retries,
                    bond.cookie(upstream, picked),
                );
                tap.show(summary.shows);
                tap.copy_to(request.copies.as_ref());
                let exchange = self.exchange(
                    down, up, request, &mut tap, retries, answer, &timeouts, summary,
                );
                let result = exchange.await;
                if let Some(came) = summary.progress.first_byte {
                    let took = came.duration_since(begun);
                    summary.series(metrics).first_byte(took);
                }
                let good = tap.status().map(|status| status < 500);
                if let Some(trace) = &mut summary.trace {
                    trace.attempted(tap.status());
                }
                let fault = match result {
                    Ok(end) => {
                        summary.series(metrics).attempt(Attempt::Ok);
                        upstream.report(picked, good.unwrap_or(true));
                        return ControlFlow::Break(end);
                    }
                    Err(fault) => fault,
                };
                if let (Fault::Aborted | Fault::Down(_), Some(good)) = (fault, good) {
                    upstream.report(picked, good);
                }
                if let Some(wait) = tap.again() {
                    summary.series(metrics).attempt(Attempt::Ok);
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
            summary.series(metrics).attempt(Attempt::Ok);
            return ControlFlow::Break(faulty(&fault, summary));
        }
        let (up_fault, to_blame) = match fault {
            Fault::Up(UpFault::ConnectTimeout) => {
                (UpFault::ConnectTimeout, !retries.due.client_gave_up())
            }
            Fault::Up(fault) => (fault, true),
            // A client that is slow to send its request, or in a hurry, is no fault of the endpoint.
            Fault::Total if summary.progress.answered.is_none() => {
                let read = summary.progress.request_complete;
                (UpFault::Timeout, read && !retries.due.client_gave_up())
            }
            _ => return ControlFlow::Break(faulty(&fault, summary)),
        };
        picked.endpoint.failed();
        summary.series(metrics).attempt(outcome(up_fault));
        if let Some(trace) = &mut summary.trace {
            trace.failed(outcome(up_fault).label());
        }
        if to_blame {
            upstream.report(picked, false);
        }
        let untouched = summary.progress.request_bytes == 0 || request.body.is_some();
        let again = match summary.progress.answered {
            None => retries.after_fault(upstream, up_fault, untouched),
            Some(_) => None,
        };
        match again {
            Some(wait) => ControlFlow::Continue(wait),
            None => ControlFlow::Break(faulty(&fault, summary)),
        }
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
            (Ok(()), Some(collected)) => Ok(self.judge(down, request, collected, progress).await),
            (Err(fault), collected) => {
                if collected.is_some() {
                    // What was collected has not been sent.
                    summary.progress.answered = None;
                }
                Err(fault)
            }
        }
    }
}
