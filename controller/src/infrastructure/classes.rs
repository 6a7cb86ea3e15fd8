//! A GatewayClass stays for as long as a Gateway uses it (Gateway API, GatewayClass): with its class a Gateway would no longer
//! be ours, and its traffic would end.

use super::{Failure, Operator, Plan};
use crate::report::CONTROLLER_NAME;
use gateway_api::gateway::Gateway;
use gateway_api::gateway_class::GatewayClass;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;
use std::collections::BTreeSet;

/// The Gateway API's name for it.
const FINALIZER: &str = "gateway-exists-finalizer.gateway.networking.k8s.io";

impl Operator {
    /// Gives classes of ours that Gateways use the finalizer, and takes it from those that none uses any more.
    pub(super) async fn hold_classes(&self, plans: &[Plan]) -> Result<(), Failure> {
        let used: BTreeSet<&str> = plans.iter().filter_map(|p| p.class.as_deref()).collect();
        let api: Api<GatewayClass> = Api::all(self.client.clone());
        let classes = match self.request(api.list(&ListParams::default())).await {
            // The cluster does not know the kind, as its watch has said: there is nothing to hold.
            Err(Failure::Api(kube::Error::Api(status))) if status.code == 404 => return Ok(()),
            classes => classes?.items,
        };
        for class in classes {
            let name = class.name_any();
            let is_held = class.finalizers().iter().any(|one| one == FINALIZER);
            let is_used = used.contains(&*name);
            let goes = class.metadata.deletion_timestamp.is_some();
            // One that is going takes no finalizer any more.
            let is_as_wanted = is_held == is_used || (is_used && goes);
            if class.spec.controller_name != CONTROLLER_NAME || is_as_wanted {
                continue;
            }
            if !is_used && self.is_named(&name).await? {
                continue;
            }
            let mut finalizers = class.finalizers().to_vec();
            match is_used {
                true => finalizers.push(FINALIZER.to_owned()),
                false => finalizers.retain(|one| one != FINALIZER),
            }
            // The version makes the server refuse it when somebody has changed the list since.
            let patch = json!({"metadata": {
                "resourceVersion": class.metadata.resource_version,
                "finalizers": finalizers,
            }});
            self.request(api.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)))
                .await?;
            tracing::info!(class = name, is_used, "the finalizer of a GatewayClass");
        }
        Ok(())
    }

    /// Whether any Gateway names a class. The API server is asked itself: that none is known here may also mean that
    /// Gateways cannot be listed.
    async fn is_named(&self, class: &str) -> Result<bool, Failure> {
        let gateways: Api<Gateway> = Api::all(self.client.clone());
        let all = self.request(gateways.list(&ListParams::default())).await?;
        let mut all = all.items.iter();
        Ok(all.any(|gateway| gateway.spec.gateway_class_name == class))
    }
}
