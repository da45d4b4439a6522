//! Consumer groups: who is in them. `group_offsets.rs` has the offsets that they keep.

use kafka_protocol::{
    ResponseError,
    messages::{
        ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, DescribeGroupsRequest, DescribeGroupsResponse,
    },
    protocol::StrBytes,
};
use tokio::time::Instant;

use super::{Cluster, ErrorCode, WireError, cluster::Answer};

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_that_is_being_joined_is_live_before_it_has_members() {
        let view = |state: &str| GroupView { state: state.into(), protocol_type: String::new(), members: vec![] };
        assert!(view("PreparingRebalance").is_live() && view("CompletingRebalance").is_live());
        assert!(!view("Empty").is_live() && !view("Dead").is_live());
    }
}
