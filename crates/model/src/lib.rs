//! What the gateway does, with no Kubernetes and no proxy in it.
//!
//! The control plane translates objects into a [`Model`]; `snapshot` carries it over the wire; the data plane compiles
//! it into its table. Everything here is parsed: a value that exists is valid, so that no later stage parses strings
//! or meets a half-checked one. This crate imports nothing of ours.
//!
//! Reading order: [`Model`] below, then [`Route`], [`Upstream`], [`EndpointShard`], [`Listener`], [`Plugin`], and
//! [`Rank`], the order in which matches win.

pub mod balance;
pub mod captures;
pub mod coding;
pub mod duration;
pub mod edge;
pub mod endpoint;
pub mod endpoint_filter;
pub mod expression;
pub mod header_edits;
pub mod headers;
pub mod hostname;
pub mod limits;
pub mod listener;
pub mod location;
pub mod log_filter;
pub mod log_template;
pub mod matching;
pub mod origin;
pub mod path;
pub mod pattern;
pub mod plugin;
pub mod quantity;
pub mod query;
pub mod rank;
pub mod route;
pub mod secret;
pub mod tenant;
pub mod tls;
pub mod upstream;

use std::collections::BTreeMap;

pub use balance::{
    ActiveHealth, Balance, BalancePolicy, Check, CircuitBreaker, Concurrency, ConsistentHash,
    HashSource, HashTable, Health, PassiveHealth,
};
pub use coding::{AcceptedCodings, Coding};
pub use edge::{Edge, EscapedSlashes, Underscores};
pub use endpoint::{Endpoint, EndpointShard};
pub use header_edits::HeaderEdits;
pub use headers::Headers;
pub use hostname::HostPattern;
pub use listener::{
    AccessLog, ErrorTemplate, Forwarded, ForwardedFor, Listener, ListenerProtocol, LogFormat,
    Metrics, Tracing,
};
pub use location::{Elsewhere, Place};
pub use matching::{CookieMatch, HeaderMatch, Match, Method, QueryMatch, ValueMatch};
pub use origin::ObjectRef;
pub use path::PathMatch;
pub use plugin::{FailurePolicy, Plugin, PluginUse, Stage};
pub use rank::{HostRank, PathRank, Rank};
pub use route::{
    Action, Affinity, AffinityCookie, Backend, DirectResponse, Mirror, PathRewrite, Redirect,
    RedirectPath, Retry, RetryOn, Rewrite, Route, Rule, SameSite, Target, Timeouts,
};
pub use secret::Secret;
pub use smol_str::SmolStr;
pub use tenant::Tenant;
pub use tls::{Certificate, ClientValidation, ListenerTls, TlsVersion, UpstreamTls};
pub use upstream::{
    Connection, CredentialHeader, Discovery, DiscoverySource, DnsSource, EndpointSource,
    HttpSource, ProxyProtocol, StaticEndpoint, Upstream, UpstreamProtocol,
};

/// Everything a data plane needs to serve, by resource key.
///
/// Each map is one section of a snapshot. The maps are ordered so that equal inputs give equal bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Model {
    /// Keyed `NAMESPACE/CONFIG/LISTENER`.
    pub listeners: BTreeMap<String, Listener>,
    /// Keyed `NAMESPACE/NAME` of the Route object.
    pub routes: BTreeMap<String, Route>,
    /// Keyed `Upstream/NAMESPACE/NAME` or `Service/NAMESPACE/NAME:PORT`.
    pub upstreams: BTreeMap<String, Upstream>,
    /// Keyed `NAMESPACE/SERVICE:PORT/SLICE`.
    pub shards: BTreeMap<String, EndpointShard>,
    /// Keyed `NAMESPACE/NAME` of the Plugin object.
    pub plugins: BTreeMap<String, Plugin>,
    /// Keyed `NAMESPACE/NAME` of the Secret.
    pub certificates: BTreeMap<String, Certificate>,
    /// Keyed by the name of the Tenant object.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tenants: BTreeMap<String, Tenant>,
}
