//! Refusals of the edge gate, in the words of the error catalogue.

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
}

impl Reject {
    /// 400: framing, host grammar, path, names.
    pub const fn bad_request(reason: &'static str) -> Self {
        Self {
            status: 400,
            code: "bad_request",
            reason,
        }
    }
    /// 408: a head or body that does not come.
    pub const fn timeout(reason: &'static str) -> Self {
        Self {
            status: 408,
            code: "request_timeout",
            reason,
        }
    }
    /// 414: target above [`MAX_TARGET`](super::MAX_TARGET).
    pub const fn uri_too_long() -> Self {
        Self {
            status: 414,
            code: "uri_too_long",
            reason: "request target is too long",
        }
    }
    /// 431: head or trailers above their caps.
    pub const fn header_too_large() -> Self {
        Self {
            status: 431,
            code: "header_too_large",
            reason: "too many or too large header fields",
        }
    }
    /// 501: a transfer coding other than `chunked`.
    pub const fn unsupported_coding() -> Self {
        Self {
            status: 501,
            code: "unsupported_coding",
            reason: "transfer coding is not supported",
        }
    }
    /// 500: a fault of ours, confined to this request.
    pub const fn internal_error(reason: &'static str) -> Self {
        Self {
            status: 500,
            code: "internal_error",
            reason,
        }
    }
}
