//! Consumer groups: who is in them, and the offsets that they keep.

use std::collections::BTreeMap;

use kafka_protocol::{
    ResponseError,
    messages::{
        ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, DescribeGroupsRequest, DescribeGroupsResponse,
        OffsetCommitRequest, OffsetCommitResponse, OffsetFetchRequest, OffsetFetchResponse,
        offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic},
        offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics},
    },
    protocol::StrBytes,
};
use tokio::time::Instant;

use super::{Cluster, ErrorCode, WireError, cluster::Answer};
use crate::{
    offsets::Committed,
    record::{LeaderEpoch, Offset},
};

/// A commit of more than that fails as a whole: what the coordinator writes for it no longer fits into one batch.
const MAX_COMMIT_BYTES: usize = 480 << 10;

/// A group, as its coordinator sees it now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupView {
    /// `Stable`, `Empty`, `Dead` (which is also what a group is that never was), …
    pub state: String,
    /// `consumer` for consumer groups, empty for a group that only keeps offsets.
    pub protocol_type: String,
    /// Who is in it.
    pub members: Vec<GroupMember>,
}

impl GroupView {
    /// Whether somebody is in it, or just coming in. Then nobody else may commit.
    #[must_use]
    pub fn is_live(&self) -> bool {
        !self.members.is_empty() || matches!(&*self.state, "PreparingRebalance" | "CompletingRebalance")
    }
}

/// A member of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupMember {
    /// What the coordinator calls it.
    pub member_id: String,
    /// What it calls itself.
    pub client_id: String,
    /// Where it runs, as the broker sees it.
    pub host: String,
}

impl Cluster {
    /// Who is in `group`, by the classic protocol or by KIP-848's.
    ///
    /// # Errors
    /// No coordinator in time, or we may not see the group.
    pub async fn group(&self, group: &str) -> Result<GroupView, WireError> {
        self.retrying(|until| self.group_once(group, until)).await
    }

    async fn group_once(&self, group: &str, until: Instant) -> Result<GroupView, WireError> {
        let classic = |_| DescribeGroupsRequest::default().with_groups(vec![string(group).into()]);
        let view = self.ask_coordinator(group, until, 0, classic, |answer| read_classic(&answer, group)).await?;
        if view.is_live() || view.state != DEAD {
            return Ok(view);
        }
        // A KIP-848 group with members is no classic one: to DescribeGroups it does not exist.
        let consumer = |_| ConsumerGroupDescribeRequest::default().with_group_ids(vec![string(group).into()]);
        match self.ask_coordinator(group, until, 0, consumer, |answer| read_consumer(&answer, group)).await {
            Ok(consumer) => Ok(consumer.unwrap_or(view)),
            // Nor can a broker that knows no such groups have one.
            Err(WireError::Version { .. }) => Ok(view),
            Err(error) => Err(error),
        }
    }

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
        self.retrying(|until| {
            let build = |version| fetch_request(version, group, topic, partitions);
            self.ask_coordinator(group, until, 1, build, move |answer| read_fetched(&answer, group, topic))
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
        for commits in split(commits, MAX_COMMIT_BYTES) {
            let commits = &commits;
            self.retrying(|until| {
                let build = |_| commit_request(group, topic, commits);
                self.ask_coordinator(group, until, 2, build, move |answer| read_committed(&answer, topic, commits))
            })
            .await?;
        }
        Ok(())
    }
}

/// The state of a group that is not there.
const DEAD: &str = "Dead";

fn string(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn read_classic(answer: &Answer<DescribeGroupsResponse>, group: &str) -> Result<GroupView, WireError> {
    let Some(found) = answer.response.groups.iter().find(|g| g.group_id.as_str() == group) else {
        return Err(answer.lacks(format_args!("group {group}")));
    };
    // From version 6 on (KIP-1043), what was `Dead` before is an error.
    if ErrorCode(found.error_code).is(ResponseError::GroupIdNotFound) {
        return Ok(GroupView { state: DEAD.to_owned(), protocol_type: String::new(), members: Vec::new() });
    }
    answer.check_saying(found.error_code, found.error_message.as_ref(), || format!("group {group}"))?;
    let members = found.members.iter().map(|m| GroupMember {
        member_id: m.member_id.to_string(),
        client_id: m.client_id.to_string(),
        host: m.client_host.to_string(),
    });
    Ok(GroupView {
        state: found.group_state.to_string(),
        protocol_type: found.protocol_type.to_string(),
        members: members.collect(),
    })
}

/// `None` if it is no group of the consumer protocol either.
fn read_consumer(answer: &Answer<ConsumerGroupDescribeResponse>, group: &str) -> Result<Option<GroupView>, WireError> {
    let Some(found) = answer.response.groups.iter().find(|g| g.group_id.as_str() == group) else {
        return Err(answer.lacks(format_args!("group {group}")));
    };
    let code = ErrorCode(found.error_code);
    // The protocol may be known to the broker, and yet not be switched on.
    if code.is(ResponseError::GroupIdNotFound) || code.is(ResponseError::UnsupportedVersion) {
        return Ok(None);
    }
    answer.check_saying(found.error_code, found.error_message.as_ref(), || format!("group {group}"))?;
    let members = found.members.iter().map(|m| GroupMember {
        member_id: m.member_id.to_string(),
        client_id: m.client_id.to_string(),
        host: m.client_host.to_string(),
    });
    Ok(Some(GroupView {
        state: found.group_state.to_string(),
        protocol_type: "consumer".to_owned(),
        members: members.collect(),
    }))
}

/// Asks for what is decided: an offset of a pending transaction is UNSTABLE_OFFSET_COMMIT, which passes.
fn fetch_request(version: i16, group: &str, topic: &str, partitions: &[i32]) -> OffsetFetchRequest {
    let request = OffsetFetchRequest::default().with_require_stable(version >= 7);
    if version >= 8 {
        let topic = OffsetFetchRequestTopics::default()
            .with_name(string(topic).into())
            .with_partition_indexes(partitions.to_vec());
        let group =
            OffsetFetchRequestGroup::default().with_group_id(string(group).into()).with_topics(Some(vec![topic]));
        request.with_groups(vec![group])
    } else {
        let topic = OffsetFetchRequestTopic::default()
            .with_name(string(topic).into())
            .with_partition_indexes(partitions.to_vec());
        request.with_group_id(string(group).into()).with_topics(Some(vec![topic]))
    }
}

fn read_fetched(
    answer: &Answer<OffsetFetchResponse>,
    group: &str,
    topic: &str,
) -> Result<BTreeMap<i32, Committed>, WireError> {
    let mut fetched = BTreeMap::new();
    let mut add = |partition: i32, code: i16, offset: i64, epoch: i32, metadata: Option<&StrBytes>| {
        answer.check(code, || format!("{topic}-{partition} of group {group}"))?;
        if offset >= 0 {
            let metadata = metadata.map(ToString::to_string).unwrap_or_default();
            let committed = Committed { offset: Offset(offset), leader_epoch: LeaderEpoch(epoch), metadata };
            fetched.insert(partition, committed);
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
    for p in answer.response.topics.iter().filter(|t| t.name.as_str() == topic).flat_map(|t| &t.partitions) {
        add(p.partition_index, p.error_code, p.committed_offset, p.committed_leader_epoch, p.metadata.as_ref())?;
    }
    let topics = answer.response.groups.iter().flat_map(|group| &group.topics);
    for p in topics.filter(|t| t.name.as_str() == topic).flat_map(|t| &t.partitions) {
        add(p.partition_index, p.error_code, p.committed_offset, p.committed_leader_epoch, p.metadata.as_ref())?;
    }
    Ok(fetched)
}

fn commit_request(group: &str, topic: &str, commits: &[(i32, &Committed)]) -> OffsetCommitRequest {
    let partitions = commits.iter().map(|(partition, committed)| {
        OffsetCommitRequestPartition::default()
            .with_partition_index(*partition)
            .with_committed_offset(committed.offset.0)
            .with_committed_leader_epoch(committed.leader_epoch.0)
            .with_committed_metadata(Some(string(&committed.metadata)))
    });
    let topic =
        OffsetCommitRequestTopic::default().with_name(string(topic).into()).with_partitions(partitions.collect());
    // Generation -1 and no member: the commit of someone who is not in the group.
    OffsetCommitRequest::default()
        .with_group_id(string(group).into())
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![topic])
}

fn read_committed(
    answer: &Answer<OffsetCommitResponse>,
    topic: &str,
    commits: &[(i32, &Committed)],
) -> Result<(), WireError> {
    let partitions = || answer.response.topics.iter().filter(|t| t.name.as_str() == topic).flat_map(|t| &t.partitions);
    for p in partitions() {
        answer.check(p.error_code, || format!("{topic}-{}", p.partition_index))?;
    }
    match commits.iter().find(|(partition, _)| !partitions().any(|p| p.partition_index == *partition)) {
        Some((missing, _)) => Err(answer.lacks(format_args!("partition {topic}-{missing}"))),
        None => Ok(()),
    }
}

/// Cuts `commits` into requests of at most `max_bytes` (but of one partition at least).
fn split(commits: &BTreeMap<i32, Committed>, max_bytes: usize) -> Vec<Vec<(i32, &Committed)>> {
    /// Partition, offset, epoch, length of the metadata, tagged fields.
    const FIXED: usize = 4 + 8 + 4 + 3 + 1;
    let mut requests: Vec<Vec<(i32, &Committed)>> = Vec::new();
    let mut room = 0;
    for (partition, committed) in commits {
        let size = FIXED + committed.metadata.len();
        if size > room || requests.is_empty() {
            requests.push(Vec::new());
            room = max_bytes;
        }
        room = room.saturating_sub(size);
        requests.last_mut().expect("one was just pushed").push((*partition, committed));
    }
    requests
}

#[cfg(test)]
mod tests {
    use super::*;

    fn committed(metadata: usize) -> Committed {
        Committed { offset: Offset(1), leader_epoch: LeaderEpoch::UNKNOWN, metadata: "x".repeat(metadata) }
    }

    #[test]
    fn commits_are_cut_where_the_next_would_not_fit() {
        let commits: BTreeMap<_, _> = [80, 80, 80, 1_000, 0].map(committed).into_iter().enumerate().collect();
        let commits: BTreeMap<i32, _> = commits.into_iter().map(|(p, c)| (i32::try_from(p).unwrap(), c)).collect();
        let cut: Vec<Vec<i32>> =
            split(&commits, 200).into_iter().map(|r| r.iter().map(|(p, _)| *p).collect()).collect();
        assert_eq!(cut, [vec![0, 1], vec![2], vec![3], vec![4]]);
        assert!(split(&BTreeMap::new(), 200).is_empty());
    }

    #[test]
    fn a_group_that_is_being_joined_is_live_before_it_has_members() {
        let view = |state: &str| GroupView { state: state.into(), protocol_type: String::new(), members: vec![] };
        assert!(view("PreparingRebalance").is_live() && view("CompletingRebalance").is_live());
        assert!(!view("Empty").is_live() && !view("Dead").is_live());
    }
}
