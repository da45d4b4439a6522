//! PURE: what there is to know of a group before something is done to it.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use kafka_protocol::error::ResponseError;

use super::{At, Classic, Join, MAX_BYTES, MAX_MEMBERS, Member, REBALANCE, member};

impl Classic {
    /// Of the protocols that all know, the one that most like best.
    pub(super) fn chosen(&self) -> Option<String> {
        let all_know = |name: &str| self.members.iter().all(|member| member.knows(name));
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for member in &self.members {
            let best = member.protocols.iter().map(|(name, _)| name.as_str()).find(|name| all_know(name))?;
            *votes.entry(best).or_default() += 1;
        }
        votes.into_iter().max_by_key(|(_, votes)| *votes).map(|(name, _)| name.to_owned())
    }

    pub(super) fn has_protocol_for(&self, join: &Join<'_>) -> bool {
        if self.members.is_empty() {
            return !join.protocol_type.is_empty() && !join.protocols.is_empty();
        }
        let all_know = |(name, _): &(String, Bytes)| self.members.iter().all(|member| member.knows(name));
        self.protocol_type == join.protocol_type && join.protocols.iter().any(all_know)
    }

    pub(super) fn has_room_for(&self, join: &Join<'_>) -> bool {
        let is_in = self.member(join.member).is_some() || self.promised.contains_key(join.member);
        let others = self.members.iter().filter(|member| member.id != join.member);
        let bytes = others.map(Member::size).sum::<usize>() + member::size(&join.protocols);
        bytes <= MAX_BYTES && (is_in || self.members.len() + self.promised.len() < MAX_MEMBERS)
    }

    pub(super) fn have_all_joined(&self) -> bool {
        self.promised.is_empty() && self.members.iter().all(Member::waits_for_join)
    }

    /// As long as the most patient member wants.
    pub(super) fn rebalance_timeout(&self) -> Duration {
        self.members.iter().map(|member| member.rebalance_timeout).max().unwrap_or(REBALANCE.0)
    }

    pub(super) fn check(&self, at: &At<'_>) -> Result<(), ResponseError> {
        self.check_member(at.member, at.instance)?;
        if at.generation != self.generation {
            return Err(ResponseError::IllegalGeneration);
        }
        let differs = |said: Option<&str>, is: Option<&str>| said.is_some_and(|said| Some(said) != is);
        if differs(at.protocol_type, Some(&self.protocol_type)) || differs(at.protocol, self.protocol.as_deref()) {
            return Err(ResponseError::InconsistentGroupProtocol);
        }
        Ok(())
    }

    pub(super) fn check_member(&self, id: &str, instance: Option<&str>) -> Result<(), ResponseError> {
        if let Some(instance) = instance {
            let holder = self.of_instance(instance).ok_or(ResponseError::UnknownMemberId)?;
            return if holder.id == id { Ok(()) } else { Err(ResponseError::FencedInstanceId) };
        }
        self.member(id).map(|_| ()).ok_or(ResponseError::UnknownMemberId)
    }

    pub(super) fn of_instance(&self, instance: &str) -> Option<&Member> {
        self.members.iter().find(|member| member.instance.as_deref() == Some(instance))
    }

    pub(super) fn member(&self, id: &str) -> Option<&Member> {
        self.members.iter().find(|member| member.id == id)
    }
}
