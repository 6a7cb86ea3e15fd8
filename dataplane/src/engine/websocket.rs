//! The proof of a WebSocket's handshake (RFC 6455 section 1.3), on behalf of clients that give none: over HTTP/2 there
//! is nothing to prove (RFC 8441 section 5), but an upstream over HTTP/1.1 wants a key and shows that it understood.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

/// Our key in a request. It is no secret: it keeps answers of caches apart.
pub(crate) const KEY: &str = "sec-websocket-key";
/// The proof in an answer.
pub(crate) const ACCEPT: &str = "sec-websocket-accept";

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

    #[test]
    fn the_example_of_the_rfc() {
        let accept = accept("dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(&*accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_ne!(key(), key());
        assert_eq!(key().len(), 24);
    }
}
