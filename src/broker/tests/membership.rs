//! Members of groups, over TCP: each request in each version, what waits and what wakes it, and our own client.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use kafka_protocol::{
    error::ResponseError,
    messages::{
        DescribeGroupsRequest, GroupId, HeartbeatRequest, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest,
        ListGroupsRequest, OffsetCommitRequest, SyncGroupRequest,
        join_group_request::JoinGroupRequestProtocol,
        leave_group_request::MemberIdentity,
        offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic},
        sync_group_request::SyncGroupRequestAssignment,
    },
};

use super::*;
use crate::{
    broker::{NodeId, requests::SPOKEN},
    kafka::{
        Deadlines,
        wire::{Cluster, Epoch, Identity},
    },
    membership::exchange::{self, Answer, Beat, ByName, ConsumerBeat, Join, Joined, Refusal, Subscription, Sync},
    offsets::Committed,
    record::{LeaderEpoch, Offset, TopicPartition},
};

/// As long as a test waits for a session to end.
const SESSION: Duration = Duration::from_millis(400);

fn start_with_short_sessions() -> Broker {
    Broker::start(Options { min_session_timeout: SESSION, ..Options::default() }).unwrap()
}

fn versions(api: ApiKey) -> std::ops::RangeInclusive<i16> {
    let (_, min, max) = SPOKEN.into_iter().find(|(key, ..)| *key == api).unwrap();
    min..=max
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn group(id: &str) -> GroupId {
    GroupId(text(id))
}

fn join(id: &str, member: &str, session: Duration) -> JoinGroupRequest {
    let protocol = JoinGroupRequestProtocol::default()
        .with_name("range".into())
        .with_metadata(Bytes::from(format!("of {member}")));
    JoinGroupRequest::default()
        .with_group_id(group(id))
        .with_member_id(text(member))
        .with_session_timeout_ms(session.as_millis() as i32)
        .with_rebalance_timeout_ms(60_000)
        .with_protocol_type("consumer".into())
        .with_protocols(vec![protocol])
}

fn sync(id: &str, member: &str, generation: i32, assigned: &[(&str, &'static str)]) -> SyncGroupRequest {
    let assigned = assigned.iter().map(|(member, bytes)| {
        SyncGroupRequestAssignment::default().with_member_id(text(member)).with_assignment((*bytes).into())
    });
    SyncGroupRequest::default()
        .with_group_id(group(id))
        .with_member_id(text(member))
        .with_generation_id(generation)
        .with_assignments(assigned.collect())
}

fn beat(id: &str, member: &str, generation: i32) -> HeartbeatRequest {
    HeartbeatRequest::default().with_group_id(group(id)).with_member_id(text(member)).with_generation_id(generation)
}

/// Joins with the id that it is given where one is given first.
fn enter(client: &mut Client, id: &str, session: Duration, version: i16) -> JoinGroupResponse {
    let response = client.ask(&join(id, "", session), version);
    match version {
        0..4 => response,
        _ => {
            assert_eq!(response.error_code, ResponseError::MemberIdRequired.code(), "version {version}");
            client.ask(&join(id, &response.member_id, session), version)
        }
    }
}

const LONG: Duration = Duration::from_secs(30);

#[test]
fn each_version_of_each_request() {
    let broker = start();
    let mut client = Client::of(&broker);
    for version in versions(ApiKey::JoinGroup) {
        let id = format!("joined by {version}");
        let joined = enter(&mut client, &id, LONG, version);
        assert_eq!((joined.error_code, joined.generation_id), (0, 1), "version {version}");
        assert_eq!((&joined.member_id, joined.members.len()), (&joined.leader, 1), "version {version}");
        assert_eq!(joined.protocol_name.as_deref(), Some("range"), "version {version}");
        let refused = client.ask(&join(&id, "stranger", LONG), version);
        assert_eq!(refused.error_code, ResponseError::UnknownMemberId.code(), "version {version}");
        let short = client.ask(&join(&id, "", Duration::from_secs(5)), version);
        assert_eq!(short.error_code, ResponseError::InvalidSessionTimeout.code(), "version {version}");
    }
    let member = enter(&mut client, "g", LONG, 9).member_id.to_string();
    for version in versions(ApiKey::SyncGroup) {
        let request = sync("g", &member, 1, &[(&member, "yours")]);
        let request = match version {
            5.. => request.with_protocol_type(Some("consumer".into())).with_protocol_name(Some("range".into())),
            _ => request,
        };
        let synced = client.ask(&request, version);
        assert_eq!((synced.error_code, &synced.assignment[..]), (0, &b"yours"[..]), "version {version}");
        let name = (version >= 5).then_some("range");
        assert_eq!(synced.protocol_name.as_deref(), name, "version {version}");
        let old = client.ask(&request.with_generation_id(0), version);
        assert_eq!(old.error_code, ResponseError::IllegalGeneration.code(), "version {version}");
    }
    for version in versions(ApiKey::Heartbeat) {
        assert_eq!(client.ask(&beat("g", &member, 1), version).error_code, 0, "version {version}");
        let stranger = client.ask(&beat("g", "stranger", 1), version).error_code;
        assert_eq!(stranger, ResponseError::UnknownMemberId.code(), "version {version}");
    }
    for version in versions(ApiKey::LeaveGroup) {
        let id = format!("left by {version}");
        let member = enter(&mut client, &id, LONG, 9).member_id;
        let leave = LeaveGroupRequest::default().with_group_id(group(&id));
        let leave = match version {
            0..3 => leave.with_member_id(member),
            _ => leave.with_members(vec![MemberIdentity::default().with_member_id(member)]),
        };
        for expected in [0, ResponseError::UnknownMemberId.code()] {
            let left = client.ask(&leave, version);
            let of_member = left.members.first().map_or(0, |member| member.error_code);
            let codes = if version < 3 { (expected, 0) } else { (0, expected) };
            assert_eq!((left.error_code, of_member), codes, "version {version}");
        }
    }
}

#[test]
fn a_join_waits_for_the_others_and_a_sync_for_the_leader() {
    let broker = start();
    let (mut first, mut second) = (Client::of(&broker), Client::of(&broker));
    let a = enter(&mut first, "g", LONG, 9).member_id.to_string();
    first.ask(&sync("g", &a, 1, &[(&a, "all")]), 5);
    let b = second.ask(&join("g", "", LONG), 9).member_id.to_string();
    second.send(&join("g", &b, LONG), 9).unwrap();
    // The first sees that there is somebody, whatever is kept waiting.
    let seen = Instant::now() + PATIENCE;
    while first.ask(&beat("g", &a, 1), 4).error_code != ResponseError::RebalanceInProgress.code() {
        assert!(Instant::now() < seen, "the second has not come");
    }
    let leads = first.ask(&join("g", &a, LONG), 9);
    let told: Vec<_> = leads.members.iter().map(|m| (m.member_id.to_string(), m.metadata.clone())).collect();
    assert_eq!(told, [(a.clone(), Bytes::from(format!("of {a}"))), (b.clone(), format!("of {b}").into())]);
    let follows: JoinGroupResponse = second.answer(9);
    assert_eq!((follows.generation_id, &*follows.leader, follows.members.len()), (2, &*a, 0));

    second.send(&sync("g", &b, 2, &[]), 5).unwrap();
    second.stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    assert!(second.stream.peek(&mut [0]).is_err(), "nothing is assigned yet");
    second.stream.set_read_timeout(Some(PATIENCE)).unwrap();
    first.ask(&sync("g", &a, 2, &[(&a, "some"), (&b, "the rest")]), 5);
    let synced: kafka_protocol::messages::SyncGroupResponse = second.answer(5);
    assert_eq!(&synced.assignment[..], b"the rest");

    let described = first.ask(&DescribeGroupsRequest::default().with_groups(vec![group("g")]), 6).groups.remove(0);
    assert_eq!(
        (&*described.group_state, &*described.protocol_type, &*described.protocol_data),
        ("Stable", "consumer", "range")
    );
    for (member, id, assignment) in [(0, &a, "some"), (1, &b, "the rest")] {
        let member = &described.members[member];
        let who = (&*member.member_id, &*member.client_id, &*member.client_host);
        assert_eq!(who, (id.as_str(), "test", "/127.0.0.1"));
        let said = (&member.member_metadata[..], &member.member_assignment[..]);
        assert_eq!(said, (format!("of {id}").as_bytes(), assignment.as_bytes()));
    }
    let listed = first.ask(&ListGroupsRequest::default().with_states_filter(vec!["Stable".into()]), 5).groups.remove(0);
    assert_eq!((&**listed.group_id, &*listed.protocol_type, &*listed.group_state), ("g", "consumer", "Stable"));
    let ids: Vec<_> = broker.members("g").into_iter().map(|member| member.id).collect();
    assert_eq!(ids, [a, b]);
}

/// Nobody asks anything meanwhile: the join that waits looks after it.
#[test]
fn a_join_that_waits_for_one_that_is_dead_goes_on_when_its_session_ends() {
    let broker = start_with_short_sessions();
    let (mut first, mut second) = (Client::of(&broker), Client::of(&broker));
    let a = enter(&mut first, "g", SESSION, 9).member_id.to_string();
    first.ask(&sync("g", &a, 1, &[]), 5);
    let asked = Instant::now();
    let joined = enter(&mut second, "g", LONG, 9);
    assert!(asked.elapsed() < LONG && asked.elapsed() >= SESSION / 2, "{:?}", asked.elapsed());
    assert_eq!((joined.generation_id, joined.members.len(), &joined.leader), (2, 1, &joined.member_id));
    assert_eq!(first.ask(&beat("g", &a, 1), 4).error_code, ResponseError::UnknownMemberId.code());
}

#[test]
fn another_coordinator_is_said_to_those_that_wait_too() {
    let broker = start_nodes(2);
    let mut client = Client::of(&broker);
    let a = enter(&mut client, "g", LONG, 9).member_id.to_string();
    client.ask(&sync("g", &a, 1, &[]), 5);
    let mut second = Client::of(&broker);
    let b = second.ask(&join("g", "", LONG), 9).member_id.to_string();
    second.send(&join("g", &b, LONG), 9).unwrap();
    let seen = Instant::now() + PATIENCE;
    while client.ask(&beat("g", &a, 1), 4).error_code == 0 {
        assert!(Instant::now() < seen, "the second has not come");
    }
    broker.move_coordinator(NodeId(2)).unwrap();
    let not_here = ResponseError::NotCoordinator.code();
    assert_eq!(second.answer::<JoinGroupResponse>(9).error_code, not_here);
    let leave = LeaveGroupRequest::default().with_group_id(group("g")).with_members(vec![MemberIdentity::default()]);
    let codes = [
        client.ask(&join("g", &a, LONG), 9).error_code,
        client.ask(&sync("g", &a, 1, &[]), 5).error_code,
        client.ask(&beat("g", &a, 1), 4).error_code,
        client.ask(&leave, 5).error_code,
    ];
    assert_eq!(codes, [not_here; 4]);
    // Nothing was forgotten: both go on where the group is now.
    let (mut client, mut second) = (Client::at(&broker.nodes()[1].1), Client::at(&broker.nodes()[1].1));
    second.send(&join("g", &b, LONG), 9).unwrap();
    assert_eq!(client.ask(&join("g", &a, LONG), 9).members.len(), 2);
    assert_eq!(second.answer::<JoinGroupResponse>(9).generation_id, 2);
}

#[test]
fn a_fault_is_for_members_too() {
    let broker = start();
    let mut client = Client::of(&broker);
    let code = ResponseError::CoordinatorLoadInProgress.code();
    for api in [ApiKey::JoinGroup, ApiKey::SyncGroup, ApiKey::Heartbeat, ApiKey::LeaveGroup] {
        broker.faults().next(api).error(ResponseError::CoordinatorLoadInProgress);
    }
    assert_eq!(client.ask(&join("g", "", LONG), 9).error_code, code);
    assert_eq!(client.ask(&sync("g", "a", 1, &[]), 5).error_code, code);
    assert_eq!(client.ask(&beat("g", "a", 1), 4).error_code, code);
    assert_eq!(client.ask(&LeaveGroupRequest::default().with_group_id(group("g")), 5).error_code, code);
}

#[test]
fn a_commit_is_the_members_alone() {
    let broker = start();
    broker.create_topic("t", 1).unwrap();
    let mut client = Client::of(&broker);
    let member = enter(&mut client, "g", LONG, 9).member_id.to_string();
    let mut commit = |member: &str, generation| {
        let partition = OffsetCommitRequestPartition::default().with_committed_offset(1);
        let topic = OffsetCommitRequestTopic::default().with_name(name("t")).with_partitions(vec![partition]);
        let request = OffsetCommitRequest::default()
            .with_group_id(group("g"))
            .with_member_id(text(member))
            .with_generation_id_or_member_epoch(generation)
            .with_topics(vec![topic]);
        client.ask(&request, 8).topics.remove(0).partitions.remove(0).error_code
    };
    assert_eq!(commit(&member, 1), ResponseError::RebalanceInProgress.code());
    Client::of(&broker).ask(&sync("g", &member, 1, &[]), 5);
    let codes = [commit(&member, 1), commit(&member, 0), commit("stranger", 1), commit("", -1)];
    assert_eq!(codes, [0, 22, 25, 25]);
}

/// What our own client makes of it: two members share, one goes, and the other has it all.
#[tokio::test]
async fn our_own_members_share_a_topic() {
    let broker = start();
    broker.create_topic("t", 2).unwrap();
    let cluster = Cluster::new(vec![broker.address().parse().unwrap()], "us", Deadlines::default());
    let (one, two) = (cluster.apart(), cluster.apart());
    let until = || tokio::time::Instant::now() + PATIENCE;
    let joins = |member: &Arc<str>| {
        let subscription = Subscription { topics: ["t".into()].into(), generation: -1, ..Subscription::default() };
        exchange::Request::Join(Join {
            member: Arc::clone(member),
            instance: None,
            session_timeout: LONG,
            rebalance_timeout: LONG,
            protocols: vec![("range", subscription)],
            reason: "a test",
        })
    };
    let some = |partitions: &[i32]| -> ByName { [("t".into(), partitions.iter().copied().collect())].into() };
    let syncs = |joined: &Joined, assigned: &[(&Arc<str>, ByName)]| {
        exchange::Request::Sync(Sync {
            generation: joined.generation,
            member: Arc::clone(&joined.member),
            instance: None,
            protocol: Arc::clone(&joined.protocol),
            assignments: assigned.iter().map(|(member, assigned)| (Arc::clone(member), assigned.clone())).collect(),
        })
    };
    let beats = |member: &Arc<str>, generation| {
        exchange::Request::Beat(Beat { generation, member: Arc::clone(member), instance: None })
    };
    let named = async |cluster: &Cluster| match cluster.group_request("g", &joins(&"".into()), until()).await {
        Err(Refusal::MemberIdRequired(id)) => id,
        said => panic!("{said:?}"),
    };
    let joined = |said| match said {
        Ok(Answer::Joined(joined)) => joined,
        said => panic!("{said:?}"),
    };

    let a = named(&one).await;
    let alone = joined(one.group_request("g", &joins(&a), until()).await);
    one.group_request("g", &syncs(&alone, &[(&a, some(&[0, 1]))]), until()).await.unwrap();
    let b = named(&two).await;
    let (said, followed) = tokio::join!(
        async {
            let seen = until();
            while one.group_request("g", &beats(&a, 1), seen).await != Err(Refusal::Rebalancing) {
                assert!(tokio::time::Instant::now() < seen, "the second has not come");
            }
            let leads = joined(one.group_request("g", &joins(&a), until()).await);
            assert_eq!(leads.members.len(), 2);
            one.group_request("g", &syncs(&leads, &[(&a, some(&[0])), (&b, some(&[1]))]), until()).await
        },
        async {
            let follows = joined(two.group_request("g", &joins(&b), until()).await);
            two.group_request("g", &syncs(&follows, &[]), until()).await
        },
    );
    let synced =
        |partitions: &[i32]| Ok(Answer::Synced { protocol: Some("range".into()), assignment: some(partitions) });
    assert_eq!((said, followed), (synced(&[0]), synced(&[1])));
    assert_eq!(broker.members("g").len(), 2);

    let as_member = |member: &Arc<str>, generation| Identity {
        member: Arc::clone(member),
        instance: None,
        epoch: Epoch::Generation(generation),
    };
    let committed = Committed { offset: Offset(7), leader_epoch: LeaderEpoch(0), metadata: String::new() };
    let commits = [(TopicPartition::new("t", 0), committed)].into();
    let kept = one.offset_commit_of("g", Some(&as_member(&a, 2)), &commits).await.unwrap();
    assert!(kept.is_empty());
    for (who, refusal) in
        [(as_member(&a, 1), Refusal::IllegalGeneration), (as_member(&"c".into(), 2), Refusal::UnknownMember)]
    {
        let error = one.offset_commit_of("g", Some(&who), &commits).await.unwrap_err();
        assert_eq!(error.as_refusal(), refusal);
    }
    let leave = exchange::Request::Leave { member: Arc::clone(&b), instance: None, reason: "a test" };
    assert_eq!(two.group_request("g", &leave, until()).await, Ok(Answer::Left));
    assert_eq!(one.group_request("g", &beats(&a, 2), until()).await, Err(Refusal::Rebalancing));
    assert_eq!(joined(one.group_request("g", &joins(&a), until()).await).generation, 3);

    let consumer_beat = ConsumerBeat {
        member: "m".into(),
        epoch: 0,
        instance: None,
        rack: None,
        rebalance_timeout: Some(LONG),
        topics: Some(["t".into()].into()),
        assignor: None,
        owned: Some(exchange::ById::new()),
    };
    let said = one.group_request("h", &exchange::Request::ConsumerBeat(consumer_beat), until()).await;
    assert!(matches!(said, Err(Refusal::Unsupported(_))), "{said:?}");
}
