//! What a rule serves.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    schema::cel,
    text::{Cidr, CookieName, HeaderName, Line, Method, ModelPattern, Short},
};

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
    /// The path, or the expression that it must match as a whole. %2F stands for an escaped slash, which listeners refuse
    /// unless edge.escapedSlashes of the GatewayConfig is Keep.
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
