//! What is said: the summary on standard output, the log on standard error.

use serde_json::Value;

use crate::harness::{Kafka, fails, plain};

fn some_work() -> Kafka {
    let kafka = Kafka::start(2);
    kafka.put(0, plain(3));
    kafka.put(1, ["{oops", &fails("no such order")]);
    kafka
}

#[test]
fn the_summary_as_text() {
    let kafka = some_work();
    let end = kafka.longshore("--until-end --dead-letter-topic dead --summary text").end().exits(0);
    let lines: Vec<_> = end.out.lines().collect();
    assert_eq!(
        lines[..3],
        [
            "messages   5 received: 3 succeeded, 1 failed, 1 malformed",
            "answers    3 of success, 2 of failure; 2 dead letters, 0 dropped",
            "committed  0:3 1:2"
        ]
    );
    assert!(lines[3].starts_with("time       0.") && lines[3].ends_with(" s of work"), "{}", lines[3]);
    assert_eq!(lines.len(), 4, "{}", end.out);
}

#[test]
fn the_summary_as_json_has_all_its_names() {
    let kafka = some_work();
    let end = kafka.longshore("--until-end --dead-letter-topic dead").end().exits(0);
    let summary = end.summary();
    let counts = [
        ("received", 5),
        ("succeeded", 3),
        ("failed", 1),
        ("malformed", 1),
        ("replied", 3),
        ("failure_replies", 2),
        ("dead_lettered", 2),
        ("dropped", 0),
        ("in_flight_at_exit", 0),
    ];
    for (name, count) in counts {
        assert_eq!(summary[name], Value::from(count), "{name}");
    }
    let millis = |name: &str| summary[name].as_f64().unwrap_or_else(|| panic!("no {name} in {summary}"));
    assert!(millis("first_task_ms") > 0.0 && millis("work_ms") > 0.0);
    assert!(millis("first_task_ms") + millis("work_ms") <= millis("elapsed_ms"));
    assert_eq!(summary["forced"], false);
    assert_eq!(summary["committed"], serde_json::json!({"0": 3, "1": 2}));
}

#[test]
fn the_log_as_json_is_an_object_a_line() {
    let kafka = some_work();
    let end = kafka.longshore("--until-end --log-format json").end().exits(0);
    let lines: Vec<Value> = end.log.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let find = |message: &str| {
        lines.iter().find(|line| line["message"] == message).unwrap_or_else(|| panic!("no {message} in {}", end.log))
    };
    assert_eq!(find("working off")["lag"], 5);
    let failed = find("message failed");
    assert_eq!((&failed["level"], &failed["topic"]), (&"WARN".into(), &"orders".into()));
    assert_eq!((&failed["partition"], &failed["offset"]), (&1.into(), &1.into()));
    assert_eq!(failed["error"], "no such order");
}

#[test]
fn the_log_as_text_says_what_is_worked_off() {
    let kafka = some_work();
    let end = kafka.longshore("--until-end").end().exits(0);
    end.says(r#"working off topic="orders" group="workers" partitions=2 without_offset=2 lag=5 workers=32"#)
        .says(r#"partition=1 offset=1 error="no such order""#);
}

#[test]
fn a_level_bounds_the_log_and_off_silences_it() {
    let kafka = some_work();
    let log = |level: &str| {
        let flags = format!("--until-end --offsets memory --log-level {level}");
        kafka.longshore(&flags).end().exits(0).log
    };
    assert_eq!(log("off"), "");
    assert!(!log("warn").contains("INFO") && log("warn").contains("WARN"));
    assert!(log("info").contains("INFO"));
}
