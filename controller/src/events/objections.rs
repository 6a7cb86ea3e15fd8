//! Kubernetes Events about Ingresses that are not served as they ask: such an object has no conditions that could say it.
//!
//! The leader tells of each Ingress once for as long as the same is wrong with it. The name of an Event is made of what it
//! says, so that another leader, or the same after a restart, does not tell it again while it is there.

use crate::leader::Leadership;
use crate::report::CONTROLLER_NAME;
use crate::status::{Next, Queue};
use crate::watch::handle::{Objections, WorldHandle};
use crate::world::{ObjectId, ObjectKind};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use prometheus::IntCounter;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

/// What happens within this time is told together.
const GATHER: Duration = Duration::from_secs(1);
/// Between two Events.
const PACE: Duration = Duration::from_millis(100);
const WRITE: Duration = Duration::from_secs(5);
/// Ingresses that are looked at together.
const BATCH: usize = 64;
/// Ingresses of which it is remembered what was told; then all is forgotten, and at worst told again.
const REMEMBERED: usize = 16_384;
/// Bytes of a note; the API server takes 1024.
const NOTE: usize = 1_000;
const ACTION: &str = "Translate";

/// Names of Ingresses that there may be something to say of.
pub fn queue() -> Arc<Queue> {
    Arc::new(Queue::uncounted())
}

/// See the module.
pub struct Objector {
    pub client: Client,
    pub world: WorldHandle,
    /// Of this replica.
    pub identity: String,
    pub leadership: Leadership,
    pub queue: Arc<Queue>,
    /// Events that cannot be written.
    pub dropped: IntCounter,
}

impl Objector {
    /// Writes while leading, until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut told: HashMap<ObjectId, u64> = HashMap::new();
        let mut led = false;
        loop {
            let leads = self.leadership.holds();
            if leads && !led {
                let ids = self.world.ids().await;
                self.queue.push(ids.into_iter().filter(is_ingress));
            }
            if !leads {
                self.queue.clear();
                told.clear();
            }
            led = leads;
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.leadership.changed() => {}
                () = self.queue.wait(), if leads => {
                    sleep(GATHER).await;
                    self.work(&mut told).await;
                }
            }
        }
    }

    /// Empties the queue.
    async fn work(&self, told: &mut HashMap<ObjectId, u64>) {
        while self.leadership.holds() {
            let ids = match self.queue.take(BATCH) {
                None => return,
                Some(Next::Some(ids)) => ids,
                Some(Next::All) => {
                    let ids = self.world.ids().await;
                    self.queue.push(ids.into_iter().filter(is_ingress));
                    continue;
                }
            };
            for objections in self.world.objections(ids).await {
                let Some(note) = note(&objections) else {
                    told.remove(&objections.id);
                    continue;
                };
                let hash = hash(&note);
                if told.len() >= REMEMBERED {
                    told.clear();
                }
                if told.insert(objections.id.clone(), hash) == Some(hash) {
                    continue;
                }
                let event = event(&objections, note, hash, &self.identity, Timestamp::now());
                self.write(&objections.id, &event).await;
                sleep(PACE).await;
            }
        }
    }

    /// An Event that cannot be written is in the log.
    async fn write(&self, id: &ObjectId, event: &Event) {
        let events: Api<Event> = Api::namespaced(self.client.clone(), &id.namespace);
        let parameters = PostParams::default();
        let error = match timeout(WRITE, events.create(&parameters, event)).await {
            Ok(Ok(_)) => return,
            // It has been told.
            Ok(Err(kube::Error::Api(status))) if status.code == 409 => return,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer".to_owned(),
        };
        self.dropped.inc();
        let note = event.note.as_deref().unwrap_or_default();
        tracing::warn!(event = "event_failed", object = %id, error, note, "an Event cannot be written");
    }
}

fn is_ingress(id: &ObjectId) -> bool {
    id.kind == ObjectKind::Ingress
}

/// All that is wrong, as far as it fits; `None`: nothing.
fn note(objections: &Objections) -> Option<String> {
    let mut note = String::new();
    for (i, (_, text)) in objections.all.iter().enumerate() {
        let left = objections.all.len() - i;
        let more = format!("; and {left} more");
        if i > 0 && note.len() + text.len() + more.len() + 2 > NOTE {
            note.push_str(&more);
            break;
        }
        if i > 0 {
            note.push_str("; ");
        }
        note.push_str(text);
    }
    if note.len() > NOTE {
        let mut end = NOTE - '…'.len_utf8();
        while !note.is_char_boundary(end) {
            end -= 1;
        }
        note.truncate(end);
        note.push('…');
    }
    (!note.is_empty()).then_some(note)
}

fn hash(text: &str) -> u64 {
    let hash = blake3::hash(text.as_bytes());
    let first = hash.as_bytes().iter().take(8);
    first.fold(0, |n, byte| (n << 8) | u64::from(*byte))
}

fn event(
    objections: &Objections,
    note: String,
    hash: u64,
    identity: &str,
    now: Timestamp,
) -> Event {
    let Objections { id, uid, all } = objections;
    let reason = all.first().map(|(reason, _)| reason.as_str());
    Event {
        metadata: ObjectMeta {
            name: Some(format!(
                "{}.{hash:016x}",
                id.name.chars().take(200).collect::<String>()
            )),
            namespace: Some(id.namespace.to_string()),
            ..ObjectMeta::default()
        },
        event_time: Some(MicroTime(now)),
        reporting_controller: Some(CONTROLLER_NAME.to_owned()),
        reporting_instance: Some(identity.chars().take(128).collect()),
        action: Some(ACTION.to_owned()),
        reason: reason.map(str::to_owned),
        regarding: Some(ObjectReference {
            api_version: Some("networking.k8s.io/v1".to_owned()),
            kind: Some(id.kind.name().to_owned()),
            namespace: Some(id.namespace.to_string()),
            name: Some(id.name.to_string()),
            uid: uid.clone(),
            ..ObjectReference::default()
        }),
        note: Some(note),
        type_: Some("Warning".to_owned()),
        ..Event::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Reason;

    fn objections(texts: &[&str]) -> Objections {
        Objections {
            id: ObjectId::new(ObjectKind::Ingress, "shop", "web"),
            uid: Some("u".to_owned()),
            all: texts
                .iter()
                .map(|text| (Reason::AnnotationNotSupported, (*text).to_owned()))
                .collect(),
        }
    }

    #[test]
    fn a_note_says_what_fits() {
        assert_eq!(note(&objections(&[])), None);
        assert_eq!(note(&objections(&["a", "b"])).as_deref(), Some("a; b"));
        let long = "x".repeat(400);
        let note_of_four = note(&objections(&[&long, &long, &long, &long])).unwrap();
        assert!(note_of_four.ends_with("; and 2 more") && note_of_four.len() <= NOTE);
        let longer = note(&objections(&[&"ä".repeat(2_000)])).unwrap();
        assert!(longer.ends_with('…') && longer.len() <= NOTE);
    }

    #[test]
    fn the_same_has_the_same_name() {
        let now = |second| Timestamp::from_second(second).unwrap();
        let of = |text: &str, second| {
            let objections = objections(&[text]);
            let note = note(&objections).unwrap();
            let hash = hash(&note);
            event(&objections, note, hash, "replica-0", now(second))
        };
        let (first, again, other) = (of("a", 1), of("a", 2), of("b", 3));
        assert_eq!(first.metadata.name, again.metadata.name);
        assert_ne!(first.metadata.name, other.metadata.name);
        let json = serde_json::to_value(first).unwrap();
        assert_eq!(json["regarding"]["kind"], "Ingress");
        assert_eq!(json["reason"], "AnnotationNotSupported");
        assert_eq!(json["type"], "Warning");
        assert_eq!(json["note"], "a");
    }
}
