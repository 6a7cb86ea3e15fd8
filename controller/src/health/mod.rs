//! What connected data planes find out about endpoints, put together and told to all of them (features.md F51).
//!
//! It is no part of the configuration: every replica of the controller has its own, made of what the data planes
//! connected to it say, so that equal configurations stay equal. A [`Member`] is one data plane's stream. Reports are
//! only kept when they come; one task merges them a moment later, however many there are.

mod merge;

use merge::{Tally, verdict};
use parking_lot::Mutex;
use prometheus::{IntCounter, IntGauge};
use snapshot::health::{Opinion, Opinions};
use snapshot::pb;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

/// Reports that come within this time are merged together.
const GATHER: Duration = Duration::from_millis(100);
/// How long a verdict holds after it was last confirmed: for data planes that hear nothing more of it, and here when
/// all who said it are gone.
pub const TTL: Duration = Duration::from_secs(45);

/// Endpoints by upstream and address.
type ByEndpoint<T> = BTreeMap<(Arc<str>, SocketAddr), T>;

/// Who is told of changes.
type Told = Box<dyn Fn(&[Change]) + Send + Sync>;

/// See the module.
pub struct Board {
    inner: Mutex<Inner>,
    news: Notify,
    /// What is thought together, and by whom.
    outcome: watch::Sender<Arc<Outcome>>,
    told: Told,
    entries: IntGauge,
    /// What of it is ours.
    counted: AtomicI64,
    omitted: IntCounter,
}

#[derive(Default)]
struct Inner {
    members: BTreeMap<u64, Opinions>,
    next: u64,
}

/// What all members think together.
#[derive(Debug, Default, PartialEq)]
pub struct Outcome {
    members: Vec<u64>,
    unhealthy: Opinions,
}

/// An endpoint works no longer, or works again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Key of the upstream resource.
    pub upstream: Arc<str>,
    pub endpoint: SocketAddr,
    /// Why it does not work; `None`: it works again.
    pub unhealthy: Option<Opinion>,
}

/// What is known of an endpoint.
struct Known {
    verdict: Opinion,
    until: Instant,
}

impl Board {
    /// `entries`: what members have reported. `omitted`: endpoints that did not fit into their reports. `changes` is
    /// told when a verdict changes.
    pub fn new(
        entries: IntGauge,
        omitted: IntCounter,
        changes: impl Fn(&[Change]) + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            inner: Mutex::default(),
            news: Notify::new(),
            outcome: watch::Sender::default(),
            told: Box::new(changes),
            entries,
            counted: AtomicI64::new(0),
            omitted,
        })
    }

    /// Endpoints that get no requests.
    pub fn unhealthy(&self) -> Opinions {
        self.outcome.borrow().unhealthy.clone()
    }

    /// A data plane that reports from now on.
    pub fn join(self: &Arc<Self>) -> Member {
        let mut inner = self.inner.lock();
        inner.next += 1;
        let id = inner.next;
        inner.members.insert(id, Opinions::default());
        drop(inner);
        self.news.notify_one();
        Member {
            board: Arc::clone(self),
            id,
        }
    }

    /// Merges what is reported, until `stop`.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut known = ByEndpoint::new();
        loop {
            let ends = known.values().map(|k: &Known| k.until).min();
            let expiry = async {
                match ends {
                    Some(until) => sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.news.notified() => sleep(GATHER).await,
                () = expiry => {}
            }
            let changes = self.merge(&mut known, Instant::now());
            for change in &changes {
                change.log();
            }
            if !changes.is_empty() {
                (self.told)(&changes);
            }
        }
    }

    fn merge(&self, known: &mut ByEndpoint<Known>, now: Instant) -> Vec<Change> {
        let inner = self.inner.lock();
        let members: Vec<u64> = inner.members.keys().copied().collect();
        let mut tallies = ByEndpoint::<Tally>::new();
        let mut entries = 0;
        for opinions in inner.members.values() {
            entries += opinions.len();
            for (upstream, endpoint, opinion) in opinions.iter() {
                let key = (Arc::clone(upstream), endpoint);
                tallies.entry(key).or_default().count(opinion);
            }
        }
        drop(inner);
        // Other groups have boards of their own, and all count together.
        let entries = i64::try_from(entries).unwrap_or(i64::MAX);
        let before = self.counted.swap(entries, Ordering::Relaxed);
        self.entries.add(entries.saturating_sub(before));
        for key in known.keys() {
            tallies.entry(key.clone()).or_default();
        }
        let mut changes = Vec::new();
        for (key, tally) in tallies {
            let before = known.get(&key).map(|k| k.verdict);
            let live = known.get(&key).filter(|k| k.until > now);
            let stands = live.is_some() || tally.has_failed_checks();
            let after = verdict(before.filter(|_| stands), tally, members.len());
            if before.is_some() != after.is_some() {
                changes.push(Change {
                    upstream: Arc::clone(&key.0),
                    endpoint: key.1,
                    unhealthy: after,
                });
            }
            match (after, live) {
                (None, _) => drop(known.remove(&key)),
                // Nobody confirms it: its time goes on running.
                (Some(Opinion::FailsChecks), Some(_)) if !tally.has_failed_checks() => {}
                (Some(verdict), _) => {
                    let until = now + TTL;
                    known.insert(key, Known { verdict, until });
                }
            }
        }
        let mut unhealthy = Opinions::default();
        for ((upstream, endpoint), known) in known.iter() {
            unhealthy.insert(upstream, *endpoint, known.verdict);
        }
        self.omitted.inc_by(unhealthy.omitted().into());
        let outcome = Outcome { members, unhealthy };
        self.outcome.send_if_modified(|before| {
            let news = **before != outcome;
            if news {
                *before = Arc::new(outcome);
            }
            news
        });
        changes
    }
}

impl Change {
    fn log(&self) {
        let (upstream, endpoint) = (&*self.upstream, self.endpoint);
        match self.unhealthy {
            Some(opinion) => {
                let reason = reason(opinion);
                tracing::warn!(event = "backend_unhealthy", upstream, %endpoint, reason, "data planes agree that an endpoint does not work");
            }
            None => {
                tracing::info!(event = "backend_healthy", upstream, %endpoint, "an endpoint works again");
            }
        }
    }
}

/// As logs and Events have it.
pub(crate) fn reason(opinion: Opinion) -> &'static str {
    match opinion {
        Opinion::FailsChecks => "active_check",
        Opinion::Ejected | Opinion::PassesChecks => "failed_requests",
    }
}

/// A data plane that reports; it leaves when dropped.
pub struct Member {
    board: Arc<Board>,
    id: u64,
}

impl Member {
    /// Takes what it thinks, in place of what it thought before.
    pub fn report(&self, report: &pb::HealthReport) {
        let opinions = Opinions::of_wire(&report.upstreams, report.omitted);
        self.board.omitted.inc_by(opinions.omitted().into());
        let mut inner = self.board.inner.lock();
        inner.members.insert(self.id, opinions);
        drop(inner);
        self.board.news.notify_one();
    }

    /// Ticks when there is something new to tell it.
    pub fn subscribe(&self) -> watch::Receiver<Arc<Outcome>> {
        self.board.outcome.subscribe()
    }

    /// What it is to be told; `None`: it has joined only now. One alone hears nothing of what it has said itself.
    pub fn verdicts(&self) -> Option<pb::Verdicts> {
        let outcome = Arc::clone(&self.board.outcome.borrow());
        let index = outcome.members.iter().position(|id| *id == self.id)?;
        let count = outcome.members.len();
        Some(pb::Verdicts {
            index: u32::try_from(index).ok()?,
            count: u32::try_from(count).ok()?,
            ttl_ms: u32::try_from(TTL.as_millis()).ok()?,
            upstreams: match count {
                0 | 1 => Vec::new(),
                _ => outcome.unhealthy.to_wire(),
            },
        })
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        self.entries.sub(self.counted.load(Ordering::Relaxed));
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.board.inner.lock().members.remove(&self.id);
        self.board.news.notify_one();
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
