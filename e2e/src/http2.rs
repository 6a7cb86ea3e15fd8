//! HTTP/2 of the test client: requests one after the other on one connection within TLS.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use h2::client::SendRequest;
use http::HeaderMap;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio_rustls::TlsConnector;

use crate::client::{Answer, Request};
use crate::message::Fields;

/// How long a handshake or an exchange may take before the test gives up.
const PATIENCE: Duration = Duration::from_secs(30);

/// An open connection, which lives while something is asked.
pub(crate) struct Session {
    runtime: Runtime,
    requests: SendRequest<Bytes>,
}

impl Session {
    /// Connect and name this host.
    pub(crate) fn open(address: SocketAddr, host: &str, config: Arc<ClientConfig>) -> Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let name = ServerName::try_from(host.to_owned())?;
        let requests = runtime.block_on(in_time(async {
            let stream = TcpStream::connect(address).await?;
            let stream = TlsConnector::from(config).connect(name, stream).await?;
            let chosen = stream.get_ref().1.alpn_protocol();
            ensure!(chosen == Some(b"h2"), "HTTP/2 is not chosen: {chosen:?}");
            let (requests, connection) = h2::client::handshake(stream).await?;
            // How it ends shows in the requests.
            tokio::spawn(connection);
            Ok(requests)
        }))?;
        Ok(Self { runtime, requests })
    }

    /// Send a request and read its answer.
    pub(crate) fn send(&mut self, request: &Request) -> Result<Answer> {
        let authority = request.field("host").unwrap_or(&request.host);
        let mut head = http::Request::builder()
            .method(&*request.method)
            .uri(format!("https://{authority}{}", request.target));
        for (name, value) in &request.headers {
            if !name.eq_ignore_ascii_case("host") {
                head = head.header(name, value);
            }
        }
        let head = head.body(())?;
        let body = Bytes::copy_from_slice(&request.body);
        let requests = self.requests.clone();
        self.runtime.block_on(in_time(async {
            let (answer, mut out) = requests
                .ready()
                .await?
                .send_request(head, body.is_empty())?;
            if !body.is_empty() {
                out.send_data(body, true)?;
            }
            let (head, mut stream) = answer.await?.into_parts();
            let mut answer = Answer {
                status: head.status.as_u16(),
                headers: fields(&head.headers)?,
                body: Vec::new(),
                trailers: Fields::default(),
                keep_alive: true,
                cut: false,
            };
            while let Some(data) = stream.data().await {
                let Ok(data) = data else {
                    answer.cut = true;
                    return Ok(answer);
                };
                stream.flow_control().release_capacity(data.len())?;
                answer.body.extend_from_slice(&data);
            }
            answer.trailers = fields(&stream.trailers().await?.unwrap_or_default())?;
            Ok(answer)
        }))
    }
}

async fn in_time<T>(what: impl Future<Output = Result<T>>) -> Result<T> {
    let ended = tokio::time::timeout(PATIENCE, what).await;
    ended.context("not in time")?
}

fn fields(map: &HeaderMap) -> Result<Fields> {
    let field = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
        Ok((name.to_string(), value.to_str()?.to_owned()))
    };
    map.iter().map(field).collect::<Result<_>>().map(Fields)
}
