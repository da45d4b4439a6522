//! PURE. Which partitions a member holds, and which of them are leaving; and the arithmetic of sets of partitions.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::exchange::ByName;

use crate::gather::Gather;

/// What is held, and which part of it was revoked and is not released yet. No set in it is empty.
#[derive(Debug, Default)]
pub(super) struct Holdings {
    held: ByName,
    leaving: ByName,
}

impl Holdings {
    pub(super) fn held(&self) -> &ByName {
        &self.held
    }

    pub(super) fn leaving(&self) -> &ByName {
        &self.leaving
    }

    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Takes in what is to be held. Gives what is new, and what has to be given up. What is wanted back while it leaves is
    /// new only once it was released: whoever holds it was told to let go.
    pub(super) fn aim(&mut self, target: &ByName) -> (ByName, ByName) {
        let revoked = minus(&minus(&self.held, &self.leaving), target);
        let added = minus(target, &self.held);
        add(&mut self.leaving, &revoked);
        add(&mut self.held, &added);
        (added, revoked)
    }

    /// Takes in what was released; what was not leaving is no concern of ours.
    pub(super) fn release(&mut self, partitions: &ByName) {
        let gone = both(&self.leaving, partitions);
        self.leaving = minus(&self.leaving, &gone);
        self.held = minus(&self.held, &gone);
    }

    /// Everything goes, at once.
    pub(super) fn take(&mut self) -> ByName {
        self.leaving.clear();
        std::mem::take(&mut self.held)
    }
}

/// How many partitions there are.
pub(super) fn count(partitions: &ByName) -> usize {
    partitions.values().map(BTreeSet::len).sum()
}

/// What is in `left` and not in `right`.
pub(super) fn minus<K: Ord + Clone>(
    left: &BTreeMap<K, BTreeSet<i32>>,
    right: &BTreeMap<K, BTreeSet<i32>>,
) -> BTreeMap<K, BTreeSet<i32>> {
    let rest = left.iter().map(|(topic, partitions)| match right.get(topic) {
        Some(others) => (topic.clone(), partitions - others),
        None => (topic.clone(), partitions.clone()),
    });
    rest.filter(|(_, partitions)| !partitions.is_empty()).gather()
}

/// What is in `left` and in `right`.
pub(super) fn both(left: &ByName, right: &ByName) -> ByName {
    let shared = left.iter().filter_map(|(topic, partitions)| {
        let shared: BTreeSet<_> = partitions & right.get(topic)?;
        (!shared.is_empty()).then(|| (Arc::clone(topic), shared))
    });
    shared.gather()
}

/// Puts `more` into `all`.
pub(super) fn add(all: &mut ByName, more: &ByName) {
    for (topic, partitions) in more.iter().filter(|(_, partitions)| !partitions.is_empty()) {
        all.entry(Arc::clone(topic)).or_default().extend(partitions);
    }
}

/// Those of `topics` only.
pub(super) fn of_topics(partitions: &ByName, topics: &BTreeSet<Arc<str>>) -> ByName {
    let of = partitions.iter().filter(|(topic, partitions)| topics.contains(*topic) && !partitions.is_empty());
    of.map(|(topic, partitions)| (Arc::clone(topic), partitions.clone())).gather()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(partitions: &[i32]) -> ByName {
        let mut all = ByName::new();
        add(&mut all, &[("t".into(), partitions.iter().copied().collect())].into());
        all
    }

    #[test]
    fn what_is_wanted_back_while_it_leaves_comes_back_once_it_was_released() {
        let mut holdings = Holdings::default();
        assert_eq!(holdings.aim(&set(&[0, 1])), (set(&[0, 1]), set(&[])));
        assert_eq!(holdings.aim(&set(&[1])), (set(&[]), set(&[0])));
        assert_eq!(holdings.aim(&set(&[0, 1])), (set(&[]), set(&[])), "still leaving");
        holdings.release(&set(&[0, 1]));
        assert_eq!(holdings.held(), &set(&[1]), "what was not leaving stays");
        assert_eq!(holdings.aim(&set(&[0, 1])), (set(&[0]), set(&[])));
    }

    #[test]
    fn what_goes_all_at_once_is_not_leaving_any_more() {
        let mut holdings = Holdings::default();
        holdings.aim(&set(&[0, 1]));
        holdings.aim(&set(&[1]));
        assert_eq!(holdings.take(), set(&[0, 1]));
        assert!(holdings.is_empty() && holdings.leaving().is_empty());
    }
}
