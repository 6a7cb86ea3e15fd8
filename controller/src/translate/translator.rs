//! Keeps the last translation and does again what changes concern.

mod accepted;
mod ahead;
mod gateways;
mod guard;
mod ingresses;
mod policies;
mod recall;
mod recheck;
mod review;
mod tenants;

use super::certificate::LastGood;
use super::conflict::{self, Claim};
use super::effective::Slot;
use super::gateway_config::Gateways;
use super::ingress;
use super::lowering::{Dep, Lowered, Lowering, PortKey, Speech, Transport, Unit};
use super::resources::Resources;
use super::tenants::Tenants;
use super::{Delta, Translation};
use crate::adapt::stream_route;
use crate::few::Few;
use crate::fill::fill;
use crate::report::{ObjectReport, Problem, Reason, Report, Severity};
use crate::world::part::reach;
use crate::world::{Body, Meta, Object, ObjectId, ObjectKind, Refusal, World};
use accepted::{Accepted, LastAccepted};
use ahead::Ahead;
use crds::DataPlane;
pub(crate) use gateways::class_reports;
pub use recheck::{Mismatch, Recheck};
use snapshot::{Kind, ResourceId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// See [`super`]. The first update with all objects is the full translation.
#[derive(Default)]
pub struct Translator {
    resources: Resources,
    report: Report,
    gateways: Gateways,
    units: BTreeMap<Unit, State>,
    /// What was looked at by whom.
    dependents: BTreeSet<(Dep, Unit)>,
    /// How many units demand one that exists only by demand.
    demand: BTreeMap<Unit, usize>,
    conflicts: conflict::Index,
    accepted: LastAccepted,
    last_good: LastGood,
    /// Key of a listener → units of the Routes that are attached to it.
    attached: BTreeMap<String, BTreeSet<Unit>>,
    policies: policies::Index,
    ingresses: ingress::Index,
    tenants: Tenants,
    /// Where Plugins run.
    slots: BTreeMap<ObjectId, Slot>,
    stand_ins_changed: u64,
    started: bool,
    /// See [`Self::for_groups`].
    apart: bool,
    /// What GatewayConfigs with data planes of their own ask of these.
    data_planes: BTreeMap<ObjectId, DataPlane>,
    published: Option<Published>,
    /// See [`Self::making_data_planes`].
    makes_data_planes: bool,
}

/// Where the data planes that GatewayConfigs share are reached, for the statuses of Ingresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Published {
    /// Addresses and host names. Where there are any, the Service does not count.
    pub addresses: Vec<String>,
    /// The Service that leads to them.
    pub service: Option<ObjectId>,
}

/// What is remembered of a unit.
#[derive(Clone, Default, PartialEq)]
struct State {
    resources: Few<ResourceId>,
    deps: Few<Dep>,
    demands: Few<Unit>,
    claims: Box<[Claim]>,
    problems: Box<[Problem]>,
    attached: Few<String>,
}

impl State {
    /// The listeners at which a Route is counted; `None`: it is not accepted (Gateway API, `attachedRoutes`). Of an Ingress,
    /// which nobody accepts as a whole, whatever is in effect is.
    fn counted(&self, unit: &Unit) -> Option<&Few<String>> {
        let refuses =
            |p: &Problem| p.severity == Severity::Error && !p.reason.is_about_references();
        let is_ingress = matches!(unit, Unit::Route(id) if id.kind == ObjectKind::Ingress);
        (is_ingress || !self.problems.iter().any(refuses)).then_some(&self.attached)
    }
}

impl Translator {
    /// For a cluster, where each Gateway has data planes of its own, and so all ports to itself, and each GatewayConfig that
    /// asks for it. The default is for one process that serves all of them.
    pub fn for_groups() -> Self {
        Self {
            apart: true,
            ..Self::default()
        }
    }

    /// The same that knows where its data planes are reached.
    #[must_use]
    pub fn publishing(self, published: Published) -> Self {
        Self {
            published: Some(published),
            ..self
        }
    }

    /// The same whose controller makes the data planes that Gateways and GatewayConfigs have of their own; otherwise they are
    /// somebody else's.
    #[must_use]
    pub fn making_data_planes(self, makes_data_planes: bool) -> Self {
        Self {
            makes_data_planes,
            ..self
        }
    }

    pub fn resources(&self) -> &Resources {
        &self.resources
    }

    pub fn report(&self) -> &Report {
        &self.report
    }

    /// Takes no more memory than need be for what it holds now: for after the first update, which brings the most.
    pub fn fill(&mut self) {
        self.resources.fill();
        fill(&mut self.report.objects);
        fill(&mut self.units);
        fill(&mut self.dependents);
        fill(&mut self.demand);
        self.accepted.fill();
    }

    /// The version of an object that is in effect: an older one where the present one is quarantined.
    pub fn effective(&self, object: &Object) -> Object {
        let quarantined = self.report.get(&object.id).is_some_and(|r| r.quarantined);
        let accepted = self.accepted.get(&object.id).filter(|_| quarantined);
        let mut object = object.clone();
        if let Some(body) = accepted.and_then(Accepted::body) {
            object.body = body;
            object.unreadable = Box::default();
        }
        object
    }

    /// When the certificates in use expire, in seconds since the epoch.
    pub fn expiries(&self) -> impl Iterator<Item = i64> {
        self.last_good.expiries()
    }

    pub(super) fn into_translation(self) -> Translation {
        Translation {
            resources: self.resources,
            report: self.report,
        }
    }

    /// The same with nothing remembered but what was accepted and good: what a full translation starts from.
    #[cfg(test)]
    pub(super) fn afresh(&self) -> Self {
        Self {
            accepted: self.accepted.clone(),
            last_good: self.last_good.clone(),
            apart: self.apart,
            published: self.published.clone(),
            makes_data_planes: self.makes_data_planes,
            ..Self::default()
        }
    }

    /// Translates anew what the objects of `dirty` concern. They may have appeared, changed or gone; an object that
    /// is not among them must be as it was at the last update.
    pub fn update(&mut self, world: &World, dirty: &BTreeSet<ObjectId>) -> Delta {
        let mut todo = BTreeSet::new();
        if !std::mem::replace(&mut self.started, true) {
            todo.insert(Unit::Gateways);
        }
        for id in dirty {
            if self.accepted.get(id).is_some()
                && let Some(meta) = world.meta(id)
            {
                self.accepted.keep_of(id, &meta.uid);
            }
            self.mark(world, id, &mut todo);
        }
        self.lower_all(world, todo)
    }

    /// Lowers these units, and those that their results concern.
    fn lower_all(&mut self, world: &World, mut todo: BTreeSet<Unit>) -> Delta {
        let mut delta = Delta::default();
        let mut routes = BTreeSet::new();
        let mut ahead = Ahead::default();
        while let Some(unit) = todo.pop_first() {
            self.lower_ahead(world, &unit, &todo, &mut ahead);
            let lowered = ahead.take(&unit);
            match &unit {
                Unit::Gateways => self.gateways(world, &mut todo, &mut delta),
                Unit::Tenants => self.tenants(world, &mut todo, &mut delta),
                Unit::Object(id) | Unit::Route(id) => {
                    let concerned = self.object(world, id, &unit, lowered, &mut todo, &mut delta);
                    routes.extend(concerned);
                }
                Unit::ServiceUpstream(..) | Unit::Shards(_) => {
                    self.service_port(world, &unit, lowered, &mut todo, &mut delta);
                }
                Unit::Certificate(id) | Unit::Authorities(id) => {
                    self.material(world, id, &unit, &mut todo, &mut delta);
                }
            }
        }
        self.say_conflicts(&routes, &mut delta);
        self.say_ancestors(&mut delta);
        delta
    }

    /// Units that an object concerns: its own, and those that looked at it.
    fn mark(&mut self, world: &World, id: &ObjectId, todo: &mut BTreeSet<Unit>) {
        todo.extend(Unit::of(id));
        match id.kind {
            ObjectKind::Ingress => self.mark_ingress(world, id, todo),
            ObjectKind::IngressClass => self.mark_classes(world, todo),
            ObjectKind::Namespace if self.tenants.concerns(world, id) => {
                todo.insert(Unit::Tenants);
            }
            ObjectKind::ReferenceGrant => {
                self.mark_dependents(&Dep::Grants(id.namespace.clone()), todo);
            }
            ObjectKind::BackendTLSPolicy => {
                self.mark_dependents(&Dep::Policies(id.namespace.clone()), todo);
            }
            ObjectKind::Pod => self.mark_dependents(&Dep::Pods(id.namespace.clone()), todo),
            ObjectKind::EndpointSlice => {
                if let Some(Body::EndpointSlice(slice)) = world.get(id).map(|o| &o.body)
                    && let Some(service) = &slice.service
                {
                    let service =
                        ObjectId::new(ObjectKind::Service, &*id.namespace, service.as_str());
                    self.mark_dependents(&Dep::Slices(service), todo);
                }
            }
            _ => {}
        }
        self.mark_dependents(&Dep::Object(id.clone()), todo);
    }

    fn mark_dependents(&self, dep: &Dep, todo: &mut BTreeSet<Unit>) {
        todo.extend(self.dependents(dep).cloned());
    }

    /// Who looked at it.
    fn dependents(&self, dep: &Dep) -> impl Iterator<Item = &Unit> {
        // `Unit::Gateways` is the smallest.
        let all = self.dependents.range((dep.clone(), Unit::Gateways)..);
        let of_dep = all.take_while(move |(looked_at, _)| looked_at == dep);
        of_dep.map(|(_, unit)| unit)
    }

    // ---- units

    /// Gives the Routes whose conflicts may be others now. `lowered`: what its present version gives, if that is known.
    fn object(
        &mut self,
        world: &World,
        id: &ObjectId,
        unit: &Unit,
        lowered: Option<Lowered>,
        todo: &mut BTreeSet<Unit>,
        delta: &mut Delta,
    ) -> BTreeSet<ObjectId> {
        let Some(object) = world.get(id) else {
            self.accepted.forget(id);
            self.slots.remove(id);
            self.forget_policy(id, todo);
            self.report.objects.remove(id);
            delta.reports.insert(id.clone());
            return self.install(unit.clone(), Lowered::default(), todo, delta);
        };
        let present = Accepted::of(&object.body);
        // What is wrong with a path or an annotation of an Ingress concerns that alone.
        let is_whole = id.kind != ObjectKind::Ingress;
        let holds_back = |lowered: &Lowered| is_whole && lowered.is_quarantining();
        let mut lowered = match &present {
            Some(version) => {
                let lower = || self.lower(world, id, &object.meta, version);
                let mut lowered = lowered.unwrap_or_else(lower);
                say_unreadable(&mut lowered.problems, id, &object.unreadable);
                if !holds_back(&lowered) && !lowered.has_panicked() {
                    self.accepted.note(id, &object.meta.uid, version.clone());
                }
                lowered
            }
            None => Lowered {
                problems: refusals(id, &object.body),
                ..Lowered::default()
            },
        };
        let mut quarantined = lowered.has_panicked();
        if !quarantined
            && (holds_back(&lowered) || present.is_none() && lowered.is_quarantining())
            && let Some(version) = self.accepted.get(id).cloned()
            && present.as_ref() != Some(&version)
        {
            let older = self.lower(world, id, &object.meta, &version);
            quarantined = true;
            if older.has_panicked() {
                lowered.problems.push(guard::fault(id));
            }
            lowered.stand_in(older);
        }
        if id.kind == ObjectKind::BackendTLSPolicy {
            self.follow_policy(object, present, todo);
        }
        if lowered.has_panicked() {
            self.keep(unit, &mut lowered);
            quarantined = !lowered.resources.is_empty();
            if let Some(report) = self.report.get(id) {
                lowered.parents = report.parents.clone();
                lowered.effective = report.effective.clone();
            }
        }
        if let Some(slot) = lowered.slot {
            self.slots.insert(id.clone(), slot);
        }
        lowered.problems.sort();
        lowered.effective.shrink_to_fit();
        lowered.parents.shrink_to_fit();
        let addresses = self.published(world, id, &mut lowered);
        let problems = lowered.problems.clone();
        let report = ObjectReport {
            uid: Arc::clone(&object.meta.uid),
            absent: lowered.resources.is_empty(),
            resources: arriving(&lowered),
            quarantined,
            parents: std::mem::take(&mut lowered.parents),
            effective: std::mem::take(&mut lowered.effective),
            addresses,
            ..ObjectReport::new(id.clone(), object.meta.generation, problems)
        };
        self.set_report(report, delta);
        let mut concerned = self.install(unit.clone(), lowered, todo, delta);
        if id.kind.is_route() {
            concerned.insert(id.clone());
        }
        concerned
    }

    fn lower(&self, world: &World, id: &ObjectId, meta: &Meta, version: &Accepted) -> Lowered {
        self.run(self.lowering(world, id, meta), |lowering| match version {
            Accepted::Route(spec) => lowering.route(spec),
            Accepted::Upstream(spec) => lowering.upstream(spec),
            Accepted::Plugin(spec) => lowering.plugin_object(spec),
            Accepted::HTTPRoute(spec) => lowering.http_route(spec),
            Accepted::GRPCRoute(spec) => lowering.grpc_route(spec),
            Accepted::TLSRoute(spec) => lowering.stream_route(stream_route::of_tls(spec)),
            Accepted::TCPRoute(spec) => lowering.stream_route(stream_route::of_tcp(spec)),
            Accepted::UDPRoute(spec) => lowering.stream_route(stream_route::of_udp(spec)),
            Accepted::BackendTLSPolicy(spec) => lowering.backend_tls_policy(spec),
            Accepted::Ingress(ingress) => lowering.ingress(ingress),
            Accepted::Tenant(spec) => lowering.tenant_alone(spec),
            Accepted::Listening(_) => {}
        })
    }

    fn service_port(
        &mut self,
        world: &World,
        unit: &Unit,
        lowered: Option<Lowered>,
        todo: &mut BTreeSet<Unit>,
        delta: &mut Delta,
    ) {
        let (Unit::ServiceUpstream(port, _) | Unit::Shards(port)) = unit else {
            return;
        };
        let lowered = lowered.or_else(|| self.lower_unit(world, unit));
        let mut lowered = lowered.unwrap_or_default();
        if lowered.has_panicked() {
            self.keep(unit, &mut lowered);
        }
        let is_told_of = self.report.objects.contains_key(&port.service);
        let is_fine = lowered.problems.is_empty();
        self.install(unit.clone(), lowered, todo, delta);
        if is_told_of || !is_fine {
            self.report_service(world, &port.service, delta);
        }
    }

    fn lower_port(&self, world: &World, unit: &Unit, port: &PortKey, meta: &Meta) -> Lowered {
        let lowering = self.lowering(world, &port.service, meta);
        self.run(lowering, |lowering| match unit {
            Unit::ServiceUpstream(_, speech) => lowering.service_upstream(port, *speech),
            _ => lowering.shards(port),
        })
    }

    fn material(
        &mut self,
        world: &World,
        id: &ObjectId,
        unit: &Unit,
        todo: &mut BTreeSet<Unit>,
        delta: &mut Delta,
    ) {
        let (mut lowered, mut used) = (Lowered::default(), None);
        if self.demand.contains_key(unit) {
            let meta = Meta::default();
            let lowering = self.lowering(world, id, &meta);
            lowered = self.run(lowering, |lowering| used = lowering.material(unit));
        }
        if lowered.has_panicked() {
            self.keep(unit, &mut lowered);
            self.install(unit.clone(), lowered, todo, delta);
            return;
        }
        self.stand_ins_changed += u64::from(self.last_good.note(unit, used));
        self.install(unit.clone(), lowered, todo, delta);
    }

    fn lowering<'a>(&'a self, world: &'a World, id: &'a ObjectId, meta: &'a Meta) -> Lowering<'a> {
        Lowering {
            world,
            resources: &self.resources,
            gateways: &self.gateways,
            last_good: &self.last_good,
            ingresses: &self.ingresses,
            tenants: &self.tenants,
            policies: self.policies.in_effect(),
            slots: &self.slots,
            id,
            gateway: None,
            meta,
            out: Lowered::default(),
        }
    }

    // ---- results

    /// Replaces what a unit gave before. Gives the Routes whose conflicts may be others now.
    fn install(
        &mut self,
        unit: Unit,
        lowered: Lowered,
        todo: &mut BTreeSet<Unit>,
        delta: &mut Delta,
    ) -> BTreeSet<ObjectId> {
        let old = self.units.remove(&unit).unwrap_or_default();
        let state = State {
            resources: lowered.resources.keys().cloned().collect(),
            deps: lowered.deps.into_iter().collect(),
            demands: lowered.demands.into_iter().collect(),
            claims: lowered.claims.into(),
            problems: lowered.problems.into(),
            attached: lowered.attached.into_iter().collect(),
        };
        self.attach(&unit, old.counted(&unit), state.counted(&unit), delta);
        if let Unit::Route(_) = &unit {
            self.policies.touch(&old, &state);
        }
        for id in old.resources.difference(&state.resources) {
            self.resources.take(id);
            delta.resources.insert(id.clone(), None);
        }
        for (id, body) in lowered.resources {
            if self.resources.put(&id, &body) {
                delta.resources.insert(id, Some(body));
            }
        }
        // Whoever refers to an upstream or plugin asks whether it can be used.
        if old.resources != state.resources
            && let Unit::Object(id) = &unit
        {
            self.mark_dependents(&Dep::Object(id.clone()), todo);
        }
        for dep in old.deps.difference(&state.deps) {
            self.dependents.remove(&(dep.clone(), unit.clone()));
            if dep.has_values() && self.dependents(dep).next().is_none() {
                delta.refer(dep, false);
            }
        }
        for dep in state.deps.difference(&old.deps) {
            if dep.has_values() && self.dependents(dep).next().is_none() {
                delta.refer(dep, true);
            }
            self.dependents.insert((dep.clone(), unit.clone()));
        }
        for demand in old.demands.difference(&state.demands) {
            if let Some(count) = self.demand.get_mut(demand) {
                *count -= 1;
                if *count == 0 {
                    self.demand.remove(demand);
                    todo.insert(demand.clone());
                }
            }
        }
        for demand in state.demands.difference(&old.demands) {
            let count = self.demand.entry(demand.clone()).or_insert(0);
            *count += 1;
            if *count == 1 {
                todo.insert(demand.clone());
            }
        }
        let concerned = self.conflicts.replace(&old.claims, &state.claims);
        let concerned = concerned.iter();
        let concerned = concerned.filter_map(|key| ObjectId::of_route_key(key));
        let concerned = concerned.collect();
        let is_empty = state.resources.is_empty()
            && state.deps.is_empty()
            && state.demands.is_empty()
            && state.problems.is_empty()
            && state.attached.is_empty();
        if !is_empty {
            self.units.insert(unit, state);
        }
        concerned
    }

    /// Keeps count of the Routes at each listener; the Gateways whose counts are others now have another status.
    fn attach(
        &mut self,
        unit: &Unit,
        old: Option<&Few<String>>,
        new: Option<&Few<String>>,
        delta: &mut Delta,
    ) {
        let nowhere = Few::default();
        let (old, new) = (old.unwrap_or(&nowhere), new.unwrap_or(&nowhere));
        for key in old.difference(new) {
            if let Some(units) = self.attached.get_mut(key) {
                units.remove(unit);
                if units.is_empty() {
                    self.attached.remove(key);
                }
            }
        }
        for key in new.difference(old) {
            let units = self.attached.entry(key.clone()).or_default();
            units.insert(unit.clone());
        }
        for key in old.difference(new).chain(new.difference(old)) {
            let Some(id) = ObjectId::of_listener_status(key) else {
                continue;
            };
            let attached = self.attached.get(key).map_or(0, BTreeSet::len);
            if let Some(report) = self.report.objects.get_mut(&id)
                && let Some(listener) = report.listeners.iter_mut().find(|l| l.key == *key)
            {
                listener.attached = attached;
                delta.reports.insert(id);
            }
        }
    }

    fn set_report(&mut self, report: ObjectReport, delta: &mut Delta) {
        delta.reports.insert(report.id.clone());
        let is = report.quarantined;
        let before = self
            .report
            .objects
            .insert(report.id.clone(), Box::new(report));
        self.stand_ins_changed += u64::from(is || before.is_some_and(|r| r.quarantined));
    }

    /// Adds to each Route what it loses to others.
    fn say_conflicts(&mut self, routes: &BTreeSet<ObjectId>, delta: &mut Delta) {
        for id in routes {
            let Some(report) = self.report.objects.get_mut(id) else {
                continue;
            };
            let unit = Unit::Route(id.clone());
            let state = self.units.get(&unit);
            let mut problems = state.map(|s| s.problems.to_vec()).unwrap_or_default();
            let claims = state.map(|s| &*s.claims).unwrap_or_default();
            problems.extend(self.conflicts.problems(id, claims));
            problems.sort();
            if report.problems != problems {
                report.problems = problems;
                delta.reports.insert(id.clone());
            }
        }
    }

    /// A Service has no status of ours; its problems are listed all the same.
    fn report_service(&mut self, world: &World, id: &ObjectId, delta: &mut Delta) {
        let first = |unit: fn(PortKey) -> Unit| {
            unit(PortKey {
                service: id.clone(),
                port: 0,
                transport: Transport::Tcp,
            })
        };
        let mut problems: Vec<Problem> = Vec::new();
        let upstream = |port| Unit::ServiceUpstream(port, Speech::Declared);
        for first in [first(upstream), first(Unit::Shards)] {
            let same = std::mem::discriminant(&first);
            let units = self
                .units
                .range(first..)
                .take_while(|(unit, _)| match unit {
                    Unit::ServiceUpstream(port, _) | Unit::Shards(port) => {
                        std::mem::discriminant(*unit) == same && port.service == *id
                    }
                    _ => false,
                });
            problems.extend(units.flat_map(|(_, s)| s.problems.iter().cloned()));
        }
        problems.sort();
        if problems.is_empty() {
            if self.report.objects.remove(id).is_some() {
                delta.reports.insert(id.clone());
            }
            return;
        }
        let report = ObjectReport::new(
            id.clone(),
            world.meta(id).map_or(0, |m| m.generation),
            problems,
        );
        self.set_report(report, delta);
    }
}

/// Resources that must have arrived for an object to be in effect: its own, and those of Services and Secrets that it
/// refers to, which have no status of their own.
fn arriving(lowered: &Lowered) -> Few<ResourceId> {
    let demanded = lowered.demands.iter().filter_map(|demand| match demand {
        Unit::ServiceUpstream(port, speech) => {
            Some((Kind::Upstream, port.upstream_key(*speech).into()))
        }
        Unit::Certificate(id) => Some((Kind::Certificate, id.path().into())),
        _ => None,
    });
    // Endpoints come and go: whether the object is in effect does not depend on it.
    let own = lowered.resources.keys().cloned();
    let own = own.filter(|(kind, _)| *kind != Kind::EndpointShard);
    own.chain(demanded).collect()
}

/// Adds what of a present version cannot be read. What is wrong with the little that is left of it nobody has written.
pub(super) fn say_unreadable(problems: &mut Vec<Problem>, id: &ObjectId, unreadable: &[Refusal]) {
    for refusal in unreadable {
        let reach = reach(&refusal.field);
        problems.retain(|problem| !problem.field.starts_with(reach));
    }
    problems.extend(unreadable.iter().map(|refusal| Problem {
        origin: id.clone(),
        field: refusal.field.clone(),
        reason: Reason::Invalid,
        severity: Severity::Error,
        message: refusal.message.clone(),
    }));
}

/// Why nothing of a present version is used.
fn refusals(id: &ObjectId, body: &Body) -> Vec<Problem> {
    let problem = |field: &str, reason, severity, message: String| Problem {
        origin: id.clone(),
        field: field.to_owned(),
        reason,
        severity,
        message,
    };
    if let Some(refusals) = body.refusals() {
        if refusals.is_empty() {
            let message = "the object cannot be read".to_owned();
            return vec![problem("", Reason::Invalid, Severity::Error, message)];
        }
        let invalid = |r: &Refusal| {
            let message = r.message.clone();
            problem(&r.field, Reason::Invalid, Severity::Error, message)
        };
        return refusals.iter().map(invalid).collect();
    }
    match body {
        Body::Consumer | Body::ModelCatalog => {
            let message = format!("kind {} is not built yet and has no effect", id.kind);
            vec![problem("", Reason::NotBuilt, Severity::Error, message)]
        }
        _ => Vec::new(),
    }
}
