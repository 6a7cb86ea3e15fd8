//! ModelCatalog: models, their providers and prices.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    ai::Provider,
    refs::ObjectRef,
    schema::cel,
    status::Status,
    text::{Cel, Currency, Decimal, Short},
    timestamp::Timestamp,
};

/// The models that AI rules may use.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "diolkos.io",
    version = "v1alpha1",
    kind = "ModelCatalog",
    plural = "modelcatalogs",
    namespaced,
    status = "Status",
    derive = "PartialEq",
    derive = "Default",
    shortname = "mc",
    category = "diolkos",
    doc = "A ModelCatalog lists models with their providers, abilities and prices.",
    printcolumn(name = "Models", type_ = "string", json_path = ".spec.models[*].name"),
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
pub struct ModelCatalogSpec {
    /// The models. At most 256.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub models: Vec<Model>,
    /// Names that stand for several models. At most 64.
    #[serde(rename = "virtual", default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub virtual_: Vec<VirtualModel>,
    /// What happens when the price of a model is unknown: Allow, Deny or AssumeMax. Default: Allow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_unknown_price: Option<OnUnknownPrice>,
}

/// One model.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Model {
    /// Name by which clients ask for it, unique in the catalog.
    pub name: Short,
    /// Whether it may be used. Default: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Further names. At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub aliases: Vec<Short>,
    /// The Upstream that runs it.
    pub upstream_ref: ObjectRef,
    /// Who runs it. Default: that of the Upstream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<Provider>,
    /// Name that the provider knows. Default: name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider_model: Option<Short>,
    /// Tokens of a request and its answer together. 1 to 100000000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000_000))]
    pub context: Option<u32>,
    /// Most tokens of an answer. 1 to 100000000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000_000))]
    pub max_output: Option<u32>,
    /// What it can do: Chat, Completions, Embeddings, Tools, Vision, Audio, Images, Reasoning, JSONSchema, Rerank or words of your own. At most 32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub capabilities: Vec<Short>,
    /// What it costs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prices: Option<Prices>,
    /// When the provider takes it out of service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deprecation_date: Option<Timestamp>,
}

/// What a model costs. Amounts are decimal strings; what is not given costs nothing, cached input as input.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Prices {
    /// Currency of the amounts (ISO 4217). Default: USD.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub currency: Option<Currency>,
    /// Number of tokens that an amount is for: 1K or 1M. Default: 1M.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per: Option<Per>,
    /// Input tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<Decimal>,
    /// Output tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<Decimal>,
    /// Input tokens read from the provider's cache.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_read: Option<Decimal>,
    /// Input tokens written to the provider's cache for five minutes.
    #[serde(rename = "cacheWrite5m", skip_serializing_if = "Option::is_none")]
    pub cache_write_5m: Option<Decimal>,
    /// Input tokens written to the provider's cache for an hour.
    #[serde(rename = "cacheWrite1h", skip_serializing_if = "Option::is_none")]
    pub cache_write_1h: Option<Decimal>,
    /// Reasoning tokens. Default: as output.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<Decimal>,
    /// Audio input tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input_audio: Option<Decimal>,
    /// Audio output tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_audio: Option<Decimal>,
    /// One image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_image: Option<Decimal>,
    /// One second of audio.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_second: Option<Decimal>,
    /// One request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_request: Option<Decimal>,
    /// One search by the provider.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_search: Option<Decimal>,
    /// Other prices for long contexts. At most 8.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub tiers: Vec<PriceTier>,
    /// Factors for classes of service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_tier: Option<ServiceTier>,
    /// When the prices begin to hold. Default: always.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub valid_from: Option<Timestamp>,
    /// When they end. Default: never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub valid_to: Option<Timestamp>,
}

/// A number of tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Per {
    #[serde(rename = "1K")]
    Thousand,
    #[serde(rename = "1M")]
    Million,
}

/// Prices for long contexts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PriceTier {
    /// Holds for requests with more input tokens than this. 1 to 100000000.
    #[schemars(range(min = 1, max = 100_000_000))]
    pub context_over: u32,
    /// Input tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<Decimal>,
    /// Output tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<Decimal>,
    /// Input tokens read from the provider's cache.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_read: Option<Decimal>,
}

/// Factors on the prices, as decimal strings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceTier {
    /// Batch requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch: Option<Decimal>,
    /// Flexible requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flex: Option<Decimal>,
    /// Priority requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<Decimal>,
}

/// A name that stands for several models.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel(&[(
    "self.strategy == 'Condition' || self.targets.all(t, !has(t.when))",
    "targets[].when is for strategy Condition only",
)])))]
pub struct VirtualModel {
    /// Name by which clients ask for it, unique in the catalog.
    pub name: Short,
    /// How a target is chosen: Fallback (in order), Weighted, LatencyAware or Condition.
    pub strategy: VirtualStrategy,
    /// The models. 1 to 16.
    #[schemars(length(min = 1, max = 16))]
    pub targets: Vec<VirtualTarget>,
}

/// How a target is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum VirtualStrategy {
    #[default]
    Fallback,
    Weighted,
    LatencyAware,
    Condition,
}

/// One model behind a name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VirtualTarget {
    /// Name of a model of this catalog.
    pub model: Short,
    /// Share of the requests, strategy Weighted. Default: 1. 0 to 1000000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub weight: Option<u32>,
    /// CEL: chosen when true, strategy Condition. Default: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub when: Option<Cel>,
}

/// What happens when a price is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum OnUnknownPrice {
    Allow,
    Deny,
    AssumeMax,
}
