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
