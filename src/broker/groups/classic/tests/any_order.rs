//! Whatever members do, in whatever order, and whatever the time is: a group comes to rest, and nobody waits for ever.

use proptest::prelude::*;

use super::*;

/// Something that some member does, or that time does.
#[derive(Debug, Clone, Copy)]
enum Step {
    Join(usize, bool),
    JoinAsInstance(usize),
    Sync(usize),
    Beat(usize),
    Leave(usize),
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..4_usize, any::<bool>()).prop_map(|(who, new)| Step::Join(who, new)),
        2 => (0..2_usize).prop_map(Step::JoinAsInstance),
        4 => (0..6_usize).prop_map(Step::Sync),
        2 => (0..6_usize).prop_map(Step::Beat),
        1 => (0..6_usize).prop_map(Step::Leave),
        3 => (0..20_000_u64).prop_map(Step::Wait),
    ];
    proptest::collection::vec(step, 0..60)
}

fn holds(test: &Test) {
    let group = &test.group;
    assert_eq!(
        group.members.is_empty(),
        group.phase == Phase::Empty || matches!(group.phase, Phase::Preparing(_)) && group.members.is_empty()
    );
    assert!(group.next_deadline().is_none_or(|at| at > test.now), "something is due, and not done");
    if matches!(group.phase, Phase::Completing | Phase::Stable) {
        let leader = group.leader.as_deref().unwrap();
        assert!(group.member(leader).is_some(), "the leader is a member");
        assert!(group.members.iter().all(|member| !member.waits_for_join()), "the generation has begun with all");
        assert!(group.protocol.as_ref().is_some_and(|protocol| group.members.iter().all(|m| m.knows(protocol))));
    }
    if group.phase == Phase::Stable {
        assert!(group.members.iter().all(|m| m.sync.as_ref().is_none_or(|wait| wait.outcome.is_some())));
    }
    let mut ids = test.ids();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), group.members.len(), "two with one id");
}

proptest! {
    /// Whatever members do, and when: what waits gets an answer, and without members there is soon nothing.
    #[test]
    fn nobody_waits_for_ever(steps in steps()) {
        const NAMES: [&str; 4] = ["a", "b", "c", "d"];
        const INSTANCES: [&str; 2] = ["i", "j"];
        let mut test = Test::new();
        for step in steps {
            let nth = |test: &Test, at: usize| test.ids().get(at).map_or("nobody".to_owned(), |id| (*id).to_owned());
            match step {
                Step::Join(who, false) => drop(test.join(Who::named(NAMES[who]))),
                Step::Join(who, true) if test.group.member(NAMES[who]).is_none() => drop(test.enter(NAMES[who])),
                Step::Join(who, true) => drop(test.join_saying(Who::named(NAMES[who]), b"new", true)),
                Step::JoinAsInstance(who) => drop(test.join(Who::of(INSTANCES[who]))),
                Step::Sync(at) => {
                    let id = nth(&test, at);
                    test.sync(&id, &[]);
                }
                Step::Beat(at) => {
                    let id = nth(&test, at);
                    let _ = test.beat(&id);
                }
                Step::Leave(at) => {
                    let id = nth(&test, at);
                    test.group.leave(test.now, &[(&id, None)]);
                }
                Step::Wait(ms) => test.wait(Duration::from_millis(ms)),
            }
            holds(&test);
        }
        // Only to what it asks for, and no later than it asks for.
        for _ in 0..200 {
            let Some(due) = test.group.next_deadline() else { break };
            test.now = due;
            prop_assert!(test.group.advance(due), "it asked for that");
            holds(&test);
        }
        prop_assert_eq!((test.group.phase, test.group.members.len()), (Phase::Empty, 0));
        prop_assert!((0..=test.tickets).all(|ticket| !test.group.has_waiting(Ticket(ticket))));
    }
}
