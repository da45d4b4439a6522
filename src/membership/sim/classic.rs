//! PURE. A coordinator of a classic group, as Kafka's is: `GroupMetadataManager` of 4.x, in what a member can see of it.
//!
//! It keeps what a real one writes to its log: the group as it was when it was last stable. A coordinator that takes over
//! goes on from there, and gives everybody a whole session.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Empty,
    /// Waits for members to join, until then; a group that was empty always waits.
    Preparing {
        until: Instant,
        first: bool,
    },
    /// Waits for the leader, and for everybody to ask, until then.
    Completing {
        until: Instant,
    },
    Stable,
}

#[derive(Debug, Clone)]
struct Peer {
    instance: Option<Arc<str>>,
    session_timeout: Duration,
    rebalance_timeout: Duration,
    protocols: Vec<(&'static str, Subscription)>,
    /// The end of its session, if nothing is heard; `None` where it passed while we let it wait.
    expires: Option<Instant>,
    joining: Option<Reply>,
    syncing: Option<Reply>,
    synced: bool,
    assignment: ByName,
}

impl Peer {
    fn new(join: &Join) -> Self {
        Self {
            instance: join.instance.clone(),
            session_timeout: join.session_timeout,
            rebalance_timeout: join.rebalance_timeout,
            protocols: join.protocols.clone(),
            expires: None,
            joining: None,
            syncing: None,
            synced: false,
            assignment: ByName::new(),
        }
    }

    fn heard(&mut self, now: Instant) {
        self.expires = Some(now + self.session_timeout);
    }
}

pub(crate) struct ClassicGroup {
    state: State,
    generation: i32,
    leader: Arc<str>,
    protocol: &'static str,
    members: BTreeMap<Arc<str>, Peer>,
    /// Ids that were given and have not been used, until when.
    pending: BTreeMap<Arc<str>, Instant>,
    ids: u64,
    /// What the log has: the generation, the leader, the protocol and the members.
    kept: (i32, Arc<str>, &'static str, BTreeMap<Arc<str>, Peer>),
    pub(crate) out: Vec<(Reply, Result<Answer, Refusal>)>,
}

impl ClassicGroup {
    pub(crate) fn new() -> Self {
        Self {
            state: State::Empty,
            generation: 0,
            leader: "".into(),
            protocol: "",
            members: BTreeMap::new(),
            pending: BTreeMap::new(),
            ids: 0,
            kept: (0, "".into(), "", BTreeMap::new()),
            out: Vec::new(),
        }
    }

    pub(crate) fn protocol(&self) -> &'static str {
        self.protocol
    }

    /// Whether all is quiet, with these members.
    pub(crate) fn is_settled(&self, members: usize) -> bool {
        self.state == State::Stable && self.members.len() == members && self.pending.is_empty()
    }

    /// Whether a commit under this epoch would be taken; `None` where it is to be tried again.
    pub(crate) fn takes_commit(&self, epoch: &Epoch) -> Option<bool> {
        let known = self.members.contains_key(&epoch.member) && self.generation == epoch.number;
        if known && matches!(self.state, State::Completing { .. }) { None } else { Some(known) }
    }

    /// As at the end of its session. The log is not told: who takes over before the group is stable knows the member again.
    pub(crate) fn forgets(&mut self, id: &Arc<str>, now: Instant) {
        self.remove(id, now);
        self.maybe_complete_join(now);
    }

    pub(crate) fn timeout(&self) -> Option<Instant> {
        let state = match self.state {
            State::Preparing { until, .. } | State::Completing { until } => Some(until),
            State::Empty | State::Stable => None,
        };
        let sessions = self.members.values().filter_map(|peer| peer.expires);
        sessions.chain(self.pending.values().copied()).chain(state).min()
    }

    pub(crate) fn tick(&mut self, now: Instant) {
        self.pending.retain(|_, until| *until > now);
        let mut gone = Vec::new();
        for (id, peer) in &mut self.members {
            if peer.expires.is_some_and(|at| at <= now) {
                peer.expires = None;
                if peer.joining.is_none() && peer.syncing.is_none() {
                    gone.push(Arc::clone(id));
                }
            }
        }
        for id in gone {
            self.remove(&id, now);
        }
        match self.state {
            State::Preparing { until, .. } if until <= now => self.complete_join(now),
            State::Completing { until } if until <= now => {
                let late: Vec<_> =
                    self.members.iter().filter(|(_, peer)| !peer.synced).map(|(id, _)| id.clone()).collect();
                self.members.retain(|_, peer| peer.synced);
                if !late.is_empty() {
                    self.prepare(now);
                }
            }
            _ => self.maybe_complete_join(now),
        }
    }

    /// Another node takes the group over, from the log.
    pub(crate) fn moves(&mut self, now: Instant) {
        for peer in self.members.values_mut() {
            for reply in [peer.joining.take(), peer.syncing.take()].into_iter().flatten() {
                self.out.push((reply, Err(Refusal::Passing("not the coordinator".into()))));
            }
        }
        (self.generation, self.leader, self.protocol, self.members) = self.kept.clone();
        let led = self.members.is_empty() || self.members.contains_key(&self.leader);
        assert!(led, "the log never has members and no leader: nobody would ever assign");
        self.pending.clear();
        for peer in self.members.values_mut() {
            peer.heard(now);
        }
        self.state = if self.members.is_empty() { State::Empty } else { State::Stable };
    }

    pub(crate) fn handle(&mut self, request: Request, reply: Reply, now: Instant) {
        let answer = match request {
            Request::Join(join) => self.join(join, reply, now),
            Request::Sync(sync) => self.sync(&sync, reply, now),
            Request::Beat(beat) => Some(self.beat(&beat, now)),
            Request::Leave { member, .. } => {
                let known = self.pending.remove(&member).is_some() || self.members.contains_key(&member);
                self.remove(&member, now);
                self.maybe_complete_join(now);
                Some(if known { Ok(Answer::Left) } else { Err(Refusal::UnknownMember) })
            }
            Request::ConsumerBeat(_) => Some(Err(Refusal::Unsupported("too old".into()))),
        };
        if let Some(answer) = answer {
            self.out.push((reply, answer));
        }
    }

    fn validate(&self, id: &Arc<str>, instance: Option<&Arc<str>>) -> Result<(), Refusal> {
        if let Some(instance) = instance {
            let holder = self.members.iter().find(|(_, peer)| peer.instance.as_ref() == Some(instance));
            match holder {
                None => return Err(Refusal::UnknownMember),
                Some((holder, _)) if holder != id => return Err(Refusal::FencedInstance),
                Some(_) => {}
            }
        }
        if self.members.contains_key(id) { Ok(()) } else { Err(Refusal::UnknownMember) }
    }

    fn join(&mut self, join: Join, reply: Reply, now: Instant) -> Option<Result<Answer, Refusal>> {
        if !self.members.is_empty() && self.candidates(Some(&join)).is_empty() {
            return Some(Err(Refusal::InconsistentProtocol("nothing in common".into())));
        }
        if join.member.is_empty() {
            self.ids += 1;
            let id: Arc<str> = format!("m{:03}", self.ids).into();
            let Some(instance) = &join.instance else {
                self.pending.insert(Arc::clone(&id), now + join.session_timeout);
                return Some(Err(Refusal::MemberIdRequired(id)));
            };
            let old = self.members.iter().find(|(_, peer)| peer.instance.as_ref() == Some(instance));
            if let Some((old, _)) = old {
                let old = Arc::clone(old);
                return self.replace(&old, id, join, reply, now);
            }
            self.add(id, &join, reply, now);
            return None;
        }
        let id = Arc::clone(&join.member);
        if self.pending.remove(&id).is_some() {
            self.add(id, &join, reply, now);
            return None;
        }
        if let Err(refusal) = self.validate(&id, join.instance.as_ref()) {
            return Some(Err(refusal));
        }
        let same = self.members[&id].protocols == join.protocols;
        match self.state {
            State::Completing { .. } if same => return Some(Ok(self.joined(&id, false))),
            State::Stable if same && self.leader != id => return Some(Ok(self.joined(&id, false))),
            State::Empty => return Some(Err(Refusal::UnknownMember)),
            _ => {}
        }
        let peer = self.members.get_mut(&id).expect("validated");
        (peer.protocols, peer.joining) = (join.protocols, Some(reply));
        self.prepare(now);
        self.maybe_complete_join(now);
        None
    }

    fn add(&mut self, id: Arc<str>, join: &Join, reply: Reply, now: Instant) {
        let mut peer = Peer::new(join);
        peer.joining = Some(reply);
        peer.heard(now);
        self.keep_as(&id, join.instance.as_ref());
        self.members.insert(id, peer);
        self.prepare(now);
        self.maybe_complete_join(now);
    }

    /// A static member is back (KIP-345): it is what it was, under another id.
    fn replace(
        &mut self,
        old: &Arc<str>,
        id: Arc<str>,
        join: Join,
        reply: Reply,
        now: Instant,
    ) -> Option<Result<Answer, Refusal>> {
        let mut peer = self.members.remove(old).expect("found");
        let waiting = [peer.joining.take(), peer.syncing.take()];
        self.out.extend(waiting.into_iter().flatten().map(|waiting| (waiting, Err(Refusal::FencedInstance))));
        let topics = |protocols: &[(&str, Subscription)]| protocols.first().map(|(_, of)| of.topics.clone());
        // A real one would not look: who comes back with other topics is noticed in the next rebalance only.
        let same = topics(&peer.protocols) == topics(&join.protocols);
        peer.protocols = join.protocols;
        peer.heard(now);
        if self.leader == *old {
            self.leader = Arc::clone(&id);
        }
        self.keep_as(&id, join.instance.as_ref());
        self.members.insert(Arc::clone(&id), peer);
        if same && self.state == State::Stable && self.candidates(None).contains(self.protocol) {
            self.keep();
            return Some(Ok(self.joined(&id, self.leader == id)));
        }
        self.members.get_mut(&id).expect("it was put there").joining = Some(reply);
        self.prepare(now);
        self.maybe_complete_join(now);
        None
    }

    fn prepare(&mut self, now: Instant) {
        if matches!(self.state, State::Preparing { .. }) {
            return;
        }
        for peer in self.members.values_mut() {
            if let Some(reply) = peer.syncing.take() {
                peer.heard(now);
                self.out.push((reply, Err(Refusal::Rebalancing)));
            }
        }
        let first = self.state == State::Empty;
        let patience = self.members.values().map(|peer| peer.rebalance_timeout).max().unwrap_or_default();
        let until = now + if first { Duration::from_millis(100) } else { patience };
        self.state = State::Preparing { until, first };
    }

    fn maybe_complete_join(&mut self, now: Instant) {
        let all = self.pending.is_empty() && self.members.values().all(|peer| peer.joining.is_some());
        if all && matches!(self.state, State::Preparing { first: false, .. }) {
            self.complete_join(now);
        }
    }

    fn candidates(&self, more: Option<&Join>) -> BTreeSet<&'static str> {
        let lists = self.members.values().map(|peer| &peer.protocols).chain(more.map(|join| &join.protocols));
        let mut names = lists.map(|protocols| protocols.iter().map(|(name, _)| *name).collect::<BTreeSet<_>>());
        let first = names.next().unwrap_or_default();
        names.fold(first, |all, names| &all & &names)
    }

    fn complete_join(&mut self, now: Instant) {
        self.members.retain(|_, peer| peer.joining.is_some() || peer.instance.is_some());
        if self.members.is_empty() {
            self.generation += 1;
            self.state = State::Empty;
            self.keep();
            return;
        }
        if self.members.get(&self.leader).is_none_or(|leader| leader.joining.is_none()) {
            let next = self.members.iter().find(|(_, peer)| peer.joining.is_some());
            let Some((next, _)) = next else {
                let until = now + self.members.values().map(|peer| peer.rebalance_timeout).max().unwrap_or_default();
                self.state = State::Preparing { until, first: false };
                return;
            };
            self.leader = Arc::clone(next);
        }
        self.generation += 1;
        let candidates = self.candidates(None);
        // Each votes for its first that all can do; the most votes win.
        let mut votes = BTreeMap::<&str, usize>::new();
        for peer in self.members.values() {
            let vote = peer.protocols.iter().map(|(name, _)| *name).find(|name| candidates.contains(name));
            *votes.entry(vote.expect("it has something in common")).or_default() += 1;
        }
        self.protocol = votes.into_iter().max_by_key(|(_, count)| *count).expect("somebody votes").0;
        let patience = self.members.values().map(|peer| peer.rebalance_timeout).max().unwrap_or_default();
        self.state = State::Completing { until: now + patience };
        let ids: Vec<_> = self.members.keys().cloned().collect();
        for id in ids {
            let joined = self.joined(&id, false);
            let peer = self.members.get_mut(&id).expect("a member");
            peer.synced = false;
            peer.heard(now);
            if let Some(reply) = peer.joining.take() {
                self.out.push((reply, Ok(joined)));
            }
        }
    }

    fn joined(&self, id: &Arc<str>, skip_assignment: bool) -> Answer {
        let peers = self.members.iter().map(|(id, peer)| {
            let of = peer.protocols.iter().find(|(name, _)| *name == self.protocol).expect("all can do it");
            exchange::Peer { member: Arc::clone(id), instance: peer.instance.clone(), subscription: of.1.clone() }
        });
        let members = if *id == self.leader { peers.collect() } else { Vec::new() };
        Answer::Joined(Joined {
            generation: self.generation,
            member: Arc::clone(id),
            leader: Arc::clone(&self.leader),
            protocol: self.protocol.into(),
            skip_assignment,
            members,
        })
    }

    fn sync(&mut self, sync: &Sync, reply: Reply, now: Instant) -> Option<Result<Answer, Refusal>> {
        if let Err(refusal) = self.validate(&sync.member, sync.instance.as_ref()) {
            return Some(Err(refusal));
        }
        if sync.generation != self.generation {
            return Some(Err(Refusal::IllegalGeneration));
        }
        let peer = self.members.get_mut(&sync.member).expect("validated");
        match self.state {
            State::Preparing { .. } | State::Empty => return Some(Err(Refusal::Rebalancing)),
            State::Stable => {
                peer.synced = true;
                return Some(Ok(Answer::Synced { protocol: None, assignment: peer.assignment.clone() }));
            }
            State::Completing { .. } => (peer.synced, peer.syncing) = (true, Some(reply)),
        }
        if sync.member == self.leader {
            for (id, peer) in &mut self.members {
                peer.assignment = sync.assignments.get(id).cloned().unwrap_or_default();
                if let Some(reply) = peer.syncing.take() {
                    let assignment = peer.assignment.clone();
                    self.out.push((reply, Ok(Answer::Synced { protocol: None, assignment })));
                }
                peer.heard(now);
            }
            self.state = State::Stable;
            self.keep();
        }
        None
    }

    /// A static member has another id from now on. A real one does not know that any more, if it moves before the group is
    /// stable; then the member is fenced, and ends.
    fn keep_as(&mut self, id: &Arc<str>, instance: Option<&Arc<str>>) {
        let (_, leader, _, kept) = &mut self.kept;
        let old = kept.iter().find(|(_, peer)| instance.is_some() && peer.instance.as_ref() == instance);
        let Some((old, peer)) = old.map(|(old, peer)| (Arc::clone(old), peer.clone())) else { return };
        kept.remove(&old);
        kept.insert(Arc::clone(id), peer);
        if *leader == old {
            *leader = Arc::clone(id);
        }
    }

    fn keep(&mut self) {
        let mut members = self.members.clone();
        for peer in members.values_mut() {
            (peer.joining, peer.syncing) = (None, None);
        }
        self.kept = (self.generation, Arc::clone(&self.leader), self.protocol, members);
    }

    fn beat(&mut self, beat: &Beat, now: Instant) -> Result<Answer, Refusal> {
        self.validate(&beat.member, beat.instance.as_ref())?;
        if beat.generation != self.generation {
            return Err(Refusal::IllegalGeneration);
        }
        self.members.get_mut(&beat.member).expect("validated").heard(now);
        if matches!(self.state, State::Preparing { .. }) { Err(Refusal::Rebalancing) } else { Ok(Answer::Beaten) }
    }

    fn remove(&mut self, id: &Arc<str>, now: Instant) {
        let Some(peer) = self.members.remove(id) else { return };
        let waiting = [peer.joining, peer.syncing].into_iter().flatten();
        self.out.extend(waiting.map(|waiting| (waiting, Err(Refusal::UnknownMember))));
        if !matches!(self.state, State::Empty) {
            self.prepare(now);
            self.maybe_complete_join(now);
        }
    }
}
