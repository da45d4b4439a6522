//! PURE: consumer groups as a coordinator runs them: committed offsets, members that have joined by the classic protocol
//! ([`classic`]), and members that a test pretends.
//!
//! Deliberately not here: KIP-848, and forgetting: a group stays, with what it has committed.

pub(super) mod classic;

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use kafka_protocol::error::ResponseError;
use uuid::Uuid;

use self::classic::{At, Classic, Join, JoinRefused, Joined, Ticket, Turn};
use crate::{offsets::Committed, record::TopicPartition};

/// Groups with commits or members.
const MAX_GROUPS: usize = 10_000;
/// Members of all groups together.
const MAX_MEMBERS: usize = 10_000;
/// Kafka's `offset.metadata.max.bytes`, which counts UTF-16 units all the same.
const MAX_METADATA_UNITS: usize = 4_096;

/// A member that a group has, or is said to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its id, as the coordinator gave it.
    pub id: String,
    /// The client id of its connection.
    pub client_id: String,
    /// Where it connected from, such as `/127.0.0.1`.
    pub host: String,
}

/// Where all members are: nobody else can connect.
pub(super) const MEMBER_HOST: &str = "/127.0.0.1";

impl Member {
    /// A member with this id, of a client with the same name, on this machine.
    pub fn new(id: impl Into<String>) -> Self {
        let id = id.into();
        Self { client_id: id.clone(), id, host: MEMBER_HOST.to_owned() }
    }
}

/// One group.
#[derive(Debug, Default)]
pub(super) struct Group {
    /// Those that a test pretends. They neither join nor beat, and are in nobody's way but that of commits.
    pub(super) pretended: Vec<Member>,
    pub(super) classic: Classic,
    pub(super) offsets: BTreeMap<TopicPartition, Committed>,
}

impl Group {
    /// As Kafka names it.
    pub(super) fn state(&self) -> &'static str {
        if self.pretended.is_empty() { self.classic.phase.name() } else { "Stable" }
    }

    /// Empty for a group that only simple commits have made.
    pub(super) fn protocol_type(&self) -> &str {
        if self.pretended.is_empty() { &self.classic.protocol_type } else { "consumer" }
    }

    /// Who is in it, pretended or not.
    pub(super) fn members(&self) -> Vec<Member> {
        let joined = self.classic.members().iter().map(|member| Member {
            id: member.id.clone(),
            client_id: member.client_id.clone(),
            host: MEMBER_HOST.to_owned(),
        });
        self.pretended.iter().cloned().chain(joined).collect()
    }
}

/// All groups.
#[derive(Debug, Default)]
pub(super) struct Groups {
    by_id: BTreeMap<Arc<str>, Group>,
    /// For the ids of members.
    seed: u64,
    named: u64,
}

impl Groups {
    pub(super) fn new(seed: u64) -> Self {
        Self { seed, ..Self::default() }
    }

    pub(super) fn get(&self, id: &str) -> Option<&Group> {
        self.by_id.get(id)
    }

    /// All groups in the order of their ids.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Group)> {
        self.by_id.iter()
    }

    /// When [`advance`](Self::advance) has something to do next for this group.
    pub(super) fn next_deadline(&self, id: &str) -> Option<Instant> {
        self.get(id).and_then(|group| group.classic.next_deadline())
    }

    /// Does what was due until now in all groups. Says whether there was something.
    pub(super) fn advance(&mut self, now: Instant) -> bool {
        // Each of them, also when the first has changed already.
        self.by_id.values_mut().filter_map(|group| group.classic.advance(now).then_some(())).count() > 0
    }

    /// Somebody joins.
    pub(super) fn join(&mut self, id: &str, now: Instant, ticket: Ticket, join: Join<'_>) -> Turn<Joined, JoinRefused> {
        let refused = |error| Turn::Now(Err(JoinRefused { error, member: join.member.to_owned() }));
        if id.is_empty() {
            return refused(ResponseError::InvalidGroupId);
        }
        if !self.by_id.contains_key(id) && !join.member.is_empty() {
            return refused(ResponseError::UnknownMemberId);
        }
        let members: usize = self.by_id.values().map(|group| group.classic.members().len()).sum();
        if join.member.is_empty() && (members >= MAX_MEMBERS || !self.has_room_for(id)) {
            return refused(ResponseError::GroupMaxSizeReached);
        }
        self.named += 1;
        let (seed, named) = (self.seed, self.named);
        let new_id = |name: &str| format!("{name}-{}", Uuid::from_u64_pair(seed, named));
        self.by_id.entry(id.into()).or_default().classic.join(now, ticket, join, new_id)
    }

    /// The part of a group that has members, if the group is there.
    pub(super) fn classic(&mut self, id: &str) -> Option<&mut Classic> {
        self.by_id.get_mut(id).map(|group| &mut group.classic)
    }

    fn has_room_for(&self, id: &str) -> bool {
        self.by_id.contains_key(id) || self.by_id.len() < MAX_GROUPS
    }

    /// Whether this is somebody who may commit for this group just now: a simple consumer (no member id, a negative
    /// generation) only while the group has no members, and a member of its generation. One that a test pretends may
    /// whatever its generation.
    pub(super) fn may_commit(&mut self, id: &str, now: Instant, at: &At<'_>) -> Result<(), ResponseError> {
        if id.is_empty() {
            return Err(ResponseError::InvalidGroupId);
        }
        match self.by_id.get_mut(id) {
            None if at.generation < 0 => Ok(()),
            None => Err(ResponseError::IllegalGeneration),
            Some(group) if group.pretended.iter().any(|member| member.id == at.member) => Ok(()),
            Some(group) if !group.pretended.is_empty() => Err(ResponseError::UnknownMemberId),
            Some(group) => group.classic.may_commit(now, at),
        }
    }

    pub(super) fn commit(&mut self, id: &str, at: TopicPartition, committed: Committed) -> Result<(), ResponseError> {
        if committed.metadata.encode_utf16().count() > MAX_METADATA_UNITS {
            return Err(ResponseError::OffsetMetadataTooLarge);
        }
        if !self.has_room_for(id) {
            return Err(ResponseError::PolicyViolation);
        }
        self.by_id.entry(id.into()).or_default().offsets.insert(at, committed);
        Ok(())
    }

    pub(super) fn pretend_members(&mut self, id: &str, members: Vec<Member>) {
        self.by_id.entry(id.into()).or_default().pretended = members;
    }

    /// Forgets what was committed for one partition, as expiry does.
    pub(super) fn forget(&mut self, id: &str, at: &TopicPartition) -> bool {
        self.by_id.get_mut(id).is_some_and(|group| group.offsets.remove(at).is_some())
    }

    /// Forgets a topic's offsets in every group, as a coordinator does when the topic is deleted.
    pub(super) fn topic_deleted(&mut self, topic: &str) {
        for group in self.by_id.values_mut() {
            group.offsets.retain(|at, _| &*at.topic != topic);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{LeaderEpoch, Offset};

    fn committed(offset: i64, metadata: &str) -> Committed {
        Committed { offset: Offset(offset), leader_epoch: LeaderEpoch(0), metadata: metadata.to_owned() }
    }

    #[test]
    fn a_commit_replaces_the_one_before() {
        let mut groups = Groups::default();
        let at = TopicPartition::new("t", 0);
        groups.commit("g", at.clone(), committed(5, "a")).unwrap();
        groups.commit("g", at.clone(), committed(4, "b")).unwrap();
        assert_eq!(groups.get("g").unwrap().offsets.get(&at), Some(&committed(4, "b")));
        assert!(groups.get("h").is_none());
    }

    #[test]
    fn metadata_is_bounded_in_utf16_units() {
        let mut groups = Groups::default();
        let mut commit = |metadata: String| groups.commit("g", TopicPartition::new("t", 0), committed(0, &metadata));
        assert_eq!(commit("婢".repeat(4_096)), Ok(()));
        assert_eq!(commit("x".repeat(4_097)), Err(ResponseError::OffsetMetadataTooLarge));
        assert_eq!(commit("😀".repeat(2_049)), Err(ResponseError::OffsetMetadataTooLarge));
    }

    #[test]
    fn a_group_with_pretended_members_refuses_simple_commits() {
        let mut groups = Groups::default();
        let now = Instant::now();
        let may = |groups: &mut Groups, id: &str, member, generation| {
            groups.may_commit(id, now, &At { member, generation, ..At::default() })
        };
        assert_eq!(may(&mut groups, "g", "", -1), Ok(()));
        assert_eq!(may(&mut groups, "g", "m", 3), Err(ResponseError::IllegalGeneration));
        assert_eq!(may(&mut groups, "", "", -1), Err(ResponseError::InvalidGroupId));
        groups.pretend_members("g", vec![Member::new("m")]);
        assert_eq!(groups.get("g").unwrap().state(), "Stable");
        assert_eq!(may(&mut groups, "g", "", -1), Err(ResponseError::UnknownMemberId));
        assert_eq!(may(&mut groups, "g", "m", 3), Ok(()));
        groups.pretend_members("g", vec![]);
        assert_eq!(groups.get("g").unwrap().state(), "Empty");
        assert_eq!(may(&mut groups, "g", "", -1), Ok(()));
    }

    #[test]
    fn a_deleted_topic_takes_its_offsets_along() {
        let mut groups = Groups::default();
        groups.commit("g", TopicPartition::new("t", 0), committed(1, "")).unwrap();
        groups.commit("g", TopicPartition::new("u", 0), committed(2, "")).unwrap();
        groups.topic_deleted("t");
        let left: Vec<_> = groups.get("g").unwrap().offsets.keys().map(ToString::to_string).collect();
        assert_eq!(left, ["u-0"]);
        assert!(groups.forget("g", &TopicPartition::new("u", 0)));
        assert!(!groups.forget("g", &TopicPartition::new("u", 0)));
    }
}
