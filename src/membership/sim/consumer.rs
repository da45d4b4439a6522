//! PURE. A coordinator of a group of KIP-848, as Kafka's is: `GroupMetadataManager` and `CurrentAssignmentBuilder` of 4.x, in
//! what a member can see of them.
//!
//! Its log has everything, so that one that takes over goes on where the other was, and gives everybody a whole session.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::membership::assignors::Counts;

const INTERVAL: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Stable,
    Unrevoked,
    Unreleased,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Peer {
    instance: Option<Arc<str>>,
    state: State,
    /// -2 where it has left for a while.
    epoch: i32,
    before: i32,
    assigned: ById,
    revoking: ById,
    /// Since which epoch each of those has been its own.
    since: BTreeMap<(TopicId, i32), i32>,
    topics: BTreeSet<Arc<str>>,
    rebalance_timeout: Duration,
    expires: Instant,
    revoke_by: Option<Instant>,
}

impl Peer {
    fn enter(&mut self, epoch: i32) {
        if self.epoch != epoch {
            (self.before, self.epoch) = (self.epoch, epoch);
        }
    }

    fn note_since(&mut self) {
        let all = union(&self.assigned, &self.revoking);
        let all = all.iter().flat_map(|(topic, of)| of.iter().map(|partition| (*topic, *partition)));
        let since = |at: (TopicId, i32)| (at, self.since.get(&at).copied().unwrap_or(self.epoch));
        self.since = all.map(since).collect();
    }
}

pub(crate) struct ConsumerGroup {
    epoch: i32,
    members: BTreeMap<Arc<str>, Peer>,
    target: BTreeMap<Arc<str>, ById>,
    target_epoch: i32,
    topics: Topics,
    session_timeout: Duration,
    /// As before 4.1: who joins and is known under a later epoch is fenced.
    strict: bool,
    /// It believes the epoch before also of who holds what it was about to be told to give up. A real one fences it: whose
    /// answer is lost in that moment has lost everything. Otherwise nothing is lost where only an answer is.
    lenient: bool,
    pub(crate) out: Vec<(Reply, Result<Answer, Refusal>)>,
}

fn minus(left: &ById, right: &ById) -> ById {
    super::super::holdings::minus(left, right)
}

fn is_within(part: &ById, whole: &ById) -> bool {
    minus(part, whole).is_empty()
}

fn union(left: &ById, right: &ById) -> ById {
    let mut all = left.clone();
    for (topic, partitions) in right {
        all.entry(*topic).or_default().extend(partitions);
    }
    all
}

impl ConsumerGroup {
    pub(crate) fn new(topics: Topics, session_timeout: Duration, (strict, lenient): (bool, bool)) -> Self {
        let (members, target) = <_>::default();
        Self { epoch: 0, members, target, target_epoch: 0, topics, session_timeout, strict, lenient, out: Vec::new() }
    }

    /// Whether all is quiet, with these members.
    pub(crate) fn is_settled(&self, members: usize) -> bool {
        let settled = |peer: &Peer| peer.state == State::Stable && peer.epoch == self.target_epoch;
        self.members.len() == members && self.members.values().all(settled)
    }

    pub(crate) fn takes_commit(&self, epoch: &Epoch) -> Option<bool> {
        Some(self.members.get(&epoch.member).is_some_and(|peer| peer.epoch == epoch.number))
    }

    pub(crate) fn takes_commit_since_assigned(&self, epoch: &Epoch, at: (TopicId, i32)) -> bool {
        let since = |peer: &Peer| Some((*peer.since.get(&at)?, peer.epoch));
        let known = self.members.get(&epoch.member).and_then(since);
        known.is_some_and(|(since, until)| (since..=until).contains(&epoch.number))
    }

    pub(crate) fn forgets(&mut self, id: &Arc<str>) {
        self.remove(id);
    }

    pub(crate) fn timeout(&self) -> Option<Instant> {
        self.members.values().flat_map(|peer| [Some(peer.expires), peer.revoke_by]).flatten().min()
    }

    pub(crate) fn tick(&mut self, now: Instant) {
        let over = |peer: &Peer| peer.expires <= now || peer.revoke_by.is_some_and(|by| by <= now);
        let gone: Vec<_> = self.members.iter().filter(|(_, peer)| over(peer)).map(|(id, _)| Arc::clone(id)).collect();
        for id in gone {
            self.remove(&id);
        }
    }

    pub(crate) fn moves(&mut self, now: Instant) {
        for peer in self.members.values_mut() {
            peer.expires = now + self.session_timeout;
            peer.revoke_by = peer.revoke_by.map(|_| now + peer.rebalance_timeout);
        }
    }

    pub(crate) fn topics_change(&mut self, topics: &Topics) {
        if self.topics != *topics {
            self.topics = topics.clone();
            self.bump();
        }
    }

    fn remove(&mut self, id: &Arc<str>) {
        if self.members.remove(id).is_some() {
            self.target.remove(id);
            self.bump();
        }
    }

    fn bump(&mut self) {
        self.epoch += 1;
    }

    pub(crate) fn handle(&mut self, request: Request, reply: Reply, now: Instant) {
        let Request::ConsumerBeat(beat) = request else {
            self.out.push((reply, Err(Refusal::InconsistentProtocol("a group of KIP-848".into()))));
            return;
        };
        let answer = if beat.epoch < 0 { self.leave(&beat, now) } else { self.beat(&beat, now) };
        self.out.push((reply, answer.map(Answer::ConsumerBeaten)));
    }

    fn leave(&mut self, beat: &ConsumerBeat, now: Instant) -> Result<ConsumerBeaten, Refusal> {
        let id = Arc::clone(&beat.member);
        if beat.epoch == -2 {
            let holder = self.holder(beat.instance.as_ref());
            if holder.as_ref().ok_or(Refusal::UnknownMember)? != &id {
                return Err(Refusal::FencedInstance);
            }
            let peer = self.members.get_mut(&id).expect("it holds the instance");
            (peer.epoch, peer.revoke_by, peer.expires) = (-2, None, now + self.session_timeout);
            peer.revoking.clear();
        } else if self.members.contains_key(&id) {
            self.remove(&id);
        } else {
            return Err(Refusal::UnknownMember);
        }
        Ok(ConsumerBeaten { member: id, epoch: beat.epoch, interval: Duration::ZERO, assignment: None })
    }

    fn holder(&self, instance: Option<&Arc<str>>) -> Option<Arc<str>> {
        let holder = self.members.iter().find(|(_, peer)| instance.is_some() && peer.instance.as_ref() == instance);
        holder.map(|(id, _)| Arc::clone(id))
    }

    fn beat(&mut self, beat: &ConsumerBeat, now: Instant) -> Result<ConsumerBeaten, Refusal> {
        let id = Arc::clone(&beat.member);
        let joins = beat.epoch == 0;
        let first = (&beat.rebalance_timeout, &beat.topics, &beat.owned);
        if joins && !matches!(first, (Some(_), Some(topics), Some(owned)) if !topics.is_empty() && owned.is_empty()) {
            return Err(Refusal::Never("not a first heartbeat".into()));
        }
        let holder = self.holder(beat.instance.as_ref());
        match holder {
            Some(holder) if joins => {
                let mut peer = self.members[&holder].clone();
                if peer.epoch != -2 {
                    return Err(Refusal::UnreleasedInstance);
                }
                (peer.epoch, peer.before, peer.state) = (0, 0, State::Stable);
                self.members.remove(&holder);
                self.members.insert(Arc::clone(&id), peer);
                let target = self.target.remove(&holder).unwrap_or_default();
                self.target.insert(Arc::clone(&id), target);
            }
            Some(holder) if holder != id => return Err(Refusal::FencedInstance),
            Some(_) => {}
            None if beat.instance.is_some() && !joins => return Err(Refusal::UnknownMember),
            None => {}
        }
        let known = self.members.get(&id);
        if let Some(peer) = known {
            self.validate(peer, beat)?;
        } else if !joins {
            return Err(Refusal::UnknownMember);
        }
        let before = known.cloned();
        self.take(&id, beat, now);
        self.reconcile(&id, beat.owned.as_ref(), now);
        let peer = &self.members[&id];
        let whole = joins || beat.rebalance_timeout.is_some() && beat.topics.is_some() && beat.owned.is_some();
        let changed = before.is_none_or(|before| before.assigned != peer.assigned);
        let assignment = (whole || changed).then(|| peer.assigned.clone());
        Ok(ConsumerBeaten { member: id, epoch: peer.epoch, interval: INTERVAL, assignment })
    }

    fn validate(&self, peer: &Peer, beat: &ConsumerBeat) -> Result<(), Refusal> {
        let rejoins = beat.epoch == 0 && !self.strict;
        let known = if self.lenient { union(&peer.assigned, &peer.revoking) } else { peer.assigned.clone() };
        let answer_was_lost =
            beat.epoch == peer.before && beat.owned.as_ref().is_some_and(|owned| is_within(owned, &known));
        if rejoins || beat.epoch == peer.epoch || beat.epoch < peer.epoch && answer_was_lost {
            return Ok(());
        }
        Err(Refusal::FencedEpoch)
    }

    /// Takes in what it says of itself, and assigns anew if that changes anything.
    fn take(&mut self, id: &Arc<str>, beat: &ConsumerBeat, now: Instant) {
        let expires = now + self.session_timeout;
        let fresh = !self.members.contains_key(id);
        let peer = self.members.entry(Arc::clone(id)).or_insert_with(|| Peer {
            instance: beat.instance.clone(),
            state: State::Stable,
            epoch: 0,
            before: 0,
            assigned: ById::new(),
            revoking: ById::new(),
            since: BTreeMap::new(),
            topics: BTreeSet::new(),
            rebalance_timeout: Duration::ZERO,
            expires,
            revoke_by: None,
        });
        peer.expires = expires;
        if let Some(timeout) = beat.rebalance_timeout {
            peer.rebalance_timeout = timeout;
        }
        let changes = beat.topics.as_ref().is_some_and(|topics| *topics != peer.topics);
        if let Some(topics) = &beat.topics {
            peer.topics.clone_from(topics);
        }
        if fresh || changes {
            self.bump();
        }
        if self.epoch > self.target_epoch {
            self.assign();
        }
    }

    fn assign(&mut self) {
        let name_of = |wanted: &TopicId| self.topics.iter().find(|(_, (id, _))| id == wanted).map(|(name, _)| name);
        let peers = self.members.iter().map(|(id, peer)| {
            let owned = self.target.get(id).into_iter().flatten();
            let owned = owned.filter_map(|(topic, of)| Some((Arc::clone(name_of(topic)?), of.clone()))).collect();
            let subscription = Subscription { topics: peer.topics.clone(), owned, generation: 0, ..<_>::default() };
            exchange::Peer { member: Arc::clone(id), instance: None, subscription }
        });
        let peers: Vec<_> = peers.collect();
        let counts: Counts = self.topics.iter().map(|(name, (_, count))| (Arc::clone(name), *count)).collect();
        let assigned = assignors::give_at_once(Assignor::CooperativeSticky, &counts, &peers);
        let by_id = |has: ByName| has.into_iter().map(|(name, of)| (self.topics[&name].0, of)).collect();
        self.target = assigned.into_iter().map(|(id, has)| (id, by_id(has))).collect();
        self.target_epoch = self.epoch;
    }

    fn reconcile(&mut self, id: &Arc<str>, owned: Option<&ById>, now: Instant) {
        let peer = &self.members[id];
        let epoch = match peer.state {
            State::Stable if peer.epoch == self.target_epoch => return,
            State::Unrevoked if owns(owned, &peer.revoking) => return,
            State::Unrevoked => peer.epoch + 1,
            State::Stable | State::Unreleased => peer.epoch,
        };
        let mut next = self.next(id, owned, epoch);
        next.note_since();
        let peer = self.members.get_mut(id).expect("a member");
        let waits = next.state == State::Unrevoked;
        let revoke_by = waits.then(|| now + peer.rebalance_timeout);
        *peer = Peer { revoke_by, ..next };
    }

    fn next(&self, id: &Arc<str>, owned: Option<&ById>, epoch: i32) -> Peer {
        let mut peer = self.members[id].clone();
        let none = ById::new();
        let target = self.target.get(id).unwrap_or(&none);
        let revoking = minus(&peer.assigned, target);
        let kept = minus(&peer.assigned, &revoking);
        let others = self.members.iter().filter(|(other, _)| *other != id);
        let taken = others.fold(ById::new(), |all, (_, other)| union(&union(&all, &other.assigned), &other.revoking));
        let wanted = minus(target, &kept);
        let free = minus(&wanted, &taken);
        if !revoking.is_empty() && owns(owned, &revoking) {
            peer.state = State::Unrevoked;
            peer.enter(epoch);
            (peer.assigned, peer.revoking) = (kept, revoking);
            return peer;
        }
        peer.state = if free == wanted { State::Stable } else { State::Unreleased };
        peer.enter(self.target_epoch);
        (peer.assigned, peer.revoking) = (union(&kept, &free), ById::new());
        peer
    }
}

/// Whether it may still hold some of these: also if it does not say.
fn owns(owned: Option<&ById>, revoking: &ById) -> bool {
    owned.is_none_or(|owned| minus(owned, revoking) != *owned)
}
