//! A member of a group of KIP-848, step by step.

use std::time::Duration;

use crate::membership::{
    Change, Fatal, GroupProtocol, Loss, Settings, Ticket, Topics,
    exchange::{Answer, ById, ConsumerBeat, ConsumerBeaten, Refusal, Request},
    tests::{Driver, SECOND, by_name, id, names, settings, t, topics},
};

const INTERVAL: Duration = Duration::from_secs(5);

/// Partitions of the topic of this id.
fn of(topic: u128, partitions: &[i32]) -> ById {
    [(id(topic), partitions.iter().copied().collect())].into()
}

impl Driver {
    #[track_caller]
    fn says(&mut self) -> (Ticket, ConsumerBeat) {
        let (ticket, request) = self.request();
        let Request::ConsumerBeat(beat) = request else { panic!("{request:?}") };
        (ticket, beat)
    }

    fn assigned(&mut self, ticket: Ticket, epoch: i32, assignment: Option<ById>) {
        let beaten = ConsumerBeaten { member: "uuid".into(), epoch, interval: INTERVAL, assignment };
        self.answer(ticket, Answer::ConsumerBeaten(beaten));
    }

    /// It is in the group, and both know that it holds these partitions of `t`, as of epoch 1.
    fn inside_as(settings: Settings, partitions: &[i32]) -> Self {
        let mut driver = Self::new(settings);
        let (ticket, _) = driver.says();
        driver.assigned(ticket, 1, Some(of(1, partitions)));
        let (ticket, beat) = driver.says();
        assert_eq!(beat.owned, Some(of(1, partitions)), "what was taken is told at once");
        driver.assigned(ticket, 1, None);
        driver.changes();
        driver.silent();
        driver
    }

    fn holding(partitions: &[i32]) -> Self {
        Self::inside_as(settings(GroupProtocol::Consumer), partitions)
    }

    /// The next heartbeat in its time.
    #[track_caller]
    fn beat(&mut self) -> (Ticket, ConsumerBeat) {
        self.silent();
        assert_eq!(self.wait(INTERVAL), INTERVAL);
        self.says()
    }
}

fn is_bare(beat: &ConsumerBeat) -> bool {
    (&beat.rebalance_timeout, &beat.topics, &beat.owned, &beat.rack, &beat.assignor)
        == (&None, &None, &None, &None, &None)
}

#[test]
fn who_joins_says_everything_and_then_only_what_changes() {
    let mut driver = Driver::new(Settings {
        server_assignor: Some("uniform".into()),
        rack: Some("r".into()),
        ..settings(GroupProtocol::Consumer)
    });
    let (ticket, beat) = driver.says();
    let expected = ConsumerBeat {
        member: "uuid".into(),
        epoch: 0,
        instance: None,
        rack: Some("r".into()),
        rebalance_timeout: Some(Duration::from_secs(300)),
        topics: Some(names(&["t"])),
        assignor: Some("uniform".into()),
        owned: Some(ById::new()),
    };
    assert_eq!(beat, expected);
    driver.assigned(ticket, 3, Some(ById::new()));
    assert_eq!(driver.changes(), [Change::Epoch(driver.epoch("uuid", 3))]);
    let (_, beat) = driver.beat();
    assert!(is_bare(&beat) && beat.epoch == 3, "{beat:?}");
}

#[test]
fn what_is_revoked_is_told_to_be_given_up_when_all_of_it_is() {
    let mut driver = Driver::holding(&[0, 1, 2]);
    let (ticket, _) = driver.beat();
    driver.assigned(ticket, 1, Some(of(1, &[0])));
    assert_eq!(driver.changes(), [Change::Revoked { partitions: t(&[1, 2]) }]);
    driver.it.released(&t(&[1]), driver.now);
    driver.silent();
    driver.it.released(&t(&[2]), driver.now);
    let (ticket, beat) = driver.says();
    assert_eq!(beat.owned, Some(of(1, &[0])));
    driver.assigned(ticket, 2, Some(of(1, &[0, 3])));
    let epoch = driver.epoch("uuid", 2);
    assert_eq!(driver.changes(), [Change::Epoch(epoch.clone()), Change::Assigned { partitions: t(&[3]), epoch }]);
}

#[test]
fn what_is_not_given_up_in_time_is_lost_and_that_is_said_under_the_old_epoch() {
    let settings = Settings { rebalance_timeout: 60 * SECOND, ..settings(GroupProtocol::Consumer) };
    let mut driver = Driver::inside_as(settings, &[0, 1]);
    let (ticket, _) = driver.beat();
    let revoked = driver.now;
    driver.assigned(ticket, 1, Some(of(1, &[0])));
    driver.changes();
    while driver.it.acknowledged_at().is_some() {
        driver.wait(INTERVAL);
        if let Some((ticket, Request::ConsumerBeat(beat))) = driver.it.poll_request(driver.now) {
            if driver.it.acknowledged_at().is_none() {
                assert_eq!((beat.epoch, beat.owned), (1, Some(ById::new())));
            }
            driver.assigned(ticket, 1, None);
        }
        if driver.now >= revoked + 60 * SECOND {
            break;
        }
    }
    assert_eq!(driver.now, revoked + 60 * SECOND);
    assert_eq!(driver.changes()[0], Change::Lost { partitions: t(&[0, 1]), why: Loss::TooLate });
}

#[test]
fn the_coordinators_patience_lasts_until_it_knows_that_all_is_given_up() {
    let settings = Settings { rebalance_timeout: 60 * SECOND, ..settings(GroupProtocol::Consumer) };
    let mut driver = Driver::inside_as(settings, &[0, 1]);
    let (ticket, _) = driver.beat();
    let revoked = driver.now;
    driver.assigned(ticket, 1, Some(of(1, &[0])));
    driver.now += 55 * SECOND;
    driver.it.member.acknowledged_at = Some(driver.now);
    driver.it.released(&t(&[1]), driver.now);
    driver.changes();
    driver.says();
    driver.wait(45 * SECOND);
    assert_eq!(driver.now, revoked + 60 * SECOND, "what was said may not have been heard");
    driver.says();
    assert_eq!(driver.changes(), [Change::Lost { partitions: t(&[0]), why: Loss::TooLate }]);
}

#[test]
fn after_a_failure_everything_is_said_again() {
    let mut driver = Driver::holding(&[0]);
    let (ticket, _) = driver.beat();
    driver.refuse(ticket, Refusal::Passing("gone".into()));
    driver.silent();
    driver.wait(SECOND);
    let (ticket, beat) = driver.says();
    assert_eq!((beat.epoch, &beat.owned, &beat.topics), (1, &Some(of(1, &[0])), &Some(names(&["t"]))));
    driver.assigned(ticket, 1, Some(of(1, &[0])));
    assert_eq!(driver.changes(), [], "that nothing was to change is nothing new");
    assert!(is_bare(&driver.beat().1));
}

#[test]
fn an_unknown_member_has_lost_all_and_joins_at_once_with_the_same_id() {
    let mut driver = Driver::holding(&[0]);
    let (ticket, _) = driver.beat();
    driver.refuse(ticket, Refusal::UnknownMember);
    assert_eq!(driver.changes(), [Change::Lost { partitions: t(&[0]), why: Loss::Unknown }]);
    let (_, beat) = driver.says();
    assert_eq!((&*beat.member, beat.epoch, beat.owned), ("uuid", 0, Some(ById::new())));
}

#[test]
fn a_fenced_member_joins_at_once_and_where_that_is_fenced_too_leaves_first() {
    let mut driver = Driver::holding(&[0]);
    let (ticket, _) = driver.beat();
    driver.refuse(ticket, Refusal::FencedEpoch);
    assert_eq!(driver.changes(), [Change::Lost { partitions: t(&[0]), why: Loss::Fenced }]);
    let (ticket, beat) = driver.says();
    assert_eq!(beat.epoch, 0);
    driver.refuse(ticket, Refusal::FencedEpoch);
    driver.wait(SECOND);
    let (ticket, beat) = driver.says();
    assert!(is_bare(&beat) && beat.epoch == -1, "{beat:?}");
    driver.assigned(ticket, -1, None);
    assert_eq!(driver.says().1.epoch, 0);
}

#[test]
fn a_session_that_is_over_is_said_under_the_old_epoch() {
    let mut driver = Driver::holding(&[0, 1]);
    let (_, _) = driver.beat();
    let acknowledged = driver.it.acknowledged_at().expect("it was");
    driver.wait(45 * SECOND);
    assert_eq!(driver.now, acknowledged + 45 * SECOND);
    let (ticket, beat) = driver.says();
    assert_eq!((beat.epoch, beat.owned), (1, Some(ById::new())));
    assert_eq!(driver.changes(), [Change::Lost { partitions: t(&[0, 1]), why: Loss::Session }]);
    assert_eq!(driver.it.epoch(), None);
    // The coordinator still knew us.
    driver.assigned(ticket, 1, Some(of(1, &[0, 1])));
    let epoch = driver.epoch("uuid", 1);
    assert_eq!(driver.changes(), [Change::Epoch(epoch.clone()), Change::Assigned { partitions: t(&[0, 1]), epoch }]);
}

#[test]
fn an_answer_that_comes_a_session_late_is_not_believed() {
    let mut driver = Driver::new(settings(GroupProtocol::Consumer));
    let (ticket, _) = driver.says();
    driver.now += 45 * SECOND;
    driver.assigned(ticket, 1, Some(of(1, &[0])));
    assert_eq!(driver.changes(), []);
    let (ticket, beat) = driver.says();
    assert_eq!((beat.epoch, beat.owned), (1, Some(ById::new())));
    driver.assigned(ticket, 1, Some(of(1, &[0])));
    assert_eq!(driver.it.held(), &t(&[0]));
}

#[test]
fn a_topic_that_is_not_known_yet_is_taken_when_it_is() {
    let mut driver = Driver::new(settings(GroupProtocol::Consumer));
    let (ticket, _) = driver.says();
    let mut assignment = of(1, &[0]);
    assignment.extend(of(7, &[5]));
    driver.assigned(ticket, 1, Some(assignment.clone()));
    assert_eq!(driver.it.held(), &t(&[0]));
    assert!(driver.it.wants_topics());
    let mut known = topics();
    known.insert("v".into(), (id(7), 6));
    driver.it.topics(known, driver.now);
    assert_eq!(driver.it.held(), &by_name(&[("t", &[0]), ("v", &[5])]));
    assert!(!driver.it.wants_topics());
    assert_eq!(driver.says().1.owned, Some(assignment));
}

#[test]
fn a_topic_made_anew_is_given_up_under_its_old_id_before_it_is_taken_under_the_new() {
    let mut driver = Driver::holding(&[0, 1]);
    let known: Topics = [("t".into(), (id(9), 4))].into();
    driver.it.topics(known, driver.now);
    assert_eq!(driver.changes(), []);
    let (ticket, _) = driver.beat();
    driver.assigned(ticket, 2, Some(of(9, &[0])));
    assert!(driver.changes().contains(&Change::Revoked { partitions: t(&[0, 1]) }));
    driver.it.released(&t(&[0, 1]), driver.now);
    let epoch = driver.epoch("uuid", 2);
    assert_eq!(driver.changes(), [Change::Assigned { partitions: t(&[0]), epoch }]);
    assert_eq!(driver.says().1.owned, Some(of(9, &[0])));
}

#[test]
fn a_new_subscription_is_told_at_once() {
    let mut driver = Driver::holding(&[0]);
    driver.it.subscribe(names(&["t", "u"]), driver.now);
    let (_, beat) = driver.says();
    assert_eq!((beat.topics, beat.owned), (Some(names(&["t", "u"])), None));
}

#[test]
fn who_wants_nothing_yet_waits_for_a_topic_to_want() {
    let mut driver = Driver::new(settings(GroupProtocol::Consumer));
    driver.it.subscribe(names(&[]), driver.now);
    driver.silent();
    assert_eq!(driver.it.poll_timeout(), None);
    driver.it.subscribe(names(&["u"]), driver.now);
    driver.says();
}

fn fixed() -> Settings {
    Settings { instance: Some("i".into()), ..settings(GroupProtocol::Consumer) }
}

#[test]
fn who_stops_leaves_and_a_static_member_for_a_while() {
    for (settings, epoch) in [(settings(GroupProtocol::Consumer), -1), (fixed(), -2)] {
        let mut driver = Driver::inside_as(settings, &[0]);
        let (ticket, _) = driver.beat();
        driver.it.leave(driver.now);
        driver.silent();
        driver.assigned(ticket, 2, Some(of(1, &[0, 1])));
        assert_eq!(driver.changes(), [], "nothing is taken any more");
        let (ticket, beat) = driver.says();
        assert_eq!(beat.epoch, epoch);
        driver.refuse(ticket, Refusal::Passing("gone".into()));
        driver.wait(SECOND);
        let (ticket, _) = driver.says();
        driver.assigned(ticket, epoch, None);
        assert!(driver.it.is_over());
        assert_eq!(driver.it.poll_timeout(), None);
    }
}

#[test]
fn an_instance_that_somebody_else_has_is_waited_for_a_session_long_and_then_fatal() {
    let mut driver = Driver::new(fixed());
    let began = driver.now;
    while !driver.it.is_over() {
        let (ticket, beat) = driver.says();
        assert_eq!(beat.epoch, 0);
        driver.refuse(ticket, Refusal::UnreleasedInstance);
        if !driver.it.is_over() {
            driver.wait(SECOND);
        }
    }
    assert!(driver.now >= began + 50 * SECOND && driver.now < began + 52 * SECOND);
    let changes: Vec<_> = std::iter::from_fn(|| driver.it.poll_change()).collect();
    assert!(matches!(changes.last(), Some(Change::Fatal(Fatal::InstanceHeld(_)))));
    let told = changes.iter().filter(|change| format!("{change:?}").contains("InstanceHeld")).count();
    assert_eq!(told, 2, "once for the log, and once at the end: {changes:?}");
}

#[test]
fn a_static_member_that_was_fenced_releases_its_own_instance() {
    let mut driver = Driver::inside_as(fixed(), &[0]);
    let (ticket, _) = driver.beat();
    driver.refuse(ticket, Refusal::FencedEpoch);
    driver.wait(SECOND);
    let (ticket, beat) = driver.says();
    assert_eq!(beat.epoch, -2);
    driver.assigned(ticket, -2, None);
    assert_eq!(driver.says().1.epoch, 0);
}

#[test]
fn a_static_member_that_has_not_heard_that_it_is_inside_does_not_wait_for_itself() {
    let mut driver = Driver::new(fixed());
    let (ticket, _) = driver.says();
    driver.refuse(ticket, Refusal::Passing("the answer is lost".into()));
    driver.wait(SECOND);
    let (ticket, _) = driver.says();
    driver.refuse(ticket, Refusal::UnreleasedInstance);
    let (ticket, beat) = driver.says();
    assert_eq!(beat.epoch, -2);
    // But if that is not us, it does.
    driver.refuse(ticket, Refusal::FencedInstance);
    driver.wait(SECOND);
    let (ticket, beat) = driver.says();
    assert_eq!(beat.epoch, 0);
    driver.refuse(ticket, Refusal::UnreleasedInstance);
    assert!(driver.changes().is_empty());
    driver.wait(SECOND);
    assert_eq!(driver.says().1.epoch, 0);
}

#[test]
fn an_instance_that_another_has_taken_over_is_fatal() {
    let mut driver = Driver::inside_as(fixed(), &[0]);
    let (ticket, _) = driver.beat();
    driver.refuse(ticket, Refusal::FencedInstance);
    let changes = driver.changes();
    let [Change::Lost { .. }, Change::Fatal(Fatal::FencedInstance(_))] = &changes[..] else { panic!("{changes:?}") };
}

#[test]
fn the_coordinators_patience_may_have_begun_with_an_answer_that_was_lost() {
    let settings = Settings { rebalance_timeout: 60 * SECOND, ..settings(GroupProtocol::Consumer) };
    let mut driver = Driver::inside_as(settings, &[0, 1]);
    let (ticket, _) = driver.beat();
    let lost = driver.now;
    driver.now += SECOND;
    driver.refuse(ticket, Refusal::Passing("lost".into()));
    driver.wait(SECOND);
    let (ticket, _) = driver.says();
    driver.assigned(ticket, 1, Some(of(1, &[0])));
    while driver.it.acknowledged_at().is_some() {
        driver.wait(INTERVAL);
        if let Some((ticket, Request::ConsumerBeat(_))) = driver.it.poll_request(driver.now) {
            driver.assigned(ticket, 1, None);
        }
        assert!(driver.now <= lost + 60 * SECOND);
        if driver.changes().contains(&Change::Lost { partitions: t(&[0, 1]), why: Loss::TooLate }) {
            break;
        }
    }
    assert_eq!(driver.now, lost + 60 * SECOND);
}
