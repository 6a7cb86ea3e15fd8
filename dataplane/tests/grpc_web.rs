//! gRPC and gRPC-Web through a whole data plane: how failures of ours are told and counted, and what becomes of bodies.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use model::Rule;
use std::net::{SocketAddr, TcpListener};
use support::config::*;
use support::gateway::*;
use support::{Answer, chunked};

fn translating() -> Rule {
    let mut rule = forward();
    rule.grpc_web = true;
    rule
}

/// A port where nobody listens.
fn nobody() -> SocketAddr {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    socket.local_addr().unwrap()
}

#[test]
fn failures_that_grpc_is_told_are_counted_as_what_they_are() {
    let gateway = Gateway::start(|model, _| {
        model.upstreams.insert("up".into(), upstream(&[nobody()]));
        routes(model, vec![translating()]);
    });
    let mut client = gateway.client();
    for (kind, expected) in [
        ("application/grpc", "application/grpc"),
        (
            "application/grpc-web-text+proto",
            "application/grpc-web-text",
        ),
    ] {
        let fields = format!("Content-Type: {kind}\r\nContent-Length: 0\r\n");
        let answer = client.request("POST", "/s/m", &fields, "");
        assert_eq!((answer.status, &answer.body[..]), (200, &b""[..]));
        assert_eq!(answer.header("content-type"), Some(expected));
        assert_eq!(answer.header("grpc-status"), Some("14"));
        assert_eq!(
            answer.header("grpc-message"),
            Some("upstream_connect_error")
        );
    }
    let line = r#"diolkos_request_duration_seconds_count{kind="grpc"}"#;
    gateway.metric_becomes(line, 2.0);
    for (line, value) in [
        (
            r#"diolkos_requests_total{code_class="5xx",listener="d/gw/http"}"#,
            2.0,
        ),
        (
            r#"diolkos_requests_total{code_class="2xx",listener="d/gw/http"}"#,
            0.0,
        ),
        (
            r#"diolkos_route_requests_total{code_class="5xx",route="d/r"}"#,
            2.0,
        ),
        (
            r#"diolkos_errors_total{code="upstream_connect_error"}"#,
            2.0,
        ),
    ] {
        assert_eq!(gateway.metric(line), value, "{line}");
    }
    gateway.metric_becomes(r#"diolkos_requests_in_flight{kind="grpc"}"#, 0.0);
}

/// What the origin sends back byte for byte; and to it this is the body of a request.
/// `/raw` ends its connection: unsaid, the gateway could send the next request into one that is just being closed.
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: application/grpc+proto\r\n\
                        Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n\
                        5\r\nhello\r\n0\r\ngrpc-status: 5\r\ngrpc-message: no\r\n\r\n";
const LAST_FRAME: &[u8] = b"\x80\0\0\0\x22grpc-status: 5\r\ngrpc-message: no\r\n";

/// The answer to a body that is sent in chunks of `size` bytes.
fn ask(gateway: &Gateway, fields: &str, body: &[u8], size: usize) -> Answer {
    let mut client = gateway.client();
    client.send(format!(
        "POST /raw HTTP/1.1\r\nHost: t\r\n{fields}Transfer-Encoding: chunked\r\n\r\n"
    ));
    client.send(chunked(body, size));
    client.answer("POST").unwrap()
}

#[test]
fn grpc_web_becomes_grpc_and_back() {
    let gateway = gateway(vec![translating()]);
    let check = |answer: &Answer, kind: &str| {
        let seen = gateway.origin.last();
        assert_eq!(seen.body, ANSWER, "the body is decoded");
        assert_eq!(seen.headers["content-type"], "application/grpc+proto");
        for gone in ["x-grpc-web", "accept", "content-length"] {
            assert!(!seen.headers.contains_key(gone), "{gone}");
        }
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("content-type"), Some(kind));
        assert_eq!(answer.header("grpc-status"), None);
    };
    let binary = "application/grpc-web+proto";
    let fields = format!("Content-Type: {binary}\r\nX-Grpc-Web: 1\r\n");
    let answer = ask(&gateway, &fields, ANSWER, 100);
    check(&answer, binary);
    assert_eq!(answer.body, [b"hello", LAST_FRAME].concat());

    // Each message is encoded by itself and ends with its padding, which chunks do not respect.
    let (start, end) = ANSWER.split_at(40);
    let text = [start, end]
        .map(|part| BASE64_STANDARD.encode(part))
        .concat();
    let inside = text.trim_end_matches('=');
    assert!(inside.contains("=="), "padding is inside");
    let kind = "application/grpc-web-text+proto";
    for size in [1, 2, 3, 5, 7, 1000] {
        let fields = format!("Content-Type: {kind}\r\nAccept: {kind}\r\nX-Grpc-Web: 1\r\n");
        let answer = ask(&gateway, &fields, text.as_bytes(), size);
        check(&answer, kind);
        let parts = [b"hello", LAST_FRAME].map(|part| BASE64_STANDARD.encode(part));
        assert_eq!(answer.body, parts.concat().as_bytes());
    }

    // The form of the answer is what the client accepts.
    let fields = format!("Content-Type: {kind}\r\nAccept: {binary}\r\n");
    let answer = ask(&gateway, &fields, text.as_bytes(), 50);
    assert_eq!(answer.header("content-type"), Some(binary));
    assert_eq!(answer.body, [b"hello", LAST_FRAME].concat());
}

#[test]
fn text_that_is_no_base64_is_refused_in_the_form_of_grpc_web() {
    let gateway = gateway(vec![translating()]);
    for body in [&b"AAA!AAAA"[..], b"AAAAA"] {
        let kind = "application/grpc-web-text";
        let answer = ask(&gateway, &format!("Content-Type: {kind}\r\n"), body, 3);
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("content-type"), Some(kind));
        assert_eq!(answer.header("grpc-status"), Some("13"));
    }
}

#[test]
fn other_content_passes_untouched() {
    let on = gateway(vec![translating()]);
    let json = "Content-Type: application/json\r\n";
    let off = gateway(vec![forward()]);
    let web = "Content-Type: application/grpc-web-text\r\n";
    for (gateway, fields) in [(&on, json), (&off, web)] {
        let answer = ask(gateway, fields, ANSWER, 100);
        assert_eq!(gateway.origin.last().body, ANSWER);
        assert_eq!(
            answer.header("content-type"),
            Some("application/grpc+proto")
        );
        assert_eq!(answer.body, b"hello");
    }
}
