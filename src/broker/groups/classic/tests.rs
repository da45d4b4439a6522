//! What a group does, by its members and by time.

mod any_order;

use super::*;

const SESSION: Duration = Duration::from_secs(10);
const REBALANCE_TIMEOUT: Duration = Duration::from_secs(60);

/// A group with its clock.
struct Test {
    group: Classic,
    start: Instant,
    now: Instant,
    tickets: u64,
}

/// Somebody who joins.
#[derive(Debug, Clone, Copy)]
struct Who {
    member: &'static str,
    instance: Option<&'static str>,
    protocols: &'static [&'static str],
}

impl Who {
    const fn named(member: &'static str) -> Self {
        Self { member, instance: None, protocols: &["range"] }
    }

    const fn of(instance: &'static str) -> Self {
        Self { member: "", instance: Some(instance), protocols: &["range"] }
    }
}

impl Test {
    fn new() -> Self {
        let start = Instant::now();
        Self { group: Classic::default(), start, now: start, tickets: 0 }
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        self.group.advance(self.now);
    }

    /// When there is something to do, since the beginning.
    fn deadline(&self) -> Option<Duration> {
        self.group.next_deadline().map(|at| at - self.start)
    }

    fn join_saying(&mut self, who: Who, says: &'static [u8], may_skip: bool) -> (Ticket, Turn<Joined, JoinRefused>) {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        let join = Join {
            member: who.member,
            instance: who.instance,
            client_id: "client",
            session_timeout: SESSION,
            rebalance_timeout: REBALANCE_TIMEOUT,
            protocol_type: "consumer",
            protocols: who.protocols.iter().map(|name| ((*name).to_owned(), Bytes::from_static(says))).collect(),
            asks_for_id: true,
            may_skip,
        };
        (ticket, self.group.join(self.now, ticket, join, |name| format!("{name}-{}", ticket.0)))
    }

    fn join(&mut self, who: Who) -> (Ticket, Turn<Joined, JoinRefused>) {
        self.join_saying(who, b"t", true)
    }

    fn error(&mut self, who: Who) -> ResponseError {
        match self.join(who).1 {
            Turn::Now(Err(refused)) => refused.error,
            turn => panic!("{turn:?}"),
        }
    }

    /// Joins under an id of its own choice, as if it had been given that one.
    fn enter(&mut self, id: &'static str) -> (Ticket, Turn<Joined, JoinRefused>) {
        self.group.promised.insert(id.to_owned(), self.now + SESSION);
        self.join(Who::named(id))
    }

    fn outcome(&mut self, ticket: Ticket) -> Turn<Joined, JoinRefused> {
        self.group.joined(ticket, "", None)
    }

    fn at<'a>(&self, member: &'a str) -> At<'a> {
        At { member, generation: self.group.generation, ..At::default() }
    }

    fn sync(&mut self, member: &str, assigned: &[(&str, &'static [u8])]) -> (Ticket, Turn<Bytes>) {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        let assigned = assigned.iter().map(|(id, bytes)| ((*id).to_owned(), Bytes::from_static(bytes)));
        let at = self.at(member);
        (ticket, self.group.sync(self.now, ticket, &at, assigned))
    }

    fn beat(&mut self, member: &str) -> Result<(), ResponseError> {
        let at = self.at(member);
        self.group.beat(self.now, &at)
    }

    fn ids(&self) -> Vec<&str> {
        self.group.members().iter().map(|member| member.id.as_str()).collect()
    }

    /// With `a`, which leads, and `b`, both of which have what `a` gave them.
    fn with_two() -> Self {
        let mut test = Self::new();
        test.enter("a");
        test.sync("a", &[("a", b"all")]);
        let (of_b, turn) = test.enter("b");
        assert_eq!(turn, Turn::Later);
        test.join(Who::named("a"));
        assert!(matches!(test.outcome(of_b), Turn::Now(Ok(_))));
        let (of_b, turn) = test.sync("b", &[]);
        assert_eq!(turn, Turn::Later);
        test.sync("a", &[("a", b"some"), ("b", b"the rest")]);
        assert_eq!(test.group.synced(of_b, &At::default()), Turn::Now(Ok("the rest".into())));
        assert_eq!((test.group.phase, test.group.generation), (Phase::Stable, 2));
        test
    }
}

fn joined(turn: Turn<Joined, JoinRefused>) -> Joined {
    match turn {
        Turn::Now(Ok(joined)) => joined,
        turn => panic!("{turn:?}"),
    }
}

fn members(joined: &Joined) -> Vec<&str> {
    joined.members.iter().map(|(id, ..)| id.as_str()).collect()
}

const fn ok<T>(value: T) -> Turn<T> {
    Turn::Now(Ok(value))
}

#[test]
fn the_first_is_given_an_id_and_leads_at_once() {
    let mut test = Test::new();
    let Turn::Now(Err(JoinRefused { error, member })) = test.join(Who::named("")).1 else { panic!() };
    assert_eq!((error, &*member), (ResponseError::MemberIdRequired, "client-1"));
    assert_eq!(test.deadline(), Some(SESSION), "the id is kept for so long");
    let first = joined(test.join(Who::named("client-1")).1);
    let expected = Joined {
        generation: 1,
        protocol: "range".into(),
        leader: "client-1".into(),
        member: "client-1".into(),
        skip_assignment: false,
        members: vec![("client-1".into(), None, "t".into())],
    };
    assert_eq!(first, expected);
    assert_eq!(test.beat("client-1"), Ok(()), "before the sync, too");
    assert_eq!(test.sync("client-1", &[("client-1", b"all")]).1, ok("all".into()));
    assert_eq!(test.sync("client-1", &[]).1, ok("all".into()), "it may ask again");
    assert_eq!(test.group.phase, Phase::Stable);
}

#[test]
fn who_joins_waits_for_the_others_and_only_the_leader_learns_of_all() {
    let mut test = Test::new();
    test.enter("a");
    test.sync("a", &[("a", b"all")]);
    let (of_b, turn) = test.enter("b");
    assert_eq!(turn, Turn::Later);
    assert!(test.group.has_waiting(of_b));
    assert_eq!(test.beat("a"), Err(ResponseError::RebalanceInProgress));
    assert_eq!(test.sync("a", &[]).1, Turn::Now(Err(ResponseError::RebalanceInProgress)));
    let a = joined(test.join(Who::named("a")).1);
    assert_eq!((a.generation, &*a.leader, members(&a)), (2, "a", vec!["a", "b"]));
    let b = joined(test.outcome(of_b));
    assert_eq!((b.generation, &*b.leader, members(&b)), (2, "a", vec![]));
    assert!(!test.group.has_waiting(of_b));
    let (of_b, turn) = test.sync("b", &[]);
    assert_eq!(turn, Turn::Later);
    assert_eq!(test.sync("a", &[("a", b"some")]).1, ok("some".into()));
    assert_eq!(test.group.synced(of_b, &At::default()), ok(Bytes::new()), "the leader has left it out");
}

#[test]
fn a_rebalance_waits_no_longer_than_its_timeout() {
    let mut test = Test::with_two();
    let (of_c, turn) = test.enter("c");
    assert_eq!(turn, Turn::Later);
    let (of_a, turn) = test.join(Who::named("a"));
    assert_eq!(turn, Turn::Later);
    // b beats, but does not join.
    for _ in 0..11 {
        test.wait(SESSION / 2);
        assert_eq!(test.beat("b"), Err(ResponseError::RebalanceInProgress));
    }
    test.wait(SESSION / 2 - Duration::from_millis(1));
    assert_eq!((test.outcome(of_a), test.deadline()), (Turn::Later, Some(REBALANCE_TIMEOUT)));
    test.wait(Duration::from_millis(1));
    assert_eq!(members(&joined(test.outcome(of_a))), ["a", "c"], "a has waited longer than a session, and is there");
    assert_eq!(joined(test.outcome(of_c)).generation, 3);
    assert_eq!(test.beat("b"), Err(ResponseError::UnknownMemberId));
}

#[test]
fn a_leader_that_does_not_come_back_is_followed_by_one_that_does() {
    let mut test = Test::with_two();
    let (of_b, _) = test.join_saying(Who::named("b"), b"other topics", true);
    test.wait(SESSION);
    let b = joined(test.outcome(of_b));
    assert_eq!((&*b.leader, members(&b), b.generation), ("b", vec!["b"], 3));
}

#[test]
fn one_that_does_not_beat_is_taken_out() {
    let mut test = Test::with_two();
    test.wait(SESSION / 2);
    assert_eq!(test.beat("a"), Ok(()));
    test.wait(SESSION / 2);
    assert_eq!(test.beat("a"), Err(ResponseError::RebalanceInProgress));
    assert_eq!(test.ids(), ["a"]);
    assert_eq!(test.beat("b"), Err(ResponseError::UnknownMemberId));
    assert_eq!(joined(test.join(Who::named("a")).1).generation, 3);
    test.wait(SESSION);
    assert_eq!((test.group.phase, test.deadline()), (Phase::Empty, None));
}

#[test]
fn a_commit_is_a_sign_of_life() {
    let mut test = Test::with_two();
    test.wait(SESSION / 2);
    let at = test.at("a");
    assert_eq!(test.group.may_commit(test.now, &at), Ok(()));
    test.wait(SESSION / 2);
    assert_eq!(test.ids(), ["a"]);
}

#[test]
fn what_was_missed_happens_in_its_order() {
    let mut test = Test::with_two();
    test.enter("c");
    // a and b expire, c is alone in the third generation, and expires a session later.
    test.wait(Duration::from_secs(3_600));
    assert_eq!((test.group.phase, test.group.generation), (Phase::Empty, 4));
}

#[test]
fn one_that_does_not_sync_is_taken_out_and_so_is_an_id_that_is_not_used() {
    let mut test = Test::with_two();
    let (of_c, _) = test.enter("c");
    test.join(Who::named("a"));
    test.join(Who::named("b"));
    joined(test.outcome(of_c));
    test.sync("a", &[]);
    test.sync("b", &[]);
    for _ in 0..11 {
        test.wait(SESSION / 2);
        assert_eq!((test.beat("a"), test.beat("b"), test.beat("c")), (Ok(()), Ok(()), Ok(())));
    }
    test.wait(SESSION / 2);
    assert_eq!(test.beat("c"), Err(ResponseError::UnknownMemberId));
    assert_eq!(test.ids(), ["a", "b"]);
    // An id that was promised holds up a rebalance only until it expires.
    let Turn::Now(Err(promised)) = test.join(Who::named("")).1 else { panic!() };
    let (of_a, _) = test.join(Who::named("a"));
    test.join(Who::named("b"));
    assert_eq!(test.outcome(of_a), Turn::Later);
    test.wait(SESSION);
    assert_eq!(members(&joined(test.outcome(of_a))), ["a", "b"]);
    assert_eq!(promised.error, ResponseError::MemberIdRequired);
}

#[test]
fn a_new_one_that_waits_for_too_long_is_told_to_begin_anew() {
    let mut test = Test::with_two();
    let (of_c, _) = test.enter("c");
    // Somebody beats, does not join, and is more patient than most.
    test.group.phase = Phase::Preparing(test.now + 2 * NEW_MEMBER);
    for beat in 1..=60 {
        test.wait(SESSION / 2);
        let _ = test.beat("a");
        assert_eq!(test.ids().contains(&"c"), beat < 60, "after {:?}", test.now - test.start);
    }
    let Turn::Now(Err(refused)) = test.outcome(of_c) else { panic!() };
    assert_eq!(refused.error, ResponseError::UnknownMemberId);
}

#[test]
fn who_joins_again_with_nothing_new_to_say_disturbs_nobody_but_for_the_leader() {
    let mut test = Test::with_two();
    let b = joined(test.join(Who::named("b")).1);
    assert_eq!((b.generation, test.group.phase), (2, Phase::Stable));
    let (of_a, turn) = test.join(Who::named("a"));
    assert_eq!(turn, Turn::Later, "it has seen something that the others have not");
    assert_eq!(test.beat("b"), Err(ResponseError::RebalanceInProgress));
    // Its answer was lost: it asks again.
    let (again, _) = test.join(Who::named("a"));
    test.join(Who::named("b"));
    assert_eq!(joined(test.outcome(again)).generation, 3);
    assert!(matches!(test.outcome(of_a), Turn::Now(Err(_))), "nobody reads it");
    let a = joined(test.join(Who::named("a")).1);
    assert_eq!((a.generation, members(&a)), (3, vec!["a", "b"]), "what was lost is said again");
    let (_, turn) = test.join_saying(Who::named("b"), b"other topics", true);
    assert_eq!(turn, Turn::Later);
}

#[test]
fn the_same_instance_takes_over_without_a_rebalance_and_fences_its_former_self() {
    let mut test = Test::new();
    joined(test.join(Who::of("i")).1);
    assert_eq!(test.ids(), ["i-1"]);
    test.sync("i-1", &[("i-1", b"all")]);
    let next = joined(test.join(Who::of("i")).1);
    assert_eq!((&*next.member, &*next.leader, next.generation), ("i-3", "i-3", 1));
    assert_eq!((next.skip_assignment, members(&next)), (true, vec!["i-3"]));
    assert_eq!(test.sync("i-3", &[]).1, ok("all".into()));
    let former = At { instance: Some("i"), ..test.at("i-1") };
    assert_eq!(test.group.beat(test.now, &former), Err(ResponseError::FencedInstanceId));
    assert_eq!(test.group.may_commit(test.now, &former), Err(ResponseError::FencedInstanceId));
    assert_eq!(test.error(Who { member: "i-1", ..Who::of("i") }), ResponseError::FencedInstanceId);
    assert_eq!(test.error(Who { member: "x", ..Who::of("j") }), ResponseError::UnknownMemberId);
    // One that cannot lead without assigning does not learn that it leads.
    let old = joined(test.join_saying(Who::of("i"), b"t", false).1);
    assert_eq!((old.member != old.leader, members(&old), old.skip_assignment), (true, vec![], false));
    // Its place is kept for as long as a session.
    test.wait(SESSION);
    assert_eq!(test.group.phase, Phase::Empty);
}

#[test]
fn an_instance_that_is_replaced_while_the_leader_assigns_makes_all_join_again() {
    let mut test = Test::new();
    test.enter("a");
    test.sync("a", &[]);
    let (of_i, _) = test.join(Who::of("i"));
    test.join(Who::named("a"));
    let i = joined(test.outcome(of_i));
    let (of_i, turn) = test.sync(&i.member, &[]);
    assert_eq!((turn, test.group.phase), (Turn::Later, Phase::Completing));
    let (_, turn) = test.join(Who::of("i"));
    assert_eq!(turn, Turn::Later);
    let former = At { instance: Some("i"), ..test.at(&i.member) };
    assert_eq!(test.group.synced(of_i, &former), Turn::Now(Err(ResponseError::FencedInstanceId)));
    assert_eq!(test.sync("a", &[]).1, Turn::Now(Err(ResponseError::RebalanceInProgress)));
}

#[test]
fn the_protocol_is_one_that_all_know_and_most_like_best() {
    let mut test = Test::new();
    let all = Who { protocols: &["x", "range", "sticky"], ..Who::of("i") };
    joined(test.join(all).1);
    let sticky = Who { protocols: &["sticky", "range"], ..Who::of("j") };
    let (of_j, turn) = test.join(sticky);
    assert_eq!(turn, Turn::Later);
    let (of_k, _) = test.join(Who { protocols: &["sticky", "range"], ..Who::of("k") });
    assert_eq!(test.error(Who { protocols: &["x"], ..Who::named("") }), ResponseError::InconsistentGroupProtocol);
    let leader = joined(test.join(Who { member: "i-1", ..all }).1);
    assert_eq!((&*leader.protocol, members(&leader).len()), ("sticky", 3));
    assert_eq!(joined(test.outcome(of_j)).protocol, "sticky");
    assert_eq!(joined(test.outcome(of_k)).protocol, "sticky");
    let other = At { protocol: Some("range"), instance: Some("i"), ..test.at("i-1") };
    assert_eq!(test.group.check(&other), Err(ResponseError::InconsistentGroupProtocol));
}

#[test]
fn who_leaves_is_gone_at_once() {
    let mut test = Test::with_two();
    let said = test.group.leave(test.now, &[("b", None), ("x", None), ("", Some("i")), ("a", Some("i"))]);
    assert_eq!(said[0], Ok(()));
    assert!(said[1..].iter().all(|said| *said == Err(ResponseError::UnknownMemberId)), "{said:?}");
    assert_eq!(test.beat("a"), Err(ResponseError::RebalanceInProgress));
    let (of_i, turn) = test.join(Who::of("i"));
    assert_eq!(turn, Turn::Later);
    // The one that all wait for leaves: those that are left begin.
    assert_eq!(test.group.leave(test.now, &[("a", None)]), [Ok(())]);
    let i = joined(test.outcome(of_i));
    assert_eq!(members(&i), [&*i.member]);
    assert_eq!(test.group.leave(test.now, &[("", Some("i"))]), [Ok(())]);
    assert_eq!((test.group.phase, test.deadline()), (Phase::Empty, None));
}

#[test]
fn only_members_commit_and_only_between_rebalances() {
    let mut test = Test::new();
    let simple = At { generation: -1, ..At::default() };
    let may = |test: &mut Test, at: At<'_>| test.group.may_commit(test.now, &at);
    assert_eq!(may(&mut test, simple), Ok(()));
    assert_eq!(may(&mut test, At { member: "a", generation: 1, ..simple }), Err(ResponseError::IllegalGeneration));
    test.enter("a");
    let a = At { member: "a", generation: 1, ..simple };
    assert_eq!(may(&mut test, a), Err(ResponseError::RebalanceInProgress));
    test.sync("a", &[]);
    assert_eq!(may(&mut test, a), Ok(()));
    assert_eq!(may(&mut test, simple), Err(ResponseError::UnknownMemberId));
    assert_eq!(may(&mut test, At { member: "b", ..a }), Err(ResponseError::UnknownMemberId));
    assert_eq!(may(&mut test, At { generation: 0, ..a }), Err(ResponseError::IllegalGeneration));
    assert_eq!(may(&mut test, At { generation: -1, ..a }), Err(ResponseError::IllegalGeneration));
    test.enter("b");
    assert_eq!(may(&mut test, a), Ok(()), "before it joins again it may say what it has done");
    test.group.leave(test.now, &[("a", None), ("b", None)]);
    assert_eq!(may(&mut test, simple), Ok(()));
    assert_eq!(may(&mut test, a), Err(ResponseError::UnknownMemberId));
}

#[test]
fn a_group_is_bounded() {
    let mut test = Test::new();
    for _ in 0..MAX_MEMBERS {
        assert_eq!(test.error(Who::named("")), ResponseError::MemberIdRequired);
    }
    assert_eq!(test.error(Who::named("")), ResponseError::GroupMaxSizeReached);
    test.wait(SESSION);
    static LARGE: [u8; MAX_BYTES - 10] = [0; MAX_BYTES - 10];
    joined(test.join_saying(Who::of("i"), &LARGE, true).1);
    let Turn::Now(Err(refused)) = test.join_saying(Who::of("j"), b"more than ten", true).1 else { panic!() };
    assert_eq!(refused.error, ResponseError::GroupMaxSizeReached);
    static TOO_LARGE: [u8; MAX_BYTES + 1] = [0; MAX_BYTES + 1];
    let leader = test.ids()[0].to_owned();
    let turn = test.sync(&leader, &[(&leader, &TOO_LARGE)]).1;
    assert_eq!(turn, Turn::Now(Err(ResponseError::UnknownServerError)));
    assert!(matches!(test.group.phase, Phase::Preparing(_)), "{:?}", test.group.phase);
}
