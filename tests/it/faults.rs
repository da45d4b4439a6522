//! A broker that has its troubles: every message is answered at least once all the same, and in the end all is committed.

use std::time::Duration;

use longshore::broker::{ApiKey, NodeId, Options, ResponseError};

use crate::harness::{IN, Kafka, REPLIES, Signal, plain, sleeps};

/// Two partitions of messages, a run that goes on until all are answered and committed, and what goes wrong before it and
/// in its middle.
#[track_caller]
fn survives(options: &Options, before: impl Fn(&Kafka), middle: impl Fn(&Kafka)) {
    let kafka = Kafka::with(options, 2);
    for partition in 0..2 {
        kafka.put(partition, (0..60).map(|number| sleeps(number % 5)));
    }
    before(&kafka);
    let run = kafka.longshore("--workers 4").start();
    kafka.until_answers(20);
    middle(&kafka);
    for partition in 0..2 {
        kafka.put(partition, plain(20));
    }
    kafka.until("all is committed", |kafka| (0..2).all(|partition| kafka.kept(partition) == Some(80)));
    run.signal(Signal::TERM);
    run.end().exits(0);
    kafka.all_answered();
}

fn nothing(_: &Kafka) {}

fn one_node() -> Options {
    Options::default()
}

fn three_nodes() -> Options {
    Options { nodes: 3, ..Options::default() }
}

#[test]
fn fetches_answered_with_errors() {
    let errors = [
        ResponseError::NotLeaderOrFollower,
        ResponseError::UnknownTopicOrPartition,
        ResponseError::UnknownServerError,
        ResponseError::KafkaStorageError,
    ];
    survives(&one_node(), nothing, |kafka| {
        for error in errors {
            kafka.faults().next(ApiKey::Fetch).topic(IN).error(error);
        }
    });
}

#[test]
fn a_connection_closed_in_the_middle_of_a_fetch() {
    for bytes in [0, 3, 40] {
        survives(
            &one_node(),
            |kafka| _ = kafka.faults().next(ApiKey::Fetch).close_after_bytes(bytes),
            |kafka| _ = kafka.faults().next(ApiKey::Fetch).times(2).close_after_bytes(bytes),
        );
    }
}

#[test]
fn a_connection_closed_before_a_write_or_in_the_middle_of_its_acknowledgement() {
    survives(
        &one_node(),
        |kafka| _ = kafka.faults().next(ApiKey::Produce).disconnect(),
        |kafka| {
            kafka.faults().next(ApiKey::Produce).close_after_bytes(0);
            kafka.faults().next(ApiKey::Produce).close_after_bytes(7);
        },
    );
}

#[test]
fn writes_answered_with_errors() {
    let errors = [
        ResponseError::NotLeaderOrFollower,
        ResponseError::NotEnoughReplicas,
        ResponseError::RequestTimedOut,
        ResponseError::KafkaStorageError,
    ];
    survives(&one_node(), nothing, |kafka| {
        for error in errors {
            kafka.faults().next(ApiKey::Produce).topic(REPLIES).error(error);
        }
    });
}

#[test]
fn a_late_acknowledgement_of_a_write() {
    let late = |kafka: &Kafka| _ = kafka.faults().next(ApiKey::Produce).delay(Duration::from_millis(700));
    survives(&one_node(), late, late);
}

#[test]
fn an_acknowledgement_of_a_write_that_never_comes() {
    survives(&one_node(), nothing, |kafka| _ = kafka.faults().next(ApiKey::Produce).black_hole());
}

#[test]
fn a_commit_refused_for_a_while() {
    survives(
        &one_node(),
        |kafka| _ = kafka.faults().next(ApiKey::OffsetCommit).times(2).error(ResponseError::CoordinatorNotAvailable),
        |kafka| {
            kafka.faults().next(ApiKey::OffsetCommit).error(ResponseError::CoordinatorLoadInProgress);
            kafka.faults().next(ApiKey::OffsetCommit).close_after_bytes(0);
            kafka.faults().next(ApiKey::OffsetFetch).disconnect();
        },
    );
}

#[test]
fn a_leader_that_moves() {
    survives(&three_nodes(), nothing, |kafka| {
        for (topic, partition) in [(IN, 0), (IN, 1), (REPLIES, 0)] {
            let (leader, _) = kafka.leader(topic, partition).unwrap();
            kafka.move_leader(topic, partition, NodeId(leader.0 % 3 + 1)).unwrap();
        }
    });
}

#[test]
fn a_coordinator_that_moves() {
    survives(
        &three_nodes(),
        |kafka| kafka.move_coordinator(NodeId(2)).unwrap(),
        |kafka| kafka.move_coordinator(NodeId(3)).unwrap(),
    );
}

#[test]
fn a_node_that_crashes_and_comes_back() {
    survives(&three_nodes(), nothing, |kafka| {
        let (leader, _) = kafka.leader(IN, 1).unwrap();
        kafka.take_down(leader);
        kafka.bring_up(leader).unwrap();
    });
}

#[test]
fn every_connection_closed_at_once() {
    survives(&one_node(), nothing, |kafka| kafka.disconnect_all());
}

#[test]
fn a_broker_that_pauses() {
    survives(&one_node(), nothing, |kafka| {
        kafka.pause();
        // Not a wait for anything: this is the pause.
        std::thread::sleep(Duration::from_millis(300));
        kafka.resume();
    });
}

#[test]
fn errors_at_the_start_that_pass() {
    survives(
        &one_node(),
        |kafka| {
            let faults = kafka.faults();
            faults.next(ApiKey::FindCoordinator).error(ResponseError::CoordinatorNotAvailable);
            faults.next(ApiKey::Metadata).disconnect();
            faults.next(ApiKey::ListOffsets).error(ResponseError::LeaderNotAvailable);
            faults.next(ApiKey::OffsetFetch).error(ResponseError::CoordinatorLoadInProgress);
        },
        nothing,
    );
}

#[test]
fn gaps_in_the_log_hold_up_nothing() {
    let kafka = Kafka::start(1);
    kafka.put(0, plain(5));
    assert!(kafka.leave_gap(IN, 0, 7));
    kafka.put(0, plain(5));
    kafka.longshore("--until-end").end().exits(0).counts("received 10");
    assert_eq!(kafka.kept(0), Some(17));
}

#[test]
fn a_write_that_is_refused_is_told_and_never_given_up() {
    let kafka = Kafka::start(1);
    let refused = kafka.faults().every(ApiKey::Produce).topic(REPLIES).error(ResponseError::TopicAuthorizationFailed);
    kafka.put(0, plain(3));
    let run = kafka.longshore("").start();
    run.says("allow this user the topic");
    assert_eq!(kafka.kept(0).unwrap_or(0), 0);
    refused.clear();
    kafka.until_committed(0, 3);
    run.signal(Signal::TERM);
    run.end().exits(0);
    kafka.all_answered_once();
}

#[test]
fn answers_that_cannot_be_written_are_told_of_at_the_end_and_stay_unfinished() {
    let kafka = Kafka::start(1);
    kafka.put(0, plain(2));
    let run = kafka.longshore("--workers 3 --grace 300ms").start();
    kafka.until_committed(0, 2);
    let refused = kafka.faults().every(ApiKey::Produce).topic(REPLIES).error(ResponseError::NotEnoughReplicas);
    kafka.put(0, plain(3));
    run.says("cannot write; these messages stay unfinished, trying again").says("NOT_ENOUGH_REPLICAS (19)");
    run.signal(Signal::TERM);
    let end = run.end().exits(75).counts("received 5, succeeded 5, replied 2, unanswered 3, in_flight_at_exit 3");
    let unwritten = &end.summary()["unwritten"];
    assert_eq!((&unwritten[0]["topic"], &unwritten[0]["partition"]), (&REPLIES.into(), &0.into()));
    assert!(unwritten[0]["reason"].as_str().unwrap().contains("NOT_ENOUGH_REPLICAS"), "{unwritten}");
    assert!(unwritten[0]["waited_ms"].as_u64().unwrap() >= 500, "{unwritten}");
    assert_eq!(unwritten.as_array().unwrap().len(), 1);
    assert_eq!(end.log.matches("cannot write").count(), 1, "{}", end.log);
    assert_eq!(kafka.kept(0), Some(2));

    let again = kafka.longshore("--grace 0 --summary text").start();
    again.says("cannot write").signal(Signal::TERM);
    let end = again.end().exits(75);
    assert!(end.out.contains("\nunanswered 3 of them"), "{}", end.out);
    assert!(end.out.contains("replies-0 could not be written to for "), "{}", end.out);
    refused.clear();
    kafka.longshore("--until-end").end().exits(0).counts("received 3, replied 3, unanswered 0");
    kafka.all_answered_once();
}

#[test]
fn a_commit_that_is_never_acknowledged_is_told_of_at_the_end() {
    let kafka = Kafka::start(1);
    let refused = kafka.faults().every(ApiKey::OffsetCommit).error(ResponseError::CoordinatorNotAvailable);
    kafka.put(0, plain(3));
    let run = kafka.longshore("--grace 100ms --summary text").start();
    run.says("commit not acknowledged, trying again").signal(Signal::TERM);
    let end = run.end().exits(75);
    assert!(end.out.contains("\nbeyond     0:3 is done, but no commit says so"), "{}", end.out);
    refused.clear();
    kafka.longshore("--until-end").end().exits(0);
    kafka.all_answered();
}
