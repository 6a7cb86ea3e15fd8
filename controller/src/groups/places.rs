//! Resources by places: a name is looked for once, and everything else goes by its place.

use crate::fill::fill;
use crate::publish::ResourceId;
use std::collections::BTreeMap;
use std::ops::{Index, IndexMut};

/// Where something is kept, as long as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place(usize);

/// Something for each of some resources.
#[derive(Default)]
pub(super) struct Places<T> {
    places: BTreeMap<ResourceId, Place>,
    kept: Vec<T>,
    /// Places of nothing.
    free: Vec<Place>,
}

impl<T: Default> Places<T> {
    pub(super) fn find(&self, id: &ResourceId) -> Option<Place> {
        self.places.get(id).copied()
    }

    /// The place of a resource, which is a new one where it has none. `make`: of the resource, in the one text of its name.
    pub(super) fn add(&mut self, id: ResourceId, make: impl FnOnce(ResourceId) -> T) -> Place {
        *self.places.entry(id).or_insert_with_key(|id| {
            let new = make(id.clone());
            match self.free.pop() {
                Some(place) => {
                    self.kept[place.0] = new;
                    place
                }
                None => {
                    self.kept.push(new);
                    Place(self.kept.len() - 1)
                }
            }
        })
    }

    pub(super) fn remove(&mut self, id: &ResourceId) {
        if let Some(place) = self.places.remove(id) {
            self.kept[place.0] = T::default();
            self.free.push(place);
        }
    }

    /// In no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.kept.iter()
    }

    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// Takes no more memory than need be for what it holds now.
    pub(super) fn fill(&mut self) {
        fill(&mut self.places);
        self.kept.shrink_to_fit();
    }
}

impl<T> Index<Place> for Places<T> {
    type Output = T;

    fn index(&self, place: Place) -> &T {
        &self.kept[place.0]
    }
}

impl<T> IndexMut<Place> for Places<T> {
    fn index_mut(&mut self, place: Place) -> &mut T {
        &mut self.kept[place.0]
    }
}
