//! Whether an attempt is followed by another, and when (features.md F55, F56).

use super::Proxy;
use super::due::Due;
use super::forward::Request;
use super::replay::Replay;
use crate::engine::{ResponseHead, UpFault};
use crate::table::pick::draw;
use crate::table::{Upstream, budget};
use crate::telemetry::metrics::Retried;
use model::Retry;
use std::cell::Cell;
use std::time::Duration;
use tokio::time::Instant;

/// What is decided about the attempts at one request.
pub(super) struct Retries<'a> {
    proxy: &'a Proxy,
    /// `None`: the rule has no block.
    settings: Option<&'a Retry>,
    idempotent: bool,
    pub(super) due: Due,
    /// Attempts that have been made.
    made: Cell<u32>,
    /// Where the body was not read before and more than one attempt may need it.
    pub(super) replay: Option<Replay>,
}

impl<'a> Retries<'a> {
    pub(super) fn new(
        proxy: &'a Proxy,
        settings: Option<&'a Retry>,
        request: &Request<'_>,
    ) -> Self {
        let repeats = settings.is_some_and(|s| s.attempts > 0);
        let streams = request.body.is_none() && request.has_body();
        Self {
            proxy,
            settings,
            idempotent: request.head.method.is_idempotent(),
            due: request.due,
            made: Cell::new(0),
            replay: (repeats && streams).then(Replay::default),
        }
    }

    /// An attempt begins.
    pub(super) fn begin(&self) {
        self.made.set(self.made.get() + 1);
    }

    /// How long one attempt may take up to its answer's head.
    pub(super) fn per_try(&self) -> Option<Duration> {
        let millis = self.settings.map_or(0, |s| s.per_try_ms);
        (millis > 0).then(|| Duration::from_millis(millis.into()))
    }

    /// How long to wait before the request is tried again after this fault; `None`: it is not. Nothing of an answer
    /// has reached the client. `untouched`: nothing of the body was taken from the client, or all of it was read
    /// before.
    pub(super) fn after_fault(
        &self,
        upstream: &Upstream,
        fault: UpFault,
        untouched: bool,
    ) -> Option<Duration> {
        let harmless = fault.is_before_sending();
        let stale = fault.is_stale_connection();
        let unprocessed = fault.is_unprocessed();
        let wanted = match self.settings {
            None => harmless || stale || unprocessed,
            Some(Retry { on, .. }) => match fault {
                UpFault::ConnectTimeout => on.connect_failure || self.repeats_timeouts(),
                _ if harmless => on.connect_failure,
                _ if stale || unprocessed => on.reused_connection || on.reset,
                UpFault::Timeout => self.repeats_timeouts(),
                _ => on.reset,
            },
        };
        if !wanted
            || !(harmless || unprocessed || self.may_repeat())
            || !(untouched || self.has_body())
        {
            return None;
        }
        let reason = match fault {
            UpFault::Timeout | UpFault::ConnectTimeout => Retried::Timeout,
            _ if harmless => Retried::Connect,
            _ if stale || unprocessed => Retried::ReusedConnection,
            _ => Retried::Reset,
        };
        self.allow(upstream, None, reason)
    }

    /// The same for an answer that has come, which is thrown away then.
    pub(super) fn after_answer(
        &self,
        upstream: &Upstream,
        answer: &ResponseHead,
    ) -> Option<Duration> {
        if answer.is_switching() || !self.repeats(answer.status) {
            return None;
        }
        // With a block the body was read before, is kept, or there is none.
        let here = self.replay.as_ref().is_none_or(Replay::is_whole);
        if !here || !self.may_repeat() {
            return None;
        }
        let asked = answer.headers.get("retry-after").and_then(seconds);
        self.allow(upstream, asked, Retried::Status)
    }

    fn may_repeat(&self) -> bool {
        self.idempotent || self.settings.is_some_and(|s| s.on.non_idempotent)
    }

    /// Whether what was taken of the body is here.
    fn has_body(&self) -> bool {
        self.replay.as_ref().is_some_and(Replay::is_whole)
    }

    fn repeats(&self, status: u16) -> bool {
        let ranges = self.settings.map_or(&[][..], |s| &s.on.statuses);
        ranges
            .iter()
            .any(|(from, to)| (*from..=*to).contains(&status))
    }

    /// 504 is what a client would get for an attempt that took too long.
    fn repeats_timeouts(&self) -> bool {
        self.settings.is_some_and(|s| s.on.timeout) || self.repeats(504)
    }

    /// The wait before another attempt, if there may be one.
    fn allow(
        &self,
        upstream: &Upstream,
        asked: Option<Duration>,
        reason: Retried,
    ) -> Option<Duration> {
        let more = self.settings.map_or(1, |s| s.attempts);
        if self.made.get() > more {
            return None;
        }
        let wait = self.wait(asked);
        if self.due.at.is_some_and(|at| Instant::now() + wait >= at) {
            return None;
        }
        let percent = self.settings.map(|s| s.budget_percent.into());
        let percent = percent.unwrap_or(budget::PERCENT);
        let within = upstream.may_retry(percent);
        let metrics = &self.proxy.shared.metrics;
        metrics.retried(if within { reason } else { Retried::Budget });
        within.then_some(wait)
    }

    /// Without a block: at once. `asked`: what the upstream wants, which counts up to the longest wait.
    fn wait(&self, asked: Option<Duration>) -> Duration {
        let Some(settings) = self.settings else {
            return Duration::ZERO;
        };
        let mut wait = backoff(settings, self.made.get());
        if settings.jitter {
            let micros = usize::try_from(wait.as_micros()).unwrap_or(usize::MAX - 1);
            wait = Duration::from_micros(draw::below(micros + 1) as u64);
        }
        let most = Duration::from_millis(settings.max_ms.into());
        wait.max(asked.unwrap_or_default().min(most))
    }
}

/// Before the attempt that follows so many.
fn backoff(settings: &Retry, made: u32) -> Duration {
    let factor = f64::from(settings.multiplier_percent) / 100.0;
    // There are never that many attempts; the bound keeps the number finite.
    let exponent = i32::try_from(made.saturating_sub(1)).map_or(64, |n| n.min(64));
    let millis = f64::from(settings.initial_ms) * factor.powi(exponent);
    let millis = millis.clamp(0.0, settings.max_ms.into());
    Duration::from_secs_f64(millis / 1000.0)
}

/// A `Retry-After` in seconds. Dates are not understood: the backoff applies.
fn seconds(value: &[u8]) -> Option<Duration> {
    let text = std::str::from_utf8(value).ok()?;
    text.trim().parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::RetryOn;

    #[test]
    fn waits_grow_up_to_the_maximum() {
        let mut settings = Retry {
            attempts: 9,
            on: RetryOn::default(),
            initial_ms: 1000,
            max_ms: 10_000,
            multiplier_percent: 200,
            jitter: false,
            per_try_ms: 0,
            budget_percent: 20,
        };
        let waits = |settings: &Retry| -> Vec<u128> {
            (1..=6)
                .map(|made| backoff(settings, made).as_millis())
                .collect()
        };
        assert_eq!(waits(&settings), [1000, 2000, 4000, 8000, 10_000, 10_000]);
        assert_eq!(backoff(&settings, u32::MAX).as_millis(), 10_000);
        settings.initial_ms = 0;
        assert_eq!(waits(&settings), [0; 6]);
        assert_eq!(backoff(&settings, u32::MAX).as_millis(), 0);
    }

    #[test]
    fn retry_after_in_seconds() {
        assert_eq!(seconds(b" 3 "), Some(Duration::from_secs(3)));
        assert_eq!(seconds(b"Wed, 21 Oct 2026 07:28:00 GMT"), None);
        assert_eq!(seconds(b"-1"), None);
        assert_eq!(seconds(b"99999999999999999999999"), None);
    }
}
