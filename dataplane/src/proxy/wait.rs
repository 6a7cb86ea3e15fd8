//! Waiting for something else than the client's or the upstream's bytes: a permit, or the time for another attempt.

use super::Proxy;
use super::fail::{self, Failure};
use super::grpc;
use crate::engine::{Down, Exchange, Framing};
use crate::table::{Entry, Gate, Gates, Permit};
use std::future::{Future, pending, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Why a wait came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Vain {
    /// It took too long.
    Elapsed,
    /// The client is gone.
    Gone,
}

/// Waits for at most so long. `watch`: the request has been read to its end, so that the client can be seen to leave.
pub(super) async fn within<D: Down, F: Future>(
    down: &mut D,
    watch: bool,
    limit: Duration,
    future: F,
) -> Result<F::Output, Vain> {
    let mut future = pin!(future);
    down.timer().arm(Instant::now() + limit);
    let result = poll_fn(|cx| {
        if let std::task::Poll::Ready(value) = future.as_mut().poll(cx) {
            return std::task::Poll::Ready(Ok(value));
        }
        if watch && down.poll_gone(cx).is_ready() {
            return std::task::Poll::Ready(Err(Vain::Gone));
        }
        down.timer().poll(cx).map(|()| Err(Vain::Elapsed))
    })
    .await;
    down.timer().disarm();
    result
}

/// Lets time pass; whether the client is still there.
pub(super) async fn pause<D: Down>(down: &mut D, watch: bool, length: Duration) -> bool {
    length.is_zero() || within(down, watch, length, pending::<()>()).await != Err(Vain::Gone)
}

/// How long a request may wait in a queue.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    limit: Duration,
    /// Of the whole request.
    deadline: Option<Instant>,
}

impl Patience {
    pub(super) fn new(limit: Duration, deadline: Option<Instant>) -> Self {
        Self { limit, deadline }
    }

    fn left(&self) -> Duration {
        let deadline = self
            .deadline
            .map(|at| at.saturating_duration_since(Instant::now()));
        deadline.map_or(self.limit, |left| left.min(self.limit))
    }

    /// Whether the request as a whole has no time left.
    fn is_over(&self) -> bool {
        self.deadline.is_some_and(|at| at <= Instant::now())
    }
}

/// Why there is no permit.
#[derive(Clone, Copy, Debug)]
pub(super) enum Refused {
    Answer(Failure),
    /// The client is gone.
    Gone,
}

/// What an attempt has permits for, until this is dropped.
pub(super) type Permits = [Option<Permit>; 3];

impl Proxy {
    /// The permits of an upstream, for one attempt. `patience`: how long it may wait for a connection, within the time
    /// that the request has.
    pub(super) async fn permits<D: Down>(
        &self,
        down: &mut D,
        watch: bool,
        gates: &Gates,
        patience: Patience,
    ) -> Result<Permits, Refused> {
        let Gates {
            concurrency,
            requests,
            connections,
        } = gates;
        let mut permits = Permits::default();
        if let Some((gate, limit)) = concurrency {
            let patience = Patience::new(*limit, patience.deadline);
            permits[0] = Some(self.permit(down, watch, gate, patience).await?);
        }
        if let Some(gate) = requests {
            permits[1] = Some(self.permit(down, watch, gate, patience).await?);
        }
        if let Some(gate) = connections {
            // Its queue is part of the breaker: when it is full, there is too much under way.
            let permit = self.permit(down, watch, gate, patience).await;
            permits[2] = Some(permit.map_err(|refused| match refused {
                Refused::Answer(fail::QUEUE_FULL) => {
                    Refused::Answer(fail::UPSTREAM_CONCURRENCY_EXCEEDED)
                }
                other => other,
            })?);
        }
        Ok(permits)
    }

    /// The permit of a listener that has a gate, for all that follows.
    pub(super) async fn enter<D: Down>(
        &self,
        x: &mut Exchange<'_, D>,
        gate: &Arc<Gate>,
        limit: Duration,
    ) -> Result<Permit, Refused> {
        let watch = matches!(x.request.framing, Framing::Empty | Framing::Length(0));
        // Which rule says how much time there is in all is not known yet.
        let patience = Patience::new(limit, grpc::timeout(x.request).map(|t| Instant::now() + t));
        let permit = self.permit(&mut *x.down, watch, gate, patience).await;
        permit.map_err(|refused| match refused {
            Refused::Answer(fail::UPSTREAM_CONCURRENCY_EXCEEDED) => {
                Refused::Answer(fail::DOWNSTREAM_CONCURRENCY_EXCEEDED)
            }
            other => other,
        })
    }

    /// A permit, now or when it is this request's turn.
    pub(super) async fn permit<D: Down>(
        &self,
        down: &mut D,
        watch: bool,
        gate: &Arc<Gate>,
        patience: Patience,
    ) -> Result<Permit, Refused> {
        let waiting = match gate.enter() {
            Entry::Permitted(permit) => return Ok(permit),
            Entry::Queued(waiting) => waiting,
            Entry::Full if gate.has_queue() => return Err(Refused::Answer(fail::QUEUE_FULL)),
            Entry::Full => return Err(Refused::Answer(fail::UPSTREAM_CONCURRENCY_EXCEEDED)),
        };
        let begun = Instant::now();
        let result = within(down, watch, patience.left(), waiting).await;
        let waited = begun.elapsed().as_secs_f64();
        self.shared.metrics.queue_wait_seconds.observe(waited);
        result.map_err(|vain| match vain {
            Vain::Elapsed if patience.is_over() => Refused::Answer(fail::UPSTREAM_TIMEOUT),
            Vain::Elapsed => Refused::Answer(fail::QUEUE_TIMEOUT),
            Vain::Gone => Refused::Gone,
        })
    }
}
