//! Fetching: what some partitions of one leader hold, in one request, without a session.

use std::collections::HashMap;

use bytes::Bytes;
use kafka_protocol::{
    messages::{
        BrokerId, FetchRequest,
        fetch_request::{FetchPartition, FetchTopic},
        fetch_response::{AbortedTransaction, PartitionData},
    },
    protocol::StrBytes,
};
use tokio::time::{Duration, Instant};

use super::{Cluster, ErrorCode, WireError, cluster::Peer};
use crate::{
    kafka::{Isolation, batch::Aborted},
    record::{LeaderEpoch, Offset, TopicId},
};

/// From this version on a topic goes by its id (KIP-516).
const TOPIC_IDS_SINCE: i16 = 13;
/// What one response holds at most, but for a first batch that is larger.
const MAX_BYTES: usize = 32 << 20;

/// What is asked of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::kafka) struct Wanted {
    pub(in crate::kafka) partition: i32,
    /// The leader epoch that we know; the leader refuses if it is another (KIP-320).
    pub(in crate::kafka) epoch: LeaderEpoch,
    pub(in crate::kafka) from: Offset,
    pub(in crate::kafka) max_bytes: usize,
}

/// What a leader says of one partition.
#[derive(Debug)]
pub(in crate::kafka) struct Fetched {
    pub(in crate::kafka) code: ErrorCode,
    pub(in crate::kafka) high_watermark: Offset,
    /// Below it no transaction is open.
    pub(in crate::kafka) last_stable: Offset,
    pub(in crate::kafka) aborted: Vec<Aborted>,
    /// Batches, as they lie in the log; the last may be cut off.
    pub(in crate::kafka) batches: Bytes,
}

impl Cluster {
    /// Asks `leader` once what these partitions of a topic hold, and waits up to `max_wait` for there to be something. The
    /// first of them that has anything gets a whole batch, whatever its size; the others may have to ask again. Answers
    /// come in the order of `wanted`; `None` stands for one that is missing.
    pub(in crate::kafka) async fn fetch(
        &self,
        leader: i32,
        (topic, id): (&str, TopicId),
        wanted: &[Wanted],
        isolation: Isolation,
        max_wait: Duration,
        until: Instant,
    ) -> Result<Vec<Option<Fetched>>, WireError> {
        let build = |version| {
            let to = FetchTopic::default().with_partitions(wanted.iter().map(asked).collect());
            let to = if version >= TOPIC_IDS_SINCE {
                to.with_topic_id(id.0)
            } else {
                to.with_topic(StrBytes::from_string(topic.to_owned()).into())
            };
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
                .with_topics(vec![to])
        };
        let answer = self.ask::<FetchRequest>(Peer::Node(leader), until, 4, build).await?;
        answer.check(answer.response.error_code, || format!("topic {topic}"))?;
        let data = answer.response.responses.into_iter().flat_map(|topic| topic.partitions);
        let mut by_partition: HashMap<_, _> = data.map(|data| (data.partition_index, fetched(data))).collect();
        Ok(wanted.iter().map(|wanted| by_partition.remove(&wanted.partition)).collect())
    }
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

fn fetched(data: PartitionData) -> Fetched {
    Fetched {
        code: ErrorCode(data.error_code),
        high_watermark: Offset(data.high_watermark),
        last_stable: Offset(data.last_stable_offset),
        aborted: data.aborted_transactions.unwrap_or_default().iter().map(aborted).collect(),
        batches: data.records.unwrap_or_default(),
    }
}

fn aborted(transaction: &AbortedTransaction) -> Aborted {
    Aborted { producer_id: transaction.producer_id.0, first_offset: Offset(transaction.first_offset) }
}

fn to_i32(bytes: usize) -> i32 {
    i32::try_from(bytes).unwrap_or(i32::MAX)
}
