//! From an AdmissionReview to its answer (`admission.k8s.io/v1`). Nothing is written anywhere, so that a dry run is like
//! any other.

use crate::report::{Problem, Reason, Severity};
use crate::world::{Object, ObjectId};
use k8s_openapi::jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

/// Warnings in one answer, and characters of each: clients cut longer ones off.
const WARNINGS: usize = 8;
const WARNING_LENGTH: usize = 240;
/// Characters of a refusal.
const REFUSAL_LENGTH: usize = 4096;

/// What is read of an AdmissionReview.
#[derive(Debug, Deserialize)]
pub(super) struct Review {
    request: Request,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    uid: String,
    operation: String,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    object: Value,
    #[serde(default)]
    old_object: Value,
}

/// What there is to judge.
pub(super) enum Asked {
    /// Nothing that could be worse than before.
    Nothing,
    Object(Box<Object>),
    /// It cannot even be named.
    Unreadable(String),
}

impl Review {
    pub(super) fn asked(&self) -> Asked {
        let request = &self.request;
        if !matches!(&*request.operation, "CREATE" | "UPDATE") {
            return Asked::Nothing;
        }
        let mut object = match read(&request.object, request) {
            Ok(Some(object)) => object,
            Ok(None) => return Asked::Nothing,
            Err(message) => return Asked::Unreadable(message),
        };
        let is_going = request.object.pointer("/metadata/deletionTimestamp");
        // Whoever changes labels or takes off a finalizer does not answer for the rest.
        let old = read(&request.old_object, request).ok().flatten();
        if is_going.is_some_and(|at| !at.is_null()) || old.is_some_and(|o| o.body == object.body) {
            return Asked::Nothing;
        }
        if object.meta.created == 0 {
            object.meta.created = Timestamp::now().as_second();
        }
        Asked::Object(Box::new(object))
    }

    /// The answer to it.
    pub(super) fn answer(&self, problems: &[Problem]) -> Value {
        let (refused, remarks): (Vec<&Problem>, Vec<&Problem>) =
            problems.iter().partition(|p| is_refused(p));
        let warnings = remarks.iter().filter(|p| is_worth_a_warning(p));
        let warnings: Vec<String> = warnings
            .take(WARNINGS)
            .map(|p| cut(p.text(), WARNING_LENGTH))
            .collect();
        let mut response = json!({"uid": self.request.uid, "allowed": refused.is_empty()});
        if !warnings.is_empty() {
            response["warnings"] = warnings.into();
        }
        if let Some(first) = refused.first() {
            let all: Vec<String> = refused.iter().map(|p| p.text()).collect();
            response["status"] = status(&first.origin, &all.join("; "));
        }
        json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response})
    }

    /// The answer to what cannot even be read.
    pub(super) fn refusal(&self, message: &str) -> Value {
        let status = json!({"code": 422, "reason": "Invalid", "message": cut(message.to_owned(), REFUSAL_LENGTH)});
        let response = json!({"uid": self.request.uid, "allowed": false, "status": status});
        json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response})
    }
}

fn status(id: &ObjectId, message: &str) -> Value {
    json!({"code": 422, "reason": "Invalid", "message": cut(format!("{id} {message}"), REFUSAL_LENGTH)})
}

/// Only what no other object can ever make good: objects come in any order.
fn is_refused(problem: &Problem) -> bool {
    problem.severity == Severity::Error
        && matches!(
            problem.reason,
            Reason::Invalid | Reason::TooLarge | Reason::InvalidKind | Reason::UnsupportedValue
        )
}

/// A Secret that nothing has referred to has not been read yet: that is no news.
fn is_worth_a_warning(problem: &Problem) -> bool {
    !matches!(problem.reason, Reason::RefPending | Reason::Disabled)
}

/// `None`: none of the kinds that are known.
fn read(object: &Value, request: &Request) -> Result<Option<Object>, String> {
    if object.is_null() {
        return Ok(None);
    }
    let mut object = object.clone();
    // One that gets its name from the server has none yet.
    let metadata = object.get_mut("metadata").and_then(Value::as_object_mut);
    if let Some(metadata) = metadata {
        let of_request = [("name", &request.name), ("namespace", &request.namespace)];
        for (field, value) in of_request {
            let is_empty = |v: &Value| v.as_str().is_none_or(str::is_empty);
            if metadata.get(field).is_none_or(is_empty) {
                let value = match value.as_str() {
                    "" if field == "name" => "generated-name",
                    value => value,
                };
                metadata.insert(field.to_owned(), value.into());
            }
        }
    }
    Object::from_json(&object).map_err(|error| error.to_string())
}

fn cut(text: String, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::translate::Translator;
    use crate::world::World;
    use std::collections::BTreeSet;

    fn manifest(kind: &str, name: &str, spec: Value) -> Value {
        json!({"apiVersion": "diolkos.io/v1alpha1", "kind": kind,
            "metadata": {"namespace": "a", "name": name, "creationTimestamp": "2026-01-31T12:00:00Z"}, "spec": spec})
    }

    fn review(operation: &str, object: Value, old: Value) -> Review {
        let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
            "request": {"uid": "u-1", "operation": operation, "namespace": "a", "object": object, "oldObject": old, "dryRun": true}});
        serde_json::from_value(review).unwrap()
    }

    /// A world with a Route for a.test.
    fn judge(review: &Review) -> Value {
        let there = manifest(
            "Route",
            "there",
            json!({"hostnames": ["a.test"], "rules": [{"directResponse": {"status": 200}}]}),
        );
        let mut world = World::default();
        let there = Object::from_json(&there).unwrap().unwrap();
        let mut translator = Translator::for_groups();
        world.apply(there.clone());
        translator.update(&world, &BTreeSet::from([there.id]));
        let answer = match review.asked() {
            Asked::Nothing => review.answer(&[]),
            Asked::Object(object) => review.answer(&translator.review(&world, &object)),
            Asked::Unreadable(message) => review.refusal(&message),
        };
        assert_eq!(answer["response"]["uid"], "u-1");
        answer["response"].clone()
    }

    fn bad() -> Value {
        manifest(
            "Route",
            "bad",
            json!({"hostnames": ["b.test"], "rules": [{
            "matches": [{"path": {"type": "RegularExpression", "value": "("}}],
            "directResponse": {"status": 200}}]}),
        )
    }

    #[test]
    fn what_can_never_serve_is_refused_in_the_words_of_its_condition() {
        let answer = judge(&review("CREATE", bad(), Value::Null));
        assert_eq!(answer["allowed"], false);
        assert_eq!(answer["status"]["code"], 422);
        let message = answer["status"]["message"].as_str().unwrap();
        assert!(
            message.starts_with("Route a/bad spec.rules[0].matches[0].path"),
            "{message}"
        );
        let mut misspelt = bad();
        misspelt["spec"]["rules"] = json!("none");
        let answer = judge(&review("UPDATE", misspelt, bad()));
        let message = answer["status"]["message"].as_str().unwrap();
        assert!(message.contains("spec.rules"), "{message}");
        let answer = judge(&review("CREATE", json!({"kind": "Route"}), Value::Null));
        assert_eq!(answer["allowed"], false, "{answer}");
    }

    #[test]
    fn what_others_may_make_good_is_remarked_on() {
        let spec = json!({"hostnames": ["a.test"], "rules": [{"backends": [{"name": "none", "port": 80}]}]});
        let mut unnamed = manifest("Route", "", spec);
        unnamed["metadata"]["generateName"] = "r-".into();
        unnamed["metadata"]["creationTimestamp"] = "2026-02-01T12:00:00Z".into();
        let answer = judge(&review("CREATE", unnamed, Value::Null));
        assert_eq!(answer["allowed"], true, "{answer}");
        let warnings = answer["warnings"].to_string();
        assert!(warnings.contains("Service"), "{warnings}");
        assert!(warnings.contains("there"), "who has the host: {warnings}");
        assert_eq!(answer["status"], Value::Null);
    }

    #[test]
    fn a_change_of_a_route_is_no_conflict_with_itself() {
        let spec = json!({"hostnames": ["a.test"], "rules": [
            {"matches": [{"path": {"value": "/new"}}], "directResponse": {"status": 200}},
            {"directResponse": {"status": 200}}]});
        let answer = judge(&review(
            "UPDATE",
            manifest("Route", "there", spec),
            Value::Null,
        ));
        assert_eq!(
            (&answer["allowed"], &answer["warnings"]),
            (&json!(true), &Value::Null)
        );
    }

    #[test]
    fn what_does_not_change_the_spec_passes() {
        for (operation, object, old) in [
            ("DELETE", Value::Null, bad()),
            ("UPDATE", bad(), bad()),
            (
                "CREATE",
                json!({"apiVersion": "v1", "kind": "Event"}),
                Value::Null,
            ),
        ] {
            assert_eq!(
                judge(&review(operation, object, old))["allowed"],
                true,
                "{operation}"
            );
        }
        let mut going = bad();
        going["metadata"]["deletionTimestamp"] = "2026-01-31T12:00:00Z".into();
        assert_eq!(
            judge(&review("UPDATE", going, Value::Null))["allowed"],
            true
        );
    }

    #[test]
    fn texts_are_cut_between_characters() {
        assert_eq!(cut("äöü".to_owned(), 2), "äö…");
        assert_eq!(cut("äöü".to_owned(), 3), "äöü");
    }
}
