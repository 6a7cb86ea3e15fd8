//! The `ai` blocks of Route and Upstream.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    refs::ObjectRef,
    text::{FailoverOn, Path, Short},
};

/// How calls of a model are served by a rule.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RuleAi {
    /// Protocol that the client speaks: Auto (by path), OpenAI, Anthropic, Gemini or Cohere. Default: Auto.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub front: Option<Front>,
    /// The ModelCatalog that names the models. Default: backends alone decide.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub catalog_ref: Option<ObjectRef>,
    /// Model that is used whatever the client asks for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_override: Option<Short>,
    /// When another model or provider is tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failover: Option<Failover>,
    /// How the use of tokens is found out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<UsageRule>,
    /// Upper bound of the tokens in an answer. Default: that of the catalog. 1 to 10000000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000_000))]
    pub max_output_tokens: Option<u32>,
}

/// A protocol on the client's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Front {
    Auto,
    OpenAI,
    Anthropic,
    Gemini,
    Cohere,
}

/// When another model or provider is tried.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = crate::schema::on_may_be_true)]
pub struct Failover {
    /// What leads to the next target: ConnectFailure, RateLimited, Overloaded, Timeout, a status such as "503" or a class such as "5xx". Default: all of these. At most 16.
    #[serde(alias = "true", default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub on: Vec<FailoverOn>,
    /// Attempts in all, the first included. Default: 3. 1 to 10.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10))]
    pub max_attempts: Option<u8>,
    /// Longest wait that a provider may ask for; a longer one leads to the next target. Default: 10s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_wait: Option<crate::Duration>,
    /// Whether an answer that broke off is begun again: Never, or Restart (for buffered clients only). Default: Never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resume: Option<Resume>,
}

/// Whether an answer that broke off is begun again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Resume {
    Never,
    Restart,
}

/// How the use of tokens is found out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UsageRule {
    /// Ask providers for usage even if the client does not. Default: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub required: Option<bool>,
    /// Count tokens ourselves when a provider reports none. Default: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub estimate_when_missing: Option<bool>,
}

/// A company or server that runs models.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Provider {
    OpenAI,
    Anthropic,
    Azure,
    Bedrock,
    Gemini,
    Vertex,
    Cohere,
    Mistral,
    Groq,
    DeepSeek,
    Together,
    Ollama,
    #[serde(rename = "VLLM")]
    Vllm,
    Custom,
}

/// A request format on the provider's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Format {
    ChatCompletions,
    Responses,
    Messages,
    Embeddings,
    GenerateContent,
    Converse,
    InvokeModel,
    Rerank,
}

/// How an Upstream that runs models is spoken to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UpstreamAi {
    /// Who runs the models: OpenAI, Anthropic, Azure, Bedrock, Gemini, Vertex, Cohere, Mistral, Groq, DeepSeek, Together, Ollama, VLLM or Custom. Default: Custom.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<Provider>,
    /// Request formats that it understands: ChatCompletions, Responses, Messages, Embeddings, GenerateContent, Converse, InvokeModel, Rerank. Default: those of the provider. At most 8.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub formats: Vec<Format>,
    /// Path before the operation. Default: that of the provider.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_prefix: Option<Path>,
    /// Deviations from the format.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quirks: Option<Quirks>,
}

/// Deviations of a provider from the format that it claims.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Quirks {
    /// Streams report usage when asked to. Default: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream_usage: Option<bool>,
    /// Name of the field for the most tokens in an answer. Default: max_completion_tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_tokens_field: Option<Short>,
    /// Name of the field that holds the reasoning. Default: reasoning_content.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning_field: Option<Short>,
    /// JSON schemas for answers are understood. Default: true.
    #[serde(rename = "supportsJSONSchema", skip_serializing_if = "Option::is_none")]
    pub supports_json_schema: Option<bool>,
    /// tool_choice must be sent beside tools. Default: false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_choice_required: Option<bool>,
}
