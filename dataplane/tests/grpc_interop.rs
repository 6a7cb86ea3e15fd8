//! Real peers of gRPC: the official interoperability cases by the Go implementation on both sides, and grpcurl before a
//! server with reflection. Client -> HTTP/2 in clear or over TLS -> gateway -> HTTP/2 in clear or over TLS -> server.
//! Needs Go; without it nothing is tested, which REQUIRE_RIG=1 forbids.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use model::{
    Certificate, Listener, ListenerProtocol, ListenerTls, ObjectRef, Secret, Upstream,
    UpstreamProtocol, UpstreamTls,
};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use support::config::{listener, through, upstream};
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

/// The Go program of `e2e/peers/grpc`, built into the test's directory.
fn program(into: &Path) -> Option<PathBuf> {
    build(into, ".", "peer")
}

/// grpcurl, of the version that stands in `go.mod` there.
fn grpcurl(into: &Path) -> Option<PathBuf> {
    build(
        into,
        "github.com/fullstorydev/grpcurl/cmd/grpcurl",
        "grpcurl",
    )
}

fn build(into: &Path, package: &str, name: &str) -> Option<PathBuf> {
    if let Err(why) = Command::new("go").arg("version").output() {
        let required = std::env::var("REQUIRE_RIG").is_ok_and(|v| v == "1");
        assert!(!required, "REQUIRE_RIG=1, but there is no Go: {why}");
        println!("SKIPPED: no Go to build the gRPC peers with: {why}");
        return None;
    }
    let program = into.join(name);
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/../e2e/peers/grpc");
    let built = Command::new("go")
        .args(["build", "-o"])
        .arg(&program)
        .arg(package)
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

impl Server {
    /// With a certificate for `grpc.example`.
    fn secure(program: &Path, ca: &Ca, dir: &Path) -> Self {
        let leaf = ca.issue(&["grpc.example"]);
        let (chain, key) = (dir.join("chain.pem"), dir.join("key.pem"));
        std::fs::write(&chain, leaf.chain).unwrap();
        std::fs::write(&key, leaf.key).unwrap();
        Self::start(program, &[&chain, &key])
    }
}

fn over_tls(server: &Server, ca: &Ca) -> Upstream {
    Upstream {
        tls: Some(UpstreamTls {
            sni: Some("grpc.example".into()),
            authorities: Some(ca.pem()),
            ..UpstreamTls::default()
        }),
        ..upstream(&[server.address])
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
    let server = Server::secure(&program, &ca, dir.path());
    // ALPN decides: the server offers nothing but h2.
    let plane = Plane::start(&through(&over_tls(&server, &ca)));
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

/// grpcurl in front of a gateway.
struct Curl {
    program: PathBuf,
    /// How it reaches the gateway.
    way: Vec<String>,
}

impl Curl {
    /// Its exit status and what it said on both outputs.
    fn run(&self, options: &[&str], what: &[&str]) -> (i32, String) {
        let ran = Command::new(&self.program)
            .args(options)
            .args(&self.way)
            .args(what)
            .output()
            .unwrap();
        let said = [&ran.stdout[..], &ran.stderr[..]].concat();
        (ran.status.code().unwrap(), String::from_utf8(said).unwrap())
    }

    /// What a call says that succeeds, without white space.
    fn call(&self, data: &str, method: &str) -> String {
        let method = format!("grpc.testing.TestService/{method}");
        let (code, said) = self.run(&["-d", data], &[&method]);
        assert_eq!(code, 0, "{method}: {said}");
        said.split_whitespace().collect()
    }

    fn check(&self) {
        let (code, said) = self.run(&[], &["list"]);
        assert_eq!(code, 0, "{said}");
        assert!(said.contains("grpc.testing.TestService\n"), "{said}");
        let (code, said) = self.run(&[], &["describe", "grpc.testing.TestService"]);
        assert_eq!(code, 0, "{said}");
        let streams = "rpc FullDuplexCall ( stream .grpc.testing.StreamingOutputCallRequest ) \
                       returns ( stream .grpc.testing.StreamingOutputCallResponse );";
        assert!(said.contains(streams), "{said}");

        let answer = self.call(r#"{"response_size": 3}"#, "UnaryCall");
        assert_eq!(answer, r#"{"payload":{"body":"AAAA"}}"#);
        let sizes = r#"{"response_parameters": [{"size": 3}, {"size": 1}]}"#;
        let answer = self.call(sizes, "StreamingOutputCall");
        assert_eq!(
            answer,
            r#"{"payload":{"body":"AAAA"}}{"payload":{"body":"AA=="}}"#
        );
        let pieces = r#"{"payload": {"body": "AAAA"}} {"payload": {"body": "AAAAAAAA"}}"#;
        let answer = self.call(pieces, "StreamingInputCall");
        assert_eq!(answer, r#"{"aggregatedPayloadSize":9}"#);
        let both = r#"{"response_parameters": {"size": 6}} {"response_parameters": {"size": 3}}"#;
        let answer = self.call(both, "FullDuplexCall");
        assert_eq!(
            answer,
            r#"{"payload":{"body":"AAAAAAAA"}}{"payload":{"body":"AAAA"}}"#
        );

        // Its exit status is 64 and the status of the call.
        let method = "grpc.testing.TestService/UnaryCall";
        let data = r#"{"response_status": {"code": 5, "message": "not h\u00e9re"}}"#;
        let (code, said) = self.run(&["-d", data], &[method]);
        assert_eq!(code, 64 + 5, "{said}");
        assert!(
            said.contains("Code: NotFound") && said.contains("Message: not hére"),
            "{said}"
        );
        let (code, said) = self.run(&["-H", "x-details: look here"], &[method]);
        assert_eq!(code, 64 + 9, "{said}");
        let squeezed: String = said.split_whitespace().collect();
        let details = r#""@type":"type.googleapis.com/grpc.testing.EchoStatus","code":7,"message":"lookhere""#;
        assert!(squeezed.contains(details), "{said}");

        let slow =
            r#"{"response_parameters": [{"size": 3}, {"size": 3, "interval_us": 30000000}]}"#;
        let method = "grpc.testing.TestService/StreamingOutputCall";
        let (code, said) = self.run(&["-max-time", "1", "-d", slow], &[method]);
        assert_eq!(code, 64 + 4, "{said}");
        assert!(
            said.contains(r#""body": "AAAA""#) && said.contains("DeadlineExceeded"),
            "{said}"
        );
    }
}

#[test]
fn grpcurl_in_clear() {
    let dir = tempfile::tempdir().unwrap();
    let Some((program, peer)) = grpcurl(dir.path()).zip(program(dir.path())) else {
        return;
    };
    let server = Server::start(&peer, &[]);
    let plane = Plane::start(&through(&Upstream {
        protocol: UpstreamProtocol::H2C,
        ..upstream(&[server.address])
    }));
    let way = vec!["-plaintext".into(), plane.address.to_string()];
    Curl { program, way }.check();
}

#[test]
fn grpcurl_over_tls() {
    let dir = tempfile::tempdir().unwrap();
    let Some((program, peer)) = grpcurl(dir.path()).zip(program(dir.path())) else {
        return;
    };
    let ca = Ca::new("ca");
    let server = Server::secure(&peer, &ca, dir.path());
    let mut model = through(&over_tls(&server, &ca));
    let leaf = ca.issue(&["front.example"]);
    model.certificates.insert(
        "d/front".into(),
        Certificate {
            origin: ObjectRef::new("Secret", "d", "front"),
            chain: leaf.chain,
            key: Secret::new(leaf.key.as_bytes()),
        },
    );
    let listener = Listener {
        protocol: ListenerProtocol::Https,
        tls: Some(ListenerTls {
            certificates: vec!["d/front".into()],
            ..ListenerTls::default()
        }),
        ..listener()
    };
    model.listeners.insert("d/gw/http".into(), listener);
    let plane = Plane::start(&model);
    let authority = dir.path().join("ca.pem");
    std::fs::write(&authority, ca.pem()).unwrap();
    let way = [
        "-cacert",
        authority.to_str().unwrap(),
        "-authority",
        "front.example",
    ];
    let mut way: Vec<String> = way.map(str::to_owned).into();
    way.push(plane.address.to_string());
    Curl { program, way }.check();
}
