//! Messages that are malformed, fail or panic: each is answered for, and its neighbours go on.

use longshore::{
    broker::{ApiKey, Options, ResponseError},
    record::{Header, Headers, Outgoing},
};

use crate::harness::{DEAD, Kafka, REPLIES, fails, headed, json, keyed, panics, plain, text};

/// One of each: fine, malformed, failing, panicking, fine.
fn one_of_each() -> Kafka {
    let kafka = Kafka::start(1);
    kafka.put(0, ["{}", "{oops", &fails("no such order"), &panics("boom"), "{}"]);
    kafka
}

const STATUSES: [&str; 5] = ["ok", "malformed", "failed", "failed", "ok"];

#[track_caller]
fn each_was_answered_once(kafka: &Kafka) {
    let answers = kafka.answers();
    let expected = (0..).zip(STATUSES).map(|(offset, status)| ((0, offset), vec![status.to_owned()]));
    assert_eq!(answers, expected.collect());
    assert_eq!(kafka.kept(0), Some(5));
}

#[test]
fn what_fails_goes_to_the_dead_letter_topic_and_whoever_asked_learns_of_it() {
    let kafka = one_of_each();
    let end = kafka.longshore("--until-end --workers 1 --dead-letter-topic dead").end().exits(0);
    each_was_answered_once(&kafka);
    let dead = kafka.read(DEAD);
    let values: Vec<_> = dead.iter().map(|record| record.value.clone().unwrap()).collect();
    assert_eq!(values, ["{oops", &fails("no such order"), &panics("boom")]);
    for (record, offset) in dead.iter().zip(["1", "2", "3"]) {
        assert_eq!(text(record, "__dlq.errors.topic"), "orders");
        assert_eq!(text(record, "__dlq.errors.partition"), "0");
        assert_eq!(text(record, "__dlq.errors.offset"), offset);
        assert_eq!(text(record, "__dlq.errors.group"), "workers");
    }
    let errors: Vec<_> = dead.iter().map(|record| text(record, "__dlq.errors.message")).collect();
    assert!(errors[0].contains("not JSON"), "{errors:?}");
    assert_eq!(errors[1..], ["no such order", "panicked: boom"]);
    end.counts("succeeded 2, failed 2, malformed 1, replied 2, failure_replies 3, dead_lettered 3, dropped 0")
        .says("message malformed")
        .says("offset=3 error=\"panicked: boom\"");
}

#[test]
fn a_dead_letter_keeps_key_value_and_headers() {
    let kafka = Kafka::start(1);
    let header = Header::new("colour", "blue");
    let value = bytes::Bytes::from_static(b"\xff\x00 not text");
    kafka.put_record(Outgoing {
        key: Some("k".into()),
        value: Some(value.clone()),
        headers: vec![header.clone()].into(),
    });
    kafka.longshore("--until-end --dead-letter-topic dead").end().exits(0);
    let dead = &kafka.read(DEAD)[0];
    assert_eq!((&dead.key, &dead.value), (&Some("k".into()), &Some(value)));
    assert!(dead.headers.contains(&header));
}

#[test]
fn without_a_dead_letter_topic_the_failure_answer_is_all() {
    let kafka = one_of_each();
    kafka.longshore("--until-end --workers 1").end().exits(0).counts("failure_replies 3, dead_lettered 0");
    each_was_answered_once(&kafka);
    let body = json(&kafka.read(REPLIES)[2]);
    assert_eq!((&body["status"], &body["error"]), (&"failed".into(), &"no such order".into()));
    assert_eq!((&body["topic"], &body["partition"], &body["offset"]), (&"orders".into(), &0.into(), &2.into()));
    assert_eq!(kafka.count(DEAD), 0);
}

#[test]
fn with_dead_letters_alone_nothing_is_answered() {
    let kafka = one_of_each();
    kafka.longshore("--until-end --no-reply --dead-letter-topic dead").end().exits(0).counts("dead_lettered 3");
    assert_eq!((kafka.count(REPLIES), kafka.count(DEAD), kafka.kept(0)), (0, 3, Some(5)));
}

#[test]
fn where_nobody_is_told_failures_are_dropped_by_wish_and_counted() {
    let kafka = one_of_each();
    kafka
        .longshore("--until-end --no-reply --on-failure drop")
        .end()
        .exits(0)
        .counts("succeeded 2, failed 2, malformed 1, replied 0, failure_replies 0, dropped 3");
    assert_eq!((kafka.count(REPLIES), kafka.kept(0)), (0, Some(5)));
}

#[test]
fn where_nobody_is_told_a_failure_can_stop_the_run_and_stays_uncommitted() {
    let kafka = Kafka::start(1);
    kafka.put(0, ["{}", "{}", &fails("no such order"), "{}"]);
    kafka
        .longshore("--until-end --workers 1 --no-reply --on-failure stop")
        .end()
        .exits(1)
        .says("orders-0 offset 2 failed, and --on-failure stop was said: no such order");
    assert_eq!(kafka.kept(0), Some(2));
    // And it is there again next time.
    kafka.longshore("--until-end --no-reply --on-failure drop").end().exits(0).counts("received 2, dropped 1");
    assert_eq!(kafka.kept(0), Some(4));
}

#[test]
fn fail_on_failure_exits_with_1_but_only_if_something_failed() {
    let kafka = Kafka::start(1);
    kafka.put(0, ["{}"]);
    kafka.longshore("--until-end --fail-on-failure").end().exits(0);
    kafka.put(0, ["{oops", "{}"]);
    kafka.longshore("--until-end --fail-on-failure").end().exits(1).counts("malformed 1, succeeded 1");
    assert_eq!(kafka.kept(0), Some(3), "it is a clean end all the same");
}

#[test]
fn a_panic_costs_no_worker() {
    let kafka = Kafka::start(1);
    kafka.put(0, (0..20).map(|number| panics(&number.to_string())).chain(plain(20)));
    let end = kafka.longshore("--until-end --workers 1").end().exits(0).counts("failed 20, succeeded 20");
    assert!(!end.log.contains("backtrace"), "{}", end.log);
}

#[test]
fn what_is_well_formed_is_the_formats_to_say() {
    for (format, malformed) in [("json", 2), ("utf8", 1), ("bytes", 0)] {
        let kafka = Kafka::start(1);
        kafka.append_values("orders", 0, [&b"{}"[..], b"words", b"\xff"]).unwrap();
        kafka
            .longshore(&format!("--until-end --format {format}"))
            .end()
            .exits(0)
            .counts(&format!("malformed {malformed}, received 3"));
    }
}

#[test]
fn no_payload_is_ever_in_the_log() {
    let kafka = Kafka::start(1);
    kafka.put_record(keyed("s3cret", r#"{"s3cret": "#));
    kafka.put_record(keyed("s3cret", r#"{"s3cret": 1, "longshore": {"fail": "no"}}"#));
    kafka.put_record(keyed("s3cret", r#"{"s3cret": 1, "longshore": {"panic": "no"}}"#));
    kafka.put_record(headed("s3cret", &[("s3cret", "s3cret")]));
    kafka.put_record(Outgoing { key: None, value: Some(b"s3cret\xff"[..].into()), headers: Headers::default() });
    kafka.put_record(keyed("s3cret", r#"{"s3cret": 1}"#));
    for format in ["text", "json"] {
        let end = kafka
            .longshore("--until-end --dead-letter-topic dead --log-level trace --offsets memory")
            .arg(format!("--log-format={format}"))
            .end()
            .exits(0)
            .counts("malformed 3, failed 2, succeeded 1")
            .says("message malformed");
        assert!(!end.log.contains("s3cret") && !end.out.contains("s3cret"), "{}", end.log);
    }
}

#[test]
fn an_answer_that_the_broker_calls_too_large_becomes_a_failure_answer() {
    let kafka = Kafka::start(1);
    kafka.put(0, ["{}", "{}", "{}"]);
    kafka.faults().next(ApiKey::Produce).topic(REPLIES).error(ResponseError::MessageTooLarge);
    kafka.longshore("--until-end --workers 1").env("LONGSHORE_TASK_TIME", "20ms").end().exits(0);
    let answers = kafka.answers();
    assert_eq!(answers.len(), 3, "{answers:?}");
    assert_eq!(answers[&(0, 0)], ["failed"]);
    assert_eq!(kafka.kept(0), Some(3));
}

/// The key of a request is in its answer too. Where it alone fills what the broker takes, only the coordinates are left.
#[test]
fn a_request_with_the_largest_key_there_can_be_stops_nobody() {
    for (flags, dead) in [("", 0), ("--dead-letter-topic dead", 1)] {
        let kafka = Kafka::with(&Options { max_message_bytes: 6_000, ..Options::default() }, 1);
        kafka.put_record(keyed("a", "{}"));
        kafka.put_record(keyed(&"k".repeat(5_900), "{}"));
        kafka.put_record(keyed("b", "{}"));
        kafka.longshore(&format!("--until-end {flags}")).end().exits(0);
        let answers = kafka.answers();
        assert_eq!(answers[&(0, 0)], ["ok"]);
        assert_eq!(answers[&(0, 1)], ["failed"]);
        assert_eq!(answers[&(0, 2)], ["ok"]);
        assert_eq!((kafka.kept(0), kafka.count(DEAD)), (Some(3), dead));
    }
}

#[test]
fn a_dead_letter_that_the_broker_calls_too_large_says_what_the_message_was() {
    let kafka = Kafka::with(&Options { max_message_bytes: 6_000, ..Options::default() }, 1);
    kafka.put_record(keyed("k", &"x".repeat(5_900)));
    kafka.longshore("--until-end --dead-letter-topic dead").end().exits(0).counts("malformed 1, dead_lettered 1");
    let dead = &kafka.read(DEAD)[0];
    assert_eq!((&dead.key, &dead.value), (&None, &None));
    assert_eq!(text(dead, "longshore.size"), "5901");
    assert_eq!(text(dead, "longshore.sha256").len(), 64);
    assert_eq!(text(dead, "__dlq.errors.offset"), "0");
    assert_eq!(kafka.answers()[&(0, 0)], ["malformed"]);
}
