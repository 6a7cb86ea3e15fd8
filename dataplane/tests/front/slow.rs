//! Who takes what comes within TLS late, and through a small window: what arrives is whole, whoever sends is held back
//! meanwhile, and the connection goes on. What the session keeps while the socket has no room leaves as soon as there is
//! some, though nothing follows it.

use super::*;
use bytes::Bytes;
use h2::RecvStream;
use http::{Request, Response};
use rustls::version::TLS13;
use std::future::poll_fn;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Instant;
use support::pki::{Ca, server};
use support::{big, is_big};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, BufReader, ReadHalf, WriteHalf};
use tokio_rustls::TlsAcceptor;

/// More than all sockets on the way have room for.
const SIZE: usize = 32 << 20;
/// And sizes of which one or the other fills the socket to somebody who reads nothing, and leaves the rest of itself, with
/// nothing behind it, to what the session keeps: 64 KiB.
const SIZES: [usize; 8] = [
    64 << 10,
    96 << 10,
    128 << 10,
    160 << 10,
    192 << 10,
    224 << 10,
    256 << 10,
    SIZE,
];
/// What may be on its way to one who reads nothing: what the kernel's buffers grow to, and a few of ours.
const ON_THE_WAY: usize = SIZE / 2;
/// What the kernel holds for one who is late,
const ROOM: usize = 8 << 10;
/// and in pieces of this size, as between machines: with those of a loopback the sender's buffer has megabytes.
const SEGMENT: u32 = 1400;
/// A window that holds nobody back: TCP's is to.
const WIDE: u32 = 1 << 30;

// ------------------------------------------------------------------------------------------------ peers

fn within_a_minute(test: impl AsyncFnOnce()) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let minute = Duration::from_secs(60);
    runtime
        .block_on(async { tokio::time::timeout(minute, test()).await })
        .expect("done within a minute");
}

/// Everything goes from an HTTPS listener to the origin.
fn gateway() -> Gateway {
    Gateway::start(|model, ca| https(model, &[("a", ca.sign(&["a.test"]))], false))
}

/// A socket of one who has no room for more than it reads.
fn narrow() -> socket2::Socket {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(ROOM).unwrap();
    socket.set_tcp_mss(SEGMENT).unwrap();
    socket
}

/// Such a client.
async fn client(gateway: &Gateway, port: u16, protocol: &str) -> TlsStream<tokio::net::TcpStream> {
    let socket = narrow();
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    socket.connect(&address.into()).unwrap();
    socket.set_nonblocking(true).unwrap();
    let tcp = tokio::net::TcpStream::from_std(socket.into()).unwrap();
    let config = alpn(gateway.trusting(), &[protocol]);
    let name = ServerName::try_from("a.test").unwrap();
    let connector = TlsConnector::from(Arc::new(config));
    connector.connect(name, tcp).await.unwrap()
}

/// Such an upstream, which speaks this within TLS.
struct Late {
    listener: TcpListener,
    acceptor: TlsAcceptor,
    upstream: Upstream,
}

impl Late {
    fn new(protocol: &str) -> Self {
        let socket = narrow();
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        socket.bind(&any.into()).unwrap();
        socket.listen(8).unwrap();
        socket.set_nonblocking(true).unwrap();
        let listener = TcpListener::from(socket);
        let ca = Ca::new("upstreams");
        let config = server(&ca.issue(&["up.test"]), None, &[&TLS13], &[protocol]);
        let upstream = Upstream {
            protocol: UpstreamProtocol::Auto,
            // Each exchange has a connection of its own, whose buffers have not grown.
            connection: Connection {
                pool_size: 0,
                ..Connection::default()
            },
            tls: Some(UpstreamTls {
                sni: Some("up.test".into()),
                authorities: Some(ca.pem()),
                ..UpstreamTls::default()
            }),
            ..upstream(&[listener.local_addr().unwrap()])
        };
        Self {
            listener,
            acceptor: TlsAcceptor::from(config),
            upstream,
        }
    }

    async fn accept(&self) -> tokio_rustls::server::TlsStream<tokio::net::TcpStream> {
        let listener = self.listener.try_clone().unwrap();
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        let (tcp, _) = listener.accept().await.unwrap();
        self.acceptor.accept(tcp).await.unwrap()
    }
}

/// Waits until nothing more is written than has been, something having been written since `before`.
async fn rests(written: &AtomicUsize, before: usize) {
    let mut is = (before, Instant::now());
    while is.0 == before || is.1.elapsed() < Duration::from_millis(100) {
        let now = written.load(SeqCst);
        if now != is.0 {
            is = (now, Instant::now());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let ahead = is.0 - before;
    assert!(ahead < ON_THE_WAY, "{ahead} bytes on their way");
}

/// The next head.
async fn head(stream: &mut (impl AsyncBufReadExt + Unpin)) -> String {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert_ne!(stream.read_line(&mut head).await.unwrap(), 0, "{head:?}");
    }
    head
}

/// Reads a large body from a place on.
async fn take(stream: &mut (impl AsyncRead + Unpin), from: usize, size: usize) {
    let mut piece = vec![0; 64 << 10];
    let mut at = 0;
    while at < size {
        let most = piece.len().min(size - at);
        let n = stream.read(&mut piece[..most]).await.unwrap();
        assert_ne!(n, 0, "ended after {at} bytes");
        assert!(is_big(from + at, &piece[..n]), "other bytes after {at}");
        at += n;
    }
}

async fn take_stream(body: &mut RecvStream, size: usize) {
    let mut at = 0;
    while let Some(data) = body.data().await {
        let data = data.unwrap();
        assert!(is_big(at, &data), "other bytes after {at}");
        at += data.len();
        body.flow_control().release_capacity(data.len()).unwrap();
    }
    assert_eq!(at, size);
}

/// Writes a large body from a place on.
async fn give(stream: &mut (impl AsyncWrite + Unpin), from: usize, size: usize, n: &AtomicUsize) {
    let mut at = 0;
    while at < size {
        let piece = big(from + at, (size - at).min(64 << 10));
        stream.write_all(piece).await.unwrap();
        n.fetch_add(piece.len(), SeqCst);
        at += piece.len();
    }
    stream.flush().await.unwrap();
}

// ------------------------------------------------------------------------------------------------ answers

#[test]
fn a_client_that_reads_late_gets_its_whole_answer() {
    let gateway = gateway();
    let written = &gateway.origin.written;
    within_a_minute(async || {
        for size in SIZES {
            let stream = client(&gateway, gateway.address.port(), "http/1.1").await;
            let mut stream = BufReader::new(stream);
            for path in [&*format!("/big/{size}"), "/"] {
                let before = written.load(SeqCst);
                let text = format!("GET {path} HTTP/1.1\r\nHost: a.test\r\n\r\n");
                stream.write_all(text.as_bytes()).await.unwrap();
                if path != "/" {
                    rests(written, before).await;
                }
                let head = head(&mut stream).await;
                assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
                if path == "/" {
                    let mut hello = [0; 5];
                    stream.read_exact(&mut hello).await.unwrap();
                    assert_eq!(&hello, b"hello");
                } else {
                    take(&mut stream, 0, size).await;
                }
            }
        }
    });
}

#[test]
fn a_client_over_http2_that_reads_late_gets_its_whole_answer() {
    let gateway = gateway();
    let written = &gateway.origin.written;
    within_a_minute(async || {
        for size in SIZES {
            let stream = client(&gateway, gateway.address.port(), "h2").await;
            let mut builder = h2::client::Builder::new();
            builder
                .initial_window_size(WIDE)
                .initial_connection_window_size(WIDE);
            let (mut send, mut connection) = builder.handshake::<_, Bytes>(stream).await.unwrap();
            for path in [&*format!("/big/{size}"), "/"] {
                let before = written.load(SeqCst);
                let request = Request::get(format!("https://a.test{path}"));
                let (answer, _) = send.send_request(request.body(()).unwrap(), true).unwrap();
                // It reads as long as the connection is polled.
                let answer = tokio::select! {
                    answer = answer => answer.unwrap(),
                    _ = &mut connection => panic!("the connection has ended"),
                };
                assert_eq!(answer.status(), 200);
                if path != "/" {
                    rests(written, before).await;
                }
                let mut body = answer.into_body();
                let read = async {
                    match path {
                        "/" => assert_eq!(body.data().await.unwrap().unwrap(), "hello"),
                        _ => take_stream(&mut body, size).await,
                    }
                };
                tokio::select! {
                    () = read => {}
                    _ = &mut connection => panic!("the connection has ended"),
                }
            }
        }
    });
}

// ------------------------------------------------------------------------------------------------ bodies of requests

/// A body of each size, what is sent of it counted; each answered with `whole`.
async fn upload(address: SocketAddr, sent: &AtomicUsize) {
    let tcp = tokio::net::TcpStream::connect(address).await.unwrap();
    let mut stream = BufReader::new(tcp);
    for size in SIZES {
        let text = format!("POST / HTTP/1.1\r\nHost: t\r\nContent-Length: {size}\r\n\r\n");
        stream.write_all(text.as_bytes()).await.unwrap();
        give(&mut stream, 0, size, sent).await;
        let head = head(&mut stream).await;
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        let mut whole = [0; 5];
        stream.read_exact(&mut whole).await.unwrap();
        assert_eq!(&whole, b"whole");
    }
}

#[test]
fn an_upstream_that_reads_late_gets_the_whole_body() {
    let late = Late::new("http/1.1");
    let plane = Plane::start(&through(&late.upstream));
    let sent = AtomicUsize::new(0);
    within_a_minute(async || {
        let upstream = async {
            let mut before = 0;
            for size in SIZES {
                let mut stream = BufReader::new(late.accept().await);
                head(&mut stream).await;
                rests(&sent, before).await;
                before += size;
                take(&mut stream, 0, size).await;
                let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwhole";
                stream.write_all(answer).await.unwrap();
                stream.flush().await.unwrap();
            }
        };
        tokio::join!(upload(plane.address, &sent), upstream);
    });
}

#[test]
fn an_upstream_over_http2_that_reads_late_gets_the_whole_body() {
    let late = Late::new("h2");
    let plane = Plane::start(&through(&late.upstream));
    let sent = AtomicUsize::new(0);
    within_a_minute(async || {
        let upstream = async {
            let mut builder = h2::server::Builder::new();
            builder
                .initial_window_size(WIDE)
                .initial_connection_window_size(WIDE);
            let mut before = 0;
            for size in SIZES {
                let stream = late.accept().await;
                let mut connection = builder.handshake::<_, Bytes>(stream).await.unwrap();
                let (request, mut respond) = connection.accept().await.unwrap().unwrap();
                // It reads as long as the connection is polled.
                rests(&sent, before).await;
                before += size;
                let mut body = request.into_body();
                tokio::select! {
                    () = take_stream(&mut body, size) => {}
                    _ = poll_fn(|cx| connection.poll_closed(cx)) => panic!("the connection has ended"),
                }
                let answer = Response::builder().header("content-length", 5);
                let answer = answer.body(()).unwrap();
                let mut out = respond.send_response(answer, false).unwrap();
                out.send_data(Bytes::from_static(b"whole"), true).unwrap();
                let _ = poll_fn(|cx| connection.poll_closed(cx)).await;
            }
        };
        tokio::join!(upload(plane.address, &sent), upstream);
    });
}

// ------------------------------------------------------------------------------------------------ both ways

/// One side of a WebSocket.
struct Side<S> {
    input: ReadHalf<S>,
    output: WriteHalf<S>,
    /// Of its frames, before the masking key.
    opcode_and_length: [u8; 2],
    key: &'static [u8],
}

impl<S: AsyncRead + AsyncWrite> Side<S> {
    fn client(stream: S) -> Self {
        // A key of zeroes changes nothing.
        Self::new(stream, [0x82, 0xff], &[0; 4])
    }

    fn server(stream: S) -> Self {
        Self::new(stream, [0x82, 0x7f], &[])
    }

    fn new(stream: S, opcode_and_length: [u8; 2], key: &'static [u8]) -> Self {
        let (input, output) = tokio::io::split(stream);
        Self {
            input,
            output,
            opcode_and_length,
            key,
        }
    }

    /// How a message of it begins.
    fn begins(&self, size: usize) -> Vec<u8> {
        let length = (size as u64).to_be_bytes();
        [&self.opcode_and_length[..], &length, self.key].concat()
    }
}

/// Begins when nothing more is taken of what is sent.
async fn take_message<S: AsyncRead>(
    input: &mut ReadHalf<S>,
    begins: &[u8],
    size: usize,
    sent: &AtomicUsize,
) {
    rests(sent, 0).await;
    let mut begin = vec![0; begins.len()];
    input.read_exact(&mut begin).await.unwrap();
    assert_eq!(begin, begins);
    take(input, 0, size).await;
}

/// A large message both ways at once, of which nothing is read before no more is taken; then small ones, then the ends.
async fn talk<A, B>(mut client: Side<A>, mut upstream: Side<B>, size: usize)
where
    A: AsyncRead + AsyncWrite,
    B: AsyncRead + AsyncWrite,
{
    let (up, down) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let (begins, answers) = (client.begins(size), upstream.begins(size));
    client.output.write_all(&begins).await.unwrap();
    upstream.output.write_all(&answers).await.unwrap();
    tokio::join!(
        give(&mut client.output, 0, size, &up),
        give(&mut upstream.output, 0, size, &down),
        take_message(&mut upstream.input, &begins, size, &up),
        take_message(&mut client.input, &answers, size, &down),
    );
    let mut pong = [0; 2];
    client.output.write_all(&[0x89, 0]).await.unwrap();
    upstream.input.read_exact(&mut pong).await.unwrap();
    upstream.output.write_all(&[0x8a, 0]).await.unwrap();
    client.input.read_exact(&mut pong).await.unwrap();
    assert_eq!(pong, [0x8a, 0]);
    upstream.output.shutdown().await.unwrap();
    assert_eq!(client.input.read(&mut pong).await.unwrap(), 0);
    client.output.write_all(&[0x88, 0]).await.unwrap();
    client.output.shutdown().await.unwrap();
    assert_eq!(upstream.input.read(&mut pong).await.unwrap(), 2);
    assert_eq!(upstream.input.read(&mut pong).await.unwrap(), 0);
}

#[test]
fn a_websocket_whose_sides_read_late_loses_nothing() {
    let late = Late::new("http/1.1");
    let gateway = Gateway::start(|model, ca| {
        https(model, &[("a", ca.sign(&["a.test"]))], false);
        model.upstreams.insert("up".into(), late.upstream.clone());
    });
    within_a_minute(async || {
        for size in SIZES {
            let stream = client(&gateway, gateway.address.port(), "http/1.1").await;
            let mut client = BufReader::new(stream);
            let ask = "GET /chat HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\n\
                       Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
            client.write_all(ask.as_bytes()).await.unwrap();
            let mut upstream = BufReader::new(late.accept().await);
            head(&mut upstream).await;
            let switch = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
                          Upgrade: websocket\r\n\
                          Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
            upstream.write_all(switch.as_bytes()).await.unwrap();
            upstream.flush().await.unwrap();
            let answer = head(&mut client).await;
            assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
            talk(Side::client(client), Side::server(upstream), size).await;
        }
    });
}

#[test]
fn a_stream_whose_sides_read_late_loses_nothing() {
    let (late, port) = (Late::new("db"), streams::free_port());
    let gateway = Gateway::start(|model, ca| {
        https(model, &[("a", ca.sign(&["a.test"]))], false);
        let front = model.listeners.get_mut("d/gw/front").unwrap();
        (front.protocol, front.port) = (ListenerProtocol::Tls, port);
        model.upstreams.insert("up".into(), late.upstream.clone());
    });
    within_a_minute(async || {
        for size in SIZES {
            let client = client(&gateway, port, "db").await;
            let upstream = late.accept().await;
            talk(Side::client(client), Side::server(upstream), size).await;
        }
    });
}
