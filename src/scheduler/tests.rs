//! Single decisions, where a whole simulated run would not show what is meant.

use super::*;
use crate::{
    fate::{Done, Ending, Fate},
    lineage::{Bounds, Verified},
    loss::{OnDataLoss, Why},
    testing::record,
};

const TOPIC: TopicIndex = TopicIndex(0);

/// A look at the only topic, and what became of the commit.
fn looked(scheduler: &mut Scheduler, findings: Vec<Finding>, kept: Kept, now: Instant) {
    scheduler.handle_looked(vec![Looked { topic: TOPIC, findings, kept }], now);
}

/// The offset that is to be committed for the only partition.
#[track_caller]
fn to_commit(scheduler: &mut Scheduler, now: Instant) -> Offset {
    scheduler.poll_ask(now).expect("a commit is due").topics[0].commits[&0].offset
}

/// A scheduler whose only partition begins, and is committed, at 0, and whose only worker runs offset 0.
fn busy(grace: Duration, now: Instant) -> Scheduler {
    let commit_interval = Duration::from_secs(1);
    let mut scheduler = Scheduler::new(Rules::of(1, commit_interval, grace), now);
    let id = AssignmentId(0);
    let source = Arc::new(TopicPartition::new("in", 0));
    let committed = Some(Offset(0));
    let epoch = LeaderEpoch(0);
    let assignment = Assignment { source, start: Offset(0), committed, end: None, latest: Offset(1), epoch };
    let (topic, id_of_topic) = ("in".into(), TopicId::default());
    scheduler.assign(vec![Taken { topic, id: id_of_topic, there: [0].into(), assignments: vec![assignment] }], now);
    scheduler.handle_fetched(id, vec![record(0, None)], (Offset(1), epoch), Offset(1), now);
    assert!(scheduler.poll_load(now).is_some());
    assert_eq!(to_commit(&mut scheduler, now), Offset(0));
    looked(&mut scheduler, Vec::new(), Kept::AllBut([].into()), now);
    scheduler
}

#[test]
fn an_end_without_grace_waits_for_nothing_where_all_is_committed() {
    let now = Instant::now();
    let mut scheduler = busy(Duration::ZERO, now);
    scheduler.drain(now);
    assert!(scheduler.poll_ask(now).is_none());
    let summary = scheduler.poll_end(now).expect("over");
    assert!(summary.forced);
    assert_eq!(summary.in_flight_at_exit, 1);
}

/// The task at offset 0 ends, and is finished.
fn end_task(scheduler: &mut Scheduler, id: AssignmentId, now: Instant) {
    let (offset, size, took) = (Offset(0), record(0, None).size(), Duration::ZERO);
    scheduler.handle_done(id, vec![Done { offset, size, took, ending: Ending::Succeeded, fate: Fate::Silent }], now);
    scheduler.handle_load_ended();
}

fn verified(next: i64) -> Verified {
    Verified { next: Offset(next), epoch: LeaderEpoch(2) }
}

#[test]
fn a_leader_that_changes_at_the_end_takes_nothing_from_the_last_commit() {
    let now = Instant::now();
    let mut scheduler = busy(Duration::from_secs(9), now);
    let id = AssignmentId(0);
    scheduler.drain(now);
    end_task(&mut scheduler, id, now);
    let later = now + Duration::from_secs(1);
    assert_eq!(to_commit(&mut scheduler, later), Offset(1));
    let reread = Finding::Reread { partition: 0, life: id, verified: verified(1), held: Some(Offset(1)) };
    looked(&mut scheduler, vec![reread], Kept::Held, later);
    assert!(scheduler.poll_end(later).is_none(), "nothing is committed yet");
    let later = later + Duration::from_secs(1);
    let ask = &scheduler.poll_ask(later).expect("again").topics[0];
    assert_eq!((ask.commits[&0].offset, ask.reads[&0].verified), (Offset(1), verified(1)));
    looked(&mut scheduler, Vec::new(), Kept::AllBut([].into()), later);
    let summary = scheduler.poll_end(later).expect("over");
    assert_eq!((summary.committed.get(&TopicPartition::new("in", 0)), summary.forced), (Some(Offset(1)), false));
}

#[test]
fn what_lies_below_a_cut_goes_on_and_what_lies_above_begins_anew() {
    let now = Instant::now();
    let mut scheduler = busy(Duration::from_secs(9), now);
    scheduler.rules.on_data_loss = OnDataLoss::Earliest;
    let id = AssignmentId(0);
    scheduler.handle_fetched(
        id,
        (1..6).map(|at| record(at, None)).collect(),
        (Offset(6), LeaderEpoch(0)),
        Offset(6),
        now,
    );
    let later = now + Duration::from_secs(2);
    assert!(!scheduler.poll_ask(later).expect("a look").has_commits());
    let bounds = Bounds { earliest: Offset(0), latest: Offset(9), epoch: LeaderEpoch(2) };
    let cut = Finding::Truncated { partition: 0, life: id, at: Some(Offset(3)), bounds };
    looked(&mut scheduler, vec![cut], Kept::Held, later);
    let Some(Event::DataLoss(loss)) = scheduler.poll_event() else { panic!("nothing is told") };
    assert_eq!(
        (loss.from, loss.to, loss.why, loss.resumed_at),
        (Offset(3), Some(Offset(5)), Why::Truncated, Some(Offset(3)))
    );
    assert_eq!(scheduler.poll_freed().map(|(_, freed)| freed.records), Some(3), "those that waited above");
    let begin = scheduler.poll_begin().expect("another life");
    assert_eq!((begin.id, begin.start), (AssignmentId(1), Offset(3)));
    // What an old fetch still brings is of no use.
    scheduler.handle_fetched(id, vec![record(6, None)], (Offset(7), LeaderEpoch(0)), Offset(7), later);
    assert_eq!(scheduler.poll_freed().map(|(_, freed)| freed.records), Some(1));
    end_task(&mut scheduler, id, later);
    let load = scheduler.poll_load(later).expect("more of the old life");
    assert_eq!((load.assignment, load.records[0].offset), (id, Offset(1)));
    let later = later + Duration::from_secs(1);
    assert_eq!(to_commit(&mut scheduler, later), Offset(1), "of the old life, still");
}
