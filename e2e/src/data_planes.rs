//! A GatewayConfig with data planes of its own: what is made for it, what these are sent, and how it goes back to sharing.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::client;
use crate::cluster::Cluster;
use crate::gateway::{Gateway, eventually};
use crate::objects::{Key, Object};

const NAMESPACE: &str = "own-planes";
/// Name and host of what has data planes of its own, and of what shares them.
const OWN: (&str, &str) = ("own", "own.planes.example.com");
const SHARED: (&str, &str) = ("shared", "shared.planes.example.com");
const SELECTOR: &str = "--selector=diolkos.io/gateway-config-name=own";
/// Kinds of what is made.
const MADE: &str = "deployments,services,serviceaccounts,secrets,poddisruptionbudgets";
/// Admin port of data planes that the controller makes.
const ADMIN: u16 = 19090;

/// It is reached by its own Service; neither its data planes nor the shared ones know what the others serve. They are as
/// many and as it says, go when it does not ask for them any more, whereupon the shared ones serve it, and go with it.
pub fn of_its_own(cluster: &mut Cluster) -> Result<()> {
    let asked = |replicas: u8| json!({"replicas": replicas, "service": {"type": "ClusterIP"}});
    let own = config(OWN, Some(asked(1)))?;
    cluster.apply(&[
        config(SHARED, None)?,
        own.clone(),
        route(OWN)?,
        route(SHARED)?,
    ])?;
    let address = serves_by_itself(cluster, &own.key)?;
    let shared = cluster.address()?;
    answers(shared, SHARED.1, 200)?;
    answers(address, SHARED.1, 404)?;
    answers(shared, OWN.1, 404)?;
    for (pod, known) in routes_known(cluster)? {
        ensure!(known == ["own-planes/own"], "{pod} knows {known:?}");
    }
    let made = made(cluster)?;
    ensure!(made == ["GatewayConfig/own"; 5], "objects of {made:?}");

    let mut more = asked(2);
    more["podTemplate"] = json!({
        "metadata": {"labels": {"team": "edge"}},
        "spec": {"tolerations": [{"key": "edge", "operator": "Exists"}]},
    });
    cluster.apply(&[config(OWN, Some(more))?])?;
    eventually(|| {
        let ready =
            "--output=jsonpath={.spec.replicas} {.status.readyReplicas} {.status.updatedReplicas}";
        let name = "deployment/own-diolkos-config";
        let found = cluster.kubectl(&["get", "--namespace", NAMESPACE, name, ready], "")?;
        ensure!(
            found == "2 2 2",
            "replicas, wanted, ready and updated: {found}"
        );
        let tolerated = "--output=jsonpath={.items[*].spec.tolerations[?(@.key=='edge')].key}";
        let labelled = format!("{SELECTOR},team=edge");
        let get = [
            "get",
            "pods",
            "--namespace",
            NAMESPACE,
            &labelled,
            tolerated,
        ];
        let found = cluster.kubectl(&get, "")?;
        ensure!(found == "edge edge", "tolerations of the Pods: {found}");
        Ok(())
    })?;

    cluster.apply(&[config(OWN, None)?])?;
    answers(shared, OWN.1, 200)?;
    is_gone(cluster)?;
    eventually(|| {
        let status = status(cluster, &own.key)?;
        ensure!(status["addresses"].is_null(), "{status}");
        Ok(())
    })?;

    cluster.apply(std::slice::from_ref(&own))?;
    serves_by_itself(cluster, &own.key)?;
    cluster.delete(&[own.key])?;
    is_gone(cluster)
}

/// Where the Service of its own is, once that answers and the status says so.
fn serves_by_itself(cluster: &mut Cluster, config: &Key) -> Result<SocketAddr> {
    let address = eventually(|| {
        let status = status(cluster, config)?;
        let conditions = status["conditions"].as_array().into_iter().flatten();
        let mut programmed = conditions.filter(|c| c["type"] == "Programmed");
        let programmed = programmed.next().context("no condition Programmed")?;
        ensure!(programmed["status"] == "True", "{programmed}");
        cluster.address_of(config, None)
    })?;
    answers(address, OWN.1, 200)?;
    Ok(address)
}

fn answers(address: SocketAddr, host: &str, status: u16) -> Result<()> {
    eventually(|| {
        let answer = client::get(address, host, "/")?;
        ensure!(
            answer.status == status,
            "{host} is answered {} at {address}",
            answer.status
        );
        Ok(())
    })
}

fn status(cluster: &Cluster, key: &Key) -> Result<Value> {
    let status = cluster.status(key)?;
    status.with_context(|| format!("{key} has no status of this generation"))
}

/// The Routes that each of its data planes has, by the address of the Pod.
fn routes_known(cluster: &Cluster) -> Result<Vec<(IpAddr, Vec<String>)>> {
    let ips = "--output=jsonpath={.items[*].status.podIP}";
    let pods = cluster.kubectl(
        &["get", "pods", "--namespace", NAMESPACE, SELECTOR, ips],
        "",
    )?;
    ensure!(!pods.is_empty(), "there are no Pods");
    let ask = |ip: &str| -> Result<(IpAddr, Vec<String>)> {
        let ip: IpAddr = ip.parse()?;
        let answer = client::get(SocketAddr::new(ip, ADMIN), "localhost", "/api/v1/routes")?;
        let answer: Value = serde_json::from_slice(&answer.body)?;
        let all = answer["items"].as_array().context("no list of Routes")?;
        let names = all.iter().filter_map(|one| one["route"].as_str());
        Ok((ip, names.map(str::to_owned).collect()))
    };
    pods.split_whitespace().map(ask).collect()
}

/// The owner of each object that there is for it.
fn made(cluster: &Cluster) -> Result<Vec<String>> {
    let get = [
        "get",
        "--namespace",
        NAMESPACE,
        MADE,
        SELECTOR,
        "--output=json",
    ];
    let all: Value = serde_json::from_str(&cluster.kubectl(&get, "")?)?;
    let owners = all["items"].as_array().into_iter().flatten().map(|object| {
        let owner = &object["metadata"]["ownerReferences"][0];
        let text = |field: &str| owner[field].as_str().unwrap_or_default();
        format!("{}/{}", text("kind"), text("name"))
    });
    Ok(owners.collect())
}

fn is_gone(cluster: &Cluster) -> Result<()> {
    eventually(|| {
        let left = made(cluster)?;
        ensure!(left.is_empty(), "{} objects are left", left.len());
        Ok(())
    })
}

fn config((name, host): (&str, &str), data_plane: Option<Value>) -> Result<Object> {
    let listener = json!({"name": "http", "port": 8080, "protocol": "HTTP", "hostname": host});
    let mut spec = json!({"listeners": [listener]});
    if let Some(asked) = data_plane {
        spec["dataPlane"] = asked;
    }
    Object::from_value(json!({
        "apiVersion": "diolkos.io/v1alpha1", "kind": "GatewayConfig",
        "metadata": {"name": name, "namespace": NAMESPACE}, "spec": spec,
    }))
}

fn route((name, host): (&str, &str)) -> Result<Object> {
    Object::from_value(json!({
        "apiVersion": "diolkos.io/v1alpha1", "kind": "Route",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "parentRefs": [{"kind": "GatewayConfig", "name": name}],
            "hostnames": [host],
            "rules": [{"directResponse": {"status": 200, "body": name}}],
        },
    }))
}
