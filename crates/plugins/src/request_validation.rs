//! `RequestValidation` refuses requests that lack a header or query parameter, or whose JSON body does not fit a schema.
//!
//! ```yaml
//! type: RequestValidation
//! requestValidation:
//!   requiredHeaders: [X-Request-ID]
//!   query: [{name: v, pattern: "[0-9]+"}]
//!   body: {jsonSchema: {type: object, required: [id]}, maxSize: 1Mi}
//! ```

use crate::content_validation::{JsonSchemaSettings, compile_schema, whole};
use crate::decode::plain;
use crate::schema::check_name;
use crate::{
    BodyMode, Compile, Edits, ErrorCode, Exchange, InvalidSettings, LocalReply, Needs, Plugin,
    Stages, Verdict,
};
use model::{Stage, limits};
use regex::Regex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Refuses requests that are not complete.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RequestValidation {
    /// Header fields that must be there and not empty; otherwise 400 `missing_required_header`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 256)))]
    pub required_headers: Option<Vec<String>>,
    /// Query parameters that must be there; otherwise 400 `invalid_request`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub query: Option<Vec<QueryParameter>>,
    /// What the body must be; otherwise 400 `invalid_request`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<BodyRule>,
}

/// A query parameter that must be there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct QueryParameter {
    /// Name of the parameter, case-sensitive.
    #[schemars(length(min = 1, max = 256))]
    pub name: String,
    /// Regular expression that its whole decoded value must match. Default: any value.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub pattern: Option<String>,
}

/// What a request body must be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BodyRule {
    /// JSON Schema (draft 2020-12) of the body, in its plain form where it is compressed by gzip, br or zstd. References
    /// to other documents are not followed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub json_schema: Option<JsonSchemaSettings>,
    /// Largest body, and largest plain form of one that is judged, such as `1Mi`; more is 413. Default: 1Mi.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 32),
        regex(pattern = r"^[0-9]+(\.[0-9]+)?(k|M|G|Ki|Mi|Gi)?$")
    )]
    pub max_size: Option<String>,
}

pub struct Ready {
    headers: Vec<String>,
    query: Vec<(String, Option<Regex>)>,
    schema: Option<jsonschema::Validator>,
    /// Bytes of the body, and of its plain form.
    max_body: u64,
    body: BodyMode,
}

impl Compile for RequestValidation {
    type Ready = Ready;

    fn compile(self) -> Result<Ready, InvalidSettings> {
        let mut headers = self.required_headers.unwrap_or_default();
        for (i, name) in headers.iter_mut().enumerate() {
            check_name(name, || format!("requiredHeaders[{i}]"))?;
            name.make_ascii_lowercase();
        }
        let mut query = Vec::new();
        for (i, q) in self.query.unwrap_or_default().into_iter().enumerate() {
            let pattern = match &q.pattern {
                None => None,
                Some(p) => Some(whole(p, &format!("query[{i}].pattern"))?),
            };
            query.push((q.name, pattern));
        }
        let mut body = BodyMode::None;
        let mut max_body = 0;
        let mut schema = None;
        if let Some(rule) = self.body {
            max_body = match &rule.max_size {
                None => 1 << 20,
                Some(text) => model::quantity::parse_bytes(text)
                    .map_err(|e| InvalidSettings::new("body.maxSize", e.to_string()))?,
            };
            if max_body > limits::BUFFERED_BODY {
                return Err(InvalidSettings::new("body.maxSize", "must be at most 32Mi"));
            }
            body = BodyMode::Buffer(max_body);
            if let Some(s) = &rule.json_schema {
                schema = Some(compile_schema(s, "body.jsonSchema")?);
            }
        }
        Ok(Ready {
            headers,
            query,
            schema,
            max_body,
            body,
        })
    }
}

impl Plugin for Ready {
    fn needs(&self) -> Needs {
        Needs {
            stages: Stages::of(&[Stage::PreRequest]),
            request_body: self.body,
            ..Needs::default()
        }
    }

    fn pre_request<'a>(&'a self, x: &Exchange<'a>, _: &mut Edits) -> Verdict<'a> {
        for name in &self.headers {
            if x.request.headers.get(name).is_none_or(<[u8]>::is_empty) {
                let reply = LocalReply::error(400, ErrorCode::MissingRequiredHeader, None);
                return Verdict::respond(reply);
            }
        }
        for (name, pattern) in &self.query {
            let value = x.request.query.and_then(|q| model::query::first(q, name));
            let fits = match (&value, pattern) {
                (None, _) => false,
                (Some(_), None) => true,
                (Some(v), Some(p)) => p.is_match(v),
            };
            if !fits {
                let message = format!("query parameter {name} is missing or not allowed");
                return invalid(message);
            }
        }
        if let Some(schema) = &self.schema {
            let body = x.request.body.unwrap_or_default();
            let body = match plain(x.request.headers, body, self.max_body) {
                Ok(plain) => plain,
                Err(e) => return Verdict::respond(e.reply()),
            };
            let Ok(json) = serde_json::from_slice(&body) else {
                return invalid("the body is not JSON".to_owned());
            };
            if let Err(e) = schema.validate(&json) {
                return invalid(format!("body{}: {}", e.instance_path(), e.masked()));
            }
        }
        Verdict::CONTINUE
    }
}

fn invalid<'a>(message: String) -> Verdict<'a> {
    let reply = LocalReply::error(400, ErrorCode::InvalidRequest, Some(message));
    Verdict::respond(reply)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Flow;
    use crate::exchange::tests::request;
    use model::Headers;

    fn code(
        settings: &str,
        query: Option<&str>,
        header: Option<&str>,
        body: &str,
    ) -> Option<ErrorCode> {
        let ready = serde_json::from_str::<RequestValidation>(settings)
            .unwrap()
            .compile()
            .unwrap();
        let mut headers = Headers::default();
        if let Some(v) = header {
            headers.append("X-Request-ID", v.as_bytes()).unwrap();
        }
        let mut x = request("POST", "/", &headers);
        x.request.query = query;
        x.request.body = Some(body.as_bytes());
        match ready.pre_request(&x, &mut Edits::default()) {
            Verdict::Ready(Ok(Flow::Continue)) => None,
            Verdict::Ready(Ok(Flow::Respond(r))) => r.error.map(|e| e.0),
            _ => panic!("no verdict"),
        }
    }

    #[test]
    fn a_required_header_must_be_there_and_say_something() {
        let s = r#"{"requiredHeaders":["X-Request-ID"]}"#;
        let missing = Some(ErrorCode::MissingRequiredHeader);
        assert_eq!(code(s, None, None, ""), missing);
        assert_eq!(code(s, None, Some(""), ""), missing);
        assert_eq!(code(s, None, Some("1"), ""), None);
    }

    #[test]
    fn query_values_are_decoded_and_matched_whole() {
        let s = r#"{"query":[{"name":"v","pattern":"[0-9]+"}]}"#;
        assert_eq!(code(s, Some("v=1%30"), None, ""), None);
        for bad in [None, Some("v=1x"), Some("w=1"), Some("v")] {
            let invalid = Some(ErrorCode::InvalidRequest);
            assert_eq!(code(s, bad, None, ""), invalid, "{bad:?}");
        }
    }

    #[test]
    fn bodies_are_judged_by_schema() {
        let s = r#"{"body":{"jsonSchema":{"type":"object","required":["id"]}}}"#;
        assert_eq!(code(s, None, None, r#"{"id":1}"#), None);
        let invalid = Some(ErrorCode::InvalidRequest);
        assert_eq!(code(s, None, None, r#"{"ID":1}"#), invalid);
        assert_eq!(code(s, None, None, "<id/>"), invalid);
    }

    #[test]
    fn settings_that_cannot_work_are_named() {
        for (json, field) in [
            (r#"{"requiredHeaders":["a b"]}"#, "requiredHeaders[0]"),
            (
                r#"{"query":[{"name":"v","pattern":"("}]}"#,
                "query[0].pattern",
            ),
            (r#"{"body":{"maxSize":"1Ti"}}"#, "body.maxSize"),
            (r#"{"body":{"jsonSchema":{"type":7}}}"#, "body.jsonSchema"),
        ] {
            let s: RequestValidation = serde_json::from_str(json).unwrap();
            assert_eq!(s.compile().err().unwrap().field, field, "{json}");
        }
    }
}
