//! One request and its response as plugins see them: read-only.

use model::{AcceptedCodings, Headers};
use std::net::SocketAddr;

/// What a plugin may look at. `response` is there from `post_request` on.
#[derive(Clone, Copy)]
pub struct Exchange<'a> {
    pub request: RequestView<'a>,
    pub response: Option<ResponseView<'a>>,
}

/// The request as it goes on: in normal form, with the edits of earlier groups applied.
#[derive(Clone, Copy)]
pub struct RequestView<'a> {
    pub method: &'a str,
    /// `http` or `https`.
    pub scheme: &'a str,
    /// Canonical host without port; empty where the client named none.
    pub host: &'a str,
    /// As the client wrote it behind the host; `None`: the default of the scheme.
    pub port: Option<u16>,
    pub path: &'a str,
    /// Bytes of the path that the rule's match covers.
    pub prefix_len: usize,
    /// Without the question mark.
    pub query: Option<&'a str>,
    pub headers: &'a Headers,
    /// The client's address.
    pub client: SocketAddr,
    /// Content codings that the client accepts, whatever the upstream is told; the default unless a plugin of this
    /// chain asked by [`crate::Needs::codings`].
    pub accepts: AcceptedCodings,
    /// The whole body, where a plugin of this chain asked for it by [`crate::BodyMode::Buffer`].
    pub body: Option<&'a [u8]>,
}

#[derive(Clone, Copy)]
pub struct ResponseView<'a> {
    pub status: u16,
    pub headers: &'a Headers,
    /// Bytes of the body, where they are known in advance.
    pub length: Option<u64>,
    /// The whole body, where a plugin of this chain asked for it by [`crate::BodyMode::Buffer`].
    pub body: Option<&'a [u8]>,
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A request for tests of plugins.
    pub(crate) fn request<'a>(
        method: &'a str,
        path: &'a str,
        headers: &'a Headers,
    ) -> Exchange<'a> {
        Exchange {
            request: RequestView {
                method,
                scheme: "http",
                host: "test",
                port: None,
                path,
                prefix_len: 0,
                query: None,
                headers,
                client: ([192, 0, 2, 1], 1000).into(),
                accepts: AcceptedCodings::of(headers),
                body: None,
            },
            response: None,
        }
    }
}
