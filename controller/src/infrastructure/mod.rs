//! Data planes of Gateways, and of GatewayConfigs that ask for their own: for each a Deployment with its ServiceAccount,
//! PodDisruptionBudget, Service and the Secret of the push channel. The leader alone applies them, and takes away what is
//! for no Gateway of ours any more, or for a GatewayConfig that shares data planes again.
//!
//! What is wanted is compared by a hash with what was applied, so that nothing is written without need; now and then
//! everything is applied again, which puts right what others have changed.

mod classes;
mod objects;
mod pod_template;

pub use objects::{CONFIG_NAME, GATEWAY_NAME, Plan, Settings};
pub(crate) use pod_template::PodTemplate;

use crate::ca::keeper::{Keeper, KeeperError};
use crate::groups::own_group;
use crate::leader::Leadership;
use crate::report::CONTROLLER_NAME;
use crate::watch::handle::WorldHandle;
use crate::world::{ObjectKind, Scope};
use crds::GatewayConfig;
use gateway_api::gateway::Gateway;
use gateway_api::gateway_class::GatewayClass;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{Secret, Service, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use kube::{Api, Client, Resource, ResourceExt};
use objects::{AUTOSCALER, MANAGED_BY};
use serde_json::{Value, json};
use snapshot::Hash;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

const FIELD_MANAGER: &str = "diolkos-controller-infrastructure";
/// Changes that come together are one.
const SETTLE: Duration = Duration::from_millis(50);
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
struct Applied(BTreeMap<(String, String), Hash>);

impl Operator {
    /// Works while leading, until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        self.leadership = self.leadership.ending(&stop);
        let mut applied = Applied::default();
        let mut since = Instant::now();
        let mut retry = RETRY.0;
        let mut term = None;
        loop {
            let mut pause = AGAIN;
            let before = std::mem::replace(&mut term, self.leadership.term());
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
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.leadership.changed() => {}
                Ok(()) = self.changed.changed() => sleep(SETTLE).await,
                () = sleep(pause) => {}
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
        self.certificate(plan).await?;
        let group = own_group(&plan.owner);
        for object in plan.objects(&self.settings) {
            let key = (group.clone(), object["kind"].to_string());
            let hash = Hash::of(object.to_string().as_bytes());
            if applied.0.get(&key) == Some(&hash) {
                continue;
            }
            let object: DynamicObject = serde_json::from_value(object)?;
            let Some(resource) = resource(object.types.as_ref().map_or("", |t| &t.kind)) else {
                continue;
            };
            let api = self.api(&plan.owner.namespace, &resource);
            let parameters = PatchParams::apply(FIELD_MANAGER).force();
            let name = object.name_any();
            self.request(api.patch(&name, &parameters, &Patch::Apply(&object)))
                .await?;
            tracing::info!(owner = %plan.owner, kind = resource.kind, name, "applied");
            applied.0.insert(key, hash);
        }
        let key = (group, AUTOSCALER.to_owned());
        let none = Hash::of(b"");
        if plan.is_fixed() && applied.0.get(&key) != Some(&none) {
            self.delete(&plan.owner.namespace, AUTOSCALER, &plan.name())
                .await?;
            applied.0.insert(key, none);
        }
        Ok(())
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
    async fn certificate(&self, plan: &Plan) -> Result<(), Failure> {
        let name = plan.name();
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &plan.owner.namespace);
        let found = self.request(api.get_opt(&name)).await?;
        let data = found.as_ref().and_then(|secret| secret.data.as_ref());
        let group = own_group(&plan.owner);
        let renewed = self.keeper.client_data(&group, data, SystemTime::now());
        let renewed = self.request(renewed).await?;
        let Some(data) = renewed else {
            return Ok(());
        };
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
            "metadata": plan.metadata(), "data": data,
        });
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        self.request(api.patch(&name, &parameters, &Patch::Apply(&secret)))
            .await?;
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
                self.delete(&namespace, kind, &name).await?;
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

/// Kinds of what is made. The Deployment goes last: by it the rest is found.
const KINDS: [&str; 6] = [
    AUTOSCALER,
    "Service",
    "PodDisruptionBudget",
    "Secret",
    "ServiceAccount",
    "Deployment",
];

fn resource(kind: &str) -> Option<ApiResource> {
    Some(match kind {
        AUTOSCALER => ApiResource::erase::<HorizontalPodAutoscaler>(&()),
        "Service" => ApiResource::erase::<Service>(&()),
        "PodDisruptionBudget" => ApiResource::erase::<PodDisruptionBudget>(&()),
        "Secret" => ApiResource::erase::<Secret>(&()),
        "ServiceAccount" => ApiResource::erase::<ServiceAccount>(&()),
        "Deployment" => ApiResource::erase::<Deployment>(&()),
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
