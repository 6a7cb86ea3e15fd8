//! What the runner asks of a running gateway, whichever way it runs.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::client;
use crate::objects::{Key, Object};

/// How long a change may take to show before the case fails. Generous: it bounds a hang, it measures nothing.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Pause between two looks at something that changes by itself.
pub const PAUSE: Duration = Duration::from_millis(50);

/// A running gateway with the configuration of one case.
pub trait Gateway {
    /// Address on which backends listen so that the gateway reaches them.
    fn backend_host(&self) -> &str;

    /// Create or replace objects, all of which are expected to be accepted by whoever stores them.
    fn apply(&mut self, objects: &[Object]) -> Result<()>;

    /// Offer an object that is expected to be refused; its message, or `None` when it was taken.
    fn apply_refused(&mut self, object: &Object) -> Result<Option<String>>;

    /// Copy a file as it is (standalone only).
    fn place(&mut self, name: &str, text: &str) -> Result<()>;

    /// Remove objects.
    fn delete(&mut self, keys: &[Key]) -> Result<()>;

    /// The status of an object, once it speaks about the object's present generation.
    fn status(&self, key: &Key) -> Result<Option<Value>>;

    /// The Kubernetes Events about an object; `None` where there are no Events.
    fn events(&self, _: &Key) -> Result<Option<Vec<Value>>> {
        Ok(None)
    }

    /// Where requests go; starts the gateway when it has not been started.
    fn address(&mut self) -> Result<SocketAddr>;

    /// Where requests within TLS go: to the listener `https`, on port 8443.
    fn https(&mut self) -> Result<SocketAddr>;

    /// Where each data plane alone takes them.
    fn each_https(&mut self) -> Result<Vec<SocketAddr>> {
        Ok(vec![self.https()?])
    }

    /// Where requests to a Gateway of the Gateway API go, of several listeners to the named one. Standalone there is one
    /// place for all.
    fn address_of(&mut self, _gateway: &Key, _listener: Option<&str>) -> Result<SocketAddr> {
        self.address()
    }

    /// Where the admin port is (standalone only).
    fn admin(&self) -> Result<SocketAddr> {
        bail!("the admin port is asked in standalone mode only")
    }

    /// Where each data plane alone takes requests; what data planes find out at run time reaches one later than another.
    fn each_address(&mut self) -> Result<Vec<SocketAddr>> {
        Ok(vec![self.address()?])
    }

    /// The revision of the configuration in effect, of each data plane.
    fn revisions(&self) -> Result<Vec<String>>;

    /// Lines of the access log so far.
    fn access_log(&self) -> Result<Vec<String>>;

    /// Lines that data planes and controllers have logged since the case began.
    fn log(&self) -> Result<Vec<String>>;

    /// The metrics page of each data plane; none before it is started.
    fn metrics(&self) -> Result<Vec<String>>;

    /// What the gateway itself has to say, for the report of a failure.
    fn log_tail(&self) -> String;
}

/// The metrics page at the admin port of a data plane.
pub(crate) fn metrics_at(admin: SocketAddr) -> Result<String> {
    let answer = client::get(admin, "localhost", "/metrics")?;
    ensure!(answer.status == 200, "/metrics is {}", answer.status);
    Ok(String::from_utf8(answer.body)?)
}

/// The revision that the admin port of a data plane shows.
pub(crate) fn revision_at(admin: SocketAddr) -> Result<String> {
    let answer = client::get(admin, "localhost", "/api/v1/snapshot")?;
    ensure!(
        answer.status == 200,
        "/api/v1/snapshot is {}",
        answer.status
    );
    let document: Value = serde_json::from_slice(&answer.body)?;
    let revision = document["revision"].as_str();
    Ok(revision.context("no revision")?.to_owned())
}

/// Look until it is there or [`PATIENCE`] ends; then the last complaint is the error.
pub fn eventually<T>(mut look: impl FnMut() -> Result<T>) -> Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match look() {
            Ok(found) => return Ok(found),
            Err(e) if Instant::now() >= deadline => return Err(e),
            Err(_) => std::thread::sleep(PAUSE),
        }
    }
}
