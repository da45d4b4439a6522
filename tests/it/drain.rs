//! The end by signal: what runs may finish, nothing new starts, and it takes no longer than it was given.

use std::time::Instant;

use crate::harness::{Kafka, Signal, plain, sleeps};

#[test]
fn what_runs_may_finish_and_nothing_new_starts() {
    let kafka = Kafka::start(1);
    kafka.put(0, ["{}".to_owned(), sleeps(600), sleeps(600), sleeps(600), sleeps(600)]);
    let run = kafka.longshore("--workers 2").start();
    kafka.until_answers(1);
    run.signal(Signal::TERM).says("SIGTERM: draining");
    let end = run.end().exits(0).counts("received 5, succeeded 3, replied 3, in_flight_at_exit 0");
    assert_eq!(end.summary()["forced"], false);
    let answered: Vec<_> = kafka.answers().into_keys().collect();
    assert_eq!(answered, [(0, 0), (0, 1), (0, 2)]);
    assert_eq!(kafka.kept(0), Some(3));
}

#[test]
fn what_travelled_with_a_long_task_and_never_began_is_not_counted_as_in_flight() {
    let kafka = Kafka::start(1);
    // Very short tasks go to a worker several at once.
    kafka.put(0, plain(300).into_iter().chain([sleeps(400)]).chain(plain(300)));
    let run = kafka.longshore("--workers 1").start();
    kafka.until_answers(300);
    run.signal(Signal::TERM);
    run.end().exits(0).counts("received 601, succeeded 301, replied 301, in_flight_at_exit 0");
    assert_eq!(kafka.kept(0), Some(301));
}

#[test]
fn ctrl_c_drains_as_sigterm_does() {
    let kafka = Kafka::start(1);
    let run = kafka.longshore("").start();
    run.says("working off").signal(Signal::INT).says("SIGINT: draining");
    run.end().exits(0);
}

#[test]
fn a_second_signal_ends_it_at_once_with_75() {
    for (first, second) in [(Signal::TERM, Signal::TERM), (Signal::INT, Signal::INT), (Signal::TERM, Signal::INT)] {
        let kafka = Kafka::start(1);
        kafka.put(0, ["{}".to_owned(), sleeps(60_000)]);
        let run = kafka.longshore("--workers 1 --grace 1m").start();
        kafka.until_committed(0, 1);
        run.signal(first).says("draining: no new task starts");
        let begun = Instant::now();
        run.signal(second);
        let end = run.end().exits(75).says("runs again next time");
        assert!(begun.elapsed().as_secs() < 5, "{:?}", begun.elapsed());
        assert_eq!(end.out, "", "there is no summary of what was cut off");
        assert_eq!(kafka.kept(0), Some(1));
    }
}

#[test]
fn when_the_grace_is_over_the_end_is_forced_and_the_commit_stops_below_what_ran() {
    let kafka = Kafka::start(1);
    kafka.put(0, ["{}".to_owned(), "{}".to_owned(), sleeps(60_000), "{}".to_owned(), sleeps(60_000)]);
    let run = kafka.longshore("--workers 3 --grace 300ms").start();
    kafka.until_answers(3);
    let begun = Instant::now();
    run.signal(Signal::TERM);
    let end = run.end().exits(75).counts("received 5, succeeded 3, in_flight_at_exit 2");
    // All that can be committed is: there is nothing to wait for once the grace is over.
    assert!((300..3_000).contains(&begun.elapsed().as_millis()), "{:?}", begun.elapsed());
    assert_eq!(end.summary()["forced"], true);
    assert_eq!(end.summary()["committed"], serde_json::json!({"0": 2}));
    let unfinished = serde_json::json!([{"source": "orders-0", "offsets": [[2, 2], [4, 4]], "more": 0}]);
    assert_eq!(end.summary()["unfinished"], unfinished);
    assert_eq!(kafka.kept(0), Some(2));
}

#[test]
fn what_finishes_during_the_grace_is_answered_and_committed_before_its_end() {
    let kafka = Kafka::start(1);
    kafka.put(0, ["{}".to_owned(), sleeps(500), sleeps(60_000)]);
    let run = kafka.longshore("--workers 2 --grace 1m --commit-interval 1h").start();
    kafka.until_answers(1);
    run.signal(Signal::TERM).says("draining: no new task starts");
    // The interval of an hour does not hold while it drains.
    kafka.until_committed(0, 2);
    run.signal(Signal::TERM);
    run.end().exits(75);
}

#[test]
fn it_reacts_at_once_while_every_worker_is_blocked() {
    let kafka = Kafka::start(1);
    kafka.put(0, ["{}".to_owned()].into_iter().chain((0..10).map(|_| sleeps(60_000))));
    let run = kafka.longshore("--workers 4 --grace 0").start();
    kafka.until_committed(0, 1);
    let begun = Instant::now();
    run.signal(Signal::TERM);
    let end = run.end().exits(75);
    assert!(begun.elapsed().as_secs() < 3, "{:?}", begun.elapsed());
    let in_flight = end.count("in_flight_at_exit");
    assert!((1..=4).contains(&in_flight), "{in_flight} tasks ran");
}

#[test]
fn a_drain_while_it_waits_for_the_topic_is_clean() {
    let kafka = Kafka::empty(&longshore::broker::Options::default());
    let run = kafka.longshore("").start();
    run.says("there is no topic orders yet").signal(Signal::TERM);
    run.end().exits(0).counts("received 0");
}

#[test]
fn an_idle_run_ends_at_once() {
    let kafka = Kafka::start(4);
    kafka.put(2, plain(5));
    let run = kafka.longshore("").start();
    kafka.until_committed(2, 5);
    let begun = Instant::now();
    run.signal(Signal::TERM);
    run.end().exits(0);
    assert!(begun.elapsed().as_secs() < 3, "{:?}", begun.elapsed());
}

#[test]
fn a_last_commit_without_an_acknowledgement_is_not_a_clean_end() {
    use longshore::broker::{ApiKey, ResponseError};
    let kafka = Kafka::start(1);
    kafka.faults().every(ApiKey::OffsetCommit).error(ResponseError::CoordinatorLoadInProgress);
    kafka.put(0, ["{}"]);
    let run = kafka.longshore("--grace 100ms").start();
    kafka.until_answers(1);
    run.signal(Signal::TERM);
    let end = run.end().exits(75).counts("succeeded 1, replied 1, in_flight_at_exit 0");
    assert_eq!((&end.summary()["forced"], kafka.kept(0)), (&true.into(), None));
}
