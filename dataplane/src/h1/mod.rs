//! HTTP/1 as we read and write it: strict on both sides, sans I/O.
//!
//! httparse splits a head into tokens; every rule about what a message *means* is ours. Nothing is passed through:
//! heads and chunk framing are written anew from what was parsed, so that a next hop can only read what we read.
//! A message that could be read in two ways is refused, and nothing more is read from its connection.
//!
//! - [`head`]: requests (server side), [`response`]: answers (client side), over [`fields`], what both share.
//! - [`body`]: where a body ends; [`chunked`] is its difficult half.
//! - [`encode`]: writing heads and bodies.
//! - [`upgrade`]: asking for another protocol, and the answer to that.

pub mod body;
pub mod chunked;
pub mod encode;
pub mod fields;
pub mod head;
mod reject;
pub mod response;
pub mod upgrade;

pub use reject::{EdgeRule, Reject};

/// Bytes of one head, from the first byte of its first line to the empty line.
pub const MAX_HEAD: usize = 64 << 10;
/// Fields of one head.
pub const MAX_FIELDS: usize = 100;
/// Bytes of one request target.
pub const MAX_TARGET: usize = 8 << 10;
/// Bytes of one trailer section.
pub const MAX_TRAILERS: usize = 8 << 10;
/// Fields of one trailer section.
pub const MAX_TRAILER_FIELDS: usize = 32;

/// What a listener allows the heads of its requests, within the bounds above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// Bytes of a head; more is 431.
    pub bytes: usize,
    /// Fields of a head; more is 431.
    pub fields: usize,
    /// Bytes of a target; more is 414.
    pub target: usize,
}

impl Default for HeadLimits {
    fn default() -> Self {
        Self {
            bytes: MAX_HEAD,
            fields: MAX_FIELDS,
            target: MAX_TARGET,
        }
    }
}

#[cfg(test)]
mod tests;
