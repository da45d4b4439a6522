//! Partitions that go and come back, as a group would have it; and somebody else who has them meanwhile.

use super::{log::Befalls, *};

/// What the group wants.
#[derive(Debug)]
pub(super) enum Comes {
    /// These partitions are to go.
    Revoked(Vec<Key>),
    /// What is left of this one is not waited for any longer, if it is still this assignment of it.
    Overdue(Key, u64),
    /// Somebody else has these already.
    Lost(Vec<Key>),
    /// This one is ours again.
    Assigned(Key),
}

impl World {
    pub(super) fn place(&self, name: &str) -> usize {
        self.topics.iter().position(|topic| &*topic.name() == name).expect("a topic of this world")
    }

    /// Whether partitions go and come back in this world.
    fn rebalances(&self) -> bool {
        !self.rules.all_partitions && !self.rules.until_end
    }

    pub(super) fn plan_rebalances(&mut self, life: &mut Life) {
        if !self.rebalances() {
            return;
        }
        for _ in 0..self.rng.u32(0..4) {
            let all: Vec<_> = life.ours.keys().copied().collect();
            let some = all.into_iter().filter(|_| self.rng.bool()).collect();
            let what = if self.rng.u8(0..3) == 0 { Comes::Lost(some) } else { Comes::Revoked(some) };
            life.plan(Duration::from_micros(self.rng.u64(0..1_500_000)), Happening::Comes(what));
        }
    }

    /// Now and then, what is being committed is lost meanwhile.
    pub(super) fn lose_while_committing(&mut self, life: &mut Life, keys: Vec<Key>, wait: Duration) {
        if self.rebalances() && life.losses_left > 0 && self.rng.u8(0..4) == 0 {
            life.losses_left -= 1;
            life.plan(wait / 2, Happening::Comes(Comes::Lost(keys)));
        }
    }

    /// Makes these partitions ours. What the start finds out, and what the user then wants, is told in begins.rs. Here it is
    /// as it ought to be.
    pub(super) fn assign(&mut self, life: &mut Life, keys: &[Key]) -> Result<(), Violation> {
        let mut taken: Vec<Taken> = Vec::new();
        for topic in &self.topics {
            let there = topic.logs.keys().copied().collect();
            let ours = keys.iter().filter(|key| key.0 == topic.place).map(|key| self.assignment(life, *key));
            let assignments: Vec<_> = ours.collect();
            if !assignments.is_empty() {
                taken.push(Taken { topic: topic.name(), id: topic.id(), there, assignments });
            }
        }
        for key in keys {
            life.assigned += 1;
            life.ours.insert(*key, life.assigned);
            life.committed.remove(key);
        }
        life.scheduler.assign(taken, life.now);
        self.adopted(life, keys)
    }

    fn assignment(&self, life: &mut Life, key: Key) -> Assignment {
        let (log, committed) = (self.log(key), self.committed.get(&key).copied());
        let start = self.start_of(key);
        life.epochs.insert(key, log.epoch());
        if committed.is_some_and(|committed| committed > start) {
            life.may_go_back.insert(key);
            life.began_below.insert(key);
        }
        let finished = committed.map(|committed| self.believe(key, committed)).unwrap_or_default();
        life.known.insert(key, finished.clone());
        Assignment {
            finished,
            notes: committed
                .map(|committed| self.believe_notes(key, committed).within(Offset(start), self.end_for(key)))
                .unwrap_or_default(),
            source: Arc::new(TopicPartition::new(self.topics[key.0].name(), key.1)),
            start: Offset(start),
            committed: committed.map(Offset),
            end: self.rules.until_end.then_some(Offset(log.end)),
            latest: Offset(log.end),
            epoch: self.topics[key.0].look().epoch(key.1),
        }
    }

    /// Where whoever has a partition next begins.
    pub(super) fn start_of(&self, key: Key) -> i64 {
        let (log, committed) = (self.log(key), self.committed.get(&key).copied());
        let start = committed.unwrap_or_else(|| log.entries.first().map_or(log.end, |first| first.offset));
        let parted = self.epochs.get(&key).and_then(|epoch| log.end_of_epoch(*epoch));
        start.min(parted.unwrap_or(start)).clamp(log.start, log.end)
    }

    pub(super) fn comes(&mut self, life: &mut Life, what: Comes) -> Result<(), Violation> {
        let running = life.scheduler.phase.is_running();
        match what {
            Comes::Revoked(keys) => {
                let keys: Vec<_> = keys.into_iter().filter(|key| life.ours.contains_key(key)).collect();
                // How long what runs is waited for may be planned below.
                let patience = Duration::from_millis([self.rng.u64(0..50), 86_400_000][self.rng.usize(0..2)]);
                let until = life.now + patience;
                life.scheduler.revoke(&self.sources(&keys), until, life.now);
                for key in keys {
                    if life.leaving.contains_key(&key) {
                        continue;
                    }
                    life.leaving.insert(key, until);
                    // Where nothing fails, all that runs comes to its end.
                    if !life.fault_free || self.rng.bool() {
                        let patience = Duration::from_millis(self.rng.u64(0..2000));
                        life.plan(patience, Happening::Comes(Comes::Overdue(key, life.ours[&key])));
                    }
                }
            }
            Comes::Overdue(key, assigned) => {
                if life.ours.get(&key) == Some(&assigned) {
                    life.torn.insert(key);
                    life.scheduler.release(&self.sources(&[key]), life.now);
                    self.part(life, key);
                }
            }
            Comes::Lost(keys) => {
                let keys: Vec<_> = keys.into_iter().filter(|key| life.ours.contains_key(key)).collect();
                life.scheduler.lose(&self.sources(&keys), life.now);
                for key in keys {
                    life.torn.insert(key);
                    self.part(life, key);
                }
            }
            Comes::Assigned(key) => {
                if running && !life.ours.contains_key(&key) {
                    self.work_elsewhere(life, key);
                    self.assign(life, &[key])?;
                }
            }
        }
        Ok(())
    }

    fn sources(&self, keys: &[Key]) -> Vec<TopicPartition> {
        keys.iter().map(|key| TopicPartition::new(self.topics[key.0].name(), key.1)).collect()
    }

    /// The scheduler says that nothing of a partition is left to do, and that all that was done is committed.
    pub(super) fn settled(&mut self, life: &mut Life, key: Key) -> Result<(), Violation> {
        let until = life.leaving.get(&key).copied();
        let Some(until) = until else { return Err(format!("10: {key:?} is said to be settled, and was not to go")) };
        let mut running = life.running.iter().filter(|(id, at)| at.0 == key && !life.parted.contains(id));
        let odd = life.is_odd(key.0);
        let late = life.now >= until;
        let quiet = running.next().is_none();
        promise!(odd || late || quiet, "3: {key:?} is said to be settled, and {:?} runs", life.running);
        if odd || !quiet {
            life.torn.insert(key);
        }
        if !odd && life.now < until + LAST_COMMIT {
            self.check_nothing_is_repeated(life, key, |_| false)?;
        }
        life.scheduler.release(&self.sources(&[key]), life.now);
        self.part(life, key);
        Ok(())
    }

    /// A partition is not ours any more, and will be again.
    fn part(&mut self, life: &mut Life, key: Key) {
        self.orphan(life, key);
        life.ours.remove(&key);
        life.leaving.remove(&key);
        let lives = life.lives.iter().filter(|(_, of)| **of == key);
        life.parted.extend(lives.map(|(id, _)| *id));
        life.finished.retain(|at| at.0 != key);
        life.seen.remove(&key);
        // The next to have it finds out by itself.
        self.gone.retain(|at, _| at.0 != key);
        let most = if self.rng.bool() { 5 } else { 300 };
        let away = Duration::from_millis(self.rng.u64(0..most));
        if life.losses && self.rng.u8(0..3) == 0 {
            let what = [Befalls::Recreated, Befalls::Truncated][self.rng.usize(0..2)];
            life.plan(away / 2, Happening::Befalls(what));
        }
        life.plan(away, Happening::Comes(Comes::Assigned(key)));
    }

    /// Somebody else has worked on a partition, and stands further on; perhaps it has finished some of what lies above, too.
    fn work_elsewhere(&mut self, life: &Life, key: Key) {
        if life.is_odd(key.0) || self.rng.bool() {
            return;
        }
        let from = self.start_of(key);
        let mut finished = self.believe(key, from);
        let log = &self.topics[key.0].logs[&key.1];
        let count = self.rng.usize(0..6);
        let is_left = |entry: &&log::Entry| entry.offset >= from && !finished.contains(Offset(entry.offset));
        let mut left = log.entries.iter().filter(is_left);
        self.elsewhere.extend(left.by_ref().take(count).map(|entry| (key, entry.ident)));
        let committed = left.next().map_or(log.end, |entry| entry.offset);
        let above: Vec<_> = left.take(8).copied().filter(|_| self.rng.bool()).collect();
        self.epochs.insert(key, log.epoch());
        self.committed.insert(key, committed);
        self.elsewhere.extend(above.iter().map(|entry| (key, entry.ident)));
        above.iter().for_each(|entry| finished.insert(Offset(entry.offset)));
        self.tell_elsewhere(key, Offset(committed), finished);
    }

    /// The world stands still: nothing may be left to do.
    pub(super) fn check_still(&self, life: &Life) -> Result<(), Violation> {
        promise!(life.leaving.is_empty(), "2: {:?} were to go, and never went", life.leaving);
        let ours = life.ours.keys().copied();
        promise!(life.held == 0, "9: there is no room for {} records that nobody has", life.held);
        promise!(self.worked_off(ours), "2: stands still: {:?} of {:?}", self.committed, self.topics);
        Ok(())
    }
}
