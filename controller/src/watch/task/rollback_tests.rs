//! What is held as it was, and comes into effect again.

use super::*;
use crate::history::Rollback;
use crate::status::Next;
use snapshot::Revision;

fn edited(name: &str, generation: i64, status: u16) -> Object {
    let value = json!({
        "apiVersion": "diolkos.io/v1alpha1", "kind": "Route",
        "metadata": {"namespace": "a", "name": name, "generation": generation},
        "spec": {"hostnames": [format!("{name}.example")], "rules": [{"directResponse": {"status": status}}]},
    });
    Object::from_json(&value).unwrap().unwrap()
}

impl Running {
    async fn begin(&self, routes: &[Object]) {
        for object in routes {
            self.send(apply(object.clone())).await;
        }
        let ids = routes.iter().map(|o| o.id.clone()).collect();
        let kind = ObjectKind::Route;
        self.send(Event::Listed {
            of: kind.into(),
            ids,
        })
        .await;
        self.list_all_but(kind).await;
    }

    fn revision(&self) -> Revision {
        self.publisher.cursor().digest.revision()
    }

    /// Waits until it serves, or until it does not.
    async fn serves(&self, revision: Revision, it_does: bool) {
        let mut generation = self.publisher.subscribe();
        let wait = async {
            while generation.borrow_and_update().is_none()
                || (self.revision() == revision) != it_does
            {
                generation.changed().await.unwrap();
            }
        };
        let waited = timeout(FOREVER, wait).await;
        waited.unwrap_or_else(|_| panic!("{} and not {revision}: {it_does}", self.revision()));
    }

    /// Waits for the condition of a Route, as its reason and generation.
    async fn ready(&self, object: &Object, reason: &str, generation: i64) {
        let wait = async {
            loop {
                let wanted = self.world.statuses(vec![object.id.clone()]).await;
                let status = wanted
                    .into_iter()
                    .next()
                    .and_then(|w| w.status)
                    .unwrap_or_default();
                let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
                let ready = conditions.iter().find(|c| c["type"] == "Ready");
                if ready.is_some_and(|c| c["reason"] == reason)
                    && status["observedGeneration"] == generation
                {
                    return;
                }
                tokio::task::yield_now().await;
            }
        };
        let waited = timeout(FOREVER, wait).await;
        waited.unwrap_or_else(|_| panic!("{} is not {reason} of {generation}", object.id));
    }
}

fn held(rollback: &Rollback) -> Event {
    Event::RolledBack(Some(Box::new(rollback.clone())))
}

#[tokio::test]
async fn objects_are_held_as_they_were_and_let_go_of() {
    let running = start_with(FOREVER, true);
    running.send(Event::RolledBack(None)).await;
    let none = Revision::default();
    running.begin(&[edited("x", 1, 200)]).await;
    running.serves(none, false).await;
    let first = running.revision();
    running.send(apply(edited("x", 2, 404))).await;
    running.serves(first, false).await;
    let second = running.revision();
    running.send(apply(edited("y", 1, 200))).await;
    running.serves(second, false).await;
    let third = running.revision();

    let back = running.world.back_to(first).await.unwrap();
    let ids: Vec<&str> = back.objects.keys().map(|id| &*id.name).collect();
    assert_eq!(ids, ["x", "y"]);
    // As it is written into the cluster and read from there.
    let back = Rollback::from_json(&back.to_json()).unwrap();
    running.send(held(&back)).await;
    running.serves(first, true).await;
    running.ready(&edited("x", 0, 200), "RolledBack", 2).await;
    running.ready(&edited("y", 0, 200), "RolledBack", 1).await;
    let shown = running.world.revisions().await;
    assert_eq!(shown["rolledBack"]["revision"], first.to_string());
    assert_eq!(
        shown["rolledBack"]["objects"],
        json!(["Route/a/x", "Route/a/y"])
    );
    let changes: Vec<&Value> = shown["revisions"][0]["changes"]
        .as_array()
        .unwrap()
        .iter()
        .collect();
    assert_eq!(changes[1]["change"], "removed", "{shown}");
    assert_eq!(running.metrics.rolled_back.get(), 2);

    // Who edits what is held is told so; everything else goes on.
    running.send(apply(edited("x", 3, 500))).await;
    running.ready(&edited("x", 0, 200), "RolledBack", 3).await;
    assert_eq!(running.revision(), first);
    running.send(apply(edited("z", 1, 200))).await;
    running.serves(first, false).await;
    let with_other = running.revision();
    let further = running.world.back_to(third).await.unwrap();
    let names: Vec<&str> = further.objects.keys().map(|id| &*id.name).collect();
    assert_eq!(names, ["x", "z"], "y is there as it was then");

    // One that is gone from the cluster meanwhile does not come back.
    running
        .send(Event::Delete {
            id: edited("y", 0, 200).id,
            at: 1,
        })
        .await;
    running.send(Event::RolledBack(None)).await;
    running.serves(with_other, false).await;
    running.published(2).await;
    let shown = running.world.revisions().await;
    assert_eq!(shown["rolledBack"], Value::Null);
    assert_eq!(running.metrics.rolled_back.get(), 0);
    let wanted = running.world.statuses(vec![edited("x", 0, 200).id]).await;
    assert_eq!(wanted[0].status.as_ref().unwrap()["observedGeneration"], 3);
    assert!(running.world.back_to(Revision(1)).await.is_none());
}

#[tokio::test]
async fn a_replica_that_starts_publishes_nothing_but_what_is_held() {
    let old = start_with(FOREVER, true);
    old.send(Event::RolledBack(None)).await;
    old.begin(&[edited("x", 1, 200)]).await;
    old.serves(Revision::default(), false).await;
    let first = old.revision();
    old.send(apply(edited("x", 2, 404))).await;
    old.serves(first, false).await;
    let back = old.world.back_to(first).await.unwrap();

    let new = start_with(FOREVER, true);
    new.begin(&[edited("x", 2, 404)]).await;
    // Everything is listed by now or about to be, and still nothing is said.
    assert_eq!(*new.publisher.subscribe().borrow(), None);
    new.send(held(&back)).await;
    new.serves(first, true).await;
    assert_eq!(new.publisher.cursor().generation, 1);
    new.ready(&edited("x", 0, 200), "RolledBack", 2).await;
}

#[tokio::test]
async fn the_status_of_a_gateway_config_says_the_revision() {
    let running = start_with(FOREVER, true);
    let value = json!({"apiVersion": "diolkos.io/v1alpha1", "kind": "GatewayConfig",
        "metadata": {"namespace": "a", "name": "gw", "generation": 1}, "spec": {"default": true}});
    let config = Object::from_json(&value).unwrap().unwrap();
    running.send(Event::RolledBack(None)).await;
    running.send(apply(config.clone())).await;
    let ids = BTreeSet::from([config.id.clone()]);
    let kind = ObjectKind::GatewayConfig;
    running
        .send(Event::Listed {
            of: kind.into(),
            ids,
        })
        .await;
    running.list_all_but(kind).await;
    running.serves(Revision::default(), false).await;
    let first = running.revision();
    let says = async |key: &str| {
        let wanted = running.world.statuses(vec![config.id.clone()]).await;
        wanted[0].status.as_ref().unwrap()[key].clone()
    };
    assert_eq!(says("revision").await, first.to_string());
    assert_eq!(says("rolledBackTo").await, Value::Null);
    while running.queue.take(9).is_some_and(|next| next != Next::All) {}
    running.send(apply(edited("x", 1, 200))).await;
    running.serves(first, false).await;
    assert_eq!(says("revision").await, running.revision().to_string());
    let queued = running.queue.take(9);
    let Some(Next::Some(ids)) = queued else {
        panic!("{queued:?}")
    };
    assert!(ids.contains(&config.id), "its status is to be written anew");
    let back = running.world.back_to(first).await.unwrap();
    running.send(held(&back)).await;
    running.serves(first, true).await;
    assert_eq!(says("rolledBackTo").await, first.to_string());
}
