//! Bounds: what is held at once, and what goes on while every worker is blocked.

use longshore::broker::{ApiKey, ResponseError};

use crate::harness::{IN, Kafka, Signal, keyed, plain, sleeps};

/// Short messages, so that answers show how far it is, then many long ones.
fn then_blocked(short: usize, long: usize) -> impl Iterator<Item = String> {
    plain(short).into_iter().chain((0..long).map(|_| sleeps(60_000)))
}

#[test]
fn no_more_is_taken_than_may_be_in_flight() {
    let kafka = Kafka::start(1);
    kafka.put(0, then_blocked(10, 990));
    let run = kafka.longshore("--workers 2 --max-in-flight 6 --grace 0").start();
    kafka.until_committed(0, 10);
    run.signal(Signal::TERM);
    let end = run.end().exits(75);
    let received = end.count("received");
    assert!((11..=16).contains(&received), "10 are done, and of 6 in flight it took {received}");
    assert!(end.count("in_flight_at_exit") <= 2, "more tasks than workers: {end:?}");
}

#[test]
fn the_limit_is_for_all_partitions_together() {
    let kafka = Kafka::start(5);
    for partition in 0..5 {
        kafka.put(partition, then_blocked(0, 200));
    }
    let run = kafka.longshore("--workers 3 --max-in-flight 10 --grace 0").start();
    // A partition's fetches stop when there is no more room, and those of all five come to rest.
    kafka.until("fetches of all", |kafka| kafka.requests(ApiKey::Fetch) >= 5);
    run.signal(Signal::TERM);
    let received = run.end().exits(75).count("received");
    assert!(received <= 10, "{received} of 10");
}

#[test]
fn no_more_bytes_are_taken_than_may_be_in_flight() {
    let kafka = Kafka::start(1);
    let padding = "x".repeat(4 << 10);
    let large = format!(r#"{{"longshore": {{"sleep_ms": 60000}}, "padding": "{padding}"}}"#);
    kafka.put(0, ["{}".to_owned()]);
    for _ in 0..50 {
        kafka.put(0, [large.clone()]);
    }
    let run = kafka.longshore("--workers 1 --max-in-flight-bytes 64KiB --grace 0").start();
    kafka.until_committed(0, 1);
    run.signal(Signal::TERM);
    let received = run.end().exits(75).count("received");
    // The first, and 15 of 4 KiB and something.
    assert!((2..=16).contains(&received), "{received} received");
}

#[test]
fn what_is_larger_than_the_limit_on_bytes_goes_alone_but_goes() {
    let kafka = Kafka::start(2);
    for partition in 0..2 {
        for _ in 0..3 {
            kafka.append(IN, partition, [keyed("k", &format!("\"{}\"", "x".repeat(200 << 10)))]).unwrap();
        }
    }
    kafka.longshore("--until-end --max-in-flight-bytes 64KiB").end().exits(0).counts("received 6");
    kafka.all_answered_once();
}

#[test]
fn all_is_worked_off_through_the_narrowest_limits() {
    let kafka = Kafka::start(3);
    for partition in 0..3 {
        kafka.put(partition, plain(200));
    }
    kafka.longshore("--until-end --workers 1 --max-in-flight 1 --max-in-flight-bytes 64KiB").end().exits(0);
    kafka.all_answered_once();
}

#[test]
fn a_long_task_does_not_keep_the_other_workers_from_what_there_is_room_for() {
    let kafka = Kafka::start(1);
    kafka.put(0, [sleeps(60_000)].into_iter().chain(plain(100)));
    let run = kafka.longshore("--workers 4 --max-in-flight 8 --grace 1s").start();
    kafka.until_answers(100);
    run.signal(Signal::TERM);
    run.end().exits(75).counts("received 101, succeeded 100");
}

#[test]
fn a_partition_that_is_held_up_does_not_hold_up_the_others() {
    let kafka = Kafka::start(2);
    kafka.put(0, then_blocked(0, 3));
    kafka.put(1, plain(100));
    let run = kafka.longshore("--workers 4 --grace 0").start();
    kafka.until_committed(1, 100);
    run.signal(Signal::TERM);
    run.end().exits(75).counts("succeeded 100, in_flight_at_exit 3");
}

#[test]
fn with_every_worker_blocked_fetching_goes_on() {
    let kafka = Kafka::start(2);
    kafka.put(0, then_blocked(1, 50));
    let run = kafka.longshore("--workers 2 --grace 0").start();
    kafka.until_committed(0, 1);
    let before = kafka.requests(ApiKey::Fetch);
    kafka.until("fetches go on", |kafka| kafka.requests(ApiKey::Fetch) >= before + 4);
    run.signal(Signal::TERM);
    run.end().exits(75);
}

#[test]
fn with_every_worker_blocked_committing_goes_on() {
    let kafka = Kafka::start(1);
    let refused = kafka.faults().every(ApiKey::OffsetCommit).topic(IN).error(ResponseError::CoordinatorLoadInProgress);
    kafka.put(0, then_blocked(5, 50));
    let run = kafka.longshore("--workers 2 --grace 0").start();
    kafka.until_answers(5);
    kafka.until("commits are tried", |kafka| kafka.requests(ApiKey::OffsetCommit) >= 2);
    refused.clear();
    kafka.until_committed(0, 5);
    run.signal(Signal::TERM);
    run.end().exits(75);
}

#[test]
fn a_thousand_workers_run_a_thousand_tasks_at_once() {
    let kafka = Kafka::start(4);
    for partition in 0..4 {
        kafka.put(partition, (0..250).map(|_| sleeps(500)));
    }
    let end = kafka.longshore("--until-end --workers 1000").end().exits(0).counts("received 1000, succeeded 1000");
    let work = end.summary()["work_ms"].as_f64().unwrap();
    assert!((500.0..3_000.0).contains(&work), "{work} ms, which would be 500 s one by one");
    kafka.all_answered_once();
}
