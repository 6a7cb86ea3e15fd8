//! Programs that others have written, on both sides of the gateway: what they do with each other they must do through it.

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use crate::case::Condition;
use crate::check;
use crate::gateway::{Gateway, PATIENCE, eventually};
use crate::objects::{Key, Object};
use crate::process::Process;
use crate::secrets::Pair;
use crate::standalone::Standalone;

/// Exit status of those scripts for what this machine does not have.
const NOT_HERE: i32 = 77;

/// What the script `peers/TOOL.sh` makes of `peers/NAME`: a program's path. `None` where that cannot be had, which is
/// said, and which `REQUIRE_RIG=1` makes an error.
fn made(tool: &str, name: &str) -> Result<Option<String>> {
    let peers = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers");
    let output = Command::new(peers.join(format!("{tool}.sh")))
        .arg(peers.join(name))
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.trim();
    if output.status.success() {
        let path = String::from_utf8(output.stdout)?;
        return Ok(Some(path.trim().to_owned()));
    }
    let required = std::env::var("REQUIRE_RIG").as_deref() == Ok("1");
    if output.status.code() != Some(NOT_HERE) || required {
        bail!("{tool}.sh cannot make peers/{name}: {said}");
    }
    eprintln!("peers/{name}: SKIPPED: {said}");
    Ok(None)
}

/// A gateway with these objects, which takes requests in clear and over TLS, there with a certificate for `host` that is
/// in the file besides.
fn secure_gateway(objects: &str, host: &str) -> Result<(Standalone, NamedTempFile)> {
    let pair = Pair::new(host)?;
    let mut secret = pair.secret("peers");
    secret["metadata"]["namespace"] = "diolkos-system".into();
    let mut gateway = Standalone::new()?;
    gateway.apply(&Object::parse_all(objects)?)?;
    gateway.apply(&[Object::from_value(secret)?])?;
    let mut file = NamedTempFile::new()?;
    file.write_all(pair.chain.as_bytes())?;
    Ok((gateway, file))
}

/// What a peer says when it listens.
fn listens(server: &Process) -> Result<String> {
    let said = server.stdout.wait(PATIENCE, |l| {
        l.strip_prefix("listening ").map(str::to_owned)
    });
    said.with_context(|| format!("the server does not start:\n{}", server.stderr.tail(20)))
}

/// WebSocket: every check of `peers/websocket/peer.py`, from client to server directly and through the gateway, there
/// over HTTP/1.1 and HTTP/2, in clear and over TLS; at last the server is killed.
pub fn websocket() -> Result<()> {
    const HOST: &str = "ws.test";
    let Some(python) = made("python", "websocket")? else {
        return Ok(());
    };
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/peers/websocket/peer.py");
    let server = Process::start(Command::new(&python).args([script, "server"]))?;
    let said = listens(&server)?;
    let (address, pid) = said.split_once(' ').context("no process id")?;
    let objects = include_str!("../peers/websocket/route.yaml").replace("${server}", address);
    let (mut gateway, ca) = secure_gateway(&objects, HOST)?;
    let http = gateway.address()?;
    let https = gateway.https()?;
    eventually(|| {
        let answer = crate::client::get(http, HOST, "/")?;
        // What a WebSocket server has to say to a plain request.
        ensure!(answer.status == 426, "status {}", answer.status);
        Ok(())
    })?;
    let output = Command::new(&python)
        .args([script, "client", HOST])
        .arg(ca.path())
        .args([pid, &format!("ws:{address}")])
        .args([format!("ws:{http}"), format!("wss:{https}")])
        .args([format!("h2c:{http}"), format!("h2:{https}")])
        .output()?;
    ensure!(
        output.status.success(),
        "not everything is as it is without us ({address} is the server itself):\n{}{}\n--- the gateway's last lines\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
        gateway.log_tail()
    );
    Ok(())
}

/// gRPC-Web: every check of `peers/grpcweb/client.mjs`, through the gateway to a server of gRPC.
pub fn grpc_web() -> Result<()> {
    const HOST: &str = "localhost";
    let Some((server, client)) = made("go", "grpc")?.zip(made("node", "grpcweb")?) else {
        return Ok(());
    };
    let descriptors = NamedTempFile::new()?;
    let written = Command::new(&server)
        .arg("descriptors")
        .arg(descriptors.path())
        .status()?;
    ensure!(written.success(), "no descriptors");
    let server = Process::start(Command::new(&server).arg("server"))?;
    let said = server.stdout.wait(PATIENCE, |l| Some(l.to_owned()));
    let address: SocketAddr = said.context("the server does not start")?.parse()?;
    let closed = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let objects = include_str!("../peers/grpcweb/route.yaml")
        .replace("${address}", &address.ip().to_string())
        .replace("${port}", &address.port().to_string())
        .replace("${closed}", &closed.to_string());
    let (mut gateway, ca) = secure_gateway(&objects, HOST)?;
    let http = gateway.address()?.port();
    let https = gateway.https()?.port();
    let output = Command::new("node")
        .arg(&client)
        .arg(descriptors.path())
        .args([
            format!("http://{HOST}:{http}"),
            format!("https://{HOST}:{https}"),
        ])
        .env("NODE_EXTRA_CA_CERTS", ca.path())
        .output()?;
    ensure!(
        output.status.success(),
        "{}{}\n--- the gateway's last lines\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
        gateway.log_tail()
    );
    Ok(())
}

/// GRPCRoute: official interoperability cases through a Gateway, by the methods that the route names exactly and by an
/// expression; what it does not name is not implemented. Then the server asks for TLS: a BackendTLSPolicy says so, and a
/// certificate of another name is refused.
pub fn grpc_route() -> Result<()> {
    let Some(program) = made("go", "grpc")? else {
        return Ok(());
    };
    let server = Process::start(Command::new(&program).arg("server"))?;
    let said = server.stdout.wait(PATIENCE, |l| Some(l.to_owned()));
    let address: SocketAddr = said.context("the server does not start")?.parse()?;
    let objects = include_str!("../peers/grpc/route.yaml")
        .replace("${address}", &address.ip().to_string())
        .replace("${port}", &address.port().to_string());
    let mut gateway = Standalone::new()?;
    gateway.apply(&Object::parse_all(&objects)?)?;
    let at = gateway.address()?.to_string();
    let run = |case: &str| {
        let output = Command::new(&program)
            .args(["client", &at, case])
            .output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{case}: {said}");
        Ok(())
    };
    eventually(|| run("empty_unary"))?;
    [
        "large_unary",
        "ping_pong",
        "server_streaming",
        "custom_metadata",
        "status_code_and_message",
        "unimplemented_method",
        "unimplemented_service",
    ]
    .into_iter()
    .try_for_each(run)?;
    let key = Key::parse("GRPCRoute/grpc-route/interop")?;
    let status = gateway.status(&key)?.context("no status")?;
    are_true(&["Accepted", "ResolvedRefs", "Programmed"], &status)?;

    let pair = Pair::new("grpc.test")?;
    let files = tempfile::tempdir()?;
    let (chain, key) = (files.path().join("chain"), files.path().join("key"));
    std::fs::write(&chain, &pair.chain)?;
    std::fs::write(&key, &pair.key)?;
    let mut command = Command::new(&program);
    let secure = Process::start(command.arg("server").args([&chain, &key]))?;
    let said = secure.stdout.wait(PATIENCE, |l| Some(l.to_owned()));
    let address: SocketAddr = said.context("the secure server does not start")?.parse()?;
    let objects = include_str!("../peers/grpc/tls.yaml")
        .replace("${address}", &address.ip().to_string())
        .replace("${port}", &address.port().to_string());
    gateway.apply(&[Object::from_value(json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "ca", "namespace": "grpc-route"},
        "data": {"ca.crt": pair.chain},
    }))?])?;
    gateway.apply(&Object::parse_all(&objects)?)?;
    drop(server);
    eventually(|| run("empty_unary"))?;
    run("ping_pong")?;
    let key = Key::parse("BackendTLSPolicy/grpc-route/server")?;
    let status = gateway.status(&key)?.context("no status")?;
    let conditions = &status["ancestors"][0];
    ensure!(
        conditions["ancestorRef"]["name"] == "gw",
        "the ancestors are {status}"
    );
    are_true(&["Accepted", "ResolvedRefs"], conditions)?;
    let other = objects.replace("grpc.test", "other.test");
    gateway.apply(&Object::parse_all(&other)?)?;
    eventually(|| {
        let output = Command::new(&program).args(["status", &at]).output()?;
        let said = String::from_utf8_lossy(&output.stdout);
        ensure!(said.starts_with("14 "), "the call ends with {said}");
        Ok(())
    })
}

fn are_true(kinds: &[&str], status: &Value) -> Result<()> {
    let wanted = kinds.iter().map(|kind| Condition {
        kind: (*kind).into(),
        status: "True".into(),
        reason: None,
        message: None,
        listener: None,
    });
    let wrong = check::conditions(&wanted.collect::<Vec<_>>(), status);
    ensure!(wrong.is_empty(), "{}", wrong.join("; "));
    Ok(())
}
