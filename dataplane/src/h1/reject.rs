//! Refusals of the edge gate, in the words of the error catalogue.

/// What the edge gate looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EdgeRule {
    /// Where heads and bodies begin and end.
    Framing,
    Host,
    Path,
    Method,
    /// Names and values of header fields.
    Header,
    HeaderSize,
    HeaderCount,
    TargetSize,
    /// It does not come in time.
    Deadline,
    /// What an HTTP/2 connection may cost.
    H2Budget,
}

impl EdgeRule {
    pub const ALL: [Self; 10] = [
        Self::Framing,
        Self::Host,
        Self::Path,
        Self::Method,
        Self::Header,
        Self::HeaderSize,
        Self::HeaderCount,
        Self::TargetSize,
        Self::Deadline,
        Self::H2Budget,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Framing => "framing",
            Self::Host => "host",
            Self::Path => "path",
            Self::Method => "method",
            Self::Header => "header",
            Self::HeaderSize => "header_size",
            Self::HeaderCount => "header_count",
            Self::TargetSize => "target_size",
            Self::Deadline => "deadline",
            Self::H2Budget => "h2_budget",
        }
    }
}

/// A message that is refused. The answer closes the connection, and nothing more is read from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {reason}")]
pub struct Reject {
    /// 4xx or 5xx.
    pub status: u16,
    /// The code of the error catalogue.
    pub code: &'static str,
    /// For the log; never repeats bytes of the message.
    pub reason: &'static str,
    /// What was broken; `None`: it is our fault.
    pub rule: Option<EdgeRule>,
}

impl Reject {
    /// The same, for breaking this rule.
    pub const fn of(mut self, rule: EdgeRule) -> Self {
        self.rule = Some(rule);
        self
    }
    /// 400: framing, unless [`Self::of`] says another rule.
    pub const fn bad_request(reason: &'static str) -> Self {
        Self {
            status: 400,
            code: "bad_request",
            reason,
            rule: Some(EdgeRule::Framing),
        }
    }
    /// 408: a head or body that does not come.
    pub const fn timeout(reason: &'static str) -> Self {
        Self {
            status: 408,
            code: "request_timeout",
            reason,
            rule: Some(EdgeRule::Deadline),
        }
    }
    /// 414: target above [`MAX_TARGET`](super::MAX_TARGET).
    pub const fn uri_too_long() -> Self {
        Self {
            status: 414,
            code: "uri_too_long",
            reason: "request target is too long",
            rule: Some(EdgeRule::TargetSize),
        }
    }
    /// 431: head or trailers with more bytes than their caps, or more fields ([`Self::of`]).
    pub const fn header_too_large() -> Self {
        Self {
            status: 431,
            code: "header_too_large",
            reason: "too many or too large header fields",
            rule: Some(EdgeRule::HeaderSize),
        }
    }
    /// 501: a transfer coding other than `chunked`.
    pub const fn unsupported_coding() -> Self {
        Self {
            status: 501,
            code: "unsupported_coding",
            reason: "transfer coding is not supported",
            rule: Some(EdgeRule::Framing),
        }
    }
    /// 500: a fault of ours, confined to this request.
    pub const fn internal_error(reason: &'static str) -> Self {
        Self {
            status: 500,
            code: "internal_error",
            reason,
            rule: None,
        }
    }
}
