//! When the operator takes data planes away, and when it must not.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::client;
use crate::cluster::Cluster;
use crate::gateway::{Gateway, eventually};
use crate::load::Load;
use crate::objects::{Key, Object};

const NAMESPACE: &str = "operator-removal";
const OURS: &str = "operator-removal";
/// Of the other test, while the first one's goes.
const DRIFT: &str = "operator-drift";
const OTHERS: &str = "operator-removal-of-another";
const HOST: &str = "operator.example.com";
const FINALIZER: &str = "gateway-exists-finalizer.gateway.networking.k8s.io";
/// Kinds of what is made for a Gateway.
const MADE: &str = "deployments,services,serviceaccounts,secrets,poddisruptionbudgets";
/// Requests that must have passed before and after a deletion.
const BETWEEN: usize = 100;

/// A class that is deleted under its Gateway stays, and so do the data planes, without a failed request; once the Gateway
/// is given to another controller, everything that was made for it goes, and the class with it.
pub fn a_class_outlives_its_gateways(cluster: &mut Cluster) -> Result<()> {
    let ours = class(OURS, "diolkos.io/controller")?;
    let others = class(OTHERS, "example.com/other")?;
    let (class, gateway) = (ours.key.clone(), gateway(NAMESPACE, OURS, 9090)?);
    cluster.apply(&[ours, others, gateway.clone(), route()?])?;
    let address = eventually(|| cluster.address_of(&gateway.key, None))?;
    eventually(|| {
        let answer = client::get(address, HOST, "/")?;
        ensure!(answer.status == 200, "status {}", answer.status);
        Ok(())
    })?;
    eventually(|| {
        let class = get(cluster, &class)?.context("the class is gone")?;
        let finalizers = class["metadata"]["finalizers"].as_array();
        let is_held = finalizers.is_some_and(|all| all.contains(&json!(FINALIZER)));
        ensure!(is_held, "the class has the finalizers {finalizers:?}");
        let conditions = class["status"]["conditions"].as_array();
        let is_supported = conditions
            .into_iter()
            .flatten()
            .any(|c| c["type"] == "SupportedVersion" && c["status"] == "True");
        ensure!(is_supported, "the class says {conditions:?}");
        Ok(())
    })?;
    let made = made(cluster, NAMESPACE)?;
    ensure!(made.len() >= 5, "made are {made:?}");

    let load = Load::start(address, HOST, "/");
    load.pass(BETWEEN)?;
    cluster.kubectl(&["delete", "--wait=false", &class.kubectl()], "")?;
    // The operator looks at everything again when a Gateway changes; this change is the sign that it has.
    cluster.apply(&[self::gateway(NAMESPACE, OURS, 8081)?])?;
    eventually(|| {
        let ports = "--output=jsonpath={.spec.ports[*].port}";
        let service = ["get", "--namespace", NAMESPACE, "service/gw-diolkos", ports];
        let ports = cluster.kubectl(&service, "")?;
        ensure!(ports.contains("8081"), "the Service has ports {ports}");
        Ok(())
    })?;
    load.pass(BETWEEN)?;
    let going = get(cluster, &class)?.context("the class went from under its Gateway")?;
    ensure!(!going["metadata"]["deletionTimestamp"].is_null());
    let left = self::made(cluster, NAMESPACE)?;
    ensure!(left == made, "of {made:?} there are {left:?} left");
    load.finish()?;

    cluster.apply(&[self::gateway(NAMESPACE, OTHERS, 8081)?])?;
    eventually(|| {
        let left = self::made(cluster, NAMESPACE)?;
        ensure!(left.is_empty(), "{left:?} are left");
        ensure!(get(cluster, &class)?.is_none(), "the class is still there");
        Ok(())
    })
}

/// What somebody deletes or changes of a Gateway's data planes is put right, without a change of the Gateway.
pub fn what_is_deleted_comes_back(cluster: &mut Cluster) -> Result<()> {
    let class = class(DRIFT, "diolkos.io/controller")?;
    let gateway = gateway(DRIFT, DRIFT, 9090)?;
    cluster.apply(&[class, gateway.clone()])?;
    eventually(|| cluster.address_of(&gateway.key, None))?;
    let made = made(cluster, DRIFT)?;
    ensure!(made.len() >= 5, "made are {made:?}");
    for one in &made {
        cluster.kubectl(&["delete", "--wait=false", "--namespace", DRIFT, one], "")?;
    }
    eventually(|| {
        let left = self::made(cluster, DRIFT)?;
        ensure!(left == made, "of {made:?} there are {left:?}");
        Ok(())
    })?;
    let replicas = |cluster: &Cluster| {
        let number = "--output=jsonpath={.spec.replicas}";
        let of = ["get", "--namespace", DRIFT, "deployment/gw-diolkos", number];
        cluster.kubectl(&of, "")
    };
    let wanted = replicas(cluster)?;
    let scale = [
        "scale",
        "--namespace",
        DRIFT,
        "deployment/gw-diolkos",
        "--replicas=0",
    ];
    cluster.kubectl(&scale, "")?;
    eventually(|| {
        let now = replicas(cluster)?;
        ensure!(now == wanted, "{now} data planes are asked for");
        Ok(())
    })
}

fn class(name: &str, controller: &str) -> Result<Object> {
    Object::from_value(json!({
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "GatewayClass",
        "metadata": {"name": name},
        "spec": {"controllerName": controller},
    }))
}

/// `another`: port of a second listener.
fn gateway(namespace: &str, class: &str, another: u16) -> Result<Object> {
    Object::from_value(json!({
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": {"name": "gw", "namespace": namespace},
        "spec": {
            "gatewayClassName": class,
            "listeners": [
                {"name": "http", "port": 8080, "protocol": "HTTP"},
                {"name": "another", "port": another, "protocol": "HTTP"},
            ],
        },
    }))
}

fn route() -> Result<Object> {
    Object::from_value(json!({
        "apiVersion": "diolkos.io/v1alpha1",
        "kind": "Route",
        "metadata": {"name": "ok", "namespace": NAMESPACE},
        "spec": {
            "parentRefs": [{"kind": "Gateway", "name": "gw"}],
            "hostnames": [HOST],
            "rules": [{"directResponse": {"status": 200, "body": "ok"}}],
        },
    }))
}

fn get(cluster: &Cluster, key: &Key) -> Result<Option<Value>> {
    let text = cluster.kubectl(
        &["get", "--ignore-not-found", &key.kubectl(), "--output=json"],
        "",
    )?;
    match text.trim() {
        "" => Ok(None),
        text => Ok(Some(serde_json::from_str(text)?)),
    }
}

/// Names, with their kinds, of what there is for the Gateway.
fn made(cluster: &Cluster, namespace: &str) -> Result<Vec<String>> {
    let selector = "--selector=gateway.networking.k8s.io/gateway-name=gw";
    let all = cluster.kubectl(
        &[
            "get",
            "--namespace",
            namespace,
            MADE,
            selector,
            "--output=name",
        ],
        "",
    )?;
    Ok(all.lines().map(str::to_owned).collect())
}
