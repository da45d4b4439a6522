//! PURE. What was given to a worker and is not finished when a run ends, by offset: for the summary.

use std::{collections::BTreeMap, fmt};

use serde::{Serialize, Serializer};

use super::Scheduler;
use crate::{
    progress::{Finished, Run},
    record::{Offset, TopicPartition},
};

/// The most ranges that are listed of a partition. The rest is counted.
pub const MAX_RANGES: usize = 20;

/// The messages of one partition that were given to a worker and are not finished: they run again, or are tried again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unfinished {
    /// Where they lie.
    #[serde(serialize_with = "by_name")]
    pub source: TopicPartition,
    /// Their offsets, as ranges whose both ends belong to them; the lowest [`MAX_RANGES`] of them.
    pub offsets: Vec<(i64, i64)>,
    /// How many offsets there are beyond those.
    pub more: u64,
}

impl Unfinished {
    /// Those at `offsets`: a set of offsets like any other, although what is usually kept so is finished. `None` where
    /// there is none.
    fn new(source: &TopicPartition, offsets: &Finished) -> Option<Self> {
        let (listed, more) = offsets.runs().split_at(offsets.runs().len().min(MAX_RANGES));
        (!offsets.is_empty()).then(|| Self {
            source: source.clone(),
            offsets: listed.iter().map(|run| (run.first.0, run.end.0 - 1)).collect(),
            more: more.iter().map(|run| run.count()).sum(),
        })
    }
}

/// `orders-0 at 3, 5-9 and 17 more`
impl fmt::Display for Unfinished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at", self.source)?;
        for (n, &(first, last)) in self.offsets.iter().enumerate() {
            let run = Run::new(Offset(first), Offset(last).next());
            write!(f, "{}{run}", if n == 0 { " " } else { ", " })?;
        }
        if self.more > 0 { write!(f, " and {} more", self.more) } else { Ok(()) }
    }
}

fn by_name<S: Serializer>(source: &TopicPartition, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(source)
}

impl Scheduler {
    /// What was given to a worker and is not finished, by topic and partition, that which waits to be tried again included.
    /// What came to nothing anyway, since its log is another, is left out.
    pub(super) fn unfinished(&self) -> Vec<Unfinished> {
        // Several lives of a partition are told as one.
        let mut all = BTreeMap::<&TopicPartition, Finished>::new();
        for life in self.lives.values() {
            let offsets = all.entry(&life.source).or_default();
            life.tracker.started().filter(|offset| !life.is_past(*offset)).for_each(|offset| offsets.insert(offset));
        }
        all.into_iter().filter_map(|(source, offsets)| Unfinished::new(source, &offsets)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(offsets: impl IntoIterator<Item = i64>) -> Option<Unfinished> {
        let source = TopicPartition { topic: "orders".into(), partition: 0 };
        let mut set = Finished::default();
        offsets.into_iter().for_each(|offset| set.insert(Offset(offset)));
        Unfinished::new(&source, &set)
    }

    #[test]
    fn neighbours_are_one_range_and_what_is_too_much_is_counted() {
        assert_eq!(of([3, 5, 6, 7]).unwrap().to_string(), "orders-0 at 3, 5-7");
        let many = of((0..50).map(|n| n * 2)).unwrap();
        assert_eq!((many.offsets.len(), many.more), (MAX_RANGES, 30));
        assert!(many.to_string().ends_with(", 38 and 30 more"), "{many}");
        assert_eq!(of([]), None);
    }

    proptest! {
        #[test]
        fn every_offset_is_listed_or_counted(offsets in prop::collection::btree_set(0..100_i64, 1..80)) {
            let told = of(offsets.iter().copied()).unwrap();
            let listed: Vec<i64> = told.offsets.iter().flat_map(|(first, last)| *first..=*last).collect();
            let expected: Vec<i64> = offsets.iter().copied().take(listed.len()).collect();
            prop_assert_eq!(&listed, &expected);
            prop_assert_eq!(listed.len() + usize::try_from(told.more).unwrap(), offsets.len());
        }
    }
}
