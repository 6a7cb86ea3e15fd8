//! The CustomResourceDefinitions.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSON, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::CustomResourceExt;
use serde_json::{Value, json};

use crate::{Consumer, GatewayConfig, ModelCatalog, Plugin, Route, Tenant, Upstream};

/// The API group of all kinds.
pub const GROUP: &str = "diolkos.io";

/// The version of all kinds.
pub const VERSION: &str = "v1alpha1";

/// The names of all kinds.
pub const KINDS: [&str; 7] = [
    "Route",
    "Upstream",
    "Plugin",
    "Tenant",
    "Consumer",
    "GatewayConfig",
    "ModelCatalog",
];

/// The definitions of all kinds, in the order of [`KINDS`].
pub fn all() -> Vec<CustomResourceDefinition> {
    [
        Route::crd(),
        Upstream::crd(),
        Plugin::crd(),
        Tenant::crd(),
        Consumer::crd(),
        GatewayConfig::crd(),
        ModelCatalog::crd(),
    ]
    .map(finish)
    .into()
}

/// The definition of one kind as YAML, or nothing when there is no such kind.
pub fn yaml(kind: &str) -> Option<String> {
    let crd = all().into_iter().find(|crd| crd.spec.names.kind == kind)?;
    // Through a JSON value, so that an empty status and the like are left out as Kubernetes' own tools do.
    let mut value = serde_json::to_value(&crd).ok()?;
    whole_numbers(&mut value);
    serde_saphyr::to_string(&value).ok()
}

/// Writes 65535.0 as 65535: bounds are floating-point numbers in the Rust type, whole ones in ours.
fn whole_numbers(value: &mut Value) {
    match value {
        Value::Number(number) => {
            if let Some(float) = number
                .as_f64()
                .filter(|f| number.is_f64() && f.fract() == 0.0 && f.abs() < 9e15)
            {
                *value = Value::from(float as i64);
            }
        }
        Value::Array(list) => list.iter_mut().for_each(whole_numbers),
        Value::Object(map) => map.values_mut().for_each(whole_numbers),
        _ => {}
    }
}

/// Fields in which an explicit `null` says "none" in manifests in use.
const NULLABLE: [&str; 2] = ["expiresAt", "renewBefore"];

fn finish(mut crd: CustomResourceDefinition) -> CustomResourceDefinition {
    for version in &mut crd.spec.versions {
        if let Some(schema) = version
            .schema
            .as_mut()
            .and_then(|s| s.open_api_v3_schema.as_mut())
        {
            tidy(schema);
            not_seen_yet(schema);
        }
    }
    crd
}

/// Until the controller has seen an object, its status is of no generation: kstatus (Flux, Helm, `kubectl wait` by the
/// same rules) takes an object without any status for one that is done. Nothing drifts, as nobody applies statuses.
fn not_seen_yet(schema: &mut JSONSchemaProps) {
    if let Some(status) = schema.properties.as_mut().and_then(|p| p.get_mut("status")) {
        status.default = Some(JSON(json!({ "observedGeneration": -1 })));
    }
}

/// Takes out of a schema what derives put in and an API server should not see.
///
/// Defaults would be written into stored objects. `nullable` would let `field: null` pass and mean something
/// else than an absent field. Formats that the server does not know make `kubectl apply` print warnings.
fn tidy(schema: &mut JSONSchemaProps) {
    schema.default = None;
    schema.nullable = None;
    schema.title = None;
    // An optional enum comes with null among its values.
    if let Some(values) = &mut schema.enum_ {
        values.retain(|value| !value.0.is_null());
    }
    if !matches!(
        schema.format.as_deref(),
        Some("int32" | "int64" | "date-time")
    ) {
        schema.format = None;
    }
    if let Some(text) = &mut schema.description {
        *text = text.replace('\n', " ");
    }
    for (name, property) in schema.properties.iter_mut().flatten() {
        tidy(property);
        if NULLABLE.contains(&name.as_str()) {
            property.nullable = Some(true);
        }
    }
    match &mut schema.items {
        Some(JSONSchemaPropsOrArray::Schema(items)) => tidy(items),
        Some(JSONSchemaPropsOrArray::Schemas(items)) => items.iter_mut().for_each(tidy),
        None => {}
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &mut schema.additional_properties {
        tidy(values);
    }
    for part in [&mut schema.all_of, &mut schema.any_of, &mut schema.one_of]
        .into_iter()
        .flatten()
        .flatten()
    {
        tidy(part);
    }
}
