//! The official interoperability cases of gRPC, by its Go implementation on both sides: client -> HTTP/2 in clear ->
//! gateway -> HTTP/2 in clear or over TLS -> server. Needs Go; without it nothing is tested, which REQUIRE_RIG=1 forbids.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use model::{Upstream, UpstreamProtocol, UpstreamTls};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use support::config::{through, upstream};
use support::pki::Ca;
use support::plane::Plane;

const CASES: &[&str] = &[
    "empty_unary",
    "large_unary",
    "client_streaming",
    "server_streaming",
    "ping_pong",
    "empty_stream",
    "timeout_on_sleeping_server",
    "cancel_after_begin",
    "cancel_after_first_response",
    "custom_metadata",
    "status_code_and_message",
    "special_status_message",
    "unimplemented_service",
    "unimplemented_method",
];

/// The Go program, built into the test's directory.
fn program(into: &Path) -> Option<PathBuf> {
    if let Err(why) = Command::new("go").arg("version").output() {
        let required = std::env::var("REQUIRE_RIG").is_ok_and(|v| v == "1");
        assert!(!required, "REQUIRE_RIG=1, but there is no Go: {why}");
        println!("SKIPPED: no Go to build the gRPC peers with: {why}");
        return None;
    }
    let program = into.join("peer");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/../e2e/peers/grpc");
    let built = Command::new("go")
        .args(["build", "-o"])
        .arg(&program)
        .arg(".")
        .current_dir(source)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&built.stderr);
    assert!(built.status.success(), "{said}");
    Some(program)
}

struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    fn start(program: &Path, args: &[&Path]) -> Self {
        let mut child = Command::new(program)
            .arg("server")
            .args(args)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let out = child.stdout.take().unwrap();
        BufReader::new(out).read_line(&mut line).unwrap();
        Self {
            child,
            address: line.trim().parse().unwrap(),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn run_cases(program: &Path, plane: &Plane) {
    for case in CASES {
        let ran = Command::new(program)
            .args(["client", &plane.address.to_string(), case])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&ran.stderr);
        assert!(ran.status.success(), "{case}: {said}");
    }
}

#[test]
fn the_cases_pass_through_in_clear() {
    let dir = tempfile::tempdir().unwrap();
    let Some(program) = program(dir.path()) else {
        return;
    };
    let server = Server::start(&program, &[]);
    let plane = Plane::start(&through(&Upstream {
        protocol: UpstreamProtocol::H2C,
        ..upstream(&[server.address])
    }));
    run_cases(&program, &plane);
}

#[test]
fn the_cases_pass_through_over_tls() {
    let dir = tempfile::tempdir().unwrap();
    let Some(program) = program(dir.path()) else {
        return;
    };
    let ca = Ca::new("ca");
    let leaf = ca.issue(&["grpc.example"]);
    let (chain, key) = (dir.path().join("chain.pem"), dir.path().join("key.pem"));
    std::fs::write(&chain, leaf.chain).unwrap();
    std::fs::write(&key, leaf.key).unwrap();
    let server = Server::start(&program, &[&chain, &key]);
    // ALPN decides: the server offers nothing but h2.
    let plane = Plane::start(&through(&Upstream {
        tls: Some(UpstreamTls {
            sni: Some("grpc.example".into()),
            authorities: Some(ca.pem()),
            ..UpstreamTls::default()
        }),
        ..upstream(&[server.address])
    }));
    run_cases(&program, &plane);
}

#[test]
fn failures_of_ours_are_statuses_to_the_client() {
    let dir = tempfile::tempdir().unwrap();
    let Some(program) = program(dir.path()) else {
        return;
    };
    // Nobody listens there.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = nobody.local_addr().unwrap();
    drop(nobody);
    let plane = Plane::start(&through(&Upstream {
        protocol: UpstreamProtocol::H2C,
        ..upstream(&[address])
    }));
    let ran = Command::new(&program)
        .args(["status", &plane.address.to_string()])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stdout).into_owned();
    assert_eq!(said, "14 upstream_connect_error\n");
}
