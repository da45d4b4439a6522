//! PURE. When to look at the log and to commit, what a commit reaches to, and when the run is over.

use super::{summary::Left, topics::Topic, *};
use crate::{gather::Gather, lineage::Read, offsets::Committed};

impl Scheduler {
    /// What is to be asked now: to look at the logs, and to commit if a commit is due. One at a time: comes back through
    /// [`handle_looked`](Self::handle_looked) or [`handle_unanswered`](Self::handle_unanswered).
    pub fn poll_ask(&mut self, now: Instant) -> Option<Ask> {
        if self.asking.is_some() || self.phase == Phase::Over {
            return None;
        }
        let mut commits = self.commits(now);
        if commits.is_empty() && now < self.next_look {
            return None;
        }
        let asking = commits.iter().map(|(key, committed)| {
            let partition = self.topics.partition(*key).expect("it is ours");
            let Partition { since, finishes, .. } = *partition;
            (*key, Asked { offset: committed.offset, since, finishes })
        });
        let asking = asking.gather();
        let asked = self.topics.iter().filter(|(_, of)| !of.barred);
        let topics: Vec<_> = asked.map(|(topic, of)| self.ask(topic, of, &mut commits)).collect();
        if topics.is_empty() {
            // There is nothing to look at.
            self.next_look = now + LOOK;
            return None;
        }
        self.asking = Some(asking);
        Some(Ask { topics, era: self.era })
    }

    /// What is to be asked of one topic, with its part of what is to be committed.
    fn ask(&self, topic: TopicIndex, of: &Topic, commits: &mut BTreeMap<PartitionKey, Committed>) -> TopicAsk {
        let mixed = self.breaks(Defect::MixTopics);
        let ours = commits.extract_if(.., |key, _| key.topic == topic || mixed);
        let commits: BTreeMap<_, _> = ours.map(|(key, committed)| (key.number, committed)).gather();
        let finished =
            commits.keys().filter_map(|number| Some((*number, self.finished_above(of.partitions.get(number)?))));
        let notes = commits.keys().filter_map(|number| Some((*number, self.notes(of.partitions.get(number)?))));
        TopicAsk {
            topic,
            name: Arc::clone(&of.name),
            id: of.id,
            missing: of.missing_since.is_some(),
            reads: of.partitions.iter().filter_map(|(number, p)| Some((*number, self.read(p)?))).gather(),
            newcomers: match self.rules.all_partitions {
                true => Newcomers::AllBut(of.partitions.keys().chain(&of.ignored).copied().gather()),
                false => Newcomers::Only(of.awaited.clone()),
            },
            notes: notes.gather(),
            finished: finished.gather(),
            commits,
        }
    }

    /// What has to be committed, if a commit is due.
    fn commits(&mut self, now: Instant) -> BTreeMap<PartitionKey, Committed> {
        let last = !self.phase.is_running() && !self.commit_failed && self.is_quiet();
        if now < self.next_commit && !last {
            return BTreeMap::new();
        }
        let too_far = i64::from(self.breaks(Defect::CommitTooFar)) - i64::from(self.breaks(Defect::CommitBackwards));
        let mut commits = BTreeMap::new();
        for (key, partition) in self.topics.partitions() {
            let due = partition.committed_at.is_none_or(|at| now >= at + IDLE_COMMIT);
            let due = due || self.has_progress(partition);
            let Some(offset) = self.committable(partition).filter(|at| due || partition.committed != Some(*at)) else {
                continue;
            };
            let committed =
                Committed { offset: offset + too_far, leader_epoch: LeaderEpoch::UNKNOWN, metadata: String::new() };
            commits.insert(key, committed);
        }
        let hurried = !self.phase.is_running() || !self.settling.is_empty();
        self.next_commit = now + if hurried { DRAIN_COMMIT_INTERVAL } else { self.rules.commit_interval };
        (self.hurried_commit, self.finished_since) = (now + HURRY, 0);
        if commits.is_empty() {
            self.maybe_dirty = false;
            let oldest = self.topics.partitions().filter_map(|(_, p)| p.committed_at).min();
            self.idle_commit = oldest.unwrap_or(now) + IDLE_COMMIT;
        }
        commits
    }

    /// How far a partition was read; `None` where nothing of it is ours any more.
    fn read(&self, partition: &Partition) -> Option<Read> {
        let id = partition.current();
        let life = &self.lives[&id];
        let Life { mut verified, told, unsure, .. } = *life;
        if self.breaks(Defect::TrustEveryEpoch) {
            verified.epoch = LeaderEpoch::UNKNOWN;
        }
        (!life.is_dead()).then_some(Read { life: id, next: life.tracker.next(), verified, told, unsure })
    }

    /// The lowest unfinished offset of a partition: that of its first life that still has something to do; or else, at the
    /// end of a run, where its last life was cut off.
    pub(super) fn committable(&self, partition: &Partition) -> Option<Offset> {
        let mut lives = partition.lives.iter().map(|id| &self.lives[id]).filter(|life| !life.is_dead());
        let last = lives.clone().next_back()?;
        Some(lives.find(|life| !life.is_done()).unwrap_or(last).tracker.committable())
    }

    /// Takes in what a look showed of each topic, and what became of the commits that went with it.
    pub fn handle_looked(&mut self, looked: Vec<Looked>, now: Instant) {
        let asked = self.asking.take().expect("something was asked");
        self.maybe_dirty = true;
        self.commit_failed = false;
        let (mut unknown, mut failed) = (false, false);
        for Looked { topic, kept, said, .. } in &looked {
            unknown |= *kept == Kept::Unknown;
            let key = |number| PartitionKey { topic: *topic, number };
            failed |= self.take_in_commits(asked.range(key(i32::MIN)..=key(i32::MAX)), kept, said, now);
        }
        self.counters.failed_commits += u64::from(failed);
        for Looked { topic, findings, .. } in looked {
            self.handle_findings(topic, findings, now);
        }
        let missing = self.topics.iter().any(|(_, topic)| topic.missing_since.is_some() && !topic.barred);
        let odd = unknown || missing || self.lives.values().any(|life| life.unsure);
        self.next_look = now + if odd { LOOK_AGAIN } else { LOOK };
    }

    /// Takes in what became of the commits for one topic, and says whether they are not known to be kept.
    fn take_in_commits<'a>(
        &mut self,
        commits: impl Iterator<Item = (&'a PartitionKey, &'a Asked)>,
        kept: &Kept,
        said: &BTreeMap<i32, Said>,
        now: Instant,
    ) -> bool {
        let mut commits = commits.peekable();
        if commits.peek().is_none() {
            return false;
        }
        let unknown = *kept == Kept::Unknown && !self.breaks(Defect::TrustFailedCommit);
        self.commit_failed |= *kept != Kept::AllBut(BTreeSet::new());
        let open = match kept {
            Kept::AllBut(open) => open.clone(),
            _ => BTreeSet::new(),
        };
        let held = *kept == Kept::Held && !self.breaks(Defect::TrustHeldCommit);
        let acknowledged = !unknown && !held;
        for (key, asked) in commits.filter(|(key, _)| acknowledged && !open.contains(&key.number)) {
            // One that was given up and is ours again goes by what it was assigned with.
            let past = self.breaks(Defect::TrustPastCommit);
            let partition = self.topics.partition_mut(*key);
            if let Some(partition) = partition.filter(|partition| partition.since == asked.since || past) {
                partition.committed = Some(asked.offset);
                partition.committed_finishes = asked.finishes;
                partition.committed_at = Some(now);
                self.take_in_said(*key, said.get(&key.number));
            }
        }
        unknown
    }

    /// Takes in that nobody could be asked, or that a commit is not known to be kept.
    pub fn handle_unanswered(&mut self, now: Instant) {
        let unknown = |topic| Looked { topic, findings: Vec::new(), kept: Kept::Unknown, said: BTreeMap::new() };
        let looked = self.topics.iter().map(|(topic, _)| unknown(topic)).collect();
        self.handle_looked(looked, now);
        self.next_look = now + LOOK_AGAIN;
    }

    /// When to look at the log although nothing happened; `None` while it is being looked at.
    #[must_use]
    pub fn look_due(&self) -> Option<Instant> {
        self.asking.is_none().then_some(self.next_look)
    }

    /// When to look again although nothing happened, apart from [`look_due`](Self::look_due).
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let commit = match (&self.asking, self.maybe_dirty) {
            (Some(_), _) => None,
            (None, true) if self.breaks(Defect::NoCommitTimer) => None,
            (None, true) => Some(self.next_commit),
            (None, false) => Some(self.idle_commit.max(self.next_commit)),
        };
        let settling = self.settling.values().filter_map(|settling| settling.wake).min();
        let starts = self.orphans.next_end().into_iter().chain(self.next_start());
        commit.into_iter().chain(self.phase.deadline()).chain(settling).chain(starts).min()
    }

    /// Says, once, that the run is over.
    pub fn poll_end(&mut self, now: Instant) -> Option<Summary> {
        if self.phase.is_running() {
            return None;
        }
        let clean = !self.is_uncommitted();
        match self.phase {
            Phase::Draining { .. } if self.is_quiet() && clean => {}
            Phase::Draining { until } if now >= until => {
                self.counters.forced |= !self.is_quiet();
                if !clean {
                    self.phase = Phase::Closing { until: now + LAST_COMMIT };
                    self.next_commit = now;
                    return None;
                }
            }
            Phase::Draining { .. } => return None,
            Phase::Closing { until } if !clean && now < until => return None,
            Phase::Running | Phase::Closing { .. } | Phase::Over => {}
        }
        Some(self.summary(now))
    }

    /// What has been done, as told at the end.
    #[must_use]
    pub fn summary(&mut self, now: Instant) -> Summary {
        let dirty = self.topics.partitions().filter_map(|(_, partition)| {
            let committable = self.committable(partition)?;
            (partition.committed != Some(committable)).then(|| (Arc::clone(&partition.source), committable))
        });
        let ours = self.topics.partitions().filter_map(|(_, p)| Some((Arc::clone(&p.source), p.committed?)));
        let parted = self.parted.iter().map(|(source, offset)| (Arc::clone(source), *offset));
        let left = Left {
            committed: ours.chain(parted).gather(),
            uncommitted: dirty.gather(),
            several_topics: self.rules.several_topics,
            progress_dropped: self.topics.partitions().map(|(_, partition)| partition.dropped).sum(),
            in_flight: self.lives.values().map(|life| life.tracker.begun()).sum(),
            unfinished: self.unfinished(),
            unanswered: self.writing,
            last_commit_open: self.is_uncommitted(),
            data_loss: std::mem::take(&mut self.losses),
        };
        self.counters.summary(now, left, self.error.take())
    }

    fn is_uncommitted(&self) -> bool {
        self.asking.as_ref().is_some_and(|commits| !commits.is_empty())
            || self.topics.partitions().any(|(_, partition)| self.is_dirty(partition))
    }

    /// Whether there is something to commit for a partition.
    pub(super) fn is_dirty(&self, partition: &Partition) -> bool {
        let committable = self.committable(partition);
        let due = partition.committed_at.is_none() || self.has_progress(partition);
        committable.is_some() && (due || partition.committed != committable)
    }

    /// Whether a commit for a partition is on its way.
    pub(super) fn is_committing(&self, key: PartitionKey) -> bool {
        self.asking.as_ref().is_some_and(|commits| commits.contains_key(&key))
    }
}
