//! How long attempts take, how they are repeated, and where a client stays.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    duration::Duration,
    schema::cel,
    text::{CookieName, HeaderName, Path, RetryOn},
};

/// How long each part of an exchange may take. `0s` switches a timeout off.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RouteTimeouts {
    /// Connecting to an endpoint, TLS included. Default: that of the Upstream, else 1s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect: Option<Duration>,
    /// The whole exchange, retries included; an event stream only up to its response head. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<Duration>,
    /// The same for one attempt. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend_request: Option<Duration>,
    /// From the end of the request to the response head, of one attempt. Default: 60s, with ai 300s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_byte: Option<Duration>,
    /// Longest gap between two pieces of a response body. Default: 90s, with ai 60s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream_idle: Option<Duration>,
    /// From the response head to the first event of an event stream. Default: 300s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_event: Option<Duration>,
}

/// When and how a failed attempt is repeated.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = crate::schema::on_may_be_true)]
pub struct Retry {
    /// Whether anything is repeated at all; false also forbids the try after a connect failure. Default: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// How many times at most, after the first attempt. Default: 3. 0 to 10.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10))]
    pub attempts: Option<u8>,
    /// How long to wait before each repetition.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backoff: Option<Backoff>,
    /// What is repeated: ConnectFailure, Reset, Timeout, ReusedConnection, a status such as "503" or a range such as "502-504"; NonIdempotent adds methods such as POST. Default: ConnectFailure, ReusedConnection, Reset, "502-504". At most 16.
    #[serde(alias = "true", default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub on: Vec<RetryOn>,
    /// How long one attempt may take. Default: timeouts.backendRequest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_try_timeout: Option<Duration>,
    /// Repetitions at once, in percent of the requests under way to the same Upstream; 10 a second are always allowed. Default: 20. 0 to 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub budget_percent: Option<u8>,
}

/// How long to wait before each repetition.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Backoff {
    /// Before the first repetition. Default: 1s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initial: Option<Duration>,
    /// At most. Default: 10s, or initial if that is longer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<Duration>,
    /// Factor from one repetition to the next. Default: 2.0. 1 to 10.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10))]
    pub multiplier: Option<f64>,
    /// Wait a random time up to the computed one, so that clients spread. Default: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jitter: Option<bool>,
}

/// Keeps a client on the endpoint that served it first: exactly one of the fields.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel(&[("has(self.cookie) != has(self.header)", "give one of cookie and header")])))]
pub struct SessionAffinity {
    /// By a cookie that the gateway sets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cookie: Option<AffinityCookie>,
    /// By the value of a request header field: all requests with it go to one endpoint, for as long as that can serve.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header: Option<AffinityHeader>,
}

/// The cookie of a session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AffinityCookie {
    /// Name of the cookie.
    pub name: CookieName,
    /// How long it lives. Default: until the browser closes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl: Option<Duration>,
    /// Path for which it is sent. Default: /.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<Path>,
    /// Send it over HTTPS only. Default: true on HTTPS listeners.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secure: Option<bool>,
    /// When it is sent across sites: Strict, Lax or None. Default: Lax.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub same_site: Option<SameSite>,
}

/// The SameSite attribute of a cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum SameSite {
    Strict,
    Lax,
    None,
}

/// The header field of a session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AffinityHeader {
    /// Name of the field.
    pub name: HeaderName,
}
