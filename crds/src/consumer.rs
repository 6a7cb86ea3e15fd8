//! Consumer: a caller, its keys and what it may use.

use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    limits::{Budget, Concurrency, Limit, LimitUnit, ModelAccess, Period},
    refs::{ObjectRef, SecretKeyRef},
    schema::cel,
    status::Condition,
    text::{Cidr, KeyPrefix, Label, Line, ObjectName, Short, TimeZone},
    timestamp::Timestamp,
};

/// Who a caller is and what it may use.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "diolkos.io",
    version = "v1alpha1",
    kind = "Consumer",
    plural = "consumers",
    namespaced,
    status = "ConsumerStatus",
    derive = "PartialEq",
    derive = "Default",
    shortname = "con",
    category = "diolkos",
    doc = "A Consumer is a caller: its keys, limits and what it may use.",
    printcolumn(name = "Subject", type_ = "string", json_path = ".spec.subject"),
    printcolumn(name = "Status", type_ = "string", json_path = ".spec.status"),
    printcolumn(name = "Expires", type_ = "string", json_path = ".spec.expiresAt"),
    printcolumn(
        name = "Accepted",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Accepted\")].status"
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
pub struct ConsumerSpec {
    /// Name for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub display_name: Option<Line>,
    /// Who the caller is for others, such as a user's id. Default: namespace/name of the Consumer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<Line>,
    /// Enabled or Disabled (every key is refused). Default: Enabled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<ConsumerState>,
    /// The Tenant of the caller. Default: the owner of the namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant_ref: Option<TenantRef>,
    /// Keys, each valid by itself; two at once let a caller change over. At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub keys: Vec<ConsumerKey>,
    /// How much may be used in a calendar period.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quota: Option<Quota>,
    /// Limits on what passes for the caller. At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub limits: Vec<Limit>,
    /// How many requests may be under way at once. Default: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<Concurrency>,
    /// Amounts of money for a period. At most 8.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub budgets: Vec<Budget>,
    /// Networks from which the caller may come. Default: all. At most 64.
    #[serde(
        rename = "allowedCIDRs",
        default,
        skip_serializing_if = "Vec::is_empty"
    )]
    #[schemars(length(max = 64))]
    pub allowed_cidrs: Vec<Cidr>,
    /// Networks from which the caller may not come; wins over allowedCIDRs. At most 64.
    #[serde(rename = "deniedCIDRs", default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub denied_cidrs: Vec<Cidr>,
    /// Models that the caller may use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub models: Option<ModelAccess>,
    /// Routes that the caller may use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub routes: Option<RouteAccess>,
    /// When all keys end. Default: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// Facts about the caller, visible in CEL and logs. At most 64.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "crate::schema::string_map")]
    pub metadata: BTreeMap<String, String>,
}

/// Whether a caller is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ConsumerState {
    Enabled,
    Disabled,
}

/// The Tenant of a caller.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TenantRef {
    /// Name of the Tenant.
    pub name: ObjectName,
}

/// One key of a caller: exactly one of secretRef and generate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel(&[("has(self.secretRef) != has(self.generate)", "give exactly one of secretRef and generate")])))]
pub struct ConsumerKey {
    /// Name of the key, unique in the Consumer.
    pub name: Label,
    /// Key of a Secret that holds the key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretKeyRef>,
    /// Let the controller make the key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generate: Option<GenerateKey>,
    /// When it begins to be valid. Default: at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Timestamp>,
    /// When it ends. Default: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
}

/// A key that the controller makes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GenerateKey {
    /// Text before the random part. Default: dk_.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix: Option<KeyPrefix>,
    /// Secret that is written, in the Consumer's namespace, under the key token.
    pub write_to: WriteTo,
}

/// A Secret that the controller writes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WriteTo {
    /// Name of the Secret.
    pub name: ObjectName,
}

/// How much may be used in a calendar period.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Quota {
    /// Whether the quota is in force. Default: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// What is counted: Requests, Tokens or Money (in nano units of the currency). Default: Requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<LimitUnit>,
    /// How much may be used in one period. 0 to 10^15.
    #[schemars(range(min = 0, max = 1_000_000_000_000_000_u64))]
    pub limit: u64,
    /// Hour, Day, Month or Never (it does not start anew). Default: Month.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub period: Option<Period>,
    /// Time zone that decides when a period begins. Default: UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timezone: Option<TimeZone>,
}

/// Routes that a caller may use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RouteAccess {
    /// The Routes. Default: all. At most 256.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub allow: Vec<ObjectRef>,
}

/// What the controller reports about a Consumer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConsumerStatus {
    /// The generation of the Consumer that this status is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// What is true of the Consumer: Accepted, ResolvedRefs, Ready.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "crate::status::conditions")]
    pub conditions: Vec<Condition>,
    /// What the caller has used in the current period.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<ConsumerUsage>,
}

/// What a caller has used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConsumerUsage {
    /// The period, such as 2026-11.
    pub period: Short,
    /// Tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<i64>,
    /// Requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests: Option<i64>,
    /// Cost in nano units of the currency.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost_nano: Option<i64>,
}
