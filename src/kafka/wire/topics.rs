//! Topics: their partitions, leaders and ends, and how to make one.

use std::{collections::BTreeMap, sync::Arc};

use futures::future::{join_all, try_join_all};
use kafka_protocol::{
    ResponseError,
    messages::{
        BrokerId, CreateTopicsRequest, ListOffsetsRequest, MetadataResponse, OffsetForLeaderEpochRequest,
        create_topics_request::CreatableTopic,
        list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic},
        metadata_response::MetadataResponseTopic,
        offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic},
    },
    protocol::StrBytes,
};
use tokio::time::Instant;

use super::{
    Cluster, ErrorCode, WireError,
    cluster::{Answer, Peer},
};
use crate::{
    gather::Gather,
    lineage::EpochEnd,
    record::{LeaderEpoch, Offset, TopicId},
};

/// A topic, as one broker sees it now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicView {
    /// Its identity; all zeros before Kafka 2.8.
    pub id: TopicId,
    /// Its partitions, in order.
    pub partitions: Vec<PartitionView>,
}

impl TopicView {
    /// The partition of this number.
    #[must_use]
    pub fn partition(&self, partition: i32) -> Option<&PartitionView> {
        self.partitions.iter().find(|view| view.partition == partition)
    }
}

/// One of all topics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedTopic {
    /// Its name.
    pub name: Arc<str>,
    /// Whether it is one of Kafka's own, such as `__consumer_offsets`.
    pub is_internal: bool,
    /// How it looks.
    pub view: TopicView,
}

/// A partition, as one broker sees it now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionView {
    /// Its number.
    pub partition: i32,
    /// The node id of its leader, while it has one.
    pub leader: Option<i32>,
    /// The leader's epoch; unknown before Kafka 2.1.
    pub epoch: LeaderEpoch,
}

/// Which end of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// The first offset that is still there.
    Earliest,
    /// The high watermark: the offset that follows the last record that every in-sync replica has, whether or not its
    /// transaction is decided.
    Latest,
    /// The last stable offset: where the first transaction begins that is open, or else the same as `Latest`.
    Stable,
}

impl Cluster {
    /// How `topic` looks now; `None` if there is no such topic. Never creates one.
    ///
    /// # Errors
    /// No broker can be asked in time, or we may not see the topic.
    pub async fn topic(&self, topic: &str) -> Result<Option<TopicView>, WireError> {
        self.retrying(|until| self.topic_once(topic, until)).await
    }

    /// How each of these topics looks now, in their order, by one request: as [`topic`](Self::topic), but what is wrong with
    /// one of them is not tried again, and does not keep the others from being told.
    ///
    /// # Errors
    /// No broker can be asked in time.
    pub async fn topics(&self, topics: &[&str]) -> Result<Vec<Result<Option<TopicView>, WireError>>, WireError> {
        let answer = self.retrying(|until| self.metadata(Some(topics), until)).await?;
        Ok(topics.iter().map(|topic| view(&answer, topic)).collect())
    }

    pub(super) async fn topic_once(&self, topic: &str, until: Instant) -> Result<Option<TopicView>, WireError> {
        view(&self.metadata(Some(&[topic]), until).await?, topic)
    }

    /// All topics that there are and that we may see, by name, from one broker's answer. A topic that is just going away may
    /// be left out before it is gone.
    ///
    /// # Errors
    /// No broker can be asked in time.
    pub async fn all_topics(&self) -> Result<Vec<NamedTopic>, WireError> {
        self.retrying(|until| self.all_topics_once(until)).await
    }

    async fn all_topics_once(&self, until: Instant) -> Result<Vec<NamedTopic>, WireError> {
        let answer = self.metadata(None, until).await?;
        let mut topics = Vec::new();
        for topic in &answer.response.topics {
            let Some(name) = &topic.name else { return Err(answer.lacks("the name of a topic")) };
            match answer.check(topic.error_code, || format!("topic {}", name.as_str())) {
                Ok(()) => topics.push(NamedTopic {
                    name: name.as_str().into(),
                    is_internal: topic.is_internal,
                    view: viewed(topic),
                }),
                // Listed, but not there (any more), or not ours to see.
                Err(error) if is_absent(ErrorCode(topic.error_code)) || error.is_refusal() => {
                    tracing::debug!(%error, "a topic is left out");
                }
                Err(error) => return Err(error),
            }
        }
        topics.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(topics)
    }

    /// Creates `topic`, with the broker's own number of partitions unless one is named, and its own replication factor;
    /// then waits until each partition has a leader. A topic that is there already is left as it is.
    ///
    /// # Errors
    /// No broker can be asked in time, or none of them lets us; the error says how to create the topic by hand.
    pub async fn create_topic(&self, topic: &str, partitions: Option<i32>) -> Result<TopicView, WireError> {
        let created = self.retrying(|until| self.create_topic_once(topic, partitions, until)).await;
        created.map_err(|source| match source.code() {
            // Nobody can create that one.
            Some(code) if code.is(ResponseError::InvalidTopicException) => source,
            _ => WireError::NotCreated {
                topic: topic.to_owned(),
                by_hand: self.by_hand(topic),
                source: Box::new(source),
            },
        })?;
        self.retrying(|until| async move {
            let view = self.topic_once(topic, until).await?;
            let first = PartitionView { partition: 0, leader: None, epoch: LeaderEpoch::UNKNOWN };
            let view = view.filter(|view| !view.partitions.is_empty());
            let leaderless = view.as_ref().map_or(Some(&first), |v| v.partitions.iter().find(|p| p.leader.is_none()));
            match (view.as_ref(), leaderless) {
                (Some(view), None) => Ok(view.clone()),
                (_, p) => Err(WireError::NoLeader { topic: topic.to_owned(), partition: p.map_or(0, |p| p.partition) }),
            }
        })
        .await
    }

    async fn create_topic_once(&self, topic: &str, partitions: Option<i32>, until: Instant) -> Result<(), WireError> {
        // Only the controller creates topics before KRaft; with KRaft this is a broker that passes the request on.
        let controller = self.metadata(Some(&[]), until).await?.response.controller_id;
        let timeout_ms = until.saturating_duration_since(Instant::now()).as_millis();
        let build = |_| {
            let name = StrBytes::from_string(topic.to_owned());
            let topic = CreatableTopic::default()
                .with_name(name.into())
                .with_num_partitions(partitions.unwrap_or(-1))
                .with_replication_factor(-1);
            CreateTopicsRequest::default()
                .with_topics(vec![topic])
                .with_timeout_ms(i32::try_from(timeout_ms).unwrap_or(i32::MAX))
        };
        // Version 4 is the first with the broker's own defaults (KIP-464, Kafka 2.4).
        let answer = if controller.0 >= 0 {
            self.ask::<CreateTopicsRequest>(Peer::Node(controller.0), until, 4, build).await?
        } else {
            self.ask_any::<CreateTopicsRequest>(until, 4, build).await?
        };
        let Some(result) = answer.response.topics.iter().find(|t| t.name.as_str() == topic) else {
            return Err(answer.lacks(format_args!("topic {topic}")));
        };
        if ErrorCode(result.error_code).is(ResponseError::TopicAlreadyExists) {
            return Ok(());
        }
        answer.check_saying(result.error_code, result.error_message.as_ref(), || format!("topic {topic}"))
    }

    /// The command that creates `topic` by hand.
    pub(in crate::kafka) fn by_hand(&self, topic: &str) -> String {
        let brokers: Vec<_> = self.bootstrap().iter().map(ToString::to_string).collect();
        format!("kafka-topics.sh --bootstrap-server {} --create --topic {topic}", brokers.join(","))
    }

    /// One end of each of these partitions, from their leaders.
    ///
    /// # Errors
    /// A topic or partition that is not there, one without a leader, one that we may not see, or no answer in time.
    pub async fn offsets(&self, topic: &str, partitions: &[i32], at: At) -> Result<BTreeMap<i32, Offset>, WireError> {
        self.retrying(|until| self.offsets_once(topic, partitions, at, until)).await
    }

    async fn offsets_once(
        &self,
        topic: &str,
        partitions: &[i32],
        at: At,
        until: Instant,
    ) -> Result<BTreeMap<i32, Offset>, WireError> {
        let Some(view) = self.topic_once(topic, until).await? else {
            return Err(WireError::NoTopic { topic: topic.to_owned(), by_hand: self.by_hand(topic) });
        };
        let mut by_leader: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
        for &partition in partitions {
            let topic = topic.to_owned();
            let Some(found) = view.partition(partition) else {
                return Err(WireError::NoPartition { topic, partition });
            };
            let Some(leader) = found.leader else { return Err(WireError::NoLeader { topic, partition }) };
            by_leader.entry(leader).or_default().push(partition);
        }
        let asked = by_leader.iter().map(|(leader, partitions)| async move {
            let build = |_| list_offsets(topic, partitions, at);
            // Version 2 is the first with an isolation level.
            let least = if at == At::Stable { 2 } else { 1 };
            let answer = self.ask::<ListOffsetsRequest>(Peer::Node(*leader), until, least, build).await?;
            listed(&answer, topic, partitions)
        });
        Ok(try_join_all(asked).await?.into_iter().flatten().gather())
    }
}

impl Cluster {
    /// Where leader epochs ended (OffsetForLeaderEpoch, KIP-320), as the leaders of now say. A partition whose leader does
    /// not answer, or knows no such question (Kafka before 2.3), is left out.
    ///
    /// # Errors
    /// The topic is not there, or nobody can be asked in time who leads its partitions.
    pub async fn epoch_ends(
        &self,
        topic: &str,
        epochs: &BTreeMap<i32, LeaderEpoch>,
    ) -> Result<BTreeMap<i32, EpochEnd>, WireError> {
        self.retrying(|until| self.epoch_ends_once(topic, epochs, until)).await
    }

    async fn epoch_ends_once(
        &self,
        topic: &str,
        epochs: &BTreeMap<i32, LeaderEpoch>,
        until: Instant,
    ) -> Result<BTreeMap<i32, EpochEnd>, WireError> {
        let Some(view) = self.topic_once(topic, until).await? else {
            return Err(WireError::NoTopic { topic: topic.to_owned(), by_hand: self.by_hand(topic) });
        };
        let mut by_leader: BTreeMap<i32, Vec<EpochQuestion>> = BTreeMap::new();
        for (partition, asked) in epochs {
            let found = view.partition(*partition);
            if let Some((leader, current)) = found.and_then(|found| Some((found.leader?, found.epoch))) {
                by_leader.entry(leader).or_default().push(EpochQuestion {
                    partition: *partition,
                    current,
                    asked: *asked,
                });
            }
        }
        let asked = by_leader.iter().map(|(leader, questions)| async move {
            let build = |_| offset_for_leader_epoch(topic, questions);
            // Version 3 is the first that says that a consumer asks, for whom reading the topic is right enough.
            let answer = self.ask::<OffsetForLeaderEpochRequest>(Peer::Node(*leader), until, 3, build).await;
            answer.map_or_else(
                |error| {
                    tracing::debug!(topic, leader, %error, "cannot ask where leader epochs ended");
                    BTreeMap::new()
                },
                |answer| epoch_ends(&answer, topic, questions),
            )
        });
        Ok(join_all(asked).await.into_iter().flatten().gather())
    }
}

/// What is said of a topic.
fn view(answer: &Answer<MetadataResponse>, topic: &str) -> Result<Option<TopicView>, WireError> {
    let named = |t: &&MetadataResponseTopic| t.name.as_ref().is_some_and(|name| name.as_str() == topic);
    let Some(view) = answer.response.topics.iter().find(named) else {
        return Err(answer.lacks(format_args!("topic {topic}")));
    };
    if is_absent(ErrorCode(view.error_code)) {
        return Ok(None);
    }
    answer.check(view.error_code, || format!("topic {topic}"))?;
    Ok(Some(viewed(view)))
}

fn is_absent(code: ErrorCode) -> bool {
    code.is(ResponseError::UnknownTopicOrPartition)
}

fn viewed(topic: &MetadataResponseTopic) -> TopicView {
    let partitions = topic.partitions.iter().map(|p| PartitionView {
        partition: p.partition_index,
        leader: (p.leader_id.0 >= 0).then_some(p.leader_id.0),
        epoch: LeaderEpoch(p.leader_epoch),
    });
    let mut partitions: Vec<_> = partitions.collect();
    partitions.sort_unstable_by_key(|p| p.partition);
    TopicView { id: TopicId(topic.topic_id), partitions }
}

/// Where did `asked` end, of a partition that is led in epoch `current`?
struct EpochQuestion {
    partition: i32,
    current: LeaderEpoch,
    asked: LeaderEpoch,
}

fn offset_for_leader_epoch(topic: &str, questions: &[EpochQuestion]) -> OffsetForLeaderEpochRequest {
    let partitions = questions.iter().map(|EpochQuestion { partition, current, asked }| {
        OffsetForLeaderPartition::default()
            .with_partition(*partition)
            .with_current_leader_epoch(current.0)
            .with_leader_epoch(asked.0)
    });
    let topic = OffsetForLeaderTopic::default()
        .with_topic(StrBytes::from_string(topic.to_owned()).into())
        .with_partitions(partitions.collect());
    OffsetForLeaderEpochRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![topic])
}

/// A leader that has changed since, or that is not to be asked, leaves its question open.
fn epoch_ends(
    answer: &Answer<kafka_protocol::messages::OffsetForLeaderEpochResponse>,
    topic: &str,
    questions: &[EpochQuestion],
) -> BTreeMap<i32, EpochEnd> {
    let partitions = answer.response.topics.iter().filter(|t| t.topic.as_str() == topic).flat_map(|t| &t.partitions);
    let ends = partitions.filter(|p| p.error_code == 0).filter_map(|p| {
        let question = questions.iter().find(|question| question.partition == p.partition)?;
        let end = (p.leader_epoch >= 0 && p.end_offset >= 0).then_some(Offset(p.end_offset));
        Some((p.partition, EpochEnd { current: question.current, end }))
    });
    ends.gather()
}

fn list_offsets(topic: &str, partitions: &[i32], at: At) -> ListOffsetsRequest {
    let timestamp = match at {
        At::Latest | At::Stable => -1,
        At::Earliest => -2,
    };
    let partitions = partitions.iter().map(|&partition| {
        ListOffsetsPartition::default()
            .with_partition_index(partition)
            .with_current_leader_epoch(-1)
            .with_timestamp(timestamp)
    });
    let topic = ListOffsetsTopic::default()
        .with_name(StrBytes::from_string(topic.to_owned()).into())
        .with_partitions(partitions.collect());
    ListOffsetsRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_isolation_level(i8::from(at == At::Stable))
        .with_topics(vec![topic])
}

fn listed(
    answer: &Answer<kafka_protocol::messages::ListOffsetsResponse>,
    topic: &str,
    partitions: &[i32],
) -> Result<BTreeMap<i32, Offset>, WireError> {
    let mut offsets = BTreeMap::new();
    for p in answer.response.topics.iter().filter(|t| t.name.as_str() == topic).flat_map(|t| &t.partitions) {
        answer.check(p.error_code, || format!("{topic}-{}", p.partition_index))?;
        offsets.insert(p.partition_index, Offset(p.offset));
    }
    match partitions.iter().find(|p| !offsets.contains_key(p)) {
        Some(missing) => Err(answer.lacks(format_args!("partition {topic}-{missing}"))),
        None => Ok(offsets),
    }
}
