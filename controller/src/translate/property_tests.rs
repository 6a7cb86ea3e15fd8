//! What holds for any world: translation ends, order means nothing, and an increment equals the whole.

mod edits;

use super::{Mismatch, Published, Translator, translate};
use crate::report::{Findings, Programmed, Reason};
use crate::world::{Object, ObjectId, World};
use edits::{Edit, edit, object, read};
use model::EscapedSlashes;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// All of it, in small slices.
fn recheck(translator: &mut Translator, world: &World) -> Mismatch {
    let (mut recheck, mut found) = translator.recheck(world);
    while !recheck.is_done() {
        found.merge(translator.recheck_next(world, &mut recheck, 3));
    }
    found
}

fn bodies(translation: &super::Translation) -> Vec<(snapshot::Kind, String, Vec<u8>)> {
    let model = translation.resources.model();
    let all = snapshot::sections::bodies(&model);
    all.map(|(kind, key, body)| (kind, key.to_owned(), body.unwrap()))
        .collect()
}

/// Any JSON, with the field names that mean something here and there.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        "(/[a-z%.]{0,3}){0,3}".prop_map(Value::from),
        prop_oneof![
            Just("Mock"),
            Just("HTTP"),
            Just("PathPrefix"),
            Just("10s"),
            Just("1Mi")
        ]
        .prop_map(Value::from),
    ];
    let key = prop_oneof![
        Just("rules".to_owned()),
        Just("matches".to_owned()),
        Just("path".to_owned()),
        Just("value".to_owned()),
        Just("type".to_owned()),
        Just("backends".to_owned()),
        Just("name".to_owned()),
        Just("port".to_owned()),
        Just("hostnames".to_owned()),
        Just("listeners".to_owned()),
        Just("protocol".to_owned()),
        Just("plugins".to_owned()),
        Just("mock".to_owned()),
        Just("service".to_owned()),
        Just("external".to_owned()),
        Just("url".to_owned()),
        Just("timeouts".to_owned()),
        Just("rewrite".to_owned()),
        Just("redirect".to_owned()),
        Just("directResponse".to_owned()),
        Just("parentRefs".to_owned()),
    ];
    leaf.prop_recursive(6, 64, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(key.clone(), inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn an_increment_equals_the_whole(
        batches in prop::collection::vec(prop::collection::vec(edit(), 1..5), 1..8),
        in_groups in any::<bool>(),
    ) {
        let mut world = World::default();
        let mut translator = match in_groups {
            true => Translator::for_groups().publishing(Published::default()),
            false => Translator::default(),
        };
        let mut published = std::collections::BTreeMap::new();
        let mut held = BTreeSet::new();
        for batch in batches {
            let mut dirty = BTreeSet::new();
            for edit in batch {
                match edit {
                    Edit::Apply(value) => {
                        let object = read(&value);
                        let id = object.id.clone();
                        if world.apply(object) {
                            dirty.insert(id);
                        }
                    }
                    Edit::Remove(value) => {
                        let id = read(&value).id;
                        if world.remove(&id) {
                            dirty.insert(id);
                        }
                    }
                }
            }
            let delta = translator.update(&world, &dirty);
            let mut whole = translator.afresh();
            let all: BTreeSet<ObjectId> = world.ids().cloned().collect();
            whole.update(&world, &all);
            prop_assert_eq!(translator.resources().model(), whole.resources().model());
            prop_assert_eq!(translator.report(), whole.report());
            let planes = |t: &Translator| -> Vec<_> {
                let owners = t.with_data_planes();
                owners.map(|id| (t.data_planes_of(&id).cloned(), id)).collect()
            };
            prop_assert_eq!(planes(&translator), planes(&whole));
            prop_assert!(in_groups || planes(&translator).iter().all(|(asked, _)| asked.is_none()));
            // Whoever applies the deltas has what the model encodes to.
            for (id, refers) in delta.references {
                match refers {
                    true => held.insert(id),
                    false => held.remove(&id),
                };
            }
            // Of what nothing refers to the values need not be known.
            let mut without = world.clone();
            let wiped = world.ids().filter(|id| id.kind.has_values() && !held.contains(*id));
            let wiped: Vec<ObjectId> = wiped.cloned().collect();
            for id in wiped {
                let metadata = Default::default();
                let unread = Object::unread(id.kind, &metadata);
                without.apply(Object { id, ..unread });
            }
            let mut blind = translator.afresh();
            blind.update(&without, &all);
            prop_assert_eq!(translator.resources().model(), blind.resources().model());
            for (id, body) in delta.resources {
                match body {
                    Some(body) => published.insert(id, body),
                    None => published.remove(&id),
                };
            }
            let model = translator.resources().model();
            let expected: std::collections::BTreeMap<_, _> = snapshot::sections::bodies(&model)
                .map(|(kind, key, body)| ((kind, key.into()), bytes::Bytes::from(body.unwrap())))
                .collect();
            prop_assert_eq!(&published, &expected);
            let found = recheck(&mut translator, &world);
            prop_assert_eq!(found.of, BTreeSet::new());
            prop_assert_eq!(found.delta, super::Delta::default());
        }
    }

    /// Whatever the translator was not told of is found, and what is held is then as if it had been.
    #[test]
    fn another_look_mends_what_was_missed(
        told in prop::collection::vec(edit(), 1..24),
        missed in prop::collection::vec(edit(), 1..4),
        in_groups in any::<bool>(),
    ) {
        let mut world = World::default();
        let mut translator = match in_groups {
            true => Translator::for_groups().publishing(Published::default()),
            false => Translator::default(),
        };
        told.into_iter().for_each(|edit| edit.make(&mut world));
        let all: BTreeSet<ObjectId> = world.ids().cloned().collect();
        translator.update(&world, &all);
        let before = translator.resources().clone();
        missed.into_iter().for_each(|edit| edit.make(&mut world));
        let found = recheck(&mut translator, &world);
        let mut whole = translator.afresh();
        let all: BTreeSet<ObjectId> = world.ids().cloned().collect();
        whole.update(&world, &all);
        prop_assert_eq!(translator.resources().model(), whole.resources().model());
        prop_assert_eq!(translator.report(), whole.report());
        prop_assert!(before == *translator.resources() || !found.of.is_empty());
        prop_assert_eq!(recheck(&mut translator, &world).of, BTreeSet::new());
    }

    #[test]
    fn the_order_of_input_never_changes_the_bytes(objects in prop::collection::vec(object(), 1..16).prop_shuffle(), seed in any::<u64>()) {
        // Of several versions of one object the last counts, whatever the order; so each identity stands once.
        let mut seen = BTreeSet::new();
        let mut objects: Vec<Object> = objects.iter().map(read).filter(|o| seen.insert(o.id.clone())).collect();
        let mut one = World::default();
        for object in &objects {
            one.apply(object.clone());
        }
        let n = objects.len().max(1);
        objects.rotate_left((seed as usize) % n);
        if seed % 2 == 0 {
            objects.reverse();
        }
        let mut other = World::default();
        let mut step_by_step = Translator::default();
        for object in objects {
            let id = object.id.clone();
            other.apply(object);
            step_by_step.update(&other, &BTreeSet::from([id]));
        }
        let (a, b) = (translate(&one), translate(&other));
        prop_assert_eq!(bodies(&a), bodies(&b));
        prop_assert_eq!(&a, &b);
        prop_assert_eq!(bodies(&a), bodies(&step_by_step.into_translation()));
    }

    #[test]
    fn any_object_is_translated(kind in 0..7usize, spec in any_json()) {
        let (api, kind) = [
            ("diolkos.io/v1alpha1", "Route"), ("diolkos.io/v1alpha1", "Upstream"),
            ("diolkos.io/v1alpha1", "Plugin"), ("diolkos.io/v1alpha1", "GatewayConfig"),
            ("v1", "Service"), ("v1", "Secret"), ("v1", "ConfigMap"),
        ][kind];
        let mut value = json!({"apiVersion": api, "kind": kind, "metadata": {"name": "n"}, "spec": spec});
        if api == "v1" {
            value["data"] = value["spec"].clone();
            value["stringData"] = value["spec"].clone();
        }
        let mut world = World::default();
        world.apply(read(&value));
        let translation = translate(&world);
        for problem in translation.report.problems() {
            prop_assert!(Reason::ALL.contains(&problem.reason));
        }
        let _ = translation.report.statuses(
            |_| Programmed::Yes,
            &Findings::default(),
            &translation.resources,
        );
        // What comes out is what the data plane can read.
        let mut store = snapshot::Store::default();
        store.replace(bodies(&translation));
        let mut replica = snapshot::Replica::default();
        if let Some(transaction) = store.since(None) {
            for chunk in transaction.into_chunks(1, 0) {
                prop_assert!(replica.receive(chunk).is_ok());
            }
        }
    }

    /// A path of a match is spelled as the edge gate spells the paths of requests, or no request could match it.
    #[test]
    fn paths_of_matches_are_in_the_normal_form_of_requests(text in "/[a-z%~/.2CfF\u{e9} -]{0,12}") {
        if let Ok(path) = crate::translate::matches::normal_path(&text) {
            let mut gate = String::new();
            let taken = dataplane::engine::sanitize::path(
                path.as_bytes(),
                EscapedSlashes::Keep,
                &mut gate,
            );
            // The gate may refuse what it takes for an attack; what it takes it must not change.
            if taken.is_ok() {
                prop_assert_eq!(gate, path);
            }
        }
    }
}

/// A version that was refused as a whole is none to go back to while a later one is being read.
#[test]
fn a_gateway_without_its_parameters_stands_in_for_nothing() {
    let gateway = json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
        "metadata": {"namespace": "x", "name": "a"}, "spec": {"gatewayClassName": "diolkos",
            "listeners": [
                {"name": "l", "port": 82, "protocol": "HTTPS", "tls": {"certificateRefs": [{"name": "b"}]}},
                {"name": "s", "port": 81, "protocol": "HTTP"},
            ],
            "infrastructure": {"parametersRef": {"group": "diolkos.io", "kind": "GatewayConfig", "name": "b"}}}});
    let parameters = json!({"apiVersion": "diolkos.io/v1alpha1", "kind": "GatewayConfig",
        "metadata": {"namespace": "x", "name": "b"}, "spec": {"caps": {"headerCount": 50}}});
    let unread = json!({"apiVersion": "v1", "kind": "Secret",
        "metadata": {"namespace": "x", "name": "b"}, "stringData": null});
    let (mut world, mut translator) = (World::default(), Translator::default());
    for object in [gateway, unread, parameters] {
        let object = read(&object);
        let id = object.id.clone();
        world.apply(object);
        translator.update(&world, &BTreeSet::from([id]));
    }
    let step_by_step = translator.into_translation();
    assert_eq!(
        step_by_step.resources.count(snapshot::Kind::Listener),
        1,
        "what is read of it serves"
    );
    assert_eq!(bodies(&step_by_step), bodies(&translate(&world)));
}

#[test]
fn a_policy_that_was_missed_is_found() {
    let meta =
        |name| json!({"namespace": "x", "name": name, "creationTimestamp": "2026-01-01T00:00:00Z"});
    let policy = |service| {
        json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "BackendTLSPolicy", "metadata": meta("b"),
            "spec": {
                "targetRefs": [{"group": "", "kind": "Service", "name": service}],
                "validation": {"hostname": "web.example.com", "caCertificateRefs": [{"group": "", "kind": "ConfigMap", "name": "a"}]},
            },
        })
    };
    let grpc = json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "GRPCRoute", "metadata": meta("a"),
        "spec": {
            "parentRefs": [{"name": "a"}], "hostnames": ["a.example.com"],
            "rules": [{
                "matches": [{"method": {"type": "RegularExpression", "method": "a"}}],
                "backendRefs": [{"name": "b", "namespace": "x", "port": 80}],
            }],
        },
    });
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": meta("b"),
        "spec": {"ports": [{"name": "p", "port": 80}]},
    });
    let mut world = World::default();
    let mut translator = Translator::default();
    for value in [&grpc, &policy("b"), &service] {
        world.apply(read(value));
    }
    let all: BTreeSet<ObjectId> = world.ids().cloned().collect();
    translator.update(&world, &all);
    let before = translator.resources().clone();
    world.apply(read(&policy("a")));
    let found = recheck(&mut translator, &world);
    let mut whole = translator.afresh();
    whole.update(&world, &all);
    assert_eq!(translator.resources().model(), whole.resources().model());
    assert_eq!(translator.report(), whole.report());
    assert!(before == *translator.resources() || !found.of.is_empty());
    assert_eq!(recheck(&mut translator, &world).of, BTreeSet::new());
}
