//! Logs, traces, metrics, reports and notifications.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    duration::Duration,
    header::Header,
    limits::StoreRef,
    refs::SecretKeyRef,
    schema::cel,
    text::{Cel, Label, Line, Path, Short, Url},
};

/// One line for each request.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel(&[(
    "!(has(self.format) && self.format == 'Template') || has(self.template)",
    "template must be given when format is Template",
)])))]
pub struct AccessLog {
    /// Whether lines are written. Default: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// JSON or Template. Default: JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<LogFormat>,
    /// The line, with placeholders such as {remote} and {status}; or tiny, short, common, combined.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<Line>,
    /// Share of the requests that are logged; failures always are. Default: 1.0. 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1))]
    pub sample: Option<f64>,
    /// CEL: only requests for which it is true, failures included; where it cannot be told, such as for a header that
    /// is not there, it is not. Default: all. There are: `request` with method, host, path, query, uri, scheme,
    /// protocol, size and headers; `response` with status, size, error and headers; client, listener, route, rule,
    /// upstream, attempts and duration_us, as in a line of JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter: Option<Cel>,
    /// Stdout or Stderr. Default: Stdout.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<LogTarget>,
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum LogFormat {
    #[serde(rename = "JSON")]
    Json,
    Template,
}

/// Where log lines go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum LogTarget {
    Stdout,
    Stderr,
}

/// One detailed record for each request.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel(&[
    ("(has(self.storage) && self.storage == 'File') == has(self.path)", "path must be given when storage is File, and only then"),
    ("(has(self.storage) && self.storage == 'Store') == has(self.storeRef)", "storeRef must be given when storage is Store, and only then"),
])))]
pub struct RequestLog {
    /// Whether records are written. Default: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Stdout, File or Store. Default: Stdout.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage: Option<LogStorage>,
    /// The file, for storage File.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<Line>,
    /// The store, for storage Store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store_ref: Option<StoreRef>,
    /// CEL: only requests for which it is true. Default: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter: Option<Cel>,
    /// Share of the requests that are recorded. Default: 1.0. 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1))]
    pub sample: Option<f64>,
}

/// Where records go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum LogStorage {
    Stdout,
    File,
    Store,
}

/// Spans of requests.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Tracing {
    /// Whether spans are sent. Default: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// The collector.
    pub otlp: Otlp,
    /// Share of the requests that are traced, when the client does not decide. Default: 0.01. 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1))]
    pub sample: Option<f64>,
}

/// A collector that speaks OTLP.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Otlp {
    /// URL of the collector.
    pub endpoint: Url,
    /// GRPC or HTTP. Default: GRPC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<OtlpProtocol>,
    /// Header fields that are sent along. At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub headers: Vec<Header>,
}

/// How a collector is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum OtlpProtocol {
    #[serde(rename = "GRPC")]
    Grpc,
    #[serde(rename = "HTTP")]
    Http,
}

/// Metrics of the gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Metrics {
    /// Whether metrics are served; everybody gets 401 otherwise. Default: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Path of the page on the admin port. GatewayConfigs that share data planes have one each there. Default: /metrics.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<Path>,
    /// Tokens that a scraper must show. Default: none is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth_ref: Option<MetricsAuth>,
    /// Labels that cost many series.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<MetricsLabels>,
    /// Most series for these labels; more go to one named __other__. Default: 2000. 0 to 1000000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub max_series: Option<u32>,
}

/// Tokens that a scraper must show.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MetricsAuth {
    /// Keys of Secrets with the tokens, each valid by itself. 1 to 4.
    #[schemars(length(min = 1, max = 4))]
    pub secret_key_ref: Vec<SecretKeyRef>,
}

/// Labels that cost many series.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MetricsLabels {
    /// The Route. Default: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<bool>,
    /// The Tenant that a Route is of. Default: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<bool>,
    /// The Consumer. Default: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consumer: Option<bool>,
    /// The upstream that a request was sent to last. Default: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream: Option<bool>,
}

/// Where the use of models is reported.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    /// Who gets the reports. At most 8.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub reporters: Vec<Reporter>,
}

/// One who gets reports on usage.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel(&[
    ("(self.type == 'Webhook') == has(self.webhook)", "webhook must be given when type is Webhook, and only then"),
    ("(self.type == 'OTLP') == has(self.otlp)", "otlp must be given when type is OTLP, and only then"),
    ("(self.type == 'File') == has(self.file)", "file must be given when type is File, and only then"),
    ("(self.type == 'Store') == has(self.storeRef)", "storeRef must be given when type is Store, and only then"),
])))]
pub struct Reporter {
    /// Name of the reporter, unique in the list.
    pub name: Label,
    /// Webhook, OTLP, File or Store.
    #[serde(rename = "type")]
    pub type_: ReporterType,
    /// Whether reports are sent. Default: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// A service that is called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook: Option<UsageWebhook>,
    /// A collector.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub otlp: Option<Otlp>,
    /// A file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<UsageFile>,
    /// A store, with the table usage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store_ref: Option<StoreRef>,
}

/// The kinds of reporter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ReporterType {
    #[default]
    Webhook,
    #[serde(rename = "OTLP")]
    Otlp,
    File,
    Store,
}

/// A service that is called with reports.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UsageWebhook {
    /// URL of the service; it gets a POST with JSON.
    pub url: Url,
    /// How long a call may take. Default: 5s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
    /// How often a failed call is repeated. Default: 3. 0 to 20.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 20))]
    pub retry: Option<u8>,
    /// Header fields of the call. At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub headers: Vec<Header>,
}

/// A file with one JSON report a line.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UsageFile {
    /// Path of the file.
    pub path: Line,
}

/// One who is told when something happens.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Notification {
    /// Whether notifications are sent. Default: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// URL that gets a POST.
    pub url: Url,
    /// JSON, CloudEvents, Slack, WeCom or DingTalk. Default: JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<NotificationFormat>,
    /// Events by name, such as backend_unhealthy, lets_encrypt, diff_config, restart, tls_validity, budget_threshold, quota_exhausted, route_quarantined. Default: all. At most 32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub events: Vec<Short>,
}

/// The form of a notification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum NotificationFormat {
    #[serde(rename = "JSON")]
    Json,
    CloudEvents,
    Slack,
    WeCom,
    DingTalk,
}
