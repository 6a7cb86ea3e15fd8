//! What a data plane does when there is more than it may or can do: requests of a gateway at once, memory, descriptors.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use diolkos_dataplane::pressure::Use;
use model::Concurrency;
use std::time::Duration;
use support::config::{forward, routes};
use support::gateway::{Gateway, error};
use support::{PATIENCE, logs};

const FULL: (u16, &str) = (503, r#"{"error":"downstream_concurrency_exceeded"}"#);
const USED: &str = r#"diolkos_concurrency_permits{scope="gateway",state="used"}"#;

/// A gateway that has so many requests at once, and one under way that waits for the origin's gate.
fn busy(bounds: Concurrency) -> (Gateway, support::Client) {
    let gateway = Gateway::start(|model, _| {
        let listener = model.listeners.get_mut("d/gw/http").unwrap();
        listener.concurrency = Some(bounds);
        routes(model, vec![forward()]);
    });
    let mut first = gateway.client();
    first.send("GET /gated HTTP/1.1\r\nHost: t\r\n\r\n");
    gateway.origin.arrived.recv_timeout(PATIENCE).unwrap();
    (gateway, first)
}

fn one(queue_depth: u32) -> Concurrency {
    Concurrency {
        max: 1,
        queue_depth,
        queue_timeout_ms: 60_000,
    }
}

#[test]
fn a_gateway_has_so_many_requests_at_once() {
    let (gateway, mut first) = busy(one(0));
    assert_eq!(gateway.metric(USED), 1.0);
    let limit = r#"diolkos_concurrency_permits{scope="gateway",state="limit"}"#;
    assert_eq!(gateway.metric(limit), 1.0);
    let refused = gateway.get("/");
    assert_eq!(error(&refused), FULL);
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(gateway.get("/healthz").status, 200, "is no request of it");
    gateway.metric_becomes(
        r#"diolkos_errors_total{code="downstream_concurrency_exceeded"}"#,
        1.0,
    );
    gateway.origin.gate.send(()).unwrap();
    assert_eq!(first.answer("GET").unwrap().body, b"ok");
    gateway.metric_becomes(USED, 0.0);
    assert_eq!(gateway.get("/").status, 200);
}

#[test]
fn a_client_that_leaves_gives_its_permit_back() {
    let (gateway, first) = busy(one(0));
    drop(first);
    gateway.metric_becomes(USED, 0.0);
    assert_eq!(gateway.get("/").status, 200);
}

#[test]
fn a_request_waits_for_its_turn_at_the_gateway() {
    let (gateway, mut first) = busy(one(1));
    let mut second = gateway.client();
    second.send("GET / HTTP/1.1\r\nHost: t\r\n\r\n");
    gateway.metric_becomes(r#"diolkos_queue_depth{band="standard"}"#, 1.0);
    assert_eq!(error(&gateway.get("/")), (429, r#"{"error":"queue_full"}"#));
    gateway.origin.gate.send(()).unwrap();
    assert_eq!(first.answer("GET").unwrap().status, 200);
    assert_eq!(second.answer("GET").unwrap().status, 200);
    gateway.metric_becomes(USED, 0.0);
}

const OVERLOADED: (u16, &str) = (503, r#"{"error":"overloaded"}"#);
const STATE: &str = "diolkos_memory_state";

/// A gateway whose use of memory the test says, in hundredths of what there is.
struct Short(Gateway);

impl Short {
    fn start() -> Self {
        Self(Gateway::start(|model, _| routes(model, vec![forward()])))
    }

    fn uses(&self, used: u64) {
        self.0.data.pressure.note(Use { used, limit: 100 });
    }

    /// Whether its answer leaves the connection open, where there is an answer of the origin's.
    fn keeps(&self, client: &mut support::Client) -> bool {
        let answer = client.get("/");
        assert_eq!((answer.status, &answer.body[..]), (200, &b"hello"[..]));
        answer.header("connection") != Some("close")
    }
}

#[test]
fn connections_are_not_kept_when_memory_is_short() {
    logs::listen();
    let gateway = Short::start();
    let mut client = gateway.0.client();
    assert!(gateway.keeps(&mut client));
    gateway.uses(80);
    assert!(gateway.keeps(&mut client), "it is only said");
    assert_eq!(gateway.0.metric(STATE), 1.0);
    gateway.uses(88);
    let mut client = gateway.0.client();
    assert!(!gateway.keeps(&mut client));
    assert!(client.answer("GET").is_none(), "it is closed");
    assert_eq!(gateway.0.metric(STATE), 2.0);
    gateway.uses(84);
    assert!(gateway.keeps(&mut gateway.0.client()));
    logs::come("memory", &["memory is short", r#""used":80"#]);
    logs::come("memory", &["memory is short", r#""used":88"#]);
    logs::come("memory", &["memory is freed", r#""used":84"#]);
}

#[test]
fn idle_connections_are_closed_when_memory_is_short() {
    let gateway = Short::start();
    let (mut idle, mut busy, mut new) =
        (gateway.0.client(), gateway.0.client(), gateway.0.client());
    assert!(gateway.keeps(&mut idle));
    busy.send("GET /gated HTTP/1.1\r\nHost: t\r\n\r\n");
    gateway.0.origin.arrived.recv_timeout(PATIENCE).unwrap();
    gateway.uses(80);
    // More than what is left to a request that is on its way.
    let long = Duration::from_millis(1500);
    assert!(!idle.has_input(long), "it is only said");
    gateway.uses(88);
    assert_eq!(
        idle.rest(),
        b"",
        "closed, although it has asked for nothing"
    );
    assert_eq!(gateway.0.metric(STATE), 2.0);
    assert_eq!(new.rest(), b"");
    gateway.0.origin.gate.send(()).unwrap();
    assert_eq!(busy.answer("GET").unwrap().body, b"ok");
    // It holds for as long as memory is short.
    let mut late = gateway.0.client();
    assert_eq!(late.rest(), b"");
    gateway.uses(84);
    let mut kept = gateway.0.client();
    assert!(gateway.keeps(&mut kept));
    assert!(!kept.has_input(long));
    assert!(gateway.keeps(&mut kept));
}

#[test]
fn idle_connections_over_http2_are_told_to_end_when_memory_is_short() {
    let gateway = Short::start();
    let mut client = gateway.0.client();
    client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    client.send([0, 0, 0, 4, 0, 0, 0, 0, 0]);
    gateway.uses(88);
    assert_eq!(gateway.0.metric(STATE), 2.0);
    loop {
        let head = client.take(9);
        client.take(usize::from(head[1]) << 8 | usize::from(head[2]));
        if head[3] == 7 {
            return;
        }
    }
}

/// The head of `GET /` to host `t`, over HTTP/2.
const REQUEST: &[u8] = &[0x82, 0x86, 0x84, 0x41, 1, b't'];

#[test]
fn over_http2_the_connection_is_told_to_end() {
    let gateway = Short::start();
    gateway.uses(90);
    assert_eq!(gateway.0.metric(STATE), 2.0);
    let mut client = gateway.0.client();
    client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    client.send([0, 0, 0, 4, 0, 0, 0, 0, 0]);
    client.send([0, 0, REQUEST.len() as u8, 1, 5, 0, 0, 0, 1]);
    client.send(REQUEST);
    let (mut is_answered, mut goes_away) = (false, false);
    while !(is_answered && goes_away) {
        let head = client.take(9);
        client.take(usize::from(head[1]) << 8 | usize::from(head[2]));
        // HEADERS of its stream, GOAWAY.
        is_answered |= head[3] == 1 && head[8] == 1;
        goes_away |= head[3] == 7;
    }
}

#[test]
fn requests_are_refused_when_memory_is_shorter() {
    let gateway = Short::start();
    let mut waiting = gateway.0.client();
    waiting.send("GET /gated HTTP/1.1\r\nHost: t\r\n\r\n");
    gateway.0.origin.arrived.recv_timeout(PATIENCE).unwrap();
    gateway.uses(92);
    assert_eq!(gateway.0.metric(STATE), 3.0);
    let refused = gateway.0.get("/");
    assert_eq!(error(&refused), OVERLOADED);
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(refused.header("connection"), Some("close"));
    assert_eq!(gateway.0.get("/healthz").status, 200);
    gateway
        .0
        .metric_becomes(r#"diolkos_errors_total{code="overloaded"}"#, 1.0);
    gateway.0.origin.gate.send(()).unwrap();
    let begun = waiting.answer("GET").unwrap();
    assert_eq!(begun.status, 200, "what had begun is not refused");
    gateway.uses(89);
    assert_eq!(error(&gateway.0.get("/")), OVERLOADED, "not yet");
    gateway.uses(88);
    assert!(!gateway.keeps(&mut gateway.0.client()));
}

#[test]
fn connections_are_refused_when_memory_is_shortest() {
    let gateway = Short::start();
    let mut before = gateway.0.client();
    assert!(gateway.keeps(&mut before));
    // Of which something has come is not idle.
    before.send("GET / HTTP/1.1\r\n");
    gateway.uses(95);
    let mut refused = gateway.0.client();
    // Before it has sent anything.
    assert_eq!(error(&refused.answer("GET").unwrap()), OVERLOADED);
    let reason = r#"diolkos_connections_refused_total{reason="memory"}"#;
    assert_eq!(gateway.0.metric(reason), 1.0);
    assert_eq!(gateway.0.metric(STATE), 4.0);
    let answer = before.send("Host: t\r\n\r\n").answer("GET").unwrap();
    assert_eq!(error(&answer), OVERLOADED);
    gateway.uses(10);
    assert!(gateway.keeps(&mut gateway.0.client()));
    assert_eq!(gateway.0.metric(STATE), 0.0);
    assert_eq!(gateway.0.metric(reason), 1.0);
}
