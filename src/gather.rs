//! Ordered maps and sets, filled one by one.
//!
//! `collect` sorts what it is to make a [`BTreeMap`] of, by a sort that is compiled anew for each kind of map: 5 kB each,
//! and a quarter of a megabyte of the program in all (docs/adr/0008). The maps here are small, and no path of a message
//! makes one, so inserting is as good.

use std::collections::{BTreeMap, BTreeSet};

/// What [`Gather::gather`] makes.
pub(crate) trait Ordered: Default {}

impl<K, V> Ordered for BTreeMap<K, V> {}
impl<T> Ordered for BTreeSet<T> {}

/// As [`collect`](Iterator::collect) into an ordered map or set, without a sort.
pub(crate) trait Gather: Iterator + Sized {
    /// All of it. Of equal keys the last one stays.
    fn gather<C: Ordered + Extend<Self::Item>>(self) -> C {
        let mut all = C::default();
        all.extend(self);
        all
    }
}

impl<I: Iterator> Gather for I {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_as_collect() {
        let pairs = [(3, 'c'), (1, 'a'), (3, 'd'), (2, 'b')];
        assert_eq!(pairs.into_iter().gather::<BTreeMap<_, _>>(), pairs.into_iter().collect());
        assert_eq!(pairs.into_iter().gather::<BTreeSet<_>>(), pairs.into_iter().collect());
    }
}
