//! What a GatewayConfig may say of the Pods of its data planes.
//!
//! Whoever may write a GatewayConfig need not be permitted to make Pods, and the controller makes them in the
//! GatewayConfig's name. So it decides where, when and in whose turn they run, and how they are found; containers,
//! volumes, ServiceAccount, security context and the node's namespaces are ours alone.

use k8s_openapi::api::core::v1::{
    Affinity, HostAlias, LocalObjectReference, PodDNSConfig, Toleration, TopologySpreadConstraint,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Those fields of a PodTemplateSpec that are taken.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct PodTemplate {
    metadata: Metadata,
    spec: PodSpec,
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Metadata {
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
struct PodSpec {
    #[serde(skip_serializing_if = "Option::is_none")]
    node_selector: Option<BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    affinity: Option<Affinity>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tolerations: Option<Vec<Toleration>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    topology_spread_constraints: Option<Vec<TopologySpreadConstraint>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    priority_class_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    runtime_class_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scheduler_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    image_pull_secrets: Option<Vec<LocalObjectReference>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dns_policy: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dns_config: Option<PodDNSConfig>,
    #[serde(skip_serializing_if = "Option::is_none")]
    host_aliases: Option<Vec<HostAlias>>,
    /// Seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    termination_grace_period_seconds: Option<u32>,
}

impl PodTemplate {
    /// # Errors
    /// The field below `podTemplate`, and what is wrong with it.
    pub(crate) fn read(value: &Value) -> Result<Self, (String, String)> {
        serde_path_to_error::deserialize(value).map_err(|error| {
            let path = error.path().to_string();
            (path, error.into_inner().to_string())
        })
    }

    /// Lays it over the template of a Deployment. Labels and annotations that are there stay.
    pub(super) fn lay_over(self, template: &mut Value) -> serde_json::Result<()> {
        let Metadata {
            labels,
            annotations,
        } = self.metadata;
        for (field, ours) in [("labels", labels), ("annotations", annotations)] {
            for (key, value) in ours {
                let there = &mut template["metadata"][field];
                if there.get(&key).is_none() {
                    there[key] = json!(value);
                }
            }
        }
        if let Value::Object(fields) = serde_json::to_value(self.spec)? {
            for (field, value) in fields {
                template["spec"][field] = value;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_says_is_laid_over_ours() {
        let said = json!({
            "metadata": {"labels": {"team": "edge", "app": "theirs"}, "annotations": {"scrape": "yes"}},
            "spec": {
                "nodeSelector": {"pool": "edge"},
                "tolerations": [{"key": "edge", "operator": "Exists"}],
                "terminationGracePeriodSeconds": 60,
            },
        });
        let mut template = json!({
            "metadata": {"labels": {"app": "ours"}},
            "spec": {"terminationGracePeriodSeconds": 310, "containers": []},
        });
        let read = PodTemplate::read(&said).unwrap();
        read.lay_over(&mut template).unwrap();
        let expected = json!({
            "metadata": {"labels": {"app": "ours", "team": "edge"}, "annotations": {"scrape": "yes"}},
            "spec": {
                "terminationGracePeriodSeconds": 60,
                "containers": [],
                "nodeSelector": {"pool": "edge"},
                "tolerations": [{"key": "edge", "operator": "Exists"}],
            },
        });
        assert_eq!(template, expected);
    }

    #[test]
    fn nothing_that_gives_power_is_taken() {
        for (said, field) in [
            (json!({"spec": {"hostNetwork": true}}), "spec.hostNetwork"),
            (json!({"spec": {"containers": []}}), "spec.containers"),
            (json!({"spec": {"volumes": []}}), "spec.volumes"),
            (
                json!({"spec": {"serviceAccountName": "admin"}}),
                "spec.serviceAccountName",
            ),
            (
                json!({"spec": {"securityContext": {}}}),
                "spec.securityContext",
            ),
            (
                json!({"metadata": {"ownerReferences": []}}),
                "metadata.ownerReferences",
            ),
            (
                json!({"spec": {"nodeSelector": {"pool": 1}}}),
                "spec.nodeSelector.pool",
            ),
            (
                json!({"spec": {"tolerations": [{"key": 1}]}}),
                "spec.tolerations[0].key",
            ),
        ] {
            let (at, message) = PodTemplate::read(&said).unwrap_err();
            assert_eq!(at, field, "{message}");
        }
        let (_, message) = PodTemplate::read(&json!({"spec": {"hostNetwork": true}})).unwrap_err();
        assert!(message.contains("`nodeSelector`"), "{message}");
    }
}
