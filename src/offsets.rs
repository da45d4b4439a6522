//! Where progress is kept: `--offsets kafka` (the group's committed offsets, in `kafka/offsets.rs`), `file:PATH` or
//! `memory`.

mod file;
mod memory;

use std::{collections::BTreeMap, future::Future};

pub use self::{
    file::{FileOffsets, OpenError},
    memory::MemoryOffsets,
};
use crate::record::{LeaderEpoch, Offset, TopicId};

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
        partition: i32,
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

/// Keeps the committed offsets of one group for one topic. All calls end within the store's own deadline.
pub trait OffsetStore: Send + 'static {
    /// What is kept for each of `partitions`; those for which nothing is kept are left out.
    fn load(&mut self, partitions: &[i32])
    -> impl Future<Output = Result<BTreeMap<i32, Committed>, StoreError>> + Send;

    /// The topic was made anew, and has this id now. What is kept of the one before means nothing any more.
    fn renew(&mut self, id: TopicId);

    /// Keeps `commits`, all or none, unless what is kept differs from what this store last loaded or committed
    /// ([`StoreError::Foreign`]).
    fn commit(&mut self, commits: &BTreeMap<i32, Committed>) -> impl Future<Output = Result<(), StoreError>> + Send;
}
