//! Pieces from which the schemas of the kinds are built.

use serde_json::{Value, json};

/// The value of `x-kubernetes-validations`: pairs of a CEL rule and the message for whom breaks it.
///
/// A message names the field and says what is allowed, because the API server prints only the path of
/// the object that holds the rule.
pub(crate) fn cel(rules: &[(&str, &str)]) -> Value {
    rules
        .iter()
        .map(|(rule, message)| json!({ "rule": rule, "message": message }))
        .collect()
}

/// Removes the descriptions inside the blocks of `schema`; those of the blocks themselves stay.
///
/// The blocks of a plugin stand in four kinds besides Plugin; their text would double the size of
/// those manifests. What a reader needs is in `kubectl explain plugin.spec`.
pub(crate) fn drop_inner_descriptions(schema: &mut schemars::Schema) {
    fn strip(value: &mut Value) {
        match value {
            Value::Object(map) => {
                // A property may itself be called "description": then its value is an object.
                if map.get("description").is_some_and(Value::is_string) {
                    map.remove("description");
                }
                map.values_mut().for_each(strip);
            }
            Value::Array(list) => list.iter_mut().for_each(strip),
            _ => {}
        }
    }
    let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) else {
        return;
    };
    for (name, property) in properties.iter_mut() {
        // A reference is the same everywhere, and short.
        if name == "ref" {
            continue;
        }
        let Some(property) = property.as_object_mut() else {
            continue;
        };
        for (key, value) in property.iter_mut() {
            if key != "description" {
                strip(value);
            }
        }
    }
}

/// Lets the field `on` also be called `true`.
///
/// kubectl, Helm and Argo CD read YAML 1.1, where an `on` without quotes is a boolean, so that is the name under which
/// the field reaches the API server. It must not be lost or refused for that.
pub(crate) fn on_may_be_true(schema: &mut schemars::Schema) {
    let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) else {
        return;
    };
    let Some(mut same) = properties.get("on").cloned() else {
        return;
    };
    if let Some(same) = same.as_object_mut() {
        same.insert(
            "description".to_owned(),
            "The same as on: the name that on without quotes has in YAML 1.1.".into(),
        );
    }
    properties.insert("true".to_owned(), same);
    let rule = cel(&[(
        "!(has(self.on) && has(self.__true__))",
        "on is given twice, once as on and once as true",
    )]);
    if let (Some(rules), Value::Array(rule)) = (
        schema
            .ensure_object()
            .entry("x-kubernetes-validations")
            .or_insert(json!([]))
            .as_array_mut(),
        rule,
    ) {
        rules.extend(rule);
    }
}

/// The schema of an object whose content belongs to somebody else: nothing below it is checked or pruned.
pub(crate) fn free_form(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true })
}

/// The schema of a map of short strings, as labels and annotations are.
pub(crate) fn string_map(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "object",
        "additionalProperties": { "type": "string", "maxLength": 1024 },
        "maxProperties": 64,
    })
}
