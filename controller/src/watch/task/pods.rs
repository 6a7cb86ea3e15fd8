//! Pods that serve for groups of data planes, and what is said of objects while one of them is cut off.

use super::Owner;
use crate::report::{ObjectReport, Programmed};
use crate::world::{Body, ObjectId, ObjectKind};
use std::collections::BTreeSet;

impl Owner {
    /// What a Pod that is cut off holds of an object that has not changed since is what its status says: that was written
    /// by whoever knew.
    pub(super) fn with_its_word(
        &self,
        report: &ObjectReport,
        programmed: Programmed,
    ) -> Programmed {
        let (id, uid) = (&report.id, &report.uid);
        match programmed {
            Programmed::CutOff { lacks: false, .. }
                if self.with.written.is_programmed(id, uid, report.generation) =>
            {
                Programmed::Yes
            }
            programmed => programmed,
        }
    }

    /// Whether an object names Pods that are data planes.
    pub(super) fn names_data_planes(&self, id: &ObjectId) -> bool {
        if id.kind != ObjectKind::EndpointSlice {
            return false;
        }
        let body = self.world.get(id).map(|object| &object.body);
        matches!(body, Some(Body::EndpointSlice(slice)) if !slice.data_planes.is_empty())
    }

    /// Tells each group which Pods get its traffic. The Service of a group has its name.
    pub(super) fn tell_pods(&self) {
        for (name, group) in self.with.groups.by_name() {
            let Some((namespace, name)) = name.split_once('/') else {
                continue;
            };
            let service = ObjectId::new(ObjectKind::Service, namespace, name);
            let slices = self.world.slices(&service);
            let pods = slices.flat_map(|(_, slice)| &slice.data_planes);
            let pods: BTreeSet<_> = pods.cloned().collect();
            group.publisher.served_by(&pods);
        }
    }
}
