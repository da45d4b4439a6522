//! PURE. Partitions that go while the run goes on: somebody else is to have them, or has them already.
//!
//! ```text
//!   assign ──▶ ours ──revoke──▶ leaving: nothing is read or started; what runs is finished, ──settled──▶ release ──▶ gone
//!                │                       answered and committed                                            ▲
//!                │                          └─────────────── it takes too long ────────────────────────────┤
//!                └──────────────────────────────────── lose: at once ──────────────────────────────────────┘
//! ```
//!
//! What still runs of a partition that is gone is a ghost (`lives.rs`): its thread is busy until it ends, and nothing is
//! written or committed of it. The partition may be assigned again at any time, to begin another life beside its ghosts;
//! if that is soon, it adopts them (`orphans.rs`).
//!
//! Deliberately not here: who decides it, for how long what runs is waited for, and that a commit which is on its way when
//! a partition is lost is refused: that is what the group's epochs are for.

use super::*;

impl Scheduler {
    /// Lets partitions go once what runs of them is done, or `until` has come: nothing more of them is read or started, and
    /// commits are hurried. [`poll_settled`](Self::poll_settled) says when each may be released. Those that go already are
    /// left as they are; those that are not ours come back.
    pub fn revoke(&mut self, partitions: &[TopicPartition], until: Instant, now: Instant) -> Vec<TopicPartition> {
        let mut not_ours = Vec::new();
        for source in partitions {
            let Some(key) = self.topics.key(source) else {
                match self.await_no_more(source) {
                    Some(key) => {
                        let source = Arc::new(source.clone());
                        self.settling.insert(key, Settling { source, until: now, wake: Some(now) });
                    }
                    None => not_ours.push(source.clone()),
                }
                continue;
            };
            let partition = self.topics.partition_mut(key).expect("it is ours");
            if std::mem::replace(&mut partition.leaving, true) {
                continue;
            }
            let (lives, source) = (partition.lives.clone(), Arc::clone(&partition.source));
            self.settling.insert(key, Settling { source, until, wake: Some(until) });
            for id in lives {
                self.leave(id);
            }
        }
        self.maybe_dirty = true;
        self.next_commit = self.next_commit.min(now + DRAIN_COMMIT_INTERVAL);
        not_ours
    }

    /// A partition that was revoked, and may be released: nothing of it runs any more, or the time for that is over; nothing of
    /// it is being written; and all that was finished is committed. Where that takes longer than [`LAST_COMMIT`] beyond that
    /// time, it is not waited for either. Each is given once.
    pub fn poll_settled(&mut self, now: Instant) -> Option<Arc<TopicPartition>> {
        for settling in self.settling.values_mut() {
            let ends = [settling.until, settling.until + LAST_COMMIT];
            settling.wake = ends.into_iter().find(|end| *end > now);
        }
        let key = *self.settling.iter().find(|(key, settling)| self.is_settled(**key, settling.until, now))?.0;
        self.settling.remove(&key).map(|settling| settling.source)
    }

    /// Gives up partitions that were revoked, and forgets them: what comes of them later is of a past life. What is
    /// finished of them and not committed runs again, elsewhere.
    pub fn release(&mut self, partitions: &[TopicPartition], now: Instant) {
        let leaving = |key: &PartitionKey| self.topics.partition(*key).is_some_and(|partition| partition.leaving);
        let keys: Vec<_> = partitions.iter().filter_map(|source| self.topics.key(source)).filter(leaving).collect();
        for key in keys {
            self.part_with(key, now);
        }
    }

    /// Takes in that the group has nothing for us: a run that is to work off only what there is has nothing to do.
    pub fn handle_nothing(&mut self, now: Instant) {
        self.end_if_done(now);
    }

    /// From now on commits are of this era: everything that was ours was lost, once more.
    pub fn begin_era(&mut self, era: u64) {
        self.era = era;
    }

    /// Gives up partitions at once, whatever is under way: somebody else has them. Nothing of them is committed, written or
    /// counted as finished any more.
    pub fn lose(&mut self, partitions: &[TopicPartition], now: Instant) {
        for source in partitions {
            match self.topics.key(source) {
                Some(key) => self.part_with(key, now),
                None => _ = self.await_no_more(source),
            }
        }
    }

    /// A partition that is not there any more is not to be ours if it comes back. Gives it if it was.
    fn await_no_more(&mut self, source: &TopicPartition) -> Option<PartitionKey> {
        let index = self.topics.named(&source.topic)?;
        let topic = self.topics.get_mut(index).expect("it is there");
        let was = topic.awaited.remove(&source.partition);
        if topic.awaited.is_empty() && topic.partitions.is_empty() && !self.rules.all_partitions {
            self.topics.remove(index);
        }
        was.then_some(PartitionKey { topic: index, number: source.partition })
    }

    /// Nothing more of a life is read or started.
    fn leave(&mut self, id: AssignmentId) {
        let life = self.lives.get_mut(&id).expect("it is there");
        if life.reads_on() {
            self.over.push_back(id);
        }
        (life.leaving, life.unsure, life.away) = (true, false, false);
        if !self.breaks(Defect::StartRevoked) {
            self.abandon_and_free(id);
        }
    }

    /// Forgets what waits, and gives its room back.
    pub(super) fn abandon_and_free(&mut self, id: AssignmentId) {
        let keep = self.breaks(Defect::KeepRoom);
        let life = self.lives.get_mut(&id).expect("it is there");
        let waited = life.tracker.abandon_waiting();
        for record in waited.into_iter().filter(|_| !keep) {
            self.free(id, record.offset, record.size());
        }
    }

    fn is_settled(&self, key: PartitionKey, until: Instant, now: Instant) -> bool {
        // One that is not there any more, because its topic is gone, has nothing left to settle.
        let Some(partition) = self.topics.partition(key) else { return true };
        let quiet = partition.lives.iter().all(|id| self.lives[id].tracker.begun() == 0);
        let (running, uncommitted) = (self.breaks(Defect::SettleRunning), self.breaks(Defect::SettleUncommitted));
        let committed = !self.is_dirty(partition) || uncommitted;
        // What is being written may be there already: it is waited for, so that nobody answers it again.
        let written = partition.lives.iter().all(|id| self.lives[id].writing == 0);
        let done = (quiet || running || (now >= until && written)) && committed;
        // A commit that is on its way is of this epoch, and is waited for.
        let under_way = self.is_committing(key) && !uncommitted;
        (done || now >= until + LAST_COMMIT) && !under_way && !self.breaks(Defect::NeverSettle)
    }

    fn part_with(&mut self, key: PartitionKey, now: Instant) {
        if self.breaks(Defect::KeepLost) {
            return;
        }
        if !self.breaks(Defect::AnswerLost) {
            self.orphan(key, now);
            self.retire_all(key);
        }
        self.settling.remove(&key);
        let Some(partition) = self.topics.partition(key) else { return };
        if let Some(committed) = partition.committed {
            self.parted.insert(Arc::clone(&partition.source), committed);
        }
        // Where those that are added are ours, this one is not.
        if let Some(topic) = self.topics.get_mut(key.topic) {
            topic.ignored.insert(key.number);
        }
        self.give_up(key);
        // Where all goes, some of it may be ours again in a moment; where not, `handle_nothing` says so.
        if self.topics.partitions().any(|(_, partition)| !partition.leaving) {
            self.end_if_done(now);
        }
    }
}
