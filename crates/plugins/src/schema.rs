//! Pieces that the settings of several plugins share.

use crate::InvalidSettings;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A header field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Header {
    /// Name of the field; case does not matter.
    #[schemars(
        length(min = 1, max = 256),
        regex(pattern = r"^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$")
    )]
    pub name: String,
    /// Value, without line breaks.
    #[schemars(length(max = 4096))]
    pub value: String,
}

/// Fields that decide how a message is framed belong to the gateway.
const FRAMING: &[&str] = &[
    "connection",
    "content-length",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

pub(crate) fn check_name(name: &str, field: impl Fn() -> String) -> Result<(), InvalidSettings> {
    if name.is_empty() || !name.bytes().all(model::matching::is_token) {
        return Err(InvalidSettings::new(
            field(),
            "not a header name; allowed are letters, digits and !#$%&'*+-.^_`|~",
        ));
    }
    if FRAMING.iter().any(|f| name.eq_ignore_ascii_case(f)) {
        return Err(InvalidSettings::new(
            field(),
            format!("{name} frames the message and is set by the gateway alone"),
        ));
    }
    Ok(())
}

pub(crate) fn check_value(value: &str, field: impl Fn() -> String) -> Result<(), InvalidSettings> {
    if value.bytes().any(|b| b != b'\t' && (b < 0x20 || b == 0x7f)) {
        return Err(InvalidSettings::new(
            field(),
            "a header value has no line breaks or other control characters",
        ));
    }
    Ok(())
}

/// The fields of a list, with lower-case names.
pub(crate) fn check_pairs(
    list: Option<Vec<Header>>,
    list_name: &str,
) -> Result<Vec<(String, String)>, InvalidSettings> {
    let list = list.unwrap_or_default();
    for (i, h) in list.iter().enumerate() {
        check_name(&h.name, || format!("{list_name}[{i}].name"))?;
        check_value(&h.value, || format!("{list_name}[{i}].value"))?;
    }
    Ok(list
        .into_iter()
        .map(|h| (h.name.to_ascii_lowercase(), h.value))
        .collect())
}
