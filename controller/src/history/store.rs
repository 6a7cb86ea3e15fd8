//! Where a rollback stands: a ConfigMap in the controller's namespace, which all replicas follow.

use super::Rollback;
use crate::status::FIELD_MANAGER;
use crate::watch::Event;
use crate::watch::one::One;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};

/// Name of the ConfigMap.
pub const NAME: &str = "diolkos-rollback";
/// The key in it.
const KEY: &str = "rollback.json";
/// A ConfigMap takes 1 MiB.
const MOST_BYTES: usize = 900 * 1024;
/// The API server has so long to answer.
const WRITE: Duration = Duration::from_secs(10);

/// Why a rollback is not written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error(
        "the {objects} objects that changed since take {bytes} bytes, and at most {MOST_BYTES} can be held: go back to a later revision"
    )]
    TooLarge { objects: usize, bytes: usize },
    #[error("ConfigMap {NAME} cannot be written: {0}")]
    Api(String),
}

/// See the module.
#[derive(Clone)]
pub struct Store {
    maps: Api<ConfigMap>,
}

impl Store {
    pub fn new(client: Client, namespace: &str) -> Self {
        Self {
            maps: Api::namespaced(client, namespace),
        }
    }

    /// # Errors
    /// [`StoreError`]; nothing has changed then.
    pub async fn set(&self, rollback: &Rollback) -> Result<(), StoreError> {
        let text = rollback.to_json().to_string();
        if text.len() > MOST_BYTES {
            return Err(StoreError::TooLarge {
                objects: rollback.objects.len(),
                bytes: text.len(),
            });
        }
        let map = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": NAME, "labels": {"app.kubernetes.io/part-of": "diolkos"}},
            "data": {KEY: text},
        });
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let patch = Patch::Apply(&map);
        within(self.maps.patch(NAME, &params, &patch)).await
    }

    /// # Errors
    /// [`StoreError::Api`]. That there was none is no error.
    pub async fn clear(&self) -> Result<(), StoreError> {
        let params = DeleteParams::default();
        let deleted = async {
            match self.maps.delete(NAME, &params).await {
                Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
                other => other.map(drop),
            }
        };
        within(deleted).await
    }

    /// Tells what is held until nobody listens. At the latest after `patience` it is said once, even if nobody knows.
    pub async fn follow(self, events: mpsc::Sender<Event>, patience: Duration) {
        let mut map = One::new(self.maps, NAME);
        let late = Instant::now() + patience;
        let mut said = false;
        loop {
            let now = tokio::select! {
                now = map.next() => now,
                () = sleep_until(late), if !said => {
                    said = true;
                    tracing::warn!(map = NAME, "whether something is rolled back cannot be read: nothing is held");
                    if events.send(Event::RolledBack(None)).await.is_err() {
                        return;
                    }
                    continue;
                }
            };
            let now = match now {
                Ok(now) => now,
                Err(error) => {
                    if let Some(lasting) = map.fails() {
                        tracing::warn!(map = NAME, %error, ?lasting, "the watch is interrupted; what is held stays held");
                    }
                    continue;
                }
            };
            let rollback = match now.map(|map| read(&map)) {
                Some(Err(error)) => {
                    tracing::error!(
                        map = NAME,
                        error,
                        "it cannot be read; what is held stays held"
                    );
                    if said {
                        continue;
                    }
                    None
                }
                Some(Ok(rollback)) => Some(Box::new(rollback)),
                None => None,
            };
            said = true;
            if events.send(Event::RolledBack(rollback)).await.is_err() {
                return;
            }
        }
    }
}

fn read(map: &ConfigMap) -> Result<Rollback, String> {
    let text = map.data.as_ref().and_then(|data| data.get(KEY));
    let text = text.ok_or_else(|| format!("it has no {KEY}"))?;
    let value = serde_json::from_str(text).map_err(|e| format!("{KEY}: {e}"))?;
    Rollback::from_json(&value).map_err(|e| format!("{KEY}: {e}"))
}

async fn within<T>(call: impl Future<Output = Result<T, kube::Error>>) -> Result<(), StoreError> {
    match timeout(WRITE, call).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(StoreError::Api(error.to_string())),
        Err(_) => Err(StoreError::Api(format!("no answer within {WRITE:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake_api::{FakeApi, refusal, response};
    use serde_json::Value;
    use std::collections::BTreeMap;
    use std::future::pending;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn list(items: &[Value]) -> Value {
        json!({
            "apiVersion": "v1", "kind": "ConfigMapList",
            "metadata": {"resourceVersion": "5"}, "items": items,
        })
    }

    /// Nothing else would ever tell that the rollback has ended meanwhile.
    #[tokio::test(start_paused = true)]
    async fn what_is_too_old_to_go_on_from_is_listed_anew() {
        let rollback = Rollback {
            revision: "000000000001".parse().unwrap(),
            since: "2026-01-31T12:00:00Z".to_owned(),
            objects: BTreeMap::new(),
        };
        let map = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"namespace": "own", "name": NAME, "resourceVersion": "4"},
            "data": {KEY: rollback.to_json().to_string()},
        });
        let lists = [list(&[map]), list(&[])];
        let asked_for = Arc::new(AtomicUsize::new(0));
        let (client, _) = FakeApi::serving(move |asked| {
            let is_list = !asked.query.contains("watch=true");
            let number = match is_list {
                true => asked_for.fetch_add(1, Ordering::Relaxed),
                false => asked_for.load(Ordering::Relaxed) - 1,
            };
            let answer = match is_list {
                true => lists.get(number).cloned().map(|list| (200, list)),
                false => (number == 0).then(|| refusal(410)),
            };
            async move {
                match answer {
                    Some(answer) => response(answer),
                    None => pending().await,
                }
            }
        });
        let (sender, mut events) = mpsc::channel(1);
        let store = Store::new(client, "own");
        tokio::spawn(store.follow(sender, Duration::from_secs(60)));
        for expected in [Some(rollback), None] {
            let next = timeout(Duration::from_secs(600), events.recv()).await;
            let Ok(Some(Event::RolledBack(held))) = next else {
                panic!("{next:?}");
            };
            assert_eq!(held.map(|held| *held), expected);
        }
    }
}
