//! The error catalogue (features.md section 5): one code for each failure, the same word in body, log and metric.

use crate::engine::{DownFault, Fault, ResponseHead, UpFault};
use crate::h1::Reject;
use bytes::Bytes;
use plugins::ErrorCode;

/// An answer of the gateway's own making that tells of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    pub status: u16,
    pub code: &'static str,
}

macro_rules! catalogue {
    ($($name:ident = $status:literal $code:literal;)*) => {
        $(pub const $name: Failure = Failure { status: $status, code: $code };)*

        /// Every code of this build with its status.
        pub const CATALOGUE: &[Failure] = &[$($name),*];
    };
}

catalogue! {
    BAD_REQUEST = 400 "bad_request";
    INVALID_REQUEST = 400 "invalid_request";
    MISSING_REQUIRED_HEADER = 400 "missing_required_header";
    FORBIDDEN = 403 "forbidden";
    CONTENT_FILTER = 403 "content_filter";
    ROUTE_NOT_FOUND = 404 "route_not_found";
    METHOD_NOT_ALLOWED = 405 "method_not_allowed";
    REQUEST_TIMEOUT = 408 "request_timeout";
    REQUEST_TOO_LARGE = 413 "request_too_large";
    URI_TOO_LONG = 414 "uri_too_long";
    MISDIRECTED_REQUEST = 421 "misdirected_request";
    QUEUE_FULL = 429 "queue_full";
    HEADER_TOO_LARGE = 431 "header_too_large";
    INTERNAL_ERROR = 500 "internal_error";
    PLUGIN_ERROR = 500 "plugin_error";
    INVALID_BACKEND = 500 "invalid_backend";
    UNSUPPORTED_CODING = 501 "unsupported_coding";
    UPSTREAM_CONNECT_ERROR = 502 "upstream_connect_error";
    UPSTREAM_RESET = 502 "upstream_reset";
    UPSTREAM_TLS_ERROR = 502 "upstream_tls_error";
    UPSTREAM_PROTOCOL_ERROR = 502 "upstream_protocol_error";
    NO_HEALTHY_UPSTREAM = 503 "no_healthy_upstream";
    DOWNSTREAM_CONCURRENCY_EXCEEDED = 503 "downstream_concurrency_exceeded";
    UPSTREAM_CONCURRENCY_EXCEEDED = 503 "upstream_concurrency_exceeded";
    QUEUE_TIMEOUT = 503 "queue_timeout";
    OVERLOADED = 503 "overloaded";
    UPSTREAM_TIMEOUT = 504 "upstream_timeout";
}

impl Failure {
    /// The entry of the catalogue with this code; what a configuration names and this build does not know is a
    /// plugin's failure.
    pub fn by_code(code: &str) -> Self {
        let known = CATALOGUE.iter().find(|f| f.code == code);
        known.copied().unwrap_or(PLUGIN_ERROR)
    }

    /// What the client is told when an exchange failed before its answer began. `None`: nobody is there to tell.
    pub fn of(fault: &Fault) -> Option<Self> {
        Some(match fault {
            Fault::Down(DownFault::Closed) => return None,
            Fault::Down(DownFault::Timeout) => REQUEST_TIMEOUT,
            Fault::Down(DownFault::Reject(r)) => Self::from(*r),
            Fault::Up(UpFault::Connect(_)) => UPSTREAM_CONNECT_ERROR,
            Fault::Up(UpFault::Tls) => UPSTREAM_TLS_ERROR,
            Fault::Up(UpFault::Reset { .. } | UpFault::Unprocessed) => UPSTREAM_RESET,
            Fault::Up(UpFault::Protocol(_)) | Fault::NoTunnel => UPSTREAM_PROTOCOL_ERROR,
            Fault::Up(UpFault::ConnectTimeout | UpFault::Timeout) | Fault::Total | Fault::Idle => {
                UPSTREAM_TIMEOUT
            }
            Fault::Aborted => PLUGIN_ERROR,
            Fault::Length => INTERNAL_ERROR,
        })
    }

    /// Makes `head` the head of this answer and gives its body: `{"error":"CODE"}`, with the message where there is
    /// one.
    pub fn answer(self, message: Option<&str>, head: &mut ResponseHead) -> Bytes {
        head.reset(self.status);
        let mut push = |name: &str, value: &[u8]| {
            // Constant fields in an empty list: there is room, and they are valid.
            let _ = head.headers.push(name, value);
        };
        push("content-type", b"application/json");
        if matches!(self.status, 429 | 503) {
            push("retry-after", b"1");
        }
        match message {
            None => Bytes::from([r#"{"error":""#, self.code, r#""}"#].concat()),
            Some(text) => {
                let text = serde_json::Value::from(text).to_string();
                Bytes::from([r#"{"error":""#, self.code, r#"","message":"#, &text, "}"].concat())
            }
        }
    }
}

impl From<ErrorCode> for Failure {
    fn from(code: ErrorCode) -> Self {
        match code {
            ErrorCode::InvalidRequest => INVALID_REQUEST,
            ErrorCode::MissingRequiredHeader => MISSING_REQUIRED_HEADER,
            ErrorCode::Forbidden => FORBIDDEN,
            ErrorCode::ContentFilter => CONTENT_FILTER,
            ErrorCode::RequestTooLarge => REQUEST_TOO_LARGE,
        }
    }
}

impl From<Reject> for Failure {
    fn from(r: Reject) -> Self {
        Self {
            status: r.status,
            code: r.code,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_the_catalogue_to_the_byte() {
        let mut head = ResponseHead::default();
        for failure in CATALOGUE {
            let body = failure.answer(None, &mut head);
            assert_eq!(body, format!("{{\"error\":\"{}\"}}", failure.code));
            assert_eq!(head.status, failure.status);
            assert_eq!(
                head.headers.get("content-type"),
                Some(&b"application/json"[..])
            );
            assert_eq!(
                head.headers.contains("retry-after"),
                matches!(failure.status, 429 | 503)
            );
        }
        let body = CONTENT_FILTER.answer(Some("say \"no\""), &mut head);
        assert_eq!(body, r#"{"error":"content_filter","message":"say \"no\""}"#);
    }

    #[test]
    fn what_the_edge_gate_refuses_is_in_the_catalogue() {
        for reject in [
            Reject::bad_request(""),
            Reject::timeout(""),
            Reject::uri_too_long(),
            Reject::header_too_large(),
            Reject::unsupported_coding(),
            Reject::internal_error(""),
        ] {
            let failure = Failure::from(reject);
            assert!(CATALOGUE.contains(&failure), "{failure:?}");
        }
    }

    #[test]
    fn codes_are_unique_and_found_by_name() {
        for failure in CATALOGUE {
            assert_eq!(Failure::by_code(failure.code), *failure);
        }
        assert_eq!(Failure::by_code("from_the_future"), PLUGIN_ERROR);
    }
}
