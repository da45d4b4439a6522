//! Reading: one fetch loop per partition, over whatever can fetch from it.

use std::{future::Future, time::Duration};

use crate::record::{Offset, Record};

/// What one fetch brought.
#[derive(Debug, Default)]
pub struct Batch {
    /// Records in the order of their offsets, none below the offset that was asked for. May be empty.
    pub records: Vec<Record>,
    /// Where to read on: above the last record, and above whatever else the fetch showed to hold no record.
    pub next: Offset,
    /// The partition's high watermark: the end of what may be read.
    pub high_watermark: Offset,
}

/// Why a fetch brought nothing.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The offset is not in the log: below its start, where retention or a deletion took it, or beyond its end.
    #[error("offset {requested} is out of range, the log holds {earliest} to {latest}")]
    OutOfRange {
        /// The offset that was asked for.
        requested: Offset,
        /// The log's first offset.
        earliest: Offset,
        /// The high watermark.
        latest: Offset,
    },
    /// There is something at this offset that this reader cannot decode. To try again would fail again.
    #[error("cannot read what lies at offset {at}: {reason}")]
    Unreadable {
        /// The offset that was asked for.
        at: Offset,
        /// What the decoder said.
        reason: String,
    },
    /// The broker did not answer, or said that it cannot just now. To try again may help.
    #[error("{reason}")]
    Unavailable {
        /// What happened, for people.
        reason: String,
    },
}

/// Something that can fetch from one partition. The loop, the limits and the patience are [`Source`]'s, not its.
pub trait PartitionReader: Send + 'static {
    /// Asks once for what lies at `from` and after it, up to about `max_bytes` (at least one batch, if there is one), and
    /// waits up to `max_wait` for something to arrive. Never takes much longer than `max_wait` and the reader's own
    /// deadline together, whatever the broker does, and may be dropped at any time.
    fn fetch(
        &mut self,
        from: Offset,
        max_bytes: usize,
        max_wait: Duration,
    ) -> impl Future<Output = Result<Batch, ReadError>> + Send;
}
