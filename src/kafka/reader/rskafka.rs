//! Reading a partition by rskafka: the fast way, for topics that are neither compressed nor transactional.
//!
//! ```text
//!            lease                    fetch: records, or none
//!   nothing ───────▶ a partition client ◀──────────────────┐
//!      ▲                     │  └───────────────────────────┘
//!      └─── any failure ─────┘   (no answer in time: DataPlane::hung, and all clients of that broker go)
//! ```
//!
//! What rskafka shows is not always what was written: of headers with the same name only the last remains, and headers
//! come in the order of their names. What it cannot decode at all (compressed batches, transaction markers, header
//! names that are not UTF-8, headers without a value) is [`ReadError::Unreadable`].
//!
//! It cannot see past an empty tail, either: where a partition's last records were compacted away, or are those of an open
//! transaction, [`Batch::next`] stays where it was, below the high watermark.

use std::{ops::Range, sync::Arc, time::Duration};

use rskafka::{client::error::ProtocolError, record::RecordAndOffset};
use tokio::time::timeout;

use super::out_of_range;
use crate::{
    kafka::{
        data_plane::{DataPlane, Failure, Leased, Unleased},
        with_causes,
    },
    page::Page,
    record::{Header, LeaderEpoch, Offset, Record, TopicPartition},
    source::{Batch, PartitionReader, ReadError},
};

/// The most that one fetch asks for, whatever its caller says: half of what [`DataPlane`] takes as one response.
const MAX_FETCH_BYTES: usize = 50 << 20;

/// Fetches from one partition, by rskafka.
#[derive(Debug)]
pub struct RskafkaReader {
    plane: DataPlane,
    /// Shared by all records.
    source: Arc<TopicPartition>,
    leased: Option<Leased>,
}

impl RskafkaReader {
    /// A reader of `source`. Does nothing on the network before its first fetch.
    #[must_use]
    pub fn new(plane: DataPlane, source: TopicPartition) -> Self {
        Self { plane, source: Arc::new(source), leased: None }
    }

    /// One batch that rskafka cannot decode spoils all that came with it. What lies before it can be read: one batch at a
    /// time, which is the least that a broker sends.
    async fn ask_for_what_can_be_read(
        &mut self,
        from: Offset,
        max_bytes: usize,
        max_wait: Duration,
    ) -> Result<Batch, Trouble> {
        match self.ask(from, max_bytes, max_wait).await {
            Err(Trouble::Failed(Failure::Undecodable(_))) => self.ask(from, 1, max_wait).await,
            outcome => outcome,
        }
    }

    async fn ask(&mut self, from: Offset, max_bytes: usize, max_wait: Duration) -> Result<Batch, Trouble> {
        let plane = &self.plane;
        let leased = match self.leased.take().filter(|leased| plane.is_trusted(leased)) {
            Some(leased) => leased,
            None => plane.lease(&self.source.topic, self.source.partition).await.map_err(Trouble::Unleased)?,
        };
        // It stays there if this future is dropped: a response that nobody waits for does rskafka no harm.
        let client = &self.leased.insert(leased).client;
        let max_wait_ms = i32::try_from(max_wait.as_millis()).unwrap_or(i32::MAX);
        match client.fetch_records(from.0, fetch_size(max_bytes), max_wait_ms).await {
            Ok((records, high_watermark)) => Ok(batch(&self.source, from, records, Offset(high_watermark))),
            Err(error) => Err(Trouble::Failed(Failure::of(&error))),
        }
    }
}

enum Trouble {
    Unleased(Unleased),
    Failed(Failure),
}

impl PartitionReader for RskafkaReader {
    /// Takes at most `max_wait` and the deadline of a request; where the offset is out of range, that deadline once more,
    /// to find the bounds.
    async fn fetch(&mut self, from: Offset, max_bytes: usize, max_wait: Duration) -> Result<Batch, ReadError> {
        let limit = max_wait + self.plane.deadlines().request;
        let Ok(outcome) = timeout(limit, self.ask_for_what_can_be_read(from, max_bytes, max_wait)).await else {
            if let Some(leased) = self.leased.take() {
                self.plane.hung(&leased);
            }
            return Err(ReadError::Unavailable { reason: format!("no answer to a fetch within {limit:?}") });
        };
        let trouble = match outcome {
            Ok(batch) => return Ok(batch),
            Err(trouble) => trouble,
        };
        // Whatever it was: the next fetch looks for the topic and its leader first.
        self.leased = None;
        Err(match trouble {
            Trouble::Failed(Failure::Answered(ProtocolError::OffsetOutOfRange, _)) => {
                out_of_range(self.plane.cluster(), &self.source, from).await
            }
            Trouble::Failed(Failure::Undecodable(reason)) => ReadError::Unreadable { at: from, reason },
            Trouble::Failed(Failure::Answered(_, reason) | Failure::Other(reason))
            | Trouble::Unleased(Unleased::Rskafka(reason)) => ReadError::Unavailable { reason },
            Trouble::Unleased(Unleased::Missing(error)) => ReadError::Missing { reason: with_causes(&error) },
            Trouble::Unleased(Unleased::Wire(error)) => ReadError::Unavailable { reason: with_causes(&error) },
        })
    }
}

/// rskafka takes a range that excludes its end.
fn fetch_size(max_bytes: usize) -> Range<i32> {
    let bytes = max_bytes.clamp(1, MAX_FETCH_BYTES);
    1..i32::try_from(bytes + 1).expect("the clamp is far below 2 GiB")
}

/// Makes of what rskafka decoded our records: no large payload is copied.
fn batch(source: &Arc<TopicPartition>, from: Offset, records: Vec<RecordAndOffset>, high_watermark: Offset) -> Batch {
    let mut page = Page::default();
    let records: Vec<Record> = records
        .into_iter()
        // A batch may begin below the offset that was asked for. rskafka drops those records too.
        .filter(|record| record.offset >= from.0)
        .map(|RecordAndOffset { record, offset }| Record {
            source: Arc::clone(source),
            offset: Offset(offset),
            timestamp_ms: record.timestamp.timestamp_millis(),
            key: record.key.map(|key| page.put(key)),
            value: record.value.map(|value| page.put(value)),
            headers: record.headers.into_iter().map(|(name, value)| Header::new(name, value)).collect(),
            attempt: 1,
            damage: None,
        })
        .collect();
    let next = records.last().map_or(from, |record| record.offset.next());
    // rskafka fetches by version 4, which has no leader epochs, and does not show those of the batches.
    Batch { records, next, high_watermark, leader_epoch: LeaderEpoch::UNKNOWN, held: None }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rskafka::{chrono::DateTime, record::Record as Theirs};

    use super::*;

    fn at(offset: i64) -> RecordAndOffset {
        let record = Theirs {
            key: None,
            value: Some(vec![7]),
            headers: BTreeMap::from([("b".to_owned(), vec![2]), ("a".to_owned(), vec![1])]),
            timestamp: DateTime::from_timestamp_millis(1_234).expect("valid"),
        };
        RecordAndOffset { record, offset }
    }

    #[test]
    fn what_lies_below_the_offset_asked_for_is_not_delivered() {
        let source = Arc::new(TopicPartition::new("t", 3));
        let batch = batch(&source, Offset(5), vec![at(4), at(5), at(8)], Offset(20));
        assert_eq!(batch.records.iter().map(|r| r.offset.0).collect::<Vec<_>>(), [5, 8]);
        assert_eq!((batch.next, batch.high_watermark), (Offset(9), Offset(20)));
        let first = &batch.records[0];
        assert_eq!((first.timestamp_ms, &first.key, first.value.as_deref()), (1_234, &None, Some(&[7_u8][..])));
        assert_eq!(first.headers, [Header::new("a", vec![1]), Header::new("b", vec![2])]);
    }

    #[test]
    fn an_empty_answer_leaves_the_offset_where_it_was() {
        let batch = batch(&Arc::new(TopicPartition::new("t", 0)), Offset(5), vec![], Offset(9));
        assert_eq!((batch.records.len(), batch.next), (0, Offset(5)));
    }

    #[test]
    fn a_fetch_asks_for_something_and_never_for_more_than_is_taken() {
        assert_eq!(fetch_size(0), 1..2);
        assert_eq!(fetch_size(1_000), 1..1_001);
        assert_eq!(fetch_size(usize::MAX), 1..(50 << 20) + 1);
    }
}
