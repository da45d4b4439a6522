//! The main job: each message is answered, and then committed.

use longshore::{
    broker::ApiKey,
    record::{Headers, Outgoing},
};

use crate::harness::{Kafka, REPLIES, headed, json, keyed, plain, sleeps};

#[test]
fn every_message_is_answered_once_and_committed() {
    let kafka = Kafka::start(3);
    for partition in 0..3 {
        kafka.put(partition, plain(100));
    }
    let end = kafka.longshore("--until-end").end().exits(0);
    kafka.all_answered_once();
    assert_eq!(end.summary()["committed"], serde_json::json!({"0": 100, "1": 100, "2": 100}));
    end.counts("received 300, succeeded 300, failed 0, replied 300, dead_lettered 0, in_flight_at_exit 0");
}

#[test]
fn an_answer_has_the_key_of_its_request_and_says_where_that_was() {
    let kafka = Kafka::start(2);
    kafka.append("orders", 1, [keyed("a", "{}"), keyed("b", "17")]).unwrap();
    kafka.longshore("--until-end --workers 1 --task-time 3ms").end().exits(0);
    let answers = kafka.read(REPLIES);
    assert_eq!(answers.iter().map(|a| a.key.as_deref().unwrap()).collect::<Vec<_>>(), [b"a", b"b"]);
    let body = json(&answers[1]);
    assert_eq!((&body["status"], &body["topic"]), (&"ok".into(), &"orders".into()));
    assert_eq!((&body["partition"], &body["offset"]), (&1.into(), &1.into()));
    assert!(body["took_ms"].as_u64().unwrap() >= 3);
    assert_eq!(kafka.answers()[&(1, 1)], ["ok"], "the headers say so too");
}

#[test]
fn an_answer_lies_where_kafkas_own_clients_would_put_its_key() {
    // org.apache.kafka.common.utils.UtilsTest, testMurmur2
    let hashes = [
        ("21", -973_932_308),
        ("foobar", -790_332_482),
        ("a-little-bit-long-string", -985_981_536),
        ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
        ("abc", 479_470_107_i32),
    ];
    let kafka = Kafka::start(1);
    kafka.create_topic("spread", 7).unwrap();
    kafka.append("orders", 0, hashes.iter().chain(&hashes).map(|(key, _)| keyed(key, "{}"))).unwrap();
    kafka.longshore("--until-end --reply-topic spread").end().exits(0);
    let answers = kafka.read("spread");
    for (key, hash) in hashes {
        let found: Vec<_> = answers.iter().filter(|a| a.key.as_deref() == Some(key.as_bytes())).collect();
        let partition = (hash & i32::MAX) % 7;
        assert_eq!(found.iter().map(|a| a.source.partition).collect::<Vec<_>>(), [partition; 2], "{key}");
    }
}

#[test]
fn a_tombstone_and_a_message_without_a_key_are_messages() {
    let kafka = Kafka::start(1);
    kafka.put_record(Outgoing { key: Some("gone".into()), value: None, headers: Headers::default() });
    kafka.put_record(Outgoing { key: None, value: None, headers: Headers::default() });
    kafka.put(0, ["{}"]);
    kafka.longshore("--until-end --workers 1").end().exits(0).counts("received 3, succeeded 3, replied 3");
    kafka.all_answered_once();
    let keys: Vec<_> = kafka.read(REPLIES).into_iter().map(|answer| answer.key).collect();
    assert_eq!(keys, [Some("gone".into()), None, None]);
}

#[test]
fn trace_and_correlation_headers_are_passed_on_and_others_are_not() {
    let kafka = Kafka::start(1);
    let passed_on = [("traceparent", "00-1-2-01"), ("tracestate", "a=b"), ("kafka_correlationId", "42")];
    kafka.put_record(headed("{}", &[&passed_on[..], &[("authorization", "secret")]].concat()));
    kafka.longshore("--until-end").end().exits(0);
    let answer = &kafka.read(REPLIES)[0];
    for (name, value) in passed_on {
        assert_eq!(answer.header(name), Some(value.as_bytes()), "{name}");
    }
    assert_eq!(answer.header("authorization"), None);
}

#[test]
fn nothing_is_committed_above_the_lowest_unanswered_message() {
    let kafka = Kafka::start(1);
    kafka.put(0, (0..300).map(|number| sleeps(number * 7919 % 40)));
    let run = kafka.longshore("--until-end --workers 32 --commit-interval 1ms").start();
    kafka.until("all answered and committed", |kafka| {
        // In this order: answers only become more.
        let committed = kafka.kept(0).unwrap_or(0);
        let answers = kafka.answers();
        let lowest = (0..300).find(|offset| !answers.contains_key(&(0, *offset))).unwrap_or(300);
        assert!(committed <= lowest, "committed {committed}, but {lowest} is not answered");
        committed == 300
    });
    run.end().exits(0).counts("received 300, succeeded 300");
    let order: Vec<_> = kafka.read(REPLIES).iter().map(|answer| json(answer)["offset"].as_i64().unwrap()).collect();
    assert!(!order.is_sorted(), "they were worked off one by one");
    kafka.all_answered_once();
}

#[test]
fn a_long_task_holds_the_commit_but_not_the_others() {
    let kafka = Kafka::start(1);
    kafka.put(0, [sleeps(900)].into_iter().chain(plain(200)));
    let run = kafka.longshore("--until-end --workers 2").start();
    kafka.until_answers(200);
    assert_eq!(kafka.kept(0).unwrap_or(0), 0);
    run.end().exits(0);
    kafka.all_answered_once();
}

#[test]
fn commits_are_no_more_often_than_the_interval() {
    let kafka = Kafka::start(1);
    kafka.put(0, (0..60).map(|_| sleeps(5)));
    kafka.longshore("--until-end --workers 1 --commit-interval 1m").end().exits(0);
    kafka.all_answered_once();
    let commits = kafka.requests(ApiKey::OffsetCommit);
    assert!((1..=3).contains(&commits), "{commits} commits: at the start at most, and at the end");
}

#[test]
fn new_messages_are_answered_as_they_come() {
    let kafka = Kafka::start(2);
    let run = kafka.longshore("").start();
    for round in 1..=5 {
        kafka.put(round as i32 % 2, plain(10));
        kafka.until_answers(round * 10);
    }
    run.signal(crate::harness::Signal::TERM);
    run.end().exits(0).counts("received 50, replied 50");
    kafka.all_answered_once();
}
