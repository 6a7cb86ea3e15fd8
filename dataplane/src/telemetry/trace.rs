//! W3C Trace Context: what a request says about the trace that it belongs to. What is valid goes through as it came.

use model::Headers;
use model::headers::Known;

/// The trace id of a valid `traceparent` (W3C Trace Context, section 3.2.2), of which there is exactly one.
pub(super) fn trace_id(headers: &Headers) -> Option<&str> {
    let value = headers.get_known(Known::Traceparent)?;
    if headers.get_all(Known::Traceparent.name()).count() > 1 {
        return None;
    }
    let value = std::str::from_utf8(value).ok()?;
    let mut parts = value.split('-');
    let version = parts.next().filter(|v| is_hex(v, 2) && *v != "ff")?;
    let trace = parts
        .next()
        .filter(|id| is_hex(id, 32) && is_not_zero(id))?;
    parts
        .next()
        .filter(|id| is_hex(id, 16) && is_not_zero(id))?;
    parts.next().filter(|flags| is_hex(flags, 2))?;
    // Later versions may say more.
    (version != "00" || parts.next().is_none()).then_some(trace)
}

/// Who a request says has called it.
pub(super) struct Parent {
    pub trace: [u8; 16],
    pub span: [u8; 8],
    pub sampled: bool,
}

/// The parent that a valid `traceparent` names.
pub(super) fn parent(headers: &Headers) -> Option<Parent> {
    let trace = trace_id(headers)?;
    let value = std::str::from_utf8(headers.get_known(Known::Traceparent)?).ok()?;
    let mut parts = value.split('-').skip(2);
    let (span, flags) = (parts.next()?, parts.next()?);
    Some(Parent {
        trace: u128::from_str_radix(trace, 16).ok()?.to_be_bytes(),
        span: u64::from_str_radix(span, 16).ok()?.to_be_bytes(),
        sampled: u8::from_str_radix(flags, 16).ok()? & 1 == 1,
    })
}

/// A `traceparent`.
pub(super) fn traceparent(trace: [u8; 16], span: [u8; 8], sampled: bool) -> String {
    let (trace, span) = (u128::from_be_bytes(trace), u64::from_be_bytes(span));
    format!("00-{trace:032x}-{span:016x}-{:02x}", u8::from(sampled))
}

/// Removes what names no trace, so that upstreams and the log agree on which trace a request belongs to: an invalid
/// `traceparent`, and then also the `tracestate`, which means nothing without it (sections 3.2.2 and 3.3).
pub(crate) fn remove_invalid(headers: &mut Headers) {
    if headers.contains_known(Known::Traceparent) && trace_id(headers).is_none() {
        headers.remove_known(Known::Traceparent);
        headers.remove("tracestate");
    }
}

/// Lower case only.
fn is_hex(text: &str, len: usize) -> bool {
    text.len() == len && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_not_zero(id: &str) -> bool {
    id.bytes().any(|b| b != b'0')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valid_ones_have_a_trace_id_and_others_none() {
        const ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
        let given = |values: &[&str]| {
            let mut headers = Headers::new();
            for value in values {
                headers.push("traceparent", value).unwrap();
            }
            trace_id(&headers).map(str::to_owned)
        };
        let good = format!("00-{ID}-00f067aa0ba902b7-01");
        assert_eq!(given(&[&good]).as_deref(), Some(ID));
        assert_eq!(
            given(&[&format!("cc-{ID}-00f067aa0ba902b7-01-what")]).as_deref(),
            Some(ID)
        );
        assert_eq!(given(&[]), None);
        assert_eq!(given(&[&good, &good]), None);
        for bad in [
            "",
            "00",
            &good.to_uppercase(),
            &format!("{good}-x"),
            &format!("ff-{ID}-00f067aa0ba902b7-01"),
            &format!("00-{ID}-0000000000000000-01"),
            &format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)),
            &format!("00-{ID}-00f067aa0ba902b7-1"),
            &format!("0-{ID}-00f067aa0ba902b7-01"),
        ] {
            assert_eq!(given(&[bad]), None, "{bad}");
        }
    }

    #[test]
    fn a_parent_is_read_as_it_was_written() {
        let line = traceparent([0xab; 16], [1; 8], true);
        assert_eq!(line.len(), 55);
        let mut headers = Headers::new();
        headers.push("traceparent", &line).unwrap();
        let read = parent(&headers).unwrap();
        assert_eq!(read.trace, [0xab; 16]);
        assert_eq!((read.span, read.sampled), ([1; 8], true));
    }

    #[test]
    fn what_names_no_trace_is_removed_with_its_state() {
        for (parent, left) in [
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", 3),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7", 1),
        ] {
            let mut headers = Headers::new();
            headers.push("traceparent", parent).unwrap();
            headers.push("tracestate", "a=1").unwrap();
            headers.push("accept", "*/*").unwrap();
            remove_invalid(&mut headers);
            assert_eq!(headers.len(), left, "{parent}");
        }
    }
}
