//! ApiVersions, Metadata, FindCoordinator: what clients ask before anything else.

use std::sync::Arc;

use kafka_protocol::{
    error::ResponseError,
    messages::{
        ApiKey, ApiVersionsRequest, ApiVersionsResponse, FindCoordinatorRequest, FindCoordinatorResponse,
        MetadataRequest, MetadataResponse, TopicName,
        api_versions_response::ApiVersion,
        find_coordinator_response::Coordinator,
        metadata_response::{MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic},
    },
    protocol::StrBytes,
};

use super::{Handle, Place, SPOKEN, spoken, text};
use crate::{
    broker::{
        HOST,
        state::{CLUSTER_ID, Context, State},
        topics::{NewTopic, Partition, Topic},
    },
    record::TopicId,
};

/// What this broker speaks. Produce is said to begin at 0, as Kafka 4 says it too: librdkafka does not compress
/// otherwise (KAFKA-18659).
fn api_versions(state: &State) -> ApiVersionsResponse {
    let ranges = SPOKEN.into_iter().filter_map(|(api, ..)| Some((api, spoken(state, api)?)));
    let keys = ranges.map(|(api, range)| {
        let min = if api == ApiKey::Produce { 0 } else { range.min };
        ApiVersion::default().with_api_key(api as i16).with_min_version(min).with_max_version(range.max)
    });
    ApiVersionsResponse::default().with_api_keys(keys.collect())
}

/// The answer, in version 0, to an ApiVersions request that is too new to be read (KIP-511).
pub(in crate::broker) fn unsupported_version(state: &State) -> ApiVersionsResponse {
    api_versions(state).with_error_code(ResponseError::UnsupportedVersion.code())
}

impl Handle for ApiVersionsRequest {
    fn handle(&self, state: &mut State, context: &Context) -> ApiVersionsResponse {
        api_versions(state).with_error_code(context.error().map_or(0, |error| error.code()))
    }
}

impl Handle for MetadataRequest {
    fn places(&self, state: &State) -> Vec<Place> {
        let all = |topic: &Arc<str>| (Arc::clone(topic), None);
        match wanted(self) {
            None => state.topics.iter().map(|(name, _)| all(name)).collect(),
            Some(topics) => topics
                .filter_map(|(name, id)| match name {
                    Some(name) => Some((Arc::from(name.as_str()), None)),
                    None => state.topics.name_of(id).map(all),
                })
                .collect(),
        }
    }

    fn handle(&self, state: &mut State, context: &Context) -> MetadataResponse {
        // In version 0 an empty list stands for all.
        let wanted =
            wanted(self).filter(|_| context.version > 0 || self.topics.as_ref().is_some_and(|t| !t.is_empty()));
        let topics = match wanted.map(Iterator::collect::<Vec<_>>) {
            None => state.topics.iter().map(|(name, topic)| describe(context, name, topic)).collect(),
            Some(topics) => topics
                .into_iter()
                .map(|(name, id)| match name {
                    Some(name) => by_name(state, context, name, self.allow_auto_topic_creation),
                    None => by_id(state, context, id),
                })
                .collect(),
        };
        let broker = |node: &crate::broker::state::Node| {
            let host = StrBytes::from_static_str(HOST);
            MetadataResponseBroker::default()
                .with_node_id(node.id.0.into())
                .with_host(host)
                .with_port(i32::from(node.port))
        };
        MetadataResponse::default()
            .with_brokers(state.nodes.iter().map(broker).collect())
            .with_cluster_id(Some(StrBytes::from_static_str(CLUSTER_ID)))
            .with_controller_id(state.nodes[0].id.0.into())
            .with_topics(topics)
    }
}

/// The topics that are asked for by name or by id; `None` for all.
fn wanted(request: &MetadataRequest) -> Option<impl Iterator<Item = (Option<&TopicName>, TopicId)>> {
    Some(request.topics.as_ref()?.iter().map(|topic| (topic.name.as_ref(), TopicId(topic.topic_id))))
}

fn by_name(state: &mut State, context: &Context, name: &TopicName, may_create: bool) -> MetadataResponseTopic {
    let failed = |error: ResponseError| {
        MetadataResponseTopic::default().with_name(Some(name.clone())).with_error_code(error.code())
    };
    if let Some(error) = context.error_for_topic(name) {
        return failed(error);
    }
    if state.auto_create_topics && may_create && state.topics.get(name).is_none() {
        let partitions = state.default_partitions;
        let new = NewTopic { name, partitions, replication_factor: -1, max_message_bytes: None };
        if let Err(error) = state.topics.create(&new) {
            return failed(error.code());
        }
    }
    match state.topics.get(name) {
        Some(topic) => describe(context, name, topic),
        None => failed(ResponseError::UnknownTopicOrPartition),
    }
}

fn by_id(state: &State, context: &Context, id: TopicId) -> MetadataResponseTopic {
    match state.topics.name_of(id).and_then(|name| Some((name, state.topics.get(name)?))) {
        Some((name, topic)) => describe(context, name, topic),
        None => MetadataResponseTopic::default()
            .with_name(None)
            .with_topic_id(id.0)
            .with_error_code(ResponseError::UnknownTopicId.code()),
    }
}

fn describe(context: &Context, name: &str, topic: &Topic) -> MetadataResponseTopic {
    let described = MetadataResponseTopic::default().with_name(Some(TopicName(text(name)))).with_topic_id(topic.id.0);
    if let Some(error) = context.error_for_topic(name) {
        return described.with_error_code(error.code());
    }
    let partition = |(index, partition): (usize, &Partition)| {
        let index = index as i32;
        let leader = partition.leader.0.into();
        MetadataResponsePartition::default()
            .with_error_code(context.error_for(name, index).map_or(0, |error| error.code()))
            .with_partition_index(index)
            .with_leader_id(leader)
            .with_leader_epoch(partition.log.epoch().0)
            .with_replica_nodes(vec![leader])
            .with_isr_nodes(vec![leader])
    };
    described.with_partitions(topic.partitions.iter().enumerate().map(partition).collect())
}

impl Handle for FindCoordinatorRequest {
    fn handle(&self, state: &mut State, context: &Context) -> FindCoordinatorResponse {
        let node = state.node(state.coordinator);
        let find = |key: &StrBytes| {
            let found = match (context.error(), self.key_type) {
                (Some(error), _) => Err(error),
                (None, 0) if key.is_empty() => Err(ResponseError::InvalidGroupId),
                (None, 0 | 1) => Ok(node),
                (None, _) => Err(ResponseError::InvalidRequest),
            };
            let coordinator = Coordinator::default().with_key(key.clone());
            match found {
                Ok(node) => coordinator
                    .with_node_id(node.id.0.into())
                    .with_host(StrBytes::from_static_str(HOST))
                    .with_port(i32::from(node.port)),
                Err(error) => coordinator.with_node_id((-1).into()).with_port(-1).with_error_code(error.code()),
            }
        };
        if context.version >= 4 {
            return FindCoordinatorResponse::default()
                .with_coordinators(self.coordinator_keys.iter().map(find).collect());
        }
        let found = find(&self.key);
        FindCoordinatorResponse::default()
            .with_error_code(found.error_code)
            .with_node_id(found.node_id)
            .with_host(found.host)
            .with_port(found.port)
    }
}
