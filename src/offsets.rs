//! Where progress is kept: `--offsets kafka` (the group's committed offsets, in `kafka/offsets.rs`), `file:PATH` or
//! `memory`.

mod file;
mod memory;

use std::{collections::BTreeMap, future::Future, sync::Arc};

use crate::gather::Gather;

pub use self::{
    file::{FileOffsets, OpenError},
    memory::MemoryOffsets,
};
use crate::record::{LeaderEpoch, Offset, TopicId, TopicPartition};

/// What is kept for one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The lowest unfinished offset: where to go on.
    pub offset: Offset,
    /// The leader epoch of the last record below it, as far as it is known.
    pub leader_epoch: LeaderEpoch,
    /// What travels with the offset: at most 4,095 UTF-16 units, unless somebody else wrote it. See
    /// [`progress`](crate::progress).
    pub metadata: String,
}

/// What is kept, or to be kept, by topic and partition.
pub type Commits = BTreeMap<Arc<str>, BTreeMap<i32, Committed>>;

/// The topic that had the same name before, and the offsets that are kept of it.
pub type Former = (TopicId, BTreeMap<i32, Offset>);

/// Why progress could not be read or kept.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// What is kept is not what we last wrote: somebody else commits for this group.
    #[error(
        "partition {partition}: the committed offset is {}, but ours was {ours}: another process commits for this group, or \
         its offsets were reset, deleted or expired",
        .theirs.map_or_else(|| "gone".to_owned(), |offset| offset.to_string())
    )]
    Foreign {
        /// The partition.
        partition: TopicPartition,
        /// What we last wrote.
        ours: Offset,
        /// What is kept now; `None` if nothing is.
        theirs: Option<Offset>,
    },
    /// Never to be had this way: not authorised, a group of another kind.
    #[error("{reason}")]
    Refused {
        /// What is wrong and what to do about it.
        reason: String,
    },
    /// The metadata of a commit is longer than may be kept. Other partitions may have been kept all the same.
    #[error("{reason}")]
    MetadataTooLarge {
        /// Who says so, for people.
        reason: String,
    },
    /// For a reason that may pass. The commit may have been kept all the same.
    #[error("{reason}")]
    Unavailable {
        /// What happened, for people.
        reason: String,
    },
}

/// Keeps the committed offsets of one group. All calls end within the store's own deadline.
pub trait OffsetStore: Send + 'static {
    /// What is kept for each of these partitions, by topic; those for which nothing is kept are left out, and topics of
    /// which nothing is kept may be.
    fn load(
        &mut self,
        partitions: &BTreeMap<Arc<str>, Vec<i32>>,
    ) -> impl Future<Output = Result<Commits, StoreError>> + Send;

    /// The topic of this name was made anew, and has this id now. What is kept of the one before means nothing any more.
    fn renew(&mut self, topic: &str, id: TopicId);

    /// What is committed from now on was worked off in this era: a number that grows each time a member of a group has lost
    /// what it held. For those who keep offsets of something that cannot be lost, it says nothing.
    fn act_in(&mut self, _era: u64) {}

    /// Keeps `commits`, all or none, unless what is kept differs from what this store last loaded or committed
    /// ([`StoreError::Foreign`]).
    fn commit(&mut self, commits: &Commits) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// What is kept of these partitions.
fn select(kept: &Commits, partitions: &BTreeMap<Arc<str>, Vec<i32>>) -> Commits {
    let of_topic = |(topic, partitions): (&Arc<str>, &Vec<i32>)| {
        let kept = kept.get(topic)?;
        let of = |partition: &i32| Some((*partition, kept.get(partition)?.clone()));
        Some((Arc::clone(topic), partitions.iter().filter_map(of).gather()))
    };
    partitions.iter().filter_map(of_topic).gather()
}
