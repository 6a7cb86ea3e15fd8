//! The one owner of world and translator, on a thread of its own: translating never delays a heartbeat or a renewal.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant as Clock};
use std::{future, io};

use serde_json::{Map, Value};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};

use super::gate::Gate;
use super::pacer::{Batch, Pacer};
use super::{Event, unix_ns};
use crate::metrics::Metrics;
use crate::publish::Publisher;
use crate::report::Programmed;
use crate::status::{Queue, Written};
use crate::translate::Translator;
use crate::world::{ObjectId, ObjectKind, World};

/// A question to the owner of the world.
enum Ask {
    /// All objects with a status of ours.
    Ids(oneshot::Sender<Vec<ObjectId>>),
    /// The statuses that some objects should have.
    Statuses(Vec<ObjectId>, oneshot::Sender<Vec<Wanted>>),
    /// Bring the gauges up to date that cost a walk over all objects.
    Count(oneshot::Sender<()>),
    /// All statuses by `Kind/namespace/name`.
    All(oneshot::Sender<Map<String, Value>>),
}

/// The status that an object should have.
#[derive(Debug)]
pub struct Wanted {
    pub id: ObjectId,
    /// Without times; `None`: there is no such object any more.
    pub status: Option<Value>,
    /// It changes when data planes answer.
    pub waits: bool,
}

/// Asks the world task. Answers are empty after it has ended.
#[derive(Clone)]
pub struct WorldHandle {
    asks: mpsc::Sender<Ask>,
    missing: watch::Receiver<Vec<ObjectKind>>,
}

impl WorldHandle {
    /// All objects with a status of ours.
    pub async fn ids(&self) -> Vec<ObjectId> {
        self.ask(Ask::Ids).await
    }

    /// The statuses that these objects should have now.
    pub async fn statuses(&self, ids: Vec<ObjectId>) -> Vec<Wanted> {
        self.ask(|reply| Ask::Statuses(ids, reply)).await
    }

    /// All statuses by `Kind/namespace/name`.
    pub async fn all(&self) -> Map<String, Value> {
        self.ask(Ask::All).await
    }

    /// Brings those gauges up to date that cost a walk over all objects.
    pub async fn count(&self) {
        self.ask(Ask::Count).await;
    }

    /// Kinds whose first list is waited for; empty once everything is known.
    pub fn missing(&self) -> Vec<ObjectKind> {
        self.missing.borrow().clone()
    }

    async fn ask<T: Default>(&self, ask: impl FnOnce(oneshot::Sender<T>) -> Ask) -> T {
        let (reply, answer) = oneshot::channel();
        if self.asks.send(ask(reply)).await.is_err() {
            return T::default();
        }
        answer.await.unwrap_or_default()
    }
}

/// What the world task works with.
pub struct WorldTask {
    pub publisher: Arc<Publisher>,
    pub queue: Arc<Queue>,
    pub written: Arc<Written>,
    pub metrics: Arc<Metrics>,
    pub sync_timeout: Duration,
}

impl WorldTask {
    /// Starts the thread. It ends when nobody sends events any more; the second value resolves then, or when it
    /// panics.
    ///
    /// # Errors
    /// No thread or no timer can be made.
    pub fn start(
        self,
        events: mpsc::Receiver<Event>,
    ) -> io::Result<(WorldHandle, oneshot::Receiver<()>)> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()?;
        let (asks, questions) = mpsc::channel(64);
        let (missing_now, missing) = watch::channel(ObjectKind::ALL.to_vec());
        let (ended, end) = oneshot::channel();
        thread::Builder::new().name("world".into()).spawn(move || {
            // Dropped at the end, however it comes.
            let _ended = ended;
            let gate = runtime.block_on(async { Gate::new(Instant::now(), self.sync_timeout) });
            let owner = Owner {
                world: World::default(),
                translator: Translator::default(),
                gate,
                pacer: Pacer::default(),
                counts: BTreeMap::new(),
                missing: missing_now,
                open: false,
                with: self,
            };
            runtime.block_on(owner.run(events, questions));
        })?;
        Ok((WorldHandle { asks, missing }, end))
    }
}

struct Owner {
    world: World,
    translator: Translator,
    gate: Gate,
    pacer: Pacer,
    counts: BTreeMap<ObjectKind, i64>,
    missing: watch::Sender<Vec<ObjectKind>>,
    open: bool,
    with: WorldTask,
}

impl Owner {
    async fn run(mut self, mut events: mpsc::Receiver<Event>, mut asks: mpsc::Receiver<Ask>) {
        loop {
            tokio::select! {
                biased;
                // What waits must not wait for ever, even when events never stop; otherwise those that are there
                // already come first.
                () = until(self.pacer.latest()), if self.open => self.flush(),
                Some(ask) = asks.recv() => self.answer(ask),
                event = events.recv() => match event {
                    Some(event) => self.take(event),
                    None => return,
                },
                () = until(self.pacer.due()), if self.open => self.flush(),
                () = sleep_until(self.gate.patience()), if !self.open && Instant::now() < self.gate.patience() => {
                    self.look_at_gate();
                }
            }
        }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Apply { object, at } => {
                let id = object.id.clone();
                let is_new = !self.world.contains(&id);
                if self.world.apply(*object) {
                    if is_new {
                        self.count(id.kind, 1);
                    }
                    self.changed(id, at);
                }
            }
            Event::Delete { id, at } => self.remove(id, at),
            Event::Listed { kind, ids } => {
                let gone = self.world.of_kind(kind).filter(|o| !ids.contains(&o.id));
                let gone: Vec<ObjectId> = gone.map(|o| o.id.clone()).collect();
                for id in gone {
                    self.remove(id, unix_ns());
                }
                self.gate.listed(kind);
                self.look_at_gate();
            }
            Event::Absent(kind) => {
                self.gate.absent(kind);
                self.look_at_gate();
            }
            Event::Forbidden(kind) => {
                self.gate.forbidden(kind);
                self.look_at_gate();
            }
        }
    }

    fn remove(&mut self, id: ObjectId, at: u64) {
        self.with.written.forget(&id);
        if self.world.remove(&id) {
            self.count(id.kind, -1);
            self.changed(id, at);
        }
    }

    fn count(&mut self, kind: ObjectKind, change: i64) {
        let count = self.counts.entry(kind).or_default();
        *count += change;
        self.with
            .metrics
            .objects
            .with_label_values(&[kind.name()])
            .set(*count);
    }

    fn changed(&mut self, id: ObjectId, at: u64) {
        // Before the gate opens everything is dirty anyway.
        if self.open {
            self.pacer.note(id, at, Instant::now());
        }
    }

    fn look_at_gate(&mut self) {
        if self.open {
            return;
        }
        let now = Instant::now();
        let missing: Vec<ObjectKind> = self.gate.missing(now).collect();
        self.open = missing.is_empty();
        if !self.open && now >= self.gate.patience() {
            let kinds: Vec<&str> = missing.iter().map(|k| k.name()).collect();
            tracing::error!(
                ?kinds,
                "nothing is published: these kinds could not be listed"
            );
        }
        if self.open {
            let ids: BTreeSet<ObjectId> = self.world.ids().cloned().collect();
            tracing::info!(objects = ids.len(), "everything is listed");
            self.translate(Batch { ids, at: unix_ns() }, "full");
        }
        self.missing.send_replace(missing);
    }

    fn flush(&mut self) {
        while let Some(batch) = self.pacer.take(Instant::now()) {
            self.translate(batch, "incremental");
        }
    }

    fn translate(&mut self, batch: Batch, mode: &str) {
        let metrics = &self.with.metrics;
        let stage = |stage, seconds| {
            metrics
                .propagation
                .with_label_values(&[stage])
                .observe(seconds)
        };
        if mode == "incremental" {
            stage("watch", unix_ns().saturating_sub(batch.at) as f64 / 1e9);
        }
        let began = Clock::now();
        let delta = self.translator.update(&self.world, &batch.ids);
        let translated = began.elapsed().as_secs_f64();
        metrics
            .translate
            .with_label_values(&[mode])
            .observe(translated);
        let resources = delta.resources.len();
        if resources > 0 || mode == "full" {
            let generation = self.with.publisher.publish(delta.resources, batch.at);
            metrics.published(generation);
        }
        if mode == "incremental" {
            stage("compile", began.elapsed().as_secs_f64());
        }
        tracing::debug!(
            mode,
            objects = batch.ids.len(),
            resources,
            seconds = translated,
            "translated"
        );
        self.with.queue.push(delta.reports);
    }

    fn count_quarantined(&self) {
        let mut counts = BTreeMap::<ObjectKind, i64>::new();
        for (id, report) in self.translator.report().objects() {
            if id.kind.is_ours() {
                *counts.entry(id.kind).or_default() += i64::from(report.quarantined);
            }
        }
        for (kind, count) in counts {
            self.with
                .metrics
                .objects_quarantined
                .with_label_values(&[kind.name()])
                .set(count);
        }
    }

    /// Whoever asked may have gone meanwhile.
    fn answer(&self, ask: Ask) {
        let report = self.translator.report();
        let programmed = |report: &_| self.with.publisher.programmed(report);
        match ask {
            Ask::Ids(reply) => {
                let ids = report
                    .objects()
                    .map(|(id, _)| id)
                    .filter(|id| id.kind.is_ours());
                drop(reply.send(ids.cloned().collect()));
            }
            Ask::Statuses(ids, reply) => {
                let wanted = ids.into_iter().map(|id| {
                    let programmed = report
                        .get(&id)
                        .map(programmed)
                        .unwrap_or(Programmed::Unknown);
                    let status = report.status(&id, &programmed);
                    let waits = status.is_some() && programmed != Programmed::Yes;
                    Wanted { id, status, waits }
                });
                drop(reply.send(wanted.collect()));
            }
            Ask::Count(reply) => {
                self.count_quarantined();
                let _ = reply.send(());
            }
            Ask::All(reply) => drop(reply.send(report.statuses(programmed))),
        }
    }
}

/// A timer's grain is a millisecond: what is due already must not wait for one.
async fn until(due: Option<Instant>) {
    match due {
        Some(due) if due <= Instant::now() => {}
        Some(due) => sleep_until(due).await,
        None => future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio::time::timeout;

    use super::*;
    use crate::watch::EVENTS;
    use crate::world::Object;

    const FOREVER: Duration = Duration::from_secs(60);

    struct Running {
        events: mpsc::Sender<Event>,
        world: WorldHandle,
        publisher: Arc<Publisher>,
        queue: Arc<Queue>,
        end: oneshot::Receiver<()>,
    }

    fn start(sync_timeout: Duration) -> Running {
        let metrics = Arc::new(Metrics::new().unwrap());
        let publisher = Publisher::new("test");
        let queue = Arc::new(Queue::new(metrics.status_queue.clone()));
        let task = WorldTask {
            publisher: Arc::clone(&publisher),
            queue: Arc::clone(&queue),
            written: Arc::default(),
            metrics,
            sync_timeout,
        };
        let (events, received) = mpsc::channel(EVENTS);
        let (world, end) = task.start(received).unwrap();
        Running {
            events,
            world,
            publisher,
            queue,
            end,
        }
    }

    fn route(name: &str) -> Object {
        let value = json!({
            "apiVersion": "diolkos.io/v1alpha1", "kind": "Route",
            "metadata": {"namespace": "a", "name": name, "generation": 1},
            "spec": {"hostnames": [format!("{name}.example")], "rules": [{"directResponse": {"status": 200}}]},
        });
        Object::from_json(&value).unwrap().unwrap()
    }

    fn apply(object: Object) -> Event {
        Event::Apply {
            object: Box::new(object),
            at: 1,
        }
    }

    impl Running {
        async fn send(&self, event: Event) {
            self.events.send(event).await.unwrap();
        }

        /// Lists nothing of any kind but one.
        async fn list_all_but(&self, except: ObjectKind) {
            for kind in ObjectKind::ALL.iter().filter(|k| **k != except) {
                self.send(Event::Listed {
                    kind: *kind,
                    ids: BTreeSet::new(),
                })
                .await;
            }
        }

        async fn published(&self, routes: usize) {
            let mut generation = self.publisher.subscribe();
            let wait = async {
                loop {
                    let open = generation.borrow_and_update().is_some();
                    let all = self.world.all().await;
                    let known = all.keys().filter(|k| k.starts_with("Route/")).count();
                    if open && known == routes {
                        return;
                    }
                    generation.changed().await.unwrap();
                }
            };
            timeout(FOREVER, wait)
                .await
                .expect("the routes are published");
        }
    }

    #[tokio::test]
    async fn nothing_is_published_before_everything_is_listed() {
        let running = start(FOREVER);
        running.send(apply(route("one"))).await;
        running.list_all_but(ObjectKind::Route).await;
        let mut missing = running.world.missing.clone();
        let last = missing.wait_for(|kinds| *kinds == [ObjectKind::Route]);
        timeout(FOREVER, last).await.unwrap().unwrap();
        assert!(running.publisher.subscribe().borrow().is_none());
        let ids = BTreeSet::from([route("one").id]);
        running
            .send(Event::Listed {
                kind: ObjectKind::Route,
                ids,
            })
            .await;
        running.published(1).await;
        assert!(running.world.missing().is_empty());
        assert!(
            running.queue.take(9).is_some(),
            "its status waits to be written"
        );
    }

    #[tokio::test]
    async fn what_a_new_list_does_not_hold_is_gone_and_the_rest_stays() {
        let running = start(FOREVER);
        running.send(apply(route("one"))).await;
        running.send(apply(route("two"))).await;
        running.list_all_but(ObjectKind::Route).await;
        let both = BTreeSet::from([route("one").id, route("two").id]);
        running
            .send(Event::Listed {
                kind: ObjectKind::Route,
                ids: both,
            })
            .await;
        running.published(2).await;
        // A relist brings objects one by one: until it is complete nothing is missing.
        running.send(apply(route("three"))).await;
        running.published(3).await;
        running
            .send(Event::Listed {
                kind: ObjectKind::Route,
                ids: BTreeSet::from([route("two").id]),
            })
            .await;
        running.published(1).await;
        running
            .send(Event::Delete {
                id: route("two").id,
                at: 2,
            })
            .await;
        running.published(0).await;
    }

    #[tokio::test]
    async fn optional_kinds_that_are_forbidden_are_waited_for_in_vain() {
        let running = start(Duration::from_millis(50));
        running.send(Event::Forbidden(ObjectKind::Secret)).await;
        running.list_all_but(ObjectKind::Secret).await;
        running.published(0).await;
    }

    #[tokio::test]
    async fn the_thread_ends_with_its_events() {
        let running = start(FOREVER);
        drop(running.events);
        assert!(timeout(FOREVER, running.end).await.unwrap().is_err());
        assert_eq!(running.world.ids().await, []);
    }
}
