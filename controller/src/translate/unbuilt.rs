//! Fields that the schema has and this release does not implement: one table, so that none is ignored in silence.
//!
//! A field about access or limits closes what it stands in: a Route's rules answer 500, an Upstream or Plugin is not
//! used. Every other field yields a problem that names it, and what it stands in serves without it.

use super::lowering::Lowering;
use crate::report::Reason;
use crate::world::ObjectKind;
use serde::Serialize;
use serde_json::Value;

/// Fields by kind: the path below `spec`, with `[]` for every element of a list, and whether it closes.
///
/// A field that implements itself is taken out of this table together with its first test.
const TABLE: &[(ObjectKind, &str, bool)] = &[
    (ObjectKind::GatewayConfig, "auth", true),
    (ObjectKind::GatewayConfig, "plugins", true),
    (ObjectKind::GatewayConfig, "limits", true),
    (ObjectKind::GatewayConfig, "acme", false),
    (ObjectKind::GatewayConfig, "listeners[].http3", false),
    (ObjectKind::GatewayConfig, "listeners[].tls.acme", false),
    (ObjectKind::GatewayConfig, "requestLog", false),
    (ObjectKind::GatewayConfig, "metrics.labels.consumer", false),
    (ObjectKind::GatewayConfig, "usage", false),
    (ObjectKind::GatewayConfig, "notifications", false),
    (ObjectKind::GatewayConfig, "stores", false),
    (ObjectKind::Route, "rules[].matches[].model", true),
    (ObjectKind::Route, "rules[].limits", true),
    (ObjectKind::Route, "rules[].ai", true),
    (ObjectKind::Route, "rules[].plugins[].when", true),
    (ObjectKind::Route, "plugins[].when", true),
    (ObjectKind::Upstream, "discovery.sources[].consul", true),
    (ObjectKind::Upstream, "discovery.sources[].etcd", true),
    (ObjectKind::Upstream, "auth.awsSigV4", true),
    (ObjectKind::Upstream, "auth.gcp", true),
    (ObjectKind::Upstream, "auth.azure", true),
    (ObjectKind::Upstream, "concurrency.maxPerCredential", true),
    (ObjectKind::Upstream, "ai", false),
    (ObjectKind::Plugin, "when", true),
    (ObjectKind::Tenant, "tierRef", true),
    (ObjectKind::Tenant, "plugins", true),
    (ObjectKind::Tenant, "limits", true),
    (ObjectKind::Tenant, "perConsumer", true),
    (ObjectKind::Tenant, "concurrency", true),
    (ObjectKind::Tenant, "budgets", true),
    (ObjectKind::Tenant, "models", true),
];

/// What is said of `tls.options` and `spec.options` of the Gateway API.
pub(super) const NO_OPTIONS: &str =
    "such options are each implementation's own, and here are none: it has no effect";

/// A field in use that is not implemented.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// Such as `spec.rules[2].limits`.
    pub field: String,
    pub closes: bool,
    /// The rule of a Route in which it stands; `None`: all of them.
    pub rule: Option<usize>,
}

/// The unimplemented fields that a spec uses. Absent, empty and switched-off ones (`enabled: false`) are not in use.
pub(super) fn find(kind: ObjectKind, spec: &impl Serialize) -> Vec<Found> {
    let Ok(spec) = serde_json::to_value(spec) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for (_, path, closes) in TABLE.iter().filter(|(k, _, _)| *k == kind) {
        walk(&spec, path, "spec".to_owned(), &mut |field| {
            let rule = field
                .strip_prefix("spec.rules[")
                .and_then(|rest| rest.split_once(']'));
            found.push(Found {
                rule: rule.and_then(|(number, _)| number.parse().ok()),
                field,
                closes: *closes,
            });
        });
    }
    found
}

fn walk(value: &Value, path: &str, at: String, found: &mut impl FnMut(String)) {
    let (step, rest) = path.split_once('.').unwrap_or((path, ""));
    let (name, each) = match step.strip_suffix("[]") {
        Some(name) => (name, true),
        None => (step, false),
    };
    let Some(next) = value.get(name).filter(|next| is_in_use(next)) else {
        return;
    };
    let at = format!("{at}.{name}");
    if each {
        for (i, element) in next.as_array().into_iter().flatten().enumerate() {
            if is_in_use(element) {
                walk(element, rest, format!("{at}[{i}]"), found);
            }
        }
    } else if rest.is_empty() {
        found(at);
    } else {
        walk(next, rest, at, found);
    }
}

fn is_in_use(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::Array(list) => list.iter().any(is_in_use),
        Value::Object(map) => map.get("enabled") != Some(&Value::Bool(false)),
        _ => true,
    }
}

impl Lowering<'_> {
    pub(super) fn not_built(&mut self, found: Found) {
        if found.closes {
            let message = match self.id.kind {
                ObjectKind::Route if found.rule.is_some() => {
                    "is not built yet: the rule answers 500"
                }
                ObjectKind::Route => "is not built yet: the rules answer 500",
                ObjectKind::GatewayConfig => "is not built yet: all Routes that attach answer 500",
                ObjectKind::Tenant => "is not built yet: all Routes of the Tenant answer 500",
                _ => "is not built yet: requests that need it answer 500",
            };
            self.error(found.field, Reason::NotBuilt, message);
        } else {
            self.warn(
                found.field,
                Reason::NotBuilt,
                "is not built yet and has no effect",
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn finds_what_is_in_use_and_where() {
        let spec = json!({
            "hostnameRegex": null,
            "plugins": [],
            "rules": [
                {"ai": {"enabled": false}},
                {"matches": [{}, {"model": "m"}], "limits": [{"enabled": false}]},
                {"ai": {}},
            ],
        });
        let found = find(ObjectKind::Route, &spec);
        let fields: Vec<_> = found
            .iter()
            .map(|f| (f.field.as_str(), f.closes, f.rule))
            .collect();
        assert_eq!(
            fields,
            [
                ("spec.rules[1].matches[1].model", true, Some(1)),
                ("spec.rules[2].ai", true, Some(2)),
            ]
        );
    }

    /// A typing error in the table would silently ignore a field: each path must exist in the schema of its kind.
    #[test]
    fn every_path_of_the_table_is_in_the_schema() {
        let crds = crds::all();
        for (kind, path, _) in TABLE {
            let crd = crds
                .iter()
                .find(|c| c.spec.names.kind == kind.name())
                .unwrap();
            let schema = serde_json::to_value(crd).unwrap();
            let root = "/spec/versions/0/schema/openAPIV3Schema/properties/spec";
            let mut at = schema.pointer(root).unwrap();
            for step in path.split('.') {
                at = &at["properties"][step.trim_end_matches("[]")];
                if step.ends_with("[]") {
                    at = &at["items"];
                }
                assert!(at.is_object(), "{kind} {path}");
            }
        }
    }
}
