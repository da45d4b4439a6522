//! What is kept, what is refused, and what waits.

use std::{
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use kafka_protocol::{
    error::ResponseError,
    messages::{
        CreateTopicsRequest, DescribeGroupsRequest, GroupId, MetadataRequest, OffsetCommitRequest,
        create_topics_request::{CreatableTopic, CreatableTopicConfig},
        metadata_request::MetadataRequestTopic,
        offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic},
    },
};

use super::*;
use crate::{
    broker::{AppendError, Member, NodeId},
    record::{Header, Offset},
};

/// A compressed batch, made by no one in particular: the broker cannot look inside, and has no need to.
fn compressed(values: &[&str]) -> Bytes {
    let mut bytes = batch(values).to_vec();
    bytes[22] |= 3;
    let crc = crc32c::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    bytes.into()
}

#[test]
fn a_batch_is_kept_as_it_came() {
    let broker = start();
    broker.create_topic("t", 1).unwrap();
    let mut client = Client::of(&broker);
    let sent = [batch(&["a", "b"]), compressed(&["c", "d", "e"])];
    assert_eq!(produce(&mut client, "t", 0, sent[0].clone()).base_offset, 0);
    assert_eq!(produce(&mut client, "t", 0, sent[1].clone()).base_offset, 2);
    let got = fetch(&mut client, "t", 0, 2).records.unwrap();
    assert_eq!(got[..8], 2_i64.to_be_bytes());
    assert_eq!(got[8..12], sent[1][8..12]);
    assert_eq!(got[12..16], 0_i32.to_be_bytes(), "the leader epoch");
    assert_eq!(got[16..], sent[1][16..], "everything else is the same");
    assert!(broker.records("t").unwrap_err().to_string().contains("offset 2 of t-0"));
}

#[test]
fn what_is_appended_can_be_listed() {
    let broker = start();
    broker.create_topic("t", 2).unwrap();
    let headers = vec![Header::new("h", "1"), Header { name: "h".into(), value: None }];
    let record = Outgoing { key: Some("k".into()), value: None, headers: headers.clone().into() };
    assert_eq!(broker.append("t", 1, [record]), Ok(Offset(0)));
    assert_eq!(broker.append_values("t", 0, ["x", "y"]), Ok(Offset(0)));
    let records = broker.records("t").unwrap();
    let at: Vec<_> = records.iter().map(|r| (r.source.partition, r.offset.0, r.value.as_deref())).collect();
    assert_eq!(at, [(0, 0, Some(&b"x"[..])), (0, 1, Some(&b"y"[..])), (1, 0, None)]);
    assert_eq!(records[2].headers, headers);
    assert_eq!(broker.append_values("t", 2, ["x"]), Err(AppendError::UnknownPartition));
    assert_eq!(broker.end_offsets("t"), Some(vec![Offset(2), Offset(1)]));
}

#[test]
fn a_fetch_waits_for_records() {
    let broker = start();
    broker.create_topic("t", 1).unwrap();
    let mut client = Client::of(&broker);
    client.send(&fetch_request(&[("t", 0, 0)]).with_max_wait_ms(60_000), 12).unwrap();
    client.stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    assert!(client.stream.peek(&mut [0]).is_err(), "nothing to answer yet");
    client.stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let asked = Instant::now();
    broker.append_values("t", 0, ["late"]).unwrap();
    client.receive().unwrap();
    assert!(asked.elapsed() < PATIENCE);
}

#[test]
fn a_fetch_waits_no_longer_than_it_wants_to() {
    let broker = start();
    broker.create_topic("t", 1).unwrap();
    broker.append_values("t", 0, ["some"]).unwrap();
    let mut client = Client::of(&broker);
    let asked = Instant::now();
    let request = fetch_request(&[("t", 0, 0)]).with_max_wait_ms(100).with_min_bytes(10_000);
    let data = partitions(client.ask(&request, 12)).remove(0);
    assert!(asked.elapsed() >= Duration::from_millis(100));
    assert_eq!(values(&data), [value(0, "some")], "over time it gets what there is");
}

#[test]
fn a_fetch_that_waits_learns_of_a_moved_leader_and_of_a_deleted_topic() {
    let broker = start_nodes(2);
    for change in [(|broker: &Broker| broker.move_leader("t", 0, NodeId(2)).unwrap()) as fn(&Broker), |broker| {
        broker.delete_topic("t").unwrap();
    }] {
        let _ = broker.delete_topic("t");
        broker.create_topic("t", 1).unwrap();
        let address = broker.address();
        let asked = broker.requests(ApiKey::Fetch);
        let waiting = thread::spawn(move || {
            let request = fetch_request(&[("t", 0, 0)]).with_max_wait_ms(60_000);
            partitions(Client::at(&address).ask(&request, 12)).remove(0).error_code
        });
        let came = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap()
            .block_on(broker.until(PATIENCE, |broker| broker.requests(ApiKey::Fetch) > asked));
        assert!(came);
        change(&broker);
        assert!([3, 6].contains(&waiting.join().unwrap()));
    }
}

#[test]
fn an_answer_is_bounded_but_never_empty_for_that() {
    let broker = start();
    broker.create_topic("t", 2).unwrap();
    for partition in [0, 1] {
        broker.append_values("t", partition, ["first"]).unwrap();
        broker.append_values("t", partition, ["second"]).unwrap();
    }
    let mut client = Client::of(&broker);
    let request = fetch_request(&[("t", 0, 0), ("t", 1, 0)]).with_max_bytes(1);
    let data = partitions(client.ask(&request, 12));
    assert_eq!(values(&data[0]), [value(0, "first")]);
    assert!(data[1].records.as_ref().unwrap().is_empty());
    assert_eq!(data[1].high_watermark, 2);
}

#[test]
fn offsets_out_of_range_are_said_to_be() {
    let broker = start();
    broker.create_topic("t", 1).unwrap();
    broker.append_values("t", 0, ["a", "b", "c"]).unwrap();
    broker.delete_records("t", 0, Offset(2));
    let mut client = Client::of(&broker);
    let codes = [0, 1, 2, 3, 4].map(|offset| fetch(&mut client, "t", 0, offset).error_code);
    assert_eq!(codes, [1, 1, 0, 0, 1]);
    assert_eq!(fetch(&mut client, "t", 0, 2).log_start_offset, 2);
    broker.leave_gap("t", 0, 5);
    let data = fetch(&mut client, "t", 0, 5);
    assert_eq!((data.error_code, data.high_watermark, data.records.unwrap().len()), (0, 8, 0), "an empty tail");
}

#[test]
fn a_topic_made_anew_has_another_id() {
    let broker = start();
    let old = broker.create_topic("t", 1).unwrap();
    broker.commit("g", "t", 0, Offset(7), "").unwrap();
    let new = broker.recreate_topic("t", 1).unwrap();
    assert_eq!(broker.committed("g", "t", 0), None);
    let mut client = Client::of(&broker);
    let codes = [old, new].map(|id| {
        let mut request = fetch_request(&[("", 0, 0)]);
        request.topics[0].topic_id = id.0;
        partitions(client.ask(&request, 13))[0].error_code
    });
    assert_eq!(codes, [ResponseError::UnknownTopicId.code(), 0]);
}

#[test]
fn a_truncated_log_goes_on_with_another_epoch() {
    let broker = start();
    broker.create_topic("t", 1).unwrap();
    broker.append_values("t", 0, ["a"]).unwrap();
    broker.append_values("t", 0, ["lost"]).unwrap();
    assert_eq!(broker.truncate("t", 0, Offset(1)), Some(Offset(1)));
    broker.append_values("t", 0, ["b"]).unwrap();
    let mut client = Client::of(&broker);
    assert_eq!(values(&fetch(&mut client, "t", 0, 0)), [value(0, "a"), value(1, "b")]);
    assert_eq!(broker.leader("t", 0).unwrap().1.0, 1);
}

/// A batch of an idempotent producer.
fn numbered(producer_id: i64, sequence: i32, values: &[&str]) -> Bytes {
    let mut bytes = batch(values).to_vec();
    bytes[43..51].copy_from_slice(&producer_id.to_be_bytes());
    bytes[51..53].copy_from_slice(&0_i16.to_be_bytes());
    bytes[53..57].copy_from_slice(&sequence.to_be_bytes());
    let crc = crc32c::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    bytes.into()
}

#[test]
fn an_idempotent_producers_batch_is_kept_once() {
    let broker = start();
    broker.create_topic("t", 1).unwrap();
    let mut client = Client::of(&broker);
    let mut send = |sequence, values: &[&str]| {
        let answer = produce(&mut client, "t", 0, numbered(5, sequence, values));
        (answer.error_code, answer.base_offset)
    };
    assert_eq!(send(0, &["a", "b"]), (0, 0));
    assert_eq!(send(2, &["c"]), (0, 2));
    assert_eq!(send(0, &["a", "b"]), (0, 0));
    assert_eq!(send(4, &["e"]), (ResponseError::OutOfOrderSequenceNumber.code(), -1));
    assert_eq!(broker.end_offset("t", 0), Some(Offset(3)));
}

#[test]
fn without_acknowledgement_there_is_no_answer_and_an_error_ends_the_connection() {
    let broker = start();
    broker.create_topic("t", 1).unwrap();
    let mut client = Client::of(&broker);
    client.send(&produce_request("t", 0, batch(&["a"])).with_acks(0), 9).unwrap();
    assert_eq!(values(&fetch(&mut client, "t", 0, 0)), [value(0, "a")], "the next answer is for the next request");
    client.send(&produce_request("missing", 0, batch(&["a"])).with_acks(0), 9).unwrap();
    assert!(client.receive_until_closed().is_empty());
    let mut client = Client::of(&broker);
    let answer = client.ask(&produce_request("t", 0, batch(&["a"])).with_acks(2), 9);
    assert_eq!(answer.responses[0].partition_responses[0].error_code, ResponseError::InvalidRequiredAcks.code());
}

#[test]
fn a_full_broker_refuses_and_drops_nothing() {
    let broker = Broker::start(Options { max_bytes: 300, max_message_bytes: 200, ..Options::default() }).unwrap();
    broker.create_topic("t", 1).unwrap();
    let mut client = Client::of(&broker);
    let large = "x".repeat(100);
    let mut send = |value: &str| produce(&mut client, "t", 0, batch(&[value])).error_code;
    assert_eq!(send(&"x".repeat(200)), ResponseError::MessageTooLarge.code());
    assert_eq!(send(&large), 0);
    assert_eq!(send(&large), ResponseError::KafkaStorageError.code());
    assert_eq!(broker.append_values("t", 0, [large.clone()]), Err(AppendError::Full { limit: 300 }));
    assert_eq!(broker.records("t").unwrap().len(), 1);
    broker.delete_records("t", 0, Offset(1));
    assert_eq!(broker.kept_bytes(), 0);
    assert_eq!(send(&large), 0);
}

#[test]
fn a_topic_may_have_its_own_limit() {
    let broker = start();
    let mut client = Client::of(&broker);
    let create = |value: &'static str| {
        let config =
            CreatableTopicConfig::default().with_name("max.message.bytes".into()).with_value(Some(value.into()));
        let topic = CreatableTopic::default().with_name(name("t")).with_num_partitions(-1).with_replication_factor(-1);
        CreateTopicsRequest::default().with_topics(vec![topic.with_configs(vec![config])])
    };
    let refused = client.ask(&create("many"), 7).topics.remove(0);
    assert_eq!(refused.error_code, ResponseError::InvalidConfig.code());
    assert_eq!(client.ask(&create("100"), 7).topics[0].num_partitions, 1);
    let answer = produce(&mut client, "t", 0, batch(&[&"x".repeat(100)]));
    assert_eq!(answer.error_code, ResponseError::MessageTooLarge.code());
    broker.append_values("t", 0, vec!["x"; 50]).unwrap();
    assert_eq!(broker.end_offset("t", 0), Some(Offset(50)), "what is appended is split to fit");
}

#[test]
fn asking_creates_a_topic_only_where_both_sides_want_it() {
    let ask = |broker: &Broker, may_create| {
        let topic = MetadataRequestTopic::default().with_name(Some(name("t")));
        let request = MetadataRequest::default().with_topics(Some(vec![topic]));
        Client::of(broker).ask(&request.with_allow_auto_topic_creation(may_create), 9).topics[0].error_code
    };
    let broker = start();
    assert_eq!(ask(&broker, true), 3);
    let broker =
        Broker::start(Options { auto_create_topics: true, default_partitions: 4, ..Options::default() }).unwrap();
    assert_eq!(ask(&broker, false), 3);
    assert_eq!(broker.topics(), [""; 0]);
    assert_eq!(ask(&broker, true), 0);
    assert_eq!(broker.partitions("t"), Some(4));
}

#[test]
fn a_group_with_members_shows_them_and_refuses_strangers() {
    let broker = start_nodes(2);
    broker.create_topic("t", 1).unwrap();
    let mut client = Client::of(&broker);
    let partition = |metadata: String| {
        OffsetCommitRequestPartition::default()
            .with_committed_offset(3)
            .with_committed_metadata(Some(StrBytes::from_string(metadata)))
    };
    let mut commit = |metadata: String| {
        let topic = OffsetCommitRequestTopic::default().with_name(name("t")).with_partitions(vec![partition(metadata)]);
        let request = OffsetCommitRequest::default().with_group_id(GroupId("g".into())).with_topics(vec![topic]);
        client.ask(&request, 8).topics[0].partitions[0].error_code
    };
    assert_eq!(commit(String::new()), 0);
    assert_eq!(commit("x".repeat(4_097)), ResponseError::OffsetMetadataTooLarge.code());
    broker.set_members("g", [Member::new("other-1")]);
    assert_eq!(commit(String::new()), ResponseError::UnknownMemberId.code());
    broker.set_members("g", []);
    assert_eq!(commit(String::new()), 0);
    broker.move_coordinator(NodeId(2)).unwrap();
    assert_eq!(commit(String::new()), ResponseError::NotCoordinator.code());
    broker.set_members("g", [Member::new("other-1")]);
    let mut second = Client::at(&broker.nodes()[1].1);
    let request = DescribeGroupsRequest::default().with_groups(vec![GroupId("g".into())]);
    let group = second.ask(&request, 5).groups.remove(0);
    assert_eq!((&*group.group_state, &*group.members[0].member_id), ("Stable", "other-1"));
}

#[test]
fn garbage_ends_its_connection_and_no_other() {
    let broker = start();
    broker.create_topic("t", 1).unwrap();
    let mut good = Client::of(&broker);
    for garbage in [
        &b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"[..],
        &[0xff; 64],
        &[0, 0, 0, 3, 1, 2, 3],
        &[0, 0, 0, 8, 0, 99, 0, 0, 0, 0, 0, 0],
        &[0, 0, 0, 12, 0, 3, 0, 9, 0, 0, 0, 0, 0x7f, 0xff, 0, 0],
    ] {
        let mut bad = Client::of(&broker);
        bad.stream.write_all(garbage).unwrap();
        assert!(bad.receive_until_closed().is_empty());
    }
    assert_eq!(fetch(&mut good, "t", 0, 0).error_code, 0);
}

#[test]
fn connections_are_bounded() {
    let broker = Broker::start(Options { max_connections: 2, ..Options::default() }).unwrap();
    broker.create_topic("t", 1).unwrap();
    let mut held = [Client::of(&broker), Client::of(&broker)];
    held.iter_mut().for_each(|client| assert_eq!(fetch(client, "t", 0, 0).error_code, 0));
    assert!(Client::of(&broker).receive_until_closed().is_empty());
    drop(held);
    let deadline = Instant::now() + PATIENCE;
    while Client::of(&broker).try_ask(&fetch_request(&[("t", 0, 0)]), 12).is_err() {
        assert!(Instant::now() < deadline, "there is room again");
    }
}

#[test]
fn a_broker_ends_with_its_last_handle_or_when_it_is_stopped() {
    let broker = start();
    broker.create_topic("t", 1).unwrap();
    let address = broker.address();
    let mut client = Client::of(&broker);
    client.send(&fetch_request(&[("t", 0, 0)]).with_max_wait_ms(60_000), 12).unwrap();
    let other = broker.clone();
    drop(broker);
    assert!(TcpStream::connect(&address).is_ok());
    drop(other);
    assert!(TcpStream::connect(&address).is_err());
    assert!(client.receive_until_closed().is_empty());

    let broker = start();
    broker.create_topic("t", 1).unwrap();
    broker.append_values("t", 0, ["kept"]).unwrap();
    broker.stop();
    assert!(TcpStream::connect(broker.address()).is_err());
    assert_eq!(broker.records("t").unwrap().len(), 1);
    broker.take_down(NodeId(1));
    broker.stop();
}
