//! Comparing answers and conditions with what a case expects. A mismatch is a sentence.

use std::borrow::Cow;

use serde_json::Value;

use crate::case::{Condition, Expect, Persistence};
use crate::client::Answer;
use crate::coding;

/// What does not fit in an answer; empty when everything does.
pub fn answer(expect: &Expect, got: &Answer) -> Vec<String> {
    let mut wrong = Vec::new();
    let bytes = match plain(got) {
        Ok(bytes) => bytes,
        Err(e) => return vec![format!("body cannot be decoded: {e}")],
    };
    let body = String::from_utf8_lossy(&bytes);
    if let Some(status) = expect.status
        && status != got.status
    {
        wrong.push(format!(
            "status {} instead of {status}, body {}",
            got.status,
            short(&body)
        ));
    }
    if expect.cut != got.cut {
        let is = if got.cut { "cut" } else { "complete" };
        wrong.push(format!("the answer is {is}"));
    }
    for (name, value) in &expect.headers {
        let seen: Vec<&str> = got.headers.all(name).collect();
        if seen != [value.as_str()] {
            wrong.push(format!("header {name} is {seen:?} instead of {value:?}"));
        }
    }
    for name in &expect.absent_headers {
        if let Some(value) = got.headers.get(name) {
            wrong.push(format!("header {name} is there: {value:?}"));
        }
    }
    for (name, value) in &expect.trailers {
        if got.trailers.get(name) != Some(value) {
            wrong.push(format!(
                "trailer {name} is {:?} instead of {value:?}",
                got.trailers.get(name)
            ));
        }
    }
    if let Some(whole) = &expect.body
        && *whole != body
    {
        wrong.push(format!("body {} instead of {}", short(&body), short(whole)));
    }
    if let Some(part) = &expect.body_contains
        && !body.contains(part)
    {
        wrong.push(format!("body {} does not contain {part:?}", short(&body)));
    }
    if let Some(part) = &expect.body_lacks
        && body.contains(part)
    {
        wrong.push(format!("body {} contains {part:?}", short(&body)));
    }
    if let Some(length) = expect.body_length
        && length != bytes.len()
    {
        wrong.push(format!(
            "body has {} bytes instead of {length}",
            bytes.len()
        ));
    }
    if expect.json.is_some() || !expect.absent_json.is_empty() {
        match serde_json::from_slice::<Value>(&bytes) {
            Err(_) => wrong.push(format!("body is not JSON: {}", short(&body))),
            Ok(value) => {
                if let Some(wanted) = &expect.json {
                    subset("", wanted, &value, &mut wrong);
                }
                for pointer in &expect.absent_json {
                    if let Some(found) = value.pointer(pointer) {
                        wrong.push(format!("body has {pointer}: {found}"));
                    }
                }
            }
        }
    }
    if let Some(persistence) = expect.connection
        && (persistence == Persistence::Kept) != got.keep_alive
    {
        wrong.push(format!(
            "connection is {}",
            if got.keep_alive { "kept" } else { "closed" }
        ));
    }
    wrong
}

/// The body without its content coding.
fn plain(got: &Answer) -> anyhow::Result<Cow<'_, [u8]>> {
    Ok(match got.headers.get("content-encoding") {
        Some(encoding) if !got.body.is_empty() => Cow::Owned(coding::decode(encoding, &got.body)?),
        _ => Cow::Borrowed(&got.body),
    })
}

/// Whether `wanted` is contained in `got`: objects by their members, everything else whole.
pub fn contains(wanted: &Value, got: &Value) -> bool {
    let mut wrong = Vec::new();
    subset("", wanted, got, &mut wrong);
    wrong.is_empty()
}

fn subset(at: &str, wanted: &Value, got: &Value, wrong: &mut Vec<String>) {
    match (wanted, got) {
        (Value::Object(wanted), Value::Object(got)) => {
            for (name, value) in wanted {
                match got.get(name) {
                    Some(found) => subset(&format!("{at}/{name}"), value, found, wrong),
                    None => wrong.push(format!("body has no {at}/{name}")),
                }
            }
        }
        _ if wanted == got => {}
        _ => wrong.push(format!("{at} is {got} instead of {wanted}")),
    }
}

/// What does not fit in a status; empty when every condition is as expected.
pub fn conditions(expected: &[Condition], status: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    for want in expected {
        let present = match &want.listener {
            None => all_conditions(status),
            Some(name) => conditions_of_listener(status, name),
        };
        let of_type: Vec<&&Value> = present
            .iter()
            .filter(|c| c["type"] == want.kind.as_str())
            .collect();
        let fits = |c: &Value| {
            let text = |field: &str| c[field].as_str().unwrap_or_default();
            text("status") == want.status
                && want.reason.as_deref().is_none_or(|r| text("reason") == r)
                && want
                    .message
                    .as_deref()
                    .is_none_or(|m| text("message").contains(m))
        };
        let ok = if want.status == "Absent" {
            of_type.is_empty()
        } else {
            of_type.iter().any(|c| fits(c))
        };
        if !ok {
            let seen: Vec<String> = of_type.iter().map(|c| c.to_string()).collect();
            wrong.push(format!(
                "{want:?} expected, but there is [{}]",
                seen.join(", ")
            ));
        }
    }
    wrong
}

fn conditions_of_listener<'a>(status: &'a Value, name: &str) -> Vec<&'a Value> {
    let listeners = status["listeners"].as_array().into_iter().flatten();
    let mut named = listeners.filter(|listener| listener["name"] == name);
    let conditions = named.next().and_then(|l| l["conditions"].as_array());
    conditions.into_iter().flatten().collect()
}

/// The conditions of a status, those of each parent among them.
pub(crate) fn all_conditions(status: &Value) -> Vec<&Value> {
    let mut found: Vec<&Value> = status["conditions"]
        .as_array()
        .into_iter()
        .flatten()
        .collect();
    for parent in status["parents"].as_array().into_iter().flatten() {
        found.extend(parent["conditions"].as_array().into_iter().flatten());
    }
    found
}

fn short(text: &str) -> String {
    let cut: String = text.chars().take(300).collect();
    format!("{cut:?}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Fields;
    use serde_json::json;

    #[test]
    fn objects_are_compared_by_member() {
        assert!(contains(
            &json!({"a": {"b": 1}}),
            &json!({"a": {"b": 1, "c": 2}, "d": 3})
        ));
        assert!(!contains(&json!({"a": {"b": 2}}), &json!({"a": {"b": 1}})));
        assert!(!contains(&json!({"x": 1}), &json!({"a": 1})));
        assert!(!contains(&json!({"l": [1]}), &json!({"l": [1, 2]})));
    }

    #[test]
    fn each_part_of_an_answer_is_compared() {
        let got = Answer {
            status: 200,
            headers: Fields(vec![
                ("X-A".into(), "1".into()),
                ("Content-Type".into(), "application/json".into()),
            ]),
            body: br#"{"path":"/x","headers":{"host":"h"}}"#.to_vec(),
            trailers: Fields::default(),
            keep_alive: true,
            cut: false,
        };
        let complaints = |yaml: &str| answer(&serde_saphyr::from_str(yaml).unwrap(), &got);
        let fits = r#"{status: 200, headers: {x-a: "1"}, absentHeaders: [x-b], json: {headers: {host: h}}, absentJson: [/headers/te], connection: kept}"#;
        assert_eq!(complaints(fits), Vec::<String>::new());
        for wrong in [
            "status: 404",
            "headers: {x-a: '2'}",
            "headers: {x-b: '1'}",
            "absentHeaders: [x-a]",
            "body: ''",
            "bodyContains: nothing",
            "json: {path: /y}",
            "absentJson: [/headers/host]",
            "trailers: {x-t: '1'}",
            "connection: closed",
            "cut: true",
        ] {
            assert_eq!(complaints(wrong).len(), 1, "{wrong}");
        }
    }

    #[test]
    fn conditions_of_parents_count() {
        let status = json!({
            "conditions": [{"type": "Ready", "status": "False"}],
            "parents": [{"conditions": [{"type": "Accepted", "status": "False", "reason": "Conflict", "message": "older Route a/b"}]}],
        });
        let want = |status: &str, message: Option<&str>| Condition {
            kind: "Accepted".into(),
            status: status.into(),
            reason: None,
            message: message.map(str::to_owned),
            listener: None,
        };
        assert!(conditions(&[want("False", Some("a/b"))], &status).is_empty());
        assert_eq!(conditions(&[want("True", None)], &status).len(), 1);
        assert_eq!(conditions(&[want("False", Some("c/d"))], &status).len(), 1);
        assert_eq!(conditions(&[want("Absent", None)], &status).len(), 1);
    }

    #[test]
    fn conditions_of_a_listener_count_where_it_is_named() {
        let status = json!({
            "conditions": [{"type": "Accepted", "status": "True"}],
            "listeners": [{"name": "a", "conditions": [{"type": "Accepted", "status": "False"}]}],
        });
        let want = |status: &str, listener: Option<&str>| Condition {
            kind: "Accepted".into(),
            status: status.into(),
            reason: None,
            message: None,
            listener: listener.map(str::to_owned),
        };
        assert!(conditions(&[want("True", None), want("False", Some("a"))], &status).is_empty());
        assert_eq!(conditions(&[want("False", None)], &status).len(), 1);
        assert_eq!(conditions(&[want("False", Some("b"))], &status).len(), 1);
    }
}
