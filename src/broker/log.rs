//! PURE: the log of one partition: batches in the order of their offsets, bytes as they came.
//!
//! ```text
//!      start                                         end
//! ───────┼───────────────────────────────────────────┼──▶ offsets
//!   gone │ [ batch ][ batch ]   gap   [ batch ]  gap │
//! ```
//!
//! The start may lie within a batch, and there may be gaps, as compaction leaves them. Everything in the log counts as
//! replicated: the high watermark and the last stable offset are the end.

use std::{collections::VecDeque, sync::Arc};

use bytes::{Bytes, BytesMut};

use super::{
    batch::Batch,
    producers::{Producers, SequenceError, Verdict},
};
use crate::record::{LeaderEpoch, Offset, Record, TopicPartition};

/// The log of one partition.
#[derive(Debug)]
pub(super) struct Log {
    start: Offset,
    end: Offset,
    batches: VecDeque<Batch>,
    bytes: usize,
    /// Each leader epoch with its first offset, in their order. Never empty.
    epochs: Vec<(LeaderEpoch, Offset)>,
    producers: Producers,
}

/// The offset that was asked for is not in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OutOfRange;

impl Log {
    pub(super) fn new() -> Self {
        Self {
            start: Offset(0),
            end: Offset(0),
            batches: VecDeque::new(),
            bytes: 0,
            epochs: vec![(LeaderEpoch(0), Offset(0))],
            producers: Producers::default(),
        }
    }

    /// The first offset that may be read.
    pub(super) fn start(&self) -> Offset {
        self.start
    }

    /// The offset that the next record gets.
    pub(super) fn end(&self) -> Offset {
        self.end
    }

    /// The bytes of all batches.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn epoch(&self) -> LeaderEpoch {
        self.epochs.last().expect("there is always an epoch").0
    }

    /// Begins the next leader epoch.
    pub(super) fn raise_epoch(&mut self) {
        let next = LeaderEpoch(self.epoch().0 + 1);
        self.epochs.push((next, self.end));
    }

    /// Looks at a batch's sequence numbers before it is appended.
    pub(super) fn check_sequence(&self, batch: &Batch) -> Result<Verdict, SequenceError> {
        self.producers.check(&batch.header)
    }

    /// Appends a batch and says which offset its first record got.
    pub(super) fn append(&mut self, batch: &Batch) -> Offset {
        let base_offset = self.end;
        let placed = batch.placed(base_offset, self.epoch());
        self.producers.appended(&placed.header, base_offset);
        self.end = placed.last_offset().next();
        self.bytes += placed.bytes.len();
        self.batches.push_back(placed);
        base_offset
    }

    /// Whole batches from the one that holds `from`, or the next after a gap: up to `max_bytes`, and one in any case
    /// where `at_least_one` says so. Empty at the end of the log.
    pub(super) fn read(&self, from: Offset, max_bytes: usize, at_least_one: bool) -> Result<Bytes, OutOfRange> {
        if from < self.start || from > self.end {
            return Err(OutOfRange);
        }
        let first = self.index_of(from);
        let (mut count, mut size) = (0, 0);
        for batch in self.batches.range(first..) {
            let is_allowed = count == 0 && at_least_one;
            if size + batch.bytes.len() > max_bytes && !is_allowed {
                break;
            }
            count += 1;
            size += batch.bytes.len();
        }
        if count == 1 {
            return Ok(self.batches[first].bytes.clone());
        }
        let mut bytes = BytesMut::with_capacity(size);
        self.batches.range(first..first + count).for_each(|batch| bytes.extend_from_slice(&batch.bytes));
        Ok(bytes.freeze())
    }

    /// Drops what lies below `offset`, or everything for `None`; returns the new start.
    pub(super) fn delete_before(&mut self, offset: Option<Offset>) -> Result<Offset, OutOfRange> {
        let offset = offset.unwrap_or(self.end);
        if offset < Offset(0) || offset > self.end {
            return Err(OutOfRange);
        }
        self.start = self.start.max(offset);
        while self.batches.front().is_some_and(|batch| batch.last_offset() < self.start) {
            let batch = self.batches.pop_front().expect("there is a first batch");
            self.bytes -= batch.bytes.len();
        }
        Ok(self.start)
    }

    /// Drops every batch that holds `offset` or anything above it, as an unclean election does, and goes on from there.
    pub(super) fn truncate(&mut self, offset: Offset) -> Offset {
        while let Some(batch) = self.batches.pop_back_if(|batch| batch.last_offset() >= offset) {
            self.bytes -= batch.bytes.len();
            self.end = batch.header.base_offset;
        }
        self.end = self.end.min(offset).max(self.start);
        for (_, first) in &mut self.epochs {
            *first = (*first).min(self.end);
        }
        self.end
    }

    /// Leaves out `count` offsets, as compaction does.
    pub(super) fn leave_gap(&mut self, count: u32) {
        self.end = self.end + i64::from(count);
    }

    /// The first record whose timestamp is not below `timestamp_ms`. In a compressed batch the first record stands for
    /// all.
    pub(super) fn at_time(&self, timestamp_ms: i64) -> Option<(Offset, i64)> {
        let batch = self.batches.iter().find(|batch| batch.header.max_timestamp_ms >= timestamp_ms)?;
        let found = self.decode(batch).into_iter().find(|r| r.timestamp_ms >= timestamp_ms && r.offset >= self.start);
        Some(found.map_or(
            (batch.header.base_offset.max(self.start), batch.header.base_timestamp_ms.max(timestamp_ms)),
            |record| (record.offset, record.timestamp_ms),
        ))
    }

    /// The first record with the highest timestamp. In a compressed batch the last record stands for all.
    pub(super) fn max_time(&self) -> Option<(Offset, i64)> {
        let max = self.batches.iter().map(|batch| batch.header.max_timestamp_ms).max()?;
        let batch = self.batches.iter().find(|batch| batch.header.max_timestamp_ms == max)?;
        let found = self.decode(batch).into_iter().find(|record| record.timestamp_ms == max);
        Some((found.map_or(batch.last_offset(), |record| record.offset), max))
    }

    /// The largest epoch not above `epoch`, and where it ended (KIP-320).
    pub(super) fn end_of_epoch(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        let next = self.epochs.partition_point(|(e, _)| *e <= epoch);
        let (found, _) = *self.epochs.get(next.checked_sub(1)?)?;
        if epoch > self.epoch() {
            return None;
        }
        Some((found, self.epochs.get(next).map_or(self.end, |(_, first)| *first)))
    }

    /// All batches.
    pub(super) fn batches(&self) -> impl Iterator<Item = &Batch> {
        self.batches.iter()
    }

    fn index_of(&self, offset: Offset) -> usize {
        self.batches.partition_point(|batch| batch.last_offset() < offset)
    }

    fn decode(&self, batch: &Batch) -> Vec<Record> {
        batch.records(&Arc::new(TopicPartition::new("", 0))).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::batch::encode, *};
    use crate::record::{Headers, Outgoing};

    fn batch(values: &[&'static str], timestamp_ms: i64) -> Batch {
        let records: Vec<_> = values
            .iter()
            .map(|value| Outgoing {
                key: None,
                value: Some(Bytes::from_static(value.as_bytes())),
                headers: Headers::default(),
            })
            .collect();
        encode(&records, timestamp_ms, usize::MAX).remove(0)
    }

    fn values(log: &Log, from: i64, max_bytes: usize) -> Vec<String> {
        let mut bytes = log.read(Offset(from), max_bytes, true).unwrap();
        let source = Arc::new(TopicPartition::new("t", 0));
        let mut values = Vec::new();
        while !bytes.is_empty() {
            let batch = Batch::split_off_first(&mut bytes).unwrap();
            let records = batch.records(&source).unwrap();
            values.extend(
                records.iter().map(|r| format!("{}={}", r.offset, String::from_utf8_lossy(r.value.as_ref().unwrap()))),
            );
        }
        values
    }

    fn three() -> Log {
        let mut log = Log::new();
        for (at, batch) in [batch(&["a", "b"], 10), batch(&["c"], 30), batch(&["d", "e"], 20)].iter().enumerate() {
            assert_eq!(log.append(batch), Offset([0, 2, 3][at]));
        }
        log
    }

    #[test]
    fn reading_begins_with_the_batch_that_holds_the_offset() {
        let log = three();
        assert_eq!(values(&log, 1, usize::MAX), ["0=a", "1=b", "2=c", "3=d", "4=e"]);
        assert_eq!(values(&log, 2, 1), ["2=c"], "one batch in any case");
        assert_eq!(log.read(Offset(2), 1, false), Ok(Bytes::new()));
        assert_eq!(log.read(Offset(5), 1, true), Ok(Bytes::new()), "the end is not out of range");
        assert_eq!(log.read(Offset(6), 1, true), Err(OutOfRange));
        assert_eq!(log.read(Offset(-1), 1, true), Err(OutOfRange));
    }

    #[test]
    fn deletion_moves_the_start_and_frees_whole_batches() {
        let mut log = three();
        let before = log.bytes();
        assert_eq!(log.delete_before(Some(Offset(1))), Ok(Offset(1)));
        assert_eq!(log.bytes(), before, "the batch still holds offset 1");
        assert_eq!(log.read(Offset(0), 1, true), Err(OutOfRange));
        assert_eq!(log.delete_before(Some(Offset(3))), Ok(Offset(3)));
        assert_eq!(values(&log, 3, usize::MAX), ["3=d", "4=e"]);
        assert_eq!(log.delete_before(Some(Offset(6))), Err(OutOfRange));
        assert_eq!(log.delete_before(None), Ok(Offset(5)));
        assert_eq!((log.bytes(), log.end()), (0, Offset(5)));
    }

    #[test]
    fn a_gap_is_read_across() {
        let mut log = three();
        log.leave_gap(10);
        assert_eq!(log.read(Offset(7), 100, true), Ok(Bytes::new()), "an empty tail");
        assert_eq!(log.append(&batch(&["z"], 0)), Offset(15));
        assert_eq!(values(&log, 7, usize::MAX), ["15=z"]);
    }

    #[test]
    fn truncation_drops_whole_batches() {
        let mut log = three();
        assert_eq!(log.truncate(Offset(4)), Offset(3));
        assert_eq!(log.append(&batch(&["x"], 0)), Offset(3));
        assert_eq!(values(&log, 0, usize::MAX), ["0=a", "1=b", "2=c", "3=x"]);
    }

    #[test]
    fn offsets_are_found_by_time() {
        let log = three();
        assert_eq!(log.at_time(0), Some((Offset(0), 10)));
        assert_eq!(log.at_time(11), Some((Offset(2), 30)));
        assert_eq!(log.at_time(31), None);
        assert_eq!(log.max_time(), Some((Offset(2), 30)));
        assert_eq!(Log::new().max_time(), None);
    }

    #[test]
    fn an_epoch_ends_where_the_next_begins() {
        let mut log = three();
        log.raise_epoch();
        log.append(&batch(&["f"], 0));
        assert_eq!(log.end_of_epoch(LeaderEpoch(0)), Some((LeaderEpoch(0), Offset(5))));
        assert_eq!(log.end_of_epoch(LeaderEpoch(1)), Some((LeaderEpoch(1), Offset(6))));
        assert_eq!(log.end_of_epoch(LeaderEpoch(2)), None);
        assert_eq!(log.batches().last().unwrap().header.leader_epoch, LeaderEpoch(1));
    }

    /// What happens to a log, drawn at random.
    #[derive(Debug, Clone)]
    enum Event {
        Append(usize),
        Gap(u32),
        Delete(i64),
        RaiseEpoch,
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            4 => (1..5_usize).prop_map(Event::Append),
            1 => (1..5_u32).prop_map(Event::Gap),
            1 => (0..40_i64).prop_map(Event::Delete),
            1 => Just(Event::RaiseEpoch),
        ]
    }

    proptest! {
        /// Against a list of offsets, which is all that a log is to its reader.
        #[test]
        fn whatever_happened_a_reader_sees_every_record_from_its_offset_on(
            events in prop::collection::vec(event(), 0..30),
            from in 0..60_i64,
            max_bytes in 0..1_000_usize,
        ) {
            let (mut log, mut kept, mut start, mut end) = (Log::new(), Vec::new(), 0, 0);
            for event in events {
                match event {
                    Event::Append(count) => {
                        prop_assert_eq!(log.append(&batch(&vec!["v"; count], 0)), Offset(end));
                        kept.extend(end..end + count as i64);
                        end += count as i64;
                    }
                    Event::Gap(count) => {
                        log.leave_gap(count);
                        end += i64::from(count);
                    }
                    Event::Delete(offset) if offset <= end => {
                        start = start.max(offset);
                        prop_assert_eq!(log.delete_before(Some(Offset(offset))), Ok(Offset(start)));
                    }
                    Event::Delete(offset) => {
                        prop_assert_eq!(log.delete_before(Some(Offset(offset))), Err(OutOfRange));
                    }
                    Event::RaiseEpoch => log.raise_epoch(),
                }
            }
            prop_assert_eq!((log.start(), log.end()), (Offset(start), Offset(end)));
            prop_assert_eq!(log.bytes(), log.batches().map(|batch| batch.bytes.len()).sum::<usize>());
            if from < start || from > end {
                prop_assert_eq!(log.read(Offset(from), max_bytes, true), Err(OutOfRange));
                return Ok(());
            }
            let expected: Vec<_> = kept.into_iter().filter(|offset| *offset >= from).collect();
            let read: Vec<_> = offsets(&log, from, max_bytes).into_iter().filter(|offset| *offset >= from).collect();
            prop_assert_eq!(&read[..], &expected[..read.len()]);
            prop_assert_eq!(read.is_empty(), expected.is_empty(), "one batch in any case");
            let all: Vec<_> = offsets(&log, from, usize::MAX).into_iter().filter(|offset| *offset >= from).collect();
            prop_assert_eq!(all, expected);
        }
    }

    fn offsets(log: &Log, from: i64, max_bytes: usize) -> Vec<i64> {
        let value = |value: String| value.split_once('=').unwrap().0.parse().unwrap();
        values(log, from, max_bytes).into_iter().map(value).collect()
    }
}
