//! Limits, queues and budgets: one shape at every level.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::{
    duration::Duration,
    refs::LabelSelector,
    schema::cel,
    text::{Cel, Cidr, CookieName, Currency, Decimal, HeaderName, Label, Short, TimeZone},
};

/// A limit on what passes in a window of time, counted per key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel(&[
    ("!has(self.burst) || (has(self.algorithm) && self.algorithm == 'TokenBucket')", "burst is for algorithm TokenBucket only"),
    ("(has(self.sharing) && self.sharing == 'Redis') == has(self.storeRef)", "storeRef must be given when sharing is Redis, and only then"),
])))]
pub struct Limit {
    /// Name of the limit, unique in its list; it appears in metrics and in x-diolkos-limit-scope.
    pub name: Label,
    /// Whether the limit is in force. Default: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// What is counted: Requests, Tokens or Money (in nano units of the currency). Default: Requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<LimitUnit>,
    /// What makes a bucket: Consumer, Tenant, Route, Rule, ClientIP, Host, {header: x}, {cookie: c}, {query: q}, {claim: c}, {cel: "..."}. Default: none, one bucket for all. At most 8.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub key: Vec<KeyPart>,
    /// How time is cut: FixedWindow (aligned to the epoch), SlidingWindow or TokenBucket. Default: FixedWindow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub algorithm: Option<LimitAlgorithm>,
    /// How much may pass in one window; for TokenBucket the refill per window. 0 lets nothing pass. At most 10^15.
    #[schemars(range(min = 0, max = 1_000_000_000_000_000_u64))]
    pub limit: u64,
    /// Length of a window, such as 1m.
    pub window: Duration,
    /// Size of the bucket, TokenBucket only. Default: limit. 1 to 10^15.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000_000_000_u64))]
    pub burst: Option<u64>,
    /// What happens when a part of the key is absent: Allow, Deny or SharedBucket. Default: Allow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_missing_key: Option<OnMissingKey>,
    /// Where the count lives: Local (each data plane its own), Leased (exact, shares granted by the controller) or Redis. Default: Local.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sharing: Option<LimitSharing>,
    /// Name of a store in GatewayConfig spec.stores, for sharing Redis.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store_ref: Option<StoreRef>,
    /// What happens when the shared count cannot be reached: LocalShare, Allow or Deny. Default: LocalShare.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_store_down: Option<OnStoreDown>,
    /// CEL: the limit counts only requests for which this is true. Default: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub when: Option<Cel>,
    /// Count and report, but refuse nothing. Default: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shadow: Option<bool>,
    /// Client addresses that are never limited. At most 64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub whitelist: Vec<Cidr>,
}

/// What a [`Limit`] counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum LimitUnit {
    Requests,
    Tokens,
    Money,
}

/// How a [`Limit`] cuts time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum LimitAlgorithm {
    FixedWindow,
    SlidingWindow,
    TokenBucket,
}

/// What happens to a request that lacks a part of the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum OnMissingKey {
    Allow,
    Deny,
    SharedBucket,
}

/// Where the count of a [`Limit`] lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum LimitSharing {
    Local,
    Leased,
    Redis,
}

/// What happens when a shared count cannot be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum OnStoreDown {
    LocalShare,
    Allow,
    Deny,
}

/// The name of a store in `GatewayConfig.spec.stores`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StoreRef {
    /// Name of the store.
    pub name: Label,
}

/// One part of the key that chooses a bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum KeyPart {
    /// A property of every request, by its name.
    Named(NamedKey),
    /// A value from the request.
    Of(KeyOf),
}

/// A property of every request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum NamedKey {
    Consumer,
    Tenant,
    Route,
    Rule,
    ClientIP,
    Host,
}

/// A value from the request: exactly one of the fields is set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyOf {
    /// Value of a request header field.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header: Option<HeaderName>,
    /// Value of a cookie.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cookie: Option<CookieName>,
    /// Value of a query parameter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub query: Option<Short>,
    /// Value of a claim of the caller's token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claim: Option<Short>,
    /// Result of a CEL expression.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cel: Option<Cel>,
}

/// A structural schema cannot say "a string or an object", so the type is left open; the pattern binds
/// strings only, the counts of properties bind objects only.
impl JsonSchema for KeyPart {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "KeyPart".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "x-kubernetes-preserve-unknown-fields": true,
            "maxLength": 16,
            "pattern": "^(Consumer|Tenant|Route|Rule|ClientIP|Host)$",
            "minProperties": 1,
            "maxProperties": 1,
            "anyOf": [
                { "required": ["header"] }, { "required": ["cookie"] }, { "required": ["query"] },
                { "required": ["claim"] }, { "required": ["cel"] },
            ],
        })
    }
}

impl fmt::Display for NamedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A limit on what runs at the same time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Concurrency {
    /// Whether the limit is in force. Default: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// How many requests may be under way at once; one more is refused with 503. 1 to 10000000.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub max: u32,
    /// Where a request waits for its turn. Default: no queue, refused at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<Queue>,
}

/// A bounded queue.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Queue {
    /// How many requests may wait; one more is refused with 429. 1 to 1000000.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub depth: u32,
    /// How long a request waits before it is refused with 503. Default: 5s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
}

/// An amount of money for a calendar period.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Budget {
    /// Name of the budget, unique in its list.
    pub name: Label,
    /// Whether the budget is in force. Default: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// The amount, as a decimal string such as "500.00".
    pub amount: Decimal,
    /// Currency of the amount (ISO 4217). Default: USD.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub currency: Option<Currency>,
    /// Calendar period after which the budget starts anew: Hour, Day, Month or Never. Default: Month.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub period: Option<Period>,
    /// Time zone that decides when a period begins. Default: UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timezone: Option<TimeZone>,
    /// Percentages of the amount at which a notification is sent, 1-100 each. Default: 50, 80, 100. At most 8.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), inner(range(min = 1, max = 100)))]
    pub thresholds: Vec<u8>,
    /// What happens when it is used up: Reject (429), Throttle or Downgrade (to downgradeTo). Default: Reject.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action: Option<BudgetAction>,
    /// The model that serves instead, for action Downgrade.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub downgrade_to: Option<Short>,
    /// Consumers who share this budget, by their labels. Default: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
}

/// What happens when a [`Budget`] is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum BudgetAction {
    Reject,
    Downgrade,
    Throttle,
}

/// A period of the calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Period {
    Hour,
    Day,
    Month,
    Never,
}

/// Names that are allowed and denied; a denial wins. `*` at an end or alone stands for anything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelAccess {
    /// Models that may be used, such as "gpt-4o*". Default: all. At most 256.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub allow: Vec<crate::text::ModelPattern>,
    /// Models that may not be used; wins over allow. At most 256.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub deny: Vec<crate::text::ModelPattern>,
}
