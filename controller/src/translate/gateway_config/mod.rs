//! GatewayConfigs, Gateways and ListenerSets: all of them together, because ports and the default are theirs in common.

mod access_log;
mod certificates;
mod listener;
mod metrics;
mod ports;
mod settings;
mod tls;
mod tracing;
mod version;

pub(super) use listener::terminates_tls;
pub(super) use version::{
    Version, base, is_our_class, is_ours, owners, parameters_of, wrong_parameters,
};

use super::certificate::LastGood;
use super::ingress;
use super::lowering::{Lowered, Lowering};
use super::resources::Resources;
use super::translator::say_unreadable;
use super::{backend_tls, effective, tenants, unbuilt};
use crate::adapt::gateway::{BACKEND_CERTIFICATE, Said, kinds_of, takes_sets_from};
use crate::infrastructure::PodTemplate;
use crate::report::{Problem, Reason};
use crate::world::part::is_of_whole;
use crate::world::{Body, Meta, ObjectId, ObjectKind, Refusal, World};
use crds::refs::{LabelOperator, LabelSelector};
use crds::{FromNamespaces, GatewayConfigSpec, ListenerProtocol};
use listener::Place;
use model::HostPattern;
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
    /// Below it Tenants have their subdomains.
    pub base_domain: Option<String>,
    /// Of a GatewayConfig: it is served by data planes of its own.
    pub apart: bool,
}

impl Gateways {
    pub(super) fn base_domains(&self) -> impl Iterator<Item = &str> {
        let all = self.configs.values();
        all.filter_map(|gateway| gateway.base_domain.as_deref())
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct GatewayListener {
    pub name: String,
    /// Of the resource.
    pub key: String,
    pub port: u16,
    pub hostname: HostPattern,
    pub https: bool,
    /// Requests may have escaped slashes in their paths.
    pub keeps_slashes: bool,
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
#[derive(Clone, Copy)]
pub(super) struct Candidate<'a> {
    pub id: &'a ObjectId,
    pub meta: &'a Meta,
    pub spec: &'a GatewayConfigSpec,
    /// What the spec was made from, where it is a Gateway or a ListenerSet.
    pub said: Option<&'a Said>,
    /// Of a ListenerSet, the Gateway that it adds to.
    pub gateway: Option<&'a ObjectId>,
    /// What of the object cannot be read.
    pub unreadable: &'a [Refusal],
}

impl Candidate<'_> {
    /// Whether with it nothing is implied. What has data planes of its own leaves the shared ones as they are, and so does
    /// what only says what connections are like.
    fn is_in_place_of_implied(&self, apart: bool) -> bool {
        let listens = !self.spec.listeners.is_empty() && self.own_data_planes().is_none();
        !apart || self.said.is_none() && (listens || self.spec.default == Some(true))
    }

    /// What a GatewayConfig asks of data planes of its own; `None`: it has none, or it is none. Without listeners it says
    /// what those of Gateways are like.
    pub(super) fn own_data_planes(&self) -> Option<&crds::DataPlane> {
        let listens = self.said.is_none() && !self.spec.listeners.is_empty();
        self.spec.data_plane.as_ref().filter(|_| listens)
    }
}

/// Listeners of a Gateway with those of its ListenerSets: what one data plane is to hold, with a margin.
const MOST_LISTENERS: usize = 2048;

/// Kinds of Routes that the listeners of a GatewayConfig take.
fn kinds_of_config(protocol: ListenerProtocol) -> Vec<ObjectKind> {
    let mut kinds = kinds_of(protocol).to_vec();
    if matches!(protocol, ListenerProtocol::Http | ListenerProtocol::Https) {
        kinds.push(ObjectKind::Ingress);
    }
    kinds
}

/// The identity of the GatewayConfig that is implied where there is none: HTTP on 8080, and HTTPS on 8443 where Ingresses
/// bring certificates.
pub(super) fn implied() -> ObjectId {
    ObjectId::new(ObjectKind::GatewayConfig, "diolkos-system", "default")
}

/// HTTPS where Ingresses bring certificates.
fn implied_listeners(https: bool) -> Vec<crds::Listener> {
    let listener = |name: &str, port, protocol| crds::Listener {
        name: name.into(),
        port,
        protocol,
        ..crds::Listener::default()
    };
    let mut listeners = vec![listener("http", 8080, ListenerProtocol::Http)];
    if https {
        listeners.push(listener("https", 8443, ListenerProtocol::Https));
    }
    listeners
}

/// What GatewayConfigs are lowered with.
#[derive(Clone, Copy)]
pub(super) struct Around<'a> {
    pub world: &'a World,
    pub last_good: &'a LastGood,
    pub ingresses: &'a ingress::Index,
    /// There are several groups of data planes, each with ports of its own.
    pub apart: bool,
}

/// Whether a version of a GatewayConfig is acceptable by itself: without regard to the others, whose ports and
/// default come and go.
pub(super) fn judge(around: Around<'_>, candidate: &Candidate<'_>) -> Lowered {
    if candidate.gateway.is_some() {
        let (resources, nothing) = (Resources::default(), Gateways::default());
        let mut l = lowering(around, &resources, &nothing, candidate);
        l.gateway_config(candidate, 0, false, Some(&mut Ports::default()));
        return l.out;
    }
    lower(around, std::slice::from_ref(candidate))
        .1
        .remove(candidate.id)
        .unwrap_or_default()
}

/// What these versions give together.
pub(super) fn lower(
    around: Around<'_>,
    candidates: &[Candidate<'_>],
) -> (Gateways, BTreeMap<ObjectId, Lowered>) {
    let mut gateways = Gateways::default();
    let mut lowered = BTreeMap::new();
    let mut by_age: Vec<&Candidate<'_>> = candidates.iter().collect();
    by_age.sort_by_key(|c| (c.meta.created, c.id));
    let mut in_common = Ports::default();
    let (resources, nothing) = (Resources::default(), Gateways::default());
    let mut sets: BTreeMap<&ObjectId, Vec<&Candidate<'_>>> = BTreeMap::new();
    for set in by_age.extract_if(.., |candidate| candidate.gateway.is_some()) {
        sets.entry(set.gateway.unwrap_or(set.id))
            .or_default()
            .push(set);
    }
    for candidate in by_age {
        let mut l = lowering(around, &resources, &nothing, candidate);
        if candidate.spec.default == Some(true) {
            match &gateways.default {
                None => gateways.default = Some(candidate.id.clone()),
                Some(first) => {
                    let message = format!("{first} is older and is the default");
                    l.warn("spec.default", Reason::NotDefault, message);
                }
            }
        }
        let mut own = Ports::own();
        let is_apart = around.apart && candidate.own_data_planes().is_some();
        let ports = match is_apart || (around.apart && candidate.said.is_some()) {
            true => &mut own,
            false => &mut in_common,
        };
        let is_default = gateways.default.as_ref() == Some(candidate.id);
        let mut gateway = l.gateway_config(candidate, 0, is_default, Some(&mut *ports));
        gateway.apart = is_apart;
        if around.apart {
            l.data_planes(candidate);
        }
        lowered.insert(candidate.id.clone(), l.out);
        gateways.configs.insert(candidate.id.clone(), gateway);
        // What it has itself goes before what others add, the older before the younger.
        let mut order = candidate.spec.listeners.len();
        let in_use = |gateways: &Gateways, id: &ObjectId| -> Vec<u16> {
            let all = gateways.configs.get(id).into_iter();
            let all = all.flat_map(|gateway| &gateway.listeners);
            let all = all.filter(|l| l.state != ListenerState::Refused);
            all.map(|listener| listener.port).collect()
        };
        let mut taken = in_use(&gateways, candidate.id);
        let mut sets = sets.remove(candidate.id).unwrap_or_default();
        sets.sort_by_cached_key(|set| (set.meta.created, set.id.path()));
        for set in sets {
            let mut l = lowering(around, &resources, &nothing, set);
            let admitted = l.is_admitted(candidate.id);
            let added = l.gateway_config(set, order, false, admitted.then_some(&mut *ports));
            if admitted {
                order += set.spec.listeners.len();
            }
            conflict_with(&taken, set, &mut l.out.problems);
            lowered.insert(set.id.clone(), l.out);
            gateways.configs.insert(set.id.clone(), added);
            taken.extend(in_use(&gateways, set.id));
        }
    }
    (gateways, lowered)
}

/// A protocol that is not known conflicts, in a ListenerSet, with what is spoken on its port already.
fn conflict_with(taken: &[u16], set: &Candidate<'_>, problems: &mut [Problem]) {
    let listeners = set.said.iter().flat_map(|said| &said.listeners);
    for (i, listener) in listeners.enumerate() {
        let field = format!("spec.listeners[{i}].protocol");
        let of_it = |p: &&mut Problem| {
            p.reason == Reason::UnsupportedProtocol
                && p.field == field
                && taken.contains(&listener.port)
        };
        if let Some(problem) = problems.iter_mut().find(of_it) {
            problem.reason = Reason::ProtocolConflict;
            problem.message = format!("another protocol is spoken on port {}", listener.port);
        }
    }
}

fn lowering<'a>(
    around: Around<'a>,
    resources: &'a Resources,
    nothing: &'a Gateways,
    candidate: &Candidate<'a>,
) -> Lowering<'a> {
    Lowering {
        world: around.world,
        resources,
        gateways: nothing,
        last_good: around.last_good,
        ingresses: around.ingresses,
        tenants: &tenants::NOBODY,
        policies: &backend_tls::NONE,
        slots: &effective::NOWHERE,
        id: candidate.id,
        gateway: candidate.gateway,
        meta: candidate.meta,
        out: Lowered::default(),
    }
}

/// Whether nobody says where the data planes that all share listen.
pub(super) fn is_implied(around: Around<'_>, candidates: &[Candidate<'_>]) -> bool {
    let mut all = candidates.iter();
    !all.any(|candidate| candidate.is_in_place_of_implied(around.apart))
}

/// The same with the implied GatewayConfig, as if somebody had written it.
pub(super) fn lower_implied(
    around: Around<'_>,
    candidates: &[Candidate<'_>],
) -> (Gateways, BTreeMap<ObjectId, Lowered>) {
    let (id, meta) = (implied(), Meta::default());
    let spec = GatewayConfigSpec {
        default: Some(true),
        ..GatewayConfigSpec::default()
    };
    let implied = Candidate {
        id: &id,
        meta: &meta,
        spec: &spec,
        said: None,
        gateway: None,
        unreadable: &[],
    };
    let all: Vec<Candidate<'_>> = [implied]
        .into_iter()
        .chain(candidates.iter().copied())
        .collect();
    lower(around, &all)
}

impl Lowering<'_> {
    /// Key of the certificate that a Gateway shows to backends; `None`: it shows none.
    fn backend_certificate(&mut self, said: &Said) -> Option<String> {
        let reference = said.backend_certificate.as_ref()?;
        // The listeners of a ListenerSet show the Gateway's: what that refers to, the Gateway may refer to.
        let own = self.id;
        self.id = self.gateway.unwrap_or(own);
        let found = self.certificate(BACKEND_CERTIFICATE, reference);
        self.id = own;
        found.map(|(key, _)| key)
    }

    /// Whether a Gateway takes this ListenerSet.
    fn is_admitted(&mut self, gateway: &ObjectId) -> bool {
        let found = self.object(gateway).map(|object| &object.body);
        let Some(Body::Gateway(spec)) = found else {
            return false;
        };
        let admitted = match takes_sets_from(spec) {
            None => false,
            Some((FromNamespaces::All, _)) => true,
            Some((FromNamespaces::Same, _)) => self.is_allowed(&Allowed::Same, gateway),
            Some((FromNamespaces::Selector, labels)) => {
                self.is_allowed(&Allowed::Selector(labels), gateway)
            }
        };
        if !admitted {
            let message = format!(
                "{gateway} takes no ListenerSets from namespace {}",
                self.id.namespace
            );
            self.error("spec.parentRef", Reason::NotAllowed, message);
        }
        admitted
    }

    /// What of the data planes that a GatewayConfig asks for cannot be had.
    fn data_planes(&mut self, candidate: &Candidate<'_>) {
        let asks = candidate.said.is_none() && candidate.spec.data_plane.is_some();
        if asks && candidate.own_data_planes().is_none() {
            let message =
                "has no effect without listeners: the shared data planes serve what is implied";
            self.warn("spec.dataPlane", Reason::Invalid, message);
        }
    }

    fn pod_template(&mut self, asked: &crds::DataPlane) {
        let Some(Err((at, message))) = asked.pod_template.as_ref().map(PodTemplate::read) else {
            return;
        };
        let field = match at.as_str() {
            "." => "spec.dataPlane.podTemplate".to_owned(),
            at => format!("spec.dataPlane.podTemplate.{at}"),
        };
        let message = format!("{message}: nothing of podTemplate has an effect");
        self.warn(field, Reason::Invalid, message);
    }

    /// `first`: place of its first listener. `is_default`: Ingresses of any class attach. `ports`: where its listeners take their places; `None`: they have none.
    fn gateway_config(
        &mut self,
        candidate: &Candidate<'_>,
        first: usize,
        is_default: bool,
        ports: Option<&mut Ports>,
    ) -> Gateway {
        let (spec, said) = (candidate.spec, candidate.said);
        let mut gateway = Gateway::default();
        let Some(ports) = ports else {
            let listeners = said.iter().flat_map(|said| &said.listeners);
            gateway.listeners = listeners.map(|l| self.refused(l)).collect();
            return gateway;
        };
        for found in unbuilt::find(ObjectKind::GatewayConfig, spec) {
            gateway.closed |= found.closes;
            self.not_built(found);
        }
        let mut unreadable = candidate.unreadable.iter();
        gateway.closed |= unreadable.any(|refusal| closes(&refusal.field));
        match (said, spec.base_domain.as_deref()) {
            // Whose it is to say what belongs to whom: those that may open ports for all (deploy/admission).
            (None, Some(base)) if !spec.listeners.is_empty() || spec.default == Some(true) => {
                gateway.base_domain = Some(base.to_owned());
            }
            (_, Some(_)) => {
                let message = "has no effect here: Tenants have their subdomains by a GatewayConfig with listeners, or by the default";
                self.warn("spec.baseDomain", Reason::NotBuilt, message);
            }
            (_, None) => {}
        }
        if let Some(asked) = &spec.data_plane {
            self.pod_template(asked);
        }
        let mut settings = self.settings(spec);
        settings.backend_certificate = said.and_then(|said| self.backend_certificate(said));
        if candidate.gateway.is_some() {
            // That is the Gateway's, which says what is wrong with it.
            let is_pending = |problem: &Problem| problem.reason == Reason::RefPending;
            self.out.problems.retain(is_pending);
        }
        let offered = match said {
            None => self.offered(is_default),
            Some(_) => Vec::new(),
        };
        let implied = implied_listeners(!offered.is_empty());
        let is_refused = said.is_some_and(|said| {
            let mut faults = said.faults.iter();
            faults.any(|fault| {
                matches!(
                    fault.reason,
                    Reason::InvalidParameters
                        | Reason::ParentNotAccepted
                        | Reason::UnsupportedAddress
                )
            })
        });
        let listeners = match (spec.listeners.is_empty(), said) {
            (true, None) => &implied[..],
            // With what connections are to be like unknown, there are none; nor elsewhere than where they are asked for.
            _ if is_refused => &[],
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
            if first + i >= MOST_LISTENERS {
                let message = format!("the Gateway has {MOST_LISTENERS} listeners already");
                self.error(field, Reason::TooManyListeners, message);
                continue;
            }
            let said = said.and_then(|s| s.listeners.iter().find(|l| l.name == *listener.name));
            // Why is said below, by the names of the Gateway.
            let ports = match said.and_then(|said| said.conflict.as_ref()) {
                Some(_) => None,
                None => Some(&mut *ports),
            };
            let frontend = said.and_then(|said| said.frontend.as_ref());
            let place = Place {
                order: first + i,
                ports,
                any_client: frontend.is_some_and(|frontend| frontend.insecure),
                offered: &offered,
            };
            if let Some(mut one) = self.listener(&field, listener, &settings, place) {
                one.kinds = match said {
                    Some(said) => said.kinds.clone(),
                    None => kinds_of_config(listener.protocol),
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
        say_unreadable(&mut self.out.problems, self.id, candidate.unreadable);
        gateway
    }
}

/// Whether Routes cannot be served without a field of a GatewayConfig: those that only tell of them are no loss to access.
fn closes(field: &str) -> bool {
    const TELLING: [&str; 6] = [
        "spec.accessLog",
        "spec.metrics",
        "spec.notifications",
        "spec.requestLog",
        "spec.tracing",
        "spec.usage",
    ];
    is_of_whole(field) && !TELLING.iter().any(|telling| field.starts_with(telling))
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
