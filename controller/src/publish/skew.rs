//! What a data plane of an older build is not given: it would pass over what it does not know of it, and serve without.
//!
//! It keeps what it had, or is given the last version that it understands; where there is none, the same as in place of
//! what it refuses (`lacks`). All else goes on. One that reads other revisions of the schema alone is given nothing at all.

use super::{DataPlane, Inner, Publisher, SessionError};
use snapshot::{Generation, Kind, Store};

/// What there is to know of it before something is sent.
#[derive(Default)]
pub(super) struct Withheld {
    /// Of what it was not known before, the first generation that had it.
    pub since: Option<Generation>,
    /// It cannot be given anything.
    pub all: bool,
}

impl DataPlane {
    /// Whether it understands all of a body.
    pub(super) fn understands(&self, store: &Store, kind: Kind, body: &[u8]) -> bool {
        let mut needed = snapshot::needed(store.capabilities(), kind, body);
        !needed.any(|name| self.missing.contains(&name))
    }
}

impl Publisher {
    /// A data plane cannot read what is written here; gives its number.
    pub(super) fn turn_away(&self, data_plane: DataPlane, why: &SessionError) -> u64 {
        let DataPlane { node_id, build, .. } = &data_plane;
        tracing::warn!(event = "data_plane_turned_away", node = node_id, build, %why, "a data plane is refused");
        let number = self.inner.lock().join(DataPlane {
            turned_away: Some(why.to_string()),
            ..data_plane
        });
        self.advanced();
        number
    }
}

impl Inner {
    /// Finds what a data plane cannot be given as it is.
    pub(super) fn withhold(&mut self, peer: u64) -> Withheld {
        let plane = self.peers.get(&peer).filter(|p| !p.missing.is_empty());
        let Some(plane) = plane else {
            return Withheld::default();
        };
        let understands = |kind, body: &[u8]| plane.understands(&self.store, kind, body);
        let mut lacks = plane.lacks.present(&self.store);
        let mut since: Option<Generation> = None;
        let mut found = Vec::new();
        for (id, needing) in self.store.needing() {
            let Some(name) = needing.unmet(&plane.missing) else {
                continue;
            };
            let (Some(body), Some(hash)) = (self.store.get(id), self.store.hash_of(id)) else {
                continue;
            };
            if lacks.get(id).is_some_and(|lack| lack.refused == hash) {
                continue;
            }
            let older = self.older(&plane.lacks, id);
            let older = older.filter(|body| understands(id.0, body));
            let older = older.or_else(|| needing.before.clone());
            lacks.withhold(id, body, older, name, understands);
            let generation = self.store.generation_of(id);
            since = since.into_iter().chain(generation).min();
            found.push((id, name));
        }
        if let Some(((kind, key), capability)) = found.first() {
            tracing::warn!(
                event = "data_plane_too_old",
                node = plane.node_id,
                build = plane.build,
                resources = found.len(),
                ?kind,
                key = &**key,
                capability,
                "a data plane lacks what resources need, of which this is the first: it is not given them"
            );
        }
        let all = lacks.has_no_tenant();
        if let Some(plane) = self.peers.get_mut(&peer) {
            plane.lacks = lacks;
        }
        Withheld { since, all }
    }
}

#[cfg(test)]
#[path = "skew_tests.rs"]
mod tests;
