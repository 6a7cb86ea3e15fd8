//! HTTP/2 to upstreams, against an upstream that does what the path says.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;
#[path = "upstream_h2/tunnels.rs"]
mod tunnels;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::{HeaderMap, Request, Response};
use model::{Upstream, UpstreamProtocol, UpstreamTls};
use rustls::version::TLS13;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};
use support::config::{through, upstream};
use support::pki::{Ca, server};
use support::plane::Plane;
use support::{Client, PATIENCE, becomes, chunked, noise};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

/// What `/big` answers.
static BIG: LazyLock<Vec<u8>> = LazyLock::new(|| noise(4 << 20));

/// What `/events` answers, each in a frame of its own: within the window of one stream.
const EVENT: &[u8] = b"data: a token.\n\n";
const EVENTS: usize = 6000;

struct Peer {
    address: SocketAddr,
    state: Arc<State>,
    _runtime: tokio::runtime::Runtime,
}

struct State {
    connections: AtomicUsize,
    /// Streams that have arrived.
    streams: AtomicUsize,
    /// Streams that `/gated` holds.
    held: AtomicUsize,
    gate: Semaphore,
    /// `/refused` and `/freeze` do what they say once.
    once: AtomicBool,
    /// Bytes that `/stall` has been sent.
    stalled: AtomicUsize,
    /// The connections are dead: nothing is read from them.
    frozen: AtomicBool,
}

#[derive(Clone, Copy)]
struct Settings {
    streams: u32,
}

impl Peer {
    fn start() -> Self {
        Self::with(Settings { streams: 100 }, None)
    }

    fn with(settings: Settings, tls: Option<Arc<rustls::ServerConfig>>) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            connections: AtomicUsize::new(0),
            streams: AtomicUsize::new(0),
            held: AtomicUsize::new(0),
            gate: Semaphore::new(0),
            once: AtomicBool::new(true),
            stalled: AtomicUsize::new(0),
            frozen: AtomicBool::new(false),
        });
        let shared = state.clone();
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (state, tls) = (shared.clone(), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => connection(stream, settings, state).await,
                        Some(config) => {
                            let acceptor = tokio_rustls::TlsAcceptor::from(config);
                            if let Ok(stream) = acceptor.accept(stream).await {
                                assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
                                connection(stream, settings, state).await;
                            }
                        }
                    }
                });
            }
        });
        Self {
            address,
            state,
            _runtime: runtime,
        }
    }

    fn connections(&self) -> usize {
        self.state.connections.load(SeqCst)
    }

    fn becomes(&self, what: &AtomicUsize, value: usize) {
        becomes("the peer's count", value, || what.load(SeqCst));
    }
}

async fn connection<S>(stream: S, settings: Settings, state: Arc<State>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    state.connections.fetch_add(1, SeqCst);
    let built = h2::server::Builder::new()
        .max_concurrent_streams(settings.streams)
        .data_frame_budget(usize::MAX)
        .handshake(stream)
        .await;
    let Ok(mut connection) = built else { return };
    while let Some(Ok((request, respond))) = connection.accept().await {
        state.streams.fetch_add(1, SeqCst);
        match request.uri().path() {
            "/last" => connection.graceful_shutdown(),
            "/freeze" if state.once.swap(false, SeqCst) => {
                // Neither reads nor writes, and does not close.
                state.frozen.store(true, SeqCst);
                std::future::pending::<()>().await;
            }
            _ => {}
        }
        let state = state.clone();
        tokio::spawn(async move {
            let _ = exchange(request, respond, &state).await;
        });
    }
}

async fn whole(body: &mut RecvStream) -> Result<(Vec<u8>, Option<HeaderMap>), h2::Error> {
    let mut all = Vec::new();
    while let Some(data) = body.data().await {
        let data = data?;
        let _ = body.flow_control().release_capacity(data.len());
        all.extend_from_slice(&data);
    }
    Ok((all, body.trailers().await?))
}

async fn send(
    respond: &mut SendResponse<Bytes>,
    head: Response<()>,
    body: &[u8],
    trailers: Option<HeaderMap>,
) -> Result<(), h2::Error> {
    let mut out = respond.send_response(head, false)?;
    let mut body = Bytes::copy_from_slice(body);
    while !body.is_empty() {
        out.reserve_capacity(body.len());
        if out.capacity() == 0 {
            let more = std::future::poll_fn(|cx| out.poll_capacity(cx)).await;
            let Some(more) = more else { return Ok(()) };
            more?;
            continue;
        }
        let n = out.capacity().min(body.len());
        out.send_data(body.split_to(n), false)?;
    }
    match trailers {
        Some(trailers) => out.send_trailers(trailers),
        None => out.send_data(Bytes::new(), true),
    }
}

fn head(status: u16, fields: &[(&str, String)]) -> Response<()> {
    let mut head = Response::builder().status(status);
    for (name, value) in fields {
        head = head.header(*name, value);
    }
    head.body(()).unwrap()
}

async fn exchange(
    mut request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    state: &State,
) -> Result<(), h2::Error> {
    let path = request.uri().path().to_owned();
    let mut seen = vec![
        (
            "x-authority",
            request
                .uri()
                .authority()
                .map_or_else(|| "-".into(), ToString::to_string),
        ),
        (
            "x-scheme",
            request.uri().scheme_str().unwrap_or("-").to_owned(),
        ),
    ];
    for (name, shown) in [
        ("content-length", "x-length"),
        ("te", "x-te"),
        ("cookie", "x-cookie"),
    ] {
        let all = request.headers().get_all(name).iter();
        let all: Vec<_> = all.map(|v| v.to_str().unwrap()).collect();
        seen.push((
            shown,
            if all.is_empty() {
                "-".into()
            } else {
                all.join("|")
            },
        ));
    }
    match &*path {
        "/echo" => {
            let (body, mut trailers) = whole(request.body_mut()).await?;
            if let Some(trailers) = &mut trailers {
                trailers.insert("sum_of.x", "7".parse().unwrap());
            }
            send(&mut respond, head(200, &seen), &body, trailers).await
        }
        "/hello" => {
            seen.push(("content-length", "5".into()));
            if request.method() == http::Method::HEAD {
                respond.send_response(head(200, &seen), true)?;
                return Ok(());
            }
            send(&mut respond, head(200, &seen), b"hello", None).await
        }
        "/bare" => {
            respond.send_response(head(204, &seen), true)?;
            Ok(())
        }
        "/gated" => {
            state.held.fetch_add(1, SeqCst);
            state.gate.acquire().await.unwrap().forget();
            state.held.fetch_sub(1, SeqCst);
            send(&mut respond, head(200, &seen), b"through", None).await
        }
        "/hints" => {
            let hints = [("link", "</a>".to_owned())];
            respond.send_informational(head(103, &hints))?;
            send(&mut respond, head(200, &seen), b"ok", None).await
        }
        "/continue" => {
            assert_eq!(request.headers()["expect"], "100-continue");
            respond.send_informational(head(100, &[]))?;
            let (body, _) = whole(request.body_mut()).await?;
            send(&mut respond, head(200, &seen), &body, None).await
        }
        "/refused" if state.once.swap(false, SeqCst) => {
            respond.send_reset(Reason::REFUSED_STREAM);
            Ok(())
        }
        "/reset" => {
            respond.send_reset(Reason::INTERNAL_ERROR);
            Ok(())
        }
        "/cut" => {
            let mut out = respond.send_response(head(200, &[]), false)?;
            out.send_data(Bytes::from_static(b"half"), false)?;
            // The part must arrive before the reset, which overtakes what waits.
            state.gate.acquire().await.unwrap().forget();
            out.send_reset(Reason::INTERNAL_ERROR);
            Ok(())
        }
        "/early" => {
            respond
                .send_response(head(413, &[("content-length", "3".into())]), false)
                .and_then(|mut out| out.send_data(Bytes::from_static(b"big"), true))
            // Dropped with the request half read: the crate resets the stream with NO_ERROR.
        }
        "/short" => {
            let long = [("content-length", "10".to_owned())];
            send(&mut respond, head(200, &long), b"12345", None).await
        }
        "/stall" => {
            while let Some(Ok(data)) = request.body_mut().data().await {
                // Never released: the window closes.
                state.stalled.fetch_add(data.len(), SeqCst);
            }
            Ok(())
        }
        "/events" => {
            let mut out = respond.send_response(head(200, &seen), false)?;
            for _ in 0..EVENTS {
                out.send_data(Bytes::from_static(EVENT), false)?;
            }
            out.send_data(Bytes::new(), true)
        }
        "/big" => send(&mut respond, head(200, &seen), &BIG, None).await,
        _ => send(&mut respond, head(200, &seen), b"ok", None).await,
    }
}

fn h2c(address: SocketAddr) -> Upstream {
    Upstream {
        protocol: UpstreamProtocol::H2C,
        ..upstream(&[address])
    }
}

/// Waits for it: an attempt is counted after its last byte has left.
fn outcomes(plane: &Plane, outcome: &str, count: f64) {
    let line = format!(r#"diolkos_upstream_attempts_total{{outcome="{outcome}"}}"#);
    plane.metric_becomes(&line, count);
}

#[test]
fn heads_bodies_and_trailers_both_ways() {
    let peer = Peer::start();
    let plane = Plane::start(&through(&h2c(peer.address)));
    let mut client = plane.client();
    let answer = client.get("/hello");
    assert_eq!((answer.status, &answer.body[..]), (200, &b"hello"[..]));
    assert_eq!(answer.header("content-length"), Some("5"));
    assert_eq!(answer.header("x-authority"), Some("t"));
    assert_eq!(answer.header("x-scheme"), Some("http"));
    assert_eq!(answer.header("x-te"), Some("-"));

    let answer = client.request(
        "POST",
        "/echo",
        "Content-Length: 3\r\nCookie: a=1\r\n",
        "abc",
    );
    assert_eq!(
        (&answer.body[..], answer.header("x-length")),
        (&b"abc"[..], Some("3"))
    );
    assert_eq!(answer.header("x-cookie"), Some("a=1"));

    let body = "3\r\nabc\r\n0\r\nx-sum: 6\r\n\r\n";
    let fields = "Transfer-Encoding: chunked\r\nTE: trailers\r\n";
    let answer = client.request("POST", "/echo", fields, body);
    assert_eq!(
        (&answer.body[..], answer.header("x-length")),
        (&b"abc"[..], Some("-"))
    );
    assert_eq!(answer.trailers, "x-sum: 6\r\nsum_of.x: 7\r\n");

    let answer = client.request("HEAD", "/hello", "", "");
    assert_eq!(
        (answer.status, answer.header("content-length")),
        (200, Some("5"))
    );
    assert_eq!(client.get("/bare").status, 204);

    let body = noise(1 << 20);
    let fields = "Transfer-Encoding: chunked\r\n";
    assert!(
        client
            .request("POST", "/echo", fields, chunked(&body, 9000))
            .body
            == body
    );
    let big = client.get("/big").body;
    let at = big.iter().zip(BIG.iter()).position(|(a, b)| a != b);
    assert_eq!((big.len(), at), (BIG.len(), None));
    assert_eq!(peer.connections(), 1);
    outcomes(&plane, "ok", 7.0);
}

#[test]
fn informational_heads_are_relayed() {
    let peer = Peer::start();
    let plane = Plane::start(&through(&h2c(peer.address)));
    let mut client = plane.client();
    let hints = client.get("/hints");
    assert_eq!((hints.status, hints.header("link")), (103, Some("</a>")));
    assert_eq!(client.answer("GET").unwrap().body, b"ok");
    client.send(
        "POST /continue HTTP/1.1\r\nHost: t\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n",
    );
    assert_eq!(client.answer("POST").unwrap().status, 100);
    let answer = client.send("abc").answer("POST").unwrap();
    assert_eq!((answer.status, &answer.body[..]), (200, &b"abc"[..]));
}

/// Sends so many requests that are held, and says when all of them are there.
fn hold(plane: &Plane, peer: &Peer, count: usize) -> Vec<Client> {
    let mut clients: Vec<_> = (0..count).map(|_| plane.client()).collect();
    for client in &mut clients {
        client.send("GET /gated HTTP/1.1\r\nHost: t\r\n\r\n");
    }
    peer.becomes(&peer.state.held, count);
    clients
}

fn let_go(peer: &Peer, clients: Vec<Client>) {
    peer.state.gate.add_permits(clients.len());
    for mut client in clients {
        assert_eq!(client.answer("GET").unwrap().body, b"through");
    }
}

#[test]
fn exchanges_share_a_connection_up_to_the_upstreams_limit() {
    let peer = Peer::start();
    let mut up = h2c(peer.address);
    let plane = Plane::start(&through(&up));
    // A burst before there is a connection: one is opened.
    let clients = hold(&plane, &peer, 20);
    assert_eq!(peer.connections(), 1);
    plane.metric_becomes(r#"diolkos_upstream_connections{state="active"}"#, 1.0);
    let_go(&peer, clients);
    plane.metric_becomes(r#"diolkos_upstream_connections{state="idle"}"#, 1.0);
    plane.metric_becomes(r#"diolkos_upstream_connections{state="active"}"#, 0.0);
    assert_eq!(plane.metric("diolkos_upstream_connect_seconds_count"), 1.0);

    let peer = Peer::start();
    up = h2c(peer.address);
    up.connection.max_streams = 8;
    let plane = Plane::start(&through(&up));
    let clients = hold(&plane, &peer, 20);
    assert_eq!(peer.connections(), 3, "8, 8 and 4");
    let_go(&peer, clients);
}

#[test]
fn connections_for_which_the_pool_has_no_room_serve_one_exchange() {
    let peer = Peer::start();
    let mut up = h2c(peer.address);
    up.connection.max_streams = 1;
    up.connection.pool_size = 1;
    let plane = Plane::start(&through(&up));
    let clients = hold(&plane, &peer, 2);
    assert_eq!(peer.connections(), 2);
    for family in ["entries", "evictions_total"] {
        let line = format!(r#"diolkos_table_{family}{{table="upstream_pool_h2"}}"#);
        plane.metric_becomes(&line, 1.0);
    }
    let_go(&peer, clients);
}

#[test]
fn the_peers_own_limit_opens_further_connections() {
    let peer = Peer::with(Settings { streams: 2 }, None);
    let plane = Plane::start(&through(&h2c(peer.address)));
    assert_eq!(plane.get("/hello").status, 200);
    let clients = hold(&plane, &peer, 6);
    assert_eq!(peer.connections(), 3);
    let_go(&peer, clients);
}

/// An upstream of raw frames: each connection gets the next of these after its request's head.
fn frames(answers: &'static [&'static [u8]]) -> SocketAddr {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut connections = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(SETTINGS).unwrap();
            stream.read_exact(&mut [0; 24]).unwrap();
            let mut frame = [0; 9];
            while frame[3] != 1 {
                stream.read_exact(&mut frame).unwrap();
                let payload = u32::from_be_bytes([0, frame[0], frame[1], frame[2]]);
                stream.read_exact(&mut vec![0; payload as usize]).unwrap();
            }
            stream.write_all(answer).unwrap();
            connections.push(stream);
        }
        // Until the other side closes them.
        for mut stream in connections {
            let _ = stream.read_to_end(&mut Vec::new());
        }
    });
    address
}

const SETTINGS: &[u8] = b"\0\0\0\x04\0\0\0\0\0";
/// Names no stream as processed.
const GOAWAY: &[u8] = b"\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\0";
/// `:status: 200`, and that is all.
const OK: &[u8] = b"\0\0\x01\x01\x05\0\0\0\x01\x88";
/// `:status: 200` and `connection: close`.
const FORBIDDEN: &[u8] = b"\0\0\x13\x01\x05\0\0\0\x01\x88\0\x0aconnection\x05close";

#[test]
fn what_the_upstream_has_not_processed_is_sent_again() {
    // A POST may only be sent again because the upstream vouches that nothing was done.
    let peer = Peer::start();
    let plane = Plane::start(&through(&h2c(peer.address)));
    let answer = plane.client().request("POST", "/refused", "", "");
    assert_eq!((answer.status, &answer.body[..]), (200, &b"ok"[..]));
    assert_eq!(peer.state.streams.load(SeqCst), 2);
    outcomes(&plane, "reset", 1.0);

    let plane = Plane::start(&through(&h2c(frames(&[GOAWAY, OK]))));
    let answer = plane.client().request("POST", "/", "", "");
    assert_eq!((answer.status, &answer.body[..]), (200, &b""[..]));
    outcomes(&plane, "reset", 1.0);
}

#[test]
fn fields_of_a_connection_are_a_protocol_error() {
    let plane = Plane::start(&through(&h2c(frames(&[FORBIDDEN]))));
    let answer = plane.get("/");
    assert_eq!(answer.body, br#"{"error":"upstream_protocol_error"}"#);
}

#[test]
fn a_connection_that_goes_away_gets_nothing_more() {
    let peer = Peer::start();
    let plane = Plane::start(&through(&h2c(peer.address)));
    let held = hold(&plane, &peer, 1);
    assert_eq!(
        plane.get("/last").status,
        200,
        "the exchange that brings it about goes on"
    );
    assert_eq!(plane.get("/hello").status, 200);
    assert_eq!(peer.connections(), 2);
    // So do the others on it.
    let_go(&peer, held);
    outcomes(&plane, "ok", 3.0);
}

#[test]
fn resets_and_false_lengths_never_look_like_an_answer() {
    let peer = Peer::start();
    let plane = Plane::start(&through(&h2c(peer.address)));
    let answer = plane.get("/reset");
    assert_eq!(
        (answer.status, &answer.body[..]),
        (502, &br#"{"error":"upstream_reset"}"#[..])
    );
    plane.metric_becomes(r#"diolkos_h2_resets_total{by="upstream"}"#, 1.0);
    let mut client = plane.client();
    client.send("GET /cut HTTP/1.1\r\nHost: t\r\n\r\n");
    let head = client.head();
    assert!(head.contains("transfer-encoding: chunked"), "{head}");
    assert_eq!(client.take(7), b"4\r\nhalf");
    peer.state.gate.add_permits(1);
    assert_eq!(client.rest(), b"\r\n", "no last chunk");
    let mut client = plane.client();
    client.send("GET /short HTTP/1.1\r\nHost: t\r\n\r\n");
    let all = String::from_utf8_lossy(&client.rest()).into_owned();
    assert!(all.contains("content-length: 10"), "{all}");
    assert!(all.ends_with("\r\n\r\n12345"), "{all}");
    plane.metric_becomes(r#"diolkos_streams_cut_total{reason="upstream"}"#, 2.0);
    // The connection serves on.
    assert_eq!(plane.get("/hello").status, 200);
}

#[test]
fn an_early_answer_wins_over_the_body() {
    let peer = Peer::start();
    let plane = Plane::start(&through(&h2c(peer.address)));
    let mut client = plane.client();
    client
        .send("POST /early HTTP/1.1\r\nHost: t\r\nContent-Length: 1000000\r\n\r\n")
        .send([b'x'; 1000]);
    let answer = client.answer("POST").unwrap();
    assert_eq!((answer.status, &answer.body[..]), (413, &b"big"[..]));
    assert_eq!(plane.get("/hello").status, 200);
    assert_eq!(peer.connections(), 1);
}

#[test]
fn a_closed_window_stops_the_client() {
    let peer = Peer::start();
    let mut model = through(&h2c(peer.address));
    let route = model.routes.get_mut("d/r").unwrap();
    route.rules[0].timeouts.stream_idle_ms = 1000;
    let plane = Plane::start(&model);
    let mut client = plane.client();
    client.send("POST /stall HTTP/1.1\r\nHost: t\r\nContent-Length: 60000000\r\n\r\n");
    let body = vec![b'x'; 60_000_000];
    let sender = client.stream.try_clone().unwrap();
    let writer = std::thread::spawn(move || {
        use std::io::Write;
        // Ends when the gateway gives up and closes.
        let mut sender = sender;
        sender.write_all(&body)
    });
    let answer = client.answer("POST").unwrap();
    assert_eq!(answer.status, 504);
    plane.metric_becomes(r#"diolkos_errors_total{code="upstream_timeout"}"#, 1.0);
    drop(client);
    assert!(
        writer.join().unwrap().is_err(),
        "the client could not send it all"
    );
    let stalled = peer.state.stalled.load(SeqCst);
    assert!(
        (1..=65_535).contains(&stalled),
        "one window of it: {stalled}"
    );
    // Other streams are not held up.
    assert_eq!(plane.get("/hello").status, 200);
    assert_eq!(peer.connections(), 1);
}

#[test]
fn slow_clients_do_not_hold_up_their_neighbours() {
    let peer = Peer::start();
    let plane = Plane::start(&through(&h2c(peer.address)));
    let mut slow: Vec<_> = (0..20).map(|_| plane.client()).collect();
    for client in &mut slow {
        // Answers of 4 MiB that nobody reads.
        client.send("GET /big HTTP/1.1\r\nHost: t\r\n\r\n");
    }
    peer.becomes(&peer.state.streams, 20);
    for _ in 0..5 {
        assert_eq!(plane.get("/hello").body, b"hello");
    }
    assert_eq!(peer.connections(), 1);
    assert!(slow.pop().unwrap().answer("GET").unwrap().body == *BIG);
}

/// A connection of a client who lets nobody count its frames; `open` tells it to open the windows of its streams.
async fn patient(
    address: SocketAddr,
    open: tokio::sync::oneshot::Receiver<()>,
) -> h2::client::SendRequest<Bytes> {
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let built = h2::client::Builder::new()
        .initial_window_size(1)
        .initial_connection_window_size(1 << 20)
        .data_frame_budget(usize::MAX)
        .handshake(stream);
    let (send, mut connection) = built.await.unwrap();
    tokio::spawn(async move {
        tokio::select! {
            ended = &mut connection => return ended,
            _ = open => {}
        }
        connection.set_initial_window_size(1 << 20)?;
        connection.await
    });
    send.ready().await.unwrap()
}

fn ask(method: &str, path: &str) -> Request<()> {
    let uri = format!("http://t{path}");
    let request = Request::builder().method(method).uri(uri);
    request.body(()).unwrap()
}

#[test]
fn small_frames_that_nobody_takes_do_not_end_their_neighbours() {
    let peer = Peer::start();
    let plane = Plane::start(&through(&h2c(peer.address)));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (open, opened) = tokio::sync::oneshot::channel();
    let mut send = runtime.block_on(patient(plane.address, opened));
    // What they leave is more than the crate grants by itself.
    let slow = (0..6).map(|_| send.send_request(ask("GET", "/events"), true).unwrap().0);
    let slow: Vec<_> = slow.collect();
    peer.becomes(&peer.state.streams, 6);
    for _ in 0..5 {
        assert_eq!(plane.get("/hello").body, b"hello");
    }
    open.send(()).unwrap();
    for answer in slow {
        let body = runtime.block_on(async {
            let mut body = answer.await.unwrap().into_body();
            whole(&mut body).await.unwrap().0
        });
        assert_eq!(body, EVENT.repeat(EVENTS));
    }
    assert_eq!(peer.connections(), 1);
}

#[test]
fn small_frames_of_a_client_wait_for_an_upstream_that_takes_none() {
    let peer = Peer::start();
    let plane = Plane::start(&through(&h2c(peer.address)));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (_open, opened) = tokio::sync::oneshot::channel();
    let mut send = runtime.block_on(patient(plane.address, opened));
    let (_answer, mut body) = send.send_request(ask("POST", "/stall"), false).unwrap();
    // A window of the upstream's and one of ours, in messages of 15 bytes.
    let sent = runtime.block_on(async {
        let mut sent = 0;
        while sent + 15 <= 2 * 65_535 {
            body.reserve_capacity(15);
            while body.capacity() < 15 {
                std::future::poll_fn(|cx| body.poll_capacity(cx))
                    .await
                    .unwrap()?;
            }
            body.send_data(Bytes::from_static(&[b'm'; 15]), false)?;
            sent += 15;
        }
        Ok::<_, h2::Error>(sent)
    });
    assert!(sent.unwrap() > 131_000);
    peer.becomes(&peer.state.stalled, 65_535);
    let (answer, _) = send.send_request(ask("GET", "/hello"), true).unwrap();
    let answer = runtime.block_on(answer).unwrap();
    assert_eq!(answer.status(), 200);
}

#[test]
fn alpn_chooses_h2() {
    let ca = Ca::new("ca");
    let leaf = ca.issue(&["a.example"]);
    for protocol in [UpstreamProtocol::Auto, UpstreamProtocol::H2] {
        let config = server(&leaf, None, &[&TLS13], &["h2", "http/1.1"]);
        let peer = Peer::with(Settings { streams: 100 }, Some(config));
        let plane = Plane::start(&through(&Upstream {
            protocol,
            tls: Some(UpstreamTls {
                sni: Some("a.example".into()),
                authorities: Some(ca.pem()),
                ..UpstreamTls::default()
            }),
            ..upstream(&[peer.address])
        }));
        let clients = hold(&plane, &peer, 5);
        let_go(&peer, clients);
        let answer = plane.get("/hello");
        assert_eq!(
            (answer.status, answer.header("x-scheme")),
            (200, Some("https"))
        );
        assert_eq!(peer.connections(), 1);
    }
}

#[test]
fn a_dead_connection_is_found_and_left() {
    let peer = Peer::start();
    let plane = Plane::start(&through(&h2c(peer.address)));
    assert_eq!(plane.get("/hello").status, 200);
    let mut stuck = plane.client();
    stuck.send("GET /freeze HTTP/1.1\r\nHost: t\r\n\r\n");
    becomes("frozen", true, || peer.state.frozen.load(SeqCst));
    // While the silence is short, the connection is as good as any.
    let mut client = plane.client();
    client.send("GET /hello HTTP/1.1\r\nHost: t\r\n\r\n");
    // Then a request makes us ask, and soon another connection is opened.
    let begun = Instant::now();
    while peer.connections() == 1 {
        assert!(begun.elapsed() < PATIENCE);
        let mut impatient = plane.client();
        impatient.send("GET /hello HTTP/1.1\r\nHost: t\r\n\r\n");
        let wait = Some(Duration::from_millis(300));
        impatient.stream.set_read_timeout(wait).unwrap();
        use std::io::Read;
        let _ = impatient.stream.read(&mut [0; 1]);
    }
    assert_eq!(plane.get("/hello").status, 200);
    // Nothing comes: what waits on the dead connection is tried again on the other.
    assert_eq!(client.answer("GET").unwrap().body, b"hello");
    assert_eq!(stuck.answer("GET").unwrap().body, b"ok");
}

#[test]
fn an_upstream_that_speaks_http1_is_a_protocol_error() {
    let origin = support::Origin::start();
    let plane = Plane::start(&through(&h2c(origin.address)));
    let answer = plane.get("/");
    assert_eq!(answer.status, 502);
    assert_eq!(answer.body, br#"{"error":"upstream_protocol_error"}"#);
}
