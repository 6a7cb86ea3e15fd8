//! Where a gateway listens.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Edge;
use crate::{
    refs::{LabelSelector, ObjectRef},
    schema::cel,
    text::{HostPattern, Label, Short},
    tls::TlsVersion,
};

/// One place where the gateway listens.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel(&[
    (
        "self.protocol != 'HTTPS' || has(self.tls)",
        "tls must be given when protocol is HTTPS",
    ),
    (
        "!has(self.tls) || self.protocol in ['HTTPS', 'TLS']",
        "tls is for protocol HTTPS and TLS only",
    ),
    (
        "self.protocol != 'HTTPS' || !has(self.tls) || !has(self.tls.mode) || self.tls.mode == 'Terminate'",
        "tls.mode must be Terminate when protocol is HTTPS; Passthrough is for protocol TLS",
    ),
    (
        "!(has(self.tls) && has(self.tls.mode) && self.tls.mode == 'Passthrough') || !((has(self.tls.certificateRefs) && size(self.tls.certificateRefs) > 0) || has(self.tls.acme) || has(self.defaultCertificate))",
        "tls.mode Passthrough uses no certificate: leave out tls.certificateRefs, tls.acme and defaultCertificate",
    ),
    (
        "!has(self.tls) || (has(self.tls.mode) && self.tls.mode == 'Passthrough') || (has(self.tls.certificateRefs) && size(self.tls.certificateRefs) > 0) || has(self.tls.acme) || has(self.defaultCertificate)",
        "tls needs a certificate: give tls.certificateRefs, tls.acme or defaultCertificate",
    ),
    ("!(has(self.http3) && self.http3) || self.protocol == 'HTTPS'", "http3 is for protocol HTTPS only"),
    (
        "!has(self.hostname) || !(self.protocol in ['TCP', 'UDP'])",
        "hostname is not for protocol TCP and UDP, whose clients name no host",
    ),
    (
        "!(has(self.proxyProtocol) && self.proxyProtocol) || self.protocol != 'UDP'",
        "proxyProtocol is not for protocol UDP",
    ),
    ("!has(self.defaultCertificate) || has(self.tls)", "defaultCertificate is for listeners with tls only"),
    ("!has(self.edge) || self.protocol in ['HTTP', 'HTTPS']", "edge is for protocol HTTP and HTTPS only"),
])))]
pub struct Listener {
    /// Name of the listener, unique in the GatewayConfig.
    pub name: Label,
    /// Port of the data plane, 1-65535.
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
    /// HTTP, HTTPS, TLS (for TLSRoutes, by SNI; without tls it is passed on), TCP (for TCPRoutes) or UDP (for UDPRoutes).
    pub protocol: ListenerProtocol,
    /// Host names that the listener serves; "*.example.com" is every name below it. Default: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<HostPattern>,
    /// Serve HTTP/3 on the same port of UDP. Default: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http3: Option<bool>,
    /// Certificates and versions, for HTTPS and TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<ListenerTls>,
    /// Secret with the certificate for clients that name no host or an unknown one. Default: none, the handshake fails.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_certificate: Option<ObjectRef>,
    /// Which Routes may attach.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed_routes: Option<AllowedRoutes>,
    /// Every connection begins with the PROXY protocol, version 1 or 2, from forwarded.trustedCIDRs only where they are given. Default: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy_protocol: Option<bool>,
    /// The listener answers /healthz itself, before routing. Default: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<bool>,
    /// What is otherwise at this listener than spec.edge has it, field by field; for HTTP and HTTPS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub edge: Option<Edge>,
}

/// The protocol of a listener.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ListenerProtocol {
    #[default]
    #[serde(rename = "HTTP")]
    Http,
    #[serde(rename = "HTTPS")]
    Https,
    #[serde(rename = "TLS")]
    Tls,
    #[serde(rename = "TCP")]
    Tcp,
    #[serde(rename = "UDP")]
    Udp,
}

/// TLS of a listener.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ListenerTls {
    /// Terminate (the gateway decrypts) or Passthrough (the backend does). Default: Terminate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<TlsMode>,
    /// Secrets of type kubernetes.io/tls; each connection gets the one that fits its SNI. At most 64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub certificate_refs: Vec<ObjectRef>,
    /// Certificates that the controller obtains.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acme: Option<ListenerAcme>,
    /// Oldest version: "1.2" or "1.3". Default: "1.2".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_version: Option<TlsVersion>,
    /// Cipher suites by their IANA names, in order of preference. Default: all that are safe. At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub cipher_suites: Vec<Short>,
    /// Ask clients for a certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_validation: Option<ClientValidation>,
}

/// Who decrypts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum TlsMode {
    Terminate,
    Passthrough,
}

/// Certificates that the controller obtains.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ListenerAcme {
    /// Name of an issuer in acme.issuers.
    pub issuer: Label,
    /// Names in the certificate. Default: the listener's hostname and those of its Routes. At most 64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub hostnames: Vec<HostPattern>,
}

/// Asks clients for a certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClientValidation {
    /// ConfigMaps or Secrets with the key ca.crt: who may sign the certificate. 1 to 8.
    #[schemars(length(min = 1, max = 8))]
    pub ca_refs: Vec<ObjectRef>,
    /// Require (no certificate, no connection) or Request (it may be missing, but not be wrong). Default: Require.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<ClientValidationMode>,
}

/// Whether a client certificate may be missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ClientValidationMode {
    Require,
    Request,
}

/// Which Routes may attach.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AllowedRoutes {
    /// Namespaces from which Routes may attach.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<RouteNamespaces>,
}

/// Namespaces from which Routes may attach.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel(&[(
    "!(has(self.from) && self.from == 'Selector') || has(self.selector)",
    "selector must be given when from is Selector",
)])))]
pub struct RouteNamespaces {
    /// All, Same (as the GatewayConfig) or Selector. Default: All.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<FromNamespaces>,
    /// Labels of the namespaces, for from Selector.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
}

/// A choice of namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum FromNamespaces {
    All,
    Same,
    Selector,
}
