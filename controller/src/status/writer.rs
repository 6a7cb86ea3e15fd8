//! The leader's loop: take names, compute statuses, write what differs.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use k8s_openapi::jiff::{Timestamp, Unit};
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::Written;
use super::queue::{Next, Queue};
use crate::leader::Leadership;
use crate::metrics::Metrics;
use crate::watch::task::WorldHandle;
use crate::world::{ObjectId, ObjectKind};

const FIELD_MANAGER: &str = "diolkos-controller";
/// Writes a second in the long run, and at once after a pause.
const RATE: f64 = 50.0;
const BURST: f64 = 200.0;
/// Statuses that are computed together.
const BATCH: usize = 256;
/// Requests under way at a time.
const CONCURRENCY: usize = 8;
const WRITE: Duration = Duration::from_secs(5);
/// Data planes have mostly answered a change after so long: one write says all of it.
const SETTLE: Duration = Duration::from_millis(100);
/// After a failed write, and between two looks at what waits for data planes.
const AGAIN: Duration = Duration::from_millis(500);
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

/// How a write ended.
#[derive(PartialEq, Eq)]
enum Outcome {
    Written,
    /// Once more, later.
    Failed,
    /// Not ours to write any more.
    Dropped,
}

impl StatusWriter {
    /// Writes while leading, until `stop`; then what is in the queue for a short time.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut bucket = Bucket::new(Instant::now());
        let mut waiting = BTreeSet::new();
        let mut again = interval(AGAIN);
        again.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut look_at_all = interval(LOOK_AT_ALL);
        let mut led = false;
        let mut later = BTreeSet::new();
        loop {
            let leads = self.leadership.holds();
            if leads && !led {
                self.queue.push_all();
            }
            if !leads {
                waiting.clear();
                later.clear();
                self.queue.clear();
            }
            led = leads;
            tokio::select! {
                () = stop.cancelled() => break,
                () = self.leadership.changed() => {}
                () = self.queue.wait(), if leads => {
                    sleep(SETTLE).await;
                    self.work(&mut bucket, &mut waiting, &mut later, &stop).await;
                }
                _ = again.tick(), if leads => {
                    self.queue.push(std::mem::take(&mut later));
                    if self.progress.has_changed().unwrap_or(false) {
                        self.progress.mark_unchanged();
                        self.queue.push(waiting.iter().cloned());
                    }
                }
                _ = look_at_all.tick(), if leads => self.queue.push_all(),
            }
        }
        let go_on = CancellationToken::new();
        let flush = self.work(&mut bucket, &mut waiting, &mut later, &go_on);
        if timeout(FLUSH, flush).await.is_err() {
            tracing::warn!("not every status could be written before the stop");
        }
    }

    /// Empties the queue.
    async fn work(
        &self,
        bucket: &mut Bucket,
        waiting: &mut BTreeSet<ObjectId>,
        later: &mut BTreeSet<ObjectId>,
        stop: &CancellationToken,
    ) {
        while self.leadership.holds() && !stop.is_cancelled() {
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
                let Some(status) = wanted.status else {
                    waiting.remove(&wanted.id);
                    continue;
                };
                match wanted.waits {
                    true => waiting.insert(wanted.id.clone()),
                    false => waiting.remove(&wanted.id),
                };
                match self.written.stamp(&wanted.id, status, &now) {
                    Some(status) => writes.push((wanted.id, status)),
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
                sleep(bucket.take(some.len(), Instant::now())).await;
                let some = some.into_iter().map(|(id, status)| async move {
                    let failed = self.write(&id, &status).await == Outcome::Failed;
                    failed.then_some(id)
                });
                later.extend(join_all(some).await.into_iter().flatten());
            }
        }
    }

    async fn write(&self, id: &ObjectId, status: &Value) -> Outcome {
        // Asked again for each write: the Lease may have gone while this one waited.
        if !self.leadership.holds() {
            return Outcome::Dropped;
        }
        let Some(resource) = resource(id.kind) else {
            return Outcome::Dropped;
        };
        let api: Api<DynamicObject> = match id.namespace.as_str() {
            "" => Api::all_with(self.client.clone(), &resource),
            namespace => Api::namespaced_with(self.client.clone(), namespace, &resource),
        };
        let patch = json!({
            "apiVersion": resource.api_version,
            "kind": resource.kind,
            "metadata": { "name": id.name },
            "status": status,
        });
        let params = PatchParams::apply(FIELD_MANAGER).force();
        match timeout(
            WRITE,
            api.patch_status(&id.name, &params, &Patch::Apply(&patch)),
        )
        .await
        {
            Ok(Ok(_)) => {
                self.written.note(id, Some(status));
                self.count("written");
                Outcome::Written
            }
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

    fn count(&self, result: &str) {
        self.metrics
            .status_writes
            .with_label_values(&[result])
            .inc();
    }
}

fn resource(kind: ObjectKind) -> Option<ApiResource> {
    Some(match kind {
        ObjectKind::GatewayConfig => ApiResource::erase::<crds::GatewayConfig>(&()),
        ObjectKind::Route => ApiResource::erase::<crds::Route>(&()),
        ObjectKind::Upstream => ApiResource::erase::<crds::Upstream>(&()),
        ObjectKind::Plugin => ApiResource::erase::<crds::Plugin>(&()),
        ObjectKind::Tenant => ApiResource::erase::<crds::Tenant>(&()),
        ObjectKind::Consumer => ApiResource::erase::<crds::Consumer>(&()),
        ObjectKind::ModelCatalog => ApiResource::erase::<crds::ModelCatalog>(&()),
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
mod tests {
    use super::*;

    #[test]
    fn the_bucket_gives_a_burst_and_then_its_rate() {
        let now = Instant::now();
        let mut bucket = Bucket::new(now);
        assert_eq!(bucket.take(200, now), Duration::ZERO);
        assert_eq!(bucket.take(50, now), Duration::from_secs(1));
        assert_eq!(bucket.take(1, now + Duration::from_secs(2)), Duration::ZERO);
        assert_eq!(
            bucket.take(200, now + Duration::from_secs(1000)),
            Duration::ZERO
        );
    }

    #[test]
    fn times_are_written_as_the_api_server_does() {
        let text = now();
        assert_eq!(text.len(), "2026-11-21T10:00:00Z".len(), "{text}");
        assert!(text.ends_with('Z'));
    }

    #[test]
    fn every_kind_of_ours_has_a_status_to_write() {
        for kind in ObjectKind::ALL {
            assert_eq!(resource(*kind).is_some(), kind.is_ours());
        }
    }
}
