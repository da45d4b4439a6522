//! Ended and started again: after a clean stop nothing is repeated, after a crash nothing is lost.

use crate::harness::{Kafka, Signal, sleeps};

#[test]
fn after_a_clean_stop_nothing_is_repeated() {
    let kafka = Kafka::start(2);
    for partition in 0..2 {
        kafka.put(partition, (0..100).map(|number| sleeps(1 + number % 7)));
    }
    let mut answers = 20;
    for _ in 0..3 {
        let run = kafka.longshore("--workers 4").start();
        kafka.until_answers(answers);
        run.signal(Signal::TERM);
        run.end().exits(0);
        answers = kafka.count("replies") + 20;
    }
    kafka.longshore("--until-end --workers 16").end().exits(0);
    kafka.all_answered_once();
}

#[test]
fn after_kill_9_every_message_is_answered_at_least_once() {
    let kafka = Kafka::start(2);
    for partition in 0..2 {
        kafka.put(partition, (0..150).map(|number| sleeps(1 + number % 7)));
    }
    // A static member takes the place of itself at once; another has to wait until it is missed.
    for _ in 0..3 {
        let run = kafka.longshore("--workers 8 --commit-interval 30ms --instance-id one").start();
        kafka.until_answers(kafka.count("replies") + 40);
        run.kill();
    }
    kafka.longshore("--until-end --workers 16 --instance-id one").end().exits(0);
    kafka.all_answered();
}

#[test]
fn after_a_forced_end_what_was_cut_off_runs_again() {
    let kafka = Kafka::start(1);
    kafka.put(0, ["{}".to_owned(), sleeps(1_500), "{}".to_owned()]);
    let run = kafka.longshore("--workers 2 --grace 0").start();
    kafka.until_answers(2);
    kafka.until_committed(0, 1);
    run.signal(Signal::TERM);
    run.end().exits(75);
    let counts = "received 1, already_finished 1";
    kafka.longshore("--until-end --workers 2").end().exits(0).says("finished_above=1").counts(counts);
    // What was behind it is above the commit, and was not repeated either.
    kafka.all_answered_once();
}

#[test]
fn groups_do_not_share_their_progress() {
    let kafka = Kafka::start(1);
    kafka.put(0, ["{}", "{}"]);
    kafka.longshore("--until-end").end().exits(0).counts("received 2");
    kafka.longshore("--until-end --group others").end().exits(0).counts("received 2");
    kafka.longshore("--until-end").end().exits(0).counts("received 0");
}
