//! TLS settings that several kinds share.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A version of TLS; write it in quotes, because YAML reads 1.2 as a number.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
pub enum TlsVersion {
    #[serde(rename = "1.2")]
    V1_2,
    #[serde(rename = "1.3")]
    V1_3,
}
