//! Versions that serve in place of present ones, kept in a Secret of the controller's namespace.
//!
//! From one replica to the next they go over the leader's streams (`replicas`). A controller that starts where no other is
//! left has never seen them, and takes them from here before it publishes anything. There may be certificates with their keys
//! among them, so it is a Secret.

use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::ObjectMeta;
use prometheus::{IntCounter, IntGauge};
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::leader::Leadership;
use crate::objects::{ApiError, Objects};
use crate::outage::Outage;
use crate::watch::Event;
use crate::watch::handle::WorldHandle;
use crate::world::Object;

/// Name of the Secret.
pub const SECRET: &str = "diolkos-stand-ins";
/// The key in it: a list of manifests.
const KEY: &str = "manifests.json";
/// A Secret takes 1 MiB.
const MOST_BYTES: usize = 900 * 1024;
/// What changes within this time is written together.
const GATHER: Duration = Duration::from_secs(1);
/// The API server has so long to answer.
const ANSWER: Duration = Duration::from_secs(10);
/// Pause after a failure.
const RETRY: Duration = Duration::from_secs(5);

/// Tells the owner of the world which versions stood in for others when they were written last, once. At the latest after
/// `patience` it is said that none did, and what was written when it can be read.
pub async fn recall(
    secrets: impl Objects<Secret>,
    events: mpsc::Sender<Event>,
    patience: Duration,
) {
    let late = Instant::now() + patience;
    let mut outage = Outage::default();
    let mut said = false;
    loop {
        let error = match within(secrets.get(SECRET)).await {
            Ok(found) => {
                if let Some(after) = outage.ends() {
                    tracing::info!(secret = SECRET, ?after, "it can be read again");
                }
                let objects = found.as_ref().map(read).unwrap_or_default();
                drop(events.send(Event::Recalled(objects)).await);
                return;
            }
            Err(error) => error,
        };
        if let Some(lasting) = outage.fails() {
            tracing::warn!(secret = SECRET, %error, ?lasting, "which versions stood in for others cannot be read");
        }
        if !said && Instant::now() + RETRY > late {
            said = true;
            tracing::warn!("no version stands in for another that this replica has not seen");
            if events.send(Event::Recalled(Vec::new())).await.is_err() {
                return;
            }
        }
        sleep(RETRY).await;
    }
}

/// What of it can be read: another build may have written it.
fn read(secret: &Secret) -> Vec<Object> {
    let text = secret.data.as_ref().and_then(|data| data.get(KEY));
    let text = text.map_or(&b"[]"[..], |text| &text.0);
    let manifests: Vec<Value> = match serde_json::from_slice(text) {
        Ok(manifests) => manifests,
        Err(_) => {
            tracing::error!(secret = SECRET, key = KEY, "it is no list of manifests");
            return Vec::new();
        }
    };
    let objects = manifests.iter().filter_map(|m| Object::from_json(m).ok()?);
    let objects: Vec<Object> = objects.collect();
    if objects.len() < manifests.len() {
        let unread = manifests.len() - objects.len();
        tracing::warn!(secret = SECRET, unread, "some of it cannot be read");
    }
    objects
}

/// Writes them down while leading.
pub struct Keeper<S> {
    /// Those of the controller's namespace.
    pub secrets: S,
    pub world: WorldHandle,
    pub leadership: Leadership,
    /// Ticks when others stand in; `None` until something has been published.
    pub changed: watch::Receiver<Option<u64>>,
    /// Shows how many are kept.
    pub kept: IntGauge,
    /// Counts those for which there was no room.
    pub dropped: IntCounter,
}

impl<S: Objects<Secret>> Keeper<S> {
    /// Until `stop`, and what has changed by then.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut outage = Outage::default();
        let mut due = None;
        self.changed.mark_changed();
        loop {
            let ends = tokio::select! {
                () = stop.cancelled() => true,
                () = self.leadership.changed() => {
                    due = Some(Instant::now());
                    false
                }
                Ok(()) = self.changed.changed() => {
                    due.get_or_insert_with(|| Instant::now() + GATHER);
                    continue;
                }
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => false,
            };
            if due.take().is_none() || !self.leadership.holds() || self.changed.borrow().is_none() {
                if ends {
                    return;
                }
                continue;
            }
            match self.keep().await {
                Ok(()) => {
                    if let Some(after) = outage.ends() {
                        tracing::info!(secret = SECRET, ?after, "it is written again");
                    }
                }
                Err(error) => {
                    due = Some(Instant::now() + RETRY);
                    if let Some(lasting) = outage.fails() {
                        tracing::warn!(secret = SECRET, %error, ?lasting, "which versions stand in for others cannot be written: a controller that starts alone would not know them");
                    }
                }
            }
            if ends {
                return;
            }
        }
    }

    async fn keep(&self) -> Result<(), ApiError> {
        let Some(now) = self.world.stand_ins(None).await else {
            return Ok(());
        };
        let text = self.text(&now.manifests);
        let found = within(self.secrets.get(SECRET)).await?;
        let held = found.as_ref().and_then(|secret| secret.data.as_ref());
        let held = held.and_then(|data| data.get(KEY)).map(|held| &*held.0);
        if held.unwrap_or(b"[]") == text.as_bytes() {
            return Ok(());
        }
        let data = [(KEY.to_owned(), ByteString(text.into_bytes()))].into();
        match found {
            Some(found) => {
                let secret = Secret {
                    data: Some(data),
                    ..found
                };
                self.write(self.secrets.replace(SECRET, &secret)).await
            }
            None => {
                let label = "app.kubernetes.io/managed-by".to_owned();
                let secret = Secret {
                    metadata: ObjectMeta {
                        name: Some(SECRET.to_owned()),
                        labels: Some([(label, "diolkos-controller".to_owned())].into()),
                        ..ObjectMeta::default()
                    },
                    data: Some(data),
                    ..Secret::default()
                };
                self.write(self.secrets.create(&secret)).await
            }
        }
    }

    /// Nothing is written by who leads no more.
    async fn write(
        &self,
        request: impl Future<Output = Result<Secret, ApiError>>,
    ) -> Result<(), ApiError> {
        match self.leadership.request(within(request)).await {
            Some(written) => written.map(drop),
            None => Ok(()),
        }
    }

    /// As many as there is room for.
    fn text(&self, manifests: &[Value]) -> String {
        let mut text = String::from("[");
        let mut kept = 0;
        for manifest in manifests {
            let manifest = manifest.to_string();
            if text.len() + manifest.len() + 2 > MOST_BYTES {
                continue;
            }
            if kept > 0 {
                text.push(',');
            }
            text.push_str(&manifest);
            kept += 1;
        }
        text.push(']');
        let without = manifests.len() - kept;
        if without > 0 {
            tracing::warn!(
                secret = SECRET,
                kept,
                without,
                "there is no room for all versions that stand in for others: a controller that starts alone would not know some"
            );
            self.dropped.inc_by(without as u64);
        }
        self.kept.set(i64::try_from(kept).unwrap_or(i64::MAX));
        text
    }
}

async fn within<T>(call: impl Future<Output = Result<T, ApiError>>) -> Result<T, ApiError> {
    match timeout(ANSWER, call).await {
        Ok(answer) => answer,
        Err(_) => Err(ApiError::Failed(format!("no answer within {ANSWER:?}"))),
    }
}

#[cfg(test)]
#[path = "stand_ins_tests.rs"]
mod tests;
