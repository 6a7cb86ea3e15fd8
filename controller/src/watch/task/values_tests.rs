//! Values of Secrets that something refers to.

use super::*;

fn upstream() -> Object {
    let value = json!({
        "apiVersion": "diolkos.io/v1alpha1", "kind": "Upstream",
        "metadata": {"namespace": "a", "name": "up", "generation": 1},
        "spec": {
            "endpoints": [{"address": "10.0.0.1", "port": 80}],
            "auth": {"headers": [{"name": "x-key", "valueFrom": {"secretKeyRef": {"name": "key", "key": "token"}}}]},
        },
    });
    Object::from_json(&value).unwrap().unwrap()
}

fn secret(version: &str, value: Option<&str>) -> Object {
    let metadata = json!({"namespace": "a", "name": "key", "resourceVersion": version});
    match value {
        None => Object::unread(
            ObjectKind::Secret,
            &serde_json::from_value(metadata).unwrap(),
        ),
        Some(value) => {
            let value = json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"token": value}});
            Object::from_json(&value).unwrap().unwrap()
        }
    }
}

fn read(version: &str, value: &str) -> Event {
    let object = secret(version, Some(value));
    Event::Values {
        id: object.id.clone(),
        outcome: Ok(Some(Version {
            version: version.to_owned(),
            object,
        })),
        at: 1,
    }
}

impl Running {
    /// Waits for a condition of the Upstream.
    async fn condition(&self, type_: &str, reason: &str) {
        let wait = async {
            loop {
                let all = self.world.all().await;
                let conditions = &all.get("Upstream/a/up").map(|s| s["conditions"].clone());
                let conditions = conditions.as_ref().and_then(Value::as_array);
                let is_it = |c: &Value| c["type"] == type_ && c["reason"] == reason;
                if conditions.is_some_and(|all| all.iter().any(is_it)) {
                    return;
                }
                tokio::task::yield_now().await;
            }
        };
        timeout(FOREVER, wait).await.expect(reason);
    }

    async fn wished_for(&self) -> ObjectId {
        let wait = async {
            loop {
                match self.wishes.take(&BTreeSet::new()) {
                    Some(id) => return id,
                    None => tokio::task::yield_now().await,
                }
            }
        };
        timeout(FOREVER, wait).await.expect("a wish")
    }
}

/// An Upstream with a Route to it, and the Secret that it refers to, unread; all kinds are listed.
async fn listed() -> Running {
    let running = start(FOREVER);
    running.send(apply(upstream())).await;
    running.send(apply(secret("1", None))).await;
    // Only what serves is sent to anybody.
    let user = json!({
        "apiVersion": "diolkos.io/v1alpha1", "kind": "Route", "metadata": {"namespace": "a", "name": "r"},
        "spec": {"rules": [{"backends": [{"kind": "Upstream", "name": "up"}]}]},
    });
    let user = Object::from_json(&user).unwrap().unwrap();
    running.send(apply(user.clone())).await;
    for kind in ObjectKind::ALL {
        let ids = match kind {
            ObjectKind::Route => BTreeSet::from([user.id.clone()]),
            ObjectKind::Upstream => BTreeSet::from([upstream().id]),
            ObjectKind::Secret => BTreeSet::from([secret("1", None).id]),
            _ => BTreeSet::new(),
        };
        running
            .send(Event::Listed {
                of: (*kind).into(),
                ids,
            })
            .await;
    }
    running
}

#[tokio::test]
async fn values_that_something_refers_to_are_read_before_anything_is_published() {
    let running = listed().await;
    assert_eq!(running.wished_for().await, secret("1", None).id);
    let mut missing = running.world.missing.clone();
    let secrets = missing.wait_for(|kinds| *kinds == [ObjectKind::Secret]);
    timeout(FOREVER, secrets).await.unwrap().unwrap();
    assert!(running.publisher.subscribe().borrow().is_none());
    running.send(read("1", "one")).await;
    running.published(1).await;
    running.condition("ResolvedRefs", "ResolvedRefs").await;
    assert!(running.world.missing().is_empty());

    // A new version: what was read serves until the new values have been read.
    running.send(apply(secret("2", None))).await;
    running.wished_for().await;
    running.condition("ResolvedRefs", "ResolvedRefs").await;
    let before = *running.publisher.subscribe().borrow();
    running.send(read("2", "two")).await;
    let mut generation = running.publisher.subscribe();
    let changed = generation.wait_for(|now| *now != before);
    timeout(FOREVER, changed).await.unwrap().unwrap();
    // It cannot be read, and what was read stays.
    running.send(apply(secret("3", None))).await;
    running.wished_for().await;
    let id = secret("3", None).id;
    running
        .send(Event::Values {
            id: id.clone(),
            outcome: Err("no".into()),
            at: 1,
        })
        .await;
    running.condition("ResolvedRefs", "ResolvedRefs").await;
    // It is gone, and with it what it held.
    running.send(Event::Delete { id, at: 1 }).await;
    running.condition("ResolvedRefs", "RefNotFound").await;
}

#[tokio::test]
async fn values_that_cannot_be_read_hold_nothing_up() {
    let running = listed().await;
    let id = running.wished_for().await;
    running
        .send(Event::Values {
            id,
            outcome: Err("no".into()),
            at: 1,
        })
        .await;
    running.published(1).await;
    running.condition("ResolvedRefs", "RefNotReadable").await;
}

/// The request found none because its object was gone by then; the one of that name that came since is another.
#[tokio::test]
async fn a_late_answer_takes_nothing_away_from_what_came_since() {
    let running = listed().await;
    running.wished_for().await;
    running.send(read("1", "one")).await;
    running.published(1).await;
    running.condition("ResolvedRefs", "ResolvedRefs").await;
    running.send(apply(secret("2", None))).await;
    let id = running.wished_for().await;
    running
        .send(Event::Delete {
            id: id.clone(),
            at: 1,
        })
        .await;
    running.send(apply(secret("3", None))).await;
    let none = Event::Values {
        id: id.clone(),
        outcome: Ok(None),
        at: 1,
    };
    running.send(none).await;
    running.condition("ResolvedRefs", "RefPending").await;
    assert_eq!(running.wished_for().await, id);
    running.send(read("3", "three")).await;
    running.condition("ResolvedRefs", "ResolvedRefs").await;
}

/// Nobody reads them, and nothing waits for them.
#[tokio::test]
async fn secrets_that_may_not_be_read_hold_nothing_up() {
    let scope = Scope::default().with_secrets_of(&"b".parse().unwrap());
    let running = start_in(scope.clone(), FOREVER, false);
    running.send(apply(upstream())).await;
    let all = ObjectKind::ALL.iter();
    for of in all.flat_map(|kind| Target::of(*kind, &scope)) {
        let ids = [upstream().id].into_iter();
        let ids = ids.filter(|id| id.kind == of.kind).collect();
        running.send(Event::Listed { of, ids }).await;
    }
    running.published(0).await;
    running.condition("ResolvedRefs", "RefNotReadable").await;
    let said = running.world.all().await["Upstream/a/up"].to_string();
    let why = "Secret a/key cannot be read: the controller may not read Secrets in namespace a";
    assert!(said.contains(why), "{said}");
    assert_eq!(running.wishes.take(&BTreeSet::new()), None);
}

/// A Role is missing when the controller starts, and comes later.
#[tokio::test]
async fn secrets_that_could_never_be_listed_are_not_said_to_be_missing() {
    let scope = Scope::default().with_secrets_of(&"a".parse().unwrap());
    let running = start_in(scope, Duration::from_millis(50), false);
    running.send(apply(upstream())).await;
    let secrets = Target {
        kind: ObjectKind::Secret,
        namespace: Some("a".into()),
    };
    let event = Event::Forbidden(secrets.clone(), Verb::List);
    running.send(event).await;
    let list = |of: Target| {
        let ids = [upstream().id].into_iter();
        let ids = ids.filter(|id| id.kind == of.kind).collect();
        running.send(Event::Listed { of, ids })
    };
    for kind in ObjectKind::ALL
        .iter()
        .filter(|kind| **kind != ObjectKind::Secret)
    {
        list((*kind).into()).await;
    }
    running.published(0).await;
    running.condition("ResolvedRefs", "RefNotReadable").await;
    list(secrets).await;
    running.condition("ResolvedRefs", "RefNotFound").await;
}
