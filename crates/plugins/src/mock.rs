//! `Mock` answers instead of an upstream.
//!
//! ```yaml
//! type: Mock
//! mock:
//!   status: 200
//!   headers: [{name: content-type, value: application/json}]
//!   body: '{"items": []}'
//!   delay: 100ms
//! ```

use crate::schema::{Header, check_pairs};
use crate::{
    Compile, Edits, Exchange, InvalidSettings, LocalReply, Needs, Plugin, Stages, Verdict,
};
use model::Stage;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Longest delay, so that a mock cannot hold connections for long.
const MAX_DELAY: Duration = Duration::from_secs(60);

/// A fixed answer, sent without asking any backend.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Mock {
    /// Status code of the answer. Default: 200.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 200, max = 599))]
    pub status: Option<u16>,
    /// Header fields of the answer. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub headers: Option<Vec<Header>>,
    /// Body of the answer. Default: empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 65536))]
    pub body: Option<String>,
    /// How long the answer waits, at most 60s, such as `100ms`. Default: 0s.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = r"^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$"))]
    pub delay: Option<String>,
}

pub struct Ready(LocalReply);

impl Compile for Mock {
    type Ready = Ready;

    fn compile(self) -> Result<Ready, InvalidSettings> {
        let status = self.status.unwrap_or(200);
        if !(200..=599).contains(&status) {
            return Err(InvalidSettings::new("status", "must be from 200 to 599"));
        }
        let delay = match &self.delay {
            None => Duration::ZERO,
            Some(text) => model::duration::parse(text)
                .map_err(|e| InvalidSettings::new("delay", e.to_string()))?,
        };
        if delay > MAX_DELAY {
            return Err(InvalidSettings::new("delay", "must be at most 60s"));
        }
        let mut reply = LocalReply::new(status, self.body.unwrap_or_default());
        reply.headers = check_pairs(self.headers, "headers")?;
        reply.delay = delay;
        Ok(Ready(reply))
    }
}

impl Plugin for Ready {
    fn needs(&self) -> Needs {
        Needs {
            stages: Stages::of(&[Stage::PreRequest]),
            ..Needs::default()
        }
    }

    fn pre_request<'a>(&'a self, _: &Exchange<'a>, _: &mut Edits) -> Verdict<'a> {
        Verdict::respond(self.0.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_what_is_configured() {
        let m: Mock = serde_json::from_str(
            r#"{"status":201,"headers":[{"name":"X-A","value":"b"}],"body":"hi","delay":"1m"}"#,
        )
        .unwrap();
        let reply = m.compile().unwrap().0;
        assert_eq!((reply.status, &reply.body[..]), (201, &b"hi"[..]));
        assert_eq!(reply.headers, [("x-a".to_owned(), "b".to_owned())]);
        assert_eq!(reply.delay, Duration::from_secs(60));
    }

    #[test]
    fn refuses_impossible_answers() {
        for (json, field) in [
            (r#"{"status":100}"#, "status"),
            (r#"{"delay":"61s"}"#, "delay"),
            (r#"{"delay":"soon"}"#, "delay"),
            (r#"{"headers":[{"name":"","value":""}]}"#, "headers[0].name"),
        ] {
            let m: Mock = serde_json::from_str(json).unwrap();
            assert_eq!(m.compile().err().unwrap().field, field, "{json}");
        }
    }
}
