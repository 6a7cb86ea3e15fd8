//! Judges a value by a structural schema.

use std::{collections::HashMap, sync::LazyLock};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use regex::Regex;
use serde_json::{Map, Value};

use super::{Fault, FaultKind, FieldPath, MAX_FAULTS, hint::closest};
use crate::text;

/// A pattern of our schemas, ready for use.
struct Pattern {
    regex: Regex,
    /// What it stands for in words, where we have them.
    form: Option<&'static str>,
}

/// The patterns of all schemas.
static PATTERNS: LazyLock<HashMap<String, Pattern>> = LazyLock::new(|| {
    let forms: HashMap<String, &'static str> = text::forms().into_iter().collect();
    let mut patterns = HashMap::new();
    for crd in crate::all() {
        for schema in crd
            .spec
            .versions
            .iter()
            .filter_map(|v| v.schema.as_ref()?.open_api_v3_schema.as_ref())
        {
            collect(schema, &forms, &mut patterns);
        }
    }
    patterns
});

fn collect(
    schema: &JSONSchemaProps,
    forms: &HashMap<String, &'static str>,
    into: &mut HashMap<String, Pattern>,
) {
    if let Some(pattern) = schema
        .pattern
        .as_ref()
        .filter(|pattern| !into.contains_key(*pattern))
    {
        // Patterns are ours; a test compiles every one.
        if let Ok(regex) = Regex::new(pattern) {
            into.insert(
                pattern.clone(),
                Pattern {
                    regex,
                    form: forms.get(pattern).copied(),
                },
            );
        }
    }
    for property in schema
        .properties
        .iter()
        .flat_map(|properties| properties.values())
    {
        collect(property, forms, into);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &schema.items {
        collect(items, forms, into);
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &schema.additional_properties {
        collect(values, forms, into);
    }
}

/// What was found on the way through an object.
#[derive(Default)]
pub(super) struct Walk {
    pub(super) faults: Vec<Fault>,
    /// Something is longer than the schema allows, so that rules might take long.
    pub(super) too_long: bool,
}

impl Walk {
    fn fault(&mut self, path: FieldPath, kind: FaultKind, message: impl Into<String>) {
        if self.faults.len() < MAX_FAULTS {
            self.faults.push(Fault {
                path,
                message: message.into(),
                kind,
            });
        }
    }

    /// Judges what all kinds have in common: `apiVersion`, `kind` and the parts of `metadata` that we rely on.
    pub(super) fn envelope(&mut self, kind: &str, fields: &Map<String, Value>) {
        let root = FieldPath::default();
        let version = format!("{}/{}", crate::GROUP, crate::VERSION);
        for (name, expected) in [("apiVersion", version.as_str()), ("kind", kind)] {
            match fields.get(name) {
                None => self.fault(
                    root.key(name),
                    FaultKind::Required,
                    format!("must be given: {expected}"),
                ),
                Some(value) if value != expected => {
                    self.fault(
                        root.key(name),
                        FaultKind::Invalid,
                        format!("must be {expected}"),
                    );
                }
                Some(_) => {}
            }
        }
        let path = root.key("metadata");
        let Some(metadata) = fields.get("metadata") else {
            return self.fault(
                path,
                FaultKind::Required,
                "must be given, with the name of the object",
            );
        };
        let Value::Object(metadata) = metadata else {
            return self.fault(
                path,
                FaultKind::Type,
                format!("must be an object, not {}", type_of(metadata)),
            );
        };
        if !metadata.contains_key("name") {
            self.fault(path.key("name"), FaultKind::Required, "must be given");
        }
        for (field, schema) in [
            ("name", schema_of::<text::ObjectName>()),
            ("namespace", schema_of::<text::Label>()),
        ] {
            if let (Some(value), Some(schema)) = (metadata.get(field), schema) {
                self.value(&schema, value, &path.key(field));
            }
        }
        for field in ["labels", "annotations"] {
            match metadata.get(field) {
                None | Some(Value::Null) => {}
                Some(Value::Object(map)) => {
                    for (key, value) in map.iter().filter(|(_, value)| !value.is_string()) {
                        self.type_fault(&path.key(field).key(key), "a string", value);
                    }
                }
                Some(other) => self.type_fault(&path.key(field), "an object", other),
            }
        }
    }

    /// Judges a value and all that is in it.
    pub(super) fn value(&mut self, schema: &JSONSchemaProps, value: &Value, path: &FieldPath) {
        if value.is_null() {
            if schema.nullable != Some(true) {
                self.fault(
                    path.clone(),
                    FaultKind::Type,
                    "must not be null: leave the field out",
                );
            }
            return;
        }
        if let Some(wanted) = wrong_type(schema, value) {
            return self.type_fault(path, wanted, value);
        }
        if let Some(allowed) = schema
            .enum_
            .as_ref()
            .filter(|allowed| !allowed.iter().any(|a| &a.0 == value))
        {
            let allowed: Vec<String> = allowed.iter().map(|a| plain(&a.0)).collect();
            self.fault(
                path.clone(),
                FaultKind::Invalid,
                format!(
                    "{} is not accepted: give {}",
                    plain(value),
                    one_of(&allowed)
                ),
            );
        }
        match value {
            Value::String(text) => self.string(schema, text, path),
            Value::Number(number) => self.number(schema, number.as_f64().unwrap_or(f64::NAN), path),
            Value::Array(items) => self.list(schema, items, path),
            Value::Object(fields) => self.object(schema, fields, path),
            Value::Null | Value::Bool(_) => {}
        }
        self.alternatives(schema, value, path);
    }

    fn type_fault(&mut self, path: &FieldPath, wanted: &str, value: &Value) {
        let quotes = match value {
            Value::Number(_) | Value::Bool(_) if wanted == "a string" => {
                format!("; put it in quotes: \"{value}\"")
            }
            _ => String::new(),
        };
        self.fault(
            path.clone(),
            FaultKind::Type,
            format!("must be {wanted}, not {}{quotes}", type_of(value)),
        );
    }

    fn string(&mut self, schema: &JSONSchemaProps, text: &str, path: &FieldPath) {
        let length = i64::try_from(text.chars().count()).unwrap_or(i64::MAX);
        if let Some(max) = schema.max_length.filter(|max| length > *max) {
            self.too_long = true;
            return self.fault(
                path.clone(),
                FaultKind::Invalid,
                format!("must have at most {max} characters"),
            );
        }
        if let Some(min) = schema.min_length.filter(|min| length < *min) {
            let message = if length == 0 {
                "must not be empty".to_owned()
            } else {
                format!("must have at least {min} characters")
            };
            return self.fault(path.clone(), FaultKind::Invalid, message);
        }
        let Some(pattern) = &schema.pattern else {
            return;
        };
        let Some(Pattern { regex, form }) = PATTERNS.get(pattern) else {
            return;
        };
        if !regex.is_match(text) {
            let allowed = form.map_or_else(
                || format!("it must match {pattern}"),
                |form| format!("wanted is {}", decapitalized(form)),
            );
            let message = format!("{:?} is not accepted: {allowed}", plain(&Value::from(text)));
            self.fault(path.clone(), FaultKind::Invalid, message);
        }
    }

    fn number(&mut self, schema: &JSONSchemaProps, number: f64, path: &FieldPath) {
        let bounds = (
            schema.minimum.unwrap_or(f64::NEG_INFINITY),
            schema.maximum.unwrap_or(f64::INFINITY),
        );
        if !(bounds.0..=bounds.1).contains(&number) {
            let allowed = match (schema.minimum, schema.maximum) {
                (Some(min), Some(max)) => format!("must be from {min} to {max}"),
                (Some(min), None) => format!("must be at least {min}"),
                (_, max) => format!("must be at most {}", max.unwrap_or_default()),
            };
            self.fault(path.clone(), FaultKind::Invalid, allowed);
        }
    }

    fn list(&mut self, schema: &JSONSchemaProps, items: &[Value], path: &FieldPath) {
        let length = i64::try_from(items.len()).unwrap_or(i64::MAX);
        if let Some(max) = schema.max_items.filter(|max| length > *max) {
            self.too_long = true;
            return self.fault(
                path.clone(),
                FaultKind::Invalid,
                format!("must have at most {max} items, not {length}"),
            );
        }
        if let Some(min) = schema.min_items.filter(|min| length < *min) {
            self.fault(
                path.clone(),
                FaultKind::Invalid,
                format!(
                    "must have at least {min} item{}",
                    if min == 1 { "" } else { "s" }
                ),
            );
        }
        if let Some(JSONSchemaPropsOrArray::Schema(each)) = &schema.items {
            for (index, item) in items.iter().enumerate() {
                self.value(each, item, &path.index(index));
            }
        }
        if let Some(keys) = &schema.x_kubernetes_list_map_keys {
            let key_of = |item: &Value| {
                keys.iter()
                    .map(|key| item.get(key).cloned())
                    .collect::<Option<Vec<_>>>()
            };
            let mut seen: HashMap<String, usize> = HashMap::new();
            for (index, item) in items.iter().enumerate() {
                let Some(key) = key_of(item) else { continue };
                let text = key.iter().map(plain).collect::<Vec<_>>().join(", ");
                if let Some(first) = seen.insert(text.clone(), index) {
                    let message = format!(
                        "{text} is used twice: {} must be unique, see [{first}]",
                        keys.join(" and ")
                    );
                    self.fault(path.index(index), FaultKind::Invalid, message);
                }
            }
        }
    }

    fn object(&mut self, schema: &JSONSchemaProps, fields: &Map<String, Value>, path: &FieldPath) {
        let length = i64::try_from(fields.len()).unwrap_or(i64::MAX);
        if let Some(max) = schema.max_properties.filter(|max| length > *max) {
            self.too_long = true;
            let message = format!(
                "must have at most {max} {}",
                if max == 1 { "field" } else { "fields" }
            );
            return self.fault(path.clone(), FaultKind::Invalid, message);
        }
        if let Some(min) = schema.min_properties.filter(|min| length < *min) {
            let message = format!(
                "must have at least {min} {}",
                if min == 1 { "field" } else { "fields" }
            );
            self.fault(path.clone(), FaultKind::Invalid, message);
        }
        for name in schema
            .required
            .iter()
            .flatten()
            .filter(|name| !fields.contains_key(*name))
        {
            self.fault(path.key(name), FaultKind::Required, "must be given");
        }
        let keeps_unknown = schema.x_kubernetes_preserve_unknown_fields == Some(true);
        for (name, value) in fields {
            let known = schema
                .properties
                .as_ref()
                .and_then(|properties| properties.get(name));
            match (known, &schema.additional_properties) {
                (Some(property), _) => self.value(property, value, &path.key(name)),
                (None, Some(JSONSchemaPropsOrBool::Schema(values))) => {
                    self.value(values, value, &path.key(name))
                }
                (None, Some(JSONSchemaPropsOrBool::Bool(true))) => {}
                (None, _) if keeps_unknown => {}
                (None, _) => self.unknown(schema, name, path),
            }
        }
    }

    fn unknown(&mut self, schema: &JSONSchemaProps, name: &str, path: &FieldPath) {
        let known: Vec<&String> = schema
            .properties
            .iter()
            .flat_map(|properties| properties.keys())
            .collect();
        let message = match closest(name, known.iter().copied()) {
            Some(hint) => format!("unknown field; did you mean {hint}?"),
            None if known.is_empty() => "unknown field; there are none here".to_owned(),
            None if known.len() <= 24 => {
                format!(
                    "unknown field; known here are {}",
                    known
                        .iter()
                        .map(|k| k.as_str())
                        .collect::<Vec<_>>()
                        .join(", ")
                )
            }
            None => "unknown field".to_owned(),
        };
        self.fault(path.key(name), FaultKind::UnknownField, message);
    }

    /// `anyOf`, as far as our schemas use it: alternatives of required fields.
    fn alternatives(&mut self, schema: &JSONSchemaProps, value: &Value, path: &FieldPath) {
        let (Some(branches), Value::Object(fields)) = (&schema.any_of, value) else {
            return;
        };
        let holds = |branch: &JSONSchemaProps| {
            branch
                .required
                .iter()
                .flatten()
                .all(|name| fields.contains_key(name))
        };
        if !branches.iter().any(holds) {
            let names: Vec<String> = branches
                .iter()
                .flat_map(|b| b.required.iter().flatten().cloned())
                .collect();
            self.fault(
                path.clone(),
                FaultKind::Required,
                format!("must have {}", one_of(&names)),
            );
        }
    }
}

/// What the value should have been, if it is not of the schema's type.
fn wrong_type(schema: &JSONSchemaProps, value: &Value) -> Option<&'static str> {
    if schema.x_kubernetes_int_or_string == Some(true) {
        return (!value.is_string() && !value.is_i64() && !value.is_u64())
            .then_some("a whole number or a string");
    }
    let (fits, wanted) = match schema.type_.as_deref()? {
        "string" => (value.is_string(), "a string"),
        "boolean" => (value.is_boolean(), "true or false"),
        "integer" => (value.is_i64() || value.is_u64(), "a whole number"),
        "number" => (value.is_number(), "a number"),
        "array" => (value.is_array(), "a list"),
        "object" => (value.is_object(), "an object"),
        _ => return None,
    };
    (!fits).then_some(wanted)
}

/// What a value is, in words.
pub(super) fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// A value as users write it: strings without quotes, anything long cut short.
fn plain(value: &Value) -> String {
    let text = value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned);
    if text.chars().count() > 64 {
        text.chars().take(61).chain("...".chars()).collect()
    } else {
        text
    }
}

fn one_of(names: &[String]) -> String {
    match names.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => names.concat(),
    }
}

fn decapitalized(sentence: &str) -> String {
    let mut letters = sentence.trim_end_matches('.').chars();
    // An abbreviation at the front stays as it is.
    match (letters.next(), letters.clone().next()) {
        (Some(first), Some(second)) if !second.is_uppercase() => {
            first.to_lowercase().chain(letters).collect()
        }
        _ => sentence.to_owned(),
    }
}

/// The schema of one of the text types.
fn schema_of<T: schemars::JsonSchema>() -> Option<JSONSchemaProps> {
    let schema = T::json_schema(&mut schemars::SchemaGenerator::default());
    serde_json::from_value(schema.to_value()).ok()
}
