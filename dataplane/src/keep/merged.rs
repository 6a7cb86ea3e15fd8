//! Several transactions as one, which leads to the same.

use snapshot::pb::{Chunk, Name, Resource};
use snapshot::{Cursor, Digest, Transaction};
use std::collections::BTreeMap;

/// What an entry takes beside its key and body, generously.
const OVERHEAD: usize = 128;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Merged {
    full: bool,
    /// Of what it is to follow; `None`: of nothing yet.
    base: Option<Digest>,
    result: Digest,
    /// By kind and key; `None`: it is gone.
    changes: BTreeMap<(u32, String), Option<Resource>>,
    bytes: usize,
}

impl Merged {
    /// Of all that there is, beginning with nothing.
    pub(super) fn everything() -> Self {
        Self {
            full: true,
            ..Self::default()
        }
    }

    /// Adds what comes next, with whole bodies in place of patches.
    pub(super) fn add(&mut self, chunks: &[Chunk]) {
        let digest = |bytes: &[u8]| Digest::from_slice(bytes).unwrap_or_default();
        for chunk in chunks {
            if chunk.full {
                *self = Self::everything();
            }
            if chunk.sequence == 0 {
                self.base.get_or_insert_with(|| digest(&chunk.base_digest));
            }
            for resource in &chunk.upsert {
                let name = (resource.kind, resource.key.clone());
                self.change(name, Some(resource.clone()));
            }
            for name in &chunk.remove {
                self.change((name.kind, name.key.clone()), None);
            }
            if chunk.commit {
                self.result = digest(&chunk.result_digest);
            }
        }
    }

    fn change(&mut self, name: (u32, String), to: Option<Resource>) {
        let key = name.1.len();
        let size = |to: &Option<Resource>| OVERHEAD + key + to.as_ref().map_or(0, |r| r.body.len());
        let before = match to.is_none() && self.full {
            // Of what there was before nothing is left anyway.
            true => self.changes.remove(&name),
            false => {
                self.bytes += size(&to);
                self.changes.insert(name, to)
            }
        };
        self.bytes -= before.map_or(0, |before| size(&before));
    }

    /// About as much as it takes in memory.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The one transaction.
    pub(super) fn chunks(&self) -> Vec<Chunk> {
        let upsert = self.changes.values().flatten().cloned();
        let gone = self.changes.iter().filter(|(_, to)| to.is_none());
        let remove = gone.map(|((kind, key), _)| Name {
            kind: *kind,
            key: key.clone(),
        });
        let whole = Transaction {
            full: self.full,
            base: self.base.unwrap_or_default(),
            result: Cursor {
                generation: 0,
                digest: self.result,
            },
            upsert: upsert.collect(),
            patch: Vec::new(),
            remove: remove.collect(),
        };
        whole.into_chunks(0, 0)
    }
}
