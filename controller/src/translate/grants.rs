//! References to other namespaces.

use super::lowering::{Dep, Lowering};
use crate::world::{Body, ObjectId, ObjectKind};

impl Lowering<'_> {
    /// Whether this object may refer to `target`: in its own namespace always, elsewhere where a ReferenceGrant of
    /// the target's namespace says so.
    pub(super) fn may_refer(&mut self, target: &ObjectId) -> bool {
        if target.namespace == self.id.namespace {
            return true;
        }
        self.out.deps.insert(Dep::Grants(target.namespace.clone()));
        let grants = self
            .world
            .in_namespace(ObjectKind::ReferenceGrant, &target.namespace);
        grants
            .filter_map(|o| match &o.body {
                Body::ReferenceGrant(grant) => Some(grant),
                _ => None,
            })
            .any(|grant| {
                let from = grant.from.iter().any(|from| {
                    from.group == self.id.kind.group()
                        && from.kind == self.id.kind.name()
                        && *from.namespace == *self.id.namespace
                });
                let to = grant.to.iter().any(|to| {
                    to.group == target.kind.group()
                        && to.kind == target.kind.name()
                        && to.name.as_ref().is_none_or(|name| **name == *target.name)
                });
                from && to
            })
    }
}
