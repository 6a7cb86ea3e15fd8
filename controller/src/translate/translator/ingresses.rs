//! What a change of an Ingress or IngressClass concerns.

use super::Translator;
use crate::translate::ingress;
use crate::translate::lowering::{Dep, Lowered, Unit};
use crate::world::{ObjectId, ObjectKind, World};
use std::collections::BTreeSet;

impl Translator {
    /// Beside the Ingress itself: listeners that show its certificates, and others of its namespace.
    pub(super) fn mark_ingress(&mut self, world: &World, id: &ObjectId, todo: &mut BTreeSet<Unit>) {
        let concerns = self.ingresses.take(world, id);
        if concerns.certificates {
            todo.insert(Unit::Gateways);
        }
        if concerns.canaries {
            self.mark_dependents(&Dep::Canaries(id.namespace.clone()), todo);
        }
        self.mark_dependents(&Dep::Ingresses(id.namespace.clone()), todo);
    }

    /// Whose an Ingress is follows from all classes together.
    pub(super) fn mark_classes(&mut self, world: &World, todo: &mut BTreeSet<Unit>) {
        let all: Vec<ObjectId> = world
            .of_kind(ObjectKind::Ingress)
            .map(|object| object.id.clone())
            .collect();
        for id in all {
            self.mark_ingress(world, &id, todo);
        }
        self.mark_dependents(&Dep::IngressClasses, todo);
    }

    /// Where an Ingress is reached, once it attaches somewhere.
    pub(super) fn published(
        &self,
        world: &World,
        id: &ObjectId,
        lowered: &mut Lowered,
    ) -> Option<Vec<String>> {
        if id.kind != ObjectKind::Ingress || lowered.parents.is_empty() {
            return None;
        }
        let published = self.published.as_ref()?;
        let config = lowered.parents.first().and_then(ingress::config_of);
        if let Some(own) = config.and_then(|config| self.addresses(world, &config, lowered)) {
            return Some(own);
        }
        if !published.addresses.is_empty() {
            return Some(published.addresses.clone());
        }
        let service = published.service.as_ref()?;
        lowered.deps.insert(Dep::Object(service.clone()));
        let found = world.service(service);
        Some(found.map(|s| s.addresses.clone()).unwrap_or_default())
    }
}
