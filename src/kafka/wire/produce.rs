//! Writing to one partition: who leads it, under which number we write, and the batch itself.

use bytes::Bytes;
use kafka_protocol::{
    messages::{
        InitProducerIdRequest, ProduceRequest, ProducerId,
        produce_request::{PartitionProduceData, TopicProduceData},
    },
    protocol::StrBytes,
};
use tokio::time::Instant;

use super::{Cluster, WireError, cluster::Peer};
use crate::{
    kafka::batch::Producer,
    record::{LeaderEpoch, TopicId},
};

/// The version of Produce from which on a topic goes by its id (KIP-516).
const TOPIC_IDS_SINCE: i16 = 13;

/// Where a partition is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::kafka) struct Place {
    /// The node id of the partition's leader.
    pub(in crate::kafka) leader: i32,
    pub(in crate::kafka) epoch: LeaderEpoch,
    pub(in crate::kafka) topic_id: TopicId,
}

impl Cluster {
    /// Who leads a partition now. Asks once, and never creates the topic.
    pub(in crate::kafka) async fn place(
        &self,
        topic: &str,
        partition: i32,
        until: Instant,
    ) -> Result<Place, WireError> {
        let topic_name = topic.to_owned();
        let Some(view) = self.topic_once(topic, until).await? else {
            return Err(WireError::NoTopic { topic: topic_name, by_hand: self.by_hand(topic) });
        };
        let Some(found) = view.partition(partition) else {
            return Err(WireError::NoPartition { topic: topic_name, partition });
        };
        let leader = found.leader.ok_or(WireError::NoLeader { topic: topic_name, partition })?;
        Ok(Place { leader, epoch: found.epoch, topic_id: view.id })
    }

    /// A number to write under, and its first sequence (KIP-98). Asks once.
    pub(in crate::kafka) async fn new_producer(&self, until: Instant) -> Result<Producer, WireError> {
        let build = |_| {
            InitProducerIdRequest::default()
                .with_transactional_id(None)
                .with_transaction_timeout_ms(60_000)
                .with_producer_id(ProducerId(-1))
                .with_producer_epoch(-1)
        };
        let answer = self.ask_any::<InitProducerIdRequest>(until, 0, build).await?;
        answer.check(answer.response.error_code, || "a producer id".to_owned())?;
        Ok(Producer { id: answer.response.producer_id.0, epoch: answer.response.producer_epoch, sequence: 0 })
    }

    /// Writes one batch, once, and waits until all in-sync replicas have it.
    pub(in crate::kafka) async fn produce(
        &self,
        place: Place,
        topic: &str,
        partition: i32,
        batch: Bytes,
        until: Instant,
    ) -> Result<(), WireError> {
        let timeout = until.saturating_duration_since(Instant::now()).as_millis();
        let build = |version| {
            let data = PartitionProduceData::default().with_index(partition).with_records(Some(batch));
            let to = TopicProduceData::default().with_partition_data(vec![data]);
            let to = if version >= TOPIC_IDS_SINCE {
                to.with_topic_id(place.topic_id.0)
            } else {
                to.with_name(StrBytes::from_string(topic.to_owned()).into())
            };
            ProduceRequest::default()
                .with_transactional_id(None)
                .with_acks(-1)
                .with_timeout_ms(i32::try_from(timeout).unwrap_or(i32::MAX))
                .with_topic_data(vec![to])
        };
        let answer = self.ask::<ProduceRequest>(Peer::Node(place.leader), until, 3, build).await?;
        let written = answer.response.responses.iter().flat_map(|topic| &topic.partition_responses);
        let Some(written) = written.into_iter().find(|written| written.index == partition) else {
            return Err(answer.lacks(format_args!("partition {topic}-{partition}")));
        };
        answer.check_saying(written.error_code, written.error_message.as_ref(), || format!("{topic}-{partition}"))
    }
}
