//! The level of the log at run time. In a process of its own: the log is the process's.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use diolkos_dataplane::admin::Admin;
use diolkos_dataplane::sync::Current;
use diolkos_dataplane::table::Compiler;
use diolkos_dataplane::telemetry::{Metrics, logs};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

/// Status and body of an answer.
fn ask(admin: SocketAddr, method: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(admin).unwrap();
    let length = body.len();
    let request = format!(
        "{method} /api/v1/log HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    (status, body.to_owned())
}

#[test]
fn the_filter_of_the_log_is_shown_and_replaced() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let admin = Admin {
        current: Arc::new(Current::default()),
        metrics: Arc::new(Metrics::new()),
        registry: Compiler::new().registry(),
        statuses: None,
    };
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0"));
    let listener = listener.unwrap();
    let address = listener.local_addr().unwrap();
    runtime.spawn(admin.serve(listener));

    logs::init(logs::LogFormat::Text);
    let (status, shown) = ask(address, "PUT", "warn,diolkos_dataplane=debug\n");
    assert_eq!(status, 200, "{shown}");
    assert!(shown.contains("diolkos_dataplane=debug"), "{shown}");
    assert_eq!(ask(address, "GET", "").1, shown);
    let (status, refused) = ask(address, "PUT", "a=b=c");
    assert_eq!(status, 400);
    assert!(
        refused.contains(r#""error":"invalid_request""#),
        "{refused}"
    );
    assert_eq!(ask(address, "GET", "").1, shown);
}
