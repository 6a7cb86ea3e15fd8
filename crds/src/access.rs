//! Authentication: who a caller is and how that is found out.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    duration::Duration,
    header::Header,
    plugin::FailurePolicy,
    refs::{ConfigMapKeyRef, ObjectRef, SecretKeyRef},
    schema::cel,
    text::{Cel, CookieName, HeaderName, Label, Line, Method, Short, Url},
};

/// How callers prove who they are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Auth {
    /// Whether callers must prove who they are. Default: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// FirstMatch (one provider that accepts is enough) or All (each must accept). Default: FirstMatch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<AuthMode>,
    /// Where the credential stands, tried in order. Default: Authorization with scheme Bearer, then x-diolkos-token. At most 8.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub locations: Vec<CredentialLocation>,
    /// Who judges the credential, in order. Default: Consumers. At most 8.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub providers: Vec<AuthProvider>,
    /// Realm in the answer 401. Default: diolkos.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub realm: Option<Short>,
}

/// How several providers go together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum AuthMode {
    FirstMatch,
    All,
}

/// Where a credential stands in a request: exactly one of header, query and cookie.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel(&[
    ("(has(self.header) ? 1 : 0) + (has(self.query) ? 1 : 0) + (has(self.cookie) ? 1 : 0) == 1", "give exactly one of header, query and cookie"),
    ("!has(self.scheme) || has(self.header)", "scheme is for header only"),
])))]
pub struct CredentialLocation {
    /// Name of a header field.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header: Option<HeaderName>,
    /// Scheme before the credential in the header field, such as Bearer. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheme: Option<Short>,
    /// Name of a query parameter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub query: Option<Short>,
    /// Name of a cookie.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cookie: Option<CookieName>,
}

/// One who judges credentials.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel(&[
    ("(self.type == 'ExternalAuth') == has(self.externalAuth)", "externalAuth must be given when type is ExternalAuth, and only then"),
    ("(self.type == 'JWT') == has(self.jwt)", "jwt must be given when type is JWT, and only then"),
    ("(self.type == 'Script') == has(self.script)", "script must be given when type is Script, and only then"),
    ("(self.type == 'Redis') == has(self.redis)", "redis must be given when type is Redis, and only then"),
    ("(self.type == 'SQL') == has(self.sql)", "sql must be given when type is SQL, and only then"),
])))]
pub struct AuthProvider {
    /// What the provider is: Consumers (the Consumer objects), ExternalAuth, JWT, Script, Redis or SQL.
    #[serde(rename = "type")]
    pub type_: AuthProviderType,
    /// Whether the provider is asked. Default: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// A service that is asked over HTTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_auth: Option<ExternalAuth>,
    /// Signed tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwt: Option<Jwt>,
    /// A script.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub script: Option<Script>,
    /// Keys in Redis.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redis: Option<RedisKeys>,
    /// Keys in an SQL database.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sql: Option<SqlKeys>,
    /// What is judged after the provider accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub post: Option<AuthPost>,
}

/// The kinds of provider.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum AuthProviderType {
    #[default]
    Consumers,
    ExternalAuth,
    #[serde(rename = "JWT")]
    Jwt,
    Script,
    Redis,
    #[serde(rename = "SQL")]
    Sql,
}

/// What is judged after a provider accepted: exactly one of the fields.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel(&[("has(self.cel) != has(self.scriptRef)", "give one of cel and scriptRef")])))]
pub struct AuthPost {
    /// CEL on the provider's result; false refuses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cel: Option<Cel>,
    /// A Plugin of type Script that may refuse with a message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub script_ref: Option<ObjectRef>,
}

/// A service that is asked about each request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExternalAuth {
    /// URL of the service; a status of 2xx accepts.
    pub url: Url,
    /// Method of the question. Default: POST.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<Method>,
    /// How long it may take. Default: 5s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
    /// Header fields of the question. At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub headers: Vec<Header>,
    /// Header fields of the request that are sent along. Default: the credential. At most 32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub forward_headers: Vec<HeaderName>,
    /// How long an answer is remembered. Default: 0s, not at all.
    #[serde(rename = "cacheTTL", skip_serializing_if = "Option::is_none")]
    pub cache_ttl: Option<Duration>,
    /// What happens when the service cannot be reached: Fail (503) or Ignore (go on as anonymous). Default: Fail.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure_policy: Option<FailurePolicy>,
}

/// Signed tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Jwt {
    /// Issuer that the token must name.
    pub issuer: Line,
    /// Audiences of which the token must name one. Default: any. At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub audiences: Vec<Line>,
    /// Keys that verify the signature.
    pub jwks: Jwks,
    /// Algorithms that are accepted. Default: RS256, ES256. At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub algorithms: Vec<JwtAlgorithm>,
    /// Claims that are sent to the backend as header fields. At most 32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub claim_to_headers: Vec<ClaimToHeader>,
    /// Claim that names the Consumer. Default: sub.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consumer_claim: Option<Short>,
}

/// Algorithms of signatures. `none` and those with shared secrets are left out on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum JwtAlgorithm {
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    EdDSA,
}

/// Where the keys of an issuer are: exactly one of the fields.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel(&[(
    "(has(self.url) ? 1 : 0) + (has(self.configMapKeyRef) ? 1 : 0) + (has(self.secretKeyRef) ? 1 : 0) == 1",
    "give exactly one of url, configMapKeyRef and secretKeyRef",
)])))]
pub struct Jwks {
    /// URL of the key set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<Url>,
    /// Key of a ConfigMap that holds the key set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_map_key_ref: Option<ConfigMapKeyRef>,
    /// Key of a Secret that holds the key set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_key_ref: Option<SecretKeyRef>,
}

/// A claim that is sent on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClaimToHeader {
    /// Name of the claim.
    pub claim: Short,
    /// Header field that gets its value; one that the client sent is removed.
    pub header: HeaderName,
}

/// A script: exactly one of code and configMapKeyRef.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel(&[("has(self.code) != has(self.configMapKeyRef)", "give one of code and configMapKeyRef")])))]
pub struct Script {
    /// Language: Lua, run as Luau in a sandbox. Default: Lua.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub language: Option<ScriptLanguage>,
    /// The program; it must define process(ctx, data). At most 65536 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<crate::text::Document>,
    /// Key of a ConfigMap that holds the program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_map_key_ref: Option<ConfigMapKeyRef>,
    /// How long a call may take. Default: 1s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
    /// Memory that it may use, in MiB. Default: 10. 1 to 256.
    #[serde(rename = "maxMemoryMiB", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 256))]
    pub max_memory_mib: Option<u16>,
}

/// Languages of scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ScriptLanguage {
    Lua,
}

/// Keys in Redis.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RedisKeys {
    /// Store in GatewayConfig spec.stores.
    pub store_ref: crate::limits::StoreRef,
    /// Name of the entry, with {api_key} in place of the key.
    pub key_pattern: Line,
}

/// Keys in an SQL database.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SqlKeys {
    /// Store in GatewayConfig spec.stores.
    pub store_ref: crate::limits::StoreRef,
    /// Table with one row for each key.
    pub table: Label,
    /// Column that holds the key.
    pub key_column: Short,
    /// Columns that are read beside it, such as user_id, quota, status. At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub fields: Vec<Short>,
}
