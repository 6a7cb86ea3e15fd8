//! Keeps the last translation and does again what changes concern.

use super::Translation;
use super::certificate::LastGood;
use super::conflict::{self, Claim};
use super::gateway_config::{self, Candidate, Gateways};
use super::lowering::{Dep, Lowered, Lowering, PortKey, Unit};
use super::resource;
use crate::report::{ObjectReport, Problem, Reason, Report, Severity};
use crate::world::{Body, Meta, ObjectId, ObjectKind, World};
use model::Model;
use snapshot::Kind;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What an update changed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Delta {
    /// Bodies of resources that are new or different; `None`: it is gone.
    pub resources: BTreeMap<(Kind, String), Option<Vec<u8>>>,
    /// Objects whose report was made again or is gone: their status may be another one.
    pub reports: BTreeSet<ObjectId>,
    /// Secrets and ConfigMaps that something refers to from now on (`true`), there or not, or no longer.
    pub references: BTreeMap<ObjectId, bool>,
}

impl Delta {
    /// Adds what a later update changed.
    pub fn merge(&mut self, later: Self) {
        self.resources.extend(later.resources);
        self.reports.extend(later.reports);
        self.references.extend(later.references);
    }

    fn refer(&mut self, dep: &Dep, refers: bool) {
        if let Dep::Object(id) = dep
            && id.kind.has_values()
        {
            self.references.insert(id.clone(), refers);
        }
    }
}

/// See [`super`]. The first update with all objects is the full translation.
#[derive(Default)]
pub struct Translator {
    model: Model,
    report: Report,
    gateways: Gateways,
    units: BTreeMap<Unit, State>,
    /// Who looked at what.
    dependents: BTreeMap<Dep, BTreeSet<Unit>>,
    /// How many units demand one that exists only by demand.
    demand: BTreeMap<Unit, usize>,
    conflicts: conflict::Index,
    accepted: BTreeMap<ObjectId, Accepted>,
    last_good: LastGood,
    started: bool,
}

/// What is remembered of a unit.
#[derive(Default)]
struct State {
    resources: BTreeSet<(Kind, String)>,
    deps: BTreeSet<Dep>,
    demands: BTreeSet<Unit>,
    claims: Vec<Claim>,
    problems: Vec<Problem>,
}

/// The last version of an object that was acceptable as a whole.
#[derive(Clone, PartialEq)]
enum Accepted {
    GatewayConfig(Arc<crds::GatewayConfigSpec>),
    Route(Arc<crds::RouteSpec>),
    Upstream(Arc<crds::UpstreamSpec>),
    Plugin(Arc<crds::PluginSpec>),
}

impl Accepted {
    fn of(body: &Body) -> Option<Self> {
        Some(match body {
            Body::GatewayConfig(spec) => Self::GatewayConfig(Arc::clone(spec)),
            Body::Route(spec) => Self::Route(Arc::clone(spec)),
            Body::Upstream(spec) => Self::Upstream(Arc::clone(spec)),
            Body::Plugin(spec) => Self::Plugin(Arc::clone(spec)),
            _ => return None,
        })
    }
}

impl Translator {
    pub fn model(&self) -> &Model {
        &self.model
    }

    pub fn report(&self) -> &Report {
        &self.report
    }

    /// When the certificates in use expire, in seconds since the epoch.
    pub fn expiries(&self) -> impl Iterator<Item = i64> {
        self.last_good.expiries()
    }

    pub(super) fn into_translation(self) -> Translation {
        Translation {
            model: self.model,
            report: self.report,
        }
    }

    /// The same with nothing remembered but what was accepted and good: what a full translation starts from.
    #[cfg(test)]
    pub(super) fn afresh(&self) -> Self {
        Self {
            accepted: self.accepted.clone(),
            last_good: self.last_good.clone(),
            ..Self::default()
        }
    }

    /// Translates anew what the objects of `dirty` concern. They may have appeared, changed or gone; an object that
    /// is not among them must be as it was at the last update.
    pub fn update(&mut self, world: &World, dirty: &BTreeSet<ObjectId>) -> Delta {
        let mut delta = Delta::default();
        let mut todo = BTreeSet::new();
        if !std::mem::replace(&mut self.started, true) {
            todo.insert(Unit::Gateways);
        }
        for id in dirty {
            self.mark(world, id, &mut todo);
        }
        let mut routes = BTreeSet::new();
        while let Some(unit) = todo.pop_first() {
            match &unit {
                Unit::Gateways => self.gateways(world, &mut todo, &mut delta),
                Unit::Object(id) | Unit::Route(id) => {
                    let concerned = self.object(world, id, &unit, &mut todo, &mut delta);
                    routes.extend(concerned);
                }
                Unit::ServiceUpstream(_) | Unit::Shards(_) => {
                    self.service_port(world, &unit, &mut todo, &mut delta);
                }
                Unit::Certificate(id) | Unit::Authorities(id) => {
                    self.material(world, id, &unit, &mut todo, &mut delta);
                }
            }
        }
        self.say_conflicts(&routes, &mut delta);
        delta
    }

    /// Units that an object concerns: its own, and those that looked at it.
    fn mark(&self, world: &World, id: &ObjectId, todo: &mut BTreeSet<Unit>) {
        match id.kind {
            ObjectKind::GatewayConfig => drop(todo.insert(Unit::Gateways)),
            ObjectKind::Route => drop(todo.insert(Unit::Route(id.clone()))),
            ObjectKind::ReferenceGrant => {
                self.mark_dependents(&Dep::Grants(id.namespace.clone()), todo);
            }
            ObjectKind::EndpointSlice => {
                if let Some(Body::EndpointSlice(slice)) = world.get(id).map(|o| &o.body)
                    && let Some(service) = &slice.service
                {
                    let dep = Dep::Slices(id.namespace.clone(), service.clone());
                    self.mark_dependents(&dep, todo);
                }
            }
            kind if kind.is_ours() => drop(todo.insert(Unit::Object(id.clone()))),
            _ => {}
        }
        self.mark_dependents(&Dep::Object(id.clone()), todo);
    }

    fn mark_dependents(&self, dep: &Dep, todo: &mut BTreeSet<Unit>) {
        todo.extend(self.dependents.get(dep).into_iter().flatten().cloned());
    }

    // ---- units

    fn gateways(&mut self, world: &World, todo: &mut BTreeSet<Unit>, delta: &mut Delta) {
        let present: Vec<_> = world.of_kind(ObjectKind::GatewayConfig).collect();
        let gone = |id: &ObjectId| !world.contains(id);
        self.accepted
            .retain(|id, _| id.kind != ObjectKind::GatewayConfig || !gone(id));
        // Each version is judged by itself; what is not acceptable is stood in for by the last that was.
        let mut quarantine: BTreeMap<ObjectId, Vec<Problem>> = BTreeMap::new();
        let mut versions: Vec<(&ObjectId, &Meta, Arc<crds::GatewayConfigSpec>)> = Vec::new();
        // One unit for all: resources of all of them, a report for each.
        let mut together = Lowered::default();
        for object in &present {
            let problems = match &object.body {
                Body::GatewayConfig(spec) => {
                    let (id, meta) = (&object.id, &object.meta);
                    let candidate = Candidate { id, meta, spec };
                    let judged = gateway_config::judge(world, &self.last_good, &candidate);
                    // It may be another version that serves; this one is looked at again all the same.
                    together.deps.extend(judged.deps.iter().cloned());
                    if !judged.is_quarantining() {
                        let accepted = Accepted::GatewayConfig(Arc::clone(spec));
                        self.accepted.insert(id.clone(), accepted);
                        versions.push((id, meta, Arc::clone(spec)));
                        continue;
                    }
                    let present = Accepted::GatewayConfig(Arc::clone(spec));
                    if self.accepted.get(id).is_none_or(|last| *last == present) {
                        // Nothing older: what is valid of it serves.
                        versions.push((id, meta, Arc::clone(spec)));
                        continue;
                    }
                    judged.problems
                }
                body => refusals(&object.id, body),
            };
            if let Some(Accepted::GatewayConfig(spec)) = self.accepted.get(&object.id) {
                versions.push((&object.id, &object.meta, Arc::clone(spec)));
            }
            quarantine.insert(object.id.clone(), problems);
        }
        let candidates: Vec<Candidate<'_>> = versions
            .iter()
            .map(|(id, meta, spec)| Candidate { id, meta, spec })
            .collect();
        // A GatewayConfig that was refused from its first version is as good as none, unless it is the implied one
        // by name: then somebody wanted something else there.
        let implied = candidates.is_empty()
            && !present
                .iter()
                .any(|object| object.id == gateway_config::implied());
        let (gateways, mut lowered) = match implied {
            true => gateway_config::lower_implied(world, &self.last_good),
            false => gateway_config::lower(world, &self.last_good, &candidates),
        };
        let known = self
            .report
            .objects
            .keys()
            .filter(|id| id.kind == ObjectKind::GatewayConfig);
        let known: Vec<ObjectId> = known.cloned().collect();
        for id in known.into_iter().filter(gone) {
            self.report.objects.remove(&id);
            delta.reports.insert(id);
        }
        for object in present {
            let serving = lowered.remove(&object.id);
            let served = serving.is_some();
            let serving = serving.unwrap_or_default();
            let absent = serving.resources.is_empty();
            let keys = arriving(&serving);
            together.resources.extend(serving.resources);
            together.deps.extend(serving.deps);
            together.demands.extend(serving.demands);
            let refused = quarantine.remove(&object.id);
            let report = ObjectReport {
                id: object.id.clone(),
                generation: object.meta.generation,
                quarantined: refused.is_some() && served,
                absent,
                problems: refused.unwrap_or(serving.problems),
                resources: keys,
                parents: Vec::new(),
            };
            self.set_report(report, delta);
        }
        for lowered in lowered.into_values() {
            together.resources.extend(lowered.resources);
            together.deps.extend(lowered.deps);
            together.demands.extend(lowered.demands);
        }
        self.install(Unit::Gateways, together, todo, delta);
        if gateways != self.gateways {
            self.gateways = gateways;
            self.mark_dependents(&Dep::Gateways, todo);
        }
    }

    /// Gives the Routes whose conflicts may be others now.
    fn object(
        &mut self,
        world: &World,
        id: &ObjectId,
        unit: &Unit,
        todo: &mut BTreeSet<Unit>,
        delta: &mut Delta,
    ) -> BTreeSet<ObjectId> {
        let Some(object) = world.get(id) else {
            self.accepted.remove(id);
            self.report.objects.remove(id);
            delta.reports.insert(id.clone());
            return self.install(unit.clone(), Lowered::default(), todo, delta);
        };
        let present = Accepted::of(&object.body);
        let mut lowered = match &present {
            Some(version) => {
                let lowered = self.lower(world, id, &object.meta, version);
                if !lowered.is_quarantining() {
                    self.accepted.insert(id.clone(), version.clone());
                }
                lowered
            }
            None => Lowered {
                problems: refusals(id, &object.body),
                ..Lowered::default()
            },
        };
        let mut quarantined = false;
        if lowered.is_quarantining()
            && let Some(version) = self.accepted.get(id).cloned()
            && present.as_ref() != Some(&version)
        {
            quarantined = true;
            let older = self.lower(world, id, &object.meta, &version);
            lowered.resources = older.resources;
            lowered.demands = older.demands;
            lowered.claims = older.claims;
            lowered.deps.extend(older.deps);
            if lowered.parents.is_empty() {
                lowered.parents = older.parents;
            }
        }
        lowered.problems.sort();
        let report = ObjectReport {
            id: id.clone(),
            generation: object.meta.generation,
            problems: lowered.problems.clone(),
            absent: lowered.resources.is_empty(),
            resources: arriving(&lowered),
            quarantined,
            parents: std::mem::take(&mut lowered.parents),
        };
        self.set_report(report, delta);
        let mut concerned = self.install(unit.clone(), lowered, todo, delta);
        if id.kind == ObjectKind::Route {
            concerned.insert(id.clone());
        }
        concerned
    }

    fn lower(&self, world: &World, id: &ObjectId, meta: &Meta, version: &Accepted) -> Lowered {
        let mut lowering = self.lowering(world, id, meta);
        match version {
            Accepted::Route(spec) => lowering.route(spec),
            Accepted::Upstream(spec) => lowering.upstream(spec),
            Accepted::Plugin(spec) => lowering.plugin_object(spec),
            Accepted::GatewayConfig(_) => {}
        }
        lowering.out
    }

    fn service_port(
        &mut self,
        world: &World,
        unit: &Unit,
        todo: &mut BTreeSet<Unit>,
        delta: &mut Delta,
    ) {
        let (Unit::ServiceUpstream(port) | Unit::Shards(port)) = unit else {
            return;
        };
        let id = port.service_id();
        let mut lowered = Lowered::default();
        if self.demand.contains_key(unit) {
            let meta = world.meta(&id).cloned().unwrap_or_default();
            let mut lowering = self.lowering(world, &id, &meta);
            match unit {
                Unit::ServiceUpstream(_) => lowering.service_upstream(port),
                _ => lowering.shards(port),
            }
            lowered = lowering.out;
        }
        self.install(unit.clone(), lowered, todo, delta);
        self.report_service(world, &id, delta);
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
            let mut lowering = self.lowering(world, id, &meta);
            used = lowering.material(unit);
            lowered = lowering.out;
        }
        self.last_good.note(unit, used);
        self.install(unit.clone(), lowered, todo, delta);
    }

    fn lowering<'a>(&'a self, world: &'a World, id: &'a ObjectId, meta: &'a Meta) -> Lowering<'a> {
        Lowering {
            world,
            model: &self.model,
            gateways: &self.gateways,
            last_good: &self.last_good,
            id,
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
        let mut state = State {
            resources: lowered.resources.keys().cloned().collect(),
            deps: lowered.deps,
            demands: lowered.demands,
            claims: lowered.claims,
            problems: lowered.problems,
        };
        for id in old.resources.difference(&state.resources) {
            resource::take(id.0, &id.1, &mut self.model);
            delta.resources.insert(id.clone(), None);
        }
        for (id, (resource, body)) in lowered.resources {
            if resource.put(&id.1, &mut self.model) {
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
            if let Some(units) = self.dependents.get_mut(dep) {
                units.remove(&unit);
                if units.is_empty() {
                    self.dependents.remove(dep);
                    delta.refer(dep, false);
                }
            }
        }
        for dep in state.deps.difference(&old.deps) {
            let units = self.dependents.entry(dep.clone()).or_default();
            if units.is_empty() {
                delta.refer(dep, true);
            }
            units.insert(unit.clone());
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
        let concerned = concerned.iter().filter_map(|path| {
            let (namespace, name) = path.split_once('/')?;
            Some(ObjectId::new(ObjectKind::Route, namespace, name))
        });
        let concerned = concerned.collect();
        state.claims.shrink_to_fit();
        let is_empty = state.resources.is_empty()
            && state.deps.is_empty()
            && state.demands.is_empty()
            && state.problems.is_empty();
        if !is_empty {
            self.units.insert(unit, state);
        }
        concerned
    }

    fn set_report(&mut self, report: ObjectReport, delta: &mut Delta) {
        delta.reports.insert(report.id.clone());
        self.report.objects.insert(report.id.clone(), report);
    }

    /// Adds to each Route what it loses to others.
    fn say_conflicts(&mut self, routes: &BTreeSet<ObjectId>, delta: &mut Delta) {
        for id in routes {
            let Some(report) = self.report.objects.get_mut(id) else {
                continue;
            };
            let unit = Unit::Route(id.clone());
            let state = self.units.get(&unit);
            let mut problems = state.map(|s| s.problems.clone()).unwrap_or_default();
            let claims = state.map(|s| s.claims.as_slice()).unwrap_or_default();
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
                namespace: id.namespace.clone(),
                service: id.name.clone(),
                port: 0,
            })
        };
        let mut problems: Vec<Problem> = Vec::new();
        for first in [first(Unit::ServiceUpstream), first(Unit::Shards)] {
            let same = std::mem::discriminant(&first);
            let units = self
                .units
                .range(first..)
                .take_while(|(unit, _)| match unit {
                    Unit::ServiceUpstream(port) | Unit::Shards(port) => {
                        std::mem::discriminant(*unit) == same && port.service_id() == *id
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
        let report = ObjectReport {
            id: id.clone(),
            generation: world.meta(id).map_or(0, |m| m.generation),
            problems,
            resources: BTreeSet::new(),
            quarantined: false,
            absent: false,
            parents: Vec::new(),
        };
        self.set_report(report, delta);
    }
}

/// Resources that must have arrived for an object to be in effect: its own, and those of Services and Secrets that it
/// refers to, which have no status of their own.
fn arriving(lowered: &Lowered) -> BTreeSet<(Kind, String)> {
    let demanded = lowered.demands.iter().filter_map(|demand| match demand {
        Unit::ServiceUpstream(port) => Some((Kind::Upstream, port.upstream_key())),
        Unit::Certificate(id) => Some((Kind::Certificate, id.path())),
        _ => None,
    });
    lowered.resources.keys().cloned().chain(demanded).collect()
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
    match body {
        Body::Refused(refusals) if refusals.is_empty() => {
            let message = "the object cannot be read".to_owned();
            vec![problem("", Reason::Invalid, Severity::Error, message)]
        }
        Body::Refused(refusals) => refusals
            .iter()
            .map(|r| {
                problem(
                    &r.field,
                    Reason::Invalid,
                    Severity::Error,
                    r.message.clone(),
                )
            })
            .collect(),
        Body::Tenant | Body::Consumer | Body::ModelCatalog => {
            let message = format!("kind {} is not built yet and has no effect", id.kind);
            vec![problem("", Reason::NotBuilt, Severity::Error, message)]
        }
        _ => Vec::new(),
    }
}
