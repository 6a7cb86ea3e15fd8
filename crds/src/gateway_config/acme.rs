//! Authorities that give certificates.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    duration::Duration,
    refs::{ObjectRef, SecretKeyRef},
    schema::cel,
    text::{Label, Line, Short, Url},
};

/// Authorities that give certificates.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Acme {
    /// The authorities. At most 8.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub issuers: Vec<AcmeIssuer>,
}

/// An authority that speaks ACME.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel(&[(
    "(has(self.challenge) && self.challenge == 'DNS01') == has(self.dns01)",
    "dns01 must be given when challenge is DNS01, and only then",
)])))]
pub struct AcmeIssuer {
    /// Name of the issuer, unique in the list.
    pub name: Label,
    /// URL of its directory.
    pub server: Url,
    /// Address that the authority may write to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<Short>,
    /// How a name is proved: HTTP01, TLSALPN01 or DNS01 (the only one for wildcards). Default: HTTP01.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub challenge: Option<AcmeChallenge>,
    /// Secret or ConfigMap with the key ca.crt that signed the authority's own certificate. Default: the authorities of the system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_bundle_ref: Option<ObjectRef>,
    /// How DNS records are made, for challenge DNS01.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dns01: Option<Dns01>,
    /// An account that the authority knows beforehand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_account_binding: Option<ExternalAccountBinding>,
    /// Profile of the certificate, such as tlsserver. Default: the authority's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<Short>,
    /// How long before its end a certificate is renewed. Default: when the authority says so (ARI), else at two thirds of its life.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub renew_before: Option<Duration>,
}

/// How a name is proved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum AcmeChallenge {
    HTTP01,
    TLSALPN01,
    DNS01,
}

/// How DNS records are made: exactly one of the fields.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel(&[("has(self.webhook) != has(self.rfc2136)", "give one of webhook and rfc2136")])))]
pub struct Dns01 {
    /// A service that makes them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook: Option<Dns01Webhook>,
    /// A name server that takes dynamic updates (RFC 2136).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rfc2136: Option<Rfc2136>,
}

/// A service that makes DNS records.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Dns01Webhook {
    /// URL of the service.
    pub url: Url,
    /// Token sent as Authorization: Bearer. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_ref: Option<SecretKeyRef>,
}

/// A name server that takes dynamic updates.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rfc2136 {
    /// Address and port of the server, such as 10.0.0.53:53.
    pub server: Line,
    /// Name of the TSIG key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tsig_key_name: Option<Line>,
    /// Algorithm of the TSIG key. Default: hmac-sha256.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tsig_algorithm: Option<Short>,
    /// The TSIG key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tsig_secret_ref: Option<SecretKeyRef>,
}

/// An account that an authority knows beforehand.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExternalAccountBinding {
    /// Id of the key.
    pub key_id: Line,
    /// The key.
    pub key_ref: SecretKeyRef,
}
