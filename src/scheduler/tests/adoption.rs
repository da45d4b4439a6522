//! What still runs of a partition that goes and comes back.

use super::*;

const SESSION: Duration = Duration::from_secs(45);

/// A [`member`] that adopts: 0 runs, and 1 to 3 wait.
fn adopter(now: Instant) -> Scheduler {
    let mut scheduler = member(now);
    scheduler.rules.adoption = Some(SESSION);
    scheduler
}

/// The partition comes back, with a log up to 4. Gives its new life.
fn comes_back(scheduler: &mut Scheduler, as_it_is: impl FnOnce(&mut Taken), now: Instant) -> AssignmentId {
    let mut back = taken("in");
    back.assignments[0].latest = Offset(4);
    as_it_is(&mut back);
    scheduler.assign(vec![back], now);
    std::iter::from_fn(|| scheduler.poll_begin()).last().expect("another life").id
}

/// All of it is read once more.
fn read_again(scheduler: &mut Scheduler, id: AssignmentId, now: Instant) {
    let records = (0..4).map(|at| record(at, None)).collect();
    scheduler.handle_fetched(id, records, (Offset(4), LeaderEpoch(0)), Offset(4), now);
}

/// A task ends that wants an answer.
fn answers(scheduler: &mut Scheduler, id: AssignmentId, offset: i64, now: Instant) {
    let (offset, size, took) = (Offset(offset), record(offset, None).size(), Duration::from_secs(1));
    let fate = Fate::Write(Step { kind: Kind::Reply, record: outgoing(), then: None, instead: None });
    scheduler.handle_done(id, vec![Done { offset, size, took, ending: Ending::Succeeded, fate }], now);
}

/// The only write is acknowledged. Gives the life that it is of.
#[track_caller]
fn acknowledged(scheduler: &mut Scheduler, now: Instant) -> AssignmentId {
    let write = scheduler.poll_write().expect("an answer");
    assert!(scheduler.poll_write().is_none(), "one answer");
    let id = write.ticket.assignment;
    scheduler.handle_written(Written::Acknowledged(write.ticket), now);
    id
}

/// What is given back, by life.
fn freed_by(scheduler: &mut Scheduler) -> Vec<(u64, usize)> {
    let mut all = BTreeMap::new();
    while let Some((id, freed)) = scheduler.poll_freed() {
        *all.entry(id.0).or_default() += freed.records;
    }
    all.into_iter().collect()
}

#[test]
fn what_still_runs_when_its_partition_comes_back_is_not_run_again_and_answered_for_the_new_life() {
    let now = Instant::now();
    let mut scheduler = adopter(now);
    scheduler.lose(&only(), now);
    assert_eq!((scheduler.counters().past_life, freed_by(&mut scheduler)), (1, vec![(0, 3)]));
    let id = comes_back(&mut scheduler, |_| {}, now);
    assert_eq!((scheduler.counters().past_life, scheduler.counters().adopted), (0, 1));
    read_again(&mut scheduler, id, now);
    // It is in hand: what the second fetch took for it is free at once.
    assert_eq!(freed_by(&mut scheduler), [(1, 1)]);
    assert_eq!((scheduler.counters().received, scheduler.counters().already_finished), (4 + 3, 0));
    assert!(scheduler.poll_load(now).is_none(), "the only worker is busy with it");
    answers(&mut scheduler, AssignmentId(0), 0, now);
    scheduler.handle_load_ended();
    assert_eq!(acknowledged(&mut scheduler, now), id);
    assert_eq!((freed_by(&mut scheduler), scheduler.knows(AssignmentId(0))), (vec![(0, 1)], false));
    assert_eq!(to_commit(&mut scheduler, now), Offset(1));
    let load = scheduler.poll_load(now).expect("the next");
    assert_eq!((load.assignment, load.records[0].offset), (id, Offset(1)));
}

#[test]
fn what_ends_while_its_partition_is_away_is_held_and_answered_when_it_comes_back() {
    let now = Instant::now();
    let mut scheduler = adopter(now);
    scheduler.revoke(&only(), now, now);
    assert!(scheduler.poll_settled(now).is_some(), "what runs is not waited for");
    scheduler.release(&only(), now);
    freed(&mut scheduler);
    let later = now + SESSION / 2;
    answers(&mut scheduler, AssignmentId(0), 0, later);
    scheduler.handle_load_ended();
    assert!(scheduler.poll_write().is_none() && freed(&mut scheduler) == 0, "nobody's, for now");
    let id = comes_back(&mut scheduler, |_| {}, later);
    assert_eq!(acknowledged(&mut scheduler, later), id);
    assert_eq!(freed_by(&mut scheduler), [(0, 1)]);
    read_again(&mut scheduler, id, later);
    assert_eq!(to_commit(&mut scheduler, later), Offset(1));
}

#[test]
fn what_nobody_adopts_in_time_gives_its_room_back_and_is_run_again() {
    let now = Instant::now();
    let mut scheduler = adopter(now);
    scheduler.lose(&only(), now);
    freed(&mut scheduler);
    answers(&mut scheduler, AssignmentId(0), 0, now);
    scheduler.handle_load_ended();
    let late = now + SESSION;
    assert!(scheduler.poll_ask(now + LOOK).is_none(), "there is nothing to commit");
    assert_eq!(scheduler.poll_timeout(), Some(late), "nothing else will happen");
    assert!(scheduler.orphans.next_end() == Some(late) && scheduler.poll_load(late).is_none());
    assert_eq!((freed_by(&mut scheduler), scheduler.orphans.next_end()), (vec![(0, 1)], None));
    let id = comes_back(&mut scheduler, |_| {}, late);
    assert!(scheduler.poll_write().is_none() && scheduler.counters().adopted == 0);
    read_again(&mut scheduler, id, late);
    assert_eq!(scheduler.poll_load(late).expect("again").records[0].offset, Offset(0));
}

#[test]
fn only_what_is_still_to_be_done_in_the_same_log_is_adopted() {
    let now = Instant::now();
    let adopted = |later: Duration, as_it_is: fn(&mut Taken)| {
        let mut scheduler = adopter(now);
        scheduler.lose(&only(), now);
        comes_back(&mut scheduler, as_it_is, now + later);
        scheduler.counters().adopted
    };
    let soon = Duration::from_secs(1);
    assert_eq!(adopted(soon, |_| {}), 1);
    assert_eq!(adopted(SESSION, |_| {}), 0, "too late");
    assert_eq!(adopted(soon, |back| back.id = TopicId(uuid::Uuid::from_u128(7))), 0, "another topic");
    assert_eq!(adopted(soon, |back| back.assignments[0].epoch = LeaderEpoch(1)), 0, "another leader");
    assert_eq!(adopted(soon, |back| back.assignments[0].start = Offset(1)), 0, "committed");
    assert_eq!(adopted(soon, |back| back.assignments[0].finished = runs(&[(0, 1)])), 0, "finished");
    assert_eq!(adopted(soon, |back| back.assignments[0].latest = Offset(0)), 0, "not there");
    assert_eq!(adopted(soon, |back| back.assignments[0].end = Some(Offset(0))), 0, "left to the next run");
    assert_eq!(adopted(soon, |back| back.assignments[0].start = Offset(-100)), 0, "beyond the span");
}

#[test]
fn what_goes_twice_is_adopted_twice_and_has_its_room_where_it_was_fetched() {
    let now = Instant::now();
    let mut scheduler = adopter(now);
    scheduler.lose(&only(), now);
    let second = comes_back(&mut scheduler, |_| {}, now);
    read_again(&mut scheduler, second, now);
    scheduler.lose(&only(), now);
    assert_eq!(freed_by(&mut scheduler), [(0, 3), (1, 4)]);
    let third = comes_back(&mut scheduler, |_| {}, now);
    assert_eq!((scheduler.counters().past_life, scheduler.counters().adopted), (0, 2));
    answers(&mut scheduler, AssignmentId(0), 0, now);
    assert_eq!(acknowledged(&mut scheduler, now), third);
    assert_eq!(freed_by(&mut scheduler), [(0, 1)]);
    assert!(!scheduler.knows(AssignmentId(0)) && !scheduler.knows(second));
}

#[test]
fn what_a_worker_gives_back_runs_in_the_life_that_has_adopted_it() {
    let now = Instant::now();
    let mut scheduler = front(1, 4, Finished::default(), now);
    (scheduler.rules.adoption, scheduler.rules.all_partitions) = (Some(SESSION), false);
    scheduler.task_nanos = 1;
    let load = scheduler.poll_load(now).expect("all of it, to one worker");
    assert_eq!(load.records.len(), 4);
    scheduler.lose(&only(), now);
    // One is given back before the partition comes back: it has not begun, and nobody has to adopt it.
    scheduler.handle_returned(AssignmentId(0), [record(3, None)].into_iter());
    assert_eq!(freed_by(&mut scheduler), [(0, 1)]);
    let id = comes_back(&mut scheduler, |_| {}, now);
    assert_eq!(scheduler.counters().adopted, 3);
    read_again(&mut scheduler, id, now);
    assert_eq!(freed_by(&mut scheduler), [(1, 3)]);
    scheduler.handle_returned(AssignmentId(0), [record(1, None), record(2, None)].into_iter());
    answers(&mut scheduler, AssignmentId(0), 0, now);
    scheduler.handle_load_ended();
    scheduler.task_nanos = 1;
    let load = scheduler.poll_load(now).expect("what was given back, first");
    let offsets: Vec<_> = load.records.iter().map(|record| record.offset.0).collect();
    assert_eq!((load.assignment, &offsets[..2]), (id, &[1, 2][..]));
    answers(&mut scheduler, id, 1, now);
    while let Some(write) = scheduler.poll_write() {
        scheduler.handle_written(Written::Acknowledged(write.ticket), now);
    }
    assert_eq!(freed_by(&mut scheduler), [(0, 2)]);
    // It goes once more, to come back too late: what runs has its room where it was fetched.
    scheduler.lose(&only(), now);
    freed(&mut scheduler);
    scheduler.expire_orphans(now + SESSION);
    answers(&mut scheduler, id, 2, now + SESSION);
    assert_eq!((freed_by(&mut scheduler), scheduler.knows(AssignmentId(0))), (vec![(0, 1)], false));
}

#[test]
fn what_nobody_has_adopted_holds_up_no_end_and_what_was_adopted_does() {
    let now = Instant::now();
    let mut scheduler = adopter(now);
    scheduler.lose(&only(), now);
    scheduler.drain(now);
    assert!(scheduler.poll_end(now).is_some_and(|summary| !summary.forced));

    let mut scheduler = adopter(now);
    scheduler.lose(&only(), now);
    let id = comes_back(&mut scheduler, |_| {}, now);
    assert_eq!(to_commit(&mut scheduler, now), Offset(0));
    looked(&mut scheduler, Vec::new(), Kept::AllBut([].into()), now);
    scheduler.drain(now);
    assert!(scheduler.poll_end(now).is_none(), "it runs");
    answers(&mut scheduler, AssignmentId(0), 0, now);
    assert_eq!(acknowledged(&mut scheduler, now), id);
    // Nothing was read again, so that the commit can only say that it is finished.
    let ask = scheduler.poll_ask(now + DRAIN_COMMIT_INTERVAL).expect("the last commit");
    assert_eq!((ask.topics[0].commits[&0].offset, &ask.topics[0].finished[&0]), (Offset(0), &runs(&[(0, 1)])));
}

#[test]
fn a_run_to_the_end_does_not_end_because_all_of_it_is_dealt_anew() {
    let now = Instant::now();
    let mut scheduler = adopter(now);
    scheduler.rules.until_end = true;
    scheduler.lose(&only(), now);
    assert!(scheduler.running(), "the group is not at rest");
    scheduler.assign(vec![taken("in"), taken("also")], now);
    let also = [TopicPartition::new("also", 0)];
    scheduler.lose(&only(), now);
    assert!(scheduler.running(), "the other is to be worked off");
    scheduler.lose(&also, now);
    scheduler.handle_nothing(now);
    assert!(!scheduler.running());
}
