//! Several topics in one run: each has its own coordinates, its own commits and its own troubles.

use std::collections::BTreeMap;

use longshore::{Failure, Longshore, Record, record::TopicPartition, task::Answer};
use serde_json::json;

use crate::harness::{GROUP, IN, Kafka, REPLIES, Running, Signal, plain, scratch, sleeps, text};

/// The other topic that is worked off.
const ALSO: &str = "parcels";
const BOTH: &str = "-t orders -t parcels";

/// `orders` and `parcels`, with so many partitions each.
fn kafka(partitions: i32) -> Kafka {
    let kafka = Kafka::start(partitions);
    kafka.create_topic(ALSO, partitions).unwrap();
    kafka
}

impl Kafka {
    fn put_also(&self, partition: i32, values: impl IntoIterator<Item = String>) {
        self.append_values(ALSO, partition, values).expect("appended");
    }

    fn kept_also(&self, partition: i32) -> Option<i64> {
        self.committed(GROUP, ALSO, partition).map(|committed| committed.offset.0)
    }

    fn until_both_committed(&self, offset: i64, also: i64) {
        self.until(&format!("commits of {offset} and {also}"), |kafka| {
            (kafka.kept(0), kafka.kept_also(0)) == (Some(offset), Some(also))
        });
    }

    /// How often each message was answered, by topic, partition and offset.
    fn answered(&self) -> BTreeMap<(String, String, String), usize> {
        let mut answered = BTreeMap::new();
        for answer in self.read(REPLIES) {
            let at = |name| text(&answer, name);
            *answered.entry((at("longshore.topic"), at("longshore.partition"), at("longshore.offset"))).or_default() +=
                1;
        }
        answered
    }
}

/// Ends a run by a signal, and asserts that it was a clean end.
#[track_caller]
fn stop(run: Running) {
    run.signal(Signal::TERM);
    run.end().exits(0);
}

#[test]
fn every_message_of_two_topics_is_answered_once_with_its_own_coordinates() {
    for reader in ["wire", "rskafka", "auto"] {
        let kafka = kafka(2);
        kafka.put(0, plain(7));
        kafka.put_also(0, plain(3));
        kafka.put_also(1, plain(40));
        let ended = kafka.longshore(&format!("{BOTH} --until-end --reader {reader}")).end().exits(0);
        let ended = ended.counts("received 50, succeeded 50, replied 50");
        let committed = json!({"orders-0": 7, "orders-1": 0, "parcels-0": 3, "parcels-1": 40});
        assert_eq!(ended.summary()["committed"], committed);
        assert_eq!((kafka.kept(0), kafka.kept(1)), (Some(7), Some(0)));
        assert_eq!((kafka.kept_also(0), kafka.kept_also(1)), (Some(3), Some(40)));
        let ends = [(IN, 0, 7), (ALSO, 0, 3), (ALSO, 1, 40)];
        let expected = ends.iter().flat_map(|(topic, partition, end)| {
            (0..*end).map(move |offset: i64| ((topic.to_string(), partition.to_string(), offset.to_string()), 1))
        });
        assert_eq!(kafka.answered(), expected.collect(), "{reader}");
        kafka.longshore(&format!("{BOTH} --until-end")).end().exits(0).counts("received 0");
    }
}

#[test]
fn topics_are_named_by_flags_or_in_a_list() {
    let kafka = kafka(1);
    let both = |flags: &str| {
        kafka.put(0, plain(1));
        kafka.put_also(0, plain(1));
        kafka.longshore(&format!("--until-end {flags}"))
    };
    both("-t orders,parcels").end().exits(0).counts("received 2");
    both("").env("KAFKA_TOPIC_NAME", "orders, parcels").end().exits(0).counts("received 2");
    let file = both("").no_env("KAFKA_TOPIC_NAME").file(".env", "LONGSHORE_TOPIC=parcels,orders\n");
    file.end().exits(0).counts("received 2");
    let text = both(BOTH).env("LONGSHORE_SUMMARY", "text").end().exits(0);
    assert!(text.out.contains("committed  orders-0:4 parcels-0:4\n"), "{}", text.out);
}

#[test]
fn what_cannot_be_meant_of_several_topics_is_refused() {
    let kafka = kafka(1);
    let refused = |flags: &str, why: &str| _ = kafka.longshore(flags).end().exits(64).says(why);
    refused(&format!("{BOTH} --reply-topic parcels"), "--reply-topic is the topic that is worked off, parcels");
    refused(
        &format!("{BOTH} --dead-letter-topic orders"),
        "--dead-letter-topic is the topic that is worked off, orders",
    );
    refused("-t orders -t parcels -t orders", "--topic orders is named twice");
    refused("-t orders -t,", "--topic is empty");
    refused(&format!("{BOTH} --assign 0"), "--assign names partitions of one topic");
}

#[test]
fn a_topic_that_is_gone_does_not_keep_another_from_being_committed() {
    let kafka = kafka(1);
    kafka.put(0, plain(5));
    kafka.put_also(0, plain(5));
    let run = kafka.longshore(&format!("{BOTH} --on-data-loss earliest")).start();
    kafka.until_both_committed(5, 5);
    kafka.delete_topic(IN).unwrap();
    run.says("waiting for it to be made anew");
    kafka.put_also(0, plain(5));
    kafka.until("a commit for parcels", |kafka| kafka.kept_also(0) == Some(10));
    kafka.create_topic(IN, 1).unwrap();
    kafka.put(0, plain(3));
    kafka.put_also(0, plain(1));
    kafka.until_both_committed(3, 11);
    run.says("topic orders was deleted and made anew");
    stop(run);
    assert!(kafka.answered().iter().all(|((topic, _, offset), times)| {
        // Of the topic that was made anew, what has the offset of what was answered before is answered, too.
        *times == 1 || (topic == IN && *times == 2 && offset.parse::<i64>().unwrap() < 3)
    }));
}

#[test]
fn a_run_that_ends_because_of_one_topic_commits_what_is_done_of_another() {
    let kafka = kafka(1);
    kafka.put(0, plain(1));
    kafka.put_also(0, [sleeps(1_500), sleeps(0)]);
    let run = kafka.longshore(&format!("{BOTH} --workers 3")).start();
    kafka.until_both_committed(1, 0);
    kafka.recreate_topic(IN, 1).unwrap();
    let ended = run.end().exits(65).says("topic orders was deleted and made anew").counts("in_flight_at_exit 0");
    assert_eq!(ended.summary()["committed"]["parcels-0"], json!(2));
    assert_eq!((kafka.kept(0), kafka.kept_also(0)), (None, Some(2)));
    assert_eq!(ended.summary()["uncommitted"], json!(null), "nothing that could be committed was not");
}

#[test]
fn a_file_keeps_the_offsets_of_both() {
    let kafka = kafka(1);
    let (_folder, path) = scratch("offsets");
    let run = |topics: &str| kafka.longshore(&format!("{topics} --until-end --offsets file:{}", path.display()));
    kafka.put(0, plain(2));
    kafka.put_also(0, plain(3));
    run("-t orders").end().exits(0).counts("received 2");
    run(BOTH).end().exits(0).counts("received 3");
    kafka.put_also(0, plain(1));
    run("-t parcels").end().exits(0).counts("received 1");
    run(BOTH).end().exits(0).counts("received 0");
    run("-t replies --reply-topic others")
        .end()
        .exits(69)
        .says("of group workers, topic orders, parcels: name another");
}

#[test]
fn the_builder_takes_topics_one_by_one_or_in_a_list() {
    let kafka = kafka(1);
    kafka.put(0, plain(2));
    kafka.put_also(0, plain(3));
    let task = |_: &Record| Ok::<_, Failure>(Answer::None);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for named in [Longshore::builder().topic(IN).topic(ALSO), Longshore::builder().topics("orders, parcels")] {
        let run =
            named.brokers(&kafka.address()).group("g").until_end(true).offsets(longshore::config::Offsets::Memory);
        let summary = runtime.block_on(run.build(task).unwrap().run()).unwrap();
        let committed = |topic| summary.committed.get(&TopicPartition::new(topic, 0)).map(|offset| offset.0);
        assert_eq!((committed(IN), committed(ALSO), summary.received), (Some(2), Some(3), 5));
    }
}
