//! PURE. What still runs of a partition that went: kept for a while, and adopted if the partition comes back.
//!
//! ```text
//!   release, lose ──▶ its tasks that run are orphans ──end──▶ held: nothing of it is written
//!                          │             │                       │
//!        assigned again:   │ adopted     │ the time is over, finished elsewhere, another topic, another leader
//!                          ▼             ▼
//!   unfinished in the new life,       ghost (lives.rs): comes to nothing, and is run again if it is ours again
//!   not started when it is read again
//! ```
//!
//! An orphan is adopted where the topic is the same, the offset store shows its offset to be unfinished, and no other leader
//! has come in between, so that what the log holds there is what the task was given. From then on what the pool says of the
//! task's life is taken as said of the life that has adopted it: its *heir*. A life that has adopted may go in turn, and be
//! followed by another heir.
//!
//! A record has its room where it was fetched. So an heir gives back what the second fetch took as soon as that comes, and
//! the first life keeps its ghost and its room until the message is finished, or comes to nothing.
//!
//! Not an orphan is a task that has ended and whose answer is being written: whether it is there, nobody knows.

use super::*;

/// A task, by the life in which it was begun and the offset.
type Task = (AssignmentId, Offset);

/// A task that runs, or has ended, of a partition that is not ours.
struct Orphan {
    topic: TopicId,
    /// The leader epoch, when the log was last looked at.
    epoch: LeaderEpoch,
    /// Until when it may be adopted.
    until: Instant,
    /// How it ended.
    done: Option<Done>,
}

/// An orphan that may be adopted.
pub(super) struct Claimed {
    task: Task,
    done: Option<Done>,
}

/// See the [module's documentation](self).
#[derive(Default)]
pub(super) struct Orphans {
    waiting: BTreeMap<Arc<TopicPartition>, BTreeMap<Task, Orphan>>,
    /// When the first of them is not to be adopted any more, or sooner.
    next_end: Option<Instant>,
    /// Who has adopted a task.
    heirs: BTreeMap<Task, AssignmentId>,
    /// The other way round: in which life before it was begun, or adopted.
    parents: BTreeMap<Task, AssignmentId>,
}

impl Orphans {
    /// When to look again although nothing happens.
    pub(super) fn next_end(&self) -> Option<Instant> {
        self.next_end
    }

    /// The life that what is said of a task is said of.
    pub(super) fn heir(&self, mut id: AssignmentId, offset: Offset) -> AssignmentId {
        while let Some(heir) = self.heirs.get(&(id, offset)) {
            id = *heir;
        }
        id
    }

    /// Keeps the outcome of an orphan. Gives it back if there is no such orphan.
    fn hold(&mut self, source: &TopicPartition, id: AssignmentId, done: Done, now: Instant) -> Option<Done> {
        let orphan = self.waiting.get_mut(source).and_then(|tasks| tasks.get_mut(&(id, done.offset)));
        match orphan.filter(|orphan| orphan.until > now) {
            Some(orphan) => {
                orphan.done = Some(done);
                None
            }
            None => Some(done),
        }
    }

    /// The life before that has the room of what was adopted, which it has not any more.
    fn disinherit(&mut self, id: AssignmentId, offset: Offset) -> Option<AssignmentId> {
        let parent = self.parents.remove(&(id, offset))?;
        self.heirs.remove(&(parent, offset));
        Some(parent)
    }
}

impl Scheduler {
    /// What runs of a partition that is about to go is kept for it to come back.
    pub(super) fn orphan(&mut self, key: PartitionKey, now: Instant) {
        let (Some(keep), Some(partition)) = (self.rules.adoption, self.topics.partition(key)) else { return };
        let keep = if self.breaks(Defect::AdoptLate) { keep * 100 } else { keep };
        let (topic, until) = (self.topic_id(key.topic), now + keep);
        let mut tasks = BTreeMap::new();
        for id in &partition.lives {
            let life = &self.lives[id];
            let orphan = || Orphan { topic, epoch: life.verified.epoch, until, done: None };
            let written = self.breaks(Defect::AdoptWritten).then(|| life.tracker.started().collect());
            tasks.extend(written.unwrap_or(life.tracker.in_hand()).into_iter().map(|offset| ((*id, offset), orphan())));
        }
        if !tasks.is_empty() {
            self.orphans.next_end.get_or_insert(until);
            self.orphans.waiting.entry(Arc::clone(&partition.source)).or_default().extend(tasks);
        }
    }

    /// The orphans that a partition which is assigned may adopt. Those that it may not are none any more.
    pub(super) fn claim(&mut self, topic: TopicId, assignment: &Assignment, now: Instant) -> Vec<Claimed> {
        let Some(tasks) = self.orphans.waiting.remove(&assignment.source) else { return Vec::new() };
        let Assignment { start, latest, end, epoch, finished, .. } = assignment;
        let latest = end.map_or(*latest, |end| end.min(*latest));
        let (any_topic, never) = (self.breaks(Defect::AdoptAnyTopic), self.breaks(Defect::NeverAdopt));
        let any_leader = self.breaks(Defect::AdoptUnderAnyLeader);
        let mut claimed = Vec::new();
        for (task, orphan) in tasks {
            let offset = task.1;
            let same =
                (orphan.topic == topic || any_topic) && (orphan.epoch == *epoch || any_leader) && offset < latest;
            // What lies further up than a life may reach is not there to be kept in mind.
            let reached = offset >= *start && (offset.0 - start.0) < self.rules.span as i64;
            let unfinished = !finished.contains(offset) || self.breaks(Defect::AdoptFinished);
            if same && reached && unfinished && orphan.until > now && !never {
                claimed.push(Claimed { task, done: orphan.done });
            } else {
                self.leave_alone(task, orphan.done);
            }
        }
        claimed
    }

    /// The life that has just begun adopts what it may. Gives what of it has ended already.
    pub(super) fn adopt(&mut self, id: AssignmentId, claimed: Vec<Claimed>) -> Vec<Done> {
        let mut ended = Vec::new();
        for Claimed { task: (parent, offset), done } in claimed {
            self.lives.get_mut(&id).expect("it has just begun").tracker.adopt(offset);
            self.orphans.heirs.insert((parent, offset), id);
            self.orphans.parents.insert((id, offset), parent);
            self.lanes.hand_over((parent, offset), (id, offset));
            #[cfg(test)]
            self.adoptions.push((parent, id, offset));
            self.counters.past_life -= 1;
            self.counters.adopted += 1;
            ended.extend(done);
        }
        ended
    }

    /// Nobody adopts it.
    fn leave_alone(&mut self, (id, _): Task, done: Option<Done>) {
        if let Some(done) = done {
            self.end_ghost(id, &done);
        }
    }

    /// A task has ended of which nothing is ours.
    pub(super) fn end_past(&mut self, id: AssignmentId, done: Done, now: Instant) {
        let Some(life) = self.lives.get(&id) else { return };
        if let Some(done) = self.orphans.hold(&life.source, id, done, now) {
            self.end_ghost(id, &done);
        }
    }

    /// A task has ended that comes to nothing.
    fn end_ghost(&mut self, id: AssignmentId, done: &Done) {
        self.counters.failed += u64::from(matches!(done.ending, Ending::Failed(_)));
        self.lay(id, done.offset, done.size);
    }

    /// A record was given back of which nothing is ours: it never began.
    pub(super) fn return_past(&mut self, id: AssignmentId, record: &Record) {
        if let Some(tasks) = self.orphans.waiting.get_mut(&record.source) {
            tasks.remove(&(id, record.offset));
        }
        self.lay(id, record.offset, record.size());
    }

    /// Those that nobody has adopted in time are orphans no more.
    pub(super) fn expire_orphans(&mut self, now: Instant) {
        if self.orphans.next_end.is_none_or(|at| at > now) {
            return;
        }
        let mut late = Vec::new();
        for tasks in self.orphans.waiting.values_mut() {
            late.extend(tasks.extract_if(.., |_, orphan| orphan.until <= now));
        }
        self.orphans.waiting.retain(|_, tasks| !tasks.is_empty());
        self.orphans.next_end = self.orphans.waiting.values().flat_map(BTreeMap::values).map(|o| o.until).min();
        for (task, orphan) in late {
            self.leave_alone(task, orphan.done);
        }
    }

    /// What a record of a life holds is free again: in the life that fetched it.
    pub(super) fn free(&mut self, id: AssignmentId, offset: Offset, size: usize) {
        self.leave_lane(id, offset);
        if let Some(life) = self.lives.get_mut(&id) {
            life.attempts.remove(&offset);
        }
        if let Some(parent) = self.orphans.disinherit(id, offset) {
            if !self.breaks(Defect::LeakAdoptedRoom) {
                self.lay(parent, offset, size);
            }
            return;
        }
        let freed = Freed { records: 1, bytes: size };
        let Some(life) = self.lives.get_mut(&id) else { return self.strays.push_back((id, freed)) };
        if life.freed.records == 0 {
            self.freed.push_back(id);
        }
        life.freed.records += freed.records;
        life.freed.bytes += freed.bytes;
    }
}
