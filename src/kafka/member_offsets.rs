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

use futures::FutureExt;

use super::{
    offsets::{halves, is_too_large},
    wire::{Cluster, Identity, NotKept, WireError},
    with_causes,
};
use crate::{
    gather::Gather,
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
        load(&self.cluster, &self.group, &self.identity()?, &wanted.gather()).await.map_err(|error| explain(&error))
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
        let (cluster, group, identity) = (&self.cluster, &self.group, &identity);
        let send = |part| async move { cluster.offset_commit_of(group, Some(identity), &part).await }.boxed();
        let sent = halves::commit(flat.gather(), send).await.map_err(|error| explain(&error))?;
        let mut errors = sent.into_iter().flat_map(NotKept::into_values).peekable();
        let Some(first) = errors.peek().map(explain) else { return Ok(()) };
        // What can be mended by us goes before what cannot.
        Err(errors.find(is_too_large).as_ref().map_or(first, explain))
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
    if is_too_large(error) {
        return StoreError::MetadataTooLarge { reason };
    }
    if error.is_refusal() { StoreError::Refused { reason } } else { StoreError::Unavailable { reason } }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::{
        OffsetCommitRequest, OffsetCommitResponse,
        offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic},
    };

    use super::*;
    use crate::{
        kafka::wire::{Epoch, scripted},
        offsets::Committed,
        record::{LeaderEpoch, Offset},
        standing::State,
    };

    /// A member of generation 3 at a coordinator that says this of all partitions of a commit of more than `most`.
    async fn member(most: usize, code: i16) -> MemberOffsets {
        let cluster = scripted::cluster(move |asked: &scripted::Asked| {
            if !asked.is::<OffsetCommitRequest>() {
                return asked.quiet();
            }
            let request = asked.body::<OffsetCommitRequest>();
            assert_eq!(request.generation_id_or_member_epoch, 3);
            let code = if request.topics[0].partitions.len() > most { code } else { 0 };
            let topics = request.topics.into_iter().map(|topic| {
                let said = topic.partitions.iter().map(|p| {
                    let said = OffsetCommitResponsePartition::default();
                    said.with_partition_index(p.partition_index).with_error_code(code)
                });
                OffsetCommitResponseTopic::default().with_name(topic.name).with_partitions(said.collect())
            });
            asked.reply::<OffsetCommitRequest>(&OffsetCommitResponse::default().with_topics(topics.collect()))
        })
        .await;
        let identity = Identity { member: Arc::from("m"), instance: None, epoch: Epoch::Generation(3) };
        let state = State { era: 0, identity: Some(identity), good_until: None };
        MemberOffsets::new(cluster, "g", Standing::told(state).1)
    }

    fn ten() -> Commits {
        let at = Committed { offset: Offset(5), leader_epoch: LeaderEpoch(0), metadata: "m".to_owned() };
        Commits::from([(Arc::from("t"), (0..10).map(|partition| (partition, at.clone())).collect())])
    }

    #[tokio::test]
    async fn what_is_too_much_at_once_is_made_in_halves_for_a_member_too() {
        member(3, -1).await.commit(&ten()).await.unwrap();
        member(3, 28).await.commit(&ten()).await.unwrap();
    }

    #[tokio::test]
    async fn metadata_that_is_too_large_can_be_mended() {
        for code in [12, 28] {
            let refused = member(0, code).await.commit(&ten()).await;
            assert!(matches!(refused, Err(StoreError::MetadataTooLarge { .. })), "{code}: {refused:?}");
        }
    }

    #[tokio::test]
    async fn what_was_worked_off_before_a_loss_is_not_sent() {
        let mut member = member(10, 0).await;
        member.act_in(0);
        let identity = member.standing.identity(0);
        let (_tell, standing) = Standing::told(State { era: 1, identity, good_until: None });
        member.standing = standing;
        assert!(matches!(member.commit(&ten()).await, Err(StoreError::Unavailable { .. })));
        member.act_in(1);
        member.commit(&ten()).await.unwrap();
    }
}
