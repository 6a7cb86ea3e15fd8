//! The backends of a case: echo processes, and the Services and EndpointSlices that lead to them.

use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::case::{BackendSpec, BackendState};
use crate::objects::Object;
use crate::process::{Process, program};

/// How long a backend may take to bind.
const START: Duration = Duration::from_secs(10);

/// A declared backend with its processes running.
pub struct Backend {
    spec: BackendSpec,
    namespace: String,
    addresses: Vec<SocketAddr>,
    _processes: Vec<Process>,
}

impl Backend {
    /// Start the replicas of a backend on an address that the gateway can reach.
    pub fn start(spec: &BackendSpec, namespace: &str, host: &str) -> Result<Self> {
        let mut addresses = Vec::new();
        let mut processes = Vec::new();
        for _ in 0..spec.replicas {
            match spec.state {
                BackendState::Up => {
                    let process = Process::start(Command::new(program("echo-backend")?).args([
                        "--name",
                        &spec.name,
                        "--listen",
                        &format!("{host}:0"),
                    ]))?;
                    let address = process
                        .stdout
                        .wait(START, |line| line.split_once("address=")?.1.parse().ok());
                    addresses.push(address.with_context(|| {
                        format!("backend {}: {}", spec.name, process.stderr.tail(5))
                    })?);
                    processes.push(process);
                }
                // A port that was free a moment ago: connections to it are refused.
                BackendState::Closed => addresses.push(TcpListener::bind((host, 0))?.local_addr()?),
                BackendState::Empty => {}
            }
        }
        Ok(Self {
            namespace: spec
                .namespace
                .clone()
                .unwrap_or_else(|| namespace.to_owned()),
            spec: spec.clone(),
            addresses,
            _processes: processes,
        })
    }

    /// The selectorless Service and an EndpointSlice for each replica.
    pub fn objects(&self) -> Result<Vec<Object>> {
        let mut objects = vec![Object::from_value(json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": self.metadata(&self.spec.name, json!({})),
            "spec": {"ports": [{"name": "http", "port": self.spec.port, "protocol": "TCP"}]},
        }))?];
        for (i, address) in self.addresses.iter().enumerate() {
            objects.push(Object::from_value(json!({
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": self.metadata(&format!("{}-{i}", self.spec.name), json!({
                    "kubernetes.io/service-name": self.spec.name,
                    "endpointslice.kubernetes.io/managed-by": "diolkos-e2e",
                })),
                "addressType": "IPv4",
                "ports": [{"name": "http", "port": address.port(), "protocol": "TCP"}],
                "endpoints": [{"addresses": [address.ip().to_string()], "conditions": {"ready": true}}],
            }))?);
        }
        Ok(objects)
    }

    /// What `${NAME.address}` and `${NAME.port}` in the case's manifests stand for.
    pub fn placeholders(&self) -> Vec<(String, String)> {
        let Some(first) = self.addresses.first() else {
            return Vec::new();
        };
        let name = &self.spec.name;
        vec![
            (format!("${{{name}.address}}"), first.ip().to_string()),
            (format!("${{{name}.port}}"), first.port().to_string()),
        ]
    }

    fn metadata(&self, name: &str, labels: Value) -> Value {
        json!({"name": name, "namespace": self.namespace, "labels": labels})
    }
}
