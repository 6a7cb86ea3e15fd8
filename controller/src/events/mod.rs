//! Kubernetes Events (`events.k8s.io/v1`) about endpoints that work no longer, or again (features.md F59).
//!
//! The leader tells what the data planes connected to it agree on; if every replica did, each Event would be there more
//! than once. They are few, whatever happens: what comes together is one Event, an upstream that flaps is told of less
//! and less, and there is a rate for all together.

pub mod changes;
mod frame;
pub mod objections;
mod story;

use crate::health::Change;
use crate::leader::Leadership;
use crate::watch::handle::WorldHandle;
use crate::world::{ObjectId, ObjectKind};
use frame::{Said, Wrote};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use prometheus::IntCounter;
use std::time::Duration;
use story::{Notice, Stories};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

/// Changes that wait to be looked at.
const WAITING: usize = 1024;
/// Between two Events.
const PACE: Duration = Duration::from_millis(100);
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
    /// Writes while leading, until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        self.leadership = self.leadership.ending(&stop);
        let mut stories = Stories::default();
        let mut term = None;
        loop {
            let due = async {
                match stories.due() {
                    Some(due) => sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            let change = tokio::select! {
                () = stop.cancelled() => return,
                () = self.leadership.changed() => None,
                () = due => None,
                change = self.changes.recv() => match change {
                    None => return,
                    change => change,
                },
            };
            let before = std::mem::replace(&mut term, self.leadership.term());
            if term != before {
                // What happens while others lead is theirs to tell, and not known here.
                stories = Stories::default();
            }
            let now = Instant::now();
            if let Some(change) = change.filter(|_| term.is_some())
                && !stories.note(&change, now)
            {
                self.dropped.inc();
            }
            for notice in stories.take(now) {
                if !self.leadership.holds() {
                    break;
                }
                self.write(&notice).await;
                sleep(PACE).await;
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
        let error = match frame::write(&self.client, &self.leadership, &id, &event).await {
            Wrote::Over | Wrote::Told => return,
            Wrote::Known => "there is one of its name".to_owned(),
            Wrote::Failed(error) => error,
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
    let said = Said {
        id,
        uid,
        // As the client library of Kubernetes calls them.
        suffix: format!("{:x}{}", now.as_nanosecond(), u8::from(notice.healthy)),
        action: ACTION,
        reason,
        type_: kind,
        note: notice.note.clone(),
    };
    frame::event(said, identity, now)
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
    use crate::fake_api::{self, FakeApi};
    use crate::leader::fake::Crown;
    use snapshot::health::Opinion;
    use std::net::SocketAddr;
    use tokio::time::timeout;

    const SECOND: Duration = Duration::from_secs(1);

    struct Running {
        api: FakeApi,
        crown: Crown,
        stop: CancellationToken,
        changes: mpsc::Sender<Change>,
        announcer: tokio::task::JoinHandle<()>,
    }

    /// A leader before an API server that takes so long for an Event.
    fn start(takes: Duration) -> Running {
        let (client, api) = FakeApi::answering(move |asked| async move {
            sleep(takes).await;
            fake_api::empty(asked)
        });
        let (crown, leadership) = Crown::new();
        let (changes, received) = queue();
        let announcer = Announcer {
            client,
            world: WorldHandle::answering(drop),
            identity: "replica-0".to_owned(),
            leadership,
            changes: received,
            dropped: IntCounter::new("dropped", "dropped").unwrap(),
        };
        let stop = CancellationToken::new();
        let announcer = tokio::spawn(announcer.run(stop.clone()));
        Running {
            api,
            crown,
            stop,
            changes,
            announcer,
        }
    }

    impl Running {
        async fn say(&self, upstream: usize, unhealthy: Option<Opinion>) {
            let change = Change {
                upstream: format!("Upstream/a/{upstream}").into(),
                endpoint: SocketAddr::from(([10, 0, 0, 1], 80)),
                unhealthy,
            };
            self.changes.send(change).await.unwrap();
        }

        /// Waits until so many Events have been written.
        async fn told(&self, number: usize) {
            let told = async {
                while self.api.count("POST") < number {
                    sleep(Duration::from_millis(10)).await;
                }
            };
            timeout(SECOND * 10, told).await.expect("an Event");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_told_after_the_lease_is_lost() {
        let it = start(SECOND / 10);
        for upstream in 0..100 {
            it.say(upstream, Some(Opinion::FailsChecks)).await;
        }
        it.told(3).await;
        it.crown.lose();
        sleep(SECOND * 60).await;
        assert_eq!(it.api.count("POST"), 3);
        // What has not been told is not told late either.
        it.crown.win(2);
        sleep(SECOND * 60).await;
        assert_eq!(it.api.count("POST"), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn what_happened_while_others_led_is_not_taken_as_told() {
        let it = start(Duration::ZERO);
        it.say(0, Some(Opinion::FailsChecks)).await;
        it.told(1).await;
        it.crown.lose();
        sleep(SECOND).await;
        it.say(0, None).await;
        sleep(SECOND).await;
        it.crown.win(2);
        it.say(0, Some(Opinion::FailsChecks)).await;
        it.told(2).await;
    }

    #[tokio::test(start_paused = true)]
    async fn it_ends_soon_though_the_api_server_is_silent() {
        let it = start(SECOND * 3600);
        for upstream in 0..100 {
            it.say(upstream, Some(Opinion::FailsChecks)).await;
        }
        it.told(1).await;
        it.stop.cancel();
        let stopped = Instant::now();
        it.announcer.await.unwrap();
        assert!(stopped.elapsed() < SECOND * 2, "{:?}", stopped.elapsed());
        assert_eq!(it.api.count("POST"), 1);
    }

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
