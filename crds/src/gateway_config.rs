//! GatewayConfig: listeners and everything that holds for a gateway as a whole.

mod acme;
mod edge;
mod listener;
mod pods;

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
    refs::SecretKeyRef,
    schema::cel,
    status::{Condition, conditions},
    text::{Cidr, Document, Hostname, Label, MediaType, Short, StoreUrl},
};

pub use acme::*;
pub use edge::*;
pub use listener::*;
pub use pods::*;

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
        name = "Addresses",
        type_ = "string",
        json_path = ".status.addresses[*].value"
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
    /// Domain under which Tenants have their subdomain, such as example.com. It counts where there are listeners, and in the default.
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
    /// Forms of requests that servers read in different ways, and that are let in nevertheless. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub edge: Option<Edge>,
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
    /// Answers tell the revision of the configuration that they were given by, in x-diolkos-revision. Default: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision_header: Option<bool>,
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
    /// Data planes of its own, for a GatewayConfig with listeners: Pods and a Service in its namespace, NAME-diolkos-config,
    /// which go with it. The Service has the ports of its listeners; nobody else's listeners and Routes are sent to them, and
    /// ports are free that others use. From when this is set on, the shared data planes serve its listeners no more, and
    /// when it is removed they serve them again at once: clients come to another address either way. Without listeners it
    /// says what the data planes of Gateways are like that name this GatewayConfig. Default: the shared data planes serve
    /// it. `diolkos run` serves everything itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_plane: Option<DataPlane>,
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
    /// Size of a header section; a larger one is refused with 431. Default: 64Ki. 256 to 64Ki, else the nearest of these.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header_bytes: Option<Quantity>,
    /// Fields in a header section; more are refused with 431. Default: 100. 1 to 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub header_count: Option<u16>,
    /// Size of a request target; a larger one is refused with 414. Default: 8Ki. 256 to 64Ki, else the nearest of these.
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

/// What the controller reports about a GatewayConfig.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GatewayConfigStatus {
    /// The generation of the GatewayConfig that this status is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// What is true of it: Accepted, ResolvedRefs, Programmed, Ready.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,
    /// The configuration that the last change of an object made for the data planes of the GatewayConfig.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<Short>,
    /// The revision at which objects are held, while the configuration is rolled back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rolled_back_to: Option<Short>,
    /// Where data planes of its own are reached. At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub addresses: Vec<Address>,
    /// What is true of each listener, in the order of the spec; without listeners there, of those that are implied. At most 64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub listeners: Vec<ListenerStatus>,
}

/// Where data planes are reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Address {
    /// IPAddress or Hostname.
    #[serde(rename = "type")]
    pub type_: AddressType,
    /// The address or host name.
    pub value: Short,
}

/// The form of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AddressType {
    IPAddress,
    Hostname,
}

/// What is true of a listener.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ListenerStatus {
    /// Name of the listener.
    pub name: Short,
    /// Number of Routes of all kinds that attach to the listener, whether or not they are valid otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attached_routes: Option<i32>,
    /// What is true of the listener: Accepted, ResolvedRefs, Programmed and, where it terminates TLS, CertificateReady (every
    /// certificate is loaded and has not expired). CertificateReady does not enter Ready.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,
}
