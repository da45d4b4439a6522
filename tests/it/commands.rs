//! The commands beside `run`: `demo` and `broker`.

use crate::harness::{Kafka, Longshore, Signal, plain};

#[test]
fn the_demo_needs_nothing_and_says_what_was_done() {
    let end = Longshore::new("demo --messages 40 --task-time 5ms --workers 8").end().exits(0);
    for line in [
        "40 messages wait in Scenario-Execute, on 4 partitions; each takes 5ms.",
        // The 25th is malformed, the 40th fails.
        "40 messages: 38 succeeded, 1 failed, 1 malformed.",
        "40 answers in Scenario-Execute-Response, 2 dead letters in Scenario-Execute-Dead, none lost.",
        "one by one, the 39 tasks would have taken 195.00ms.",
    ] {
        assert!(end.out.contains(line), "no {line:?} in:\n{}", end.out);
    }
}

#[test]
fn the_demo_is_drained_by_ctrl_c() {
    let demo = Longshore::new("demo --messages 1000 --task-time 200ms --workers 2").start();
    // A line a second, where there is no terminal.
    demo.says("/1000 answered").signal(Signal::INT);
    let end = demo.end().exits(0);
    assert!(end.out.contains(" succeeded, "), "{}", end.out);
}

#[test]
fn the_demo_refuses_what_it_cannot_do() {
    Longshore::new("demo --task-time 5").end().exits(64).says("--task-time '5': not a duration");
    Longshore::new("demo --messages 0").end().exits(64);
}

#[test]
fn the_broker_runs_on_its_own_and_says_that_it_keeps_nothing() {
    let broker = Longshore::new("broker --port 0 --topic orders:2 --topic replies").start();
    broker.says("keeps nothing").says("listening; try: kcat -b ");
    let address = broker.said_between("kcat -b ", " -L");
    // Only to have a command line: the broker that is used is the process.
    let kafka = Kafka::start(1);
    kafka.put(0, plain(1));
    kafka
        .longshore(&format!("--until-end --brokers {address}"))
        .end()
        .exits(0)
        .says("partitions=2")
        .counts("received 0");
    broker.signal(Signal::TERM);
    let end = broker.end().exits(0);
    assert_eq!(end.out.trim(), address, "standard output is the address and nothing else");
}

#[test]
fn the_broker_refuses_what_it_cannot_do() {
    Longshore::new("broker --topic orders:0 --max-bytes lots")
        .end()
        .exits(64)
        .says("2 errors in the configuration")
        .says("--topic 'orders:0': not NAME:PARTITIONS")
        .says("--max-bytes 'lots': not a size");
}
