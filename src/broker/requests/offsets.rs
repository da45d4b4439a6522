//! ListOffsets and OffsetForLeaderEpoch: where things lie in a log.

use std::sync::Arc;

use kafka_protocol::{
    error::ResponseError,
    messages::{
        ListOffsetsRequest, ListOffsetsResponse, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
        list_offsets_request::ListOffsetsPartition,
        list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse},
        offset_for_leader_epoch_request::OffsetForLeaderPartition,
        offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult},
    },
};

use super::{Handle, Place};
use crate::{
    broker::{
        log::Log,
        state::{Context, State, code},
    },
    record::{LeaderEpoch, Offset},
};

/// From this version on an answer has a leader epoch.
const EPOCH: i16 = 4;
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;

impl Handle for ListOffsetsRequest {
    fn places(&self, _: &State) -> Vec<Place> {
        let places = self.topics.iter().flat_map(|topic| {
            let name: Arc<str> = topic.name.as_str().into();
            topic.partitions.iter().map(move |p| (Arc::clone(&name), Some(p.partition_index)))
        });
        places.collect()
    }

    fn handle(&self, state: &mut State, context: &Context) -> ListOffsetsResponse {
        let topics = self.topics.iter().map(|topic| {
            let partitions = topic.partitions.iter().map(|partition| list(state, context, &topic.name, partition));
            ListOffsetsTopicResponse::default().with_name(topic.name.clone()).with_partitions(partitions.collect())
        });
        ListOffsetsResponse::default().with_topics(topics.collect())
    }
}

fn list(state: &State, context: &Context, topic: &str, asked: &ListOffsetsPartition) -> ListOffsetsPartitionResponse {
    let response = ListOffsetsPartitionResponse::default().with_partition_index(asked.partition_index);
    let partition = match state.led(context, topic, asked.partition_index, asked.current_leader_epoch) {
        Ok(partition) => partition,
        Err(error) => return response.with_error_code(error.code()).with_offset(-1).with_timestamp(-1),
    };
    let found = look_up(&partition.log, asked.timestamp);
    let (offset, timestamp_ms) = found.ok().flatten().unwrap_or((Offset(-1), -1));
    // kafka-protocol refuses to write a field that a version does not have.
    let epoch = if context.version >= EPOCH && offset >= Offset(0) { partition.log.epoch().0 } else { -1 };
    response.with_error_code(code(&found)).with_offset(offset.0).with_timestamp(timestamp_ms).with_leader_epoch(epoch)
}

fn look_up(log: &Log, timestamp: i64) -> Result<Option<(Offset, i64)>, ResponseError> {
    match timestamp {
        LATEST => Ok(Some((log.end(), -1))),
        EARLIEST | EARLIEST_LOCAL => Ok(Some((log.start(), -1))),
        MAX_TIMESTAMP => Ok(log.max_time()),
        LATEST_TIERED => Ok(None),
        timestamp_ms if timestamp_ms >= 0 => Ok(log.at_time(timestamp_ms)),
        _ => Err(ResponseError::InvalidRequest),
    }
}

impl Handle for OffsetForLeaderEpochRequest {
    fn places(&self, _: &State) -> Vec<Place> {
        let places = self.topics.iter().flat_map(|topic| {
            let name: Arc<str> = topic.topic.as_str().into();
            topic.partitions.iter().map(move |p| (Arc::clone(&name), Some(p.partition)))
        });
        places.collect()
    }

    fn handle(&self, state: &mut State, context: &Context) -> OffsetForLeaderEpochResponse {
        let topics = self.topics.iter().map(|topic| {
            let partitions = topic.partitions.iter().map(|partition| end(state, context, &topic.topic, partition));
            OffsetForLeaderTopicResult::default().with_topic(topic.topic.clone()).with_partitions(partitions.collect())
        });
        OffsetForLeaderEpochResponse::default().with_topics(topics.collect())
    }
}

fn end(state: &State, context: &Context, topic: &str, asked: &OffsetForLeaderPartition) -> EpochEndOffset {
    let end = EpochEndOffset::default().with_partition(asked.partition).with_leader_epoch(-1).with_end_offset(-1);
    match state.led(context, topic, asked.partition, asked.current_leader_epoch) {
        Err(error) => end.with_error_code(error.code()),
        Ok(partition) => match partition.log.end_of_epoch(LeaderEpoch(asked.leader_epoch)) {
            Some((epoch, offset)) => end.with_leader_epoch(epoch.0).with_end_offset(offset.0),
            None => end,
        },
    }
}
