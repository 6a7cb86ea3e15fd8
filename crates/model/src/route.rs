//! Routes: which requests, and what happens to them.

use crate::{HeaderEdits, HostPattern, Match, ObjectRef, PluginUse, limits};

/// One Route object.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Route {
    pub origin: ObjectRef,
    /// Creation of the object in seconds since the epoch: the older of two equal claims wins.
    pub created: i64,
    /// Keys of the listeners that it is attached to.
    pub listeners: Vec<String>,
    /// Never empty; a Route without hostnames has [`HostPattern::Any`].
    pub hosts: Vec<HostPattern>,
    pub rules: Vec<Rule>,
}

#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    /// Empty where the user gave none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Any of these; never empty.
    pub matches: Vec<Match>,
    pub precedence: i32,
    pub action: Action,
    pub rewrite: Rewrite,
    #[serde(skip_serializing_if = "HeaderEdits::is_empty")]
    pub request_headers: HeaderEdits,
    #[serde(skip_serializing_if = "HeaderEdits::is_empty")]
    pub response_headers: HeaderEdits,
    pub timeouts: Timeouts,
    /// Bytes; more is 413 `request_too_large`.
    pub max_request_body: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub plugins: Vec<PluginUse>,
}

/// What ends the request's way through the pipeline.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Action {
    /// By weight among the backends. Never empty.
    Forward(Vec<Backend>),
    Redirect(Redirect),
    Respond(DirectResponse),
    /// The rule asks for something that cannot be honoured: it answers 500 with this code and never opens up.
    Closed {
        code: String,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Backend {
    /// Share of the traffic; 0 takes none.
    pub weight: u32,
    pub target: Target,
    #[serde(skip_serializing_if = "HeaderEdits::is_empty")]
    pub request_headers: HeaderEdits,
    #[serde(skip_serializing_if = "HeaderEdits::is_empty")]
    pub response_headers: HeaderEdits,
}

#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Target {
    /// Key of an upstream resource.
    Upstream(String),
    /// The reference does not resolve: its share of the traffic gets 500 `invalid_backend`. Holds what was asked for.
    Unresolved(String),
}

#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rewrite {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathRewrite>,
    /// Host sent to the upstream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub enum PathRewrite {
    /// The matched prefix is cut off; nothing left is `/` (F6).
    StripPrefix,
    /// The matched prefix is replaced.
    ReplacePrefix(String),
    ReplaceFull(String),
    /// The first match of `pattern` in the path is replaced; `$1` and `${name}` stand for groups.
    Regex {
        pattern: String,
        replacement: String,
    },
}

/// Unset parts are those of the request.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Redirect {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheme: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<RedirectPath>,
    pub status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub enum RedirectPath {
    ReplacePrefix(String),
    ReplaceFull(String),
}

#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DirectResponse {
    pub status: u16,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub content_type: String,
    pub body: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, String)>,
}

/// Milliseconds; 0 switches a limit off where that is allowed (`request`, `backend_request`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Timeouts {
    /// 0: that of the upstream, else the default.
    pub connect_ms: u32,
    pub request_ms: u32,
    pub backend_request_ms: u32,
    pub first_byte_ms: u32,
    pub stream_idle_ms: u32,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect_ms: 0,
            request_ms: 0,
            backend_request_ms: 0,
            first_byte_ms: limits::FIRST_BYTE.as_millis() as u32,
            stream_idle_ms: limits::STREAM_IDLE.as_millis() as u32,
        }
    }
}
