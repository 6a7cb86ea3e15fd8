//! Kubernetes Events about changes of the configuration: about each object that was added or changed, with the revision
//! that it came into effect with (features.md T3, `diff_config`). The log of the world has them all; Events are few enough
//! for an API server, however much is changed at once: what is too much is counted, and so is an object once that changes
//! again before it was told of.
//!
//! The leader alone tells, and nothing of what happened while others led.

use super::frame::{self, Said, Wrote};
use crate::history::Changed;
use crate::leader::Leadership;
use crate::watch::handle::WorldHandle;
use crate::world::ObjectId;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use prometheus::IntCounter;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// Changes of the configuration that wait to be looked at.
const WAITING: usize = 1024;
/// Objects that wait to be told of.
const OBJECTS: usize = 256;
/// So many Events may follow each other at once,
const BURST: u32 = 20;
/// and one each time that so long has passed.
const PACE: Duration = Duration::from_secs(1);
/// Groups of data planes whose revisions are named.
const GROUPS: usize = 4;
const ACTION: &str = "Publish";
const CHANGED: &str = "ConfigChanged";

/// Where changes go, and where Events are made of them.
pub fn queue() -> (mpsc::Sender<Changed>, mpsc::Receiver<Changed>) {
    mpsc::channel(WAITING)
}

/// See the module.
pub struct Chronicler {
    pub client: Client,
    pub world: WorldHandle,
    /// Of this replica.
    pub identity: String,
    pub leadership: Leadership,
    pub changes: mpsc::Receiver<Changed>,
    /// Objects that are not told of.
    pub dropped: IntCounter,
}

/// Objects to tell of, with what to say.
#[derive(Default)]
struct Notes(BTreeMap<ObjectId, String>);

impl Notes {
    /// Gives how many objects are not told of.
    fn note(&mut self, changed: &Changed) -> usize {
        let revisions = revisions(changed);
        let mut omitted = changed.count - changed.objects.len();
        for (id, how) in &changed.objects {
            // Of what is gone there is nothing to look at.
            if *how == "removed" {
                self.0.remove(id);
            } else if self.0.len() < OBJECTS || self.0.contains_key(id) {
                self.0.insert(id.clone(), format!("{how}: {revisions}"));
            } else {
                omitted += 1;
            }
        }
        omitted
    }
}

/// The revisions that a change has made.
fn revisions(changed: &Changed) -> String {
    let named = changed.revisions.iter().take(GROUPS);
    let named: Vec<String> = named
        .map(|(group, revision)| format!("revision {revision} of the data planes {group}"))
        .collect();
    let more = match changed.revisions.len().saturating_sub(GROUPS) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("{}{more}", named.join(", "))
}

impl Chronicler {
    /// Writes while leading, until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        self.leadership = self.leadership.ending(&stop);
        let mut notes = Notes::default();
        let mut term = None;
        // When the last of a whole burst may be written.
        let mut full = Instant::now();
        loop {
            let next = full - PACE * (BURST - 1);
            let change = tokio::select! {
                () = stop.cancelled() => return,
                () = self.leadership.changed() => None,
                change = self.changes.recv() => match change {
                    None => return,
                    change => change,
                },
                () = sleep_until(next), if !notes.0.is_empty() => {
                    if let Some((id, note)) = notes.0.pop_first() {
                        full = full.max(Instant::now()) + PACE;
                        self.write(&id, note).await;
                    }
                    None
                }
            };
            let before = std::mem::replace(&mut term, self.leadership.term());
            if term != before {
                notes = Notes::default();
            }
            if let Some(change) = change.filter(|_| term.is_some()) {
                self.dropped.inc_by(notes.note(&change) as u64);
            }
        }
    }

    /// An Event that cannot be written is in the log.
    async fn write(&self, id: &ObjectId, note: String) {
        let uid = self.world.uid(id.clone()).await;
        let event = event(id, uid, note, &self.identity, Timestamp::now());
        let error = match frame::write(&self.client, &self.leadership, id, &event).await {
            Wrote::Over | Wrote::Told => return,
            Wrote::Known => "there is one of its name".to_owned(),
            Wrote::Failed(error) => error,
        };
        self.dropped.inc();
        tracing::warn!(event = "event_failed", object = %id, error, "an Event cannot be written");
    }
}

fn event(
    id: &ObjectId,
    uid: Option<String>,
    note: String,
    identity: &str,
    now: Timestamp,
) -> Event {
    let said = Said {
        id,
        uid,
        suffix: format!("{:x}", now.as_nanosecond()),
        action: ACTION,
        reason: CHANGED,
        type_: "Normal",
        note,
    };
    frame::event(said, identity, now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake_api::{self, FakeApi};
    use crate::leader::fake::Crown;
    use crate::world::ObjectKind;
    use snapshot::Revision;
    use tokio::time::sleep;

    struct Running {
        api: FakeApi,
        crown: Crown,
        changes: mpsc::Sender<Changed>,
        dropped: IntCounter,
    }

    fn start() -> Running {
        let (client, api) = FakeApi::answering(|asked| async move { fake_api::empty(asked) });
        let (crown, leadership) = Crown::new();
        let (changes, received) = queue();
        let dropped = IntCounter::new("dropped", "dropped").unwrap();
        let chronicler = Chronicler {
            client,
            world: WorldHandle::answering(drop),
            identity: "replica-0".to_owned(),
            leadership,
            changes: received,
            dropped: dropped.clone(),
        };
        tokio::spawn(chronicler.run(CancellationToken::new()));
        Running {
            api,
            crown,
            changes,
            dropped,
        }
    }

    fn changed(names: std::ops::Range<usize>, how: &'static str) -> Changed {
        let route = |n: usize| ObjectId::new(ObjectKind::Route, "a", format!("r{n}").as_str());
        Changed {
            revisions: BTreeMap::from([("g".into(), Revision(7))]),
            count: names.len(),
            objects: names.map(|n| (route(n), how)).collect(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn each_object_is_told_of_at_a_pace_and_what_is_gone_is_not() {
        let it = start();
        it.changes.send(changed(0..100, "changed")).await.unwrap();
        it.changes.send(changed(50..100, "removed")).await.unwrap();
        // Again before it was told of.
        it.changes.send(changed(40..50, "changed")).await.unwrap();
        sleep(PACE / 2).await;
        assert_eq!(it.api.count("POST"), BURST as usize);
        sleep(PACE * 10).await;
        assert_eq!(it.api.count("POST"), BURST as usize + 10);
        sleep(PACE * 100).await;
        assert_eq!(it.api.count("POST"), 50);
        assert_eq!(it.dropped.get(), 0);
        it.changes.send(changed(0..1000, "added")).await.unwrap();
        sleep(PACE * 1000).await;
        assert_eq!(it.api.count("POST"), 50 + OBJECTS);
        assert_eq!(it.dropped.get(), 1000 - OBJECTS as u64);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_told_by_one_that_does_not_lead() {
        let it = start();
        it.changes.send(changed(0..100, "changed")).await.unwrap();
        sleep(PACE / 2).await;
        it.crown.lose();
        it.changes.send(changed(0..10, "changed")).await.unwrap();
        sleep(PACE * 10).await;
        it.crown.win(2);
        sleep(PACE * 100).await;
        assert_eq!(it.api.count("POST"), BURST as usize);
    }

    #[test]
    fn an_event_says_what_became_of_what_with_which_revision() {
        let mut notes = Notes::default();
        let mut change = changed(1..2, "added");
        assert_eq!(notes.note(&change), 0);
        let (id, note) = notes.0.pop_first().unwrap();
        assert_eq!(note, "added: revision 000000000007 of the data planes g");
        let said = event(
            &id,
            Some("u".into()),
            note,
            "replica-0",
            Timestamp::UNIX_EPOCH,
        );
        assert_eq!(said.reason.as_deref(), Some("ConfigChanged"));
        let service = ObjectId::new(ObjectKind::Service, "a", "s");
        let of_service = event(&service, None, String::new(), "r", Timestamp::UNIX_EPOCH);
        let version = of_service.regarding.unwrap().api_version;
        assert_eq!(version.as_deref(), Some("v1"));
        let regarding = said.regarding.unwrap();
        assert_eq!(regarding.name.as_deref(), Some("r1"));
        assert_eq!(
            regarding.api_version.as_deref(),
            Some("diolkos.io/v1alpha1")
        );
        assert_eq!(regarding.uid.as_deref(), Some("u"));

        for n in 0..9 {
            let group: std::sync::Arc<str> = format!("g{n}").into();
            change.revisions.insert(group, Revision(n));
        }
        change.count = 5;
        assert_eq!(notes.note(&change), 4, "named are fewer than have changed");
        assert!(notes.0.pop_first().unwrap().1.ends_with(" and 6 more"));
    }
}
