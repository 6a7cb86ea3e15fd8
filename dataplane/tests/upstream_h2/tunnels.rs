//! WebSockets and other upgrades to upstreams over HTTP/2: an extended CONNECT (RFC 8441) to a peer that echoes, and what
//! becomes of them where the peer takes none.

use super::support::config::{through, upstream};
use super::support::pki::{Ca, server};
use super::support::plane::Plane;
use super::support::{Answer, Client, PATIENCE, becomes, noise};
use super::{h2c, send};
use bytes::Bytes;
use h2::ext::Protocol;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::{HeaderMap, Request, Response};
use model::{Upstream, UpstreamProtocol, UpstreamTls};
use rustls::version::TLS13;
use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, SocketAddr};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;

const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
/// What answers it.
const PROOF: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// A request that reached the peer.
struct Seen {
    /// Of its connection, the first of which is 1.
    connection: usize,
    method: String,
    protocol: Option<String>,
    uri: String,
    headers: HeaderMap,
}

struct Peer {
    address: SocketAddr,
    seen: Receiver<Seen>,
    /// Why a tunnel ended before its client had ended it.
    cut: Receiver<Option<Reason>>,
    _runtime: tokio::runtime::Runtime,
}

#[derive(Clone)]
struct Notes {
    seen: Sender<Seen>,
    cut: Sender<Option<Reason>>,
}

impl Peer {
    /// `offers`: it takes extended CONNECT.
    fn start(offers: bool) -> Self {
        Self::with(offers, None)
    }

    /// Over TLS it speaks HTTP/1.1 as well, where that is chosen: there it switches protocols, and says so.
    fn with(offers: bool, tls: Option<Arc<rustls::ServerConfig>>) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let (seen_in, seen) = channel();
        let (cut_in, cut) = channel();
        let notes = Notes {
            seen: seen_in,
            cut: cut_in,
        };
        runtime.spawn(async move {
            for connection in 1.. {
                let Ok((stream, _)) = listener.accept().await else {
                    return;
                };
                let (tls, notes) = (tls.clone(), notes.clone());
                tokio::spawn(async move {
                    let Some(config) = tls else {
                        return http2(stream, connection, offers, notes).await;
                    };
                    let acceptor = tokio_rustls::TlsAcceptor::from(config);
                    let Ok(stream) = acceptor.accept(stream).await else {
                        return;
                    };
                    match stream.get_ref().1.alpn_protocol() {
                        Some(b"h2") => http2(stream, connection, offers, notes).await,
                        _ => http1(stream).await,
                    }
                });
            }
        });
        Self {
            address,
            seen,
            cut,
            _runtime: runtime,
        }
    }

    fn next(&self) -> Seen {
        self.seen.recv_timeout(PATIENCE).unwrap()
    }
}

async fn http2<S>(stream: S, connection: usize, offers: bool, notes: Notes)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = h2::server::Builder::new();
    if offers {
        builder.enable_connect_protocol();
    }
    let Ok(mut served) = builder.handshake(stream).await else {
        return;
    };
    while let Some(Ok((request, respond))) = served.accept().await {
        let protocol = request.extensions().get::<Protocol>();
        let seen = Seen {
            connection,
            method: request.method().to_string(),
            protocol: protocol.map(|p| p.as_str().to_owned()),
            uri: request.uri().to_string(),
            headers: request.headers().clone(),
        };
        let notes = notes.clone();
        tokio::spawn(async move {
            let _ = notes.seen.send(seen);
            let _ = exchange(request, respond, &notes).await;
        });
    }
}

async fn exchange(
    mut request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    notes: &Notes,
) -> Result<(), h2::Error> {
    let answer = |status| Response::builder().status(status);
    let is_tunnel = request.extensions().get::<Protocol>().is_some();
    let path = request.uri().path().to_owned();
    let body = request.body_mut();
    if !is_tunnel {
        let head = answer(200).body(()).unwrap();
        return send(&mut respond, head, b"plain", None).await;
    }
    match &*path {
        "/no" => {
            let head = answer(403).body(()).unwrap();
            send(&mut respond, head, b"no", None).await?;
            // It is told that nothing more comes.
            assert!(body.data().await.is_none());
            Ok(())
        }
        "/reset" => {
            let mut out = respond.send_response(answer(200).body(()).unwrap(), false)?;
            let _ = body.data().await;
            out.send_reset(Reason::INTERNAL_ERROR);
            Ok(())
        }
        _ => {
            let head = answer(if path == "/created" { 201 } else { 200 });
            let head = head.header("sec-websocket-protocol", "chat");
            let mut out = respond.send_response(head.body(()).unwrap(), false)?;
            while let Some(data) = body.data().await {
                let mut data = match data {
                    Ok(data) => data,
                    Err(error) => {
                        let _ = notes.cut.send(error.reason());
                        return Ok(());
                    }
                };
                let _ = body.flow_control().release_capacity(data.len());
                while !data.is_empty() {
                    out.reserve_capacity(data.len());
                    let room = std::future::poll_fn(|cx| out.poll_capacity(cx)).await;
                    let Some(Ok(room)) = room else { return Ok(()) };
                    out.send_data(data.split_to(room.min(data.len())), false)?;
                }
            }
            out.send_data(Bytes::from_static(b"end"), true)
        }
    }
}

/// Switches protocols and echoes.
async fn http1<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else {
            return;
        };
        head.push(byte);
    }
    let switch = format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {PROOF}\r\nx-spoken: http/1.1\r\n\r\n"
    );
    let _ = stream.write_all(switch.as_bytes()).await;
    let (mut input, mut output) = tokio::io::split(stream);
    let _ = tokio::io::copy(&mut input, &mut output).await;
}

fn over_tls(peer: &Peer, ca: &Ca, protocol: UpstreamProtocol) -> Upstream {
    Upstream {
        protocol,
        tls: Some(UpstreamTls {
            sni: Some("a.example".into()),
            authorities: Some(ca.pem()),
            ..UpstreamTls::default()
        }),
        ..upstream(&[peer.address])
    }
}

fn ask(path: &str, fields: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: t\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\n{fields}\r\n"
    )
}

fn asks(plane: &Plane, path: &str) -> (Client, Answer) {
    let mut client = plane.client();
    client.send(ask(path, KEY));
    let answer = client.answer("GET").unwrap();
    (client, answer)
}

fn echoes(client: &mut Client) {
    client.send("hello");
    assert_eq!(client.take(5), b"hello");
}

#[test]
fn a_websocket_is_an_extended_connect_for_an_upstream_over_http2() {
    let peer = Peer::start(true);
    let plane = Plane::start(&through(&h2c(peer.address)));
    // The first request of all: the peer's settings are waited for.
    let (mut client, answer) = asks(&plane, "/chat?x=1");
    assert_eq!(answer.status, 101);
    for (name, value) in [
        ("connection", Some("upgrade")),
        ("upgrade", Some("websocket")),
        ("sec-websocket-accept", Some(PROOF)),
        ("sec-websocket-protocol", Some("chat")),
        ("content-length", None),
        ("transfer-encoding", None),
    ] {
        assert_eq!(answer.header(name), value, "{name}");
    }
    let seen = peer.next();
    assert_eq!(
        (&*seen.method, &*seen.uri),
        ("CONNECT", "http://t/chat?x=1")
    );
    assert_eq!(seen.protocol.as_deref(), Some("websocket"));
    assert_eq!(seen.headers["sec-websocket-version"], "13");
    for gone in [
        "sec-websocket-key",
        "upgrade",
        "connection",
        "content-length",
    ] {
        assert!(!seen.headers.contains_key(gone), "{gone}");
    }
    echoes(&mut client);
    // Others share its connection.
    assert_eq!(plane.get("/").body, b"plain");
    assert_eq!((peer.next().connection, seen.connection), (1, 1));
    // More than any window holds, both ways at once.
    let much = noise(3 << 20);
    std::thread::scope(|scope| {
        let mut out = client.stream.try_clone().unwrap();
        let much = &much;
        scope.spawn(move || out.write_all(much).unwrap());
        assert!(client.take(much.len()) == *much);
    });
    // Either direction ends by itself.
    client.stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.rest(), b"end");
    let ended = r#"diolkos_request_duration_seconds_count{kind="websocket"}"#;
    plane.metric_becomes(ended, 1.0);
    // Any success opens it.
    let (mut client, answer) = asks(&plane, "/created");
    assert_eq!(answer.status, 101);
    echoes(&mut client);
}

#[test]
fn other_protocols_are_asked_for_as_well_and_may_be_left_out() {
    let mut asked = ask("/", "").replace("websocket", "first/1.0, second");
    for (offers, status) in [(true, 101), (false, 200)] {
        let peer = Peer::start(offers);
        let plane = Plane::start(&through(&h2c(peer.address)));
        let answer = plane.client().send(&asked).answer("GET").unwrap();
        let seen = peer.next();
        assert_eq!(answer.status, status);
        let protocol = offers.then_some("first/1.0");
        assert_eq!(seen.protocol.as_deref(), protocol);
        assert_eq!(answer.header("upgrade"), protocol);
        assert_eq!(answer.header("sec-websocket-accept"), None);
        assert_eq!(seen.method, if offers { "CONNECT" } else { "GET" });
    }
    // A method would be lost.
    asked = asked.replace("GET ", "DELETE ");
    let peer = Peer::start(true);
    let plane = Plane::start(&through(&h2c(peer.address)));
    let answer = plane.client().send(&asked).answer("DELETE").unwrap();
    assert_eq!((answer.status, &*peer.next().method), (200, "DELETE"));
}

#[test]
fn a_client_over_http2_gets_what_its_upstream_over_http2_says() {
    let peer = Peer::start(true);
    let plane = Plane::start(&through(&h2c(peer.address)));
    let address = plane.address;
    plane.runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let (client, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        while !client.is_extended_connect_protocol_enabled() {
            tokio::task::yield_now().await;
        }
        let open = async |path: &str| {
            let mut call = Request::connect(format!("http://t{path}"))
                .body(())
                .unwrap();
            let websocket = Protocol::from_static("websocket");
            call.extensions_mut().insert(websocket);
            let mut client = client.clone().ready().await.unwrap();
            let (answer, out) = client.send_request(call, false).unwrap();
            (answer.await.unwrap(), out)
        };
        let (answer, mut out) = open("/chat").await;
        assert_eq!(answer.status(), 200);
        let fields: Vec<_> = answer.headers().keys().map(|n| n.as_str()).collect();
        assert_eq!(fields, ["sec-websocket-protocol"]);
        let mut input = answer.into_body();
        out.send_data(Bytes::from_static(b"bye"), true).unwrap();
        assert_eq!(input.data().await.unwrap().unwrap(), "bye");
        assert_eq!(input.data().await.unwrap().unwrap(), "end");
        assert!(input.data().await.is_none());
        assert_eq!(open("/no").await.0.status(), 403);
    });
    let seen = peer.next();
    assert_eq!(seen.protocol.as_deref(), Some("websocket"));
    assert!(!seen.headers.contains_key("sec-websocket-key"));
}

#[test]
fn a_refused_tunnel_is_an_answer_like_any_other() {
    let peer = Peer::start(true);
    let plane = Plane::start(&through(&h2c(peer.address)));
    let (mut client, answer) = asks(&plane, "/no");
    assert_eq!((answer.status, &answer.body[..]), (403, &b"no"[..]));
    assert_eq!(answer.header("upgrade"), None);
    assert_eq!(client.get("/").body, b"plain", "the connection goes on");
    let (first, second) = (peer.next(), peer.next());
    assert_eq!((first.connection, second.connection), (1, 1));
}

#[test]
fn an_upstream_that_takes_no_tunnel_gets_no_websocket() {
    let peer = Peer::start(false);
    let mut up = h2c(peer.address);
    up.health.passive = Some(model::PassiveHealth {
        consecutive_errors: 1,
        error_rate_percent: 0,
        min_requests: 20,
        window_ms: 10_000,
        ejection_ms: 600_000,
        max_eject_percent: 100,
    });
    let plane = Plane::start(&through(&up));
    for _ in 0..3 {
        let (mut client, answer) = asks(&plane, "/");
        assert_eq!(answer.status, 502);
        assert_eq!(answer.body, br#"{"error":"upstream_protocol_error"}"#);
        assert_eq!(client.get("/").body, b"plain");
        assert_eq!(peer.next().method, "GET");
    }
    assert!(peer.seen.try_recv().is_err(), "nothing else has reached it");
    let ejected = plane.metric(r#"diolkos_ejections_total{reason="consecutive"}"#);
    assert_eq!(ejected, 0.0, "it is no fault of the endpoint");
}

#[test]
fn a_websocket_without_a_valid_key_is_refused() {
    let peer = Peer::start(true);
    let plane = Plane::start(&through(&h2c(peer.address)));
    let short = "Sec-WebSocket-Key: c2hvcnQ=\r\n";
    for fields in ["", short, &[KEY, KEY].concat()] {
        let answer = plane.client().send(ask("/", fields)).answer("GET").unwrap();
        assert_eq!(answer.status, 400, "{fields}");
        assert_eq!(answer.body, br#"{"error":"bad_request"}"#);
    }
    assert!(peer.seen.try_recv().is_err(), "nothing has reached it");
}

#[test]
fn where_alpn_leaves_the_choice_http1_carries_what_http2_does_not() {
    let ca = Ca::new("ca");
    let leaf = ca.issue(&["a.example"]);
    let both: &[&str] = &["h2", "http/1.1"];
    for (offers, protocol, spoken, status) in [
        (true, UpstreamProtocol::Auto, both, 101),
        (false, UpstreamProtocol::Auto, both, 101),
        (true, UpstreamProtocol::Auto, &["h2"], 101),
        (false, UpstreamProtocol::Auto, &["h2"], 502),
        (true, UpstreamProtocol::H2, both, 101),
        (false, UpstreamProtocol::H2, both, 502),
    ] {
        let config = server(&leaf, None, &[&TLS13], spoken);
        let peer = Peer::with(offers, Some(config));
        let plane = Plane::start(&through(&over_tls(&peer, &ca, protocol)));
        // The second time everything is known.
        for _ in 0..2 {
            let (mut client, answer) = asks(&plane, "/");
            let case = (offers, protocol, spoken);
            assert_eq!(answer.status, status, "{case:?}");
            if status != 101 {
                continue;
            }
            assert_eq!(answer.header("sec-websocket-accept"), Some(PROOF));
            let http1 = answer.header("x-spoken").is_some();
            assert_eq!(http1, !offers, "{case:?}");
            echoes(&mut client);
        }
        assert_eq!(plane.get("/").body, b"plain", "over HTTP/2");
    }
}

#[test]
fn a_tunnel_that_is_cut_on_one_side_is_cut_on_the_other() {
    let peer = Peer::start(true);
    let plane = Plane::start(&through(&h2c(peer.address)));
    let (mut client, answer) = asks(&plane, "/reset");
    assert_eq!(answer.status, 101);
    client.send("now");
    assert_eq!(client.rest(), b"");
    plane.metric_becomes(r#"diolkos_streams_cut_total{reason="upstream"}"#, 1.0);
    let (client, answer) = asks(&plane, "/chat");
    assert_eq!(answer.status, 101);
    let socket = socket2::SockRef::from(&client.stream);
    socket.set_linger(Some(Duration::ZERO)).unwrap();
    drop(client);
    let why = peer.cut.recv_timeout(PATIENCE).unwrap();
    assert_eq!(why, Some(Reason::CANCEL));
    plane.metric_becomes(r#"diolkos_streams_cut_total{reason="client"}"#, 1.0);
    becomes("no stream is left", 0.0, || {
        plane.metric(r#"diolkos_upstream_connections{state="active"}"#)
    });
}

#[test]
fn an_upstream_that_does_not_read_holds_its_client_back() {
    let peer = Peer::start(true);
    let plane = Plane::start(&through(&h2c(peer.address)));
    // What it echoes is not read, so that it reads no more.
    let (mut client, answer) = asks(&plane, "/chat");
    assert_eq!(answer.status, 101);
    client.stream.set_nonblocking(true).unwrap();
    let (mut sent, mut last) = (Vec::new(), std::time::Instant::now());
    let piece = noise(64 << 10);
    while last.elapsed() < Duration::from_millis(500) {
        match client.stream.write(&piece) {
            Ok(n) => {
                sent.extend_from_slice(&piece[..n]);
                last = std::time::Instant::now();
            }
            Err(e) => assert_eq!(e.kind(), std::io::ErrorKind::WouldBlock),
        }
        assert!(
            sent.len() < 64 << 20,
            "what nobody reads is taken without end"
        );
        std::thread::yield_now();
    }
    client.stream.set_nonblocking(false).unwrap();
    assert_eq!(
        plane.get("/").body,
        b"plain",
        "the others on the connection go on"
    );
    assert!(client.take(sent.len()) == sent);
}

/// An HTTP/2 server that is not of the crate that the gateway uses.
const NODE: &str = r#"
    const server = require("http2").createServer({ settings: { enableConnectProtocol: true } });
    server.on("stream", (stream, head) => {
        if (head[":method"] !== "CONNECT") {
            stream.respond({ ":status": 200 });
            return stream.end("plain");
        }
        const { ":protocol": protocol, ":path": path, "sec-websocket-key": key } = head;
        stream.respond({ ":status": 200, "x-seen": `${protocol} ${path} ${key}` });
        stream.pipe(stream);
    });
    server.listen(0, "127.0.0.1", () => console.log(`127.0.0.1:${server.address().port}`));
"#;

#[test]
fn a_server_of_node_opens_a_websocket() {
    let node = Command::new("node")
        .args(["-e", NODE])
        .stdout(Stdio::piped())
        .spawn();
    let mut node = match node {
        Ok(node) => node,
        Err(why) => {
            let required = std::env::var("REQUIRE_RIG").is_ok_and(|v| v == "1");
            assert!(!required, "REQUIRE_RIG=1, but there is no Node: {why}");
            println!("SKIPPED: no Node: {why}");
            return;
        }
    };
    let mut line = String::new();
    let out = node.stdout.take().unwrap();
    BufReader::new(out).read_line(&mut line).unwrap();
    let plane = Plane::start(&through(&h2c(line.trim().parse().unwrap())));
    let (mut client, answer) = asks(&plane, "/chat?x=1");
    assert_eq!(answer.status, 101);
    let seen = answer.header("x-seen");
    assert_eq!(seen, Some("websocket /chat?x=1 undefined"));
    assert_eq!(answer.header("sec-websocket-accept"), Some(PROOF));
    echoes(&mut client);
    assert_eq!(plane.get("/").body, b"plain");
    client.stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.rest(), b"");
    node.kill().unwrap();
    node.wait().unwrap();
}
