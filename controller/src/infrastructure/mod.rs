//! Data planes of Gateways, and of GatewayConfigs that ask for their own: for each a Deployment with its ServiceAccount,
//! PodDisruptionBudget, Service and the Secret of the push channel. The leader alone applies them, and takes away what is
//! for no Gateway of ours any more, or for a GatewayConfig that shares data planes again.
//!
//! What is wanted is compared by a hash with what was applied, so that nothing is written without need. What others change or
//! delete of it is applied again a second later ([`drift`]), and now and then everything is.

mod classes;
mod drift;
mod objects;
mod pod_template;

pub(crate) use objects::ADMIN_PORT;
pub use objects::{CONFIG_NAME, GATEWAY_NAME, Plan, Settings};
pub(crate) use pod_template::PodTemplate;

use crate::ca::keeper::{Keeper, KeeperError};
use crate::groups::own_group;
use crate::leader::Leadership;
use crate::report::CONTROLLER_NAME;
use crate::watch::handle::WorldHandle;
use crate::world::{ObjectKind, Scope};
use crds::GatewayConfig;
use drift::{Drift, Found};
use gateway_api::gateway::Gateway;
use gateway_api::gateway_class::GatewayClass;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{Secret, Service, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use kube::{Api, Client, Resource, ResourceExt};
use objects::{AUTOSCALER, MANAGED_BY};
use serde_json::{Value, json};
use snapshot::Hash;
use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

const FIELD_MANAGER: &str = "diolkos-controller-infrastructure";
/// Changes that come together are one.
const SETTLE: Duration = Duration::from_millis(50);
/// Before what others have changed is put right: who changes it back each time does not keep the API server busy.
const MEND: Duration = Duration::from_secs(1);
/// Everything is applied again so often; certificates are looked at, too, which live for a day.
const AGAIN: Duration = Duration::from_secs(300);
/// Pause after a failure: at first, and at most after it has doubled again and again.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// One request to the API server.
const REQUEST: Duration = Duration::from_secs(10);

/// Why data planes are not as they should be.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Api(#[from] kube::Error),
    #[error("the API server did not answer")]
    Silent,
    #[error("this replica leads no more")]
    Over,
    #[error("what they are for is gone, or is another of that name")]
    Owner,
    #[error("{0}")]
    Certificate(#[from] KeeperError),
    #[error("{0}")]
    Object(#[from] serde_json::Error),
}

/// See the module.
pub struct Operator {
    pub client: Client,
    pub world: WorldHandle,
    pub keeper: Arc<Keeper<Api<Secret>>>,
    pub leadership: Leadership,
    /// Ticks when Gateways or GatewayConfigs have changed.
    pub changed: watch::Receiver<u64>,
    /// Where there are Gateways and GatewayConfigs.
    pub scope: Scope,
    pub settings: Settings,
}

/// What was applied, by group and kind.
#[derive(Default)]
struct Applied(BTreeMap<(String, String), Left>);

/// How an object was left.
struct Left {
    wanted: Hash,
    /// Which of its fields are ours; `None`: there is no such object.
    ours: Option<Hash>,
}

impl Applied {
    fn is(&self, group: &str, kind: &str, wanted: Hash) -> bool {
        let left = self.0.get(&(group.to_owned(), kind.to_owned()));
        left.is_some_and(|left| left.wanted == wanted)
    }

    fn leave(&mut self, group: &str, kind: &str, wanted: Hash, object: Option<&ObjectMeta>) {
        let ours = object.map(drift::ours);
        let left = Left { wanted, ours };
        self.0.insert((group.to_owned(), kind.to_owned()), left);
    }

    /// Forgets what others have changed, and says whether there was any.
    fn compare(&mut self, found: &Found) -> bool {
        let drifted: Vec<(String, String)> = match found {
            Found::Object { group, kind, ours } => {
                let key = (group.clone(), (*kind).to_owned());
                let left = self.0.get(&key);
                let is_changed = left.is_some_and(|left| left.ours != *ours);
                is_changed.then_some(key).into_iter().collect()
            }
            Found::List {
                kind,
                namespace,
                groups,
            } => {
                let is_here = |group: &str| {
                    let namespace = namespace.as_deref();
                    namespace.is_none_or(|here| group.split('/').next() == Some(here))
                };
                let gone = self.0.iter().filter(|((group, of), left)| {
                    let is_of_it = of == kind && is_here(group);
                    is_of_it && left.ours.is_some() && !groups.contains(group)
                });
                gone.map(|(key, _)| key.clone()).collect()
            }
        };
        for key in &drifted {
            let (group, kind) = key;
            tracing::info!(
                event = "drift",
                group,
                kind,
                "others have changed or deleted it"
            );
            self.0.remove(key);
        }
        !drifted.is_empty()
    }
}

impl Operator {
    /// Works while leading, until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        self.leadership = self.leadership.ending(&stop);
        let mut applied = Applied::default();
        let mut drift = None;
        let mut since = Instant::now();
        let mut retry = RETRY.0;
        let mut term = None;
        loop {
            let mut pause = AGAIN;
            let before = std::mem::replace(&mut term, self.leadership.term());
            if term != before {
                drift = term.map(|_| Drift::of(&self.client, &self.scope));
            }
            if term != before || since.elapsed() >= AGAIN {
                applied = Applied::default();
                since = Instant::now();
            }
            if term.is_some() {
                match self.reconcile(&mut applied).await {
                    true => retry = RETRY.0,
                    false => {
                        pause = retry.mul_f64(0.5 + 0.5 * rand::random::<f64>());
                        retry = (retry * 2).min(RETRY.1);
                    }
                }
            }
            let drifted = async {
                match &mut drift {
                    Some(drift) => drift.found(&mut applied).await,
                    None => pending().await,
                }
            };
            let settle = tokio::select! {
                () = stop.cancelled() => return,
                () = self.leadership.changed() => continue,
                Ok(()) = self.changed.changed() => SETTLE,
                () = drifted => MEND,
                () = sleep(pause) => continue,
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(settle) => {}
            }
        }
    }

    /// Whether everything is as it should be.
    async fn reconcile(&self, applied: &mut Applied) -> bool {
        // Before everything is listed, what is not known yet is not gone.
        if !self.world.missing().is_empty() {
            return false;
        }
        let plans = self.world.data_planes().await;
        let mut fine = true;
        for plan in &plans {
            if !self.leadership.holds() {
                return false;
            }
            // Its Pods would wait for ever for their certificate. The owner's status says what is missing.
            if !self.scope.includes_secrets_of(&plan.owner.namespace) {
                continue;
            }
            if let Err(error) = self.apply(plan, applied).await {
                tracing::warn!(owner = %plan.owner, %error, "data planes cannot be applied");
                fine = false;
            }
        }
        let groups: BTreeSet<String> = plans.iter().map(|plan| own_group(&plan.owner)).collect();
        applied.0.retain(|(group, _), _| groups.contains(group));
        if !self.leadership.holds() {
            return false;
        }
        // Who looks at some namespaces does not know who else uses a class.
        if self.scope.is_cluster()
            && let Err(error) = self.hold_classes(&plans).await
        {
            tracing::warn!(%error, "GatewayClasses in use cannot be kept from going, or those out of use be let go");
            fine = false;
        }
        if let Err(error) = self.remove_others(&groups).await {
            tracing::warn!(%error, "data planes that nothing asks for any more cannot be removed");
            fine = false;
        }
        fine
    }

    /// One request to the API server, while leading: what comes late would undo what the next leader does.
    async fn request<T, E: Into<Failure>>(
        &self,
        answer: impl Future<Output = Result<T, E>>,
    ) -> Result<T, Failure> {
        let answer = self.leadership.request(timeout(REQUEST, answer)).await;
        let answer = answer.ok_or(Failure::Over)?;
        answer.map_err(|_| Failure::Silent)?.map_err(Into::into)
    }

    async fn apply(&self, plan: &Plan, applied: &mut Applied) -> Result<(), Failure> {
        let group = own_group(&plan.owner);
        let kind = |object: &Value| object["kind"].as_str().unwrap_or_default().to_owned();
        let objects = plan.objects(&self.settings).into_iter().map(|object| {
            let hash = Hash::of(object.to_string().as_bytes());
            (kind(&object), object, hash)
        });
        let mut objects: Vec<_> = objects.collect();
        objects.retain(|(kind, _, hash)| !applied.is(&group, kind, *hash));
        let is_whole = objects.is_empty() && applied.is(&group, SECRET, Hash::default());
        if !is_whole && !self.stays(plan).await? {
            return Ok(());
        }
        self.certificate(plan, applied).await?;
        for (kind, object, hash) in objects {
            let Some(resource) = resource(&kind) else {
                continue;
            };
            let object: DynamicObject = serde_json::from_value(object)?;
            let api = self.api(&plan.owner.namespace, &resource);
            let parameters = PatchParams::apply(FIELD_MANAGER).force();
            let name = object.name_any();
            let patch = Patch::Apply(&object);
            let patched = self.request(api.patch(&name, &parameters, &patch)).await?;
            tracing::info!(owner = %plan.owner, kind, name, "applied");
            applied.leave(&group, &kind, hash, Some(&patched.metadata));
        }
        let none = Hash::of(b"");
        if plan.is_fixed() && !applied.is(&group, AUTOSCALER, none) {
            self.delete(&plan.owner.namespace, AUTOSCALER, &plan.name())
                .await?;
            applied.leave(&group, AUTOSCALER, none, None);
        }
        Ok(())
    }

    /// Whether the owner is not about to go. Else the cluster takes away what is the owner's, in whatever order, and it must not
    /// come back meanwhile.
    async fn stays(&self, plan: &Plan) -> Result<bool, Failure> {
        let owner = &plan.owner;
        let resource = match owner.kind {
            ObjectKind::GatewayConfig => ApiResource::erase::<GatewayConfig>(&()),
            _ => ApiResource::erase::<Gateway>(&()),
        };
        let api = self.api(&owner.namespace, &resource);
        let found = self.request(api.get_metadata_opt(&owner.name)).await?;
        let is_same = |found: &ObjectMeta| found.uid.as_ref() == Some(&plan.uid);
        let found = found.map(|found| found.metadata).filter(is_same);
        let found = found.ok_or(Failure::Owner)?;
        Ok(found.deletion_timestamp.is_none())
    }

    /// Takes an object away that may be gone already.
    async fn delete(&self, namespace: &str, kind: &str, name: &str) -> Result<(), Failure> {
        let Some(resource) = resource(kind) else {
            return Ok(());
        };
        let api = self.api(namespace, &resource);
        let parameters = DeleteParams::background();
        match self.request(api.delete(name, &parameters)).await {
            Err(Failure::Api(kube::Error::Api(status))) if status.code == 404 => Ok(()),
            Err(error) => Err(error),
            Ok(_) => Ok(()),
        }
    }

    /// The Secret that the data planes mount: a certificate that names their group.
    async fn certificate(&self, plan: &Plan, applied: &mut Applied) -> Result<(), Failure> {
        let name = plan.name();
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &plan.owner.namespace);
        let found = self.request(api.get_opt(&name)).await?;
        let data = found.as_ref().and_then(|secret| secret.data.as_ref());
        let group = own_group(&plan.owner);
        let renewed = self.keeper.client_data(&group, data, SystemTime::now());
        let renewed = self.request(renewed).await?;
        let Some(data) = renewed else {
            let found = found.as_ref().map(|secret| &secret.metadata);
            applied.leave(&group, SECRET, Hash::default(), found);
            return Ok(());
        };
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
            "metadata": plan.metadata(), "data": data,
        });
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        let patch = Patch::Apply(&secret);
        let patched = self.request(api.patch(&name, &parameters, &patch)).await?;
        applied.leave(&group, SECRET, Hash::default(), Some(&patched.metadata));
        tracing::info!(owner = %plan.owner, "data planes have a new certificate");
        Ok(())
    }

    /// Takes away what was made for a Gateway that is another's now, or for a GatewayConfig that asks for no data planes of
    /// its own any more.
    async fn remove_others(&self, groups: &BTreeSet<String>) -> Result<(), Failure> {
        for deployment in self.made().await? {
            let namespace = deployment.namespace().unwrap_or_default();
            let name = deployment.name_any();
            if groups.contains(&format!("{namespace}/{name}"))
                || deployment.meta().deletion_timestamp.is_some()
            {
                continue;
            }
            if !self.is_needless(&namespace, &deployment).await? {
                continue;
            }
            tracing::info!(
                namespace,
                name,
                "data planes that nothing asks for are removed"
            );
            for kind in KINDS {
                // One that was written while that was permitted stays, and its certificate expires within a day.
                if kind != SECRET || self.scope.includes_secrets_of(&namespace) {
                    self.delete(&namespace, kind, &name).await?;
                }
            }
        }
        Ok(())
    }

    /// The Deployments that were made.
    async fn made(&self) -> Result<Vec<Deployment>, Failure> {
        let (key, value) = MANAGED_BY;
        let ours = ListParams::default().labels(&format!("{key}={value}"));
        let mut made = Vec::new();
        for namespace in self.scope.places() {
            let all: Api<Deployment> = Api::all(self.client.clone());
            let here = all.constrain(namespace.as_deref().unwrap_or_default());
            made.extend(self.request(here.list(&ours)).await?.items);
        }
        Ok(made)
    }

    /// Whether what a Deployment was made for asks for it no more. The API server is asked itself: that an object is not known
    /// here may also mean that its kind cannot be listed. With one that is gone the cluster takes away what is its own.
    async fn is_needless(&self, namespace: &str, deployment: &Deployment) -> Result<bool, Failure> {
        let owners = deployment.owner_references();
        let named = |kind: &str| Some(&owners.iter().find(|owner| owner.kind == kind)?.name);
        if let Some(gateway) = named(&Gateway::kind(&())) {
            return self.is_anothers(namespace, gateway).await;
        }
        let Some(config) = named(ObjectKind::GatewayConfig.name()) else {
            return Ok(false);
        };
        let configs = ApiResource::erase::<GatewayConfig>(&());
        let configs = self.api(namespace, &configs);
        // One that cannot be read asks for them all the same.
        let found = self.request(configs.get_opt(config)).await?;
        Ok(found.is_some_and(|config| !asks_for_data_planes(&config.data["spec"])))
    }

    /// Whether a Gateway names a class of another controller.
    async fn is_anothers(&self, namespace: &str, gateway: &str) -> Result<bool, Failure> {
        let gateways: Api<Gateway> = Api::namespaced(self.client.clone(), namespace);
        let Some(gateway) = self.request(gateways.get_opt(gateway)).await? else {
            return Ok(false);
        };
        let classes: Api<GatewayClass> = Api::all(self.client.clone());
        let class = classes.get_opt(&gateway.spec.gateway_class_name);
        let class = self.request(class).await?;
        Ok(class.is_some_and(|class| class.spec.controller_name != CONTROLLER_NAME))
    }

    fn api(&self, namespace: &str, resource: &ApiResource) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), namespace, resource)
    }
}

/// As the translator has it, of a GatewayConfig that may be of a version that it cannot read.
fn asks_for_data_planes(spec: &Value) -> bool {
    let listeners = spec["listeners"].as_array();
    spec["dataPlane"].is_object() && listeners.is_some_and(|all| !all.is_empty())
}

/// What holds the certificate.
const SECRET: &str = "Secret";

/// Kinds of what is made. The Deployment goes last: by it the rest is found.
const KINDS: [&str; 6] = [
    AUTOSCALER,
    "Service",
    "PodDisruptionBudget",
    SECRET,
    "ServiceAccount",
    "Deployment",
];

/// What is made, for whoever compares it with what is permitted.
#[cfg(test)]
pub(crate) fn resources() -> impl Iterator<Item = ApiResource> {
    KINDS.into_iter().filter_map(resource)
}

fn resource(kind: &str) -> Option<ApiResource> {
    Some(match kind {
        AUTOSCALER => ApiResource::erase::<HorizontalPodAutoscaler>(&()),
        "Service" => ApiResource::erase::<Service>(&()),
        "PodDisruptionBudget" => ApiResource::erase::<PodDisruptionBudget>(&()),
        SECRET => ApiResource::erase::<Secret>(&()),
        "ServiceAccount" => ApiResource::erase::<ServiceAccount>(&()),
        "Deployment" => ApiResource::erase::<Deployment>(&()),
        _ => return None,
    })
}

#[cfg(test)]
mod drift_tests;
#[cfg(test)]
mod tests;
