//! Progress as the committed offsets of a consumer group: what standard tools see.
//!
//! Two processes on the same partitions would each undo what the other commits. A group without members does not stop
//! them, so this store looks before each commit: what the group keeps must be what this store last loaded or committed.
//!
//! ```text
//!            load                    commit: acknowledged
//!  unknown ────────▶ ours = kept ◀──────────────────────── ours = kept, sent = new
//!                        │                                        │
//!                        └──── commit: what is kept is ours ──────┤ commit: no answer
//!                                                                 ▼
//!                                        kept is ours or any of `sent`: both are our doing
//! ```
//!
//! A commit that was not acknowledged may have been kept, or be kept later, when a stopped broker goes on. So its value
//! counts as ours until a look at the group has shown the value of a later commit that was acknowledged.
//!
//! An offset that has vanished (expired, or deleted by hand) is committed again, with a warning: where this run stands is
//! known, and nobody's work is undone.
//!
//! Between look and commit there is a gap; two processes that start at once may each commit once before they notice.

pub(super) mod halves;

use std::{collections::BTreeMap, sync::Arc};

use futures::FutureExt;
use kafka_protocol::ResponseError;

use super::{
    wire::{Cluster, ErrorCode, WireError},
    with_causes,
};
use crate::{
    gather::Gather,
    offsets::{Commits, OffsetStore, StoreError},
    record::{Offset, TopicId, TopicPartition},
};

/// What stands in [`StoreError::Foreign`] for "we committed nothing, and found nothing", as Kafka writes it.
const NOTHING: Offset = Offset(-1);

/// The most commits without an answer that are remembered for a partition; of more, the oldest is forgotten.
const MAX_SENT: usize = 64;

/// The committed offsets of one group.
#[derive(Debug)]
pub struct KafkaOffsets {
    cluster: Cluster,
    group: Arc<str>,
    /// By topic and partition.
    known: BTreeMap<Arc<str>, BTreeMap<i32, Known>>,
}

/// What may be kept for a partition by our own doing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Known {
    /// What we loaded, or last committed for sure.
    ours: Option<Offset>,
    /// What we tried to commit without an answer, and may be kept now or later.
    sent: Vec<Offset>,
}

impl Known {
    /// What is not kept at all was ours, too: there is nobody whose work could be undone.
    fn is_ours(&self, kept: Option<Offset>) -> bool {
        kept == self.ours || kept.is_none_or(|offset| self.sent.contains(&offset))
    }

    /// What is kept was looked up, and is ours. If it is what was acknowledged last, no older commit is under way any more.
    fn seen(&mut self, kept: Option<Offset>) {
        if kept == self.ours {
            self.sent.clear();
        }
    }

    fn sending(&mut self, offset: Offset) {
        if self.sent.last() != Some(&offset) {
            self.sent.push(offset);
        }
        if self.sent.len() > MAX_SENT {
            self.sent.remove(0);
        }
    }

    fn acknowledged(&mut self, offset: Offset) {
        // What was sent before may still arrive, after this one: it stays ours until `seen`.
        self.ours = Some(offset);
    }
}

impl KafkaOffsets {
    /// The offsets that `group` keeps.
    #[must_use]
    pub fn new(cluster: Cluster, group: impl Into<Arc<str>>) -> Self {
        Self { cluster, group: group.into(), known: BTreeMap::new() }
    }

    async fn fetch(&self, partitions: &BTreeMap<Arc<str>, Vec<i32>>) -> Result<Commits, StoreError> {
        let mut kept = Commits::new();
        for (topic, partitions) in partitions {
            let of_topic = self.cluster.offset_fetch(&self.group, topic, partitions).await;
            kept.insert(Arc::clone(topic), of_topic.map_err(|error| self.explain(&error))?);
        }
        Ok(kept)
    }

    async fn send(&self, commits: &Commits) -> Result<(), StoreError> {
        for (topic, commits) in commits {
            let send = |part| async move { self.cluster.offset_commit(&self.group, topic, &part).await }.boxed();
            halves::commit(commits.clone(), send).await.map_err(|error| self.explain(&error))?;
        }
        Ok(())
    }

    /// Whether what is kept is our doing.
    fn check(&mut self, topic: &Arc<str>, partition: i32, theirs: Option<Offset>) -> Result<(), StoreError> {
        let known = self.known.entry(Arc::clone(topic)).or_default();
        let known = known.entry(partition).or_insert_with(|| Known { ours: theirs, sent: Vec::new() });
        if theirs.is_none() && known.ours.is_some() {
            tracing::warn!(
                topic = &**topic,
                partition,
                ours = %known.ours.unwrap_or(NOTHING),
                "the group's offset is gone (it expired, or was deleted): committing it again"
            );
        }
        if known.is_ours(theirs) {
            return Ok(());
        }
        let partition = TopicPartition::new(Arc::clone(topic), partition);
        Err(StoreError::Foreign { partition, ours: known.ours.unwrap_or(NOTHING), theirs })
    }

    fn known(&mut self, topic: &Arc<str>, partition: i32) -> &mut Known {
        self.known.entry(Arc::clone(topic)).or_default().entry(partition).or_default()
    }

    fn explain(&self, error: &WireError) -> StoreError {
        let mut reason = with_causes(error);
        if error.code().is_some_and(ErrorCode::is_live_group) {
            let group = &self.group;
            reason = format!(
                "group {group} has live members now, which alone may commit for it: stop them, or choose another group \
                 ({reason})"
            );
            return StoreError::Refused { reason };
        }
        if is_too_large(error) {
            return StoreError::MetadataTooLarge { reason };
        }
        // Only what somebody has to change is final. An answer that is odd once may not be so the next time.
        let is = |known: ResponseError| error.code().is_some_and(|code| code.is(known));
        if error.is_refusal() || is(ResponseError::InvalidGroupId) || is(ResponseError::GroupIdNotFound) {
            return StoreError::Refused { reason };
        }
        StoreError::Unavailable { reason }
    }
}

/// Whether a coordinator does not take the metadata of a partition for its length.
pub(super) fn is_too_large(error: &WireError) -> bool {
    let is = |known: ResponseError| error.code().is_some_and(|code| code.is(known));
    is(ResponseError::OffsetMetadataTooLarge) || is(ResponseError::InvalidCommitOffsetSize)
}

impl OffsetStore for KafkaOffsets {
    async fn load(&mut self, partitions: &BTreeMap<Arc<str>, Vec<i32>>) -> Result<Commits, StoreError> {
        let kept = self.fetch(partitions).await?;
        for (topic, partitions) in partitions {
            for partition in partitions {
                let ours = kept.get(topic).and_then(|kept| kept.get(partition)).map(|committed| committed.offset);
                *self.known(topic, *partition) = Known { ours, sent: Vec::new() };
            }
        }
        Ok(kept)
    }

    /// Kafka forgets the offsets of a topic that is deleted; where it has not done so yet, they are of no use either.
    fn renew(&mut self, topic: &str, _: TopicId) {
        self.known.remove(topic);
    }

    /// All or none of a topic, as far as one request carries them (hundreds of thousands without metadata, 40 with full
    /// metadata). A partition that was never loaded is not compared the first time.
    async fn commit(&mut self, commits: &Commits) -> Result<(), StoreError> {
        let partitions = |commits: &BTreeMap<i32, _>| commits.keys().copied().collect();
        let asked = commits.iter().map(|(topic, commits)| (Arc::clone(topic), partitions(commits)));
        let kept = self.fetch(&asked.gather()).await?;
        let kept = |topic: &Arc<str>, partition| Some(kept.get(topic)?.get(partition)?.offset);
        let all = || commits.iter().flat_map(|(topic, commits)| commits.iter().map(move |(p, c)| (topic, p, c.offset)));
        for (topic, partition, _) in all() {
            self.check(topic, *partition, kept(topic, partition))?;
        }
        for (topic, partition, offset) in all() {
            let known = self.known(topic, *partition);
            known.seen(kept(topic, partition));
            known.sending(offset);
        }
        // From here on this future may be dropped, or fail, at any time: what is on its way counts as ours.
        self.send(commits).await?;
        for (topic, partition, offset) in all() {
            self.known(topic, *partition).acknowledged(offset);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::{OffsetCommitRequest, OffsetFetchRequest};

    use super::*;
    use crate::{
        kafka::wire::scripted::{Reply, cluster},
        offsets::Committed,
        record::LeaderEpoch,
    };

    fn commit(offset: i64) -> Commits {
        let committed = Committed { offset: Offset(offset), leader_epoch: LeaderEpoch(3), metadata: String::new() };
        [("t".into(), [(0, committed)].into())].into()
    }

    /// What the group keeps for the partition.
    async fn load(store: &mut KafkaOffsets) -> Option<Offset> {
        let kept = store.load(&[("t".into(), vec![0])].into()).await.unwrap();
        kept["t"].get(&0).map(|committed| committed.offset)
    }

    /// A group that keeps what it is told to; to the `n`th commit it does what `answers[n]` says.
    async fn store(answers: Vec<Answer>) -> KafkaOffsets {
        let (mut kept, mut answers) = (-1, answers.into_iter());
        let cluster = cluster(move |asked| {
            if asked.is::<OffsetFetchRequest>() {
                return asked.kept(kept);
            }
            if !asked.is::<OffsetCommitRequest>() {
                return asked.quiet();
            }
            let offset = asked.body::<OffsetCommitRequest>().topics[0].partitions[0].committed_offset;
            match answers.next() {
                None | Some(Answer::Keep) => kept = offset,
                Some(Answer::KeepSilently) => {
                    kept = offset;
                    // The rest of this call finds nobody either.
                    answers = vec![Answer::Lose; 8].into_iter();
                    return Reply::Silence;
                }
                Some(Answer::Lose) => return Reply::Silence,
                Some(Answer::KeepAnother(another)) => kept = another,
                Some(Answer::Refuse(code)) => return asked.committed(code),
            }
            asked.committed(0)
        })
        .await;
        KafkaOffsets::new(cluster, "g")
    }

    #[derive(Clone)]
    enum Answer {
        Keep,
        KeepSilently,
        Lose,
        KeepAnother(i64),
        Refuse(i16),
    }

    #[tokio::test]
    async fn a_commit_of_somebody_else_is_noticed_before_ours() {
        let mut store = store(vec![Answer::Keep, Answer::KeepAnother(3), Answer::Keep]).await;
        assert_eq!(load(&mut store).await, None);
        store.commit(&commit(10)).await.unwrap();
        store.commit(&commit(20)).await.unwrap();
        let error = store.commit(&commit(30)).await.unwrap_err();
        assert!(matches!(error, StoreError::Foreign { ours: Offset(20), theirs: Some(Offset(3)), .. }), "{error}");
        assert!(error.to_string().starts_with("partition t-0: "), "{error}");
    }

    #[tokio::test]
    async fn what_was_kept_without_an_answer_is_ours() {
        let mut store = store(vec![Answer::Keep, Answer::KeepSilently]).await;
        load(&mut store).await;
        store.commit(&commit(10)).await.unwrap();
        let error = store.commit(&commit(20)).await.unwrap_err();
        assert!(matches!(error, StoreError::Unavailable { .. }), "{error}");
        // As many of the lost answers as are left; then the group is well again.
        while let Err(error) = store.commit(&commit(30)).await {
            assert!(matches!(error, StoreError::Unavailable { .. }), "{error}");
        }
        assert_eq!(load(&mut store).await, Some(Offset(30)));
    }

    #[tokio::test]
    async fn a_group_with_members_refuses_for_good() {
        let mut store = store(vec![Answer::Refuse(25)]).await;
        let error = store.commit(&commit(10)).await.unwrap_err();
        let StoreError::Refused { reason } = error else { panic!("{error}") };
        assert!(reason.starts_with("group g has live members now"), "{reason}");
    }

    fn at(offset: i64) -> Option<Offset> {
        Some(Offset(offset))
    }

    #[test]
    fn what_was_acknowledged_is_ours_and_nothing_else() {
        let mut known = Known { ours: at(5), sent: vec![] };
        assert!(known.is_ours(at(5)) && !known.is_ours(at(6)));
        known.seen(at(5));
        known.sending(Offset(9));
        known.acknowledged(Offset(9));
        known.seen(at(9));
        assert!(known.is_ours(at(9)) && !known.is_ours(at(5)));
    }

    #[test]
    fn a_commit_without_an_answer_may_have_been_kept_or_not() {
        let mut known = Known { ours: at(5), sent: vec![] };
        known.sending(Offset(7));
        assert!(known.is_ours(at(5)) && known.is_ours(at(7)) && !known.is_ours(at(6)));
        // It was: and a later one is acknowledged.
        known.seen(at(7));
        known.sending(Offset(9));
        known.acknowledged(Offset(9));
        // The first may have been delayed and arrive only now.
        assert!(known.is_ours(at(9)) && known.is_ours(at(7)));
        known.seen(at(9));
        assert!(!known.is_ours(at(7)));
    }

    #[test]
    fn nothing_kept_is_a_state_too() {
        let mut known = Known::default();
        assert!(known.is_ours(None) && !known.is_ours(at(0)));
        known.sending(Offset(0));
        known.acknowledged(Offset(0));
        known.seen(at(0));
        assert!(known.is_ours(None), "the offsets of the group expired: nobody else's are there to be overwritten");
    }
}
