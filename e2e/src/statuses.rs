//! What the controller writes into the statuses of the Gateway API, beside what others write there.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::gateway::{Gateway, eventually};
use crate::objects::{Key, Object};

const NAMESPACE: &str = "gateway-api-statuses";
const OURS: &str = "diolkos.io/controller";

/// A class is accepted, a Gateway counts its Routes, and the entry of another controller in a Route's status stays as
/// it is while ours follows the Route and goes with its parent.
pub fn entries_of_others_stay(cluster: &mut Cluster) -> Result<()> {
    let class = Object::from_value(json!({
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "GatewayClass",
        "metadata": {"name": NAMESPACE},
        "spec": {"controllerName": OURS},
    }))?;
    let gateway = Object::from_value(json!({
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": {"name": "gw", "namespace": NAMESPACE},
        "spec": {
            "gatewayClassName": NAMESPACE,
            "listeners": [{"name": "http", "port": 8080, "protocol": "HTTP"}],
        },
    }))?;
    let route = |host: &str, parents: Value| {
        Object::from_value(json!({
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "HTTPRoute",
            "metadata": {"name": "route", "namespace": NAMESPACE},
            "spec": {"parentRefs": parents, "hostnames": [host]},
        }))
    };
    let at_gateway = json!([{"name": "gw"}]);
    let first = route("a.example.com", at_gateway.clone())?;
    let (class_key, gateway_key) = (class.key.clone(), gateway.key.clone());
    cluster.apply(&[class, gateway, first.clone()])?;

    eventually(|| {
        let status = present(cluster, &class_key)?;
        let features = status["supportedFeatures"].as_array();
        ensure!(
            is_true(&status, "Accepted") && features.is_some_and(|f| !f.is_empty()),
            "the class says {status}"
        );
        Ok(())
    })?;
    let attached = |cluster: &Cluster, routes: usize| {
        eventually(|| {
            let status = present(cluster, &gateway_key)?;
            ensure!(
                is_true(&status, "Accepted") && status["listeners"][0]["attachedRoutes"] == routes,
                "{routes} Routes are attached, the Gateway says {status}"
            );
            Ok(())
        })
    };
    attached(cluster, 1)?;
    eventually(|| entries(cluster, &first.key, 1).map(drop))?;

    let theirs = json!({
        "controllerName": "example.com/other",
        "parentRef": {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "elsewhere"},
        "conditions": [{
            "type": "Accepted", "status": "True", "reason": "Accepted", "message": "by another controller",
            "observedGeneration": 1, "lastTransitionTime": "2026-01-01T00:00:00Z",
        }],
    });
    let patch = json!([{"op": "add", "path": "/status/parents/0", "value": theirs}]).to_string();
    let name = first.key.kubectl();
    cluster.kubectl(
        &[
            "patch",
            "--namespace",
            NAMESPACE,
            &name,
            "--subresource=status",
            "--type=json",
            "--patch",
            &patch,
        ],
        "",
    )?;

    cluster.apply(&[route("b.example.com", at_gateway)?])?;
    eventually(|| {
        let (ours, others) = entries(cluster, &first.key, 1)?;
        ensure!(
            others == [theirs.clone()],
            "the other entry became {others:?}"
        );
        ensure!(is_true(&ours[0], "Accepted"), "ours is {}", ours[0]);
        Ok(())
    })?;
    cluster.apply(&[route("b.example.com", json!([{"name": "elsewhere"}]))?])?;
    attached(cluster, 0)?;
    eventually(|| {
        let (_, others) = entries(cluster, &first.key, 0)?;
        ensure!(
            others == [theirs.clone()],
            "the other entry became {others:?}"
        );
        Ok(())
    })
}

fn object(cluster: &Cluster, key: &Key) -> Result<Value> {
    let (name, namespace) = (key.kubectl(), key.namespace.as_str());
    let arguments = ["get", "--namespace", namespace, &name, "--output", "json"];
    Ok(serde_json::from_str(&cluster.kubectl(&arguments, "")?)?)
}

fn present(cluster: &Cluster, key: &Key) -> Result<Value> {
    Ok(object(cluster, key)?["status"].take())
}

/// The entries of ours, as many as are expected and of the present generation, and those of others.
fn entries(cluster: &Cluster, key: &Key, expected: usize) -> Result<(Vec<Value>, Vec<Value>)> {
    let object = object(cluster, key)?;
    let parents = object["status"]["parents"].as_array();
    let (ours, others): (Vec<Value>, Vec<Value>) = parents
        .into_iter()
        .flatten()
        .cloned()
        .partition(|entry| entry["controllerName"] == OURS);
    let generation = &object["metadata"]["generation"];
    let current = ours.iter().all(|entry| {
        let conditions = entry["conditions"].as_array().into_iter().flatten();
        conditions
            .into_iter()
            .all(|c| c["observedGeneration"] == *generation)
    });
    ensure!(
        ours.len() == expected && current,
        "{expected} entries of ours of generation {generation} expected, found {ours:?}"
    );
    Ok((ours, others))
}

fn is_true(of: &Value, type_: &str) -> bool {
    let mut conditions = of["conditions"].as_array().into_iter().flatten();
    conditions.any(|c| c["type"] == type_ && c["status"] == "True")
}
