//! Which keys point to something.

use super::{Keys, Map};
use crate::table::stage::Key;
use hashbrown::Equivalent;
use model::HostPattern;
use std::hash::Hash;
use std::sync::Arc;

/// Which keys point to something: to a key, if nothing else is said.
pub(super) struct Index<T: Target = Key>(Map<T, Few>);

/// What keys can point to.
pub(super) trait Target: Eq + Hash {
    /// What it is looked up by.
    type Ref: ?Sized + Hash + Equivalent<Self>;

    fn of(text: &Self::Ref) -> Self;
}

impl Target for Key {
    type Ref = str;

    fn of(text: &str) -> Self {
        text.into()
    }
}

impl Target for HostPattern {
    type Ref = Self;

    fn of(host: &Self) -> Self {
        host.clone()
    }
}

/// Mostly one: such a set has no memory of its own.
enum Few {
    One(Key),
    Many(Box<Keys>),
}

impl<T: Target> Default for Index<T> {
    fn default() -> Self {
        Self(Map::default())
    }
}

impl<T: Target> Index<T> {
    pub(super) fn add(&mut self, to: &T::Ref, from: &Key) {
        match self.0.get_mut(to) {
            Some(few) => few.add(from),
            None => {
                self.0.insert(T::of(to), Few::One(Arc::clone(from)));
            }
        }
    }

    pub(super) fn remove(&mut self, to: &T::Ref, from: &str) {
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

    pub(super) fn get(&self, to: &T::Ref) -> impl Iterator<Item = &Key> + use<'_, T> {
        let (one, many) = match self.0.get(to) {
            None => (None, None),
            Some(Few::One(one)) => (Some(one), None),
            Some(Few::Many(keys)) => (None, Some(&**keys)),
        };
        one.into_iter().chain(many.into_iter().flatten())
    }

    /// What keys point to.
    pub(super) fn targets(&self) -> impl Iterator<Item = &T> {
        self.0.keys()
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
