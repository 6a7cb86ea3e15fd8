//! What must not cost a single request: edits, scaling, the death of the controller, the restart of a data plane.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::json;

use crate::backend::Backend;
use crate::case::{BackendSpec, BackendState};
use crate::client;
use crate::cluster::{Cluster, DATA_PLANES, SYSTEM};
use crate::gateway::{Gateway, eventually};
use crate::load::Load;
use crate::objects::Object;

/// How often a Route is edited under load.
const EDITS: usize = 100;
/// Requests that must have passed between two disturbances, so that each of them happens under load.
const BETWEEN: usize = 100;

/// A Route edited a hundred times; each edit is seen before the next, no request fails.
pub fn edit_under_load(gateway: &mut dyn Gateway) -> Result<()> {
    const NAMESPACE: &str = "edit-under-load";
    let spec = BackendSpec {
        name: "web".into(),
        namespace: None,
        replicas: 2,
        port: 80,
        state: BackendState::Up,
    };
    let backend = Backend::start(&spec, NAMESPACE, gateway.backend_host())?;
    gateway.apply(&backend.objects()?)?;
    let revision = |n: usize| {
        Object::from_value(json!({
            "apiVersion": "diolkos.io/v1alpha1",
            "kind": "Route",
            "metadata": {"name": "edited", "namespace": NAMESPACE},
            "spec": {
                "hostnames": ["edited.example.com"],
                "rules": [{
                    "backends": [{"name": "web", "port": 80}],
                    "responseHeaders": {"set": [{"name": "x-edit", "value": n.to_string()}]},
                }],
            },
        }))
    };
    gateway.apply(&[revision(0)?])?;
    let address = gateway.address()?;
    let shows = |n: usize| {
        eventually(|| {
            let answer = client::get(address, "edited.example.com", "/")?;
            let seen = answer.headers.get("x-edit");
            ensure!(
                seen == Some(n.to_string().as_str()),
                "edit {n}: status {}, x-edit {seen:?}",
                answer.status
            );
            Ok(())
        })
    };
    shows(0)?;
    let load = Load::start(address, "edited.example.com", "/");
    for n in 1..=EDITS {
        gateway.apply(&[revision(n)?])?;
        shows(n)?;
    }
    load.finish().map(drop)
}

/// A Deployment goes from one Pod to five and down to two, no request fails.
pub fn scale_under_load(cluster: &mut Cluster) -> Result<()> {
    const NAMESPACE: &str = "scale-under-load";
    cluster.apply(&app(NAMESPACE, "scaled.example.com")?)?;
    let scale = |cluster: &Cluster, replicas: usize| -> Result<()> {
        cluster.kubectl(
            &[
                "scale",
                "--namespace",
                NAMESPACE,
                "deployment/app",
                &format!("--replicas={replicas}"),
            ],
            "",
        )?;
        cluster.kubectl(
            &[
                "rollout",
                "status",
                "--namespace",
                NAMESPACE,
                "deployment/app",
                "--timeout=120s",
            ],
            "",
        )?;
        Ok(())
    };
    scale(cluster, 1)?;
    let address = cluster.address()?;
    all_answer(cluster, "scaled.example.com")?;
    let load = Load::start(address, "scaled.example.com", "/");
    load.pass(BETWEEN)?;
    scale(cluster, 5)?;
    load.pass(BETWEEN)?;
    scale(cluster, 2)?;
    // Until the removed Pods are gone for good.
    eventually(|| {
        let pods = cluster.kubectl(
            &["get", "pods", "--namespace", NAMESPACE, "--output", "name"],
            "",
        )?;
        ensure!(
            pods.lines().count() == 2,
            "{} Pods are left",
            pods.lines().count()
        );
        Ok(())
    })?;
    load.pass(BETWEEN)?;
    load.finish().map(drop)
}

/// Every controller Pod is killed at once; no request fails, the next change still arrives, and of a Route that cannot be used
/// any more the version before it serves on, which none that starts has seen.
pub fn controller_killed_under_load(cluster: &mut Cluster) -> Result<()> {
    const NAMESPACE: &str = "controller-killed";
    cluster.apply(&app(NAMESPACE, "killed.example.com")?)?;
    let older = |expression: &str| {
        Object::from_value(json!({
            "apiVersion": "diolkos.io/v1alpha1",
            "kind": "Route",
            "metadata": {"name": "older", "namespace": NAMESPACE},
            "spec": {"hostnames": ["older.example.com"], "rules": [{
                "matches": [{"path": {"type": "RegularExpression", "value": expression}}],
                "directResponse": {"status": 200},
            }]},
        }))
    };
    cluster.apply(&[older("/")?])?;
    let address = cluster.address()?;
    all_answer(cluster, "killed.example.com")?;
    all_answer(cluster, "older.example.com")?;
    cluster.apply(&[older("/(")?])?;
    eventually(|| {
        let kept = "--output=jsonpath={.data.manifests\\.json}";
        let secret = [
            "get",
            "--namespace",
            SYSTEM,
            "secret/diolkos-stand-ins",
            kept,
        ];
        let kept = BASE64_STANDARD.decode(cluster.kubectl(&secret, "")?)?;
        let kept = String::from_utf8_lossy(&kept);
        ensure!(kept.contains("older.example.com"), "kept is {kept}");
        Ok(())
    })?;
    let load = Load::start(address, "killed.example.com", "/");
    load.pass(BETWEEN)?;
    cluster.kubectl(
        &[
            "delete",
            "pods",
            "--namespace",
            SYSTEM,
            "--selector",
            "app.kubernetes.io/component=controller",
            "--grace-period=0",
            "--force",
        ],
        "",
    )?;
    cluster.kubectl(
        &[
            "rollout",
            "status",
            "--namespace",
            SYSTEM,
            "deployment/diolkos-controller",
            "--timeout=120s",
        ],
        "",
    )?;
    cluster.apply(&[direct_route(NAMESPACE, "after.example.com")?])?;
    all_answer(cluster, "after.example.com")?;
    for address in cluster.each_address()? {
        let status = client::get(address, "older.example.com", "/")?.status;
        ensure!(
            status == 200,
            "{address} answers {status} for the Route that was good"
        );
    }
    load.pass(BETWEEN)?;
    load.finish().map(drop)
}

/// The leader is killed, and the one after it; meanwhile Routes are edited. No request fails, every edit arrives, and its
/// status tells so in time.
pub fn leader_killed_under_load(cluster: &mut Cluster) -> Result<()> {
    const NAMESPACE: &str = "leader-killed";
    const HOST: &str = "leaderless.example.com";
    /// From the death of the leader, or from an edit after it. `make chaos` asks for 5 s, of a machine that does nothing
    /// else; most of it is the Lease's time to lapse.
    const TRUTH: Duration = Duration::from_secs(10);
    cluster.apply(&app(NAMESPACE, "untouched.example.com")?)?;
    let revision = |n: usize| {
        Object::from_value(json!({
            "apiVersion": "diolkos.io/v1alpha1",
            "kind": "Route",
            "metadata": {"name": "edited", "namespace": NAMESPACE},
            "spec": {
                "hostnames": [HOST],
                "rules": [{"directResponse": {"status": 200, "body": n.to_string()}}],
            },
        }))
    };
    let address = cluster.address()?;
    all_answer(cluster, "untouched.example.com")?;
    let load = Load::start(address, "untouched.example.com", "/");
    for round in 0..2 {
        // Both are there and follow: the one that was killed before has come back.
        replicas_are_ready(cluster)?;
        load.pass(BETWEEN)?;
        kill(process_of(
            "diolkos-controller",
            &format!("--identity={}", leader(cluster)?),
        )?)?;
        let mut since = Instant::now();
        for edit in 0..3 {
            let route = revision(round * 3 + edit)?;
            if edit > 0 {
                since = Instant::now();
            }
            cluster.apply(std::slice::from_ref(&route))?;
            loop {
                let ready = cluster.status(&route.key)?.is_some_and(|status| {
                    let mut all = status["conditions"].as_array().into_iter().flatten();
                    all.any(|c| c["type"] == "Ready" && c["status"] == "True")
                });
                if ready {
                    break;
                }
                ensure!(
                    since.elapsed() < TRUTH,
                    "round {round}, edit {edit}: no true status after {:?}",
                    since.elapsed()
                );
            }
            println!(
                "round {round}, edit {edit}: true after {:?}",
                since.elapsed()
            );
            // What the status says is so, of those too that are looking for another controller.
            let wanted = (round * 3 + edit).to_string();
            for address in cluster.each_address()? {
                let answer = client::get(address, HOST, "/")?;
                let served = String::from_utf8_lossy(&answer.body).into_owned();
                ensure!(
                    served == wanted,
                    "round {round}, edit {edit}: {address} serves {served:?}"
                );
            }
        }
        load.pass(BETWEEN)?;
    }
    load.finish().map(drop)
}

/// The Pod of the controller that leads.
fn leader(cluster: &Cluster) -> Result<String> {
    let holder = "--output=jsonpath={.spec.holderIdentity}";
    let lease = ["get", "--namespace", SYSTEM, "lease/diolkos-leader", holder];
    let holder = cluster.kubectl(&lease, "")?;
    let (pod, _) = holder.rsplit_once('_').context("nobody leads")?;
    Ok(pod.to_owned())
}

fn replicas_are_ready(cluster: &Cluster) -> Result<()> {
    let ready = "--output=jsonpath={.spec.replicas} {.status.readyReplicas}";
    let deployment = [
        "get",
        "--namespace",
        SYSTEM,
        "deployment/diolkos-controller",
        ready,
    ];
    eventually(|| {
        let counts = cluster.kubectl(&deployment, "")?;
        let (wanted, ready) = counts.split_once(' ').unwrap_or_default();
        ensure!(
            wanted == "2" && ready == wanted,
            "ready controllers: {counts}"
        );
        leader(cluster).map(drop)
    })
}

/// With no controller at all, a data plane that is killed comes back with its last good configuration.
pub fn data_plane_restarts_alone(cluster: &mut Cluster) -> Result<()> {
    const NAMESPACE: &str = "restarts-alone";
    cluster.apply(&[direct_route(NAMESPACE, "alone.example.com")?])?;
    let pods = ["get", "pods", "--namespace", SYSTEM, "--selector"];
    let first = "--output=jsonpath={.items[0].metadata.name} {.items[0].status.podIP}";
    let line = cluster.kubectl(&[&pods[..], &[DATA_PLANES, first]].concat(), "")?;
    let (pod, ip) = line.split_once(' ').context("no data plane Pod")?;
    let address = SocketAddr::new(ip.parse()?, 8080);
    // This very data plane must have heard of the Route while there was a controller.
    answers(address, "alone.example.com").context("before the restart")?;
    let deployment = "deployment/diolkos-controller";
    let count = "--output=jsonpath={.spec.replicas}";
    let replicas = cluster.kubectl(&["get", "--namespace", SYSTEM, deployment, count], "")?;
    let scale = |cluster: &Cluster, count: &str| {
        let count = format!("--replicas={count}");
        cluster.kubectl(&["scale", "--namespace", SYSTEM, deployment, &count], "")
    };
    scale(cluster, "0")?;
    let outcome = restart_without_controller(cluster, pod, address);
    scale(cluster, replicas.trim())?;
    let wait = [
        "rollout",
        "status",
        "--namespace",
        SYSTEM,
        deployment,
        "--timeout=120s",
    ];
    cluster.kubectl(&wait, "")?;
    outcome
}

fn restart_without_controller(cluster: &Cluster, pod: &str, address: SocketAddr) -> Result<()> {
    eventually(|| {
        let selector = "app.kubernetes.io/component=controller";
        let list = [
            "get",
            "pods",
            "--namespace",
            SYSTEM,
            "--selector",
            selector,
            "--output=name",
        ];
        let pods = cluster.kubectl(&list, "")?;
        ensure!(
            pods.trim().is_empty(),
            "controllers are still there: {pods}"
        );
        Ok(())
    })?;
    let restarts = |cluster: &Cluster| {
        cluster.kubectl(
            &[
                "get",
                "pod",
                "--namespace",
                SYSTEM,
                pod,
                "--output",
                "jsonpath={.status.containerStatuses[0].restartCount}",
            ],
            "",
        )
    };
    let before = restarts(cluster)?;
    kill(process_of(
        "diolkos-dataplane",
        &format!("--node-id={pod}"),
    )?)?;
    eventually(|| {
        ensure!(
            restarts(cluster)? != before,
            "the kubelet has not restarted the container"
        );
        Ok(())
    })?;
    answers(address, "alone.example.com").context("after the restart")
}

/// A process of the rig, found by its program and an argument, such as one with the Pod's name.
fn process_of(program: &str, argument: &str) -> Result<u32> {
    let program = format!("/{program}");
    for entry in fs::read_dir("/proc")? {
        let path: PathBuf = entry?.path();
        let Some(pid) = path
            .file_name()
            .and_then(|n| n.to_str())
            .and_then(|n| n.parse().ok())
        else {
            continue;
        };
        // A process may end while its directory is read.
        let Ok(line) = fs::read(path.join("cmdline")) else {
            continue;
        };
        let mut args = line.split(|b| *b == 0);
        if args
            .next()
            .is_some_and(|exe| exe.ends_with(program.as_bytes()))
            && args.any(|a| a == argument.as_bytes())
        {
            return Ok(pid);
        }
    }
    anyhow::bail!("no process with {argument}")
}

fn kill(pid: u32) -> Result<()> {
    let status = std::process::Command::new("kill")
        .args(["-KILL", &pid.to_string()])
        .status()?;
    ensure!(status.success(), "kill {pid} failed");
    Ok(())
}

/// Wait until a host is served.
fn answers(address: SocketAddr, host: &str) -> Result<()> {
    eventually(|| {
        let answer = client::get(address, host, "/")?;
        ensure!(answer.status == 200, "{host}: status {}", answer.status);
        Ok(())
    })
}

/// Every data plane does: load goes to all of them, and one may still be looking for a controller after the test before.
fn all_answer(cluster: &mut Cluster, host: &str) -> Result<()> {
    for address in cluster.each_address()? {
        answers(address, host)?;
    }
    Ok(())
}

fn direct_route(namespace: &str, host: &str) -> Result<Object> {
    Object::from_value(json!({
        "apiVersion": "diolkos.io/v1alpha1",
        "kind": "Route",
        "metadata": {"name": host.split('.').next(), "namespace": namespace},
        "spec": {"hostnames": [host], "rules": [{"directResponse": {"status": 200, "body": "ok"}}]},
    }))
}

/// An echo Deployment with one Pod, its Service and a Route.
fn app(namespace: &str, host: &str) -> Result<Vec<Object>> {
    let labels = json!({"app": "app"});
    let metadata = json!({"name": "app", "namespace": namespace});
    Ok(vec![
        Object::from_value(json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": metadata,
            "spec": {
                "replicas": 1,
                "selector": {"matchLabels": labels},
                "template": {
                    "metadata": {"labels": labels},
                    "spec": {
                        "automountServiceAccountToken": false,
                        "terminationGracePeriodSeconds": 10,
                        "containers": [{
                            "name": "echo",
                            "image": "ghcr.io/diolkos/echo-backend:dev",
                            "args": ["--name", "app", "--listen", "0.0.0.0:8080"],
                            "readinessProbe": {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1},
                            // Out of the endpoints first, then gone: as long as a Service needs to hear of it.
                            "lifecycle": {"preStop": {"sleep": {"seconds": 3}}},
                        }],
                    },
                },
            },
        }))?,
        Object::from_value(json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata,
            "spec": {"selector": labels, "ports": [{"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}]},
        }))?,
        Object::from_value(json!({
            "apiVersion": "diolkos.io/v1alpha1",
            "kind": "Route",
            "metadata": metadata,
            "spec": {"hostnames": [host], "rules": [{"backends": [{"name": "app", "port": 80}]}]},
        }))?,
    ])
}
