//! Admission without a cluster judges the corpus as a cluster does, and survives any JSON.

#![allow(clippy::unwrap_used)] // a test may stop where it stands

use diolkos_crds as crds;

mod common;

use std::collections::BTreeSet;

use common::samples;
use crds::{
    KINDS,
    admission::{Fault, FaultKind, check},
};
use proptest::prelude::*;
use serde_json::{Value, json};

#[test]
fn bad_objects_are_refused_by_name_of_the_field() {
    for sample in samples("bad") {
        let faults = check(sample.kind(), &sample.object);
        let named: Vec<&Fault> = faults
            .iter()
            .filter(|f| f.path.to_string() == sample.field)
            .collect();
        assert!(
            !named.is_empty(),
            "{}: no fault at {}, but {faults:?}",
            sample.file,
            sample.field
        );
        if let Some(words) = &sample.says {
            assert!(
                named.iter().any(|f| f.message.contains(words)),
                "{}: {named:?}",
                sample.file
            );
        }
    }
}

#[test]
fn bad_objects_have_no_other_faults() {
    for sample in samples("bad") {
        let others: Vec<String> = check(sample.kind(), &sample.object)
            .iter()
            .filter(|f| !f.path.to_string().starts_with(&sample.field))
            // The field that was meant is then missing.
            .filter(|f| !matches!(f.kind, FaultKind::Required | FaultKind::UnknownField))
            .map(ToString::to_string)
            .collect();
        // A plugin of unknown type also breaks the rules about its block.
        assert!(
            others.is_empty() || sample.field.ends_with(".type"),
            "{}: {others:?}",
            sample.file
        );
    }
}

#[test]
fn good_objects_are_accepted_and_readable() {
    let mut kinds = BTreeSet::new();
    for sample in samples("good") {
        assert_eq!(check(sample.kind(), &sample.object), [], "{}", sample.file);
        kinds.insert(sample.kind().to_owned());
        let written = read_and_write(sample.kind(), sample.object.clone());
        assert_eq!(
            check(sample.kind(), &written),
            [],
            "{} read and written again",
            sample.file
        );
    }
    assert_eq!(kinds, KINDS.map(String::from).into());
}

/// What remains of an object that goes through its Rust type.
fn read_and_write(kind: &str, object: Value) -> Value {
    fn through<K: serde::de::DeserializeOwned + serde::Serialize>(object: Value) -> Value {
        serde_json::to_value(serde_json::from_value::<K>(object).unwrap()).unwrap()
    }
    match kind {
        "Route" => through::<crds::Route>(object),
        "Upstream" => through::<crds::Upstream>(object),
        "Plugin" => through::<crds::Plugin>(object),
        "Tenant" => through::<crds::Tenant>(object),
        "Consumer" => through::<crds::Consumer>(object),
        "GatewayConfig" => through::<crds::GatewayConfig>(object),
        "ModelCatalog" => through::<crds::ModelCatalog>(object),
        other => panic!("{other}"),
    }
}

#[test]
fn on_without_quotes_is_on() {
    let samples = samples("good");
    let sample = samples
        .iter()
        .find(|s| s.file == "route-on-without-quotes.yaml")
        .unwrap();
    let route: crds::Route = serde_json::from_value(sample.object.clone()).unwrap();
    let retry = route.spec.rules[0].retry.as_ref().unwrap();
    assert_eq!(
        retry.on.iter().map(|on| on.as_str()).collect::<Vec<_>>(),
        ["ConnectFailure", "502-504"]
    );
}

fn messages(kind: &str, spec: Value) -> Vec<String> {
    let object = json!({ "apiVersion": "diolkos.io/v1alpha1", "kind": kind, "metadata": { "name": "x" }, "spec": spec });
    check(kind, &object)
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[test]
fn messages_say_what_is_allowed() {
    assert_eq!(
        messages(
            "Route",
            json!({ "hostname": "a", "rules": [{ "backends": [{ "name": "a", "port": "80", "weight": -1 }] }] })
        ),
        [
            "spec.hostname: unknown field; did you mean hostnames?",
            "spec.rules[0].backends[0].port: must be a whole number, not a string",
            "spec.rules[0].backends[0].weight: must be from 0 to 1000000",
        ]
    );
    assert_eq!(
        messages(
            "Upstream",
            json!({ "service": { "name": "a", "port": 1 }, "protocol": "HTTP2", "tls": { "minVersion": 1.2 } })
        ),
        [
            "spec.protocol: HTTP2 is not accepted: give Auto, H1, H2 or H2C",
            "spec.tls.minVersion: must be a string, not a number; put it in quotes: \"1.2\"",
        ]
    );
    assert_eq!(
        messages(
            "Upstream",
            json!({ "endpoints": [{ "address": "a", "port": 1 }], "auth": { "headers": [{ "name": "a b", "valueFrom": { "secretKeyRef": { "name": "s", "key": "k" } } }] } })
        ),
        [
            "spec.auth.headers[0].name: \"a b\" is not accepted: wanted is the name of an HTTP header field or of a cookie: a token of RFC 9110 section 5.6.2, in any case"
        ]
    );
    assert_eq!(
        messages("Route", json!({ "hostnames": ["A.b"], "rules": null })),
        [
            "spec.hostnames[0]: \"A.b\" is not accepted: wanted is a host name, lower case, without port. The first label may be `*`",
            "spec.rules: must not be null: leave the field out",
        ]
    );
}

#[test]
fn the_envelope_is_judged_too() {
    let faults = check(
        "Route",
        &json!({ "apiVersion": "diolkos.io/v1", "metadata": { "namespace": "A" } }),
    );
    let shown: Vec<String> = faults.iter().map(ToString::to_string).collect();
    assert_eq!(
        shown,
        [
            "apiVersion: must be diolkos.io/v1alpha1",
            "kind: must be given: Route",
            "metadata.name: must be given",
            "metadata.namespace: \"A\" is not accepted: wanted is a DNS label: lower-case letters, digits and `-`, at most 63. Names of namespaces, listeners, rules",
            "spec: must be given",
        ]
    );
    assert_eq!(check("Pod", &json!({})).len(), 1);
}

#[test]
fn the_number_of_faults_is_bounded() {
    let rules: Vec<Value> = (0..100_000).map(|_| json!({ "x": 1 })).collect();
    assert_eq!(
        messages("Route", json!({ "rules": rules })),
        ["spec.rules: must have at most 128 items, not 100000"]
    );
    let fields: serde_json::Map<String, Value> = (0..1000)
        .map(|i| (format!("field-{i}"), json!(1)))
        .collect();
    assert_eq!(messages("Route", Value::Object(fields)).len(), 100);
}

/// JSON of any shape, with the names of our fields among its keys so that it gets past the first level.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
    ];
    let key = prop_oneof![
        prop::sample::select(vec![
            "apiVersion",
            "kind",
            "metadata",
            "name",
            "spec",
            "rules",
            "backends",
            "matches",
            "path",
            "type",
            "value",
            "plugins",
            "mock",
            "listeners",
            "tls",
            "limits",
            "key",
            "retry",
            "on",
            "hostnames",
            "models",
            "keys",
            "health",
            "active",
            "lb",
        ])
        .prop_map(String::from),
        ".{0,8}",
    ];
    leaf.prop_recursive(8, 64, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::hash_map(key.clone(), inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn no_json_makes_it_panic(kind in prop::sample::select(KINDS.to_vec()), json in any_json()) {
        check(kind, &json);
        check(kind, &json!({ "spec": json }));
    }

    /// A good object into which anything is put in place of one of its fields.
    #[test]
    fn no_change_of_a_good_object_makes_it_panic(pick in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), json in any_json()) {
        let good = samples("good");
        let sample = &good[pick.index(good.len())];
        let mut object = sample.object.clone();
        let mut pointers = Vec::new();
        collect_pointers(&object, String::new(), &mut pointers);
        if let Some(place) = object.pointer_mut(&pointers[at.index(pointers.len())]) {
            *place = json;
        }
        check(sample.kind(), &object);
    }
}

fn collect_pointers(value: &Value, at: String, into: &mut Vec<String>) {
    match value {
        Value::Array(items) => items
            .iter()
            .enumerate()
            .for_each(|(i, item)| collect_pointers(item, format!("{at}/{i}"), into)),
        Value::Object(fields) => fields
            .iter()
            .for_each(|(key, field)| collect_pointers(field, format!("{at}/{key}"), into)),
        _ => {}
    }
    into.push(at);
}
