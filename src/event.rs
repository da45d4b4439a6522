//! PURE. What a run tells its embedder while it runs, beside the counts of [`Progress`](crate::Progress).
//!
//! An event is something that somebody may want to react to: to ring, to write down, to [drain](crate::Drain). It is sent
//! to whoever listens ([`Longshore::events`](crate::Longshore::events)) when it is found out, and is in the log as well.
//! Nothing waits for a listener.

use std::{sync::Arc, time::Duration};

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
    /// Answers or dead letters cannot be written to a topic: their messages stay unfinished, and it is tried again. Sent
    /// soon, and then every 30 s for as long as it lasts.
    CannotWrite {
        /// Where to.
        topic: Arc<str>,
        /// How many are in the batches that are tried. There may be more behind them.
        records: usize,
        /// For how long it has been tried.
        waited: Duration,
        /// What is in the way, by the latest attempt.
        reason: String,
    },
    /// What could not be written is.
    WritingAgain {
        /// Where to.
        topic: Arc<str>,
        /// For how long something waited.
        after: Duration,
    },
    /// The listener was so slow that so many events were not kept for it.
    Missed(u64),
}
