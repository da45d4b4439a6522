//! What Java's assignors give in the same place, and what any assignment has to keep.

use proptest::{collection::btree_set, prelude::*};

use super::*;
use crate::membership::{exchange::Subscription, holdings::count};

type Parts<'a> = &'a [(&'a str, &'a [i32])];

fn counts(topics: &[(&str, i32)]) -> Counts {
    topics.iter().map(|(topic, count)| ((*topic).into(), *count)).collect()
}

fn by_name(partitions: Parts<'_>) -> ByName {
    partitions.iter().map(|(topic, of)| ((*topic).into(), of.iter().copied().collect())).collect()
}

fn peer(member: &str, topics: &[&str]) -> Peer {
    let topics = topics.iter().map(|topic| (*topic).into()).collect();
    let subscription = Subscription { topics, generation: -1, ..<_>::default() };
    Peer { member: member.into(), instance: None, subscription }
}

fn owning(member: &str, owned: Parts<'_>, generation: i32) -> Peer {
    let mut peer = peer(member, &["t"]);
    (peer.subscription.owned, peer.subscription.generation) = (by_name(owned), generation);
    peer
}

#[track_caller]
fn check(assignor: Assignor, topics: &[(&str, i32)], members: &[Peer], expected: &[(&str, Parts<'_>)]) {
    let expected: Assignments =
        expected.iter().map(|(member, partitions)| ((*member).into(), by_name(partitions))).collect();
    assert_eq!(assign(assignor, &counts(topics), members), expected);
}

#[test]
fn names_are_those_of_kafka() {
    for assignor in Assignor::ALL {
        assert_eq!(Assignor::of(assignor.name()), Some(assignor));
    }
    assert_eq!(Assignor::of("sticky"), None);
}

// The examples of RangeAssignor's and RoundRobinAssignor's documentation, and those of their tests that have a point.

#[test]
fn range_gives_the_first_members_one_more_of_each_topic() {
    let members = [peer("c1", &["t0", "t1"]), peer("c0", &["t0", "t1"])];
    let expected: [(&str, Parts<'_>); 2] =
        [("c0", &[("t0", &[0, 1]), ("t1", &[0, 1])]), ("c1", &[("t0", &[2]), ("t1", &[2])])];
    check(Assignor::Range, &[("t0", 3), ("t1", 3)], &members, &expected);
}

#[test]
fn range_gives_a_topic_to_those_who_subscribe_to_it() {
    let members = [peer("c0", &["t0"]), peer("c1", &["t0", "t1"]), peer("c2", &["t0"])];
    let expected: [(&str, Parts<'_>); 3] =
        [("c0", &[("t0", &[0])]), ("c1", &[("t0", &[1]), ("t1", &[0, 1])]), ("c2", &[("t0", &[2])])];
    check(Assignor::Range, &[("t0", 3), ("t1", 2)], &members, &expected);
}

#[test]
fn more_members_than_partitions_leave_some_with_nothing() {
    for assignor in Assignor::ALL {
        let members = [peer("a", &["t"]), peer("b", &["t"]), peer("c", &["t"])];
        check(assignor, &[("t", 2)], &members, &[("a", &[("t", &[0])]), ("b", &[("t", &[1])]), ("c", &[])]);
    }
}

#[test]
fn static_members_come_first_by_their_instance_ids() {
    let with = |member, instance: &str| Peer { instance: Some(instance.into()), ..peer(member, &["t"]) };
    let members = [peer("a", &["t"]), with("y", "i1"), with("x", "i2")];
    for assignor in [Assignor::Range, Assignor::RoundRobin] {
        check(assignor, &[("t", 2)], &members, &[("a", &[]), ("x", &[("t", &[1])]), ("y", &[("t", &[0])])]);
    }
}

#[test]
fn round_robin_takes_all_topics_together() {
    let members = [peer("c0", &["t0", "t1"]), peer("c1", &["t0", "t1"])];
    let expected: [(&str, Parts<'_>); 2] =
        [("c0", &[("t0", &[0, 2]), ("t1", &[1])]), ("c1", &[("t0", &[1]), ("t1", &[0, 2])])];
    check(Assignor::RoundRobin, &[("t0", 3), ("t1", 3)], &members, &expected);
}

#[test]
fn round_robin_passes_over_those_who_do_not_subscribe() {
    let members = [peer("c0", &["t0"]), peer("c1", &["t0", "t1"]), peer("c2", &["t0", "t1", "t2"])];
    let expected: [(&str, Parts<'_>); 3] =
        [("c0", &[("t0", &[0])]), ("c1", &[("t1", &[0])]), ("c2", &[("t1", &[1]), ("t2", &[0, 1, 2])])];
    check(Assignor::RoundRobin, &[("t0", 1), ("t1", 2), ("t2", 3)], &members, &expected);
}

#[test]
fn what_nobody_subscribes_to_and_what_is_not_there_is_given_to_nobody() {
    for assignor in Assignor::ALL {
        check(assignor, &[("t", 1), ("other", 3)], &[peer("a", &["t", "gone"])], &[("a", &[("t", &[0])])]);
    }
}

#[test]
fn sticky_takes_for_a_newcomer_no_more_than_its_share_and_gives_it_nothing_yet() {
    let members = [owning("a", &[("t", &[0, 1, 2])], 4), owning("b", &[("t", &[3, 4, 5])], 4), owning("c", &[], -1)];
    let assigned = assign(Assignor::CooperativeSticky, &counts(&[("t", 6)]), &members);
    let sizes: Vec<_> = assigned.values().map(count).collect();
    assert_eq!(sizes, [2, 2, 0], "what moves is withheld: {assigned:?}");
    for peer in &members[..2] {
        let kept = &assigned[&peer.member]["t"];
        assert!(kept.is_subset(&peer.subscription.owned["t"]), "{assigned:?}");
    }
}

#[test]
fn a_later_generation_is_right_about_what_it_holds() {
    let members = [owning("a", &[("t", &[0, 1])], 7), owning("b", &[("t", &[0, 1])], 6)];
    let assigned = assign(Assignor::CooperativeSticky, &counts(&[("t", 2)]), &members);
    let sizes: Vec<_> = assigned.values().map(count).collect();
    assert_eq!(sizes, [1, 0], "b has to wait for what a gives up: {assigned:?}");
}

#[test]
fn what_two_of_one_generation_hold_is_taken_from_both() {
    let members = [owning("a", &[("t", &[0])], 7), owning("b", &[("t", &[0, 1])], 7)];
    check(Assignor::CooperativeSticky, &[("t", 2)], &members, &[("a", &[]), ("b", &[("t", &[1])])]);
}

#[test]
fn a_generation_is_taken_from_the_user_data_of_an_old_java_member() {
    let mut old = owning("old", &[("t", &[0, 1])], -1);
    old.subscription.user_data = Assignor::CooperativeSticky.user_data(9);
    let members = [owning("new", &[("t", &[0])], 8), old];
    let assigned = assign(Assignor::CooperativeSticky, &counts(&[("t", 2)]), &members);
    assert_eq!(assigned["new"], ByName::new(), "it was right in generation 8, but not any more: {assigned:?}");
}

const TOPICS: [&str; 3] = ["p", "q", "r"];

/// Members that say whatever they like, and the same or their own topics.
fn groups() -> impl Strategy<Value = (Counts, Vec<Peer>)> {
    let topics = btree_set(0..3_usize, 1..=3);
    let owned = prop::collection::vec((0..3_usize, 0..9_i32), 0..8);
    let member = (topics, owned, -1..3_i32, any::<bool>());
    (prop::collection::vec(0..9_i32, 3), prop::collection::vec(member, 1..7), any::<bool>()).prop_map(
        |(counts, members, alike)| {
            let counts = TOPICS.iter().zip(counts).map(|(topic, count)| ((*topic).into(), count)).collect();
            let first: Vec<&str> = members[0].0.iter().map(|at| TOPICS[*at]).collect();
            let peers = members.iter().enumerate().map(|(at, (topics, owned, generation, is_static))| {
                let own: Vec<_> = topics.iter().map(|at| TOPICS[*at]).collect();
                let mut peer = peer(&format!("m{at}"), if alike { &first } else { &own });
                for (topic, partition) in owned {
                    peer.subscription.owned.entry(TOPICS[*topic].into()).or_default().insert(*partition);
                }
                peer.subscription.generation = *generation;
                peer.instance = is_static.then(|| format!("i{at}").into());
                peer
            });
            (counts, peers.collect())
        },
    )
}

/// Every partition that somebody wants goes to one who wants it.
fn check_valid(counts: &Counts, members: &[Peer], assigned: &Assignments) {
    let mut given = BTreeSet::new();
    for peer in members {
        for (topic, partitions) in &assigned[&peer.member] {
            assert!(peer.subscription.topics.contains(topic), "{peer:?} does not want {topic}");
            for partition in partitions {
                assert!((0..counts[topic]).contains(partition), "there is no {topic}-{partition}");
                assert!(given.insert((Arc::clone(topic), *partition)), "{topic}-{partition} is given twice");
            }
        }
    }
    let wanted = wanted(counts, members).into_iter().map(|topic| counts[&topic]).sum::<i32>();
    assert_eq!(i32::try_from(given.len()).expect("few"), wanted, "something is left out: {assigned:?}");
}

/// As Java's sticky assignor understands it: nobody has two more than another who could have one of them.
fn check_balanced(members: &[Peer], assigned: &Assignments) {
    for from in members {
        for to in members {
            let has = &assigned[&from.member];
            let could = has.keys().any(|topic| to.subscription.topics.contains(topic));
            let (more, less) = (count(has), count(&assigned[&to.member]));
            assert!(!could || more <= less + 1, "{} has {more}, {} has {less}", from.member, to.member);
        }
    }
}

proptest! {
    #[test]
    fn every_assignor_gives_everything_to_one_who_wants_it((counts, members) in groups()) {
        check_valid(&counts, &members, &range(&counts, &members));
        check_valid(&counts, &members, &round_robin(&counts, &members));
        let balanced = sticky::balance(&counts, &members);
        check_valid(&counts, &members, &balanced);
        check_balanced(&members, &balanced);
    }

    #[test]
    fn range_and_round_robin_are_even_among_those_who_want_the_same((counts, members) in groups()) {
        let alike = members.iter().all(|peer| peer.subscription.topics == members[0].subscription.topics);
        prop_assume!(alike);
        let sizes: Vec<_> = round_robin(&counts, &members).values().map(count).collect();
        prop_assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1, "{:?}", sizes);
        for topic in wanted(&counts, &members) {
            let of = range(&counts, &members);
            let sizes: Vec<_> = of.values().map(|has| has.get(&topic).map_or(0, BTreeSet::len)).collect();
            prop_assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1, "{:?}", sizes);
        }
    }

    /// Nothing is given to anybody that somebody else still holds.
    #[test]
    fn sticky_withholds_what_another_holds((counts, members) in groups()) {
        let assigned = assign(Assignor::CooperativeSticky, &counts, &members);
        let latest = |topic: &Arc<str>, partition: i32| {
            let claims = members.iter().filter(|peer| {
                peer.subscription.owned.get(topic).is_some_and(|owned| owned.contains(&partition))
            });
            claims.map(|peer| peer.subscription.generation).max()
        };
        for peer in &members {
            for (topic, partitions) in &assigned[&peer.member] {
                for partition in partitions {
                    let ours = peer.subscription.owned.get(topic).is_some_and(|owned| owned.contains(partition));
                    let newest = latest(topic, *partition);
                    let right = newest.is_none() || ours && newest == Some(peer.subscription.generation);
                    prop_assert!(right, "{topic}-{partition} for {}: {members:?}", peer.member);
                }
            }
        }
    }

    /// Round after round, with everybody giving up what was taken, it comes to a balance and then stays as it is; and nobody
    /// who has no more than its share loses anything.
    #[test]
    fn sticky_settles_in_three_rounds_and_then_nothing_moves((counts, mut members) in groups()) {
        let mut last = Assignments::new();
        for generation in 3..6 {
            last = assign(Assignor::CooperativeSticky, &counts, &members);
            for peer in &mut members {
                peer.subscription.owned = last[&peer.member].clone();
                peer.subscription.generation = generation;
            }
        }
        check_valid(&counts, &members, &last);
        check_balanced(&members, &last);
        prop_assert_eq!(assign(Assignor::CooperativeSticky, &counts, &members), last);
    }

    /// Who joins a balanced group of `n` members moves no more than its share, and who leaves moves only what it had.
    #[test]
    fn sticky_moves_no_more_than_it_must(partitions in 0..40_i32, members in 1..8_usize) {
        let counts = counts(&[("t", partitions)]);
        let mut group: Vec<_> = (0..members).map(|at| owning(&format!("m{at}"), &[], -1)).collect();
        let settle = |group: &mut Vec<Peer>, generation| {
            let assigned = sticky::balance(&counts, group);
            let mut moved = 0;
            for peer in group {
                let had = peer.subscription.owned.get("t").cloned().unwrap_or_default();
                let has = assigned[&peer.member].get("t").cloned().unwrap_or_default();
                moved += (&had - &has).len();
                peer.subscription.owned = assigned[&peer.member].clone();
                peer.subscription.generation = generation;
            }
            moved
        };
        settle(&mut group, 1);
        group.push(owning("new", &[], -1));
        let moved = settle(&mut group, 2);
        prop_assert_eq!(moved, usize::try_from(partitions).unwrap() / (members + 1));
        group.remove(0);
        prop_assert_eq!(settle(&mut group, 3), 0);
    }
}
