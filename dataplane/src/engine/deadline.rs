//! Deadlines: one timer a connection, moved as rarely as possible.

use super::pace::PaceLimits;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::task::unconstrained;
use tokio::time::{Instant, Sleep, sleep_until};

/// How long the upstream's side of an exchange may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// A new connection, TLS included.
    pub connect: Duration,
    /// From the last byte of the request to the answer's head.
    pub first_byte: Duration,
    /// Between two bytes in either direction.
    pub stream_idle: Duration,
    /// From the head of an event stream to its first bytes.
    pub first_event: Duration,
    /// From the call of the relay to the answer's head.
    pub head: Option<Duration>,
    /// The whole exchange, from the call of the relay on; of an event stream up to its head (features.md F54).
    pub total: Option<Duration>,
    /// How slow the client may be meanwhile.
    pub pace: PaceLimits,
}

impl Timeouts {
    /// Takes the time since `begun` off what is left for the whole.
    pub fn spend_since(&mut self, begun: Instant) {
        if self.head.is_none() && self.total.is_none() {
            return;
        }
        let took = begun.elapsed();
        for limit in [&mut self.head, &mut self.total] {
            *limit = limit.map(|limit| limit.saturating_sub(took));
        }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(1),
            first_byte: Duration::from_secs(60),
            stream_idle: Duration::from_secs(90),
            first_event: Duration::from_secs(300),
            head: None,
            total: None,
            pace: PaceLimits::default(),
        }
    }
}

/// How long the client's side may take between exchanges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientTimeouts {
    /// Without a byte, before and between requests.
    pub idle: Duration,
    /// From the first byte of a head to its last, whatever comes in between.
    pub header: Duration,
    /// For an answer of ours to leave while the client takes nothing.
    pub body: Duration,
    /// For the rest of a request whose answer was early, before the connection serves another.
    pub drain: Duration,
    /// For a client to read the last answer on a connection that closes although more input came.
    pub linger: Duration,
}

impl Default for ClientTimeouts {
    fn default() -> Self {
        Self {
            idle: Duration::from_secs(75),
            header: Duration::from_secs(10),
            body: Duration::from_secs(30),
            drain: Duration::from_secs(2),
            linger: Duration::from_secs(1),
        }
    }
}

/// The deadline passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("deadline passed")]
pub struct Elapsed;

/// The one timer of a connection.
///
/// Moving a deadline back is free: the timer fires early once and goes to sleep again. Only a deadline before the
/// time for which the timer is set costs the runtime anything.
#[derive(Debug, Default)]
pub struct Timer {
    sleep: Option<Pin<Box<Sleep>>>,
    due: Option<Instant>,
    /// Whom the sleep wakes.
    waker: Option<Waker>,
}

impl Timer {
    /// Sets the deadline of the phase that begins now.
    pub fn arm(&mut self, due: Instant) {
        self.due = Some(due);
        if let Some(sleep) = &mut self.sleep
            && due < sleep.deadline()
        {
            sleep.as_mut().reset(due);
        }
    }

    /// No deadline.
    pub fn disarm(&mut self) {
        self.due = None;
    }

    /// Ready when the deadline has passed. To be polled after whatever it limits.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(due) = self.due else {
            return Poll::Pending;
        };
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(due)));
        if !sleep.is_elapsed()
            && let Some(waker) = &self.waker
            && waker.will_wake(cx.waker())
        {
            return Poll::Pending;
        }
        self.waker = Some(cx.waker().clone());
        // A task that has used up its budget would be told to come again before the sleep has taken its waker, of which
        // nothing is to be seen from here.
        while pin!(unconstrained(sleep.as_mut())).poll(cx).is_ready() {
            if sleep.deadline() >= due {
                self.due = None;
                return Poll::Ready(());
            }
            sleep.as_mut().reset(due);
        }
        Poll::Pending
    }

    /// Runs `future` for at most `limit`.
    ///
    /// # Errors
    /// [`Elapsed`] when it was not ready by then; it is dropped.
    pub async fn within<F: Future>(
        &mut self,
        limit: Duration,
        future: F,
    ) -> Result<F::Output, Elapsed> {
        let mut future = pin!(future);
        let mut armed = false;
        poll_fn(|cx| {
            if let Poll::Ready(value) = future.as_mut().poll(cx) {
                return Poll::Ready(Ok(value));
            }
            if !armed {
                self.arm(Instant::now() + limit);
                armed = true;
            }
            self.poll(cx).map(|()| Err(Elapsed))
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::task::coop::poll_proceed;
    use tokio::time::timeout;

    /// As that of a connection with many exchanges does in one turn.
    #[tokio::test(start_paused = true)]
    async fn it_wakes_a_task_that_had_used_up_its_budget() {
        let second = Duration::from_secs(1);
        let mut timer = Timer::default();
        timer.arm(Instant::now() + second);
        let mut first = true;
        let fires = poll_fn(|cx| {
            if std::mem::take(&mut first) {
                while let Poll::Ready(budget) = poll_proceed(cx) {
                    budget.made_progress();
                }
            }
            timer.poll(cx)
        });
        assert!(timeout(10 * second, fires).await.is_ok());
    }

    /// How long it takes until the timer is ready.
    async fn elapse(timer: &mut Timer) -> Duration {
        let begun = Instant::now();
        poll_fn(|cx| timer.poll(cx)).await;
        begun.elapsed()
    }

    #[tokio::test]
    async fn a_deadline_that_is_moved_passes_when_it_is_due() {
        let ms = Duration::from_millis;
        let mut timer = Timer::default();
        for (first, then) in [(10, 30), (3000, 10), (10, 10), (5, 40), (2000, 20)] {
            timer.arm(Instant::now() + ms(first));
            // Asked once before it is moved, and once again in between.
            for _ in 0..2 {
                assert!(poll_fn(|cx| Poll::Ready(timer.poll(cx).is_pending())).await);
            }
            timer.arm(Instant::now() + ms(then));
            let took = elapse(&mut timer).await;
            assert!(took >= ms(then - 1) && took < ms(1500), "{took:?}");
        }
    }

    #[tokio::test]
    async fn whoever_asked_last_is_woken() {
        let mut timer = Timer::default();
        timer.arm(Instant::now() + Duration::from_millis(20));
        let mut timer = tokio::spawn(async move {
            let pending = poll_fn(|cx| Poll::Ready(timer.poll(cx).is_pending())).await;
            assert!(pending);
            timer
        })
        .await
        .unwrap();
        // Not the task that has asked first, which has ended.
        let woken = tokio::spawn(async move { elapse(&mut timer).await });
        assert!(woken.await.unwrap() < Duration::from_millis(1500));
    }
}
