//! PURE: everything a broker knows, behind one lock that is never held across an await.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use kafka_protocol::{
    error::ResponseError,
    messages::{ApiKey, TopicName},
};

use super::{
    NodeId, Options,
    faults::{FaultTable, Filter},
    groups::{Groups, classic::Ticket},
    topics::{Limits, Partition, TopicError, Topics},
};
use crate::record::TopicId;

/// The name that all in-memory clusters go by.
pub(super) const CLUSTER_ID: &str = "longshore-in-memory";

/// A node of the cluster, as clients find it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Node {
    pub(super) id: NodeId,
    pub(super) port: u16,
}

/// What is kept, and what is set.
#[derive(Debug)]
pub(super) struct State {
    pub(super) nodes: Vec<Node>,
    pub(super) topics: Topics,
    pub(super) groups: Groups,
    pub(super) faults: FaultTable,
    /// The node that coordinates all groups.
    pub(super) coordinator: NodeId,
    pub(super) default_partitions: i32,
    pub(super) auto_create_topics: bool,
    /// Members of groups may not have a shorter session timeout.
    pub(super) min_session_timeout: Duration,
    pub(super) max_metadata_units: usize,
    /// How often each kind of request was asked, at each node.
    pub(super) asked: HashMap<(ApiKey, NodeId), u64>,
    /// Kinds of request whose newest versions are hidden.
    pub(super) newest: HashMap<ApiKey, i16>,
    next_producer_id: i64,
    next_ticket: u64,
}

impl State {
    pub(super) fn new(nodes: Vec<Node>, options: &Options, seed: u64) -> Self {
        let limits = Limits { max_bytes: options.max_bytes, max_message_bytes: options.max_message_bytes };
        Self {
            topics: Topics::new(nodes.iter().map(|node| node.id).collect(), limits, seed),
            groups: Groups::new(seed),
            faults: FaultTable::default(),
            coordinator: nodes[0].id,
            default_partitions: options.default_partitions,
            auto_create_topics: options.auto_create_topics,
            min_session_timeout: options.min_session_timeout,
            max_metadata_units: options.max_metadata_units,
            asked: HashMap::new(),
            newest: HashMap::new(),
            next_producer_id: 1,
            next_ticket: 1,
            nodes,
        }
    }

    pub(super) fn new_producer_id(&mut self) -> i64 {
        self.next_producer_id += 1;
        self.next_producer_id - 1
    }

    pub(super) fn new_ticket(&mut self) -> Ticket {
        self.next_ticket += 1;
        Ticket(self.next_ticket - 1)
    }

    /// Deletes a topic, and what groups have committed for it.
    pub(super) fn delete_topic(&mut self, name: &str) -> Result<TopicId, TopicError> {
        let id = self.topics.delete(name)?;
        self.groups.topic_deleted(name);
        Ok(id)
    }

    pub(super) fn node(&self, id: NodeId) -> Node {
        *self.nodes.iter().find(|node| node.id == id).expect("only nodes of the cluster lead or coordinate")
    }

    /// The name of a topic that a request names in one of two ways.
    pub(super) fn resolve(&self, name: &TopicName, id: TopicId, by_id: bool) -> Result<Arc<str>, ResponseError> {
        if by_id {
            self.topics.name_of(id).cloned().ok_or(ResponseError::UnknownTopicId)
        } else {
            Ok(Arc::from(name.as_str()))
        }
    }

    /// The partition, if this node leads it in the epoch that the client believes in (−1 if it does not say).
    pub(super) fn led(
        &self,
        context: &Context,
        topic: &str,
        partition: i32,
        believed_epoch: i32,
    ) -> Result<&Partition, ResponseError> {
        if let Some(error) = context.error_for(topic, partition) {
            return Err(error);
        }
        let partition = self.topics.partition(topic, partition).ok_or(ResponseError::UnknownTopicOrPartition)?;
        if partition.leader != context.node {
            return Err(ResponseError::NotLeaderOrFollower);
        }
        match believed_epoch {
            -1 => Ok(partition),
            epoch if epoch < partition.log.epoch().0 => Err(ResponseError::FencedLeaderEpoch),
            epoch if epoch > partition.log.epoch().0 => Err(ResponseError::UnknownLeaderEpoch),
            _ => Ok(partition),
        }
    }
}

/// What a request comes with beside itself.
#[derive(Debug)]
pub(super) struct Context {
    /// The node that was asked.
    pub(super) node: NodeId,
    /// The version of the request.
    pub(super) version: i16,
    /// What the client calls itself.
    pub(super) client_id: String,
    /// The request itself, each time that it is carried out.
    pub(super) ticket: Ticket,
    /// Whether it was carried out before, and has waited since.
    pub(super) again: bool,
    pub(super) now: Instant,
    /// The error that a test wants, and where.
    pub(super) fault: Option<(ResponseError, Filter)>,
}

impl Context {
    /// The wanted error, where it is for this partition.
    pub(super) fn error_for(&self, topic: &str, partition: i32) -> Option<ResponseError> {
        self.fault.as_ref().filter(|(_, filter)| filter.covers(topic, Some(partition))).map(|(error, _)| *error)
    }

    /// The wanted error, where it is for this topic as a whole.
    pub(super) fn error_for_topic(&self, topic: &str) -> Option<ResponseError> {
        let for_topic = |filter: &Filter| filter.partition.is_none() && filter.covers(topic, None);
        self.fault.as_ref().filter(|(_, filter)| for_topic(filter)).map(|(error, _)| *error)
    }

    /// The wanted error, where it is for the request as a whole.
    pub(super) fn error(&self) -> Option<ResponseError> {
        let overall = |filter: &Filter| filter.topic.is_none() && filter.partition.is_none();
        self.fault.as_ref().filter(|(_, filter)| overall(filter)).map(|(error, _)| *error)
    }
}

/// 0, or the code of an error.
pub(super) fn code<T>(result: &Result<T, ResponseError>) -> i16 {
    result.as_ref().err().map_or(0, ResponseError::code)
}
