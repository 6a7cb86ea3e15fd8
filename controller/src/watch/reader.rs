//! Values of Secrets and ConfigMaps: read by name, of those alone that something refers to.
//!
//! The watches bring metadata. After each translation [`super::held`] knows what is referred to; what of that has not
//! been read at its present version stands on the list of [`Wishes`], which the [`Reader`] works off: so many at a time,
//! each with a deadline, failures again after a pause that grows, shortly while the API server is away. What nothing refers to any more is wiped.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{Api, Client, Resource};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::{Event, unix_ns};
use crate::world::{Object, ObjectId, ObjectKind, Values};

/// Requests under way at once.
const AT_ONCE: usize = 32;
/// How long one request may take.
const DEADLINE: Duration = Duration::from_secs(5);
/// Pause after the first failure; it doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// While the API server does not answer, asking again costs it nothing, and its first answers are waited for.
const LONGEST_OUTAGE_PAUSE: Duration = Duration::from_secs(5);

/// An object as it was read.
#[derive(Debug)]
pub struct Version {
    /// Its resourceVersion.
    pub version: String,
    pub object: Object,
}

/// Where values are read.
pub trait Source: Clone + Send + Sync + 'static {
    /// `None`: there is no such object.
    ///
    /// # Errors
    /// Why it could not be read.
    fn read(&self, id: &ObjectId) -> impl Future<Output = Result<Option<Version>, Failure>> + Send;
}

/// Why an object could not be read, fit for a condition: never a value.
#[derive(Clone, Debug)]
pub struct Failure {
    pub why: String,
    /// The API server does not answer, or cannot for now.
    pub is_outage: bool,
}

impl Source for Client {
    async fn read(&self, id: &ObjectId) -> Result<Option<Version>, Failure> {
        let found = match id.kind {
            ObjectKind::Secret => get::<Secret>(self, id).await,
            _ => get::<ConfigMap>(self, id).await,
        };
        found.map_err(|error| failure(id, &error))
    }
}

async fn get<K>(client: &Client, id: &ObjectId) -> Result<Option<Version>, kube::Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
        + Into<Values>,
{
    let api = Api::<K>::namespaced(client.clone(), &id.namespace);
    let found = api.get_opt(&id.name).await?;
    Ok(found.map(|mut found| {
        let metadata = std::mem::take(found.meta_mut());
        Version {
            version: metadata.resource_version.clone().unwrap_or_default(),
            object: Object::of_values(id.kind, &metadata, found.into()),
        }
    }))
}

/// What of an error may be told: those of decoding quote what they cannot read.
fn failure(id: &ObjectId, error: &kube::Error) -> Failure {
    let resource = match id.kind {
        ObjectKind::Secret => "secrets",
        _ => "configmaps",
    };
    let (why, is_outage) = match error {
        kube::Error::Api(status) if status.code == 403 => (
            format!(
                "the controller lacks the permission: allow it to get {resource} in namespace {}",
                id.namespace
            ),
            false,
        ),
        kube::Error::Api(status) => (
            format!("the API server refuses: {}", status.message),
            status.code >= 500,
        ),
        kube::Error::SerdeError(_) => ("this build cannot read it".to_owned(), false),
        _ => ("the API server does not answer".to_owned(), true),
    };
    Failure { why, is_outage }
}

/// What is to be read. Shared by the owner of the world and the [`Reader`]; bounded by what is referred to.
#[derive(Debug, Default)]
pub struct Wishes {
    inner: Mutex<Inner>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    /// What is referred to: failures of these alone are tried again.
    wanted: BTreeSet<ObjectId>,
    /// Of these, what is to be read now.
    todo: BTreeSet<ObjectId>,
}

impl Wishes {
    pub(super) fn add(&self, id: &ObjectId) {
        let mut inner = self.inner.lock();
        inner.wanted.insert(id.clone());
        inner.todo.insert(id.clone());
        drop(inner);
        self.wake.notify_one();
    }

    pub(super) fn forget(&self, id: &ObjectId) {
        let mut inner = self.inner.lock();
        inner.wanted.remove(id);
        inner.todo.remove(id);
    }

    /// Something to read that is not being read already.
    pub(super) fn take(&self, busy: &BTreeSet<ObjectId>) -> Option<ObjectId> {
        let mut inner = self.inner.lock();
        let id = inner.todo.iter().find(|id| !busy.contains(*id)).cloned()?;
        inner.todo.remove(&id);
        Some(id)
    }

    fn again(&self, id: &ObjectId) {
        let mut inner = self.inner.lock();
        if inner.wanted.contains(id) {
            inner.todo.insert(id.clone());
        }
    }
}

/// Works off the [`Wishes`].
pub struct Reader<S> {
    pub source: S,
    pub wishes: Arc<Wishes>,
    pub events: mpsc::Sender<Event>,
}

/// What one of the reader's tasks has done.
enum Done {
    Read(ObjectId, Result<Option<Version>, Failure>),
    Paused(ObjectId),
}

impl<S: Source> Reader<S> {
    /// Reads until nobody receives the events.
    pub async fn run(self) {
        let mut tasks = JoinSet::new();
        let mut busy = BTreeSet::new();
        let mut failures: BTreeMap<ObjectId, u32> = BTreeMap::new();
        loop {
            while busy.len() < AT_ONCE
                && let Some(id) = self.wishes.take(&busy)
            {
                busy.insert(id.clone());
                let source = self.source.clone();
                tasks.spawn(async move {
                    let read = timeout(DEADLINE, source.read(&id)).await;
                    let late = || Failure {
                        why: "the API server does not answer in time".to_owned(),
                        is_outage: true,
                    };
                    let outcome = read.unwrap_or_else(|_| Err(late()));
                    Done::Read(id, outcome)
                });
            }
            let done = tokio::select! {
                () = self.wishes.wake.notified() => continue,
                () = self.events.closed() => return,
                Some(done) = tasks.join_next() => done,
            };
            match done {
                Ok(Done::Read(id, outcome)) => {
                    busy.remove(&id);
                    match &outcome {
                        Ok(_) => drop(failures.remove(&id)),
                        Err(Failure { why, is_outage }) => {
                            let failures = failures.entry(id.clone()).or_default();
                            if *failures == 0 {
                                tracing::warn!(object = %id, why, "values cannot be read");
                            }
                            let pause = FIRST_PAUSE.saturating_mul(1 << (*failures).min(6));
                            *failures = failures.saturating_add(1);
                            let longest = match is_outage {
                                true => LONGEST_OUTAGE_PAUSE,
                                false => LONGEST_PAUSE,
                            };
                            let id = id.clone();
                            tasks.spawn(async move {
                                sleep(pause.min(longest)).await;
                                Done::Paused(id)
                            });
                        }
                    }
                    let outcome = outcome.map_err(|failure| failure.why);
                    let at = unix_ns();
                    let event = Event::Values { id, outcome, at };
                    if self.events.send(event).await.is_err() {
                        return;
                    }
                }
                Ok(Done::Paused(id)) => {
                    self.wishes.again(&id);
                    if !self.wishes.inner.lock().wanted.contains(&id) {
                        failures.remove(&id);
                    }
                }
                Err(error) => {
                    // A request panicked, and which one is not known: what is under way may be asked for twice.
                    tracing::error!(%error, "a request for values has failed");
                    busy.clear();
                }
            }
        }
    }
}

#[cfg(test)]
#[path = "reader_tests.rs"]
mod tests;
