//! PURE. When to look at the log and to commit, what a commit reaches to, and when the run is over.

use super::counters::Left;
use super::*;
use crate::{lineage::Read, offsets::Committed};

impl Scheduler {
    /// What is to be asked now: to look at the log, and to commit if a commit is due. One at a time: comes back through
    /// [`handle_looked`](Self::handle_looked) or [`handle_unanswered`](Self::handle_unanswered).
    pub fn poll_ask(&mut self, now: Instant) -> Option<Ask> {
        if self.asking.is_some() || self.phase == Phase::Over {
            return None;
        }
        let commits = self.commits(now);
        if commits.is_empty() && now < self.next_look {
            return None;
        }
        let finishes = |number: &i32| self.partitions[number].finishes;
        let asked = |(number, c): (&i32, &Committed)| (*number, (c.offset, finishes(number)));
        self.asking = Some(commits.iter().map(asked).collect());
        let finished = commits.keys().map(|number| (*number, self.finished_above(&self.partitions[number]))).collect();
        let known = self.rules.all_partitions.then(|| {
            let gone = &self.ignored;
            self.partitions.keys().chain(gone).copied().collect()
        });
        Some(Ask { id: self.topic_id, reads: self.reads(), known, commits, finished })
    }

    /// What has to be committed, if a commit is due.
    fn commits(&mut self, now: Instant) -> BTreeMap<i32, Committed> {
        let last = !self.phase.is_running() && !self.commit_failed && self.is_quiet();
        if now < self.next_commit && !last {
            return BTreeMap::new();
        }
        let too_far = i64::from(self.breaks(Defect::CommitTooFar)) - i64::from(self.breaks(Defect::CommitBackwards));
        let mut commits = BTreeMap::new();
        for (number, partition) in &self.partitions {
            let due = partition.committed_at.is_none_or(|at| now >= at + IDLE_COMMIT);
            let due = due || self.has_progress(partition);
            let Some(offset) = self.committable(partition).filter(|at| due || partition.committed != Some(*at)) else {
                continue;
            };
            let committed =
                Committed { offset: offset + too_far, leader_epoch: LeaderEpoch::UNKNOWN, metadata: String::new() };
            commits.insert(*number, committed);
        }
        let interval = if self.phase.is_running() { self.rules.commit_interval } else { DRAIN_COMMIT_INTERVAL };
        self.next_commit = now + interval;
        (self.hurried_commit, self.finished_since) = (now + HURRY, 0);
        if commits.is_empty() {
            self.maybe_dirty = false;
            let oldest = self.partitions.values().filter_map(|p| p.committed_at).min();
            self.idle_commit = oldest.unwrap_or(now) + IDLE_COMMIT;
        }
        commits
    }

    /// How far each partition was read.
    fn reads(&self) -> BTreeMap<i32, Read> {
        let read = |(number, partition): (&i32, &Partition)| {
            let id = partition.current();
            let life = &self.lives[&id];
            let Life { mut verified, told, unsure, .. } = *life;
            if self.breaks(Defect::TrustEveryEpoch) {
                verified.epoch = LeaderEpoch::UNKNOWN;
            }
            (!life.is_dead()).then_some((*number, Read { life: id, next: life.tracker.next(), verified, told, unsure }))
        };
        self.partitions.iter().filter_map(read).collect()
    }

    /// The lowest unfinished offset of a partition: that of its first life that still has something to do; or else, at the
    /// end of a run, where its last life was cut off.
    pub(super) fn committable(&self, partition: &Partition) -> Option<Offset> {
        let mut lives = partition.lives.iter().map(|id| &self.lives[id]).filter(|life| !life.is_dead());
        let last = lives.clone().next_back()?;
        Some(lives.find(|life| !life.is_done()).unwrap_or(last).tracker.committable())
    }

    /// Takes in what a look showed, and what became of the commit that went with it.
    pub fn handle_looked(&mut self, findings: Vec<Finding>, kept: &Kept, now: Instant) {
        let committing = self.asking.take().expect("something was asked");
        self.maybe_dirty = true;
        self.commit_failed = !committing.is_empty() && *kept != Kept::AllBut(BTreeSet::new());
        let unknown = *kept == Kept::Unknown && !self.breaks(Defect::TrustFailedCommit);
        if unknown && !committing.is_empty() {
            self.counters.failed_commits += 1;
        }
        let open = match kept {
            Kept::AllBut(open) => open.clone(),
            _ => BTreeSet::new(),
        };
        let acknowledged = !unknown && *kept != Kept::Held;
        for (number, (offset, finishes)) in committing {
            if acknowledged
                && !open.contains(&number)
                && let Some(partition) = self.partitions.get_mut(&number)
            {
                partition.committed = Some(offset);
                partition.committed_at = Some(now);
                partition.committed_finishes = finishes;
            }
        }
        self.handle_findings(findings, now);
        let odd = self.missing_since.is_some() || self.lives.values().any(|life| life.unsure);
        self.next_look = now + if odd { LOOK_AGAIN } else { LOOK };
    }

    /// Takes in that nobody could be asked, or that a commit is not known to be kept.
    pub fn handle_unanswered(&mut self, now: Instant) {
        self.handle_looked(Vec::new(), &Kept::Unknown, now);
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
        commit.into_iter().chain(self.phase.deadline()).min()
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
        let dirty = self.partitions.iter().filter_map(|(number, partition)| {
            let committable = self.committable(partition)?;
            (partition.committed != Some(committable)).then_some((*number, committable))
        });
        let left = Left {
            committed: self.partitions.iter().filter_map(|(number, p)| Some((*number, p.committed?))).collect(),
            uncommitted: dirty.collect(),
            progress_dropped: self.partitions.values().map(|partition| partition.dropped).sum(),
            in_flight: self.lives.values().map(|life| life.tracker.begun()).sum(),
            unanswered: self.writing,
            last_commit_open: self.is_uncommitted(),
            data_loss: std::mem::take(&mut self.losses),
        };
        self.counters.summary(now, left, self.error.take())
    }

    fn is_uncommitted(&self) -> bool {
        self.asking.as_ref().is_some_and(|commits| !commits.is_empty())
            || self.partitions.values().any(|partition| {
                let committable = self.committable(partition);
                let due = partition.committed_at.is_none() || self.has_progress(partition);
                committable.is_some() && (due || partition.committed != committable)
            })
    }
}
