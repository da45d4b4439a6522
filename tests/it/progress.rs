//! What is finished above the commit: kept with it, believed where it belongs, and nowhere else.

use base64::{Engine, engine::general_purpose::STANDARD};
use longshore::{
    broker::Options,
    progress::{Finished, LEAST_UNITS, MOST_UNITS, Place, Run, decode, encode},
    record::TopicId,
};

use crate::harness::{GROUP, IN, Kafka, Signal, offset, plain, sleeps};

/// How long a task takes that is to be unfinished for as long as a test looks.
const LONG_MS: u64 = 600_000;

fn set(runs: &[(i64, i64)]) -> Finished {
    runs.iter().map(|(first, end)| Run::new(offset(*first), offset(*end))).collect()
}

/// What the group's commit for partition 0 of `orders` says is finished above it.
fn said(kafka: &Kafka) -> Option<Finished> {
    let committed = kafka.committed(GROUP, IN, 0)?;
    let place = Place { topic: kafka.topic_id(IN)?, partition: 0, offset: committed.offset };
    Some(decode(&committed.metadata, &place, kafka.end_offset(IN, 0)?, false).expect("what we wrote is believed").0)
}

/// One message whose task takes `first_ms`, and `count` behind it.
fn front(first_ms: u64, count: usize) -> Kafka {
    let kafka = Kafka::start(1);
    kafka.put(0, [sleeps(first_ms)].into_iter().chain(plain(count)));
    kafka
}

#[test]
fn after_kill_9_only_what_was_unfinished_by_the_last_commit_runs_again() {
    let kafka = front(4_000, 300);
    // A static member takes the place of itself at once; another has to wait until it is missed.
    let run = kafka.longshore("--workers 4 --instance-id one").start();
    kafka.until("a commit of 0 that says 1 to 300", |kafka| said(kafka) == Some(set(&[(1, 301)])));
    run.kill();
    let run = kafka.longshore("--workers 4 --instance-id one --until-end").end().exits(0).says("finished_above=300");
    run.counts("received 1, already_finished 300, replied 1, progress_dropped 0");
    kafka.all_answered_once();
}

#[test]
fn after_a_forced_end_only_what_was_cut_off_runs_again() {
    let kafka = front(2_500, 300);
    // A commit is not due for long: that of the end is what counts.
    let run = kafka.longshore("--workers 4 --grace 0 --commit-interval 10m").start();
    kafka.until_answers(300);
    run.signal(Signal::TERM);
    run.end().exits(75).counts("in_flight_at_exit 1, progress_dropped 0");
    assert_eq!(said(&kafka), Some(set(&[(1, 301)])));
    kafka.longshore("--until-end").end().exits(0).counts("received 1, already_finished 300");
    kafka.all_answered_once();
}

#[test]
fn what_one_run_has_passed_the_next_one_knows_still() {
    let kafka = front(LONG_MS, 50);
    for _ in 0..3 {
        let run = kafka.longshore("--workers 2 --grace 0").start();
        kafka.until("a commit of 0 that says 1 to 50", |kafka| said(kafka) == Some(set(&[(1, 51)])));
        run.says("working off").signal(Signal::TERM);
        run.end();
    }
    assert_eq!(kafka.answers().values().map(Vec::len).sum::<usize>(), 50);
}

#[test]
fn a_file_and_the_drain_keep_it_too() {
    let kafka = front(2_500, 40);
    let (_folder, path) = crate::harness::scratch("offsets");
    let flags = format!("--workers 4 --offsets file:{}", path.display());
    let run = kafka.longshore(&format!("{flags} --grace 0")).start();
    kafka.until_answers(40);
    run.signal(Signal::TERM);
    run.end().exits(75);
    kafka.longshore(&format!("{flags} --until-end")).end().exits(0).counts("received 1, already_finished 40");
}

/// Ten messages, of which the group has committed 2 with this metadata. Gives what a run does.
#[track_caller]
fn begins_with(metadata: impl Fn(TopicId) -> String, flags: &str) -> crate::harness::Ended {
    let kafka = Kafka::start(1);
    kafka.put(0, plain(10));
    let metadata = metadata(kafka.topic_id(IN).expect("there"));
    kafka.commit(GROUP, IN, 0, offset(2), &metadata).expect("committed");
    kafka.longshore(&format!("--until-end {flags}")).end().exits(0)
}

fn written(topic: TopicId, partition: i32, beside: i64, runs: &[(i64, i64)]) -> String {
    encode(&Place { topic, partition, offset: offset(beside) }, &set(runs), MOST_UNITS).text
}

#[test]
fn metadata_is_believed_beside_its_own_commit_only() {
    let finished = [(3, 5), (9, 10)];
    let passed = begins_with(|id| written(id, 0, 2, &finished), "");
    passed.counts("received 5, already_finished 3");
    let ended = begins_with(|id| written(id, 0, 1, &finished), "").counts("received 8, already_finished 0");
    ended.says("WARN what the commit says is finished above it is not believed").says("it was written beside offset 1");
    let ended = begins_with(|_| written(TopicId::default(), 0, 2, &finished), "").counts("received 8");
    ended.says("it is of another topic, with the id 00000000-");
    begins_with(|id| written(id, 1, 2, &finished), "").counts("received 8").says("it is of partition 1");
    let ended = begins_with(|id| written(id, 0, 2, &[(3, 11)]), "").counts("received 8");
    ended.says("it reaches up to offset 11, and the log ends at 10");
    begins_with(|_| "theirs".to_owned(), "").counts("received 8").says("it is not Longshore's");
    begins_with(|_| "ls7:abc".to_owned(), "").counts("received 8").says("of a newer version of Longshore (7)");
}

#[test]
fn what_parallel_consumer_has_written_is_believed_where_that_is_said() {
    // 2 unfinished, 3 and 4 finished, 5 to 8 unfinished, 9 finished.
    let runs: Vec<u8> = [1, 2, 4, 1].into_iter().flat_map(i32::to_be_bytes).collect();
    let metadata = STANDARD.encode([b"e", &runs[..]].concat());
    let trusted = begins_with(|_| metadata.clone(), "--trust-foreign-progress");
    trusted.counts("received 5, already_finished 3").says("taken over from Confluent's Parallel Consumer");
    let refused = begins_with(|_| metadata.clone(), "").counts("received 8, already_finished 0");
    refused.says("--trust-foreign-progress was not said");
}

#[test]
fn a_broker_that_takes_less_metadata_gets_less() {
    let options = |units| Options { max_metadata_units: units, ..Options::default() };
    let kafka = Kafka::with(&options(200), 1);
    // 200 runs of 39: two bytes each, which is a little too much.
    kafka.put(0, (0..8_000).map(|number| if number % 40 == 0 { sleeps(LONG_MS) } else { "{}".to_owned() }));
    let run = kafka.longshore("--workers 300 --grace 0").start();
    run.says("what goes with a commit is shorter from now on");
    // 4095 units are halved until they fit.
    kafka.until("a commit that says something", |kafka| said(kafka).is_some_and(|said| !said.is_empty()));
    run.signal(Signal::TERM);
    let first = run.end().exits(75);
    let finished = first.count("succeeded");
    let dropped = first.count("progress_dropped");
    assert_eq!(said(&kafka).expect("a commit").count() + dropped, finished);
    // Where there is no room at all, it goes without.
    let kafka = Kafka::with(&options(LEAST_UNITS / 4), 1);
    kafka.put(0, [sleeps(LONG_MS)].into_iter().chain(plain(10)));
    let run = kafka.longshore("--workers 4 --grace 0").start();
    run.says("commits go without what is finished above them");
    kafka.until_committed(0, 0);
    kafka.until_answers(10);
    run.signal(Signal::TERM);
    run.end().exits(75).counts("progress_dropped 10");
    assert_eq!(said(&kafka), Some(Finished::default()));
}
