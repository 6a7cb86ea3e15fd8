//! What a rollback holds, and how it is written down.

use crate::world::{Object, ObjectId, ObjectKind};
use serde_json::{Value, json};
use snapshot::Revision;
use std::collections::BTreeMap;

/// Objects that are held as they were at a revision.
#[derive(Clone, Debug, PartialEq)]
pub struct Rollback {
    pub revision: Revision,
    /// When it was asked for, RFC 3339.
    pub since: String,
    /// `None`: the object was not there.
    pub objects: BTreeMap<ObjectId, Option<Object>>,
}

/// What is written down is no rollback.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct InvalidRollback {
    pub field: String,
    pub message: String,
}

fn invalid(field: impl Into<String>, message: impl Into<String>) -> InvalidRollback {
    InvalidRollback {
        field: field.into(),
        message: message.into(),
    }
}

impl Rollback {
    pub fn to_json(&self) -> Value {
        let objects = self.objects.iter().map(|(id, version)| {
            json!({
                "group": id.kind.group(),
                "kind": id.kind.name(),
                "namespace": id.namespace,
                "name": id.name,
                // What could not be used serves no more than what is not there.
                "manifest": version.as_ref().and_then(Object::manifest),
            })
        });
        json!({
            "revision": self.revision.to_string(),
            "since": self.since,
            "objects": objects.collect::<Vec<_>>(),
        })
    }

    /// # Errors
    /// [`InvalidRollback`]: which field is not as [`Self::to_json`] writes it.
    pub fn from_json(value: &Value) -> Result<Self, InvalidRollback> {
        let text = |of: &Value, field: &str| match of.get(field).and_then(Value::as_str) {
            Some(text) => Ok(text.to_owned()),
            None => Err(invalid(field, "must be a string")),
        };
        let revision = text(value, "revision")?.parse();
        let revision =
            revision.map_err(|e: snapshot::NoRevision| invalid("revision", e.to_string()))?;
        let listed = value.get("objects").and_then(Value::as_array);
        let listed = listed.ok_or_else(|| invalid("objects", "must be a list"))?;
        let mut objects = BTreeMap::new();
        for (i, one) in listed.iter().enumerate() {
            let at = |field: &str| format!("objects[{i}].{field}");
            let field = |name: &str| text(one, name).map_err(|e| invalid(at(&e.field), e.message));
            let (group, kind) = (field("group")?, field("kind")?);
            let kind = ObjectKind::of(&format!("{group}/v1"), &kind);
            let kind = kind.filter(|kind| kind.is_configuration());
            let kind = kind.ok_or_else(|| invalid(at("kind"), "cannot be held"))?;
            let id = ObjectId::new(kind, field("namespace")?, field("name")?);
            let version = match one.get("manifest") {
                None | Some(Value::Null) => None,
                Some(manifest) => match Object::from_json(manifest) {
                    Ok(Some(object)) if object.id == id => Some(object),
                    Ok(_) => return Err(invalid(at("manifest"), "is of another object")),
                    Err(error) => return Err(invalid(at("manifest"), error.to_string())),
                },
            };
            objects.insert(id, version);
        }
        Ok(Self {
            revision,
            since: text(value, "since")?,
            objects,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_what_is_not_is_named() {
        let route = |name: &str| {
            let value = json!({"apiVersion": "diolkos.io/v1alpha1", "kind": "Route",
                "metadata": {"namespace": "a", "name": name}, "spec": {"rules": []}});
            Object::from_json(&value).unwrap().unwrap()
        };
        let rollback = Rollback {
            revision: Revision(7),
            since: "2026-01-31T12:00:00Z".to_owned(),
            objects: BTreeMap::from([
                (route("x").id, Some(route("x"))),
                (route("y").id, None),
                (ObjectId::new(ObjectKind::GatewayClass, "", "c"), None),
            ]),
        };
        let written = rollback.to_json();
        assert_eq!(Rollback::from_json(&written), Ok(rollback));
        for (at, value, field) in [
            ("/revision", json!("x"), "revision"),
            ("/objects", json!({}), "objects"),
            ("/objects/1/name", json!(1), "objects[1].name"),
            ("/objects/0/kind", json!("Secret"), "objects[0].kind"),
            ("/objects/1/name", json!("z"), "objects[1].manifest"),
        ] {
            let mut other = written.clone();
            *other.pointer_mut(at).unwrap() = value;
            let error = match field {
                // The first that has a manifest.
                "objects[1].manifest" => {
                    other["objects"] = json!([other["objects"][0], {"group": "diolkos.io", "kind": "Route", "namespace": "a", "name": "z", "manifest": written["objects"][0]["manifest"]}]);
                    Rollback::from_json(&other).unwrap_err()
                }
                _ => Rollback::from_json(&other).unwrap_err(),
            };
            assert_eq!(error.field, field, "{error}");
        }
    }
}
