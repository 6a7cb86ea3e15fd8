//! What lists say, and what is published before and after them.

use super::*;

#[tokio::test]
async fn a_list_that_lacks_most_of_what_is_known_is_not_believed_at_once() {
    let running = start(FOREVER);
    running.list_all_but(ObjectKind::Route).await;
    let routes: Vec<Object> = (0..12).map(|n| route(&format!("r{n}"))).collect();
    for route in &routes {
        running.send(apply(route.clone())).await;
    }
    let list = |routes: &[Object]| Event::Listed {
        of: ObjectKind::Route.into(),
        ids: routes.iter().map(|r| r.id.clone()).collect(),
    };
    running.send(list(&routes)).await;
    running.published(12).await;

    running.send(list(&routes[..1])).await;
    let held = async {
        while running.metrics.removals_held.get() != 11 {
            tokio::task::yield_now().await;
        }
    };
    timeout(FOREVER, held).await.expect("they are held");
    running.published(12).await;
    // One is there after all, and one is certainly not.
    running.send(apply(routes[1].clone())).await;
    let id = routes[2].id.clone();
    running.send(Event::Delete { id, at: 1 }).await;
    running.published(2).await;
    assert_eq!(running.metrics.removals_held.get(), 11);
}

#[tokio::test]
async fn nothing_is_published_before_everything_is_listed() {
    let running = start(FOREVER);
    running.send(apply(route("one"))).await;
    running.list_all_but(ObjectKind::Route).await;
    let mut missing = running.world.missing.clone();
    let last = missing.wait_for(|kinds| *kinds == [ObjectKind::Route]);
    timeout(FOREVER, last).await.unwrap().unwrap();
    assert!(running.publisher.subscribe().borrow().is_none());
    let ids = BTreeSet::from([route("one").id]);
    running
        .send(Event::Listed {
            of: ObjectKind::Route.into(),
            ids,
        })
        .await;
    running.published(1).await;
    assert!(running.world.missing().is_empty());
    assert!(
        running.queue.take(9).is_some(),
        "its status waits to be written"
    );
}

#[tokio::test]
async fn what_a_new_list_does_not_hold_is_gone_and_the_rest_stays() {
    let running = start(FOREVER);
    running.send(apply(route("one"))).await;
    running.send(apply(route("two"))).await;
    running.list_all_but(ObjectKind::Route).await;
    let both = BTreeSet::from([route("one").id, route("two").id]);
    running
        .send(Event::Listed {
            of: ObjectKind::Route.into(),
            ids: both,
        })
        .await;
    running.published(2).await;
    // A relist brings objects one by one: until it is complete nothing is missing.
    running.send(apply(route("three"))).await;
    running.published(3).await;
    running
        .send(Event::Listed {
            of: ObjectKind::Route.into(),
            ids: BTreeSet::from([route("two").id]),
        })
        .await;
    running.published(1).await;
    running
        .send(Event::Delete {
            id: route("two").id,
            at: 2,
        })
        .await;
    running.published(0).await;
}

/// Two of three namespaces are watched, without any right to what stands outside of them.
#[tokio::test]
async fn namespaces_are_listed_each_for_itself() {
    let scope: Scope = "a,b".parse().unwrap();
    let running = start_in(scope.clone(), FOREVER, false);
    let route = |namespace: &str, to: &str| {
        let value = json!({
            "apiVersion": "diolkos.io/v1alpha1", "kind": "Route", "metadata": {"namespace": namespace, "name": "r"},
            "spec": {"rules": [{"backends": [{"name": "web", "namespace": to, "port": 80}]}]},
        });
        Object::from_json(&value).unwrap().unwrap()
    };
    let list = |of: Target, ids: &[&ObjectId]| {
        let ids = ids.iter().map(|id| (*id).clone()).collect();
        running.send(Event::Listed { of, ids })
    };
    let of = Target::of(ObjectKind::Route, &scope);
    let [in_a, in_b] = &of[..] else { panic!() };
    let (a, b) = (route("a", "a"), route("b", "c"));
    for kind in ObjectKind::ALL.iter().filter(|k| **k != ObjectKind::Route) {
        for target in Target::of(*kind, &scope) {
            match kind.is_cluster_scoped() {
                true => running.send(Event::Forbidden(target, Verb::List)).await,
                false => list(target, &[]).await,
            }
        }
    }
    running.send(apply(a.clone())).await;
    running.send(apply(b.clone())).await;
    list(in_a.clone(), &[&a.id]).await;
    let mut missing = running.world.missing.clone();
    let last = missing.wait_for(|kinds| *kinds == [ObjectKind::Route]);
    timeout(FOREVER, last).await.unwrap().unwrap();
    assert!(running.publisher.subscribe().borrow().is_none());
    list(in_b.clone(), &[&b.id]).await;
    running.published(2).await;

    let statuses = running.world.all().await;
    let said = statuses["Route/b/r"].to_string();
    assert!(said.contains("namespace c is not watched"), "{said}");
    let said = statuses["Route/a/r"].to_string();
    assert!(
        said.contains("Service a/web is not found") && !said.contains("watched"),
        "{said}"
    );

    // What a list of one namespace does not hold may be in another.
    list(in_a.clone(), &[]).await;
    running.published(1).await;
    assert!(running.world.all().await.contains_key("Route/b/r"));
}

/// Upstreams of another namespace may select Pods.
#[tokio::test]
async fn pods_are_needless_when_the_upstreams_of_all_namespaces_are_known() {
    let scope: Scope = "a,b".parse().unwrap();
    let running = start_in(scope.clone(), FOREVER, false);
    let upstreams = Target::of(ObjectKind::Upstream, &scope);
    let other = ObjectKind::ALL
        .iter()
        .filter(|k| !matches!(k, ObjectKind::Pod | ObjectKind::Upstream));
    let other = other.flat_map(|kind| Target::of(*kind, &scope));
    for of in other.chain(upstreams.first().cloned()) {
        let ids = BTreeSet::new();
        running.send(Event::Listed { of, ids }).await;
    }
    let mut missing = running.world.missing.clone();
    let last = missing.wait_for(|kinds| *kinds == [ObjectKind::Upstream, ObjectKind::Pod]);
    timeout(FOREVER, last).await.unwrap().unwrap();
    let of = upstreams.last().cloned().unwrap();
    let ids = BTreeSet::new();
    running.send(Event::Listed { of, ids }).await;
    running.published(0).await;
}

#[tokio::test]
async fn pods_that_may_not_be_listed_are_waited_for_in_vain() {
    let running = start(Duration::from_millis(50));
    let upstream = json!({
        "apiVersion": "diolkos.io/v1alpha1", "kind": "Upstream", "metadata": {"namespace": "a", "name": "u"},
        "spec": {"selector": {"matchLabels": {"app": "a"}, "port": 80}},
    });
    let upstream = Object::from_json(&upstream).unwrap().unwrap();
    assert!(!upstream.is_refused());
    running.send(apply(upstream)).await;
    running.send(forbid(ObjectKind::Pod)).await;
    for kind in ObjectKind::ALL.iter().filter(|k| **k != ObjectKind::Pod) {
        running.send(listed(*kind)).await;
    }
    running.published(0).await;
}

fn forbid(kind: ObjectKind) -> Event {
    Event::Forbidden(kind.into(), Verb::List)
}

/// As it stands in the world already.
fn listed(kind: ObjectKind) -> Event {
    let ids = match kind {
        ObjectKind::Upstream => vec![ObjectId::new(kind, "a", "u")],
        ObjectKind::GatewayClass => vec![ObjectId::new(kind, "", "ours")],
        _ => Vec::new(),
    };
    Event::Listed {
        of: kind.into(),
        ids: ids.into_iter().collect(),
    }
}

/// Whoever runs the cluster finds there why nothing is published.
#[tokio::test]
async fn classes_say_what_may_not_be_listed_or_watched() {
    let running = start(Duration::ZERO);
    let class = json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass",
        "metadata": {"name": "ours", "uid": "u1", "generation": 1},
        "spec": {"controllerName": crate::report::CONTROLLER_NAME},
    });
    let class = Object::from_json(&class).unwrap().unwrap();
    let id = class.id.clone();
    let said = async || {
        let wanted = running.world.statuses(vec![id.clone()]).await;
        let [wanted] = &wanted[..] else { panic!() };
        let conditions = wanted.status.as_ref()?["conditions"].as_array()?;
        let accepted = conditions.iter().find(|c| c["type"] == "Accepted")?;
        assert_eq!((&accepted["status"], &*wanted.uid), (&json!("True"), "u1"));
        let found = conditions
            .iter()
            .find(|c| c["type"] == "MissingPermissions")?;
        assert_eq!(found["status"], "True");
        assert_eq!(found["reason"], "MissingPermissions");
        Some(found["message"].as_str()?.to_owned())
    };
    running.send(apply(class)).await;
    assert_eq!(said().await, None);
    let but = [ObjectKind::HTTPRoute, ObjectKind::Namespace];
    for kind in but {
        running.send(forbid(kind)).await;
    }
    for kind in ObjectKind::ALL.iter().filter(|kind| !but.contains(kind)) {
        running.send(listed(*kind)).await;
    }
    running.taken(&but).await;
    assert_eq!(
        said().await.as_deref(),
        Some(
            "not permitted: list Namespace, list HTTPRoute; nothing is published before all that is needed has been listed"
        )
    );
    assert_eq!(running.world.ids().await, std::slice::from_ref(&id));
    assert!(running.publisher.subscribe().borrow().is_none());
    running
        .send(Event::Permitted(ObjectKind::Namespace.into()))
        .await;
    running.send(listed(ObjectKind::Namespace)).await;
    running.taken(&[ObjectKind::HTTPRoute]).await;
    let now = said().await.unwrap();
    assert!(now.starts_with("not permitted: list HTTPRoute;"), "{now}");
    running
        .send(Event::Permitted(ObjectKind::HTTPRoute.into()))
        .await;
    running.send(listed(ObjectKind::HTTPRoute)).await;
    running.published(0).await;
    assert_eq!(said().await, None);
    // What is published stays so.
    let routes = Target::from(ObjectKind::Route);
    running.send(Event::Forbidden(routes, Verb::Watch)).await;
    let said_so = async {
        loop {
            if let Some(text) = said().await {
                return text;
            }
            tokio::task::yield_now().await;
        }
    };
    assert_eq!(
        timeout(FOREVER, said_so).await.unwrap(),
        "not permitted: watch Route; what is new of these is not known"
    );
}
