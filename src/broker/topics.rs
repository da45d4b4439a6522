//! PURE: the topics, their identities, and the rules for what may be created and appended.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use uuid::Uuid;

use super::{
    NodeId,
    batch::{Batch, BatchError},
    log::Log,
    producers::{SequenceError, Verdict},
};
use crate::record::{Offset, TopicId};

/// Partitions of all topics together.
const MAX_PARTITIONS: usize = 20_000;
/// The length of a topic's name, in bytes, as in Kafka.
const MAX_NAME_BYTES: usize = 249;

/// Why a topic was not created or changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    /// Empty, too long, `.` or `..`, or with characters beside letters, digits, `.`, `_` and `-`.
    #[error("{0:?} is not a topic name that Kafka takes")]
    InvalidName(String),
    /// There is one of this name.
    #[error("topic {0} exists")]
    Exists(String),
    /// There is none of this name.
    #[error("there is no topic {0}")]
    Unknown(String),
    /// A topic has at least one partition.
    #[error("{0} partitions are not possible")]
    InvalidPartitions(i32),
    /// The broker has a bound on partitions.
    #[error("more than {MAX_PARTITIONS} partitions in all are not possible")]
    TooMany,
    /// More replicas than nodes, or none.
    #[error("a replication factor of {0} is not possible")]
    InvalidReplicationFactor(i16),
    /// The broker has no such node.
    #[error("there is no node {0}")]
    UnknownNode(NodeId),
}

impl TopicError {
    /// What a client is told.
    pub(super) fn code(&self) -> ResponseError {
        match self {
            Self::InvalidName(_) => ResponseError::InvalidTopicException,
            Self::Exists(_) => ResponseError::TopicAlreadyExists,
            Self::Unknown(_) => ResponseError::UnknownTopicOrPartition,
            Self::InvalidPartitions(_) => ResponseError::InvalidPartitions,
            Self::TooMany => ResponseError::PolicyViolation,
            Self::InvalidReplicationFactor(_) => ResponseError::InvalidReplicationFactor,
            Self::UnknownNode(_) => ResponseError::InvalidReplicaAssignment,
        }
    }
}

/// Why records were not appended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// There is no such partition.
    #[error("there is no such topic or partition")]
    UnknownPartition,
    /// What came is not a batch.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// No batch at all, or more than one where one is the rule.
    #[error("{0} batches came where one is expected")]
    BatchCount(usize),
    /// The batch is larger than the topic takes.
    #[error("a batch of {size} bytes is too large, the limit is {limit}")]
    TooLarge {
        /// The batch's bytes.
        size: usize,
        /// The topic's `max.message.bytes`.
        limit: usize,
    },
    /// The broker holds as much as it may. Nothing is dropped to make room: deleting records or topics does that.
    #[error("the broker holds as many bytes as it may ({limit}): delete records or topics")]
    Full {
        /// The broker's `max_bytes`.
        limit: usize,
    },
    /// An idempotent producer's batches before this one are missing.
    #[error("sequence {got} came where {expected} was expected")]
    OutOfOrder {
        /// The sequence number that would follow.
        expected: i32,
        /// The one that came.
        got: i32,
    },
    /// A newer incarnation of this idempotent producer has written.
    #[error("a newer incarnation of this producer has written")]
    StaleProducer,
    /// The batch belongs to a transaction.
    #[error("this broker has no transactions")]
    Transactional,
}

impl AppendError {
    /// What a client is told.
    pub(super) fn code(&self) -> ResponseError {
        match self {
            Self::UnknownPartition => ResponseError::UnknownTopicOrPartition,
            Self::Batch(BatchError::Checksum | BatchError::Truncated) => ResponseError::CorruptMessage,
            Self::Batch(_) | Self::BatchCount(_) => ResponseError::InvalidRecord,
            Self::TooLarge { .. } => ResponseError::MessageTooLarge,
            Self::Full { .. } => ResponseError::KafkaStorageError,
            Self::OutOfOrder { .. } => ResponseError::OutOfOrderSequenceNumber,
            Self::StaleProducer => ResponseError::InvalidProducerEpoch,
            Self::Transactional => ResponseError::InvalidTxnState,
        }
    }
}

/// The limits that hold for all topics.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) max_bytes: usize,
    pub(super) max_message_bytes: usize,
}

/// One partition: its log and who leads it.
#[derive(Debug)]
pub(super) struct Partition {
    pub(super) log: Log,
    pub(super) leader: NodeId,
}

/// One topic.
#[derive(Debug)]
pub(super) struct Topic {
    pub(super) id: TopicId,
    pub(super) partitions: Vec<Partition>,
    pub(super) max_message_bytes: usize,
}

impl Topic {
    pub(super) fn partition(&self, index: i32) -> Option<&Partition> {
        self.partitions.get(usize::try_from(index).ok()?)
    }
}

/// What a topic is to be.
#[derive(Debug, Clone, Copy)]
pub(super) struct NewTopic<'a> {
    pub(super) name: &'a str,
    pub(super) partitions: i32,
    /// −1 for the default.
    pub(super) replication_factor: i16,
    /// The topic's own `max.message.bytes`, if it has one.
    pub(super) max_message_bytes: Option<usize>,
}

/// All topics.
#[derive(Debug)]
pub(super) struct Topics {
    by_name: BTreeMap<Arc<str>, Topic>,
    names: HashMap<TopicId, Arc<str>>,
    nodes: Vec<NodeId>,
    limits: Limits,
    /// Topic ids are made from this and a count, so that two runs of a broker do not share any.
    seed: u64,
    created: u64,
    bytes: usize,
    partitions: usize,
}

impl Topics {
    pub(super) fn new(nodes: Vec<NodeId>, limits: Limits, seed: u64) -> Self {
        let (by_name, names) = (BTreeMap::new(), HashMap::new());
        Self { by_name, names, nodes, limits, seed, created: 0, bytes: 0, partitions: 0 }
    }

    pub(super) fn get(&self, name: &str) -> Option<&Topic> {
        self.by_name.get(name)
    }

    pub(super) fn partition(&self, name: &str, index: i32) -> Option<&Partition> {
        self.get(name)?.partition(index)
    }

    pub(super) fn name_of(&self, id: TopicId) -> Option<&Arc<str>> {
        self.names.get(&id)
    }

    /// All topics in the order of their names.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Topic)> {
        self.by_name.iter()
    }

    /// The bytes of all logs together.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Checks what is wanted, without creating it.
    pub(super) fn check(&self, wanted: &NewTopic<'_>) -> Result<(), TopicError> {
        check_name(wanted.name)?;
        if self.by_name.contains_key(wanted.name) {
            return Err(TopicError::Exists(wanted.name.to_owned()));
        }
        let replicas = usize::try_from(wanted.replication_factor).unwrap_or(0);
        if wanted.replication_factor != -1 && !(1..=self.nodes.len()).contains(&replicas) {
            return Err(TopicError::InvalidReplicationFactor(wanted.replication_factor));
        }
        self.check_room(wanted.partitions)
    }

    pub(super) fn create(&mut self, wanted: &NewTopic<'_>) -> Result<TopicId, TopicError> {
        self.check(wanted)?;
        self.created += 1;
        let id = TopicId(Uuid::from_u64_pair(self.seed, self.created));
        let name: Arc<str> = wanted.name.into();
        let max_message_bytes = wanted.max_message_bytes.unwrap_or(self.limits.max_message_bytes);
        self.names.insert(id, Arc::clone(&name));
        self.by_name.insert(Arc::clone(&name), Topic { id, partitions: Vec::new(), max_message_bytes });
        self.add_partitions(&name, wanted.partitions)?;
        Ok(id)
    }

    /// Adds empty partitions to a topic.
    pub(super) fn add_partitions(&mut self, name: &str, count: i32) -> Result<(), TopicError> {
        self.check_room(count)?;
        let topic = self.by_name.get_mut(name).ok_or_else(|| TopicError::Unknown(name.to_owned()))?;
        for _ in 0..count {
            let leader = self.nodes[topic.partitions.len() % self.nodes.len()];
            topic.partitions.push(Partition { log: Log::new(), leader });
            self.partitions += 1;
        }
        Ok(())
    }

    pub(super) fn delete(&mut self, name: &str) -> Result<TopicId, TopicError> {
        let topic = self.by_name.remove(name).ok_or_else(|| TopicError::Unknown(name.to_owned()))?;
        self.names.remove(&topic.id);
        self.partitions -= topic.partitions.len();
        self.bytes -= topic.partitions.iter().map(|p| p.log.bytes()).sum::<usize>();
        Ok(topic.id)
    }

    /// Makes another node the leader, with the next leader epoch.
    pub(super) fn move_leader(&mut self, name: &str, index: i32, node: NodeId) -> Result<(), TopicError> {
        if !self.nodes.contains(&node) {
            return Err(TopicError::UnknownNode(node));
        }
        let partition = self.partition_mut(name, index).ok_or_else(|| TopicError::Unknown(name.to_owned()))?;
        partition.leader = node;
        partition.log.raise_epoch();
        Ok(())
    }

    /// Appends what a client sent: one batch, whole and sound. Answers a batch that is there already with its offset.
    pub(super) fn produce(&mut self, name: &str, index: i32, bytes: Option<Bytes>) -> Result<Offset, AppendError> {
        let topic = self.get(name).ok_or(AppendError::UnknownPartition)?;
        let (log, limit) = (&topic.partition(index).ok_or(AppendError::UnknownPartition)?.log, topic.max_message_bytes);
        let mut bytes = bytes.filter(|bytes| !bytes.is_empty()).ok_or(AppendError::BatchCount(0))?;
        let batch = Batch::split_off_first(&mut bytes)?;
        if !bytes.is_empty() {
            return Err(AppendError::BatchCount(2));
        }
        if batch.bytes.len() > limit {
            return Err(AppendError::TooLarge { size: batch.bytes.len(), limit });
        }
        batch.check()?;
        if batch.header.is_transactional() {
            return Err(AppendError::Transactional);
        }
        match log.check_sequence(&batch) {
            Ok(Verdict::Append) => self.append(name, index, &batch),
            Ok(Verdict::Duplicate(offset)) => Ok(offset),
            Err(SequenceError::OutOfOrder { expected, got }) => Err(AppendError::OutOfOrder { expected, got }),
            Err(SequenceError::StaleEpoch) => Err(AppendError::StaleProducer),
        }
    }

    /// Appends a batch without looking into it; only the bound on kept bytes holds.
    pub(super) fn append(&mut self, name: &str, index: i32, batch: &Batch) -> Result<Offset, AppendError> {
        let (limit, kept) = (self.limits.max_bytes, self.bytes);
        let partition = self.partition_mut(name, index).ok_or(AppendError::UnknownPartition)?;
        if kept + batch.bytes.len() > limit {
            return Err(AppendError::Full { limit });
        }
        let offset = partition.log.append(batch);
        self.bytes += batch.bytes.len();
        Ok(offset)
    }

    /// Changes a log in a way that may free bytes.
    pub(super) fn change_log<T>(&mut self, name: &str, index: i32, change: impl FnOnce(&mut Log) -> T) -> Option<T> {
        let log = &mut self.partition_mut(name, index)?.log;
        let before = log.bytes();
        let result = change(log);
        let after = log.bytes();
        self.bytes = self.bytes - before + after;
        Some(result)
    }

    fn partition_mut(&mut self, name: &str, index: i32) -> Option<&mut Partition> {
        self.by_name.get_mut(name)?.partitions.get_mut(usize::try_from(index).ok()?)
    }

    fn check_room(&self, partitions: i32) -> Result<(), TopicError> {
        match usize::try_from(partitions) {
            Err(_) | Ok(0) => Err(TopicError::InvalidPartitions(partitions)),
            Ok(count) if self.partitions + count > MAX_PARTITIONS => Err(TopicError::TooMany),
            Ok(_) => Ok(()),
        }
    }
}

fn check_name(name: &str) -> Result<(), TopicError> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let sound =
        !name.is_empty() && name.len() <= MAX_NAME_BYTES && name != "." && name != ".." && name.chars().all(legal);
    if sound { Ok(()) } else { Err(TopicError::InvalidName(name.to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::{super::batch::encode, *};
    use crate::record::{Headers, LeaderEpoch, Outgoing};

    fn topics() -> Topics {
        let limits = Limits { max_bytes: 1_000, max_message_bytes: 400 };
        Topics::new(vec![NodeId(1), NodeId(2)], limits, 7)
    }

    fn wanted(name: &str, partitions: i32) -> NewTopic<'_> {
        NewTopic { name, partitions, replication_factor: -1, max_message_bytes: None }
    }

    fn batch(size: usize) -> Batch {
        encode(
            &[Outgoing { key: None, value: Some(vec![b'x'; size].into()), headers: Headers::default() }],
            0,
            usize::MAX,
        )
        .remove(0)
    }

    #[test]
    fn a_topic_made_anew_is_another() {
        let mut topics = topics();
        let first = topics.create(&wanted("t", 2)).unwrap();
        assert_eq!(topics.create(&wanted("t", 2)), Err(TopicError::Exists("t".into())));
        assert_eq!(topics.delete("t"), Ok(first));
        assert_eq!(topics.name_of(first), None);
        let second = topics.create(&wanted("t", 1)).unwrap();
        assert_ne!(first, second);
        assert_eq!(topics.name_of(second).map(|n| &**n), Some("t"));
    }

    #[test]
    fn what_kafka_refuses_is_refused() {
        let topics = topics();
        let code = |wanted: NewTopic<'_>| topics.check(&wanted).map_err(|e| e.code());
        for name in ["", ".", "..", "a b", "ä", &"x".repeat(250)] {
            assert_eq!(code(wanted(name, 1)), Err(ResponseError::InvalidTopicException), "{name:?}");
        }
        assert_eq!(code(wanted("t", 0)), Err(ResponseError::InvalidPartitions));
        assert_eq!(code(wanted("t", MAX_PARTITIONS as i32 + 1)), Err(ResponseError::PolicyViolation));
        let replicated = |replication_factor| code(NewTopic { replication_factor, ..wanted("t", 1) });
        assert_eq!(replicated(3), Err(ResponseError::InvalidReplicationFactor));
        assert_eq!(replicated(0), Err(ResponseError::InvalidReplicationFactor));
        assert_eq!(replicated(2), Ok(()));
    }

    #[test]
    fn kept_bytes_are_bounded_and_freed() {
        let mut topics = topics();
        topics.create(&wanted("t", 1)).unwrap();
        let size = batch(200).bytes.len();
        let produce = |topics: &mut Topics, size| topics.produce("t", 0, Some(batch(size).bytes));
        for offset in 0..3 {
            assert_eq!(produce(&mut topics, 200), Ok(Offset(offset)));
        }
        assert_eq!(produce(&mut topics, 200), Err(AppendError::Full { limit: 1_000 }));
        assert_eq!(topics.bytes(), 3 * size);
        topics.change_log("t", 0, |log| log.delete_before(Some(Offset(1)))).unwrap().unwrap();
        assert_eq!(topics.bytes(), 2 * size);
        assert_eq!(produce(&mut topics, 200), Ok(Offset(3)));
        topics.delete("t").unwrap();
        assert_eq!(topics.bytes(), 0);
    }

    #[test]
    fn only_one_sound_batch_of_bounded_size_is_taken() {
        let mut topics = topics();
        topics.create(&wanted("t", 1)).unwrap();
        let mut code = |bytes: Option<Bytes>| topics.produce("t", 0, bytes).map_err(|e| e.code());
        assert_eq!(code(None), Err(ResponseError::InvalidRecord));
        assert_eq!(code(Some(batch(400).bytes)), Err(ResponseError::MessageTooLarge));
        let mut damaged = batch(10).bytes.to_vec();
        *damaged.last_mut().unwrap() ^= 1;
        assert_eq!(code(Some(damaged.into())), Err(ResponseError::CorruptMessage));
        assert_eq!(code(Some([batch(10).bytes, batch(10).bytes].concat().into())), Err(ResponseError::InvalidRecord));
        assert_eq!(topics.produce("t", 1, None), Err(AppendError::UnknownPartition));
        assert_eq!(topics.bytes(), 0);
    }

    #[test]
    fn leaders_are_spread_and_move_with_a_new_epoch() {
        let mut topics = topics();
        topics.create(&wanted("t", 3)).unwrap();
        let leader = |topics: &Topics, index| {
            let partition = topics.partition("t", index).unwrap();
            (partition.leader, partition.log.epoch())
        };
        assert_eq!([0, 1, 2].map(|p| leader(&topics, p).0), [NodeId(1), NodeId(2), NodeId(1)]);
        topics.move_leader("t", 0, NodeId(2)).unwrap();
        assert_eq!(leader(&topics, 0), (NodeId(2), LeaderEpoch(1)));
        assert_eq!(topics.move_leader("t", 0, NodeId(3)), Err(TopicError::UnknownNode(NodeId(3))));
    }
}
