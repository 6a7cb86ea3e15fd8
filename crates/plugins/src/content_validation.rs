//! `ContentValidation` judges request and response bodies by regular expressions and a JSON Schema.
//!
//! ```yaml
//! type: ContentValidation
//! contentValidation:
//!   on: Both
//!   maxSize: 1Mi
//!   deny: [{pattern: "(?i)password=", message: no credentials in bodies}]
//! ```

use crate::decode::plain;
use crate::{
    BodyMode, Compile, Edits, ErrorCode, Exchange, Failure, InvalidSettings, LocalReply, Needs,
    Plugin, Stages, Verdict,
};
use model::{Stage, limits, pattern};
use regex::{Regex, bytes};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// Refuses bodies by their content: 403 `content_filter` for a hit, 400 `invalid_request` for a request that does not
/// fit the schema.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ContentValidation {
    /// Which bodies are judged: `Request`, `Response` or `Both`. Default: Request. Write the name in quotes where a
    /// tool reads YAML 1.1 (kubectl does), which takes a bare `on` for a truth value: `"on": Both`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on: Option<On>,
    /// Largest body that is judged, such as `1Mi`, at most 32Mi; a compressed one (gzip, br, zstd) is judged in its
    /// plain form, to which the size applies too. A larger request is refused with 413, a larger response follows
    /// `failurePolicy`. Default: 1Mi.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 32),
        regex(pattern = r"^[0-9]+(\.[0-9]+)?(k|M|G|Ki|Mi|Gi)?$")
    )]
    pub max_size: Option<String>,
    /// Patterns that must not occur anywhere in the body.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub deny: Option<Vec<Deny>>,
    /// JSON Schema (draft 2020-12) of the body. References to other documents are not followed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub json_schema: Option<JsonSchemaSettings>,
}

/// Which bodies a plugin judges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum On {
    #[default]
    Request,
    Response,
    Both,
}

/// A forbidden pattern.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Deny {
    /// Regular expression that is searched in the body.
    #[schemars(length(min = 1, max = 1024))]
    pub pattern: String,
    /// Text for the client. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub message: Option<String>,
}

/// A JSON Schema, taken as it is written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JsonSchemaSettings(pub serde_json::Value);

impl JsonSchema for JsonSchemaSettings {
    fn schema_name() -> Cow<'static, str> {
        "JSONSchema".into()
    }

    /// An object that the API server keeps as it is.
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
    }
}

pub(crate) fn compile_schema(
    schema: &JsonSchemaSettings,
    field: &str,
) -> Result<jsonschema::Validator, InvalidSettings> {
    jsonschema::options()
        .build(&schema.0)
        .map_err(|e| InvalidSettings::new(field, e.to_string()))
}

/// A pattern that must match the whole value, within the memory that one may take.
pub(crate) fn whole(pattern: &str, field: &str) -> Result<Regex, InvalidSettings> {
    pattern::whole(pattern).map_err(|e| InvalidSettings::new(field, e.to_string()))
}

pub struct Ready {
    on: On,
    max: u64,
    deny: Vec<(bytes::Regex, Option<String>)>,
    schema: Option<jsonschema::Validator>,
}

impl Compile for ContentValidation {
    type Ready = Ready;

    fn compile(self) -> Result<Ready, InvalidSettings> {
        let max = match &self.max_size {
            None => 1 << 20,
            Some(text) => model::quantity::parse_bytes(text)
                .map_err(|e| InvalidSettings::new("maxSize", e.to_string()))?,
        };
        if max > limits::BUFFERED_BODY {
            return Err(InvalidSettings::new("maxSize", "must be at most 32Mi"));
        }
        let mut deny = Vec::new();
        for (i, d) in self.deny.unwrap_or_default().into_iter().enumerate() {
            let pattern = pattern::search_bytes(&d.pattern)
                .map_err(|e| InvalidSettings::new(format!("deny[{i}].pattern"), e.to_string()))?;
            deny.push((pattern, d.message));
        }
        let schema = match &self.json_schema {
            None => None,
            Some(s) => Some(compile_schema(s, "jsonSchema")?),
        };
        Ok(Ready {
            on: self.on.unwrap_or_default(),
            max,
            deny,
            schema,
        })
    }
}

impl Ready {
    fn judge<'a>(&'a self, body: &[u8], misfit: LocalReply) -> Verdict<'a> {
        for (pattern, message) in &self.deny {
            if pattern.is_match(body) {
                let reply = LocalReply::error(403, ErrorCode::ContentFilter, message.clone());
                return Verdict::respond(reply);
            }
        }
        if let Some(schema) = &self.schema {
            let fits = serde_json::from_slice(body).is_ok_and(|json| schema.is_valid(&json));
            if !fits {
                return Verdict::respond(misfit);
            }
        }
        Verdict::CONTINUE
    }
}

impl Plugin for Ready {
    fn needs(&self) -> Needs {
        let buffer = BodyMode::Buffer(self.max);
        let (stages, request_body, response_body) = match self.on {
            On::Request => (Stages::of(&[Stage::PreRequest]), buffer, BodyMode::None),
            On::Response => (Stages::of(&[Stage::PreResponse]), BodyMode::None, buffer),
            On::Both => (
                Stages::of(&[Stage::PreRequest, Stage::PreResponse]),
                buffer,
                buffer,
            ),
        };
        Needs {
            stages,
            request_body,
            response_body,
            ..Needs::default()
        }
    }

    fn pre_request<'a>(&'a self, x: &Exchange<'a>, _: &mut Edits) -> Verdict<'a> {
        let body = x.request.body.unwrap_or_default();
        let plain = match plain(x.request.headers, body, self.max) {
            Ok(plain) => plain,
            Err(e) => return Verdict::respond(e.reply()),
        };
        let message = Some("the body does not fit the schema".to_owned());
        let misfit = LocalReply::error(400, ErrorCode::InvalidRequest, message);
        self.judge(&plain, misfit)
    }

    fn pre_response<'a>(&'a self, x: &Exchange<'a>, _: &mut Edits) -> Verdict<'a> {
        let Some(response) = x.response else {
            return Verdict::CONTINUE;
        };
        // Over the size, and told to let such answers pass.
        let Some(body) = response.body else {
            return Verdict::CONTINUE;
        };
        match plain(response.headers, body, self.max) {
            Ok(plain) => {
                let misfit = LocalReply::error(403, ErrorCode::ContentFilter, None);
                self.judge(&plain, misfit)
            }
            Err(e) => Verdict::Ready(Err(Failure(e.to_string().into()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode::Encoder;
    use crate::exchange::tests::request;
    use crate::{BodyFilter, Flow, ResponseView};
    use model::{Coding, Headers};

    fn status(settings: &str, body: &[u8], response: bool) -> Option<u16> {
        let ready = serde_json::from_str::<ContentValidation>(settings)
            .unwrap()
            .compile()
            .unwrap();
        let headers = Headers::default();
        let mut x = request("POST", "/", &headers);
        let verdict = if response {
            x.response = Some(ResponseView {
                status: 200,
                headers: &headers,
                length: None,
                body: Some(body),
            });
            ready.pre_response(&x, &mut Edits::default())
        } else {
            x.request.body = Some(body);
            ready.pre_request(&x, &mut Edits::default())
        };
        match verdict {
            Verdict::Ready(Ok(Flow::Continue)) => None,
            Verdict::Ready(Ok(Flow::Respond(r))) => Some(r.status),
            _ => panic!("no verdict"),
        }
    }

    #[test]
    fn a_denied_pattern_is_found_anywhere_also_beside_bytes_that_are_no_text() {
        let s = r#"{"on":"Both","deny":[{"pattern":"(?i)secret"}]}"#;
        assert_eq!(status(s, b"\xff\xfe my SECRET", false), Some(403));
        assert_eq!(status(s, b"my SECRET", true), Some(403));
        assert_eq!(status(s, b"nothing", false), None);
    }

    #[test]
    fn a_schema_refuses_requests_by_400_and_responses_by_403() {
        let s = r#"{"on":"Both","jsonSchema":{"type":"array"}}"#;
        assert_eq!(status(s, b"[]", false), None);
        assert_eq!(status(s, b"{}", false), Some(400));
        assert_eq!(status(s, b"{}", true), Some(403));
    }

    #[test]
    fn a_compressed_body_is_judged_in_its_plain_form_and_no_other_slips_through() {
        let s = r#"{"on":"Both","maxSize":"1Ki","deny":[{"pattern":"secret"}]}"#;
        let ready = serde_json::from_str::<ContentValidation>(s)
            .unwrap()
            .compile()
            .unwrap();
        let gzip = |plain: &[u8]| {
            let mut encoder = Encoder::open(Coding::Gzip, 9).unwrap();
            let mut body = encoder.chunk(plain.to_vec().into()).unwrap().to_vec();
            body.extend_from_slice(&encoder.end().unwrap());
            body
        };
        let judge = |coding: &str, body: &[u8]| {
            let mut headers = Headers::default();
            headers.append("content-encoding", coding).unwrap();
            let mut x = request("POST", "/", &headers);
            x.request.body = Some(body);
            let up = match ready.pre_request(&x, &mut Edits::default()) {
                Verdict::Ready(Ok(Flow::Continue)) => 200,
                Verdict::Ready(Ok(Flow::Respond(r))) => r.status,
                _ => panic!("no verdict"),
            };
            x.response = Some(ResponseView {
                status: 200,
                headers: &headers,
                length: None,
                body: Some(body),
            });
            let down = match ready.pre_response(&x, &mut Edits::default()) {
                Verdict::Ready(Ok(Flow::Continue)) => 200,
                Verdict::Ready(Ok(Flow::Respond(r))) => r.status,
                Verdict::Ready(Err(_)) => 500,
                Verdict::Pending(_) => panic!("no verdict"),
            };
            (up, down)
        };
        assert_eq!(judge("gzip", &gzip(b"a secret")), (403, 403));
        assert_eq!(judge("gzip", &gzip(b"nothing")), (200, 200));
        assert_eq!(judge("gzip", &gzip(&[b'x'; 1025])), (413, 500));
        assert_eq!(judge("gzip", b"nothing"), (400, 500));
        assert_eq!(judge("deflate", b"nothing"), (400, 500));
    }

    #[test]
    fn stages_and_bodies_follow_the_setting() {
        for (on, request, response) in [
            ("Request", true, false),
            ("Response", false, true),
            ("Both", true, true),
        ] {
            let json = format!(r#"{{"on":"{on}"}}"#);
            let n = serde_json::from_str::<ContentValidation>(&json)
                .unwrap()
                .compile()
                .unwrap()
                .needs();
            assert_eq!(n.stages.has(Stage::PreRequest), request);
            assert_eq!(n.stages.has(Stage::PreResponse), response);
            assert_eq!(n.request_body == BodyMode::None, !request);
        }
    }

    #[test]
    fn patterns_that_would_take_too_much_memory_are_refused() {
        let s: ContentValidation =
            serde_json::from_str(r#"{"deny":[{"pattern":"(a{1000}){1000}"}]}"#).unwrap();
        assert_eq!(s.compile().err().unwrap().field, "deny[0].pattern");
    }
}
