//! Which keys point to a key.

use super::{Keys, Map};
use crate::table::stage::Key;
use std::sync::Arc;

/// Which keys point to a key.
#[derive(Default)]
pub(super) struct Index(Map<Key, Few>);

/// Mostly one: such a set has no memory of its own.
enum Few {
    One(Key),
    Many(Box<Keys>),
}

impl Index {
    pub(super) fn add(&mut self, to: &str, from: &Key) {
        match self.0.get_mut(to) {
            Some(few) => few.add(from),
            None => {
                self.0.insert(to.into(), Few::One(Arc::clone(from)));
            }
        }
    }

    pub(super) fn remove(&mut self, to: &str, from: &str) {
        let is_empty = match self.0.get_mut(to) {
            Some(Few::One(one)) => **one == *from,
            Some(Few::Many(keys)) => {
                keys.remove(from);
                keys.is_empty()
            }
            None => false,
        };
        if is_empty {
            self.0.remove(to);
        }
    }

    pub(super) fn get(&self, to: &str) -> impl Iterator<Item = &Key> + use<'_> {
        let (one, many) = match self.0.get(to) {
            None => (None, None),
            Some(Few::One(one)) => (Some(one), None),
            Some(Few::Many(keys)) => (None, Some(&**keys)),
        };
        one.into_iter().chain(many.into_iter().flatten())
    }
}

impl Few {
    fn add(&mut self, key: &Key) {
        match self {
            Self::One(one) if one == key => {}
            Self::One(one) => {
                let both = [Arc::clone(one), Arc::clone(key)];
                *self = Self::Many(Box::new(both.into_iter().collect()));
            }
            Self::Many(keys) => {
                keys.insert(Arc::clone(key));
            }
        }
    }
}
