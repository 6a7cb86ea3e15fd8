//! Secrets in use: HTTPS by a certificate of a Secret, and a search for their values in everything that the gateway says.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::client;
use crate::gateway::{PATIENCE, eventually};
use crate::process::{Process, program};

/// Stands in every value that must not be seen. In base64 it begins at a multiple of three bytes, so that
/// [`ENCODED`] is found there.
const MARKER: &str = "canary-7f3a91c2";
/// The marker in base64.
const ENCODED: &str = "Y2FuYXJ5LTdmM2E5MWMy";

/// A certificate that signs itself.
pub(crate) struct Pair {
    der: CertificateDer<'static>,
    pub(crate) chain: String,
    pub(crate) key: String,
}

impl Pair {
    pub(crate) fn new(name: &str) -> Result<Self> {
        let key = KeyPair::generate()?;
        let certificate = CertificateParams::new([name.to_owned()])?.self_signed(&key)?;
        Ok(Self {
            der: certificate.der().clone(),
            chain: certificate.pem(),
            key: key.serialize_pem(),
        })
    }

    pub(crate) fn secret(&self, name: &str) -> Value {
        secret(name, json!({"tls.crt": self.chain, "tls.key": self.key}))
    }
}

pub(crate) fn secret(name: &str, values: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": values})
}

fn ours(kind: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": "diolkos.io/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec})
}

/// `diolkos run` with everything logged.
pub(crate) struct Running {
    directory: TempDir,
    process: Process,
    admin: SocketAddr,
}

impl Running {
    pub(crate) fn start(objects: &[(&str, Value)]) -> Result<Self> {
        let directory = tempfile::Builder::new()
            .prefix("diolkos-secrets-")
            .tempdir()?;
        for (file, object) in objects {
            write(directory.path(), file, &object.to_string())?;
        }
        let mut command = Command::new(program("diolkos")?);
        command.arg("run").arg(directory.path());
        command.args(["--http", "127.0.0.1:0", "--https", "127.0.0.1:0"]);
        command.args(["--admin", "127.0.0.1:0", "--log-format", "json"]);
        command.env("RUST_LOG", "trace").env("CANARY", MARKER);
        let process = Process::start(&mut command)?;
        let admin = announced(&process, "admin", "")?;
        let running = Self {
            directory,
            process,
            admin,
        };
        eventually(|| {
            let ready = client::get(running.admin, "localhost", "/readyz")?;
            ensure!(ready.status == 200, "/readyz is {}", ready.status);
            Ok(())
        })?;
        Ok(running)
    }

    /// Where a listener of the GatewayConfig `default/main` listens.
    fn listener(&self, name: &str) -> Result<SocketAddr> {
        announced(&self.process, "listening", &format!("default/main/{name}"))
    }

    /// Where any listener of this key listens.
    pub(crate) fn listening(&self, key: &str) -> Result<SocketAddr> {
        announced(&self.process, "listening", key)
    }

    pub(crate) fn apply(&self, file: &str, object: &Value) -> Result<()> {
        write(self.directory.path(), file, &object.to_string())
    }

    /// Waits for a condition of an object.
    fn condition(&self, key: &str, type_: &str, reason: &str) -> Result<String> {
        eventually(|| {
            let answer = client::get(self.admin, "localhost", "/api/v1/status")?;
            let all: Value = serde_json::from_slice(&answer.body)?;
            let conditions = all["status"][key]["conditions"].as_array();
            let condition = conditions
                .into_iter()
                .flatten()
                .find(|c| c["type"] == type_ && c["reason"] == reason);
            let condition = condition
                .with_context(|| format!("{key} has no {type_} {reason} in {conditions:?}"))?;
            Ok(condition["message"].as_str().unwrap_or_default().to_owned())
        })
    }
}

fn write(directory: &Path, file: &str, text: &str) -> Result<()> {
    let hidden = directory.join(format!(".{file}"));
    fs::write(&hidden, text)?;
    fs::rename(hidden, directory.join(file))?;
    Ok(())
}

/// The address in the log line of an event, of this listener if one is named.
fn announced(process: &Process, event: &str, listener: &str) -> Result<SocketAddr> {
    let found = process.stderr.wait(PATIENCE, |line| {
        let line: Value = serde_json::from_str(line).ok()?;
        let is_it = line["event"] == event && (listener.is_empty() || line["listener"] == listener);
        is_it
            .then(|| line["address"].as_str()?.parse().ok())
            .flatten()
    });
    found.with_context(|| {
        let tail = process.stderr.tail(20);
        format!("no event={event} {listener} in the log:\n{tail}")
    })
}

/// One request over TLS, by a client that trusts these certificates alone.
pub(crate) fn get_https(
    address: SocketAddr,
    host: &str,
    path: &str,
    trusted: &[&Pair],
) -> Result<String> {
    let mut roots = RootCertStore::empty();
    for pair in trusted {
        roots.add(pair.der.clone())?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(host.to_owned())?;
    let session = ClientConnection::new(Arc::new(config), name)?;
    let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut stream = StreamOwned::new(session, stream);
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n"
    )?;
    let mut answer = Vec::new();
    if let Err(e) = stream.read_to_end(&mut answer) {
        // The end of the connection without a close_notify is no matter of this test.
        ensure!(e.kind() == std::io::ErrorKind::UnexpectedEof, e);
    }
    Ok(String::from_utf8(answer)?)
}

fn gateway(certificates: &[&str]) -> Value {
    let refs: Vec<Value> = certificates
        .iter()
        .map(|name| json!({"name": name}))
        .collect();
    ours(
        "GatewayConfig",
        "main",
        json!({"default": true, "listeners": [
            {"name": "http", "port": 8080, "protocol": "HTTP"},
            {"name": "https", "port": 8443, "protocol": "HTTPS", "tls": {"certificateRefs": refs}},
        ]}),
    )
}

fn route() -> Value {
    let spec = json!({"rules": [{"directResponse": {"status": 200, "body": "here"}}]});
    ours("Route", "here", spec)
}

/// HTTPS by the certificates of Secrets: a new one is taken over, a wrong one leaves the last good one in place and
/// never hurts its neighbour.
pub fn certificates_of_secrets() -> Result<()> {
    let (one, other, next) = (
        Pair::new("one.example.com")?,
        Pair::new("other.example.com")?,
        Pair::new("one.example.com")?,
    );
    let running = Running::start(&[
        ("gateway.yaml", gateway(&["one", "other", "absent"])),
        ("route.yaml", route()),
        ("one.yaml", one.secret("one")),
        ("other.yaml", other.secret("other")),
    ])?;
    let https = running.listener("https")?;
    let serves = |host: &str, pair: &Pair| {
        eventually(|| {
            let answer = get_https(https, host, "/", &[pair])?;
            ensure!(answer.ends_with("here"), "{answer}");
            Ok(())
        })
        .with_context(|| host.to_owned())
    };
    serves("one.example.com", &one)?;
    serves("other.example.com", &other)?;
    let unknown = get_https(https, "unknown.example.com", "/", &[&one, &other]);
    ensure!(unknown.is_err(), "a host without a certificate was served");
    const KEY: &str = "GatewayConfig/default/main";
    let message = running.condition(KEY, "ResolvedRefs", "RefNotFound")?;
    ensure!(
        message == "spec.listeners[1].tls.certificateRefs[2]: Secret default/absent is not found",
        "{message}"
    );

    // Renewed.
    running.apply("one.yaml", &next.secret("one"))?;
    serves("one.example.com", &next)?;
    // A key that is not the certificate's.
    let mixed = json!({"tls.crt": one.chain, "tls.key": other.key});
    running.apply("one.yaml", &secret("one", mixed))?;
    running.apply("gateway.yaml", &gateway(&["one", "other"]))?;
    let message = running.condition(KEY, "ResolvedRefs", "InvalidCertificate")?;
    ensure!(message.contains("serves on"), "{message}");
    serves("one.example.com", &next)?;
    serves("other.example.com", &other)?;
    // And good again.
    running.apply("one.yaml", &one.secret("one"))?;
    serves("one.example.com", &one)?;
    running.condition(KEY, "ResolvedRefs", "ResolvedRefs")?;
    Ok(())
}

/// No value of a Secret is in any log, answer, metric or status, whether it can be used or not.
pub fn values_are_never_seen() -> Result<()> {
    let pair = Pair::new("one.example.com")?;
    let headers = |of: &[(&str, &str, &str)]| {
        let one = |(field, secret, key): &(&str, &str, &str)| {
            json!({"name": field, "prefix": "Bearer ",
                "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}})
        };
        let headers: Vec<Value> = of.iter().map(one).collect();
        json!({"external": {"url": "http://127.0.0.1:9"}, "auth": {"headers": headers}})
    };
    let encoded = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "encoded"},
        "data": {"key": ENCODED}});
    let not_base64 = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "not-base64"},
        "data": {"key": format!("%%%{MARKER}")}});
    let no_text = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "no-text"},
        "stringData": {"key": [MARKER], "tls.key": {"a": MARKER}}});
    let no_map = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "no-map"},
        "stringData": MARKER});
    let objects = [
        ("gateway.yaml", gateway(&["one", "wrong", "no-text"])),
        ("route.yaml", route()),
        ("one.yaml", pair.secret("one")),
        (
            "wrong.yaml",
            secret(
                "wrong",
                json!({"tls.crt": format!("{}{MARKER}", pair.chain), "tls.key": MARKER}),
            ),
        ),
        (
            "values.yaml",
            secret(
                "values",
                json!({"plain": MARKER, "environment": "x${CANARY}", "unfit": format!("{MARKER}\nx: y"), "unset": format!("{MARKER}${{}}")}),
            ),
        ),
        (
            "unset.yaml",
            secret(
                "unset",
                json!({"key": format!("{MARKER}${{NOT_SET_ANYWHERE}}")}),
            ),
        ),
        ("encoded.yaml", encoded),
        ("not-base64.yaml", not_base64),
        ("no-text.yaml", no_text),
        ("no-map.yaml", no_map),
        (
            "good.yaml",
            ours(
                "Upstream",
                "good",
                headers(&[
                    ("x-a", "values", "plain"),
                    ("x-b", "values", "environment"),
                    ("x-c", "encoded", "key"),
                ]),
            ),
        ),
        (
            "bad.yaml",
            ours(
                "Upstream",
                "bad",
                headers(&[
                    ("x-a", "values", "unfit"),
                    ("x-b", "unset", "key"),
                    ("x-c", "not-base64", "key"),
                    ("x-d", "no-text", "key"),
                    ("x-e", "no-map", "key"),
                ]),
            ),
        ),
        (
            "credentials.yaml",
            ours(
                "Route",
                "credentials",
                json!({"hostnames": ["credentials.example.com"],
                "rules": [{"backends": [{"kind": "Upstream", "name": "good"}]}]}),
            ),
        ),
    ];
    let running = Running::start(&objects)?;
    // A file that is no YAML beside the value, and one that is cut in the middle of it.
    let broken = format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: broken}}\nstringData:\n  key: \"{MARKER}\n"
    );
    write(running.directory.path(), "broken.yaml", &broken)?;
    let tabs = format!("apiVersion: v1\nkind: Secret\nstringData:\n\t{MARKER}: *{MARKER}\n");
    write(running.directory.path(), "tabs.yaml", &tabs)?;
    running.condition("Upstream/default/good", "ResolvedRefs", "ResolvedRefs")?;
    running.condition("Upstream/default/bad", "ResolvedRefs", "InvalidValue")?;
    eventually(|| {
        for file in ["broken.yaml", "tabs.yaml"] {
            let lines = running.process.stderr.all();
            let said = lines.iter().any(|line| line.contains(file));
            ensure!(said, "nothing is said of {file}");
        }
        Ok(())
    })?;

    let mut said = Vec::new();
    let http = running.listener("http")?;
    let https = running.listener("https")?;
    for (host, path) in [("credentials.example.com", "/"), ("x", "/missing")] {
        let answer = client::get(http, host, path)?;
        said.push(format!("{answer:?}"));
        said.push(String::from_utf8_lossy(&answer.body).into_owned());
    }
    said.push(get_https(https, "one.example.com", "/", &[&pair])?);
    for path in [
        "/healthz",
        "/readyz",
        "/metrics",
        "/api/v1/status",
        "/api/v1/snapshot",
        "/api/v1/routes",
        "/api/v1/upstreams",
        "/api/v1/health",
        "/api/v1/connections",
        "/api/v1/log",
    ] {
        let answer = client::get(running.admin, "localhost", path)?;
        ensure!(answer.status == 200, "{path} is {}", answer.status);
        said.push(format!("{:?}", answer.headers));
        said.push(String::from_utf8_lossy(&answer.body).into_owned());
    }
    for command in [&["validate"][..], &["translate"], &["explain"]] {
        let mut run = Command::new(program("diolkos")?);
        run.args(command).arg(running.directory.path());
        if command == ["explain"] {
            run.args(["GET", "http://credentials.example.com/"]);
        }
        let output = run
            .env("RUST_LOG", "trace")
            .env("CANARY", MARKER)
            .output()?;
        said.push(String::from_utf8_lossy(&output.stdout).into_owned());
        said.push(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    ensure!(
        said.iter().any(|text| text.contains("[redacted]")),
        "the model is not among what was searched"
    );
    said.extend(running.process.stdout.all());
    said.extend(running.process.stderr.all());
    let key: Vec<&str> = pair.key.lines().filter(|l| !l.starts_with('-')).collect();
    let bytes = format!("{:?}", MARKER.as_bytes());
    let bytes = bytes.trim_matches(['[', ']']);
    for text in &said {
        for value in [MARKER, ENCODED, bytes].iter().chain(&key) {
            ensure!(!text.contains(value), "{value} is in: {text}");
        }
    }
    Ok(())
}
