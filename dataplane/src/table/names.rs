//! Texts that many resources of one transaction share: keys of upstreams, plugins and listeners.

use super::stage::Key;
use foldhash::fast::FixedState;
use hashbrown::HashSet;
use model::Target;
use std::cell::RefCell;
use std::sync::Arc;

/// Gives equal texts as one.
#[derive(Default)]
pub(super) struct Names(RefCell<HashSet<Key, FixedState>>);

impl Names {
    pub(super) fn of(&self, text: impl AsRef<str>) -> Key {
        let mut names = self.0.borrow_mut();
        Arc::clone(names.get_or_insert_with(text.as_ref(), |text| text.into()))
    }

    /// What a backend or a mirror leads to, and whether it is the key of an upstream.
    pub(super) fn of_target(&self, target: Target) -> (Key, bool) {
        match target {
            Target::Upstream(key) => (self.of(key), true),
            Target::Unresolved(what) => (self.of(what), false),
        }
    }
}
