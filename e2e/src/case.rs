//! The files of a case.
//!
//! ```text
//! cases/NAME/case.yaml        what it shows, its backends, the modes it runs in, objects that are refused
//!            apply/NN-*.yaml  the steps, in the order of their names
//!            requests.yaml    STEP: [request and expected answer]
//!            status.yaml      STEP: {Kind/namespace/name, or Kind/name: [expected condition]}
//!            events.yaml      STEP: {Kind/namespace/name: [part of a Kubernetes Event]}; on a cluster alone
//! ```
//!
//! A step applies its objects: one that exists is replaced. `${NAME.address}` and `${NAME.port}` stand for the first endpoint of a
//! declared backend, or the latter for a declared port. A step without an entry in `requests.yaml` or `status.yaml` checks nothing of that sort.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::objects::Key;

/// A case, read and checked for spelling.
pub struct Case {
    /// Folder name.
    pub name: String,
    /// `case.yaml`.
    pub spec: CaseSpec,
    /// The steps, in order.
    pub steps: Vec<Step>,
}

/// `case.yaml`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CaseSpec {
    /// One sentence: what must be seen.
    pub shows: String,
    /// Where it runs.
    pub modes: Vec<Mode>,
    /// Namespace of the backends; default: the folder name with `-` for `_`.
    pub namespace: Option<String>,
    /// Echo backends with a Service of the same name.
    #[serde(default)]
    pub backends: Vec<BackendSpec>,
    /// Secrets with a certificate that the test client believes.
    #[serde(default)]
    pub certificates: Vec<CertificateSpec>,
    /// Names of ports for listeners, which nobody has where the case runs.
    #[serde(default)]
    pub ports: Vec<String>,
    /// Step → object → part of the message with which it is refused.
    #[serde(default)]
    pub refused: BTreeMap<String, BTreeMap<String, String>>,
    /// Step → objects removed before the step's files are applied.
    #[serde(default)]
    pub delete: BTreeMap<String, Vec<String>>,
    /// Standalone only: step files are copied into the directory under their name without the number, whatever they hold,
    /// so that one can replace another and be broken.
    #[serde(default)]
    pub verbatim: bool,
    /// Sent at a steady rate from the end of the first step to the end of the last; some of them between every two steps.
    #[serde(default)]
    pub load: Vec<LoadSpec>,
    /// Each step brings another revision of the configuration, which every data plane shows.
    #[serde(default)]
    pub revisions: bool,
    /// Access log lines (JSON) that must have been written at the end; each entry is a subset of one line.
    #[serde(default)]
    pub access_log: Vec<Value>,
    /// Lines of the own log of data planes and controllers that must have been written at the end: the parts of each.
    #[serde(default)]
    pub log: Vec<Vec<String>>,
    /// Metrics of data planes, with their labels, and by how much they must at least have grown at the end, all together.
    #[serde(default)]
    pub grown: BTreeMap<String, f64>,
}

/// Where a case runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Mode {
    /// `diolkos run` on a directory.
    Standalone,
    /// Controller and data planes on the rig.
    Cluster,
}

/// A declared backend.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BackendSpec {
    /// Name of the Service and of the echo process.
    pub name: String,
    /// Namespace of the Service when it is not the case's.
    pub namespace: Option<String>,
    /// Endpoints.
    #[serde(default = "one")]
    pub replicas: usize,
    /// Port of the Service.
    #[serde(default = "port_80")]
    pub port: u16,
    /// Whether anyone answers.
    #[serde(default)]
    pub state: BackendState,
}

fn one() -> usize {
    1
}

fn port_80() -> u16 {
    80
}

/// A declared certificate, in a Secret of the case's namespace.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CertificateSpec {
    /// Name of the Secret.
    pub name: String,
    /// Names that it is for; one may begin with `*.`.
    pub hosts: Vec<String>,
}

/// What is behind a declared Service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum BackendState {
    /// Echo processes.
    #[default]
    Up,
    /// Endpoints that refuse connections.
    Closed,
    /// No endpoints.
    Empty,
}

/// One step with what must hold after it.
#[derive(Debug)]
pub struct Step {
    /// File name without `.yaml`.
    pub name: String,
    /// Where the objects are.
    pub file: PathBuf,
    /// Objects removed first.
    pub delete: Vec<Key>,
    /// Objects that are refused, with part of the message.
    pub refused: Vec<(Key, String)>,
    /// Conditions to wait for.
    pub conditions: Vec<(Key, Vec<Condition>)>,
    /// Requests to send then.
    pub requests: Vec<RequestSpec>,
    /// Events (`events.k8s.io/v1`) to wait for after these, each by a subset of its fields.
    pub events: Vec<(Key, Vec<Value>)>,
}

/// An expected condition.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Condition {
    /// Condition type.
    #[serde(rename = "type")]
    pub kind: String,
    /// `True`, `False`, `Unknown`, or `Absent` for a condition that must not be there.
    pub status: String,
    /// Exact reason.
    pub reason: Option<String>,
    /// Part of the message.
    pub message: Option<String>,
    /// Of a Gateway: the condition is this listener's; default: the object's own, or one of its parents'.
    pub listener: Option<String>,
}

/// A request and its answer.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RequestSpec {
    /// What this shows; default: the request line.
    pub name: Option<String>,
    /// `METHOD http://host/path?query`. Here and in header fields `${letters N}` stands for N letters. With `https` it
    /// goes to the listener of that name, and `host` is named in the handshake and must be in the certificate; a field
    /// `host` names another in the request.
    pub send: String,
    /// Within TLS it is sent over HTTP/2.
    #[serde(default)]
    pub http2: bool,
    /// The Gateway of the case's namespace that it goes to, `NAME` or `NAME/LISTENER`, at the address in its status, or a
    /// GatewayConfig with data planes of its own, `GatewayConfig/NAME/LISTENER`; default: the data planes that serve what is
    /// attached to no Gateway. Standalone there is one place for all.
    pub gateway: Option<String>,
    /// It goes to the admin port; in standalone mode only.
    #[serde(default)]
    pub admin: bool,
    /// Header fields.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Body text.
    #[serde(default)]
    pub body: String,
    /// Content coding in which the body is sent: `gzip`, `br` or `zstd`.
    pub encoding: Option<String>,
    /// `METHOD http://host/path` of a request that is under way meanwhile: its backend answers 103 first (`/begun/…`).
    pub beside: Option<String>,
    /// How many times it is sent.
    #[serde(default = "one")]
    pub repeat: usize,
    /// It is sent so many times at the same time, and the first answer is compared; the others may come when `beside` is over.
    #[serde(default = "one")]
    pub at_once: usize,
    /// The request asks for a WebSocket, gets it with 101, and then this is said on it.
    pub websocket: Option<Conversation>,
    /// What comes back, every time.
    #[serde(default)]
    pub expect: Expect,
    /// Cookies that an answer sets are sent with the repetitions after it.
    #[serde(default)]
    pub keep_cookies: bool,
    /// One backend gives all answers, whichever.
    #[serde(default)]
    pub same_backend: bool,
    /// Backend name, or status of an answer without one → least and most answers out of `repeat`.
    #[serde(default)]
    pub distribution: BTreeMap<String, [usize; 2]>,
}

/// A GET that is sent again and again while the steps change things. Every answer must have status 200.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LoadSpec {
    /// `GET http://host/path?query`.
    pub send: String,
    /// A header field that the answer has with the value with which the backend got the request, as it echoes it.
    pub same_both_ways: Option<String>,
}

/// Text messages on a WebSocket, which the client closes at the end.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Conversation {
    /// From the client, one after the other.
    pub send: Vec<String>,
    /// To the client.
    pub expect: Vec<String>,
}

/// An expected answer; what is not named is not compared.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Expect {
    /// Status code.
    pub status: Option<u16>,
    /// Header fields with their exact value; `${revision}` is the one that all data planes show.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Header fields that must not be there.
    #[serde(default)]
    pub absent_headers: Vec<String>,
    /// The whole body, this and the following without its content coding.
    pub body: Option<String>,
    /// Part of the body.
    pub body_contains: Option<String>,
    /// What must not be in the body.
    pub body_lacks: Option<String>,
    /// Bytes of the body.
    pub body_length: Option<usize>,
    /// A subset of the JSON body: objects by their members, everything else whole.
    pub json: Option<Value>,
    /// JSON pointers to what must not be in the body.
    #[serde(default)]
    pub absent_json: Vec<String>,
    /// Trailer fields with their exact value.
    #[serde(default)]
    pub trailers: BTreeMap<String, String>,
    /// Milliseconds that the answer takes at least and at most.
    pub took_ms: Option<[u64; 2]>,
    /// Whether the connection stays open or is closed by the gateway.
    pub connection: Option<Persistence>,
    /// The body is not complete when the connection ends, over HTTP/2 when the stream is reset.
    #[serde(default)]
    pub cut: bool,
}

/// What becomes of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Persistence {
    /// Another request may follow.
    Kept,
    /// The gateway closes it.
    Closed,
}

impl Case {
    /// Read a case; names of steps and objects that do not exist are errors.
    pub fn load(dir: &Path) -> Result<Self> {
        let name = dir
            .file_name()
            .and_then(|n| n.to_str())
            .context("case folder without a name")?
            .to_owned();
        let spec: CaseSpec = read(&dir.join("case.yaml"))?.context("case.yaml is missing")?;
        ensure!(
            !spec.verbatim || spec.modes == [Mode::Standalone],
            "verbatim steps make sense in standalone mode only"
        );
        let mut requests: BTreeMap<String, Vec<RequestSpec>> =
            read(&dir.join("requests.yaml"))?.unwrap_or_default();
        let mut conditions: BTreeMap<String, BTreeMap<String, Vec<Condition>>> =
            read(&dir.join("status.yaml"))?.unwrap_or_default();
        let mut events: BTreeMap<String, BTreeMap<String, Vec<Value>>> =
            read(&dir.join("events.yaml"))?.unwrap_or_default();
        let mut refused = spec.refused.clone();
        let mut delete = spec.delete.clone();
        let mut steps = Vec::new();
        for file in step_files(&dir.join("apply"))? {
            let name = file
                .file_stem()
                .and_then(|n| n.to_str())
                .context("step without a name")?
                .to_owned();
            steps.push(Step {
                delete: delete
                    .remove(&name)
                    .unwrap_or_default()
                    .iter()
                    .map(|k| Key::parse(k))
                    .collect::<Result<_>>()?,
                refused: keyed(refused.remove(&name).unwrap_or_default())?,
                conditions: keyed(conditions.remove(&name).unwrap_or_default())?,
                requests: requests.remove(&name).unwrap_or_default(),
                events: keyed(events.remove(&name).unwrap_or_default())?,
                name,
                file,
            });
        }
        let asks_admin = |step: &Step| step.requests.iter().any(|request| request.admin);
        ensure!(
            spec.modes == [Mode::Standalone] || !steps.iter().any(asks_admin),
            "the admin port is asked in standalone mode only"
        );
        let unknown = refused
            .keys()
            .chain(delete.keys())
            .chain(conditions.keys())
            .chain(requests.keys())
            .chain(events.keys())
            .next();
        if let Some(step) = unknown {
            bail!("no step apply/{step}.yaml");
        }
        ensure!(!steps.is_empty(), "no steps in apply/");
        Ok(Self { name, spec, steps })
    }

    /// The namespace of the backends.
    pub fn namespace(&self) -> String {
        self.spec
            .namespace
            .clone()
            .unwrap_or_else(|| self.name.replace('_', "-"))
    }
}

/// All cases of this crate that run in a mode, in the order of their names.
pub fn all(mode: Mode) -> Result<Vec<Case>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("cases");
    let mut dirs: Vec<PathBuf> = fs::read_dir(&root)?
        .map(|e| Ok(e?.path()))
        .collect::<Result<_>>()?;
    dirs.sort();
    let mut cases = Vec::new();
    for dir in dirs {
        let case = Case::load(&dir).with_context(|| dir.display().to_string())?;
        if case.spec.modes.contains(&mode) {
            cases.push(case);
        }
    }
    Ok(cases)
}

fn step_files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut files: Vec<PathBuf> = fs::read_dir(dir)
        .with_context(|| dir.display().to_string())?
        .map(|e| Ok(e?.path()))
        .collect::<Result<_>>()?;
    files.retain(|f| f.extension().is_some_and(|e| e == "yaml"));
    files.sort();
    Ok(files)
}

fn keyed<T>(map: BTreeMap<String, T>) -> Result<Vec<(Key, T)>> {
    map.into_iter()
        .map(|(key, value)| Ok((Key::parse(&key)?, value)))
        .collect()
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e).with_context(|| path.display().to_string()),
    };
    serde_saphyr::from_str(&text)
        .map(Some)
        .map_err(|e| anyhow::anyhow!("{}: {e}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_of_this_crate_reads() {
        assert!(!all(Mode::Standalone).unwrap().is_empty());
        assert!(!all(Mode::Cluster).unwrap().is_empty());
    }
}
