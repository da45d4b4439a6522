//! What members ask, version by version, and what is made of the answers.

use std::sync::{
    Mutex,
    atomic::{AtomicUsize, Ordering},
};

use kafka_protocol::{
    messages::{
        ApiVersionsRequest, FindCoordinatorRequest, HeartbeatResponse, OffsetFetchRequest,
        consumer_group_heartbeat_response::{Assignment, TopicPartitions},
        join_group_response::JoinGroupResponseMember,
        leave_group_response::MemberResponse,
    },
    protocol::Request as _,
};

use super::*;
use crate::{
    kafka::wire::scripted::{Asked, DEADLINES, Reply, cluster},
    membership::exchange::{ByName, Subscription},
};

fn soon() -> Instant {
    Instant::now() + DEADLINES.request
}

/// A quiet broker whose requests about members go up to these versions.
fn quiet_up_to(asked: &Asked, newest: &[(i16, i16)]) -> Reply {
    if asked.is::<ApiVersionsRequest>() {
        let others =
            [(ApiVersionsRequest::KEY, 0, 4), (FindCoordinatorRequest::KEY, 0, 3), (OffsetFetchRequest::KEY, 1, 7)];
        let members = newest.iter().map(|(key, newest)| (*key, 0, *newest));
        return asked.versions(&others.into_iter().chain(members).collect::<Vec<_>>());
    }
    asked.quiet()
}

fn quiet(asked: &Asked) -> Reply {
    let newest = [
        (JoinGroupRequest::KEY, 9),
        (SyncGroupRequest::KEY, 5),
        (HeartbeatRequest::KEY, 4),
        (LeaveGroupRequest::KEY, 5),
        (ConsumerGroupHeartbeatRequest::KEY, 1),
    ];
    quiet_up_to(asked, &newest)
}

fn subscription(topic: &str) -> Subscription {
    Subscription { topics: [topic.into()].into(), generation: -1, ..Subscription::default() }
}

fn join(instance: Option<&str>) -> Request {
    Request::Join(Join {
        member: "m".into(),
        instance: instance.map(Into::into),
        session_timeout: Duration::from_secs(45),
        rebalance_timeout: Duration::from_secs(300),
        protocols: vec![("range", subscription("t")), ("cooperative-sticky", subscription("t"))],
        reason: "because",
    })
}

fn beat() -> Request {
    Request::Beat(Beat { generation: 3, member: "m".into(), instance: None })
}

fn leave(instance: Option<&str>) -> Request {
    Request::Leave { member: "m".into(), instance: instance.map(Into::into), reason: "done" }
}

fn consumer_beat() -> ConsumerBeat {
    ConsumerBeat {
        member: "m".into(),
        epoch: 0,
        instance: Some("i".into()),
        rack: Some("r".into()),
        rebalance_timeout: Some(Duration::from_secs(300)),
        topics: Some(["t".into()].into()),
        assignor: Some("uniform".into()),
        owned: Some(ById::new()),
    }
}

fn owned(topic: &str, partitions: &[i32]) -> ByName {
    [(topic.into(), partitions.iter().copied().collect())].into()
}

fn text(text: &'static str) -> StrBytes {
    StrBytes::from_static_str(text)
}

fn joined(version: i16) -> JoinGroupResponse {
    let member = |id, instance: Option<&'static str>, topic| {
        JoinGroupResponseMember::default()
            .with_member_id(text(id))
            .with_group_instance_id(instance.filter(|_| version >= 5).map(text))
            .with_metadata(embedded::encode_subscription(&subscription(topic)))
    };
    JoinGroupResponse::default()
        .with_generation_id(3)
        .with_leader(text("m"))
        .with_member_id(text("m"))
        .with_protocol_name(Some(text("range")))
        .with_protocol_type((version >= 7).then(|| text("consumer")))
        .with_skip_assignment(version >= 9)
        .with_members(vec![member("m", None, "t"), member("n", Some("i"), "u")])
}

#[tokio::test]
async fn a_join_says_all_that_its_version_holds_and_the_leader_learns_of_everybody() {
    for version in 1..=9 {
        let cluster = cluster(move |asked| {
            if !asked.is::<JoinGroupRequest>() {
                return quiet_up_to(asked, &[(JoinGroupRequest::KEY, version)]);
            }
            let body = asked.body::<JoinGroupRequest>();
            assert_eq!((asked.version, &**body.group_id, &*body.member_id), (version, "g", "m"));
            assert_eq!((body.session_timeout_ms, body.rebalance_timeout_ms), (45_000, 300_000));
            assert_eq!((&*body.protocol_type, body.reason.is_some()), ("consumer", version >= 8));
            let names: Vec<_> = body.protocols.iter().map(|protocol| &*protocol.name).collect();
            assert_eq!(names, ["range", "cooperative-sticky"], "the best first");
            let read = embedded::decode_subscription(&body.protocols[1].metadata);
            assert_eq!(read.unwrap(), subscription("t"));
            asked.reply::<JoinGroupRequest>(&joined(version))
        })
        .await;
        let Ok(Answer::Joined(joined)) = cluster.group_request("g", &join(None), soon()).await else {
            panic!("version {version}")
        };
        let Joined { generation, member, leader, protocol, skip_assignment, members } = joined;
        assert_eq!((generation, &*member, &*leader, &*protocol), (3, "m", "m", "range"));
        assert_eq!(skip_assignment, version >= 9);
        let members: Vec<_> = members.iter().map(|m| (&*m.member, m.instance.as_deref(), &m.subscription)).collect();
        let instance = (version >= 5).then_some("i");
        assert_eq!(members, [("m", None, &subscription("t")), ("n", instance, &subscription("u"))]);
    }
}

#[tokio::test]
async fn the_id_that_a_coordinator_gives_is_told() {
    let cluster = cluster(|asked| match asked.is::<JoinGroupRequest>() {
        true => asked.reply::<JoinGroupRequest>(
            &JoinGroupResponse::default()
                .with_error_code(79)
                .with_member_id(text("made-for-you"))
                .with_protocol_name(None),
        ),
        false => quiet(asked),
    })
    .await;
    let refusal = cluster.group_request("g", &join(None), soon()).await.unwrap_err();
    assert_eq!(refusal, Refusal::MemberIdRequired("made-for-you".into()));
}

#[tokio::test]
async fn a_member_that_cannot_be_understood_is_named() {
    let cluster = cluster(|asked| match asked.is::<JoinGroupRequest>() {
        true => {
            let mut response = joined(9);
            response.members[1].metadata = bytes::Bytes::from_static(b"\0\0\x7f\xff\xff\xff");
            asked.reply::<JoinGroupRequest>(&response)
        }
        false => quiet(asked),
    })
    .await;
    match cluster.group_request("g", &join(None), soon()).await {
        Err(Refusal::InconsistentProtocol(words)) => {
            assert!(
                words.starts_with("the subscription of member n of group g cannot be read: in version 0"),
                "{words}"
            );
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_sync_hands_out_and_brings_back() {
    for version in 0..=5 {
        let cluster = cluster(move |asked| {
            if !asked.is::<SyncGroupRequest>() {
                return quiet_up_to(asked, &[(SyncGroupRequest::KEY, version)]);
            }
            let body = asked.body::<SyncGroupRequest>();
            assert_eq!((&*body.member_id, body.generation_id, body.assignments.len()), ("m", 3, 1));
            assert_eq!(body.protocol_name.as_deref(), (version >= 5).then_some("range"));
            let response = SyncGroupResponse::default().with_assignment(body.assignments[0].assignment.clone());
            let name = (version >= 5).then(|| text("range"));
            asked.reply::<SyncGroupRequest>(&response.with_protocol_name(name))
        })
        .await;
        let assignments = [("m".into(), owned("t", &[0, 4]))].into();
        let sync = Sync { generation: 3, member: "m".into(), instance: None, protocol: "range".into(), assignments };
        let protocol = (version >= 5).then(|| "range".into());
        let expected = Answer::Synced { protocol, assignment: owned("t", &[0, 4]) };
        assert_eq!(cluster.group_request("g", &Request::Sync(sync), soon()).await, Ok(expected));
    }
}

/// A join waits for the others, for minutes; the member must not be taken for dead meanwhile, and be able to go.
#[tokio::test]
async fn a_join_that_waits_holds_up_nothing_else() {
    let (came, mut has_come) = tokio::sync::mpsc::unbounded_channel();
    let cluster = cluster(move |asked| {
        if asked.is::<JoinGroupRequest>() {
            came.send(()).unwrap();
            return Reply::Silence;
        }
        if asked.is::<OffsetFetchRequest>() {
            return asked.kept(7);
        }
        match asked.key {
            HeartbeatRequest::KEY => asked.reply::<HeartbeatRequest>(&HeartbeatResponse::default()),
            LeaveGroupRequest::KEY => asked.reply::<LeaveGroupRequest>(&LeaveGroupResponse::default()),
            _ => quiet(asked),
        }
    })
    .await;
    let request = join(None);
    let mut waiting = std::pin::pin!(cluster.group_request("g", &request, Instant::now() + Duration::from_secs(600)));
    tokio::select! {
        said = &mut waiting => panic!("{said:?}"),
        _ = has_come.recv() => {}
    }
    let others = async {
        assert_eq!(cluster.group_request("g", &beat(), soon()).await, Ok(Answer::Beaten));
        assert_eq!(cluster.offset_fetch("g", "t", &[0]).await.unwrap()[&0].offset.0, 7);
        assert_eq!(cluster.group_request("g", &leave(None), soon()).await, Ok(Answer::Left));
    };
    tokio::select! {
        said = &mut waiting => panic!("{said:?}"),
        () = others => {}
    }
}

#[tokio::test]
async fn a_request_is_given_up_at_its_deadline_and_the_next_gets_a_new_connection() {
    let mut silent = true;
    let cluster = cluster(move |asked| match asked.is::<HeartbeatRequest>() {
        true if std::mem::take(&mut silent) => Reply::Silence,
        true => asked.reply::<HeartbeatRequest>(&HeartbeatResponse::default()),
        false => quiet(asked),
    })
    .await;
    let said = cluster.group_request("g", &beat(), Instant::now() + DEADLINES.request / 4).await;
    assert!(matches!(&said, Err(Refusal::Passing(words)) if words.contains("did not answer Heartbeat")), "{said:?}");
    assert_eq!(cluster.group_request("g", &beat(), soon()).await, Ok(Answer::Beaten));
}

#[tokio::test]
async fn a_coordinator_that_has_moved_is_looked_up_anew_and_one_that_says_no_is_not() {
    let lookups = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&lookups);
    let mut codes = [27, 22, 16, 0].into_iter();
    let cluster = cluster(move |asked| {
        if asked.is::<HeartbeatRequest>() {
            let code = codes.next().unwrap();
            return asked.reply::<HeartbeatRequest>(&HeartbeatResponse::default().with_error_code(code));
        }
        count.fetch_add(usize::from(asked.is::<FindCoordinatorRequest>()), Ordering::Relaxed);
        quiet(asked)
    })
    .await;
    let mut said = Vec::new();
    for _ in 0..3 {
        said.push(cluster.group_request("g", &beat(), soon()).await);
    }
    assert_eq!(said[..2], [Err(Refusal::Rebalancing), Err(Refusal::IllegalGeneration)]);
    assert!(matches!(&said[2], Err(Refusal::Passing(words)) if words.contains("NOT_COORDINATOR")), "{said:?}");
    assert_eq!(lookups.load(Ordering::Relaxed), 1);
    assert_eq!(cluster.group_request("g", &beat(), soon()).await, Ok(Answer::Beaten));
    assert_eq!(lookups.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn one_that_leaves_says_which_and_why() {
    for version in 0..=5 {
        let cluster = cluster(move |asked| {
            if !asked.is::<LeaveGroupRequest>() {
                return quiet_up_to(asked, &[(LeaveGroupRequest::KEY, version)]);
            }
            let body = asked.body::<LeaveGroupRequest>();
            if version < 3 {
                assert_eq!(&*body.member_id, "m");
                return asked.reply::<LeaveGroupRequest>(&LeaveGroupResponse::default());
            }
            let member = &body.members[0];
            assert_eq!((&*member.member_id, member.group_instance_id.as_deref()), ("m", Some("i")));
            assert_eq!(member.reason.as_deref(), (version >= 5).then_some("done"));
            let gone = MemberResponse::default().with_member_id(text("m")).with_error_code(25);
            asked.reply::<LeaveGroupRequest>(&LeaveGroupResponse::default().with_members(vec![gone]))
        })
        .await;
        let (request, expected) = match version {
            0..3 => (leave(None), Ok(Answer::Left)),
            _ => (leave(Some("i")), Err(Refusal::UnknownMember)),
        };
        assert_eq!(cluster.group_request("g", &request, soon()).await, expected, "version {version}");
    }
}

#[tokio::test]
async fn a_broker_that_would_not_read_the_instance_id_is_not_asked() {
    let newest = [(JoinGroupRequest::KEY, 4), (LeaveGroupRequest::KEY, 2)];
    let cluster = cluster(move |asked| quiet_up_to(asked, &newest)).await;
    for request in [join(Some("i")), leave(Some("i"))] {
        let said = cluster.group_request("g", &request, soon()).await;
        assert!(matches!(said, Err(Refusal::Unsupported(_))), "{said:?}");
    }
    match cluster.group_request("g", &join(Some("i")), soon()).await {
        Err(Refusal::Unsupported(words)) => assert!(words.contains("--instance-id needs Kafka 2.3"), "{words}"),
        said => panic!("{said:?}"),
    }
}

#[tokio::test]
async fn a_heartbeat_of_kip_848_says_what_has_changed_and_brings_what_is_to_be_held() {
    let id = TopicId(uuid::Uuid::from_u128(7));
    for version in 0..=1 {
        let seen: Arc<Mutex<Vec<ConsumerGroupHeartbeatRequest>>> = Arc::default();
        let bodies = Arc::clone(&seen);
        let cluster = cluster(move |asked| {
            if !asked.is::<ConsumerGroupHeartbeatRequest>() {
                return quiet_up_to(asked, &[(ConsumerGroupHeartbeatRequest::KEY, version)]);
            }
            bodies.lock().unwrap().push(asked.body());
            let topic = TopicPartitions::default().with_topic_id(id.0).with_partitions(vec![2, 0]);
            let assignment = Assignment::default().with_topic_partitions(vec![topic]);
            let response =
                ConsumerGroupHeartbeatResponse::default().with_member_epoch(4).with_heartbeat_interval_ms(5_000);
            asked.reply::<ConsumerGroupHeartbeatRequest>(&match bodies.lock().unwrap().len() {
                1 => response.with_member_id(Some(text("given"))).with_assignment(Some(assignment)),
                _ => response.with_member_id(None),
            })
        })
        .await;
        let answer = |member: &str, assignment| {
            let interval = Duration::from_secs(5);
            Ok(Answer::ConsumerBeaten(ConsumerBeaten { member: member.into(), epoch: 4, interval, assignment }))
        };
        let first = Request::ConsumerBeat(consumer_beat());
        let assigned: ById = [(id, [0, 2].into())].into();
        assert_eq!(cluster.group_request("g", &first, soon()).await, answer("given", Some(assigned.clone())));
        let same = ConsumerBeat {
            epoch: 4,
            rack: None,
            rebalance_timeout: None,
            topics: None,
            assignor: None,
            owned: None,
            ..consumer_beat()
        };
        assert_eq!(cluster.group_request("g", &Request::ConsumerBeat(same), soon()).await, answer("m", None));
        let holding = Request::ConsumerBeat(ConsumerBeat { owned: Some(assigned), ..consumer_beat() });
        assert_eq!(cluster.group_request("g", &holding, soon()).await, answer("m", None));

        let seen = seen.lock().unwrap();
        let first = &seen[0];
        assert_eq!((&*first.member_id, first.member_epoch, first.rebalance_timeout_ms), ("m", 0, 300_000));
        assert_eq!((first.instance_id.as_deref(), first.rack_id.as_deref()), (Some("i"), Some("r")));
        assert_eq!((&first.topic_partitions, first.server_assignor.as_deref()), (&Some(vec![]), Some("uniform")));
        assert_eq!(first.subscribed_topic_names, Some(vec![text("t").into()]));
        let same = &seen[1];
        assert_eq!((same.member_epoch, same.rebalance_timeout_ms, &same.topic_partitions), (4, -1, &None));
        assert_eq!((&same.subscribed_topic_names, &same.rack_id, &same.server_assignor), (&None, &None, &None));
        let held = seen[2].topic_partitions.as_ref().unwrap();
        assert_eq!((held[0].topic_id, &held[0].partitions), (id.0, &vec![0, 2]));
    }
}

#[tokio::test]
async fn a_broker_without_kip_848_says_so_in_either_way() {
    let old = cluster(|asked| quiet_up_to(asked, &[(JoinGroupRequest::KEY, 9)])).await;
    let switched_off = cluster(|asked| match asked.is::<ConsumerGroupHeartbeatRequest>() {
        true => asked.reply::<ConsumerGroupHeartbeatRequest>(
            &ConsumerGroupHeartbeatResponse::default().with_error_code(ResponseError::UnsupportedVersion.code()),
        ),
        false => quiet(asked),
    })
    .await;
    for (cluster, words) in
        [(old, "which came with Kafka 4.0"), (switched_off, "UNSUPPORTED_VERSION (35): the broker does not")]
    {
        match cluster.group_request("g", &Request::ConsumerBeat(consumer_beat()), soon()).await {
            Err(Refusal::Unsupported(said)) => assert!(said.contains(words), "{said}"),
            said => panic!("{said:?}"),
        }
    }
}

/// What a member does about each code that Kafka has; the others are not for members, and may pass.
#[test]
fn every_code_means_something() {
    let words = || "words".to_owned();
    let of = |code: i16| {
        let message = Some("words".to_owned());
        let (broker, subject) = ("b:1".to_owned(), subject("g"));
        let request = super::super::RequestName(JoinGroupRequest::KEY);
        let error = WireError::Answered { broker, request, subject, code: ErrorCode(code), message };
        match error.as_refusal() {
            Refusal::InconsistentProtocol(said) if said.contains("--assignors") => {
                Refusal::InconsistentProtocol(words())
            }
            Refusal::Unsupported(said) if said.contains("(words)") => Refusal::Unsupported(words()),
            Refusal::Never(said) if said.contains("(words)") => Refusal::Never(words()),
            Refusal::Passing(said) if said.contains("(words)") => Refusal::Passing(words()),
            refusal => refusal,
        }
    };
    let expected = [
        (22, Refusal::IllegalGeneration),
        (23, Refusal::InconsistentProtocol(words())),
        (24, Refusal::Never(words())),
        (25, Refusal::UnknownMember),
        (26, Refusal::Never(words())),
        (27, Refusal::Rebalancing),
        (29, Refusal::Never(words())),
        (30, Refusal::Never(words())),
        (31, Refusal::Never(words())),
        (33, Refusal::Never(words())),
        (34, Refusal::Never(words())),
        (35, Refusal::Unsupported(words())),
        (42, Refusal::Never(words())),
        (44, Refusal::Never(words())),
        (53, Refusal::Never(words())),
        (54, Refusal::Never(words())),
        (58, Refusal::Never(words())),
        (69, Refusal::Unsupported(words())),
        (81, Refusal::GroupFull),
        (82, Refusal::FencedInstance),
        (110, Refusal::FencedEpoch),
        (111, Refusal::UnreleasedInstance),
        (112, Refusal::Never(words())),
        (113, Refusal::StaleEpoch),
        (128, Refusal::Never(words())),
    ];
    for code in (-1..=200).filter(|code| *code != 0) {
        let meant = expected.iter().find(|(known, _)| *known == code);
        let meant = meant.map_or_else(|| Refusal::Passing(words()), |(_, refusal)| refusal.clone());
        assert_eq!(of(code), meant, "{}", ErrorCode(code));
    }
}
