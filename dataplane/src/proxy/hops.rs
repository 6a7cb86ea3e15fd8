//! Methods that ask who is on the way (RFC 9110 sections 7.6.2 and 9.3.8).

use crate::engine::{Method, RequestHead};
use model::headers::{InvalidHeader, Known};

/// Where a request that a rule forwards comes to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Hop {
    /// To the upstream.
    Next,
    /// It goes no further, and is answered here.
    Last,
    /// Nowhere: 405.
    Nowhere,
}

/// What `Allow` says of a rule that matches any method.
pub(super) const METHODS: &str = "GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH";

/// Where this one comes to; the hop is counted. TRACE would show the client what was added on the way, credentials
/// among it.
///
/// # Errors
/// A head without room for the count.
pub(super) fn count(head: &mut RequestHead) -> Result<Hop, InvalidHeader> {
    match head.method {
        Method::Trace => return Ok(Hop::Nowhere),
        Method::Options => {}
        _ => return Ok(Hop::Next),
    }
    let Some(left) = head.headers.get_known(Known::MaxForwards).and_then(number) else {
        return Ok(Hop::Next);
    };
    let Some(left) = left.checked_sub(1) else {
        return Ok(Hop::Last);
    };
    let left = itoa::Buffer::new().format(left).to_owned();
    head.headers.set(Known::MaxForwards.name(), left)?;
    Ok(Hop::Next)
}

/// Digits alone; what is too large to be a number of hops is `None`, too.
fn number(value: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(value).ok()?;
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(method: Method, value: &str) -> (Hop, String) {
        let mut head = RequestHead {
            method,
            ..RequestHead::default()
        };
        head.headers.push("max-forwards", value).unwrap();
        let hop = count(&mut head).unwrap();
        let left = head.headers.get("max-forwards").unwrap();
        (hop, String::from_utf8_lossy(left).into_owned())
    }

    #[test]
    fn options_goes_as_far_as_it_says() {
        let options = |value: &str| counted(Method::Options, value);
        assert_eq!(options("10"), (Hop::Next, "9".into()));
        assert_eq!(options("1"), (Hop::Next, "0".into()));
        assert_eq!(options("0").0, Hop::Last);
        // What is no number says nothing.
        for bad in ["", "-1", "+1", "1.0", "x", "99999999999999999999"] {
            assert_eq!(options(bad), (Hop::Next, bad.into()));
        }
        // For other methods it means nothing.
        assert_eq!(counted(Method::Get, "0"), (Hop::Next, "0".into()));
        assert_eq!(counted(Method::Trace, "7").0, Hop::Nowhere);
        let mut head = RequestHead {
            method: Method::Options,
            ..RequestHead::default()
        };
        assert_eq!(count(&mut head), Ok(Hop::Next));
    }
}
