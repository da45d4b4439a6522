//! What a broker may do to us on one connection, and what must come of it.

mod sasl;
mod tls;

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;
use kafka_protocol::{
    messages::{ApiVersionsRequest, MetadataRequest, OffsetCommitRequest, OffsetFetchRequest},
    protocol::{Message, Request},
};
use tokio::time::Instant;

use super::{
    WireError,
    scripted::{Asked, DEADLINES, Reply, cluster},
};
use crate::record::{LeaderEpoch, TopicId};

/// A script that is quiet but for its `nth` (from 0) request of the kind `R`.
fn but_for<R: Request>(
    nth: usize,
    mut exception: impl FnMut(&Asked) -> Reply + Send + 'static,
) -> impl FnMut(&Asked) -> Reply + Send + 'static {
    let mut seen = 0;
    move |asked| {
        let hit = asked.is::<R>() && seen == nth;
        seen += usize::from(asked.is::<R>());
        if hit { exception(asked) } else { asked.quiet() }
    }
}

#[tokio::test]
async fn a_broker_that_knows_no_new_versions_is_spoken_to_in_its_own() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&asked);
    let cluster = cluster(move |asked| {
        seen.lock().unwrap().push((asked.key, asked.version));
        if asked.is::<ApiVersionsRequest>() {
            return asked.versions(&[(ApiVersionsRequest::KEY, 0, 1), (MetadataRequest::KEY, 0, 5)]);
        }
        asked.quiet()
    })
    .await;
    let view = cluster.topic("t").await.unwrap().expect("t is there");
    assert_eq!((view.id, view.partitions[0].epoch), (TopicId::default(), LeaderEpoch::UNKNOWN));
    let ours = ApiVersionsRequest::VERSIONS.max;
    let expected = [(ApiVersionsRequest::KEY, ours), (ApiVersionsRequest::KEY, 1), (MetadataRequest::KEY, 5)];
    assert_eq!(*asked.lock().unwrap(), expected);
}

#[tokio::test]
async fn a_broker_that_would_create_the_topic_is_not_asked() {
    let too_old = cluster(|asked| {
        if asked.is::<ApiVersionsRequest>() {
            return asked.versions(&[(MetadataRequest::KEY, 0, 3)]);
        }
        panic!("asked all the same");
    })
    .await;
    let error = too_old.topic("t").await.unwrap_err();
    assert!(matches!(error, WireError::Version { least: 4, .. }), "{error}");

    let cluster = cluster(|asked| {
        if asked.is::<MetadataRequest>() {
            assert!(!asked.body::<MetadataRequest>().allow_auto_topic_creation);
        }
        asked.quiet()
    })
    .await;
    cluster.topic("t").await.unwrap();
}

#[tokio::test]
async fn all_topics_are_listed_but_for_those_that_are_not_there_or_not_ours() {
    use kafka_protocol::messages::metadata_response::{MetadataResponsePartition, MetadataResponseTopic};
    let partitions = || [1, 0].map(|number| MetadataResponsePartition::default().with_partition_index(number)).to_vec();
    let topic = move |name: &'static str, code| {
        let name = kafka_protocol::protocol::StrBytes::from_static_str(name);
        let topic =
            MetadataResponseTopic::default().with_is_internal(name.starts_with("__")).with_name(Some(name.into()));
        topic.with_error_code(code).with_partitions(partitions())
    };
    let mut loading = true;
    let cluster = cluster(move |asked| {
        if !asked.is::<MetadataRequest>() {
            return asked.quiet();
        }
        let body = asked.body::<MetadataRequest>();
        assert!(body.topics.is_none() && !body.allow_auto_topic_creation);
        // That of the third passes, and is waited for: who reads this must not take a topic for gone.
        let code = if std::mem::take(&mut loading) { 5 } else { 0 };
        let topics = [("u", 0), ("__consumer_offsets", 0), ("t", code), ("gone", 3), ("secret", 29)];
        let topics = topics.map(|(name, code)| topic(name, code)).to_vec();
        asked.reply::<MetadataRequest>(&asked.metadata().with_topics(topics))
    })
    .await;
    let topics = cluster.all_topics().await.unwrap();
    let named: Vec<_> = topics.iter().map(|topic| (&*topic.name, topic.is_internal)).collect();
    assert_eq!(named, [("__consumer_offsets", true), ("t", false), ("u", false)]);
    let numbers: Vec<_> = topics[1].view.partitions.iter().map(|view| view.partition).collect();
    assert_eq!(numbers, [0, 1]);
}

#[tokio::test]
async fn silence_ends_with_the_deadline_and_the_next_attempt_gets_a_new_connection() {
    let cluster = cluster(but_for::<MetadataRequest>(0, |_| Reply::Silence)).await;
    let started = Instant::now();
    cluster.topic("t").await.expect("the second attempt is answered");
    assert!(started.elapsed() >= DEADLINES.request / 2);

    let silent = super::scripted::cluster(|asked| match asked.is::<MetadataRequest>() {
        true => Reply::Silence,
        false => asked.quiet(),
    })
    .await;
    let started = Instant::now();
    let error = silent.topic("t").await.unwrap_err();
    assert!(matches!(error, WireError::TimedOut { .. }) && error.may_pass(), "{error}");
    assert!(started.elapsed() <= DEADLINES.request * 2, "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_connection_that_breaks_in_the_middle_of_a_response_is_made_anew() {
    let cluster = cluster(but_for::<MetadataRequest>(0, |asked| {
        let Reply::Raw(whole) = asked.quiet() else { unreachable!("a quiet answer has bytes") };
        Reply::Raw(whole.slice(..whole.len() / 2))
    }))
    .await;
    // The peer then waits for more requests; to us it is a response that never ends.
    cluster.topic("t").await.expect("the second attempt is answered");
    let closing = super::scripted::cluster(but_for::<MetadataRequest>(0, |_| Reply::Close)).await;
    closing.topic("t").await.expect("the second attempt is answered");
}

#[tokio::test]
async fn a_connection_with_an_abandoned_call_is_not_used_again() {
    let (told, mut asked_once) = tokio::sync::mpsc::unbounded_channel();
    let connections = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&connections);
    let mut quiet_but_once = but_for::<MetadataRequest>(0, move |_| {
        told.send(()).unwrap();
        Reply::Silence
    });
    let cluster = cluster(move |asked| {
        if asked.is::<ApiVersionsRequest>() {
            count.fetch_add(1, Ordering::Relaxed);
        }
        quiet_but_once(asked)
    })
    .await;
    tokio::select! {
        _ = asked_once.recv() => {}
        outcome = cluster.topic("t") => panic!("{outcome:?}"),
    }
    // What would come on the first connection from here on answers nobody's question.
    assert!(cluster.topic("t").await.unwrap().is_some());
    assert!(cluster.topic("t").await.unwrap().is_some());
    assert_eq!(connections.load(Ordering::Relaxed), 3, "two, and one to broker 1 under its own name");
}

#[tokio::test]
async fn what_is_not_kafkas_protocol_is_named_as_such() {
    let check = async |reply: fn(&Asked) -> Reply, reason: &str| {
        let cluster =
            cluster(move |asked| if asked.is::<MetadataRequest>() { reply(asked) } else { asked.quiet() }).await;
        let error = cluster.topic("t").await.unwrap_err();
        assert!(matches!(&error, WireError::Garbled { .. }) && error.to_string().contains(reason), "{error}");
    };
    check(|_| Reply::Raw(Bytes::from_static(b"HTTP/1.1 400 Bad Request")), "a response of 1213486160 bytes").await;
    check(|_| Reply::Raw(Bytes::from_static(&[0xff; 8])), "a response of -1 bytes").await;
    check(|_| Reply::Raw(Bytes::from_static(&[0, 0, 0, 2, 1, 2])), "correlation id").await;
    check(|asked| asked.reply_as::<MetadataRequest>(12, 77, &asked.metadata()), "correlation id 77").await;
}

#[tokio::test]
async fn a_coordinator_that_has_moved_is_looked_up_anew() {
    let lookups = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&lookups);
    let mut fetches = 0;
    let cluster = cluster(move |asked| {
        if asked.is::<OffsetFetchRequest>() {
            fetches += 1;
            let not_coordinator = kafka_protocol::messages::OffsetFetchResponse::default().with_error_code(16);
            return match fetches {
                2 => asked.reply::<OffsetFetchRequest>(&not_coordinator),
                _ => asked.kept(7),
            };
        }
        if asked.is::<kafka_protocol::messages::FindCoordinatorRequest>() {
            count.fetch_add(1, Ordering::Relaxed);
        }
        asked.quiet()
    })
    .await;
    for _ in 0..3 {
        assert_eq!(cluster.offset_fetch("g", "t", &[0]).await.unwrap()[&0].offset.0, 7);
    }
    assert_eq!(lookups.load(Ordering::Relaxed), 2, "once at first, and once when it had moved");
}

#[tokio::test]
async fn a_refusal_is_not_tried_again() {
    let mut commits = 0;
    let cluster = cluster(move |asked| {
        if asked.is::<OffsetCommitRequest>() {
            commits += 1;
            assert_eq!(commits, 1);
            return asked.committed(30);
        }
        asked.quiet()
    })
    .await;
    let commit = crate::offsets::Committed {
        offset: crate::record::Offset(1),
        leader_epoch: LeaderEpoch(3),
        metadata: String::new(),
    };
    let error = cluster.offset_commit("g", "t", &[(0, commit)].into()).await.unwrap_err();
    assert!(error.is_refusal() && error.to_string().contains("GROUP_AUTHORIZATION_FAILED (30)"), "{error}");
}

/// It says so in an answer, and does not listen for so long (KIP-219): longer here than a call may take.
#[tokio::test]
async fn a_broker_that_throttles_is_left_alone_and_is_not_taken_for_one_that_hangs() {
    let throttle = DEADLINES.request + DEADLINES.request / 2;
    let (mut muted_until, requests) = (None, Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&requests);
    let cluster = cluster(move |asked| {
        if !asked.is::<OffsetFetchRequest>() {
            return asked.quiet();
        }
        count.fetch_add(1, Ordering::Relaxed);
        match muted_until {
            Some(muted_until) if Instant::now() < muted_until => return Reply::Silence,
            Some(_) => return asked.kept(7),
            None => muted_until = Some(Instant::now() + throttle),
        }
        let response = kafka_protocol::messages::OffsetFetchResponse::default();
        let ms = i32::try_from(throttle.as_millis()).expect("short");
        asked.reply::<OffsetFetchRequest>(&response.with_throttle_time_ms(ms))
    })
    .await;
    assert!(cluster.offset_fetch("g", "t", &[0]).await.unwrap().is_empty());
    let started = Instant::now();
    assert_eq!(cluster.offset_fetch("g", "t", &[0]).await.unwrap()[&0].offset.0, 7);
    assert!(started.elapsed() >= throttle / 2, "{:?}", started.elapsed());
    assert_eq!(requests.load(Ordering::Relaxed), 2, "each was answered");
}
