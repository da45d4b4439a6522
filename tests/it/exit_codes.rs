//! Each exit code, and what is said with it. 0 and 1 are in `failures`, 75 is in `drain`.

use std::{cell::RefCell, net::TcpListener};

use longshore::broker::{ApiKey, Member, Options, ResponseError};

use crate::harness::{GROUP, IN, Kafka, Longshore, Signal, offset, plain, sleeps};

#[test]
fn everything_that_is_wrong_with_the_configuration_is_said_at_once_and_nobody_is_called() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let end = Longshore::new("run --workers none --task-time 5 --reply-topic a/b --max-in-flight 0 --assign 3-1")
        .arg("--brokers")
        .arg(listener.local_addr().unwrap().to_string())
        .env("LONGSHORE_GRACE", "soon")
        .env("LONGSHORE_LOG_FORMAT", "loud")
        .end()
        .exits(64)
        .says("9 errors in the configuration");
    for wrong in [
        "--workers 'none': not a whole number",
        "--task-time '5': not a duration",
        "--assign '3-1': none of group, all and partitions",
        "LONGSHORE_GRACE 'soon': not a duration",
        "LONGSHORE_LOG_FORMAT 'loud': neither text nor json",
        "--group (KAFKA_CONSUMER_GROUP) is required",
        "--topic (KAFKA_TOPIC_NAME) is required",
        "--reply-topic 'a/b' has a '/' in it",
        "--max-in-flight 0 would leave some of 32 workers idle for ever",
    ] {
        assert!(end.log.contains(wrong), "it does not say {wrong:?}, but:\n{}", end.log);
    }
    assert_eq!(end.out, "");
    assert_eq!(listener.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "somebody was called");
}

#[test]
fn wrong_usage_is_64() {
    Longshore::new("run --no-such-flag").end().exits(64).says("--no-such-flag");
    Longshore::new("dance").end().exits(64);
    Longshore::new("").end().exits(64).says("Usage: longshore");
    assert!(Longshore::new("--version").end().exits(0).out.starts_with("longshore 0."));
    let help = Longshore::new("run --help").end().exits(0).out;
    assert!(help.split_whitespace().collect::<Vec<_>>().join(" ").contains("[env: KAFKA_SERVER]"), "{help}");
}

#[test]
fn a_topic_that_would_be_its_own_answer_is_64() {
    let kafka = Kafka::start(1);
    kafka.longshore("--reply-topic orders").end().exits(64).says("its own answers would be its messages");
    kafka.longshore("--dead-letter-topic orders").end().exits(64).says("its own answers would be its messages");
    kafka.longshore("--no-reply").end().exits(64).says("say --on-failure stop");
    assert_eq!(kafka.requests(ApiKey::ApiVersions), 0);
}

#[test]
fn a_partition_that_the_topic_does_not_have_is_64() {
    let kafka = Kafka::start(2);
    kafka.longshore("--assign 0,2").end().exits(64).says("--assign names partition 2, but topic orders has 2");
}

#[test]
fn records_deleted_before_they_were_worked_off_are_65_and_the_commit_stays() {
    let kafka = Kafka::start(1);
    kafka.put(0, plain(10));
    kafka.commit(GROUP, IN, 0, offset(2), "").unwrap();
    assert!(kafka.delete_records(IN, 0, offset(5)));
    kafka
        .longshore("--until-end")
        .end()
        .exits(65)
        .says("orders-0: offsets 2 to 4 are gone")
        .says("the log now begins at 5");
    assert_eq!((kafka.kept(0), kafka.count("replies")), (Some(2), 0));
}

#[test]
fn a_commit_beyond_the_end_of_the_log_is_65() {
    let kafka = Kafka::start(1);
    kafka.put(0, plain(3));
    kafka.commit(GROUP, IN, 0, offset(7), "").unwrap();
    kafka.longshore("--until-end").end().exits(65).says("offset 7 is beyond the end of the log, 3");
}

#[test]
fn records_deleted_while_it_runs_are_65() {
    let kafka = Kafka::start(1);
    kafka.put(0, plain(5));
    let run = kafka.longshore("").start();
    kafka.until_committed(0, 5);
    kafka.pause();
    kafka.put(0, plain(10));
    assert!(kafka.delete_records(IN, 0, offset(12)));
    kafka.resume();
    run.end().exits(65).says("orders-0: offsets 5 to 11 are gone").counts("received 5");
    assert_eq!(kafka.kept(0), Some(5));
}

#[test]
fn a_log_that_was_cut_off_while_it_runs_is_65() {
    let kafka = Kafka::start(1);
    kafka.put(0, plain(3));
    kafka.put(0, plain(3));
    let run = kafka.longshore("").start();
    kafka.until_committed(0, 6);
    assert_eq!(kafka.truncate(IN, 0, offset(3)), Some(offset(3)));
    run.end().exits(65).says("offset 6 is beyond the end of the log, 3");
    assert_eq!(kafka.kept(0), Some(6));
}

#[test]
fn a_topic_made_anew_while_it_runs_is_65_and_nothing_more_is_committed() {
    let kafka = Kafka::start(1);
    kafka.put(0, [sleeps(600), "{}".to_owned()]);
    let run = kafka.longshore("--workers 2").start();
    kafka.until_answers(1);
    kafka.recreate_topic(IN, 1).unwrap();
    kafka.put(0, plain(5));
    run.end().exits(65).says("topic orders was deleted and made anew");
    assert_eq!(kafka.kept(0), None);
}

#[test]
fn a_topic_deleted_while_it_runs_is_65_and_does_not_come_back() {
    let kafka = Kafka::with(&Options { auto_create_topics: true, ..Options::default() }, 1);
    kafka.put(0, [sleeps(600), "{}".to_owned()]);
    let run = kafka.longshore("--workers 2").start();
    kafka.until_answers(1);
    kafka.delete_topic(IN).unwrap();
    run.end().exits(65).says("topic orders was deleted");
    assert_eq!(kafka.kept(0), None);
    assert!(!kafka.topics().contains(&IN.to_owned()), "it was brought back");
}

#[test]
fn a_cluster_that_cannot_be_reached_is_69_once_the_startup_timeout_is_over() {
    // Nobody listens on the first port.
    Longshore::new("run -b 127.0.0.1:1 -g g -t t --startup-timeout 400ms")
        .end()
        .exits(69)
        .says("not ready within 400ms (--startup-timeout)")
        .says("127.0.0.1:1");
}

#[test]
fn a_broker_that_does_not_answer_is_69_once_the_startup_timeout_is_over() {
    let kafka = Kafka::start(1);
    kafka.pause();
    kafka.longshore("--startup-timeout 400ms").end().exits(69).says("not ready within 400ms (--startup-timeout)");
}

#[test]
fn a_topic_that_does_not_come_is_69() {
    let kafka = Kafka::empty(&Options::default());
    kafka.longshore("--startup-timeout 300ms").end().exits(69).says("there is no topic orders yet");
    assert_eq!(kafka.topics(), [""; 0], "nor is anything created");
}

#[test]
fn a_group_with_live_members_is_69_and_they_are_named() {
    let kafka = Kafka::start(1);
    kafka.set_members(GROUP, [Member::new("consumer-1"), Member::new("consumer-2")]);
    kafka
        .longshore("--assign all")
        .end()
        .exits(69)
        .says("group workers has live members")
        .says("consumer-1 (consumer-1) at /127.0.0.1")
        .says("consumer-2")
        .says("leave --assign out, to share the work with them");
}

#[test]
fn members_that_join_while_it_runs_are_69() {
    let kafka = Kafka::start(1);
    let run = kafka.longshore("--assign all").start();
    kafka.put(0, plain(1));
    kafka.until_committed(0, 1);
    kafka.set_members(GROUP, [Member::new("consumer-1")]);
    kafka.put(0, plain(1));
    run.end().exits(69).says("group workers has live members now");
    assert_eq!(kafka.kept(0), Some(1));
}

#[test]
fn another_process_that_commits_for_the_group_is_69_and_its_commit_stays() {
    let kafka = Kafka::start(1);
    kafka.put(0, plain(10));
    let run = kafka.longshore("--assign all").start();
    kafka.until_committed(0, 10);
    kafka.commit(GROUP, IN, 0, offset(3), "").unwrap();
    kafka.put(0, plain(1));
    run.end().exits(69).says("another process commits for this group");
    assert_eq!(kafka.kept(0), Some(3));
}

#[test]
fn two_processes_with_the_same_fixed_partitions_do_not_go_on_together() {
    let kafka = Kafka::start(1);
    kafka.put(0, plain(1));
    let first = kafka.longshore("--assign all").start();
    kafka.until_committed(0, 1);
    let second = kafka.longshore("--assign all --workers 1").start();
    second.says("working off");
    kafka.put(0, (0..100).map(|_| sleeps(10)));
    let runs = RefCell::new([first, second]);
    kafka.until("one of them ends", |_| runs.borrow_mut().iter_mut().any(|run| !run.lives()));
    let mut codes: Vec<_> = runs
        .into_inner()
        .into_iter()
        .map(|mut run| {
            if run.lives() {
                run.signal(Signal::TERM);
            }
            run.end().code.expect("an exit code")
        })
        .collect();
    codes.sort_unstable();
    assert!(matches!(codes[..], [0 | 69, 69]), "{codes:?}");
}

#[test]
fn a_group_that_we_may_not_use_is_69_at_once() {
    let kafka = Kafka::start(1);
    kafka.faults().every(ApiKey::DescribeGroups).error(ResponseError::GroupAuthorizationFailed);
    for assign in ["group", "all"] {
        let flags = format!("--startup-timeout 1m --assign {assign}");
        kafka.longshore(&flags).end().exits(69).says("GROUP_AUTHORIZATION_FAILED");
    }
    // Kafka may let a group be seen, and not be joined.
    kafka.faults().clear();
    kafka.faults().every(ApiKey::JoinGroup).error(ResponseError::GroupAuthorizationFailed);
    kafka
        .longshore("")
        .end()
        .exits(69)
        .says("group workers: the coordinator refuses")
        .says("GROUP_AUTHORIZATION_FAILED");
}

#[test]
fn a_group_whose_members_do_with_none_of_our_assignors_is_69_and_said() {
    let kafka = Kafka::start(1);
    let first = kafka.longshore("--assignors roundrobin").start();
    first.says("working off");
    kafka.longshore("--assignors range").end().exits(69).says("see --assignors and --group-protocol");
    kafka.longshore("--group-protocol consumer").end().exits(69).says("use --group-protocol classic");
    first.signal(Signal::TERM);
    first.end().exits(0);
}

#[test]
fn a_port_that_is_taken_is_said() {
    let kafka = Kafka::start(1);
    let port = kafka.address().rsplit_once(':').unwrap().1.to_owned();
    let end = Longshore::new(&format!("broker --port {port}")).end().says(&format!("cannot listen on port {port}"));
    assert_ne!(end.code, Some(0));
}
