//! Versions that serve in place of ones that are not acceptable, from one replica of the controller to another: one
//! that starts has never seen them, and one that was slow may have seen others.

use super::accepted::{Accepted, is_same};
use super::{Dep, Translator};
use crate::translate::gateway_config::Version;
use crate::world::{Body, Meta, Object, ObjectId, Values, World};
use serde_json::{Value, json};
use std::collections::BTreeSet;

impl Translator {
    /// Counts the changes of what [`Self::stand_ins`] gives.
    pub fn stand_ins_changed(&self) -> u64 {
        self.stand_ins_changed
    }

    /// The versions that serve in place of present ones, as manifests: of Secrets, too, with their values.
    pub fn stand_ins(&self) -> impl Iterator<Item = Value> {
        let quarantined = |id: &ObjectId| self.report.get(id).is_some_and(|r| r.quarantined);
        let all = self.accepted.iter().filter(move |(id, ..)| quarantined(id));
        let objects = all.filter_map(|(id, uid, version)| {
            let spec = version.to_json()?;
            Some(json!({
                "apiVersion": format!("{}/v1", id.kind.group()),
                "kind": id.kind.name(),
                "metadata": {"namespace": id.namespace, "name": id.name, "uid": &**uid},
                "spec": spec,
            }))
        });
        objects.chain(self.last_good.stand_ins())
    }

    /// Takes over which versions stand in elsewhere, where the present one is not acceptable here, or nothing has been
    /// translated yet. Gives the objects to translate anew.
    pub fn recall(&mut self, world: &World, objects: Vec<Object>) -> BTreeSet<ObjectId> {
        let mut changed = BTreeSet::new();
        // What another build has accepted may be more than this one can read.
        let whole = objects.into_iter().filter(|o| o.unreadable.is_empty());
        for Object { id, meta, body, .. } in whole {
            if let Body::Secret(Values::Read(data)) | Body::ConfigMap(Values::Read(data)) = &body {
                // Once there is a translation, whatever is in use has been looked at.
                let of_use = |dep| !self.started || self.dependents(&dep).next().is_some();
                if of_use(Dep::Object(id.clone())) && self.last_good.recall(&id, data) {
                    changed.insert(id);
                }
                continue;
            }
            let version = match &body {
                Body::GatewayConfig(spec) => Some(Accepted::Listening(Version::of_config(spec))),
                body => Accepted::of(body),
            };
            let Some(version) = version else {
                continue;
            };
            let is_of_another = |known: &Meta| !is_same(&known.uid, &meta.uid);
            if world.meta(&id).is_some_and(is_of_another) {
                continue;
            }
            let stands_in = self.report.get(&id).is_none_or(|r| r.quarantined);
            let known = self.accepted.get(&id);
            if known == Some(&version) || (known.is_some() && !stands_in) {
                continue;
            }
            self.accepted.note(&id, &meta.uid, version);
            if world.contains(&id) {
                changed.insert(id);
            }
        }
        changed
    }

    /// Forgets what was taken over of objects that are not there, and of values that nothing refers to: for after the first
    /// update, before which that is not known. Keys of certificates are among it.
    pub fn forget_unused(&mut self, world: &World) {
        self.accepted.retain(|id| world.contains(id));
        let mut last_good = std::mem::take(&mut self.last_good);
        last_good.retain(|id| self.dependents(&Dep::Object(id.clone())).next().is_some());
        self.last_good = last_good;
    }
}
