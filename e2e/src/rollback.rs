//! A former configuration is held by all replicas of the controller, also by those that start meanwhile (D7).

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::client::{self, Connection, Request};
use crate::cluster::Cluster;
use crate::gateway::{Gateway, eventually};
use crate::objects::Object;

const NAMESPACE: &str = "rollback";
const HOST: &str = "rollback.example.com";
const SYSTEM: &str = "diolkos-system";
const CONTROLLER: &str = "deployment/diolkos-controller";

/// An edit is taken back, stays so while controllers are replaced and the object is edited further, and the last edit is
/// in effect once the rollback ends.
pub fn rollback(cluster: &mut Cluster) -> Result<()> {
    let result = play(cluster);
    // Whatever came of it, nobody else's objects are to be held.
    let map = [
        "delete",
        "--namespace",
        SYSTEM,
        "--ignore-not-found",
        "configmap/diolkos-rollback",
    ];
    cluster.kubectl(&map, "")?;
    result
}

fn play(cluster: &mut Cluster) -> Result<()> {
    let (key, config) = (route("one")?.key, config()?);
    cluster.apply(&[config.clone(), route("one")?])?;
    answers(cluster, "one")?;
    let first = revision(cluster)?;
    cluster.apply(&[route("two")?])?;
    answers(cluster, "two")?;
    eventually(|| {
        let status = cluster.status(&config.key)?;
        let status = status.context("the GatewayConfig has no status")?;
        let (said, now) = (&status["revision"], revision(cluster)?);
        ensure!(
            *said == now && now != first,
            "the status says {said}, data planes {now}"
        );
        Ok(())
    })?;

    let port = cluster.forward(SYSTEM, CONTROLLER, 9090)?;
    let held = ask(port.address, "PUT", "/api/v1/rollback", &first)?;
    ensure!(
        held["objects"]
            .as_array()
            .is_some_and(|all| all.contains(&json!("Route/rollback/edited"))),
        "held are {held}"
    );
    answers(cluster, "one")?;
    let says = |cluster: &Cluster, reason: &str| {
        eventually(|| {
            let status = cluster
                .status(&key)?
                .context("no status of this generation")?;
            let conditions = status["conditions"].as_array();
            let mut conditions = conditions.into_iter().flatten();
            let ready = conditions
                .find(|c| c["type"] == "Ready")
                .context("no Ready")?;
            ensure!(ready["reason"] == reason, "{ready}");
            Ok(())
        })
    };
    says(cluster, "RolledBack")?;
    cluster.apply(&[route("three")?])?;
    says(cluster, "RolledBack")?;

    drop(port);
    cluster.kubectl(
        &["rollout", "restart", "--namespace", SYSTEM, CONTROLLER],
        "",
    )?;
    let wait = [
        "rollout",
        "status",
        "--namespace",
        SYSTEM,
        CONTROLLER,
        "--timeout=90s",
    ];
    cluster.kubectl(&wait, "")?;
    answers(cluster, "one")?;
    let port = cluster.forward(SYSTEM, CONTROLLER, 9090)?;
    let shown = ask(port.address, "GET", "/api/v1/revisions", "")?;
    ensure!(
        shown["rolledBack"]["revision"] == first,
        "a new controller says {}",
        shown["rolledBack"]
    );
    answers(cluster, "one")?;

    ask(port.address, "DELETE", "/api/v1/rollback", "")?;
    answers(cluster, "three")?;
    says(cluster, "Ready")
}

/// The one that is implied where there is none.
fn config() -> Result<Object> {
    Object::from_value(json!({
        "apiVersion": "diolkos.io/v1alpha1",
        "kind": "GatewayConfig",
        "metadata": {"name": "default", "namespace": SYSTEM},
        "spec": {"default": true},
    }))
}

fn route(body: &str) -> Result<Object> {
    Object::from_value(json!({
        "apiVersion": "diolkos.io/v1alpha1",
        "kind": "Route",
        "metadata": {"name": "edited", "namespace": NAMESPACE},
        "spec": {"hostnames": [HOST], "rules": [{"directResponse": {"status": 200, "body": body}}]},
    }))
}

/// Waits until every data plane says it.
fn answers(cluster: &mut Cluster, body: &str) -> Result<()> {
    let each = eventually(|| cluster.each_address())?;
    each.into_iter().try_for_each(|address| {
        eventually(|| {
            let answer = client::get(address, HOST, "/")?;
            let said = String::from_utf8_lossy(&answer.body).into_owned();
            ensure!(
                said == body,
                "{address} says {} {said:?} and not {body:?}",
                answer.status
            );
            Ok(())
        })
    })
}

/// The one that all data planes show.
fn revision(cluster: &Cluster) -> Result<String> {
    eventually(|| {
        let shown = cluster.revisions()?;
        let (first, others) = shown.split_first().context("no data plane")?;
        ensure!(others.iter().all(|r| r == first), "revisions {shown:?}");
        Ok(first.clone())
    })
}

fn ask(address: SocketAddr, method: &str, target: &str, body: &str) -> Result<Value> {
    let request = Request {
        method: method.to_owned(),
        host: "admin".to_owned(),
        target: target.to_owned(),
        body: body.as_bytes().to_vec(),
        ..Request::default()
    };
    let answer = Connection::open(address)?.send(&request)?;
    let text = String::from_utf8_lossy(&answer.body);
    ensure!(
        answer.status == 200,
        "{method} {target}: {} {text}",
        answer.status
    );
    Ok(serde_json::from_str(&text)?)
}
