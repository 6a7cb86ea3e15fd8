//! What connected data planes find out about endpoints, put together and told to all of them (features.md F51).
//!
//! It is no part of the configuration, so that equal configurations stay equal. A [`Member`] is one data plane's stream;
//! those of other replicas of the controller are told by these ([`Board::take_others`]), so that all replicas judge by the
//! same, and a replica that is cut off by what it hears itself. Reports are only kept when they come; one task merges
//! them a moment later, however many there are.

mod merge;

use crate::publish::ReplicaStream;
use merge::{Tally, verdict};
use parking_lot::Mutex;
use prometheus::{IntCounter, IntGauge};
use prost::Message as _;
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

/// Bytes that another replica is told in one message, of the 1 MiB that it reads. What one data plane says has less.
const TOLD_BYTES: usize = 896 * 1024;
/// What a message within another takes beside itself.
const FRAME: usize = 8;

/// Endpoints by upstream and address.
type ByEndpoint<T> = BTreeMap<(Arc<str>, SocketAddr), T>;

/// Who is told of changes.
type Told = Box<dyn Fn(&[Change]) + Send + Sync>;

/// A data plane: the replica of the controller that it is connected to, and its number there. Their order is the same
/// everywhere, as they share the checks of endpoints by it.
type Name = (Arc<str>, u64);

/// See the module.
pub struct Board {
    /// Of this controller.
    replica: Arc<str>,
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
    members: BTreeMap<Name, Opinions>,
    next: u64,
    /// Counts what has been said.
    version: u64,
    /// Whom other replicas tell of, and the number of the stream that each does it on.
    told: BTreeMap<Arc<str>, (u64, Vec<Name>)>,
}

impl Inner {
    fn set(&mut self, name: Name, opinions: Option<Opinions>) {
        let before = match opinions.clone() {
            Some(opinions) => self.members.insert(name, opinions),
            None => self.members.remove(&name),
        };
        self.version += u64::from(before != opinions);
    }
}

/// What all members think together.
#[derive(Debug, Default, PartialEq)]
pub struct Outcome {
    members: Vec<Name>,
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
        Self::of_replica("", entries, omitted, changes)
    }

    /// One of several, by the name of its controller's replica.
    pub fn of_replica(
        replica: &str,
        entries: IntGauge,
        omitted: IntCounter,
        changes: impl Fn(&[Change]) + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            replica: replica.into(),
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
        let name = (Arc::clone(&self.replica), inner.next);
        inner.set(name.clone(), Some(Opinions::default()));
        drop(inner);
        self.news.notify_one();
        Member {
            board: Arc::clone(self),
            name,
        }
    }

    /// What data planes say that are connected here, when anything has been said since `seen`.
    pub fn said_here(&self, seen: &mut Option<u64>) -> Option<pb::Members> {
        self.said(seen, |replica| *replica == *self.replica)
    }

    /// What data planes say that are not connected to a replica, when anything has been said since `seen`.
    pub fn said_beside(&self, replica: &str, seen: &mut Option<u64>) -> Option<pb::Members> {
        self.said(seen, |name| name != replica)
    }

    fn said(&self, seen: &mut Option<u64>, of: impl Fn(&str) -> bool) -> Option<pb::Members> {
        let inner = self.inner.lock();
        if seen.replace(inner.version) == Some(inner.version) {
            return None;
        }
        let mut room = TOLD_BYTES;
        let members = inner.members.iter().filter(|((replica, _), _)| of(replica));
        let told = members.map_while(|((replica, number), opinions)| {
            let member = pb::Member {
                replica: replica.to_string(),
                number: *number,
                report: Some(pb::HealthReport {
                    upstreams: opinions.to_wire(),
                    omitted: opinions.omitted(),
                }),
            };
            room = room.checked_sub(member.encoded_len() + FRAME)?;
            Some(member)
        });
        Some(pb::Members {
            all: told.collect(),
        })
    }

    /// Takes what data planes of other replicas say, as another replica tells it, in place of what it has told before.
    /// `None`: its stream has ended. Where it has told something on a later stream, that counts.
    pub fn take_others(&self, from: &ReplicaStream, told: Option<&pb::Members>) {
        let all = told.map_or(&[][..], |told| &told.all);
        let mut now = BTreeMap::new();
        for member in all.iter().filter(|m| *m.replica != *self.replica) {
            let report = member.report.as_ref();
            let opinions = report.map(|r| Opinions::of_wire(&r.upstreams, r.omitted));
            let name: Name = (member.replica.as_str().into(), member.number);
            now.insert(name, opinions.unwrap_or_default());
        }
        let mut inner = self.inner.lock();
        let before = inner.told.get(&from.replica);
        if before.is_some_and(|(stream, _)| *stream > from.number) {
            return;
        }
        let before = inner.told.remove(&from.replica);
        if told.is_some() {
            let told = (from.number, now.keys().cloned().collect());
            inner.told.insert(Arc::clone(&from.replica), told);
        }
        let before = before.into_iter().flat_map(|(_, names)| names);
        for gone in before.filter(|n| !now.contains_key(n)) {
            inner.set(gone, None);
        }
        for (name, opinions) in now {
            inner.set(name, Some(opinions));
        }
        drop(inner);
        self.news.notify_one();
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
        let members: Vec<Name> = inner.members.keys().cloned().collect();
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
    name: Name,
}

impl Member {
    /// Takes what it thinks, in place of what it thought before.
    pub fn report(&self, report: &pb::HealthReport) {
        let opinions = Opinions::of_wire(&report.upstreams, report.omitted);
        self.board.omitted.inc_by(opinions.omitted().into());
        let mut inner = self.board.inner.lock();
        inner.set(self.name.clone(), Some(opinions));
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
        let index = outcome.members.iter().position(|name| *name == self.name)?;
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
        self.board.inner.lock().set(self.name.clone(), None);
        self.board.news.notify_one();
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
