//! Upstream: a set of endpoints and how they are spoken to.

mod balance;
mod credentials;
mod health;
mod source;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    ai::UpstreamAi,
    duration::Duration,
    limits::Queue,
    refs::{ObjectRef, ServiceRef},
    schema::cel,
    status::Condition,
    text::{Hostname, Line},
    tls::TlsVersion,
};

pub use balance::*;
pub use credentials::*;
pub use health::*;
pub use source::*;

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

/// How endpoints are spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Protocol {
    Auto,
    H1,
    H2,
    H2C,
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
