//! Several processes share a group: they come, leave and crash, and every message is answered.

use std::{cell::RefCell, time::Instant};

use longshore::{
    Answer, Failure, Longshore, Record,
    config::{GroupProtocol, MembershipSettings},
};

use crate::harness::{GROUP, IN, Kafka, PATIENCE, REPLIES, Signal, plain, sleeps};

const MEMBER: &str = "--workers 4 --heartbeat-interval 200ms --session-timeout 6s";

#[test]
fn members_come_and_leave_and_nothing_is_answered_twice() {
    let kafka = Kafka::start(4);
    for partition in 0..4 {
        kafka.put(partition, (0..150).map(|number| sleeps(5 + number % 20)));
    }
    let first = kafka.longshore(MEMBER).start();
    kafka.until_answers(20);
    let second = kafka.longshore(MEMBER).start();
    second.says("working off");
    kafka.until_answers(150);
    first.signal(Signal::TERM);
    first.end().exits(0).says("rebalance over");
    kafka.until_answers(600);
    second.signal(Signal::TERM);
    let second = second.end().exits(0);
    assert!(second.count("replied") > 0);
    kafka.all_answered_once();
}

#[test]
fn what_a_member_held_that_is_killed_goes_to_the_others() {
    let kafka = Kafka::start(4);
    for partition in 0..4 {
        kafka.put(partition, (0..60).map(|number| sleeps(5 + number % 20)));
    }
    let first = kafka.longshore(MEMBER).start();
    let second = kafka.longshore(MEMBER).start();
    second.says("working off");
    kafka.until_answers(40);
    first.kill();
    kafka.until("all to be committed", |kafka| (0..4).all(|partition| kafka.kept(partition) == Some(60)));
    second.signal(Signal::TERM);
    second.end().exits(0);
    kafka.all_answered();
}

#[test]
fn a_member_that_works_to_the_end_ends() {
    let kafka = Kafka::start(2);
    kafka.put(0, ["{}", "{}"]);
    kafka.longshore("--until-end").end().exits(0).counts("received 2");
    // Another finds nothing, and leaves as well.
    kafka.longshore("--until-end").end().exits(0).counts("received 0");
}

#[test]
fn topics_are_found_by_a_pattern_and_what_is_written_is_not_read() {
    let kafka = Kafka::start(1);
    kafka.put(0, ["{}", "{}"]);
    let run = kafka.longshore("--topic-regex .*").start();
    kafka.until_answers(2);
    run.signal(Signal::TERM);
    run.end().exits(0).counts("received 2");
}

#[test]
fn a_member_too_many_says_so_and_stands_by() {
    let kafka = Kafka::start(2);
    let mut members: Vec<_> = (0..3).map(|_| kafka.longshore(MEMBER).start()).collect();
    let idle = "nothing to do for this member: 3 members share 2 partitions";
    let spare = || members.iter().position(|member| member.has_said(idle));
    kafka.until("one of them has nothing to do", |_| spare().is_some());
    let spare = members.remove(spare().expect("found"));
    // It takes over as soon as another goes.
    members[0].signal(Signal::TERM);
    members.remove(0).end().exits(0);
    spare.says("working off");
    kafka.put(0, plain(5));
    kafka.put(1, plain(5));
    kafka.until_answers(10);
    for member in [spare, members.remove(0)] {
        member.signal(Signal::TERM);
        member.end().exits(0);
    }
    kafka.all_answered_once();
}

#[test]
fn a_member_that_works_to_the_end_waits_for_what_a_dead_one_holds() {
    let kafka = Kafka::start(1);
    // It has one worker, so that nothing is answered before it is killed.
    kafka.put(0, [sleeps(3_000)].into_iter().chain(plain(9)));
    let session = "--session-timeout 6s --heartbeat-interval 1s";
    let dead = kafka.longshore(&format!("--workers 1 {session}")).start();
    dead.says("working off");
    dead.kill();
    kafka.put(0, plain(1));
    let ended = kafka.longshore(&format!("--until-end --workers 8 {session}")).end().exits(0);
    ended.counts("received 11, replied 11");
    kafka.all_answered_once();
}

#[test]
fn a_member_that_has_nothing_to_do_until_the_end_stands_by_until_the_others_have_done_it() {
    let kafka = Kafka::start(1);
    kafka.put(0, [sleeps(3_000)].into_iter().chain(plain(3)));
    let first = kafka.longshore("--heartbeat-interval 200ms").start();
    kafka.until_answers(3);
    let second = kafka.longshore("--until-end --assignors cooperative-sticky,range").start();
    second.says("nothing to do for this member: 2 members share 1 partitions");
    let second = RefCell::new(second);
    kafka.until("all to be committed", |kafka| {
        let lives = second.borrow_mut().lives();
        let is_done = kafka.kept(0) == Some(4);
        assert!(lives || is_done, "it ended before the first was done");
        is_done
    });
    second.into_inner().end().exits(0).counts("received 0");
    first.signal(Signal::TERM);
    first.end().exits(0);
    kafka.all_answered_once();
}

#[test]
fn the_log_of_a_member_says_what_a_person_wants_to_know() {
    let kafka = Kafka::start(2);
    kafka.put(0, plain(3));
    let ended = kafka.longshore("--until-end").end().exits(0);
    ended
        .says("joining group workers")
        .says("the classic protocol of groups is spoken")
        .says("rebalance over after 0.0 s: 2 partitions (2 new, 0 gone)")
        .says(r#"working off topic="orders" group="workers" partitions=2 without_offset=2 lag=3 workers=32"#);
}

#[test]
fn a_topic_that_comes_to_match_is_worked_off_as_a_whole() {
    let kafka = Kafka::empty(&longshore::broker::Options::default());
    let run = kafka.longshore("--topic-regex order.* --from latest").no_env("KAFKA_TOPIC_NAME").start();
    run.says("no topic has a name that --topic-regex matches as a whole: waiting for one");
    kafka.create_topic(IN, 1).unwrap();
    kafka.put(0, plain(3));
    kafka.until_committed(0, 3);
    run.signal(Signal::TERM);
    run.end().exits(0).counts("received 3");
    // What does not come in time is not waited for where there is an end.
    let flags = "--topic-regex other.* --until-end --startup-timeout 300ms";
    kafka
        .longshore(flags)
        .no_env("KAFKA_TOPIC_NAME")
        .end()
        .exits(69)
        .says("not ready within 300ms (--startup-timeout)");
}

/// Three members in one process, in one runtime: each has a pool and a membership of its own.
#[tokio::test(flavor = "multi_thread")]
async fn three_members_in_one_process_share_a_topic() {
    let broker = longshore::broker::Broker::start(longshore::broker::Options::default()).unwrap();
    for (topic, partitions) in [(IN, 6), (REPLIES, 1)] {
        broker.create_topic(topic, partitions).unwrap();
    }
    let membership = MembershipSettings {
        group_protocol: GroupProtocol::Classic,
        heartbeat_interval: std::time::Duration::from_millis(200),
        ..MembershipSettings::default()
    };
    let member = || {
        let builder = Longshore::builder().brokers(&broker.address()).group(GROUP).topic(IN).reply_topic(REPLIES);
        let builder = builder.workers(4).membership(membership.clone());
        builder.build(|_: &Record| Ok::<_, Failure>(Answer::value("done"))).expect("it is right")
    };
    let (mut drains, mut events, mut runs) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..3 {
        let run = member();
        drains.push(run.drain());
        events.push(run.progress());
        runs.push(tokio::spawn(run.run()));
    }
    // Each answers something: messages go on coming until that is so.
    let (deadline, mut sent) = (Instant::now() + PATIENCE, 0);
    while events.iter().any(|progress| progress.now().replied == 0) {
        assert!(Instant::now() < deadline, "not all of them had something to do: {sent} messages");
        for partition in 0..6 {
            broker.append_values(IN, partition, plain(1)).unwrap();
        }
        sent += 6;
        tokio::time::timeout_at(
            deadline.into(),
            broker.until(PATIENCE, |_| broker.end_offset(REPLIES, 0).is_some_and(|end| end.0 >= sent)),
        )
        .await
        .expect("in time");
    }
    for drain in &drains {
        drain.drain();
    }
    let mut replied = 0;
    for run in runs {
        let summary = tokio::time::timeout(PATIENCE, run).await.unwrap().unwrap().unwrap();
        assert!(summary.error.is_none() && summary.exit_code() == 0, "{summary:?}");
        replied += summary.replied;
    }
    // Under an eager assignor, what ran at a rebalance may run again; nothing is missing.
    assert!(replied >= u64::try_from(sent).unwrap());
    let committed: i64 = (0..6).map(|p| broker.committed(GROUP, IN, p).map_or(0, |c| c.offset.0)).sum();
    assert_eq!(committed, sent);
}

/// Both give everything up when one joins, and the first still runs 8 tasks then: 4 of partitions that it keeps.
#[test]
fn what_runs_while_its_partition_is_dealt_anew_to_the_same_member_is_not_run_again() {
    let kafka = Kafka::start(4);
    for partition in 0..4 {
        kafka.put(partition, [3000, 3000].map(sleeps).into_iter().chain((0..20).map(sleeps)));
    }
    let member = "--assign group --group-protocol classic --assignors range --workers 8 --heartbeat-interval 200ms";
    let first = kafka.longshore(member).start();
    first.says("working off");
    let second = kafka.longshore(member).start();
    first.says("tasks adopted");
    kafka.until("all to be committed", |kafka| (0..4).all(|partition| kafka.kept(partition) == Some(22)));
    let [first, second] = [first, second].map(|run| {
        run.signal(Signal::TERM);
        run.end().exits(0)
    });
    kafka.all_answered_once();
    assert!(first.count("adopted") >= 4, "{}", first.count("adopted"));
    // What ran of partitions that went over to the second was run there, too; and nothing else twice.
    let ran = first.count("succeeded") + second.count("succeeded");
    assert_eq!(ran - first.count("past_life") - second.count("past_life"), 4 * 22);
}
