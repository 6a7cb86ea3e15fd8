//! How an endpoint is chosen.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{duration::Duration, refs::ObjectRef, schema::cel, text::Short};

/// How an endpoint is chosen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel(&[
    (
        "(has(self.policy) && self.policy == 'ConsistentHash') == has(self.consistentHash)",
        "consistentHash must be given when policy is ConsistentHash, and only then",
    ),
    (
        "!has(self.pluginRef) || (has(self.policy) && self.policy == 'Predictive')",
        "pluginRef is for policy Predictive only",
    ),
])))]
pub struct LoadBalancing {
    /// RoundRobin, Weighted, LeastRequest, Random, P2C (the better of two at random), ConsistentHash, Predictive or Inference. Default: RoundRobin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<LbPolicy>,
    /// What is hashed, for policy ConsistentHash.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consistent_hash: Option<ConsistentHash>,
    /// The Plugin with the model, for policy Predictive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plugin_ref: Option<ObjectRef>,
    /// How long a new endpoint takes to reach its full share. Default: 0s, at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slow_start: Option<Duration>,
    /// Whether endpoints in the data plane's own zone come first: Prefer or Ignore. Default: Ignore.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<ZonePolicy>,
}

/// How an endpoint is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum LbPolicy {
    RoundRobin,
    Weighted,
    LeastRequest,
    Random,
    P2C,
    ConsistentHash,
    Predictive,
    Inference,
}

/// What is hashed so that equal requests reach the same endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel(&[(
    "(self.source in ['Header', 'Cookie', 'Query', 'JSONField']) == has(self.name)",
    "name must be given when source is Header, Cookie, Query or JSONField, and only then",
)])))]
pub struct ConsistentHash {
    /// Path, ClientIP, Header, Cookie, Query, Consumer or JSONField (of the request body).
    pub source: HashSource,
    /// Name of the header field, cookie, parameter or JSON field.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<Short>,
    /// Data structure: Maglev (evenly spread) or Ring (fewest moves when endpoints change). Default: Maglev.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub table: Option<HashTable>,
    /// An endpoint takes at most this percentage of the average load; more goes to the next. Default: no bound. 101 to 1000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 101, max = 1000))]
    pub bounded_load_percent: Option<u16>,
}

/// What is hashed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum HashSource {
    #[default]
    Path,
    ClientIP,
    Header,
    Cookie,
    Query,
    Consumer,
    JSONField,
}

/// The data structure of a consistent hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum HashTable {
    Ring,
    Maglev,
}

/// Whether endpoints in the own zone come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ZonePolicy {
    Prefer,
    Ignore,
}
