//! Commits and fetches of members, and what may come of them.

use std::sync::Mutex;

use kafka_protocol::{
    messages::{
        ApiVersionsRequest, FindCoordinatorRequest,
        offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic},
    },
    protocol::Request,
};

use super::*;
use crate::{
    kafka::wire::scripted::{Asked, Reply, cluster},
    membership::exchange::Refusal,
};

fn committed(metadata: usize) -> Committed {
    Committed { offset: Offset(1), leader_epoch: LeaderEpoch::UNKNOWN, metadata: "x".repeat(metadata) }
}

fn at(topic: &str, partition: i32) -> TopicPartition {
    TopicPartition::new(topic, partition)
}

fn member(epoch: Epoch, instance: Option<&str>) -> Identity {
    Identity { member: "m".into(), instance: instance.map(Into::into), epoch }
}

/// A quiet broker that knows commits and fetches up to these versions.
fn quiet(asked: &Asked, newest_commit: i16, newest_fetch: i16) -> Reply {
    if asked.is::<ApiVersionsRequest>() {
        return asked.versions(&[
            (ApiVersionsRequest::KEY, 0, 4),
            (FindCoordinatorRequest::KEY, 0, 3),
            (OffsetFetchRequest::KEY, 1, newest_fetch),
            (OffsetCommitRequest::KEY, 2, newest_commit),
        ]);
    }
    asked.quiet()
}

/// Answers a commit with what `code` says of each partition.
fn answered(asked: &Asked, code: impl Fn(&str, i32) -> i16) -> Reply {
    let topics = asked.body::<OffsetCommitRequest>().topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|p| {
            OffsetCommitResponsePartition::default()
                .with_partition_index(p.partition_index)
                .with_error_code(code(&topic.name, p.partition_index))
        });
        let partitions = partitions.collect();
        OffsetCommitResponseTopic::default().with_name(topic.name).with_partitions(partitions)
    });
    asked.reply::<OffsetCommitRequest>(&OffsetCommitResponse::default().with_topics(topics.collect()))
}

#[test]
fn commits_are_cut_where_the_next_would_not_fit() {
    let commits = [80, 80, 80, 1_000, 0].map(committed);
    let all = || (0..).zip(&commits).map(|(partition, committed)| (at("topic", partition), committed));
    let cut = |group, max| -> Vec<Vec<i32>> {
        split(group, all(), max).into_iter().map(|r| r.iter().map(|(at, _)| at.partition).collect()).collect()
    };
    assert_eq!(cut("group", 2 * (64 + 5 + 5 + 80)), [vec![0, 1], vec![2], vec![3], vec![4]]);
    assert_eq!(cut("groups", 2 * (64 + 5 + 5 + 80)), [vec![0], vec![1], vec![2], vec![3], vec![4]], "a name counts");
    assert!(split("group", std::iter::empty(), 200).is_empty());
}

#[tokio::test]
async fn a_member_says_who_it_is_and_several_topics_go_in_one_request() {
    for (newest, epoch, instance) in [
        (9, Epoch::Member(5), Some("i")),
        (9, Epoch::Generation(5), None),
        (7, Epoch::Generation(5), Some("i")),
        (2, Epoch::Generation(5), None),
    ] {
        let cluster = cluster(move |asked| {
            if !asked.is::<OffsetCommitRequest>() {
                return quiet(asked, newest, 9);
            }
            assert_eq!(asked.version, newest);
            let body = asked.body::<OffsetCommitRequest>();
            assert_eq!((&*body.member_id, body.generation_id_or_member_epoch), ("m", 5));
            assert_eq!(body.group_instance_id.as_deref(), instance);
            let topics: Vec<_> = body.topics.iter().map(|topic| (&**topic.name, topic.partitions.len())).collect();
            assert_eq!(topics, [("t", 2), ("u", 1)]);
            answered(asked, |_, _| 0)
        })
        .await;
        let commits = [at("t", 0), at("t", 1), at("u", 0)].map(|at| (at, committed(0))).into();
        let not_kept = cluster.offset_commit_of("g", Some(&member(epoch, instance)), &commits).await.unwrap();
        assert!(not_kept.is_empty());
    }
}

#[tokio::test]
async fn a_broker_that_would_not_read_who_commits_is_not_asked() {
    for (newest, epoch, instance) in [(8, Epoch::Member(5), None), (6, Epoch::Generation(5), Some("i"))] {
        let cluster = cluster(move |asked| quiet(asked, newest, 9)).await;
        let commits = [(at("t", 0), committed(0))].into();
        let error = cluster.offset_commit_of("g", Some(&member(epoch, instance)), &commits).await.unwrap_err();
        assert!(matches!(error.as_refusal(), Refusal::Unsupported(_)), "{error}");
    }
}

/// Each of them asks for something else of the member.
#[tokio::test]
async fn why_a_member_may_not_commit_is_told_apart() {
    for (code, expected) in [
        (22, Refusal::IllegalGeneration),
        (25, Refusal::UnknownMember),
        (27, Refusal::Rebalancing),
        (82, Refusal::FencedInstance),
        (113, Refusal::StaleEpoch),
    ] {
        let mut commits = 0;
        let cluster = cluster(move |asked| {
            if asked.is::<OffsetCommitRequest>() {
                commits += 1;
                assert_eq!(commits, 1, "asked again");
                return answered(asked, |_, _| code);
            }
            quiet(asked, 9, 9)
        })
        .await;
        let commits = [(at("t", 0), committed(0))].into();
        let who = member(Epoch::Generation(5), None);
        let error = cluster.offset_commit_of("g", Some(&who), &commits).await.unwrap_err();
        assert_eq!(error.as_refusal(), expected);
        assert!(error.code().is_some_and(ErrorCode::is_live_group));
    }
}

#[tokio::test]
async fn what_is_wrong_with_one_partition_does_not_hide_that_the_others_were_kept() {
    let cluster = cluster(|asked| {
        if asked.is::<OffsetCommitRequest>() {
            return answered(asked, |topic, partition| match (topic, partition) {
                ("gone", _) => 3,
                ("t", 1) => 12,
                _ => 0,
            });
        }
        quiet(asked, 9, 9)
    })
    .await;
    let commits = [at("gone", 0), at("t", 0), at("t", 1)].map(|at| (at, committed(0))).into();
    let not_kept = cluster.offset_commit_of("g", None, &commits).await.unwrap();
    let codes: Vec<_> = not_kept.iter().map(|(at, error)| (at.to_string(), error.code().unwrap().0)).collect();
    assert_eq!(codes, [("gone-0".to_owned(), 3), ("t-1".to_owned(), 12)]);
    // To one who commits for one topic it is an error as before.
    let one = [(1, committed(0))].into();
    let error = cluster.offset_commit("g", "t", &one).await.unwrap_err();
    assert!(error.to_string().contains("OffsetCommit for t-1 of group g with OFFSET_METADATA_TOO_LARGE"), "{error}");
}

#[tokio::test]
async fn a_partition_that_the_answer_leaves_out_was_not_kept() {
    let cluster =
        cluster(|asked| if asked.is::<OffsetCommitRequest>() { asked.committed(0) } else { quiet(asked, 9, 9) }).await;
    let commits = [at("t", 0), at("u", 0)].map(|at| (at, committed(0))).into();
    let error = cluster.offset_commit_of("g", None, &commits).await.unwrap_err();
    assert!(error.to_string().contains("lacks partition u-0"), "{error}");
}

/// By the classic protocol nobody does; and before version 9 nobody can.
#[tokio::test]
async fn a_fetch_names_its_member_in_a_group_of_kip_848() {
    let seen: Arc<Mutex<Vec<_>>> = Arc::default();
    for (newest, epoch) in [(9, Epoch::Member(5)), (9, Epoch::Generation(5)), (8, Epoch::Member(5))] {
        let told = Arc::clone(&seen);
        let cluster = cluster(move |asked| {
            if !asked.is::<OffsetFetchRequest>() {
                return quiet(asked, 9, newest);
            }
            let body = asked.body::<OffsetFetchRequest>();
            assert!(body.require_stable);
            let group = &body.groups[0];
            told.lock().unwrap().push((group.member_id.as_ref().map(ToString::to_string), group.member_epoch));
            let topics: Vec<_> = group.topics.iter().flatten().map(|t| (&**t.name, &t.partition_indexes[..])).collect();
            assert_eq!(topics, [("t", &[0, 1][..]), ("u", &[0])]);
            asked.reply::<OffsetFetchRequest>(&OffsetFetchResponse::default())
        })
        .await;
        let wanted = [at("t", 0), at("t", 1), at("u", 0)].into();
        assert!(cluster.offset_fetch_of("g", Some(&member(epoch, None)), &wanted).await.unwrap().is_empty());
    }
    assert_eq!(*seen.lock().unwrap(), [(Some("m".to_owned()), 5), (None, -1), (None, -1)]);
}
