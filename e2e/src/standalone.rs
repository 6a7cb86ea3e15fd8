//! A gateway of one's own: `diolkos run` on a temporary directory.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use tempfile::TempDir;

use crate::client;
use crate::gateway::{Gateway, PATIENCE, eventually, metrics_at, revision_at};
use crate::objects::{Key, Object};
use crate::process::{Process, program};

/// A directory of manifests and, after the first [`Gateway::address`], the process that serves it.
pub struct Standalone {
    directory: TempDir,
    running: Option<Running>,
}

/// Whether these are the keys of the port where requests within TLS go.
fn are_https(keys: &str) -> bool {
    keys.split(", ").any(|key| key.ends_with("/https"))
}

struct Running {
    process: Process,
    gateway: SocketAddr,
    admin: SocketAddr,
}

impl Standalone {
    /// An empty directory; nothing runs yet.
    pub fn new() -> Result<Self> {
        Ok(Self {
            directory: tempfile::Builder::new().prefix("diolkos-case-").tempdir()?,
            running: None,
        })
    }

    fn start(&self) -> Result<Running> {
        let mut process = Process::start(
            Command::new(program("diolkos")?)
                .arg("run")
                .arg(self.directory.path())
                .args([
                    "--http",
                    "127.0.0.1:0",
                    "--https",
                    "127.0.0.1:0",
                    "--admin",
                    "127.0.0.1:0",
                    "--log-format",
                    "json",
                ]),
        )?;
        let admin = process
            .stderr
            .wait(PATIENCE, |line| address_of(line, "admin"))
            .with_context(|| {
                let tail = process.stderr.tail(20);
                format!("`diolkos run` printed no event=admin:\n{tail}")
            })?;
        let gateway = process
            .stderr
            .wait(PATIENCE, |line| {
                let is_https = are_https(&listener_of(line)?);
                address_of(line, "listening").filter(|_| !is_https)
            })
            .with_context(|| {
                let tail = process.stderr.tail(20);
                format!("`diolkos run` opened no listener:\n{tail}")
            })?;
        eventually(|| {
            ensure!(
                process.alive(),
                "`diolkos run` ended:\n{}",
                process.stderr.tail(20)
            );
            let ready = client::get(admin, "localhost", "/readyz")?;
            ensure!(
                ready.status == 200,
                "/readyz is {}: {}",
                ready.status,
                String::from_utf8_lossy(&ready.body)
            );
            Ok(())
        })?;
        Ok(Running {
            process,
            gateway,
            admin,
        })
    }

    /// Write a file so that the gateway never sees half of it.
    fn write(&self, name: &str, text: &str) -> Result<()> {
        let hidden = self.directory.path().join(format!(".{name}"));
        fs::write(&hidden, text)?;
        fs::rename(&hidden, self.directory.path().join(name))?;
        Ok(())
    }

    fn file_of(&self, key: &Key) -> PathBuf {
        self.directory.path().join(file_name(key))
    }
}

impl Gateway for Standalone {
    fn backend_host(&self) -> &str {
        "127.0.0.1"
    }

    fn apply(&mut self, objects: &[Object]) -> Result<()> {
        objects
            .iter()
            .try_for_each(|o| self.write(&file_name(&o.key), &o.text))
    }

    fn apply_refused(&mut self, object: &Object) -> Result<Option<String>> {
        self.write(&file_name(&object.key), &object.text)?;
        problem_of(self.directory.path(), &object.key)
    }

    fn place(&mut self, name: &str, text: &str) -> Result<()> {
        self.write(name, text)
    }

    fn delete(&mut self, keys: &[Key]) -> Result<()> {
        keys.iter()
            .try_for_each(|key| fs::remove_file(self.file_of(key)).with_context(|| key.to_string()))
    }

    fn status(&self, key: &Key) -> Result<Option<Value>> {
        let running = self.running.as_ref().context("not started")?;
        let answer = client::get(running.admin, "localhost", "/api/v1/status")?;
        ensure!(answer.status == 200, "/api/v1/status is {}", answer.status);
        let mut document: Value =
            serde_json::from_slice(&answer.body).context("/api/v1/status is not JSON")?;
        Ok(document["status"]
            .as_object_mut()
            .and_then(|all| all.remove(&key.to_string())))
    }

    fn address(&mut self) -> Result<SocketAddr> {
        let running = match self.running.take() {
            Some(running) => running,
            None => self.start()?,
        };
        Ok(self.running.insert(running).gateway)
    }

    fn https(&mut self) -> Result<SocketAddr> {
        self.address()?;
        let running = self.running.as_ref().context("not started")?;
        let found = running.process.stderr.wait(PATIENCE, |line| {
            are_https(&listener_of(line)?).then(|| address_of(line, "listening"))?
        });
        found.context("no listener https")
    }

    fn address_of(&mut self, gateway: &Key, listener: Option<&str>) -> Result<SocketAddr> {
        let first = self.address()?;
        let (Some(listener), Some(running)) = (listener, &self.running) else {
            return Ok(first);
        };
        // Some listeners have a port of their own.
        let key = format!("/{}/{}/{listener}", gateway.namespace, gateway.name);
        let lines = &running.process.stderr;
        let found = lines.wait(PATIENCE, |line| {
            let keys = listener_of(line)?;
            let is_one = keys
                .split(", ")
                .any(|one| format!("/{one}").ends_with(&key));
            is_one.then(|| address_of(line, "listening"))?
        });
        let mut found = found.with_context(|| format!("no listener {key}"))?;
        if found.ip().is_unspecified() {
            found.set_ip(first.ip());
        }
        Ok(found)
    }

    fn admin(&self) -> Result<SocketAddr> {
        Ok(self.running.as_ref().context("not started")?.admin)
    }

    fn revisions(&self) -> Result<Vec<String>> {
        let running = self.running.as_ref().context("not started")?;
        Ok(vec![revision_at(running.admin)?])
    }

    fn access_log(&self) -> Result<Vec<String>> {
        Ok(self
            .running
            .as_ref()
            .map(|r| r.process.stdout.all())
            .unwrap_or_default())
    }

    fn log(&self) -> Result<Vec<String>> {
        let running = self.running.as_ref().context("not started")?;
        Ok(running.process.stderr.all())
    }

    fn metrics(&self) -> Result<Vec<String>> {
        self.running.iter().map(|r| metrics_at(r.admin)).collect()
    }

    fn log_tail(&self) -> String {
        self.running
            .as_ref()
            .map(|r| r.process.stderr.tail(30))
            .unwrap_or_default()
    }
}

fn file_name(key: &Key) -> String {
    format!(
        "{}-{}-{}.yaml",
        key.kind.to_ascii_lowercase(),
        key.namespace,
        key.name
    )
}

/// The listener that a JSON log line is about.
fn listener_of(line: &str) -> Option<String> {
    let value: Value = serde_json::from_str(line).ok()?;
    let fields = value.get("fields").unwrap_or(&value);
    Some(fields["listener"].as_str()?.to_owned())
}

/// The address in a JSON log line of this event, whether its fields stand at the top or under `fields`.
fn address_of(line: &str, event: &str) -> Option<SocketAddr> {
    let value: Value = serde_json::from_str(line).ok()?;
    let fields = value.get("fields").unwrap_or(&value);
    if fields["event"] != event {
        return None;
    }
    fields["address"].as_str()?.parse().ok()
}

/// What `diolkos validate` says about an object; `None` when it has nothing against it.
fn problem_of(directory: &Path, key: &Key) -> Result<Option<String>> {
    let output = Command::new(program("diolkos")?)
        .arg("validate")
        .arg(directory)
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    let name = format!(" {} {}/{}", key.kind, key.namespace, key.name);
    let names = |line: &&str| {
        line.split_once(&name)
            .is_some_and(|(_, rest)| rest.starts_with([' ', ':']))
    };
    let lines: Vec<&str> = text.lines().filter(names).collect();
    match (output.status.code(), lines.is_empty()) {
        (Some(1), false) => Ok(Some(lines.join("\n"))),
        (Some(0), true) => Ok(None),
        (Some(1), true) => bail!("`diolkos validate` finds fault with other objects only:\n{text}"),
        (code, _) => bail!("`diolkos validate` ended with {code:?}:\n{text}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listening_lines_are_found_in_both_layouts() {
        let expected = Some("127.0.0.1:8080".parse().unwrap());
        assert_eq!(
            address_of(
                r#"{"level":"INFO","fields":{"event":"listening","address":"127.0.0.1:8080"}}"#,
                "listening"
            ),
            expected
        );
        assert_eq!(
            address_of(
                r#"{"event":"listening","address":"127.0.0.1:8080"}"#,
                "listening"
            ),
            expected
        );
        assert_eq!(
            address_of(
                r#"{"event":"admin","address":"127.0.0.1:8080"}"#,
                "listening"
            ),
            None
        );
        assert_eq!(address_of("plain text", "listening"), None);
    }
}
