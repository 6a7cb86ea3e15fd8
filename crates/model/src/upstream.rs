//! Upstreams: where requests go.

use crate::{Balance, CircuitBreaker, Concurrency, Health, ObjectRef, Secret, UpstreamTls};

/// An Upstream object, or a Service port that a Route names directly.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Upstream {
    pub origin: ObjectRef,
    pub source: EndpointSource,
    pub protocol: UpstreamProtocol,
    /// `None`: in clear.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<UpstreamTls>,
    pub balance: Balance,
    pub health: Health,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub circuit_breaker: Option<CircuitBreaker>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<Concurrency>,
    /// Header fields that the gateway sets, in place of the client's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub credentials: Vec<CredentialHeader>,
    /// Put before the (rewritten) path; no final slash (`external.url`).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub path_prefix: String,
    /// Host sent instead of the client's, unless the rule rewrites it (`external.url`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authority: Option<String>,
    /// Connection establishment in milliseconds; 0: the default.
    pub connect_ms: u32,
    pub connection: Connection,
}

impl Upstream {
    /// With the default of everything else.
    pub fn new(origin: ObjectRef, source: EndpointSource) -> Self {
        Self {
            origin,
            source,
            protocol: UpstreamProtocol::Auto,
            tls: None,
            balance: Balance::default(),
            health: Health::default(),
            circuit_breaker: None,
            concurrency: None,
            credentials: Vec::new(),
            path_prefix: String::new(),
            authority: None,
            connect_ms: 0,
            connection: Connection::default(),
        }
    }
}

/// How connections to endpoints are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Connection {
    /// Idle connections kept to each endpoint by one worker thread.
    pub pool_size: u32,
    pub pool_idle_ms: u32,
    /// HTTP/2 streams at once on one connection.
    pub max_streams: u32,
    /// Time without traffic before TCP probes are sent.
    pub tcp_keepalive_ms: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy_protocol: Option<ProxyProtocol>,
}

impl Default for Connection {
    fn default() -> Self {
        Self {
            pool_size: 128,
            pool_idle_ms: 60_000,
            max_streams: 100,
            tcp_keepalive_ms: 60_000,
            proxy_protocol: None,
        }
    }
}

/// Version of the PROXY protocol that a connection begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
pub enum ProxyProtocol {
    V1,
    V2,
}

/// How endpoints are spoken to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub enum UpstreamProtocol {
    /// By ALPN over TLS, else HTTP/1.1.
    #[default]
    Auto,
    H1,
    H2,
    /// HTTP/2 in clear, by prior knowledge.
    H2C,
}

/// A header field whose value is secret.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CredentialHeader {
    /// Lower case.
    pub name: String,
    /// Prefix included.
    pub value: Secret,
}

#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub enum EndpointSource {
    /// Listed in the object.
    Static(Vec<StaticEndpoint>),
    /// The endpoint shards of this service port, `NAMESPACE/NAME:PORT`.
    Service(String),
    /// The addresses of a host name.
    Dns(DnsSource),
    /// What several sources say (features.md F40).
    Discovery(Discovery),
}

impl EndpointSource {
    /// The service ports whose shards it has.
    pub fn services(&self) -> impl Iterator<Item = &str> {
        let (one, several) = match self {
            Self::Service(service) => (Some(service), &[][..]),
            Self::Discovery(discovery) => (None, &*discovery.sources),
            Self::Static(_) | Self::Dns(_) => (None, &[][..]),
        };
        let among = several.iter().filter_map(|source| match source {
            DiscoverySource::Service(service) => Some(service),
            _ => None,
        });
        one.into_iter().chain(among).map(String::as_str)
    }
}

/// Sources that are asked, and how their answers go together.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Discovery {
    /// Sources after the first that has a ready endpoint do not count; otherwise all count together.
    pub first_available: bool,
    pub sources: Vec<DiscoverySource>,
    /// See [`endpoint_filter`](crate::endpoint_filter): what it does not hold for is not used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub enum DiscoverySource {
    Http(HttpSource),
    Dns(DnsSource),
    /// As [`EndpointSource::Service`].
    Service(String),
    Static(Vec<StaticEndpoint>),
}

/// A registry that lists endpoints as JSON (features.md F46).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpSource {
    /// `http` or `https`, without user and password.
    pub url: String,
    /// Names that lead from the document to the list; none: it is the list.
    pub path: Vec<String>,
    /// Time between two questions.
    pub refresh_ms: u32,
}

/// A host name whose addresses are endpoints (features.md F48).
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DnsSource {
    pub hostname: String,
    pub port: u16,
    /// Longest time between two lookups; without `respect_ttl` also the shortest.
    pub refresh_ms: u32,
    /// The answer's time to live decides when to look again.
    pub respect_ttl: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StaticEndpoint {
    /// An IP address, or a DNS name that the data plane resolves.
    pub host: String,
    pub port: u16,
    pub weight: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
}
