//! What a member says to its group's coordinator, as bytes: the classic protocol and KIP-848's.
//!
//! ```text
//!   Request ──▶ newest version that both know ──▶ a lane to the coordinator ──▶ Answer
//!   (membership/exchange.rs)                      (coordinator.rs)          └─▶ Refusal (refusal.rs)
//! ```
//!
//! What members tell each other through the coordinator, which does not look into it, is in `embedded.rs`.
//!
//! Deliberately not here: when to ask, and what follows; that is decided by `crate::membership`. Each request is asked once.

pub(super) mod embedded;
mod refusal;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use kafka_protocol::{
    ResponseError,
    messages::{
        ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, HeartbeatRequest, JoinGroupRequest,
        JoinGroupResponse, LeaveGroupRequest, LeaveGroupResponse, SyncGroupRequest, SyncGroupResponse,
        consumer_group_heartbeat_request, consumer_group_heartbeat_response,
        join_group_request::JoinGroupRequestProtocol, leave_group_request::MemberIdentity,
        sync_group_request::SyncGroupRequestAssignment,
    },
    protocol::StrBytes,
};
use tokio::time::Instant;

use super::{Cluster, ErrorCode, WireError, cluster};
use crate::{
    membership::exchange::{
        Answer, Beat, ById, ConsumerBeat, ConsumerBeaten, Join, Joined, Peer, Refusal, Request, Sync,
    },
    record::TopicId,
};

/// What members of consumer groups call what they speak among themselves.
const PROTOCOL_TYPE: &str = "consumer";

/// What was said to a request that the coordinator has understood.
type Said = Result<Answer, Refusal>;

impl Cluster {
    /// Asks the coordinator of `group` once, and waits for its answer until `until`: for a join that is the rebalance timeout
    /// and somewhat more, and for a sync as long; the others are answered at once. Joins and syncs delay no heartbeat, nor
    /// anything else that is asked of this cluster.
    ///
    /// A join or a sync whose future is dropped is taken back by closing its connection.
    ///
    /// # Errors
    /// Why not; [`Refusal`] says what may follow.
    pub(crate) async fn group_request(&self, group: &str, request: &Request, until: Instant) -> Said {
        let lanes = self.lanes();
        let said = match request {
            Request::Join(join) => lanes.waits.join(group, join, until).await,
            Request::Sync(sync) => lanes.waits.sync(group, sync, until).await,
            Request::Beat(beat) => lanes.beats.beat(group, beat, until).await,
            Request::Leave { member, instance, reason } => {
                lanes.beats.leave(group, member, instance.as_deref(), reason, until).await
            }
            Request::ConsumerBeat(beat) => lanes.beats.consumer_beat(group, beat, until).await,
        };
        said.unwrap_or_else(|error| Err(error.as_refusal()))
    }

    async fn join(&self, group: &str, join: &Join, until: Instant) -> Result<Said, WireError> {
        // Version 1 is the first with a rebalance timeout.
        let least = with_instance(join.instance.as_deref(), 5, 1);
        let build = |_| join_request(group, join);
        self.ask_coordinator(group, until, least, build, |answer| read_joined(&answer, group)).await
    }

    async fn sync(&self, group: &str, sync: &Sync, until: Instant) -> Result<Said, WireError> {
        let least = with_instance(sync.instance.as_deref(), 3, 0);
        let build = |_| sync_request(group, sync);
        self.ask_coordinator(group, until, least, build, |answer| read_synced(&answer, group)).await
    }

    async fn beat(&self, group: &str, beat: &Beat, until: Instant) -> Result<Said, WireError> {
        let least = with_instance(beat.instance.as_deref(), 3, 0);
        let build = |_| {
            HeartbeatRequest::default()
                .with_group_id(string(group).into())
                .with_generation_id(beat.generation)
                .with_member_id(string(&beat.member))
                .with_group_instance_id(beat.instance.as_deref().map(string))
        };
        self.ask_coordinator(group, until, least, build, |answer: cluster::Answer<_>| {
            answer.check(answer.response.error_code, || subject(group))?;
            Ok(Ok(Answer::Beaten))
        })
        .await
    }

    async fn leave(
        &self,
        group: &str,
        member: &str,
        instance: Option<&str>,
        reason: &'static str,
        until: Instant,
    ) -> Result<Said, WireError> {
        let least = with_instance(instance, MANY_LEAVE, 0);
        let build = |version| leave_request(version, group, member, instance, reason);
        self.ask_coordinator(group, until, least, build, |answer| read_left(&answer, group)).await
    }

    async fn consumer_beat(&self, group: &str, beat: &ConsumerBeat, until: Instant) -> Result<Said, WireError> {
        let build = |_| consumer_beat_request(group, beat);
        self.ask_coordinator(group, until, 0, build, |answer| read_consumer_beaten(&answer, group, &beat.member)).await
    }
}

/// The first version of LeaveGroup in which several may leave, and members have instance ids.
const MANY_LEAVE: i16 = 3;

/// The least version that will do: where a member has an instance id, it must not be left out.
fn with_instance(instance: Option<&str>, with: i16, without: i16) -> i16 {
    if instance.is_some() { with } else { without }
}

fn string(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn subject(group: &str) -> String {
    format!("group {group}")
}

fn ms(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}

fn join_request(group: &str, join: &Join) -> JoinGroupRequest {
    let protocols = join.protocols.iter().map(|(name, subscription)| {
        JoinGroupRequestProtocol::default()
            .with_name(StrBytes::from_static_str(name))
            .with_metadata(embedded::encode_subscription(subscription))
    });
    JoinGroupRequest::default()
        .with_group_id(string(group).into())
        .with_session_timeout_ms(ms(join.session_timeout))
        .with_rebalance_timeout_ms(ms(join.rebalance_timeout))
        .with_member_id(string(&join.member))
        .with_group_instance_id(join.instance.as_deref().map(string))
        .with_protocol_type(StrBytes::from_static_str(PROTOCOL_TYPE))
        .with_protocols(protocols.collect())
        .with_reason(Some(StrBytes::from_static_str(join.reason)))
}

fn read_joined(answer: &cluster::Answer<JoinGroupResponse>, group: &str) -> Result<Said, WireError> {
    let JoinGroupResponse { error_code, member_id, members, protocol_type, protocol_name, .. } = &answer.response;
    if ErrorCode(*error_code).is(ResponseError::MemberIdRequired) && !member_id.is_empty() {
        return Ok(Err(Refusal::MemberIdRequired(member_id.as_str().into())));
    }
    answer.check(*error_code, || subject(group))?;
    if let Err(refusal) = is_ours(protocol_type.as_ref()) {
        return Ok(Err(refusal));
    }
    let Some(protocol) = protocol_name else { return Err(answer.lacks("the assignor")) };
    let mut peers = Vec::with_capacity(members.len());
    for member in members {
        let id = member.member_id.as_str();
        match embedded::decode_subscription(&member.metadata) {
            Ok(subscription) => peers.push(Peer {
                member: id.into(),
                instance: member.group_instance_id.as_ref().map(|instance| instance.as_str().into()),
                subscription,
            }),
            Err(error) => {
                let words = format!("the subscription of member {id} of group {group} cannot be read: {error}");
                return Ok(Err(Refusal::InconsistentProtocol(words)));
            }
        }
    }
    Ok(Ok(Answer::Joined(Joined {
        generation: answer.response.generation_id,
        member: member_id.as_str().into(),
        leader: answer.response.leader.as_str().into(),
        protocol: protocol.as_str().into(),
        skip_assignment: answer.response.skip_assignment,
        members: peers,
    })))
}

/// Whether it is a group of consumers, as far as the broker says.
fn is_ours(protocol_type: Option<&StrBytes>) -> Result<(), Refusal> {
    match protocol_type {
        Some(other) if other.as_str() != PROTOCOL_TYPE => {
            Err(Refusal::InconsistentProtocol(format!("the group is not one of consumers but of the type {other:?}")))
        }
        _ => Ok(()),
    }
}

fn sync_request(group: &str, sync: &Sync) -> SyncGroupRequest {
    let assignments = sync.assignments.iter().map(|(member, assignment)| {
        SyncGroupRequestAssignment::default()
            .with_member_id(string(member))
            .with_assignment(embedded::encode_assignment(assignment))
    });
    SyncGroupRequest::default()
        .with_group_id(string(group).into())
        .with_generation_id(sync.generation)
        .with_member_id(string(&sync.member))
        .with_group_instance_id(sync.instance.as_deref().map(string))
        .with_protocol_type(Some(StrBytes::from_static_str(PROTOCOL_TYPE)))
        .with_protocol_name(Some(string(&sync.protocol)))
        .with_assignments(assignments.collect())
}

fn read_synced(answer: &cluster::Answer<SyncGroupResponse>, group: &str) -> Result<Said, WireError> {
    let SyncGroupResponse { error_code, protocol_type, protocol_name, assignment, .. } = &answer.response;
    answer.check(*error_code, || subject(group))?;
    if let Err(refusal) = is_ours(protocol_type.as_ref()) {
        return Ok(Err(refusal));
    }
    let protocol: Option<Arc<str>> = protocol_name.as_ref().map(|name| name.as_str().into());
    Ok(match embedded::decode_assignment(assignment) {
        Ok(assignment) => Ok(Answer::Synced { protocol, assignment }),
        Err(error) => Err(Refusal::InconsistentProtocol(format!(
            "what the leader of group {group} has assigned to us cannot be read: {error}"
        ))),
    })
}

fn leave_request(
    version: i16,
    group: &str,
    member: &str,
    instance: Option<&str>,
    reason: &'static str,
) -> LeaveGroupRequest {
    let request = LeaveGroupRequest::default().with_group_id(string(group).into());
    if version < MANY_LEAVE {
        return request.with_member_id(string(member));
    }
    let member = MemberIdentity::default()
        .with_member_id(string(member))
        .with_group_instance_id(instance.map(string))
        .with_reason(Some(StrBytes::from_static_str(reason)));
    request.with_members(vec![member])
}

/// It was asked about one member, so whatever is said of any is about it.
fn read_left(answer: &cluster::Answer<LeaveGroupResponse>, group: &str) -> Result<Said, WireError> {
    answer.check(answer.response.error_code, || subject(group))?;
    for member in &answer.response.members {
        answer.check(member.error_code, || subject(group))?;
    }
    Ok(Ok(Answer::Left))
}

fn consumer_beat_request(group: &str, beat: &ConsumerBeat) -> ConsumerGroupHeartbeatRequest {
    let partitions = |(topic, partitions): (&TopicId, &BTreeSet<i32>)| {
        consumer_group_heartbeat_request::TopicPartitions::default()
            .with_topic_id(topic.0)
            .with_partitions(partitions.iter().copied().collect())
    };
    let topics = |topics: &BTreeSet<Arc<str>>| topics.iter().map(|topic| string(topic).into()).collect();
    ConsumerGroupHeartbeatRequest::default()
        .with_group_id(string(group).into())
        .with_member_id(string(&beat.member))
        .with_member_epoch(beat.epoch)
        .with_instance_id(beat.instance.as_deref().map(string))
        .with_rack_id(beat.rack.as_deref().map(string))
        .with_rebalance_timeout_ms(beat.rebalance_timeout.map_or(-1, ms))
        .with_subscribed_topic_names(beat.topics.as_ref().map(topics))
        .with_server_assignor(beat.assignor.as_deref().map(string))
        .with_topic_partitions(beat.owned.as_ref().map(|owned| owned.iter().map(partitions).collect()))
}

fn read_consumer_beaten(
    answer: &cluster::Answer<ConsumerGroupHeartbeatResponse>,
    group: &str,
    asked_as: &Arc<str>,
) -> Result<Said, WireError> {
    let ConsumerGroupHeartbeatResponse { error_code, error_message, member_id, assignment, .. } = &answer.response;
    answer.check_saying(*error_code, error_message.as_ref(), || subject(group))?;
    let assignment = assignment.as_ref().map(|assignment| by_id(answer, assignment)).transpose()?;
    let member = member_id.as_ref().filter(|id| !id.is_empty());
    Ok(Ok(Answer::ConsumerBeaten(ConsumerBeaten {
        member: member.map_or_else(|| Arc::clone(asked_as), |id| id.as_str().into()),
        epoch: answer.response.member_epoch,
        interval: Duration::from_millis(u64::try_from(answer.response.heartbeat_interval_ms).unwrap_or(0)),
        assignment,
    })))
}

fn by_id(
    answer: &cluster::Answer<ConsumerGroupHeartbeatResponse>,
    assignment: &consumer_group_heartbeat_response::Assignment,
) -> Result<ById, WireError> {
    let mut by_id: ById = BTreeMap::new();
    for topic in &assignment.topic_partitions {
        if let Some(odd) = topic.partitions.iter().find(|partition| **partition < 0) {
            return Err(answer.lacks(format_args!("a number of partition where it says {odd}")));
        }
        by_id.entry(TopicId(topic.topic_id)).or_default().extend(&topic.partitions);
    }
    Ok(by_id)
}
