//! What a rule asks of a request besides host and path.

use crate::PathMatch;
use ipnet::IpNet;
use std::fmt;

/// One way to match a rule: all of its parts must hold.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Match {
    pub path: PathMatch,
    /// Empty: every method.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<Method>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<HeaderMatch>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub query: Vec<QueryMatch>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cookies: Vec<CookieMatch>,
    /// The client's address is in one of these; empty: every client.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub clients: Vec<IpNet>,
}

impl Match {
    /// Matches every request.
    pub fn any() -> Self {
        Self {
            path: PathMatch::any(),
            methods: Vec::new(),
            headers: Vec::new(),
            query: Vec::new(),
            cookies: Vec::new(),
            clients: Vec::new(),
        }
    }
}

/// A request method: a token, case-sensitive (RFC 9110 9.1).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
pub struct Method(String);

impl Method {
    /// `None` when `text` is not a token of at most 32 characters.
    pub fn parse(text: &str) -> Option<Self> {
        (!text.is_empty() && text.len() <= 32 && text.bytes().all(is_token))
            .then(|| Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Characters of a token (RFC 9110 5.6.2).
pub fn is_token(b: u8) -> bool {
    matches!(b, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'z' | b'|' | b'~' | b'0'..=b'9' | b'A'..=b'Z')
}

/// A header predicate. Any line of that name may satisfy it; `Absent` asks that there is none.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize)]
pub struct HeaderMatch {
    /// Lower case.
    pub name: String,
    #[serde(flatten)]
    pub value: ValueMatch,
}

/// A query predicate on the percent-decoded first value of that name. Names are case-sensitive.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize)]
pub struct QueryMatch {
    pub name: String,
    #[serde(flatten)]
    pub value: ValueMatch,
}

/// A predicate on the first cookie of that name. Names are case-sensitive, values are compared as they are sent.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CookieMatch {
    pub name: String,
    #[serde(flatten)]
    pub value: ValueMatch,
}

/// How a value is compared.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "PascalCase", tag = "type", content = "value")]
pub enum ValueMatch {
    Exact(String),
    Prefix(String),
    /// A regular expression that must match the whole value.
    Regex(String),
    Present,
    Absent,
}

impl fmt::Display for ValueMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(v) => write!(f, "= {v:?}"),
            Self::Prefix(v) => write!(f, "begins with {v:?}"),
            Self::Regex(v) => write!(f, "matches {v:?}"),
            Self::Present => f.write_str("is present"),
            Self::Absent => f.write_str("is absent"),
        }
    }
}
