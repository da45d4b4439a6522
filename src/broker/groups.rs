//! PURE: consumer groups as a coordinator shows them: committed offsets, and members that a test pretends.
//!
//! Deliberately not here: joining. No client becomes a member of a group.

use std::{collections::BTreeMap, sync::Arc};

use kafka_protocol::error::ResponseError;

use crate::{offsets::Committed, record::TopicPartition};

/// Groups with commits or members.
const MAX_GROUPS: usize = 10_000;
/// Kafka's `offset.metadata.max.bytes`, which counts UTF-16 units all the same.
const MAX_METADATA_UNITS: usize = 4_096;

/// A member that a group is said to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its id, as the coordinator gave it.
    pub id: String,
    /// The client id of its connection.
    pub client_id: String,
    /// Where it connected from, such as `/127.0.0.1`.
    pub host: String,
}

impl Member {
    /// A member with this id, of a client with the same name, on this machine.
    pub fn new(id: impl Into<String>) -> Self {
        let id = id.into();
        Self { client_id: id.clone(), id, host: "/127.0.0.1".to_owned() }
    }
}

/// One group.
#[derive(Debug, Default)]
pub(super) struct Group {
    pub(super) members: Vec<Member>,
    pub(super) offsets: BTreeMap<TopicPartition, Committed>,
}

impl Group {
    /// As Kafka names it.
    pub(super) fn state(&self) -> &'static str {
        if self.members.is_empty() { "Empty" } else { "Stable" }
    }

    /// Empty for a group that only simple commits have made.
    pub(super) fn protocol_type(&self) -> &'static str {
        if self.members.is_empty() { "" } else { "consumer" }
    }
}

/// All groups.
#[derive(Debug, Default)]
pub(super) struct Groups(BTreeMap<Arc<str>, Group>);

impl Groups {
    pub(super) fn get(&self, id: &str) -> Option<&Group> {
        self.0.get(id)
    }

    /// All groups in the order of their ids.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Group)> {
        self.0.iter()
    }

    /// Who may commit for this group just now: a simple consumer (no member id, a negative generation) only while the
    /// group has no members, and a member whatever its generation.
    pub(super) fn may_commit(&self, id: &str, member: &str, generation: i32) -> Result<(), ResponseError> {
        if id.is_empty() {
            return Err(ResponseError::InvalidGroupId);
        }
        let members = self.get(id).map_or(&[][..], |group| &group.members);
        let is_member = members.iter().any(|m| m.id == member);
        match (generation < 0, members.is_empty()) {
            (true, true) => Ok(()),
            (false, true) => Err(ResponseError::IllegalGeneration),
            (_, false) if is_member => Ok(()),
            (_, false) => Err(ResponseError::UnknownMemberId),
        }
    }

    pub(super) fn commit(&mut self, id: &str, at: TopicPartition, committed: Committed) -> Result<(), ResponseError> {
        if committed.metadata.encode_utf16().count() > MAX_METADATA_UNITS {
            return Err(ResponseError::OffsetMetadataTooLarge);
        }
        if !self.0.contains_key(id) && self.0.len() >= MAX_GROUPS {
            return Err(ResponseError::PolicyViolation);
        }
        self.0.entry(id.into()).or_default().offsets.insert(at, committed);
        Ok(())
    }

    pub(super) fn set_members(&mut self, id: &str, members: Vec<Member>) {
        self.0.entry(id.into()).or_default().members = members;
    }

    /// Forgets what was committed for one partition, as expiry does.
    pub(super) fn forget(&mut self, id: &str, at: &TopicPartition) -> bool {
        self.0.get_mut(id).is_some_and(|group| group.offsets.remove(at).is_some())
    }

    /// Forgets a topic's offsets in every group, as a coordinator does when the topic is deleted.
    pub(super) fn topic_deleted(&mut self, topic: &str) {
        for group in self.0.values_mut() {
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
    fn a_group_with_members_refuses_simple_commits() {
        let mut groups = Groups::default();
        assert_eq!(groups.may_commit("g", "", -1), Ok(()));
        assert_eq!(groups.may_commit("g", "m", 3), Err(ResponseError::IllegalGeneration));
        assert_eq!(groups.may_commit("", "", -1), Err(ResponseError::InvalidGroupId));
        groups.set_members("g", vec![Member::new("m")]);
        assert_eq!(groups.get("g").unwrap().state(), "Stable");
        assert_eq!(groups.may_commit("g", "", -1), Err(ResponseError::UnknownMemberId));
        assert_eq!(groups.may_commit("g", "m", 3), Ok(()));
        groups.set_members("g", vec![]);
        assert_eq!(groups.get("g").unwrap().state(), "Empty");
        assert_eq!(groups.may_commit("g", "", -1), Ok(()));
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
