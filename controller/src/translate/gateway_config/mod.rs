//! GatewayConfigs: all of them together, because ports and the default are theirs in common.

mod access_log;
mod listener;
mod ports;
mod settings;
mod tls;
mod tracing;
mod version;

pub(super) use version::{Version, is_our_class, owners};

use super::certificate::LastGood;
use super::lowering::{Lowered, Lowering};
use super::unbuilt;
use crate::adapt::gateway::Said;
use crate::report::Reason;
use crate::world::{Meta, ObjectId, ObjectKind, World};
use crds::refs::{LabelOperator, LabelSelector};
use crds::{GatewayConfigSpec, ListenerProtocol};
use model::{HostPattern, Model};
use ports::Ports;
use std::collections::{BTreeMap, BTreeSet};

/// What Routes need to know of all GatewayConfigs.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Gateways {
    /// Where Routes without parentRefs attach.
    pub default: Option<ObjectId>,
    pub configs: BTreeMap<ObjectId, Gateway>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Gateway {
    /// Those that can be known by a name and a port, in the order of the object.
    pub listeners: Vec<GatewayListener>,
    /// It asks for something about access or limits that is not built.
    pub closed: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct GatewayListener {
    pub name: String,
    /// Of the resource.
    pub key: String,
    pub port: u16,
    pub hostname: HostPattern,
    pub allowed: Allowed,
    /// Kinds of Routes that it takes.
    pub kinds: Vec<ObjectKind>,
    pub state: ListenerState,
}

/// What a listener came to. Routes are counted at it in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ListenerState {
    Serves,
    /// What it refers to is not there: its Routes are accepted, and wait.
    Waits,
    /// It is not accepted, and neither are Routes that name it alone.
    Refused,
}

/// Namespaces from which Routes may attach.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Allowed {
    All,
    Same,
    Selector(LabelSelector),
}

/// A version of a GatewayConfig that is to be in effect.
pub(super) struct Candidate<'a> {
    pub id: &'a ObjectId,
    pub meta: &'a Meta,
    pub spec: &'a GatewayConfigSpec,
    /// What the spec was made from, where it is a Gateway.
    pub said: Option<&'a Said>,
}

/// Kinds of Routes that the listeners of a GatewayConfig take.
const ROUTE_KINDS: &[ObjectKind] = &[
    ObjectKind::Route,
    ObjectKind::HTTPRoute,
    ObjectKind::GRPCRoute,
];

/// The identity of the GatewayConfig that is implied where there is none (one listener, HTTP on 8080).
pub(super) fn implied() -> ObjectId {
    ObjectId::new(ObjectKind::GatewayConfig, "diolkos-system", "default")
}

fn implied_listener() -> crds::Listener {
    crds::Listener {
        name: "http".into(),
        port: 8080,
        protocol: ListenerProtocol::Http,
        ..crds::Listener::default()
    }
}

/// Whether a version of a GatewayConfig is acceptable by itself: without regard to the others, whose ports and
/// default come and go.
pub(super) fn judge(world: &World, last_good: &LastGood, candidate: &Candidate<'_>) -> Lowered {
    lower(world, last_good, std::slice::from_ref(candidate), false)
        .1
        .remove(candidate.id)
        .unwrap_or_default()
}

/// What these versions give together. There may be none: then one is implied. `apart`: each Gateway has ports of its own.
pub(super) fn lower(
    world: &World,
    last_good: &LastGood,
    candidates: &[Candidate<'_>],
    apart: bool,
) -> (Gateways, BTreeMap<ObjectId, Lowered>) {
    let mut gateways = Gateways::default();
    let mut lowered = BTreeMap::new();
    let mut by_age: Vec<&Candidate<'_>> = candidates.iter().collect();
    by_age.sort_by_key(|c| (c.meta.created, c.id));
    let mut in_common = Ports::default();
    let (model, nothing) = (Model::default(), Gateways::default());
    for candidate in by_age {
        let mut l = Lowering {
            world,
            model: &model,
            gateways: &nothing,
            last_good,
            id: candidate.id,
            meta: candidate.meta,
            out: Lowered::default(),
        };
        if candidate.spec.default == Some(true) {
            match &gateways.default {
                None => gateways.default = Some(candidate.id.clone()),
                Some(first) => {
                    let message = format!("{first} is older and is the default");
                    l.warn("spec.default", Reason::NotDefault, message);
                }
            }
        }
        let mut own = Ports::default();
        let ports = match apart && candidate.said.is_some() {
            true => &mut own,
            false => &mut in_common,
        };
        let gateway = l.gateway_config(candidate, ports);
        lowered.insert(candidate.id.clone(), l.out);
        gateways.configs.insert(candidate.id.clone(), gateway);
    }
    (gateways, lowered)
}

/// The implied GatewayConfig, as if somebody had written it.
pub(super) fn lower_implied(
    world: &World,
    last_good: &LastGood,
) -> (Gateways, BTreeMap<ObjectId, Lowered>) {
    let (id, meta) = (implied(), Meta::default());
    let spec = GatewayConfigSpec {
        default: Some(true),
        ..GatewayConfigSpec::default()
    };
    let candidate = Candidate {
        id: &id,
        meta: &meta,
        spec: &spec,
        said: None,
    };
    lower(world, last_good, &[candidate], false)
}

impl Lowering<'_> {
    fn gateway_config(&mut self, candidate: &Candidate<'_>, ports: &mut Ports) -> Gateway {
        let (spec, said) = (candidate.spec, candidate.said);
        let mut gateway = Gateway::default();
        for found in unbuilt::find(ObjectKind::GatewayConfig, spec) {
            gateway.closed |= found.closes;
            self.not_built(found);
        }
        let settings = self.settings(spec);
        let implied = [implied_listener()];
        let lacks_parameters = said.is_some_and(|said| {
            let mut faults = said.faults.iter();
            faults.any(|fault| fault.reason == Reason::InvalidParameters)
        });
        let listeners = match (spec.listeners.is_empty(), said) {
            (true, None) => &implied[..],
            // With what connections are to be like unknown, there are none.
            _ if lacks_parameters => &[],
            _ => &spec.listeners,
        };
        let mut names = BTreeSet::new();
        for (i, listener) in listeners.iter().enumerate() {
            let field = format!("spec.listeners[{i}]");
            if !names.insert(listener.name.as_str()) {
                let message = "another listener has this name";
                self.error(format!("{field}.name"), Reason::Invalid, message);
                continue;
            }
            let said = said.and_then(|s| s.listeners.iter().find(|l| l.name == *listener.name));
            // Why is said below, by the names of the Gateway.
            let ports = match said.and_then(|said| said.conflict.as_ref()) {
                Some(_) => None,
                None => Some(&mut *ports),
            };
            if let Some(mut one) = self.listener(&field, i, listener, &settings, ports) {
                one.kinds = match said {
                    Some(said) => said.kinds.clone(),
                    None => ROUTE_KINDS.to_vec(),
                };
                gateway.listeners.push(one);
            }
        }
        let known = |name: &str| gateway.listeners.iter().any(|l| l.name == name);
        let unknown = said.iter().flat_map(|said| &said.listeners);
        let unknown = unknown.filter(|l| !known(&l.name));
        let unknown: Vec<_> = unknown.map(|l| self.refused(l)).collect();
        gateway.listeners.extend(unknown);
        if let Some(said) = said {
            for problem in &mut self.out.problems {
                problem.field = said.names.theirs(&problem.field);
            }
            for fault in &said.faults {
                let (field, message) = (fault.field.clone(), fault.message.clone());
                match fault.reason {
                    Reason::NotBuilt => self.warn(field, fault.reason, message),
                    _ => self.error(field, fault.reason, message),
                }
            }
            // The first certificate stands in two places.
            self.out.problems.sort();
            self.out.problems.dedup();
        }
        gateway
    }
}

/// Whether labels fulfil all requirements of a selector; an empty selector takes everything.
pub(super) fn selects(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    let exact = selector
        .match_labels
        .iter()
        .all(|(key, value)| labels.get(key) == Some(value));
    exact
        && selector.match_expressions.iter().all(|r| {
            let value = labels.get(r.key.as_str());
            let listed = value.is_some_and(|v| r.values.iter().any(|one| one.as_str() == v));
            match r.operator {
                LabelOperator::In => listed,
                LabelOperator::NotIn => !listed,
                LabelOperator::Exists => value.is_some(),
                LabelOperator::DoesNotExist => value.is_none(),
            }
        })
}
