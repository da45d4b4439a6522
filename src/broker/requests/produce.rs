//! Produce and InitProducerId.

use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::{
    error::ResponseError,
    messages::{
        InitProducerIdRequest, InitProducerIdResponse, ProduceRequest, ProduceResponse,
        produce_request::{PartitionProduceData, TopicProduceData},
        produce_response::{LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse, TopicProduceResponse},
    },
    protocol::StrBytes,
};

use super::{Handle, Place, Reply, message};
use crate::{
    broker::{
        HOST,
        state::{Context, State},
        topics::AppendError,
    },
    record::{Offset, TopicId},
};

/// From this version on a request names topics by their ids.
const BY_ID: i16 = 13;
/// From this version on a producer may use zstd.
const ZSTD: i16 = 7;
/// Where a batch says how it is compressed.
const CODEC_AT: usize = 22;

impl Handle for ProduceRequest {
    const CHANGES: bool = true;

    fn places(&self, state: &State) -> Vec<Place> {
        let places = |topic: &TopicProduceData| {
            let name = state.resolve(&topic.name, TopicId(topic.topic_id), !topic.topic_id.is_nil()).ok();
            name.into_iter()
                .flat_map(|name| topic.partition_data.iter().map(move |p| (Arc::clone(&name), Some(p.index))))
                .collect::<Vec<_>>()
        };
        self.topic_data.iter().flat_map(places).collect()
    }

    fn handle(&self, state: &mut State, context: &Context) -> ProduceResponse {
        let topics = self.topic_data.iter().map(|topic| {
            let name = state.resolve(&topic.name, TopicId(topic.topic_id), context.version >= BY_ID);
            let partitions = topic.partition_data.iter().map(|partition| {
                let result = PartitionProduceResponse::default().with_index(partition.index).with_base_offset(-1);
                let appended = match &name {
                    Ok(name) => append(state, context, self.acks, name, partition),
                    Err(error) => Err((*error, None)),
                };
                match appended {
                    Ok((offset, start)) => result.with_base_offset(offset.0).with_log_start_offset(start.0),
                    Err((error, message)) => {
                        let leader = name.as_ref().ok().and_then(|n| state.topics.partition(n, partition.index));
                        let leader = leader.filter(|_| error == ResponseError::NotLeaderOrFollower).map(|partition| {
                            LeaderIdAndEpoch::default()
                                .with_leader_id(partition.leader.0.into())
                                .with_leader_epoch(partition.log.epoch().0)
                        });
                        result
                            .with_error_code(error.code())
                            .with_error_message(message)
                            .with_current_leader(leader.unwrap_or_default())
                    }
                }
            });
            let partitions = partitions.collect();
            TopicProduceResponse::default()
                .with_name(topic.name.clone())
                .with_topic_id(topic.topic_id)
                .with_partition_responses(partitions)
        });
        let topics: Vec<_> = topics.collect();
        let moved =
            topics.iter().flat_map(|topic| &topic.partition_responses).any(|p| p.current_leader.leader_id.0 >= 0);
        let endpoints = if moved { endpoints(state) } else { Vec::new() };
        ProduceResponse::default().with_responses(topics).with_node_endpoints(endpoints)
    }

    /// A client that wants no acknowledgement learns of errors by the end of its connection.
    fn reply(&self, response: &ProduceResponse) -> Reply {
        let mut partitions = response.responses.iter().flat_map(|topic| &topic.partition_responses);
        match (self.acks, partitions.all(|partition| partition.error_code == 0)) {
            (0, true) => Reply::Silence,
            (0, false) => Reply::Close,
            _ => Reply::Answer,
        }
    }
}

fn append(
    state: &mut State,
    context: &Context,
    acks: i16,
    topic: &str,
    partition: &PartitionProduceData,
) -> Result<(Offset, Offset), (ResponseError, Option<StrBytes>)> {
    if !matches!(acks, -1..=1) {
        return Err((ResponseError::InvalidRequiredAcks, None));
    }
    let start = state.led(context, topic, partition.index, -1).map_err(|error| (error, None))?.log.start();
    if context.version < ZSTD && is_zstd(partition.records.as_ref()) {
        return Err((ResponseError::UnsupportedCompressionType, None));
    }
    let offset = state.topics.produce(topic, partition.index, partition.records.clone()).map_err(|error| {
        if matches!(error, AppendError::Full { .. }) {
            tracing::warn!(topic, partition = partition.index, "refused to keep a batch: {error}");
        }
        (error.code(), message(&error))
    })?;
    Ok((offset, start))
}

fn is_zstd(records: Option<&Bytes>) -> bool {
    records.and_then(|records| records.get(CODEC_AT)).is_some_and(|attributes| attributes & 0b111 == 4)
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

impl Handle for InitProducerIdRequest {
    /// Gives ids to idempotent producers; there are no transactions.
    fn handle(&self, state: &mut State, context: &Context) -> InitProducerIdResponse {
        let no_transactions = ResponseError::TransactionalIdAuthorizationFailed;
        let refused = context.error().or(self.transactional_id.as_ref().map(|_| no_transactions));
        match refused {
            Some(error) => InitProducerIdResponse::default()
                .with_error_code(error.code())
                .with_producer_id((-1).into())
                .with_producer_epoch(-1),
            None => InitProducerIdResponse::default().with_producer_id(state.new_producer_id().into()),
        }
    }
}
