//! What cases cannot say of Ingresses: HTTPS by their own certificates, and the address in their status.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::client;
use crate::cluster::Cluster;
use crate::gateway::{Gateway, eventually};
use crate::objects::{Key, Object};
use crate::secrets::{Pair, Running, get_https};

fn ingress(name: &str, hosts: &[&str], annotations: Value, tls: Value) -> Value {
    let path = json!({
        "path": "/", "pathType": "Prefix",
        "backend": {"service": {"name": "none", "port": {"number": 80}}},
    });
    let rules = hosts.iter();
    let rules = rules.map(|host| json!({"host": host, "http": {"paths": [path.clone()]}}));
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
        "metadata": {"name": name, "annotations": annotations},
        "spec": {
            "ingressClassName": "diolkos", "tls": tls,
            "rules": rules.collect::<Vec<_>>(),
        },
    })
}

/// Without a GatewayConfig there is a listener for HTTPS as soon as an Ingress brings a certificate; each host has that of
/// its Ingress, one that is missing hurts nobody else, and plain HTTP is sent on to HTTPS unless an annotation says
/// otherwise.
pub fn tls() -> Result<()> {
    const ONE: &str = "one.example.com";
    let (one, other, next) = (
        Pair::new(ONE)?,
        Pair::new("*.example.org")?,
        Pair::new(ONE)?,
    );
    let nothing = json!({});
    let running = Running::start(&[
        (
            "one.yaml",
            ingress(
                "one",
                &[ONE, "absent.example.com"],
                nothing,
                json!([
                    {"hosts": [ONE], "secretName": "one"},
                    {"hosts": ["absent.example.com"], "secretName": "absent"},
                ]),
            ),
        ),
        (
            "other.yaml",
            ingress(
                "other",
                &["a.example.org"],
                json!({"nginx.ingress.kubernetes.io/ssl-redirect": "false"}),
                json!([{"hosts": ["a.example.org"], "secretName": "other"}]),
            ),
        ),
        ("one-secret.yaml", one.secret("one")),
        ("other-secret.yaml", other.secret("other")),
    ])?;
    let https = running.listening("diolkos-system/default/https")?;
    let http = running.listening("diolkos-system/default/http")?;
    let serves = |host: &str, pair: &Pair| {
        eventually(|| {
            let answer = get_https(https, host, "/", &[pair])?;
            // The Service is not there: what matters is that the request got so far.
            ensure!(answer.contains("invalid_backend"), "{answer}");
            Ok(())
        })
        .with_context(|| host.to_owned())
    };
    serves(ONE, &one)?;
    serves("a.example.org", &other)?;
    let unknown = get_https(https, "absent.example.com", "/", &[&one, &other]);
    ensure!(unknown.is_err(), "a host without a certificate was served");

    let redirected = client::get(http, ONE, "/a?b=c")?;
    let location = redirected.headers.get("location").map(str::to_owned);
    ensure!(
        redirected.status == 308 && location.as_deref() == Some("https://one.example.com/a?b=c"),
        "{} {location:?}",
        redirected.status
    );
    let plain = client::get(http, "a.example.org", "/")?;
    ensure!(plain.status == 500, "{}", plain.status);

    // Renewed.
    running.apply("one-secret.yaml", &next.secret("one"))?;
    serves(ONE, &next)?;
    serves("a.example.org", &other)
}

const NAMESPACE: &str = "ingress-status";

/// The status of an Ingress has the address of the data planes; it is written once, and goes when the Ingress becomes
/// another controller's, whose own status stays as it is.
pub fn status(cluster: &mut Cluster) -> Result<()> {
    let ingress = |name: &str, class: &str| {
        let mut object = ingress(
            name,
            &[&format!("{name}.ingress-status.example.com")],
            json!({}),
            json!([]),
        );
        object["metadata"]["namespace"] = NAMESPACE.into();
        object["spec"]["ingressClassName"] = class.into();
        Object::from_value(object)
    };
    let (ours, theirs) = (ingress("ours", "diolkos")?, ingress("theirs", "other")?);
    cluster.apply(&[ours.clone(), theirs.clone()])?;
    let of_service = json!(addresses(&service(cluster)?));
    ensure!(of_service != json!([]), "the Service has no address");
    eventually(|| {
        let found = json!(addresses(&object(cluster, &ours.key)?));
        ensure!(found == of_service, "{found} instead of {of_service}");
        Ok(())
    })?;
    let written = version(&object(cluster, &ours.key)?);

    // Another controller writes, and is left alone.
    let patch = json!({"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}}).to_string();
    let name = theirs.key.kubectl();
    let arguments = [
        "patch",
        "--namespace",
        NAMESPACE,
        &name,
        "--subresource=status",
        "--type=merge",
        "--patch",
        &patch,
    ];
    cluster.kubectl(&arguments, "")?;
    cluster.apply(&[ingress("ours", "other")?])?;
    eventually(|| {
        let found = addresses(&object(cluster, &ours.key)?);
        ensure!(found.is_empty(), "{found:?}");
        Ok(())
    })?;
    let found = addresses(&object(cluster, &theirs.key)?);
    ensure!(found == ["192.0.2.1"], "{found:?}");

    cluster.apply(&[ingress("ours", "diolkos")?])?;
    eventually(|| {
        let now = object(cluster, &ours.key)?;
        let found = json!(addresses(&now));
        ensure!(found == of_service, "{found} instead of {of_service}");
        ensure!(version(&now) != written, "nothing was written");
        Ok(())
    })
}

fn object(cluster: &Cluster, key: &Key) -> Result<Value> {
    let (name, namespace) = (key.kubectl(), key.namespace.as_str());
    let arguments = ["get", "--namespace", namespace, &name, "--output", "json"];
    Ok(serde_json::from_str(&cluster.kubectl(&arguments, "")?)?)
}

fn service(cluster: &Cluster) -> Result<Value> {
    let key = Key::parse("Service/diolkos-system/diolkos-dataplane")?;
    object(cluster, &key)
}

fn version(object: &Value) -> String {
    object["metadata"]["resourceVersion"].to_string()
}

/// Addresses and names in a status with a balancer.
fn addresses(object: &Value) -> Vec<String> {
    let entries = object["status"]["loadBalancer"]["ingress"].as_array();
    let entries = entries.into_iter().flatten();
    let text = |entry: &Value| {
        let value = entry["ip"].as_str().or_else(|| entry["hostname"].as_str());
        value.map(str::to_owned)
    };
    entries.filter_map(text).collect()
}
