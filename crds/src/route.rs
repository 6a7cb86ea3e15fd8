//! Route: which requests go where, and what happens to them on the way.

mod answer;
mod attempts;
mod matches;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    ai::RuleAi,
    header::HeaderEdits,
    limits::{Concurrency, Limit},
    plugin::PluginUse,
    quantity::Quantity,
    schema::cel,
    status::Condition,
    text::{GroupName, HostPattern, Label, Line, ObjectName, Regex, Short},
};

pub use answer::*;
pub use attempts::*;
pub use matches::*;

/// What a Route asks for.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "diolkos.io",
    version = "v1alpha1",
    kind = "Route",
    plural = "routes",
    namespaced,
    status = "RouteStatus",
    derive = "PartialEq",
    derive = "Default",
    shortname = "rt",
    category = "diolkos",
    doc = "A Route sends requests for some host names to backends, by rules.",
    printcolumn(name = "Hostnames", type_ = "string", json_path = ".spec.hostnames"),
    printcolumn(
        name = "Accepted",
        type_ = "string",
        json_path = ".status.parents[*].conditions[?(@.type==\"Accepted\")].status"
    ),
    printcolumn(
        name = "Programmed",
        type_ = "string",
        json_path = ".status.parents[*].conditions[?(@.type==\"Programmed\")].status"
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
    ("!has(self.hostnameRegex) || !has(self.hostnames) || size(self.hostnames) == 0", "hostnameRegex stands instead of hostnames: give one of them"),
    ("self.rules.all(a, !has(a.name) || self.rules.exists_one(b, has(b.name) && b.name == a.name))", "rules[].name must be unique in the Route"),
])))]
pub struct RouteSpec {
    /// Whether the Route serves. Default: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Where the Route attaches. Default: the GatewayConfig that is marked default. At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub parent_refs: Vec<ParentRef>,
    /// Host names that the Route serves, without port; "*.example.com" serves every name below example.com. Default: every host. At most 64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub hostnames: Vec<HostPattern>,
    /// A regular expression on the whole host, instead of hostnames; a named group (?<team>...) is ${team} in rewrites and redirects. It comes after exact and "*." host names and before Routes for any host; a longer expression before a shorter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname_regex: Option<Regex>,
    /// Plugins for all rules, before the rules' own. At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub plugins: Vec<PluginUse>,
    /// The rules; each request is served by the one that matches most precisely. 1 to 128.
    #[schemars(length(min = 1, max = 128))]
    pub rules: Vec<RouteRule>,
}

/// Where a Route attaches.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ParentRef {
    /// Kind of the parent: GatewayConfig, Gateway or ListenerSet. Default: GatewayConfig.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<ParentKind>,
    /// API group of the parent. Default: that of its kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<GroupName>,
    /// Name of the parent.
    pub name: ObjectName,
    /// Namespace of the parent. Default: that of the Route.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<Label>,
    /// Name of one listener of the parent. Default: all that fit the host names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listener: Option<Label>,
}

/// The kinds to which a Route may attach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ParentKind {
    GatewayConfig,
    Gateway,
    ListenerSet,
}

/// One rule: what it matches, what it does to the request and who answers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel(&[
    (
        "(has(self.redirect) ? 1 : 0) + (has(self.directResponse) ? 1 : 0) + ((has(self.backends) && size(self.backends) > 0) || has(self.ai) ? 1 : 0) <= 1",
        "give only one of backends (or ai), redirect and directResponse",
    ),
    (
        "has(self.redirect) || has(self.directResponse) || (has(self.backends) && size(self.backends) > 0) || has(self.ai) || (has(self.plugins) && size(self.plugins) > 0)",
        "nothing answers: give one of backends, redirect and directResponse (or ai, or a plugin that answers)",
    ),
    (
        "!has(self.rewrite) || !(has(self.redirect) || has(self.directResponse))",
        "rewrite is for requests that go to backends, not beside redirect or directResponse",
    ),
])))]
pub struct RouteRule {
    /// Name of the rule, unique in the Route; it appears in logs, metrics and explain. Default: its place in the list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<Label>,
    /// What the rule serves: a request that fits any of these. Default: every request. At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub matches: Vec<RouteMatch>,
    /// Stands above the computed order of rules; higher wins. Default: 0. -1000000000 to 1000000000.
    #[schemars(range(min = -1_000_000_000, max = 1_000_000_000))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub precedence: Option<i32>,
    /// Changes to path and host before the request goes to the backend.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rewrite: Option<Rewrite>,
    /// Changes to the header fields of the request on its way to the backend.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_headers: Option<HeaderEdits>,
    /// Changes to the header fields of the response on its way to the client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_headers: Option<HeaderEdits>,
    /// Who serves the request: chosen by weight in the lowest priority tier that can serve. At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub backends: Vec<Backend>,
    /// Answer with a redirect, instead of backends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redirect: Option<Redirect>,
    /// Answer with a fixed response, instead of backends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub direct_response: Option<DirectResponse>,
    /// Who gets a copy of the request; their answers are thrown away. At most 4.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4))]
    pub mirrors: Vec<Mirror>,
    /// How long each part of an exchange may take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeouts: Option<RouteTimeouts>,
    /// When and how a failed attempt is repeated. Default: one more try after a connect failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// Keeps a client on the endpoint that served it first, of whichever backend that is: of one with a higher priority
    /// only while none with a lower one can serve.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_affinity: Option<SessionAffinity>,
    /// Largest request body; a larger one is refused with 413. Default: 10Mi, with ai 32Mi.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_request_body: Option<Quantity>,
    /// Limits on what passes through the rule. At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub limits: Vec<Limit>,
    /// How many requests of the rule may be under way at once. Default: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<Concurrency>,
    /// Plugins of the rule, after those of the Route. At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub plugins: Vec<PluginUse>,
    /// Translate gRPC-Web from browsers (`application/grpc-web` and `application/grpc-web-text`) to gRPC and back; other requests
    /// pass as they are. The backend must speak HTTP/2. For pages of another origin the plugin CORS must let the browser see
    /// `grpc-status` and `grpc-message` (`exposeHeaders`). Default: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grpc_web: Option<bool>,
    /// Makes this an AI rule: requests and answers are understood as calls of a model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ai: Option<RuleAi>,
}

/// What the controller reports about a Route.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RouteStatus {
    /// The generation of the Route that this status is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// What is true of the Route as a whole: Ready, BackendsHealthy, Quarantined.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "crate::status::conditions")]
    pub conditions: Vec<Condition>,
    /// What is true of the Route at each of its parents. At most 32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub parents: Vec<RouteParentStatus>,
    /// What really applies to requests of this Route, with its origin. Of a Route that is quarantined, what applies with the
    /// version that serves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effective: Option<Effective>,
}

/// What is true of a Route at one parent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RouteParentStatus {
    /// The parent, as the Route names it.
    pub parent_ref: ParentRef,
    /// The controller that wrote this entry; diolkos.io/controller for ours.
    #[schemars(length(min = 1, max = 253))]
    pub controller_name: String,
    /// Accepted, ResolvedRefs and Programmed at this parent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "crate::status::conditions")]
    pub conditions: Vec<Condition>,
}

/// What really applies to requests of a Route.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Effective {
    /// Plugins in the order in which they run: by stage, then by priority. One that runs in two stages stands there twice; of a
    /// rule that answers 500 because it cannot be honoured, none runs. At most 256.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub plugins: Vec<EffectivePlugin>,
    /// Limits in the order in which they are judged. At most 256.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub limits: Vec<EffectiveLimit>,
}

/// A plugin that applies, with its origin.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EffectivePlugin {
    /// Stage in which it runs: PreRequest, PostRequest, PreResponse or PostResponse.
    pub stage: Short,
    /// Its name: of the Plugin, or of the entry where it stands inline.
    pub name: Line,
    /// Who asks for it: route/NAME for all rules, rule/NAME (or its place in the list, from 0) for one, tenant/NAME.
    pub from: Line,
}

/// A limit that applies, with its origin.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EffectiveLimit {
    /// Its name.
    pub name: Line,
    /// Who asks for it, such as tenant/acme.
    pub from: Line,
}
