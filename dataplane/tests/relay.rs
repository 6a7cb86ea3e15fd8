//! The floor: what every relay of one exchange must do, seen on raw sockets from both sides.

mod support;

use diolkos_dataplane::engine::PaceLimits;
use std::net::Shutdown;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;
use support::{Client, PATIENCE, Rig, Setup, chunked, noise};

const MEGABYTE: usize = 1 << 20;

#[test]
fn keep_alive_on_both_sides() {
    let rig = Rig::start();
    let mut client = rig.client();
    for _ in 0..5 {
        let answer = client.get("/");
        assert_eq!((answer.status, &answer.body[..]), (200, &b"hello"[..]));
        assert!(answer.header("date").is_some());
        assert_eq!(answer.header("connection"), None);
    }
    assert_eq!(
        rig.origin.connections.load(SeqCst),
        1,
        "five requests use one upstream connection"
    );
    assert_eq!(rig.pool.reused.load(SeqCst), 4);
}

#[test]
fn post_with_length_arrives_unchanged() {
    let rig = Rig::start();
    let answer = rig
        .client()
        .request("POST", "/echo", "Content-Length: 5\r\n", "12345");
    assert_eq!(answer.body, b"12345");
    assert_eq!(answer.header("x-te"), Some("-"));
    assert_eq!(rig.origin.last().headers["content-length"], "5");
}

#[test]
fn post_chunked_arrives_chunked() {
    let rig = Rig::start();
    let body = "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
    let answer = rig
        .client()
        .request("POST", "/echo", "Transfer-Encoding: chunked\r\n", body);
    assert_eq!(answer.body, b"abcde");
    assert_eq!(answer.header("x-te"), Some("chunked"));
}

#[test]
fn a_megabyte_both_ways_and_the_connection_after_it() {
    let rig = Rig::start();
    let mut client = rig.client();
    let body = noise(MEGABYTE);
    let length = format!("Content-Length: {MEGABYTE}\r\n");
    assert!(client.request("POST", "/echo", &length, &body).body == body);
    let answer = client.request(
        "POST",
        "/echochunk",
        "Transfer-Encoding: chunked\r\n",
        chunked(&body, 9000),
    );
    assert!(answer.body == body);
    assert_eq!(client.get("/").body, b"hello");
    assert_eq!(rig.tapped.request.load(SeqCst), 2 * MEGABYTE as u64);
    assert_eq!(rig.tapped.response.load(SeqCst), 2 * MEGABYTE as u64 + 5);
}

#[test]
fn answers_without_body_keep_the_connection() {
    let rig = Rig::start();
    let mut client = rig.client();
    let answer = client.request("HEAD", "/head", "", "");
    assert_eq!(
        (answer.status, answer.header("content-length")),
        (200, Some("99"))
    );
    let answer = client.get("/204");
    assert_eq!(
        (answer.status, answer.header("transfer-encoding")),
        (204, None)
    );
    assert_eq!(answer.header("content-length"), None);
    let answer = client.get("/304");
    assert_eq!((answer.status, answer.header("etag")), (304, Some("x")));
    assert_eq!(client.get("/").body, b"hello");
    assert_eq!(rig.origin.connections.load(SeqCst), 1);
}

#[test]
fn hop_by_hop_fields_are_stripped_both_ways() {
    let rig = Rig::start();
    let answer = rig.client().request(
        "GET",
        "/hop",
        "Connection: keep-alive, x-foo\r\nX-Foo: 1\r\nX-Bar: 2\r\nKeep-Alive: 5\r\nTE: trailers\r\nUpgrade: x\r\n\
         Proxy-Connection: a\r\nProxy-Authorization: b\r\n",
        "",
    );
    assert_eq!(answer.body, b"ok");
    for name in ["keep-alive", "x-priv", "trailer", "connection"] {
        assert_eq!(answer.header(name), None, "{name}");
    }
    assert_eq!(answer.header("x-end"), Some("1"));
    let seen = rig.origin.last().headers;
    for name in [
        "x-foo",
        "keep-alive",
        "te",
        "connection",
        "upgrade",
        "proxy-connection",
        "proxy-authorization",
    ] {
        assert_eq!(seen.get(name), None, "{name}");
    }
    assert_eq!(seen["x-bar"], "2");
}

#[test]
fn an_answer_that_ends_by_close_becomes_chunked() {
    let rig = Rig::start();
    let mut client = rig.client();
    let answer = client.get("/closing");
    assert_eq!(answer.body, b"until close");
    assert_eq!(answer.header("transfer-encoding"), Some("chunked"));
    assert_eq!(
        client.get("/").body,
        b"hello",
        "the client's connection is kept"
    );
}

#[test]
fn an_upstream_that_closes_after_its_answer_harms_nobody() {
    let rig = Rig::start();
    assert_eq!(rig.client().get("/thenclose").body, b"ok");
    rig.origin.closed.recv_timeout(PATIENCE).unwrap();
    assert_eq!(rig.client().get("/").status, 200);
}

#[test]
fn an_upstream_that_dies_before_its_answer_is_502() {
    let rig = Rig::start();
    let mut client = rig.client();
    assert_eq!(client.get("/die").status, 502);
    assert_eq!(client.get("/").status, 200);
}

#[test]
fn an_upstream_that_dies_within_its_answer_cuts_the_client() {
    let rig = Rig::start();
    for path in ["/break", "/break-chunked"] {
        let mut client = rig.client();
        client.send(format!("GET {path} HTTP/1.1\r\nHost: t\r\n\r\n"));
        let all = String::from_utf8(client.rest()).unwrap();
        assert!(
            all.contains("half"),
            "the part that came is passed on: {all}"
        );
        assert!(
            !all.ends_with("0\r\n\r\n"),
            "and does not look complete: {all}"
        );
    }
    // To an HTTP/1.0 client only a reset says so.
    let mut client = rig.client();
    client.send("GET /break-chunked HTTP/1.0\r\n\r\n");
    assert_eq!(client.answer("GET"), None);
    rig.cuts("upstream", 3.0);
}

#[test]
fn expect_continue_is_relayed() {
    let rig = Rig::start();
    let mut client = rig.client();
    client.send(
        "POST /echo HTTP/1.1\r\nHost: t\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n",
    );
    assert_eq!(client.answer("POST").unwrap().status, 100);
    let answer = client.send("abc").answer("POST").unwrap();
    assert_eq!((answer.status, &answer.body[..]), (200, &b"abc"[..]));
    assert_eq!(client.get("/").status, 200);
}

#[test]
fn early_hints_are_relayed_before_the_answer() {
    let rig = Rig::start();
    let mut client = rig.client();
    let hints = client.get("/103");
    assert_eq!((hints.status, hints.header("link")), (103, Some("</a>")));
    assert_eq!(client.answer("GET").unwrap().body, b"ok");
    // HTTP/1.0 knows no informational answers.
    let mut client = rig.client();
    client.send("GET /103 HTTP/1.0\r\n\r\n");
    assert_eq!(client.answer("GET").unwrap().status, 200);
}

#[test]
fn an_early_answer_wins_over_the_body() {
    let rig = Rig::start();
    let mut client = rig.client();
    client
        .send("POST /early HTTP/1.1\r\nHost: t\r\nContent-Length: 1000000\r\n\r\n")
        .send([b'x'; 1000]);
    let answer = client.answer("POST").unwrap();
    assert_eq!((answer.status, &answer.body[..]), (413, &b"big"[..]));
    assert_eq!(answer.header("connection"), Some("close"));
    client.stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.rest(), b"");
}

#[test]
fn a_client_that_goes_away_is_seen_by_the_upstream() {
    let rig = Rig::start();
    let mut client = rig.client();
    client.send("GET /hold HTTP/1.1\r\nHost: t\r\n\r\n");
    assert_eq!(rig.origin.arrived.recv_timeout(PATIENCE).unwrap(), "/hold");
    drop(client);
    rig.origin
        .closed
        .recv_timeout(PATIENCE)
        .expect("the upstream connection is closed, not pooled");
    assert_eq!(rig.client().get("/").status, 200);
}

#[test]
fn http_1_0_gets_plain_answers_and_a_close() {
    let rig = Rig::start();
    let mut client = rig.client();
    client.send("GET / HTTP/1.0\r\nHost: t\r\nConnection: keep-alive\r\n\r\n");
    let answer = client.answer("GET").unwrap();
    assert_eq!((answer.status, &answer.body[..]), (200, &b"hello"[..]));
    assert_eq!(client.rest(), b"");
    let mut client = rig.client();
    client.send("POST /echochunk HTTP/1.0\r\nContent-Length: 3\r\n\r\nabc");
    let answer = client.answer("POST").unwrap();
    assert_eq!(
        (
            answer.status,
            answer.header("transfer-encoding"),
            &answer.body[..]
        ),
        (200, None, &b"abc"[..])
    );
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let rig = Rig::start();
    let mut client = rig.client();
    client.send(
        "GET / HTTP/1.1\r\nHost: t\r\n\r\nPOST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 3\r\n\r\nabc\
         POST /echo HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nde\r\n0\r\n\r\n\
         GET /head HTTP/1.1\r\nHost: t\r\n\r\n",
    );
    for body in [&b"hello"[..], b"abc", b"de", &[b'y'; 99]] {
        assert_eq!(client.answer("GET").unwrap().body, body);
    }
    assert_eq!(rig.origin.count(), 4);
}

#[test]
fn trailers_are_relayed_both_ways_and_filtered() {
    let rig = Rig::start();
    let mut client = rig.client();
    let answer = client.get("/trailers");
    assert_eq!(
        (&answer.body[..], &answer.trailers[..]),
        (&b"ok"[..], "x-sum: 7\r\nsum_of.x: 8\r\n")
    );
    let body =
        "1\r\na\r\n0\r\nX-Sum: 9\r\nAuthorization: x\r\nX-Forwarded-For: 1\r\nIf-Match: y\r\n\r\n";
    client.request("POST", "/echo", "Transfer-Encoding: chunked\r\n", body);
    assert_eq!(rig.origin.last().trailers, "x-sum: 9\r\n");
}

#[test]
fn an_upstream_that_answers_while_it_reads_does_not_lock_up() {
    let rig = Rig::start();
    // More than all socket buffers hold: the client does not read before it has sent everything, in one thread;
    // another reads.
    let size = 24 * MEGABYTE;
    let mut client = rig.client();
    client.send(format!(
        "POST /duplex HTTP/1.1\r\nHost: t\r\nContent-Length: {size}\r\n\r\n"
    ));
    let mut writer = client.stream.try_clone().unwrap();
    let writer = std::thread::spawn(move || {
        let piece = noise(MEGABYTE);
        for _ in 0..24 {
            std::io::Write::write_all(&mut writer, &piece).unwrap();
        }
    });
    let answer = client.answer("POST").unwrap();
    writer.join().unwrap();
    assert_eq!(answer.body.len(), size);
    assert!(answer.body.chunks(MEGABYTE).all(|c| c == noise(MEGABYTE)));
}

#[test]
fn the_tap_sees_edits_and_stops() {
    let rig = Rig::start();
    let mut client = rig.client();
    assert_eq!(client.get("/").header("x-tapped"), Some("1"));
    let answer = client.request("POST", "/echo", "Content-Length: 9\r\n", "abort me!");
    assert_eq!(answer.status, 413);
    assert_eq!(client.get("/").status, 200);
}

#[test]
fn a_panic_is_confined_to_its_request() {
    let rig = Rig::start();
    let mut client = rig.client();
    let answer = client.get("/panic");
    assert_eq!(
        (answer.status, &answer.body[..]),
        (500, &br#"{"error":"internal_error"}"#[..])
    );
    assert_eq!(client.rest(), b"");
    assert_eq!(
        rig.client().get("/silent").status,
        500,
        "nor does a forgotten answer hang the client"
    );
    assert_eq!(rig.client().get("/").status, 200);
    let panics = r#"diolkos_panics_total{where="request"}"#;
    rig.metric_becomes(panics, 2.0);
    rig.metric_becomes(r#"diolkos_errors_total{code="internal_error"}"#, 2.0);
}

#[test]
fn answers_that_are_not_http_are_502() {
    let rig = Rig::start();
    for bad in [
        "HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\na",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA b: c\r\n\r\n",
        "HTTP/2 200\r\n\r\n",
        "SSH-2.0-OpenSSH_9.6\r\n",
        "HTTP/1.1 99 Low\r\n\r\n",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\r\n folded\r\n\r\n",
    ] {
        let length = format!("Content-Length: {}\r\n", bad.len());
        let answer = rig.client().request("POST", "/raw", &length, bad);
        assert_eq!(answer.status, 502, "{bad:?}");
    }
}

#[test]
fn surplus_bytes_after_an_answer_are_nobodys_answer() {
    let rig = Rig::start();
    let mut client = rig.client();
    let raw = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
    let length = format!("Content-Length: {}\r\n", raw.len());
    assert_eq!(client.request("POST", "/raw", &length, raw).body, b"ok");
    assert_eq!(client.get("/").body, b"hello");
    assert_eq!(
        rig.origin.connections.load(SeqCst),
        2,
        "the connection is out of step and not used again"
    );
}

#[test]
fn timeouts_name_who_was_late() {
    let mut setup = Setup::default();
    setup.timeouts.first_byte = std::time::Duration::from_millis(50);
    let rig = Rig::with(setup);
    assert_eq!(rig.client().get("/hold").status, 504, "no first byte");

    let mut setup = Setup::default();
    setup.timeouts.stream_idle = std::time::Duration::from_millis(50);
    let rig = Rig::with(setup);
    let mut client = rig.client();
    client.send("POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\n\r\nab");
    let answer = client.answer("POST").unwrap();
    assert_eq!(
        (answer.status, &answer.body[..]),
        (408, &br#"{"error":"request_timeout"}"#[..]),
        "half a body"
    );
    assert_eq!(answer.header("connection"), Some("close"));
    assert_eq!(client.rest(), b"");

    let mut setup = Setup::default();
    setup.timeouts.total = Some(std::time::Duration::from_millis(50));
    let rig = Rig::with(setup);
    assert_eq!(rig.client().get("/hold").status, 504, "total");
}

/// Clients may be this slow: 100,000 bytes a second, after 300 ms.
fn paced() -> Rig {
    let mut setup = Setup::default();
    setup.timeouts.pace = PaceLimits {
        rate: 100_000,
        grace: Duration::from_millis(300),
        credit: Duration::from_millis(600),
    };
    Rig::with(setup)
}

#[test]
fn a_body_that_comes_in_drops_is_given_up() {
    let rig = paced();
    let post = |headers: &str, piece: &[u8], pieces: usize| {
        let mut client = rig.client();
        client.send(format!(
            "POST /echo HTTP/1.1\r\nHost: t\r\n{headers}Content-Length: {}\r\n\r\n",
            piece.len() * pieces
        ));
        let mut sent = 0;
        // It sends on until it is done or sees an answer.
        while sent < pieces && !client.has_input(Duration::from_millis(20)) {
            client.send(piece);
            sent += 1;
        }
        (client.answer("POST").unwrap(), sent)
    };
    let (answer, sent) = post("", b"0123456789", 200);
    assert_eq!(
        (answer.status, &answer.body[..]),
        (408, &br#"{"error":"request_timeout"}"#[..])
    );
    assert!(sent < 200);
    let (answer, _) = post("", &[7; 10_000], 40);
    assert_eq!((answer.status, answer.body.len()), (200, 400_000));
    let grpc = "Content-Type: application/grpc\r\n";
    let (answer, sent) = post(grpc, b"0123456789", 40);
    assert_eq!((answer.status, sent), (200, 40), "a call may take its time");
}

#[test]
fn an_answer_that_is_taken_in_drops_is_cut() {
    const SIZE: usize = 64 << 20;
    let rig = paced();
    let mut client = rig.client();
    client.send(format!("GET /big/{SIZE} HTTP/1.1\r\nHost: t\r\n\r\n"));
    let head = client.head();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    let begun = std::time::Instant::now();
    while begun.elapsed() < Duration::from_secs(2) {
        client.take(100);
        std::thread::sleep(Duration::from_millis(20));
    }
    // What the kernel had taken is still there, and no more.
    let rest = client.rest().len();
    assert!(rest < SIZE / 2, "{rest}");
    rig.cuts("slow_reader", 1.0);
    assert_eq!(rig.client().get("/").status, 200);
}

#[test]
fn an_answer_that_is_taken_slowly_but_steadily_is_not_cut() {
    const SIZE: usize = 16 * MEGABYTE;
    let mut setup = Setup::default();
    setup.timeouts.pace = PaceLimits {
        rate: 100_000,
        grace: Duration::from_secs(1),
        credit: Duration::from_secs(2),
    };
    let rig = Rig::with(setup);
    let mut client = rig.client();
    client.send(format!("GET /big/{SIZE} HTTP/1.1\r\nHost: t\r\n\r\n"));
    let head = client.head();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    // Several times as fast as it must, of which we see nothing as long as the kernel holds megabytes for it.
    let (begun, mut read) = (std::time::Instant::now(), 0);
    while begun.elapsed() < Duration::from_secs(4) {
        read += client.take(5_000).len();
        std::thread::sleep(Duration::from_millis(10));
    }
    client.take(SIZE - read);
    assert_eq!(client.get("/").status, 200);
}

#[test]
fn a_head_that_does_not_come_is_408_and_an_idle_connection_just_closes() {
    let mut setup = Setup::default();
    setup.conn.timeouts.header = std::time::Duration::from_millis(50);
    setup.conn.timeouts.idle = std::time::Duration::from_millis(200);
    let rig = Rig::with(setup);
    let mut client = rig.client();
    client.send("GET / HTTP/1.1\r\nHo");
    assert_eq!(client.answer("GET").unwrap().status, 408);
    assert_eq!(client.rest(), b"");
    let mut client = rig.client();
    assert_eq!(client.rest(), b"");
    let mut client = rig.client();
    assert_eq!(client.get("/").status, 200);
    assert_eq!(client.rest(), b"", "idle after a request");
}

#[test]
fn requests_a_connection_are_bounded() {
    let mut setup = Setup::default();
    setup.conn.requests = 5;
    let rig = Rig::with(setup);
    let mut client = rig.client();
    let answers = (0..5)
        .map(|_| client.get("/"))
        .take_while(|a| a.header("connection").is_none())
        .count();
    assert!(answers <= 4);
    assert_eq!(client.rest(), b"");
}

#[test]
fn connections_are_bounded() {
    let rig = Rig::with(Setup {
        connections: 1,
        ..Setup::default()
    });
    let mut first = rig.client();
    assert_eq!(first.get("/").status, 200);
    let mut second = rig.client();
    let refused = second.answer("GET").unwrap();
    assert_eq!(
        (refused.status, &refused.body[..]),
        (503, &br#"{"error":"overloaded"}"#[..])
    );
    assert_eq!(second.rest(), b"");
    let refused = r#"diolkos_connections_refused_total{reason="global_cap"}"#;
    assert_eq!(rig.metric(refused), 1.0);
    drop((first, second));
    // The place comes back when the first connection has ended.
    while rig.listen.open.load(SeqCst) > 0 {
        std::thread::yield_now();
    }
    assert_eq!(rig.client().get("/").status, 200);
}

#[test]
fn drain_lets_exchanges_finish_and_closes_idle_connections() {
    let rig = Rig::start();
    let mut idle = rig.client();
    assert_eq!(idle.get("/").status, 200);
    let mut busy = rig.client();
    busy.send("GET /gated HTTP/1.1\r\nHost: t\r\n\r\n");
    assert_eq!(rig.origin.arrived.recv_timeout(PATIENCE).unwrap(), "/");
    assert_eq!(rig.origin.arrived.recv_timeout(PATIENCE).unwrap(), "/gated");
    let cut = std::thread::scope(|scope| {
        let drain = scope.spawn(|| {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap()
                .block_on(rig.workers.drain(PATIENCE))
        });
        assert_eq!(idle.rest(), b"", "an idle connection is closed");
        rig.origin.gate.send(()).unwrap();
        let answer = busy.answer("GET").unwrap();
        assert_eq!(
            (&answer.body[..], answer.header("connection")),
            (&b"ok"[..], Some("close"))
        );
        drain.join().unwrap()
    });
    assert_eq!(cut, 0);
    assert!(
        std::net::TcpStream::connect(rig.address).is_err(),
        "the listener is closed"
    );
}

#[test]
fn drain_cuts_what_does_not_finish() {
    let rig = Rig::start();
    let mut client = rig.client();
    client.send("GET /hold HTTP/1.1\r\nHost: t\r\n\r\n");
    assert_eq!(rig.origin.arrived.recv_timeout(PATIENCE).unwrap(), "/hold");
    assert_eq!(
        rig.runtime
            .block_on(rig.workers.drain(std::time::Duration::from_millis(20))),
        1
    );
    assert_eq!(client.rest(), b"");
    rig.origin.closed.recv_timeout(PATIENCE).unwrap();
}

#[test]
fn listeners_come_and_go() {
    let rig = Rig::start();
    let second = rig
        .runtime
        .block_on(
            rig.workers
                .listen(2, "127.0.0.1:0".parse().unwrap(), Default::default()),
        )
        .unwrap();
    assert_eq!(Client::connect(second).get("/").status, 200);
    let taken = rig
        .runtime
        .block_on(rig.workers.listen(3, second, Default::default()))
        .unwrap_err();
    assert_eq!(taken.kind(), std::io::ErrorKind::AddrInUse);
    let mut kept = Client::connect(second);
    assert_eq!(kept.get("/").status, 200);
    rig.runtime.block_on(rig.workers.close(2));
    assert_eq!(kept.rest(), b"", "its idle connections close");
    assert!(std::net::TcpStream::connect(second).is_err());
    assert_eq!(
        rig.client().get("/").status,
        200,
        "the other listener serves on"
    );
}
