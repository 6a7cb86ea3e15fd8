//! What a controller remembers of former configurations, and the way back to one of them, over its admin port.

use crate::inspect::print;
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

/// An answer of the admin port takes at most so many bytes.
const MOST_BYTES: u64 = 16 << 20;
/// A rollback is written to the API server before it is answered.
const PATIENCE: Duration = Duration::from_secs(15);

#[derive(clap::Args)]
pub(crate) struct Address {
    /// The controller's admin port, such as by `kubectl -n diolkos-system port-forward deployment/diolkos-controller 9090`
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9090")]
    admin: SocketAddr,
}

#[derive(clap::Args)]
pub(crate) struct Rollback {
    /// As `diolkos revisions`, the access log or a metric names it
    #[arg(required_unless_present = "latest", conflicts_with = "latest")]
    revision: Option<String>,
    /// End the rollback: follow the cluster again
    #[arg(long)]
    latest: bool,
    #[command(flatten)]
    address: Address,
}

pub(crate) fn list(address: &Address) -> Result<ExitCode> {
    let document = ask(address, "GET", "/api/v1/revisions", "")?;
    print(&table(&document))
}

pub(crate) fn roll_back(args: &Rollback) -> Result<ExitCode> {
    let path = "/api/v1/rollback";
    let Some(revision) = &args.revision else {
        ask(&args.address, "DELETE", path, "")?;
        return print("following the cluster again\n");
    };
    let held = ask(&args.address, "PUT", path, revision)?;
    let mut text = format!("held as at revision {revision}:\n");
    for object in held["objects"].as_array().into_iter().flatten() {
        let _ = writeln!(text, "  {}", word(object));
    }
    text.push_str("until: diolkos rollback --latest\n");
    print(&text)
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or("-")
}

/// One line for each revision, and one for each object that it changed.
fn table(document: &Value) -> String {
    // Writing to a string cannot fail.
    let mut text = String::new();
    let rollback = &document["rolledBack"];
    if !rollback.is_null() {
        let held = rollback["objects"].as_array().map_or(0, Vec::len);
        let (revision, since) = (word(&rollback["revision"]), word(&rollback["since"]));
        let _ = writeln!(
            text,
            "ROLLED BACK to {revision} since {since}: {held} objects are held"
        );
    }
    for entry in document["revisions"].as_array().into_iter().flatten() {
        let _ = write!(
            text,
            "{}  {}",
            word(&entry["revision"]),
            word(&entry["time"])
        );
        for (group, revision) in entry["gateways"].as_object().into_iter().flatten() {
            let _ = write!(text, "  {group}={}", word(revision));
        }
        text.push('\n');
        let changes = entry["changes"].as_array().map_or(&[][..], Vec::as_slice);
        for change in changes {
            let namespace = match word(&change["namespace"]) {
                "" => String::new(),
                namespace => format!("{namespace}/"),
            };
            let (how, kind) = (word(&change["change"]), word(&change["kind"]));
            let _ = writeln!(text, "  {how} {kind} {namespace}{}", word(&change["name"]));
        }
        let changed = entry["changed"].as_u64().unwrap_or(0);
        let further = changed.saturating_sub(changes.len() as u64);
        if further > 0 {
            let _ = writeln!(text, "  and {further} more");
        }
    }
    text
}

/// The answer's document.
fn ask(address: &Address, method: &str, path: &str, body: &str) -> Result<Value> {
    let at = address.admin;
    let there = || format!("no controller's admin port at {at}");
    let mut stream = TcpStream::connect_timeout(&at, PATIENCE).with_context(there)?;
    stream
        .set_read_timeout(Some(PATIENCE))
        .with_context(there)?;
    let request = format!(
        "{method} {path} HTTP/1.0\r\nhost: {at}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).with_context(there)?;
    let mut answer = String::new();
    let mut bounded = stream.take(MOST_BYTES);
    bounded.read_to_string(&mut answer).with_context(there)?;
    let (head, body) = answer.split_once("\r\n\r\n").with_context(there)?;
    let status = head.split(' ').nth(1).unwrap_or_default();
    let document: Value = serde_json::from_str(body).unwrap_or(Value::Null);
    match (status, &document["message"]) {
        ("200", _) => Ok(document),
        (_, Value::String(message)) => bail!("{message}"),
        (status, _) => bail!("{at} answers {path} with {status}: is it a controller's admin port?"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::net::TcpListener;

    #[test]
    fn revisions_are_listed_with_what_changed() {
        let document = json!({
            "rolledBack": {"revision": "0123456789ab", "since": "2026-01-31T12:00:00Z", "objects": ["Route/a/x"]},
            "revisions": [
                {"revision": "00000000002a", "time": "2026-01-31T11:00:00Z", "gateways": {"a/gw-diolkos": "00000000002b"},
                 "changes": [{"kind": "Route", "namespace": "a", "name": "x", "change": "changed"},
                             {"kind": "Tenant", "namespace": "", "name": "t", "change": "added"}], "changed": 5},
                {"revision": null, "time": "2026-01-31T10:00:00Z", "gateways": {}, "changes": [], "changed": 0},
            ],
        });
        let expected = "ROLLED BACK to 0123456789ab since 2026-01-31T12:00:00Z: 1 objects are held
00000000002a  2026-01-31T11:00:00Z  a/gw-diolkos=00000000002b
  changed Route a/x
  added Tenant t
  and 3 more
-  2026-01-31T10:00:00Z
";
        assert_eq!(table(&document), expected);
    }

    #[test]
    fn what_the_controller_refuses_is_said_in_its_words() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let admin = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut seen = [0; 1024];
            let read = stream.read(&mut seen).unwrap();
            let body = r#"{"error":"not_found","message":"not remembered"}"#;
            write!(
                stream,
                "HTTP/1.0 404 Not Found\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            )
            .unwrap();
            String::from_utf8_lossy(&seen[..read]).into_owned()
        });
        let args = Rollback {
            revision: Some("00000000002a".to_owned()),
            latest: false,
            address: Address { admin },
        };
        let error = roll_back(&args).unwrap_err();
        assert_eq!(error.to_string(), "not remembered");
        let request = server.join().unwrap();
        assert!(
            request.starts_with("PUT /api/v1/rollback HTTP/1.0\r\n"),
            "{request}"
        );
        assert!(request.ends_with("\r\n\r\n00000000002a"), "{request}");
    }
}
