//! The Kubernetes objects of a Gateway's data planes. Pure.

use crate::groups::infrastructure_name;
use crate::world::ObjectId;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Who made an object.
pub(super) const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "diolkos-controller");
/// The Gateway of an object (GEP-1762).
pub const GATEWAY_NAME: &str = "gateway.networking.k8s.io/gateway-name";
const GATEWAY_CLASS: &str = "gateway.networking.k8s.io/gateway-class-name";
/// Where data planes show their state: no port that a listener is likely to want.
const ADMIN_PORT: u16 = 19090;
/// Longest value of a label.
const LABEL: usize = 63;

/// What a Gateway asks of its data planes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub gateway: ObjectId,
    /// Of the Gateway: what is made goes with it.
    pub uid: String,
    pub class: String,
    /// Where its listeners take connections.
    pub ports: BTreeSet<u16>,
    /// `spec.infrastructure`: for everything that is made.
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
}

/// What all data planes have in common.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Namespace of the controller, whose Service is `diolkos-controller`.
    pub namespace: String,
    pub image: String,
    /// Of each Gateway.
    pub replicas: u32,
    /// Kubernetes quantity.
    pub cpu_request: String,
}

impl Plan {
    /// Of everything that is made.
    pub(super) fn name(&self) -> String {
        infrastructure_name(&self.gateway.name)
    }

    /// ServiceAccount, PodDisruptionBudget, Deployment and, where anything listens, Service; in this order.
    pub(super) fn objects(&self, settings: &Settings) -> Vec<Value> {
        let mut all = vec![
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "automountServiceAccountToken": false}),
            json!({
                "apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
                "spec": {"maxUnavailable": 1, "selector": {"matchLabels": self.selector()}},
            }),
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec": self.deployment(settings)}),
        ];
        if !self.ports.is_empty() {
            all.push(json!({"apiVersion": "v1", "kind": "Service", "spec": self.service()}));
        }
        for object in &mut all {
            object["metadata"] = self.metadata();
        }
        all
    }

    /// Name, place, labels, and whose it is.
    pub(super) fn metadata(&self) -> Value {
        let mut metadata = json!({
            "name": self.name(),
            "namespace": self.gateway.namespace,
            "labels": self.labels(),
            "ownerReferences": [{
                "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
                "name": self.gateway.name, "uid": self.uid, "controller": true, "blockOwnerDeletion": true,
            }],
        });
        if !self.annotations.is_empty() {
            metadata["annotations"] = json!(self.annotations);
        }
        metadata
    }

    /// The user's, and above them ours.
    fn labels(&self) -> Map<String, Value> {
        let mut labels: Map<String, Value> = self
            .labels
            .iter()
            .map(|(key, value)| (key.clone(), json!(value)))
            .collect();
        labels.extend(self.selector());
        labels.insert("app.kubernetes.io/part-of".to_owned(), json!("diolkos"));
        labels.insert(MANAGED_BY.0.to_owned(), json!(MANAGED_BY.1));
        if self.class.len() <= LABEL {
            labels.insert(GATEWAY_CLASS.to_owned(), json!(self.class));
        }
        labels
    }

    /// By what the Pods are found; it must never change.
    fn selector(&self) -> Map<String, Value> {
        // A Gateway's name may be longer than a label's value.
        let name = match self.gateway.name.len() <= LABEL {
            true => self.gateway.name.clone(),
            false => self.name(),
        };
        Map::from_iter([
            (GATEWAY_NAME.to_owned(), json!(name)),
            (
                "app.kubernetes.io/component".to_owned(),
                json!("gateway-data-plane"),
            ),
        ])
    }

    fn service(&self) -> Value {
        let ports = self
            .ports
            .iter()
            .map(|port| json!({"name": format!("port-{port}"), "port": port, "targetPort": port, "protocol": "TCP"}));
        json!({
            "type": "LoadBalancer",
            "selector": self.selector(),
            "ports": ports.collect::<Vec<_>>(),
        })
    }

    fn deployment(&self, settings: &Settings) -> Value {
        let mut metadata = json!({"labels": self.labels()});
        if !self.annotations.is_empty() {
            metadata["annotations"] = json!(self.annotations);
        }
        let spread = |key: &str| {
            json!({
                "maxSkew": 1, "topologyKey": key, "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": self.selector()},
            })
        };
        json!({
            "replicas": settings.replicas,
            "selector": {"matchLabels": self.selector()},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "template": {
                "metadata": metadata,
                "spec": {
                    "serviceAccountName": self.name(),
                    "automountServiceAccountToken": false,
                    "enableServiceLinks": false,
                    // The longest drain (5 min) and a margin.
                    "terminationGracePeriodSeconds": 310,
                    "securityContext": {
                        "runAsNonRoot": true,
                        "fsGroup": 65532,
                        "seccompProfile": {"type": "RuntimeDefault"},
                        // Ports below 1024 without any capability; one of the safe sysctls.
                        "sysctls": [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}],
                    },
                    "topologySpreadConstraints": [
                        spread("topology.kubernetes.io/zone"),
                        spread("kubernetes.io/hostname"),
                    ],
                    "containers": [self.container(settings)],
                    "volumes": [
                        {"name": "push", "secret": {"secretName": self.name(), "defaultMode": 0o440}},
                        // In memory: the last good configuration may hold private keys.
                        {"name": "state", "emptyDir": {"medium": "Memory", "sizeLimit": "256Mi"}},
                    ],
                },
            },
        })
    }

    fn container(&self, settings: &Settings) -> Value {
        let controller = format!(
            "https://diolkos-controller.{}.svc:18000",
            settings.namespace
        );
        let field = |path: &str| json!({"fieldRef": {"apiVersion": "v1", "fieldPath": path}});
        json!({
            "name": "dataplane",
            "image": settings.image,
            "args": [
                format!("--controller={controller}"),
                "--tls-dir=/etc/diolkos/push",
                "--state-dir=/var/lib/diolkos",
                format!("--admin=0.0.0.0:{ADMIN_PORT}"),
                "--node-id=$(POD_NAME)",
            ],
            "env": [
                {"name": "POD_NAME", "valueFrom": field("metadata.name")},
                {"name": "DIOLKOS_ZONE", "valueFrom": field("metadata.labels['topology.kubernetes.io/zone']")},
            ],
            "ports": [{"name": "admin", "containerPort": ADMIN_PORT, "protocol": "TCP"}],
            "readinessProbe": {"httpGet": {"path": "/readyz", "port": "admin"}, "periodSeconds": 1},
            "livenessProbe": {
                "httpGet": {"path": "/healthz", "port": "admin"}, "periodSeconds": 10, "failureThreshold": 6,
            },
            "resources": {"requests": {"cpu": settings.cpu_request, "memory": "64Mi"}, "limits": {"memory": "1Gi"}},
            "securityContext": {
                "allowPrivilegeEscalation": false,
                "readOnlyRootFilesystem": true,
                "capabilities": {"drop": ["ALL"]},
            },
            "volumeMounts": [
                {"name": "push", "mountPath": "/etc/diolkos/push", "readOnly": true},
                {"name": "state", "mountPath": "/var/lib/diolkos"},
            ],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::ObjectKind;

    fn plan() -> Plan {
        Plan {
            gateway: ObjectId::new(ObjectKind::Gateway, "shop", "web"),
            uid: "u-1".to_owned(),
            class: "diolkos".to_owned(),
            ports: [443, 80].into(),
            labels: BTreeMap::from([
                ("team".to_owned(), "shop".to_owned()),
                (GATEWAY_NAME.to_owned(), "another".to_owned()),
            ]),
            annotations: BTreeMap::from([("note".to_owned(), "x".to_owned())]),
        }
    }

    fn settings() -> Settings {
        Settings {
            namespace: "diolkos-system".to_owned(),
            image: "registry.example/data-plane:1".to_owned(),
            replicas: 2,
            cpu_request: "100m".to_owned(),
        }
    }

    #[test]
    fn everything_belongs_to_the_gateway() {
        let plan = plan();
        let all = plan.objects(&settings());
        let kinds: Vec<&str> = all.iter().filter_map(|o| o["kind"].as_str()).collect();
        let expected = [
            "ServiceAccount",
            "PodDisruptionBudget",
            "Deployment",
            "Service",
        ];
        assert_eq!(kinds, expected);
        for object in &all {
            let metadata = &object["metadata"];
            assert_eq!(metadata["name"], "web-diolkos");
            assert_eq!(metadata["ownerReferences"][0]["uid"], "u-1");
            assert_eq!(metadata["annotations"]["note"], "x");
            // What the user says does not change whose it is.
            assert_eq!(metadata["labels"]["team"], "shop");
            assert_eq!(metadata["labels"][GATEWAY_NAME], "web");
        }
        let template = &all[2]["spec"]["template"];
        assert_eq!(template["metadata"]["labels"]["team"], "shop");
        let selector = &all[2]["spec"]["selector"]["matchLabels"];
        assert_eq!(selector, &all[3]["spec"]["selector"]);
        for (key, value) in selector.as_object().unwrap() {
            assert_eq!(&template["metadata"]["labels"][key], value);
        }
    }

    /// The typed objects of Kubernetes take all of it: no field is misspelt.
    #[test]
    fn the_fields_are_those_of_kubernetes() {
        use k8s_openapi::api::{apps::v1 as apps, core::v1 as core, policy::v1 as policy};
        fn same<T: serde::de::DeserializeOwned + serde::Serialize>(object: &Value) {
            let typed: T = serde_json::from_value(object.clone()).unwrap();
            assert_eq!(&serde_json::to_value(typed).unwrap(), object);
        }
        let all = plan().objects(&settings());
        same::<core::ServiceAccount>(&all[0]);
        same::<policy::PodDisruptionBudget>(&all[1]);
        same::<apps::Deployment>(&all[2]);
        same::<core::Service>(&all[3]);
    }

    #[test]
    fn a_service_has_a_port_or_is_not_made() {
        let mut plan = plan();
        let ports = |plan: &Plan| plan.objects(&settings())[3]["spec"]["ports"].clone();
        assert_eq!(ports(&plan)[0]["port"], 80);
        assert_eq!(ports(&plan)[1]["port"], 443);
        plan.ports.clear();
        assert_eq!(plan.objects(&settings()).len(), 3);
    }
}
