use super::*;
use crate::world::{Object, ObjectId};
use serde_json::json;

/// Routes in pairs that want the same host, each to a Service of its own; every fifth is not acceptable.
fn world() -> World {
    let mut world = World::default();
    world.set_now(0);
    for n in 0..40 {
        let name = format!("r{n:02}");
        let mut rule = json!({"backends": [{"name": name, "port": 80}]});
        if n % 5 == 0 {
            rule["matches"] = json!([{"path": {"type": "RegularExpression", "value": "/("}}]);
        }
        let route = json!({
            "apiVersion": "diolkos.io/v1alpha1", "kind": "Route",
            "metadata": {"namespace": "ns", "name": name, "generation": 1},
            "spec": {"hostnames": [format!("h{}.example", n / 2)], "rules": [rule]},
        });
        let service = json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"namespace": "ns", "name": name},
            "spec": {"ports": [{"name": "http", "port": 80}]},
        });
        let slice = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"namespace": "ns", "name": name, "labels": {"kubernetes.io/service-name": name}},
            "ports": [{"name": "http", "port": 8080}],
            "endpoints": [{"addresses": [format!("10.0.0.{n}")]}],
        });
        for manifest in [route, service, slice] {
            world.apply(Object::from_json(&manifest).unwrap().unwrap());
        }
    }
    world
}

#[test]
fn many_at_once_give_what_each_alone_gives() {
    let world = world();
    let all: BTreeSet<ObjectId> = world.ids().cloned().collect();
    let mut at_once = Translator::default();
    at_once.update(&world, &all);
    let mut alone = Translator::default();
    for id in &all {
        alone.update(&world, &BTreeSet::from([id.clone()]));
    }
    assert!(at_once.resources().all::<model::Route>().count() > 30);
    assert_eq!(at_once.resources().model(), alone.resources().model());
    assert_eq!(at_once.report(), alone.report());
}

#[test]
fn nothing_is_used_of_what_was_lowered_before_an_earlier_unit() {
    let unit = |name: &str| {
        let id = ObjectId::new(crate::world::ObjectKind::Route, "ns", name);
        Unit::Route(id)
    };
    let done = |unit: Unit| (unit, Some(Lowered::default()));
    let mut ahead = Ahead([unit("b"), unit("c"), unit("d")].map(done).into());
    assert!(ahead.take(&unit("b")).is_some());
    assert!(ahead.take(&unit("a")).is_none());
    assert!(ahead.take(&unit("c")).is_none());
}

#[test]
fn the_order_is_kept() {
    let items: Vec<usize> = (0..1000).collect();
    let doubled: Vec<usize> = items.iter().map(|n| n * 2).collect();
    assert_eq!(side_by_side(&items, |n| n * 2), doubled);
}
