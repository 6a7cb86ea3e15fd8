//! The Kubernetes objects of the data planes of a Gateway or GatewayConfig. Pure.

use super::pod_template::PodTemplate;
use crate::groups::infrastructure_name;
use crate::tokens::AUDIENCE;
use crate::world::{ObjectId, ObjectKind};
use crds::{Autoscaling, DataPlane, ServiceType};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Who made an object.
pub(super) const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "diolkos-controller");
/// The Gateway of an object (GEP-1762).
pub const GATEWAY_NAME: &str = "gateway.networking.k8s.io/gateway-name";
/// The GatewayConfig of an object.
pub const CONFIG_NAME: &str = "diolkos.io/gateway-config-name";
const GATEWAY_CLASS: &str = "gateway.networking.k8s.io/gateway-class-name";
/// Where data planes show their state: no port that a listener is likely to want.
pub(crate) const ADMIN_PORT: u16 = 19090;
/// What lets the number of data planes follow the load.
pub(super) const AUTOSCALER: &str = "HorizontalPodAutoscaler";
/// Longest value of a label.
const LABEL: usize = 63;

/// What a Gateway or GatewayConfig asks of data planes of its own.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    pub owner: ObjectId,
    /// Of the owner: what is made goes with it.
    pub uid: String,
    /// Of a Gateway.
    pub class: Option<String>,
    /// Where its listeners take connections, or datagrams (`true`).
    pub ports: BTreeSet<(u16, bool)>,
    /// What the GatewayConfig says; `None`: that cannot be known, and what there is stays as it is.
    pub asked: Option<DataPlane>,
    /// What its load balancer is asked for; `None`: any.
    pub address: Option<IpAddr>,
    /// `spec.infrastructure` of a Gateway: for everything that is made.
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
}

/// What all data planes have in common.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Namespace of the controller, whose Service is `diolkos-controller`.
    pub namespace: String,
    pub image: String,
    /// Of each Gateway or GatewayConfig.
    pub replicas: u32,
    /// Kubernetes quantity.
    pub cpu_request: String,
}

impl Plan {
    /// Of everything that is made.
    pub(super) fn name(&self) -> String {
        infrastructure_name(&self.owner)
    }

    /// ServiceAccount, PodDisruptionBudget, Deployment and, where they are asked for, HorizontalPodAutoscaler and, where
    /// anything listens, Service; in this order.
    pub(super) fn objects(&self, settings: &Settings) -> Vec<Value> {
        let Some(asked) = &self.asked else {
            return Vec::new();
        };
        let mut all = vec![
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "automountServiceAccountToken": false}),
            json!({
                "apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
                "spec": {"maxUnavailable": 1, "selector": {"matchLabels": self.selector()}},
            }),
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec": self.deployment(asked, settings)}),
        ];
        if let Some(asked) = &asked.autoscaling {
            let spec = self.autoscaler(asked);
            all.push(json!({"apiVersion": "autoscaling/v2", "kind": AUTOSCALER, "spec": spec}));
        }
        if !self.ports.is_empty() {
            all.push(json!({"apiVersion": "v1", "kind": "Service", "spec": self.service(asked)}));
        }
        for object in &mut all {
            object["metadata"] = self.metadata();
        }
        let annotations = asked
            .service
            .iter()
            .flat_map(|service| &service.annotations);
        for (key, value) in annotations {
            // What a Gateway says for everything goes before.
            if !self.annotations.contains_key(key)
                && let Some(service) = all.last_mut().filter(|o| o["kind"] == "Service")
            {
                service["metadata"]["annotations"][key] = json!(value);
            }
        }
        all
    }

    /// Whether a HorizontalPodAutoscaler must not be there.
    pub(super) fn is_fixed(&self) -> bool {
        let asked = self.asked.as_ref();
        asked.is_some_and(|asked| asked.autoscaling.is_none())
    }

    fn autoscaler(&self, asked: &Autoscaling) -> Value {
        json!({
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": self.name()},
            "minReplicas": asked.min_replicas.unwrap_or(2).min(asked.max_replicas),
            "maxReplicas": asked.max_replicas,
            "metrics": [{
                "type": "Resource",
                "resource": {
                    "name": "cpu",
                    "target": {
                        "type": "Utilization",
                        "averageUtilization": asked.target_cpu_percent.unwrap_or(70),
                    },
                },
            }],
        })
    }

    /// Name, place, labels, and whose it is.
    pub(super) fn metadata(&self) -> Value {
        let version = match self.owner.kind {
            ObjectKind::GatewayConfig => crds::VERSION,
            _ => "v1",
        };
        let version = format!("{}/{version}", self.owner.kind.group());
        let mut metadata = json!({
            "name": self.name(),
            "namespace": self.owner.namespace,
            "labels": self.labels(),
            "ownerReferences": [{
                "apiVersion": version, "kind": self.owner.kind.name(),
                "name": self.owner.name, "uid": self.uid, "controller": true, "blockOwnerDeletion": true,
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
        if let Some(class) = self.class.as_ref().filter(|class| class.len() <= LABEL) {
            labels.insert(GATEWAY_CLASS.to_owned(), json!(class));
        }
        labels
    }

    /// By what the Pods are found; it must never change.
    fn selector(&self) -> Map<String, Value> {
        // The owner's name may be longer than a label's value.
        let name = match self.owner.name.len() <= LABEL {
            true => self.owner.name.to_string(),
            false => self.name(),
        };
        let (key, component) = match self.owner.kind {
            ObjectKind::GatewayConfig => (CONFIG_NAME, "config-data-plane"),
            _ => (GATEWAY_NAME, "gateway-data-plane"),
        };
        Map::from_iter([
            (key.to_owned(), json!(name)),
            ("app.kubernetes.io/component".to_owned(), json!(component)),
        ])
    }

    fn service(&self, asked: &DataPlane) -> Value {
        let ports = self.ports.iter().map(|(port, is_of_datagrams)| {
            let (suffix, protocol) = match is_of_datagrams {
                true => ("-udp", "UDP"),
                false => ("", "TCP"),
            };
            let name = format!("port-{port}{suffix}");
            json!({"name": name, "port": port, "targetPort": port, "protocol": protocol})
        });
        let type_ = asked.service.as_ref().and_then(|service| service.type_);
        let type_ = type_.unwrap_or(ServiceType::LoadBalancer);
        let mut service = json!({
            "type": type_,
            "selector": self.selector(),
            "ports": ports.collect::<Vec<_>>(),
        });
        if let Some(address) = self.address.filter(|_| type_ == ServiceType::LoadBalancer) {
            service["loadBalancerIP"] = json!(address.to_string());
        }
        service
    }

    fn deployment(&self, asked: &DataPlane, settings: &Settings) -> Value {
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
        let mut deployment = json!({
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
                    "containers": [self.container(asked, settings)],
                    "volumes": [
                        {"name": "push", "secret": {"secretName": self.name(), "defaultMode": 0o440}},
                        // Says to the controller which Pod it is, and nothing to anybody else.
                        {"name": "token", "projected": {"defaultMode": 0o440, "sources": [{"serviceAccountToken": {
                            "audience": AUDIENCE, "expirationSeconds": 3600, "path": "token",
                        }}]}},
                        // In memory: the last good configuration may hold private keys.
                        {"name": "state", "emptyDir": {"medium": "Memory", "sizeLimit": "256Mi"}},
                    ],
                },
            },
        });
        // How many there are is the autoscaler's to say, where there is one.
        if asked.autoscaling.is_none() {
            let replicas = asked.replicas.map_or(settings.replicas, u32::from);
            deployment["replicas"] = json!(replicas);
        }
        // What is wrong with it, translation has said.
        if let Some(Ok(said)) = asked.pod_template.as_ref().map(PodTemplate::read)
            && let Err(error) = said.lay_over(&mut deployment["template"])
        {
            tracing::warn!(owner = %self.owner, %error, event = "pod_template", "podTemplate has no effect");
        }
        deployment
    }

    fn container(&self, asked: &DataPlane, settings: &Settings) -> Value {
        let controller = format!(
            "https://diolkos-controller.{}.svc:18000",
            settings.namespace
        );
        let field = |path: &str| json!({"fieldRef": {"apiVersion": "v1", "fieldPath": path}});
        let mut args = vec![
            format!("--controller={controller}"),
            "--tls-dir=/etc/diolkos/push".to_owned(),
            "--token-file=/etc/diolkos/token/token".to_owned(),
            "--state-dir=/var/lib/diolkos".to_owned(),
            format!("--admin=0.0.0.0:{ADMIN_PORT}"),
            "--node-id=$(POD_NAME)".to_owned(),
        ];
        if let Some(threads) = asked.threads.filter(|threads| *threads > 0) {
            args.push(format!("--threads={threads}"));
        }
        let usual = || {
            json!({
                "requests": {"cpu": settings.cpu_request, "memory": "64Mi"},
                "limits": {"memory": "1Gi"},
            })
        };
        let resources = asked.resources.clone().unwrap_or_else(usual);
        json!({
            "name": "dataplane",
            "image": settings.image,
            "args": args,
            "env": [
                {"name": "POD_NAME", "valueFrom": field("metadata.name")},
                {"name": "DIOLKOS_ZONE", "valueFrom": field("metadata.labels['topology.kubernetes.io/zone']")},
            ],
            "ports": [{"name": "admin", "containerPort": ADMIN_PORT, "protocol": "TCP"}],
            "readinessProbe": {"httpGet": {"path": "/readyz", "port": "admin"}, "periodSeconds": 1},
            "livenessProbe": {
                "httpGet": {"path": "/healthz", "port": "admin"}, "periodSeconds": 10, "failureThreshold": 6,
            },
            "resources": resources,
            "securityContext": {
                "allowPrivilegeEscalation": false,
                "readOnlyRootFilesystem": true,
                "capabilities": {"drop": ["ALL"]},
            },
            "volumeMounts": [
                {"name": "push", "mountPath": "/etc/diolkos/push", "readOnly": true},
                {"name": "token", "mountPath": "/etc/diolkos/token", "readOnly": true},
                {"name": "state", "mountPath": "/var/lib/diolkos"},
            ],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        Plan {
            owner: ObjectId::new(ObjectKind::Gateway, "shop", "web"),
            uid: "u-1".to_owned(),
            class: Some("diolkos".to_owned()),
            ports: [(443, false), (80, false), (53, true)].into(),
            asked: Some(DataPlane::default()),
            address: "10.99.0.1".parse().ok(),
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

    /// Of a Gateway and a GatewayConfig with one name neither has anything to do with what is the other's.
    #[test]
    fn a_gateway_config_is_no_gateway() {
        let of_gateway = plan();
        let of_config = Plan {
            owner: ObjectId::new(ObjectKind::GatewayConfig, "shop", "web"),
            class: None,
            address: None,
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            ..plan()
        };
        let all = of_config.objects(&settings());
        assert_eq!(all.len(), of_gateway.objects(&settings()).len());
        for object in &all {
            let metadata = &object["metadata"];
            assert_eq!(metadata["name"], "web-diolkos-config");
            let owner = &metadata["ownerReferences"][0];
            assert_eq!(owner["apiVersion"], "diolkos.io/v1alpha1");
            assert_eq!(owner["kind"], "GatewayConfig");
            assert_eq!(
                (&owner["name"], &owner["uid"]),
                (&json!("web"), &json!("u-1"))
            );
            let labels = metadata["labels"].as_object().unwrap();
            assert_eq!(labels[CONFIG_NAME], "web");
            assert!(!labels.contains_key(GATEWAY_NAME) && !labels.contains_key(GATEWAY_CLASS));
        }
        let pod = &all[2]["spec"]["template"];
        for (key, value) in of_gateway.selector() {
            assert_ne!(pod["metadata"]["labels"][&key], value, "{key}");
        }
        let volume = &pod["spec"]["volumes"][0]["secret"];
        assert_eq!(volume["secretName"], "web-diolkos-config");
        assert_eq!(pod["spec"]["serviceAccountName"], "web-diolkos-config");
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
    fn data_planes_are_as_the_gateway_config_says() {
        use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
        let mut plan = plan();
        assert!(plan.is_fixed());
        assert_eq!(plan.objects(&settings())[2]["spec"]["replicas"], 2);
        let asked = json!({
            "replicas": 5, "threads": 3,
            "resources": {"requests": {"cpu": "2"}},
            "service": {"type": "ClusterIP", "annotations": {"lb": "internal", "note": "y"}},
        });
        plan.asked = serde_json::from_value(asked).unwrap();
        let all = plan.objects(&settings());
        assert_eq!(all[2]["spec"]["replicas"], 5);
        let container = &all[2]["spec"]["template"]["spec"]["containers"][0];
        assert_eq!(container["resources"], json!({"requests": {"cpu": "2"}}));
        assert!(
            container["args"]
                .as_array()
                .unwrap()
                .contains(&json!("--threads=3"))
        );
        assert_eq!(all[3]["spec"]["type"], "ClusterIP");
        assert_eq!(all[3]["spec"].get("loadBalancerIP"), None);
        assert_eq!(
            all[3]["metadata"]["annotations"],
            json!({"lb": "internal", "note": "x"})
        );
        let asked = json!({"autoscaling": {"maxReplicas": 9, "targetCPUPercent": 50}});
        plan.asked = serde_json::from_value(asked).unwrap();
        assert!(!plan.is_fixed());
        let all = plan.objects(&settings());
        assert_eq!(all[2]["spec"].get("replicas"), None);
        let autoscaler: HorizontalPodAutoscaler = serde_json::from_value(all[3].clone()).unwrap();
        assert_eq!(&serde_json::to_value(&autoscaler).unwrap(), &all[3]);
        let spec = autoscaler.spec;
        assert_eq!((spec.min_replicas, spec.max_replicas), (Some(2), 9));
        assert_eq!(spec.scale_target_ref.name, "web-diolkos");
        // What cannot be known changes nothing.
        plan.asked = None;
        assert!(!plan.is_fixed() && plan.objects(&settings()).is_empty());
    }

    #[test]
    fn a_service_has_a_port_or_is_not_made() {
        let mut plan = plan();
        let ports = |plan: &Plan| plan.objects(&settings())[3]["spec"]["ports"].clone();
        assert_eq!(ports(&plan)[0]["protocol"], "UDP");
        assert_eq!(ports(&plan)[0]["name"], "port-53-udp");
        assert_eq!(ports(&plan)[1]["port"], 80);
        assert_eq!(ports(&plan)[2]["port"], 443);
        assert_eq!(ports(&plan)[2]["protocol"], "TCP");
        assert_eq!(
            plan.objects(&settings())[3]["spec"]["loadBalancerIP"],
            "10.99.0.1"
        );
        plan.ports.clear();
        assert_eq!(plan.objects(&settings()).len(), 3);
    }
}
