//! The books that the world keeps, and what it holds the processes to. They believe nobody.
//!
//! A *hold* is one assignment of a partition to a process, from when its engine takes it on until it gives it up, loses it or
//! ends. What runs more than once needs an excuse for each time: at the end of a hold one is written down for whatever it
//! began that nobody will know to be finished. Such a hold has to have ended by force, or the promises are broken.
//!
//! Where what runs of a hold is adopted by a later one, its excuse is taken back (`adopting.rs`).

use super::{adopting::Adoptions, world::World, *};
use crate::{
    progress::Finished,
    scheduler::{Ask, LAST_COMMIT},
    standing::May,
};

/// See the [module's documentation](self).
#[derive(Debug)]
pub(super) struct Hold {
    number: u64,
    pub(super) start: i64,
    /// How far it has read. What was adopted may be finished further up.
    read: i64,
    /// What the commit said at the start.
    known: Finished,
    /// What began, and whether it is finished.
    pub(super) begun: BTreeMap<i64, bool>,
    /// It was revoked: how long what runs is waited for.
    leaving: Option<Instant>,
    /// That it is lost is known to the process.
    lost: bool,
    /// Somebody else has the partition by now, and this process cannot know.
    superseded: bool,
    committed: i64,
}

#[derive(Debug, Default)]
pub(super) struct Books {
    holds: BTreeMap<(usize, Key), Hold>,
    lives: BTreeMap<(usize, AssignmentId), (Key, u64)>,
    numbers: u64,
    /// What is answered, or wants no answer.
    pub(super) settled: BTreeSet<At>,
    pub(super) runs: BTreeMap<At, u32>,
    pub(super) excuses: BTreeMap<At, u32>,
    pub(super) adoptions: Adoptions,
    /// Holds that were given up with something on its way to the answers topic: nobody waits for that for ever. With the
    /// process that gave them up.
    hasty: BTreeMap<u64, usize>,
}

/// A record, and the hold that it began in.
pub(super) type Whose = (At, u64);

impl Books {
    pub(super) fn begin(&mut self, process: usize, life: AssignmentId, key: Key) {
        let number = self.holds.get(&(process, key)).map_or(0, |hold| hold.number);
        self.lives.insert((process, life), (key, number));
    }

    pub(super) fn answer(&mut self, all: Vec<At>) {
        self.settled.extend(all);
    }

    pub(super) fn read(&mut self, process: usize, life: AssignmentId, next: i64) {
        if let Some((_, hold)) = self.of(process, life) {
            hold.read = hold.read.max(next);
        }
    }

    /// Everything is lost, as the process knows from now on.
    pub(super) fn lose(&mut self, process: usize) {
        for (_, hold) in self.holds.iter_mut().filter(|((of, _), _)| *of == process) {
            hold.lost = true;
        }
    }

    /// It has left the group: of what it still has to send, nothing may be sent.
    pub(super) fn left(&mut self, process: usize) {
        self.hasty.retain(|_, of| *of != process);
    }

    pub(super) fn leave(&mut self, process: usize, key: Key, until: Instant) {
        if let Some(hold) = self.holds.get_mut(&(process, key)) {
            hold.leaving.get_or_insert(until);
        }
    }

    /// The hold that a message belongs to, if it goes on.
    pub(super) fn of(&mut self, process: usize, life: AssignmentId) -> Option<(Key, &mut Hold)> {
        let (key, number) = *self.lives.get(&(process, life))?;
        let hold = self.holds.get_mut(&(process, key)).filter(|hold| hold.number == number)?;
        Some((key, hold))
    }

    pub(super) fn finish(&mut self, process: usize, (life, offset): (AssignmentId, Offset)) {
        if let Some((_, hold)) = self.of(process, life) {
            hold.begun.insert(offset.0, true);
        }
    }

    pub(super) fn finish_silently(&mut self, process: usize, (life, offset): (AssignmentId, Offset)) {
        let life = self.adoptions.life_of(process, life, offset.0);
        if let Some((key, hold)) = self.of(process, life) {
            hold.begun.insert(offset.0, true);
            self.settled.insert((key, offset.0));
        } else {
            self.adoptions.end_silently(process, life, offset.0);
        }
    }

    /// A task has ended, and its answer is to be written.
    pub(super) fn end(&mut self, process: usize, (life, offset): (AssignmentId, Offset)) {
        let life = self.adoptions.life_of(process, life, offset.0);
        if self.of(process, life).is_some() {
            self.adoptions.written.insert((process, life, offset.0));
        }
    }

    pub(super) fn ats(
        &self,
        process: usize,
        tickets: impl Iterator<Item = (AssignmentId, Offset)>,
    ) -> Result<Vec<Whose>, Violation> {
        let of = |(life, offset): (AssignmentId, Offset)| {
            let (key, number) = self.lives.get(&(process, life)).ok_or("4: an answer of no life at all")?;
            Ok(((*key, offset.0), *number))
        };
        tickets.map(of).collect()
    }

    fn excuse(&mut self, at: At) {
        *self.excuses.entry(at).or_default() += 1;
    }
}

impl Hold {
    pub(super) fn knows(&self, offset: i64) -> bool {
        self.known.contains(Offset(offset)) || self.begun.get(&offset) == Some(&true)
    }
}

impl World {
    /// A process takes a partition on.
    pub(super) fn take_hold(&mut self, at: usize, key: Key, start: i64, known: Finished) -> Result<(), Violation> {
        let now = self.now;
        let others = self.books.holds.iter_mut();
        let others = others.filter(|((of, held), hold)| *of != at && *held == key && !hold.superseded);
        let (mut again, mut superseded) = (Vec::new(), false);
        for ((of, _), hold) in others {
            let other = &self.processes[*of];
            let good = other.runs() && !other.forgotten && other.state.may(other.share.era, now) == May::Send;
            if good && !hold.lost && self.processes[at].forgotten {
                // It was given away before it was taken on.
                superseded = true;
                continue;
            }
            promise!(!good || hold.lost, "4: {key:?} is taken on by {at}, and {of} has it");
            hold.superseded = true;
            again.extend(hold.begun.keys().map(|offset| (key, *offset)));
        }
        for at in again {
            if !self.cluster.is_covered(at) {
                self.books.excuse(at);
            }
        }
        self.books.numbers += 1;
        let hold = Hold {
            number: self.books.numbers,
            start,
            read: start,
            known,
            begun: BTreeMap::new(),
            leaving: None,
            lost: false,
            superseded,
            committed: start,
        };
        let before = self.books.holds.insert((at, key), hold);
        promise!(before.is_none(), "3: {key:?} is taken on by {at}, which has it");
        Ok(())
    }

    /// Ends a hold. Gives what of it will run again though it is finished.
    fn end_hold(&mut self, at: usize, key: Key) -> Option<(Hold, Vec<i64>)> {
        let hold = self.books.holds.remove(&(at, key))?;
        let lives = self.books.lives.iter().filter(|((of, _), (_, number))| *of == at && *number == hold.number);
        let lives: Vec<_> = lives.map(|((_, life), _)| *life).collect();
        for life in lives {
            self.books.adoptions.end_hold(at, life, self.now);
        }
        let mut again = Vec::new();
        for (offset, finished) in hold.begun.iter().filter(|(offset, _)| !self.cluster.is_covered((key, **offset))) {
            if !hold.superseded {
                self.books.excuse((key, *offset));
            }
            if *finished {
                again.push(*offset);
            }
        }
        Some((hold, again))
    }

    /// By force.
    pub(super) fn end_all(&mut self, at: usize) {
        let keys: Vec<_> = self.books.holds.keys().filter(|(of, _)| *of == at).map(|(_, key)| *key).collect();
        for key in keys {
            self.end_hold(at, key);
        }
    }

    /// It was revoked, and is given up.
    pub(super) fn give_up(&mut self, at: usize, key: Key) -> Result<(), Violation> {
        let now = self.now;
        let Some((hold, again)) = self.end_hold(at, key) else { return Ok(()) };
        let Some(until) = hold.leaving else { return Err(format!("10: {at} gives {key:?} up, which was not revoked")) };
        let running = hold.begun.values().any(|finished| !finished);
        promise!(now >= until || !running, "3: {at} gives {key:?} up while something of it runs");
        if now >= until + LAST_COMMIT {
            self.books.hasty.insert(hold.number, at);
        } else {
            promise!(hold.lost || again.is_empty(), "3: giving up {key:?} by {at} will repeat {again:?}");
        }
        Ok(())
    }

    /// Its engine is at its end.
    pub(super) fn check_end(&mut self, at: usize, forced: bool) -> Result<(), Violation> {
        let keys: Vec<_> = self.books.holds.keys().filter(|(of, _)| *of == at).map(|(_, key)| *key).collect();
        for key in keys {
            let Some((hold, again)) = self.end_hold(at, key) else { continue };
            let running = hold.begun.values().any(|finished| !finished);
            let excused = hold.lost || hold.superseded;
            self.books.hasty.insert(hold.number, at);
            promise!(forced || excused || !running, "10: a clean end of {at}, and something of {key:?} runs");
            promise!(forced || excused || again.is_empty(), "3: a clean end of {at} will repeat {again:?} of {key:?}");
        }
        Ok(())
    }

    /// A task is about to start.
    pub(super) fn check_start(&mut self, process: usize, life: AssignmentId, at: At) -> Result<(), Violation> {
        let (runs, excuses) =
            [&self.books.runs, &self.books.excuses].map(|of| of.get(&at).copied().unwrap_or(0)).into();
        let Some((_, hold)) = self.books.of(process, life) else {
            return Err(format!("4: {process} starts {at:?}, which is not its own"));
        };
        promise!(hold.leaving.is_none(), "10: {process} starts {at:?}, which is to go");
        let known = at.1 < hold.start || hold.knows(at.1);
        promise!(!known, "3: {process} starts {at:?}, which is known to be finished");
        let before = hold.begun.insert(at.1, false);
        promise!(before.is_none(), "3: {process} starts {at:?} twice");
        if hold.superseded {
            self.books.adoptions.uncounted.insert((process, at));
        } else {
            promise!(runs <= excuses, "3: {process} starts {at:?} again, and nothing excuses it");
            *self.books.runs.entry(at).or_default() += 1;
        }
        Ok(())
    }

    /// The session of a process, by our own books.
    fn is_in_session(&self, at: usize) -> bool {
        self.processes[at].acknowledged.is_some_and(|sent| self.now < sent + SESSION)
    }

    /// Answers are about to be sent.
    pub(super) fn check_answers(&self, process: usize, all: &[Whose]) -> Result<(), Violation> {
        for (at, number) in all {
            let hold = self.books.holds.get(&(process, at.0)).filter(|hold| hold.number == *number);
            let hasty = self.books.hasty.contains_key(number);
            promise!(
                hold.is_some() || hasty,
                "4: {process} ({:?}) answers {at:?}, which is not its own any more",
                self.processes[process].stage
            );
            promise!(hold.is_none_or(|hold| !hold.lost), "4: {process} answers {at:?}, though the loss is known");
            promise!(self.is_in_session(process), "4: {process} answers {at:?} though its session may be over");
        }
        Ok(())
    }

    /// The engine wants something to be committed. Gives the holds that it is for.
    pub(super) fn check_ask(&self, at: usize, ask: &Ask) -> Result<BTreeMap<Key, u64>, Violation> {
        let mut holds = BTreeMap::new();
        for topic in &ask.topics {
            for (partition, commit) in &topic.commits {
                let source = TopicPartition::new(Arc::clone(&topic.name), *partition);
                let (key, offset) = (cluster::key(&source), commit.offset.0);
                let Some(hold) = self.books.holds.get(&(at, key)) else {
                    return Err(format!("4: {at} commits {key:?}, which is not its own"));
                };
                let none = Finished::default();
                let says = topic.finished.get(partition).unwrap_or(&none);
                let records = self.cluster.log(key).records.iter().copied();
                for record in records.filter(|record| *record >= hold.start) {
                    let (knows, says) = (hold.knows(record), says.contains(Offset(record)));
                    let below = record < offset;
                    promise!(!below || knows, "1: {at} commits {key:?}:{offset}, and {record} is not finished");
                    promise!(!says || knows, "1: the commit of {key:?}:{offset} says that {record} is finished");
                    let told = below || says || !knows;
                    promise!(told, "3: the commit of {key:?}:{offset} does not say that {record} is finished");
                }
                let lowest = hold.begun.get(&offset) == Some(&true) && offset < hold.read;
                promise!(!lowest, "5: {at} commits {key:?}:{offset}, which is finished");
                holds.insert(key, hold.number);
            }
        }
        Ok(holds)
    }

    /// A commit is about to be sent.
    pub(super) fn check_commit(
        &self,
        process: usize,
        commits: &BTreeMap<Key, (Committed, u64)>,
    ) -> Result<(), Violation> {
        for (key, (_, number)) in commits {
            let hold = self.books.holds.get(&(process, *key)).filter(|hold| hold.number == *number && !hold.lost);
            promise!(hold.is_some(), "4: {process} commits {key:?} of a past life");
            promise!(self.is_in_session(process), "4: {process} commits {key:?} though its session may be over");
        }
        Ok(())
    }

    /// A commit takes effect.
    pub(super) fn check_taken(
        &mut self,
        from: usize,
        key: Key,
        committed: &Committed,
        number: u64,
    ) -> Result<(), Violation> {
        let offset = committed.offset.0;
        let below = |record: &i64| *record < offset && !self.books.settled.contains(&(key, *record));
        let lost = self.cluster.log(key).records.iter().copied().find(below);
        promise!(lost.is_none(), "1: {key:?}:{offset} is committed, and nobody has answered {lost:?}");
        let other = self.books.holds.iter().find(|((of, held), hold)| *of != from && *held == key && !hold.superseded);
        promise!(other.is_none(), "4: a commit of {key:?} by {from} takes effect, and {other:?} has it");
        let hold = self.books.holds.get_mut(&(from, key)).filter(|hold| hold.number == number);
        match hold {
            Some(hold) => {
                promise!(offset >= hold.committed, "5: {key:?} goes back from {} to {offset}", hold.committed);
                hold.committed = offset;
            }
            // It was on its way when all was lost, and nobody else has the partition as yet.
            None => {
                let above = self.cluster.log(key).records.iter().filter(|record| **record >= offset);
                let forgotten: Vec<_> = above.map(|record| (key, *record)).collect();
                for at in forgotten {
                    if self.cluster.is_covered(at) {
                        self.books.excuse(at);
                    }
                }
            }
        }
        Ok(())
    }

    /// All is over.
    pub(super) fn check_all(&self) -> Result<(), Violation> {
        for key in self.cluster.keys() {
            let lost =
                self.cluster.log(key).records.iter().find(|record| !self.books.settled.contains(&(key, **record)));
            promise!(lost.is_none(), "1: nobody has answered {lost:?} of {key:?}");
        }
        Ok(())
    }
}
