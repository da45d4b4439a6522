//! `longshore inspect`: how any group stands, as a table and as JSON.

use base64::{Engine, engine::general_purpose::STANDARD};
use longshore::broker::Member;
use serde_json::{Value, json};

use crate::harness::{GROUP, IN, Kafka, Longshore, Signal, offset, plain, sleeps};

/// `longshore inspect` with these flags; broker and group come from the environment.
fn inspect(kafka: &Kafka, flags: &str) -> Longshore {
    let command = Longshore::new(&format!("inspect {flags}"));
    command.env("KAFKA_SERVER", &kafka.address()).env("KAFKA_CONSUMER_GROUP", GROUP)
}

#[track_caller]
fn shown(kafka: &Kafka, flags: &str) -> Value {
    inspect(kafka, &format!("--json {flags}")).end().exits(0).summary()
}

#[test]
fn a_group_of_ours_shows_what_is_finished_above_its_commits() {
    let kafka = Kafka::start(2);
    kafka.put(
        0,
        plain(5).into_iter().chain([sleeps(600_000)]).chain(plain(10)).chain([sleeps(600_000)]).chain(plain(3)),
    );
    let run = kafka.longshore("--workers 4 --grace 0").start();
    kafka.until_answers(18);
    // It is live while it is looked at, and dead afterwards.
    kafka.until_committed(0, 5);
    shown(&kafka, "");
    run.signal(Signal::TERM);
    run.end().exits(75);

    let report = shown(&kafka, "");
    assert_eq!((&report["group"], &report["state"], &report["members"]), (&json!(GROUP), &json!("Empty"), &json!([])));
    let topic = &report["topics"][0];
    assert_eq!((&topic["topic"], &topic["topic_id"]), (&json!(IN), &json!(kafka.topic_id(IN).unwrap().to_string())));
    let mut partition = topic["partitions"][0].clone();
    let oldest = partition["oldest"].take();
    assert_eq!(
        partition,
        json!({
            "partition": 0, "committed": 5, "end": 20, "lag": 15, "finished_above": 13, "progress": "longshore",
            "unfinished": 2, "unfinished_ranges": [[5, 5], [16, 16]], "more_ranges": 0, "oldest": null,
        })
    );
    assert_eq!(oldest["offset"], 5);
    let age = oldest["age_ms"].as_i64().expect("a number");
    assert!((0..60_000).contains(&age), "{age}");
    let idle = &topic["partitions"][1];
    assert_eq!((&idle["committed"], &idle["lag"], &idle["oldest"]), (&json!(0), &json!(0), &Value::Null));
    assert_eq!(report["topics"].as_array().map(Vec::len), Some(1));

    let table = inspect(&kafka, "").end().exits(0).out;
    let row = table.lines().find(|line| line.trim_start().starts_with("0 ")).expect("a row");
    let cells: Vec<_> = row.split_whitespace().collect();
    assert_eq!(cells[..5], ["0", "5", "20", "15", "13"], "{table}");
    assert!(table.starts_with("group workers: Empty, 0 members\n") && row.ends_with(" 5 16"), "{table}");
}

#[test]
fn members_are_named_and_strings_of_others_are_told_of() {
    let kafka = Kafka::start(3);
    for partition in 0..2 {
        kafka.put(partition, plain(10));
    }
    // 2 unfinished, 3 and 4 finished, 5 to 8 unfinished, 9 finished.
    let runs: Vec<u8> = [1, 2, 4, 1].into_iter().flat_map(i32::to_be_bytes).collect();
    let theirs = STANDARD.encode([b"e", &runs[..]].concat());
    kafka.commit(GROUP, IN, 0, offset(2), &theirs).unwrap();
    kafka.commit(GROUP, IN, 1, offset(3), "whatever").unwrap();
    kafka.set_members(GROUP, [Member::new("somebody")]);
    let report = shown(&kafka, "");
    assert_eq!((&report["state"], &report["members"][0]["client_id"]), (&json!("Stable"), &json!("somebody")));
    let partitions = &report["topics"][0]["partitions"];
    let of = |number: usize, name: &str| partitions[number][name].clone();
    assert_eq!((of(0, "progress"), of(0, "finished_above")), (json!("parallel-consumer"), json!(3)));
    assert_eq!(of(0, "unfinished_ranges"), json!([[2, 2], [5, 8]]));
    assert_eq!((of(1, "progress"), of(1, "unbelieved")), (json!("unbelieved"), json!("it is not Longshore's")));
    assert_eq!((of(2, "committed"), of(2, "lag")), (Value::Null, Value::Null));
    let table = inspect(&kafka, "").end().exits(0).out;
    for line in
        ["1 member\n", "somebody (somebody) at /127.0.0.1", " 3* ", "nobody can check", "1: what is written beside"]
    {
        assert!(table.contains(line), "no {line:?} in:\n{table}");
    }
}

#[test]
fn topics_may_be_chosen_and_may_be_gone() {
    let kafka = Kafka::start(1);
    kafka.create_topic("others", 1).unwrap();
    kafka.put(0, plain(3));
    for topic in [IN, "others"] {
        kafka.commit(GROUP, topic, 0, offset(0), "").unwrap();
    }
    let names = |flags: &str| -> Vec<String> {
        let report = shown(&kafka, flags);
        let topics = report["topics"].as_array().expect("a list").clone();
        topics.iter().map(|topic| topic["topic"].as_str().expect("a name").to_owned()).collect()
    };
    assert_eq!(names(""), [IN, "others"]);
    assert_eq!(names("-t others"), ["others"]);
    assert_eq!(names("-t replies -t others"), ["others", "replies"]);
    inspect(&kafka, "-t nothing").end().exits(69).says("there is no topic nothing");
    inspect(&kafka, "-g nobody").end().exits(69).says("there is no group nobody");
}

#[test]
fn what_is_wrong_is_said_at_once_and_what_is_away_after_a_while() {
    let ended = Longshore::new("inspect --security tls --tls-ca /nowhere -b kafka:x").end().exits(64);
    ended.says("--group (KAFKA_CONSUMER_GROUP) is required").says("has no port").says("/nowhere");
    let kafka = Kafka::start(1);
    let address = kafka.address();
    kafka.stop();
    Longshore::new(&format!("inspect -b {address} -g g")).end().exits(69).says("cannot connect to the broker");
}
