//! Kubernetes Events about objects that are not served as they ask: an older version stands in for one that cannot be used
//! or that a data plane refuses, and does so no longer; and all that is wrong with an Ingress, which has no conditions that
//! could say it.
//!
//! The leader tells of each object once for as long as the same is wrong with it. The name of an Event is made of what it
//! says, so that another leader, or the same after a restart, does not tell it again while it is there, nor whoever comes
//! and goes with the same version of the object.

use super::frame::{self, Said, Wrote};
use crate::leader::Leadership;
use crate::status::{Next, Queue};
use crate::watch::handle::{Objections, WorldHandle};
use crate::world::{ObjectId, ObjectKind};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use prometheus::IntCounter;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

/// What happens within this time is told together.
const GATHER: Duration = Duration::from_secs(1);
/// Between two Events.
const PACE: Duration = Duration::from_millis(100);
/// Pause before what could not be written is tried again: at first, and at most after it has doubled again and again.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// Objects that are looked at together.
const BATCH: usize = 64;
/// Objects of which it is remembered what was told; then all is forgotten, and at worst told again.
const REMEMBERED: usize = 16_384;
/// Bytes of a note; the API server takes 1024.
const NOTE: usize = 1_000;
const ACTION: &str = "Translate";
/// The reason of the Event that ends what one before it told.
const RESTORED: &str = "Restored";

/// Names of objects that there may be something to say of.
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
    /// Ticks when data planes have answered.
    pub progress: watch::Receiver<u64>,
    /// Attempts to write an Event that failed.
    pub dropped: IntCounter,
}

/// What a term of leading remembers.
#[derive(Default)]
struct Told {
    /// What was told last of each object, as a hash.
    notes: HashMap<ObjectId, u64>,
    /// Objects whose Event could not be written; no more than there are.
    failed: BTreeSet<ObjectId>,
    /// What data planes refused at the last look.
    refused: BTreeMap<ObjectId, String>,
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
                    self.queue.push(self.world.ids().await);
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
                Ok(()) = self.progress.changed(), if term.is_some() => {
                    sleep(GATHER).await;
                    let refused = self.world.refused().await;
                    let before = std::mem::replace(&mut told.refused, refused);
                    self.queue.push(changed(&before, &told.refused));
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
                    self.queue.push(self.world.ids().await);
                    continue;
                }
            };
            for objections in self.world.objections(ids).await {
                let id = &objections.id;
                told.failed.remove(id);
                let before = told.notes.get(id).copied();
                let note = note(&objections);
                let now = note.as_deref().map(hash);
                if now == before {
                    continue;
                }
                let Some(note) = note.or_else(|| end(&objections)) else {
                    told.notes.remove(id);
                    continue;
                };
                let event = event(&objections, note, &self.identity, Timestamp::now());
                match self.write(id, &event).await {
                    Outcome::Told => {
                        if told.notes.len() >= REMEMBERED {
                            told.notes.clear();
                        }
                        match now {
                            Some(now) => drop(told.notes.insert(objections.id, now)),
                            None => drop(told.notes.remove(id)),
                        }
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
        let error = match frame::write(&self.client, &self.leadership, id, event).await {
            Wrote::Over => return Outcome::Over,
            // It has been told.
            Wrote::Told | Wrote::Known => return Outcome::Told,
            Wrote::Failed(error) => error,
        };
        self.dropped.inc();
        let note = event.note.as_deref().unwrap_or_default();
        tracing::warn!(event = "event_failed", object = %id, error, note, "an Event cannot be written");
        Outcome::Failed
    }
}

/// Objects of which data planes refuse something else than before, or nothing any more.
fn changed(before: &BTreeMap<ObjectId, String>, now: &BTreeMap<ObjectId, String>) -> Vec<ObjectId> {
    let others = |a: &BTreeMap<ObjectId, String>, b: &BTreeMap<ObjectId, String>| {
        let others = a.iter().filter(|(id, words)| b.get(*id) != Some(words));
        others.map(|(id, _)| id.clone()).collect::<Vec<_>>()
    };
    let mut ids = others(before, now);
    ids.extend(others(now, before));
    ids
}

/// What is said when that is over which was told. An Ingress is served with what is wrong with it, and of what is gone there
/// is nothing to say.
fn end(objections: &Objections) -> Option<String> {
    let Objections { id, uid, .. } = objections;
    let is_there = uid.is_some() && id.kind != ObjectKind::Ingress;
    is_there.then(|| "no older version stands in for it any more".to_owned())
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

fn event(objections: &Objections, note: String, identity: &str, now: Timestamp) -> Event {
    let Objections {
        id,
        uid,
        generation,
        all,
    } = objections;
    let (reason, type_) = match all.first() {
        Some((reason, _)) => (*reason, "Warning"),
        None => (RESTORED, "Normal"),
    };
    // The same of a later version is news; an Ingress is told of for as long as it is the same.
    let hash = match id.kind {
        ObjectKind::Ingress => hash(&note),
        _ => hash(&format!("{id} {uid:?} {generation} {note}")),
    };
    let said = Said {
        id,
        uid: uid.clone(),
        suffix: format!("{hash:016x}"),
        action: ACTION,
        reason,
        type_,
        note,
    };
    frame::event(said, identity, now)
}

#[cfg(test)]
#[path = "objections_tests.rs"]
mod tests;
