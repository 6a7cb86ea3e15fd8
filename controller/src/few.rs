//! Sets of few.

/// A set that mostly has an item or two: sorted, in memory of just their size. A `BTreeSet` takes room for eleven,
/// however few there are, and the controller keeps tens of thousands of such sets. An item more or less moves all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Few<T>(Box<[T]>);

impl<T> Default for Few<T> {
    fn default() -> Self {
        Self(Box::default())
    }
}

impl<T: Ord> Few<T> {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn contains(&self, item: &T) -> bool {
        self.0.binary_search(item).is_ok()
    }

    /// In their order.
    pub fn iter(&self) -> std::slice::Iter<'_, T> {
        self.0.iter()
    }

    /// Returns whether it was not there.
    pub fn insert(&mut self, item: T) -> bool {
        let Err(at) = self.0.binary_search(&item) else {
            return false;
        };
        self.change(|items| {
            items.reserve_exact(1);
            items.insert(at, item);
        });
        true
    }

    /// Returns whether it was there.
    pub fn remove(&mut self, item: &T) -> bool {
        let Ok(at) = self.0.binary_search(item) else {
            return false;
        };
        self.change(|items| drop(items.remove(at)));
        true
    }

    fn change(&mut self, change: impl FnOnce(&mut Vec<T>)) {
        let mut items = std::mem::take(&mut self.0).into_vec();
        change(&mut items);
        self.0 = items.into_boxed_slice();
    }

    /// Those that are not in `other`, in their order.
    pub fn difference<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = &'a T> {
        let mut others = other.iter().peekable();
        self.iter().filter(move |item| {
            while others.next_if(|other| other < item).is_some() {}
            others.peek() != Some(item)
        })
    }
}

impl<T: Ord> FromIterator<T> for Few<T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        let mut items = Vec::from_iter(items);
        items.sort_unstable();
        items.dedup();
        Self(items.into_boxed_slice())
    }
}

impl<'a, T> IntoIterator for &'a Few<T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn it_is_a_set(some in prop::collection::vec(0u8..12, 0..16), others in prop::collection::vec(0u8..12, 0..16)) {
            let mut few = Few::from_iter(some.iter().copied());
            let mut set = BTreeSet::from_iter(some);
            let (few_others, set_others) = (Few::from_iter(others.iter().copied()), BTreeSet::from_iter(others.iter().copied()));
            prop_assert!(few.difference(&few_others).eq(set.difference(&set_others)));
            prop_assert!(few_others.difference(&few).eq(set_others.difference(&set)));
            for (n, item) in others.iter().enumerate() {
                prop_assert_eq!(few.contains(item), set.contains(item));
                match n % 3 {
                    0 => prop_assert_eq!(few.remove(item), set.remove(item)),
                    _ => prop_assert_eq!(few.insert(*item), set.insert(*item)),
                }
                prop_assert!(few.iter().eq(&set));
                prop_assert_eq!(few.is_empty(), set.is_empty());
            }
        }
    }
}
