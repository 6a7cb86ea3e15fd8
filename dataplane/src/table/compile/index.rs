//! Which keys point to a key.

use super::{Keys, Map};
use crate::table::stage::Key;
use std::sync::Arc;

/// Which keys point to a key.
#[derive(Default)]
pub(super) struct Index(Map<Key, Keys>);

impl Index {
    pub(super) fn add(&mut self, to: &str, from: &Key) {
        match self.0.get_mut(to) {
            Some(keys) => {
                keys.insert(Arc::clone(from));
            }
            None => {
                self.0
                    .insert(to.into(), std::iter::once(Arc::clone(from)).collect());
            }
        }
    }

    pub(super) fn remove(&mut self, to: &str, from: &str) {
        if let Some(keys) = self.0.get_mut(to) {
            keys.remove(from);
            if keys.is_empty() {
                self.0.remove(to);
            }
        }
    }

    pub(super) fn get(&self, to: &str) -> impl Iterator<Item = &Key> {
        self.0.get(to).into_iter().flatten()
    }
}
