//! Where policies have an effect: at the listeners of the Routes that send requests to their Services (GEP-713).

use super::super::backend_tls::{Policies, Policy};
use super::super::lowering::{Dep, Unit};
use super::{Accepted, Delta, State, Translator};
use crate::report::{ParentReport, Reference};
use crate::world::{Body, Object, ObjectId, ObjectKind};
use gateway_api::backend_tls_policy::BackendTlsPolicySpec;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// As many ancestors fit into a status.
const MOST: usize = 16;

/// Policies by their Services.
#[derive(Default)]
pub(super) struct Index {
    in_effect: Policies,
    services: BTreeMap<ObjectId, BTreeSet<ObjectId>>,
    /// Namespaces of Services that other Routes use now, or whose policies are others.
    touched: BTreeSet<Box<str>>,
}

impl Index {
    pub(super) fn in_effect(&self) -> &Policies {
        &self.in_effect
    }

    /// `None`: nothing of it is in effect. Returns whether that is new.
    fn set(&mut self, id: &ObjectId, policy: Option<Policy>) -> bool {
        let targets = policy.as_ref().map_or(&[][..], |p| &p.spec.target_refs);
        let services = targets
            .iter()
            .filter(|target| target.group.is_empty() && target.kind == ObjectKind::Service.name())
            .map(|target| ObjectId::new(ObjectKind::Service, &*id.namespace, &*target.name));
        self.services.insert(id.clone(), services.collect());
        self.touched.insert(id.namespace.clone());
        self.in_effect.set(id, policy)
    }

    /// The policy is gone.
    fn remove(&mut self, id: &ObjectId) -> bool {
        self.services.remove(id);
        self.in_effect.set(id, None)
    }

    /// A Route uses other Services or listeners than before.
    pub(super) fn touch(&mut self, old: &State, new: &State) {
        if self.services.is_empty() || (old.attached == new.attached && old.deps == new.deps) {
            return;
        }
        let services = old
            .deps
            .iter()
            .chain(&new.deps)
            .filter_map(|dep| match dep {
                Dep::Object(id) if id.kind == ObjectKind::Service => Some(&id.namespace),
                _ => None,
            });
        self.touched.extend(services.cloned());
    }
}

impl Translator {
    /// The last version of a policy that was acceptable is in effect, or else what is there of it: what cannot be had of
    /// that closes its Services.
    pub(super) fn follow_policy(
        &mut self,
        object: &Object,
        present: Option<Accepted>,
        todo: &mut BTreeSet<Unit>,
    ) {
        let id = &object.id;
        let spec = match (self.accepted.get(id).cloned().or(present), &object.body) {
            (Some(Accepted::BackendTLSPolicy(spec)), _) => Some(spec),
            (_, Body::RefusedPolicy(_, targets)) => Some(Arc::new(BackendTlsPolicySpec {
                target_refs: targets.to_vec(),
                ..BackendTlsPolicySpec::default()
            })),
            _ => None,
        };
        let meta = object.meta.clone();
        if self
            .policies
            .set(id, spec.map(|spec| Policy { meta, spec }))
        {
            self.mark_dependents(&Dep::Policies(id.namespace.clone()), todo);
        }
    }

    pub(super) fn forget_policy(&mut self, id: &ObjectId, todo: &mut BTreeSet<Unit>) {
        if self.policies.remove(id) {
            self.mark_dependents(&Dep::Policies(id.namespace.clone()), todo);
        }
    }

    /// Brings the ancestors of policies up to date that may have others now.
    pub(super) fn say_ancestors(&mut self, delta: &mut Delta) {
        let touched = std::mem::take(&mut self.policies.touched);
        if touched.is_empty() {
            return;
        }
        for (id, services) in &self.policies.services {
            if !touched.contains(&id.namespace) {
                continue;
            }
            let mut ancestors = BTreeSet::new();
            for service in services {
                let dep = Dep::Object(service.clone());
                let units = self.dependents(&dep);
                let routes = units.filter(|unit| matches!(unit, Unit::Route(_)));
                let states = routes.filter_map(|unit| self.units.get(unit));
                let keys = states.flat_map(|state| &state.attached);
                ancestors.extend(keys.filter_map(|key| ObjectId::of_listener_owner(key)));
            }
            let parents = ancestors.iter().take(MOST).map(|ancestor| ParentReport {
                parent_ref: Reference::new(&reference(ancestor)),
                problems: Vec::new(),
                serves: true,
            });
            let parents: Vec<ParentReport> = parents.collect();
            if let Some(report) = self.report.objects.get_mut(id)
                && report.parents != parents
            {
                report.parents = parents;
                delta.reports.insert(id.clone());
            }
        }
    }
}

fn reference(id: &ObjectId) -> Value {
    json!({
        "group": id.kind.group(),
        "kind": id.kind.name(),
        "namespace": id.namespace,
        "name": id.name,
    })
}
