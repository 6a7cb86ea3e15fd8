//! What would be wrong with a version of an object that is not in the world yet, or not like that.

use super::{Accepted, Translator, guard, refusals, say_unreadable};
use crate::report::Problem;
use crate::translate::gateway_config::{self, Version};
use crate::translate::lowering::Lowered;
use crate::world::{Object, World};

impl Translator {
    /// Judges a version as [`Self::update`] would, and changes nothing. Nothing is said of objects that are others' to
    /// judge.
    pub fn review(&self, world: &World, object: &Object) -> Vec<Problem> {
        let (id, meta) = (&object.id, &object.meta);
        if object.is_refused() {
            return refusals(id, &object.body);
        }
        if id.kind.has_listeners() {
            return self.review_listeners(world, object);
        }
        let Some(version) = Accepted::of(&object.body) else {
            return refusals(id, &object.body);
        };
        let Lowered {
            mut problems,
            parents,
            claims,
            ..
        } = self.lower(world, id, meta, &version);
        if id.kind.is_gateway_api_route() && parents.is_empty() {
            return Vec::new();
        }
        say_unreadable(&mut problems, id, &object.unreadable);
        problems.extend(parents.into_iter().flat_map(|parent| parent.problems));
        problems.extend(self.conflicts.lost_to_others(id, &claims));
        problems.sort();
        problems.dedup();
        problems
    }

    fn review_listeners(&self, world: &World, object: &Object) -> Vec<Problem> {
        if !gateway_config::is_ours(world, object) {
            return Vec::new();
        }
        let Some(version) = Version::of(world, object) else {
            return Vec::new();
        };
        let around = gateway_config::Around {
            world,
            last_good: &self.last_good,
            ingresses: &self.ingresses,
            apart: self.apart,
        };
        let candidate = version.candidate(&object.id, &object.meta);
        let id = &object.id;
        let judged = guard::guarded(id, || gateway_config::judge(around, &candidate));
        judged.map_or_else(|| vec![guard::fault(id)], |judged| judged.problems)
    }
}
