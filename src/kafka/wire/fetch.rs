//! Fetching: what some partitions of one leader hold, of one topic or several, in one request, without a session.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use kafka_protocol::{
    messages::{
        BrokerId, FetchRequest,
        fetch_request::{FetchPartition, FetchTopic},
    },
    protocol::StrBytes,
};
use tokio::time::{Duration, Instant};

use super::{
    Cluster, Fetched, WireError,
    cluster::Peer,
    connection::{Kind, writing},
    fetched::{self, Named, TOPIC_IDS_SINCE},
    throttle::Throttled,
};
use crate::{
    gather::Gather,
    kafka::Isolation,
    record::{LeaderEpoch, Offset, TopicId},
};

/// What one response holds at most, but for a first batch that is larger.
const MAX_BYTES: usize = 32 << 20;

/// What is asked of one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::kafka) struct Wanted {
    pub(in crate::kafka) topic: Arc<str>,
    /// The same for all partitions of a topic in one request.
    pub(in crate::kafka) topic_id: TopicId,
    pub(in crate::kafka) partition: i32,
    /// The leader epoch that we know; the leader refuses if it is another (KIP-320).
    pub(in crate::kafka) epoch: LeaderEpoch,
    pub(in crate::kafka) from: Offset,
    pub(in crate::kafka) max_bytes: usize,
}

impl Cluster {
    /// Asks `leader` once what these partitions hold, each of them once, and waits up to `max_wait` for there to be
    /// something. The first of them that has anything gets a whole batch, whatever its size; the others may have to ask
    /// again. Answers come in the order of `wanted`; `None` stands for one that is missing. There is no answer at all where
    /// we are over the broker's quota, and it has kept what it read (KIP-13).
    pub(in crate::kafka) async fn fetch(
        &self,
        leader: i32,
        wanted: &[Wanted],
        isolation: Isolation,
        max_wait: Duration,
        until: Instant,
    ) -> Result<Option<Vec<Option<Fetched>>>, WireError> {
        let build = |version| {
            let total = wanted.iter().map(|wanted| wanted.max_bytes).sum::<usize>().min(MAX_BYTES);
            FetchRequest::default()
                .with_replica_id(BrokerId(-1))
                .with_max_wait_ms(i32::try_from(max_wait.as_millis()).unwrap_or(i32::MAX))
                .with_min_bytes(1)
                .with_max_bytes(to_i32(total))
                .with_isolation_level(match isolation {
                    Isolation::ReadUncommitted => 0,
                    Isolation::ReadCommitted => 1,
                })
                .with_session_id(0)
                .with_session_epoch(-1)
                .with_topics(by_topic(wanted, version))
        };
        let answer =
            self.ask_raw(Peer::Node(leader), until, (Kind::of::<FetchRequest>(), 4), &mut writing(build)).await?;
        let answer = answer.read(fetched::read)?;
        self.heed(Peer::Node(leader), &answer);
        answer.check(answer.response.code.0, || format!("topic {}", topics(wanted)))?;
        if answer.response.partitions.is_empty() && answer.response.throttle().is_some() {
            return Ok(None);
        }
        let mut by_partition: HashMap<_, _> = answer.response.partitions.into_iter().collect();
        let named = |wanted: &Wanted| match by_partition.remove(&(Named::Id(wanted.topic_id), wanted.partition)) {
            Some(fetched) => Some(fetched),
            None => by_partition.remove(&(Named::Name(Arc::clone(&wanted.topic)), wanted.partition)),
        };
        Ok(Some(wanted.iter().map(named).collect()))
    }
}

/// What is wanted, in the order in which it is, as far as partitions of one topic stand together.
fn by_topic(wanted: &[Wanted], version: i16) -> Vec<FetchTopic> {
    let mut places: BTreeMap<&str, usize> = BTreeMap::new();
    let mut topics: Vec<FetchTopic> = Vec::new();
    for wanted in wanted {
        let place = *places.entry(&wanted.topic).or_insert_with(|| {
            topics.push(if version >= TOPIC_IDS_SINCE {
                FetchTopic::default().with_topic_id(wanted.topic_id.0)
            } else {
                FetchTopic::default().with_topic(StrBytes::from_string(wanted.topic.to_string()).into())
            });
            topics.len() - 1
        });
        topics[place].partitions.push(asked(wanted));
    }
    topics
}

/// The names of all topics of which something is wanted.
fn topics(wanted: &[Wanted]) -> String {
    let names: std::collections::BTreeSet<_> = wanted.iter().map(|wanted| &*wanted.topic).gather();
    names.into_iter().collect::<Vec<_>>().join(", ")
}

fn asked(wanted: &Wanted) -> FetchPartition {
    FetchPartition::default()
        .with_partition(wanted.partition)
        .with_current_leader_epoch(wanted.epoch.0)
        .with_fetch_offset(wanted.from.0)
        .with_last_fetched_epoch(-1)
        .with_log_start_offset(-1)
        .with_partition_max_bytes(to_i32(wanted.max_bytes))
}

fn to_i32(bytes: usize) -> i32 {
    i32::try_from(bytes).unwrap_or(i32::MAX)
}
