//! What fails: tried again, kept while nearly all fails, given up; and what runs in order.

use std::fs;

use crate::harness::{Kafka, Longshore, REPLIES, Signal, keyed, scratch, text};

fn sh(kafka: &Kafka, flags: &str, script: &str) -> Longshore {
    endless(kafka, &format!("--until-end {flags}"), script)
}

fn endless(kafka: &Kafka, flags: &str, script: &str) -> Longshore {
    let run = kafka.longshore(&format!("--task exec {flags}"));
    ["--", "sh", "-c"].iter().fold(run, Longshore::arg).arg(script)
}

#[test]
fn what_fails_is_tried_again_and_then_given_up() {
    let kafka = Kafka::start(1);
    kafka.put(0, ["1", "2", "3", "4"]);
    // The first attempt of 2 fails, and all of 3.
    let script =
        "read n; case $n$LONGSHORE_MSG_ATTEMPT in 21|3?) echo no >&2; exit 1;; esac; printf $n-$LONGSHORE_MSG_ATTEMPT";
    sh(&kafka, "--retries 2 --retry-backoff 20ms --dead-letter-topic dead", script)
        .end()
        .exits(0)
        .counts("succeeded 3, failed 1, retried 3, replied 3, dead_lettered 1");
    let answers: Vec<_> = kafka.read(REPLIES).into_iter().filter_map(|record| record.value).collect();
    assert!(answers.iter().any(|answer| answer == "2-2"), "{answers:?}");
    let dead = kafka.read("dead");
    assert_eq!(text(&dead[0], "__dlq.errors.delivery.count"), "3");
    assert_eq!(kafka.kept(0), Some(4));
}

#[test]
fn what_waits_to_be_tried_again_at_the_end_is_listed_although_nothing_is_in_flight() {
    let kafka = Kafka::start(1);
    kafka.put(0, ["1", "2", "3"]);
    let flags = "--retries 3 --retry-backoff 60s --workers 1 --summary text";
    let run = endless(&kafka, flags, "read n; test $n != 2 && printf $n").start();
    kafka.until_answers(2);
    run.signal(Signal::TERM);
    let end = run.end().exits(0);
    let lines: Vec<_> = end.out.lines().filter(|line| line.contains("orders-0")).collect();
    assert_eq!(lines, ["unfinished orders-0 at 1"], "{}", end.out);
}

#[test]
fn while_nearly_all_fails_no_message_is_given_up() {
    let kafka = Kafka::start(2);
    let (_folder, mended) = scratch("mended");
    kafka.put(0, (0..60).map(|n| n.to_string()));
    // It is mended once the circuit was open for a while.
    let run = sh(
        &kafka,
        "--retries 1 --workers 4 --dead-letter-topic dead",
        &format!("test -e {} || exit 1", mended.display()),
    )
    .start();
    run.says("the circuit is open").says("the circuit stays open");
    fs::write(&mended, "").unwrap();
    run.end()
        .exits(0)
        .counts("succeeded 60, failed 0, dead_lettered 0, circuit_opened 1")
        .says("the circuit is closed again");
    assert_eq!(kafka.kept(0), Some(60));
}

#[test]
fn messages_of_a_key_are_answered_in_order() {
    let kafka = Kafka::start(1);
    for n in 0..60 {
        kafka.put_record(keyed(&format!("k{}", n % 3), &n.to_string()));
    }
    // Every fifth fails at first, and all take a while.
    let script =
        "read n; sleep 0.0$((n % 4)); test $((n % 5)) -gt 0 -o $LONGSHORE_MSG_ATTEMPT -gt 1 || exit 1; printf $n";
    sh(&kafka, "--order key --retries 2 --retry-backoff 20ms --workers 8", script)
        .end()
        .exits(0)
        .counts("succeeded 60, failed 0");
    for key in ["k0", "k1", "k2"] {
        let answers = kafka.read(REPLIES).into_iter().filter(|record| record.key.as_deref() == Some(key.as_bytes()));
        let answers: Vec<u32> =
            answers.map(|r| String::from_utf8(r.value.unwrap().to_vec()).unwrap().parse().unwrap()).collect();
        assert!(answers.len() == 20 && answers.is_sorted(), "{key}: {answers:?}");
    }
}
