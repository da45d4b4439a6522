//! PURE. What a run tells its embedder while it runs, beside the counts of [`Progress`](crate::Progress).
//!
//! An event is something that somebody may want to react to: to ring, to write down, to [drain](crate::Drain). It is sent
//! to whoever listens ([`Longshore::events`](crate::Longshore::events)) when it is found out, and is in the log as well.
//! Nothing waits for a listener.

use std::sync::Arc;

use crate::{
    loss::DataLoss,
    record::{Offset, TopicPartition},
};

/// Something that a run tells while it runs. More kinds may come.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// Data is gone. Sent before anything more is committed of the partition.
    DataLoss(DataLoss),
    /// The topic has a partition more, which is worked off from `start` on.
    PartitionAdded {
        /// Which.
        source: Arc<TopicPartition>,
        /// Its first offset.
        start: Offset,
    },
    /// The listener was so slow that so many events were not kept for it.
    Missed(u64),
}
