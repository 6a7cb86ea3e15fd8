//! Another look at what is held: what a translation from nothing gives, it must be already.
//!
//! An update translates what has changed, and what had said that it looks at that. Where a unit had not said it, what is
//! held of it is of another world, and no update would ever find out. So all units are lowered again now and then, in the
//! order of a full translation, so that each sees what the earlier ones give afresh: what comes out otherwise than it is
//! held counts from then on. It is done in slices, in the place of what is held: a second translation beside it would take
//! as much memory again.

use super::{Delta, State, Translator};
use crate::report::ObjectReport;
use crate::translate::conflict;
use crate::translate::ingress;
use crate::translate::lowering::{Dep, Unit};
use crate::world::{ObjectId, ObjectKind, World};
use std::collections::{BTreeMap, BTreeSet};

/// Units that are still to be looked at.
pub struct Recheck(std::vec::IntoIter<Unit>);

impl Recheck {
    pub fn is_done(&self) -> bool {
        self.0.as_slice().is_empty()
    }
}

/// What was held otherwise than it is given afresh.
#[derive(Default)]
pub struct Mismatch {
    /// Names of the objects.
    pub of: BTreeSet<String>,
    /// What it took to mend it.
    pub delta: Delta,
}

impl Mismatch {
    pub fn merge(&mut self, later: Self) {
        self.of.extend(later.of);
        self.delta.merge(later.delta);
    }
}

impl Translator {
    /// Begins with the indexes, by which everything else is found.
    pub fn recheck(&mut self, world: &World) -> (Recheck, Mismatch) {
        let mut found = Mismatch::default();
        let mut ingresses = ingress::Index::default();
        for object in world.of_kind(ObjectKind::Ingress) {
            ingresses.take(world, &object.id);
        }
        if ingresses != self.ingresses {
            self.ingresses = ingresses;
            found.of.insert("the index of Ingresses".to_owned());
        }
        if !self.has_whole_indexes() {
            self.index_anew(&mut found.delta);
            found.of.insert("the index of units".to_owned());
        }
        let of_objects = world.ids().chain(self.report.objects.keys());
        let mut units: Vec<Unit> = of_objects.filter_map(Unit::of).collect();
        units.extend(self.units.keys().chain(self.demand.keys()).cloned());
        units.sort();
        units.dedup();
        (Recheck(units.into_iter()), found)
    }

    /// Goes on with the next `most` units. All that has changed in the world must have been translated.
    pub fn recheck_next(&mut self, world: &World, recheck: &mut Recheck, most: usize) -> Mismatch {
        let units: Vec<Unit> = recheck.0.by_ref().take(most).collect();
        let states: Vec<Option<State>> = units.iter().map(|u| self.units.get(u).cloned()).collect();
        let reported = units.iter().flat_map(|unit| self.reported(unit));
        let reports: BTreeMap<ObjectId, Option<Box<ObjectReport>>> = reported
            .map(|id| (id.clone(), self.report.objects.get(&id).cloned()))
            .collect();
        let listening = units.contains(&Unit::Gateways);
        let listening = listening.then(|| (self.gateways.clone(), self.data_planes.clone()));
        let owning = units.contains(&Unit::Tenants);
        let owning = owning.then(|| self.tenants.clone());
        let stand_ins_changed = self.stand_ins_changed;
        for id in reports.keys() {
            if let Some(meta) = world.meta(id) {
                self.accepted.keep_of(id, &meta.uid);
            }
        }

        let mut delta = self.lower_all(world, units.iter().cloned().collect());

        let mut of = BTreeSet::new();
        for (unit, before) in units.iter().zip(&states) {
            let now = self.units.get(unit);
            let resources = before.iter().chain(now).flat_map(|s| &s.resources);
            let mut resources = resources.filter(|id| delta.resources.contains_key(*id));
            if now != before.as_ref() || resources.next().is_some() {
                of.insert(name(unit));
            }
        }
        if listening.is_some_and(|(gateways, data_planes)| {
            gateways != self.gateways || data_planes != self.data_planes
        }) {
            of.insert(name(&Unit::Gateways));
        }
        if owning.is_some_and(|tenants| tenants != self.tenants) {
            of.insert(name(&Unit::Tenants));
        }
        delta.reports.retain(|id| {
            let before = reports.get(id).map(Option::as_deref);
            let differs = before.is_some_and(|before| before != self.report.get(id));
            if differs {
                of.insert(id.to_string());
            }
            differs || before.is_none()
        });
        if of.is_empty() {
            // What other units give, which were lowered because of these, and come later than these.
            let others = delta.resources.keys();
            of.extend(others.map(|(kind, key)| format!("{kind:?} {key}")));
        }
        if of.is_empty() {
            delta.gateways = false;
            self.stand_ins_changed = stand_ins_changed;
        }
        Mismatch { of, delta }
    }

    /// Objects whose reports a unit makes.
    fn reported(&self, unit: &Unit) -> Vec<ObjectId> {
        let known = self.report.objects.keys();
        match unit {
            Unit::Gateways | Unit::Tenants => known
                .filter(|id| Unit::of(id).as_ref() == Some(unit))
                .cloned()
                .collect(),
            Unit::Object(id) | Unit::Route(id) => vec![id.clone()],
            Unit::ServiceUpstream(port, _) | Unit::Shards(port) => vec![port.service.clone()],
            Unit::Certificate(_) | Unit::Authorities(_) => Vec::new(),
        }
    }

    /// Whether the indexes have as many entries as follow from the units.
    fn has_whole_indexes(&self) -> bool {
        let count = |of: fn(&State) -> usize| self.units.values().map(of).sum::<usize>();
        let counted = self
            .units
            .iter()
            .filter_map(|(unit, state)| state.counted(unit));
        let counted = counted.map(|listeners| listeners.iter().len());
        count(|state| state.deps.iter().len()) == self.dependents.len()
            && count(|state| state.demands.iter().len()) == self.demand.values().sum::<usize>()
            && counted.sum::<usize>() == self.attached.values().map(BTreeSet::len).sum::<usize>()
            && count(|state| conflict::distinct(&state.claims)) == self.conflicts.len()
    }

    fn index_anew(&mut self, delta: &mut Delta) {
        let before = std::mem::take(&mut self.dependents);
        (self.demand, self.attached) = (BTreeMap::new(), BTreeMap::new());
        self.conflicts = conflict::Index::default();
        for (unit, state) in &self.units {
            let deps = state.deps.iter();
            self.dependents
                .extend(deps.map(|dep| (dep.clone(), unit.clone())));
            for demand in &state.demands {
                *self.demand.entry(demand.clone()).or_insert(0) += 1;
            }
            for key in state.counted(unit).into_iter().flatten() {
                let units = self.attached.entry(key.clone()).or_default();
                units.insert(unit.clone());
            }
            self.conflicts.replace(&[], &state.claims);
        }
        let deps = |all: &'_ BTreeSet<(Dep, Unit)>| -> BTreeSet<Dep> {
            all.iter().map(|(dep, _)| dep.clone()).collect()
        };
        let (before, now) = (deps(&before), deps(&self.dependents));
        before
            .difference(&now)
            .for_each(|dep| delta.refer(dep, false));
        now.difference(&before)
            .for_each(|dep| delta.refer(dep, true));
    }
}

/// The object that a unit is about.
fn name(unit: &Unit) -> String {
    match unit {
        Unit::Gateways => "what has listeners".to_owned(),
        Unit::Tenants => "Tenants".to_owned(),
        Unit::Object(id) | Unit::Route(id) | Unit::Certificate(id) | Unit::Authorities(id) => {
            id.to_string()
        }
        Unit::ServiceUpstream(port, _) | Unit::Shards(port) => port.service.to_string(),
    }
}

#[cfg(test)]
#[path = "recheck_tests.rs"]
mod tests;
