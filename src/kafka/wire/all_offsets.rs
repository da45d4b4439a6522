//! OffsetFetch without a list of topics: all offsets that a group keeps.

use std::{collections::BTreeMap, sync::Arc};

use kafka_protocol::{
    ResponseError,
    messages::{OffsetFetchRequest, OffsetFetchResponse, offset_fetch_request::OffsetFetchRequestGroup},
    protocol::StrBytes,
};

use super::{Cluster, ErrorCode, WireError, cluster::Answer};
use crate::{
    offsets::Committed,
    record::{LeaderEpoch, Offset, TopicPartition},
};

/// The first version that can say "all topics".
const ALL_TOPICS_SINCE: i16 = 2;
/// From this version on a request is about many groups.
const MANY_GROUPS_SINCE: i16 = 8;

impl Cluster {
    /// All that `group` has committed, whatever the topic, as it stands now: an offset that a transaction is about to commit
    /// is not waited for. Nothing for a group that is not there.
    ///
    /// # Errors
    /// No coordinator in time, or we may not see the group. Topics that we may not see are left out by the broker.
    pub async fn all_offsets(&self, group: &str) -> Result<BTreeMap<TopicPartition, Committed>, WireError> {
        self.retrying(|until| {
            let build = |version| request(version, group);
            self.ask_coordinator(group, until, ALL_TOPICS_SINCE, build, move |answer| read(&answer, group))
        })
        .await
    }
}

fn request(version: i16, group: &str) -> OffsetFetchRequest {
    let group = StrBytes::from_string(group.to_owned()).into();
    if version < MANY_GROUPS_SINCE {
        return OffsetFetchRequest::default().with_group_id(group).with_topics(None);
    }
    let asked = OffsetFetchRequestGroup::default().with_group_id(group).with_topics(None);
    OffsetFetchRequest::default().with_groups(vec![asked])
}

fn read(answer: &Answer<OffsetFetchResponse>, group: &str) -> Result<BTreeMap<TopicPartition, Committed>, WireError> {
    let response = &answer.response;
    let code = response.groups.first().map_or(response.error_code, |group| group.error_code);
    if ErrorCode(code).is(ResponseError::GroupIdNotFound) {
        return Ok(BTreeMap::new());
    }
    answer.check(code, || format!("group {group}"))?;
    let old = response.topics.iter().flat_map(|topic| {
        let said = topic.partitions.iter().map(|p| {
            (p.partition_index, p.error_code, p.committed_offset, p.committed_leader_epoch, p.metadata.as_ref())
        });
        said.map(|said| (&topic.name, said))
    });
    let new = response.groups.iter().flat_map(|group| &group.topics).flat_map(|topic| {
        let said = topic.partitions.iter().map(|p| {
            (p.partition_index, p.error_code, p.committed_offset, p.committed_leader_epoch, p.metadata.as_ref())
        });
        said.map(|said| (&topic.name, said))
    });
    let mut all = BTreeMap::new();
    for (topic, (partition, code, offset, epoch, metadata)) in old.chain(new) {
        let topic: Arc<str> = topic.as_str().into();
        answer.check(code, || format!("{topic}-{partition} of group {group}"))?;
        if offset >= 0 {
            let metadata = metadata.map(ToString::to_string).unwrap_or_default();
            let committed = Committed { offset: Offset(offset), leader_epoch: LeaderEpoch(epoch), metadata };
            all.insert(TopicPartition::new(topic, partition), committed);
        }
    }
    Ok(all)
}
