//! GatewayConfig: listeners and everything that holds for a gateway as a whole.

use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    access::Auth,
    duration::Duration,
    limits::{Concurrency, Limit},
    observe::{AccessLog, Metrics, Notification, RequestLog, Tracing, Usage},
    plugin::PluginUse,
    quantity::Quantity,
    refs::{LabelSelector, ObjectRef, SecretKeyRef},
    schema::cel,
    status::{Condition, conditions},
    text::{Cidr, Document, HostPattern, Hostname, Label, Line, MediaType, Short, StoreUrl, Url},
    tls::TlsVersion,
};

/// What holds for a gateway as a whole.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "diolkos.io",
    version = "v1alpha1",
    kind = "GatewayConfig",
    plural = "gatewayconfigs",
    namespaced,
    status = "GatewayConfigStatus",
    derive = "PartialEq",
    derive = "Default",
    shortname = "gwc",
    category = "diolkos",
    doc = "A GatewayConfig holds the listeners of a gateway and what is common to all of its Routes.",
    printcolumn(name = "Default", type_ = "boolean", json_path = ".spec.default"),
    printcolumn(
        name = "Listeners",
        type_ = "string",
        json_path = ".spec.listeners[*].name"
    ),
    printcolumn(
        name = "Accepted",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Accepted\")].status"
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
pub struct GatewayConfigSpec {
    /// Routes without parentRefs attach here. Of several defaults the oldest counts. Default: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<bool>,
    /// Where the gateway listens. Default: one listener http, HTTP on port 8080. At most 64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend(
        "x-kubernetes-list-type" = "map",
        "x-kubernetes-list-map-keys" = ["name"],
        "x-kubernetes-validations" = cel(&[(
            "self.all(a, self.exists_one(b, b.port == a.port && (b.protocol == 'UDP') == (a.protocol == 'UDP')))",
            "listeners[].port must be unique among the listeners of TCP, and among those of UDP",
        )]),
    ))]
    pub listeners: Vec<Listener>,
    /// Domain under which Tenants have their subdomain, such as example.com.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base_domain: Option<Hostname>,
    /// Authorities that give certificates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acme: Option<Acme>,
    /// What backends are told about the client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forwarded: Option<Forwarded>,
    /// How long clients may take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeouts: Option<GatewayTimeouts>,
    /// Bounds on what clients may send.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub caps: Option<Caps>,
    /// The bodies of answers that the gateway gives itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub errors: Option<Errors>,
    /// How callers of Routes that say nothing else prove who they are. Default: not at all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
    /// Plugins for every request, before those of Routes. At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub plugins: Vec<PluginUse>,
    /// Limits on all that passes. At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub limits: Vec<Limit>,
    /// How many requests may be under way at once, per data plane. Default: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<Concurrency>,
    /// One line for each request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_log: Option<AccessLog>,
    /// One detailed record for each request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_log: Option<RequestLog>,
    /// Spans of requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tracing: Option<Tracing>,
    /// Metrics of the gateway.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metrics: Option<Metrics>,
    /// Where the use of models is reported.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// Who is told when something happens. At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub notifications: Vec<Notification>,
    /// Databases that limits, keys and reports may use; none is required. At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub stores: Vec<Store>,
    /// The Pods that serve, where the controller makes them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_plane: Option<DataPlane>,
}

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
    ("!has(self.defaultCertificate) || has(self.tls)", "defaultCertificate is for listeners with tls only"),
])))]
pub struct Listener {
    /// Name of the listener, unique in the GatewayConfig.
    pub name: Label,
    /// Port of the data plane, 1-65535.
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
    /// HTTP, HTTPS, TLS (passed on by SNI), TCP or UDP.
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
    /// Every connection begins with the PROXY protocol, version 1 or 2. Default: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy_protocol: Option<bool>,
    /// The listener answers /healthz itself, before routing. Default: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<bool>,
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

/// Authorities that give certificates.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Acme {
    /// The authorities. At most 8.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub issuers: Vec<AcmeIssuer>,
}

/// An authority that speaks ACME.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel(&[(
    "(has(self.challenge) && self.challenge == 'DNS01') == has(self.dns01)",
    "dns01 must be given when challenge is DNS01, and only then",
)])))]
pub struct AcmeIssuer {
    /// Name of the issuer, unique in the list.
    pub name: Label,
    /// URL of its directory.
    pub server: Url,
    /// Address that the authority may write to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<Short>,
    /// How a name is proved: HTTP01, TLSALPN01 or DNS01 (the only one for wildcards). Default: HTTP01.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub challenge: Option<AcmeChallenge>,
    /// Secret or ConfigMap with the key ca.crt that signed the authority's own certificate. Default: the authorities of the system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_bundle_ref: Option<ObjectRef>,
    /// How DNS records are made, for challenge DNS01.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dns01: Option<Dns01>,
    /// An account that the authority knows beforehand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_account_binding: Option<ExternalAccountBinding>,
    /// Profile of the certificate, such as tlsserver. Default: the authority's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<Short>,
    /// How long before its end a certificate is renewed. Default: when the authority says so (ARI), else at two thirds of its life.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub renew_before: Option<Duration>,
}

/// How a name is proved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum AcmeChallenge {
    HTTP01,
    TLSALPN01,
    DNS01,
}

/// How DNS records are made: exactly one of the fields.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel(&[("has(self.webhook) != has(self.rfc2136)", "give one of webhook and rfc2136")])))]
pub struct Dns01 {
    /// A service that makes them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook: Option<Dns01Webhook>,
    /// A name server that takes dynamic updates (RFC 2136).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rfc2136: Option<Rfc2136>,
}

/// A service that makes DNS records.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Dns01Webhook {
    /// URL of the service.
    pub url: Url,
    /// Token sent as Authorization: Bearer. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_ref: Option<SecretKeyRef>,
}

/// A name server that takes dynamic updates.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rfc2136 {
    /// Address and port of the server, such as 10.0.0.53:53.
    pub server: Line,
    /// Name of the TSIG key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tsig_key_name: Option<Line>,
    /// Algorithm of the TSIG key. Default: hmac-sha256.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tsig_algorithm: Option<Short>,
    /// The TSIG key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tsig_secret_ref: Option<SecretKeyRef>,
}

/// An account that an authority knows beforehand.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExternalAccountBinding {
    /// Id of the key.
    pub key_id: Line,
    /// The key.
    pub key_ref: SecretKeyRef,
}

/// What backends are told about the client.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Forwarded {
    /// X-Forwarded-For: Drop, Append (the client's address) or Set (to it alone). Default: Drop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub xff: Option<Xff>,
    /// Networks of proxies before the gateway whose forwarded headers are believed. Default: none. At most 64.
    #[serde(
        rename = "trustedCIDRs",
        default,
        skip_serializing_if = "Vec::is_empty"
    )]
    #[schemars(length(max = 64))]
    pub trusted_cidrs: Vec<Cidr>,
    /// Send X-Real-IP and X-Forwarded-Proto, -Host and -Port as well. Default: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub standard_headers: Option<bool>,
}

/// What becomes of X-Forwarded-For.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Xff {
    Drop,
    Append,
    Set,
}

/// How long clients may take.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GatewayTimeouts {
    /// From the first byte of a request to the end of its header section. Default: 10s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_header: Option<Duration>,
    /// How long an idle connection is kept. Default: 75s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_alive: Option<Duration>,
    /// How long running requests may take when a data plane stops. Default: 5m.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drain: Option<Duration>,
}

/// Bounds on what clients may send.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Caps {
    /// Size of a header section; a larger one is refused with 431. Default: 64Ki.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header_bytes: Option<Quantity>,
    /// Fields in a header section; more are refused with 431. Default: 100. 1 to 1000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub header_count: Option<u16>,
    /// Size of a request target; a larger one is refused with 414. Default: 8Ki.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url_bytes: Option<Quantity>,
    /// Connections at once, per data plane. Default: 100000. 1 to 10000000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000_000))]
    pub connections: Option<u32>,
    /// Requests on one connection before it is closed. Default: 10000. 1 to 10000000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000_000))]
    pub requests_per_connection: Option<u32>,
}

/// The bodies of answers that the gateway gives itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Errors {
    /// Bodies by status. Default: {"error":"CODE"}. At most 32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub templates: Vec<ErrorTemplate>,
}

/// A body for answers of one status.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ErrorTemplate {
    /// Status that the body is for. 400 to 599.
    #[schemars(range(min = 400, max = 599))]
    pub status: u16,
    /// Media type of the body. Default: application/json.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_type: Option<MediaType>,
    /// The body; {status}, {code}, {message} and {request_id} are replaced. At most 65536 characters.
    pub body: Document,
}

/// A database that parts of the gateway may use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel(&[(
    "(self.driver == 'memory') != has(self.url)",
    "url must be given, except when driver is memory",
)])))]
pub struct Store {
    /// Name of the store, unique in the list.
    pub name: Label,
    /// redis, postgres, mysql, sqlite or memory.
    pub driver: StoreDriver,
    /// Where it is, without password, such as redis://redis:6379/0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<StoreUrl>,
    /// The password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_ref: Option<SecretKeyRef>,
    /// Most entries, driver memory. Default: 10000. 1 to 100000000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000_000))]
    pub max_size: Option<u32>,
}

/// The kind of a database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum StoreDriver {
    #[default]
    Redis,
    Postgres,
    Mysql,
    Sqlite,
    Memory,
}

/// The Pods that serve.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel(&[(
    "!(has(self.replicas) && has(self.autoscaling))",
    "give replicas or autoscaling, not both: autoscaling.minReplicas is where it starts",
)])))]
pub struct DataPlane {
    /// Number of Pods. Default: 2. 0 to 1000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1000))]
    pub replicas: Option<u16>,
    /// Let the number of Pods follow the load.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub autoscaling: Option<Autoscaling>,
    /// The Service before the Pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<DataPlaneService>,
    /// Requests and limits of the container, as in a Pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::free_form")]
    pub resources: Option<serde_json::Value>,
    /// Fields of a Pod template that are laid over ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::free_form")]
    pub pod_template: Option<serde_json::Value>,
    /// Worker threads of a Pod. Default: 0, one for each CPU. 0 to 1024.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1024))]
    pub threads: Option<u16>,
}

/// Lets the number of Pods follow the load.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel(&[(
    "!has(self.minReplicas) || self.minReplicas <= self.maxReplicas",
    "minReplicas must not exceed maxReplicas",
)])))]
pub struct Autoscaling {
    /// Fewest Pods. Default: 2. 1 to 1000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub min_replicas: Option<u16>,
    /// Most Pods. 1 to 1000.
    #[schemars(range(min = 1, max = 1000))]
    pub max_replicas: u16,
    /// Use of CPU that is aimed at, in percent of what is requested. Default: 70. 1 to 100.
    #[serde(rename = "targetCPUPercent", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub target_cpu_percent: Option<u8>,
}

/// The Service before the Pods.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DataPlaneService {
    /// LoadBalancer, NodePort or ClusterIP. Default: LoadBalancer.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub type_: Option<ServiceType>,
    /// Annotations of the Service. At most 64.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "crate::schema::string_map")]
    pub annotations: BTreeMap<String, String>,
}

/// The type of a Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ServiceType {
    LoadBalancer,
    NodePort,
    ClusterIP,
}

/// What the controller reports about a GatewayConfig.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GatewayConfigStatus {
    /// The generation of the GatewayConfig that this status is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// What is true of it: Accepted, ResolvedRefs, Programmed, CertificateReady, Ready.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,
    /// What is true of each listener. At most 64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub listeners: Vec<ListenerStatus>,
}

/// What is true of a listener.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ListenerStatus {
    /// Name of the listener.
    pub name: Short,
    /// Number of Routes that attach.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attached_routes: Option<i32>,
    /// Accepted, ResolvedRefs, Programmed and CertificateReady of the listener.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,
}
