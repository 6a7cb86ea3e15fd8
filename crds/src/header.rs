//! Edits of header fields.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::text::{HeaderName, HeaderValue};

/// One header field with its value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Header {
    /// Name of the field; case does not matter.
    pub name: HeaderName,
    /// Value of the field. No control characters; at most 4096 characters.
    pub value: HeaderValue,
}

/// Changes to a header section, done in the order `remove`, `set`, `add`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HeaderEdits {
    /// Fields to write, in place of any of the same name. At most 32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub set: Vec<Header>,
    /// Fields to append, beside any of the same name. At most 32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub add: Vec<Header>,
    /// Names of fields to take away. At most 32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub remove: Vec<HeaderName>,
}
