//! One task follows one kind: list, watch, decode, pass on.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{ApiResource, DynamicObject};
use kube::core::object::HasStatus;
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::error::DiscoveryError;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource, discovery};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::{mpsc, watch};

use super::backoff::Pauses;
use super::{Event, bundle, unix_ns};
use crate::metrics::Metrics;
use crate::status::{self, Written};
use crate::world::{Meta, Object, ObjectId, ObjectKind, Refusal};

/// How often a kind that the cluster does not know is asked for again.
const ASK_AGAIN: Duration = Duration::from_secs(30);

/// Pause after a failure.
const RETRY: Duration = Duration::from_secs(2);

/// What the tasks of all kinds share.
#[derive(Clone)]
pub struct Watches {
    pub client: Client,
    pub events: mpsc::Sender<Event>,
    /// Learns the statuses that objects carry.
    pub written: Arc<Written>,
    pub metrics: Arc<Metrics>,
    /// Whether anything asks for Pods. They are many, so they are watched only then.
    pub pods: watch::Receiver<bool>,
}

/// The world has gone, and the watches with it.
struct WorldGone;

impl Watches {
    /// Starts one task for each kind. They end when nobody receives the events.
    pub fn start(&self) {
        for kind in ObjectKind::ALL {
            tokio::spawn(self.clone().keep_following(*kind));
        }
        tokio::spawn(bundle::follow(self.client.clone(), self.events.clone()));
    }

    /// A panic costs a new list, whatever it came from: a watch must not end in silence.
    async fn keep_following(self, kind: ObjectKind) {
        let label = [kind.name()];
        while let Err(error) = tokio::spawn(self.clone().follow(kind)).await {
            if !error.is_panic() {
                return;
            }
            self.metrics.watch_up.with_label_values(&label).set(0);
            self.metrics.panics.with_label_values(&["task"]).inc();
            tracing::error!(event = "watch_panic", %kind, "the watch fell; it begins anew");
            tokio::time::sleep(RETRY).await;
        }
    }

    async fn follow(self, kind: ObjectKind) {
        let WorldGone = match self.follow_for_ever(kind).await {
            Ok(never) => match never {},
            Err(gone) => gone,
        };
    }

    async fn follow_for_ever(
        &self,
        kind: ObjectKind,
    ) -> Result<std::convert::Infallible, WorldGone> {
        let mut said = false;
        if kind == ObjectKind::Pod {
            let mut pods = self.pods.clone();
            pods.wait_for(|asked| *asked).await.map_err(|_| WorldGone)?;
        }
        loop {
            let resource = match self.resource(kind).await {
                Ok(Some(resource)) => resource,
                Ok(None) => {
                    if !std::mem::replace(&mut said, true) {
                        tracing::info!(%kind, "the cluster does not know this kind");
                    }
                    self.send(Event::Absent(kind)).await?;
                    tokio::time::sleep(ASK_AGAIN).await;
                    continue;
                }
                Err(error) => {
                    tracing::warn!(%kind, %error, "cannot ask which kinds there are");
                    tokio::time::sleep(RETRY).await;
                    continue;
                }
            };
            said = false;
            self.stream(kind, &resource).await?;
            // It went, or it is not served yet.
            tokio::time::sleep(RETRY).await;
        }
    }

    /// The resource of a kind; `None` when the cluster has no such CustomResourceDefinition.
    async fn resource(&self, kind: ObjectKind) -> Result<Option<ApiResource>, kube::Error> {
        match kind {
            ObjectKind::Service => return Ok(Some(ApiResource::erase::<Service>(&()))),
            ObjectKind::Secret => return Ok(Some(ApiResource::erase::<Secret>(&()))),
            ObjectKind::ConfigMap => return Ok(Some(ApiResource::erase::<ConfigMap>(&()))),
            ObjectKind::Namespace => return Ok(Some(ApiResource::erase::<Namespace>(&()))),
            ObjectKind::Pod => return Ok(Some(ApiResource::erase::<Pod>(&()))),
            ObjectKind::EndpointSlice => return Ok(Some(ApiResource::erase::<EndpointSlice>(&()))),
            ObjectKind::Ingress => return Ok(Some(ApiResource::erase::<Ingress>(&()))),
            ObjectKind::IngressClass => return Ok(Some(ApiResource::erase::<IngressClass>(&()))),
            _ => {}
        }
        let group = match kind.is_ours() {
            true => {
                discovery::pinned_group(
                    &self.client,
                    &kube::core::GroupVersion::gv(crds::GROUP, crds::VERSION),
                )
                .await
            }
            false => discovery::group(&self.client, kind.group()).await,
        };
        match group {
            Ok(group) => Ok(group
                .recommended_kind(kind.name())
                .map(|(resource, _)| resource)),
            Err(kube::Error::Discovery(DiscoveryError::InvalidGroupVersion(text))) => Err(
                kube::Error::Discovery(DiscoveryError::InvalidGroupVersion(text)),
            ),
            Err(kube::Error::Discovery(_)) => Ok(None),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn stream(&self, kind: ObjectKind, resource: &ApiResource) -> Result<(), WorldGone> {
        let config = watcher::Config::default();
        match kind {
            ObjectKind::GatewayConfig => self.ours::<crds::GatewayConfig>(kind).await,
            ObjectKind::Route => self.ours::<crds::Route>(kind).await,
            ObjectKind::Upstream => self.ours::<crds::Upstream>(kind).await,
            ObjectKind::Plugin => self.ours::<crds::Plugin>(kind).await,
            ObjectKind::Tenant => self.ours::<crds::Tenant>(kind).await,
            ObjectKind::Consumer => self.ours::<crds::Consumer>(kind).await,
            ObjectKind::ModelCatalog => self.ours::<crds::ModelCatalog>(kind).await,
            ObjectKind::Service => {
                self.run(kind, Api::<Service>::all(self.client.clone()), config)
                    .await
            }
            ObjectKind::EndpointSlice => {
                // From the server's cache, and only those of Services.
                let config = config.any_semantic().labels("kubernetes.io/service-name");
                self.run(kind, Api::<EndpointSlice>::all(self.client.clone()), config)
                    .await
            }
            ObjectKind::Pod => {
                let config = config
                    .any_semantic()
                    .fields("status.phase!=Succeeded,status.phase!=Failed");
                self.run(kind, Api::<Pod>::all(self.client.clone()), config)
                    .await
            }
            ObjectKind::Ingress => {
                self.run(kind, Api::<Ingress>::all(self.client.clone()), config)
                    .await
            }
            ObjectKind::IngressClass => {
                self.run(kind, Api::<IngressClass>::all(self.client.clone()), config)
                    .await
            }
            ObjectKind::Secret => {
                // Names alone: values are read only of Secrets that something refers to. Those two types are large and
                // many, and nothing ever refers to them.
                let config = config
                    .fields("type!=helm.sh/release.v1,type!=kubernetes.io/service-account-token");
                self.run(
                    kind,
                    Api::<PartialObjectMeta<Secret>>::all(self.client.clone()),
                    config,
                )
                .await
            }
            ObjectKind::ConfigMap => {
                self.run(
                    kind,
                    Api::<PartialObjectMeta<ConfigMap>>::all(self.client.clone()),
                    config,
                )
                .await
            }
            ObjectKind::Namespace => {
                self.run(
                    kind,
                    Api::<PartialObjectMeta<Namespace>>::all(self.client.clone()),
                    config,
                )
                .await
            }
            ObjectKind::ReferenceGrant
            | ObjectKind::GatewayClass
            | ObjectKind::Gateway
            | ObjectKind::ListenerSet
            | ObjectKind::HTTPRoute
            | ObjectKind::GRPCRoute
            | ObjectKind::TLSRoute
            | ObjectKind::TCPRoute
            | ObjectKind::UDPRoute
            | ObjectKind::BackendTLSPolicy => {
                self.run(
                    kind,
                    Api::<DynamicObject>::all_with(self.client.clone(), resource),
                    config,
                )
                .await
            }
        }
    }

    /// A kind of ours. One object that this build cannot read does not hold up the others.
    async fn ours<K>(&self, kind: ObjectKind) -> Result<(), WorldGone>
    where
        K: Resource<DynamicType = ()>
            + HasStatus
            + Clone
            + Debug
            + DeserializeOwned
            + Send
            + Sync
            + 'static,
        K::Status: Serialize,
        for<'a> Object: From<&'a K>,
    {
        let api = Api::<DeserializeGuard<K>>::all(self.client.clone());
        self.run(kind, api, watcher::Config::default()).await
    }

    /// Passes on what the watch of a kind brings, until the kind is gone.
    async fn run<K>(
        &self,
        kind: ObjectKind,
        api: Api<K>,
        config: watcher::Config,
    ) -> Result<(), WorldGone>
    where
        K: Watched + Resource + Clone + Debug + DeserializeOwned + Send + 'static,
    {
        let label = [kind.name()];
        let up = self.metrics.watch_up.with_label_values(&label);
        let missing = self.metrics.missing_permissions.with_label_values(&label);
        let restarts = self.metrics.watch_restarts.with_label_values(&label);
        let mut events = pin!(watcher(api, config).backoff(Pauses::new()));
        let mut listed = BTreeSet::new();
        let mut first = true;
        while let Some(event) = events.next().await {
            let event = match event {
                Ok(event) => event,
                Err(error) => {
                    up.set(0);
                    match refusal(&error) {
                        Some(404) => return Ok(()),
                        Some(403) => {
                            missing.set(1);
                            tracing::error!(
                                %kind, group = kind.group(),
                                "get, list and watch are not permitted: add them to the ClusterRole of diolkos-controller"
                            );
                            self.send(Event::Forbidden(kind)).await?;
                        }
                        _ => {
                            tracing::warn!(%kind, %error, "the watch is interrupted; what is known stays in effect")
                        }
                    }
                    continue;
                }
            };
            let at = unix_ns();
            match event {
                watcher::Event::Init => {
                    if !std::mem::replace(&mut first, false) {
                        restarts.inc();
                    }
                    listed.clear();
                }
                watcher::Event::InitApply(object) => {
                    if let Some(id) = self.apply(kind, object, at).await? {
                        listed.insert(id);
                    }
                }
                watcher::Event::InitDone => {
                    up.set(1);
                    missing.set(0);
                    let ids = std::mem::take(&mut listed);
                    tracing::debug!(%kind, objects = ids.len(), "listed");
                    self.send(Event::Listed { kind, ids }).await?;
                }
                watcher::Event::Apply(object) => {
                    up.set(1);
                    self.apply(kind, object, at).await?;
                }
                watcher::Event::Delete(object) => {
                    if let Some(Read { object, .. }) = object.read(kind) {
                        self.send(Event::Delete { id: object.id, at }).await?;
                    }
                }
            }
        }
        Ok(())
    }

    async fn apply<K: Watched>(
        &self,
        kind: ObjectKind,
        object: K,
        at: u64,
    ) -> Result<Option<ObjectId>, WorldGone> {
        let version = object.version();
        let Some(Read { object, status }) = object.read(kind) else {
            return Ok(None);
        };
        let id = object.id.clone();
        if kind.has_status() {
            let uid = &object.meta.uid;
            self.written.see(&id, uid, &version, status.as_ref());
        }
        self.send(Event::Apply {
            object: Box::new(object),
            at,
        })
        .await?;
        Ok(Some(id))
    }

    async fn send(&self, event: Event) -> Result<(), WorldGone> {
        self.events.send(event).await.map_err(|_| WorldGone)
    }
}

/// The HTTP status with which the API server refused a list or watch.
fn refusal(error: &watcher::Error) -> Option<u16> {
    let (watcher::Error::InitialListFailed(kube::Error::Api(status))
    | watcher::Error::WatchStartFailed(kube::Error::Api(status))
    | watcher::Error::WatchFailed(kube::Error::Api(status))
    | watcher::Error::WatchError(status)) = error
    else {
        return None;
    };
    Some(status.code)
}

/// What an object is read into.
struct Read {
    object: Object,
    /// As it stands in the cluster, of it what is ours; kinds without one of ours have none.
    status: Option<Value>,
}

/// A type in which a watch brings objects.
trait Watched {
    /// `metadata.resourceVersion`.
    fn version(&self) -> String;

    /// `None`: it cannot even be named.
    fn read(self, kind: ObjectKind) -> Option<Read>;
}

impl<K> Watched for DeserializeGuard<K>
where
    K: HasStatus + Resource,
    K::Status: Serialize,
    for<'a> Object: From<&'a K>,
{
    fn version(&self) -> String {
        let metadata = match &self.0 {
            Ok(object) => object.meta(),
            Err(invalid) => &invalid.metadata,
        };
        metadata.resource_version.clone().unwrap_or_default()
    }

    fn read(self, kind: ObjectKind) -> Option<Read> {
        Some(match self.0 {
            Ok(object) => Read {
                object: Object::from(&object),
                status: object.status().and_then(|s| serde_json::to_value(s).ok()),
            },
            Err(invalid) => {
                let metadata = &invalid.metadata;
                let id = ObjectId::new(
                    kind,
                    metadata.namespace.clone().unwrap_or_default(),
                    metadata.name.clone()?,
                );
                tracing::warn!(object = %id, error = invalid.error, "this build cannot read the object");
                let refusal = Refusal {
                    field: String::new(),
                    message: invalid.error,
                };
                Read {
                    object: Object::refused(id, Meta::from(metadata), vec![refusal]),
                    status: None,
                }
            }
        })
    }
}

macro_rules! watched {
    ($($type:ty),*) => {$(
        impl Watched for $type {
            fn version(&self) -> String {
                self.metadata.resource_version.clone().unwrap_or_default()
            }

            fn read(self, _: ObjectKind) -> Option<Read> {
                Some(Read { object: Object::from(&self), status: None })
            }
        }
    )*};
}

watched!(Service, EndpointSlice, Pod, IngressClass);

impl Watched for Ingress {
    fn version(&self) -> String {
        self.metadata.resource_version.clone().unwrap_or_default()
    }

    fn read(self, _: ObjectKind) -> Option<Read> {
        let managed = self.metadata.managed_fields.as_deref().unwrap_or_default();
        // Another controller's status looks no different; whose it is the server knows.
        let is_ours = managed.iter().any(|entry| {
            entry.manager.as_deref() == Some(status::FIELD_MANAGER)
                && entry.subresource.as_deref() == Some("status")
        });
        let status = self.status.as_ref().filter(|_| is_ours);
        Some(Read {
            object: Object::from(&self),
            status: status.and_then(|status| serde_json::to_value(status).ok()),
        })
    }
}

impl Watched for PartialObjectMeta<Namespace> {
    fn version(&self) -> String {
        self.metadata.resource_version.clone().unwrap_or_default()
    }

    fn read(self, _: ObjectKind) -> Option<Read> {
        let namespace = Namespace {
            metadata: self.metadata,
            ..Namespace::default()
        };
        Some(Read {
            object: Object::from(&namespace),
            status: None,
        })
    }
}

macro_rules! watched_by_metadata {
    ($($type:ident),*) => {$(
        impl Watched for PartialObjectMeta<$type> {
            fn version(&self) -> String {
                self.metadata.resource_version.clone().unwrap_or_default()
            }

            fn read(self, kind: ObjectKind) -> Option<Read> {
                Some(Read { object: Object::unread(kind, &self.metadata), status: None })
            }
        }
    )*};
}

watched_by_metadata!(Secret, ConfigMap);

impl Watched for DynamicObject {
    fn version(&self) -> String {
        self.metadata.resource_version.clone().unwrap_or_default()
    }

    fn read(self, kind: ObjectKind) -> Option<Read> {
        let name = self.metadata.name.clone();
        // Who has written which field is mostly longer than the object itself.
        let metadata = ObjectMeta {
            managed_fields: None,
            ..self.metadata
        };
        let mut value = self.data;
        if let (Some(types), Some(fields)) = (self.types, value.as_object_mut()) {
            fields.insert("apiVersion".to_owned(), types.api_version.into());
            fields.insert("kind".to_owned(), types.kind.into());
            let metadata = serde_json::to_value(metadata).unwrap_or_default();
            fields.insert("metadata".to_owned(), metadata);
        }
        let object = Object::from_json(&value).ok().flatten();
        if object.is_none() {
            tracing::warn!(%kind, name, "this build cannot read the object");
        }
        Some(Read {
            object: object?,
            status: status::ours(kind, value.get("status")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_object_of_the_gateway_api_is_read_as_it_stands() {
        let manifest = json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
            "metadata": {
                "namespace": "a", "name": "one", "uid": "7", "generation": 3, "creationTimestamp": "2026-01-31T12:00:00Z",
                "managedFields": [{"manager": "kubectl", "operation": "Apply", "fieldsV1": {"f:spec": {}}}],
            },
            "spec": {"hostnames": ["one.example"], "rules": [{"backendRefs": [{"name": "s", "port": 80}]}]},
            "status": {"parents": []},
        });
        let object: DynamicObject = serde_json::from_value(manifest.clone()).unwrap();
        let read = object.read(ObjectKind::HTTPRoute).unwrap();
        assert_eq!(
            Some(read.object),
            Object::from_json(&manifest).unwrap(),
            "nothing is lost"
        );
        assert_eq!(
            read.status,
            status::ours(ObjectKind::HTTPRoute, manifest.get("status"))
        );
    }
}
