//! Routes: which requests, and what happens to them.

use crate::{Concurrency, HeaderEdits, HostPattern, Match, ObjectRef, PluginUse, limits};

/// One Route object.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Route {
    pub origin: ObjectRef,
    /// Creation of the object in seconds since the epoch: the older of two equal claims wins.
    pub created: i64,
    /// Key of the Tenant whose namespace it is in; `None`: it is nobody's, and is not found for hosts that are owned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
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
    /// `None`: one more attempt where nothing was sent (F56).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    /// Copies of the request that go elsewhere; their answers are thrown away.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mirrors: Vec<Mirror>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<Concurrency>,
    /// gRPC-Web requests are translated to gRPC (F13).
    pub grpc_web: bool,
    /// A request that nothing but its method keeps from the rule is one that does not match (Gateway API), and else is
    /// answered 405.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub hides_methods: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub plugins: Vec<PluginUse>,
}

impl Rule {
    /// With the default of everything else.
    pub fn new(matches: Vec<Match>, action: Action) -> Self {
        Self {
            name: String::new(),
            matches,
            precedence: 0,
            action,
            rewrite: Rewrite::default(),
            request_headers: HeaderEdits::default(),
            response_headers: HeaderEdits::default(),
            timeouts: Timeouts::default(),
            max_request_body: limits::REQUEST_BODY,
            retry: None,
            affinity: None,
            mirrors: Vec::new(),
            concurrency: None,
            grpc_web: false,
            hides_methods: false,
            plugins: Vec::new(),
        }
    }
}

/// When a request is tried again (F55, F56).
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Retry {
    /// Attempts after the first; 0: never.
    pub attempts: u32,
    pub on: RetryOn,
    pub initial_ms: u32,
    pub max_ms: u32,
    /// By which each wait is longer than the one before, in hundredths.
    pub multiplier_percent: u32,
    /// The wait is a random part of what it would be.
    pub jitter: bool,
    /// From an attempt's start to its answer's head; 0: no limit of its own.
    pub per_try_ms: u32,
    /// Retries in percent of the requests under way to the same upstream; ten a second are always allowed.
    pub budget_percent: u32,
}

/// What an attempt must have met to be repeated.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RetryOn {
    pub connect_failure: bool,
    pub reset: bool,
    pub timeout: bool,
    /// A kept connection that turned out to be closed.
    pub reused_connection: bool,
    /// Methods that are not idempotent are repeated too.
    pub non_idempotent: bool,
    /// Inclusive ranges of status codes.
    pub statuses: Vec<(u16, u16)>,
}

/// Requests of one client go to one endpoint.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Affinity {
    /// By a cookie that the gateway sets.
    Cookie(AffinityCookie),
    /// By the value of a header field, lower case.
    Header(String),
}

#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AffinityCookie {
    pub name: String,
    /// Seconds; 0: a session cookie.
    pub ttl_seconds: u32,
    pub path: String,
    /// `None`: where the client's connection is encrypted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secure: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub same_site: Option<SameSite>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub enum SameSite {
    Strict,
    Lax,
    None,
}

/// Where copies of requests go.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Mirror {
    pub target: Target,
    /// Share of the requests, in millionths.
    pub millionths: u32,
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
    /// A backend of a higher number takes requests only when none of a lower one can (F39).
    pub priority: u32,
    pub target: Target,
    #[serde(skip_serializing_if = "HeaderEdits::is_empty")]
    pub request_headers: HeaderEdits,
    #[serde(skip_serializing_if = "HeaderEdits::is_empty")]
    pub response_headers: HeaderEdits,
}

impl Backend {
    /// With weight 1 in the first tier, and no edits.
    pub fn new(target: Target) -> Self {
        Self {
            weight: 1,
            priority: 0,
            target,
            request_headers: HeaderEdits::default(),
            response_headers: HeaderEdits::default(),
        }
    }
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
    /// From the head of an event stream to its first event.
    pub first_event_ms: u32,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect_ms: 0,
            request_ms: 0,
            backend_request_ms: 0,
            first_byte_ms: limits::FIRST_BYTE.as_millis() as u32,
            stream_idle_ms: limits::STREAM_IDLE.as_millis() as u32,
            first_event_ms: limits::FIRST_EVENT.as_millis() as u32,
        }
    }
}
