//! What flows through Longshore: a record, where it came from, and the numbers that must not be mixed up.
//!
//! Nothing in here knows a Kafka crate. Keys and values are [`Bytes`], so that moving a record from the fetch loop to a
//! thread and on into a dead letter never copies its payload.

use std::{fmt, ops::Add, sync::Arc};

use bytes::Bytes;

mod headers;

pub use headers::Headers;
pub(crate) use headers::PutHeaders;

/// The position of a record in its partition, as Kafka counts it: from 0, and never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Offset(pub i64);

impl Offset {
    /// The offset that follows this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl Add<i64> for Offset {
    type Output = Self;

    fn add(self, count: i64) -> Self {
        Self(self.0 + count)
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A partition of a topic.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition's number, from 0.
    pub partition: i32,
}

impl TopicPartition {
    /// Names partition `partition` of `topic`.
    pub fn new(topic: impl Into<Arc<str>>, partition: i32) -> Self {
        Self { topic: topic.into(), partition }
    }
}

/// As Kafka's own tools write it: `orders-3`.
impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

/// The identity of a topic, which a topic of the same name that was made anew does not share (KIP-516).
///
/// All zeros where the broker knows no topic ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TopicId(pub uuid::Uuid);

impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How often the leadership of a partition has changed, as its leader says; −1 where it does not say (KIP-320).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaderEpoch(pub i32);

impl LeaderEpoch {
    /// What stands for a leader epoch that is not known.
    pub const UNKNOWN: Self = Self(-1);
}

/// A topic of a run: a number that is given to a name once, and not again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicIndex(pub u32);

/// A partition of a run, as it is looked up for every record: cheap to copy and to compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionKey {
    /// Of which topic.
    pub topic: TopicIndex,
    /// The partition's number, from 0.
    pub number: i32,
}

/// One life of a partition in this process: from its assignment to its end. Never used twice.
///
/// Whatever is under way for a partition carries this number, so that what comes back late, from a past life, is known
/// for what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AssignmentId(pub u64);

/// A header of a record. Names may occur more than once, and values may be absent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The name, in most cases UTF-8.
    pub name: Bytes,
    /// The value, if there is one.
    pub value: Option<Bytes>,
}

impl Header {
    /// A header with a value.
    pub fn new(name: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        Self { name: name.into(), value: Some(value.into()) }
    }
}

/// A message as it was read, with its coordinates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Where it was read.
    pub source: Arc<TopicPartition>,
    /// Its offset there.
    pub offset: Offset,
    /// Milliseconds since 1970, as its producer or its broker set it.
    pub timestamp_ms: i64,
    /// The key; `None` where the record has none.
    pub key: Option<Bytes>,
    /// The value; `None` for a tombstone, which is a valid message.
    pub value: Option<Bytes>,
    /// The headers, in the order in which they were read.
    pub headers: Vec<Header>,
    /// Which attempt at it this is, from 1.
    pub attempt: u32,
    /// Where this is no record but stands for a batch that cannot be read: why. The value then holds the batch, as it lies
    /// in the log. No task sees such a record.
    pub damage: Option<Arc<Damage>>,
}

/// Why a batch cannot be read, and what of the log it takes up: from the offset of the record that stands for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The last offset of the batch.
    pub last: Offset,
    /// What is wrong with it.
    pub reason: String,
}

impl Record {
    /// The bytes that this record holds in memory, for the limit on bytes in flight: its content and a fixed overhead.
    #[must_use]
    pub fn size(&self) -> usize {
        const OVERHEAD: usize = size_of::<Record>();
        let headers: usize = self
            .headers
            .iter()
            .map(|h| size_of::<Header>() + h.name.len() + h.value.as_ref().map_or(0, Bytes::len))
            .sum();
        OVERHEAD + self.key.as_ref().map_or(0, Bytes::len) + self.value.as_ref().map_or(0, Bytes::len) + headers
    }

    /// The value of the last header of this name that has one.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().rev().find(|h| h.name == name.as_bytes()).and_then(|h| h.value.as_deref())
    }
}

/// A record to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// The key; decides the partition, as in Kafka's own clients.
    pub key: Option<Bytes>,
    /// The value.
    pub value: Option<Bytes>,
    /// The headers, in their order.
    pub headers: Headers,
}

impl Outgoing {
    /// The bytes that it takes in a batch, at the most.
    pub(crate) fn size(&self) -> usize {
        /// What goes around a record, at the most.
        const AROUND_RECORD: usize = 32;
        let length = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
        AROUND_RECORD + length(&self.key) + length(&self.value) + self.headers.encoded().len()
    }
}
