//! Tunnels in a whole data plane: plugins, changes of the configuration, metrics, and every way in which they end.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use model::*;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::Duration;
use support::config::*;
use support::gateway::*;
use support::plane::Plane;
use support::{Client, noise};

const ASK: &str =
    "GET /chat HTTP/1.1\r\nHost: t\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
const SWITCH: &str =
    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

struct Stage {
    gateway: Gateway,
    upstream: TcpListener,
}

impl Stage {
    fn new(rule: Rule) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let gateway = Gateway::start(|model, _| {
            model.upstreams.insert("up".into(), upstream(&[address]));
            routes(model, vec![rule]);
        });
        Self {
            gateway,
            upstream: listener,
        }
    }

    fn tunnel(&self) -> (Client, Client) {
        let mut client = self.gateway.client();
        client.send(ASK);
        let mut upstream = Client::on(self.upstream.accept().unwrap().0);
        upstream.head();
        upstream.send(SWITCH);
        let answer = client.answer("GET").unwrap();
        assert_eq!(
            (answer.status, answer.header("upgrade")),
            (101, Some("websocket"))
        );
        (client, upstream)
    }

    fn cut(&self, reason: &str, count: f64) {
        let line = format!("diolkos_streams_cut_total{{reason=\"{reason}\"}}");
        self.gateway.metric_becomes(&line, count);
    }
}

fn reset(stream: Client) {
    let socket = socket2::SockRef::from(&stream.stream);
    socket.set_linger(Some(Duration::ZERO)).unwrap();
}

fn close(client: Client, mut upstream: Client) {
    client.stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(upstream.rest(), b"");
    drop(upstream);
    let mut client = client;
    assert_eq!(client.rest(), b"");
}

#[test]
fn a_tunnel_outlives_its_route_its_upstream_and_its_listener() {
    let mut stage = Stage::new(forward());
    let (mut client, mut upstream) = stage.tunnel();
    let line = r#"diolkos_requests_in_flight{kind="websocket"}"#;
    stage.gateway.metric_becomes(line, 1.0);
    let mut talk = |what: &str| {
        client.send(what);
        assert_eq!(upstream.take(what.len()), what.as_bytes());
        upstream.send(what);
        assert_eq!(client.take(what.len()), what.as_bytes());
    };
    talk("with everything");
    stage.gateway.put(|model, _| routes(model, vec![forward()]));
    talk("with another upstream of the same name");
    stage.gateway.put(|_, _| {});
    assert_eq!(stage.gateway.get("/chat").status, 404);
    talk("without a Route");
    stage.gateway.put(|model, _| model.listeners.clear());
    talk("without a listener");
    assert_eq!(stage.gateway.metric(line), 1.0);
    close(client, upstream);
    stage.gateway.metric_becomes(line, 0.0);
}

#[test]
fn a_tunnel_is_counted_when_it_ends() {
    let stage = Stage::new(forward());
    let (mut client, mut upstream) = stage.tunnel();
    client.send("12345");
    upstream.take(5);
    upstream.send("1234567");
    client.take(7);
    close(client, upstream);
    let gateway = &stage.gateway;
    gateway.metric_becomes(
        r#"diolkos_request_duration_seconds_count{kind="websocket"}"#,
        1.0,
    );
    let counted = |line: &str| gateway.metric(line);
    assert_eq!(
        counted(r#"diolkos_requests_total{code_class="1xx",listener="d/gw/http"}"#),
        1.0
    );
    assert_eq!(
        counted(r#"diolkos_upstream_attempts_total{outcome="ok"}"#),
        1.0
    );
    assert_eq!(counted("diolkos_request_bytes_total"), 5.0);
    assert_eq!(counted("diolkos_response_bytes_total"), 7.0);
    for reason in ["client", "upstream", "idle", "drain"] {
        let line = format!("diolkos_streams_cut_total{{reason=\"{reason}\"}}");
        assert_eq!(counted(&line), 0.0, "{reason}");
    }
}

#[test]
fn whoever_cuts_a_tunnel_is_counted() {
    let mut rule = forward();
    rule.timeouts.stream_idle_ms = 300;
    let stage = Stage::new(rule);
    let (client, mut upstream) = stage.tunnel();
    reset(client);
    assert_eq!(upstream.rest(), b"");
    stage.cut("client", 1.0);
    let (mut client, upstream) = stage.tunnel();
    reset(upstream);
    assert_eq!(client.rest(), b"");
    stage.cut("upstream", 1.0);
    let (mut client, mut upstream) = stage.tunnel();
    assert_eq!(client.rest(), b"");
    assert_eq!(upstream.rest(), b"");
    stage.cut("idle", 1.0);
    let line = r#"diolkos_upstream_attempts_total{outcome="ok"}"#;
    assert_eq!(stage.gateway.metric(line), 3.0, "each attempt was good");
}

#[test]
fn a_drain_waits_for_tunnels_until_its_deadline() {
    let stage = Stage::new(forward());
    let (mut kept, mut upstream) = stage.tunnel();
    let (client, upstream_of_other) = stage.tunnel();
    let Plane {
        data,
        runtime,
        address,
        ..
    } = &stage.gateway.plane;
    std::thread::scope(|scope| {
        let limit = Duration::from_secs(1);
        let stop = scope.spawn(move || {
            let stop = data.stop(Duration::ZERO, Some(limit));
            runtime.block_on(stop);
        });
        // While it drains both go on.
        while TcpStream::connect(*address).is_ok() {
            std::thread::yield_now();
        }
        kept.send("still");
        assert_eq!(upstream.take(5), b"still");
        close(client, upstream_of_other);
        assert_eq!(kept.rest(), b"");
        assert_eq!(upstream.rest(), b"");
        stop.join().unwrap();
    });
    stage.cut("drain", 1.0);
    let line = r#"diolkos_request_duration_seconds_count{kind="websocket"}"#;
    assert_eq!(
        stage.gateway.metric(line),
        2.0,
        "also what was cut is accounted for"
    );
    assert_eq!(
        stage
            .gateway
            .metric(r#"diolkos_requests_in_flight{kind="websocket"}"#),
        0.0
    );
}

#[test]
fn plugins_see_the_request_and_never_the_tunnel() {
    let whole = inline(
        "ContentValidation",
        r#"{"on":"Both","maxSize":"64","deny":[{"pattern":"secret","message":"no"}]}"#,
    );
    let mut rule = with(forward(), &[whole]);
    rule.max_request_body = 100;
    rule.response_headers.set.push(("x-out".into(), "1".into()));
    let stage = Stage::new(rule);
    let (mut client, mut upstream) = stage.tunnel();
    // Beyond the caps of bodies, and nothing waits for an end.
    let much = [&b"secret"[..], &noise(200_000)].concat();
    client.send(&much);
    assert!(upstream.take(much.len()) == much);
    upstream.send(&much);
    assert!(client.take(much.len()) == much);
    close(client, upstream);
    // Before it they do their work.
    let guarded = with(
        forward(),
        &[inline(
            "RequestValidation",
            r#"{"requiredHeaders":["X-Token"]}"#,
        )],
    );
    let gateway = gateway(vec![guarded]);
    let mut client = gateway.client();
    client.send(ASK);
    assert_eq!(client.answer("GET").unwrap().status, 400);
    assert_eq!(client.get("/healthz").status, 200, "the connection goes on");
}

#[test]
fn an_answer_to_a_refused_upgrade_is_judged_like_any_other() {
    let strict = inline(
        "ContentValidation",
        r#"{"on":"Response","maxSize":"64","deny":[{"pattern":"secret","message":"no"}]}"#,
    );
    let stage = Stage::new(with(forward(), &[strict]));
    let mut client = stage.gateway.client();
    client.send(ASK);
    let mut upstream = Client::on(stage.upstream.accept().unwrap().0);
    upstream.head();
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret");
    assert_eq!(client.answer("GET").unwrap().status, 403);
}
