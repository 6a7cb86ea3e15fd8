//! What has listeners, a GatewayConfig or a Gateway of a class of ours, in the one form that is lowered.

use super::super::lowering::Lowered;
use super::Candidate;
use crate::adapt::{self, Fault, gateway::Said};
use crate::report::{CONTROLLER_NAME, Reason, Severity};
use crate::world::{Body, Meta, Object, ObjectId, ObjectKind, World};
use crds::GatewayConfigSpec;
use gateway_api::gateway::GatewaySpec;
use std::sync::Arc;

/// A version of an object that has listeners.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::translate) struct Version {
    spec: Arc<GatewayConfigSpec>,
    /// What the spec was made from, where the object is a Gateway.
    pub said: Option<Arc<Said>>,
}

/// Everything that has listeners of ours.
pub(in crate::translate) fn owners(world: &World) -> impl Iterator<Item = &Object> {
    let configs = world
        .of_kind(ObjectKind::GatewayConfig)
        .filter(|object| !is_parameters_alone(world, object));
    let gateways = world
        .of_kind(ObjectKind::Gateway)
        .filter(|object| match &object.body {
            Body::Gateway(spec) => is_our_class(world, &spec.gateway_class_name),
            // Whose it is cannot be known.
            _ => false,
        });
    configs.chain(gateways)
}

/// Whether a GatewayClass is ours. One that is not there is, by its name: in a directory nobody has to write it.
pub(in crate::translate) fn is_our_class(world: &World, name: &str) -> bool {
    let id = ObjectId::new(ObjectKind::GatewayClass, "", name);
    match world.get(&id).map(|object| &object.body) {
        Some(Body::GatewayClass(spec)) => spec.controller_name == CONTROLLER_NAME,
        Some(_) => false,
        None => name == adapt::CLASS,
    }
}

/// A GatewayConfig without listeners that a Gateway names is what that Gateway's connections are like, and listens
/// nowhere itself.
fn is_parameters_alone(world: &World, config: &Object) -> bool {
    match &config.body {
        Body::GatewayConfig(spec) if spec.listeners.is_empty() && spec.default != Some(true) => {}
        _ => return false,
    }
    let gateways = world.in_namespace(ObjectKind::Gateway, &config.id.namespace);
    gateways
        .filter_map(|gateway| match &gateway.body {
            Body::Gateway(spec) => parameters(spec),
            _ => None,
        })
        .any(|reference| reference.is_ok_and(|name| name == config.id.name))
}

/// The name of the GatewayConfig that a Gateway names, or what it names instead.
fn parameters(spec: &GatewaySpec) -> Option<Result<&str, String>> {
    let reference = spec.infrastructure.as_ref()?.parameters_ref.as_ref()?;
    let ours = reference.group == crds::GROUP && reference.kind == ObjectKind::GatewayConfig.name();
    Some(match ours {
        true => Ok(&reference.name),
        false => Err(format!("{} of {:?}", reference.kind, reference.group)),
    })
}

impl Version {
    /// `None`: the object cannot be read.
    pub(in crate::translate) fn of(world: &World, object: &Object) -> Option<Self> {
        match &object.body {
            Body::GatewayConfig(spec) => Some(Self {
                spec: Arc::clone(spec),
                said: None,
            }),
            Body::Gateway(spec) => Some(Self::of_gateway(world, object, spec)),
            _ => None,
        }
    }

    fn of_gateway(world: &World, object: &Object, spec: &GatewaySpec) -> Self {
        const FIELD: &str = "spec.infrastructure.parametersRef";
        let mut fault = None;
        let base = match parameters(spec) {
            None => None,
            Some(Err(other)) => {
                fault = Some(format!(
                    "must be a GatewayConfig of {}, not {other}",
                    crds::GROUP
                ));
                None
            }
            Some(Ok(name)) => {
                let id = ObjectId::new(ObjectKind::GatewayConfig, &*object.id.namespace, name);
                match world.get(&id).map(|object| &object.body) {
                    Some(Body::GatewayConfig(config)) => Some(config),
                    Some(_) => {
                        fault = Some(format!("{id} cannot be read"));
                        None
                    }
                    None => {
                        fault = Some(format!("{id} is not found"));
                        None
                    }
                }
            }
        };
        let mut said = adapt::gateway::as_config(spec, base.map(|config| &**config));
        if let Some(message) = fault {
            said.faults.push(Fault {
                field: FIELD.to_owned(),
                reason: Reason::InvalidParameters,
                message,
            });
        }
        Self {
            spec: Arc::new(said.spec.clone()),
            said: Some(Arc::new(said)),
        }
    }

    pub(in crate::translate) fn candidate<'a>(
        &'a self,
        id: &'a ObjectId,
        meta: &'a Meta,
    ) -> Candidate<'a> {
        Candidate {
            id,
            meta,
            spec: &self.spec,
            said: self.said.as_deref(),
        }
    }

    /// Whether the version before it serves on. What is wrong with one listener of a Gateway concerns that listener
    /// alone, as the Gateway API has it; only what is still being read holds up the whole.
    pub(in crate::translate) fn is_quarantined_by(&self, judged: &Lowered) -> bool {
        match self.said {
            None => judged.is_quarantining(),
            Some(_) => judged
                .problems
                .iter()
                .any(|p| p.reason == Reason::RefPending && p.severity == Severity::Error),
        }
    }
}
