//! A member of a classic group, step by step.

mod leading;

use std::time::Duration;

use crate::membership::{
    Assignor, Change, Fatal, GroupProtocol, Loss, Settings, Ticket,
    exchange::{Answer, Beat, ByName, Join, Joined, Refusal, Request, Subscription, Sync},
    tests::{Driver, SECOND, by_name, names, settings, t},
};

const INTERVAL: Duration = Duration::from_secs(3);

fn classic(assignors: &[Assignor]) -> Settings {
    Settings { assignors: assignors.to_vec(), ..settings(GroupProtocol::Classic) }
}

impl Driver {
    #[track_caller]
    fn joins(&mut self) -> (Ticket, Join) {
        let (ticket, request) = self.request();
        let Request::Join(join) = request else { panic!("{request:?}") };
        (ticket, join)
    }

    #[track_caller]
    fn syncs(&mut self) -> (Ticket, Sync) {
        let (ticket, request) = self.request();
        let Request::Sync(sync) = request else { panic!("{request:?}") };
        (ticket, sync)
    }

    #[track_caller]
    fn beats(&mut self) -> (Ticket, Beat) {
        self.wait(INTERVAL);
        let (ticket, request) = self.request();
        let Request::Beat(beat) = request else { panic!("{request:?}") };
        (ticket, beat)
    }

    /// JoinGroup is answered: somebody else leads.
    fn follows(&mut self, ticket: Ticket, generation: i32) {
        let protocol = "range".into();
        let joined = Joined {
            generation,
            member: "m".into(),
            leader: "l".into(),
            protocol,
            skip_assignment: false,
            members: vec![],
        };
        self.answer(ticket, Answer::Joined(joined));
    }

    /// SyncGroup is answered, and so is the first heartbeat.
    #[track_caller]
    fn synced(&mut self, ticket: Ticket, assignment: ByName) {
        self.answer(ticket, Answer::Synced { protocol: None, assignment });
        let (ticket, request) = self.request();
        assert!(matches!(request, Request::Beat(_)), "{request:?}");
        self.answer(ticket, Answer::Beaten);
    }

    /// It is in the group, with generation 1 and `assignment`.
    fn inside(assignors: &[Assignor], assignment: &ByName) -> Self {
        let mut driver = Self::new(classic(assignors));
        let (ticket, _) = driver.joins();
        driver.follows(ticket, 1);
        let (ticket, _) = driver.syncs();
        driver.synced(ticket, assignment.clone());
        let epoch = driver.epoch("m", 1);
        let assigned = Change::Assigned { partitions: assignment.clone(), epoch: epoch.clone() };
        assert_eq!(driver.changes(), [Change::Epoch(epoch), assigned]);
        driver
    }

    /// The next heartbeat is told that the group rebalances.
    fn rebalances(&mut self) {
        let (ticket, _) = self.beats();
        self.refuse(ticket, Refusal::Rebalancing);
    }
}

const EAGER: [Assignor; 2] = [Assignor::Range, Assignor::CooperativeSticky];
const COOPERATIVE: [Assignor; 1] = [Assignor::CooperativeSticky];

#[test]
fn an_id_that_is_asked_for_is_used_at_once() {
    let mut driver = Driver::new(classic(&EAGER));
    let (ticket, join) = driver.joins();
    assert_eq!(&*join.member, "");
    let offered: Vec<_> = join.protocols.iter().map(|(name, _)| *name).collect();
    assert_eq!(offered, ["range", "cooperative-sticky"], "in this order");
    driver.refuse(ticket, Refusal::MemberIdRequired("m".into()));
    let (_, join) = driver.joins();
    assert_eq!(&*join.member, "m");
    assert_eq!(driver.it.epoch(), None);
}

#[test]
fn a_subscription_says_what_a_java_leader_wants_to_know() {
    let mut driver = Driver::inside(&COOPERATIVE, &t(&[2, 3]));
    driver.rebalances();
    let (_, join) = driver.joins();
    let (_, subscription) = &join.protocols[0];
    let expected = Subscription {
        topics: names(&["t"]),
        user_data: vec![0, 0, 0, 1],
        owned: t(&[2, 3]),
        generation: 1,
        rack: None,
    };
    assert_eq!(subscription, &expected);
}

#[test]
fn an_eager_member_gives_all_up_and_beats_on_before_it_joins() {
    let mut driver = Driver::inside(&EAGER, &t(&[0, 1]));
    driver.rebalances();
    assert_eq!(driver.changes(), [Change::Revoked { partitions: t(&[0, 1]) }]);
    driver.silent();
    let (ticket, beat) = driver.beats();
    assert_eq!(beat.generation, 1, "what is released is committed under it");
    driver.refuse(ticket, Refusal::Rebalancing);
    driver.it.released(&t(&[0]), driver.now);
    driver.silent();
    driver.it.released(&t(&[1]), driver.now);
    let (_, join) = driver.joins();
    assert_eq!(join.protocols[0].1.owned, ByName::new());
}

#[test]
fn an_eager_member_that_gives_up_too_late_has_lost_all() {
    let mut driver = Driver::inside(&EAGER, &t(&[0, 1]));
    let rest = driver.now;
    driver.rebalances();
    driver.changes();
    while driver.it.acknowledged_at().is_some() {
        driver.wait(INTERVAL);
        if let Some((ticket, Request::Beat(_))) = driver.it.poll_request(driver.now) {
            driver.refuse(ticket, Refusal::Rebalancing);
        }
    }
    assert_eq!(driver.now - rest, Duration::from_secs(300));
    assert_eq!(driver.changes(), [Change::Lost { partitions: t(&[0, 1]), why: Loss::TooLate }]);
}

#[test]
fn a_cooperative_member_keeps_what_it_has_and_gives_up_only_what_is_taken() {
    let mut driver = Driver::inside(&COOPERATIVE, &t(&[0, 1]));
    driver.rebalances();
    assert_eq!(driver.changes(), []);
    let (ticket, _) = driver.joins();
    driver.follows(ticket, 2);
    let (ticket, _) = driver.syncs();
    driver.synced(ticket, t(&[0, 2]));
    let epoch = driver.epoch("m", 2);
    let assigned = Change::Assigned { partitions: t(&[2]), epoch: epoch.clone() };
    assert_eq!(driver.changes(), [Change::Epoch(epoch), Change::Revoked { partitions: t(&[1]) }, assigned]);
    driver.silent();
    driver.it.released(&t(&[1]), driver.now);
    let (_, join) = driver.joins();
    assert_eq!(join.protocols[0].1.owned, t(&[0, 2]), "so that others are given what was given up");
}

#[test]
fn a_rebalance_does_not_wait_for_what_a_cooperative_member_is_giving_up() {
    let mut driver = Driver::inside(&COOPERATIVE, &t(&[0, 1]));
    driver.rebalances();
    let (ticket, _) = driver.joins();
    driver.follows(ticket, 2);
    let (ticket, _) = driver.syncs();
    driver.synced(ticket, t(&[0]));
    driver.rebalances();
    let (ticket, join) = driver.joins();
    assert_eq!(join.protocols[0].1.owned, t(&[0, 1]), "1 is not given up yet");
    driver.follows(ticket, 3);
    driver.it.released(&t(&[1]), driver.now);
    let (ticket, _) = driver.syncs();
    driver.synced(ticket, t(&[0]));
    // The leader has withheld 1 from the others.
    let (_, join) = driver.joins();
    assert_eq!(join.protocols[0].1.owned, t(&[0]));
}

#[test]
fn what_comes_back_while_it_leaves_is_assigned_once_it_was_released() {
    let mut driver = Driver::inside(&COOPERATIVE, &t(&[0, 1]));
    for (generation, assignment) in [(2, t(&[0])), (3, t(&[0, 1]))] {
        driver.rebalances();
        let (ticket, _) = driver.joins();
        driver.follows(ticket, generation);
        let (ticket, _) = driver.syncs();
        driver.synced(ticket, assignment);
    }
    let changes = driver.changes();
    assert!(changes.contains(&Change::Revoked { partitions: t(&[1]) }));
    assert!(!changes.iter().any(|change| matches!(change, Change::Assigned { .. })), "{changes:?}");
    driver.it.released(&t(&[1]), driver.now);
    let epoch = driver.epoch("m", 3);
    assert_eq!(driver.changes(), [Change::Assigned { partitions: t(&[1]), epoch }]);
    driver.silent();
}

#[test]
fn heartbeats_go_on_while_a_join_waits_for_others_where_something_is_held() {
    let mut driver = Driver::inside(&COOPERATIVE, &t(&[0]));
    driver.rebalances();
    let (join, _) = driver.joins();
    for _ in 0..60 {
        let (ticket, _) = driver.beats();
        driver.refuse(ticket, Refusal::Rebalancing);
    }
    assert_eq!(driver.changes(), [], "three minutes later");
    // The group is complete, and the heartbeat comes too late for its generation, but before the answer.
    let (ticket, _) = driver.beats();
    driver.follows(join, 2);
    driver.refuse(ticket, Refusal::IllegalGeneration);
    assert_eq!(driver.changes(), [Change::Epoch(driver.epoch("m", 2))]);
    driver.syncs();
}

#[test]
fn a_generation_that_is_over_is_no_news_where_the_answer_to_a_join_was_lost() {
    let mut driver = Driver::inside(&COOPERATIVE, &t(&[0]));
    driver.rebalances();
    let (ticket, _) = driver.joins();
    let (beat, _) = driver.beats();
    driver.refuse(ticket, Refusal::Passing("the answer is lost".into()));
    driver.refuse(beat, Refusal::IllegalGeneration);
    assert_eq!(driver.changes(), []);
    driver.wait(SECOND);
    let (_, join) = driver.joins();
    assert_eq!(join.protocols[0].1.owned, t(&[0]));
}

#[test]
fn a_first_join_may_take_longer_than_a_session() {
    let mut driver = Driver::new(classic(&EAGER));
    let (ticket, _) = driver.joins();
    assert_eq!(driver.it.poll_timeout(), None, "nothing is due while it waits");
    driver.now += 200 * SECOND;
    driver.follows(ticket, 1);
    let (ticket, _) = driver.syncs();
    driver.synced(ticket, t(&[0]));
    assert_eq!(driver.it.held(), &t(&[0]));
}

#[test]
fn an_assignment_that_comes_a_session_late_is_not_believed() {
    let mut driver = Driver::new(classic(&EAGER));
    let (ticket, _) = driver.joins();
    driver.follows(ticket, 1);
    let (ticket, _) = driver.syncs();
    let (beat, _) = driver.beats();
    driver.answer(beat, Answer::Beaten);
    driver.now += 45 * SECOND;
    driver.answer(ticket, Answer::Synced { protocol: None, assignment: t(&[0]) });
    assert_eq!(driver.it.held(), &ByName::new());
    let (_, join) = driver.joins();
    assert_eq!(&*join.member, "m", "its id may still be good");
}

#[test]
fn nothing_is_taken_before_a_heartbeat_is_acknowledged() {
    let mut driver = Driver::new(classic(&EAGER));
    let (ticket, _) = driver.joins();
    driver.follows(ticket, 1);
    let (ticket, _) = driver.syncs();
    let (beat, _) = driver.beats();
    driver.answer(ticket, Answer::Synced { protocol: None, assignment: t(&[0]) });
    driver.refuse(beat, Refusal::Passing("gone".into()));
    assert_eq!(driver.it.held(), &ByName::new());
    assert_eq!(driver.wait(SECOND), Duration::from_millis(100));
    let (beat, _) = driver.beats();
    driver.answer(beat, Answer::Beaten);
    assert_eq!((driver.it.held(), driver.it.acknowledged_at()), (&t(&[0]), Some(driver.now)));
}

#[test]
fn an_assignment_that_is_over_before_it_began_is_not_taken() {
    let mut driver = Driver::new(classic(&EAGER));
    let (ticket, _) = driver.joins();
    driver.follows(ticket, 1);
    let (ticket, _) = driver.syncs();
    let (beat, _) = driver.beats();
    driver.answer(ticket, Answer::Synced { protocol: None, assignment: t(&[0]) });
    driver.refuse(beat, Refusal::Rebalancing);
    assert_eq!(driver.it.held(), &ByName::new());
    driver.joins();
}

#[test]
fn a_session_is_counted_from_when_the_heartbeat_was_sent() {
    let mut driver = Driver::inside(&EAGER, &t(&[0]));
    let (ticket, _) = driver.beats();
    let sent = driver.now;
    driver.now += 2 * SECOND;
    driver.answer(ticket, Answer::Beaten);
    assert_eq!(driver.it.acknowledged_at(), Some(sent));
    let (_, _) = driver.beats();
    driver.wait(45 * SECOND);
    assert_eq!(driver.now, sent + 45 * SECOND, "the next one is never answered");
    let (_, join) = driver.joins();
    assert_eq!(join.protocols[0].1.generation, -1);
    assert_eq!(driver.changes(), [Change::Lost { partitions: t(&[0]), why: Loss::Session }]);
    assert_eq!((driver.it.epoch(), driver.it.acknowledged_at()), (None, None));
}

#[test]
fn a_process_that_stood_still_has_lost_all_before_it_does_anything() {
    let mut driver = Driver::inside(&COOPERATIVE, &t(&[0]));
    let (beat, _) = driver.beats();
    driver.now += 60 * SECOND;
    driver.answer(beat, Answer::Beaten);
    let (_, join) = driver.joins();
    assert_eq!(join.protocols[0].1.owned, ByName::new());
    assert_eq!(driver.changes(), [Change::Lost { partitions: t(&[0]), why: Loss::Session }]);
}

#[test]
fn an_unknown_member_joins_as_a_new_one() {
    let mut driver = Driver::inside(&EAGER, &t(&[0]));
    let (ticket, _) = driver.beats();
    driver.refuse(ticket, Refusal::UnknownMember);
    assert_eq!(driver.changes(), [Change::Lost { partitions: t(&[0]), why: Loss::Unknown }]);
    let (ticket, join) = driver.joins();
    assert_eq!(&*join.member, "");
    driver.refuse(ticket, Refusal::UnknownMember);
    driver.silent();
    driver.wait(SECOND);
    driver.joins();
}

#[test]
fn a_generation_that_is_over_loses_all_but_the_id() {
    let mut driver = Driver::inside(&EAGER, &t(&[0]));
    let (ticket, _) = driver.beats();
    driver.refuse(ticket, Refusal::IllegalGeneration);
    assert_eq!(driver.changes(), [Change::Lost { partitions: t(&[0]), why: Loss::Fenced }]);
    assert_eq!(&*driver.joins().1.member, "m");
}

#[test]
fn a_fenced_instance_is_fatal() {
    let mut driver = Driver::inside(&EAGER, &t(&[0]));
    let (ticket, _) = driver.beats();
    driver.refuse(ticket, Refusal::FencedInstance);
    let changes = driver.changes();
    let [Change::Lost { .. }, Change::Fatal(Fatal::FencedInstance(_))] = &changes[..] else { panic!("{changes:?}") };
}

#[test]
fn a_coordinator_that_moves_costs_nothing() {
    let mut driver = Driver::inside(&EAGER, &t(&[0]));
    let (ticket, _) = driver.beats();
    driver.refuse(ticket, Refusal::Passing("not the coordinator".into()));
    assert_eq!(driver.wait(SECOND), Duration::from_millis(100));
    let (ticket, _) = driver.beats();
    driver.answer(ticket, Answer::Beaten);
    assert_eq!(driver.changes(), []);
}

#[test]
fn a_sync_that_comes_to_nothing_is_followed_by_a_join() {
    for refusal in [Refusal::Rebalancing, Refusal::Passing("gone".into())] {
        let mut driver = Driver::inside(&COOPERATIVE, &t(&[0]));
        driver.rebalances();
        let (ticket, _) = driver.joins();
        driver.follows(ticket, 2);
        let (ticket, _) = driver.syncs();
        let (beat, _) = driver.beats();
        driver.answer(beat, Answer::Beaten);
        driver.refuse(ticket, refusal);
        driver.wait(SECOND);
        let (_, join) = driver.joins();
        assert_eq!(join.protocols[0].1.owned, t(&[0]), "nothing is lost by that");
    }
}

#[test]
fn a_new_subscription_is_a_reason_to_join_and_gives_up_what_is_not_wanted_any_more() {
    let mut driver = Driver::inside(&COOPERATIVE, &t(&[0]));
    driver.it.subscribe(names(&["u"]), driver.now);
    assert_eq!(driver.changes(), [Change::Revoked { partitions: t(&[0]) }]);
    let (_, join) = driver.joins();
    assert_eq!((&join.protocols[0].1.topics, &join.protocols[0].1.owned), (&names(&["u"]), &t(&[0])));
}

#[test]
fn a_subscription_that_changes_during_a_join_is_not_forgotten() {
    let mut driver = Driver::new(classic(&EAGER));
    let (ticket, _) = driver.joins();
    driver.it.subscribe(names(&["t", "u"]), driver.now);
    driver.follows(ticket, 1);
    let (ticket, _) = driver.syncs();
    driver.synced(ticket, ByName::new());
    assert_eq!(driver.joins().1.protocols[0].1.topics, names(&["t", "u"]));
}

#[test]
fn a_topic_that_nobody_asked_for_is_not_taken() {
    let mut driver = Driver::new(classic(&EAGER));
    let (ticket, _) = driver.joins();
    driver.follows(ticket, 1);
    let (ticket, _) = driver.syncs();
    driver.synced(ticket, by_name(&[("t", &[0]), ("u", &[1])]));
    assert_eq!(driver.it.held(), &t(&[0]));
    driver.it.released(&t(&[0]), driver.now);
    driver.silent();
    driver.wait(SECOND);
    driver.joins();
}

#[test]
fn who_stops_leaves_and_a_static_member_does_not() {
    let mut driver = Driver::inside(&EAGER, &t(&[0]));
    driver.it.leave(driver.now);
    let (ticket, request) = driver.request();
    let Request::Leave { member, .. } = request else { panic!("{request:?}") };
    assert_eq!(&*member, "m");
    driver.refuse(ticket, Refusal::Passing("gone".into()));
    assert!(!driver.it.is_over());
    driver.wait(SECOND);
    let (ticket, _) = driver.request();
    driver.answer(ticket, Answer::Left);
    assert!(driver.it.is_over());
    assert_eq!((driver.changes(), driver.it.poll_timeout()), (vec![], None));

    let mut driver = Driver::new(Settings { instance: Some("i".into()), ..classic(&EAGER) });
    let (ticket, _) = driver.joins();
    driver.follows(ticket, 1);
    driver.it.leave(driver.now);
    assert!(driver.it.is_over());
    driver.silent();
}

#[test]
fn a_rebalance_is_two_lines() {
    let mut driver = Driver::new(classic(&EAGER));
    let (ticket, _) = driver.joins();
    driver.now += SECOND;
    driver.follows(ticket, 7);
    let (ticket, _) = driver.syncs();
    driver.synced(ticket, t(&[0, 1]));
    let lines = ["rebalance: joining the group", "rebalance over after 1.0 s: 2 partitions (2 new, 0 gone), epoch 7"];
    assert_eq!(driver.news(), lines);
    driver.rebalances();
    driver.it.released(&t(&[0, 1]), driver.now);
    let (ticket, _) = driver.joins();
    driver.follows(ticket, 8);
    let (ticket, _) = driver.syncs();
    driver.synced(ticket, t(&[1]));
    let lines = [
        "rebalance: members join or leave the group",
        "rebalance over after 0.0 s: 1 partitions (0 new, 1 gone), epoch 8",
    ];
    assert_eq!(driver.news(), lines);
}
