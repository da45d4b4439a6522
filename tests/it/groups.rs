//! Several processes share a group: they come, leave and crash, and every message is answered.

use crate::harness::{Kafka, Signal, sleeps};

const MEMBER: &str = "--assign group --workers 4 --heartbeat-interval 200ms --session-timeout 6s";

#[test]
fn members_come_and_leave_and_nothing_is_answered_twice() {
    let kafka = Kafka::start(4);
    for partition in 0..4 {
        kafka.put(partition, (0..150).map(|number| sleeps(5 + number % 20)));
    }
    let first = kafka.longshore(MEMBER).start();
    kafka.until_answers(20);
    let second = kafka.longshore(MEMBER).start();
    second.says("working off");
    kafka.until_answers(150);
    first.signal(Signal::TERM);
    first.end().exits(0).says("rebalance over");
    kafka.until_answers(600);
    second.signal(Signal::TERM);
    let second = second.end().exits(0);
    assert!(second.count("replied") > 0);
    kafka.all_answered_once();
}

#[test]
fn what_a_member_held_that_is_killed_goes_to_the_others() {
    let kafka = Kafka::start(4);
    for partition in 0..4 {
        kafka.put(partition, (0..60).map(|number| sleeps(5 + number % 20)));
    }
    let first = kafka.longshore(MEMBER).start();
    let second = kafka.longshore(MEMBER).start();
    second.says("working off");
    kafka.until_answers(40);
    first.kill();
    kafka.until("all to be committed", |kafka| (0..4).all(|partition| kafka.kept(partition) == Some(60)));
    second.signal(Signal::TERM);
    second.end().exits(0);
    kafka.all_answered();
}

#[test]
fn a_member_that_works_to_the_end_ends() {
    let kafka = Kafka::start(2);
    kafka.put(0, ["{}", "{}"]);
    kafka.longshore("--assign group --until-end --task-time 0").end().exits(0).counts("received 2");
    // Another finds nothing, and leaves as well.
    kafka.longshore("--assign group --until-end --task-time 0").end().exits(0).counts("received 0");
}

#[test]
fn topics_are_found_by_a_pattern_and_what_is_written_is_not_read() {
    let kafka = Kafka::start(1);
    kafka.put(0, ["{}", "{}"]);
    let run = kafka.longshore("--assign group --topic-regex .*").start();
    kafka.until_answers(2);
    run.signal(Signal::TERM);
    run.end().exits(0).counts("received 2");
}

/// Both give everything up when one joins, and the first still runs 8 tasks then: 4 of partitions that it keeps.
#[test]
fn what_runs_while_its_partition_is_dealt_anew_to_the_same_member_is_not_run_again() {
    let kafka = Kafka::start(4);
    for partition in 0..4 {
        kafka.put(partition, [3000, 3000].map(sleeps).into_iter().chain((0..20).map(sleeps)));
    }
    let member = "--assign group --group-protocol classic --assignors range --workers 8 --heartbeat-interval 200ms";
    let first = kafka.longshore(member).start();
    first.says("working off");
    let second = kafka.longshore(member).start();
    first.says("tasks adopted");
    kafka.until("all to be committed", |kafka| (0..4).all(|partition| kafka.kept(partition) == Some(22)));
    let [first, second] = [first, second].map(|run| {
        run.signal(Signal::TERM);
        run.end().exits(0)
    });
    kafka.all_answered_once();
    assert!(first.count("adopted") >= 4, "{}", first.count("adopted"));
    // What ran of partitions that went over to the second was run there, too; and nothing else twice.
    let ran = first.count("succeeded") + second.count("succeeded");
    assert_eq!(ran - first.count("past_life") - second.count("past_life"), 4 * 22);
}
