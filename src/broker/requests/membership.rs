//! JoinGroup, SyncGroup, Heartbeat, LeaveGroup: the classic protocol of groups.
//!
//! A join and a sync that have to wait are carried out again when something has changed; the group knows them by their
//! tickets.

use std::time::{Duration, Instant};

use kafka_protocol::{
    error::ResponseError,
    messages::{
        HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest,
        LeaveGroupResponse, SyncGroupRequest, SyncGroupResponse, join_group_response::JoinGroupResponseMember,
        leave_group_response::MemberResponse,
    },
};

use super::{Handle, groups::coordinated, text};
use crate::broker::{
    groups::classic::{At, Join, JoinRefused, Joined, Turn},
    state::{Context, State, code},
};

/// From this version of JoinGroup on a member joins again with the id that it is given (KIP-394).
const ASKS_FOR_ID: i16 = 4;
/// From this version of JoinGroup on members have instance ids.
const JOINS_INSTANCES: i16 = 5;
/// From this version of JoinGroup on an answer says the type of the protocol, and may leave out its name.
const SAYS_TYPE: i16 = 7;
/// From this version of JoinGroup on a leader may be told not to assign (KIP-814).
const MAY_SKIP: i16 = 9;
/// From this version of SyncGroup on an answer says the protocol.
const SYNC_SAYS_PROTOCOL: i16 = 5;
/// From this version of LeaveGroup on several may leave.
const MANY_LEAVE: i16 = 3;
/// Kafka's `group.max.session.timeout.ms`.
const MAX_SESSION_TIMEOUT: Duration = Duration::from_secs(1_800);
/// No join and no sync waits longer; then its member is told to join again.
const MAX_WAIT: Duration = Duration::from_secs(3_600);

fn millis(ms: i32) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}

impl Handle for JoinGroupRequest {
    const CHANGES: bool = true;

    fn handle(&self, state: &mut State, context: &Context) -> JoinGroupResponse {
        let member = self.member_id.as_str();
        let refused = |error| Turn::Now(Err(JoinRefused { error, member: member.to_owned() }));
        let session_timeout = millis(self.session_timeout_ms);
        let turn = if let Some(error) = context.error().or(coordinated(state, context).err()) {
            refused(error)
        } else if !(state.min_session_timeout..=MAX_SESSION_TIMEOUT).contains(&session_timeout) {
            refused(ResponseError::InvalidSessionTimeout)
        } else if context.again {
            let instance = self.group_instance_id.as_deref();
            let group = state.groups.classic(&self.group_id);
            group.map_or_else(
                || refused(ResponseError::UnknownMemberId),
                |group| group.joined(context.ticket, member, instance),
            )
        } else {
            state.groups.join(&self.group_id, context.now, context.ticket, join(self, context))
        };
        joined(turn, &self.protocol_type, context.version)
    }

    fn max_wait(&self) -> Duration {
        MAX_WAIT
    }

    fn is_due(&self, state: &State, context: &Context, _: &JoinGroupResponse) -> bool {
        !waits(state, context, &self.group_id)
    }

    fn look_again(&self, state: &State) -> Option<Instant> {
        state.groups.next_deadline(&self.group_id)
    }
}

fn waits(state: &State, context: &Context, group: &str) -> bool {
    let is_here = coordinated(state, context).is_ok();
    is_here && state.groups.get(group).is_some_and(|group| group.classic.has_waiting(context.ticket))
}

fn join<'a>(request: &'a JoinGroupRequest, context: &'a Context) -> Join<'a> {
    let protocols = request.protocols.iter().map(|protocol| (protocol.name.to_string(), protocol.metadata.clone()));
    // Version 0 has only one timeout.
    let rebalance_timeout =
        if context.version == 0 { request.session_timeout_ms } else { request.rebalance_timeout_ms };
    Join {
        member: &request.member_id,
        instance: request.group_instance_id.as_deref(),
        client_id: &context.client_id,
        session_timeout: millis(request.session_timeout_ms),
        rebalance_timeout: millis(rebalance_timeout),
        protocol_type: &request.protocol_type,
        protocols: protocols.collect(),
        asks_for_id: context.version >= ASKS_FOR_ID,
        may_skip: context.version >= MAY_SKIP,
    }
}

/// One that waits for too long gets the answer that has its member join again.
fn joined(turn: Turn<Joined, JoinRefused>, protocol_type: &str, version: i16) -> JoinGroupResponse {
    let refused = |error: ResponseError, member: &str| {
        JoinGroupResponse::default()
            .with_error_code(error.code())
            .with_generation_id(-1)
            .with_member_id(text(member))
            .with_protocol_name((version < SAYS_TYPE).then(|| text("")))
    };
    match turn {
        Turn::Later => refused(ResponseError::RebalanceInProgress, ""),
        Turn::Now(Err(JoinRefused { error, member })) => refused(error, &member),
        Turn::Now(Ok(joined)) => {
            let members = joined.members.into_iter().map(|(id, instance, metadata)| {
                JoinGroupResponseMember::default()
                    .with_member_id(text(&id))
                    .with_group_instance_id(instance.filter(|_| version >= JOINS_INSTANCES).as_deref().map(text))
                    .with_metadata(metadata)
            });
            JoinGroupResponse::default()
                .with_generation_id(joined.generation)
                .with_protocol_type((version >= SAYS_TYPE).then(|| text(protocol_type)))
                .with_protocol_name(Some(text(&joined.protocol)))
                .with_leader(text(&joined.leader))
                .with_member_id(text(&joined.member))
                .with_skip_assignment(joined.skip_assignment)
                .with_members(members.collect())
        }
    }
}

impl Handle for SyncGroupRequest {
    const CHANGES: bool = true;

    fn handle(&self, state: &mut State, context: &Context) -> SyncGroupResponse {
        let at = At {
            member: &self.member_id,
            instance: self.group_instance_id.as_deref(),
            generation: self.generation_id,
            protocol_type: self.protocol_type.as_deref(),
            protocol: self.protocol_name.as_deref(),
        };
        let turn = if let Some(error) = context.error().or(coordinated(state, context).err()) {
            Turn::Now(Err(error))
        } else if let Some(group) = state.groups.classic(&self.group_id) {
            let assigned = self.assignments.iter().map(|a| (a.member_id.to_string(), a.assignment.clone()));
            match context.again {
                true => group.synced(context.ticket, &at),
                false => group.sync(context.now, context.ticket, &at, assigned),
            }
        } else {
            Turn::Now(Err(ResponseError::UnknownMemberId))
        };
        let group = state.groups.get(&self.group_id).map(|group| &group.classic);
        match turn {
            Turn::Later => SyncGroupResponse::default().with_error_code(ResponseError::RebalanceInProgress.code()),
            Turn::Now(Err(error)) => SyncGroupResponse::default().with_error_code(error.code()),
            Turn::Now(Ok(assignment)) => {
                let group = group.filter(|_| context.version >= SYNC_SAYS_PROTOCOL);
                SyncGroupResponse::default()
                    .with_protocol_type(group.map(|group| text(&group.protocol_type)))
                    .with_protocol_name(group.and_then(|group| group.protocol.as_deref()).map(text))
                    .with_assignment(assignment)
            }
        }
    }

    fn max_wait(&self) -> Duration {
        MAX_WAIT
    }

    fn is_due(&self, state: &State, context: &Context, _: &SyncGroupResponse) -> bool {
        !waits(state, context, &self.group_id)
    }

    fn look_again(&self, state: &State) -> Option<Instant> {
        state.groups.next_deadline(&self.group_id)
    }
}

impl Handle for HeartbeatRequest {
    fn handle(&self, state: &mut State, context: &Context) -> HeartbeatResponse {
        let at = At {
            member: &self.member_id,
            instance: self.group_instance_id.as_deref(),
            generation: self.generation_id,
            ..At::default()
        };
        let result = match context.error().or(coordinated(state, context).err()) {
            Some(error) => Err(error),
            None => match state.groups.classic(&self.group_id) {
                Some(group) => group.beat(context.now, &at),
                None => Err(ResponseError::UnknownMemberId),
            },
        };
        HeartbeatResponse::default().with_error_code(code(&result))
    }
}

impl Handle for LeaveGroupRequest {
    const CHANGES: bool = true;

    fn handle(&self, state: &mut State, context: &Context) -> LeaveGroupResponse {
        if let Some(error) = context.error().or(coordinated(state, context).err()) {
            return LeaveGroupResponse::default().with_error_code(error.code());
        }
        let leaving: Vec<(&str, Option<&str>)> = match context.version {
            0..MANY_LEAVE => vec![(&self.member_id, None)],
            _ => self.members.iter().map(|m| (m.member_id.as_str(), m.group_instance_id.as_deref())).collect(),
        };
        let Some(group) = state.groups.classic(&self.group_id) else {
            return LeaveGroupResponse::default().with_error_code(ResponseError::UnknownMemberId.code());
        };
        let said = group.leave(context.now, &leaving);
        if context.version < MANY_LEAVE {
            let code = said.iter().find_map(|result| result.err()).map_or(0, |error| error.code());
            return LeaveGroupResponse::default().with_error_code(code);
        }
        let members = leaving.iter().zip(&said).map(|((member, instance), result)| {
            MemberResponse::default()
                .with_member_id(text(member))
                .with_group_instance_id(instance.map(text))
                .with_error_code(code(result))
        });
        LeaveGroupResponse::default().with_members(members.collect())
    }
}
