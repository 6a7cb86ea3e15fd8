//! Opening a connection to an upstream: TCP and its options, a PROXY header, TLS.

use super::fault::UpFault;
use super::io::Socket;
use super::pool::PoolCounters;
use super::tls_client::TlsClient;
use socket2::{SockRef, TcpKeepalive};
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// How a connection is opened.
#[derive(Clone, Copy, Debug)]
pub struct Dial<'a> {
    pub address: SocketAddr,
    pub tls: Option<&'a TlsClient>,
    /// Idle time after which the kernel probes whether the other side is still there; `None`: never.
    pub keepalive: Option<Duration>,
    /// Goes before everything else, TLS included: the PROXY header.
    pub preface: &'a [u8],
}

impl Dial<'_> {
    /// Opens the connection; no time limit of its own.
    ///
    /// # Errors
    /// [`UpFault::Connect`] or [`UpFault::Tls`].
    pub async fn open(&self, counters: &Arc<PoolCounters>) -> Result<UpSocket, UpFault> {
        let opened = self.transport().await;
        match opened {
            Ok(transport) => {
                counters.opened.fetch_add(1, Relaxed);
                counters.open.fetch_add(1, Relaxed);
                Ok(UpSocket {
                    transport,
                    counters: Arc::clone(counters),
                })
            }
            Err(fault) => {
                counters.failed.fetch_add(1, Relaxed);
                Err(fault)
            }
        }
    }

    async fn transport(&self) -> Result<Transport, UpFault> {
        let refused = |e: io::Error| UpFault::Connect(e.kind());
        let mut tcp = TcpStream::connect(self.address).await.map_err(refused)?;
        // Without these answers are only slower, and dead peers found later.
        let _ = tcp.set_nodelay(true);
        if let Some(idle) = self.keepalive {
            let probes = TcpKeepalive::new()
                .with_time(idle)
                .with_interval((idle / 4).max(Duration::from_secs(1)));
            let _ = SockRef::from(&tcp).set_tcp_keepalive(&probes);
        }
        if !self.preface.is_empty() {
            tcp.write_all(self.preface).await.map_err(refused)?;
        }
        let Some(tls) = self.tls else {
            return Ok(Transport::Plain(tcp));
        };
        let connector = TlsConnector::from(Arc::clone(tls.config()));
        match connector.connect(tls.name().clone(), tcp).await {
            Ok(stream) => Ok(Transport::Tls(Box::new(stream))),
            Err(error) => {
                tls.complain(self.address, &error);
                Err(UpFault::Tls)
            }
        }
    }
}

/// A connection to an upstream.
#[derive(Debug)]
pub struct UpSocket {
    transport: Transport,
    counters: Arc<PoolCounters>,
}

#[derive(Debug)]
enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl UpSocket {
    /// The protocol that the upstream chose by ALPN.
    pub fn alpn(&self) -> Option<&[u8]> {
        match &self.transport {
            Transport::Plain(_) => None,
            Transport::Tls(stream) => stream.get_ref().1.alpn_protocol(),
        }
    }

    pub fn is_tls(&self) -> bool {
        matches!(self.transport, Transport::Tls(_))
    }

    fn tcp(&self) -> &TcpStream {
        match &self.transport {
            Transport::Plain(tcp) => tcp,
            Transport::Tls(stream) => stream.get_ref().0,
        }
    }
}

impl Drop for UpSocket {
    fn drop(&mut self) {
        self.counters.open.fetch_sub(1, Relaxed);
    }
}

impl Socket for UpSocket {
    fn reset_on_close(&self) {
        self.tcp().reset_on_close();
    }

    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        match &self.transport {
            Transport::Plain(tcp) => tcp.poll_readable(cx),
            // Decrypted bytes may wait above a quiet socket.
            Transport::Tls(stream) if !stream.get_ref().1.wants_read() => Poll::Ready(()),
            Transport::Tls(stream) => stream.get_ref().0.poll_readable(cx),
        }
    }

    fn is_quiet(&mut self) -> bool {
        match &mut self.transport {
            Transport::Plain(tcp) => tcp.is_quiet(),
            // Records without data (session tickets) may come at any time: only reading tells them from others.
            Transport::Tls(stream) => {
                let mut byte = [0u8; 1];
                let mut cx = Context::from_waker(Waker::noop());
                Pin::new(&mut **stream)
                    .poll_read(&mut cx, &mut ReadBuf::new(&mut byte))
                    .is_pending()
            }
        }
    }
}

impl AsyncRead for UpSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.transport {
            Transport::Plain(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Transport::Tls(stream) => Pin::new(&mut **stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for UpSocket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.transport {
            Transport::Plain(tcp) => Pin::new(tcp).poll_write(cx, data),
            Transport::Tls(stream) => Pin::new(&mut **stream).poll_write(cx, data),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.transport {
            Transport::Plain(tcp) => Pin::new(tcp).poll_write_vectored(cx, data),
            Transport::Tls(stream) => Pin::new(&mut **stream).poll_write_vectored(cx, data),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.transport {
            Transport::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Transport::Tls(stream) => Pin::new(&mut **stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.transport {
            Transport::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Transport::Tls(stream) => Pin::new(&mut **stream).poll_shutdown(cx),
        }
    }
}
