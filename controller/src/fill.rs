//! Trees with full nodes.

/// Makes a `BTreeMap` or `BTreeSet` anew from what is in it: items that came in their order have left its nodes half
/// empty, which for tens of thousands of them is megabytes.
pub(crate) fn fill<T>(tree: &mut T)
where
    T: Default + IntoIterator + FromIterator<T::Item>,
{
    *tree = std::mem::take(tree).into_iter().collect();
}
