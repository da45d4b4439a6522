//! OffsetCommit, OffsetFetch, DescribeGroups, ListGroups: what a group's coordinator answers.

use std::sync::Arc;

use kafka_protocol::{
    error::ResponseError,
    messages::{
        DescribeGroupsRequest, DescribeGroupsResponse, GroupId, ListGroupsRequest, ListGroupsResponse,
        OffsetCommitRequest, OffsetCommitResponse, OffsetFetchRequest, OffsetFetchResponse, TopicName,
        describe_groups_response::{DescribedGroup, DescribedGroupMember},
        list_groups_response::ListedGroup,
        offset_commit_request::OffsetCommitRequestPartition,
        offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic},
        offset_fetch_response::{
            OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
            OffsetFetchResponseTopic, OffsetFetchResponseTopics,
        },
    },
    protocol::StrBytes,
};

use super::{Handle, Place, message, text};
use crate::{
    broker::{
        groups::{
            Group, MEMBER_HOST,
            classic::{At, Phase},
        },
        state::{Context, State, code},
    },
    offsets::Committed,
    record::{LeaderEpoch, Offset, TopicPartition},
};

/// From this version on an OffsetFetch is about many groups.
const MANY_GROUPS: i16 = 8;
/// From this version on a DescribeGroups names the instances of members.
const INSTANCES: i16 = 4;
/// From this version on a DescribeGroups says that a group is not there.
const NOT_FOUND: i16 = 6;

pub(super) fn coordinated(state: &State, context: &Context) -> Result<(), ResponseError> {
    if state.coordinator == context.node { Ok(()) } else { Err(ResponseError::NotCoordinator) }
}

impl Handle for OffsetCommitRequest {
    const CHANGES: bool = true;

    fn places(&self, _: &State) -> Vec<Place> {
        let places = self.topics.iter().flat_map(|topic| {
            let name: Arc<str> = topic.name.as_str().into();
            topic.partitions.iter().map(move |p| (Arc::clone(&name), Some(p.partition_index)))
        });
        places.collect()
    }

    fn handle(&self, state: &mut State, context: &Context) -> OffsetCommitResponse {
        let allowed = coordinated(state, context).and_then(|()| {
            let at = At {
                member: &self.member_id,
                instance: self.group_instance_id.as_deref(),
                generation: self.generation_id_or_member_epoch,
                ..At::default()
            };
            state.groups.may_commit(&self.group_id, context.now, &at)
        });
        let topics = self.topics.iter().map(|topic| {
            let partitions = topic.partitions.iter().map(|partition| {
                let wanted = context.error_for(&topic.name, partition.partition_index);
                let result = match (wanted, allowed) {
                    (Some(error), _) | (None, Err(error)) => Err(error),
                    (None, Ok(())) => commit(state, &self.group_id, &topic.name, partition),
                };
                OffsetCommitResponsePartition::default()
                    .with_partition_index(partition.partition_index)
                    .with_error_code(code(&result))
            });
            OffsetCommitResponseTopic::default().with_name(topic.name.clone()).with_partitions(partitions.collect())
        });
        OffsetCommitResponse::default().with_topics(topics.collect())
    }
}

fn commit(
    state: &mut State,
    group: &str,
    topic: &str,
    partition: &OffsetCommitRequestPartition,
) -> Result<(), ResponseError> {
    let index = partition.partition_index;
    state.topics.partition(topic, index).ok_or(ResponseError::UnknownTopicOrPartition)?;
    let units = partition.committed_metadata.as_ref().map_or(0, |metadata| metadata.encode_utf16().count());
    if units > state.max_metadata_units {
        return Err(ResponseError::OffsetMetadataTooLarge);
    }
    let committed = Committed {
        offset: Offset(partition.committed_offset),
        leader_epoch: LeaderEpoch(partition.committed_leader_epoch),
        metadata: partition.committed_metadata.as_ref().map(ToString::to_string).unwrap_or_default(),
    };
    state.groups.commit(group, TopicPartition::new(topic, index), committed)
}

/// The topics that an OffsetFetch asks for; `None` for all.
type Wanted<'a> = Option<Vec<(&'a TopicName, &'a [i32])>>;

impl Handle for OffsetFetchRequest {
    fn places(&self, _: &State) -> Vec<Place> {
        let old = self.topics.iter().flatten().map(|topic| (&topic.name, &topic.partition_indexes));
        let groups = self.groups.iter().flat_map(|group| group.topics.iter().flatten());
        let new = groups.map(|topic| (&topic.name, &topic.partition_indexes));
        let places = old.chain(new).flat_map(|(name, partitions)| {
            let name: Arc<str> = name.as_str().into();
            partitions.iter().map(move |partition| (Arc::clone(&name), Some(*partition)))
        });
        places.collect()
    }

    fn handle(&self, state: &mut State, context: &Context) -> OffsetFetchResponse {
        if context.version >= MANY_GROUPS {
            let groups = self.groups.iter().map(|group| {
                let topics = group.topics.as_ref();
                let wanted = topics.map(|t| t.iter().map(|t| (&t.name, &t.partition_indexes[..])).collect());
                fetch_group(state, context, &group.group_id, wanted)
            });
            return OffsetFetchResponse::default().with_groups(groups.collect());
        }
        let topics = self.topics.as_ref();
        let wanted = topics.map(|t| t.iter().map(|t| (&t.name, &t.partition_indexes[..])).collect());
        let group = fetch_group(state, context, &self.group_id, wanted);
        let topics = group.topics.into_iter().map(|topic| {
            let partitions = topic.partitions.into_iter().map(|partition| {
                OffsetFetchResponsePartition::default()
                    .with_partition_index(partition.partition_index)
                    .with_committed_offset(partition.committed_offset)
                    .with_committed_leader_epoch(partition.committed_leader_epoch)
                    .with_metadata(partition.metadata)
                    .with_error_code(partition.error_code)
            });
            OffsetFetchResponseTopic::default().with_name(topic.name).with_partitions(partitions.collect())
        });
        OffsetFetchResponse::default().with_error_code(group.error_code).with_topics(topics.collect())
    }
}

fn fetch_group(state: &State, context: &Context, id: &GroupId, wanted: Wanted<'_>) -> OffsetFetchResponseGroup {
    let response = OffsetFetchResponseGroup::default().with_group_id(id.clone());
    if let Some(error) = context.error().or(coordinated(state, context).err()) {
        return response.with_error_code(error.code());
    }
    let none = Group::default();
    let group = state.groups.get(id).unwrap_or(&none);
    let topics = match wanted {
        Some(topics) => {
            topics.into_iter().map(|(name, partitions)| fetch_topic(context, group, name, partitions)).collect()
        }
        None => all_topics(context, group),
    };
    response.with_topics(topics)
}

fn all_topics(context: &Context, group: &Group) -> Vec<OffsetFetchResponseTopics> {
    let mut topics: Vec<(TopicName, Vec<i32>)> = Vec::new();
    for at in group.offsets.keys() {
        match topics.last_mut().filter(|(name, _)| *name.as_str() == *at.topic) {
            Some((_, partitions)) => partitions.push(at.partition),
            None => topics.push((TopicName(text(&at.topic)), vec![at.partition])),
        }
    }
    topics.iter().map(|(name, partitions)| fetch_topic(context, group, name, partitions)).collect()
}

fn fetch_topic(context: &Context, group: &Group, name: &TopicName, partitions: &[i32]) -> OffsetFetchResponseTopics {
    let partitions = partitions.iter().map(|&index| {
        let error = context.error_for(name, index);
        let committed = group.offsets.get(&TopicPartition::new(name.as_str(), index)).filter(|_| error.is_none());
        let metadata = committed.map_or(StrBytes::default(), |committed| text(&committed.metadata));
        OffsetFetchResponsePartitions::default()
            .with_partition_index(index)
            .with_error_code(error.map_or(0, |error| error.code()))
            .with_committed_offset(committed.map_or(-1, |committed| committed.offset.0))
            .with_committed_leader_epoch(committed.map_or(-1, |committed| committed.leader_epoch.0))
            .with_metadata(Some(metadata))
    });
    OffsetFetchResponseTopics::default().with_name(name.clone()).with_partitions(partitions.collect())
}

impl Handle for DescribeGroupsRequest {
    fn handle(&self, state: &mut State, context: &Context) -> DescribeGroupsResponse {
        let groups = self.groups.iter().map(|id| {
            let described = DescribedGroup::default().with_group_id(id.clone());
            if let Some(error) = context.error().or(coordinated(state, context).err()) {
                return described.with_error_code(error.code());
            }
            match state.groups.get(id) {
                Some(group) => describe(group, described, context.version),
                None if context.version < NOT_FOUND => described.with_group_state("Dead".into()),
                None => described
                    .with_group_state("Dead".into())
                    .with_error_code(ResponseError::GroupIdNotFound.code())
                    .with_error_message(message(&"there is no such group")),
            }
        });
        DescribeGroupsResponse::default().with_groups(groups.collect())
    }
}

/// Kafka, too, shows what members have said and got only once all of them know.
fn describe(group: &Group, described: DescribedGroup, version: i16) -> DescribedGroup {
    let classic = &group.classic;
    let protocol = classic.protocol.clone().unwrap_or_default();
    let is_stable = classic.phase == Phase::Stable;
    let pretended = group.pretended.iter().map(|member| {
        DescribedGroupMember::default()
            .with_member_id(text(&member.id))
            .with_client_id(text(&member.client_id))
            .with_client_host(text(&member.host))
    });
    let joined = classic.members().iter().map(|member| {
        let described = DescribedGroupMember::default()
            .with_member_id(text(&member.id))
            .with_group_instance_id(member.instance.as_deref().filter(|_| version >= INSTANCES).map(text))
            .with_client_id(text(&member.client_id))
            .with_client_host(text(MEMBER_HOST));
        match is_stable {
            true => described
                .with_member_metadata(member.metadata(&protocol))
                .with_member_assignment(member.assignment.clone()),
            false => described,
        }
    });
    let protocol = if group.pretended.is_empty() { &protocol } else { "range" };
    described
        .with_group_state(group.state().into())
        .with_protocol_type(text(group.protocol_type()))
        .with_protocol_data(text(protocol))
        .with_members(pretended.chain(joined).collect())
}

impl Handle for ListGroupsRequest {
    fn handle(&self, state: &mut State, context: &Context) -> ListGroupsResponse {
        if let Some(error) = context.error() {
            return ListGroupsResponse::default().with_error_code(error.code());
        }
        if coordinated(state, context).is_err() {
            return ListGroupsResponse::default();
        }
        let one_of = |wanted: &[StrBytes], is: &str| {
            wanted.is_empty() || wanted.iter().any(|wanted| wanted.eq_ignore_ascii_case(is))
        };
        let groups = state
            .groups
            .iter()
            .filter(|(_, group)| one_of(&self.states_filter, group.state()) && one_of(&self.types_filter, "classic"));
        let groups = groups.map(|(id, group)| {
            ListedGroup::default()
                .with_group_id(GroupId(text(id)))
                .with_protocol_type(text(group.protocol_type()))
                .with_group_state(group.state().into())
                .with_group_type("classic".into())
        });
        ListGroupsResponse::default().with_groups(groups.collect())
    }
}
