//! Where a run begins and where it ends: `--from`, `--assign`, `--until-end`, topics that come later.

use longshore::broker::{ApiKey, Options};

use crate::harness::{GROUP, IN, Kafka, Signal, offset, plain, sleeps};

#[test]
fn until_end_works_off_what_was_there_and_not_what_came_meanwhile() {
    let kafka = Kafka::start(2);
    kafka.put(0, [sleeps(500)].into_iter().chain(plain(9)));
    kafka.put(1, plain(3));
    let run = kafka.longshore("--until-end").start();
    kafka.until_answers(12);
    // The first message still runs.
    kafka.put(0, plain(5));
    kafka.put(1, plain(5));
    run.end().exits(0).counts("received 13, replied 13");
    assert_eq!((kafka.kept(0), kafka.kept(1)), (Some(10), Some(3)));
}

#[test]
fn until_end_does_not_wait_for_empty_partitions() {
    let kafka = Kafka::start(4);
    kafka.put(2, plain(5));
    kafka.longshore("--until-end").end().exits(0).counts("received 5");
    kafka.all_answered_once();
}

#[test]
fn until_end_of_an_empty_topic_ends_at_once() {
    let kafka = Kafka::start(2);
    let end = kafka.longshore("--until-end").end().exits(0).counts("received 0");
    assert_eq!(end.summary()["first_task_ms"], serde_json::Value::Null);
}

#[test]
fn from_earliest_begins_at_the_first_record_that_there_is() {
    let kafka = Kafka::start(1);
    kafka.put(0, plain(10));
    assert!(kafka.delete_records(IN, 0, offset(4)));
    kafka.longshore("--until-end --from earliest").end().exits(0).counts("received 6");
    assert_eq!(kafka.answers().into_keys().next(), Some((0, 4)));
}

#[test]
fn from_latest_begins_with_what_comes() {
    let kafka = Kafka::start(1);
    kafka.put(0, plain(10));
    let run = kafka.longshore("--from latest").start();
    run.says("working off");
    kafka.put(0, plain(2));
    kafka.until_committed(0, 12);
    run.signal(Signal::TERM);
    run.end().exits(0).counts("received 2");
    // From here on there is an offset, and --from says nothing any more.
    kafka.put(0, plain(3));
    kafka.longshore("--until-end --from latest").end().exits(0).counts("received 3");
}

#[test]
fn from_latest_skips_nothing_of_a_partition_without_an_offset_beside_others_that_have_one() {
    let kafka = Kafka::start(1);
    kafka.put(0, plain(2));
    kafka.longshore("--until-end").end().exits(0);
    kafka.add_partitions(IN, 1).unwrap();
    kafka.put(1, plain(3));
    kafka
        .longshore("--assign all --until-end --from latest")
        .end()
        .exits(0)
        .counts("received 3")
        .says("no committed offset, but others have one: beginning at the earliest partition=orders-1");
    kafka.all_answered_once();
}

#[test]
fn in_a_group_from_latest_counts_for_each_partition_and_what_it_skips_is_said() {
    let kafka = Kafka::start(1);
    kafka.put(0, plain(2));
    kafka.longshore("--until-end").end().exits(0);
    kafka.add_partitions(IN, 1).unwrap();
    kafka.put(1, plain(3));
    let ended = kafka.longshore("--until-end --from latest").end().exits(0).counts("received 0");
    ended.says("what lies before it is not worked off partition=orders-1 start=3");
}

#[test]
fn from_stop_refuses_to_guess_and_names_the_partitions() {
    let kafka = Kafka::start(3);
    kafka.commit(GROUP, IN, 1, offset(0), "").unwrap();
    kafka
        .longshore("--until-end --from stop")
        .end()
        .exits(65)
        .says("group workers has no committed offset for orders-0, orders-2, and --from stop was said");
    assert_eq!(kafka.requests(ApiKey::OffsetCommit), 0);
    for partition in [0, 2] {
        kafka.commit(GROUP, IN, partition, offset(0), "").unwrap();
    }
    kafka.longshore("--until-end --from stop").end().exits(0);
}

#[test]
fn only_the_partitions_assigned_are_worked_off() {
    let kafka = Kafka::start(5);
    for partition in 0..5 {
        kafka.put(partition, plain(2));
    }
    kafka.longshore("--until-end --assign 0,2-3").end().exits(0).counts("received 6");
    assert_eq!((0..5).map(|p| kafka.kept(p)).collect::<Vec<_>>(), [Some(2), None, Some(2), Some(2), None]);
    kafka.longshore("--until-end --assign 1,4").end().exits(0).counts("received 4");
    kafka.all_answered_once();
}

#[test]
fn a_topic_that_is_created_in_time_is_waited_for() {
    let kafka = Kafka::empty(&Options::default());
    let run = kafka.longshore("--startup-timeout 20s --until-end").start();
    run.says("waiting: there is no topic orders yet");
    kafka.create_topic(IN, 1).unwrap();
    run.end().exits(0);
}

#[test]
fn a_broker_that_comes_up_in_time_is_waited_for() {
    let kafka = Kafka::start(1);
    kafka.put(0, plain(2));
    let hangs_up = kafka.faults().all().disconnect();
    let run = kafka.longshore("--startup-timeout 20s --until-end").start();
    kafka.until("it has come twice", |kafka| kafka.requests(ApiKey::ApiVersions) >= 2);
    hangs_up.clear();
    run.end().exits(0).counts("received 2");
}

#[test]
fn topics_to_be_written_to_are_created_when_missing() {
    let kafka = Kafka::empty(&Options { default_partitions: 3, ..Options::default() });
    kafka.create_topic(IN, 1).unwrap();
    kafka.put(0, ["{}", "{oops"]);
    kafka.longshore("--until-end --reply-topic new-replies --dead-letter-topic new-dead").end().exits(0);
    assert_eq!((kafka.count("new-replies"), kafka.count("new-dead")), (2, 1));
    assert_eq!(kafka.partitions("new-replies"), Some(3), "as many as the broker gives");
}
