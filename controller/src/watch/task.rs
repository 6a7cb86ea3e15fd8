//! The one owner of world and translator, on a thread of its own: translating never delays a heartbeat or a renewal.

mod answers;
mod permissions;
mod pods;
mod recheck;
mod rollback;
mod standing;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant as Clock};
use std::{future, io};

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};

use super::brake::Brake;
use super::expected::Expected;
use super::gate::Gate;
use super::handle::{Ask, WorldHandle};
use super::held::Held;
use super::pacer::{Batch, Pacer};
use super::reader::{Version, Wishes};
use super::target::Target;
use super::{Event, Verb, unix_ns};
use crate::groups::Groups;
use crate::history::{Changed, History};
use crate::metrics::Metrics;
use crate::outage::Outage;
use crate::panics::TRANSLATING;
use crate::status::{Queue, Written};
use crate::translate::{Delta, Published, Translator};
use crate::world::{Body, Object, ObjectId, ObjectKind, Scope, Values, World};

/// What the world task works with.
pub struct WorldTask {
    pub groups: Arc<Groups>,
    pub queue: Arc<Queue>,
    /// Objects of which there may be something to tell.
    pub objected: Arc<Queue>,
    /// What has changed, for whoever tells of it.
    pub changes: mpsc::Sender<Changed>,
    /// Where the data planes that GatewayConfigs share are reached.
    pub published: Published,
    /// Whether data planes are made for Gateways and GatewayConfigs that have their own.
    pub makes_data_planes: bool,
    pub written: Arc<Written>,
    pub metrics: Arc<Metrics>,
    /// What the [`super::reader::Reader`] is to read.
    pub wishes: Arc<Wishes>,
    /// Ticks when Gateways or GatewayConfigs have changed.
    pub gateways: watch::Sender<u64>,
    /// Told when an Upstream selects Pods.
    pub pods: watch::Sender<bool>,
    pub sync_timeout: Duration,
    /// For how long most of a kind stays in effect that a new list lacks.
    pub removal_grace: Duration,
    /// What the watches follow.
    pub scope: Scope,
    /// Whether somebody says what is held back by a rollback; nothing is published before.
    pub can_roll_back: bool,
    /// Whether somebody says which versions stood in for others; nothing is published before.
    pub can_recall: bool,
    /// Told how often other versions stand in, once something has been published.
    pub stand_ins: watch::Sender<Option<u64>>,
    /// How often everything that has been translated is looked at again; zero: never.
    pub recheck: Duration,
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
        thread::Builder::new()
            .name(TRANSLATING.into())
            .spawn(move || {
                // Dropped at the end, however it comes.
                let _ended = ended;
                runtime.block_on(async {
                    let owner = Owner::new(self, missing_now, Instant::now());
                    owner.run(events, questions).await;
                });
            })?;
        Ok((WorldHandle { asks, missing }, end))
    }
}

struct Owner {
    world: World,
    translator: Translator,
    gate: Gate,
    pacer: Pacer,
    /// Routes that wait for what they name.
    expected: Expected,
    /// Objects that the last list of their kind lacks.
    brake: Brake,
    /// What may not be listed or watched. Bounded by what is followed.
    forbidden: BTreeMap<Target, Verb>,
    counts: BTreeMap<ObjectKind, i64>,
    missing: watch::Sender<Vec<ObjectKind>>,
    /// That nothing is published because some of it is missing.
    unlisted: Outage,
    open: bool,
    /// Secrets and ConfigMaps that something refers to.
    held: Held,
    /// The first translation, until the values that it needs have been asked for; `None` once it is published.
    withheld: Option<Delta>,
    /// When certificates were last judged by their age.
    judged: Instant,
    history: History,
    rolled_back: rollback::Held,
    /// Whether it has been said which versions stood in for others.
    is_recalled: bool,
    rechecks: recheck::Rechecks,
    with: WorldTask,
}

/// How often certificates are judged by their age.
const JUDGE: Duration = Duration::from_secs(3600);

impl Owner {
    fn new(with: WorldTask, missing: watch::Sender<Vec<ObjectKind>>, now: Instant) -> Self {
        let metrics = &with.metrics;
        Self {
            world: World::of(with.scope.clone()),
            translator: Translator::for_groups()
                .publishing(with.published.clone())
                .making_data_planes(with.makes_data_planes),
            gate: Gate::new(&with.scope, now, with.sync_timeout),
            pacer: Pacer::default(),
            expected: Expected::default(),
            brake: Brake::new(with.removal_grace),
            forbidden: BTreeMap::new(),
            counts: BTreeMap::new(),
            missing,
            unlisted: Outage::default(),
            open: false,
            held: Held::new(Arc::clone(&with.wishes)),
            withheld: Some(Delta::default()),
            judged: now,
            history: History::new(metrics.revisions.clone(), metrics.revisions_dropped.clone()),
            rolled_back: rollback::Held::new(!with.can_roll_back),
            is_recalled: !with.can_recall,
            rechecks: recheck::Rechecks::new(with.recheck, now),
            with,
        }
    }

    async fn run(mut self, mut events: mpsc::Receiver<Event>, mut asks: mpsc::Receiver<Ask>) {
        loop {
            tokio::select! {
                biased;
                // What waits must not wait for ever, even when events never stop; otherwise those that are there
                // already come first.
                () = until(self.pacer.latest()), if self.open => self.flush(),
                Some(ask) = asks.recv() => match ask {
                    Ask::Recall(objects, reply) => {
                        self.recall(objects);
                        let _ = reply.send(());
                    }
                    ask => self.answer(ask),
                },
                event = events.recv() => match event {
                    Some(event) => self.take(event),
                    None => return,
                },
                () = until(self.pacer.due()), if self.open => self.flush(),
                () = until(self.expected.due()), if self.open => {
                    let now = Instant::now();
                    for (id, at) in self.expected.expired(now) {
                        self.pacer.note(id, at, now);
                    }
                }
                () = until(self.brake.due()) => {
                    for id in self.brake.expired(Instant::now()) {
                        self.remove(id, unix_ns());
                    }
                }
                () = sleep_until(self.judged + JUDGE), if self.open => self.judge(),
                () = sleep_until(self.gate.patience()), if !self.open && Instant::now() < self.gate.patience() => {
                    self.look_at_gate();
                }
                () = until(self.rechecks.due()), if self.is_settled() => self.recheck(),
            }
        }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Apply { object, at } => self.apply(*object, at),
            Event::Some { objects, at } => {
                for object in objects {
                    self.apply(object, at);
                }
            }
            Event::Values { id, outcome, at } => self.settle(id, outcome, at),
            Event::Definition(kind, definition) => {
                if self.world.set_definition(kind, definition) {
                    self.classes_changed();
                }
            }
            Event::RolledBack(rollback) => self.roll_back(rollback.map(|r| *r)),
            Event::Recalled(objects) => {
                self.is_recalled = true;
                self.recall(objects);
                self.publish_first();
            }
            Event::Delete { id, at } => self.remove(id, at),
            Event::Listed { of, ids } => {
                self.reconcile(&of, &ids);
                self.note_listed(&of, true);
                self.gate.listed(&of);
                self.need_no_pods();
                self.look_at_gate();
            }
            Event::Absent(kind) => {
                self.gate.absent(kind);
                self.forbidden.retain(|target, _| target.kind != kind);
                self.need_no_pods();
                self.look_at_gate();
                self.tell_forbidden();
            }
            Event::Forbidden(target, verb) => {
                if self.gate.forbidden(&target) {
                    self.note_listed(&target, false);
                }
                self.forbidden.insert(target, verb);
                self.look_at_gate();
                self.tell_forbidden();
            }
            Event::Permitted(target) => {
                self.forbidden.remove(&target);
                self.tell_forbidden();
            }
        }
    }

    /// Removes what a new list lacks, unless it lacks most of what is known.
    fn reconcile(&mut self, of: &Target, ids: &BTreeSet<ObjectId>) {
        let all = self.world.of_kind(of.kind).map(|object| &object.id);
        let known: Vec<&ObjectId> = all.filter(|id| of.holds(id)).collect();
        let gone = known.iter().filter(|id| !ids.contains(**id));
        let gone: Vec<ObjectId> = gone.map(|id| (*id).clone()).collect();
        let (known, lacking) = (known.len(), gone.len());
        let gone = self.brake.listed(of, known, gone, Instant::now());
        let held = lacking - gone.len();
        if held > 0 {
            let grace = self.with.removal_grace;
            tracing::warn!(event = "removals_held", list = %of, known, held, ?grace, "a new list lacks most of what was known, which stays in effect for now");
            self.with.metrics.removals_held.inc_by(held as u64);
        }
        for id in gone {
            self.remove(id, unix_ns());
        }
    }

    /// What refers to objects that are not known says why.
    fn note_listed(&mut self, of: &Target, is_listed: bool) {
        let place = of.namespace.clone();
        if self.world.set_listed(of.kind, place, is_listed) {
            let lacking = self.held.ids().filter(|id| of.holds(id));
            let lacking = lacking.filter(|id| !self.world.contains(id));
            for id in lacking.cloned().collect::<Vec<_>>() {
                self.changed(id, unix_ns());
            }
        }
    }

    /// Once all Upstreams are known and none selects Pods, these are not waited for.
    fn need_no_pods(&mut self) {
        if !self.open && self.gate.knows(ObjectKind::Upstream) && !*self.with.pods.borrow() {
            self.gate.absent(ObjectKind::Pod);
        }
    }

    fn apply(&mut self, object: Object, at: u64) {
        let id = object.id.clone();
        self.brake.release(&id);
        if let Body::Upstream(spec) = &object.body
            && spec.selector.is_some()
        {
            self.with
                .pods
                .send_if_modified(|asked| !std::mem::replace(asked, true));
        }
        if let Some(Values::Unread { version }) = object.values()
            && self.held.contains(&id)
        {
            self.held.seen(&id, version.clone());
            // What is known of it stays in effect until the new values have been read.
            if self.world.contains(&id) {
                return;
            }
        }
        match self.rolled_back.divert(object) {
            Some(object) => self.put(object, at),
            None => self.with.queue.push([id]),
        }
    }

    /// Has an object in effect.
    fn put(&mut self, object: Object, at: u64) {
        let id = object.id.clone();
        let before = self.remembered(&id);
        let named = self.names_data_planes(&id);
        let known = self.world.len();
        if self.world.apply(object) {
            if self.world.len() > known {
                self.count(id.kind, 1);
            }
            if named || self.names_data_planes(&id) {
                self.tell_pods();
            }
            if let Some(before) = before {
                self.history.note(id.clone(), before);
            }
            self.changed(id, at);
        }
    }

    /// Takes what came of reading values that something refers to.
    fn settle(&mut self, id: ObjectId, outcome: Result<Option<Version>, String>, at: u64) {
        // That there is none the watch says, in its place among all that became of it: this may be of one before the present.
        let Some(outcome) = outcome.transpose() else {
            return;
        };
        let version = outcome.as_ref().ok();
        if !self.held.settle(&id, version.map(|v| v.version.as_str())) {
            return;
        }
        match outcome {
            Ok(version) => {
                if self.world.apply(version.object) {
                    self.changed(id, at);
                }
            }
            Err(why) => {
                // Values that were read before stay in effect.
                if let Some(object) = self.world.get(&id)
                    && !matches!(object.values(), Some(Values::Read(_)))
                {
                    let object = object.with_values(Values::Unreadable(why));
                    if self.world.apply(object) {
                        self.changed(id, at);
                    }
                }
            }
        }
        self.publish_first();
    }

    /// Keeps to what a translation refers to from now on.
    fn refer(&mut self, references: BTreeMap<ObjectId, bool>) {
        for (id, refers) in references {
            let object = self.world.get(&id);
            if refers {
                let seen = match object.and_then(Object::values) {
                    Some(Values::Unread { version }) => Some(version.clone()),
                    _ => None,
                };
                self.held.hold(id, seen);
            } else if let Some(values) = self.held.release(&id)
                && let Some(object) = object
            {
                let object = object.with_values(values);
                self.world.apply(object);
            }
        }
    }

    /// Before the first translation they are only remembered.
    fn recall(&mut self, objects: Vec<Object>) {
        let ids = self.translator.recall(&self.world, objects);
        if self.open && !ids.is_empty() {
            self.translate(Batch { ids, at: unix_ns() }, "incremental");
        }
    }

    fn judge(&mut self) {
        self.judged = Instant::now();
        self.world.set_now(unix_seconds());
        let ids = self.held.ids().cloned().collect();
        self.translate(Batch { ids, at: unix_ns() }, "incremental");
    }

    fn remove(&mut self, id: ObjectId, at: u64) {
        self.brake.release(&id);
        if let Some(meta) = self.world.meta(&id) {
            self.with.written.forget(&id, &meta.uid);
        }
        self.held.gone(&id);
        if !self.rolled_back.keeps(&id) {
            self.take_out(&id, at);
        }
    }

    fn take_out(&mut self, id: &ObjectId, at: u64) {
        let before = self.remembered(id);
        let named = self.names_data_planes(id);
        if self.world.remove(id) {
            self.count(id.kind, -1);
            if named {
                self.tell_pods();
            }
            if let Some(before) = before {
                self.history.note(id.clone(), before);
            }
            self.changed(id.clone(), at);
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
        // Before the gate opens everything is dirty anyway. Of classes there may be something to say.
        if !self.open {
            let class = (id.kind == ObjectKind::GatewayClass).then_some(id);
            self.with.queue.push(class);
            return;
        }
        if self.is_noteworthy(&id) {
            self.history.note_other(id.clone());
        }
        let now = Instant::now();
        match self.world.get(&id) {
            Some(object) => {
                let known = |id: &ObjectId| self.world.contains(id);
                if self.expected.hold(object, known, at, now) {
                    return;
                }
                for (waited, at) in self.expected.arrived(&id) {
                    self.pacer.note(waited, at, now);
                }
            }
            None => self.expected.forget(&id),
        }
        self.pacer.note(id, at, now);
    }

    fn look_at_gate(&mut self) {
        if self.open {
            return;
        }
        let now = Instant::now();
        let missing: Vec<&Target> = self.gate.missing(now).collect();
        self.open = missing.is_empty();
        if !self.open
            && now >= self.gate.patience()
            && let Some(after) = self.unlisted.fails()
        {
            let kinds: Vec<String> = missing.iter().map(|of| of.to_string()).collect();
            tracing::warn!(
                ?kinds,
                ?after,
                "nothing is published: these kinds could not be listed"
            );
        }
        let mut missing: Vec<ObjectKind> = missing.iter().map(|of| of.kind).collect();
        missing.dedup();
        if self.open {
            let ids: BTreeSet<ObjectId> = self.world.ids().cloned().collect();
            tracing::info!(objects = ids.len(), "everything is listed");
            self.judged = now;
            self.world.set_now(unix_seconds());
            self.world.set_forbidden(self.forbidden_text());
            self.world.fill();
            self.translate(Batch { ids, at: unix_ns() }, "full");
        } else {
            self.missing.send_replace(missing);
        }
    }

    /// Publishes the first translation as soon as all values that it needs have been asked for: a restarted controller
    /// must not take listeners away because it does not know their certificates yet.
    fn publish_first(&mut self) {
        let is_known = self.is_recalled && self.rolled_back.is_known();
        if !self.open || self.withheld.is_none() || !is_known {
            return;
        }
        let waits: BTreeSet<ObjectKind> = self.held.unsettled().map(|id| id.kind).collect();
        if !waits.is_empty() {
            self.missing.send_replace(waits.into_iter().collect());
        } else if self.pacer.due().is_none()
            && let Some(first) = self.withheld.take()
        {
            self.translator.forget_unused(&self.world);
            self.publish(first, unix_ns(), true);
            self.missing.send_replace(Vec::new());
            self.translator.fill();
        }
    }

    fn flush(&mut self) {
        while let Some(batch) = self.pacer.take(Instant::now()) {
            self.translate(batch, "incremental");
        }
    }

    fn translate(&mut self, batch: Batch, mode: &str) {
        let metrics = Arc::clone(&self.with.metrics);
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
        let mut delta = self.translator.update(&self.world, &batch.ids);
        let references = std::mem::take(&mut delta.references);
        let translated = began.elapsed().as_secs_f64();
        metrics
            .translate
            .with_label_values(&[mode])
            .observe(translated);
        let resources = delta.resources.len();
        match &mut self.withheld {
            Some(first) => first.merge(delta),
            None => self.publish(delta, batch.at, false),
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
        self.refer(references);
        self.publish_first();
    }

    /// Whether everything that is known has been translated and published.
    fn is_settled(&self) -> bool {
        let waits = self.pacer.due().is_some() || self.expected.due().is_some();
        self.open && self.withheld.is_none() && !waits
    }

    /// `even_empty`: also where there is nothing to publish.
    fn publish(&mut self, delta: Delta, at: u64, even_empty: bool) {
        if even_empty || delta.gateways || !delta.resources.is_empty() {
            let kinds = delta.resources.keys().map(|(kind, _)| *kind).collect();
            let owners = self.translator.with_data_planes();
            let groups = &self.with.groups;
            let revisions = groups.publish(owners, delta.resources, at);
            self.record(&kinds, revisions);
        }
        if even_empty || delta.gateways {
            self.tell_pods();
            self.with.gateways.send_modify(|n| *n = n.wrapping_add(1));
        }
        self.with.objected.push(delta.reports.iter().cloned());
        self.with.queue.push(delta.reports);
        let now = Some(self.translator.stand_ins_changed());
        let stand_ins = &self.with.stand_ins;
        stand_ins.send_if_modified(|known| std::mem::replace(known, now) != now);
    }
}

fn unix_seconds() -> i64 {
    i64::try_from(unix_ns() / 1_000_000_000).unwrap_or(i64::MAX)
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
#[path = "task_tests.rs"]
mod tests;
