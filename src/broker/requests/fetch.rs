//! Fetch, with long polling and without sessions.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use kafka_protocol::{
    error::ResponseError,
    messages::{
        FetchRequest, FetchResponse,
        fetch_request::{FetchPartition, FetchTopic},
        fetch_response::{FetchableTopicResponse, LeaderIdAndEpoch, NodeEndpoint, PartitionData},
    },
    protocol::StrBytes,
};

use super::{Handle, Place};
use crate::{
    broker::{
        HOST,
        state::{Context, State},
    },
    record::{Offset, TopicId},
};

/// From this version on a request names topics by their ids.
const BY_ID: i16 = 13;
/// What an answer holds at most, whatever is asked for (apart from a first batch that is larger).
const MAX_BYTES: usize = 64 * 1024 * 1024;
/// The longest that a fetch waits, whatever is asked for.
const MAX_WAIT: Duration = Duration::from_secs(300);

impl Handle for FetchRequest {
    fn places(&self, state: &State) -> Vec<Place> {
        let places = |topic: &FetchTopic| {
            let name = state.resolve(&topic.topic, TopicId(topic.topic_id), !topic.topic_id.is_nil()).ok();
            name.into_iter()
                .flat_map(|name| topic.partitions.iter().map(move |p| (Arc::clone(&name), Some(p.partition))))
                .collect::<Vec<_>>()
        };
        self.topics.iter().flat_map(places).collect()
    }

    fn handle(&self, state: &mut State, context: &Context) -> FetchResponse {
        if self.session_id != 0 {
            return FetchResponse::default().with_error_code(ResponseError::FetchSessionIdNotFound.code());
        }
        let mut room = Room { bytes: usize::try_from(self.max_bytes).unwrap_or(0).min(MAX_BYTES), is_empty: true };
        let topics = self.topics.iter().map(|topic| {
            let name = state.resolve(&topic.topic, TopicId(topic.topic_id), context.version >= BY_ID);
            let partitions = topic.partitions.iter().map(|partition| match &name {
                Ok(name) => read(state, context, name, partition, &mut room),
                Err(error) => failed(partition, *error),
            });
            let partitions = partitions.collect();
            FetchableTopicResponse::default()
                .with_topic(topic.topic.clone())
                .with_topic_id(topic.topic_id)
                .with_partitions(partitions)
        });
        let topics: Vec<_> = topics.collect();
        let moved = topics.iter().flat_map(|topic| &topic.partitions).any(|p| p.current_leader.leader_id.0 >= 0);
        let endpoints = if moved { endpoints(state) } else { Vec::new() };
        FetchResponse::default().with_responses(topics).with_node_endpoints(endpoints)
    }

    fn max_wait(&self) -> Duration {
        Duration::from_millis(u64::try_from(self.max_wait_ms).unwrap_or(0)).min(MAX_WAIT)
    }

    /// As soon as there are enough bytes, or an error, or nothing was asked for.
    fn is_due(&self, _: &State, _: &Context, response: &FetchResponse) -> bool {
        let partitions = || response.responses.iter().flat_map(|topic| &topic.partitions);
        let bytes: usize = partitions().filter_map(|partition| Some(partition.records.as_ref()?.len())).sum();
        response.error_code != 0
            || bytes >= usize::try_from(self.min_bytes).unwrap_or(0)
            || partitions().next().is_none()
            || partitions().any(|partition| partition.error_code != 0)
    }
}

/// What still fits into an answer.
struct Room {
    bytes: usize,
    is_empty: bool,
}

fn read(state: &State, context: &Context, topic: &str, asked: &FetchPartition, room: &mut Room) -> PartitionData {
    let partition = match state.led(context, topic, asked.partition, asked.current_leader_epoch) {
        Ok(partition) => partition,
        Err(error) => {
            let data = failed(asked, error);
            let leader = state.topics.partition(topic, asked.partition);
            return match leader.filter(|_| error == ResponseError::NotLeaderOrFollower) {
                None => data,
                Some(partition) => data.with_current_leader(
                    LeaderIdAndEpoch::default()
                        .with_leader_id(partition.leader.0.into())
                        .with_leader_epoch(partition.log.epoch().0),
                ),
            };
        }
    };
    let max_bytes = usize::try_from(asked.partition_max_bytes).unwrap_or(0).min(room.bytes);
    let Ok(records) = partition.log.read(Offset(asked.fetch_offset), max_bytes, room.is_empty) else {
        return failed(asked, ResponseError::OffsetOutOfRange);
    };
    room.is_empty &= records.is_empty();
    room.bytes = room.bytes.saturating_sub(records.len());
    PartitionData::default()
        .with_partition_index(asked.partition)
        .with_high_watermark(partition.log.end().0)
        .with_last_stable_offset(partition.log.end().0)
        .with_log_start_offset(partition.log.start().0)
        .with_aborted_transactions(None)
        .with_records(Some(records))
}

/// With −1 for what is not known, as Kafka answers.
fn failed(asked: &FetchPartition, error: ResponseError) -> PartitionData {
    PartitionData::default()
        .with_partition_index(asked.partition)
        .with_error_code(error.code())
        .with_high_watermark(-1)
        .with_aborted_transactions(None)
        .with_records(Some(Bytes::new()))
}

fn endpoints(state: &State) -> Vec<NodeEndpoint> {
    let endpoint = |node: &crate::broker::state::Node| {
        NodeEndpoint::default()
            .with_node_id(node.id.0.into())
            .with_host(StrBytes::from_static_str(HOST))
            .with_port(i32::from(node.port))
    };
    state.nodes.iter().map(endpoint).collect()
}
