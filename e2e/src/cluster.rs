//! The gateway of the rig: objects go to the API server, requests to the Service of the data planes.
//!
//! Runs inside the rig's network (`e2e/rig/rig exec`), with Diolkos installed by `scripts/rig.sh up`.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::check;
use crate::gateway::{Gateway, eventually, metrics_at, revision_at};
use crate::objects::{Key, Object};
use crate::process::Process;

/// Address of the rig's node: Pods reach what listens there.
const NODE: &str = "10.250.0.1";
/// Where Diolkos is installed.
pub(crate) const SYSTEM: &str = "diolkos-system";

/// The admin port of a data plane's Pod.
const ADMIN: u16 = 9090;
/// Where a Pod of the data plane takes requests, in clear and within TLS.
const HTTP: u16 = 8080;
const HTTPS: u16 = 8443;
/// The port of the data planes' Service for the latter.
const SERVICE_HTTPS: u16 = 443;

/// One case's objects in the cluster; they and their namespaces are removed when it is dropped.
pub struct Cluster {
    kubectl: PathBuf,
    applied: BTreeSet<Key>,
    namespaces: BTreeSet<String>,
    address: Option<SocketAddr>,
    begun: Instant,
}

/// A port that `kubectl port-forward` holds open.
pub struct Forward {
    _process: Process,
    pub address: SocketAddr,
}

/// Why cluster cases cannot run in this process; `None` inside the rig.
pub fn obstacle() -> Option<String> {
    // Named by the script alone: a KUBECONFIG in someone's environment may lead to a cluster that is not for tests.
    if std::env::var_os("DIOLKOS_RIG").is_none() {
        return Some("not on the rig: run them with scripts/rig.sh cases".into());
    }
    kubectl_path().err().map(|e| e.to_string())
}

fn kubectl_path() -> Result<PathBuf> {
    let bin = std::env::var_os("RIG_BIN")
        .context("RIG_BIN is not set: run them with scripts/rig.sh cases")?;
    let kubectl = PathBuf::from(bin).join("kubectl");
    ensure!(
        kubectl.is_file(),
        "{} is missing: e2e/rig/rig build",
        kubectl.display()
    );
    Ok(kubectl)
}

impl Cluster {
    /// Nothing applied yet.
    pub fn new() -> Result<Self> {
        Ok(Self {
            kubectl: kubectl_path()?,
            applied: BTreeSet::new(),
            namespaces: BTreeSet::new(),
            address: None,
            begun: Instant::now(),
        })
    }

    fn run(&self, args: &[&str], input: &str) -> Result<Output> {
        let mut child = Command::new(&self.kubectl)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("kubectl")?;
        child
            .stdin
            .take()
            .context("no stdin")?
            .write_all(input.as_bytes())?;
        Ok(child.wait_with_output()?)
    }

    /// Run kubectl; its output, or its complaint as the error.
    pub fn kubectl(&self, args: &[&str], input: &str) -> Result<String> {
        let output = self.run(args, input)?;
        ensure!(
            output.status.success(),
            "kubectl {}: {}",
            args.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// A port of this machine that leads to one of a Pod, until the answer is dropped.
    pub fn forward(&self, namespace: &str, target: &str, port: u16) -> Result<Forward> {
        let free = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let ports = format!("{}:{port}", free.port());
        let mut command = Command::new(&self.kubectl);
        command.args(["port-forward", "--namespace", namespace, target, &ports]);
        let forward = Forward {
            _process: Process::start(&mut command)?,
            address: free,
        };
        eventually(|| Ok(TcpStream::connect(free)?))?;
        Ok(forward)
    }

    fn make_namespaces(&mut self, objects: &[Object]) -> Result<()> {
        let missing: BTreeSet<String> = objects
            .iter()
            .map(|o| o.key.namespace.clone())
            .filter(|n| !n.is_empty() && n != SYSTEM && !self.namespaces.contains(n))
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        let text: Vec<String> = missing
            .iter()
            .map(|n| format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: {n}}}}}\n"))
            .collect();
        self.kubectl(&["apply", "--server-side", "-f", "-"], &text.join("---\n"))?;
        self.namespaces.extend(missing);
        Ok(())
    }
}

impl Cluster {
    /// Addresses of the Pods that run a data plane.
    fn data_planes(&self) -> Result<impl Iterator<Item = IpAddr> + use<>> {
        let addresses = self.kubectl(
            &[
                "get",
                "pods",
                "--namespace",
                SYSTEM,
                "--selector",
                DATA_PLANES,
                "--output",
                "jsonpath={.items[*].status.podIP}",
            ],
            "",
        )?;
        let parsed: Result<Vec<IpAddr>, _> = addresses.split_whitespace().map(str::parse).collect();
        Ok(parsed
            .with_context(|| format!("Pod addresses {addresses:?}"))?
            .into_iter())
    }
}

impl Gateway for Cluster {
    fn backend_host(&self) -> &str {
        NODE
    }

    fn apply(&mut self, objects: &[Object]) -> Result<()> {
        if objects.is_empty() {
            return Ok(());
        }
        self.make_namespaces(objects)?;
        self.applied.extend(objects.iter().map(|o| o.key.clone()));
        let text: Vec<&str> = objects.iter().map(|o| o.text.as_str()).collect();
        self.kubectl(
            &["apply", "--server-side", "--force-conflicts", "-f", "-"],
            &text.join("\n---\n"),
        )
        .map(drop)
    }

    fn apply_refused(&mut self, object: &Object) -> Result<Option<String>> {
        self.make_namespaces(std::slice::from_ref(object))?;
        let output = self.run(
            &["apply", "--server-side", "--force-conflicts", "-f", "-"],
            &object.text,
        )?;
        if output.status.success() {
            self.applied.insert(object.key.clone());
            return Ok(None);
        }
        Ok(Some(String::from_utf8_lossy(&output.stderr).into_owned()))
    }

    fn place(&mut self, _: &str, _: &str) -> Result<()> {
        anyhow::bail!("verbatim steps are for standalone mode")
    }

    fn delete(&mut self, keys: &[Key]) -> Result<()> {
        for key in keys {
            self.kubectl(
                &["delete", "--namespace", &key.namespace, &key.kubectl()],
                "",
            )?;
            self.applied.remove(key);
        }
        Ok(())
    }

    fn status(&self, key: &Key) -> Result<Option<Value>> {
        let text = self.kubectl(
            &[
                "get",
                "--namespace",
                &key.namespace,
                &key.kubectl(),
                "--output",
                "json",
            ],
            "",
        )?;
        let mut object: Value = serde_json::from_str(&text)?;
        let generation = &object["metadata"]["generation"];
        let current = match key.is_gateway_api() {
            true => {
                let conditions = check::all_conditions(&object["status"]);
                let speaks_of_it = |c: &&Value| c["observedGeneration"] == *generation;
                !conditions.is_empty() && conditions.iter().all(speaks_of_it)
            }
            false => object["status"]["observedGeneration"] == *generation,
        };
        Ok(current.then(|| object["status"].take()))
    }

    fn events(&self, key: &Key) -> Result<Option<Vec<Value>>> {
        let text = self.kubectl(
            &[
                "get",
                "--namespace",
                &key.namespace,
                "events.events.k8s.io",
                "--field-selector",
                &format!("regarding.kind={},regarding.name={}", key.kind, key.name),
                "--output",
                "json",
            ],
            "",
        )?;
        let mut list: Value = serde_json::from_str(&text)?;
        let items = list["items"].as_array_mut().map(std::mem::take);
        Ok(Some(items.unwrap_or_default()))
    }

    fn address(&mut self) -> Result<SocketAddr> {
        if let Some(address) = self.address {
            return Ok(address);
        }
        let ip = self.kubectl(
            &[
                "get",
                "--namespace",
                SYSTEM,
                "service/diolkos-dataplane",
                "--output",
                "jsonpath={.spec.clusterIP}",
            ],
            "",
        )?;
        let address = SocketAddr::new(
            ip.trim()
                .parse()
                .with_context(|| format!("cluster IP {ip:?}"))?,
            80,
        );
        self.address = Some(address);
        Ok(address)
    }

    fn https(&mut self) -> Result<SocketAddr> {
        Ok(SocketAddr::new(self.address()?.ip(), SERVICE_HTTPS))
    }

    fn each_https(&mut self) -> Result<Vec<SocketAddr>> {
        let pods = self.data_planes()?;
        Ok(pods.map(|ip| SocketAddr::new(ip, HTTPS)).collect())
    }

    fn address_of(&mut self, gateway: &Key, listener: Option<&str>) -> Result<SocketAddr> {
        let text = self.kubectl(
            &[
                "get",
                "--namespace",
                &gateway.namespace,
                &gateway.kubectl(),
                "--output",
                "json",
            ],
            "",
        )?;
        address_of(&serde_json::from_str(&text)?, listener)
    }

    fn each_address(&mut self) -> Result<Vec<SocketAddr>> {
        let pods = self.data_planes()?;
        Ok(pods.map(|ip| SocketAddr::new(ip, HTTP)).collect())
    }

    fn revisions(&self) -> Result<Vec<String>> {
        self.data_planes()?
            .map(|ip| revision_at(SocketAddr::new(ip, ADMIN)))
            .collect()
    }

    fn access_log(&self) -> Result<Vec<String>> {
        let text = self.kubectl(
            &[
                "logs",
                "--namespace",
                SYSTEM,
                "--selector",
                DATA_PLANES,
                "--tail=2000",
            ],
            "",
        )?;
        Ok(text.lines().map(str::to_owned).collect())
    }

    fn log(&self) -> Result<Vec<String>> {
        let since = format!("--since={}s", self.begun.elapsed().as_secs() + 1);
        let mut lines = Vec::new();
        for selector in [CONTROLLERS, DATA_PLANES] {
            let of = ["logs", "--namespace", SYSTEM, "--selector", selector];
            let text = self.kubectl(&[&of[..], &["--tail=-1", &since]].concat(), "")?;
            lines.extend(text.lines().map(str::to_owned));
        }
        Ok(lines)
    }

    fn metrics(&self) -> Result<Vec<String>> {
        self.data_planes()?
            .map(|ip| metrics_at(SocketAddr::new(ip, ADMIN)))
            .collect()
    }

    fn log_tail(&self) -> String {
        let tail = |selector: &str| {
            self.kubectl(
                &[
                    "logs",
                    "--namespace",
                    SYSTEM,
                    "--selector",
                    selector,
                    "--tail=15",
                    "--prefix",
                ],
                "",
            )
            .unwrap_or_else(|e| e.to_string())
        };
        tail(CONTROLLERS) + &tail(DATA_PLANES)
    }
}

/// Where a Gateway's listener takes requests by its status; the first listener where none is named.
fn address_of(gateway: &Value, listener: Option<&str>) -> Result<SocketAddr> {
    let ip = gateway["status"]["addresses"][0]["value"].as_str();
    let ip = ip.context("the Gateway has no address yet")?;
    let listeners = gateway["spec"]["listeners"].as_array();
    let found = listeners
        .into_iter()
        .flatten()
        .find(|l| listener.is_none_or(|name| l["name"] == name));
    let port = found.and_then(|l| u16::try_from(l["port"].as_u64()?).ok());
    let port = port.with_context(|| format!("no listener {listener:?}"))?;
    let ip = ip.parse().with_context(|| format!("address {ip:?}"))?;
    Ok(SocketAddr::new(ip, port))
}

/// Selects the Pods of the controllers.
const CONTROLLERS: &str = "app.kubernetes.io/component=controller";
/// Selects the Pods of the data planes.
pub(crate) const DATA_PLANES: &str = "app.kubernetes.io/component=data-plane";

impl Drop for Cluster {
    fn drop(&mut self) {
        // Our objects first and at once, so that no route of this case is seen by the next; namespaces go in their own time.
        for (namespace, names) in group(&self.applied) {
            let mut args = vec!["delete", "--ignore-not-found", "--namespace", &namespace];
            args.extend(names.iter().map(String::as_str));
            if let Err(e) = self.kubectl(&args, "") {
                eprintln!("clean-up: {e}");
            }
        }
        if !self.namespaces.is_empty() {
            let mut args = vec!["delete", "--ignore-not-found", "--wait=false", "namespace"];
            args.extend(self.namespaces.iter().map(String::as_str));
            if let Err(e) = self.kubectl(&args, "") {
                eprintln!("clean-up: {e}");
            }
        }
    }
}

/// The kinds that the gateway serves, and whatever lies in a namespace that outlives the case, by namespace. What stands
/// outside of them goes last: a GatewayClass waits for its Gateways.
fn group(applied: &BTreeSet<Key>) -> Vec<(String, Vec<String>)> {
    let mut groups: std::collections::BTreeMap<String, Vec<String>> =
        std::collections::BTreeMap::new();
    for key in applied
        .iter()
        .filter(|k| k.is_ours() || k.is_gateway_api() || k.namespace == SYSTEM)
    {
        groups
            .entry(key.namespace.clone())
            .or_default()
            .push(key.kubectl());
    }
    let outside = groups.remove("");
    let outside = outside.map(|keys| (String::new(), keys));
    groups.into_iter().chain(outside).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_gateway_is_where_its_status_says_on_the_port_of_its_listener() {
        let mut gateway = json!({
            "spec": {"listeners": [{"name": "http", "port": 80}, {"name": "https", "port": 443}]},
        });
        assert!(address_of(&gateway, None).is_err());
        gateway["status"] = json!({"addresses": [{"type": "IPAddress", "value": "10.99.0.7"}]});
        let at = |listener| address_of(&gateway, listener).unwrap().to_string();
        assert_eq!(at(None), "10.99.0.7:80");
        assert_eq!(at(Some("https")), "10.99.0.7:443");
        assert!(address_of(&gateway, Some("tls")).is_err());
    }
}
