//! The unit of all Tenants, and the Routes that a change of them concerns.

use super::{Accepted, Delta, Translator, arriving, guard, refusals, say_unreadable};
use crate::report::{ObjectReport, Problem};
use crate::translate::lowering::{Lowered, Unit};
use crate::translate::tenants::{self, Candidate};
use crate::world::{Body, Meta, Object, ObjectId, ObjectKind, World};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

impl Translator {
    pub(super) fn tenants(&mut self, world: &World, todo: &mut BTreeSet<Unit>, delta: &mut Delta) {
        let present: Vec<&Object> = world.of_kind(ObjectKind::Tenant).collect();
        let is_present = |id: &ObjectId| present.iter().any(|object| object.id == *id);
        self.accepted
            .retain(|id| id.kind != ObjectKind::Tenant || is_present(id));
        let mut refused: BTreeMap<&ObjectId, Vec<Problem>> = BTreeMap::new();
        let mut versions = Vec::new();
        for object in &present {
            let (id, meta) = (&object.id, &object.meta);
            match &object.body {
                Body::Tenant(spec) => {
                    let mut judged =
                        self.lower(world, id, meta, &Accepted::Tenant(Arc::clone(spec)));
                    say_unreadable(&mut judged.problems, id, &object.unreadable);
                    let version = Accepted::Tenant(Arc::clone(spec));
                    if !judged.is_quarantining() {
                        self.accepted.note(id, &meta.uid, version);
                    } else if self.accepted.get(id).is_none_or(|last| *last == version) {
                        // Nothing older: what is valid of it holds.
                        versions.push((id, meta, Arc::clone(spec), &*object.unreadable));
                        continue;
                    } else {
                        refused.insert(id, judged.problems);
                    }
                }
                body => drop(refused.insert(id, refusals(id, body))),
            }
            if let Some(Accepted::Tenant(spec)) = self.accepted.get(id) {
                versions.push((id, meta, Arc::clone(spec), &[]));
            }
        }
        let candidates = versions.iter();
        let mut candidates: Vec<Candidate<'_>> = candidates
            .map(|(id, meta, spec, unreadable)| Candidate {
                id,
                meta,
                spec,
                unreadable,
            })
            .collect();
        let (nobody, meta) = (ObjectId::new(ObjectKind::Tenant, "", ""), Meta::default());
        let around = self.lowering(world, &nobody, &meta);
        let done = guard::guarded(&nobody, || {
            tenants::lower(&around, &self.gateways, &mut candidates)
        });
        let Some((tenants, mut lowered)) = done else {
            return;
        };
        let known = self.report.objects.keys();
        let gone = known.filter(|id| id.kind == ObjectKind::Tenant && !is_present(id));
        for id in gone.cloned().collect::<Vec<_>>() {
            self.report.objects.remove(&id);
            delta.reports.insert(id);
        }
        let mut together = Lowered::default();
        for object in &present {
            let own = lowered.remove(&object.id);
            let refused = refused.remove(&object.id);
            let quarantined = refused.is_some() && own.is_some();
            let mut own = own.unwrap_or_default();
            if refused.is_none() {
                say_unreadable(&mut own.problems, &object.id, &object.unreadable);
            }
            let mut report = ObjectReport {
                uid: Arc::clone(&object.meta.uid),
                resources: arriving(&own),
                quarantined,
                ..ObjectReport::new(
                    object.id.clone(),
                    object.meta.generation,
                    refused.unwrap_or(own.problems),
                )
            };
            report.problems.sort();
            together.resources.extend(own.resources);
            if self.report.get(&object.id) != Some(&report) {
                self.set_report(report, delta);
            }
        }
        self.install(Unit::Tenants, together, todo, delta);
        let difference = tenants.difference(&self.tenants);
        self.tenants = tenants;
        if difference.is_none() {
            return;
        }
        for id in self.report.objects.keys().filter(|id| id.kind.is_route()) {
            let present = world.get(id).map(|object| &object.body);
            let present = present.and_then(Accepted::of);
            let versions = present.iter().chain(self.accepted.get(id));
            let hosts: Vec<&str> = versions.flat_map(Accepted::hosts).collect();
            if difference.concerns(id, hosts.into_iter()) {
                todo.insert(Unit::Route(id.clone()));
            }
        }
    }
}

impl Accepted {
    /// Those of a Route, as it says them.
    fn hosts(&self) -> Vec<&str> {
        match self {
            Self::Route(spec) => spec.hostnames.iter().map(|host| &**host).collect(),
            Self::HTTPRoute(spec) => strings(&spec.hostnames),
            Self::GRPCRoute(spec) => strings(&spec.hostnames),
            Self::TLSRoute(spec) => spec.hostnames.iter().map(String::as_str).collect(),
            Self::Ingress(ingress) => {
                let rules = ingress.spec.rules.iter().flatten();
                rules.filter_map(|rule| rule.host.as_deref()).collect()
            }
            _ => Vec::new(),
        }
    }
}

fn strings(list: &Option<Vec<String>>) -> Vec<&str> {
    list.iter().flatten().map(String::as_str).collect()
}
