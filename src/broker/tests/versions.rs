//! Each request in each version that is spoken, with an outcome that is good and one that is not.

use bytes::{BufMut, BytesMut};
use kafka_protocol::{
    error::ResponseError,
    messages::{
        ApiVersionsRequest, ApiVersionsResponse, CreateTopicsRequest, DeleteRecordsRequest, DeleteTopicsRequest,
        DescribeGroupsRequest, FindCoordinatorRequest, GroupId, InitProducerIdRequest, ListGroupsRequest,
        ListOffsetsRequest, MetadataRequest, OffsetCommitRequest, OffsetFetchRequest, OffsetForLeaderEpochRequest,
        create_topics_request::CreatableTopic,
        delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic},
        delete_topics_request::DeleteTopicState,
        list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic},
        metadata_request::MetadataRequestTopic,
        offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic},
        offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics},
        offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic},
    },
    protocol::Decodable,
};

use super::*;
use crate::broker::{NodeId, requests::SPOKEN};

const UNKNOWN: i16 = ResponseError::UnknownTopicOrPartition.code();
const NOT_LEADER: i16 = ResponseError::NotLeaderOrFollower.code();

fn versions(api: ApiKey) -> std::ops::RangeInclusive<i16> {
    let (_, min, max) = SPOKEN.into_iter().find(|(key, ..)| *key == api).unwrap();
    min..=max
}

/// Two nodes, where the first leads partition 0 of topic `t`, which holds three records, and the second partition 1.
fn cluster() -> (Broker, Client) {
    let broker = start_nodes(2);
    broker.create_topic("t", 2).unwrap();
    broker
        .append_at(
            1_000,
            "t",
            0,
            ["a", "b", "c"].map(|v| Outgoing { key: None, value: Some(v.into()), headers: Headers::default() }),
        )
        .unwrap();
    let client = Client::of(&broker);
    (broker, client)
}

#[test]
fn produce() {
    let (broker, mut client) = cluster();
    let id = broker.topic_id("t").unwrap().0;
    for version in versions(ApiKey::Produce) {
        let mut ask = |topic: &str, partition| {
            let mut request = produce_request(topic, partition, batch(&["v"]));
            if version >= 13 {
                let id = if topic == "t" { id } else { uuid::Uuid::from_u128(1) };
                request.topic_data[0] = request.topic_data[0].clone().with_name(name("")).with_topic_id(id);
            }
            client.ask(&request, version).responses.remove(0).partition_responses.remove(0)
        };
        let end = broker.end_offset("t", 0).unwrap().0;
        let good = ask("t", 0);
        assert_eq!((good.error_code, good.base_offset), (0, end), "version {version}");
        let unknown = if version >= 13 { ResponseError::UnknownTopicId.code() } else { UNKNOWN };
        assert_eq!(ask("missing", 0).error_code, unknown, "version {version}");
        let moved = ask("t", 1);
        assert_eq!(moved.error_code, NOT_LEADER, "version {version}");
        let leader = moved.current_leader.leader_id.0;
        assert_eq!(leader, if version >= 10 { 2 } else { -1 }, "version {version}");
    }
}

#[test]
fn fetch() {
    let (broker, mut client) = cluster();
    let id = broker.topic_id("t").unwrap().0;
    for version in versions(ApiKey::Fetch) {
        let mut ask = |topic: &str, partition| {
            let mut request = fetch_request(&[(topic, partition, 1)]);
            if version >= 13 {
                let id = if topic == "t" { id } else { uuid::Uuid::from_u128(1) };
                request.topics[0] = request.topics[0].clone().with_topic(name("")).with_topic_id(id);
            }
            if version >= 15 {
                request.replica_id = (-1).into();
            }
            partitions(client.ask(&request, version)).remove(0)
        };
        let good = ask("t", 0);
        assert_eq!((good.error_code, good.high_watermark, good.last_stable_offset), (0, 3, 3), "version {version}");
        assert_eq!(values(&good), [value(0, "a"), value(1, "b"), value(2, "c")], "version {version}");
        let unknown = if version >= 13 { ResponseError::UnknownTopicId.code() } else { UNKNOWN };
        assert_eq!(ask("missing", 0).error_code, unknown, "version {version}");
        let moved = ask("t", 1);
        assert_eq!(moved.error_code, NOT_LEADER, "version {version}");
        let leader = moved.current_leader.leader_id.0;
        assert_eq!(leader, if version >= 12 { 2 } else { -1 }, "version {version}");
    }
}

#[test]
fn list_offsets() {
    let (broker, mut client) = cluster();
    broker.delete_records("t", 0, crate::record::Offset(1));
    for version in versions(ApiKey::ListOffsets) {
        let mut ask = |topic: &str, partition, timestamp| {
            let partition = ListOffsetsPartition::default().with_partition_index(partition).with_timestamp(timestamp);
            let topic = ListOffsetsTopic::default().with_name(name(topic)).with_partitions(vec![partition]);
            let request = ListOffsetsRequest::default().with_replica_id((-1).into()).with_topics(vec![topic]);
            let found = client.ask(&request, version).topics.remove(0).partitions.remove(0);
            (found.error_code, found.offset, found.timestamp)
        };
        assert_eq!(ask("t", 0, -1), (0, 3, -1), "version {version}");
        assert_eq!(ask("t", 0, -2), (0, 1, -1), "version {version}");
        assert_eq!(ask("t", 0, 500), (0, 1, 1_000), "version {version}");
        assert_eq!(ask("t", 0, 1_001), (0, -1, -1), "version {version}");
        assert_eq!(ask("t", 0, -3), (0, 0, 1_000), "version {version}");
        assert_eq!(ask("missing", 0, -1).0, UNKNOWN, "version {version}");
        assert_eq!(ask("t", 1, -1).0, NOT_LEADER, "version {version}");
    }
}

#[test]
fn metadata() {
    let (broker, mut client) = cluster();
    let ports: Vec<i32> =
        broker.nodes().iter().map(|(_, at)| at.rsplit(':').next().unwrap().parse().unwrap()).collect();
    for version in versions(ApiKey::Metadata) {
        let ask = |topic: &str| MetadataRequestTopic::default().with_name(Some(name(topic)));
        let request = MetadataRequest::default().with_topics(Some(vec![ask("t"), ask("missing"), ask("b@d")]));
        let response = client.ask(&request, version);
        assert_eq!(response.brokers.iter().map(|b| b.port).collect::<Vec<_>>(), ports);
        let errors: Vec<_> = response.topics.iter().map(|topic| topic.error_code).collect();
        assert_eq!(errors, [0, UNKNOWN, UNKNOWN], "version {version}");
        let leaders: Vec<_> = response.topics[0].partitions.iter().map(|p| p.leader_id.0).collect();
        assert_eq!(leaders, [1, 2], "version {version}");
        if version >= 10 {
            assert_eq!(response.topics[0].topic_id, broker.topic_id("t").unwrap().0);
            let by_id = MetadataRequestTopic::default().with_name(None).with_topic_id(response.topics[0].topic_id);
            let response = client.ask(&MetadataRequest::default().with_topics(Some(vec![by_id])), version);
            assert_eq!(response.topics[0].name, Some(name("t")));
        }
        let all = if version == 0 { Some(vec![]) } else { None };
        let response = client.ask(&MetadataRequest::default().with_topics(all), version);
        assert_eq!(response.topics.len(), 1, "version {version}");
    }
}

#[test]
fn offsets_of_groups() {
    let (broker, mut client) = cluster();
    for version in versions(ApiKey::OffsetCommit) {
        let mut commit = |topic: &str| {
            let partition = OffsetCommitRequestPartition::default()
                .with_committed_offset(i64::from(version))
                .with_committed_metadata(Some("m".into()));
            let topic = OffsetCommitRequestTopic::default().with_name(name(topic)).with_partitions(vec![partition]);
            let request = OffsetCommitRequest::default().with_group_id(GroupId("g".into())).with_topics(vec![topic]);
            client.ask(&request, version).topics.remove(0).partitions.remove(0).error_code
        };
        assert_eq!(commit("t"), 0, "version {version}");
        assert_eq!(broker.committed("g", "t", 0).unwrap().offset.0, i64::from(version));
        assert_eq!(commit("missing"), UNKNOWN, "version {version}");
    }
    for version in versions(ApiKey::OffsetFetch) {
        let mut fetch = |all: bool| {
            if version >= 8 {
                let topic = OffsetFetchRequestTopics::default().with_name(name("t")).with_partition_indexes(vec![0, 1]);
                let topics = if all { None } else { Some(vec![topic]) };
                let group = OffsetFetchRequestGroup::default().with_group_id(GroupId("g".into())).with_topics(topics);
                let response = client.ask(&OffsetFetchRequest::default().with_groups(vec![group]), version);
                let topic = &response.groups[0].topics[0];
                let read = |p: &kafka_protocol::messages::offset_fetch_response::OffsetFetchResponsePartitions| {
                    (p.partition_index, p.committed_offset, p.metadata.as_ref().unwrap().to_string(), p.error_code)
                };
                return topic.partitions.iter().map(read).collect::<Vec<_>>();
            }
            let topic = OffsetFetchRequestTopic::default().with_name(name("t")).with_partition_indexes(vec![0, 1]);
            let topics = if all { None } else { Some(vec![topic]) };
            let request = OffsetFetchRequest::default().with_group_id(GroupId("g".into())).with_topics(topics);
            let topic = client.ask(&request, version).topics.remove(0);
            let read = |p: &kafka_protocol::messages::offset_fetch_response::OffsetFetchResponsePartition| {
                (p.partition_index, p.committed_offset, p.metadata.as_ref().unwrap().to_string(), p.error_code)
            };
            topic.partitions.iter().map(read).collect()
        };
        let zero = (0, 9, "m".to_owned(), 0);
        assert_eq!(fetch(false), [zero.clone(), (1, -1, String::new(), 0)], "version {version}");
        if version >= 2 {
            assert_eq!(fetch(true), [zero], "version {version}");
        }
    }
}

#[test]
fn groups_and_coordinators() {
    let (broker, mut client) = cluster();
    broker.commit("g", "t", 0, crate::record::Offset(1), "").unwrap();
    for version in versions(ApiKey::FindCoordinator) {
        let request = FindCoordinatorRequest::default();
        let request = if version >= 4 {
            request.with_coordinator_keys(vec!["g".into(), "h".into()])
        } else {
            request.with_key("g".into())
        };
        let response = client.ask(&request, version);
        if version >= 4 {
            assert_eq!(response.coordinators.iter().map(|c| c.node_id.0).collect::<Vec<_>>(), [1, 1]);
        } else {
            assert_eq!(response.node_id.0, 1);
        }
    }
    for version in versions(ApiKey::DescribeGroups) {
        let groups = vec![GroupId("g".into()), GroupId("none".into())];
        let response = client.ask(&DescribeGroupsRequest::default().with_groups(groups), version);
        let states: Vec<_> = response.groups.iter().map(|g| (g.group_state.to_string(), g.error_code)).collect();
        let error = if version >= 6 { ResponseError::GroupIdNotFound.code() } else { 0 };
        assert_eq!(states, [("Empty".to_owned(), 0), ("Dead".to_owned(), error)], "version {version}");
    }
    for version in versions(ApiKey::ListGroups) {
        let response = client.ask(&ListGroupsRequest::default(), version);
        assert_eq!(response.groups.iter().map(|g| g.group_id.to_string()).collect::<Vec<_>>(), ["g"]);
    }
    broker.move_coordinator(NodeId(2)).unwrap();
    for version in versions(ApiKey::DescribeGroups) {
        let request = DescribeGroupsRequest::default().with_groups(vec![GroupId("g".into())]);
        let response = client.ask(&request, version);
        assert_eq!(response.groups[0].error_code, ResponseError::NotCoordinator.code());
    }
}

#[test]
fn topics_and_records() {
    let (broker, mut client) = cluster();
    for version in versions(ApiKey::CreateTopics) {
        let topic = |topic: &str, partitions| {
            CreatableTopic::default().with_name(name(topic)).with_num_partitions(partitions).with_replication_factor(1)
        };
        let made = format!("made-{version}");
        let topics = vec![topic(&made, 3), topic("t", 1), topic("b@d", 1), topic("none", 0)];
        let response = client.ask(&CreateTopicsRequest::default().with_topics(topics), version);
        let errors: Vec<_> = response.topics.iter().map(|topic| topic.error_code).collect();
        assert_eq!(errors, [0, 36, 17, 37], "version {version}");
        assert_eq!(broker.partitions(&made), Some(3));
    }
    for version in versions(ApiKey::DeleteTopics) {
        let made = "made-2";
        if broker.topic_id(made).is_none() {
            broker.create_topic(made, 1).unwrap();
        }
        let request = DeleteTopicsRequest::default();
        let request = if version >= 6 {
            let id = broker.topic_id(made).unwrap().0;
            let by_id = |id| DeleteTopicState::default().with_name(None).with_topic_id(id);
            request.with_topics(vec![by_id(id), by_id(uuid::Uuid::from_u128(1))])
        } else {
            request.with_topic_names(vec![name(made), name("missing")])
        };
        let errors: Vec<_> = client.ask(&request, version).responses.iter().map(|r| r.error_code).collect();
        let unknown = if version >= 6 { ResponseError::UnknownTopicId.code() } else { UNKNOWN };
        assert_eq!(errors, [0, unknown], "version {version}");
        assert_eq!(broker.topic_id(made), None);
    }
    for version in versions(ApiKey::DeleteRecords) {
        let mut delete = |partition, offset| {
            let partition = DeleteRecordsPartition::default().with_partition_index(partition).with_offset(offset);
            let topic = DeleteRecordsTopic::default().with_name(name("t")).with_partitions(vec![partition]);
            let request = DeleteRecordsRequest::default().with_topics(vec![topic]);
            let result = client.ask(&request, version).topics.remove(0).partitions.remove(0);
            (result.error_code, result.low_watermark)
        };
        assert_eq!(delete(0, i64::from(version)), (0, i64::from(version)));
        assert_eq!(delete(0, 4), (ResponseError::OffsetOutOfRange.code(), -1));
        assert_eq!(delete(1, 0), (NOT_LEADER, -1));
    }
}

#[test]
fn producers_and_epochs() {
    let (broker, mut client) = cluster();
    for version in versions(ApiKey::InitProducerId) {
        let mut ask = |id: Option<&'static str>| {
            let id = id.map(|id| kafka_protocol::messages::TransactionalId(id.into()));
            let response = client.ask(&InitProducerIdRequest::default().with_transactional_id(id), version);
            (response.error_code, response.producer_id.0)
        };
        assert_eq!(ask(None), (0, i64::from(version) + 1), "never the same");
        assert_eq!(ask(Some("t")).0, ResponseError::TransactionalIdAuthorizationFailed.code());
    }
    broker.move_leader("t", 0, NodeId(1)).unwrap();
    broker.append_values("t", 0, ["d"]).unwrap();
    for version in versions(ApiKey::OffsetForLeaderEpoch) {
        let mut ask = |epoch, believed| {
            let partition =
                OffsetForLeaderPartition::default().with_leader_epoch(epoch).with_current_leader_epoch(believed);
            let topic = OffsetForLeaderTopic::default().with_topic(name("t")).with_partitions(vec![partition]);
            let request = OffsetForLeaderEpochRequest::default().with_replica_id((-1).into()).with_topics(vec![topic]);
            let end = client.ask(&request, version).topics.remove(0).partitions.remove(0);
            (end.error_code, end.leader_epoch, end.end_offset)
        };
        assert_eq!(ask(0, -1), (0, 0, 3), "version {version}");
        assert_eq!(ask(1, 1), (0, 1, 4), "version {version}");
        assert_eq!(ask(1, 0), (ResponseError::FencedLeaderEpoch.code(), -1, -1), "version {version}");
        assert_eq!(ask(1, 2), (ResponseError::UnknownLeaderEpoch.code(), -1, -1), "version {version}");
    }
}

#[test]
fn api_versions() {
    let (broker, mut client) = cluster();
    for version in versions(ApiKey::ApiVersions) {
        let response = client.ask(&ApiVersionsRequest::default(), version);
        assert_eq!((response.error_code, response.api_keys.len()), (0, SPOKEN.len()), "version {version}");
    }
    broker.cap_version(ApiKey::Metadata, 9);
    broker.cap_version(ApiKey::ListGroups, -1);
    let response = client.ask(&ApiVersionsRequest::default(), 4);
    let newest = |api: ApiKey| response.api_keys.iter().find(|k| k.api_key == api as i16).map(|k| k.max_version);
    assert_eq!(newest(ApiKey::Metadata), Some(9));
    assert_eq!(newest(ApiKey::ListGroups), None);
    assert!(
        client.try_ask(&MetadataRequest::default(), 10).is_err(),
        "a version that is not spoken ends the connection"
    );
}

/// KIP-511: a client that is too new learns what is spoken all the same.
#[test]
fn an_api_versions_request_of_the_future_is_answered_in_version_0() {
    let (_broker, mut client) = cluster();
    let mut frame = BytesMut::new();
    frame.put_i16(ApiKey::ApiVersions as i16);
    frame.put_i16(99);
    frame.put_i32(7);
    frame.put_slice(b"whatever the future brings");
    client.send_frame(&frame).unwrap();
    let mut answer = client.receive().unwrap();
    assert_eq!(bytes::Buf::get_i32(&mut answer), 7);
    let response = ApiVersionsResponse::decode(&mut answer, 0).unwrap();
    assert_eq!((response.error_code, response.api_keys.len()), (35, SPOKEN.len()));
    client.ask(&ApiVersionsRequest::default(), 3);
}
