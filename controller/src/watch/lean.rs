//! Objects of which there are many, read without the record of who wrote which field (`metadata.managedFields`), which is
//! mostly longer than the object itself.

use std::borrow::Cow;
use std::collections::BTreeMap;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{Service, ServiceSpec, ServiceStatus};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::Resource;
use kube::api::ApiResource;
use kube::core::DynamicResourceScope;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;

use super::read::{Read, Watched};
use crate::status;
use crate::world::{Object, ObjectKind, Refusal};

/// What is asked of metadata.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    generation: Option<i64>,
    creation_timestamp: Option<Time>,
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<BTreeMap<String, String>>,
}

fn metadata<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ObjectMeta, D::Error> {
    let read = Metadata::deserialize(deserializer)?;
    Ok(ObjectMeta {
        name: read.name,
        namespace: read.namespace,
        uid: read.uid,
        resource_version: read.resource_version,
        generation: read.generation,
        creation_timestamp: read.creation_timestamp,
        labels: read.labels,
        annotations: read.annotations,
        ..ObjectMeta::default()
    })
}

macro_rules! lean {
    ($name:ident of $full:ident { $($field:ident: $type:ty),* }) => {
        #[doc = concat!("Of a ", stringify!($full), " what the world asks.")]
        #[derive(Clone, Debug, Deserialize)]
        #[serde(rename_all = "camelCase")]
        pub(super) struct $name {
            #[serde(deserialize_with = "metadata")]
            metadata: ObjectMeta,
            $(#[serde(default)] $field: $type),*
        }

        impl Resource for $name {
            type DynamicType = ();
            type Scope = NamespaceResourceScope;

            fn kind(of: &()) -> Cow<'_, str> {
                $full::kind(of)
            }
            fn group(of: &()) -> Cow<'_, str> {
                $full::group(of)
            }
            fn version(of: &()) -> Cow<'_, str> {
                $full::version(of)
            }
            fn plural(of: &()) -> Cow<'_, str> {
                $full::plural(of)
            }
            fn meta(&self) -> &ObjectMeta {
                &self.metadata
            }
            fn meta_mut(&mut self) -> &mut ObjectMeta {
                &mut self.metadata
            }
        }

        impl Watched for $name {
            fn read(self, _: ObjectKind) -> Option<Read> {
                let object = $full {
                    metadata: self.metadata,
                    $($field: self.$field,)*
                };
                Some(Read { object: Object::from(&object), status: None })
            }
        }
    };
}

lean!(LeanService of Service {
    spec: Option<ServiceSpec>,
    status: Option<ServiceStatus>
});
lean!(LeanEndpointSlice of EndpointSlice {
    address_type: String,
    endpoints: Option<Vec<Endpoint>>,
    ports: Option<Vec<EndpointPort>>
});

/// An object of a kind of ours or of the Gateway API.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct LeanObject {
    #[serde(deserialize_with = "metadata")]
    metadata: ObjectMeta,
    /// As it came: most are read into their types at once, and never into values.
    #[serde(default)]
    spec: Option<Box<RawValue>>,
    #[serde(default)]
    status: Option<Box<RawValue>>,
}

impl Resource for LeanObject {
    type DynamicType = ApiResource;
    type Scope = DynamicResourceScope;

    fn kind(of: &ApiResource) -> Cow<'_, str> {
        of.kind.as_str().into()
    }
    fn group(of: &ApiResource) -> Cow<'_, str> {
        of.group.as_str().into()
    }
    fn version(of: &ApiResource) -> Cow<'_, str> {
        of.version.as_str().into()
    }
    fn plural(of: &ApiResource) -> Cow<'_, str> {
        of.plural.as_str().into()
    }
    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

impl Watched for LeanObject {
    fn read(self, kind: ObjectKind) -> Option<Read> {
        let spec = self.spec.as_deref().map(RawValue::get);
        let object = Object::of_spec(kind, &self.metadata, spec);
        if let Some(refusals) = object.refusals() {
            let error = refusals.first().map(Refusal::to_string);
            let error = error.unwrap_or_default();
            tracing::warn!(object = %object.id, error, "this build cannot read all of the object");
        }
        Some(Read {
            object,
            status: status::ours(kind, self.status.as_deref().and_then(value)),
        })
    }
}

fn value(text: &RawValue) -> Option<Value> {
    serde_json::from_str(text.get()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::{Body, ObjectId};
    use kube::api::WatchEvent;
    use serde_json::json;

    fn with_metadata(mut manifest: Value) -> Value {
        manifest["metadata"] = json!({
            "namespace": "a", "name": "one", "uid": "7", "generation": 3, "resourceVersion": "12",
            "creationTimestamp": "2026-01-31T12:00:00Z", "labels": {"kubernetes.io/service-name": "s"},
            "managedFields": [{"manager": "kubectl", "operation": "Apply", "fieldsV1": {"f:spec": {}}}],
        });
        manifest
    }

    fn read<K: Watched + Resource + serde::de::DeserializeOwned>(
        kind: ObjectKind,
        manifest: &Value,
    ) -> Read {
        let object: K = serde_json::from_value(manifest.clone()).unwrap();
        assert_eq!(object.meta().resource_version.as_deref(), Some("12"));
        object.read(kind).unwrap()
    }

    #[test]
    fn an_object_of_the_gateway_api_is_read_as_it_stands() {
        let manifest = with_metadata(json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
            "spec": {"hostnames": ["one.example"], "rules": [{"backendRefs": [{"name": "s", "port": 80}]}]},
            "status": {"parents": []},
        }));
        let read = read::<LeanObject>(ObjectKind::HTTPRoute, &manifest);
        let whole = Object::from_json(&manifest).unwrap();
        let Body::HTTPRoute(spec) = &read.object.body else {
            panic!("{:?}", read.object);
        };
        let hostnames = spec.hostnames.as_ref().unwrap();
        assert_eq!(hostnames.capacity(), 1, "no room for more");
        assert_eq!(Some(read.object), whole, "nothing is lost");
        assert_eq!(
            read.status,
            status::ours(ObjectKind::HTTPRoute, manifest.get("status").cloned())
        );
    }

    #[test]
    fn an_object_of_ours_is_read_as_it_stands() {
        let rule = json!({"directResponse": {"status": 200}});
        for (kind, spec) in [
            (ObjectKind::Route, json!({"rules": [rule]})),
            (
                ObjectKind::Upstream,
                json!({"endpoints": [{"address": "10.0.0.1", "port": 80}]}),
            ),
            (ObjectKind::Route, json!({"rules": [rule, 7]})),
            (ObjectKind::Plugin, json!({"type": "Later"})),
        ] {
            let status = json!({"observedGeneration": 3, "conditions": []});
            let manifest = with_metadata(json!({
                "apiVersion": "diolkos.io/v1alpha1", "kind": kind.name(), "spec": spec, "status": status,
            }));
            let read = read::<LeanObject>(kind, &manifest);
            assert_eq!(read.status, Some(status));
            assert_eq!(Some(read.object), Object::from_json(&manifest).unwrap());
        }
    }

    /// Specs are taken out of the text of the event, which stands in the server's order.
    #[test]
    fn an_event_of_a_watch_is_read() {
        let manifest = with_metadata(json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
            "spec": {"hostnames": ["one.example"]},
        }));
        let event = format!(r#"{{"type":"ADDED","object":{manifest}}}"#);
        let event = serde_json::from_str::<WatchEvent<LeanObject>>(&event).unwrap();
        let WatchEvent::Added(object) = event else {
            panic!("{event:?}");
        };
        let read = object.read(ObjectKind::HTTPRoute).unwrap();
        assert_eq!(Some(read.object), Object::from_json(&manifest).unwrap());
    }

    #[test]
    fn an_object_of_another_shape_is_refused_and_not_lost() {
        for spec in [json!({"rules": 7}), Value::Null] {
            let manifest = with_metadata(json!({
                "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "spec": spec,
            }));
            let read = read::<LeanObject>(ObjectKind::HTTPRoute, &manifest);
            assert!(read.object.is_refused());
            assert_eq!(
                read.object.id,
                ObjectId::new(ObjectKind::HTTPRoute, "a", "one")
            );
        }
    }

    #[test]
    fn services_and_endpoints_are_read_as_they_stand() {
        let service = with_metadata(json!({
            "apiVersion": "v1", "kind": "Service",
            "spec": {"type": "LoadBalancer", "clusterIP": "10.0.0.1", "selector": {"app": "a"},
                "ports": [{"name": "http", "port": 80, "targetPort": "web"}]},
            "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}},
        }));
        let slice = with_metadata(json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
            "endpoints": [{"addresses": ["10.0.0.2"], "conditions": {"ready": true}, "zone": "z"}],
        }));
        assert_eq!(
            Some(read::<LeanService>(ObjectKind::Service, &service).object),
            Object::from_json(&service).unwrap()
        );
        assert_eq!(
            Some(read::<LeanEndpointSlice>(ObjectKind::EndpointSlice, &slice).object),
            Object::from_json(&slice).unwrap()
        );
    }
}
