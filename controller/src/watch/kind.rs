//! One task follows one kind: list, watch, decode, pass on.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use kube::api::ApiResource;
use kube::core::{NamespaceScope, PartialObjectMeta};
use kube::error::DiscoveryError;
use kube::runtime::watcher;
use kube::{Api, Client, Resource, discovery};
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

use super::following::{Following, RETRY, Seen};
use super::lean::{LeanEndpointSlice, LeanObject, LeanService};
use super::read::{Read, Watched};
use super::standing::Standing;
use super::target::Target;
use super::{Event, SOME, Verb, definitions, unix_ns};
use crate::metrics::Metrics;
use crate::panics::Parts;
use crate::status::Written;
use crate::world::{Object, ObjectKind, Scope};

/// How often it is asked again for a kind that the cluster does not know, and for what nobody promised to permit.
pub(crate) const ASK_AGAIN: Duration = Duration::from_secs(30);

/// An API server that has just begun refuses what it has not read the roles for yet. For so long it is not believed, where
/// things go on without what it refuses: without Tenants a host is anybody's.
const BELIEVED: Duration = Duration::from_secs(5);

/// What the tasks of all kinds share.
#[derive(Clone)]
pub struct Watches {
    pub client: Client,
    pub events: mpsc::Sender<Event>,
    /// Learns the statuses that objects carry, and in which version each kind is followed.
    pub written: Arc<Written>,
    pub metrics: Arc<Metrics>,
    /// What is followed of kinds in namespaces.
    pub scope: Scope,
    pub standing: Arc<Standing>,
    /// Whether anything asks for Pods. They are many, so they are watched only then.
    pub pods: watch::Receiver<bool>,
}

/// The world has gone, and the watches with it.
struct WorldGone;

impl Watches {
    /// Starts one task for each kind. They end when nobody receives the events.
    pub fn start(&self, parts: &Parts) {
        for kind in ObjectKind::ALL {
            tokio::spawn(self.clone().keep_following(*kind));
        }
        let definitions = definitions::follow(self.client.clone(), self.events.clone());
        tokio::spawn(parts.part("definitions of the Gateway API", definitions));
    }

    /// A panic costs a new list, whatever it came from: a watch must not end in silence.
    async fn keep_following(self, kind: ObjectKind) {
        while let Err(error) = tokio::spawn(self.clone().follow(kind)).await {
            if !error.is_panic() {
                return;
            }
            for target in Target::of(kind, &self.scope) {
                self.standing.down(&target);
            }
            tracing::error!(event = "watch_panic", %kind, "the watch fell; it begins anew");
            sleep(RETRY).await;
        }
    }

    async fn follow(self, kind: ObjectKind) {
        let WorldGone = match self.follow_for_ever(kind).await {
            Ok(never) => match never {},
            Err(gone) => gone,
        };
    }

    async fn follow_for_ever(&self, kind: ObjectKind) -> Result<Infallible, WorldGone> {
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
                        self.standing.absent(kind);
                    }
                    self.send(Event::Absent(kind)).await?;
                    sleep(ASK_AGAIN).await;
                    continue;
                }
                Err(error) => {
                    let error = format!("cannot ask which kinds there are: {error}");
                    self.standing.fails(&Target::of(kind, &self.scope), &error);
                    sleep(RETRY).await;
                    continue;
                }
            };
            said = false;
            self.written.follow(kind, resource.clone());
            let targets = Target::of(kind, &self.scope);
            let watches = targets.iter().map(|target| self.stream(target, &resource));
            let mut watches: FuturesUnordered<_> = watches.collect();
            // It went, or it is not served yet: in all namespaces, if in one.
            if let Some(Err(gone)) = watches.next().await {
                return Err(gone);
            }
            sleep(RETRY).await;
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
            // The version that the group prefers may lack the kind: TCPRoute was v1alpha2 beside HTTPRoute v1.
            Ok(group) => {
                let mut all = group.resources_by_stability().into_iter();
                let found = all.find(|(resource, _)| resource.kind == kind.name());
                Ok(found.map(|(resource, _)| resource))
            }
            Err(kube::Error::Discovery(DiscoveryError::InvalidGroupVersion(text))) => Err(
                kube::Error::Discovery(DiscoveryError::InvalidGroupVersion(text)),
            ),
            Err(kube::Error::Discovery(_)) => Ok(None),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Follows a kind until the cluster knows it no more.
    async fn stream(&self, target: &Target, resource: &ApiResource) -> Result<(), WorldGone> {
        let of = target;
        let config = watcher::Config::default();
        match target.kind {
            ObjectKind::Service => self.run(of, self.api::<LeanService>(of), config).await,
            ObjectKind::EndpointSlice => {
                // From the server's cache, and only those of Services.
                let config = config.any_semantic().labels("kubernetes.io/service-name");
                self.run(of, self.api::<LeanEndpointSlice>(of), config)
                    .await
            }
            ObjectKind::Pod => {
                let config = config
                    .any_semantic()
                    .fields("status.phase!=Succeeded,status.phase!=Failed");
                self.run(of, self.api::<Pod>(of), config).await
            }
            ObjectKind::Ingress => self.run(of, self.api::<Ingress>(of), config).await,
            ObjectKind::IngressClass => {
                let api = Api::<IngressClass>::all(self.client.clone());
                self.run(of, api, config).await
            }
            ObjectKind::Secret => {
                // Names alone: values are read only of Secrets that something refers to. Those two types are large and
                // many, and nothing ever refers to them.
                let config = config
                    .fields("type!=helm.sh/release.v1,type!=kubernetes.io/service-account-token");
                let api = self.api::<PartialObjectMeta<Secret>>(of);
                self.run(of, api, config).await
            }
            ObjectKind::ConfigMap => {
                let api = self.api::<PartialObjectMeta<ConfigMap>>(of);
                self.run(of, api, config).await
            }
            ObjectKind::Namespace => {
                let api = Api::<PartialObjectMeta<Namespace>>::all(self.client.clone());
                self.run(of, api, config).await
            }
            // One that this build cannot read does not hold up the others.
            ObjectKind::GatewayConfig
            | ObjectKind::Route
            | ObjectKind::Upstream
            | ObjectKind::Plugin
            | ObjectKind::Tenant
            | ObjectKind::Consumer
            | ObjectKind::ModelCatalog
            | ObjectKind::ReferenceGrant
            | ObjectKind::GatewayClass
            | ObjectKind::Gateway
            | ObjectKind::ListenerSet
            | ObjectKind::HTTPRoute
            | ObjectKind::GRPCRoute
            | ObjectKind::TLSRoute
            | ObjectKind::TCPRoute
            | ObjectKind::UDPRoute
            | ObjectKind::BackendTLSPolicy => {
                let api = Api::<LeanObject>::all_with(self.client.clone(), resource);
                self.run(of, within(api, of), config).await
            }
        }
    }

    /// A kind in namespaces.
    fn api<K>(&self, target: &Target) -> Api<K>
    where
        K: Resource<DynamicType = ()>,
        K::Scope: NamespaceScope,
    {
        within(Api::all(self.client.clone()), target)
    }

    /// Passes on what the watch brings, until the kind is gone.
    async fn run<K>(
        &self,
        target: &Target,
        api: Api<K>,
        config: watcher::Config,
    ) -> Result<(), WorldGone>
    where
        K: Watched + Resource + Clone + Debug + DeserializeOwned + Send + 'static,
    {
        let kind = target.kind;
        let restarts = &self.metrics.watch_restarts;
        self.standing.down(target);
        let mut following = Following::new(api, config);
        let mut listed = BTreeSet::new();
        let mut some = Vec::new();
        let mut first = true;
        loop {
            let next = match following.next().now_or_never() {
                Some(next) => next,
                None => {
                    self.pass_on(&mut some).await?;
                    following.next().await
                }
            };
            if some.len() == SOME || !matches!(next, Ok(Seen::Event(watcher::Event::InitApply(_))))
            {
                self.pass_on(&mut some).await?;
            }
            let event = match next {
                Ok(Seen::Event(event)) => event,
                Ok(Seen::Works) => {
                    self.up(target).await?;
                    continue;
                }
                Err(error) => {
                    self.standing.down(target);
                    match error.refusal() {
                        Some(404) => return Ok(()),
                        Some(403) => self.forbidden(target, error.verb()).await?,
                        _ => self.standing.fails(std::slice::from_ref(target), &error),
                    }
                    continue;
                }
            };
            let at = unix_ns();
            match event {
                watcher::Event::Init => {
                    if !std::mem::replace(&mut first, false) {
                        restarts.with_label_values(&[kind.name()]).inc();
                    }
                    listed.clear();
                }
                watcher::Event::InitApply(object) => {
                    if let Some(object) = self.read(kind, object) {
                        listed.insert(object.id.clone());
                        some.push(object);
                    }
                }
                watcher::Event::InitDone => {
                    self.up(target).await?;
                    let ids = std::mem::take(&mut listed);
                    tracing::debug!(%target, objects = ids.len(), "listed");
                    let of = target.clone();
                    self.send(Event::Listed { of, ids }).await?;
                }
                watcher::Event::Apply(object) => {
                    if let Some(object) = self.read(kind, object) {
                        let object = Box::new(object);
                        self.send(Event::Apply { object, at }).await?;
                    }
                }
                watcher::Event::Delete(object) => {
                    if let Some(Read { object, .. }) = object.read(kind) {
                        self.send(Event::Delete { id: object.id, at }).await?;
                    }
                }
            }
        }
    }

    async fn up(&self, target: &Target) -> Result<(), WorldGone> {
        match self.standing.up(target) {
            true => self.send(Event::Permitted(target.clone())).await,
            false => Ok(()),
        }
    }

    /// Says what is not permitted, once, and asks again, rarely where nobody promised it.
    async fn forbidden(&self, target: &Target, verb: Verb) -> Result<(), WorldGone> {
        let (kind, group) = (target.kind, target.kind.group());
        let was_promised = self.scope.is_cluster() || !kind.is_cluster_scoped();
        let Some(since) = self.standing.forbidden(target, verb) else {
            match &target.namespace {
                Some(namespace) => tracing::error!(
                    %kind, group, %namespace, %verb,
                    "get, list and watch are not permitted: add them to the Role of diolkos-controller in the namespace"
                ),
                None => tracing::error!(
                    %kind, group, %verb,
                    "get, list and watch are not permitted: add them to the ClusterRole of diolkos-controller"
                ),
            }
            return match was_promised {
                true => self.send(Event::Forbidden(target.clone(), verb)).await,
                false => Ok(()),
            };
        };
        if !was_promised && since >= BELIEVED {
            let event = Event::Forbidden(target.clone(), verb);
            self.send(event).await?;
            sleep(ASK_AGAIN).await;
        }
        Ok(())
    }

    /// Reads an object, and notes the status that it carries.
    fn read<K: Watched + Resource>(&self, kind: ObjectKind, object: K) -> Option<Object> {
        let version = object.meta().resource_version.clone().unwrap_or_default();
        let Read { object, status } = object.read(kind)?;
        if kind.has_status() {
            let uid = &object.meta.uid;
            self.written.see(&object.id, uid, &version, status);
        }
        Some(object)
    }

    /// Passes on what has come of a list.
    async fn pass_on(&self, some: &mut Vec<Object>) -> Result<(), WorldGone> {
        if some.is_empty() {
            return Ok(());
        }
        let objects = std::mem::take(some);
        let at = unix_ns();
        self.send(Event::Some { objects, at }).await
    }

    async fn send(&self, event: Event) -> Result<(), WorldGone> {
        self.events.send(event).await.map_err(|_| WorldGone)
    }
}

/// What of a kind is followed.
fn within<K>(api: Api<K>, target: &Target) -> Api<K>
where
    K: Resource,
    K::Scope: NamespaceScope,
{
    api.constrain(target.namespace.as_deref().unwrap_or_default())
}

#[cfg(test)]
#[path = "kind_tests.rs"]
mod tests;
