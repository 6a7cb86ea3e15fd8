//! What a data plane does when there is more than it may or can do: requests of a gateway at once, memory, descriptors.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use model::Concurrency;
use support::PATIENCE;
use support::config::{forward, routes};
use support::gateway::{Gateway, error};

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
