//! The handle of a running broker: what a test or a demo does to it without a client.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use kafka_protocol::{error::ResponseError, messages::ApiKey};
use tokio::time::{Instant, timeout_at};

use super::{
    HOST, NodeId, Options,
    batch::{Batch, BatchError, encode},
    groups::{Group, Member},
    inject::Faults,
    log::Log,
    server::{Server, Shared, listen},
    state::{Node, State},
    topics::{AppendError, NewTopic, TopicError},
};
use crate::{
    offsets::Committed,
    record::{Headers, LeaderEpoch, Offset, Outgoing, Record, TopicId, TopicPartition},
};

/// Why a topic's records cannot be listed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// There is no such topic.
    #[error("there is no topic {0}")]
    UnknownTopic(String),
    /// A batch cannot be read by this broker. Clients get it all the same.
    #[error("cannot read the batch at offset {offset} of {at}")]
    Batch {
        /// The partition.
        at: TopicPartition,
        /// The batch's first offset.
        offset: Offset,
        /// What is in the way.
        #[source]
        source: BatchError,
    },
}

/// A running broker. Clones are handles of the same one; it ends when the last of them is dropped.
#[derive(Debug, Clone)]
pub struct Broker {
    shared: Arc<Shared>,
    server: Arc<Mutex<Option<Server>>>,
    nodes: Vec<Node>,
}

impl Broker {
    /// Starts a broker. It runs on a thread of its own, with or without a runtime around it.
    ///
    /// # Errors
    ///
    /// Where a port cannot be listened on, or the thread not be started. Options that make no sense (no node, fewer
    /// than one default partition) are [`io::ErrorKind::InvalidInput`].
    pub fn start(options: Options) -> io::Result<Self> {
        if options.nodes == 0 || options.default_partitions < 1 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a broker has at least one node and one partition",
            ));
        }
        let mut listeners = Vec::new();
        for index in 0..options.nodes {
            let port = match options.port {
                0 => 0,
                first => first.checked_add(index).ok_or(io::ErrorKind::InvalidInput)?,
            };
            let listener = listen(port)?;
            let port = listener.local_addr()?.port();
            listeners.push((NodeId(i32::from(index) + 1), port, listener));
        }
        let nodes: Vec<_> = listeners.iter().map(|(id, port, _)| Node { id: *id, port: *port }).collect();
        let seed = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64);
        let shared = Arc::new(Shared::new(State::new(nodes.clone(), &options, seed)));
        let server = Server::start(&shared, listeners, options.max_connections)?;
        Ok(Self { shared, server: Arc::new(Mutex::new(Some(server))), nodes })
    }

    /// Where clients connect to: `127.0.0.1:PORT` of the first node.
    #[must_use]
    pub fn address(&self) -> String {
        format!("{HOST}:{}", self.nodes[0].port)
    }

    /// Every node with its address.
    #[must_use]
    pub fn nodes(&self) -> Vec<(NodeId, String)> {
        self.nodes.iter().map(|node| (node.id, format!("{HOST}:{}", node.port))).collect()
    }

    /// Ends the broker: all connections are closed, and no more are accepted. What was written can still be looked at.
    pub fn stop(&self) {
        let server = self.server.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(server);
    }

    // Topics.

    /// Creates a topic.
    ///
    /// # Errors
    ///
    /// As CreateTopics would answer.
    pub fn create_topic(&self, name: &str, partitions: i32) -> Result<TopicId, TopicError> {
        self.change(|state| {
            let new = NewTopic { name, partitions, replication_factor: -1, max_message_bytes: None };
            state.topics.create(&new)
        })
    }

    /// Deletes a topic, and what groups have committed for it.
    ///
    /// # Errors
    ///
    /// Where there is none of this name.
    pub fn delete_topic(&self, name: &str) -> Result<TopicId, TopicError> {
        self.change(|state| state.delete_topic(name))
    }

    /// Deletes a topic and creates it anew, empty and with another id, at once.
    ///
    /// # Errors
    ///
    /// Where there is none of this name, or not so many partitions are possible.
    pub fn recreate_topic(&self, name: &str, partitions: i32) -> Result<TopicId, TopicError> {
        self.change(|state| {
            state.delete_topic(name)?;
            let new = NewTopic { name, partitions, replication_factor: -1, max_message_bytes: None };
            state.topics.create(&new)
        })
    }

    /// Adds partitions to a topic.
    ///
    /// # Errors
    ///
    /// Where there is no such topic, or not so many partitions are possible.
    pub fn add_partitions(&self, name: &str, count: i32) -> Result<(), TopicError> {
        self.change(|state| state.topics.add_partitions(name, count))
    }

    /// The names of all topics, in their order.
    #[must_use]
    pub fn topics(&self) -> Vec<String> {
        self.shared.lock().topics.iter().map(|(name, _)| name.to_string()).collect()
    }

    /// A topic's identity, if there is such a topic.
    #[must_use]
    pub fn topic_id(&self, name: &str) -> Option<TopicId> {
        self.shared.lock().topics.get(name).map(|topic| topic.id)
    }

    /// The number of a topic's partitions, if there is such a topic.
    #[must_use]
    pub fn partitions(&self, name: &str) -> Option<usize> {
        self.shared.lock().topics.get(name).map(|topic| topic.partitions.len())
    }

    // Records.

    /// Appends records, many to a batch, uncompressed and with the time of now. Returns the first one's offset.
    ///
    /// # Errors
    ///
    /// Where there is no such partition, no record, one that makes a batch too large, or no room. Those before may have
    /// been appended.
    pub fn append(
        &self,
        topic: &str,
        partition: i32,
        records: impl IntoIterator<Item = Outgoing>,
    ) -> Result<Offset, AppendError> {
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64);
        self.append_at(now_ms, topic, partition, records)
    }

    /// [`append`](Self::append) with a timestamp of your choice, in milliseconds since 1970.
    ///
    /// # Errors
    ///
    /// As [`append`](Self::append).
    pub fn append_at(
        &self,
        timestamp_ms: i64,
        topic: &str,
        partition: i32,
        records: impl IntoIterator<Item = Outgoing>,
    ) -> Result<Offset, AppendError> {
        let records: Vec<_> = records.into_iter().collect();
        let limit = self.shared.lock().topics.get(topic).map(|topic| topic.max_message_bytes);
        let batches = encode(&records, timestamp_ms, limit.ok_or(AppendError::UnknownPartition)?);
        self.change(|state| {
            let appended =
                batches.iter().map(|batch| state.topics.produce(topic, partition, Some(batch.bytes.clone())));
            first(appended.collect::<Result<_, _>>()?)
        })
    }

    /// [`append`](Self::append) for records that have only a value.
    ///
    /// # Errors
    ///
    /// As [`append`](Self::append).
    pub fn append_values<V: Into<Bytes>>(
        &self,
        topic: &str,
        partition: i32,
        values: impl IntoIterator<Item = V>,
    ) -> Result<Offset, AppendError> {
        let record = |value: V| Outgoing { key: None, value: Some(value.into()), headers: Headers::default() };
        self.append(topic, partition, values.into_iter().map(record))
    }

    /// Appends batches as they are, and looks only at their headers: compressed, transactional or control batches,
    /// gaps within them, and broken checksums all pass. Returns the first record's offset.
    ///
    /// # Errors
    ///
    /// Where there is no such partition, no whole batch, or no room. Those before may have been appended.
    pub fn append_raw(&self, topic: &str, partition: i32, batches: impl Into<Bytes>) -> Result<Offset, AppendError> {
        let mut bytes = batches.into();
        self.change(|state| {
            let mut offsets = Vec::new();
            while !bytes.is_empty() {
                let batch = Batch::split_off_first(&mut bytes)?;
                offsets.push(state.topics.append(topic, partition, &batch)?);
            }
            first(offsets)
        })
    }

    /// Leaves out `count` offsets at the end of a log, as compaction does. False where there is no such partition.
    pub fn leave_gap(&self, topic: &str, partition: i32, count: u32) -> bool {
        self.change(|state| state.topics.change_log(topic, partition, |log| log.leave_gap(count))).is_some()
    }

    /// Deletes the records below `offset`, or up to the end, if that is lower. False where there is no such partition.
    pub fn delete_records(&self, topic: &str, partition: i32, offset: Offset) -> bool {
        let delete = |log: &mut Log| log.delete_before(Some(offset.min(log.end())));
        self.change(|state| state.topics.change_log(topic, partition, delete)).is_some()
    }

    /// Cuts a log off at `offset` (at the batch that holds it) and begins the next leader epoch, as an unclean election
    /// does. Returns the new end.
    pub fn truncate(&self, topic: &str, partition: i32, offset: Offset) -> Option<Offset> {
        let cut = |log: &mut Log| {
            let end = log.truncate(offset);
            log.raise_epoch();
            end
        };
        self.change(|state| state.topics.change_log(topic, partition, cut))
    }

    /// All records of a topic, by partition and offset.
    ///
    /// # Errors
    ///
    /// Where there is no such topic, or a batch is compressed or malformed.
    pub fn records(&self, topic: &str) -> Result<Vec<Record>, ReadError> {
        let state = self.shared.lock();
        let found = state.topics.get(topic).ok_or_else(|| ReadError::UnknownTopic(topic.to_owned()))?;
        let mut records = Vec::new();
        for (index, partition) in found.partitions.iter().enumerate() {
            let at = Arc::new(TopicPartition::new(topic, index as i32));
            for batch in partition.log.batches().filter(|batch| !batch.header.is_control()) {
                let offset = batch.header.base_offset;
                let failed = |source| ReadError::Batch { at: TopicPartition::clone(&at), offset, source };
                let read = batch.records(&at).map_err(failed)?;
                records.extend(read.into_iter().filter(|record| record.offset >= partition.log.start()));
            }
        }
        Ok(records)
    }

    /// The first offset of a partition.
    #[must_use]
    pub fn start_offset(&self, topic: &str, partition: i32) -> Option<Offset> {
        self.shared.lock().topics.partition(topic, partition).map(|partition| partition.log.start())
    }

    /// The end of a partition: the offset that its next record gets. It is the high watermark as well.
    #[must_use]
    pub fn end_offset(&self, topic: &str, partition: i32) -> Option<Offset> {
        self.shared.lock().topics.partition(topic, partition).map(|partition| partition.log.end())
    }

    /// The ends of all partitions of a topic.
    #[must_use]
    pub fn end_offsets(&self, topic: &str) -> Option<Vec<Offset>> {
        let state = self.shared.lock();
        Some(state.topics.get(topic)?.partitions.iter().map(|partition| partition.log.end()).collect())
    }

    /// The bytes that all logs hold together.
    #[must_use]
    pub fn kept_bytes(&self) -> usize {
        self.shared.lock().topics.bytes()
    }

    // Groups.

    /// What a group has committed for a partition.
    #[must_use]
    pub fn committed(&self, group: &str, topic: &str, partition: i32) -> Option<Committed> {
        self.shared.lock().groups.get(group)?.offsets.get(&TopicPartition::new(topic, partition)).cloned()
    }

    /// Commits for a group, as another process would.
    ///
    /// # Errors
    ///
    /// Where the metadata is too long, or there are too many groups.
    pub fn commit(
        &self,
        group: &str,
        topic: &str,
        partition: i32,
        offset: Offset,
        metadata: &str,
    ) -> Result<(), ResponseError> {
        let committed = Committed { offset, leader_epoch: LeaderEpoch::UNKNOWN, metadata: metadata.to_owned() };
        self.change(|state| state.groups.commit(group, TopicPartition::new(topic, partition), committed))
    }

    /// Forgets what a group has committed for a partition, as expiry does. False where there was nothing.
    pub fn expire_commit(&self, group: &str, topic: &str, partition: i32) -> bool {
        self.change(|state| state.groups.forget(group, &TopicPartition::new(topic, partition)))
    }

    /// Pretends that a group has these members, beside those that join. While it has any, whoever commits without being one
    /// is refused.
    pub fn set_members(&self, group: &str, members: impl IntoIterator<Item = Member>) {
        self.change(|state| state.groups.pretend_members(group, members.into_iter().collect()));
    }

    /// Who is in a group: those that are pretended, and those that have joined, in that order.
    #[must_use]
    pub fn members(&self, group: &str) -> Vec<Member> {
        let mut state = self.shared.lock();
        let has_advanced = state.groups.advance(Instant::now().into_std());
        let members = state.groups.get(group).map(Group::members).unwrap_or_default();
        drop(state);
        if has_advanced {
            self.shared.notify();
        }
        members
    }

    // Nodes.

    /// The node that leads a partition, and its leader epoch.
    #[must_use]
    pub fn leader(&self, topic: &str, partition: i32) -> Option<(NodeId, LeaderEpoch)> {
        let state = self.shared.lock();
        let partition = state.topics.partition(topic, partition)?;
        Some((partition.leader, partition.log.epoch()))
    }

    /// Makes a node the leader of a partition, with the next leader epoch. Fetches that wait at the old one are answered.
    ///
    /// # Errors
    ///
    /// Where there is no such partition or no such node.
    pub fn move_leader(&self, topic: &str, partition: i32, node: NodeId) -> Result<(), TopicError> {
        self.change(|state| state.topics.move_leader(topic, partition, node))
    }

    /// Makes a node the coordinator of all groups.
    ///
    /// # Errors
    ///
    /// Where there is no such node.
    pub fn move_coordinator(&self, node: NodeId) -> Result<(), TopicError> {
        if !self.nodes.iter().any(|known| known.id == node) {
            return Err(TopicError::UnknownNode(node));
        }
        self.change(|state| state.coordinator = node);
        Ok(())
    }

    /// Takes a node down, as a crash does: its connections are closed and new ones refused when this returns. Its
    /// partitions stay its own until they are moved, and nothing is lost.
    pub fn take_down(&self, node: NodeId) {
        self.with_server(|server| server.down(node));
    }

    /// Brings a node back, on the port that it had.
    ///
    /// # Errors
    ///
    /// Where that port cannot be listened on any more.
    pub fn bring_up(&self, node: NodeId) -> io::Result<()> {
        self.with_server(|server| server.up(node)).unwrap_or(Ok(()))
    }

    /// Closes all connections that the nodes have accepted. New ones are welcome.
    pub fn disconnect_all(&self) {
        for node in &self.nodes {
            self.with_server(|server| server.disconnect(node.id));
        }
    }

    /// Stops answering, on all nodes, until [`resume`](Self::resume): connections are accepted and stay open, as with a
    /// stopped process.
    pub fn pause(&self) {
        self.shared.set_paused(true);
    }

    /// Goes on with what came meanwhile.
    pub fn resume(&self) {
        self.shared.set_paused(false);
    }

    // What was asked, and what goes wrong.

    /// How often this kind of request was asked, at all nodes. Counted when it comes, whether or not it is answered.
    #[must_use]
    pub fn requests(&self, api: ApiKey) -> u64 {
        self.shared.lock().asked.iter().filter(|((asked, _), _)| *asked == api).map(|(_, count)| count).sum()
    }

    /// How often this kind of request was asked at one node.
    #[must_use]
    pub fn requests_at(&self, api: ApiKey, node: NodeId) -> u64 {
        self.shared.lock().asked.get(&(api, node)).copied().unwrap_or(0)
    }

    /// Hides the newer versions of a request, as an older broker does. A version below the oldest that is spoken hides
    /// the request altogether. Holds for ApiVersions that are asked from now on.
    pub fn cap_version(&self, api: ApiKey, newest: i16) {
        self.change(|state| {
            state.newest.insert(api, newest);
        });
    }

    /// Makes requests go wrong.
    #[must_use]
    pub fn faults(&self) -> Faults {
        Faults::new(&self.shared)
    }

    /// Waits until a condition on the broker holds, and says whether it did in time. It is looked at whenever a request
    /// has come or something has changed.
    pub async fn until(&self, patience: Duration, condition: impl Fn(&Self) -> bool) -> bool {
        let deadline = Instant::now() + patience;
        loop {
            // Made before looking, so that it ends with all that comes from here on.
            let progress = self.shared.progress();
            if condition(self) {
                return true;
            }
            if timeout_at(deadline, progress).await.is_err() {
                return condition(self);
            }
        }
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.shared.lock());
        self.shared.notify();
        result
    }

    fn with_server<T>(&self, act: impl FnOnce(&Server) -> T) -> Option<T> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(act)
    }
}

fn first(offsets: Vec<Offset>) -> Result<Offset, AppendError> {
    offsets.first().copied().ok_or(AppendError::BatchCount(0))
}
