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
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

/// What happens within this time is told together.
const GATHER: Duration = Duration::from_secs(1);
/// Between two Events.
const PACE: Duration = Duration::from_millis(100);
const WRITE: Duration = Duration::from_secs(5);
/// Pause before what could not be written is tried again: at first, and at most after it has doubled again and again.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
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
    /// Attempts to write an Event that failed.
    pub dropped: IntCounter,
}

/// What a term of leading remembers.
#[derive(Default)]
struct Told {
    /// What was told last of each Ingress, as a hash.
    notes: HashMap<ObjectId, u64>,
    /// Ingresses whose Event could not be written; no more than there are.
    failed: BTreeSet<ObjectId>,
}

/// How a write ended.
enum Outcome {
    Told,
    Failed,
    /// This replica leads no more.
    Over,
}

impl Objector {
    /// Writes while leading, until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        self.leadership = self.leadership.ending(&stop);
        let mut told = Told::default();
        let mut term = None;
        let mut pause = RETRY.0;
        let mut again = Instant::now();
        loop {
            let before = std::mem::replace(&mut term, self.leadership.term());
            if term != before {
                self.queue.clear();
                told = Told::default();
                pause = RETRY.0;
                if term.is_some() {
                    let ids = self.world.ids().await;
                    self.queue.push(ids.into_iter().filter(is_ingress));
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.leadership.changed() => {}
                () = self.queue.wait(), if term.is_some() => {
                    sleep(GATHER).await;
                    let failed_before = !told.failed.is_empty();
                    self.work(&mut told).await;
                    if told.failed.is_empty() {
                        pause = RETRY.0;
                    } else if !failed_before {
                        again = Instant::now() + pause.mul_f64(0.5 + 0.5 * rand::random::<f64>());
                        pause = (pause * 2).min(RETRY.1);
                    }
                }
                () = sleep_until(again), if !told.failed.is_empty() => {
                    self.queue.push(std::mem::take(&mut told.failed));
                }
            }
        }
    }

    /// Empties the queue.
    async fn work(&self, told: &mut Told) {
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
                let id = &objections.id;
                told.failed.remove(id);
                let Some(note) = note(&objections) else {
                    told.notes.remove(id);
                    continue;
                };
                let hash = hash(&note);
                if told.notes.get(id) == Some(&hash) {
                    continue;
                }
                let event = event(&objections, note, hash, &self.identity, Timestamp::now());
                match self.write(id, &event).await {
                    Outcome::Told => {
                        if told.notes.len() >= REMEMBERED {
                            told.notes.clear();
                        }
                        told.notes.insert(objections.id, hash);
                    }
                    Outcome::Failed => {
                        told.failed.insert(objections.id);
                    }
                    Outcome::Over => return,
                }
                sleep(PACE).await;
            }
        }
    }

    /// An Event that cannot be written is in the log.
    async fn write(&self, id: &ObjectId, event: &Event) -> Outcome {
        let events: Api<Event> = Api::namespaced(self.client.clone(), &id.namespace);
        let parameters = PostParams::default();
        let write = timeout(WRITE, events.create(&parameters, event));
        let error = match self.leadership.request(write).await {
            None => return Outcome::Over,
            Some(Ok(Ok(_))) => return Outcome::Told,
            // It has been told.
            Some(Ok(Err(kube::Error::Api(status)))) if status.code == 409 => return Outcome::Told,
            Some(Ok(Err(error))) => error.to_string(),
            Some(Err(_)) => "no answer".to_owned(),
        };
        self.dropped.inc();
        let note = event.note.as_deref().unwrap_or_default();
        tracing::warn!(event = "event_failed", object = %id, error, note, "an Event cannot be written");
        Outcome::Failed
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
    use crate::fake_api::{self, FakeApi};
    use crate::leader::fake::Crown;
    use crate::report::Reason;
    use crate::watch::handle::Ask;
    use std::sync::atomic::{AtomicUsize, Ordering};

    const SECOND: Duration = Duration::from_secs(1);

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

    /// Tells of one Ingress, before an API server that takes no Event as long as there are refusals left.
    fn start(refusals: usize, code: u16) -> (FakeApi, Crown, CancellationToken) {
        let left = Arc::new(AtomicUsize::new(refusals));
        let (client, api) = FakeApi::answering(move |asked| {
            let refused =
                left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
            async move {
                match refused {
                    Ok(_) => fake_api::refusal(code),
                    Err(_) => fake_api::empty(asked),
                }
            }
        });
        let world = WorldHandle::answering(|ask| match ask {
            Ask::Ids(reply) => drop(reply.send(vec![objections(&[]).id])),
            Ask::Objections(ids, reply) => {
                let all = ids.iter().map(|_| objections(&["a"])).collect();
                drop(reply.send(all));
            }
            _ => {}
        });
        let (crown, leadership) = Crown::new();
        let objector = Objector {
            client,
            world,
            identity: "replica-0".to_owned(),
            leadership,
            queue: queue(),
            dropped: IntCounter::new("dropped", "dropped").unwrap(),
        };
        let stop = CancellationToken::new();
        tokio::spawn(objector.run(stop.clone()));
        (api, crown, stop)
    }

    #[tokio::test(start_paused = true)]
    async fn what_could_not_be_told_is_told_later_and_once() {
        let refusals = 5;
        let (api, ..) = start(refusals, 500);
        sleep(SECOND * 3600).await;
        let asked = api.asked();
        assert_eq!(asked.len(), refusals + 1);
        let pauses: Vec<Duration> = asked.windows(2).map(|two| two[1].at - two[0].at).collect();
        assert!(pauses[0] < SECOND * 3, "{pauses:?}");
        assert!(pauses[4] > SECOND * 8, "{pauses:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_there_already_has_been_told() {
        let (api, ..) = start(1, 409);
        sleep(SECOND * 3600).await;
        assert_eq!(api.asked().len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_tried_again_without_the_lease() {
        let (api, crown, _) = start(usize::MAX, 500);
        sleep(SECOND * 5).await;
        crown.lose();
        let tried = api.asked().len();
        assert!(tried > 0);
        sleep(SECOND * 3600).await;
        assert_eq!(api.asked().len(), tried);
    }
}
