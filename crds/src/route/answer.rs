//! Who answers: backends, or the gateway itself.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    header::{Header, HeaderEdits},
    schema::cel,
    text::{
        Document, GroupName, HostTemplate, KindName, Label, Line, MediaType, ObjectName, Path,
        Regex,
    },
};

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
    /// Put this in place of the prefix that the rule matched; ${team} stands for a group of hostnameRegex.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replace_prefix: Option<Path>,
    /// Put this in place of the whole path; ${team} stands for a group of hostnameRegex.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replace_full_path: Option<Path>,
    /// Search the path for a pattern and replace its first match.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub regex: Option<RegexRewrite>,
    /// Host that the backend sees; ${team} stands for a group of hostnameRegex. Default: the one that the client sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<HostTemplate>,
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
    /// Host of the new URL; ${team} stands for a group of hostnameRegex. Default: that of the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<HostTemplate>,
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
    /// Put this in place of the prefix that the rule matched; ${team} stands for a group of hostnameRegex.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replace_prefix: Option<Path>,
    /// Put this in place of the whole path; ${team} stands for a group of hostnameRegex.
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
    /// Media type of the body. Default: text/plain; charset=utf-8, and none where the body is empty.
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
