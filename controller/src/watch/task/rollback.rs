//! Objects that are held as they were: what the cluster says of them is remembered, and comes into effect when they are
//! let go of.

use super::{Owner, unix_ns, unix_seconds};
use crate::history::{Changed, Rollback};
use crate::report::{ObjectReport, Programmed, Progress};
use crate::world::{Object, ObjectId, ObjectKind};
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};
use snapshot::{Kind, ResourceId, Revision};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::sync::mpsc::error::TrySendError;

/// Changed objects, and groups of data planes, that a line of the log names.
const TOLD: usize = 10;

/// What is held, and how it is in the cluster.
#[derive(Default)]
pub(super) struct Held {
    rollback: Option<Rollback>,
    live: BTreeMap<ObjectId, Option<Object>>,
    /// Whether anything is held has been said.
    is_known: bool,
}

impl Held {
    /// `is_known`: nobody is going to say whether anything is held.
    pub(super) fn new(is_known: bool) -> Self {
        Self {
            is_known,
            ..Self::default()
        }
    }

    pub(super) fn is_known(&self) -> bool {
        self.is_known
    }

    /// The version that an object is held at.
    fn version(&self, id: &ObjectId) -> Option<&Option<Object>> {
        self.rollback.as_ref()?.objects.get(id)
    }

    /// The revision at which an object is held.
    pub(super) fn revision(&self, id: &ObjectId) -> Option<Revision> {
        self.version(id)?;
        self.rollback.as_ref().map(|r| r.revision)
    }

    /// The version of an object to take, of which the cluster now has this one; `None`: none is to be there.
    pub(super) fn divert(&mut self, object: Object) -> Option<Object> {
        let Some(version) = self.version(&object.id) else {
            return Some(object);
        };
        let taken = version
            .as_ref()
            .map(|version| as_of(version, Some(&object)));
        self.live.insert(object.id.clone(), Some(object));
        taken
    }

    /// Whether an object stays although the cluster has it no more. What its data planes ran in is gone with a Gateway.
    pub(super) fn keeps(&mut self, id: &ObjectId) -> bool {
        if self.version(id).is_none() {
            return false;
        }
        if stays_with_cluster(id.kind) {
            self.live.remove(id);
            if let Some(rollback) = &mut self.rollback {
                rollback.objects.remove(id);
            }
            return false;
        }
        self.live.insert(id.clone(), None);
        true
    }

    /// Objects that are in the cluster and held as if they were not.
    fn absent(&self) -> impl Iterator<Item = (&ObjectId, &Object)> {
        let held = self.rollback.iter().flat_map(|r| &r.objects);
        let absent = held.filter(|(_, version)| version.is_none());
        absent.filter_map(|(id, _)| Some((id, self.live.get(id)?.as_ref()?)))
    }
}

/// Data planes and other controllers hang on these: they are neither brought back nor taken away, only changed.
fn stays_with_cluster(kind: ObjectKind) -> bool {
    matches!(
        kind,
        ObjectKind::Gateway | ObjectKind::GatewayClass | ObjectKind::IngressClass
    )
}

/// A former version under the identity that the object has now, so that its status is about what is in the cluster.
fn as_of(version: &Object, live: Option<&Object>) -> Object {
    let mut version = version.clone();
    if let Some(live) = live {
        version.meta = live.meta.clone();
    }
    version
}

impl Owner {
    /// Takes what is held from now on.
    pub(super) fn roll_back(&mut self, wanted: Option<Rollback>) {
        let was_known = std::mem::replace(&mut self.rolled_back.is_known, true);
        if self.rolled_back.rollback != wanted {
            match &wanted {
                Some(to) => tracing::warn!(
                    revision = %to.revision, since = to.since, objects = to.objects.len(),
                    "ROLLED BACK: these objects are held as they were, whatever the cluster says of them"
                ),
                None => tracing::warn!("the rollback has ended: all objects are followed again"),
            }
            self.hold(wanted);
        }
        if !was_known {
            self.publish_first();
        }
    }

    fn hold(&mut self, wanted: Option<Rollback>) {
        let before = self.rolled_back.rollback.take();
        let mut live = std::mem::take(&mut self.rolled_back.live);
        let ids: BTreeSet<ObjectId> = [&before, &wanted]
            .into_iter()
            .flatten()
            .flat_map(|r| r.objects.keys().cloned())
            .collect();
        let mut changes = Vec::new();
        for id in ids {
            let in_cluster = match live.remove(&id) {
                Some(in_cluster) => in_cluster,
                None => self.world.get(&id).cloned(),
            };
            let held = wanted.as_ref().and_then(|r| r.objects.get(&id));
            let taken = match held {
                Some(version) => version.as_ref().map(|v| as_of(v, in_cluster.as_ref())),
                None => in_cluster.clone(),
            };
            if held.is_some() {
                self.rolled_back.live.insert(id.clone(), in_cluster);
            }
            changes.push((id, taken));
        }
        let count = wanted.as_ref().map_or(0, |r| r.objects.len());
        let gauge = &self.with.metrics.rolled_back;
        gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        self.rolled_back.rollback = wanted;
        let mut touched = BTreeSet::new();
        for (id, taken) in changes {
            touched.insert(id.clone());
            match taken {
                Some(object) => self.put(object, unix_ns()),
                None => self.take_out(&id, unix_ns()),
            }
        }
        // Also where a version is what it was, its status is another one.
        let configs = self.gateway_configs();
        self.with.queue.push(touched.into_iter().chain(configs));
    }

    /// How the object is that is in effect now, where it is one to remember; the inner `None`: there is none.
    pub(super) fn remembered(&self, id: &ObjectId) -> Option<Option<Object>> {
        if !self.open || !id.kind.is_configuration() {
            return None;
        }
        let object = self.world.get(id);
        Some(object.map(|object| self.translator.effective(object)))
    }

    /// Whether a change of an object without versions to remember is one of the configuration.
    pub(super) fn is_noteworthy(&self, id: &ObjectId) -> bool {
        match id.kind {
            ObjectKind::Service | ObjectKind::Namespace => true,
            kind if kind.has_values() => self.held.contains(id),
            _ => false,
        }
    }

    /// Remembers what has been published.
    pub(super) fn record(
        &mut self,
        resources: &BTreeSet<Kind>,
        revisions: Vec<(Arc<str>, Revision)>,
    ) {
        let by_objects = resources.iter().any(|kind| *kind != Kind::EndpointShard);
        let world = &self.world;
        let is_there = |id: &ObjectId| world.contains(id);
        let made = self
            .history
            .published(unix_seconds(), by_objects, revisions, is_there);
        if made {
            // They say which revision it is.
            self.with.queue.push(self.gateway_configs());
            if let Some(changed) = self.history.last() {
                self.tell(changed);
            }
        }
    }

    /// Says what has changed, as far as it fits into a line.
    fn tell(&self, changed: Changed) {
        let objects = changed.objects.iter().take(TOLD);
        let mut objects: Vec<String> = objects.map(|(id, how)| format!("{id} {how}")).collect();
        if changed.count > objects.len() {
            objects.push(format!("{} more", changed.count - objects.len()));
        }
        let revisions = changed.revisions.iter();
        let revisions = revisions.map(|(group, revision)| format!("{revision} of {group}"));
        let revisions: Vec<String> = revisions.take(TOLD).collect();
        tracing::info!(
            event = "diff_config",
            revisions = revisions.join(", "),
            objects = objects.join(", "),
            "the configuration has changed"
        );
        if let Err(TrySendError::Full(changed)) = self.with.changes.try_send(changed) {
            let untold = changed.count as u64;
            self.with.metrics.events_dropped.inc_by(untold);
        }
    }

    fn gateway_configs(&self) -> Vec<ObjectId> {
        let all = self.world.of_kind(ObjectKind::GatewayConfig);
        all.map(|object| object.id.clone()).collect()
    }

    /// How far an object has come.
    pub(super) fn programmed(&self, report: &ObjectReport) -> Programmed {
        match self.rolled_back.revision(&report.id) {
            Some(revision) => Programmed::RolledBack(revision),
            None => self.with_its_word(report, self.with.groups.programmed(report)),
        }
    }

    /// The same with what is different of its listeners.
    pub(super) fn progress(&self, report: &ObjectReport) -> Progress {
        let (groups, resources) = (&self.with.groups, self.translator.resources());
        let of = |some: &[ResourceId]| groups.programmed_of(&report.id, some);
        Progress::new(self.programmed(report), report, resources, of)
    }

    /// Reports on objects that are held as if they were not there.
    pub(super) fn absent_reports(&self) -> impl Iterator<Item = ObjectReport> {
        self.rolled_back.absent().map(|(id, live)| {
            let mut report = ObjectReport::new(id.clone(), live.meta.generation, Vec::new());
            report.uid = Arc::clone(&live.meta.uid);
            report.absent = true;
            report
        })
    }

    /// Adds to the status of a GatewayConfig by which configuration its data planes serve.
    pub(super) fn add_revision(&self, id: &ObjectId, status: &mut Value) {
        if id.kind != ObjectKind::GatewayConfig {
            return;
        }
        if let Some(revision) = self.history.revision_of(&self.with.groups.name_for(id)) {
            status["revision"] = revision.to_string().into();
        }
        if let Some(rollback) = &self.rolled_back.rollback {
            status["rolledBackTo"] = rollback.revision.to_string().into();
        }
    }

    /// For the admin port.
    pub(super) fn revisions(&self) -> Value {
        let rollback = self.rolled_back.rollback.as_ref().map(|r| {
            let objects: Vec<String> = r.objects.keys().map(ObjectId::key).collect();
            json!({"revision": r.revision.to_string(), "since": r.since, "objects": objects})
        });
        json!({
            "rolledBack": rollback,
            "revisions": self.history.to_json(self.with.groups.shared_name()),
        })
    }

    /// What to hold so that the configuration is that of a revision again; `None`: it is not remembered.
    pub(super) fn back_to(&self, revision: Revision) -> Option<Rollback> {
        let mut objects = self.history.back_to(revision)?;
        // What is held already and has not changed since stays as it is.
        let held = self.rolled_back.rollback.iter().flat_map(|r| &r.objects);
        for (id, version) in held {
            objects.entry(id.clone()).or_insert_with(|| version.clone());
        }
        objects.retain(|id, version| {
            let live = match self.rolled_back.live.get(id) {
                Some(live) => live.as_ref(),
                None => self.world.get(id),
            };
            let is_gone = |one: Option<&Object>| one.is_none();
            let is_impossible =
                stays_with_cluster(id.kind) && (is_gone(live) || is_gone(version.as_ref()));
            let is_as_it_is = version.as_ref().map(|v| &v.body) == live.map(|l| &l.body);
            !is_impossible && !is_as_it_is
        });
        let since = Timestamp::from_second(unix_seconds()).unwrap_or_default();
        Some(Rollback {
            revision,
            since: since.to_string(),
            objects,
        })
    }
}
