//! What is logged is changed at the admin port. In a process of its own: the log is the process's.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use diolkos_dataplane::telemetry::logs::{LogFormat, init};
use serde_json::Value;
use support::Client;
use support::config::base;
use support::plane::Plane;

#[test]
fn the_filter_of_the_log_is_changed_at_run_time() {
    let plane = Plane::start(&base(&[]));
    init(LogFormat::Text);
    let local = "127.0.0.1:0".parse().unwrap();
    let address = plane.runtime.block_on(plane.data.admin(local, None));
    let address = address.unwrap();
    let ask = |method: &str, body: &str| -> (u16, Value) {
        let length = format!("Content-Length: {}\r\n", body.len());
        let answer = Client::connect(address).request(method, "/api/v1/log", &length, body);
        (answer.status, serde_json::from_slice(&answer.body).unwrap())
    };
    let (status, log) = ask("PUT", "warn,diolkos_dataplane=debug\n");
    assert_eq!(status, 200, "{log}");
    let filter = log["filter"].as_str().unwrap();
    assert!(filter.contains("diolkos_dataplane=debug"), "{filter}");
    assert_eq!(ask("GET", "").1, log);
    let (status, refused) = ask("PUT", "a=b=c");
    assert_eq!(
        (status, &refused["error"]),
        (400, &"invalid_request".into())
    );
    assert_eq!(ask("GET", "").1, log);
}
