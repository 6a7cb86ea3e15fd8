//! How strictly the edge gate reads requests, where a listener may say so.

/// What becomes of forms that servers may read in two ways. By default they are refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Edge {
    pub escaped_slashes: EscapedSlashes,
    pub underscores: Underscores,
}

/// What becomes of a path with `%2F`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize)]
pub enum EscapedSlashes {
    #[default]
    Reject,
    /// It is a character of its segment, and is forwarded as it is.
    Keep,
}

/// What becomes of a header field whose name holds `_`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize)]
pub enum Underscores {
    #[default]
    Reject,
    /// The field is left out.
    Drop,
    /// It is forwarded, unless with `-` it would be a name that the gateway itself reads or writes.
    Keep,
}

impl Edge {
    /// Nothing is let in that servers may read in two ways.
    pub fn is_strict(&self) -> bool {
        *self == Self::default()
    }
}
