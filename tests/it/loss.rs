//! A log that is not what it was, and what `--on-data-loss` makes of it. What a start without it says is in `exit_codes`.

use longshore::{DataLoss, Event, Failure, Longshore, OnDataLoss, Record, broker::NodeId, loss::Why, task::Answer};
use serde_json::{Value, json};

use crate::harness::{Ended, GROUP, IN, Kafka, REPLIES, Running, Signal, offset, plain, sleeps};

/// The losses of a summary: partition, from, to, why, where it went on.
#[track_caller]
fn losses(ended: &Ended) -> Vec<Value> {
    let of = |loss: &Value| json!([loss["partition"], loss["from"], loss["to"], loss["why"], loss["resumed_at"]]);
    ended.summary()["data_loss"].as_array().expect("a list").iter().map(of).collect()
}

/// Ends a run by a signal, and asserts that it was a clean end.
#[track_caller]
fn stop(run: Running) -> Ended {
    run.signal(Signal::TERM);
    run.end().exits(0)
}

/// How often each offset of the topic of now was answered, where all of them have the same status.
fn answered(kafka: &Kafka) -> Vec<(i64, usize)> {
    kafka.answers().into_iter().map(|((_, offset), statuses)| (offset, statuses.len())).collect()
}

/// A run that has worked off 5 messages, and does not see how 10 more come of which 7 are deleted.
fn deleted_while_it_runs(on_data_loss: &str) -> (Kafka, Running) {
    let kafka = Kafka::start(1);
    kafka.put(0, plain(5));
    let run = kafka.longshore(on_data_loss).start();
    kafka.until_committed(0, 5);
    kafka.pause();
    kafka.put(0, plain(10));
    assert!(kafka.delete_records(IN, 0, offset(12)));
    kafka.resume();
    (kafka, run)
}

#[test]
fn records_deleted_while_it_runs_are_told_of_and_it_goes_on_with_the_first_there_is() {
    let (kafka, run) = deleted_while_it_runs("--on-data-loss earliest");
    kafka.until_committed(0, 15);
    let ended = stop(run).says("offsets 5 to 11 are gone").says("going on at 12").counts("received 8, replied 8");
    assert_eq!(losses(&ended), [json!([0, 5, 11, "deleted", 12])]);
}

#[test]
fn records_deleted_while_it_runs_are_told_of_and_it_goes_on_with_what_comes() {
    let (kafka, run) = deleted_while_it_runs("--on-data-loss latest");
    run.says("going on at 15");
    kafka.put(0, plain(1));
    kafka.until_committed(0, 16);
    let ended = stop(run).counts("received 6, replied 6");
    assert_eq!(losses(&ended), [json!([0, 5, 11, "deleted", 15])]);
}

#[test]
fn records_deleted_between_runs_are_told_of_and_it_goes_on() {
    for (wish, at, received) in [("earliest", 12, 3), ("latest", 15, 0)] {
        let kafka = Kafka::start(1);
        kafka.put(0, plain(15));
        kafka.commit(GROUP, IN, 0, offset(5), "").unwrap();
        assert!(kafka.delete_records(IN, 0, offset(12)));
        let flags = format!("--until-end --on-data-loss {wish}");
        let ended = kafka.longshore(&flags).end().exits(0).counts(&format!("received {received}"));
        assert_eq!(losses(&ended), [json!([0, 5, 11, "deleted", at])]);
        assert_eq!(kafka.kept(0), Some(15));
        assert!(losses(&kafka.longshore(&flags).end().exits(0)).is_empty(), "told once");
    }
}

#[test]
fn what_is_stopped_for_is_in_the_summary_with_its_range() {
    let (_kafka, run) = deleted_while_it_runs("--on-data-loss stop");
    let ended = run.end().exits(65).says("To go on: --on-data-loss earliest or latest");
    assert_eq!(losses(&ended), [json!([0, 5, 11, "deleted", null])]);
}

/// A run of which one task runs long and one is answered, and whose topic is then made anew with so many messages.
fn recreated_while_it_runs(flags: &str, messages: usize) -> (Kafka, Running) {
    let kafka = Kafka::start(1);
    kafka.put(0, [sleeps(30_000), "{}".to_owned()]);
    let run = kafka.longshore(&format!("--workers 2 {flags}")).start();
    kafka.until_answers(1);
    kafka.recreate_topic(IN, 1).unwrap();
    kafka.put(0, plain(messages));
    (kafka, run)
}

#[test]
fn a_topic_made_anew_begins_a_new_life_and_what_runs_of_the_old_one_comes_to_nothing() {
    for messages in [1, 20] {
        let (kafka, run) = recreated_while_it_runs("--on-data-loss earliest", messages);
        kafka.until_committed(0, messages as i64);
        let ended = stop(run).says("topic orders was deleted and made anew").counts("past_life 1");
        assert_eq!(losses(&ended), [json!([0, 0, 1, "recreated", 0])]);
        assert_eq!(kafka.kept(0), Some(messages as i64));
        // Each message of the new topic was answered, and the old one at 0 was not.
        let answers = answered(&kafka);
        assert!((0..messages as i64).all(|offset| answers.iter().any(|(at, _)| *at == offset)), "{answers:?}");
        let first = answers.iter().find(|(at, _)| *at == 0).expect("answered").1;
        assert_eq!(first, 1, "the old message at 0 was answered, too: {answers:?}");
    }
}

#[test]
fn a_topic_made_anew_is_gone_on_with_from_what_comes() {
    let (kafka, run) = recreated_while_it_runs("--on-data-loss latest", 5);
    run.says("going on at 5");
    kafka.put(0, plain(1));
    kafka.until_committed(0, 6);
    let ended = stop(run);
    assert_eq!(losses(&ended)[0][4], json!(5));
    assert!(ended.summary()["data_loss"][0]["new_topic_id"].is_string());
}

#[test]
fn a_topic_that_is_deleted_is_waited_for_and_then_given_up() {
    let kafka = Kafka::start(1);
    kafka.put(0, plain(3));
    let run = kafka.longshore("--on-data-loss earliest --startup-timeout 20s").start();
    kafka.until_committed(0, 3);
    kafka.delete_topic(IN).unwrap();
    run.says("waiting for it to be made anew");
    kafka.create_topic(IN, 2).unwrap();
    for partition in [0, 1] {
        kafka.put(partition, plain(2));
    }
    kafka.until("both partitions are committed", |kafka| [0, 1].iter().all(|p| kafka.kept(*p) == Some(2)));
    let ended = stop(run).says("a partition was added");
    assert_eq!(losses(&ended), [json!([0, 3, null, "recreated", 0])]);

    let run = kafka.longshore("--on-data-loss earliest --startup-timeout 1s").start();
    run.says("working off");
    kafka.delete_topic(IN).unwrap();
    run.end().exits(65).says("topic orders was deleted, and was not made anew within");
}

/// A run that has read 6 messages, of which 4 are committed, when the log is cut off at 3 and grows again to 7.
fn cut_off_while_it_runs(flags: &str) -> (Kafka, Running) {
    let kafka = Kafka::start(1);
    for _ in 0..2 {
        kafka.put(0, plain(3));
    }
    kafka.put(0, [sleeps(30_000)]);
    let run = kafka.longshore(flags).start();
    kafka.until_committed(0, 6);
    kafka.pause();
    assert_eq!(kafka.truncate(IN, 0, offset(3)), Some(offset(3)));
    kafka.put(0, plain(4));
    kafka.resume();
    (kafka, run)
}

#[test]
fn a_log_that_was_cut_off_and_has_grown_again_is_noticed_by_its_leader_epoch() {
    let (kafka, run) = cut_off_while_it_runs("");
    let ended = run.end().exits(65).says("the log was cut off");
    assert_eq!(losses(&ended), [json!([0, 3, 6, "truncated", null])]);
    assert_eq!(kafka.kept(0), Some(6), "nothing more was committed");
}

#[test]
fn a_log_that_was_cut_off_is_read_again_from_where_it_parted() {
    let (kafka, run) = cut_off_while_it_runs("--on-data-loss earliest");
    kafka.until_committed(0, 7);
    let ended = stop(run).counts("past_life 1");
    assert_eq!(losses(&ended), [json!([0, 3, 6, "truncated", 3])]);
    assert_eq!(answered(&kafka), [(0, 1), (1, 1), (2, 1), (3, 2), (4, 2), (5, 2), (6, 1)]);
}

#[test]
fn a_log_that_was_cut_off_between_runs_is_noticed_by_the_leader_epoch_of_the_commit() {
    let kafka = Kafka::start(1);
    for _ in 0..2 {
        kafka.put(0, plain(3));
    }
    kafka.longshore("--until-end").end().exits(0);
    assert_eq!(kafka.truncate(IN, 0, offset(3)), Some(offset(3)));
    kafka.put(0, plain(6));
    kafka.longshore("--until-end").end().exits(65).says("offsets 3 to 5 are gone").says("the log was cut off");
    assert_eq!(kafka.kept(0), Some(6));
    let ended = kafka.longshore("--until-end --on-data-loss earliest").end().exits(0).counts("received 6");
    assert_eq!(losses(&ended), [json!([0, 3, 5, "truncated", 3])]);
    assert_eq!(kafka.kept(0), Some(9));
}

#[test]
fn a_leader_that_moves_between_or_in_runs_is_no_loss() {
    let kafka = Kafka::with(&longshore::broker::Options { nodes: 2, ..Default::default() }, 1);
    kafka.put(0, plain(5));
    kafka.longshore("--until-end").end().exits(0);
    let moved = |kafka: &Kafka| {
        let (leader, _) = kafka.leader(IN, 0).unwrap();
        kafka.move_leader(IN, 0, NodeId(3 - leader.0)).unwrap();
    };
    moved(&kafka);
    let run = kafka.longshore("").start();
    kafka.put(0, plain(5));
    kafka.until_committed(0, 10);
    moved(&kafka);
    kafka.put(0, plain(5));
    kafka.until_committed(0, 15);
    let ended = stop(run).counts("received 10, past_life 0");
    assert!(losses(&ended).is_empty());
    kafka.all_answered_once();
}

#[test]
fn an_offset_that_expired_beside_others_is_a_loss_of_the_offset() {
    let kafka = Kafka::start(3);
    for partition in 0..3 {
        kafka.put(partition, plain(2));
    }
    kafka.longshore("--until-end").end().exits(0);
    assert!(kafka.expire_commit(GROUP, IN, 1));
    // A group takes it for one that nobody has committed yet.
    let ended = kafka.longshore("--assign all --until-end").end().exits(65);
    assert!(
        ended.log.contains("orders-1: the group has no offset any more, though it has one for others"),
        "{}",
        ended.log
    );
    assert_eq!(kafka.kept(1), None);
    let flags = "--assign all --until-end --on-data-loss earliest";
    let ended = kafka.longshore(flags).end().exits(0).counts("received 2");
    assert_eq!(losses(&ended), [json!([1, 0, null, "offset_expired", 0])]);
}

#[test]
fn an_offset_that_expires_while_it_runs_is_committed_again() {
    let kafka = Kafka::start(1);
    kafka.put(0, plain(2));
    // Kafka lets none expire of a group with members.
    let run = kafka.longshore("--assign all").start();
    kafka.until_committed(0, 2);
    assert!(kafka.expire_commit(GROUP, IN, 0));
    kafka.put(0, plain(1));
    kafka.until_committed(0, 3);
    stop(run).says("the group's offset is gone (it expired, or was deleted): committing it again");
}

#[test]
fn partitions_added_while_it_runs_are_worked_off_from_the_earliest() {
    for assign in ["group", "all"] {
        let kafka = Kafka::start(1);
        kafka.put(0, plain(2));
        let run = kafka.longshore(&format!("--from latest --assign {assign}")).start();
        kafka.until_committed(0, 2);
        kafka.add_partitions(IN, 2).unwrap();
        for partition in [1, 2] {
            kafka.put(partition, plain(3));
        }
        kafka.until("the new partitions are committed", |kafka| [1, 2].iter().all(|p| kafka.kept(*p) == Some(3)));
        let ended = stop(run).says("a partition was added partition=orders-1 start=0").counts("received 6");
        assert!(losses(&ended).is_empty());
    }
}

#[test]
fn partitions_added_while_it_runs_to_the_end_are_left_to_the_next_run() {
    let kafka = Kafka::start(1);
    kafka.put(0, [sleeps(3000)].into_iter().chain(plain(20)));
    let run = kafka.longshore("--assign all --until-end --commit-interval 10ms --workers 2").start();
    kafka.until_answers(5);
    kafka.add_partitions(IN, 1).unwrap();
    kafka.put(1, plain(3));
    run.end().exits(0).says("a partition was added, and is left to the next run").counts("received 21");
    assert_eq!(kafka.kept(1), None);
    kafka.longshore("--until-end").end().exits(0).counts("received 3");
    kafka.all_answered_once();
}

#[test]
fn partitions_that_are_not_asked_for_stay_so_when_they_are_added() {
    let kafka = Kafka::start(1);
    kafka.put(0, plain(1));
    let run = kafka.longshore("--assign 0").start();
    kafka.until_committed(0, 1);
    kafka.add_partitions(IN, 1).unwrap();
    kafka.put(1, plain(1));
    kafka.put(0, plain(1));
    kafka.until_committed(0, 2);
    stop(run).counts("received 2");
    assert_eq!(kafka.kept(1), None);
}

#[test]
fn offsets_in_a_file_tell_that_the_topic_is_another_between_runs() {
    let kafka = Kafka::start(1);
    let (_folder, path) = crate::harness::scratch("offsets");
    let flags = format!("--until-end --offsets file:{}", path.display());
    kafka.put(0, plain(5));
    kafka.longshore(&flags).end().exits(0);
    kafka.recreate_topic(IN, 1).unwrap();
    kafka.put(0, plain(20));
    kafka.longshore(&flags).end().exits(65).says("topic orders was deleted and made anew");
    let ended = kafka.longshore(&format!("{flags} --on-data-loss earliest")).end().exits(0).counts("received 20");
    assert_eq!(losses(&ended), [json!([0, 5, null, "recreated", 0])]);
    kafka.longshore(&flags).end().exits(0).counts("received 0");
    assert_eq!(kafka.count(REPLIES), 25);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_embedder_hears_of_it_and_can_end_the_run() {
    let kafka = longshore::broker::Broker::start(longshore::broker::Options::default()).unwrap();
    for topic in [IN, REPLIES] {
        kafka.create_topic(topic, 1).unwrap();
    }
    kafka.append_values(IN, 0, plain(10)).unwrap();
    kafka.commit(GROUP, IN, 0, offset(2), "").unwrap();
    assert!(kafka.delete_records(IN, 0, offset(5)));
    let run = Longshore::builder()
        .brokers(&kafka.address())
        .group(GROUP)
        .topic(IN)
        .reply_topic(REPLIES)
        .on_data_loss(OnDataLoss::Earliest)
        .build(|_: &Record| Ok::<_, Failure>(Answer::None))
        .unwrap();
    let (mut events, drain) = (run.events(), run.drain());
    let run = tokio::spawn(run.run());
    let patience = crate::harness::PATIENCE;
    let event = tokio::time::timeout(patience, events.next()).await.unwrap().expect("an event");
    let Event::DataLoss(DataLoss { from, to, why, resumed_at, .. }) = event else { panic!("{event:?}") };
    assert_eq!((from, to, why, resumed_at), (offset(2), Some(offset(4)), Why::Deleted, Some(offset(5))));
    drain.drain();
    let summary = tokio::time::timeout(patience, run).await.unwrap().unwrap().unwrap();
    assert_eq!(summary.data_loss.len(), 1);
    assert_eq!(events.next().await, None, "the run is over");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_embedder_hears_of_answers_that_cannot_be_written() {
    use longshore::broker::{ApiKey, ResponseError};
    let kafka = longshore::broker::Broker::start(longshore::broker::Options::default()).unwrap();
    for topic in [IN, REPLIES] {
        kafka.create_topic(topic, 1).unwrap();
    }
    kafka.append_values(IN, 0, plain(3)).unwrap();
    kafka.faults().every(ApiKey::Produce).error(ResponseError::NotEnoughReplicas);
    let run = Longshore::builder()
        .brokers(&kafka.address())
        .group(GROUP)
        .topic(IN)
        .reply_topic(REPLIES)
        .until_end(true)
        .build(|_: &Record| Ok::<_, Failure>(Answer::value("a")))
        .unwrap();
    let mut events = run.events();
    let run = tokio::spawn(run.run());
    let patience = crate::harness::PATIENCE;
    let event = tokio::time::timeout(patience, events.next()).await.unwrap().expect("an event");
    let Event::CannotWrite { topic, records, reason, .. } = event else { panic!("{event:?}") };
    // Those of the first batch: the others wait behind it.
    assert!(&*topic == REPLIES && (1..=3).contains(&records), "{topic}: {records}");
    assert!(reason.contains("NOT_ENOUGH_REPLICAS"), "{reason}");
    kafka.faults().clear();
    let event = tokio::time::timeout(patience, events.next()).await.unwrap().expect("an event");
    assert!(matches!(&event, Event::WritingAgain { topic, .. } if &**topic == REPLIES), "{event:?}");
    let summary = tokio::time::timeout(patience, run).await.unwrap().unwrap().unwrap();
    assert_eq!((summary.replied, summary.unanswered), (3, 0));
}
