//! What those know of the Lease whose work depends on it.

use std::future::{Future, pending};

use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

use super::{LAST_REQUESTS, Leader};

/// A time of leading.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    pub(super) until: Instant,
    /// Which one it is.
    pub(super) term: u64,
}

/// Whether this replica leads.
#[derive(Clone, Debug)]
pub struct Leadership {
    held: watch::Receiver<Option<Held>>,
    leader: watch::Receiver<Option<Leader>>,
    /// Then it is over, for whoever was given this.
    stop: CancellationToken,
}

impl Leadership {
    pub(super) fn new(
        held: watch::Receiver<Option<Held>>,
        leader: watch::Receiver<Option<Leader>>,
    ) -> Self {
        let stop = CancellationToken::new();
        Self { held, leader, stop }
    }

    /// The same for work that ends at `stop`, however long the Lease is held.
    #[must_use]
    pub fn ending(self, stop: &CancellationToken) -> Self {
        let stop = stop.clone();
        Self { stop, ..self }
    }

    /// True while the Lease is held for certain. Asked before each write: a process that was paused finds that its time
    /// has passed, though nothing has told it.
    pub fn holds(&self) -> bool {
        self.term().is_some()
    }

    /// Which time of leading this is; `None`: this replica does not lead. What is remembered from another term another
    /// leader may have changed since.
    pub fn term(&self) -> Option<u64> {
        let held = (*self.held.borrow())?;
        let holds = Instant::now() < held.until && !self.stop.is_cancelled();
        holds.then_some(held.term)
    }

    /// Has a request to the API server begin only while the Lease is held, and gives it up before another leader may
    /// make its own. `None`: it has not begun, or what came of it is not known.
    pub async fn request<T>(&self, request: impl Future<Output = T>) -> Option<T> {
        if !self.holds() {
            return None;
        }
        let too_late = async {
            self.lost().await;
            sleep(LAST_REQUESTS).await;
        };
        tokio::select! {
            answer = request => Some(answer),
            () = too_late => None,
        }
    }

    /// Who else leads, as far as it is known and says where it is.
    pub fn leader(&self) -> Option<Leader> {
        self.leader.borrow().clone()
    }

    /// Returns when another [`Self::leader`] has become known. Never returns after the elector ended.
    pub async fn leader_changed(&mut self) {
        if self.leader.changed().await.is_err() {
            pending::<()>().await;
        }
    }

    /// Returns when leading was won or lost, as [`Leadership::holds`] then says. Never returns after the elector ended
    /// without holding.
    pub async fn changed(&mut self) {
        if self.held.changed().await.is_err() {
            pending::<()>().await;
        }
    }

    /// Returns when [`Self::holds`] is false.
    async fn lost(&self) {
        let mut held = self.held.clone();
        let lapsed = async {
            loop {
                let Some(Held { until, .. }) = *held.borrow_and_update() else {
                    return;
                };
                if Instant::now() >= until {
                    return;
                }
                // Nothing tells of a renewal. Without an elector there is none.
                if let Ok(Err(_)) = timeout_at(until, held.changed()).await {
                    sleep_until(until).await;
                }
            }
        };
        self.stop.run_until_cancelled(lapsed).await;
    }
}

/// A Lease that tests give and take.
#[cfg(test)]
pub(crate) mod fake {
    use std::time::Duration;

    use super::*;

    pub(crate) struct Crown {
        held: watch::Sender<Option<Held>>,
        _leader: watch::Sender<Option<Leader>>,
    }

    fn for_long(term: u64) -> Held {
        let until = Instant::now() + Duration::from_secs(86_400);
        Held { until, term }
    }

    impl Crown {
        /// Held, until something else is said.
        pub(crate) fn new() -> (Self, Leadership) {
            let (held, held_now) = watch::channel(Some(for_long(1)));
            let (leader, leader_now) = watch::channel(None);
            let crown = Self {
                held,
                _leader: leader,
            };
            (crown, Leadership::new(held_now, leader_now))
        }

        pub(crate) fn win(&self, term: u64) {
            self.held.send_replace(Some(for_long(term)));
        }

        pub(crate) fn lose(&self) {
            self.held.send_replace(None);
        }

        /// As a renewal does it: nobody is told, and it lapses after that time.
        pub(crate) fn lapse_in(&self, left: Duration) {
            self.held.send_if_modified(|held| {
                if let Some(held) = held {
                    held.until = Instant::now() + left;
                }
                false
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::fake::Crown;
    use super::*;

    /// A request that is never answered is given up after this time.
    async fn given_up_after(leadership: &Leadership, expected: Duration) {
        let began = Instant::now();
        assert_eq!(leadership.request(pending::<()>()).await, None);
        let after = began.elapsed();
        let grain = Duration::from_millis(5);
        assert!(expected <= after && after < expected + grain, "{after:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_outlasts_neither_the_lease_nor_the_work() {
        let (crown, leadership) = Crown::new();
        assert_eq!(leadership.request(async { 1 }).await, Some(1));
        // Renewed once, and then no more.
        let second = Duration::from_secs(1);
        crown.lapse_in(second);
        let lapse = async {
            sleep(second / 2).await;
            crown.lapse_in(second);
        };
        let expected = second + second / 2 + LAST_REQUESTS;
        tokio::join!(given_up_after(&leadership, expected), lapse);
        // It does not begin any more.
        assert_eq!(leadership.request(async { 1 }).await, None);

        crown.win(2);
        let lost = async {
            sleep(second).await;
            crown.lose();
        };
        let expected = second + LAST_REQUESTS;
        tokio::join!(given_up_after(&leadership, expected), lost);

        crown.win(3);
        let stop = CancellationToken::new();
        let ending = leadership.clone().ending(&stop);
        let stopped = async {
            sleep(second).await;
            stop.cancel();
        };
        tokio::join!(given_up_after(&ending, expected), stopped);
        assert_eq!(ending.request(async { 1 }).await, None);
        assert!(leadership.holds(), "for others it goes on");
    }
}
