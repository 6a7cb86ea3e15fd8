//! Upstream: a set of endpoints and how they are spoken to.

use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    ai::UpstreamAi,
    duration::Duration,
    limits::Queue,
    refs::{LabelSelector, ObjectRef, SecretSource, ServiceRef, ValueFrom},
    schema::cel,
    status::Condition,
    text::{Address, Cel, HeaderName, Hostname, Line, Path, Short, StatusRange, Url},
    tls::TlsVersion,
};

/// Where the endpoints come from and how they are spoken to.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "diolkos.io",
    version = "v1alpha1",
    kind = "Upstream",
    plural = "upstreams",
    namespaced,
    status = "UpstreamStatus",
    derive = "PartialEq",
    derive = "Default",
    shortname = "up",
    category = "diolkos",
    doc = "An Upstream is a set of endpoints and how they are spoken to.",
    printcolumn(name = "Protocol", type_ = "string", json_path = ".spec.protocol"),
    printcolumn(
        name = "Total",
        type_ = "integer",
        json_path = ".status.endpoints.total"
    ),
    printcolumn(
        name = "Healthy",
        type_ = "integer",
        json_path = ".status.endpoints.healthy"
    ),
    printcolumn(
        name = "Programmed",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Programmed\")].status"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason",
        priority = 1
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel(&[
    (
        "(has(self.service) ? 1 : 0) + (has(self.selector) ? 1 : 0) + (has(self.endpoints) ? 1 : 0) + (has(self.dns) ? 1 : 0) + (has(self.external) ? 1 : 0) + (has(self.discovery) ? 1 : 0) == 1",
        "give exactly one of service, selector, endpoints, dns, external and discovery",
    ),
    ("!has(self.tls) || !has(self.protocol) || self.protocol != 'H2C'", "protocol H2C is HTTP/2 without TLS: leave out tls or use H2"),
])))]
pub struct UpstreamSpec {
    /// Endpoints of a Service. One of six sources: service, selector, endpoints, dns, external, discovery.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceRef>,
    /// Pods by their labels, without a Service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<PodSelector>,
    /// Endpoints written down here. 1 to 256.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub endpoints: Option<Vec<Endpoint>>,
    /// Addresses of a host name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dns: Option<Dns>,
    /// A server outside, by its URL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external: Option<External>,
    /// Endpoints from registries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub discovery: Option<Discovery>,
    /// How endpoints are spoken to: Auto (by ALPN, else HTTP/1.1), H1, H2 or H2C (HTTP/2 without TLS). Default: Auto.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    /// How an endpoint is chosen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lb: Option<LoadBalancing>,
    /// How it is found out which endpoints work.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
    /// Bounds on what is under way to this Upstream, per data plane.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub circuit_breaker: Option<CircuitBreaker>,
    /// TLS towards the endpoints; present means on. Default: off, except for an https URL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<UpstreamTls>,
    /// Credentials that the gateway adds to requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth: Option<UpstreamAuth>,
    /// How many requests may be under way at once. Default: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<UpstreamConcurrency>,
    /// How connections are kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection: Option<Connection>,
    /// How long things may take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeouts: Option<UpstreamTimeouts>,
    /// The endpoints run models: how they are spoken to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ai: Option<UpstreamAi>,
}

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
    /// How often the name is looked up, when ttlPolicy is Ignore, and at least. Default: 30s.
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
    /// CEL on endpoint: only those for which it is true are used. Default: all.
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

/// A registry behind an HTTP API.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpSource {
    /// URL that answers with JSON.
    pub url: Url,
    /// Path to the list of endpoints in the answer, such as $.items. Default: $.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub json_path: Option<Line>,
    /// How often this source is asked. Default: refreshInterval.
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

/// How endpoints are spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Protocol {
    Auto,
    H1,
    H2,
    H2C,
}

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

/// How it is found out which endpoints work.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Health {
    /// Ask endpoints from time to time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active: Option<ActiveHealth>,
    /// Watch how they serve requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub passive: Option<PassiveHealth>,
    /// Below this percentage of healthy endpoints all are used. Default: 50. 0 to 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub min_healthy_percent: Option<u8>,
}

/// Asks endpoints from time to time: exactly one of http, tcp and grpc says how.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel(&[(
    "(has(self.http) ? 1 : 0) + (has(self.tcp) ? 1 : 0) + (has(self.grpc) ? 1 : 0) == 1",
    "give exactly one of http, tcp and grpc",
)])))]
pub struct ActiveHealth {
    /// Whether endpoints are asked. Default: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// By an HTTP request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpCheck>,
    /// By connecting.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp: Option<TcpCheck>,
    /// By the gRPC health protocol.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grpc: Option<GrpcCheck>,
    /// Time from one check to the next. Default: 30s, for tcp 10s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<Duration>,
    /// How long a check may take. Default: 5s, for tcp 3s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
    /// Failures in a row that make an endpoint unhealthy. Default: 3, for tcp 2. 1 to 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub unhealthy_threshold: Option<u8>,
    /// Successes in a row that make it healthy again. Default: 2, for tcp 1. 1 to 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub healthy_threshold: Option<u8>,
}

/// A check by an HTTP request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpCheck {
    /// Path that is asked for, by GET. Default: /health.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<Path>,
    /// Status codes that mean healthy, such as "200-299" or "404". Default: "200-299". At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub expect: Vec<StatusRange>,
    /// Host that the check names. Default: the endpoint's address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<Hostname>,
}

/// A check by connecting.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TcpCheck {}

/// A check by the gRPC health protocol.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GrpcCheck {
    /// Service that is asked about. Default: the server as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<Short>,
}

/// Watches how endpoints serve requests and sets aside those that fail.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PassiveHealth {
    /// Whether endpoints are watched. Default: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Failures in a row that eject an endpoint: no connection, reset, timeout, 5xx. Default: 5. 1 to 1000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub consecutive_errors: Option<u16>,
    /// Share of failures in the window that ejects it. Default: off. 1 to 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub error_rate_percent: Option<u8>,
    /// Requests in the window before the share counts. Default: 20. 1 to 1000000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub min_requests: Option<u32>,
    /// Length of the window. Default: 10s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<Duration>,
    /// How long the first ejection lasts; it grows with each. Default: 30s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ejection_time: Option<Duration>,
    /// Share of the endpoints that may be ejected at once; one always may. Default: 50. 0 to 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub max_eject_percent: Option<u8>,
}

/// Bounds on what is under way, per data plane; what exceeds them is answered with 503.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CircuitBreaker {
    /// Connections. Default: 1024. 1 to 1000000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_connections: Option<u32>,
    /// Requests. Default: 1024. 1 to 1000000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_requests: Option<u32>,
    /// Requests that wait for a connection. Default: 1024. 0 to 1000000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub max_pending: Option<u32>,
}

/// TLS towards the endpoints.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel(&[(
    "!(has(self.insecureSkipVerify) && self.insecureSkipVerify) || !(has(self.caRef) || (has(self.subjectAltNames) && size(self.subjectAltNames) > 0))",
    "insecureSkipVerify checks nothing: leave out caRef and subjectAltNames, or verify",
)])))]
pub struct UpstreamTls {
    /// Name that the endpoint's certificate must have. Default: the host of external.url or dns, else required unless insecureSkipVerify.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sni: Option<Hostname>,
    /// Secret or ConfigMap with the key ca.crt: who may sign the certificate. Default: the authorities of the system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_ref: Option<ObjectRef>,
    /// Secret of type kubernetes.io/tls with the gateway's own certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_cert_ref: Option<ObjectRef>,
    /// Names of which the certificate must carry one, instead of sni. At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub subject_alt_names: Vec<Line>,
    /// Accept any certificate. Default: false. For tests only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub insecure_skip_verify: Option<bool>,
    /// Oldest version: "1.2" or "1.3". Default: "1.2".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_version: Option<TlsVersion>,
}

/// Credentials that the gateway adds to requests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel(&[(
    "(has(self.awsSigV4) ? 1 : 0) + (has(self.gcp) ? 1 : 0) + (has(self.azure) ? 1 : 0) <= 1",
    "give only one of awsSigV4, gcp and azure",
)])))]
pub struct UpstreamAuth {
    /// Header fields with values from Secrets. At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub headers: Vec<CredentialHeader>,
    /// Sign requests for AWS.
    #[serde(rename = "awsSigV4", skip_serializing_if = "Option::is_none")]
    pub aws_sig_v4: Option<AwsSigV4>,
    /// Access tokens of Google Cloud.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gcp: Option<Gcp>,
    /// Access tokens of Azure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub azure: Option<Azure>,
}

/// A header field with a value from a Secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CredentialHeader {
    /// Name of the field; one that the client sent is replaced.
    pub name: HeaderName,
    /// Text before the value, such as "Bearer ".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix: Option<Line>,
    /// Where the value is read.
    pub value_from: ValueFrom,
}

/// How requests are signed for AWS.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AwsSigV4 {
    /// Region, such as us-east-1.
    pub region: Short,
    /// Service, such as bedrock.
    pub service: Short,
    /// Secret with the keys accessKeyId, secretAccessKey and, if any, sessionToken. Default: the Pod's own identity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials: Option<SecretSource>,
    /// Role to assume with these credentials, by its ARN. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub assume_role_arn: Option<Line>,
}

/// Access tokens of Google Cloud.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Gcp {
    /// Secret with the key credentials.json of a service account. Default: the Pod's own identity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials: Option<SecretSource>,
    /// Scopes of the token. Default: https://www.googleapis.com/auth/cloud-platform. At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub scopes: Vec<Line>,
}

/// Access tokens of Azure.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Azure {
    /// Directory (tenant) of the application. Default: that of the Pod's identity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant_id: Option<Short>,
    /// The application. Default: that of the Pod's identity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<Short>,
    /// Secret with the key clientSecret. Default: the Pod's own identity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials: Option<SecretSource>,
    /// Scope of the token. Default: https://cognitiveservices.azure.com/.default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<Line>,
}

/// How many requests may be under way at once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel(&[("has(self.max) || has(self.maxPerCredential)", "give max or maxPerCredential")])))]
pub struct UpstreamConcurrency {
    /// Whether the limit is in force. Default: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// In all; one more is refused with 503. 1 to 1000000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max: Option<u32>,
    /// For each credential of auth. 1 to 1000000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_per_credential: Option<u32>,
    /// Where a request waits for its turn. Default: no queue, refused at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<Queue>,
}

/// How connections are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Connection {
    /// Idle connections that are kept, per data plane. Default: 128. 0 to 65536.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 65536))]
    pub pool_size: Option<u32>,
    /// How long an idle connection is kept. Default: 60s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_timeout: Option<Duration>,
    /// HTTP/2 streams at once on a connection. Default: 100. 1 to 1000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub max_streams: Option<u16>,
    /// Time without traffic before TCP keepalive probes are sent. Default: 60s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp_keepalive: Option<Duration>,
    /// Send the PROXY protocol before anything else: V1 or V2. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy_protocol: Option<ProxyProtocol>,
}

/// A version of the PROXY protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ProxyProtocol {
    V1,
    V2,
}

/// How long things may take.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UpstreamTimeouts {
    /// Connecting to an endpoint, TLS included. Default: 1s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect: Option<Duration>,
}

/// What the controller reports about an Upstream.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UpstreamStatus {
    /// The generation of the Upstream that this status is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// What is true of the Upstream: Accepted, ResolvedRefs, Programmed, BackendsHealthy, Ready.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "crate::status::conditions")]
    pub conditions: Vec<Condition>,
    /// How many endpoints there are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoints: Option<EndpointCounts>,
}

/// How many endpoints there are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EndpointCounts {
    /// All that are known.
    pub total: u32,
    /// Of these, ready according to their source.
    pub ready: u32,
    /// Of these, healthy according to the data planes' checks.
    pub healthy: u32,
}
