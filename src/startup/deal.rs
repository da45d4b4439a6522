//! Where partitions begin that the group has just dealt to us.

use std::{collections::BTreeSet, sync::Arc};

use futures::future::try_join_all;
use tokio::sync::watch;

use super::{
    Found, Trouble,
    begins::{Begun, Sharing},
    together,
};
use crate::{
    backoff::Backoff,
    config::Config,
    error::RunError,
    gather::Gather,
    kafka::{
        member_offsets,
        wire::{Cluster, Identity},
        with_causes,
    },
    loss::DataLoss,
    membership::exchange::ByName,
    record::{Offset, TopicPartition},
    scheduler::{Assignment, Taken},
    standing::State,
};

/// Partitions that are ours from now on, and where they begin.
#[derive(Debug, Default)]
pub(crate) struct Dealt {
    pub(crate) taken: Vec<Taken>,
    /// What is gone, and what the user wants to go on without.
    pub(crate) losses: Vec<DataLoss>,
    /// What was not there when its topic was first seen, has no offset yet, and begins there.
    pub(crate) added: Vec<(Arc<TopicPartition>, Offset)>,
    /// How many offsets lie between where we begin and the ends of the logs.
    pub(crate) lag: i64,
    /// How many offsets are known to be finished above where we begin.
    pub(crate) finished_above: u64,
}

impl Dealt {
    /// Leaves out all but these.
    pub(crate) fn keep(&mut self, wanted: &BTreeSet<TopicPartition>) {
        for taken in &mut self.taken {
            taken.assignments.retain(|assignment| wanted.contains(&*assignment.source));
        }
        self.taken.retain(|taken| !taken.assignments.is_empty());
        self.losses.retain(|loss| wanted.contains(&*loss.source));
        self.added.retain(|(source, _)| wanted.contains(&**source));
    }

    /// Says what is worked off from now on.
    pub(crate) fn tell(&self, config: &Config) {
        if !self.taken.is_empty() {
            super::tell(config, &self.taken, self.finished_above, self.lag);
        }
    }
}

/// Finds out where `wanted` begin, of which `added` were not there when their topics were first seen. Tries again for as long
/// as what is in the way may pass, and asks as whoever we are by then: the epoch may have moved on meanwhile, and a
/// coordinator of KIP-848 tells nothing to one of before.
///
/// # Errors
/// What will not pass.
pub(crate) async fn deal(
    config: &Config,
    cluster: &Cluster,
    mut standing: watch::Receiver<State>,
    wanted: &ByName,
    added: &BTreeSet<TopicPartition>,
) -> Result<Dealt, RunError> {
    let mut backoff = Backoff::new();
    loop {
        let identity = standing.borrow_and_update().identity.clone();
        let Some(identity) = identity else {
            if standing.changed().await.is_err() {
                // The steward is gone, and nobody waits for this.
                std::future::pending::<()>().await;
            }
            continue;
        };
        let reason = match attempt(config, cluster, &identity, wanted, added).await {
            Ok(dealt) => return Ok(dealt),
            Err(Trouble::Final(error)) => return Err(error),
            Err(Trouble::Passing(reason)) => reason,
        };
        let (wait, say) = backoff.fail();
        if say {
            tracing::warn!("cannot begin with new partitions, trying again: {reason}");
        }
        tokio::time::sleep(wait).await;
    }
}

async fn attempt(
    config: &Config,
    cluster: &Cluster,
    identity: &Identity,
    wanted: &ByName,
    added: &BTreeSet<TopicPartition>,
) -> Result<Dealt, Trouble> {
    let names: Vec<_> = wanted.keys().map(|name| &**name).collect();
    let views = cluster.topics(&names).await?;
    let mut found = Vec::new();
    for ((name, numbers), view) in wanted.iter().zip(views) {
        let view = view?.ok_or_else(|| Trouble::Passing(format!("there is no topic {name} any more")))?;
        found.push(Found { name: Arc::clone(name), view, partitions: numbers.iter().copied().collect() });
    }
    let all = found
        .iter()
        .flat_map(|topic| topic.partitions.iter().map(|number| TopicPartition::new(Arc::clone(&topic.name), *number)));
    let loaded = member_offsets::load(cluster, &config.group, identity, &all.gather()).await;
    // That our epoch is over is the membership's matter, and passes.
    let mut committed = loaded.map_err(|error| match error.is_refusal() {
        true => Trouble::from(error),
        false => Trouble::Passing(with_causes(&error)),
    })?;
    let begun = found.iter().map(|topic| {
        let of_topic = added.iter().filter(|at| at.topic == topic.name).map(|at| at.partition).gather();
        let committed = committed.remove(&topic.name).unwrap_or_default();
        topic.begin(config, cluster, committed, None, Sharing::Dealt(of_topic))
    });
    let (Begun { losses, known, .. }, taken, lag) = together(config, &found, try_join_all(begun).await?)?;
    let finished_above = known.tell(&taken);
    let new = |assignment: &&Assignment| assignment.committed.is_none() && added.contains(&*assignment.source);
    let all = taken.iter().flat_map(|taken| &taken.assignments);
    let added = all.filter(new).map(|assignment| (Arc::clone(&assignment.source), assignment.start)).collect();
    Ok(Dealt { taken, losses, added, lag, finished_above })
}
