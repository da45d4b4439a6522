//! Single decisions, where a whole simulated run would not show what is meant.

use super::*;
use crate::{
    fate::{Done, Ending, Fate},
    lineage::{Bounds, Verified},
    loss::{OnDataLoss, Why},
    progress::{Finished, Run},
    testing::record,
};

/// A scheduler whose only partition begins, and is committed, at 0, and whose only worker runs offset 0.
fn busy(grace: Duration, now: Instant) -> Scheduler {
    let commit_interval = Duration::from_secs(1);
    let mut scheduler = Scheduler::new(Rules::of(1, commit_interval, grace), now);
    let id = AssignmentId(0);
    let source = Arc::new(TopicPartition::new("in", 0));
    let committed = Some(Offset(0));
    let epoch = LeaderEpoch(0);
    let finished = Finished::default();
    let assignment =
        Assignment { id, source, start: Offset(0), committed, finished, end: None, latest: Offset(1), epoch };
    scheduler.assign(TopicId::default(), vec![assignment], [0].into(), now);
    scheduler.handle_fetched(id, vec![record(0, None)], (Offset(1), epoch), Offset(1), now);
    assert!(scheduler.poll_load(now).is_some());
    assert_eq!(scheduler.poll_ask(now).expect("the first, at once").commits[&0].offset, Offset(0));
    scheduler.handle_looked(Vec::new(), &Kept::AllBut([].into()), now);
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
    assert_eq!(scheduler.poll_ask(later).expect("a commit is due").commits[&0].offset, Offset(1));
    let reread = Finding::Reread { partition: 0, life: id, verified: verified(1), held: Some(Offset(1)) };
    scheduler.handle_looked(vec![reread], &Kept::Held, later);
    assert!(scheduler.poll_end(later).is_none(), "nothing is committed yet");
    let later = later + Duration::from_secs(1);
    let ask = scheduler.poll_ask(later).expect("again");
    assert_eq!((ask.commits[&0].offset, ask.reads[&0].verified), (Offset(1), verified(1)));
    scheduler.handle_looked(Vec::new(), &Kept::AllBut([].into()), later);
    let summary = scheduler.poll_end(later).expect("over");
    assert_eq!((summary.committed[&0], summary.forced), (1, false));
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
    assert!(scheduler.poll_ask(later).expect("a look").commits.is_empty());
    let bounds = Bounds { earliest: Offset(0), latest: Offset(9), epoch: LeaderEpoch(2) };
    let cut = Finding::Truncated { partition: 0, life: id, at: Some(Offset(3)), bounds };
    scheduler.handle_looked(vec![cut], &Kept::Held, later);
    let Some(Event::DataLoss(loss)) = scheduler.poll_event() else { panic!("nothing is told") };
    assert_eq!(
        (loss.from, loss.to, loss.why, loss.resumed_at),
        (Offset(3), Some(Offset(5)), Why::Truncated, Some(Offset(3)))
    );
    assert_eq!(scheduler.poll_freed().map(|(_, freed)| freed.records), Some(3), "those that waited above");
    scheduler.poll_begin();
    let begin = scheduler.poll_begin().expect("another life");
    assert_eq!((begin.id, begin.start), (AssignmentId(1), Offset(3)));
    // What an old fetch still brings is of no use.
    scheduler.handle_fetched(id, vec![record(6, None)], (Offset(7), LeaderEpoch(0)), Offset(7), later);
    assert_eq!(scheduler.poll_freed().map(|(_, freed)| freed.records), Some(1));
    end_task(&mut scheduler, id, later);
    let load = scheduler.poll_load(later).expect("more of the old life");
    assert_eq!((load.assignment, load.records[0].offset), (id, Offset(1)));
    let later = later + Duration::from_secs(1);
    assert_eq!(scheduler.poll_ask(later).expect("a commit").commits[&0].offset, Offset(1), "of the old life, still");
}

/// Offsets 0 to `count` of one partition are fetched at once, and 0 runs; the first commit is made.
fn front(workers: usize, count: i64, known: Finished, now: Instant) -> Scheduler {
    let mut scheduler = Scheduler::new(Rules::of(workers, Duration::from_secs(5), Duration::ZERO), now);
    scheduler.rules.span = 1 << 20;
    let (id, epoch, source) = (AssignmentId(0), LeaderEpoch(0), Arc::new(TopicPartition::new("in", 0)));
    let (start, committed, latest) = (Offset(0), Some(Offset(0)), Offset(count));
    let assignment = Assignment { id, source, start, committed, finished: known, end: None, latest, epoch };
    scheduler.assign(TopicId::default(), vec![assignment], [0].into(), now);
    let records = (0..count).map(|offset| record(offset, None)).collect();
    scheduler.handle_fetched(id, records, (latest, epoch), latest, now);
    scheduler.poll_ask(now).expect("the first, at once");
    scheduler.handle_looked(Vec::new(), &Kept::AllBut([].into()), now);
    scheduler
}

/// Ends a task that runs.
fn end(scheduler: &mut Scheduler, offset: i64, now: Instant) {
    let (offset, took, size) = (Offset(offset), Duration::from_secs(1), record(0, None).size());
    let done = Done { offset, size, took, ending: Ending::Succeeded, fate: Fate::Silent };
    scheduler.handle_done(AssignmentId(0), vec![done], now);
}

fn runs(runs: &[(i64, i64)]) -> Finished {
    runs.iter().map(|(first, end)| Run::new(Offset(*first), Offset(*end))).collect()
}

#[test]
fn a_commit_is_hurried_where_much_has_finished_above_the_lowest() {
    let begun = Instant::now();
    let count = i64::try_from(HURRY_AFTER).unwrap() + 1;
    let mut scheduler = front(2000, count, Finished::default(), begun);
    while scheduler.poll_load(begun).is_some() {}
    let now = begun + Duration::from_millis(10);
    for offset in 1..count - 1 {
        end(&mut scheduler, offset, now);
    }
    assert_eq!(scheduler.poll_timeout(), Some(begun + Duration::from_secs(5)), "one too few");
    end(&mut scheduler, count - 1, now);
    assert_eq!(scheduler.poll_timeout(), Some(begun + HURRY));
    let ask = scheduler.poll_ask(begun + HURRY).expect("a commit");
    assert_eq!((ask.commits[&0].offset, &ask.finished[&0]), (Offset(0), &runs(&[(1, count)])));
    // One that failed is not hurried.
    scheduler.handle_unanswered(begun + HURRY);
    assert_eq!(scheduler.poll_timeout(), Some(begun + HURRY + Duration::from_secs(5)));
}

#[test]
fn what_a_commit_has_no_room_for_holds_up_what_lies_above_until_the_lowest_is_finished() {
    let now = Instant::now();
    let mut scheduler = front(2, 9, Finished::default(), now);
    let started = |scheduler: &mut Scheduler| {
        let load = scheduler.poll_load(now)?;
        Some(load.records.iter().map(|record| record.offset.0).collect::<Vec<_>>())
    };
    assert_eq!((started(&mut scheduler), started(&mut scheduler)), (Some(vec![0]), Some(vec![1])));
    end(&mut scheduler, 1, now);
    scheduler.handle_load_ended();
    let later = now + Duration::from_secs(5);
    scheduler.poll_ask(later).expect("a commit");
    scheduler.handle_looked(Vec::new(), &Kept::AllBut([].into()), later);
    scheduler.handle_said(&[(0, Said::Below { reach: Offset(3), dropped: 7 })].into());
    assert_eq!(started(&mut scheduler), Some(vec![2]));
    end(&mut scheduler, 2, now);
    scheduler.handle_load_ended();
    assert_eq!(started(&mut scheduler), None);
    assert_eq!(scheduler.summary(later).progress_dropped, 7);
    end(&mut scheduler, 0, now);
    scheduler.handle_load_ended();
    assert_eq!(started(&mut scheduler), Some(vec![3]));
}

#[test]
fn what_a_commit_said_is_finished_is_passed_and_said_again() {
    let now = Instant::now();
    let mut scheduler = front(9, 5, runs(&[(1, 2), (3, 4), (20, 30)]), now);
    let load = std::iter::from_fn(|| scheduler.poll_load(now)).flat_map(|load| load.records);
    assert_eq!(load.map(|record| record.offset.0).collect::<Vec<_>>(), [0, 2, 4]);
    assert_eq!((scheduler.counters().received, scheduler.counters().already_finished), (3, 2));
    assert_eq!(scheduler.poll_freed().map(|(_, freed)| freed.records), Some(2));
    end(&mut scheduler, 2, now);
    let ask = scheduler.poll_ask(now + Duration::from_secs(5)).expect("a commit");
    assert_eq!((ask.commits[&0].offset, &ask.finished[&0]), (Offset(0), &runs(&[(1, 4), (20, 30)])));
}
