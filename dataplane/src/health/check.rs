//! One active check of one endpoint, on a connection of its own.

use crate::engine::{Dial, ResponseHead, Tunnel, UpSocket, proxy_header};
use crate::h1::response::ResponseParser;
use crate::table::Upstream;
use bytes::{BufMut, Bytes, BytesMut};
use http::{Method, Request, Uri};
use model::{Check, UpstreamProtocol};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

/// How a check calls itself.
const AGENT: &str = "diolkos-health-check";
/// Bytes of an answer that are looked at.
const LONGEST: usize = 64 * 1024;
/// gRPC's `SERVING` (grpc.health.v1).
const SERVING: u64 = 1;

/// Asks the endpoint; no time limit of its own.
///
/// # Errors
/// Why the endpoint does not work.
pub(super) async fn check(how: &Check, upstream: &Upstream, addr: SocketAddr) -> io::Result<()> {
    match how {
        Check::Tcp => TcpStream::connect(addr).await.map(drop),
        Check::Http { path, expect, host } => {
            let address;
            let host = match host {
                Some(host) => host,
                None => {
                    address = addr.to_string();
                    &address
                }
            };
            let socket = open(upstream, addr).await?;
            let in_clear = upstream.settings.protocol == UpstreamProtocol::H2C;
            let status = match socket.alpn() == Some(b"h2") || (in_clear && !socket.is_tls()) {
                true => h2(socket, host, path).await?,
                false => h1(socket, host, path).await?,
            };
            let mut ranges = expect.iter();
            if ranges.any(|(first, last)| (*first..=*last).contains(&status)) {
                return Ok(());
            }
            Err(io::Error::other("unexpected status"))
        }
        Check::Grpc { service } => grpc(open(upstream, addr).await?, addr, service).await,
    }
}

/// A connection as requests get one: with the upstream's TLS and its PROXY header, which names no client but the
/// endpoint itself.
async fn open(upstream: &Upstream, addr: SocketAddr) -> io::Result<UpSocket> {
    let wire = &upstream.wire;
    let preface = match wire.proxy {
        None => Vec::new(),
        Some(version) => proxy_header::write(version, addr, addr),
    };
    let want = wire.want(addr, &preface, Tunnel::None, true, wire.some_shown());
    let want = want.map_err(io::Error::other)?;
    let dial = Dial {
        address: addr,
        tls: want.tls,
        keepalive: None,
        preface: &preface,
    };
    dial.open(&Arc::default()).await.map_err(io::Error::other)
}

/// The status of a GET over HTTP/1.
async fn h1(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    host: &str,
    path: &str,
) -> io::Result<u16> {
    let request = format!(
        "GET {path} HTTP/1.1\r\nhost: {host}\r\nuser-agent: {AGENT}\r\naccept: */*\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut input = BytesMut::new();
    let mut head = ResponseHead::default();
    let mut parser = ResponseParser::default();
    loop {
        let parsed = parser.parse(&input, false, &mut head);
        match parsed.map_err(io::Error::other)? {
            Some(parsed) if head.is_informational() => {
                let _ = input.split_to(parsed.len);
                parser = ResponseParser::default();
            }
            Some(_) => return Ok(head.status),
            None if input.len() >= LONGEST => return Err(io::ErrorKind::InvalidData.into()),
            None => {
                if stream.read_buf(&mut input).await? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
        }
    }
}

/// The status of a GET over HTTP/2.
async fn h2(stream: UpSocket, host: &str, path: &str) -> io::Result<u16> {
    let request = Request::builder()
        .method(Method::GET)
        .uri(uri(&stream, host, path)?)
        .header("user-agent", AGENT)
        .body(())
        .map_err(io::Error::other)?;
    let (mut sender, connection) = ::h2::client::handshake(stream)
        .await
        .map_err(io::Error::other)?;
    let answer = async {
        ready(&mut sender).await?;
        let (response, _) = sender.send_request(request, true)?;
        response.await
    };
    tokio::select! {
        answer = answer => Ok(answer.map_err(io::Error::other)?.status().as_u16()),
        _ = connection => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

async fn ready(sender: &mut ::h2::client::SendRequest<Bytes>) -> Result<(), ::h2::Error> {
    std::future::poll_fn(|cx| sender.poll_ready(cx)).await
}

fn uri(stream: &UpSocket, host: &str, path: &str) -> io::Result<Uri> {
    let scheme = if stream.is_tls() { "https" } else { "http" };
    let uri = Uri::builder().scheme(scheme).authority(host);
    uri.path_and_query(path).build().map_err(io::Error::other)
}

/// `grpc.health.v1.Health/Check`.
async fn grpc(stream: UpSocket, addr: SocketAddr, service: &str) -> io::Result<()> {
    let request = Request::builder()
        .method(Method::POST)
        .uri(uri(
            &stream,
            &addr.to_string(),
            "/grpc.health.v1.Health/Check",
        )?)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", AGENT)
        .body(())
        .map_err(io::Error::other)?;
    let (mut sender, connection) = ::h2::client::handshake(stream)
        .await
        .map_err(io::Error::other)?;
    let exchange = async {
        ready(&mut sender).await?;
        let (response, mut body) = sender.send_request(request, false)?;
        body.send_data(ask(service), true)?;
        let answer = response.await?;
        let status = answer.status();
        let mut body = answer.into_body();
        let mut message = BytesMut::new();
        while let Some(piece) = body.data().await {
            let piece = piece?;
            body.flow_control().release_capacity(piece.len())?;
            if message.len() + piece.len() > LONGEST {
                break;
            }
            message.extend_from_slice(&piece);
        }
        Ok::<_, ::h2::Error>((status, message))
    };
    let (status, message) = tokio::select! {
        exchange = exchange => exchange.map_err(io::Error::other)?,
        _ = connection => return Err(io::ErrorKind::UnexpectedEof.into()),
    };
    if status == 200 && serving(&message) {
        return Ok(());
    }
    Err(io::Error::other("not serving"))
}

/// A `HealthCheckRequest` in its gRPC frame: field 1 is the service.
fn ask(service: &str) -> Bytes {
    let mut message = BytesMut::new();
    if !service.is_empty() {
        message.put_u8(0x0a);
        put_varint(&mut message, service.len() as u64);
        message.extend_from_slice(service.as_bytes());
    }
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    frame.extend_from_slice(&message);
    frame.freeze()
}

fn put_varint(out: &mut BytesMut, mut n: u64) {
    while n >= 0x80 {
        out.put_u8((n & 0x7f) as u8 | 0x80);
        n >>= 7;
    }
    out.put_u8(n as u8);
}

/// Whether this is the frame of a `HealthCheckResponse` whose field 1, the status, says that it serves. The message
/// has no other field; what comes after it is of a later version.
fn serving(frame: &[u8]) -> bool {
    let Some((head, rest)) = frame.split_at_checked(5) else {
        return false;
    };
    let length = match *head {
        [0, a, b, c, d] => u32::from_be_bytes([a, b, c, d]),
        _ => return false,
    };
    let message = usize::try_from(length).ok().and_then(|n| rest.get(..n));
    let Some([0x08, value @ ..]) = message else {
        return false;
    };
    let mut status = 0_u64;
    for (i, byte) in value.iter().take(9).enumerate() {
        status |= u64::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return status == SERVING;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_the_health_protocol() {
        assert_eq!(&ask("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(&ask("ab")[..], [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        assert!(ask(&"s".repeat(200)).starts_with(&[0, 0, 0, 0, 203, 0x0a, 0xc8, 0x01, b's']));
        assert!(serving(&[0, 0, 0, 0, 2, 0x08, 1]));
        for not in [
            &[0, 0, 0, 0, 2, 0x08, 2][..],
            &[0, 0, 0, 0, 0],
            &[1, 0, 0, 0, 2, 0x08, 1],
            &[0, 0, 0, 0, 3, 0x08, 1],
            &[0, 0, 0, 0, 1, 0x08],
            &[0, 0, 0, 0, 2, 0x08, 0x81],
            &[],
        ] {
            assert!(!serving(not), "{not:?}");
        }
    }
}
