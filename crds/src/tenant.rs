//! Tenant: who owns which hosts and namespaces, and what applies to all of it.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    limits::{Budget, Concurrency, Limit, ModelAccess},
    plugin::PluginUse,
    refs::LabelSelector,
    schema::cel,
    status::Status,
    text::{DataKey, HostPattern, Label, Line, ObjectName, Short},
};

/// What a Tenant owns and what applies to it.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "diolkos.io",
    version = "v1alpha1",
    kind = "Tenant",
    plural = "tenants",
    status = "Status",
    derive = "PartialEq",
    derive = "Default",
    shortname = "ten",
    category = "diolkos",
    doc = "A Tenant owns host names and namespaces; its plugins, limits and budgets apply to all that is in them.",
    printcolumn(name = "Subdomain", type_ = "string", json_path = ".spec.subdomain"),
    printcolumn(name = "Tier", type_ = "string", json_path = ".spec.tier"),
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
pub struct TenantSpec {
    /// Name for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub display_name: Option<Line>,
    /// Label before GatewayConfig spec.baseDomain: with acme, acme.example.com belongs to the Tenant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subdomain: Option<Label>,
    /// Host names that belong to the Tenant; Routes of others do not serve them, whatever they say. Of two Tenants the older has what both claim. At most 256.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub hostnames: Vec<HostPattern>,
    /// Namespaces that belong to the Tenant, by their labels; of two Tenants the older has what both select. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<LabelSelector>,
    /// Service level, such as pro; a label in metrics and CEL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tier: Option<Short>,
    /// ConfigMap with the default limits of a tier.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tier_ref: Option<TierRef>,
    /// Plugins that Routes of the Tenant may and must use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plugins: Option<TenantPlugins>,
    /// Limits on all that passes for the Tenant. At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub limits: Vec<Limit>,
    /// Limits on each of its Consumers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_consumer: Option<PerConsumer>,
    /// How many requests may be under way at once. Default: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<Concurrency>,
    /// Amounts of money for a period. At most 8.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub budgets: Vec<Budget>,
    /// Models that may be used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub models: Option<ModelAccess>,
    /// Shared (data planes with others) or Dedicated (its own). Default: Shared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub isolation: Option<Isolation>,
}

/// The limits of a tier.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TierRef {
    /// Name of the ConfigMap.
    pub name: ObjectName,
    /// Namespace of the ConfigMap.
    pub namespace: Label,
    /// Key that holds a list of limits in YAML. Default: the value of tier.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<DataKey>,
}

/// Plugins of a Tenant.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TenantPlugins {
    /// Names or types of plugins that Routes of the Tenant may use. Default: all. At most 64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub allowed: Vec<Short>,
    /// Plugins that run for every request of the Tenant; no Route can switch them off. At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-validations" = cel(&[(
        "self.all(a, !has(a.name) || self.exists_one(b, has(b.name) && b.name == a.name))",
        "plugins.required[].name must be unique",
    )])))]
    pub required: Vec<PluginUse>,
}

/// What applies to each Consumer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PerConsumer {
    /// Limits on what passes for one Consumer. At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub limits: Vec<Limit>,
}

/// Whether data planes are shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Isolation {
    Shared,
    Dedicated,
}
