//! Where offsets are kept other than with the group: a file, or nowhere.

use std::{fs, os::unix::fs::symlink};

use crate::harness::{Kafka, Signal, beside, plain, scratch, sleeps};

#[test]
fn a_file_of_offsets_is_where_the_next_run_goes_on() {
    let kafka = Kafka::start(2);
    let (_folder, path) = scratch("offsets");
    let flags = format!("--until-end --offsets file:{}", path.display());
    kafka.put(0, plain(10));
    kafka.longshore(&flags).end().exits(0).counts("received 10");
    kafka.put(0, plain(3));
    kafka.put(1, plain(4));
    kafka.longshore(&flags).end().exits(0).counts("received 7");
    assert!(kafka.answers().values().all(|statuses| statuses.len() == 1));
    assert_eq!(kafka.answers().len(), 17);
    assert_eq!(kafka.kept(0), None, "the group keeps nothing");
}

#[test]
fn a_torn_file_of_offsets_is_refused_with_65() {
    let kafka = Kafka::start(1);
    let (_folder, path) = scratch("offsets");
    let flags = format!("--until-end --offsets file:{}", path.display());
    kafka.put(0, plain(10));
    kafka.longshore(&flags).end().exits(0);
    let whole = fs::read(&path).unwrap();
    for torn in [&whole[..whole.len() - 3], &whole[..10], b"", &[b"x", &whole[..]].concat()] {
        fs::write(&path, torn).unwrap();
        kafka.longshore(&flags).end().exits(65).says("is damaged").says("Put it right, or delete it");
    }
    fs::write(&path, whole).unwrap();
    kafka.longshore(&flags).end().exits(0).counts("received 0");
}

#[test]
fn on_a_full_disk_the_old_file_of_offsets_stays_whole_and_the_end_is_not_clean() {
    let kafka = Kafka::start(1);
    let (_folder, path) = scratch("offsets");
    let flags = format!("--offsets file:{}", path.display());
    kafka.put(0, plain(10));
    kafka.longshore(&format!("--until-end {flags}")).end().exits(0);
    let before = fs::read(&path).unwrap();
    symlink("/dev/full", beside(&path, ".new")).unwrap();
    kafka.put(0, plain(5));
    let run = kafka.longshore(&format!("--grace 100ms {flags}")).start();
    kafka.until_answers(15);
    run.says("commit not acknowledged").signal(Signal::TERM);
    let end = run.end().exits(75);
    assert_eq!(end.summary()["committed"], serde_json::json!({"0": 10}));
    // There are pauses of 50 ms in the 4.1 s that it tries.
    assert!((2..300).contains(&end.count("failed_commits")), "{}", end.out);
    assert_eq!(fs::read(&path).unwrap(), before);
    // Once there is room again, what was not kept runs again.
    fs::remove_file(beside(&path, ".new")).unwrap();
    kafka.longshore(&format!("--until-end {flags}")).end().exits(0).counts("received 5");
}

#[test]
fn a_second_process_does_not_get_the_file_of_offsets() {
    let kafka = Kafka::start(1);
    let (_folder, path) = scratch("offsets");
    let flags = format!("--offsets file:{}", path.display());
    kafka.put(0, plain(1));
    let first = kafka.longshore(&flags).start();
    kafka.until_answers(1);
    kafka.longshore(&flags).end().exits(69).says("is in use by another process");
    first.signal(Signal::TERM);
    first.end().exits(0);
    kafka.longshore(&format!("{flags} --until-end")).end().exits(0).counts("received 0");
}

#[test]
fn after_kill_9_the_file_of_offsets_is_free_and_whole() {
    let kafka = Kafka::start(1);
    let (_folder, path) = scratch("offsets");
    let flags = format!("--workers 4 --offsets file:{}", path.display());
    kafka.put(0, plain(50).into_iter().chain([sleeps(1_000)]));
    let run = kafka.longshore(&flags).start();
    kafka.until("a file that says 50", |_| fs::read_to_string(&path).is_ok_and(|text| text.contains(r#""offset":50"#)));
    run.kill();
    kafka.longshore(&format!("{flags} --until-end")).end().exits(0).counts("received 1");
    assert_eq!(kafka.answers().len(), 51);
}

#[test]
fn a_file_of_another_group_or_of_a_topic_made_anew_is_refused() {
    let kafka = Kafka::start(1);
    let (_folder, path) = scratch("offsets");
    let flags = format!("--until-end --offsets file:{}", path.display());
    kafka.put(0, plain(10));
    kafka.longshore(&flags).end().exits(0);
    kafka.longshore(&format!("{flags} --group others")).end().exits(69).says("is of group workers, topic orders");
    kafka.recreate_topic("orders", 1).unwrap();
    kafka.put(0, plain(20));
    kafka.longshore(&flags).end().exits(65).says("topic orders was deleted and made anew");
    assert_eq!(kafka.count("replies"), 10);
}

#[test]
fn without_a_memory_each_run_begins_anew() {
    let kafka = Kafka::start(1);
    kafka.put(0, plain(3));
    for _ in 0..2 {
        kafka.longshore("--until-end --offsets memory").end().exits(0).counts("received 3");
    }
    assert_eq!(kafka.answers()[&(0, 0)], ["ok", "ok"]);
    assert_eq!(kafka.kept(0), None);
}
