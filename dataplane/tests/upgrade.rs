//! Upgrades: who may ask for one, what an upstream may answer, and the tunnel that follows. The test plays both ends on
//! raw sockets.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use diolkos_dataplane::engine::Timeouts;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::{Duration, Instant};
use support::{Client, PATIENCE, Rig, Setup, noise};

const ASK: &str = "GET /chat HTTP/1.1\r\nHost: t\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                      Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";

struct Stage {
    rig: Rig,
    upstream: TcpListener,
}

impl Stage {
    fn new() -> Self {
        Self::with(Setup::default())
    }

    fn with(setup: Setup) -> Self {
        let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
        let rig = Rig::before(upstream.local_addr().unwrap(), setup);
        Self { rig, upstream }
    }

    /// The next connection at the upstream.
    fn accept(&self) -> Client {
        Client::on(self.upstream.accept().unwrap().0)
    }

    /// Client and upstream at both ends of a tunnel.
    fn tunnel(&self) -> (Client, Client) {
        let mut client = self.rig.client();
        client.send(ASK);
        let mut upstream = self.accept();
        upstream.head();
        upstream.send(SWITCH);
        assert_eq!(client.answer("GET").unwrap().status, 101);
        (client, upstream)
    }

    /// The answer to a request that the upstream answers so, and the head that it got.
    fn exchange(&self, ask: &str, answer: &str) -> (support::Answer, String) {
        let mut client = self.rig.client();
        client.send(ask);
        let mut upstream = self.accept();
        let head = upstream.head();
        upstream.send(answer);
        (client.answer("GET").unwrap(), head)
    }
}

fn asking(upgrade: &str) -> String {
    ASK.replace("Upgrade: websocket", upgrade)
}

fn has_line(head: &str, line: &str) -> bool {
    head.lines().any(|l| l.eq_ignore_ascii_case(line))
}

#[test]
fn both_heads_are_written_anew_and_bytes_pass_both_ways() {
    let stage = Stage::new();
    let mut client = stage.rig.client();
    client.send(ASK);
    let mut upstream = stage.accept();
    let head = upstream.head();
    assert!(has_line(&head, "connection: upgrade"), "{head}");
    assert!(has_line(&head, "upgrade: websocket"), "{head}");
    assert!(has_line(&head, "sec-websocket-version: 13"), "{head}");
    assert!(!head.contains("keep-alive"), "{head}");
    upstream.send(SWITCH);
    let head = client.head();
    assert!(
        head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"),
        "{head}"
    );
    assert!(has_line(&head, "connection: upgrade"), "{head}");
    assert!(has_line(&head, "upgrade: websocket"), "{head}");
    assert!(
        has_line(&head, "sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
        "{head}"
    );
    assert!(
        !head.to_ascii_lowercase().contains("transfer-encoding"),
        "{head}"
    );
    client.send(b"\x81\x02hi");
    assert_eq!(upstream.take(4), b"\x81\x02hi");
    upstream.send(b"HTTP/1.1 200 OK\r\n\r\n");
    assert_eq!(
        client.take(19),
        b"HTTP/1.1 200 OK\r\n\r\n",
        "nothing is parsed any more"
    );
}

#[test]
fn what_a_client_sends_too_early_waits_for_the_answer() {
    let stage = Stage::new();
    let mut client = stage.rig.client();
    let early = noise(40_000);
    client.send(ASK);
    client.send(&early);
    let mut upstream = stage.accept();
    upstream.head();
    upstream
        .stream
        .set_read_timeout(Some(Duration::from_millis(200)))
        .unwrap();
    let came = upstream.stream.read(&mut [0; 1]).map_err(|e| e.kind());
    assert!(
        came.is_err(),
        "before the 101 the upstream gets nothing: {came:?}"
    );
    upstream.stream.set_read_timeout(Some(PATIENCE)).unwrap();
    upstream.send(SWITCH);
    assert!(upstream.take(early.len()) == early, "and then everything");
    assert_eq!(client.answer("GET").unwrap().status, 101);
}

#[test]
fn what_an_upstream_sends_right_behind_its_head_arrives() {
    let stage = Stage::new();
    let mut client = stage.rig.client();
    client.send(ASK);
    let mut upstream = stage.accept();
    upstream.head();
    upstream.send([SWITCH, "right behind"].concat());
    assert_eq!(client.answer("GET").unwrap().status, 101);
    assert_eq!(client.take(12), b"right behind");
}

#[test]
fn a_refused_upgrade_is_an_answer_like_any_other() {
    let stage = Stage::new();
    for (status, line) in [
        (200, "200 OK"),
        (426, "426 Upgrade Required"),
        (404, "404 Not Found"),
    ] {
        let mut client = stage.rig.client();
        // What follows the request is the next request, which no upstream sees raw.
        client.send([ASK, "GET /next HTTP/1.1\r\nHost: t\r\nX-A: 1\r\n\r\n"].concat());
        let mut upstream = stage.accept();
        upstream.head();
        upstream.send(format!("HTTP/1.1 {line}\r\nContent-Length: 2\r\n\r\nno"));
        let answer = client.answer("GET").unwrap();
        assert_eq!((answer.status, &answer.body[..]), (status, &b"no"[..]));
        let head = upstream.head();
        assert!(
            head.starts_with("GET /next HTTP/1.1\r\nhost: t\r\n"),
            "{head}"
        );
        upstream.send(OK);
        assert_eq!(client.answer("GET").unwrap().body, b"ok");
    }
}

#[test]
fn an_upstream_that_demands_an_upgrade_says_which() {
    let stage = Stage::new();
    let demand = "HTTP/1.1 426 Upgrade Required\r\nConnection: upgrade\r\nUpgrade: websocket, h2c\r\n\
                  Content-Length: 0\r\n\r\n";
    let (answer, _) = stage.exchange("GET / HTTP/1.1\r\nHost: t\r\n\r\n", demand);
    assert_eq!(answer.status, 426);
    assert_eq!(
        answer.header("upgrade"),
        Some("websocket"),
        "not what is never forwarded"
    );
    assert_eq!(answer.header("connection"), Some("upgrade"));
}

#[test]
fn a_switch_that_was_not_asked_for_is_a_protocol_error() {
    let stage = Stage::new();
    let plain = "GET / HTTP/1.1\r\nHost: t\r\n\r\n";
    for (ask, answer) in [
        (plain, SWITCH.to_owned()),
        (ASK, SWITCH.replace("Upgrade: websocket", "Upgrade: other")),
        (
            ASK,
            SWITCH.replace("Upgrade: websocket", "Upgrade: websocket, other"),
        ),
        (ASK, SWITCH.replace("Upgrade: websocket\r\n", "")),
        (ASK, SWITCH.replace("Connection: Upgrade\r\n", "")),
        (
            &asking("Upgrade: h2c, websocket"),
            SWITCH.replace("websocket", "h2c"),
        ),
    ] {
        let (got, _) = stage.exchange(ask, &[&answer, "leaked"].concat());
        assert_eq!(got.status, 502, "{answer}");
    }
}

#[test]
fn the_protocol_is_compared_without_case_and_may_be_any_that_was_offered() {
    let stage = Stage::new();
    for (offer, chosen) in [
        ("Upgrade: WebSocket", "Upgrade: websocket"),
        ("Upgrade: first/1.0, second", "Upgrade: second"),
        (
            "Upgrade: first/1.0\r\nUpgrade: second",
            "Upgrade: FIRST/1.0",
        ),
    ] {
        let (answer, _) = stage.exchange(
            &asking(offer),
            &SWITCH.replace("Upgrade: websocket", chosen),
        );
        assert_eq!(answer.status, 101, "{offer}");
    }
}

#[test]
fn what_is_no_upgrade_is_forwarded_without_it() {
    let stage = Stage::new();
    let post = "POST / HTTP/1.1\r\nHost: t\r\nConnection: upgrade\r\nUpgrade: other\r\n";
    for ask in [
        asking("Upgrade: h2c"),
        asking("Upgrade: H2C"),
        asking("Upgrade: HTTP/2.0"),
        asking("Upgrade: TLS/1.3"),
        asking("Upgrade: two words"),
        asking("Upgrade: "),
        ASK.replace("Connection: keep-alive, Upgrade", "Connection: keep-alive"),
        ASK.replace("HTTP/1.1", "HTTP/1.0"),
        ASK.replace("GET ", "DELETE "),
        [post, "Content-Length: 1\r\n\r\nx"].concat(),
        [
            post,
            "Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
        ]
        .concat(),
    ] {
        let (answer, head) = stage.exchange(&ask, OK);
        assert_eq!(answer.status, 200, "{ask}");
        let head = head.to_ascii_lowercase();
        assert!(!head.contains("upgrade: "), "{ask}{head}");
        assert!(!head.contains("\nconnection: "), "{ask}{head}");
    }
    // A body of no bytes is none.
    let (answer, head) = stage.exchange(&[post, "Content-Length: 0\r\n\r\n"].concat(), OK);
    assert_eq!(answer.status, 200);
    assert!(has_line(&head, "upgrade: other"), "{head}");
}

#[test]
fn either_side_may_end_its_direction_first() {
    let stage = Stage::new();
    for client_first in [true, false] {
        let (client, upstream) = stage.tunnel();
        let (mut first, mut second) = if client_first {
            (client, upstream)
        } else {
            (upstream, client)
        };
        first.send("last words");
        first.stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(second.rest(), b"last words");
        // The other direction is still open.
        second.send(noise(300_000));
        second.stream.shutdown(Shutdown::Write).unwrap();
        assert!(first.rest() == noise(300_000));
    }
}

#[test]
fn a_side_that_closes_at_once_has_its_last_words_delivered() {
    let stage = Stage::new();
    let (mut client, mut upstream) = stage.tunnel();
    upstream.send("bye");
    drop(upstream);
    assert_eq!(client.take(3), b"bye");
    // Nobody takes this any more; it must not take the end of the tunnel with it.
    let _ = client.stream.write_all(b"echo of bye");
    assert_eq!(client.rest(), b"");
    let (mut client, mut upstream) = stage.tunnel();
    client.send("bye");
    drop(client);
    assert_eq!(upstream.take(3), b"bye");
    assert_eq!(upstream.rest(), b"");
}

#[test]
fn nothing_is_a_request_after_a_tunnel() {
    let stage = Stage::new();
    let (mut client, mut upstream) = stage.tunnel();
    upstream.stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.rest(), b"");
    client.send("GET / HTTP/1.1\r\nHost: t\r\n\r\n");
    client.stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(upstream.rest(), b"GET / HTTP/1.1\r\nHost: t\r\n\r\n");
    assert_eq!(client.rest(), b"", "no answer of ours");
    assert_eq!(
        stage
            .rig
            .pool
            .idle
            .load(std::sync::atomic::Ordering::SeqCst),
        0
    );
}

#[test]
fn an_idle_tunnel_is_cut_and_a_busy_one_outlives_the_total() {
    let idle = Duration::from_millis(400);
    let setup = Setup {
        timeouts: Timeouts {
            stream_idle: idle,
            total: Some(Duration::from_millis(500)),
            ..Setup::default().timeouts
        },
        ..Setup::default()
    };
    let stage = Stage::with(setup);
    let (mut client, mut upstream) = stage.tunnel();
    // Traffic in one direction keeps both.
    let begun = Instant::now();
    while begun.elapsed() < 3 * idle {
        upstream.send("x");
        assert_eq!(client.take(1), b"x");
        std::thread::yield_now();
    }
    let begun = Instant::now();
    assert_eq!(client.rest(), b"");
    assert!(begun.elapsed() >= idle / 2, "{:?}", begun.elapsed());
    assert_eq!(upstream.rest(), b"");
    stage.rig.cuts("idle", 1.0);
}

#[test]
fn a_reset_by_one_side_ends_the_other() {
    let stage = Stage::new();
    let reset = |stream: &TcpStream| {
        let socket = socket2::SockRef::from(stream);
        socket.set_linger(Some(Duration::ZERO)).unwrap();
    };
    let (client, mut upstream) = stage.tunnel();
    reset(&client.stream);
    drop(client);
    assert_eq!(upstream.rest(), b"");
    stage.rig.cuts("client", 1.0);
    let (mut client, upstream) = stage.tunnel();
    reset(&upstream.stream);
    drop(upstream);
    assert_eq!(client.rest(), b"");
    stage.rig.cuts("upstream", 1.0);
}

#[test]
fn ten_thousand_small_and_a_few_large_messages_both_ways_at_once() {
    let stage = Stage::new();
    let (client, upstream) = stage.tunnel();
    let small: Vec<u8> = noise(70_000)
        .chunks(7)
        .flat_map(|c| [&[7], c].concat())
        .collect();
    let large = noise(1 << 20);
    std::thread::scope(|scope| {
        let (small, large) = (&small, &large);
        for side in [client, upstream] {
            let mut out = side.stream.try_clone().unwrap();
            scope.spawn(move || {
                for message in small.chunks(8) {
                    out.write_all(message).unwrap();
                }
                for _ in 0..4 {
                    out.write_all(large).unwrap();
                }
                out.shutdown(Shutdown::Write).unwrap();
            });
            let mut side = side;
            scope.spawn(move || {
                assert!(side.take(small.len()) == *small);
                for _ in 0..4 {
                    assert!(side.take(large.len()) == *large);
                }
                assert_eq!(side.rest(), b"");
            });
        }
    });
}

#[test]
fn a_slow_reader_holds_up_its_source_and_nothing_else() {
    let stage = Stage::new();
    let (mut client, mut upstream) = stage.tunnel();
    // The upstream sends until nobody takes more: what is on the way is bounded by the sockets' buffers.
    upstream.stream.set_nonblocking(true).unwrap();
    let (mut sent, mut last) = (0usize, Instant::now());
    let piece = [7u8; 64 << 10];
    while last.elapsed() < Duration::from_millis(500) {
        match upstream.stream.write(&piece) {
            Ok(n) => {
                sent += n;
                last = Instant::now();
            }
            Err(e) => assert_eq!(e.kind(), std::io::ErrorKind::WouldBlock),
        }
        assert!(sent < 64 << 20, "what nobody reads is taken without end");
        std::thread::yield_now();
    }
    upstream.stream.set_nonblocking(false).unwrap();
    // The other direction still works.
    client.send("still here");
    assert_eq!(upstream.take(10), b"still here");
    // And everything arrives once it is read.
    upstream.stream.shutdown(Shutdown::Write).unwrap();
    let all = client.rest();
    assert_eq!(all.len(), sent);
    assert!(all.iter().all(|b| *b == 7));
}
