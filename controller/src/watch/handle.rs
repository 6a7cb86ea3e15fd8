//! How others ask the owner of the world.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Map, Value};
use snapshot::Revision;
use tokio::sync::{mpsc, oneshot, watch};

use crate::history::Rollback;
use crate::infrastructure::Plan;
use crate::report::Problem;
use crate::world::{Object, ObjectId, ObjectKind};

/// A question to the owner of the world.
pub(crate) enum Ask {
    /// All objects with a status of ours.
    Ids(oneshot::Sender<Vec<ObjectId>>),
    /// The statuses that some objects should have.
    Statuses(Vec<ObjectId>, oneshot::Sender<Vec<Wanted>>),
    /// Objects whose status says how the endpoints of these upstreams do.
    DependOn(BTreeSet<Arc<str>>, oneshot::Sender<Vec<ObjectId>>),
    /// Bring the gauges up to date that cost a walk over all objects.
    Count(oneshot::Sender<()>),
    /// All statuses by `Kind/namespace/name`.
    All(oneshot::Sender<Map<String, Value>>),
    /// What Gateways and GatewayConfigs ask of data planes of their own.
    DataPlanes(oneshot::Sender<Vec<Plan>>),
    /// What there is to tell of some objects.
    Objections(Vec<ObjectId>, oneshot::Sender<Vec<Objections>>),
    /// Objects that need something that a data plane refuses, as far as they are told of.
    Refused(oneshot::Sender<BTreeMap<ObjectId, String>>),
    /// The versions that serve in place of others, unless they are as they were.
    StandIns(Option<u64>, oneshot::Sender<Option<StandIns>>),
    /// Take over the versions that serve in place of others.
    Recall(Vec<Object>, oneshot::Sender<()>),
    /// The revisions that are remembered, for the admin port.
    Revisions(oneshot::Sender<Value>),
    /// What to hold so that the configuration is that of a revision again.
    BackTo(Revision, oneshot::Sender<Option<Rollback>>),
    /// What would be wrong with a version of an object; `None`: the world is not known yet.
    Review(Box<Object>, oneshot::Sender<Option<Vec<Problem>>>),
    /// The UID of an object.
    Uid(ObjectId, oneshot::Sender<Option<String>>),
}

/// Versions that serve in place of others, as manifests. There may be private keys in them: it cannot be printed.
pub struct StandIns {
    /// Counts their changes.
    pub version: u64,
    pub manifests: Vec<Value>,
}

/// The status that an object should have.
#[derive(Debug)]
pub struct Wanted {
    pub id: ObjectId,
    /// The object of that name that it is of; empty where that is not known.
    pub uid: Arc<str>,
    /// Without times; `None`: there is no such object any more.
    pub status: Option<Value>,
    /// It changes when data planes answer.
    pub waits: bool,
    /// There is no data plane that could, or one that serves is not connected.
    pub alone: bool,
}

/// What there is to tell of an object in Events: all that is wrong with an Ingress, which has no conditions to say it; of
/// others, that an older version stands in.
#[derive(Debug)]
pub struct Objections {
    pub id: ObjectId,
    /// `None`: there is no such object.
    pub uid: Option<String>,
    pub generation: i64,
    /// With the reason of the Event. Empty: nothing.
    pub all: Vec<(&'static str, String)>,
}

/// Asks the world task. Answers are empty after it has ended.
#[derive(Clone)]
pub struct WorldHandle {
    pub(super) asks: mpsc::Sender<Ask>,
    pub(super) missing: watch::Receiver<Vec<ObjectKind>>,
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

    /// Objects whose status says how the endpoints of these upstreams do.
    pub async fn depend_on(&self, upstreams: BTreeSet<Arc<str>>) -> Vec<ObjectId> {
        self.ask(|reply| Ask::DependOn(upstreams, reply)).await
    }

    /// All statuses by `Kind/namespace/name`.
    pub async fn all(&self) -> Map<String, Value> {
        self.ask(Ask::All).await
    }

    /// What our Gateways and GatewayConfigs ask of data planes of their own.
    pub async fn data_planes(&self) -> Vec<Plan> {
        self.ask(Ask::DataPlanes).await
    }

    /// What there is to tell of some objects.
    pub async fn objections(&self, ids: Vec<ObjectId>) -> Vec<Objections> {
        self.ask(|reply| Ask::Objections(ids, reply)).await
    }

    /// Objects that need something that a data plane refuses, with its words; of many, the first.
    pub async fn refused(&self) -> BTreeMap<ObjectId, String> {
        self.ask(Ask::Refused).await
    }

    /// The revisions that are remembered, for the admin port.
    pub async fn revisions(&self) -> Value {
        self.ask(Ask::Revisions).await
    }

    /// What to hold so that the configuration is that of a revision again; `None`: it is not remembered.
    pub async fn back_to(&self, revision: Revision) -> Option<Rollback> {
        self.ask(|reply| Ask::BackTo(revision, reply)).await
    }

    /// What would be wrong with a version of an object; `None`: the world is not known yet.
    pub async fn review(&self, object: Object) -> Option<Vec<Problem>> {
        self.ask(|reply| Ask::Review(Box::new(object), reply)).await
    }

    /// The UID of an object, where it is known.
    pub async fn uid(&self, id: ObjectId) -> Option<String> {
        self.ask(|reply| Ask::Uid(id, reply)).await
    }

    /// The versions that serve in place of others, unless they are as they were when they were `seen`.
    pub async fn stand_ins(&self, seen: Option<u64>) -> Option<StandIns> {
        self.ask(|reply| Ask::StandIns(seen, reply)).await
    }

    /// Takes over the versions that another replica serves in place of others. They are in effect when this returns.
    pub async fn recall(&self, objects: Vec<Object>) {
        self.ask(|reply| Ask::Recall(objects, reply)).await;
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

#[cfg(test)]
impl WorldHandle {
    /// A world that is known, and of which a test says what it answers.
    pub(crate) fn answering(mut answer: impl FnMut(Ask) + Send + 'static) -> Self {
        let (asks, mut asked) = mpsc::channel(8);
        tokio::spawn(async move {
            while let Some(ask) = asked.recv().await {
                answer(ask);
            }
        });
        let (_, missing) = watch::channel(Vec::new());
        Self { asks, missing }
    }
}
