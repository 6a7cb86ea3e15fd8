//! Kubernetes Events (`events.k8s.io/v1`) about endpoints that work no longer, or again (features.md F59).
//!
//! The leader tells what the data planes connected to it agree on; if every replica did, each Event would be there more
//! than once. They are few, whatever happens: what comes together is one Event, an upstream that flaps is told of less
//! and less, and there is a rate for all together.

pub mod objections;
mod story;

use crate::health::Change;
use crate::leader::Leadership;
use crate::report::CONTROLLER_NAME;
use crate::watch::handle::WorldHandle;
use crate::world::{ObjectId, ObjectKind};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use prometheus::IntCounter;
use std::time::Duration;
use story::{Notice, Stories};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

/// Changes that wait to be looked at.
const WAITING: usize = 1024;
/// Between two Events.
const PACE: Duration = Duration::from_millis(100);
const WRITE: Duration = Duration::from_secs(5);
/// Who does what to what; the reasons of the Events.
const ACTION: &str = "CheckEndpoints";
const UNHEALTHY: &str = "BackendUnhealthy";
const HEALTHY: &str = "BackendHealthy";

/// Where changes go, and where Events are made of them.
pub fn queue() -> (mpsc::Sender<Change>, mpsc::Receiver<Change>) {
    mpsc::channel(WAITING)
}

/// See the module.
pub struct Announcer {
    pub client: Client,
    pub world: WorldHandle,
    /// Of this replica.
    pub identity: String,
    pub leadership: Leadership,
    pub changes: mpsc::Receiver<Change>,
    /// Changes that are not told of.
    pub dropped: IntCounter,
}

impl Announcer {
    /// Writes until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut stories = Stories::default();
        loop {
            let due = async {
                match stories.due() {
                    Some(due) => sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                change = self.changes.recv() => {
                    let Some(change) = change else { return };
                    if !self.leadership.holds() {
                        continue;
                    }
                    if !stories.note(&change, Instant::now()) {
                        self.dropped.inc();
                    }
                }
                () = due => {
                    for notice in stories.take(Instant::now()) {
                        self.write(&notice).await;
                        sleep(PACE).await;
                    }
                }
            }
        }
    }

    /// An Event that cannot be written is in the log.
    async fn write(&self, notice: &Notice) {
        let Some(id) = object_of(&notice.upstream) else {
            return;
        };
        let uid = self.world.uid(id.clone()).await;
        let event = event(notice, &id, uid, &self.identity, Timestamp::now());
        let events: Api<Event> = Api::namespaced(self.client.clone(), &id.namespace);
        let parameters = PostParams::default();
        let written = timeout(WRITE, events.create(&parameters, &event)).await;
        let error = match written {
            Ok(Ok(_)) => return,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer".to_owned(),
        };
        self.dropped.inc();
        tracing::warn!(
            event = "event_failed",
            upstream = &*notice.upstream,
            error,
            "an Event cannot be written"
        );
    }
}

fn event(
    notice: &Notice,
    id: &ObjectId,
    uid: Option<String>,
    identity: &str,
    now: Timestamp,
) -> Event {
    let (reason, kind) = match notice.healthy {
        true => (HEALTHY, "Normal"),
        false => (UNHEALTHY, "Warning"),
    };
    Event {
        metadata: ObjectMeta {
            // As the client library of Kubernetes calls them; 253 is the most that a name may have.
            name: Some(format!(
                "{}.{:x}{}",
                id.name.chars().take(200).collect::<String>(),
                now.as_nanosecond(),
                u8::from(notice.healthy)
            )),
            namespace: Some(id.namespace.to_string()),
            ..ObjectMeta::default()
        },
        event_time: Some(MicroTime(now)),
        reporting_controller: Some(CONTROLLER_NAME.to_owned()),
        reporting_instance: Some(identity.chars().take(128).collect()),
        action: Some(ACTION.to_owned()),
        reason: Some(reason.to_owned()),
        regarding: Some(ObjectReference {
            api_version: Some(match id.kind {
                ObjectKind::Upstream => "diolkos.io/v1alpha1".to_owned(),
                _ => "v1".to_owned(),
            }),
            kind: Some(id.kind.name().to_owned()),
            namespace: Some(id.namespace.to_string()),
            name: Some(id.name.to_string()),
            uid,
            ..ObjectReference::default()
        }),
        note: Some(notice.note.clone()),
        type_: Some(kind.to_owned()),
        ..Event::default()
    }
}

/// The object that an upstream resource is made of: `Upstream/NAMESPACE/NAME` or `Service/NAMESPACE/NAME:PORT`.
fn object_of(key: &str) -> Option<ObjectId> {
    let mut parts = key.splitn(3, '/');
    let (kind, namespace, name) = (parts.next()?, parts.next()?, parts.next()?);
    match kind {
        "Upstream" => Some(ObjectId::new(ObjectKind::Upstream, namespace, name)),
        "Service" => {
            let (name, _) = name.rsplit_once(':')?;
            Some(ObjectId::new(ObjectKind::Service, namespace, name))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_of_resources() {
        let found = |key| object_of(key).map(|id| id.key());
        assert_eq!(found("Upstream/a/b").as_deref(), Some("Upstream/a/b"));
        assert_eq!(found("Service/a/b:80").as_deref(), Some("Service/a/b"));
        for other in ["", "Upstream", "Upstream/a", "Service/a/b", "Secret/a/b"] {
            assert_eq!(found(other), None, "{other}");
        }
    }

    #[test]
    fn an_event_as_the_api_server_takes_it() {
        let notice = Notice {
            upstream: "Service/shop/web:80".into(),
            healthy: false,
            note: "1 endpoint does not work: 10.0.0.1:80 (active_check)".into(),
        };
        let id = object_of(&notice.upstream).unwrap();
        let now = Timestamp::from_second(1).unwrap();
        let event = event(&notice, &id, Some("u".into()), "replica-0", now);
        let json = serde_json::to_value(event).unwrap();
        assert_eq!(
            json,
            serde_json::json!({
                "apiVersion": "events.k8s.io/v1",
                "kind": "Event",
                "metadata": {"name": "web.3b9aca000", "namespace": "shop"},
                "eventTime": "1970-01-01T00:00:01.000000Z",
                "reportingController": "diolkos.io/controller",
                "reportingInstance": "replica-0",
                "action": "CheckEndpoints",
                "reason": "BackendUnhealthy",
                "regarding": {"apiVersion": "v1", "kind": "Service", "namespace": "shop", "name": "web", "uid": "u"},
                "note": "1 endpoint does not work: 10.0.0.1:80 (active_check)",
                "type": "Warning",
            })
        );
    }
}
