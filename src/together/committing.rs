//! The committer (`committer.rs`) and the offset store of a member (`kafka/member_offsets.rs`), played: one ask at a time, a
//! look at the topics, a look at the standing, one commit.

use super::{world::World, *};
use crate::{
    committer::{
        compare::{Comparison, allow_commit, questions},
        metadata::Metadata,
    },
    scheduler::{Ask, Kept, Looked},
};

/// What one may take altogether.
const DEADLINE: Duration = Duration::from_secs(10);

/// What is under way.
#[derive(Debug)]
pub(super) struct Committing {
    number: u64,
    ask: Option<Ask>,
    /// What was found, to be told with what becomes of the commit.
    looked: Vec<Looked>,
    /// The holds that it is for, by the books.
    holds: BTreeMap<Key, u64>,
}

/// A commit that is on its way.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) from: usize,
    number: u64,
    epoch: membership::Epoch,
    pub(super) commits: BTreeMap<Key, (Committed, u64)>,
}

impl World {
    /// The engine asks.
    pub(super) fn ask(&mut self, at: usize, ask: Ask) -> Result<(), Violation> {
        let holds = self.check_ask(at, &ask)?;
        let process = &mut self.processes[at];
        let number = process.number();
        process.committing = Some(Committing { number, ask: Some(ask), looked: Vec::new(), holds });
        self.plan(DEADLINE, Event::To(at, Incoming::Unheard(number)));
        if self.processes[at].cut == Cut::Everything || self.loses() {
            self.plan_for(at, 500..1500, Incoming::Unheard(number));
        } else {
            // A topic that cannot be looked at is tried again, for a while.
            let long = self.is_bad() && self.rng.u8(0..8) == 0;
            let wait = if long { self.millis(0..8_000) } else { self.latency() };
            self.plan(wait, Event::To(at, Incoming::Seen(number)));
        }
        Ok(())
    }

    pub(super) fn wake_committer(&mut self, at: usize, incoming: &Incoming) -> Result<(), Violation> {
        let (Incoming::Seen(number) | Incoming::Committed(number, _) | Incoming::Unheard(number)) = incoming else {
            return Ok(());
        };
        let under_way = |committing: &&mut Committing| committing.number == *number;
        if self.processes[at].committing.as_mut().filter(under_way).is_none() {
            return Ok(());
        }
        match incoming {
            Incoming::Seen(_) => return self.seen(at),
            Incoming::Committed(_, kept) => self.end_commit(at, *kept),
            _ => {
                let believes = self.planted == Some(Planted::BelieveUnheard);
                let seen = self.processes[at].committing.as_ref().is_some_and(|committing| committing.ask.is_none());
                if seen {
                    self.end_commit(at, believes);
                } else {
                    // Nobody could be asked.
                    self.processes[at].committing = None;
                    self.plan_for(at, 0..2, Incoming::Looked(Vec::new()));
                }
            }
        }
        Ok(())
    }

    /// The topics were looked at: commits what may be.
    fn seen(&mut self, at: usize) -> Result<(), Violation> {
        let now = self.now;
        let committing = self.processes[at].committing.as_mut().expect("looked at");
        let ask = committing.ask.take().expect("once");
        let mut all = BTreeMap::new();
        for mut topic in ask.topics {
            let place = self.cluster.topics.iter().position(|of| of.name == topic.name).expect("a topic of this world");
            let look = self.cluster.topics[place].look();
            let asked = questions(&topic, &look);
            promise!(asked.is_empty(), "6: {asked:?} is asked, and no leader has changed");
            let findings = Comparison::new(&topic, &look, &BTreeMap::new()).finish(&topic, BTreeMap::new());
            promise!(allow_commit(&findings), "6: {findings:?}, and nothing has changed");
            let said = Metadata::default().fill(topic.id, &mut topic.commits, &topic.finished, &topic.notes);
            let kept = if topic.commits.is_empty() { Kept::Held } else { Kept::AllBut(BTreeSet::new()) };
            let of_topic = topic.commits.into_iter().map(|(number, kept)| ((place, number), kept));
            all.extend(of_topic.map(|(key, kept)| (key, (kept, committing.holds[&key]))));
            committing.looked.push(Looked { topic: topic.topic, findings, kept, said });
        }
        if all.is_empty() {
            self.end_commit(at, true);
            return Ok(());
        }
        let process = &self.processes[at];
        let any = (self.planted == Some(Planted::CommitOfAnyEra)).then(|| process.state.identity.clone());
        let identity = any.unwrap_or_else(|| process.state.identity(ask.era, now));
        let Some(identity) = identity else {
            self.end_commit(at, false);
            return Ok(());
        };
        self.check_commit(at, &all)?;
        let number = self.processes[at].committing.as_ref().expect("looked at").number;
        if self.processes[at].cut != Cut::Nothing || self.loses() {
            self.plan_for(at, 500..1500, Incoming::Unheard(number));
            return Ok(());
        }
        let wait = self.latency();
        let sent = Sent { from: at, number, epoch: cluster::epoch(&identity), commits: all };
        self.plan(wait, Event::CommitArrives(sent));
        self.faint(at);
        Ok(())
    }

    /// At the coordinator.
    pub(super) fn commit_arrives(&mut self, sent: Sent) -> Result<(), Violation> {
        let Sent { from, number, ref epoch, ref commits } = sent;
        let cluster = &self.cluster;
        let takes = |key: &Key| {
            let id = cluster.topics[key.0].id;
            cluster.coordinator.takes_commit_of(epoch, (id, key.1), cluster.since_assigned)
        };
        let taken: BTreeSet<_> = commits.keys().copied().filter(|key| !cluster.away && takes(key)).collect();
        let all = taken.len() == commits.len();
        for (key, (committed, hold)) in sent.commits {
            if taken.contains(&key) {
                self.check_taken(from, key, &committed, hold)?;
                self.cluster.keep(key, committed);
            }
        }
        if self.processes[from].cut == Cut::Nothing && !self.loses() {
            let wait = self.latency();
            self.plan(wait, Event::To(from, Incoming::Committed(number, all)));
        } else {
            self.plan_for(from, 500..1500, Incoming::Unheard(number));
        }
        Ok(())
    }

    /// Tells the engine.
    fn end_commit(&mut self, at: usize, kept: bool) {
        let Committing { mut looked, .. } = self.processes[at].committing.take().expect("looked at");
        for looked in looked.iter_mut().filter(|looked| !kept && matches!(looked.kept, Kept::AllBut(_))) {
            (looked.kept, looked.said) = (Kept::Unknown, BTreeMap::new());
        }
        self.plan_for(at, 0..2, Incoming::Looked(looked));
    }
}
