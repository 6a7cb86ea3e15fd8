//! Upstreams: where requests go.

use crate::ObjectRef;

/// An Upstream object, or a Service port that a Route names directly.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Upstream {
    pub origin: ObjectRef,
    pub source: EndpointSource,
    pub balance: BalancePolicy,
    /// Put before the (rewritten) path; no final slash (`external.url`).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub path_prefix: String,
    /// Host sent instead of the client's, unless the rule rewrites it (`external.url`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authority: Option<String>,
    /// Connection establishment in milliseconds; 0: the default.
    pub connect_ms: u32,
    /// Idle connections kept to each endpoint by one worker thread.
    pub pool_size: u32,
    pub pool_idle_ms: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub enum EndpointSource {
    /// Listed in the object.
    Static(Vec<StaticEndpoint>),
    /// The endpoint shards of this service port, `NAMESPACE/NAME:PORT`.
    Service(String),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StaticEndpoint {
    /// An IP address, or a DNS name that the data plane resolves.
    pub host: String,
    pub port: u16,
    pub weight: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub enum BalancePolicy {
    /// In turn; weights are ignored.
    RoundRobin,
    /// In turn by smooth weights.
    Weighted,
}
