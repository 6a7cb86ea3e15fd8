//! The Pods that serve.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema::cel;

/// The Pods that serve.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel(&[(
    "!(has(self.replicas) && has(self.autoscaling))",
    "give replicas or autoscaling, not both: autoscaling.minReplicas is where it starts",
)])))]
pub struct DataPlane {
    /// Number of Pods. Default: 2. 0 to 1000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1000))]
    pub replicas: Option<u16>,
    /// Let the number of Pods follow the load.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub autoscaling: Option<Autoscaling>,
    /// The Service before the Pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<DataPlaneService>,
    /// Requests and limits of the container, as in a Pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::free_form")]
    pub resources: Option<serde_json::Value>,
    /// Fields of a Pod template that are laid over ours: of metadata labels and annotations; of spec nodeSelector, affinity,
    /// tolerations, topologySpreadConstraints, priorityClassName, runtimeClassName, schedulerName, imagePullSecrets, dnsPolicy,
    /// dnsConfig, hostAliases and terminationGracePeriodSeconds (default: 310, by which every drain is over). What decides what
    /// runs and with which rights is not taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::free_form")]
    pub pod_template: Option<serde_json::Value>,
    /// Worker threads of a Pod. Default: 0, one for each CPU. 0 to 1024.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1024))]
    pub threads: Option<u16>,
}

/// Lets the number of Pods follow the load.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = cel(&[(
    "!has(self.minReplicas) || self.minReplicas <= self.maxReplicas",
    "minReplicas must not exceed maxReplicas",
)])))]
pub struct Autoscaling {
    /// Fewest Pods. Default: 2. 1 to 1000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub min_replicas: Option<u16>,
    /// Most Pods. 1 to 1000.
    #[schemars(range(min = 1, max = 1000))]
    pub max_replicas: u16,
    /// Use of CPU that is aimed at, in percent of what is requested. Default: 70. 1 to 100.
    #[serde(rename = "targetCPUPercent", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub target_cpu_percent: Option<u8>,
}

/// The Service before the Pods.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DataPlaneService {
    /// LoadBalancer, NodePort or ClusterIP. Default: LoadBalancer.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub type_: Option<ServiceType>,
    /// Annotations of the Service. At most 64.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "crate::schema::string_map")]
    pub annotations: BTreeMap<String, String>,
}

/// The type of a Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ServiceType {
    LoadBalancer,
    NodePort,
    ClusterIP,
}
