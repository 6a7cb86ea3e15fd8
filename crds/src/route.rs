//! Route: which requests go where, and what happens to them on the way.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    ai::RuleAi,
    duration::Duration,
    header::{Header, HeaderEdits},
    limits::{Concurrency, Limit},
    plugin::PluginUse,
    quantity::Quantity,
    schema::cel,
    status::Condition,
    text::{
        Cidr, CookieName, Document, GroupName, HeaderName, HostPattern, Hostname, KindName, Label,
        Line, MediaType, Method, ModelPattern, ObjectName, Path, Regex, RetryOn, Short,
    },
};

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
    /// A regular expression on the whole host, instead of hostnames; a named group (?<team>...) is ${team} in rewrites.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname_regex: Option<Regex>,
    /// Plugins for all rules, before the rules' own. At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub plugins: Vec<PluginUse>,
    /// The rules; each request is served by the one that matches most precisely. 1 to 64.
    #[schemars(length(min = 1, max = 64))]
    pub rules: Vec<RouteRule>,
}

/// Where a Route attaches.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ParentRef {
    /// Kind of the parent: GatewayConfig or Gateway. Default: GatewayConfig.
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
    /// Keeps a client on the endpoint that served it first.
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
    /// Translate gRPC-Web from browsers to gRPC and back. Default: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grpc_web: Option<bool>,
    /// Makes this an AI rule: requests and answers are understood as calls of a model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ai: Option<RuleAi>,
}

/// What a request must look like. All parts that are given must fit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RouteMatch {
    /// The path. Default: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathMatch>,
    /// The method: any of these. Default: any. At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub methods: Vec<Method>,
    /// Header fields, all of which must fit. At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub headers: Vec<HeaderMatch>,
    /// Query parameters, all of which must fit; of a repeated one the first counts. At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub query_params: Vec<QueryMatch>,
    /// Cookies, all of which must fit. At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub cookies: Vec<CookieMatch>,
    /// Networks that the client's address must be in: any of these. Default: any. At most 64.
    #[schemars(rename = "clientCIDRs", length(max = 64))]
    #[serde(rename = "clientCIDRs", default, skip_serializing_if = "Vec::is_empty")]
    pub client_cidrs: Vec<Cidr>,
    /// Name of the model as the client sent it, AI rules only; "gpt-4o*" and "*-mini" match by prefix and suffix.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelPattern>,
}

/// What the path must be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel(&[
    (
        "(has(self.type) && self.type == 'RegularExpression') || self.value.startsWith('/')",
        "value must begin with / when type is PathPrefix or Exact",
    ),
    (
        "(has(self.type) && self.type == 'RegularExpression') || !(self.value.contains('?') || self.value.contains('#') || self.value.contains('//'))",
        "value must not contain ?, # or // when type is PathPrefix or Exact",
    ),
])))]
pub struct PathMatch {
    /// PathPrefix (by whole segments: /a matches /a and /a/b, not /ab), Exact, or RegularExpression (on the whole path). Default: PathPrefix.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub type_: Option<PathMatchType>,
    /// The path, or the expression that it must match as a whole.
    #[schemars(length(min = 1, max = 1024))]
    pub value: String,
}

/// How a path is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum PathMatchType {
    PathPrefix,
    Exact,
    RegularExpression,
}

/// How a header field, query parameter or cookie is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ValueMatchType {
    Exact,
    Prefix,
    RegularExpression,
    Present,
    Absent,
}

/// What a header field must be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel(VALUE_RULES)))]
pub struct HeaderMatch {
    /// Name of the field; case does not matter.
    pub name: HeaderName,
    /// Exact, Prefix, RegularExpression (on the whole value), Present or Absent. Default: Exact.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub type_: Option<ValueMatchType>,
    /// The value to compare with; none for Present and Absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<Line>,
}

/// What a query parameter must be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel(VALUE_RULES)))]
pub struct QueryMatch {
    /// Name of the parameter, decoded; case matters.
    pub name: Short,
    /// Exact, Prefix, RegularExpression (on the whole value), Present or Absent. Default: Exact.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub type_: Option<ValueMatchType>,
    /// The value to compare with, decoded; none for Present and Absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<Line>,
}

/// What a cookie must be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel(VALUE_RULES)))]
pub struct CookieMatch {
    /// Name of the cookie; case matters.
    pub name: CookieName,
    /// Exact, Prefix, RegularExpression (on the whole value), Present or Absent. Default: Exact.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub type_: Option<ValueMatchType>,
    /// The value to compare with; none for Present and Absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<Line>,
}

const VALUE_RULES: &[(&str, &str)] = &[(
    "(has(self.type) && self.type in ['Present', 'Absent']) != has(self.value)",
    "value must be given, except when type is Present or Absent",
)];

/// Changes to path and host on the way to the backend; at most one change of the path.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel(&[(
    "(has(self.stripPrefix) && self.stripPrefix ? 1 : 0) + (has(self.replacePrefix) ? 1 : 0) + (has(self.replaceFullPath) ? 1 : 0) + (has(self.regex) ? 1 : 0) <= 1",
    "give only one of stripPrefix, replacePrefix, replaceFullPath and regex",
)])))]
pub struct Rewrite {
    /// Cut off the prefix that the rule matched; nothing left becomes "/". Default: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strip_prefix: Option<bool>,
    /// Put this in place of the prefix that the rule matched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replace_prefix: Option<Path>,
    /// Put this in place of the whole path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replace_full_path: Option<Path>,
    /// Search the path for a pattern and replace its first match.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub regex: Option<RegexRewrite>,
    /// Host that the backend sees. Default: the one that the client sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<Line>,
}

/// A search in the path and what stands in place of what was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RegexRewrite {
    /// Regular expression; its first match in the path is replaced.
    pub pattern: Regex,
    /// The replacement; $1 or ${name} stand for groups of the pattern or of hostnameRegex.
    pub replacement: Line,
}

/// Who serves a request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel(BACKEND_RULES)))]
pub struct Backend {
    /// Kind of the backend: Service or Upstream. Default: Service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<KindName>,
    /// API group of the backend. Default: that of its kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<GroupName>,
    /// Name of the backend.
    pub name: ObjectName,
    /// Namespace of the backend. Default: that of the Route; another one needs a ReferenceGrant there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<Label>,
    /// Port of the Service, 1-65535; none for an Upstream.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<u16>,
    /// Share of the requests within its tier; 0 takes none. Default: 1. 0 to 1000000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub weight: Option<u32>,
    /// Tier: a higher one serves only when no lower one can. Default: 0. 0 to 15.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 15))]
    pub priority: Option<u8>,
    /// Changes to the header fields of requests to this backend, after those of the rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_headers: Option<HeaderEdits>,
}

const BACKEND_RULES: &[(&str, &str)] = &[
    (
        "(has(self.kind) && self.kind != 'Service') || has(self.port)",
        "port must be given when kind is Service",
    ),
    (
        "!has(self.kind) || self.kind in ['Service', 'Upstream']",
        "kind must be Service or Upstream",
    ),
];

/// Who gets a copy of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel(BACKEND_RULES)))]
pub struct Mirror {
    /// Kind of the backend: Service or Upstream. Default: Service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<KindName>,
    /// API group of the backend. Default: that of its kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<GroupName>,
    /// Name of the backend.
    pub name: ObjectName,
    /// Namespace of the backend. Default: that of the Route; another one needs a ReferenceGrant there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<Label>,
    /// Port of the Service, 1-65535; none for an Upstream.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<u16>,
    /// Share of the requests that are copied, in percent. Default: 100. 0 to 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub percent: Option<u8>,
}

/// An answer that sends the client elsewhere. What is not given stays as the client sent it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Redirect {
    /// Scheme of the new URL: http or https. Default: that of the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheme: Option<Scheme>,
    /// Host of the new URL. Default: that of the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<Hostname>,
    /// Port of the new URL, 1-65535. Default: with a scheme that scheme's own, else that of the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<u16>,
    /// Path of the new URL. Default: that of the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<RedirectPath>,
    /// Status of the answer: 301, 302, 303, 307 or 308. Default: 302.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = [301, 302, 303, 307, 308]))]
    pub status_code: Option<u16>,
}

/// The scheme of a URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    Http,
    Https,
}

/// The path of a redirect: exactly one of the fields.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel(&[(
    "has(self.replacePrefix) != has(self.replaceFullPath)",
    "give one of replacePrefix and replaceFullPath",
)])))]
pub struct RedirectPath {
    /// Put this in place of the prefix that the rule matched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replace_prefix: Option<Path>,
    /// Put this in place of the whole path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replace_full_path: Option<Path>,
}

/// An answer that the gateway gives itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DirectResponse {
    /// Status of the answer. 200 to 599.
    #[schemars(range(min = 200, max = 599))]
    pub status: u16,
    /// Media type of the body. Default: text/plain; charset=utf-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_type: Option<MediaType>,
    /// Body of the answer, at most 65536 characters. Default: empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<Document>,
    /// Further header fields. At most 32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub headers: Vec<Header>,
}

/// How long each part of an exchange may take. `0s` switches a timeout off.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RouteTimeouts {
    /// Connecting to an endpoint, TLS included. Default: that of the Upstream, else 1s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect: Option<Duration>,
    /// The whole exchange, retries included; an event stream only up to its response head. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<Duration>,
    /// The same for one attempt. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend_request: Option<Duration>,
    /// From the end of the request to the response head, of one attempt. Default: 60s, with ai 300s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_byte: Option<Duration>,
    /// Longest gap between two pieces of a response body. Default: 90s, with ai 60s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream_idle: Option<Duration>,
    /// From the response head to the first event of an event stream. Default: 300s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_event: Option<Duration>,
}

/// When and how a failed attempt is repeated.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Retry {
    /// Whether anything is repeated at all; false also forbids the try after a connect failure. Default: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// How many times at most, after the first attempt. Default: 3. 0 to 10.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10))]
    pub attempts: Option<u8>,
    /// How long to wait before each repetition.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backoff: Option<Backoff>,
    /// What is repeated: ConnectFailure, Reset, Timeout, ReusedConnection, a status such as "503" or a range such as "502-504"; NonIdempotent adds methods such as POST. Default: ConnectFailure, ReusedConnection, Reset, "502-504". At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub on: Vec<RetryOn>,
    /// How long one attempt may take. Default: timeouts.backendRequest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_try_timeout: Option<Duration>,
    /// Repetitions at once, in percent of the requests under way; 10 a second are always allowed. Default: 20. 0 to 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub budget_percent: Option<u8>,
}

/// How long to wait before each repetition.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Backoff {
    /// Before the first repetition. Default: 1s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub initial: Option<Duration>,
    /// At most. Default: 10s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<Duration>,
    /// Factor from one repetition to the next. Default: 2.0. 1 to 10.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10))]
    pub multiplier: Option<f64>,
    /// Wait a random time up to the computed one, so that clients spread. Default: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jitter: Option<bool>,
}

/// Keeps a client on the endpoint that served it first: exactly one of the fields.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel(&[("has(self.cookie) != has(self.header)", "give one of cookie and header")])))]
pub struct SessionAffinity {
    /// By a cookie that the gateway sets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cookie: Option<AffinityCookie>,
    /// By the value of a request header field.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header: Option<AffinityHeader>,
}

/// The cookie of a session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AffinityCookie {
    /// Name of the cookie.
    pub name: CookieName,
    /// How long it lives. Default: until the browser closes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl: Option<Duration>,
    /// Path for which it is sent. Default: /.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<Path>,
    /// Send it over HTTPS only. Default: true on HTTPS listeners.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secure: Option<bool>,
    /// When it is sent across sites: Strict, Lax or None. Default: Lax.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub same_site: Option<SameSite>,
}

/// The SameSite attribute of a cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum SameSite {
    Strict,
    Lax,
    None,
}

/// The header field of a session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AffinityHeader {
    /// Name of the field.
    pub name: HeaderName,
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
    /// What really applies to requests of this Route, with its origin.
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
    /// Plugins in the order in which they run. At most 256.
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
    /// Stage in which it runs.
    pub stage: Short,
    /// Its name.
    pub name: Line,
    /// Who asks for it, such as tenant/acme.
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
