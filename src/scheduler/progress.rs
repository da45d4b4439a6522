//! PURE. What is finished above the lowest unfinished offset: to be committed with it, soon where it is much, and within
//! what a commit has room for.
//!
//! ```text
//!   first life     ├──────────✓✓──✓┼ ─ ─ ─        what it finished below the place where it was cut off,
//!   second life                    ├───✓✓✓──▶     and all that the next one did
//! ```
//!
//! A commit that has no room for all of it says how far it reaches. From there on nothing is started until the lowest
//! unfinished offset is finished: what finished there already is dropped from the commit, and counted.

use super::*;
use crate::progress::{Finished, Run};

/// Where so many messages were finished since the last commit, the next one is hurried: they would all run again after a
/// crash.
pub const HURRY_AFTER: u64 = 1_000;
/// How soon after the last one a hurried commit follows, where `--commit-interval` is longer.
pub const HURRY: Duration = Duration::from_millis(100);

impl Scheduler {
    /// Notes that a message of a partition was finished.
    pub(super) fn note_finished(&mut self, key: PartitionKey) {
        let Some(partition) = self.topics.partition_mut(key) else { return };
        partition.finishes += 1;
        self.finished_since += 1;
        if self.finished_since >= HURRY_AFTER && !self.commit_failed {
            self.next_commit = self.next_commit.min(self.hurried_commit);
        }
    }

    /// Whether something was finished that the last commit did not know of.
    pub(super) fn has_progress(&self, partition: &Partition) -> bool {
        partition.finishes != partition.committed_finishes && !self.breaks(Defect::NoProgressCommit)
    }

    /// What is finished of a partition from its committable offset on.
    pub(super) fn finished_above(&self, partition: &Partition) -> Finished {
        let lives = partition.lives.iter().map(|id| &self.lives[id]);
        let lives = lives.filter(|life| !life.is_dead()).skip_while(|life| life.is_done());
        let committable = self.committable(partition);
        let mut finished = Finished::default();
        for (index, life) in lives.enumerate() {
            let from = if index == 0 { life.tracker.committable() } else { life.tracker.start_offset() };
            let mut of_life = life.tracker.finished_from(from);
            if let Some(until) = life.until {
                of_life.cut_from(until);
            }
            of_life.cut_below(finished.end().unwrap_or(from));
            for run in of_life.runs() {
                finished.push(*run);
            }
        }
        match finished.runs().first().copied() {
            Some(Run { first, end }) if self.breaks(Defect::ProgressTooFar) && finished.first() > committable => {
                finished.cut_below(end);
                [Run::new(first + -1, end)].into_iter().chain(finished.runs().iter().copied()).collect()
            }
            _ => finished,
        }
    }

    /// Takes in how much of what is finished the commit of a partition says that was just acknowledged.
    pub(super) fn take_in_said(&mut self, key: PartitionKey, said: Option<&Said>) {
        let Some((said, partition)) = said.zip(self.topics.partition_mut(key)) else { return };
        let (reach, dropped) = match *said {
            Said::All => (None, 0),
            Said::Below { reach, dropped } => (Some(reach), dropped),
            Said::Nothing { dropped } => (None, dropped),
        };
        partition.dropped = dropped;
        let Some(base) = partition.committed else { return };
        for id in partition.lives.clone() {
            self.lives.get_mut(&id).expect("it is there").tracker.hold_below(base, reach);
            self.queue(id);
        }
    }
}
