//! Admission without an API server: the same schema and the same rules.
//!
//! A cluster refuses a faulty object when it is applied. Where objects come from files, [`check`] judges them
//! by the schemas from which the CustomResourceDefinitions are made. It finds all faults at once, and unlike a
//! server it reports unknown fields instead of dropping them.

mod hint;
mod path;
mod walk;

use std::{collections::HashMap, fmt, sync::LazyLock};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::JSONSchemaProps;
use kube::core::cel::{CompiledSchema, ErrorKind, compile_schema, validate_compiled};
use serde_json::Value;

pub use path::{FieldPath, Segment};

/// Faults reported for one object at most; whoever made more has other worries.
const MAX_FAULTS: usize = 100;

/// One reason why an object is not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The field. For a rule about several fields, the object that holds them.
    pub path: FieldPath,
    /// What is wrong and what is allowed, without the path.
    pub message: String,
    /// What kind of fault it is.
    pub kind: FaultKind,
}

/// The kinds of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FaultKind {
    /// A field that the schema does not know. A cluster would drop it with a warning.
    UnknownField,
    /// A value of another type.
    Type,
    /// A field that is missing.
    Required,
    /// A value of the right type that is out of bounds or of the wrong form.
    Invalid,
    /// A CEL rule that does not hold.
    Rule,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}

/// What is needed to judge objects of one kind; made once.
struct Checker {
    schema: JSONSchemaProps,
    rules: CompiledSchema,
}

static CHECKERS: LazyLock<HashMap<String, Checker>> = LazyLock::new(|| {
    let checker = |crd: k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition| {
        let mut schema = crd.spec.versions.into_iter().next()?.schema?.open_api_v3_schema?;
        // The status is the controller's: a server ignores it in what users apply.
        schema.properties.as_mut()?.remove("status");
        let rules = compile_schema(&serde_json::to_value(&schema).ok()?);
        Some((crd.spec.names.kind, Checker { schema, rules }))
    };
    crate::all().into_iter().filter_map(checker).collect()
});

/// Judges an object of one of our kinds as an API server with our CustomResourceDefinitions would.
///
/// An empty list means that the object is accepted. The order of faults is that of the schema's fields, rules last.
pub fn check(kind: &str, object: &Value) -> Vec<Fault> {
    let root = FieldPath::default();
    let Some(checker) = CHECKERS.get(kind) else {
        let message = format!(
            "{kind:?} is not a kind of {}: there are {}",
            crate::GROUP,
            crate::KINDS.join(", ")
        );
        return vec![Fault {
            path: root.key("kind"),
            message,
            kind: FaultKind::Invalid,
        }];
    };
    let Value::Object(fields) = object else {
        return vec![Fault {
            path: root,
            message: format!("must be an object, not {}", walk::type_of(object)),
            kind: FaultKind::Type,
        }];
    };
    let mut walk = walk::Walk::default();
    walk.envelope(kind, fields);
    // What is left is the schema's: the envelope is the same for all kinds and the status is not the user's.
    let body = Value::Object(
        fields
            .iter()
            .filter(|(name, _)| {
                !["apiVersion", "kind", "metadata", "status"].contains(&name.as_str())
            })
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect(),
    );
    walk.value(&checker.schema, &body, &root);
    // The work that rules do is bounded by the lengths that the schema allows.
    if !walk.too_long {
        rules(checker, &body, &mut walk.faults);
    }
    walk.faults.truncate(MAX_FAULTS);
    walk.faults
}

fn rules(checker: &Checker, body: &Value, faults: &mut Vec<Fault>) {
    let Err(errors) = validate_compiled(&checker.rules, body, None) else {
        return;
    };
    // A rule that cannot be evaluated follows from a fault that is known already, unless there is none.
    let sound = faults.is_empty();
    for error in errors {
        if error.kind == ErrorKind::ValidationFailure || sound {
            faults.push(Fault {
                path: FieldPath::parse(&error.field_path),
                message: error.message,
                kind: FaultKind::Rule,
            });
        }
    }
}
