//! `UARestriction` lets clients in by their User-Agent. It keeps out those that say who they are, nobody else.
//!
//! ```yaml
//! type: UARestriction
//! uaRestriction: {deny: ["(?i)badbot", "^curl/"], message: no robots}   # deny wins over allow
//! ```

use crate::{
    Compile, Edits, ErrorCode, Exchange, InvalidSettings, LocalReply, Needs, Plugin, Stages,
    Verdict,
};
use model::{Stage, pattern};
use regex::bytes::Regex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Refuses clients by their User-Agent: 403 `forbidden`. A request without the field has an empty one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UARestriction {
    /// Regular expressions, one of which must be found. Default: all are let in.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 1024)))]
    pub allow: Option<Vec<String>>,
    /// Regular expressions, none of which may be found, also where one of allow is. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 1024)))]
    pub deny: Option<Vec<String>>,
    /// Text for the client. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub message: Option<String>,
}

pub struct Ready {
    /// `None`: everybody.
    allow: Option<Vec<Regex>>,
    deny: Vec<Regex>,
    message: Option<String>,
}

impl Compile for UARestriction {
    type Ready = Ready;

    fn compile(self) -> Result<Ready, InvalidSettings> {
        let allow = self.allow.map(|list| expressions(&list, "allow"));
        Ok(Ready {
            allow: allow.transpose()?,
            deny: expressions(&self.deny.unwrap_or_default(), "deny")?,
            message: self.message,
        })
    }
}

fn expressions(list: &[String], field: &str) -> Result<Vec<Regex>, InvalidSettings> {
    let compile = |(i, text): (usize, &String)| {
        pattern::search_bytes(text)
            .map_err(|e| InvalidSettings::new(format!("{field}[{i}]"), e.to_string()))
    };
    list.iter().enumerate().map(compile).collect()
}

impl Plugin for Ready {
    fn needs(&self) -> Needs {
        Needs {
            stages: Stages::of(&[Stage::PreRequest]),
            ..Needs::default()
        }
    }

    fn pre_request<'a>(&'a self, x: &Exchange<'a>, _: &mut Edits) -> Verdict<'a> {
        let agent = x.request.headers.get("user-agent").unwrap_or_default();
        let found = |list: &[Regex]| list.iter().any(|e| e.is_match(agent));
        let let_in = !found(&self.deny) && self.allow.as_deref().is_none_or(found);
        if let_in {
            return Verdict::CONTINUE;
        }
        let message = self.message.clone();
        Verdict::respond(LocalReply::error(403, ErrorCode::Forbidden, message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Flow;
    use crate::exchange::tests::request;
    use model::Headers;

    fn lets_in(settings: &str, agent: Option<&str>) -> bool {
        let settings: UARestriction = serde_json::from_str(settings).unwrap();
        let ready = settings.compile().unwrap();
        let mut headers = Headers::default();
        if let Some(agent) = agent {
            headers.append("user-agent", agent).unwrap();
        }
        let verdict = ready.pre_request(&request("GET", "/", &headers), &mut Edits::default());
        matches!(verdict, Verdict::Ready(Ok(Flow::Continue)))
    }

    #[test]
    fn deny_wins_and_an_absent_field_is_an_empty_one() {
        for (settings, agent, expected) in [
            (r#"{"deny":["(?i)bot"]}"#, Some("GoodBot/1"), false),
            (r#"{"deny":["(?i)bot"]}"#, Some("curl/8"), true),
            (r#"{"deny":["(?i)bot"]}"#, None, true),
            (r#"{"deny":["^$"]}"#, None, false),
            (r#"{"allow":["^app/"]}"#, Some("app/2"), true),
            (r#"{"allow":["^app/"]}"#, Some("my app/2"), false),
            (r#"{"allow":["^app/"]}"#, None, false),
            (
                r#"{"allow":["^app/"],"deny":["/1$"]}"#,
                Some("app/1"),
                false,
            ),
            ("{}", Some("anything"), true),
        ] {
            assert_eq!(lets_in(settings, agent), expected, "{settings} {agent:?}");
        }
    }

    #[test]
    fn what_is_no_expression_is_named() {
        let s: UARestriction = serde_json::from_str(r#"{"deny":["a","("]}"#).unwrap();
        assert_eq!(s.compile().err().unwrap().field, "deny[1]");
    }
}
