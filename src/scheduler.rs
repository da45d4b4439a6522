//! PURE. What runs, what is written, what is committed, and when the run is over.
//!
//! The scheduler is the engine without its threads, sockets and clock: events go in through the `handle_*` methods, what
//! is to be done comes out of the `poll_*` methods, and time is an argument. The engine's loop is: handle one event, then
//! poll until nothing more comes, then wait for an event or for [`poll_timeout`](Scheduler::poll_timeout).
//!
//! ```text
//!   handle_fetched ──▶ tracker: waiting ──poll_load──▶ running ──handle_done──▶ fate
//!                          ▲                  │                                  │ poll_write
//!                          └──handle_returned─┘                                  ▼
//!   poll_commit ◀── committable moved ◀── tracker: finished ◀──handle_written── written
//! ```
//!
//! A message is finished when the last thing its fate asks for is acknowledged. It stays in memory, and in the count of
//! what is in flight, until then.
//!
//! Deliberately not here: fetching and its limits (`source.rs`), threads (`pool.rs`), retries of writes (`sink.rs`).

mod counters;
mod parts;
mod phase;
#[cfg(test)]
mod sim;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

pub use self::counters::{Counters, Summary};
pub use self::parts::{
    Assignment, DRAIN_COMMIT_INTERVAL, Freed, IDLE_COMMIT, LAST_COMMIT, Load, MAX_LOAD, Rules, Ticket, Write, Written,
};
use self::{
    counters::Left,
    parts::{Defect, LOAD_TIME, Partition, SHORT_TASK},
    phase::Phase,
};
use crate::{
    error::RunError,
    fate::{self, Done, Ending, Fate, Step},
    offsets::Committed,
    record::{AssignmentId, LeaderEpoch, Offset, Record, TopicPartition},
    task::Failure,
    tracker::Tracker,
};

/// See the [module's documentation](self).
///
/// - in: [`assign`](Self::assign), `handle_*`, [`drain`](Self::drain), [`stop`](Self::stop)
/// - out: `poll_*`, each until it gives `None`, in the order load, write, freed, commit, timeout, end
/// - to look at: [`counters`](Self::counters), [`summary`](Self::summary), [`running`](Self::running)
pub struct Scheduler {
    rules: Rules,
    partitions: BTreeMap<AssignmentId, Partition>,
    ready: VecDeque<AssignmentId>,
    writes: VecDeque<Write>,
    freed: VecDeque<AssignmentId>,
    /// Loads that have not ended.
    busy: usize,
    /// Writes that were polled or wait to be, and are not acknowledged.
    writing: usize,
    /// A running mean of how long a task takes, in nanoseconds.
    task_nanos: u64,
    /// Partitions that have not come to the end that `--until-end` gives them.
    open: usize,
    committing: Option<HashMap<AssignmentId, Offset>>,
    next_commit: Instant,
    /// The last commit was not acknowledged, so that the next one has to wait for its time.
    commit_failed: bool,
    /// Something may have changed that is to be committed.
    maybe_dirty: bool,
    /// When the partition that was longest without a commit is due for one.
    idle_commit: Instant,
    phase: Phase,
    error: Option<RunError>,
    counters: Counters,
    #[cfg(test)]
    pub(crate) defect: Option<Defect>,
}

impl Scheduler {
    /// A scheduler without partitions, at time `now`.
    #[must_use]
    pub fn new(rules: Rules, now: Instant) -> Self {
        assert!(rules.workers > 0, "no workers");
        Self {
            rules,
            partitions: BTreeMap::new(),
            ready: VecDeque::new(),
            writes: VecDeque::new(),
            freed: VecDeque::new(),
            busy: 0,
            writing: 0,
            task_nanos: 2 * nanos(SHORT_TASK),
            open: 0,
            committing: None,
            next_commit: now,
            commit_failed: false,
            maybe_dirty: false,
            idle_commit: now + IDLE_COMMIT,
            phase: Phase::Running,
            error: None,
            counters: Counters::new(now),
            #[cfg(test)]
            defect: None,
        }
    }

    /// Takes partitions on, all of one assignment at once: the run may be over when all of them are at their end. The
    /// first commit of each is due at once.
    pub fn assign(&mut self, assignments: Vec<Assignment>, now: Instant) {
        self.open += assignments.len();
        let first_commit = self.breaks(Defect::SkipFirstCommit).then_some(now);
        let ids: Vec<_> = assignments.iter().map(|assignment| assignment.id).collect();
        for Assignment { id, source, start, committed, end } in assignments {
            let partition = Partition {
                source,
                tracker: Tracker::new(start, self.rules.span),
                end,
                committed,
                committed_at: first_commit,
                freed: Freed::default(),
                ready: false,
                ended: false,
            };
            let known = self.partitions.insert(id, partition);
            assert!(known.is_none(), "{id:?} assigned twice");
        }
        for id in ids {
            self.progressed(id, now);
        }
    }

    /// Takes in what was read from a partition, in the order of its offsets, and that nothing else lies below `next`.
    pub fn handle_fetched(&mut self, id: AssignmentId, records: Vec<Record>, next: Offset, now: Instant) {
        let Some(partition) = self.partitions.get_mut(&id) else { return };
        for record in records {
            let beyond = partition.end.is_some_and(|end| record.offset >= end);
            if beyond || !self.phase.is_running() {
                partition.freed.records += 1;
                partition.freed.bytes += record.size();
                continue;
            }
            self.counters.received += 1;
            partition.tracker.fetched(record.offset, record);
        }
        self.freed.push_back(id);
        if self.phase.is_running() {
            partition.tracker.skip_to(partition.end.map_or(next, |end| next.min(end)));
        }
        self.queue(id);
        self.progressed(id, now);
    }

    /// Takes in how tasks went.
    pub fn handle_done(&mut self, id: AssignmentId, done: Vec<Done>, now: Instant) {
        if !self.partitions.contains_key(&id) {
            return;
        }
        for done in done {
            self.counters.count(&done.ending);
            self.task_nanos = self.task_nanos / 8 * 7 + nanos(done.took) / 8;
            let Done { offset, size, ending, fate, .. } = done;
            let error = match ending {
                Ending::Succeeded => String::new(),
                Ending::Failed(failure) => self.warn_of("message failed", id, offset, failure),
                Ending::Malformed(failure) => self.warn_of("message malformed", id, offset, failure),
            };
            match fate {
                Fate::Write(step) => self.write(id, offset, size, step, now),
                Fate::Silent => self.finish(id, offset, size, now),
                Fate::Drop => {
                    self.counters.dropped += 1;
                    self.finish(id, offset, size, now);
                }
                Fate::Stop => {
                    let source_partition = Arc::clone(&self.partitions[&id].source);
                    self.stop(RunError::MessageFailed { source_partition, offset, error }, now);
                }
            }
        }
    }

    /// Never the payload: only where it lies, and what went wrong. Gives the latter back.
    fn warn_of(&self, what: &str, id: AssignmentId, offset: Offset, failure: Failure) -> String {
        let TopicPartition { topic, partition } = &*self.partitions[&id].source;
        let error = failure.into_error();
        tracing::warn!(topic = &**topic, partition, offset = offset.0, error, "{what}");
        error
    }

    /// Takes back what was in a load and did not begin to run.
    pub fn handle_returned(&mut self, id: AssignmentId, records: impl DoubleEndedIterator<Item = Record>) {
        let Some(partition) = self.partitions.get_mut(&id) else { return };
        for record in records.rev() {
            partition.tracker.give_back(record.offset, record);
        }
        if self.phase.is_running() {
            self.queue(id);
        } else {
            self.abandon(id);
        }
    }

    /// Notes that a worker is free again.
    pub fn handle_load_ended(&mut self) {
        self.busy -= 1;
    }

    /// Takes in what became of a write.
    pub fn handle_written(&mut self, written: Written, now: Instant) {
        self.writing -= 1;
        match written {
            Written::Acknowledged(Ticket { assignment, offset, size, kind, then, .. }) => {
                self.counters.count_written(kind);
                match then {
                    Some(step) => self.write(assignment, offset, size, *step, now),
                    None => self.finish(assignment, offset, size, now),
                }
            }
            Written::TooLarge(Ticket { assignment, offset, size, kind, then, instead }, record) => {
                match fate::smaller(Step { kind, record, then, instead }) {
                    Some(step) => self.write(assignment, offset, size, step, now),
                    None => {
                        let Some(partition) = self.partitions.get(&assignment) else { return };
                        let source = Arc::clone(&partition.source);
                        self.stop(RunError::NothingWritable { source_partition: source, offset }, now);
                    }
                }
            }
        }
    }

    /// Takes in how the commit went that [`poll_commit`](Self::poll_commit) asked for.
    pub fn handle_committed(&mut self, acknowledged: bool, now: Instant) {
        let committing = self.committing.take().expect("a commit was under way");
        self.maybe_dirty = true;
        self.commit_failed = !acknowledged;
        if !acknowledged && !self.breaks(Defect::TrustFailedCommit) {
            self.counters.failed_commits += 1;
            return;
        }
        for (id, offset) in committing {
            if let Some(partition) = self.partitions.get_mut(&id) {
                partition.committed = Some(offset);
                partition.committed_at = Some(now);
            }
        }
    }

    /// Begins the end: no new task starts, what runs may finish within the grace time.
    pub fn drain(&mut self, now: Instant) {
        if !self.phase.is_running() {
            return;
        }
        self.phase = Phase::Draining { until: now + self.rules.grace };
        self.next_commit = self.next_commit.min(now + DRAIN_COMMIT_INTERVAL);
        let ids: Vec<_> = self.partitions.keys().copied().collect();
        for id in ids {
            if !self.breaks(Defect::StartWhileDraining) {
                self.abandon(id);
            }
        }
    }

    /// Begins the end for a reason that makes the run fail. Where the reason is that our commits would do harm, nothing
    /// is committed any more and the end is at once.
    pub fn stop(&mut self, error: RunError, now: Instant) {
        if error.forbids_commits() {
            self.phase = Phase::Over;
        }
        self.drain(now);
        self.error.get_or_insert(error);
    }

    /// What a free worker is to do. After it, [`handle_load_ended`](Self::handle_load_ended) is called once.
    pub fn poll_load(&mut self, now: Instant) -> Option<Load> {
        let full = self.busy >= self.rules.workers && !self.breaks(Defect::TooManyWorkers);
        if full || !(self.phase.is_running() || self.breaks(Defect::StartWhileDraining)) {
            return None;
        }
        let id = self.ready.pop_front()?;
        let most = self.load_size();
        let run_twice = self.breaks(Defect::RunTwice);
        let partition = self.partitions.get_mut(&id).expect("partitions stay");
        partition.ready = false;
        let mut records = Vec::with_capacity(most);
        while records.len() < most
            && let Some((_, record)) = partition.tracker.start()
        {
            records.push(record);
        }
        let last = records.last().expect("a partition in the ring has something to start");
        if run_twice {
            partition.tracker.give_back(last.offset, last.clone());
        }
        self.queue(id);
        self.busy += 1;
        self.counters.first_task.get_or_insert(now);
        Some(Load { assignment: id, records })
    }

    /// How many records go to the next worker: one, unless tasks are so short that the way to the worker is what costs.
    /// Then few threads that stay awake do more than many that are woken for a little each.
    fn load_size(&self) -> usize {
        if self.task_nanos > nanos(SHORT_TASK) {
            return 1;
        }
        let by_time = nanos(LOAD_TIME) / self.task_nanos.max(1);
        usize::try_from(by_time).unwrap_or(MAX_LOAD).clamp(1, MAX_LOAD)
    }

    /// What is to be written next. Comes back through [`handle_written`](Self::handle_written).
    pub fn poll_write(&mut self) -> Option<Write> {
        self.writes.pop_front()
    }

    /// What a partition gives back to the limits.
    pub fn poll_freed(&mut self) -> Option<(AssignmentId, Freed)> {
        while let Some(id) = self.freed.pop_front() {
            if let Some(partition) = self.partitions.get_mut(&id) {
                let freed = std::mem::take(&mut partition.freed);
                if freed != Freed::default() {
                    return Some((id, freed));
                }
            }
        }
        None
    }

    /// What is to be committed now, if a commit is due. The leader epochs are not known here. Comes back through [`handle_committed`](Self::handle_committed).
    pub fn poll_commit(&mut self, now: Instant) -> Option<BTreeMap<i32, Committed>> {
        let last = self.is_quiet() && !self.phase.is_running() && !self.commit_failed;
        let due = now >= self.next_commit || last;
        if self.committing.is_some() || !due || self.phase == Phase::Over {
            return None;
        }
        let too_far = i64::from(self.breaks(Defect::CommitTooFar)) - i64::from(self.breaks(Defect::CommitBackwards));
        let mut offsets = HashMap::new();
        let mut commits = BTreeMap::new();
        for (id, partition) in &self.partitions {
            if partition.is_dirty() || partition.committed_at.is_none_or(|at| now >= at + IDLE_COMMIT) {
                let offset = partition.tracker.committable() + too_far;
                offsets.insert(*id, offset);
                commits.insert(
                    partition.source.partition,
                    Committed { offset, leader_epoch: LeaderEpoch::UNKNOWN, metadata: String::new() },
                );
            }
        }
        let interval = if self.phase.is_running() { self.rules.commit_interval } else { DRAIN_COMMIT_INTERVAL };
        self.next_commit = now + interval;
        if commits.is_empty() {
            self.maybe_dirty = false;
            self.idle_commit =
                self.partitions.values().filter_map(|p| p.committed_at).min().unwrap_or(now) + IDLE_COMMIT;
            return None;
        }
        self.committing = Some(offsets);
        Some(commits)
    }

    /// When to look again although nothing happened.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let commit = match (&self.committing, self.maybe_dirty) {
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

    /// What has been done so far.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// What has been done, as told at the end.
    #[must_use]
    pub fn summary(&mut self, now: Instant) -> Summary {
        let left = Left::of(self.partitions.values(), self.writing, self.is_uncommitted());
        self.counters.summary(now, left, self.error.take())
    }

    /// Whether the run goes on.
    #[must_use]
    pub fn running(&self) -> bool {
        self.phase.is_running()
    }

    fn is_uncommitted(&self) -> bool {
        self.committing.is_some() || self.partitions.values().any(Partition::is_dirty)
    }

    /// No task runs and nothing is being written.
    fn is_quiet(&self) -> bool {
        self.busy == 0 && self.writing == 0
    }

    /// Puts a partition into the ring, if it is not there and has something to start.
    fn queue(&mut self, id: AssignmentId) {
        let partition = self.partitions.get_mut(&id).expect("partitions stay");
        if !partition.ready && partition.tracker.can_start() {
            partition.ready = true;
            self.ready.push_back(id);
        }
    }

    fn abandon(&mut self, id: AssignmentId) {
        let partition = self.partitions.get_mut(&id).expect("partitions stay");
        partition.tracker.abandon_waiting();
    }

    fn write(&mut self, assignment: AssignmentId, offset: Offset, size: usize, step: Step, now: Instant) {
        let Step { kind, record, then, instead } = step;
        if self.breaks(Defect::FinishUnacknowledged) && then.is_none() {
            self.finish(assignment, offset, size, now);
        }
        self.writing += 1;
        let ticket = Ticket { assignment, offset, size, kind, then, instead };
        self.writes.push_back(Write { kind, ticket, record });
    }

    fn finish(&mut self, id: AssignmentId, offset: Offset, size: usize, now: Instant) {
        let Some(partition) = self.partitions.get_mut(&id) else { return };
        partition.tracker.finish(offset);
        if partition.freed.records == 0 {
            self.freed.push_back(id);
        }
        partition.freed.records += 1;
        partition.freed.bytes += size;
        self.counters.last_finished = Some(now);
        self.queue(id);
        self.progressed(id, now);
    }

    /// Notes that the committable offset may have moved. With `--until-end`, begins the end when all is done.
    fn progressed(&mut self, id: AssignmentId, now: Instant) {
        self.maybe_dirty = true;
        let partition = self.partitions.get_mut(&id).expect("partitions stay");
        if !partition.ended && partition.is_at_end() {
            partition.ended = true;
            self.open -= 1;
            if self.open == 0 {
                self.drain(now);
            }
        }
    }

    #[cfg(test)]
    fn breaks(&self, defect: Defect) -> bool {
        self.defect == Some(defect)
    }

    #[cfg(not(test))]
    #[allow(clippy::unused_self)]
    fn breaks(&self, _: Defect) -> bool {
        false
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
