//! What an update of the translation changed.

use super::lowering::Dep;
use crate::world::ObjectId;
use bytes::Bytes;
use snapshot::ResourceId;
use std::collections::{BTreeMap, BTreeSet};

/// What an update changed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Delta {
    /// Bodies of resources that are new or different; `None`: it is gone.
    pub resources: BTreeMap<ResourceId, Option<Bytes>>,
    /// Objects whose report was made again or is gone: their status may be another one.
    pub reports: BTreeSet<ObjectId>,
    /// Secrets and ConfigMaps that something refers to from now on (`true`), there or not, or no longer.
    pub references: BTreeMap<ObjectId, bool>,
    /// What has listeners was looked at again. That a Route is counted at one more is none of it.
    pub gateways: bool,
}

impl Delta {
    /// Adds what a later update changed.
    pub fn merge(&mut self, later: Self) {
        if *self == Self::default() {
            *self = later;
            return;
        }
        self.resources.extend(later.resources);
        self.reports.extend(later.reports);
        self.references.extend(later.references);
        self.gateways |= later.gateways;
    }

    /// An object with values is referred to from now on, or no longer.
    pub(super) fn refer(&mut self, dep: &Dep, refers: bool) {
        if let Dep::Object(id) = dep
            && id.kind.has_values()
        {
            self.references.insert(id.clone(), refers);
        }
    }
}
