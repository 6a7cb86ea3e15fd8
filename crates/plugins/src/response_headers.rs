//! `ResponseHeaders` sets, adds and removes header fields of the answer.
//!
//! ```yaml
//! type: ResponseHeaders
//! responseHeaders:
//!   set: [{name: strict-transport-security, value: max-age=31536000}]
//!   remove: [server]
//! ```

use crate::schema::{Header, check_name, check_pairs};
use crate::{Compile, Edits, Exchange, InvalidSettings, Needs, Plugin, Stages, Verdict};
use model::Stage;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Changes header fields of the answer: removals first, then `set`, then `add`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResponseHeaders {
    /// Fields that replace whatever the answer has under that name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub set: Option<Vec<Header>>,
    /// Fields that are appended, beside those of the same name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub add: Option<Vec<Header>>,
    /// Names of fields to remove; case does not matter.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 256)))]
    pub remove: Option<Vec<String>>,
}

pub struct Ready {
    set: Vec<(String, String)>,
    add: Vec<(String, String)>,
    remove: Vec<String>,
}

impl Compile for ResponseHeaders {
    type Ready = Ready;

    fn compile(self) -> Result<Ready, InvalidSettings> {
        let remove = self.remove.unwrap_or_default();
        for (i, name) in remove.iter().enumerate() {
            check_name(name, || format!("remove[{i}]"))?;
        }
        Ok(Ready {
            set: check_pairs(self.set, "set")?,
            add: check_pairs(self.add, "add")?,
            remove,
        })
    }
}

impl Plugin for Ready {
    fn needs(&self) -> Needs {
        Needs {
            stages: Stages::of(&[Stage::PreResponse]),
            ..Needs::default()
        }
    }

    fn pre_response<'a>(&'a self, _: &Exchange<'a>, edits: &mut Edits) -> Verdict<'a> {
        for name in &self.remove {
            edits.remove(name.as_str());
        }
        for (name, value) in &self.set {
            edits.set(name.as_str(), value.as_bytes());
        }
        for (name, value) in &self.add {
            edits.append(name.as_str(), value.as_bytes());
        }
        Verdict::CONTINUE
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::tests::request;
    use model::Headers;

    #[test]
    fn removes_then_sets_then_adds() {
        let ready: ResponseHeaders = serde_json::from_value(serde_json::json!({
            "set": [{"name": "X-A", "value": "1"}],
            "add": [{"name": "x-b", "value": "2"}, {"name": "x-b", "value": "3"}],
            "remove": ["Server", "x-b"],
        }))
        .unwrap();
        let ready = ready.compile().unwrap();
        let mut headers = Headers::default();
        for (name, value) in [("server", "s"), ("x-a", "0"), ("x-b", "old")] {
            headers.append(name, value.as_bytes()).unwrap();
        }
        let mut edits = Edits::default();
        let no_headers = Headers::default();
        ready.pre_response(&request("GET", "/", &no_headers), &mut edits);
        edits.apply(&mut headers).unwrap();
        let b: Vec<_> = headers.get_all("x-b").collect();
        assert_eq!(headers.get("x-a"), Some(&b"1"[..]));
        assert_eq!(b, [&b"2"[..], b"3"]);
        assert_eq!(headers.get("server"), None);
    }

    #[test]
    fn refuses_what_cannot_stand_in_a_header() {
        for (json, field) in [
            (r#"{"set":[{"name":"a b","value":"1"}]}"#, "set[0].name"),
            (
                r#"{"add":[{"name":"a","value":"1\r\nx: y"}]}"#,
                "add[0].value",
            ),
            (r#"{"remove":["a","c:d"]}"#, "remove[1]"),
            (
                r#"{"set":[{"name":"content-length","value":"1"}]}"#,
                "set[0].name",
            ),
        ] {
            let s: ResponseHeaders = serde_json::from_str(json).unwrap();
            assert_eq!(s.compile().err().unwrap().field, field, "{json}");
        }
    }
}
