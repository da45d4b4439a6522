//! PURE. What becomes of a message whose task has failed: tried again after a while, kept, or given up.
//!
//! ```text
//!   handle_done ──▶ failed ──┬─ attempts left ───────────▶ parked until its time ──▶ started again
//!                            ├─ the circuit is open ──────▶ kept: let start again at once, and tried in its turn
//!                            ├─ it is in doubt ───────────▶ parked, as if it had attempts left
//!                            └─ else, or it is permanent ─▶ its fate (fate.rs): dead letter, failure answer …
//! ```
//!
//! While it waits, a message holds no worker and does not keep others of its partition back; it counts as in flight, and
//! holds the committable offset down. At the end of a run, or when its partition goes, it is left unfinished. How often it
//! has failed goes with the commits, for those that lie lowest ([`MAX_ATTEMPTS_SAID`]).
//!
//! There is no chance in the waits: they are spread by a hash of where the message lies.

use std::hash::{DefaultHasher, Hash, Hasher};

use super::{breaker::Change, *};
use crate::{fate::Judge, progress::Notes, task::Advice};

/// Of so many unfinished messages of a partition, the lowest, a commit says how often they have failed.
pub const MAX_ATTEMPTS_SAID: usize = 32;

/// How often, and when, what has failed is tried again (`--retries`, `--retry-backoff`, `--retry-backoff-max`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retries {
    /// How often, at the most.
    pub most: u32,
    /// How long after the first failure; after each that follows, twice as long.
    pub backoff: Duration,
    /// No longer than this.
    pub longest: Duration,
}

impl Retries {
    /// None at all.
    pub const NONE: Self = Self { most: 0, backoff: Duration::from_secs(1), longest: Duration::from_secs(60) };

    /// How long to wait after so many failures: at least half of what the backoff is by then, and at most all of it.
    fn wait(&self, failures: u32, source: &TopicPartition, offset: Offset) -> Duration {
        let full = self.backoff.saturating_mul(1 << (failures.max(1) - 1).min(30)).min(self.longest);
        let mut hasher = DefaultHasher::new();
        (source, offset, failures).hash(&mut hasher);
        let spread = hasher.finish() % 1024;
        full / 2 + full / 2048 * u32::try_from(spread).expect("it is small")
    }
}

/// What waits for its time.
#[derive(Debug, Default)]
pub(super) struct Waits {
    due: BTreeMap<(Instant, u64), (AssignmentId, Offset)>,
    number: u64,
}

impl Waits {
    fn put(&mut self, at: Instant, id: AssignmentId, offset: Offset) {
        self.number += 1;
        self.due.insert((at, self.number), (id, offset));
    }

    fn take_due(&mut self, now: Instant) -> Option<(AssignmentId, Offset)> {
        let first = self.due.first_entry().filter(|first| first.key().0 <= now)?;
        Some(first.remove())
    }

    fn next(&self) -> Option<Instant> {
        self.due.keys().next().map(|(at, _)| *at)
    }
}

impl Scheduler {
    /// Decides what becomes of a message whose task has failed. Gives its fate if it is given up.
    pub(super) fn failed(&mut self, id: AssignmentId, record: Record, failure: &Failure, now: Instant) -> Option<Fate> {
        let (advice, attempt) = (failure.advice(), record.attempt);
        let spent = attempt > self.rules.retries.most && !self.breaks(Defect::RetryForEver);
        let keeps = self.breaker.keeps(id, record.offset, advice) && !self.breaks(Defect::GiveUpInOutage);
        if advice == Advice::Permanent || (spent && !keeps) {
            self.counters.failed += 1;
            #[cfg(test)]
            self.given_up.push((id, record.offset));
            let mut judge = Judge { policy: self.rules.policy, group: &self.rules.group, page: &mut self.page };
            return Some(fate::give_up(record, failure, &mut judge));
        }
        self.counters.retried += 1;
        let life = self.lives.get_mut(&id).expect("it is ours");
        let (offset, source) = (record.offset, Arc::clone(&life.source));
        let mut wait = self.rules.retries.wait(attempt, &source, offset);
        if let Advice::After(least) = advice {
            wait = wait.max(least.min(MOST_ADVISED));
        }
        let error = failure.error();
        let kept = self.breaker.is_open();
        if kept {
            tracing::debug!(
                topic = &*source.topic,
                partition = source.partition,
                offset = offset.0,
                attempt,
                error,
                "failed, and is kept"
            );
        } else {
            tracing::warn!(topic = &*source.topic, partition = source.partition, offset = offset.0, attempt, error, again_in = ?wait, "failed, and is tried again");
        }
        life.attempts.insert(offset, (attempt, true));
        life.tracker.park(offset, Record { attempt: attempt + 1, ..record });
        let key = life.key;
        self.note_finished(key);
        self.maybe_dirty = true;
        if life_goes_on(&self.phase, &self.lives[&id]) && !kept {
            let wait = if self.breaks(Defect::RetryAtOnce) { Duration::ZERO } else { wait };
            if !self.breaks(Defect::ForgetRetry) {
                self.waits.put(now + wait, id, offset);
            }
        } else {
            self.lives.get_mut(&id).expect("it is ours").tracker.unpark(offset);
            self.start_or_abandon(id);
        }
        None
    }

    /// Takes in, for the circuit breaker, how a task went.
    pub(super) fn note_outcome(&mut self, id: AssignmentId, done: &Done, now: Instant) {
        let failed = match &done.ending {
            Ending::Succeeded => None,
            Ending::Failed(failure) => Some(failure.advice()),
            Ending::Malformed(_) => return self.note_tried(id, done.offset, now),
        };
        // What has failed before this process came may fail for another reason now.
        let heir = self.orphans.heir(id, done.offset);
        let attempts = self.lives.get(&heir).and_then(|life| life.attempts.get(&done.offset));
        let again = attempts.is_some_and(|(_, here)| *here);
        match self.breaker.note(failed, again, now) {
            Some(Change::Opened) => {
                self.counters.circuit_opened += 1;
                let error = match &done.ending {
                    Ending::Failed(failure) => failure.error(),
                    _ => "",
                };
                tracing::error!(
                    error,
                    "nearly all tasks fail: the circuit is open. Nothing new starts and no message is given up; one at a time is \
                     tried until one succeeds (--circuit-breaker false turns this off)"
                );
            }
            Some(Change::Closed { after }) => tracing::info!(?after, "a task succeeded: the circuit is closed again"),
            Some(Change::StillOpen { .. }) | None => {}
        }
        self.note_tried(id, done.offset, now);
    }

    /// The one that was tried while the circuit is open may have come to its end.
    fn note_tried(&mut self, id: AssignmentId, offset: Offset, now: Instant) {
        if let Some(Change::StillOpen { wait }) = self.breaker.tried(id, offset, now) {
            tracing::warn!(next_try_in = ?wait, "the circuit stays open: tasks still fail");
        }
    }

    /// Lets start again what has waited long enough.
    pub(super) fn end_waits(&mut self, now: Instant) {
        while let Some((id, offset)) = self.waits.take_due(now) {
            let Some(life) = self.lives.get_mut(&id) else { continue };
            if life.tracker.unpark(offset) {
                self.queue(id);
            }
        }
    }

    /// When something starts that waits for its time, apart from what may start at any time.
    pub(super) fn next_start(&self) -> Option<Instant> {
        if !self.phase.is_running() {
            return None;
        }
        let startable = !self.ready.is_empty() && self.busy < self.rules.workers;
        let later = if self.breaker.is_open() { self.breaker.due() } else { self.pace.next() };
        self.waits.next().into_iter().chain(later.filter(|_| startable)).min()
    }

    /// A lane is free again (`lanes.rs`): whose turn it is may start.
    pub(super) fn leave_lane(&mut self, id: AssignmentId, offset: Offset) {
        if self.breaks(Defect::KeepLane) {
            return;
        }
        let mut next = self.lanes.leave(id, offset);
        while let Some((id, offset)) = next {
            if self.lives.get_mut(&id).is_some_and(|life| life.tracker.unpark(offset)) {
                return self.start_or_abandon(id);
            }
            next = self.lanes.leave(id, offset);
        }
    }

    /// What a commit of a partition says beside what is finished.
    pub(super) fn notes(&self, partition: &Partition) -> Notes {
        Notes { attempts: self.attempts(partition) }
    }

    /// How often the lowest unfinished messages of a partition have failed.
    fn attempts(&self, partition: &Partition) -> BTreeMap<Offset, u32> {
        let lives = partition.lives.iter().map(|id| &self.lives[id]).filter(|life| !life.is_dead());
        let of =
            |life: &Life| life.attempts.iter().map(|(offset, (failures, _))| (*offset, *failures)).collect::<Vec<_>>();
        lives.flat_map(of).take(MAX_ATTEMPTS_SAID).gather()
    }
}

/// The longest time that a failure's advice is followed.
const MOST_ADVISED: Duration = Duration::from_secs(3600);

fn life_goes_on(phase: &Phase, life: &Life) -> bool {
    phase.is_running() && !life.leaving
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_are_spread_and_end() {
        let retries = Retries { most: 9, backoff: Duration::from_secs(1), longest: Duration::from_secs(10) };
        let source = TopicPartition::new("in", 0);
        let waits = |failures| (0..200).map(move |offset| (failures, Offset(offset)));
        for (failures, full) in [(1, 1), (2, 2), (3, 4), (4, 8), (5, 10), (200, 10)] {
            let waits: BTreeSet<_> =
                waits(failures).map(|(failures, offset)| retries.wait(failures, &source, offset)).collect();
            let full = Duration::from_secs(full);
            assert!(waits.first() >= Some(&(full / 2)) && waits.last() <= Some(&full), "{failures}: {waits:?}");
            assert!(waits.len() > 150, "they are spread: {}", waits.len());
        }
    }
}
