//! HTTP/2 by prior knowledge: what one stream does, and what a client may not do. The client is the `h2` crate, or raw
//! frames where it would not send what is tested.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use diolkos_dataplane::engine::{ClientTimeouts, ConnConfig, EdgePolicies};
use h2::client::SendRequest;
use h2::ext::Protocol;
use h2::{Reason, RecvStream};
use http::{HeaderMap, Method, Request, Response};
use model::{Edge, Underscores};
use socket2::{Domain, Socket, Type};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::Ordering::SeqCst;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};
use support::{Client, PATIENCE, Rig, Setup, becomes, noise};

const MEGABYTE: usize = 1 << 20;

// ------------------------------------------------------------------------------------------------ a client

struct H2 {
    send: SendRequest<Bytes>,
    connection: tokio::task::JoinHandle<Result<(), h2::Error>>,
}

struct Got {
    status: u16,
    headers: HeaderMap,
    body: Vec<u8>,
    trailers: Option<HeaderMap>,
}

impl Got {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|v| v.to_str().unwrap())
    }
}

async fn connect(address: SocketAddr) -> H2 {
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let (send, connection) = h2::client::handshake(stream).await.unwrap();
    H2 {
        send,
        connection: tokio::spawn(connection),
    }
}

fn request(method: &str, path: &str) -> Request<()> {
    let method: Method = method.parse().unwrap();
    let uri = format!("http://t{path}");
    Request::builder().method(method).uri(uri).body(()).unwrap()
}

impl H2 {
    async fn ready(&self) -> SendRequest<Bytes> {
        self.send.clone().ready().await.unwrap()
    }

    async fn exchange(
        &self,
        request: Request<()>,
        body: Option<&[u8]>,
        trailers: Option<HeaderMap>,
    ) -> Result<Got, h2::Error> {
        let ends = body.is_none() && trailers.is_none();
        let (answer, mut out) = self.ready().await.send_request(request, ends)?;
        let send = async {
            for piece in body.unwrap_or_default().chunks(50_000) {
                let mut piece = Bytes::copy_from_slice(piece);
                while !piece.is_empty() {
                    out.reserve_capacity(piece.len());
                    let Some(room) = std::future::poll_fn(|cx| out.poll_capacity(cx)).await else {
                        return;
                    };
                    let part = piece.split_to(room.unwrap().min(piece.len()));
                    if out.send_data(part, false).is_err() {
                        return;
                    }
                }
            }
            if let Some(trailers) = trailers {
                out.send_trailers(trailers).unwrap();
            } else if !ends {
                // The answer may have come first and ended the stream.
                let _ = out.send_data(Bytes::new(), true);
            }
        };
        let (answer, ()) = tokio::join!(async { read(answer.await?).await }, send);
        answer
    }

    async fn get(&self, path: &str) -> Got {
        self.exchange(request("GET", path), None, None)
            .await
            .unwrap()
    }
}

async fn read(answer: Response<RecvStream>) -> Result<Got, h2::Error> {
    let (parts, mut stream) = answer.into_parts();
    let mut body = Vec::new();
    while let Some(data) = stream.data().await {
        let data = data?;
        stream.flow_control().release_capacity(data.len())?;
        body.extend_from_slice(&data);
    }
    Ok(Got {
        status: parts.status.as_u16(),
        headers: parts.headers,
        body,
        trailers: stream.trailers().await?,
    })
}

fn run(setup: Setup, test: impl AsyncFnOnce(&Rig, H2)) {
    let rig = Rig::with(setup);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let client = connect(rig.address).await;
        tokio::time::timeout(PATIENCE, test(&rig, client))
            .await
            .expect("in time");
    });
}

fn timeouts(change: impl FnOnce(&mut ClientTimeouts)) -> Setup {
    let mut setup = Setup::default();
    change(&mut setup.conn.timeouts);
    setup
}

fn code(result: Result<Got, h2::Error>) -> Option<Reason> {
    result.err().expect("an error").reason()
}

// ------------------------------------------------------------------------------------------------ exchanges

#[test]
fn streams_share_a_connection_and_the_upstreams_pool() {
    run(Setup::default(), async |rig, client| {
        for _ in 0..3 {
            let got = client.get("/").await;
            assert_eq!((got.status, &got.body[..]), (200, &b"hello"[..]));
            assert_eq!(got.header("content-length"), Some("5"));
            assert!(got.header("date").is_some());
        }
        assert_eq!(rig.origin.connections.load(SeqCst), 1);
        let many = (0..50).map(|_| client.get("/echo"));
        for got in futures_util::future::join_all(many).await {
            assert_eq!(got.status, 200);
        }
        assert_eq!(rig.listen.accepted.load(SeqCst), 1);
    });
}

#[test]
fn bodies_pass_both_ways() {
    run(Setup::default(), async |rig, client| {
        let body = noise(3 * MEGABYTE);
        let mut known = request("POST", "/echo");
        let length = body.len().to_string().parse().unwrap();
        known.headers_mut().insert("content-length", length);
        let got = client.exchange(known, Some(&body), None).await.unwrap();
        assert!(got.body == body);
        assert_eq!(got.header("x-te"), Some("-"));
        let unknown = request("POST", "/echochunk");
        let got = client.exchange(unknown, Some(&body), None).await.unwrap();
        assert!(got.body == body);
        assert_eq!(got.header("transfer-encoding"), None);
        assert_eq!(rig.origin.last().headers["transfer-encoding"], "chunked");
        let got = client.exchange(request("POST", "/duplex"), Some(&[]), None);
        assert_eq!(got.await.unwrap().status, 200);
    });
}

#[test]
fn trailers_pass_both_ways() {
    run(Setup::default(), async |rig, client| {
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", "9".parse().unwrap());
        trailers.insert("cookie", "a=b".parse().unwrap());
        let call = request("POST", "/trailers");
        let got = client.exchange(call, Some(b"abc"), Some(trailers)).await;
        let got = got.unwrap();
        assert_eq!(got.body, b"ok");
        let trailers = got.trailers.unwrap();
        assert_eq!(trailers["x-sum"], "7");
        // As metadata of gRPC may be named.
        assert_eq!(trailers["sum_of.x"], "8");
        assert_eq!(trailers.len(), 2, "no cookie");
        let seen = rig.origin.last();
        assert_eq!(
            (&seen.body[..], &*seen.trailers),
            (&b"abc"[..], "x-sum: 9\r\n")
        );
    });
}

/// Names of gRPC metadata may hold `_` (gRPC over HTTP/2, Custom-Metadata).
#[test]
fn metadata_with_underscores_passes_where_it_may() {
    let mut setup = Setup::default();
    setup.conn.edge = EdgePolicies::same(Edge {
        underscores: Underscores::Keep,
        ..Edge::default()
    });
    run(setup, async |rig, client| {
        let mut call = request("POST", "/trailers");
        let metadata = call.headers_mut();
        metadata.insert("tenant_id", "7".parse().unwrap());
        let mut trailers = HeaderMap::new();
        for name in ["x_sum", "x_forwarded_for", "x.y"] {
            trailers.insert(name, "9".parse().unwrap());
        }
        let got = client.exchange(call, Some(b"abc"), Some(trailers)).await;
        assert_eq!(got.unwrap().status, 200);
        let seen = rig.origin.last();
        assert_eq!(seen.headers["tenant_id"], "7");
        assert_eq!(seen.trailers, "x_sum: 9\r\n");
        let mut call = request("POST", "/");
        let metadata = call.headers_mut();
        metadata.insert("x.y", "7".parse().unwrap());
        let got = client.exchange(call, None, None).await.unwrap();
        assert_eq!(got.status, 400, "a dot is never let in");
    });
}

#[test]
fn answers_without_body() {
    run(Setup::default(), async |_, client| {
        let got = client.exchange(request("HEAD", "/head"), None, None).await;
        let got = got.unwrap();
        assert_eq!(
            (got.status, got.header("content-length")),
            (200, Some("99"))
        );
        assert!(got.body.is_empty());
        let got = client.get("/204").await;
        assert_eq!((got.status, got.header("content-length")), (204, None));
        let got = client.get("/304").await;
        assert_eq!((got.status, got.header("etag")), (304, Some("x")));
        assert_eq!(client.get("/").await.body, b"hello");
    });
}

#[test]
fn connection_fields_of_an_upstream_stay_there() {
    run(Setup::default(), async |_, client| {
        let got = client.get("/hop").await;
        for name in ["keep-alive", "x-priv", "trailer", "connection"] {
            assert_eq!(got.header(name), None, "{name}");
        }
        assert_eq!(got.header("x-end"), Some("1"));
    });
}

type Fields = &'static [(&'static str, &'static str)];

#[test]
fn what_the_edge_gate_refuses_costs_only_its_stream() {
    run(Setup::default(), async |rig, client| {
        let cases: [(&str, Fields, u16); 6] = [
            ("/a%2fb", &[], 400),
            ("/", &[("x_y", "1")], 400),
            ("/", &[("host", "other")], 400),
            ("/", &[("x", "padded ")], 400),
            ("/", &[("x", "y"); 101], 431),
            ("/long", &[], 414),
        ];
        for (path, fields, status) in cases {
            let path = match path {
                "/long" => format!("/{}", "x".repeat(9000)),
                path => path.to_owned(),
            };
            let mut call = request("GET", &path);
            for (name, value) in fields {
                let name: http::HeaderName = name.parse().unwrap();
                call.headers_mut().append(name, value.parse().unwrap());
            }
            let got = client.exchange(call, None, None).await.unwrap();
            assert_eq!(got.status, status, "{path} {fields:?}");
            assert!(got.body.starts_with(b"{\"error\":"));
        }
        let connect = Request::connect("t:443").body(()).unwrap();
        assert_eq!(
            client.exchange(connect, None, None).await.unwrap().status,
            400
        );
        assert_eq!(rig.origin.count(), 0);
        assert_eq!(client.get("/").await.status, 200);
    });
}

#[test]
fn a_head_above_the_list_limit_never_reaches_an_upstream() {
    let mut setup = Setup::default();
    setup.conn.head.bytes = 16 << 10;
    run(setup, async |rig, client| {
        let with = |count: usize| {
            let mut call = request("GET", "/");
            for n in 0..count {
                let name: http::HeaderName = format!("x-{n}").parse().unwrap();
                let value = "v".repeat(4000);
                call.headers_mut().append(name, value.parse().unwrap());
            }
            call
        };
        match client.exchange(with(5), None, None).await {
            Ok(got) => assert_eq!(got.status, 431),
            Err(error) => assert!(error.is_reset(), "{error}"),
        }
        assert_eq!(rig.origin.count(), 0);
        // What HTTP/1 may send, HTTP/2 may.
        let got = client.exchange(with(3), None, None).await.unwrap();
        assert_eq!(got.status, 200);
        assert_eq!(client.get("/").await.status, 200);
    });
}

#[test]
fn a_body_of_another_length_is_a_stream_error() {
    run(Setup::default(), async |rig, client| {
        let mut call = request("POST", "/echo");
        call.headers_mut()
            .insert("content-length", "10".parse().unwrap());
        let result = client.exchange(call, Some(b"short"), None).await;
        assert_eq!(code(result), Some(Reason::PROTOCOL_ERROR));
        assert!(rig.origin.seen.lock().unwrap().is_empty());
        assert_eq!(client.get("/").await.status, 200);
    });
}

#[test]
fn an_early_answer_is_complete_and_stops_the_upload() {
    run(Setup::default(), async |_, client| {
        let call = request("POST", "/early");
        let (answer, mut out) = client.ready().await.send_request(call, false).unwrap();
        out.send_data(Bytes::from_static(b"some"), false).unwrap();
        let got = read(answer.await.unwrap()).await.unwrap();
        assert_eq!((got.status, &got.body[..]), (413, &b"big"[..]));
        let reset = std::future::poll_fn(|cx| out.poll_reset(cx)).await.unwrap();
        assert_eq!(reset, Reason::NO_ERROR);
        assert_eq!(client.get("/").await.status, 200);
    });
}

#[test]
fn a_cut_answer_never_looks_complete() {
    run(Setup::default(), async |rig, client| {
        for path in ["/break", "/break-chunked"] {
            let result = client.exchange(request("GET", path), None, None).await;
            assert_eq!(code(result), Some(Reason::INTERNAL_ERROR), "{path}");
        }
        rig.cuts("upstream", 2.0);
        let got = client.get("/die").await;
        assert_eq!(got.status, 502);
        assert_eq!(client.get("/panic").await.status, 500);
        assert_eq!(client.get("/silent").await.status, 500);
        assert_eq!(client.get("/").await.status, 200);
    });
}

#[test]
fn a_client_that_resets_its_stream_frees_the_upstream() {
    run(Setup::default(), async |rig, client| {
        let call = request("GET", "/hold");
        let (answer, mut out) = client.ready().await.send_request(call, true).unwrap();
        while rig.origin.arrived.try_recv().is_err() {
            tokio::task::yield_now().await;
        }
        out.send_reset(Reason::CANCEL);
        assert!(answer.await.is_err());
        while rig.origin.closed.try_recv().is_err() {
            tokio::task::yield_now().await;
        }
        assert_eq!(client.get("/").await.status, 200);
    });
}

#[test]
fn expectations_are_answered_by_the_upstream() {
    run(Setup::default(), async |_, client| {
        let mut call = request("POST", "/echo");
        call.headers_mut()
            .insert("expect", "100-continue".parse().unwrap());
        call.headers_mut()
            .insert("content-length", "3".parse().unwrap());
        let got = client.exchange(call, Some(b"abc"), None).await.unwrap();
        assert_eq!((got.status, &got.body[..]), (200, &b"abc"[..]));
        assert_eq!(client.get("/103").await.status, 200);
    });
}

#[test]
fn a_slow_reader_holds_the_upstream_back() {
    const SIZE: usize = 64 * MEGABYTE;
    run(Setup::default(), async |rig, client| {
        let call = request("GET", &format!("/big/{SIZE}"));
        let (answer, _) = client.ready().await.send_request(call, true).unwrap();
        let mut stream = answer.await.unwrap().into_body();
        // Nothing is read: what the origin can write comes to rest.
        let mut before = usize::MAX;
        let mut still = 0;
        while still < 30 {
            let written = rig.origin.written.load(SeqCst);
            still = if written == before { still + 1 } else { 0 };
            before = written;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(before < 16 * MEGABYTE, "{before} bytes on their way");
        let mut read = 0;
        while let Some(data) = stream.data().await {
            let data = data.unwrap();
            read += data.len();
            stream.flow_control().release_capacity(data.len()).unwrap();
        }
        assert_eq!(read, SIZE);
    });
}

// ------------------------------------------------------------------------------------------------ WebSocket

/// What an upstream answers to the key in this head.
fn switch(head: &str) -> String {
    let key = head
        .lines()
        .find_map(|l| l.strip_prefix("sec-websocket-key: "));
    let text = format!("{}258EAFA5-E914-47DA-95CA-C5AB0DC85B11", key.unwrap());
    let proof = digest(&SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
    let proof = BASE64_STANDARD.encode(proof);
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {proof}\r\nSec-WebSocket-Protocol: chat\r\n\r\n"
    )
}

fn ask_for(protocol: &'static str) -> Request<()> {
    let mut call = Request::connect("http://t/chat?x=1")
        .header("sec-websocket-version", "13")
        .body(())
        .unwrap();
    call.extensions_mut()
        .insert(Protocol::from_static(protocol));
    call
}

/// An extended CONNECT, the upstream's answer to it as `answer` makes it of the head, and the head.
async fn websocket(
    client: &H2,
    upstream: &TcpListener,
    answer: impl FnOnce(&str) -> String,
) -> (
    Result<Response<RecvStream>, h2::Error>,
    h2::SendStream<Bytes>,
    Client,
    String,
) {
    // Settings have come.
    while !client.send.is_extended_connect_protocol_enabled() {
        tokio::task::yield_now().await;
    }
    let (got, mut out) = client
        .ready()
        .await
        .send_request(ask_for("websocket"), false)
        .unwrap();
    // Waits for the answer at the gateway.
    out.send_data(Bytes::from_static(b"early"), false).unwrap();
    let socket = upstream.try_clone().unwrap();
    let (mut peer, head) = tokio::task::spawn_blocking(move || {
        let mut peer = Client::on(socket.accept().unwrap().0);
        let head = peer.head();
        (peer, head)
    })
    .await
    .unwrap();
    peer.send(answer(&head));
    (got.await, out, peer, head)
}

/// An upstream that the test plays, and a client.
fn run_before(setup: Setup, test: impl AsyncFnOnce(&Rig, H2, TcpListener)) {
    let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
    let rig = Rig::before(upstream.local_addr().unwrap(), setup);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let client = connect(rig.address).await;
        tokio::time::timeout(PATIENCE, test(&rig, client, upstream))
            .await
            .expect("in time");
    });
}

async fn take(stream: &mut RecvStream, n: usize) -> Vec<u8> {
    let mut all = Vec::new();
    while all.len() < n {
        let data = stream.data().await.expect("more").unwrap();
        stream.flow_control().release_capacity(data.len()).unwrap();
        all.extend_from_slice(&data);
    }
    all
}

#[test]
fn a_websocket_over_http2_is_one_over_http1_for_its_upstream() {
    run_before(Setup::default(), async |_, client, upstream| {
        let (got, mut out, mut peer, head) = websocket(&client, &upstream, switch).await;
        assert!(
            head.starts_with("GET /chat?x=1 HTTP/1.1\r\nhost: t\r\n"),
            "{head}"
        );
        for line in [
            "connection: upgrade",
            "upgrade: websocket",
            "sec-websocket-version: 13",
        ] {
            assert!(head.lines().any(|l| l == line), "{line} in {head}");
        }
        assert!(
            !head.contains("protocol") && !head.contains("content-length"),
            "{head}"
        );
        let got = got.unwrap();
        assert_eq!(got.status(), 200);
        let headers = got.headers();
        assert_eq!(headers["sec-websocket-protocol"], "chat");
        for gone in [
            "upgrade",
            "connection",
            "sec-websocket-accept",
            "content-length",
        ] {
            assert!(!headers.contains_key(gone), "{gone}");
        }
        let mut input = got.into_body();
        assert_eq!(peer.take(5), b"early");
        peer.send("hello");
        assert_eq!(take(&mut input, 5).await, b"hello");
        out.send_data(Bytes::from_static(b"there"), false).unwrap();
        let mut peer = tokio::task::spawn_blocking(move || {
            assert_eq!(peer.take(5), b"there");
            peer
        })
        .await
        .unwrap();
        // Either direction ends by itself.
        out.send_data(Bytes::from_static(b"bye"), true).unwrap();
        let peer = tokio::task::spawn_blocking(move || {
            assert_eq!(peer.rest(), b"bye");
            peer.send(noise(300_000))
                .stream
                .shutdown(Shutdown::Write)
                .unwrap();
            peer
        });
        assert!(take(&mut input, 300_000).await == noise(300_000));
        assert!(input.data().await.is_none());
        drop(peer.await.unwrap());
    });
}

type Answer = fn(&str) -> String;

#[test]
fn what_is_no_websocket_does_not_look_like_one() {
    run_before(Setup::default(), async |rig, client, upstream| {
        let answers: [(Answer, u16); 4] = [
            (
                |_| "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".into(),
                502,
            ),
            (
                |_| "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno".into(),
                403,
            ),
            (|head| switch(head).replace("Accept: ", "Accept: x"), 502),
            (
                |head| switch(head).replace("Upgrade: websocket", "Upgrade: other"),
                502,
            ),
        ];
        for (answer, status) in answers {
            let (got, _out, _peer, _) = websocket(&client, &upstream, answer).await;
            assert_eq!(got.unwrap().status(), status);
        }
        let other = client
            .ready()
            .await
            .send_request(ask_for("connect-udp"), false);
        assert_eq!(other.unwrap().0.await.unwrap().status(), 400);
        let mut long = ask_for("websocket");
        long.headers_mut()
            .insert("content-length", "5".parse().unwrap());
        let long = client.ready().await.send_request(long, false);
        assert_eq!(long.unwrap().0.await.unwrap().status(), 400);
        assert_eq!(rig.listen.accepted.load(SeqCst), 1);
    });
}

#[test]
fn a_websocket_that_is_cut_is_reset() {
    let mut setup = Setup::default();
    setup.timeouts.stream_idle = Duration::from_millis(300);
    run_before(setup, async |_, client, upstream| {
        let (got, _out, mut peer, _) = websocket(&client, &upstream, switch).await;
        let mut input = got.unwrap().into_body();
        let error = input.data().await.unwrap().unwrap_err();
        assert_eq!(error.reason(), Some(Reason::CANCEL), "idle");
        assert_eq!(peer.rest(), b"early");
    });
    run_before(Setup::default(), async |_, client, upstream| {
        // The client's reset is the upstream's end.
        let (got, mut out, mut peer, _) = websocket(&client, &upstream, switch).await;
        assert_eq!(got.unwrap().status(), 200);
        out.send_reset(Reason::CANCEL);
        let rest = tokio::task::spawn_blocking(move || peer.rest());
        assert_eq!(rest.await.unwrap(), b"early");
    });
}

// ------------------------------------------------------------------------------------------------ connections

#[test]
fn a_listener_that_closes_lets_streams_end() {
    run(Setup::default(), async |rig, client| {
        let call = request("GET", "/gated");
        let (answer, _) = client.ready().await.send_request(call, true).unwrap();
        while rig.origin.arrived.try_recv().is_err() {
            tokio::task::yield_now().await;
        }
        rig.workers.close(1).await;
        // GOAWAY: sooner or later no further stream can be opened.
        loop {
            match client.send.clone().ready().await {
                Err(error) => {
                    assert!(error.is_go_away() && error.is_remote(), "{error}");
                    break;
                }
                Ok(_) => tokio::task::yield_now().await,
            }
        }
        rig.origin.gate.send(()).unwrap();
        let got = read(answer.await.unwrap()).await.unwrap();
        assert_eq!((got.status, &got.body[..]), (200, &b"ok"[..]));
        drop(client.send);
        client.connection.await.unwrap().unwrap();
    });
}

#[test]
fn an_idle_connection_is_closed() {
    let setup = timeouts(|t| t.idle = Duration::from_millis(300));
    run(setup, async |_, client| {
        assert_eq!(client.get("/").await.status, 200);
        let begun = Instant::now();
        client.connection.await.unwrap().unwrap();
        assert!(begun.elapsed() >= Duration::from_millis(250));
    });
}

#[test]
fn a_connection_lives_so_long() {
    let mut setup = Setup::default();
    setup.conn.lifetime = Duration::from_millis(300);
    let rig = Rig::with(setup);
    let begun = Instant::now();
    let mut client = rig.client();
    while client.get("/").header("connection") != Some("close") {
        assert!(begun.elapsed() < PATIENCE);
    }
    assert!(begun.elapsed() >= Duration::from_millis(270));
    let begun = Instant::now();
    let mut client = Raw::connect(rig.address, &[]);
    for stream in (1..).step_by(2) {
        assert!(begun.elapsed() < PATIENCE);
        client.send(&frame(1, 5, stream, &head("/")));
        // Its answer, and perhaps before it the word that the end is near.
        let frames = std::iter::from_fn(|| client.frames.recv_timeout(PATIENCE).ok());
        let kinds: Vec<u8> = frames
            .map(|(kind, ..)| kind)
            .take_while(|kind| *kind != 0)
            .collect();
        if kinds.contains(&7) {
            break;
        }
    }
    assert!(begun.elapsed() >= Duration::from_millis(270));
}

#[test]
fn a_connection_has_so_many_requests() {
    let mut setup = Setup::default();
    setup.conn = ConnConfig {
        requests: 5,
        ..setup.conn
    };
    run(setup, async |_, client| {
        let mut served = 0;
        while let Ok(got) = client.exchange(request("GET", "/"), None, None).await {
            assert_eq!(got.status, 200);
            served += 1;
            assert!(served <= 6);
            if client.connection.is_finished() || client.send.clone().ready().await.is_err() {
                break;
            }
        }
        assert!(served >= 4, "{served}");
    });
}

#[test]
fn http1_is_told_apart_at_its_first_bytes() {
    let rig = Rig::start();
    let mut client = rig.client();
    assert_eq!(
        client
            .request("POST", "/echo", "Content-Length: 2\r\n", "ab")
            .body,
        b"ab"
    );
    assert_eq!(client.get("/").body, b"hello");
    // A method that begins like the preface.
    let mut client = rig.client();
    assert_eq!(client.request("PRI", "/", "", "").status, 200);
    let mut client = rig.client();
    client.send("P");
    client.send("RI * HTTP/1.1\r\nHost: t\r\n\r\n");
    assert_eq!(client.answer("GET").unwrap().status, 400);
}

#[test]
fn a_preface_that_does_not_end_is_not_waited_for() {
    let setup = timeouts(|t| t.header = Duration::from_millis(300));
    let rig = Rig::with(setup);
    for part in ["PRI * HT", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let mut client = rig.client();
        client.send(part);
        // Closed by us: this returns.
        client.rest();
    }
    let mut client = rig.client();
    client.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    client.send(frame(4, 0, 0, b"")).send(frame(1, 1, 1, &HEAD));
    assert_eq!(goaway(&client.rest()), Some(Reason::ENHANCE_YOUR_CALM));
}

// ------------------------------------------------------------------------------------------------ abuse

/// `GET / HTTP/2`, host `t`.
const HEAD: [u8; 6] = [0x82, 0x86, 0x84, 0x41, 1, b't'];

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, a, b, c] = (payload.len() as u32).to_be_bytes();
    let mut frame = vec![a, b, c, kind, flags];
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// The last GOAWAY's reason in what a server sent.
fn goaway(mut text: &[u8]) -> Option<Reason> {
    let mut reason = None;
    while let Some((head, rest)) = text.split_at_checked(9) {
        let len = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let (payload, rest) = rest.split_at_checked(len)?;
        if head[3] == 7 {
            reason = Some(u32::from_be_bytes(payload[4..8].try_into().unwrap()).into());
        }
        text = rest;
    }
    reason
}

/// Sends a preface, then `flood` until the other side is gone; what it said at last.
fn flood(address: SocketAddr, mut flood: impl FnMut(u32) -> Vec<u8>) -> Option<Reason> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut input = stream.try_clone().unwrap();
    let reader = std::thread::spawn(move || {
        let mut said = Vec::new();
        let mut piece = [0; 4096];
        while let Ok(n @ 1..) = input.read(&mut piece) {
            said.extend_from_slice(&piece[..n]);
        }
        said
    });
    stream
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        .unwrap();
    let mut all = frame(4, 0, 0, b"");
    for n in 0..2000 {
        all.extend(flood(n));
    }
    // Broken off where the other side has had enough.
    let _ = stream.write_all(&all);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    goaway(&reader.join().unwrap())
}

#[test]
fn floods_end_their_connection() {
    let rig = Rig::start();
    let calm = Some(Reason::ENHANCE_YOUR_CALM);
    assert_eq!(
        flood(rig.address, |_| frame(6, 0, 0, &[0; 8])),
        calm,
        "PING"
    );
    assert_eq!(
        flood(rig.address, |_| frame(4, 0, 0, b"")),
        calm,
        "SETTINGS"
    );
    assert_eq!(
        flood(rig.address, |_| frame(2, 0, 1, &[0, 0, 0, 0, 1])),
        calm,
        "PRIORITY"
    );
    assert_eq!(
        flood(rig.address, |_| frame(8, 0, 0, &[0, 0, 0, 1])),
        calm,
        "WINDOW_UPDATE"
    );
    assert_eq!(
        flood(rig.address, |_| frame(0xfa, 0, 0, b"")),
        calm,
        "unknown"
    );
    let empty = flood(rig.address, |n| match n {
        0 => frame(1, 4, 1, &[0x83, 0x86, 0x84, 0x41, 1, b't']),
        _ => frame(0, 0, 1, b""),
    });
    assert_eq!(empty, calm, "DATA");
    let continuation = flood(rig.address, |n| match n {
        0 => frame(1, 0, 1, &HEAD),
        _ => frame(9, 0, 1, &[0, 1, b'a', 1, b'b']),
    });
    assert_eq!(continuation, calm, "CONTINUATION");
    rig.metric_becomes(r#"diolkos_edge_rejected_total{reason="h2_budget"}"#, 7.0);
    assert_eq!(Client::connect(rig.address).get("/").status, 200);
}

/// Resets are counted, and not by whom they were not.
fn reset_by(rig: &Rig, who: &str) {
    let resets = |by: &str| rig.metric(&format!(r#"diolkos_h2_resets_total{{by="{by}"}}"#));
    becomes("resets are counted", true, || resets(who) >= 40.0);
    let other = if who == "us" { "client" } else { "us" };
    assert!(resets(other) < resets(who), "{}", resets(other));
}

#[test]
fn rapid_resets_start_few_exchanges() {
    let rig = Rig::start();
    let reset = |n: u32| {
        let stream = 2 * n + 1;
        let mut both = frame(1, 5, stream, &HEAD);
        both.extend(frame(3, 0, stream, &[0, 0, 0, 8]));
        both
    };
    assert_eq!(flood(rig.address, reset), Some(Reason::ENHANCE_YOUR_CALM));
    assert!(rig.origin.count() <= 150, "{}", rig.origin.count());
    reset_by(&rig, "client");
    assert_eq!(Client::connect(rig.address).get("/").status, 200);
}

#[test]
fn streams_that_are_cancelled_one_by_one_have_a_budget() {
    run(Setup::default(), async |rig, client| {
        for n in 0..200 {
            let Ok(mut send) = client.send.clone().ready().await else {
                assert!((40..=60).contains(&n), "{n}");
                let error = client.connection.await.unwrap().unwrap_err();
                assert_eq!(error.reason(), Some(Reason::ENHANCE_YOUR_CALM));
                return;
            };
            let (_answer, mut out) = send.send_request(request("GET", "/hold"), true).unwrap();
            while rig.origin.arrived.try_recv().is_err() {
                if client.connection.is_finished() {
                    break;
                }
                tokio::task::yield_now().await;
            }
            out.send_reset(Reason::CANCEL);
        }
        panic!("no end");
    });
}

#[test]
fn resets_that_the_client_provokes_have_a_budget() {
    let rig = Rig::start();
    let calm = Some(Reason::ENHANCE_YOUR_CALM);
    // A window that overflows makes us reset a stream whose exchange has begun (CVE-2025-8671).
    let provoke = |n: u32| {
        let stream = 2 * n + 1;
        let mut both = frame(1, 5, stream, &HEAD);
        both.extend(frame(8, 0, stream, &[0x7f, 0xff, 0xff, 0xff]));
        both
    };
    assert_eq!(flood(rig.address, provoke), calm);
    let begun = rig.origin.count();
    assert!(begun <= 150, "{begun}");
    // A connection field makes us reset a stream before it begins.
    let malformed = |n: u32| {
        let head = [&HEAD[..], &[0, 2, b't', b'e', 1, b'x']].concat();
        frame(1, 5, 2 * n + 1, &head)
    };
    assert_eq!(flood(rig.address, malformed), calm);
    assert_eq!(rig.origin.count(), begun);
    reset_by(&rig, "us");
    assert_eq!(Client::connect(rig.address).get("/").status, 200);
}

/// `GET path`, host `t`.
fn head(path: &str) -> Vec<u8> {
    let mut head = vec![0x82, 0x86, 0x41, 1, b't', 0x04, path.len() as u8];
    head.extend_from_slice(path.as_bytes());
    head
}

/// A client that sends what it wants; all that it gets is read.
struct Raw {
    out: TcpStream,
    frames: Receiver<(u8, u32, Vec<u8>)>,
}

impl Raw {
    fn connect(address: SocketAddr, settings: &[u8]) -> Self {
        let mut out = TcpStream::connect(address).unwrap();
        out.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut input = out.try_clone().unwrap();
        let (sender, frames) = channel();
        std::thread::spawn(move || {
            let mut head = [0; 9];
            while input.read_exact(&mut head).is_ok() {
                let len = u32::from_be_bytes([0, head[0], head[1], head[2]]);
                let stream = u32::from_be_bytes(head[5..].try_into().unwrap());
                let mut payload = vec![0; len as usize];
                if input.read_exact(&mut payload).is_err()
                    || sender.send((head[3], stream, payload)).is_err()
                {
                    return;
                }
            }
        });
        out.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
        out.write_all(&frame(4, 0, 0, settings)).unwrap();
        Self { out, frames }
    }

    fn send(&mut self, frame: &[u8]) {
        self.out.write_all(frame).unwrap();
    }

    /// The next frame of this kind: its stream and what it says.
    fn next(&self, kind: u8) -> (u32, Vec<u8>) {
        loop {
            let frame = self.frames.recv_timeout(PATIENCE).expect("a frame");
            if frame.0 == kind {
                return (frame.1, frame.2);
            }
        }
    }
}

#[test]
fn a_client_whose_window_stays_tiny_is_given_up() {
    let rig = Rig::with(timeouts(|t| t.body = Duration::from_millis(700)));
    // A window of nothing for each stream.
    let mut client = Raw::connect(rig.address, &[0, 4, 0, 0, 0, 0]);
    client.send(&frame(1, 5, 1, &head("/big/1000000")));
    client.send(&frame(1, 5, 3, &head("/big/1000000")));
    assert_eq!(client.next(1).0 % 2, 1);
    let mut given_up = Vec::new();
    while given_up.len() < 2 {
        match client.frames.recv_timeout(Duration::from_millis(100)) {
            Ok((3, stream, _)) => given_up.push(stream),
            Ok((7, _, why)) => panic!("the connection was ended: {why:?}"),
            Ok(_) => {}
            // One of them takes a byte now and then.
            Err(RecvTimeoutError::Timeout) => client.send(&frame(8, 0, 3, &[0, 0, 0, 1])),
            Err(RecvTimeoutError::Disconnected) => panic!("the connection ended"),
        }
    }
    given_up.sort_unstable();
    assert_eq!(given_up, [1, 3]);
    rig.cuts("slow_reader", 2.0);
    // Neither holds its upstream any longer.
    for _ in 0..2 {
        rig.origin.closed.recv_timeout(PATIENCE).unwrap();
    }
    // A window that opens in time is no reason.
    client.send(&frame(1, 5, 5, &head("/")));
    assert_eq!(client.next(1).0, 5);
    client.send(&frame(8, 0, 5, &[0, 0, 0, 9]));
    assert_eq!(client.next(0), (5, b"hello".to_vec()));
}

/// Its windows are wide open, and its socket is full: each exchange ends, and so does what would be left of all of them.
#[test]
fn a_client_that_does_not_read_its_socket_is_given_up() {
    let mut setup = timeouts(|t| t.body = Duration::from_millis(300));
    setup.timeouts.pace.grace = Duration::from_millis(300);
    let rig = Rig::with(setup);
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(8 << 10).unwrap();
    socket.connect(&rig.address.into()).unwrap();
    let mut client = TcpStream::from(socket);
    let wide = 0x7fff_ffff_u32.to_be_bytes();
    let more = (0x7fff_ffff_u32 - 0xffff).to_be_bytes();
    client
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        .unwrap();
    let settings = [&[0, 4], &wide[..]].concat();
    client.write_all(&frame(4, 0, 0, &settings)).unwrap();
    client.write_all(&frame(8, 0, 0, &more)).unwrap();
    // Complete in what is kept of an answer, or far from it: the latter are reset, for which there is no room either.
    for n in 0..90 {
        let path = if n < 80 { "/big/30000" } else { "/big/1000000" };
        client
            .write_all(&frame(1, 5, 2 * n + 1, &head(path)))
            .unwrap();
    }
    // Not a byte is read before.
    let begun = Instant::now();
    while rig.listen.accepted.load(SeqCst) == 0 || rig.listen.open.load(SeqCst) > 0 {
        assert!(begun.elapsed() < PATIENCE, "the connection is still open");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(rig.metric(r#"diolkos_streams_cut_total{reason="slow_reader"}"#) >= 1.0);
    rig.metric_becomes(r#"diolkos_edge_rejected_total{reason="h2_budget"}"#, 1.0);
    assert_eq!(rig.client().get("/").status, 200);
}

/// RFC 9113 section 6.8: first the word that the end is near, and only when the client has heard it where the end is.
#[test]
fn the_end_of_a_connection_comes_in_two_steps_and_no_request_between_them_is_lost() {
    let mut setup = Setup::default();
    setup.conn.requests = 3;
    let rig = Rig::with(setup);
    let mut client = Raw::connect(rig.address, &[]);
    for stream in [1, 3, 5] {
        client.send(&frame(1, 5, stream, &head("/gated")));
    }
    let (_, said) = client.next(7);
    assert_eq!(said[..8], [0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0], "{said:?}");
    let (_, ping) = client.next(6);
    // It has not heard of it yet: these crossed the word on their way.
    for stream in [7, 9] {
        client.send(&frame(1, 5, stream, &head("/gated")));
        rig.origin.arrived.recv_timeout(PATIENCE).unwrap();
    }
    client.send(&frame(6, 1, 0, &ping));
    let (_, said) = client.next(7);
    assert_eq!(said[..8], [0, 0, 0, 9, 0, 0, 0, 0], "{said:?}");
    // What comes now is nobody's: the client has been told so, and may repeat it.
    client.send(&frame(1, 5, 11, &head("/")));
    for _ in 0..3 {
        rig.origin.arrived.recv_timeout(PATIENCE).unwrap();
    }
    for _ in 0..5 {
        rig.origin.gate.send(()).unwrap();
    }
    let (mut answered, mut whole) = (Vec::new(), Vec::new());
    while let Ok((kind, stream, payload)) = client.frames.recv_timeout(PATIENCE) {
        match kind {
            1 => answered.push(stream),
            0 if !payload.is_empty() => whole.push((stream, payload)),
            3 => panic!("stream {stream} was reset: {payload:?}"),
            _ => {}
        }
    }
    answered.sort_unstable();
    whole.sort_unstable();
    let all = [1, 3, 5, 7, 9];
    assert_eq!(answered, all);
    assert_eq!(whole, all.map(|stream| (stream, b"ok".to_vec())));
    assert_eq!(rig.origin.count(), 5);
}

#[test]
fn more_streams_than_allowed_are_refused() {
    run(Setup::default(), async |_, client| {
        assert_eq!(client.get("/").await.status, 200);
        assert_eq!(client.send.current_max_send_streams(), 100);
    });
    let rig = Rig::start();
    let mut client = Raw::connect(rig.address, &[]);
    for n in 0..110 {
        client.send(&frame(1, 5, 2 * n + 1, &head("/hold")));
    }
    for n in 100..110 {
        let refused = client.next(3);
        assert_eq!(refused, (2 * n + 1, vec![0, 0, 0, 7]));
    }
    for _ in 0..100 {
        rig.origin.arrived.recv_timeout(PATIENCE).unwrap();
    }
    assert!(rig.origin.arrived.try_recv().is_err());
}
