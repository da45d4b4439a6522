//! How a group stands: `longshore inspect`. It looks, and changes nothing.
//!
//! ```text
//!   group: state, members ─┐
//!   all its offsets ───────┼──▶ per topic: id, ends, and for each partition with something unfinished
//!   or those of a topic ───┘    one fetch at its commit ──▶ report.rs ──▶ a table, or JSON
//! ```
//!
//! Any group can be looked at, of whatever client, with members or without. What is finished above a commit is known where
//! Longshore or Confluent's Parallel Consumer have written it; the latter cannot be checked, and is marked.
//!
//! Deliberately not here: how it is shown (`cli/`), and looking again and again.

mod report;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use futures::future::join_all;

use self::report::Facts;
pub use self::report::{GroupReport, Member, Oldest, PartitionReport, Progress, TopicReport};
use crate::{
    config::Connection,
    gather::Gather,
    kafka::{
        Deadlines, Isolation,
        reader::WireReaders,
        wire::{At, Cluster, TopicView, WireError},
        with_causes,
    },
    offsets::Committed,
    record::{Offset, TopicPartition},
    source::PartitionReader,
};

/// As whom we appear at the broker.
const CLIENT_ID: &str = "longshore-inspect";
/// What is read of a partition to see how old its oldest unfinished record is; a batch at least.
const PEEK_BYTES: usize = 64 << 10;
/// As often it is looked for that record.
const MOST_PEEKS: usize = 8;
/// The most that a batch may be when it is inflated.
const MOST_INFLATED_BYTES: usize = 32 << 20;

/// Why a group cannot be looked at.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// Kafka cannot be reached, or refuses.
    #[error("{reason}")]
    Unavailable {
        /// What happened, and what to do about it.
        reason: String,
    },
    /// Nobody is in it, and it keeps nothing.
    #[error("there is no group {group}: nobody is in it, and it keeps no offsets")]
    NoGroup {
        /// Which.
        group: String,
    },
    /// A topic that was named is not there.
    #[error("there is no topic {topic}")]
    NoTopic {
        /// Which.
        topic: String,
    },
}

impl From<WireError> for InspectError {
    fn from(error: WireError) -> Self {
        Self::Unavailable { reason: with_causes(&error) }
    }
}

/// Looks at a group: at these topics, or at all that it keeps offsets of. Takes a few of the wire client's deadlines at the
/// most (10 s each).
///
/// # Errors
/// Kafka cannot be reached or refuses, or there is nothing to look at.
pub async fn inspect(connection: &Connection, topics: &[String]) -> Result<GroupReport, InspectError> {
    let Connection { brokers, group, security } = connection;
    let cluster = Cluster::new(brokers.clone(), CLIENT_ID, Deadlines::default()).with_security(security.clone());
    let view = cluster.group(group).await?;
    let kept = cluster.all_offsets(group).await?;
    if kept.is_empty() && view.members.is_empty() && topics.is_empty() {
        return Err(InspectError::NoGroup { group: group.clone() });
    }
    let mut by_topic: BTreeMap<Arc<str>, BTreeMap<i32, Committed>> = BTreeMap::new();
    for (TopicPartition { topic, partition }, committed) in kept {
        by_topic.entry(topic).or_default().insert(partition, committed);
    }
    let names: BTreeSet<Arc<str>> = match topics {
        [] => by_topic.keys().cloned().gather(),
        named => named.iter().map(|name| name.as_str().into()).gather(),
    };
    let mut reports = Vec::new();
    for name in names {
        let committed = by_topic.remove(&name).unwrap_or_default();
        let view = cluster.topic(&name).await?;
        if view.is_none() && !topics.is_empty() {
            return Err(InspectError::NoTopic { topic: name.to_string() });
        }
        reports.push(look_at(&cluster, name, view, committed).await);
    }
    Ok(GroupReport::new(group, view, reports))
}

async fn look_at(
    cluster: &Cluster,
    name: Arc<str>,
    view: Option<TopicView>,
    committed: BTreeMap<i32, Committed>,
) -> TopicReport {
    let Some(view) = view else {
        return TopicReport::without_topic(&name, &committed, "the topic is not there any more".to_owned());
    };
    let partitions: Vec<i32> = view.partitions.iter().map(|view| view.partition).collect();
    let (starts, ends) = match tokio::try_join!(
        cluster.offsets(&name, &partitions, At::Earliest),
        cluster.offsets(&name, &partitions, At::Latest)
    ) {
        Ok(bounds) => bounds,
        Err(error) => return TopicReport::without_topic(&name, &committed, with_causes(&error)),
    };
    let readers = WireReaders::new(cluster, Isolation::ReadUncommitted, MOST_INFLATED_BYTES);
    let reports = partitions.into_iter().map(|partition| {
        let (start, end) = (starts[&partition], ends[&partition]);
        let facts = Facts::new(view.id, partition, committed.get(&partition), start, end);
        let reader = readers.partition(Arc::new(TopicPartition::new(Arc::clone(&name), partition)), view.id);
        async move {
            let oldest = match facts.oldest_unfinished() {
                Some(from) => peek(reader, from, &facts).await,
                None => None,
            };
            facts.report(oldest, now_ms())
        }
    });
    TopicReport::new(&name, view.id, join_all(reports).await)
}

/// The first record that is unfinished, with its timestamp; a few fetches, so that `None` is no proof that there is none. An
/// answer may have had no room for this partition beside others, or hold only what is finished.
async fn peek(mut reader: impl PartitionReader, mut from: Offset, facts: &Facts) -> Option<(Offset, i64)> {
    for _ in 0..MOST_PEEKS {
        let batch = reader.fetch(from, PEEK_BYTES, Duration::ZERO).await;
        let batch =
            batch.map_err(|error| tracing::debug!(%error, "the oldest unfinished record cannot be read")).ok()?;
        if let Some(unfinished) = batch.records.into_iter().find(|record| !facts.is_finished(record.offset)) {
            return Some((unfinished.offset, unfinished.timestamp_ms));
        }
        from = batch.next;
    }
    None
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
