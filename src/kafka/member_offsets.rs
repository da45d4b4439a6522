//! Progress as the committed offsets of a group that we are a member of.
//!
//! The coordinator takes a commit only from a member, under its epoch, so that nobody has to be looked for, as
//! [`offsets`](super::offsets) does. What it does not see is ours to see to: a member that has lost everything and has
//! joined again must not commit what it worked off before. So each commit is of an era (`standing.rs`), and one of an
//! earlier era is not sent.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use kafka_protocol::ResponseError;

use super::{
    wire::{Cluster, Identity, WireError},
    with_causes,
};
use crate::{
    offsets::{Commits, OffsetStore, StoreError},
    record::{TopicId, TopicPartition},
    standing::{Era, Standing},
};

/// The committed offsets of a group, for a member of it.
#[derive(Debug)]
pub(crate) struct MemberOffsets {
    cluster: Cluster,
    group: Arc<str>,
    standing: Standing,
    era: Era,
}

impl MemberOffsets {
    pub(crate) fn new(cluster: Cluster, group: impl Into<Arc<str>>, standing: Standing) -> Self {
        Self { cluster, group: group.into(), standing, era: 0 }
    }

    fn identity(&self) -> Result<Identity, StoreError> {
        let reason = || "not a member of the group just now".to_owned();
        self.standing.identity(self.era).ok_or_else(|| StoreError::Unavailable { reason: reason() })
    }
}

impl OffsetStore for MemberOffsets {
    async fn load(&mut self, partitions: &BTreeMap<Arc<str>, Vec<i32>>) -> Result<Commits, StoreError> {
        let wanted = partitions
            .iter()
            .flat_map(|(topic, numbers)| numbers.iter().map(|number| TopicPartition::new(Arc::clone(topic), *number)));
        load(&self.cluster, &self.group, &self.identity()?, &wanted.collect()).await.map_err(|error| explain(&error))
    }

    /// Nothing is remembered of a topic here.
    fn renew(&mut self, _: &str, _: TopicId) {}

    fn act_in(&mut self, era: Era) {
        self.era = era;
    }

    async fn commit(&mut self, commits: &Commits) -> Result<(), StoreError> {
        let identity = self.identity()?;
        let flat = commits.iter().flat_map(|(topic, commits)| {
            commits.iter().map(|(number, kept)| (TopicPartition::new(Arc::clone(topic), *number), kept.clone()))
        });
        let sent = self.cluster.offset_commit_of(&self.group, Some(&identity), &flat.collect()).await;
        let refused: Vec<_> = sent.map_err(|error| explain(&error))?.into_values().collect();
        let too_large =
            |error: &&WireError| error.code().is_some_and(|code| code.is(ResponseError::OffsetMetadataTooLarge));
        match refused.iter().find(too_large).or(refused.first()) {
            None => Ok(()),
            Some(error) => Err(explain(error)),
        }
    }
}

/// What the group keeps for these partitions, as it tells a member.
pub(crate) async fn load(
    cluster: &Cluster,
    group: &str,
    identity: &Identity,
    partitions: &BTreeSet<TopicPartition>,
) -> Result<Commits, WireError> {
    let mut kept = Commits::new();
    for (at, committed) in cluster.offset_fetch_of(group, Some(identity), partitions).await? {
        kept.entry(at.topic).or_default().insert(at.partition, committed);
    }
    Ok(kept)
}

/// That we are no member any more, or of another epoch, is found out by heartbeats, and passes.
fn explain(error: &WireError) -> StoreError {
    let reason = with_causes(error);
    if error.code().is_some_and(|code| code.is(ResponseError::OffsetMetadataTooLarge)) {
        return StoreError::MetadataTooLarge { reason };
    }
    if error.is_refusal() { StoreError::Refused { reason } } else { StoreError::Unavailable { reason } }
}
