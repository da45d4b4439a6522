//! CreateTopics, DeleteTopics, DeleteRecords.

use std::{collections::HashMap, sync::Arc};

use kafka_protocol::{
    error::ResponseError,
    messages::{
        CreateTopicsRequest, CreateTopicsResponse, DeleteRecordsRequest, DeleteRecordsResponse, DeleteTopicsRequest,
        DeleteTopicsResponse, TopicName,
        create_topics_request::CreatableTopic,
        create_topics_response::CreatableTopicResult,
        delete_records_response::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult},
        delete_topics_response::DeletableTopicResult,
    },
};

use super::{Handle, Place, message, text};
use crate::{
    broker::{
        state::{Context, State},
        topics::NewTopic,
    },
    record::{Offset, TopicId},
};

impl Handle for CreateTopicsRequest {
    const CHANGES: bool = true;

    fn places(&self, _: &State) -> Vec<Place> {
        self.topics.iter().map(|topic| (Arc::from(topic.name.as_str()), None)).collect()
    }

    /// Of the configurations only `max.message.bytes` has an effect; the others are taken and ignored.
    fn handle(&self, state: &mut State, context: &Context) -> CreateTopicsResponse {
        let mut times = HashMap::new();
        self.topics.iter().for_each(|topic| *times.entry(&topic.name).or_insert(0) += 1);
        let create = |topic: &CreatableTopic| {
            let result = CreatableTopicResult::default().with_name(topic.name.clone()).with_configs(Some(Vec::new()));
            if let Some(error) = context.error_for_topic(&topic.name) {
                return result.with_error_code(error.code());
            }
            if times[&topic.name] > 1 {
                return result.with_error_code(ResponseError::InvalidRequest.code());
            }
            if !topic.assignments.is_empty() {
                return result
                    .with_error_code(ResponseError::InvalidReplicaAssignment.code())
                    .with_error_message(message(&"this broker places partitions itself"));
            }
            create(state, topic, self.validate_only, result)
        };
        CreateTopicsResponse::default().with_topics(self.topics.iter().map(create).collect())
    }
}

fn create(
    state: &mut State,
    topic: &CreatableTopic,
    validate_only: bool,
    result: CreatableTopicResult,
) -> CreatableTopicResult {
    let max_message_bytes = topic.configs.iter().find(|config| &*config.name == "max.message.bytes");
    let max_message_bytes = max_message_bytes.and_then(|config| config.value.as_ref()).map(|value| value.parse());
    let Ok(max_message_bytes) = max_message_bytes.transpose() else {
        return result
            .with_error_code(ResponseError::InvalidConfig.code())
            .with_error_message(message(&"max.message.bytes is a number"));
    };
    let partitions = if topic.num_partitions == -1 { state.default_partitions } else { topic.num_partitions };
    let replication_factor = topic.replication_factor;
    let wanted = NewTopic { name: &topic.name, partitions, replication_factor, max_message_bytes };
    let made = if validate_only {
        state.topics.check(&wanted).map(|()| TopicId::default())
    } else {
        state.topics.create(&wanted)
    };
    match made {
        Ok(id) => result.with_topic_id(id.0).with_num_partitions(partitions).with_replication_factor(1),
        Err(error) => result.with_error_code(error.code().code()).with_error_message(message(&error)),
    }
}

impl Handle for DeleteTopicsRequest {
    const CHANGES: bool = true;

    fn places(&self, state: &State) -> Vec<Place> {
        let by_id = self.topics.iter().filter_map(|topic| match &topic.name {
            Some(name) => Some(Arc::from(name.as_str())),
            None => state.topics.name_of(TopicId(topic.topic_id)).cloned(),
        });
        let by_name = self.topic_names.iter().map(|name| Arc::from(name.as_str()));
        by_name.chain(by_id).map(|name| (name, None)).collect()
    }

    fn handle(&self, state: &mut State, context: &Context) -> DeleteTopicsResponse {
        let mut responses = Vec::new();
        for name in &self.topic_names {
            responses.push(delete(state, context, Ok(name.clone()), DeletableTopicResult::default()));
        }
        for topic in &self.topics {
            let id = TopicId(topic.topic_id);
            let known = state.topics.name_of(id).map(|name| TopicName(text(name)));
            let name = topic.name.clone().map_or(known.ok_or(ResponseError::UnknownTopicId), Ok);
            let result = DeletableTopicResult::default().with_topic_id(topic.topic_id);
            responses.push(delete(state, context, name, result));
        }
        DeleteTopicsResponse::default().with_responses(responses)
    }
}

fn delete(
    state: &mut State,
    context: &Context,
    name: Result<TopicName, ResponseError>,
    result: DeletableTopicResult,
) -> DeletableTopicResult {
    let name = match name {
        Ok(name) => name,
        Err(error) => return result.with_name(None).with_error_code(error.code()),
    };
    let deleted = match context.error_for_topic(&name) {
        Some(error) => Err(error),
        None => state.delete_topic(&name).map_err(|error| error.code()),
    };
    let result = result.with_name(Some(name));
    match deleted {
        Ok(id) => result.with_topic_id(id.0),
        Err(error) => result.with_error_code(error.code()),
    }
}

impl Handle for DeleteRecordsRequest {
    const CHANGES: bool = true;

    fn places(&self, _: &State) -> Vec<Place> {
        let places = |topic: &kafka_protocol::messages::delete_records_request::DeleteRecordsTopic| {
            let name: Arc<str> = topic.name.as_str().into();
            topic.partitions.iter().map(move |p| (Arc::clone(&name), Some(p.partition_index))).collect::<Vec<_>>()
        };
        self.topics.iter().flat_map(places).collect()
    }

    fn handle(&self, state: &mut State, context: &Context) -> DeleteRecordsResponse {
        let topics = self.topics.iter().map(|topic| {
            let partitions = topic.partitions.iter().map(|partition| {
                let index = partition.partition_index;
                let result = DeleteRecordsPartitionResult::default().with_partition_index(index);
                match delete_records(state, context, &topic.name, index, partition.offset) {
                    Ok(start) => result.with_low_watermark(start.0),
                    Err(error) => result.with_low_watermark(-1).with_error_code(error.code()),
                }
            });
            DeleteRecordsTopicResult::default().with_name(topic.name.clone()).with_partitions(partitions.collect())
        });
        DeleteRecordsResponse::default().with_topics(topics.collect())
    }
}

fn delete_records(
    state: &mut State,
    context: &Context,
    topic: &str,
    index: i32,
    offset: i64,
) -> Result<Offset, ResponseError> {
    state.led(context, topic, index, -1)?;
    let offset = (offset != -1).then_some(Offset(offset));
    let deleted = state.topics.change_log(topic, index, |log| log.delete_before(offset));
    deleted.ok_or(ResponseError::UnknownTopicOrPartition)?.map_err(|_| ResponseError::OffsetOutOfRange)
}
