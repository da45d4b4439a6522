//! Whole runs behind a bad network: every message is answered at least once, all is committed, and the end is clean.

use std::{thread::sleep, time::Duration};

use longshore::broker::{ApiKey, Options};

use crate::{
    harness::{Kafka, Signal, plain, sleeps},
    proxy::{Fault, Gates, Nowhere, Proxy},
};

/// What a run asks for while it goes on.
const KINDS: [ApiKey; 7] = [
    ApiKey::Fetch,
    ApiKey::Produce,
    ApiKey::OffsetCommit,
    ApiKey::OffsetFetch,
    ApiKey::Metadata,
    ApiKey::FindCoordinator,
    ApiKey::ApiVersions,
];

/// Two partitions of messages, a run behind a proxy that goes on until all are answered and committed, and what goes wrong
/// before it and in its middle.
#[track_caller]
fn survives(options: &Options, before: impl Fn(&Proxy), middle: impl Fn(&Kafka, &Proxy)) {
    let kafka = Kafka::with(options, 2);
    let proxy = Proxy::before(kafka.nodes().into_iter().map(|(_, address)| address));
    for partition in 0..2 {
        kafka.put(partition, (0..60).map(|number| sleeps(number % 5)));
    }
    before(&proxy);
    let run = kafka.longshore("--workers 4").env("KAFKA_SERVER", &proxy.address()).start();
    kafka.until_answers(20);
    middle(&kafka, &proxy);
    for partition in 0..2 {
        kafka.put(partition, plain(20));
    }
    kafka.until("all is committed", |kafka| (0..2).all(|partition| kafka.kept(partition) == Some(80)));
    proxy.clear();
    run.signal(Signal::TERM);
    run.end().exits(0);
    kafka.all_answered();
}

fn one_node() -> Options {
    Options::default()
}

fn nothing(_: &Proxy) {}

#[test]
fn connections_cut_in_the_middle_of_responses_of_every_kind() {
    for cut in [0, 3, 9, 30] {
        let cuts = |proxy: &Proxy| KINDS.into_iter().for_each(|kind| proxy.next(kind, Fault::CutAt(cut)));
        survives(&one_node(), cuts, |_, proxy| cuts(proxy));
    }
}

#[test]
fn every_connection_cut_at_once() {
    survives(&one_node(), nothing, |_, proxy| proxy.cut_all());
}

#[test]
fn a_slow_network() {
    survives(
        &one_node(),
        |proxy| KINDS.into_iter().for_each(|kind| proxy.every(kind, Fault::Delay(Duration::from_millis(40)))),
        |_, proxy| {
            proxy.clear();
            proxy.next(ApiKey::Fetch, Fault::Delay(Duration::from_millis(900)));
            proxy.next(ApiKey::Produce, Fault::Delay(Duration::from_millis(900)));
        },
    );
}

#[test]
fn responses_that_trickle_in_byte_by_byte() {
    let trickle = |proxy: &Proxy| {
        for kind in KINDS {
            proxy.next(kind, Fault::Trickle(Duration::from_millis(1)));
        }
    };
    survives(&one_node(), trickle, |_, proxy| trickle(proxy));
}

#[test]
fn bits_flipped_in_responses() {
    survives(&one_node(), nothing, |_, proxy| {
        // Among the records of a fetch.
        for bit in [8 * 90, 8 * 100 + 5, 8 * 110 + 3] {
            proxy.next(ApiKey::Fetch, Fault::Flip(bit));
        }
        // What comes first in a response says whose it is: nobody's, now.
        for kind in KINDS {
            proxy.next(kind, Fault::Flip(0));
        }
    });
}

/// Whatever was under way is given up by its deadline, and no sooner.
#[test]
fn connections_whose_far_side_is_gone_without_a_word() {
    survives(&one_node(), nothing, |_, proxy| proxy.forget_all());
}

#[test]
fn a_broker_that_accepts_and_never_answers_for_a_while() {
    survives(&one_node(), nothing, |kafka, proxy| {
        let connections = proxy.connections();
        proxy.set_gates(Gates::BlackHole);
        proxy.cut_all();
        kafka.until("some have tried", |_| proxy.connections() > connections + 2);
        proxy.set_gates(Gates::Open);
    });
}

#[test]
fn a_broker_that_refuses_connections_for_a_while() {
    survives(&one_node(), nothing, |_, proxy| {
        proxy.set_gates(Gates::Shut);
        proxy.cut_all();
        // Not a wait for anything: so long nobody is there.
        sleep(Duration::from_millis(700));
        proxy.set_gates(Gates::Open);
    });
}

/// It costs one attempt to connect, and that once: whoever asks later begins with the one that answered.
#[test]
fn a_bootstrap_broker_that_accepts_nothing_is_passed_by() {
    let (kafka, nowhere) = (Kafka::start(1), Nowhere::new());
    kafka.put(0, plain(20));
    let servers = format!("{},{}", nowhere.address(), kafka.address());
    let end = kafka.longshore("--until-end").env("KAFKA_SERVER", &servers).end().exits(0);
    kafka.all_answered_once();
    let took = end.summary()["elapsed_ms"].as_f64().unwrap();
    assert!(took < 9_000.0, "two attempts of 5 s or more: {took} ms");
}

#[test]
fn a_broker_that_moves_to_another_address() {
    survives(&Options { nodes: 3, ..one_node() }, nothing, |_, proxy| {
        // The bootstrap address is no longer any node's.
        proxy.move_gate(0);
        proxy.move_gate(1);
    });
}

/// Tasks take longer than connections may be idle, so that nearly every write and commit finds its connection closed.
#[test]
fn idle_connections_that_are_closed() {
    let kafka = Kafka::start(1);
    let proxy = Proxy::before([kafka.address()]);
    proxy.reap_idle(Duration::from_millis(150));
    kafka.put(0, (0..5).map(|_| sleeps(500)));
    let run =
        kafka.longshore("--workers 1 --until-end --log-level debug").env("KAFKA_SERVER", &proxy.address()).start();
    let end = run.end().exits(0).counts("succeeded 5, replied 5, failed_commits 0");
    kafka.all_answered_once();
    assert!(proxy.reaped() >= 5, "{} connections were closed for being idle", proxy.reaped());
    // It is seen that they are closed before anything is asked on them.
    for trouble in ["WARN", "ERROR", "will try again"] {
        assert!(!end.log.contains(trouble), "{}", end.log);
    }
}
