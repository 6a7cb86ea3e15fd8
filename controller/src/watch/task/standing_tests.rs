//! What there is to tell of objects whose older version serves.

use super::*;
use crate::publish::tests::Client;
use crate::watch::handle::Objections;
use snapshot::{Kind, Replica, pb};

fn route(generation: i64, status: Value) -> Object {
    let value = json!({
        "apiVersion": "diolkos.io/v1alpha1", "kind": "Route",
        "metadata": {"namespace": "a", "name": "r", "uid": "u", "generation": generation},
        "spec": {"rules": [{"directResponse": status}]},
    });
    Object::from_json(&value).unwrap().unwrap()
}

impl Running {
    /// Begins with one Route.
    async fn begin_with(&self, object: Object) {
        let ids = BTreeSet::from([object.id.clone()]);
        let kind = object.id.kind;
        self.send(apply(object)).await;
        self.send(Event::Listed {
            of: kind.into(),
            ids,
        })
        .await;
        self.list_all_but(kind).await;
        self.published(1).await;
    }

    async fn told(&self, id: &ObjectId) -> Objections {
        let all = self.world.objections(vec![id.clone()]).await;
        all.into_iter().next().unwrap()
    }

    /// Waits until it is told of, or no longer.
    async fn told_of(&self, id: &ObjectId, is: bool) -> Objections {
        let wait = async {
            loop {
                let told = self.told(id).await;
                if told.all.is_empty() != is {
                    return told;
                }
                tokio::task::yield_now().await;
            }
        };
        timeout(FOREVER, wait).await.expect("it is looked at")
    }
}

#[tokio::test]
async fn a_version_that_cannot_be_used_is_told_of_while_another_serves() {
    let running = start(FOREVER);
    let good = route(1, json!({"status": 200}));
    let id = good.id.clone();
    running.begin_with(good).await;
    let told = running.told(&id).await;
    assert_eq!(told.uid.as_deref(), Some("u"));
    assert!(told.all.is_empty());

    let bad = json!({"status": 200, "headers": [{"name": "a b", "value": "x"}]});
    running.send(apply(route(2, bad))).await;
    let told = running.told_of(&id, true).await;
    let (reason, text) = &told.all[0];
    assert_eq!((*reason, told.generation), ("Quarantined", 2));
    assert!(text.contains("spec.rules[0].directResponse"), "{text}");
    assert!(text.ends_with("(Invalid)"), "{text}");

    running.send(apply(route(3, json!({"status": 201})))).await;
    assert_eq!(running.told_of(&id, false).await.generation, 3);
    running
        .send(Event::Delete {
            id: id.clone(),
            at: 1,
        })
        .await;
    let wait = async { while running.told(&id).await.uid.is_some() {} };
    timeout(FOREVER, wait).await.expect("it is gone");
}

#[tokio::test]
async fn what_a_data_plane_refuses_is_told_of_in_its_words() {
    let running = start(FOREVER);
    let object = route(1, json!({"status": 200}));
    let id = object.id.clone();
    running.begin_with(object).await;
    assert!(running.world.refused().await.is_empty());

    let mut client = Client::connect(&running.publisher, Replica::default());
    let transaction = client.session.next_chunks().unwrap()[0].transaction;
    let rejection = |key: &str| pb::Rejection {
        kind: Kind::Route as u32,
        key: key.into(),
        reason: "no such thing".into(),
    };
    let nack = pb::Nack {
        transaction,
        rejected: vec![rejection("a/r")],
        message: String::new(),
    };
    client.session.on_nack(&nack).unwrap();
    let refused = running.world.refused().await;
    assert_eq!(
        refused,
        BTreeMap::from([(id.clone(), "no such thing".to_owned())])
    );
    let told = running.told(&id).await;
    let (reason, text) = &told.all[0];
    assert_eq!(*reason, "RejectedByDataPlane");
    assert!(text.ends_with(": no such thing"), "{text}");
    assert!(
        text.starts_with("this version is not in effect everywhere"),
        "nothing serves in its place: {text}"
    );

    // A later version gets its own chance.
    running.send(apply(route(2, json!({"status": 201})))).await;
    running.told_of(&id, false).await;
    assert!(running.world.refused().await.is_empty());
}
