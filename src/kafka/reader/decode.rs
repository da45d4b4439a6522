//! PURE: from what a leader answered to records, as far as there is room for them.

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    kafka::{
        Isolation,
        batch::{AbortedTransactions, Compression, Damage, Inflater, RawBatch, split},
        wire::Fetched,
        with_causes,
    },
    record::{self, LeaderEpoch, Offset, Record, TopicPartition},
    source::ReadError,
};

/// What stands for a timestamp that is not known, as in Kafka.
const NO_TIMESTAMP: i64 = -1;

/// What was fetched and not yet decoded.
#[derive(Debug)]
pub(super) struct Rest {
    /// Where reading goes on.
    pub(super) next: Offset,
    /// The end of what may be read.
    pub(super) end: Offset,
    /// The leader epoch of the last batch that was passed.
    pub(super) epoch: LeaderEpoch,
    batches: Bytes,
    /// Which transactions were aborted, as of the first of `batches`. Without it all records are delivered.
    aborted: Option<AbortedTransactions>,
}

/// What came of decoding.
#[derive(Debug)]
pub(super) struct Decoded {
    pub(super) records: Vec<Record>,
    /// Where reading goes on, and what there was no room for.
    pub(super) rest: Rest,
    /// Why a batch that lies there cannot be read, where nothing readable came before it.
    pub(super) obstacle: Option<Damage>,
}

/// How much may be decoded at once, in bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    /// With this much decoded, no other batch is begun.
    pub(super) enough: usize,
    /// The most that a batch may be when it is inflated.
    pub(super) inflated: usize,
}

impl Rest {
    pub(super) fn new(from: Offset, fetched: Fetched, isolation: Isolation) -> Self {
        let Fetched { high_watermark, last_stable, aborted, batches, .. } = fetched;
        let (end, aborted) = match isolation {
            Isolation::ReadUncommitted => (high_watermark, None),
            Isolation::ReadCommitted => (last_stable, Some(AbortedTransactions::new(aborted))),
        };
        Self { next: from, end, epoch: LeaderEpoch::UNKNOWN, batches, aborted }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// Goes on behind a batch that cannot be read; gives the record that stands for it, with the batch as it came.
    ///
    /// # Errors
    /// Where it is not known how far the batch reaches, or where its format is merely too old: then to go on would be to
    /// skip what may be in order.
    pub(super) fn pass(&mut self, source: &Arc<TopicPartition>, damage: Damage) -> Result<Record, ReadError> {
        let last = damage.last_offset.filter(|last| *last >= self.next && !damage.is_old_format());
        let reason = with_causes(&damage);
        let Some(last) = last else { return Err(ReadError::Unreadable { at: self.next, reason }) };
        let offset = std::mem::replace(&mut self.next, last.next());
        self.batches = Bytes::new();
        Ok(Record {
            source: Arc::clone(source),
            offset,
            timestamp_ms: NO_TIMESTAMP,
            key: None,
            value: Some(Bytes::copy_from_slice(&damage.bytes)),
            headers: Vec::new(),
            attempt: 1,
            damage: Some(Arc::new(record::Damage { last, reason })),
        })
    }

    /// Whether it may take long to decode it.
    pub(super) fn is_compressed(&self) -> bool {
        split(self.batches.clone()).any(|batch| batch.is_ok_and(|batch| batch.compression() != Compression::None))
    }
}

/// Decodes as much of `rest` as there is room for.
pub(super) fn decode(source: &Arc<TopicPartition>, mut rest: Rest, room: Room) -> Decoded {
    let mut inflater = Inflater::new(room.inflated);
    let (mut records, mut size) = (Vec::new(), 0);
    let mut obstacle = None;
    let mut batches = split(std::mem::take(&mut rest.batches));
    loop {
        let ahead = batches.rest().clone();
        let taken = match batches.next() {
            // What is left may be the beginning of a batch: it is fetched again.
            None => break,
            Some(_) if size >= room.enough => Err(None),
            Some(batch) => {
                batch.and_then(|batch| take(source, &batch, &mut rest, &mut inflater, &mut records)).map_err(Some)
            }
        };
        match taken {
            Ok(taken) => size += taken,
            Err(damage) => {
                rest.batches = ahead;
                // What was decoded goes on its way first.
                obstacle = damage.filter(|_| records.is_empty());
                break;
            }
        }
    }
    Decoded { records, rest, obstacle }
}

/// Takes in one batch; gives the bytes that its records hold.
fn take(
    source: &Arc<TopicPartition>,
    batch: &RawBatch,
    rest: &mut Rest,
    inflater: &mut Inflater,
    records: &mut Vec<Record>,
) -> Result<usize, Damage> {
    batch.check_crc()?;
    let aborted = match &mut rest.aborted {
        Some(aborted) => aborted.is_aborted(batch)?,
        None => false,
    };
    let before = records.len();
    if batch.last_offset() >= rest.next && !aborted {
        // Counted by itself: a count that all records of a partition share goes to and fro between the processors.
        let source = &Arc::new(TopicPartition::clone(source));
        batch.records(source, rest.next, inflater, records)?;
    }
    rest.next = rest.next.max(batch.last_offset().next());
    rest.epoch = batch.leader_epoch();
    Ok(records[before..].iter().map(Record::size).sum())
}
