//! Single decisions, where a whole simulated run would not show what is meant.

use super::*;
use crate::testing::record;

/// A scheduler whose only partition begins, and is committed, at 0, and whose only worker runs offset 0.
fn busy(grace: Duration, now: Instant) -> Scheduler {
    let commit_interval = Duration::from_secs(1);
    let mut scheduler = Scheduler::new(Rules::of(1, commit_interval, grace), now);
    let id = AssignmentId(0);
    let source = Arc::new(TopicPartition::new("in", 0));
    let committed = Some(Offset(0));
    let epoch = LeaderEpoch(0);
    let assignment = Assignment { id, source, start: Offset(0), committed, end: None, latest: Offset(1), epoch };
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
