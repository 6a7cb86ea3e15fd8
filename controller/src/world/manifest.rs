//! Objects written down again: what is kept of them, as a manifest that [`Object::from_json`] reads.

use super::{Body, IngressClass, Object, ObjectKind};
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

impl ObjectKind {
    /// Whether objects of the kind say how traffic goes, and can be written down. Those that say where it goes (Services,
    /// endpoints) and those that hold values do not.
    pub fn is_configuration(self) -> bool {
        self.is_ours()
            || self.is_gateway_api()
            || matches!(
                self,
                Self::Ingress | Self::IngressClass | Self::ReferenceGrant
            )
    }

    /// As `apiVersion` of a manifest of such a kind, in a version that every cluster with the kind serves.
    pub fn api_version(self) -> String {
        let version = match (self.is_ours(), self) {
            (true, _) => "v1alpha1",
            (_, Self::ReferenceGrant) => "v1beta1",
            _ => "v1",
        };
        format!("{}/{version}", self.group())
    }
}

impl Object {
    /// `None`: nothing of it can be used, or it holds values.
    pub fn manifest(&self) -> Option<Value> {
        let mut metadata = json!({"name": self.id.name, "generation": self.meta.generation});
        if !self.id.namespace.is_empty() {
            metadata["namespace"] = (&*self.id.namespace).into();
        }
        if !self.meta.uid.is_empty() {
            metadata["uid"] = (&*self.meta.uid).into();
        }
        if self.meta.created != 0 {
            let created = Timestamp::from_second(self.meta.created).ok()?;
            metadata["creationTimestamp"] = created.to_string().into();
        }
        let spec = match &self.body {
            Body::GatewayConfig(spec) => serde_json::to_value(&**spec),
            Body::Route(spec) => serde_json::to_value(&**spec),
            Body::Upstream(spec) => serde_json::to_value(&**spec),
            Body::Plugin(spec) => serde_json::to_value(&**spec),
            Body::ReferenceGrant(spec) => serde_json::to_value(spec),
            Body::GatewayClass(spec) => serde_json::to_value(&**spec),
            Body::Gateway(spec) => serde_json::to_value(&**spec),
            Body::ListenerSet(spec) => serde_json::to_value(&**spec),
            Body::HTTPRoute(spec) => serde_json::to_value(&**spec),
            Body::GRPCRoute(spec) => serde_json::to_value(&**spec),
            Body::TLSRoute(spec) => serde_json::to_value(&**spec),
            Body::TCPRoute(spec) => serde_json::to_value(&**spec),
            Body::UDPRoute(spec) => serde_json::to_value(&**spec),
            Body::BackendTLSPolicy(spec) => serde_json::to_value(&**spec),
            Body::Ingress(ingress) => {
                metadata["annotations"] = json!(ingress.annotations);
                serde_json::to_value(&ingress.spec)
            }
            Body::IngressClass(class) => {
                metadata["annotations"] = class.annotations();
                Ok(class.spec())
            }
            _ => return None,
        };
        Some(json!({
            "apiVersion": self.id.kind.api_version(),
            "kind": self.id.kind.name(),
            "metadata": metadata,
            "spec": spec.ok()?,
        }))
    }
}

impl IngressClass {
    fn annotations(&self) -> Value {
        json!({"ingressclass.kubernetes.io/is-default-class": self.is_default.to_string()})
    }

    fn spec(&self) -> Value {
        let mut spec = json!({"controller": self.controller});
        if let Some(parameters) = &self.parameters {
            spec["parameters"] = json!({
                "apiGroup": parameters.group,
                "kind": parameters.kind,
                "namespace": parameters.namespace,
                "name": parameters.name,
            });
        }
        spec
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::CLASS_ANNOTATION;

    #[test]
    fn what_is_written_is_read_as_it_was() {
        let metadata = json!({"namespace": "a", "name": "x", "uid": "u", "generation": 7,
            "creationTimestamp": "2026-01-31T12:00:00Z"});
        let cluster = json!({"name": "x", "uid": "u", "generation": 1,
            "annotations": {"ingressclass.kubernetes.io/is-default-class": "true"}});
        let annotated =
            json!({"namespace": "a", "name": "x", "annotations": {(CLASS_ANNOTATION): "diolkos"}});
        for (version, kind, metadata, spec) in [
            (
                "diolkos.io/v1alpha1",
                "Route",
                &metadata,
                json!({"hostnames": ["a.test"], "rules": [{"directResponse": {"status": 200}}]}),
            ),
            (
                "diolkos.io/v1alpha1",
                "Upstream",
                &metadata,
                json!({"endpoints": [{"address": "10.0.0.1", "port": 80}]}),
            ),
            (
                "diolkos.io/v1alpha1",
                "GatewayConfig",
                &metadata,
                json!({"default": true, "revisionHeader": true}),
            ),
            (
                "gateway.networking.k8s.io/v1",
                "HTTPRoute",
                &metadata,
                json!({"hostnames": ["a.test"], "rules": [{"backendRefs": [{"name": "s", "port": 80}]}]}),
            ),
            (
                "gateway.networking.k8s.io/v1",
                "Gateway",
                &metadata,
                json!({"gatewayClassName": "diolkos", "listeners": [{"name": "l", "port": 80, "protocol": "HTTP"}]}),
            ),
            (
                "gateway.networking.k8s.io/v1beta1",
                "ReferenceGrant",
                &metadata,
                json!({"from": [{"kind": "Route", "namespace": "b"}], "to": [{"kind": "Service"}]}),
            ),
            (
                "networking.k8s.io/v1",
                "Ingress",
                &annotated,
                json!({"defaultBackend": {"service": {"name": "s", "port": {"number": 80}}}}),
            ),
            (
                "networking.k8s.io/v1",
                "IngressClass",
                &cluster,
                json!({"controller": "c", "parameters": {"kind": "GatewayConfig", "apiGroup": "diolkos.io", "name": "p", "namespace": "a"}}),
            ),
        ] {
            let value =
                json!({"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec});
            let object = Object::from_json(&value).unwrap().unwrap();
            assert!(!object.is_refused(), "{object:?}");
            assert!(object.id.kind.is_configuration());
            let written = object.manifest().unwrap();
            assert_eq!(
                Object::from_json(&written).unwrap().unwrap(),
                object,
                "{written}"
            );
        }
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": {"k": "dg=="}});
        let secret = Object::from_json(&secret).unwrap().unwrap();
        assert_eq!(secret.manifest(), None);
        assert!(!secret.id.kind.is_configuration());
    }
}
