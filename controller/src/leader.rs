//! Which replica writes statuses and certificates: the holder of a Lease.
//!
//! Clocks are never compared. A replica takes the Lease over only when it has seen no change of it for its whole
//! duration by its own monotonic clock, and a holder stops earlier than that, counted from the moment *before* it sent
//! the last renewal that succeeded. So there are never two, whatever is late or lost on the way.

mod leadership;

pub use leadership::Leadership;
#[cfg(test)]
pub(crate) use leadership::fake;

use std::fmt::Display;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::ObjectMeta;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::objects::{ApiError, Objects};
use crate::outage::Outage;
use leadership::Held;

/// Name of the Lease in the controller's namespace.
pub const LEASE: &str = "diolkos-leader";

/// Annotation of the Lease with the address at which its holder meets other replicas.
const ADDRESS: &str = "diolkos.io/leader-address";
/// A Lease that has not changed for this long may be taken over: statuses tell the truth again within 5 s of the death
/// of a leader, the first look of the next one at every object included.
const DURATION: Duration = Duration::from_secs(3);
/// A holder that could not renew for this long stops leading.
const RENEW_DEADLINE: Duration = Duration::from_millis(1500);
/// What is left of the duration then is for requests under way.
pub const LAST_REQUESTS: Duration = Duration::from_millis(1500);
/// Pause between two renewals.
const RENEW: Duration = Duration::from_millis(500);
/// Pause between two looks at a Lease that somebody else holds.
const LOOK: Duration = Duration::from_millis(250);
/// Longest duration that is believed of a Lease that another version wrote.
const MAX_DURATION: Duration = Duration::from_secs(120);

/// Another replica that leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leader {
    pub identity: String,
    /// `HOST:PORT` of its push channel.
    pub address: String,
}

/// Competes for the Lease.
pub struct Elector<A> {
    leases: A,
    /// Unique to this process: a restarted container must not take its predecessor's Lease for its own.
    identity: String,
    /// Where other replicas find this one; `None`: nowhere.
    address: Option<String>,
    /// The Lease as it was last read or written, and since when it is like that.
    seen: Option<(Lease, Instant)>,
    held: watch::Sender<Option<Held>>,
    /// Counts how often leading was won or lost.
    term: u64,
    leader: watch::Sender<Option<Leader>>,
    transitions: Box<dyn Fn(bool) + Send + Sync>,
    outage: Outage,
}

/// Outcome of one attempt.
#[derive(Debug, PartialEq, Eq)]
enum Attempt {
    /// Ours.
    Held,
    /// Another replica holds it.
    Follow,
}

impl<A: Objects<Lease>> Elector<A> {
    /// `name` is made unique by a suffix. `transitions` is called when leading was won or lost.
    pub fn new(
        leases: A,
        name: &str,
        transitions: impl Fn(bool) + Send + Sync + 'static,
    ) -> (Self, Leadership) {
        let (held, held_now) = watch::channel(None);
        let (leader, leader_now) = watch::channel(None);
        let identity = format!("{name}_{:08x}", rand::random::<u32>());
        let elector = Self {
            leases,
            identity,
            address: None,
            seen: None,
            held,
            term: 0,
            leader,
            transitions: Box::new(transitions),
            outage: Outage::default(),
        };
        (elector, Leadership::new(held_now, leader_now))
    }

    /// Tells other replicas where they find this one when it leads.
    #[must_use]
    pub fn at(mut self, address: Option<String>) -> Self {
        self.address = address;
        self
    }

    /// Runs until `stop`; then leading ends and the Lease is released, so that another replica takes over at once.
    /// What leads must have ended its writes before it cancels `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            let attempt = self.attempt();
            tokio::select! {
                () = attempt => {}
                () = stop.cancelled() => break,
            }
            // Spread, so that replicas do not move in step.
            let pause = match self.held.borrow().is_some() {
                true => RENEW,
                false => LOOK,
            };
            let pause = pause.mul_f64(0.9 + 0.2 * rand::random::<f64>());
            let pause = pause.min(self.left().unwrap_or(pause));
            tokio::select! {
                () = sleep(pause) => {}
                () = self.lapse() => self.lead(None),
                () = stop.cancelled() => break,
            }
        }
        let held = self.held.borrow().is_some();
        self.lead(None);
        if held {
            self.release().await;
        }
    }

    /// One attempt, given up when a held Lease lapses meanwhile.
    async fn attempt(&mut self) {
        let sent = Instant::now();
        let give_up = self.until().unwrap_or(sent + RENEW_DEADLINE);
        match timeout_at(give_up, self.take_or_renew(sent)).await {
            Ok(Ok(Attempt::Held)) => {
                self.answered();
                self.lead(Some(sent + RENEW_DEADLINE));
            }
            Ok(Ok(Attempt::Follow)) => {
                self.answered();
                self.lead(None);
            }
            // Somebody else took it, or our own late renewal arrived: the next attempt sees which.
            Ok(Err(ApiError::Conflict)) => {}
            Ok(Err(error)) => self.unanswered(&error),
            Err(_) => self.unanswered(&"the API server did not answer in time"),
        }
        if self.until().is_some_and(|until| Instant::now() >= until) {
            self.lead(None);
        }
    }

    fn answered(&mut self) {
        if let Some(after) = self.outage.ends() {
            tracing::info!(
                lease = LEASE,
                ?after,
                "the Lease can be renewed or taken again"
            );
        }
    }

    fn unanswered(&mut self, error: &dyn Display) {
        if let Some(lasting) = self.outage.fails() {
            tracing::warn!(lease = LEASE, %error, ?lasting, "cannot renew or take the Lease");
        }
    }

    async fn take_or_renew(&mut self, now: Instant) -> Result<Attempt, ApiError> {
        let Some(lease) = self.leases.get(LEASE).await? else {
            // Somebody may still act on a Lease that was deleted under him.
            if self.unexpired() {
                return Ok(Attempt::Follow);
            }
            let mut fresh = Lease {
                metadata: ObjectMeta {
                    name: Some(LEASE.into()),
                    ..ObjectMeta::default()
                },
                spec: Some(self.spec(None)),
            };
            self.say_where(&mut fresh.metadata);
            return match self.leases.create(&fresh).await {
                Ok(lease) => {
                    self.see(lease, now);
                    Ok(Attempt::Held)
                }
                Err(error) => Err(error),
            };
        };
        let ours = holder(&lease) == Some(&self.identity);
        let free = holder(&lease).is_none();
        // "Since when" is at the earliest the answer's arrival, not when it was asked for.
        self.see(lease.clone(), Instant::now());
        if !ours && !free && self.unexpired() {
            return Ok(Attempt::Follow);
        }
        let mut wanted = Lease {
            spec: Some(self.spec(lease.spec.as_ref())),
            ..lease
        };
        self.say_where(&mut wanted.metadata);
        match self.leases.replace(LEASE, &wanted).await {
            Ok(lease) => {
                self.see(lease, now);
                Ok(Attempt::Held)
            }
            Err(error) => Err(error),
        }
    }

    fn say_where(&self, metadata: &mut ObjectMeta) {
        let annotations = metadata.annotations.get_or_insert_default();
        match &self.address {
            Some(address) => annotations.insert(ADDRESS.to_owned(), address.clone()),
            None => annotations.remove(ADDRESS),
        };
    }

    /// Notes a Lease; its age begins anew when it is another version than before.
    fn see(&mut self, lease: Lease, now: Instant) {
        let another = holder(&lease).filter(|holder| **holder != self.identity);
        let address = lease.metadata.annotations.as_ref();
        let address = address.and_then(|a| a.get(ADDRESS));
        let leader = another.zip(address).map(|(identity, address)| Leader {
            identity: identity.clone(),
            address: address.clone(),
        });
        self.leader.send_if_modified(|known| {
            let news = *known != leader;
            *known = leader;
            news
        });
        let version = |l: &Lease| (l.metadata.uid.clone(), l.metadata.resource_version.clone());
        match &mut self.seen {
            Some((old, _)) if version(old) == version(&lease) => {}
            seen => *seen = Some((lease, now)),
        }
    }

    /// The Lease as last seen may still be acted upon.
    fn unexpired(&self) -> bool {
        self.left().is_some()
    }

    /// For how long the Lease as last seen may still be acted upon; `None`: not any more.
    fn left(&self) -> Option<Duration> {
        let (lease, since) = self.seen.as_ref()?;
        let written = lease.spec.as_ref().and_then(|s| s.lease_duration_seconds);
        let written = written
            .and_then(|s| u64::try_from(s).ok())
            .map(Duration::from_secs);
        let duration = written.unwrap_or(DURATION).clamp(DURATION, MAX_DURATION);
        let left = duration.checked_sub(since.elapsed());
        left.filter(|left| !left.is_zero())
    }

    fn spec(&self, old: Option<&LeaseSpec>) -> LeaseSpec {
        let now = MicroTime(Timestamp::now());
        let was_ours = old.is_some_and(|s| s.holder_identity.as_deref() == Some(&self.identity));
        let acquired = old
            .filter(|_| was_ours)
            .and_then(|s| s.acquire_time.clone());
        let transitions = old.and_then(|s| s.lease_transitions);
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: Some(DURATION.as_secs() as i32),
            acquire_time: Some(acquired.unwrap_or_else(|| now.clone())),
            renew_time: Some(now),
            lease_transitions: match transitions {
                None => Some(0),
                same if was_ours => same,
                Some(n) => Some(n.saturating_add(1)),
            },
            ..old.cloned().unwrap_or_default()
        }
    }

    /// Returns when a held Lease can no longer be acted upon; never when none is held.
    async fn lapse(&self) {
        match self.until() {
            Some(until) => tokio::time::sleep_until(until).await,
            None => std::future::pending().await,
        }
    }

    /// Until when the Lease is held.
    fn until(&self) -> Option<Instant> {
        self.held.borrow().map(|held| held.until)
    }

    /// Tells the others, and wakes them when it is news.
    fn lead(&mut self, until: Option<Instant>) {
        // They may have found out already that it has lapsed: what is renewed after that is another term.
        if until.is_some() && self.until().is_some_and(|until| Instant::now() >= until) {
            self.lead(None);
        }
        let news = self.held.borrow().is_some() != until.is_some();
        self.term += u64::from(news);
        let term = self.term;
        self.held.send_if_modified(|held| {
            *held = until.map(|until| Held { until, term });
            news
        });
        if news {
            tracing::info!(
                lease = LEASE,
                identity = self.identity,
                leads = until.is_some(),
                "leadership changed"
            );
            (self.transitions)(until.is_some());
        }
    }

    /// Gives the Lease back, if it is still ours. Failing is harmless: it expires.
    async fn release(&mut self) {
        let Some((mut lease, _)) = self.seen.take() else {
            return;
        };
        if holder(&lease) != Some(&self.identity) {
            return;
        }
        if let Some(spec) = &mut lease.spec {
            spec.holder_identity = None;
        }
        let released = timeout_at(
            Instant::now() + RENEW_DEADLINE,
            self.leases.replace(LEASE, &lease),
        )
        .await;
        if !matches!(released, Ok(Ok(_))) {
            tracing::debug!(lease = LEASE, "the Lease could not be released; it expires");
        }
    }
}

/// Who holds a Lease; a released one has an empty or no holder.
fn holder(lease: &Lease) -> Option<&String> {
    let spec = lease.spec.as_ref()?;
    spec.holder_identity.as_ref().filter(|h| !h.is_empty())
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;
    use crate::objects::fake::Fake;

    struct Replica {
        leadership: Leadership,
        stop: CancellationToken,
    }

    fn start(leases: &Fake<Lease>, name: &str) -> Replica {
        let (elector, leadership) = Elector::new(leases.clone(), name, |_| {});
        let stop = CancellationToken::new();
        tokio::spawn(elector.run(stop.clone()));
        Replica { leadership, stop }
    }

    async fn leads(replica: &mut Replica) {
        while !replica.leadership.holds() {
            replica.leadership.changed().await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_leads_and_hands_over_when_it_stops() {
        let leases = Fake::reliable();
        let mut a = start(&leases, "a");
        leads(&mut a).await;
        let mut b = start(&leases, "b");
        sleep(Duration::from_secs(60)).await;
        assert!(a.leadership.holds() && !b.leadership.holds());

        let began = Instant::now();
        a.stop.cancel();
        leads(&mut b).await;
        assert!(!a.leadership.holds());
        assert!(
            began.elapsed() < LOOK * 2,
            "a released Lease is free at once"
        );
        let spec = leases.peek(LEASE).unwrap().spec.unwrap();
        assert!(spec.holder_identity.unwrap().starts_with("b_"));
        assert_eq!(spec.lease_transitions, Some(1));
    }

    #[tokio::test(start_paused = true)]
    async fn who_follows_knows_where_the_leader_is() {
        let leases = Fake::reliable();
        let (elector, mut a) = Elector::new(leases.clone(), "a", |_| {});
        let stop = CancellationToken::new();
        let elector = elector.at(Some("10.0.0.1:18000".to_owned()));
        tokio::spawn(elector.run(stop.clone()));
        a.changed().await;
        assert!(a.holds() && a.leader().is_none());
        let mut b = start(&leases, "b");
        b.leadership.leader_changed().await;
        assert_eq!(b.leadership.leader().unwrap().address, "10.0.0.1:18000");
        // One that says nothing of it takes the address away.
        stop.cancel();
        leads(&mut b).await;
        assert!(b.leadership.leader().is_none());
        let annotations = leases.peek(LEASE).unwrap().metadata.annotations;
        assert!(annotations.unwrap_or_default().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_dead_holder_is_followed_after_the_duration() {
        let leases = Fake::reliable();
        let (elector, leadership) = Elector::new(leases.clone(), "a", |_| {});
        let running = tokio::spawn(elector.run(CancellationToken::new()));
        let mut b = start(&leases, "b");
        sleep(Duration::from_secs(30)).await;
        assert!(leadership.holds());
        running.abort();
        let began = Instant::now();
        leads(&mut b).await;
        assert!(began.elapsed() > DURATION - RENEW * 2);
        assert!(began.elapsed() < DURATION + LOOK * 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_holder_stops_when_it_cannot_renew() {
        let leases = Fake::<Lease>::new(1, Duration::from_millis(10), 0.0);
        let mut a = start(&leases, "a");
        leads(&mut a).await;
        leases.lose_everything();
        let began = Instant::now();
        while a.leadership.holds() {
            sleep(Duration::from_millis(100)).await;
        }
        assert!(began.elapsed() <= RENEW_DEADLINE);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_renewed_too_late_is_another_term() {
        let (mut elector, mut leadership) = Elector::new(Fake::reliable(), "a", |_| {});
        let soon = |seconds| Some(Instant::now() + Duration::from_secs(seconds));
        elector.lead(soon(1));
        leadership.changed().await;
        let term = leadership.term().unwrap();
        sleep(Duration::from_millis(500)).await;
        elector.lead(soon(1));
        sleep(Duration::from_millis(900)).await;
        assert_eq!(leadership.term(), Some(term));
        sleep(Duration::from_millis(100)).await;
        assert_eq!(leadership.term(), None);
        elector.lead(soon(1));
        let told = tokio::time::timeout(Duration::from_secs(9), leadership.changed());
        told.await.expect("it is news");
        assert_ne!(leadership.term().unwrap(), term);
    }

    #[tokio::test(start_paused = true)]
    async fn a_deleted_lease_does_not_make_a_second_leader() {
        let leases = Fake::reliable();
        let mut a = start(&leases, "a");
        leads(&mut a).await;
        let mut b = start(&leases, "b");
        sleep(RENEW * 2).await;
        leases.delete(LEASE);
        for _ in 0..400 {
            assert!(!(a.leadership.holds() && b.leadership.holds()));
            sleep(Duration::from_millis(100)).await;
        }
        tokio::select! { () = leads(&mut a) => {}, () = leads(&mut b) => {} }
    }

    /// Three replicas that are killed, stopped and started at random, on a network that delays and loses requests and
    /// answers: at no moment do two of them hold.
    #[tokio::test(start_paused = true)]
    async fn never_two_leaders() {
        for seed in 0..48 {
            let mut random = StdRng::seed_from_u64(seed);
            let delay = Duration::from_millis(random.random_range(1..800));
            let leases = Fake::new(seed, delay, random.random_range(0.0..0.3));
            let mut replicas: Vec<_> = (0..3).map(|n| start(&leases, &format!("r{n}"))).collect();
            let mut led = 0;
            for step in 0..6000 {
                sleep(Duration::from_millis(100)).await;
                let holding = replicas.iter().filter(|r| r.leadership.holds()).count();
                assert!(holding <= 1, "seed {seed}, step {step}");
                led += holding;
                if random.random_bool(0.005) {
                    let n = random.random_range(0..replicas.len());
                    replicas[n].stop.cancel();
                    // What leads is told at once; the release may still be on its way.
                    replicas[n] = start(&leases, &format!("r{n}"));
                }
            }
            assert!(led > 0, "seed {seed}: somebody leads");
            replicas.iter().for_each(|r| r.stop.cancel());
        }
    }
}
