//! A member of which the group wants nothing: why, for the log; and with `--until-end`, when that is the end.
//!
//! ```text
//!   at rest, nothing held ──why──▶ a line in the log ──finished──▶ all that was there is worked off ──▶ Deal::Nothing
//!                                       │ partitions are dealt to us after all: given up, wherever it stands
//! ```
//!
//! Nothing held does not say that nothing is left: who holds it may be working, or dead and not missed yet.
//!
//! Deliberately not here: what ends a member that has had partitions; that is the scheduler's to know.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use super::look::{Looked, look};
use crate::{
    config::Config,
    gather::Gather,
    kafka::{
        Isolation,
        wire::{At, Cluster, WireError},
        with_causes,
    },
    record::{Offset, TopicPartition},
};

/// How often it is looked whether the others are done.
const LOOK: Duration = Duration::from_millis(500);

/// What has been found out about having nothing.
pub(super) enum Idle {
    /// Why that is.
    Because(String),
    /// All is worked off that was there.
    Finished,
}

/// Why there is nothing for this member.
pub(super) async fn why(config: &Config, cluster: &Cluster) -> Idle {
    let counts = async {
        let members = cluster.group(&config.group).await.map_err(|error| with_causes(&error))?.members.len();
        Ok::<_, String>((members, partitions(config, cluster).await?.len()))
    };
    Idle::Because(match counts.await {
        Ok((_, 0)) => "no partition of the topics is there yet".to_owned(),
        Ok((members, partitions)) if members > partitions => {
            format!("{members} members share {partitions} partitions, and each partition has one member")
        }
        Ok((members, partitions)) => {
            format!("{members} members share {partitions} partitions, and the others have not let go of theirs yet")
        }
        Err(error) => {
            tracing::debug!(error, "cannot find out why this member has nothing");
            "the others hold all partitions".to_owned()
        }
    })
}

/// Waits until the group has committed all that is there now.
pub(super) async fn finished(config: &Config, cluster: &Cluster) -> Idle {
    let ends = patiently(|| ends(config, cluster)).await;
    let wanted: BTreeSet<_> = ends.iter().map(|(at, ..)| at.clone()).gather();
    loop {
        let committed = cluster.offset_fetch_of(&config.group, None, &wanted).await;
        let is_done = committed.is_ok_and(|committed| {
            ends.iter().all(|(at, begin, end)| end <= begin || committed.get(at).is_some_and(|c| c.offset >= *end))
        });
        if is_done {
            return Idle::Finished;
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn patiently<T, F: Future<Output = Result<T, String>>>(ask: impl Fn() -> F) -> T {
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(error) => tracing::debug!(error, "cannot see what there is to be worked off, trying again"),
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Each partition of the topics, with where its log begins and ends.
async fn ends(config: &Config, cluster: &Cluster) -> Result<Vec<(TopicPartition, Offset, Offset)>, String> {
    let end = match config.isolation {
        Isolation::ReadUncommitted => At::Latest,
        Isolation::ReadCommitted => At::Stable,
    };
    let all = partitions(config, cluster).await?;
    let mut ends = Vec::with_capacity(all.len());
    for of_topic in all.chunk_by(|one, next| one.topic == next.topic) {
        let (topic, numbers) = (&of_topic[0].topic, of_topic.iter().map(|at| at.partition).collect::<Vec<_>>());
        let words = |error: WireError| with_causes(&error);
        let first = cluster.offsets(topic, &numbers, At::Earliest).await.map_err(words)?;
        let last = cluster.offsets(topic, &numbers, end).await.map_err(words)?;
        ends.extend(of_topic.iter().map(|at| (at.clone(), first[&at.partition], last[&at.partition])));
    }
    Ok(ends)
}

/// All partitions that the group shares, as far as we subscribe to them.
async fn partitions(config: &Config, cluster: &Cluster) -> Result<Vec<TopicPartition>, String> {
    let named: BTreeSet<Arc<str>> = config.topics.iter().map(|topic| topic.as_str().into()).gather();
    let Looked { topics, matching } = look(cluster, config, named.clone()).await?;
    let subscribed = matching.unwrap_or(named);
    let of_each = topics
        .iter()
        .filter(|(topic, _)| subscribed.contains(*topic))
        .flat_map(|(topic, (_, count))| (0..*count).map(move |number| TopicPartition::new(Arc::clone(topic), number)));
    Ok(of_each.collect())
}
