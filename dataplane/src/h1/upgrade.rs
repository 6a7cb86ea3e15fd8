//! `Upgrade` (RFC 9110 section 7.8): asking for another protocol on a connection, and the answer to that.
//!
//! The field belongs to the connection, so it is read here and written anew for the next one. What it asks for reaches
//! an upstream unless we would lose sight of HTTP by it: after an upgrade to HTTP/2 without TLS a client could send any
//! request past the edge gate.

use crate::engine::head::Method;
use model::headers::is_token;

/// Protocols of one offer; more are not read.
const MAX_PROTOCOLS: usize = 8;
/// Bytes of one offer.
const MAX_BYTES: usize = 256;

/// Protocols that no client gets through us: other versions of HTTP, and TLS within a connection.
const NEVER: [&str; 4] = ["h2c", "h2", "http", "tls"];

/// The protocols that these fields of a request offer and that may be forwarded, as the value of one field; `None`
/// when there is none, or when the fields are not a list of protocols.
pub fn offered(fields: &[httparse::Header<'_>], method: &Method) -> Option<Box<str>> {
    list(fields, |name| {
        // RFC 6455 section 4.1: a WebSocket begins with a GET.
        !name.eq_ignore_ascii_case("websocket") || *method == Method::Get
    })
}

/// The protocols that these fields of an answer name.
pub fn answered(fields: &[httparse::Header<'_>]) -> Option<Box<str>> {
    list(fields, |_| true)
}

/// Whether a 101 with `chosen` answers a request with `offered`.
///
/// # Errors
/// The reason in words.
pub fn check(offered: Option<&str>, chosen: Option<&str>) -> Result<(), &'static str> {
    let offered = offered.ok_or("switched protocols unasked")?;
    let chosen = chosen.ok_or("switched protocols without saying to which")?;
    let fits = |one: &str| one.eq_ignore_ascii_case(chosen);
    if offered.split(", ").any(fits) {
        Ok(())
    } else {
        Err("switched to a protocol that was not offered")
    }
}

fn list(fields: &[httparse::Header<'_>], takes: impl Fn(&str) -> bool) -> Option<Box<str>> {
    let mut out = String::new();
    let mut count = 0;
    let values = fields
        .iter()
        .filter(|f| f.name.eq_ignore_ascii_case("upgrade"));
    for element in values.flat_map(|f| f.value.split(|b| *b == b',')) {
        let element = std::str::from_utf8(element.trim_ascii()).ok()?;
        if element.is_empty() {
            continue; // allowed in lists (RFC 9110 section 5.6.1.2)
        }
        let (name, version) = match element.split_once('/') {
            Some((name, version)) => (name, Some(version)),
            None => (element, None),
        };
        count += 1;
        let is_protocol =
            is_token(name.as_bytes()) && version.is_none_or(|v| is_token(v.as_bytes()));
        if !is_protocol || count > MAX_PROTOCOLS || out.len() + element.len() + 2 > MAX_BYTES {
            return None;
        }
        if NEVER.iter().any(|n| name.eq_ignore_ascii_case(n)) || !takes(name) {
            continue;
        }
        if !out.is_empty() {
            out.push_str(", ");
        }
        out.push_str(element);
    }
    (!out.is_empty()).then(|| out.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(values: &[&str], method: Method) -> Option<String> {
        let fields: Vec<_> = values
            .iter()
            .map(|v| httparse::Header {
                name: "Upgrade",
                value: v.as_bytes(),
            })
            .collect();
        offered(&fields, &method).map(Into::into)
    }

    #[test]
    fn offers() {
        let get = |values: &[&str]| offer(values, Method::Get);
        assert_eq!(get(&["websocket"]).as_deref(), Some("websocket"));
        assert_eq!(get(&["WebSocket"]).as_deref(), Some("WebSocket"));
        assert_eq!(get(&["a/1 ,, b"]).as_deref(), Some("a/1, b"));
        assert_eq!(get(&["a", "b/2.0"]).as_deref(), Some("a, b/2.0"));
        assert_eq!(get(&["h2c, websocket"]).as_deref(), Some("websocket"));
        assert_eq!(offer(&["x, websocket"], Method::Post).as_deref(), Some("x"));
        for none in [
            "", ",", "h2c", "H2C", "HTTP/2.0", "TLS/1.2", "h2", "a b", "a/", "/1", "a/b/c", "ä",
        ] {
            assert_eq!(get(&[none]), None, "{none:?}");
        }
        assert_eq!(get(&["a,b,c,d,e,f,g,h,i"]), None, "too many");
        assert_eq!(get(&[&"a".repeat(300)]), None, "too long");
        assert_eq!(get(&[]), None);
        assert_eq!(offer(&["websocket"], Method::Post), None);
    }

    #[test]
    fn an_answer_fits_its_offer() {
        assert_eq!(check(Some("a, WebSocket"), Some("websocket")), Ok(()));
        assert!(check(None, Some("websocket")).is_err());
        assert!(check(Some("websocket"), None).is_err());
        assert!(check(Some("websocket"), Some("b")).is_err());
        assert!(check(Some("a, b"), Some("a, b")).is_err(), "one of them");
    }
}
