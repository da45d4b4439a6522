//! PURE: what a partition knows of its idempotent producers (KIP-98), so that a batch sent twice is kept once.

use std::collections::{BTreeMap, VecDeque};

use super::batch::BatchHeader;
use crate::record::Offset;

/// The batches of a producer that are recognised when they come again, as in Kafka.
const REMEMBERED_BATCHES: usize = 5;
/// The producers a partition remembers; beyond it the one with the lowest id, which is the oldest, is forgotten.
const REMEMBERED_PRODUCERS: usize = 1_000;

/// Why a producer's batch is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SequenceError {
    /// Batches before this one are missing, or it is too old to be recognised.
    OutOfOrder { expected: i32, got: i32 },
    /// A newer incarnation of this producer has written since.
    StaleEpoch,
}

/// What to do with a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Append,
    /// It is there already, from this offset on.
    Duplicate(Offset),
}

#[derive(Debug)]
struct Producer {
    epoch: i16,
    last_sequence: i32,
    /// First sequence, last sequence, base offset.
    batches: VecDeque<(i32, i32, Offset)>,
}

/// The producers that have written to one partition.
#[derive(Debug, Default)]
pub(super) struct Producers(BTreeMap<i64, Producer>);

impl Producers {
    /// Looks at a batch before it is appended.
    pub(super) fn check(&self, batch: &BatchHeader) -> Result<Verdict, SequenceError> {
        let Some(producer) = self.0.get(&batch.producer_id) else { return Ok(Verdict::Append) };
        let first = batch.base_sequence;
        if batch.producer_epoch < producer.epoch {
            return Err(SequenceError::StaleEpoch);
        }
        let expected = if batch.producer_epoch > producer.epoch { 0 } else { after(producer.last_sequence, 1) };
        if batch.producer_epoch == producer.epoch {
            let last = last_sequence(batch);
            if let Some(&(.., offset)) = producer.batches.iter().find(|(f, l, _)| (*f, *l) == (first, last)) {
                return Ok(Verdict::Duplicate(offset));
            }
        }
        if first == expected { Ok(Verdict::Append) } else { Err(SequenceError::OutOfOrder { expected, got: first }) }
    }

    /// Remembers a batch that was appended.
    pub(super) fn appended(&mut self, batch: &BatchHeader, base_offset: Offset) {
        if batch.producer_id < 0 {
            return;
        }
        let last = last_sequence(batch);
        let new = || Producer { epoch: batch.producer_epoch, last_sequence: last, batches: VecDeque::new() };
        let producer = self.0.entry(batch.producer_id).or_insert_with(new);
        if producer.epoch != batch.producer_epoch {
            *producer = new();
        }
        producer.last_sequence = last;
        producer.batches.push_back((batch.base_sequence, last, base_offset));
        if producer.batches.len() > REMEMBERED_BATCHES {
            producer.batches.pop_front();
        }
        if self.0.len() > REMEMBERED_PRODUCERS {
            self.0.pop_first();
        }
    }
}

fn last_sequence(batch: &BatchHeader) -> i32 {
    after(batch.base_sequence, batch.count - 1)
}

/// Sequences wrap around to 0.
fn after(sequence: i32, count: i32) -> i32 {
    ((i64::from(sequence) + i64::from(count)) % (i64::from(i32::MAX) + 1)) as i32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::LeaderEpoch;

    fn batch(producer_id: i64, producer_epoch: i16, base_sequence: i32, count: i32) -> BatchHeader {
        BatchHeader {
            base_offset: Offset(0),
            leader_epoch: LeaderEpoch(0),
            attributes: 0,
            last_offset_delta: count - 1,
            base_timestamp_ms: 0,
            max_timestamp_ms: 0,
            producer_id,
            producer_epoch,
            base_sequence,
            count,
        }
    }

    #[test]
    fn a_batch_sent_again_is_answered_with_its_first_offset() {
        let mut producers = Producers::default();
        producers.appended(&batch(1, 0, 0, 10), Offset(100));
        producers.appended(&batch(1, 0, 10, 5), Offset(110));
        assert_eq!(producers.check(&batch(1, 0, 0, 10)), Ok(Verdict::Duplicate(Offset(100))));
        assert_eq!(producers.check(&batch(1, 0, 10, 5)), Ok(Verdict::Duplicate(Offset(110))));
        assert_eq!(producers.check(&batch(1, 0, 15, 1)), Ok(Verdict::Append));
        assert_eq!(producers.check(&batch(2, 0, 0, 1)), Ok(Verdict::Append));
    }

    #[test]
    fn gaps_and_batches_out_of_memory_are_out_of_order() {
        let mut producers = Producers::default();
        for at in 0..6 {
            producers.appended(&batch(1, 0, at, 1), Offset(i64::from(at)));
        }
        assert_eq!(producers.check(&batch(1, 0, 7, 1)), Err(SequenceError::OutOfOrder { expected: 6, got: 7 }));
        assert_eq!(producers.check(&batch(1, 0, 0, 1)), Err(SequenceError::OutOfOrder { expected: 6, got: 0 }));
    }

    #[test]
    fn a_newer_epoch_starts_at_zero_and_shuts_out_the_older() {
        let mut producers = Producers::default();
        producers.appended(&batch(1, 0, 0, 3), Offset(0));
        assert_eq!(producers.check(&batch(1, 1, 3, 1)), Err(SequenceError::OutOfOrder { expected: 0, got: 3 }));
        assert_eq!(producers.check(&batch(1, 1, 0, 3)), Ok(Verdict::Append));
        producers.appended(&batch(1, 1, 0, 3), Offset(3));
        assert_eq!(producers.check(&batch(1, 0, 3, 1)), Err(SequenceError::StaleEpoch));
    }

    #[test]
    fn sequences_wrap_around() {
        let mut producers = Producers::default();
        producers.appended(&batch(1, 0, i32::MAX - 1, 2), Offset(0));
        assert_eq!(producers.check(&batch(1, 0, 0, 1)), Ok(Verdict::Append));
    }

    #[test]
    fn memory_is_bounded() {
        let mut producers = Producers::default();
        for id in 0..5_000 {
            producers.appended(&batch(id, 0, 0, 1), Offset(id));
        }
        assert_eq!(producers.0.len(), REMEMBERED_PRODUCERS);
        assert!(producers.0.contains_key(&4_999));
    }
}
