//! The offsets that a group keeps: OffsetCommit and OffsetFetch, for somebody outside the group and for its members.
//!
//! A commit of a member says who it is and in which epoch ([`Identity`]), so that a coordinator that has another member or
//! another epoch in its place refuses it as a whole. What is wrong with a single partition (its topic was deleted, or is
//! none of our business) keeps the others from nothing.
//!
//! Deliberately not here: what the metadata of a commit means.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use kafka_protocol::{
    ResponseError,
    messages::{
        OffsetCommitRequest, OffsetCommitResponse, OffsetFetchRequest, OffsetFetchResponse,
        offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic},
        offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics},
    },
    protocol::StrBytes,
};
use tokio::time::Instant;

use super::{Cluster, ErrorCode, WireError, cluster::Answer};
use crate::{
    gather::Gather,
    offsets::Committed,
    record::{LeaderEpoch, Offset, TopicPartition},
};

/// A commit of more than that fails as a whole: what the coordinator writes for it no longer fits into one batch.
const MAX_COMMIT_BYTES: usize = 480 << 10;

/// The member of a group on whose behalf offsets are committed and fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// As its coordinator knows it.
    pub member: Arc<str>,
    /// The name that it keeps over restarts, if it has one (KIP-345).
    pub instance: Option<Arc<str>>,
    /// Which of the group's assignments it acts under.
    pub epoch: Epoch,
}

/// What numbers the assignments of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Epoch {
    /// The group's generation, by the classic protocol.
    Generation(i32),
    /// The member's epoch, by KIP-848.
    Member(i32),
}

impl Epoch {
    fn number(self) -> i32 {
        match self {
            Self::Generation(number) | Self::Member(number) => number,
        }
    }
}

/// The partitions of a commit that were not kept, with the reason of each.
pub type NotKept = BTreeMap<TopicPartition, WireError>;

impl Cluster {
    /// What `group` has committed for these partitions; those without a commit are left out.
    ///
    /// # Errors
    /// No coordinator in time, or we may not see group or topic.
    pub async fn offset_fetch(
        &self,
        group: &str,
        topic: &str,
        partitions: &[i32],
    ) -> Result<BTreeMap<i32, Committed>, WireError> {
        let topic: Arc<str> = topic.into();
        let wanted = partitions.iter().map(|partition| TopicPartition::new(Arc::clone(&topic), *partition)).gather();
        let fetched = self.offset_fetch_of(group, None, &wanted).await?;
        Ok(fetched.into_iter().map(|(at, committed)| (at.partition, committed)).gather())
    }

    /// The same for partitions of several topics, on behalf of a member if there is one. A member of a KIP-848 group is told
    /// if its epoch is not the coordinator's (STALE_MEMBER_EPOCH, UNKNOWN_MEMBER_ID); the classic protocol lets anybody look.
    ///
    /// An offset that a transaction is about to commit is waited for (UNSTABLE_OFFSET_COMMIT, KIP-447), which may pass.
    ///
    /// # Errors
    /// As [`offset_fetch`](Self::offset_fetch).
    pub async fn offset_fetch_of(
        &self,
        group: &str,
        on_behalf: Option<&Identity>,
        wanted: &BTreeSet<TopicPartition>,
    ) -> Result<BTreeMap<TopicPartition, Committed>, WireError> {
        self.retrying(|until| {
            let build = |version| fetch_request(version, group, on_behalf, wanted);
            self.ask_coordinator(group, until, 1, build, move |answer| read_fetched(&answer, group, wanted))
        })
        .await
    }

    /// Commits for `group`, which must have no members. As several requests where one would grow too large for the
    /// broker: after an error some of them may have been carried out.
    ///
    /// # Errors
    /// No coordinator in time, we may not, or the group has members ([`ErrorCode::is_live_group`]).
    pub async fn offset_commit(
        &self,
        group: &str,
        topic: &str,
        commits: &BTreeMap<i32, Committed>,
    ) -> Result<(), WireError> {
        let topic: Arc<str> = topic.into();
        let commits = commits.iter().map(|(partition, c)| (TopicPartition::new(Arc::clone(&topic), *partition), c));
        for commits in split(group, commits, MAX_COMMIT_BYTES) {
            let commits = &commits;
            self.retrying(|until| async move {
                let refused = self.commit_once(group, None, commits, until).await?;
                refused.into_values().next().map_or(Ok(()), Err)
            })
            .await?;
        }
        Ok(())
    }

    /// Commits for partitions of several topics, on behalf of a member if there is one. As several requests where one would
    /// grow too large: after an error some of them may have been carried out.
    ///
    /// What comes back are the partitions that the coordinator did not keep, because of what it has against each of them;
    /// it keeps the others.
    ///
    /// # Errors
    /// No coordinator in time, we may not, or it is not the member's to commit: it is unknown (UNKNOWN_MEMBER_ID), of another
    /// epoch (ILLEGAL_GENERATION, STALE_MEMBER_EPOCH), replaced (FENCED_INSTANCE_ID), or the group is just forming anew
    /// (REBALANCE_IN_PROGRESS).
    pub async fn offset_commit_of(
        &self,
        group: &str,
        on_behalf: Option<&Identity>,
        commits: &BTreeMap<TopicPartition, Committed>,
    ) -> Result<NotKept, WireError> {
        let mut not_kept = NotKept::new();
        for commits in split(group, commits.iter().map(|(at, c)| (at.clone(), c)), MAX_COMMIT_BYTES) {
            let commits = &commits;
            not_kept.extend(self.retrying(|until| self.commit_once(group, on_behalf, commits, until)).await?);
        }
        Ok(not_kept)
    }

    async fn commit_once(
        &self,
        group: &str,
        on_behalf: Option<&Identity>,
        commits: &[Commit<'_>],
        until: Instant,
    ) -> Result<NotKept, WireError> {
        let least = match on_behalf {
            Some(Identity { epoch: Epoch::Member(_), .. }) => MEMBER_EPOCHS,
            Some(Identity { instance: Some(_), .. }) => INSTANCES,
            _ => 2,
        };
        let build = |_| commit_request(group, on_behalf, commits);
        self.ask_coordinator(group, until, least, build, |answer| read_committed(&answer, group, commits)).await
    }
}

/// The first version of OffsetCommit that carries an instance id.
const INSTANCES: i16 = 7;
/// The first version of OffsetCommit, and of OffsetFetch, that carries the epoch of a member.
const MEMBER_EPOCHS: i16 = 9;

/// What is committed, and where.
type Commit<'a> = (TopicPartition, &'a Committed);

fn string(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// What is to be asked of each topic. Partitions are in the order of their topics.
fn by_topic<'a, T>(all: impl Iterator<Item = (&'a TopicPartition, T)>) -> Vec<(&'a str, Vec<T>)> {
    let mut topics: Vec<(&str, Vec<T>)> = Vec::new();
    for (at, what) in all {
        match topics.last_mut().filter(|(topic, _)| **topic == *at.topic) {
            Some((_, partitions)) => partitions.push(what),
            None => topics.push((&at.topic, vec![what])),
        }
    }
    topics
}

/// Asks for what is decided: an offset of a pending transaction is UNSTABLE_OFFSET_COMMIT, which passes.
fn fetch_request(
    version: i16,
    group: &str,
    on_behalf: Option<&Identity>,
    wanted: &BTreeSet<TopicPartition>,
) -> OffsetFetchRequest {
    let topics = by_topic(wanted.iter().map(|at| (at, at.partition)));
    let request = OffsetFetchRequest::default().with_require_stable(version >= 7);
    if version < 8 {
        let topics = topics.into_iter().map(|(topic, partitions)| {
            OffsetFetchRequestTopic::default().with_name(string(topic).into()).with_partition_indexes(partitions)
        });
        return request.with_group_id(string(group).into()).with_topics(Some(topics.collect()));
    }
    let topics = topics.into_iter().map(|(topic, partitions)| {
        OffsetFetchRequestTopics::default().with_name(string(topic).into()).with_partition_indexes(partitions)
    });
    let asked =
        OffsetFetchRequestGroup::default().with_group_id(string(group).into()).with_topics(Some(topics.collect()));
    let asked = match on_behalf {
        Some(Identity { member, epoch: Epoch::Member(epoch), .. }) if version >= MEMBER_EPOCHS => {
            asked.with_member_id(Some(string(member))).with_member_epoch(*epoch)
        }
        _ => asked,
    };
    request.with_groups(vec![asked])
}

fn read_fetched(
    answer: &Answer<OffsetFetchResponse>,
    group: &str,
    wanted: &BTreeSet<TopicPartition>,
) -> Result<BTreeMap<TopicPartition, Committed>, WireError> {
    let mut fetched = BTreeMap::new();
    let mut add = |topic: &str, partition: i32, code, offset, epoch, metadata: Option<&StrBytes>| {
        let at = TopicPartition::new(topic, partition);
        if !wanted.contains(&at) {
            return Ok(());
        }
        answer.check(code, || format!("{at} of group {group}"))?;
        if offset >= 0 {
            let metadata = metadata.map(ToString::to_string).unwrap_or_default();
            fetched.insert(at, Committed { offset: Offset(offset), leader_epoch: LeaderEpoch(epoch), metadata });
        }
        Ok(())
    };
    // A group that is not there has committed nothing.
    let missing = |code| ErrorCode(code).is(ResponseError::GroupIdNotFound);
    let code = answer.response.groups.first().map_or(answer.response.error_code, |group| group.error_code);
    if missing(code) {
        return Ok(fetched);
    }
    answer.check(code, || format!("group {group}"))?;
    for topic in &answer.response.topics {
        for p in &topic.partitions {
            let (code, metadata) = (p.error_code, p.metadata.as_ref());
            add(&topic.name, p.partition_index, code, p.committed_offset, p.committed_leader_epoch, metadata)?;
        }
    }
    for topic in answer.response.groups.iter().flat_map(|group| &group.topics) {
        for p in &topic.partitions {
            let (code, metadata) = (p.error_code, p.metadata.as_ref());
            add(&topic.name, p.partition_index, code, p.committed_offset, p.committed_leader_epoch, metadata)?;
        }
    }
    Ok(fetched)
}

fn commit_request(group: &str, on_behalf: Option<&Identity>, commits: &[Commit<'_>]) -> OffsetCommitRequest {
    let partition = |at: &TopicPartition, committed: &Committed| {
        OffsetCommitRequestPartition::default()
            .with_partition_index(at.partition)
            .with_committed_offset(committed.offset.0)
            .with_committed_leader_epoch(committed.leader_epoch.0)
            .with_committed_metadata(Some(string(&committed.metadata)))
    };
    let topics = by_topic(commits.iter().map(|(at, committed)| (at, partition(at, committed))));
    let topics = topics.into_iter().map(|(topic, partitions)| {
        OffsetCommitRequestTopic::default().with_name(string(topic).into()).with_partitions(partitions)
    });
    let request = OffsetCommitRequest::default().with_group_id(string(group).into()).with_topics(topics.collect());
    match on_behalf {
        Some(Identity { member, instance, epoch }) => request
            .with_member_id(string(member))
            .with_group_instance_id(instance.as_deref().map(string))
            .with_generation_id_or_member_epoch(epoch.number()),
        // Generation -1 and no member: the commit of someone who is not in the group.
        None => request.with_generation_id_or_member_epoch(-1),
    }
}

/// What a coordinator has against the commit as a whole, it says of each partition.
fn read_committed(
    answer: &Answer<OffsetCommitResponse>,
    group: &str,
    commits: &[Commit<'_>],
) -> Result<NotKept, WireError> {
    let mut said = BTreeMap::new();
    for topic in &answer.response.topics {
        for p in &topic.partitions {
            said.insert(TopicPartition::new(topic.name.as_str(), p.partition_index), p.error_code);
        }
    }
    let mut not_kept = NotKept::new();
    for (at, _) in commits {
        let Some(code) = said.get(at) else { return Err(answer.lacks(format_args!("partition {at}"))) };
        match answer.check(*code, || format!("{at} of group {group}")) {
            Ok(()) => {}
            Err(error) if is_of_one_partition(ErrorCode(*code)) => {
                not_kept.insert(at.clone(), error);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(not_kept)
}

/// Whether the coordinator keeps the other partitions of the same commit.
fn is_of_one_partition(code: ErrorCode) -> bool {
    use ResponseError as E;
    let known = [E::UnknownTopicOrPartition, E::UnknownTopicId, E::TopicAuthorizationFailed, E::OffsetMetadataTooLarge];
    known.into_iter().any(|error| code.is(error))
}

/// Cuts `commits` into requests of at most `max_bytes` (but of one partition at least), as the coordinator counts them: it
/// writes a record for each partition, which names group and topic.
fn split<'a>(group: &str, commits: impl Iterator<Item = Commit<'a>>, max_bytes: usize) -> Vec<Vec<Commit<'a>>> {
    /// Partition, offset, epoch, times, lengths, and what is around a record.
    const FIXED: usize = 64;
    let mut requests: Vec<Vec<Commit<'_>>> = Vec::new();
    let mut room = 0;
    for (at, committed) in commits {
        let size = FIXED + group.len() + at.topic.len() + committed.metadata.len();
        if size > room || requests.is_empty() {
            requests.push(Vec::new());
            room = max_bytes;
        }
        room = room.saturating_sub(size);
        requests.last_mut().expect("one was just pushed").push((at, committed));
    }
    requests
}

#[cfg(test)]
mod tests;
