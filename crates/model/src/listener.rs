//! Where the gateway listens.

use crate::{Concurrency, CredentialHeader, Edge, HostPattern, ListenerTls, ObjectRef};
use ipnet::IpNet;

/// One listener of a GatewayConfig, with the settings of its connections.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Listener {
    pub origin: ObjectRef,
    pub name: String,
    /// Position in the GatewayConfig: `--http` and `--https` override the first of that protocol.
    pub order: u32,
    pub port: u16,
    pub protocol: ListenerProtocol,
    /// Requests for other hosts are answered 404, connections for them closed.
    pub hostname: HostPattern,
    /// Answers `/healthz` itself, before routing (F161).
    pub health: bool,
    /// `None`: nothing is written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_log: Option<AccessLog>,
    /// `None`: requests have no spans.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tracing: Option<Tracing>,
    /// Present on HTTPS listeners, and on TLS listeners that do not pass TLS on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<ListenerTls>,
    /// Every connection begins with the PROXY protocol, version 1 or 2.
    pub proxy_protocol: bool,
    /// Key of the certificate that is shown to upstreams over TLS which have none of their own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend_certificate: Option<String>,
    /// Where a redirect without scheme and port leads that clients ask for without a port; `None`: to the default one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redirect_port: Option<u16>,
    pub forwarded: Forwarded,
    /// Bodies instead of the catalogue's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<ErrorTemplate>,
    /// Answers carry `x-diolkos-revision` (features.md D7).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub shows_revision: bool,
    /// Requests at once, of all listeners with the same owner together; `None`: any number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<Concurrency>,
    /// `None`: as [`Metrics::default`] has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metrics: Option<Metrics>,
    pub caps: Caps,
    #[serde(skip_serializing_if = "Edge::is_strict")]
    pub edge: Edge,
    pub request_header_ms: u32,
    pub keep_alive_ms: u32,
    pub drain_ms: u32,
}

impl Listener {
    /// With the default of everything else.
    pub fn new(origin: ObjectRef, name: &str, port: u16) -> Self {
        use crate::limits as l;
        let ms = |d: std::time::Duration| u32::try_from(d.as_millis()).unwrap_or(u32::MAX);
        Self {
            origin,
            name: name.to_owned(),
            order: 0,
            port,
            protocol: ListenerProtocol::Http,
            hostname: HostPattern::Any,
            health: true,
            access_log: None,
            tracing: None,
            tls: None,
            proxy_protocol: false,
            backend_certificate: None,
            redirect_port: None,
            forwarded: Forwarded::default(),
            errors: Vec::new(),
            shows_revision: false,
            concurrency: None,
            metrics: None,
            caps: Caps::default(),
            edge: Edge::default(),
            request_header_ms: ms(l::REQUEST_HEADER_TIMEOUT),
            keep_alive_ms: ms(l::KEEP_ALIVE),
            drain_ms: ms(l::DRAIN),
        }
    }
}

/// What one connection and one request may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Caps {
    pub header_bytes: u32,
    pub header_count: u32,
    pub url_bytes: u32,
    pub connections: u32,
    pub requests_per_connection: u32,
}

impl Default for Caps {
    fn default() -> Self {
        use crate::limits as l;
        Self {
            header_bytes: l::HEADER_BYTES,
            header_count: l::HEADER_COUNT,
            url_bytes: l::URL_BYTES,
            connections: l::CONNECTIONS,
            requests_per_connection: l::REQUESTS_PER_CONNECTION,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub enum ListenerProtocol {
    #[serde(rename = "HTTP")]
    Http,
    #[serde(rename = "HTTPS")]
    Https,
    /// Whatever is in TLS, by the host that its clients name.
    #[serde(rename = "TLS")]
    Tls,
    #[serde(rename = "TCP")]
    Tcp,
    #[serde(rename = "UDP")]
    Udp,
}

impl ListenerProtocol {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Http => "HTTP",
            Self::Https => "HTTPS",
            Self::Tls => "TLS",
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        }
    }

    /// Requests are routed, not connections.
    pub const fn is_http(self) -> bool {
        matches!(self, Self::Http | Self::Https)
    }

    /// A connection begins with a TLS handshake.
    pub const fn is_encrypted(self) -> bool {
        matches!(self, Self::Https | Self::Tls)
    }

    /// A client says which host it wants.
    pub const fn has_hosts(self) -> bool {
        !matches!(self, Self::Tcp | Self::Udp)
    }

    /// Whether listeners of both can have one port: where the first thing that a client sends tells which it is for.
    pub const fn may_share_with(self, other: Self) -> bool {
        self as u8 == other as u8 || (self.is_encrypted() && other.is_encrypted())
    }
}

/// What is done with forwarding header fields (features.md F21, F22).
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Forwarded {
    pub xff: ForwardedFor,
    /// Peers whose `X-Forwarded-For` is believed, from the right, up to the first address that is not among them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub trusted: Vec<IpNet>,
    /// X-Real-IP, X-Forwarded-Proto, -Host and -Port are sent to upstreams.
    pub standard_headers: bool,
}

/// What happens to `X-Forwarded-For` on the way to an upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub enum ForwardedFor {
    /// None is sent.
    #[default]
    Drop,
    /// The peer's address is added to what trusted peers sent.
    Append,
    /// It is the client's address alone.
    Set,
}

/// A body for errors of the gateway's own (features.md F27).
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ErrorTemplate {
    pub status: u16,
    pub content_type: String,
    /// With the placeholders `{status}`, `{code}`, `{message}` and `{request_id}`.
    pub body: String,
}

/// What metrics tell, and to whom. Where listeners of one process disagree, the strictest counts.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Metrics {
    /// Requests are counted by Route as well.
    pub by_route: bool,
    /// They have the label `tenant`.
    pub by_tenant: bool,
    /// They have the label `upstream`.
    pub by_upstream: bool,
    /// Series for labels with values from the configuration.
    pub max_series: u32,
    /// Where the page is; `None`: at [`Metrics::PATH`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Fields of which a scraper must show one; `None`: none is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<Vec<CredentialHeader>>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            by_route: true,
            by_tenant: false,
            by_upstream: false,
            max_series: crate::limits::SERIES,
            path: None,
            tokens: None,
        }
    }
}

impl Metrics {
    /// Where the page is on the admin port unless somebody says otherwise.
    pub const PATH: &str = "/metrics";
}

/// Spans for a collector (features.md F157).
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Tracing {
    /// URL of the collector.
    pub endpoint: String,
    /// OTLP over gRPC; else over HTTP.
    pub grpc: bool,
    /// Sent along.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<CredentialHeader>,
    /// Share of the requests that are traced where the client does not decide, in millionths.
    pub sample_millionths: u32,
}

/// The access log (features.md F158).
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AccessLog {
    pub format: LogFormat,
    /// Share of the requests that are logged, in millionths; failures always are.
    pub sample_millionths: u32,
    /// Only requests for which it holds, see [`crate::log_filter`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    pub to_stderr: bool,
}

impl Default for AccessLog {
    fn default() -> Self {
        Self {
            format: LogFormat::Json,
            sample_millionths: 1_000_000,
            filter: None,
            to_stderr: false,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub enum LogFormat {
    Json,
    /// A line with placeholders, presets already replaced by their text.
    Template(String),
}
