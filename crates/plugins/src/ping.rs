//! `Ping` answers a health path by itself, so that whoever asks learns that the gateway is there, whatever the backends.
//!
//! ```yaml
//! type: Ping
//! ping: {path: /ping, body: pong}
//! ```

use crate::{
    Compile, Edits, Exchange, InvalidSettings, LocalReply, Needs, Plugin, Stages, Verdict,
};
use model::Stage;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Answers GET and HEAD of one path with 200.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Ping {
    /// The path that is answered, exactly. Default: /ping.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024), regex(pattern = "^/"))]
    pub path: Option<String>,
    /// Body of the answer. Default: pong.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub body: Option<String>,
}

pub struct Ready {
    path: String,
    reply: LocalReply,
}

impl Compile for Ping {
    type Ready = Ready;

    fn compile(self) -> Result<Ready, InvalidSettings> {
        let path = self.path.unwrap_or_else(|| "/ping".to_owned());
        if !path.starts_with('/') {
            return Err(InvalidSettings::new("path", "must begin with a slash"));
        }
        let body = self.body.unwrap_or_else(|| "pong".to_owned());
        let field = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let mut reply = LocalReply::new(200, body);
        reply.headers = vec![
            field("content-type", "text/plain; charset=utf-8"),
            field("cache-control", "no-store"),
        ];
        Ok(Ready { path, reply })
    }
}

impl Plugin for Ready {
    fn needs(&self) -> Needs {
        Needs {
            stages: Stages::of(&[Stage::PreRequest]),
            ..Needs::default()
        }
    }

    fn pre_request<'a>(&'a self, x: &Exchange<'a>, _: &mut Edits) -> Verdict<'a> {
        if matches!(x.request.method, "GET" | "HEAD") && x.request.path == self.path {
            return Verdict::respond(self.reply.clone());
        }
        Verdict::CONTINUE
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Flow;
    use crate::exchange::tests::request;
    use model::Headers;

    #[test]
    fn one_path_is_answered_and_nothing_else() {
        let ready = Ping::default().compile().unwrap();
        let headers = Headers::default();
        for (method, path, answered) in [
            ("GET", "/ping", true),
            ("HEAD", "/ping", true),
            ("POST", "/ping", false),
            ("GET", "/ping/", false),
            ("GET", "/", false),
        ] {
            let verdict =
                ready.pre_request(&request(method, path, &headers), &mut Edits::default());
            let reply = match verdict {
                Verdict::Ready(Ok(Flow::Respond(r))) => Some(r),
                _ => None,
            };
            assert_eq!(reply.is_some(), answered, "{method} {path}");
            if let Some(reply) = reply {
                assert_eq!((reply.status, &reply.body[..]), (200, &b"pong"[..]));
            }
        }
    }

    #[test]
    fn a_path_begins_with_a_slash() {
        let s: Ping = serde_json::from_str(r#"{"path":"ping"}"#).unwrap();
        assert_eq!(s.compile().err().unwrap().field, "path");
    }
}
