//! The leader of a classic group, step by step.

use super::*;
use crate::membership::{
    exchange::Peer,
    tests::{id, topics},
};

fn peer(member: &str, topics: &[&str]) -> Peer {
    let subscription = Subscription { topics: names(topics), generation: -1, ..<_>::default() };
    Peer { member: member.into(), instance: None, subscription }
}

fn leads(members: Vec<Peer>, skip_assignment: bool) -> Answer {
    let (member, leader, protocol) = ("m".into(), "m".into(), "range".into());
    Answer::Joined(Joined { generation: 1, member, leader, protocol, skip_assignment, members })
}

#[test]
fn the_leader_assigns_to_everybody() {
    let mut driver = Driver::new(classic(&EAGER));
    let (ticket, _) = driver.joins();
    driver.answer(ticket, leads(vec![peer("m", &["t"]), peer("n", &["t"])], false));
    let (_, sync) = driver.syncs();
    assert_eq!(sync.assignments, [("m".into(), t(&[0, 1])), ("n".into(), t(&[2, 3]))].into());
}

#[test]
fn a_leader_that_comes_back_does_not_assign_anew() {
    let mut driver = Driver::new(Settings { instance: Some("i".into()), ..classic(&EAGER) });
    let (ticket, join) = driver.joins();
    assert_eq!(join.instance.as_deref(), Some("i"));
    driver.answer(ticket, leads(vec![peer("m", &["t"])], true));
    let (ticket, sync) = driver.syncs();
    assert!(sync.assignments.is_empty());
    driver.synced(ticket, t(&[0, 1, 2, 3]));
    assert_eq!(driver.it.held(), &t(&[0, 1, 2, 3]));
    driver.silent();
}

#[test]
fn a_leader_that_comes_back_and_cannot_know_whether_partitions_were_added_joins_again() {
    for (others, assigned) in [(vec![], t(&[0, 1, 2])), (vec![peer("n", &["t"])], t(&[0, 1]))] {
        let mut driver = Driver::new(Settings { instance: Some("i".into()), ..classic(&COOPERATIVE) });
        let (ticket, _) = driver.joins();
        driver.answer(ticket, leads([vec![peer("m", &["t"])], others].concat(), true));
        let (ticket, _) = driver.syncs();
        driver.synced(ticket, assigned);
        driver.joins();
    }
}

#[test]
fn the_leader_looks_whether_what_it_withheld_was_given_up() {
    let mut driver = Driver::new(classic(&COOPERATIVE));
    let (ticket, _) = driver.joins();
    let mut other = peer("n", &["t"]);
    other.subscription.owned = t(&[0, 1, 2, 3]);
    let Answer::Joined(joined) = leads(vec![peer("m", &["t"]), other], false) else { unreachable!() };
    driver.answer(ticket, Answer::Joined(Joined { protocol: "cooperative-sticky".into(), ..joined }));
    let (ticket, sync) = driver.syncs();
    assert_eq!(sync.assignments["m"], ByName::new());
    driver.synced(ticket, ByName::new());
    let began = driver.now;
    while let (ticket, Request::Beat(_)) = (driver.wait(INTERVAL), driver.request()).1 {
        driver.answer(ticket, Answer::Beaten);
    }
    assert_eq!(driver.now, began + 300 * SECOND);
}

#[test]
fn the_leader_waits_for_topics_of_others_to_be_looked_up_but_not_for_ever() {
    let members = || vec![peer("m", &["t"]), peer("n", &["v"])];
    let mut driver = Driver::new(classic(&EAGER));
    let (ticket, _) = driver.joins();
    driver.answer(ticket, leads(members(), false));
    let (beat, _) = driver.beats();
    driver.answer(beat, Answer::Beaten);
    driver.silent();
    assert!(driver.it.wants_topics());
    assert_eq!(driver.it.watched(), names(&["t", "v"]));
    let mut known = topics();
    known.insert("v".into(), (id(3), 1));
    driver.it.topics(known.clone(), driver.now);
    let (_, sync) = driver.syncs();
    assert_eq!(sync.assignments["n"], by_name(&[("v", &[0])]));

    let mut driver = Driver::new(classic(&EAGER));
    let (ticket, _) = driver.joins();
    driver.answer(ticket, leads(members(), false));
    while let (ticket, Request::Beat(_)) = (driver.wait(INTERVAL), driver.request()).1 {
        driver.answer(ticket, Answer::Beaten);
    }
    assert!(!driver.it.wants_topics());
    driver.it.topics(known, driver.now);
}

#[test]
fn the_leader_joins_again_when_partitions_were_added_and_a_follower_does_not() {
    let more = || {
        let mut more = topics();
        more.insert("t".into(), (id(1), 8));
        more
    };
    let mut driver = Driver::inside(&EAGER, &t(&[0]));
    driver.it.topics(more(), driver.now);
    driver.silent();

    let mut driver = Driver::new(classic(&COOPERATIVE));
    let (ticket, _) = driver.joins();
    driver.answer(ticket, leads(vec![peer("m", &["t"])], false));
    let (ticket, _) = driver.syncs();
    driver.synced(ticket, t(&[0, 1, 2, 3]));
    driver.it.topics(topics(), driver.now);
    driver.silent();
    driver.it.topics(more(), driver.now);
    driver.joins();
}
