//! Where the endpoints of an Upstream come from.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    duration::Duration,
    refs::{LabelSelector, ServiceRef},
    schema::cel,
    text::{Address, Cel, Hostname, Line, Short, Url},
};

/// Pods by their labels.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel(&[(
    "(has(self.matchLabels) && size(self.matchLabels) > 0) || (has(self.matchExpressions) && size(self.matchExpressions) > 0)",
    "selector must name at least one label in matchLabels or matchExpressions",
)])))]
pub struct PodSelector {
    /// Labels that a Pod must carry with exactly these values. At most 64.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "crate::schema::string_map")]
    pub match_labels: BTreeMap<String, String>,
    /// Further requirements on labels. At most 32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub match_expressions: Vec<crate::refs::LabelRequirement>,
    /// Port of the Pods, 1-65535.
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
}

impl PodSelector {
    /// The requirements on labels alone.
    pub fn labels(&self) -> LabelSelector {
        LabelSelector {
            match_labels: self.match_labels.clone(),
            match_expressions: self.match_expressions.clone(),
        }
    }
}

/// One endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint {
    /// IP address or host name.
    pub address: Address,
    /// Port, 1-65535.
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
    /// Share of the requests. Default: 1. 0 to 1000000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub weight: Option<u32>,
    /// Zone in which it runs, for lb.zone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<Short>,
}

/// Addresses of a host name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Dns {
    /// The host name; each of its addresses is an endpoint.
    pub hostname: Hostname,
    /// Port of the endpoints, 1-65535.
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
    /// How often the name is looked up when ttlPolicy is Ignore, and how often at least otherwise; never more often than
    /// each second. Default: 30s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refresh_interval: Option<Duration>,
    /// Whether the time to live of the answer decides when to look again: Respect or Ignore. Default: Respect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl_policy: Option<TtlPolicy>,
}

/// Whether the time to live of a DNS answer counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum TtlPolicy {
    Respect,
    Ignore,
}

/// A server outside.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct External {
    /// Scheme, host, port and a path that stands before that of the request, such as https://api.openai.com/v1.
    #[schemars(extend("x-kubernetes-validations" = cel(&[(
        "!(self.contains('?') || self.contains('#'))",
        "external.url must have no query and no fragment",
    )])))]
    pub url: Url,
}

/// Endpoints from registries.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Discovery {
    /// Whether endpoints are looked for. Default: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Merge (all sources together) or FirstAvailable (the first that has any). Default: Merge.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<DiscoveryMode>,
    /// How often polled sources are asked. Default: 30s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refresh_interval: Option<Duration>,
    /// The sources, in order. 1 to 16.
    #[schemars(length(min = 1, max = 16))]
    pub sources: Vec<DiscoverySource>,
    /// CEL on endpoint.address (an IP address), endpoint.port, endpoint.weight, endpoint.zone and endpoint.labels (of what
    /// HTTP sources list): only those for which it is true are used. Default: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter: Option<Cel>,
}

/// How several sources go together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum DiscoveryMode {
    Merge,
    FirstAvailable,
}

/// One source of endpoints.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel(&[
    ("(self.type == 'HTTP') == has(self.http)", "http must be given when type is HTTP, and only then"),
    ("(self.type == 'DNS') == has(self.dns)", "dns must be given when type is DNS, and only then"),
    ("(self.type == 'Consul') == has(self.consul)", "consul must be given when type is Consul, and only then"),
    ("(self.type == 'Etcd') == has(self.etcd)", "etcd must be given when type is Etcd, and only then"),
    ("(self.type == 'Kubernetes') == has(self.kubernetes)", "kubernetes must be given when type is Kubernetes, and only then"),
    ("(self.type == 'Static') == has(self.static)", "static must be given when type is Static, and only then"),
])))]
pub struct DiscoverySource {
    /// What the source is: HTTP, DNS, Consul, Etcd, Kubernetes or Static.
    #[serde(rename = "type")]
    pub type_: DiscoverySourceType,
    /// Whether the source is asked. Default: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// A registry behind an HTTP API.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpSource>,
    /// Addresses of a host name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dns: Option<Dns>,
    /// A service in Consul.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consul: Option<ConsulSource>,
    /// Keys in etcd.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub etcd: Option<EtcdSource>,
    /// Endpoints of a Service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kubernetes: Option<ServiceRef>,
    /// Endpoints written down here. 1 to 64.
    #[serde(rename = "static", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub static_: Option<Vec<Endpoint>>,
}

/// The kinds of source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum DiscoverySourceType {
    #[default]
    #[serde(rename = "HTTP")]
    Http,
    #[serde(rename = "DNS")]
    Dns,
    Consul,
    Etcd,
    Kubernetes,
    Static,
}

/// A registry behind an HTTP API. Each data plane asks it; while it fails its last list goes on serving.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpSource {
    /// URL that answers a GET with 200 and at most 1 MiB of JSON, in which is a list of {"address", "port", "weight",
    /// "zone", "labels"}, of which the last three may be missing, or of "ADDRESS:PORT". At most 1024 of them are used.
    pub url: Url,
    /// Names that lead to the list of endpoints in the answer, such as $.data.items. Default: $, the answer is the list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub json_path: Option<Line>,
    /// How often this source is asked; never more often than each second. Default: refreshInterval.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<Duration>,
}

/// A service in Consul.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConsulSource {
    /// URL of the agent.
    pub addr: Url,
    /// Name of the service.
    pub service: Short,
    /// Tag that an instance must carry. Default: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<Short>,
}

/// Keys in etcd.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EtcdSource {
    /// URL of the server.
    pub addr: Url,
    /// Prefix of the keys whose values are endpoints.
    pub prefix: Line,
}
