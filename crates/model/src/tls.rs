//! Certificates, and how both sides of the gateway use them.

use crate::{ObjectRef, Secret};

/// A certificate with its private key, from a Secret of type `kubernetes.io/tls`. A resource of its own: listeners and
/// upstreams refer to it by key, so a renewal is one small transaction.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Certificate {
    pub origin: ObjectRef,
    /// PEM, the leaf first.
    pub chain: String,
    /// PEM.
    pub key: Secret,
}

/// Oldest version of TLS that is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize)]
pub enum TlsVersion {
    #[default]
    #[serde(rename = "1.2")]
    V1_2,
    #[serde(rename = "1.3")]
    V1_3,
}

/// TLS that a listener terminates.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListenerTls {
    /// Keys of certificate resources. Each connection gets the one that fits its SNI.
    pub certificates: Vec<String>,
    /// Key of the certificate for clients that name no host or an unknown one; `None`: their handshake fails.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_certificate: Option<String>,
    pub min_version: TlsVersion,
    /// IANA names in order of preference; empty: all that are safe.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cipher_suites: Vec<String>,
    /// Clients are asked for a certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<ClientValidation>,
}

/// How client certificates are judged.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClientValidation {
    /// PEM of the authorities that may have signed.
    pub authorities: String,
    /// Whether there must be one. A wrong one is refused in any case.
    pub required: bool,
    /// They are asked for a certificate, and let in whatever they show; it counts for nothing.
    pub any: bool,
}

/// TLS towards the endpoints of an upstream.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UpstreamTls {
    /// Name that is sent and, without `subject_alt_names`, must be the certificate's. `None` only where nothing is
    /// verified.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sni: Option<String>,
    /// PEM of the authorities that may have signed; `None`: those of the system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authorities: Option<String>,
    /// Key of the certificate resource that the gateway shows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_certificate: Option<String>,
    /// DNS names or URIs of which the certificate must carry one, instead of `sni`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub subject_alt_names: Vec<String>,
    /// Any certificate is good.
    pub insecure: bool,
    pub min_version: TlsVersion,
}
