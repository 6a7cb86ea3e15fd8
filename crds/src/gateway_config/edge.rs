//! Which ambiguous forms of requests are let in.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Forms of requests that servers read in different ways. Each is refused unless it is let in here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Edge {
    /// Escaped slashes (%2F) in paths, as npm, GitLab and RabbitMQ use them: Reject (400) or Keep (each counts as a letter
    /// of its segment, never as a slash, and reaches backends as %2F). The risk of Keep: a backend that reads them as slashes
    /// finds another path than the Routes here did. To it /x%2Fadmin may be /x/admin, and nothing of what a Route for
    /// /x/admin asks for has been asked. What would climb (..%2F) is refused in any case. Default: Reject.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub escaped_slashes: Option<EscapedSlashes>,
    /// Header fields whose names hold an underscore: Reject (400), Drop (backends do not get them) or Keep. The risk of Keep:
    /// a backend that reads _ as - (CGI, WSGI, PHP) takes a client's x_user for the x-user that a Route or a proxy sets.
    /// Names of the gateway's own and of common fields (x_forwarded_for, Content_Length) are refused in any case.
    /// Default: Reject.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub underscores_in_headers: Option<Underscores>,
}

/// What becomes of a path with an escaped slash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum EscapedSlashes {
    Reject,
    Keep,
}

/// What becomes of a header field whose name holds an underscore.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Underscores {
    Reject,
    Drop,
    Keep,
}
