//! Where the gateway listens.

use crate::{HostPattern, ObjectRef};

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
    /// Requests for other hosts are answered 404.
    pub hostname: HostPattern,
    /// Answers `/healthz` itself, before routing (F161).
    pub health: bool,
    pub access_log: bool,
    pub caps: Caps,
    pub request_header_ms: u32,
    pub keep_alive_ms: u32,
    pub drain_ms: u32,
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
}
