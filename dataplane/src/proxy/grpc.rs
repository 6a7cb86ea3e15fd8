//! What differs for gRPC requests: how failures are told, and the client's deadline.

use super::fail::{self, Failure};
use crate::engine::{RequestHead, ResponseHead, is_grpc};
use model::headers::{InvalidHeader, Known};
use std::time::Duration;

/// Whether a request is one of gRPC (one of gRPC-Web is, once it is translated).
pub(super) fn is_request(head: &RequestHead) -> bool {
    let kind = head.headers.get_known(Known::ContentType);
    kind.is_some_and(is_grpc)
}

/// Makes `head`, the head of a failure, a gRPC answer without messages: 200 with `grpc-status`, which clients read
/// where they would not look at an HTTP status. Further fields stay; there is no body.
///
/// # Errors
/// A head without room for them.
pub(super) fn tell(failure: Failure, head: &mut ResponseHead) -> Result<(), InvalidHeader> {
    head.status = 200;
    head.headers.set("content-type", "application/grpc")?;
    let status = itoa::Buffer::new().format(status(failure)).to_owned();
    head.headers.set("grpc-status", status)?;
    // Codes of the catalogue need no percent-encoding.
    head.headers.set("grpc-message", failure.code)
}

/// The status code of gRPC for a failure: by its HTTP status as gRPC's own mapping of HTTP answers has it, but a time
/// limit of ours is a deadline.
fn status(failure: Failure) -> u8 {
    const DEADLINE_EXCEEDED: u8 = 4;
    match failure.status {
        _ if failure.code == fail::UPSTREAM_TIMEOUT.code => DEADLINE_EXCEEDED,
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502 | 503 | 504 => 14,
        _ => 2,
    }
}

/// `grpc-timeout`: how long the client waits for the whole exchange. `None`: for ever, or the request is not one of
/// gRPC, or the field is not valid.
pub(super) fn timeout(head: &RequestHead) -> Option<Duration> {
    if !is_request(head) {
        return None;
    }
    let value = head.headers.get("grpc-timeout")?;
    let (unit, digits) = value.split_last()?;
    if !(1..=8).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let n: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(match unit {
        b'H' => Duration::from_secs(n * 3600),
        b'M' => Duration::from_secs(n * 60),
        b'S' => Duration::from_secs(n),
        b'm' => Duration::from_millis(n),
        b'u' => Duration::from_micros(n),
        b'n' => Duration::from_nanos(n),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_have_the_status_of_grpcs_mapping() {
        for (failure, expected) in [
            (fail::BAD_REQUEST, 13),
            (fail::CONTENT_FILTER, 7),
            (fail::ROUTE_NOT_FOUND, 12),
            (fail::METHOD_NOT_ALLOWED, 2),
            (fail::UPSTREAM_CONNECT_ERROR, 14),
            (fail::NO_HEALTHY_UPSTREAM, 14),
            (fail::UPSTREAM_TIMEOUT, 4),
            (fail::INTERNAL_ERROR, 2),
        ] {
            let mut head = ResponseHead::default();
            let _ = failure.answer(None, &mut head);
            tell(failure, &mut head).unwrap();
            let get = |name| head.headers.get(name).map(String::from_utf8_lossy);
            assert_eq!(head.status, 200);
            assert_eq!(get("grpc-status").as_deref(), Some(&*expected.to_string()));
            assert_eq!(get("grpc-message").as_deref(), Some(failure.code));
            assert_eq!(get("content-type").as_deref(), Some("application/grpc"));
            // What the failure says beside its body stays.
            assert_eq!(head.headers.contains("retry-after"), failure.status == 503);
        }
    }

    #[test]
    fn timeouts_are_read_as_the_protocol_writes_them() {
        let read = |text: &str| {
            let mut head = RequestHead::default();
            head.headers
                .push("content-type", "application/grpc")
                .unwrap();
            head.headers.push("grpc-timeout", text).unwrap();
            timeout(&head)
        };
        assert_eq!(read("100m"), Some(Duration::from_millis(100)));
        assert_eq!(read("2S"), Some(Duration::from_secs(2)));
        assert_eq!(
            read("99999999H"),
            Some(Duration::from_secs(99_999_999 * 3600))
        );
        assert_eq!(read("5u"), Some(Duration::from_micros(5)));
        for bad in ["", "S", "1", "1s", "-1S", "123456789S", "1 S", "0x1S"] {
            assert_eq!(read(bad), None, "{bad}");
        }
        let mut head = RequestHead::default();
        head.headers.push("grpc-timeout", "1S").unwrap();
        assert_eq!(timeout(&head), None, "not gRPC");
    }
}
