//! What must hold for the definitions of all kinds.

#![allow(clippy::unwrap_used)] // a test may stop where it stands

use diolkos_crds as crds;

use std::{collections::BTreeSet, fs, path::Path};

use serde_json::{Map, Value};

/// Schemas of all kinds as JSON: kind and `openAPIV3Schema`.
fn schemas() -> Vec<(String, Value)> {
    crds::all()
        .into_iter()
        .map(|crd| {
            let kind = crd.spec.names.kind.clone();
            (
                kind,
                serde_json::to_value(
                    &crd.spec.versions[0]
                        .schema
                        .as_ref()
                        .unwrap()
                        .open_api_v3_schema,
                )
                .unwrap(),
            )
        })
        .collect()
}

/// Calls `visit` with the path and every schema below `schema`, itself included.
fn each(schema: &Value, path: &str, visit: &mut impl FnMut(&str, &Map<String, Value>)) {
    let Some(map) = schema.as_object() else {
        return;
    };
    visit(path, map);
    for (name, property) in map
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        each(property, &format!("{path}.{name}"), visit);
    }
    if let Some(items) = map.get("items") {
        each(items, &format!("{path}[]"), visit);
    }
    if let Some(values) = map.get("additionalProperties") {
        each(values, &format!("{path}.*"), visit);
    }
}

/// The paths of all schemas for which `wrong` holds.
fn find(wrong: impl Fn(&str, &Map<String, Value>) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    for (kind, schema) in schemas() {
        each(&schema, &kind, &mut |path, map| {
            if wrong(path, map) {
                found.push(path.to_owned());
            }
        });
    }
    found
}

#[test]
fn there_are_seven_kinds() {
    let names: Vec<_> = crds::all().into_iter().map(|crd| crd.spec.names).collect();
    assert_eq!(
        names.iter().map(|n| n.kind.as_str()).collect::<Vec<_>>(),
        crds::KINDS
    );
    let short: Vec<_> = names
        .iter()
        .map(|n| n.short_names.clone().unwrap_or_default().concat())
        .collect();
    assert_eq!(short, ["rt", "up", "plug", "ten", "con", "gwc", "mc"]);
    assert!(
        names
            .iter()
            .all(|n| n.categories.as_deref() == Some(&["diolkos".to_owned()]))
    );
    let scopes: Vec<_> = crds::all()
        .into_iter()
        .filter(|crd| crd.spec.scope == "Cluster")
        .map(|crd| crd.spec.names.kind)
        .collect();
    assert_eq!(scopes, ["Tenant"]);
}

#[test]
fn the_files_are_up_to_date_and_small() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("yaml");
    let mut expected = BTreeSet::new();
    for crd in crds::all() {
        let name = format!("{}.yaml", crd.spec.names.plural);
        let text = crds::yaml(&crd.spec.names.kind).unwrap();
        assert!(text.len() < 200_000, "{name} has {} bytes", text.len());
        let present = fs::read_to_string(folder.join(&name)).unwrap_or_default();
        // Not assert_eq: nobody wants to read both.
        assert!(present == text, "{name} is old: run `cargo xtask gen`");
        expected.insert(name);
    }
    let found: BTreeSet<_> = fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn the_yaml_is_the_definition() {
    for crd in crds::all() {
        let text = crds::yaml(&crd.spec.names.kind).unwrap();
        let read: Value = serde_saphyr::from_str(&text).unwrap();
        let read: k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition =
            serde_json::from_value(read).unwrap();
        assert_eq!(read, crd);
    }
}

/// kubectl, Helm and Argo CD read YAML 1.1, where these words are booleans unless they stand in quotes.
fn is_boolean_in_yaml_1_1(word: &str) -> bool {
    ["y", "n", "yes", "no", "on", "off", "true", "false"].contains(&word.to_lowercase().as_str())
}

#[test]
fn no_name_is_a_boolean_for_kubectl() {
    let without_other_name = find(|path, schema| {
        // Settings of plugins come from elsewhere: their `on` is known and must be quoted.
        let foreign = path.ends_with(".contentValidation");
        schema
            .get("properties")
            .and_then(Value::as_object)
            .is_some_and(|properties| {
                !foreign
                    && properties.keys().any(|name| is_boolean_in_yaml_1_1(name))
                    && !properties.contains_key("true")
            })
    });
    assert_eq!(without_other_name, [""; 0]);
    let values = find(|_, schema| {
        let values = schema.get("enum").and_then(Value::as_array);
        values.is_some_and(|values| {
            values
                .iter()
                .filter_map(Value::as_str)
                .any(is_boolean_in_yaml_1_1)
        })
    });
    // The status of a condition is written by programs.
    let values: Vec<_> = values
        .into_iter()
        .filter(|path| !path.contains("conditions[]"))
        .collect();
    assert_eq!(values, [""; 0]);
}

#[test]
fn no_schema_fills_in_defaults() {
    let filled = find(|_, schema| schema.contains_key("default"));
    let of_status: Vec<_> = crds::KINDS.iter().map(|k| format!("{k}.status")).collect();
    assert_eq!(filled, of_status, "no spec has any");
}

#[test]
fn everything_that_grows_has_a_bound() {
    let free = |schema: &Map<String, Value>, bound| {
        !schema.contains_key(bound)
            && !schema.contains_key("enum")
            && schema.get("format").is_none_or(|f| f != "date-time")
    };
    assert_eq!(
        find(|_, s| s.get("type").is_some_and(|t| t == "array") && free(s, "maxItems")),
        [""; 0]
    );
    assert_eq!(
        find(|_, s| s.get("type").is_some_and(|t| t == "string") && free(s, "maxLength")),
        [""; 0]
    );
    assert_eq!(
        find(|_, s| s.contains_key("additionalProperties") && free(s, "maxProperties")),
        [""; 0]
    );
}

#[test]
fn numbers_of_the_spec_have_bounds() {
    let number = |s: &Map<String, Value>| {
        s.get("type")
            .is_some_and(|t| t == "integer" || t == "number")
            && !s.contains_key("enum")
    };
    let unbound = find(|path, s| {
        path.contains(".spec")
            && number(s)
            && !(s.contains_key("minimum") && s.contains_key("maximum"))
    });
    assert_eq!(unbound, [""; 0]);
}

#[test]
fn every_field_is_described() {
    // The blocks of inline plugins are described once, in Plugin.
    let blocks: Vec<String> = crds::PluginType::ALL
        .iter()
        .map(|t| format!(".{}.", t.block()))
        .collect();
    let inline = |path: &str| {
        !path.starts_with("Plugin.") && blocks.iter().any(|block| path.contains(block.as_str()))
    };
    let silent = find(|path, schema| {
        let field = !path.ends_with("[]") && !path.ends_with(".*") && path.contains('.');
        field
            && !inline(path)
            && schema
                .get("description")
                .and_then(Value::as_str)
                .is_none_or(str::is_empty)
    });
    let known = silent
        .into_iter()
        .filter(|path| !path.ends_with(".status") && !path.ends_with("conditions"))
        .collect::<Vec<_>>();
    assert_eq!(known, [""; 0]);
}

#[test]
fn rules_compile_and_have_a_message() {
    for (kind, schema) in schemas() {
        each(&schema, &kind, &mut |path, map| {
            for rule in map
                .get("x-kubernetes-validations")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
            {
                assert!(
                    rule["message"].as_str().is_some_and(|m| !m.is_empty()),
                    "{path}: {rule}"
                );
            }
            if let Some(pattern) = map.get("pattern").and_then(Value::as_str) {
                assert!(regex::Regex::new(pattern).is_ok(), "{path}: {pattern}");
            }
            let compiled = kube::core::cel::compile_schema(&Value::Object(map.clone()));
            assert!(
                compiled.compilation_errors().is_empty(),
                "{path}: {:?}",
                compiled.compilation_errors()
            );
        });
    }
}
