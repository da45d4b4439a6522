//! Single decisions, where a whole simulated run would not show what is meant.

mod adoption;

use super::*;
use crate::{
    fate::{Done, Ending, Fate, Kind},
    lineage::{Bounds, Verified},
    loss::{OnDataLoss, Why},
    progress::{Finished, Notes, Run},
    record::Outgoing,
    testing::record,
};

const TOPIC: TopicIndex = TopicIndex(0);

/// A look at the only topic, and what became of the commit.
fn looked(scheduler: &mut Scheduler, findings: Vec<Finding>, kept: Kept, now: Instant) {
    scheduler.handle_looked(vec![Looked { topic: TOPIC, findings, kept, said: BTreeMap::new() }], now);
}

/// The offset that is to be committed for the only partition.
#[track_caller]
fn to_commit(scheduler: &mut Scheduler, now: Instant) -> Offset {
    scheduler.poll_ask(now).expect("a commit is due").topics[0].commits[&0].offset
}

/// What is ours of a topic: partition 0, of which 0 is committed, and which the log holds up to 1.
fn taken(topic: &str) -> Taken {
    let source = Arc::new(TopicPartition::new(topic, 0));
    let (start, committed, latest, epoch) = (Offset(0), Some(Offset(0)), Offset(1), LeaderEpoch(0));
    let (finished, notes) = (Finished::default(), Notes::default());
    let assignment = Assignment { source, start, committed, finished, notes, end: None, latest, epoch };
    let (topic, id) = (topic.into(), TopicId::default());
    Taken { topic, id, there: [0].into(), assignments: vec![assignment] }
}

/// A scheduler whose only partition begins, and is committed, at 0, and whose only worker runs offset 0.
fn busy(grace: Duration, now: Instant) -> Scheduler {
    let commit_interval = Duration::from_secs(1);
    let mut scheduler = Scheduler::new(Rules::of(1, commit_interval, grace), now);
    let (id, epoch) = (AssignmentId(0), LeaderEpoch(0));
    scheduler.assign(vec![taken("in")], now);
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
    assert_eq!(summary.unfinished.iter().map(ToString::to_string).collect::<Vec<_>>(), ["in-0 at 0"]);
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

/// The only partition.
fn only() -> [TopicPartition; 1] {
    [TopicPartition::new("in", 0)]
}

/// The lives that are to be read no more.
fn over(scheduler: &mut Scheduler) -> Vec<AssignmentId> {
    std::iter::from_fn(|| scheduler.poll_over()).collect()
}

/// How many records were freed.
fn freed(scheduler: &mut Scheduler) -> usize {
    std::iter::from_fn(|| scheduler.poll_freed()).map(|(_, freed)| freed.records).sum()
}

/// A scheduler of a group, of which 3 records wait in the only partition, behind one that runs.
fn member(now: Instant) -> Scheduler {
    let mut scheduler = busy(Duration::from_secs(9), now);
    scheduler.rules.all_partitions = false;
    scheduler.poll_begin().expect("the first life");
    let more = (1..4).map(|at| record(at, None)).collect();
    scheduler.handle_fetched(AssignmentId(0), more, (Offset(4), LeaderEpoch(0)), Offset(4), now);
    scheduler
}

#[test]
fn a_partition_that_is_revoked_starts_nothing_and_goes_once_what_runs_is_committed() {
    let now = Instant::now();
    let mut scheduler = member(now);
    let id = AssignmentId(0);
    assert_eq!(scheduler.revoke(&only(), now + Duration::from_secs(3600), now), []);
    assert_eq!((over(&mut scheduler), freed(&mut scheduler)), (vec![id], 3));
    assert!(!scheduler.reads_on(id) && scheduler.poll_settled(now).is_none(), "one runs");
    // What a fetch still brings is of no use.
    scheduler.handle_fetched(id, vec![record(4, None)], (Offset(5), LeaderEpoch(0)), Offset(5), now);
    assert_eq!(freed(&mut scheduler), 1);
    end_task(&mut scheduler, id, now);
    assert!(scheduler.poll_load(now).is_none() && scheduler.poll_settled(now).is_none(), "nothing of it is committed");
    // The interval is a second.
    let soon = now + DRAIN_COMMIT_INTERVAL;
    assert!(scheduler.poll_timeout().is_some_and(|at| at <= soon));
    assert_eq!(to_commit(&mut scheduler, soon), Offset(1));
    assert!(scheduler.poll_settled(now).is_none(), "it is not acknowledged");
    looked(&mut scheduler, Vec::new(), Kept::AllBut([].into()), soon);
    assert_eq!(scheduler.poll_settled(now).as_deref(), Some(&only()[0]));
    assert!(scheduler.poll_settled(now).is_none(), "told once");
    scheduler.release(&only(), soon);
    assert_eq!((scheduler.partitions(), scheduler.knows(id)), (0, false));
    assert!(scheduler.poll_ask(soon + LOOK).is_none(), "there is nothing to look at");
    // Its last commit is told of at the end.
    scheduler.drain(soon);
    let summary = scheduler.poll_end(soon).expect("over");
    assert_eq!(summary.committed.get(&only()[0]), Some(Offset(1)));
}

#[test]
fn what_still_runs_when_the_time_is_over_is_not_waited_for_but_what_is_being_written_is() {
    let now = Instant::now();
    let mut scheduler = member(now);
    let until = now + Duration::from_secs(5);
    assert_eq!(scheduler.revoke(&only(), until, now), []);
    assert!(scheduler.poll_settled(now).is_none(), "one runs");
    assert!(scheduler.poll_timeout().is_some_and(|at| at <= until));
    let record = Outgoing { key: None, value: None, headers: Vec::new().into() };
    let step = Step { kind: Kind::Reply, record, then: None, instead: None };
    scheduler.write(AssignmentId(0), Offset(0), 0, step, now);
    let write = scheduler.poll_write().expect("it is to be written");
    assert!(scheduler.poll_settled(until).is_none(), "it may be there already");
    scheduler.handle_written(Written::Acknowledged(write.ticket), until);
    assert_eq!(to_commit(&mut scheduler, until), Offset(1));
    looked(&mut scheduler, Vec::new(), Kept::AllBut([].into()), until);
    assert_eq!(scheduler.poll_settled(until).as_deref(), Some(&only()[0]));

    let mut scheduler = member(now);
    assert_eq!(scheduler.revoke(&only(), until, now), []);
    assert_eq!(scheduler.poll_settled(until).as_deref(), Some(&only()[0]), "all that is finished is committed");
}

#[test]
fn only_what_was_revoked_is_released() {
    let now = Instant::now();
    let mut scheduler = member(now);
    scheduler.release(&only(), now);
    assert_eq!(scheduler.partitions(), 1);
    let strange = [TopicPartition::new("in", 7), TopicPartition::new("out", 0)];
    assert_eq!(scheduler.revoke(&strange, now, now), strange);
    assert!(scheduler.poll_settled(now).is_none(), "they were never ours");
}

#[test]
fn what_runs_of_a_partition_that_is_lost_comes_to_nothing_although_it_comes_back() {
    let now = Instant::now();
    let mut scheduler = member(now);
    let (past, id) = (AssignmentId(0), AssignmentId(1));
    // A commit of the past is on its way.
    let later = now + Duration::from_secs(1);
    end_task(&mut scheduler, past, now);
    assert!(scheduler.poll_load(later).is_some_and(|load| load.records[0].offset == Offset(1)));
    assert_eq!(to_commit(&mut scheduler, later), Offset(1));
    scheduler.lose(&only(), later);
    assert_eq!((over(&mut scheduler), scheduler.partitions()), (vec![past], 0));
    assert_eq!(freed(&mut scheduler), 1 + 2, "what was finished, and what waited");
    // It comes back, as somebody else left it.
    scheduler.assign(vec![taken("in")], later);
    assert_eq!(scheduler.poll_begin().map(|begin| begin.id), Some(id));
    let acknowledged =
        Looked { topic: TopicIndex(0), findings: Vec::new(), kept: Kept::AllBut([].into()), said: BTreeMap::new() };
    scheduler.handle_looked(vec![acknowledged], later);
    let offset = Offset(1);
    let (ending, size, took) = (Ending::Succeeded, record(1, None).size(), Duration::ZERO);
    let step = Step { kind: Kind::Reply, record: outgoing(), then: None, instead: None };
    scheduler.handle_done(past, vec![Done { offset, size, took, ending, fate: Fate::Write(step) }], later);
    scheduler.handle_load_ended();
    assert!(scheduler.poll_write().is_none(), "a ghost is not answered");
    assert_eq!((freed(&mut scheduler), scheduler.knows(past)), (1, false));
    // Its first commit is due at once, whatever was acknowledged of the past.
    assert_eq!(to_commit(&mut scheduler, later), Offset(0));
    assert_eq!(scheduler.counters().past_life, 1);
}

#[test]
fn an_answer_that_waits_to_be_sent_is_not_sent_once_its_partition_is_lost() {
    let now = Instant::now();
    let mut scheduler = member(now);
    let (offset, size, took) = (Offset(0), record(0, None).size(), Duration::ZERO);
    let step = || Step { kind: Kind::Reply, record: outgoing(), then: None, instead: None };
    let done = |fate| vec![Done { offset, size, took, ending: Ending::Succeeded, fate }];
    scheduler.handle_done(AssignmentId(0), done(Fate::Write(step())), now);
    scheduler.handle_load_ended();
    scheduler.lose(&only(), now);
    assert!(scheduler.poll_write().is_none());
    assert_eq!(freed(&mut scheduler), 4);
    assert!(!scheduler.knows(AssignmentId(0)));
}

#[test]
fn a_topic_that_is_assigned_under_another_id_is_told_of_and_gone_on_with() {
    let now = Instant::now();
    let mut scheduler = member(now);
    scheduler.rules.on_data_loss = OnDataLoss::Earliest;
    let is = TopicId(uuid::Uuid::from_u128(7));
    let of = |partition| Arc::new(TopicPartition::new("in", partition));
    let mut anew = Taken { id: is, there: [0, 1].into(), ..taken("in") };
    anew.assignments[0].source = of(1);
    scheduler.assign(vec![anew], now);
    let Some(Event::DataLoss(loss)) = scheduler.poll_event() else { panic!("nothing is told") };
    assert_eq!((loss.why, &loss.source, loss.new_topic_id), (Why::Recreated, &of(0), Some(is)));
    assert_eq!(scheduler.poll_begin().map(|begin| (begin.source, begin.topic_id)), Some((of(1), is)));
    // The other one is still ours, and begins once it is known what the topic holds.
    let ask = &scheduler.poll_ask(now).expect("a first commit").topics[0];
    assert_eq!((ask.id, &ask.newcomers), (is, &Newcomers::Only([0].into())));
    let (topic, bounds) = (ask.topic, Bounds { earliest: Offset(0), latest: Offset(9), epoch: LeaderEpoch(0) });
    let findings = vec![Finding::Added { partition: 0, bounds }];
    scheduler
        .handle_looked(vec![Looked { topic, findings, kept: Kept::AllBut([].into()), said: BTreeMap::new() }], now);
    assert_eq!(scheduler.poll_begin().map(|begin| (begin.source, begin.start)), Some((of(0), Offset(0))));
    assert_eq!(scheduler.partitions(), 2);
}

#[test]
fn a_partition_that_is_found_when_it_was_lost_meanwhile_is_not_ours() {
    let now = Instant::now();
    let mut scheduler = member(now);
    scheduler.rules.on_data_loss = OnDataLoss::Earliest;
    let mut anew = Taken { id: TopicId(uuid::Uuid::from_u128(7)), there: [0, 1].into(), ..taken("in") };
    anew.assignments[0].source = Arc::new(TopicPartition::new("in", 1));
    scheduler.assign(vec![anew], now);
    assert!(scheduler.poll_ask(now).is_some_and(|ask| ask.topics[0].newcomers == Newcomers::Only([0].into())));
    scheduler.lose(&only(), now);
    let bounds = Bounds { earliest: Offset(0), latest: Offset(9), epoch: LeaderEpoch(0) };
    looked(&mut scheduler, vec![Finding::Added { partition: 0, bounds }], Kept::AllBut([].into()), now);
    assert_eq!(scheduler.partitions(), 1);
}

#[test]
fn what_befalls_one_topic_leaves_the_others_their_grace_and_their_last_commit() {
    let now = Instant::now();
    let mut scheduler = busy(Duration::from_secs(9), now);
    scheduler.assign(vec![taken("also")], now);
    looked_at_all(&mut scheduler, now, |_| (Vec::new(), Kept::AllBut([].into())));
    let later = now + LOOK;
    let recreated = Finding::Recreated { was: TopicId::default(), now: TopicId(uuid::Uuid::max()), bounds: [].into() };
    looked_at_all(&mut scheduler, later, |name| match name {
        "also" => (vec![recreated.clone()], Kept::Held),
        _ => (Vec::new(), Kept::Held),
    });
    assert!(!scheduler.running() && scheduler.poll_end(later).is_none(), "a task of the other topic runs");
    end_task(&mut scheduler, AssignmentId(0), later);
    let ask = scheduler.poll_ask(later).expect("the last commit, at once");
    assert_eq!(ask.topics.iter().map(|topic| (&*topic.name, topic.commits.len())).collect::<Vec<_>>(), [("in", 1)]);
    looked(&mut scheduler, Vec::new(), Kept::AllBut([].into()), later);
    let summary = scheduler.poll_end(later).expect("over");
    assert!(matches!(summary.error, Some(RunError::DataLoss { .. })) && !summary.forced, "{summary:?}");
    assert_eq!(summary.committed.get(&only()[0]), Some(Offset(1)));
}

/// A look at all topics, with what it finds of each.
fn looked_at_all(scheduler: &mut Scheduler, now: Instant, of: impl Fn(&str) -> (Vec<Finding>, Kept)) {
    let topics = scheduler.poll_ask(now).expect("an ask is due").topics;
    let looked = topics.into_iter().map(|ask| {
        let (findings, kept) = of(&ask.name);
        Looked { topic: ask.topic, findings, kept, said: BTreeMap::new() }
    });
    scheduler.handle_looked(looked.collect(), now);
}

fn outgoing() -> Outgoing {
    Outgoing { key: None, value: None, headers: Vec::new().into() }
}

/// Offsets 0 to `count` of one partition are fetched at once, and 0 runs; the first commit is made.
fn front(workers: usize, count: i64, known: Finished, now: Instant) -> Scheduler {
    let mut scheduler = Scheduler::new(Rules::of(workers, Duration::from_secs(5), Duration::ZERO), now);
    scheduler.rules.span = 1 << 20;
    let (id, epoch, latest) = (AssignmentId(0), LeaderEpoch(0), Offset(count));
    let mut taken = taken("in");
    taken.assignments[0].finished = known;
    taken.assignments[0].latest = latest;
    scheduler.assign(vec![taken], now);
    let records = (0..count).map(|offset| record(offset, None)).collect();
    scheduler.handle_fetched(id, records, (latest, epoch), latest, now);
    scheduler.poll_ask(now).expect("the first, at once");
    looked(&mut scheduler, Vec::new(), Kept::AllBut([].into()), now);
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
    assert_eq!((ask.topics[0].commits[&0].offset, &ask.topics[0].finished[&0]), (Offset(0), &runs(&[(1, count)])));
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
    let said = [(0, Said::Below { reach: Offset(3), dropped: 7 })].into();
    let kept = Kept::AllBut([].into());
    scheduler.handle_looked(vec![Looked { topic: TOPIC, findings: Vec::new(), kept, said }], later);
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
    assert_eq!(
        (ask.topics[0].commits[&0].offset, &ask.topics[0].finished[&0]),
        (Offset(0), &runs(&[(1, 4), (20, 30)]))
    );
}

#[test]
fn how_often_a_task_has_failed_goes_with_the_commit_and_comes_back() {
    let now = Instant::now();
    let retries = Retries { most: 5, ..Retries::NONE };
    let rules = || Rules { retries, ..Rules::of(1, Duration::ZERO, Duration::ZERO) };
    let begin = |notes: Notes| {
        let mut scheduler = Scheduler::new(rules(), now);
        let mut taken = taken("in");
        taken.assignments[0].notes = notes;
        scheduler.assign(vec![taken], now);
        let id = scheduler.poll_begin().expect("it is ours").id;
        scheduler.handle_fetched(id, vec![record(0, Some(b"{}"))], (Offset(1), LeaderEpoch(0)), Offset(1), now);
        scheduler
    };
    let mut first = begin(Notes::default());
    let load = first.poll_load(now).expect("it waits");
    let record = load.records[0].clone();
    let (offset, size, ending) = (record.offset, record.size(), Ending::Failed(Failure::new("no")));
    let fate = Fate::Failed(Box::new(record));
    first.handle_done(load.assignment, vec![Done { offset, size, took: Duration::ZERO, ending, fate }], now);
    first.handle_load_ended();
    let notes = first.poll_ask(now).expect("a commit is due").topics[0].notes[&0].clone();
    assert_eq!(notes.attempts, [(Offset(0), 1)].into());
    let mut second = begin(notes);
    assert_eq!(second.poll_load(now).expect("it waits").records[0].attempt, 2);
}
