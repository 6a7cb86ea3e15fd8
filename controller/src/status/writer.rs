//! The leader's loop: take names, compute statuses, write what differs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use gateway_api::backend_tls_policy::BackendTlsPolicy;
use gateway_api::gateway::Gateway;
use gateway_api::gateway_class::GatewayClass;
use gateway_api::grpc_route::GrpcRoute;
use gateway_api::http_route::HttpRoute;
use gateway_api::listener_set::ListenerSet;
use gateway_api::tcp_route::TcpRoute;
use gateway_api::tls_route::TlsRoute;
use gateway_api::udp_route::UdpRoute;
use k8s_openapi::api::networking::v1::Ingress;
use k8s_openapi::jiff::{Timestamp, Unit};
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::Written;
use super::queue::{Next, Queue};
use super::shared::{SharedList, ours, replaced, shared_list};
use crate::leader::{LAST_REQUESTS, Leadership};
use crate::metrics::Metrics;
use crate::watch::handle::WorldHandle;
use crate::world::{ObjectId, ObjectKind};

/// Under which the server knows what is ours.
pub(crate) const FIELD_MANAGER: &str = "diolkos-controller";
/// Writes a second in the long run, and at once after a pause.
const RATE: f64 = 50.0;
const BURST: f64 = 200.0;
/// Statuses that are computed together, and written before Gateways are looked at again.
const BATCH: usize = 32;
/// Requests under way at a time.
const CONCURRENCY: usize = 8;
/// Before another leader begins.
const WRITE: Duration = LAST_REQUESTS;
/// Other replicas need so long to tell a new leader how far their data planes are.
const MEET: Duration = Duration::from_millis(500);
/// Data planes need so long to find a new leader, which is the longest pause between two attempts of theirs: that there
/// is none of an object's, or one missing, is not said before, where its status says something else.
const RETURN: Duration = Duration::from_secs(10);
/// Data planes have mostly answered a change after so long: one write says all of it.
const SETTLE: Duration = Duration::from_millis(100);
/// Data planes that have not answered after so long are written of as such.
const ANSWER: Duration = Duration::from_millis(400);
/// After a failed write, between two looks at what waits for data planes, and between two writes of one Gateway,
/// which counts its Routes.
const AGAIN: Duration = Duration::from_millis(500);
/// Between two looks at what others have overwritten: who does so again and again is not answered each time.
const HEAL: Duration = Duration::from_secs(2);
/// Everything is looked at so often, whatever has been missed.
const LOOK_AT_ALL: Duration = Duration::from_secs(30);
/// A stopping leader writes for so long what is in the queue.
const FLUSH: Duration = Duration::from_secs(2);

/// See the module.
pub struct StatusWriter {
    pub client: Client,
    pub world: WorldHandle,
    pub queue: Arc<Queue>,
    pub written: Arc<Written>,
    pub metrics: Arc<Metrics>,
    pub leadership: Leadership,
    /// Ticks when data planes have answered.
    pub progress: watch::Receiver<u64>,
}

/// How often a shared status is read again at once when somebody else was faster.
const ATTEMPTS: usize = 3;

/// What the loop keeps from one round to the next.
struct Pending {
    bucket: Bucket,
    /// Statuses that change when data planes answer, and since when each has waited.
    waiting: BTreeMap<ObjectId, Instant>,
    /// Of these, those whose data planes are given a moment before that is written.
    unanswered: BTreeSet<ObjectId>,
    /// Until when data planes may be on their way.
    returning: Option<Instant>,
    /// There is no later moment.
    last: bool,
    /// To be looked at again after a pause.
    later: BTreeSet<ObjectId>,
    /// When the statuses of GatewayConfigs, Gateways and ListenerSets were last written, as long as that keeps the next ones waiting.
    paced: BTreeMap<ObjectId, Instant>,
}

impl Pending {
    fn new() -> Self {
        Self {
            bucket: Bucket::new(Instant::now()),
            waiting: BTreeMap::new(),
            unanswered: BTreeSet::new(),
            returning: None,
            last: false,
            later: BTreeSet::new(),
            paced: BTreeMap::new(),
        }
    }

    /// What was to be done in another term of leading.
    fn forget(&mut self) {
        self.waiting.clear();
        self.unanswered.clear();
        self.later.clear();
    }

    /// Statuses that waited for data planes to come back, once these have had their time since everything is `known`:
    /// they are not let in before.
    fn overdue(&mut self, known: bool) -> Vec<ObjectId> {
        let now = Instant::now();
        match self.returning {
            Some(_) if !known => self.returning = Some(now + RETURN),
            Some(until) if until <= now => {
                self.returning = None;
                return self.waiting.keys().cloned().collect();
            }
            _ => {}
        }
        Vec::new()
    }

    /// Notes that a status waits for data planes; whether these are still given a moment before that is written.
    fn waits_first(&mut self, id: &ObjectId) -> bool {
        let since = self.waiting.entry(id.clone()).or_insert_with(Instant::now);
        since.elapsed() < ANSWER && !self.last
    }
}

/// How a write ended.
#[derive(PartialEq, Eq)]
enum Outcome {
    Written,
    /// Once more, later.
    Failed,
    /// There is nothing to write to.
    Dropped,
}

impl StatusWriter {
    /// Writes while leading, until `stop`; then what is in the queue for a short time.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut pending = Pending::new();
        let mut again = interval(AGAIN);
        again.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut heal = interval(HEAL);
        heal.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut look_at_all = interval(LOOK_AT_ALL);
        let mut term = None;
        loop {
            let before = std::mem::replace(&mut term, self.leadership.term());
            let leads = term.is_some();
            if term != before {
                pending.forget();
                self.queue.clear();
                drop(self.written.overwritten());
                if leads {
                    sleep(MEET).await;
                    pending.returning = Some(Instant::now() + RETURN);
                    self.queue.push_all();
                }
            }
            tokio::select! {
                () = stop.cancelled() => break,
                () = self.leadership.changed() => {}
                () = self.queue.wait(), if leads => {
                    sleep(SETTLE).await;
                    self.work(&mut pending, &stop).await;
                }
                _ = again.tick(), if leads => {
                    pending.paced.retain(|_, at| at.elapsed() < AGAIN);
                    self.queue.push(std::mem::take(&mut pending.later));
                    self.queue.push(std::mem::take(&mut pending.unanswered));
                    self.queue.push(pending.overdue(self.world.missing().is_empty()));
                    if self.progress.has_changed().unwrap_or(false) {
                        self.progress.mark_unchanged();
                        self.queue.push(pending.waiting.keys().cloned());
                    }
                }
                _ = heal.tick(), if leads => match self.written.overwritten() {
                    Next::All => self.queue.push_all(),
                    Next::Some(ids) => self.queue.push(ids),
                },
                _ = look_at_all.tick(), if leads => self.queue.push_all(),
            }
        }
        let go_on = CancellationToken::new();
        pending.paced.clear();
        pending.last = true;
        self.queue.push(std::mem::take(&mut pending.later));
        self.queue.push(std::mem::take(&mut pending.unanswered));
        if timeout(FLUSH, self.work(&mut pending, &go_on))
            .await
            .is_err()
        {
            tracing::warn!("not every status could be written before the stop");
        }
    }

    /// Empties the queue.
    async fn work(&self, pending: &mut Pending, stop: &CancellationToken) {
        while self.leadership.holds() && !stop.is_cancelled() {
            pending.paced.retain(|_, at| at.elapsed() < AGAIN);
            let due: Vec<_> = pending
                .later
                .iter()
                .filter(|id| id.kind.has_listeners() && !pending.paced.contains_key(id))
                .cloned()
                .collect();
            pending.later.retain(|id| !due.contains(id));
            self.queue.push(due);
            let ids = match self.queue.take(BATCH) {
                None => return,
                Some(Next::Some(ids)) => ids,
                Some(Next::All) => {
                    self.queue.push(self.world.ids().await);
                    continue;
                }
            };
            let mut writes = Vec::new();
            let now = now();
            for wanted in self.world.statuses(ids).await {
                let status = match wanted.status {
                    Some(status) => status,
                    // It has no parent of ours any more, and so no entry of ours.
                    None if is_of_several(wanted.id.kind) && !self.written.is_empty(&wanted.id) => {
                        json!({})
                    }
                    None => {
                        pending.waiting.remove(&wanted.id);
                        continue;
                    }
                };
                if !wanted.waits {
                    pending.waiting.remove(&wanted.id);
                } else {
                    let waits_first = pending.waits_first(&wanted.id);
                    let may_return = wanted.alone && pending.returning.is_some();
                    if may_return && !self.written.is_empty(&wanted.id) {
                        continue;
                    }
                    if waits_first {
                        // Most answer meanwhile, and then one write says all of it.
                        pending.unanswered.insert(wanted.id);
                        continue;
                    }
                }
                match self.written.stamp(&wanted.id, status, &now) {
                    Some(_)
                        if pending
                            .paced
                            .get(&wanted.id)
                            .is_some_and(|at| at.elapsed() < AGAIN) =>
                    {
                        pending.later.insert(wanted.id);
                    }
                    Some(status) => writes.push((wanted.id, wanted.uid, status)),
                    None => self.count("skipped_equal"),
                }
            }
            // One object stands once in a batch, and batches follow each other: no two writes of one object at a time.
            let mut writes = writes.into_iter();
            loop {
                let some: Vec<_> = writes.by_ref().take(CONCURRENCY).collect();
                if some.is_empty() {
                    break;
                }
                let now = Instant::now();
                let gateways = some
                    .iter()
                    .map(|(id, ..)| id)
                    .filter(|id| id.kind.has_listeners());
                pending.paced.extend(gateways.map(|id| (id.clone(), now)));
                sleep(pending.bucket.take(some.len(), now)).await;
                let some = some.into_iter().map(|(id, uid, status)| async move {
                    let failed = self.write(&id, &uid, &status).await == Outcome::Failed;
                    failed.then_some(id)
                });
                pending
                    .later
                    .extend(join_all(some).await.into_iter().flatten());
            }
        }
    }

    async fn write(&self, id: &ObjectId, uid: &str, status: &Value) -> Outcome {
        let Some(newest) = resource(id.kind) else {
            return Outcome::Dropped;
        };
        let resource = self.written.followed(id.kind).unwrap_or(newest);
        let api: Api<DynamicObject> = match &*id.namespace {
            "" => Api::all_with(self.client.clone(), &resource),
            namespace => Api::namespaced_with(self.client.clone(), namespace, &resource),
        };
        let written = match shared_list(id.kind) {
            None => timeout(WRITE, self.apply(&api, &resource, id, uid, status)).await,
            Some(list) => timeout(WRITE, self.replace(&api, list, id, uid, status)).await,
        };
        match written {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(kube::Error::Api(status))) if status.code == 404 => Outcome::Dropped,
            Ok(Err(kube::Error::Api(status))) if status.code == 409 => {
                self.count("conflict");
                Outcome::Failed
            }
            Ok(Err(error)) => {
                tracing::warn!(object = %id, %error, "cannot write the status");
                self.count("failed");
                Outcome::Failed
            }
            Err(_) => {
                tracing::warn!(object = %id, "the API server did not take the status in time");
                self.count("failed");
                Outcome::Failed
            }
        }
    }

    /// A status that is ours alone.
    async fn apply(
        &self,
        api: &Api<DynamicObject>,
        resource: &ApiResource,
        id: &ObjectId,
        uid: &str,
        status: &Value,
    ) -> Result<Outcome, kube::Error> {
        // Asked again for each write: the Lease may have gone while this one waited, and may be back soon.
        if !self.leadership.holds() {
            return Ok(Outcome::Failed);
        }
        let mut patch = json!({
            "apiVersion": resource.api_version,
            "kind": resource.kind,
            "metadata": { "name": id.name },
            "status": status,
        });
        // The server does not compare the uid of a status, but refuses it when the object has changed since it was seen,
        // and so when another has its name by now: what is true of one would be a lie about the other.
        let version = self.written.version_of(id, uid);
        match &version {
            Some(version) => patch["metadata"]["resourceVersion"] = (&**version).into(),
            None if uid.is_empty() => {}
            None => return Ok(self.is_of_another(id)),
        }
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let patch = Patch::Apply(&patch);
        let now = api.patch_status(&id.name, &params, &patch).await?;
        if let (Some(from), Some(to)) = (&version, &now.metadata.resource_version) {
            self.written.moved(id, from, to);
        }
        self.written.note(id, Some(status));
        self.count("written");
        Ok(Outcome::Written)
    }

    /// Our entries in a list of several controllers.
    async fn replace(
        &self,
        api: &Api<DynamicObject>,
        list: SharedList,
        id: &ObjectId,
        uid: &str,
        status: &Value,
    ) -> Result<Outcome, kube::Error> {
        let mut attempt = 1;
        loop {
            let present = api.get(&id.name).await?;
            let present_uid = present.metadata.uid.as_deref().unwrap_or_default();
            if !uid.is_empty() && present_uid != uid {
                return Ok(self.is_of_another(id));
            }
            let empty = Value::Null;
            let of_all = present.data.get("status").unwrap_or(&empty);
            let Some(entries) = replaced(list, of_all, status) else {
                self.written.note(id, Some(status));
                self.count("skipped_equal");
                return Ok(Outcome::Written);
            };
            if !self.leadership.holds() {
                return Ok(Outcome::Failed);
            }
            let entries = json!({ list.name: entries });
            // The version makes the server refuse it when the object has changed since.
            let patch = json!({
                "metadata": { "resourceVersion": present.metadata.resource_version },
                "status": entries,
            });
            let params = PatchParams {
                field_manager: Some(FIELD_MANAGER.to_owned()),
                ..PatchParams::default()
            };
            match api
                .patch_status(&id.name, &params, &Patch::Merge(&patch))
                .await
            {
                Ok(_) => {
                    self.written.note(id, ours(id.kind, Some(entries)).as_ref());
                    self.count("written");
                    return Ok(Outcome::Written);
                }
                Err(kube::Error::Api(error)) if error.code == 409 && attempt < ATTEMPTS => {
                    self.count("conflict");
                    attempt += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The watch is about to tell of it, or has done so just now.
    fn is_of_another(&self, id: &ObjectId) -> Outcome {
        tracing::debug!(object = %id, "the status is that of an object that is gone");
        self.count("conflict");
        Outcome::Dropped
    }

    fn count(&self, result: &str) {
        self.metrics
            .status_writes
            .with_label_values(&[result])
            .inc();
    }
}

/// Whether other controllers write the statuses of objects of the kind, too.
fn is_of_several(kind: ObjectKind) -> bool {
    kind == ObjectKind::Ingress || shared_list(kind).is_some()
}

/// In the version that this build knows; `None`: it has no status of ours.
fn resource(kind: ObjectKind) -> Option<ApiResource> {
    Some(match kind {
        ObjectKind::GatewayConfig => ApiResource::erase::<crds::GatewayConfig>(&()),
        ObjectKind::Route => ApiResource::erase::<crds::Route>(&()),
        ObjectKind::Upstream => ApiResource::erase::<crds::Upstream>(&()),
        ObjectKind::Plugin => ApiResource::erase::<crds::Plugin>(&()),
        ObjectKind::Tenant => ApiResource::erase::<crds::Tenant>(&()),
        ObjectKind::Consumer => ApiResource::erase::<crds::Consumer>(&()),
        ObjectKind::ModelCatalog => ApiResource::erase::<crds::ModelCatalog>(&()),
        ObjectKind::GatewayClass => ApiResource::erase::<GatewayClass>(&()),
        ObjectKind::Gateway => ApiResource::erase::<Gateway>(&()),
        ObjectKind::ListenerSet => ApiResource::erase::<ListenerSet>(&()),
        ObjectKind::HTTPRoute => ApiResource::erase::<HttpRoute>(&()),
        ObjectKind::GRPCRoute => ApiResource::erase::<GrpcRoute>(&()),
        ObjectKind::TLSRoute => ApiResource::erase::<TlsRoute>(&()),
        ObjectKind::TCPRoute => ApiResource::erase::<TcpRoute>(&()),
        ObjectKind::UDPRoute => ApiResource::erase::<UdpRoute>(&()),
        ObjectKind::BackendTLSPolicy => ApiResource::erase::<BackendTlsPolicy>(&()),
        ObjectKind::Ingress => ApiResource::erase::<Ingress>(&()),
        _ => return None,
    })
}

/// As conditions write it: whole seconds in UTC.
fn now() -> String {
    let now = Timestamp::now();
    now.round(Unit::Second).unwrap_or(now).to_string()
}

/// A token bucket.
struct Bucket {
    tokens: f64,
    filled: Instant,
}

impl Bucket {
    fn new(now: Instant) -> Self {
        Self {
            tokens: BURST,
            filled: now,
        }
    }

    /// Takes tokens, on credit where there are too few; returns how long to wait before acting.
    fn take(&mut self, count: usize, now: Instant) -> Duration {
        let grown = now.duration_since(self.filled).as_secs_f64() * RATE;
        self.tokens = BURST.min(self.tokens + grown) - count as f64;
        self.filled = now;
        Duration::from_secs_f64((-self.tokens).max(0.0) / RATE)
    }
}

#[cfg(test)]
#[path = "writer_tests.rs"]
mod tests;
