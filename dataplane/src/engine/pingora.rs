//! The one place that knows pingora's types: our transports as its [`Stream`], and how it begins HTTP/2 connections.
//!
//! pingora-core pins down which HTTP/2 settings are safe to offer and follows the `h2` crate's security releases; what
//! it gives is a connection of that crate, which the rest of the engine uses directly. Nothing of pingora's own
//! runtime, listeners or pool is used.

use async_trait::async_trait;
use bytes::Bytes;
pub(crate) use pingora_core::protocols::Stream;
use pingora_core::protocols::http::v2::server;
pub(crate) use pingora_core::protocols::http::v2::server::H2Options;
use pingora_core::protocols::raw_connect::ProxyDigest;
use pingora_core::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl,
    TimingDigest, UniqueID, UniqueIDType,
};
use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};

/// A client's connection that speaks HTTP/2.
pub(crate) type H2Connection = h2::server::Connection<Stream, Bytes>;

/// Our transport in the form that pingora takes.
pub(crate) struct Transport<S>(S);

impl<S> Transport<S>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + Sync + 'static,
{
    pub(crate) fn stream(socket: S) -> Stream {
        Box::new(Self(socket))
    }
}

/// Reads the client's preface and exchanges settings on a connection that speaks HTTP/2. `options` begins with
/// pingora's bounded defaults.
///
/// # Errors
/// The client is gone or does not speak HTTP/2.
pub(crate) async fn accept(
    stream: Stream,
    options: impl FnOnce(&mut H2Options),
) -> io::Result<H2Connection> {
    let mut settings = server::default_h2_options();
    options(&mut settings);
    let connection = server::handshake(stream, Some(settings)).await;
    connection.map_err(|_| io::ErrorKind::ConnectionAborted.into())
}

impl<S: AsyncRead + Unpin> AsyncRead for Transport<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Transport<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, data)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, data)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

impl<S> fmt::Debug for Transport<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport").finish_non_exhaustive()
    }
}

#[async_trait]
impl<S: AsyncWrite + Unpin + Send> Shutdown for Transport<S> {
    async fn shutdown(&mut self) {
        // It ends in any case.
        let _ = AsyncWriteExt::shutdown(&mut self.0).await;
    }
}

/// Identity and digests serve pingora's own pool and logs, which are not used.
impl<S> UniqueID for Transport<S> {
    fn id(&self) -> UniqueIDType {
        0
    }
}

impl<S> Ssl for Transport<S> {
    fn selected_alpn_proto(&self) -> Option<ALPN> {
        Some(ALPN::H2)
    }
}

impl<S> GetTimingDigest for Transport<S> {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl<S> GetProxyDigest for Transport<S> {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        None
    }
}

impl<S> GetSocketDigest for Transport<S> {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        None
    }
}

impl<S> Peek for Transport<S> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_connection_begins_with_bounded_settings() {
        let (near, far) = tokio::io::duplex(4096);
        let served = tokio::spawn(async move {
            let mut connection = accept(Transport::stream(near), |o| {
                o.max_concurrent_streams(7);
            })
            .await
            .unwrap();
            let (request, mut respond) = connection.accept().await.unwrap().unwrap();
            assert_eq!(request.uri().path(), "/x");
            respond
                .send_response(http::Response::new(()), true)
                .unwrap();
            assert!(connection.accept().await.is_none());
        });
        let (mut client, connection) = h2::client::handshake(far).await.unwrap();
        let connection = tokio::spawn(connection);
        let request = http::Request::get("http://h/x").body(()).unwrap();
        let (answer, _) = client.send_request(request, true).unwrap();
        assert_eq!(answer.await.unwrap().status(), 200);
        assert_eq!(client.current_max_send_streams(), 7);
        drop(client);
        connection.await.unwrap().unwrap();
        served.await.unwrap();
    }

    #[tokio::test]
    async fn something_else_than_http2_is_refused() {
        let (near, mut far) = tokio::io::duplex(4096);
        far.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
            .await
            .unwrap();
        assert!(accept(Transport::stream(near), |_| ()).await.is_err());
    }
}
