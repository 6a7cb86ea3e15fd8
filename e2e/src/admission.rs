//! What the API server refuses beyond the schemas: by the policies of `deploy/admission`, and by the webhook.

use std::fs;
use std::path::PathBuf;

use anyhow::{Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::cluster::Cluster;
use crate::gateway::eventually;

const SYSTEM: &str = "diolkos-system";
const CONTROLLER: &str = "deployment/diolkos-controller";

fn manifest(name: &str) -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    here.join("../deploy/admission").join(name)
}

/// What the API server says of an object that is not stored.
fn tried(cluster: &Cluster, user: Option<&str>, object: &str) -> Result<(), String> {
    let mut args = vec![
        "apply",
        "--server-side",
        "--dry-run=server",
        "--force-conflicts",
        "-f",
        "-",
    ];
    let by = user.map(|user| format!("--as={user}"));
    args.extend(by.as_deref());
    cluster
        .kubectl(&args, object)
        .map(drop)
        .map_err(|e| e.to_string())
}

/// Waits for a refusal with these words: policies and webhooks take a moment to be in force.
fn refused(cluster: &Cluster, user: Option<&str>, object: &str, words: &[&str]) -> Result<()> {
    eventually(|| match tried(cluster, user, object) {
        Ok(()) => bail!("accepted, and not refused with {words:?}: {object}"),
        Err(said) => {
            ensure!(
                words.iter().all(|w| said.contains(w)),
                "{words:?} is not in: {said}"
            );
            Ok(())
        }
    })
}

fn accepted(cluster: &Cluster, user: Option<&str>, object: &str) -> Result<()> {
    eventually(|| tried(cluster, user, object).map_err(anyhow::Error::msg))
}

const OBJECTS: &str = "
{apiVersion: v1, kind: Namespace, metadata: {name: admission-acme, labels: {tenant: acme}}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: admission-other}}
---
apiVersion: diolkos.io/v1alpha1
kind: Tenant
metadata: {name: admission-acme}
spec:
  hostnames: [admission.example.com, '*.admission.example.com']
  namespaceSelector: {matchLabels: {tenant: acme}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: upstreams, namespace: admission-other}
rules: [{apiGroups: [diolkos.io], resources: [upstreams], verbs: [get, create, patch]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: upstreams, namespace: admission-other}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: upstreams}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: dev}]
---
apiVersion: diolkos.io/v1alpha1
kind: Route
metadata: {name: going, namespace: admission-other, finalizers: [example.com/later]}
spec: {hostnames: [admission.example.com], rules: [{directResponse: {status: 200}}]}
";

/// Host names belong to Tenants, listeners to those who may have them, and so does trust in any certificate.
pub fn policies(cluster: &mut Cluster) -> Result<()> {
    let text = fs::read_to_string(manifest("policies.yaml"))?;
    cluster.kubectl(&["apply", "--server-side", "-f", "-"], OBJECTS)?;
    cluster.kubectl(&["apply", "--server-side", "-f", "-"], &text)?;
    let result = judge(cluster);
    for gone in [text.as_str(), OBJECTS] {
        cluster.kubectl(
            &["delete", "--ignore-not-found", "--wait=false", "-f", "-"],
            gone,
        )?;
    }
    result
}

fn judge(cluster: &Cluster) -> Result<()> {
    let route = |namespace: &str, host: &str| {
        format!(
            "{{apiVersion: diolkos.io/v1alpha1, kind: Route, metadata: {{name: r, namespace: {namespace}}}, spec: {{hostnames: ['{host}'], rules: [{{directResponse: {{status: 200}}}}]}}}}"
        )
    };
    for host in [
        "admission.example.com",
        "a.admission.example.com",
        "*.example.com",
    ] {
        let words = ["belongs to Tenant admission-acme", host, "admission-other"];
        refused(cluster, None, &route("admission-other", host), &words)?;
        accepted(cluster, None, &route("admission-acme", host))?;
    }
    accepted(
        cluster,
        None,
        &route("admission-other", "admission2.example.com"),
    )?;
    let http_route = "{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: r, namespace: admission-other}, spec: {hostnames: [admission.example.com]}}";
    refused(cluster, None, http_route, &["belongs to Tenant"])?;
    let ingress = "{apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: {name: i, namespace: admission-other}, spec: {rules: [{host: b.admission.example.com}]}}";
    refused(cluster, None, ingress, &["belongs to Tenant"])?;
    // What was there before is let go.
    let going = ["--namespace", "admission-other", "route.diolkos.io/going"];
    cluster.kubectl(&[&["delete", "--wait=false"][..], &going].concat(), "")?;
    let finalizers = [
        "--type=merge",
        "--patch",
        r#"{"metadata": {"finalizers": null}}"#,
    ];
    cluster.kubectl(&[&["patch"][..], &going, &finalizers].concat(), "")?;

    let config = |namespace: &str, spec: &str| {
        format!(
            "{{apiVersion: diolkos.io/v1alpha1, kind: GatewayConfig, metadata: {{name: admission, namespace: {namespace}}}, spec: {spec}}}"
        )
    };
    let listens = "{listeners: [{name: http, port: 8099, protocol: HTTP}]}";
    refused(
        cluster,
        None,
        &config("admission-other", listens),
        &["spec.listeners", "diolkos.io/gateway-configs"],
    )?;
    refused(
        cluster,
        None,
        &config("admission-other", "{default: true}"),
        &["spec.default"],
    )?;
    accepted(
        cluster,
        None,
        &config("admission-other", "{timeouts: {keepAlive: 5s}}"),
    )?;
    accepted(cluster, None, &config(SYSTEM, listens))?;
    let label = [
        "label",
        "namespace/admission-other",
        "diolkos.io/gateway-configs=allowed",
    ];
    cluster.kubectl(&label, "")?;
    accepted(cluster, None, &config("admission-other", listens))?;

    let upstream = |tls: &str| {
        format!(
            "{{apiVersion: diolkos.io/v1alpha1, kind: Upstream, metadata: {{name: u, namespace: admission-other}}, spec: {{endpoints: [{{address: 192.0.2.1, port: 443}}], tls: {tls}}}}}"
        )
    };
    let dev = Some("dev");
    accepted(cluster, dev, &upstream("{sni: a.test}"))?;
    let insecure = upstream("{insecureSkipVerify: true}");
    refused(
        cluster,
        dev,
        &insecure,
        &["spec.tls.insecureSkipVerify: dev may not skipverify"],
    )?;
    accepted(cluster, None, &insecure)?;
    let verbs = "[{\"op\": \"add\", \"path\": \"/rules/0/verbs/-\", \"value\": \"skipverify\"}]";
    let role = [
        "patch",
        "--namespace",
        "admission-other",
        "role/upstreams",
        "--type=json",
        "--patch",
        verbs,
    ];
    cluster.kubectl(&role, "")?;
    accepted(cluster, dev, &insecure)
}

/// The webhook refuses what can never serve, in the words of the condition that it would have got, and nothing else.
pub fn webhook(cluster: &mut Cluster) -> Result<()> {
    let text = fs::read_to_string(manifest("webhook.yaml"))?;
    // There is no cert-manager here.
    let own = |part: &&str| !part.contains("cert-manager.io/v1");
    let parts: Vec<&str> = text.split("\n---\n").filter(own).collect();
    let text = parts.join("\n---\n");
    let key = rcgen::KeyPair::generate()?;
    let name = "diolkos-webhook.diolkos-system.svc".to_owned();
    let certificate = rcgen::CertificateParams::new([name])?.self_signed(&key)?;
    let encoded = STANDARD.encode(certificate.pem());
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": {"name": "diolkos-webhook", "namespace": SYSTEM},
        "data": {"tls.crt": encoded, "tls.key": STANDARD.encode(key.serialize_pem())},
    });
    cluster.kubectl(&["apply", "--server-side", "-f", "-"], &secret.to_string())?;
    cluster.kubectl(&["apply", "--server-side", "-f", "-"], &text)?;
    let bundle =
        json!([{"op": "add", "path": "/webhooks/0/clientConfig/caBundle", "value": encoded}]);
    let bundle = bundle.to_string();
    let configuration = "validatingwebhookconfiguration/diolkos";
    let result = cluster
        .kubectl(
            &["patch", configuration, "--type=json", "--patch", &bundle],
            "",
        )
        .and_then(|_| {
            let file = manifest("webhook-patch.yaml").display().to_string();
            let patch = [
                "patch",
                "--namespace",
                SYSTEM,
                CONTROLLER,
                "--type=json",
                "--patch-file",
                &file,
            ];
            cluster.kubectl(&patch, "")?;
            ready(cluster)?;
            judge_by_webhook(cluster)
        });
    cluster.kubectl(&["delete", "--ignore-not-found", "-f", "-"], &text)?;
    let undo = ["rollout", "undo", "--namespace", SYSTEM, CONTROLLER];
    cluster.kubectl(&undo, "")?;
    ready(cluster)?;
    cluster.kubectl(
        &["delete", "--ignore-not-found", "-f", "-"],
        &secret.to_string(),
    )?;
    result
}

fn ready(cluster: &Cluster) -> Result<()> {
    let status = [
        "rollout",
        "status",
        "--namespace",
        SYSTEM,
        CONTROLLER,
        "--timeout=90s",
    ];
    cluster.kubectl(&status, "").map(drop)
}

fn judge_by_webhook(cluster: &Cluster) -> Result<()> {
    let route = |path: &str| {
        format!(
            "{{apiVersion: diolkos.io/v1alpha1, kind: Route, metadata: {{name: judged, namespace: default}}, spec: {{hostnames: [judged.example.com], rules: [{{matches: [{{path: {path}}}], backends: [{{name: none, port: 80}}]}}]}}}}"
        )
    };
    let words = [
        "validate.diolkos.io",
        "Route default/judged spec.rules[0].matches[0].path",
    ];
    refused(
        cluster,
        None,
        &route("{type: RegularExpression, value: '('}"),
        &words,
    )?;
    // That the Service is not there yet is no reason.
    accepted(
        cluster,
        None,
        &route("{type: RegularExpression, value: '^/a+$'}"),
    )
}
