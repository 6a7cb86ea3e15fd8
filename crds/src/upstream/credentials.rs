//! Credentials that the gateway adds to requests.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    refs::{SecretSource, ValueFrom},
    schema::cel,
    text::{HeaderName, Line, Short},
};

/// Credentials that the gateway adds to requests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel(&[(
    "(has(self.awsSigV4) ? 1 : 0) + (has(self.gcp) ? 1 : 0) + (has(self.azure) ? 1 : 0) <= 1",
    "give only one of awsSigV4, gcp and azure",
)])))]
pub struct UpstreamAuth {
    /// Header fields with values from Secrets. At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub headers: Vec<CredentialHeader>,
    /// Sign requests for AWS.
    #[serde(rename = "awsSigV4", skip_serializing_if = "Option::is_none")]
    pub aws_sig_v4: Option<AwsSigV4>,
    /// Access tokens of Google Cloud.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gcp: Option<Gcp>,
    /// Access tokens of Azure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub azure: Option<Azure>,
}

/// A header field with a value from a Secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CredentialHeader {
    /// Name of the field; one that the client sent is replaced.
    pub name: HeaderName,
    /// Text before the value, such as "Bearer ".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix: Option<Line>,
    /// Where the value is read.
    pub value_from: ValueFrom,
}

/// How requests are signed for AWS.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AwsSigV4 {
    /// Region, such as us-east-1.
    pub region: Short,
    /// Service, such as bedrock.
    pub service: Short,
    /// Secret with the keys accessKeyId, secretAccessKey and, if any, sessionToken. Default: the Pod's own identity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials: Option<SecretSource>,
    /// Role to assume with these credentials, by its ARN. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub assume_role_arn: Option<Line>,
}

/// Access tokens of Google Cloud.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Gcp {
    /// Secret with the key credentials.json of a service account. Default: the Pod's own identity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials: Option<SecretSource>,
    /// Scopes of the token. Default: https://www.googleapis.com/auth/cloud-platform. At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub scopes: Vec<Line>,
}

/// Access tokens of Azure.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Azure {
    /// Directory (tenant) of the application. Default: that of the Pod's identity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant_id: Option<Short>,
    /// The application. Default: that of the Pod's identity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<Short>,
    /// Secret with the key clientSecret. Default: the Pod's own identity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials: Option<SecretSource>,
    /// Scope of the token. Default: https://cognitiveservices.azure.com/.default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<Line>,
}
