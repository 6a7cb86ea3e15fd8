//! The proof of a WebSocket's handshake (RFC 6455 section 1.3), on behalf of whoever gives none: over HTTP/2 there is
//! nothing to prove (RFC 8441 section 5), but an upstream over HTTP/1.1 wants a key and shows that it understood, and a
//! client over HTTP/1.1 sends one and wants to see that.

use super::head::RequestHead;
use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

/// The key in a request. It is no secret: it keeps answers of caches apart.
pub(crate) const KEY: &str = "sec-websocket-key";
/// The proof in an answer.
pub(crate) const ACCEPT: &str = "sec-websocket-accept";

/// The name under which clients ask for it.
const PROTOCOL: &str = "websocket";

/// Whether a request asks for a WebSocket.
pub(crate) fn is_asked_for(head: &RequestHead) -> bool {
    let offered = head.upgrade.as_deref().unwrap_or_default();
    offered.split(", ").any(is_websocket)
}

/// Whether this is the protocol's name.
pub(crate) fn is_websocket(protocol: &str) -> bool {
    protocol.eq_ignore_ascii_case(PROTOCOL)
}

/// The request's key, if it has exactly one that is one: 16 bytes in base64.
pub(crate) fn key_of(head: &RequestHead) -> Option<&str> {
    let mut all = head.headers.get_all(KEY);
    let key = std::str::from_utf8(all.next()?).ok()?;
    let bytes = BASE64_STANDARD.decode(key).ok()?;
    (bytes.len() == 16 && all.next().is_none()).then_some(key)
}

/// A new key.
pub(crate) fn key() -> String {
    BASE64_STANDARD.encode(rand::random::<[u8; 16]>())
}

/// What a server answers to a key.
pub(crate) fn accept(key: &str) -> Box<str> {
    let text = [key, "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"].concat();
    BASE64_STANDARD
        .encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes()))
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_keys(keys: &[&str]) -> RequestHead {
        let mut head = RequestHead::default();
        for key in keys {
            head.headers.push(KEY, key).unwrap();
        }
        head
    }

    #[test]
    fn a_key_is_sixteen_bytes_and_one() {
        let good = "dGhlIHNhbXBsZSBub25jZQ==";
        assert_eq!(key_of(&with_keys(&[good])), Some(good));
        for bad in [
            &[][..],
            &[""],
            &["dGhlIHNhbXBsZSBub25jZQ"],
            &["dGhlIHNhbXBsZQ=="],
            &["not base64 at all =="],
            &[good, good],
        ] {
            assert_eq!(key_of(&with_keys(bad)), None, "{bad:?}");
        }
    }

    #[test]
    fn it_is_one_of_what_is_offered() {
        for (offered, asked) in [
            (Some("websocket"), true),
            (Some("first/1, WebSocket"), true),
            (Some("websocket2"), false),
            (None, false),
        ] {
            let head = RequestHead {
                upgrade: offered.map(Into::into),
                ..RequestHead::default()
            };
            assert_eq!(is_asked_for(&head), asked, "{offered:?}");
        }
    }

    #[test]
    fn the_example_of_the_rfc() {
        let accept = accept("dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(&*accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_ne!(key(), key());
        assert_eq!(key().len(), 24);
    }
}
