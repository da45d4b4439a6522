//! What still runs of partitions that went: what may be adopted, what has to be, and what was.
//!
//! The scheduler says what it adopts, as it says what it starts. The world judges that by what it knows: what ran when the
//! partition went, since when, of which topic, what the log holds, and what was finished meanwhile.

use super::*;

/// A task that ran when its partition went, by the life that it was of.
#[derive(Debug)]
pub(super) struct Orphan {
    until: Instant,
    topic: TopicId,
    /// It has begun to run, and was not only given to a worker.
    begun: bool,
}

impl Life {
    /// The life that a task which was given out in another is of by now.
    pub(super) fn heir(&self, mut id: AssignmentId, at: At) -> AssignmentId {
        while let Some(heir) = self.heirs.get(&(id, at)) {
            id = *heir;
        }
        id
    }

    /// What was given to a worker, and did not begin.
    pub(super) fn returned(&mut self, id: AssignmentId, records: &[Record]) {
        for at in records.iter().map(at) {
            let task = (self.heir(id, at), at);
            self.loaded.remove(&task);
            self.orphans.remove(&task);
        }
    }
}

impl World {
    /// A partition goes.
    pub(super) fn orphan(&self, life: &mut Life, key: Key) {
        let Some(keep) = self.rules.adoption else { return };
        let (until, topic) = (life.now + keep, self.topics[key.0].id());
        let is_ours = |(id, at): &&(AssignmentId, At)| at.0 == key && !life.parted.contains(id);
        for (tasks, begun) in [(&life.running, true), (&life.loaded, false)] {
            let orphans = tasks.iter().filter(is_ours).map(|task| (*task, Orphan { until, topic, begun }));
            life.orphans.extend(orphans);
        }
    }

    /// Takes in what was adopted when these partitions were assigned.
    pub(super) fn adopted(&mut self, life: &mut Life, keys: &[Key]) -> Result<(), Violation> {
        let adopted = std::mem::take(&mut life.scheduler.adoptions);
        let mut tasks = Vec::new();
        for (parent, heir, offset) in adopted {
            let at = life.started[&(parent, offset.0)];
            let Some(orphan) = life.orphans.remove(&(parent, at)) else {
                return Err(format!("4: adopted, and did not run when its partition went: {at:?}"));
            };
            promise!(life.now < orphan.until, "4: adopted too late: {at:?}");
            promise!(orphan.topic == self.topics[at.0.0].id(), "4: adopted in another topic: {at:?}");
            let there = |entry: &log::Entry| (entry.offset, entry.ident) == (offset.0, at.1);
            promise!(self.log(at.0).entries.iter().any(there), "4: adopted, and the log does not hold it: {at:?}");
            promise!(self.is_left(life, at.0, offset), "3: adopted, and finished already: {at:?}");
            life.lives.insert(heir, at.0);
            life.heirs.insert((parent, at), heir);
            life.started.insert((heir, offset.0), at);
            if let Some(failed) = life.may_retry.remove(&(parent, at)) {
                life.may_retry.insert((heir, at), failed);
            }
            for book in [&mut life.running, &mut life.loaded] {
                if book.remove(&(parent, at)) {
                    book.insert((heir, at));
                }
            }
            if orphan.begun {
                life.begun.insert((heir, at));
                tasks.push(at);
            }
        }
        self.given_up(life)?;
        for key in keys {
            self.check_all_are_adopted(life, *key)?;
        }
        // What has ended meanwhile, and wants no answer, is finished.
        tasks.into_iter().for_each(|at| self.settle(life, at));
        Ok(())
    }

    /// Whether whoever has the partition now has to work an offset off.
    fn is_left(&self, life: &Life, key: Key, offset: Offset) -> bool {
        offset.0 >= self.start_of(key) && !life.knows(key, offset)
    }

    fn check_all_are_adopted(&self, life: &mut Life, key: Key) -> Result<(), Violation> {
        let left: Vec<_> = life.orphans.extract_if(.., |(_, at), _| at.0 == key).collect();
        for ((_, at), orphan) in left {
            let Some(entry) = self.log(key).entries.iter().find(|entry| entry.ident == at.1) else { continue };
            let reached = entry.offset - self.start_of(key) < self.rules.span as i64;
            let is_left = reached && self.is_left(life, key, Offset(entry.offset));
            promise!(
                life.is_odd(key.0) || !is_left || orphan.until <= life.now,
                "3: not adopted, and it still runs: {at:?}"
            );
        }
        Ok(())
    }
}
