//! What has listeners, a GatewayConfig, a Gateway of a class of ours or a ListenerSet of such a Gateway, in the one form that
//! is lowered.

use super::super::lowering::Lowered;
use super::Candidate;
use crate::adapt::{self, Fault, gateway::Said};
use crate::report::{CONTROLLER_NAME, Reason, Severity};
use crate::world::{Body, Meta, Object, ObjectId, ObjectKind, Refusal, World};
use crds::GatewayConfigSpec;
use gateway_api::gateway::GatewaySpec;
use gateway_api::listener_set::ListenerSetSpec;
use std::sync::Arc;

/// Where a Gateway names its parameters.
const PARAMETERS: &str = "spec.infrastructure.parametersRef";
/// And where it names the class that has some.
const CLASS: &str = "spec.gatewayClassName";

/// A version of an object that has listeners.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::translate) struct Version {
    spec: Arc<GatewayConfigSpec>,
    /// What the spec was made from, where the object is a Gateway or a ListenerSet.
    pub said: Option<Arc<Said>>,
    /// Of a ListenerSet, the Gateway that it adds to.
    pub gateway: Option<ObjectId>,
    /// What of the object cannot be read.
    pub unreadable: Box<[Refusal]>,
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
    let sets = world
        .of_kind(ObjectKind::ListenerSet)
        .filter(|object| gateway_of_set(world, object).is_some());
    configs.chain(gateways).chain(sets)
}

/// Whether what has listeners is ours to judge.
pub(in crate::translate) fn is_ours(world: &World, object: &Object) -> bool {
    match &object.body {
        Body::GatewayConfig(_) => true,
        Body::Gateway(spec) => is_our_class(world, &spec.gateway_class_name),
        _ => gateway_of_set(world, object).is_some(),
    }
}

/// The Gateway of ours that a ListenerSet names. Of a set that names none, others speak.
fn gateway_of_set<'a>(world: &'a World, set: &Object) -> Option<(&'a Object, &'a GatewaySpec)> {
    let Body::ListenerSet(spec) = &set.body else {
        return None;
    };
    let parent = &spec.parent_ref;
    let group = parent.group.as_deref().unwrap_or(adapt::GROUP);
    let kind = parent.kind.as_deref().unwrap_or("Gateway");
    if (group, kind) != (adapt::GROUP, "Gateway") {
        return None;
    }
    let namespace = parent.namespace.as_deref().unwrap_or(&set.id.namespace);
    let id = ObjectId::new(ObjectKind::Gateway, namespace, &*parent.name);
    let gateway = world.get(&id)?;
    match &gateway.body {
        Body::Gateway(spec) => {
            is_our_class(world, &spec.gateway_class_name).then_some((gateway, spec))
        }
        _ => None,
    }
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

/// A GatewayConfig without listeners that a Gateway or a class of ours names is what connections of Gateways are like, and
/// listens nowhere itself.
fn is_parameters_alone(world: &World, config: &Object) -> bool {
    match &config.body {
        Body::GatewayConfig(spec) if spec.listeners.is_empty() && spec.default != Some(true) => {}
        _ => return false,
    }
    let is_it = |named: Named| named.config.is_ok_and(|id| id == config.id);
    let mut gateways = world.in_namespace(ObjectKind::Gateway, &config.id.namespace);
    let mut classes = world.of_kind(ObjectKind::GatewayClass);
    gateways.any(|gateway| match &gateway.body {
        Body::Gateway(spec) => named_by_gateway(gateway, spec).is_some_and(is_it),
        _ => false,
    }) || classes.any(|class| {
        is_our_class(world, &class.id.name) && named_by_class(class).is_some_and(is_it)
    })
}

/// What is named as parameters.
pub(in crate::translate) struct Named {
    /// Where a Gateway says so.
    pub field: &'static str,
    /// Or what is named instead.
    pub config: Result<ObjectId, String>,
}

impl Named {
    fn new(
        field: &'static str,
        (group, kind): (&str, &str),
        namespace: Option<&str>,
        name: &str,
    ) -> Self {
        let is_config = (group, kind) == (crds::GROUP, ObjectKind::GatewayConfig.name());
        let config = match namespace.filter(|_| is_config) {
            Some(namespace) => Ok(ObjectId::new(ObjectKind::GatewayConfig, namespace, name)),
            None if is_config => Err("must have a namespace".to_owned()),
            None => {
                let ours = crds::GROUP;
                Err(format!(
                    "must be a GatewayConfig of {ours}, not {kind} of {group:?}"
                ))
            }
        };
        Self { field, config }
    }

    /// What it says, or why that cannot be known.
    fn read<'a>(&self, world: &'a World) -> Result<&'a GatewayConfigSpec, String> {
        let id = self.config.as_ref().map_err(Clone::clone)?;
        match world.get(id).map(|object| &object.body) {
            // Connections without what cannot be read of them are not as they are asked for.
            Some(Body::GatewayConfig(config)) if world.is_whole(id) => Ok(config),
            Some(_) => Err(format!("{id} cannot be read")),
            None => Err(world.not_found(id)),
        }
    }
}

fn named_by_gateway(gateway: &Object, spec: &GatewaySpec) -> Option<Named> {
    let reference = spec.infrastructure.as_ref()?.parameters_ref.as_ref()?;
    let (group, kind) = (&*reference.group, &*reference.kind);
    let namespace = Some(&*gateway.id.namespace);
    Some(Named::new(
        PARAMETERS,
        (group, kind),
        namespace,
        &reference.name,
    ))
}

fn named_by_class(class: &Object) -> Option<Named> {
    let Body::GatewayClass(spec) = &class.body else {
        return None;
    };
    let reference = spec.parameters_ref.as_ref()?;
    let (group, kind) = (&*reference.group, &*reference.kind);
    let namespace = reference.namespace.as_deref();
    Some(Named::new(CLASS, (group, kind), namespace, &reference.name))
}

/// The parameters of a Gateway: those that it names itself, or else those of its class.
pub(in crate::translate) fn parameters_of(
    world: &World,
    gateway: &Object,
    spec: &GatewaySpec,
) -> Option<Named> {
    named_by_gateway(gateway, spec).or_else(|| {
        let class = ObjectId::new(ObjectKind::GatewayClass, "", &*spec.gateway_class_name);
        named_by_class(world.get(&class)?)
    })
}

/// Why the parameters of a class cannot be used.
pub(in crate::translate) fn wrong_parameters(world: &World, class: &Object) -> Option<String> {
    named_by_class(class)?.read(world).err()
}

/// What the connections of a Gateway are like beyond its listeners; or the field that names it, and why it cannot be known.
pub(in crate::translate) fn base<'a>(
    world: &'a World,
    gateway: &Object,
    spec: &GatewaySpec,
) -> Result<Option<&'a GatewayConfigSpec>, (&'static str, String)> {
    let Some(named) = parameters_of(world, gateway, spec) else {
        return Ok(None);
    };
    let read = named.read(world);
    read.map(Some).map_err(|message| (named.field, message))
}

impl Version {
    /// That of a GatewayConfig.
    pub(in crate::translate) fn of_config(spec: &Arc<GatewayConfigSpec>) -> Self {
        Self {
            spec: Arc::clone(spec),
            said: None,
            gateway: None,
            unreadable: Box::default(),
        }
    }

    /// `None`: it is that of a Gateway or a ListenerSet.
    pub(in crate::translate) fn config(&self) -> Option<&GatewayConfigSpec> {
        self.said.is_none().then_some(&*self.spec)
    }

    /// `None`: the object cannot be read.
    pub(in crate::translate) fn of(world: &World, object: &Object) -> Option<Self> {
        let mut version = match &object.body {
            Body::GatewayConfig(spec) => Self::of_config(spec),
            Body::Gateway(spec) => Self::of_gateway(world, object, spec),
            Body::ListenerSet(set) => {
                let (gateway, spec) = gateway_of_set(world, object)?;
                Self::of_set(world, set, gateway, spec)
            }
            _ => return None,
        };
        version.unreadable.clone_from(&object.unreadable);
        Some(version)
    }

    fn of_gateway(world: &World, object: &Object, spec: &GatewaySpec) -> Self {
        let base = base(world, object, spec);
        let known = base.as_ref().copied().unwrap_or_default();
        let mut said = adapt::gateway::as_config(spec, known);
        if let Err((field, message)) = base {
            said.faults.push(Fault {
                field: field.to_owned(),
                reason: Reason::InvalidParameters,
                message,
            });
        }
        Self {
            spec: Arc::new(said.spec.clone()),
            said: Some(Arc::new(said)),
            gateway: None,
            unreadable: Box::default(),
        }
    }

    fn of_set(world: &World, set: &ListenerSetSpec, gateway: &Object, spec: &GatewaySpec) -> Self {
        let base = base(world, gateway, spec);
        let known = base.as_ref().copied().unwrap_or_default();
        let mut said = adapt::gateway::set_as_config(set, spec, known);
        if base.is_err() || adapt::addresses::faults(spec).next().is_some() {
            said.faults.push(Fault {
                field: "spec.parentRef".to_owned(),
                reason: Reason::ParentNotAccepted,
                message: format!("{} is not accepted itself", gateway.id),
            });
        }
        Self {
            spec: Arc::new(said.spec.clone()),
            said: Some(Arc::new(said)),
            gateway: Some(gateway.id.clone()),
            unreadable: Box::default(),
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
            gateway: self.gateway.as_ref(),
            unreadable: &self.unreadable,
        }
    }

    /// Whether it can stand in for a later one: a Gateway without its parameters serves nothing, as does what adds to it,
    /// and what cannot be read is not known.
    pub(in crate::translate) fn can_stand_in(&self) -> bool {
        let refuses = |fault: &Fault| {
            matches!(
                fault.reason,
                Reason::InvalidParameters | Reason::ParentNotAccepted
            )
        };
        let mut faults = self.said.iter().flat_map(|said| &said.faults);
        self.unreadable.is_empty() && !faults.any(refuses)
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
