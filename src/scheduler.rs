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
//! All that is kept of a partition belongs to one life of it (`lives.rs`): where the log turns out to be another, a new
//! life begins, and what still runs of the old one comes to nothing. The topics of a run are told apart throughout
//! (`topics.rs`): what is odd with one is no matter of the others. Partitions may come and go while it runs (`leaving.rs`).
//!
//! A message whose task fails is tried again, kept, or given up (`failures.rs`, `breaker.rs`). What is to go in order waits
//! for its turn (`lanes.rs`).
//!
//! Deliberately not here: fetching and its limits (`source.rs`), threads (`pool.rs`), retries of writes (`sink.rs`).

mod asks;
mod breaker;
mod counters;
mod defect;
mod failures;
mod lanes;
mod leaving;
mod lives;
mod loads;
mod orphans;
mod pace;
mod parts;
mod phase;
mod progress;
#[cfg(test)]
mod sim;
mod summary;
#[cfg(test)]
mod tests;
mod topics;
mod unfinished;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

pub(crate) use self::defect::Defect;
pub use self::parts::{
    Ask, Assignment, Begin, DRAIN_COMMIT_INTERVAL, Finding, Freed, IDLE_COMMIT, Kept, LAST_COMMIT, LOOK, LOOK_AGAIN,
    Load, Looked, MAX_LOAD, Newcomers, Rules, Said, Taken, Ticket, TopicAsk, Write, Written,
};
pub use self::progress::{HURRY, HURRY_AFTER};
use self::{
    breaker::Breaker,
    failures::Waits,
    lanes::Lanes,
    orphans::Orphans,
    pace::Pace,
    parts::{Asked, LOAD_TIME, Life, Partition, SHORT_TASK, Settling},
    phase::Phase,
    topics::Topics,
};
pub use self::{
    counters::Counters,
    failures::{MAX_ATTEMPTS_SAID, Retries},
    lanes::Order,
    summary::{PartitionOffsets, Summary},
    unfinished::{MAX_RANGES, Unfinished},
};
use crate::{
    error::RunError,
    event::Event,
    fate::{self, Done, Ending, Fate, Step},
    gather::Gather,
    loss::DataLoss,
    page::Page,
    record::{AssignmentId, LeaderEpoch, Offset, PartitionKey, Record, TopicId, TopicIndex, TopicPartition},
    task::Failure,
    tracker::Known,
};

/// See the [module's documentation](self).
///
/// - in: [`assign`](Self::assign), [`revoke`](Self::revoke), [`release`](Self::release), [`lose`](Self::lose), `handle_*`,
///   [`drain`](Self::drain), [`stop`](Self::stop)
/// - out: `poll_*`, each until it gives `None`, in the order begin, over, load, write, freed, event, settled, ask, timeout,
///   end
/// - to look at: [`counters`](Self::counters), [`summary`](Self::summary), [`running`](Self::running)
pub struct Scheduler {
    rules: Rules,
    topics: Topics,
    lives: BTreeMap<AssignmentId, Life>,
    next_life: u64,
    begins: VecDeque<Begin>,
    /// Lives that are not read any more.
    over: VecDeque<AssignmentId>,
    /// Partitions that were revoked, and of which something is still to be finished or committed.
    settling: BTreeMap<PartitionKey, Settling>,
    orphans: Orphans,
    waits: Waits,
    lanes: Lanes,
    breaker: Breaker,
    pace: Pace,
    /// Where the headers of what is given up are put.
    page: Page,
    /// How often everything was lost.
    era: u64,
    /// What was last committed for partitions that are not ours any more.
    parted: BTreeMap<Arc<TopicPartition>, Offset>,
    events: VecDeque<Event>,
    losses: Vec<DataLoss>,
    ready: VecDeque<AssignmentId>,
    writes: VecDeque<Write>,
    freed: VecDeque<AssignmentId>,
    /// What lives that are forgotten give back.
    strays: VecDeque<(AssignmentId, Freed)>,
    /// Loads that have not ended.
    busy: usize,
    /// Writes that were polled or wait to be, and are not acknowledged.
    writing: usize,
    /// A running mean of how long a task takes, in nanoseconds.
    task_nanos: u64,
    /// Partitions that have not come to the end that `--until-end` gives them.
    open: usize,
    /// What is being asked for: what is being committed, or nothing.
    asking: Option<BTreeMap<PartitionKey, Asked>>,
    next_look: Instant,
    next_commit: Instant,
    /// When to commit if much has finished, and how much has since the last commit was asked for.
    hurried_commit: Instant,
    finished_since: u64,
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
    /// What was adopted: from which life, in which, and where.
    #[cfg(test)]
    pub(crate) adoptions: Vec<(AssignmentId, AssignmentId, Offset)>,
    /// What was given up because its task had failed.
    #[cfg(test)]
    pub(crate) given_up: Vec<(AssignmentId, Offset)>,
}

impl Scheduler {
    /// A scheduler without partitions, at time `now`.
    #[must_use]
    pub fn new(rules: Rules, now: Instant) -> Self {
        assert!(rules.workers > 0, "no workers");
        let breaker = Breaker::new(rules.circuit_breaker, rules.workers, now);
        let (lanes, pace) = (Lanes::new(rules.order), Pace::new(rules.each_start, now));
        Self {
            rules,
            topics: Topics::default(),
            lives: BTreeMap::new(),
            next_life: 0,
            begins: VecDeque::new(),
            over: VecDeque::new(),
            settling: BTreeMap::new(),
            orphans: Orphans::default(),
            waits: Waits::default(),
            lanes,
            breaker,
            pace,
            page: Page::default(),
            era: 0,
            parted: BTreeMap::new(),
            events: VecDeque::new(),
            losses: Vec::new(),
            ready: VecDeque::new(),
            writes: VecDeque::new(),
            freed: VecDeque::new(),
            strays: VecDeque::new(),
            busy: 0,
            writing: 0,
            task_nanos: 2 * nanos(SHORT_TASK),
            open: 0,
            asking: None,
            next_look: now + LOOK,
            next_commit: now,
            hurried_commit: now,
            finished_since: 0,
            commit_failed: false,
            maybe_dirty: false,
            idle_commit: now + IDLE_COMMIT,
            phase: Phase::Running,
            error: None,
            counters: Counters::new(now),
            #[cfg(test)]
            defect: None,
            #[cfg(test)]
            adoptions: Vec::new(),
            #[cfg(test)]
            given_up: Vec::new(),
        }
    }

    /// Takes in what was read from a partition, in the order of its offsets, and that nothing else lies below `next`; in
    /// which leader epoch the last of it was written, if the reader tells; and the end of the log.
    pub fn handle_fetched(
        &mut self,
        id: AssignmentId,
        records: Vec<Record>,
        (next, epoch): (Offset, LeaderEpoch),
        latest: Offset,
        now: Instant,
    ) {
        let Some(life) = self.lives.get_mut(&id).filter(|life| life.reads_on()) else {
            // A life that is over reads nothing more.
            let bytes = records.iter().map(Record::size).sum();
            self.strays.push_back((id, Freed { records: records.len(), bytes }));
            return;
        };
        let any = !records.is_empty();
        for mut record in records {
            let beyond = life.end.is_some_and(|end| record.offset >= end);
            let taken = !beyond && self.phase.is_running();
            let known = if taken { life.tracker.pass(record.offset) } else { None };
            self.counters.already_finished += u64::from(known == Some(Known::Finished));
            if !taken || known.is_some() {
                life.freed.records += 1;
                life.freed.bytes += record.size();
                continue;
            }
            self.counters.received += 1;
            if let Some((failures, _)) = life.attempts.get(&record.offset) {
                record.attempt = failures.saturating_add(1);
            }
            life.tracker.fetched(record.offset, record);
        }
        self.freed.push_back(id);
        if self.phase.is_running() {
            let before = life.tracker.next();
            life.tracker.skip_to(life.end.map_or(next, |end| next.min(end)));
            if life.tracker.next() > before || any {
                life.told.take(next, epoch, life.verified.epoch);
            }
            life.latest = latest;
        }
        let key = life.key;
        self.queue(id);
        self.progressed(key, now);
    }

    /// Takes in how tasks went.
    pub fn handle_done(&mut self, id: AssignmentId, done: Vec<Done>, now: Instant) {
        for done in done {
            self.note_outcome(id, &done, now);
            if !self.lives.contains_key(&id) {
                return;
            }
            self.counters.count(&done.ending);
            self.take_in_outcome(self.orphans.heir(id, done.offset), done, now);
        }
    }

    /// What becomes of a message whose task has ended.
    fn take_in_outcome(&mut self, id: AssignmentId, done: Done, now: Instant) {
        let answers = self.breaks(Defect::AnswerGhosts);
        let Some(life) = self.lives.get_mut(&id) else { return };
        if life.is_past(done.offset) && !answers {
            return self.end_past(id, done, now);
        }
        self.task_nanos = self.task_nanos / 8 * 7 + nanos(done.took) / 8;
        let Done { offset, size, ending, fate, .. } = done;
        let fate = match (fate, &ending) {
            (Fate::Failed(record), Ending::Failed(failure)) => match self.failed(id, *record, failure, now) {
                Some(fate) => fate,
                None => return,
            },
            (fate, _) => fate,
        };
        let life = self.lives.get_mut(&id).expect("it is there");
        if matches!(fate, Fate::Write(_) | Fate::Stop) {
            life.tracker.note_ended(offset);
        }
        let error = match ending {
            Ending::Succeeded => String::new(),
            Ending::Failed(failure) => self.warn_of("message failed", id, offset, failure),
            Ending::Malformed(failure) => self.warn_of("message malformed", id, offset, failure),
        };
        match fate {
            Fate::Write(step) => self.write(id, offset, size, step, now),
            Fate::Failed(_) => unreachable!("it was decided above"),
            Fate::Silent => self.finish(id, offset, size, now),
            Fate::Drop => {
                self.counters.dropped += 1;
                self.finish(id, offset, size, now);
            }
            Fate::Stop => {
                let source_partition = Arc::clone(&self.lives[&id].source);
                self.stop(RunError::MessageFailed { source_partition, offset, error }, now);
            }
        }
    }

    /// Never the payload: only where it lies, and what went wrong. Gives the latter back.
    fn warn_of(&self, what: &str, id: AssignmentId, offset: Offset, failure: Failure) -> String {
        let TopicPartition { topic, partition } = &*self.lives[&id].source;
        let error = failure.into_error();
        tracing::warn!(topic = &**topic, partition, offset = offset.0, error, "{what}");
        error
    }

    /// Takes in what became of a write.
    pub fn handle_written(&mut self, written: Written, now: Instant) {
        let (ticket, too_large, void) = match written {
            Written::Acknowledged(ticket) => (ticket, None, false),
            Written::TooLarge(ticket, record) => (ticket, Some(record), false),
            Written::Void(ticket) => (ticket, None, true),
        };
        let Ticket { assignment, offset, size, kind, then, instead } = ticket;
        self.written(assignment);
        if too_large.is_none() && !void {
            self.counters.count_written(kind);
        }
        if self.lives.get(&assignment).is_none_or(|life| life.is_past(offset)) {
            return self.lay(assignment, offset, size);
        }
        assert!(!void, "the loss is told before what is void because of it");
        let step = match too_large {
            None => then.map(|step| *step),
            Some(record) => match fate::smaller(Step { kind, record, then, instead }) {
                Some(step) => Some(step),
                None => {
                    let source_partition = Arc::clone(&self.lives[&assignment].source);
                    return self.stop(RunError::NothingWritable { source_partition, offset }, now);
                }
            },
        };
        match step {
            Some(step) => self.write(assignment, offset, size, step, now),
            // It was finished when it was sent.
            None if self.breaks(Defect::FinishUnacknowledged) => {}
            None => self.finish(assignment, offset, size, now),
        }
    }

    /// Begins the end: no new task starts, what runs may finish within the grace time.
    pub fn drain(&mut self, now: Instant) {
        if !self.phase.is_running() {
            return;
        }
        self.phase = Phase::Draining { until: now + self.rules.grace };
        self.next_commit = self.next_commit.min(now + DRAIN_COMMIT_INTERVAL);
        let ids: Vec<_> = self.lives.keys().copied().collect();
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

    /// What is to be written next. Comes back through [`handle_written`](Self::handle_written).
    pub fn poll_write(&mut self) -> Option<Write> {
        self.writes.pop_front()
    }

    /// What a partition gives back to the limits.
    pub fn poll_freed(&mut self) -> Option<(AssignmentId, Freed)> {
        if let Some(stray) = self.strays.pop_front() {
            return Some(stray);
        }
        while let Some(id) = self.freed.pop_front() {
            if let Some(life) = self.lives.get_mut(&id) {
                let freed = std::mem::take(&mut life.freed);
                if freed != Freed::default() {
                    return Some((id, freed));
                }
            }
        }
        None
    }

    /// What has been done so far.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Whether the run goes on.
    #[must_use]
    pub fn running(&self) -> bool {
        self.phase.is_running()
    }

    /// No task runs and nothing is being written, apart from what comes to nothing anyway.
    fn is_quiet(&self) -> bool {
        (self.busy == 0 && self.writing == 0) || self.lives.values().all(|life| life.tracker.begun() == 0)
    }

    fn write(&mut self, assignment: AssignmentId, offset: Offset, size: usize, step: Step, now: Instant) {
        let Step { kind, record, then, instead } = step;
        if self.breaks(Defect::FinishUnacknowledged) && then.is_none() {
            self.finish(assignment, offset, size, now);
        }
        self.writing += 1;
        self.lives.get_mut(&assignment).expect("it is there").writing += 1;
        let ticket = Ticket { assignment, offset, size, kind, then, instead };
        self.writes.push_back(Write { kind, ticket, record });
    }

    /// A write has come to its end.
    fn written(&mut self, assignment: AssignmentId) {
        self.writing -= 1;
        if let Some(life) = self.lives.get_mut(&assignment) {
            life.writing -= 1;
        }
    }

    fn finish(&mut self, id: AssignmentId, offset: Offset, size: usize, now: Instant) {
        let Some(life) = self.lives.get_mut(&id) else { return };
        life.tracker.finish(offset);
        let (key, over) = (life.key, life.until.is_some());
        self.free(id, offset, size);
        self.counters.last_finished = Some(now);
        if over {
            self.forget_if_done(id);
        }
        self.note_finished(key);
        if self.lives.contains_key(&id) {
            self.queue(id);
        }
        self.progressed(key, now);
    }

    /// Notes that the committable offset may have moved. With `--until-end`, begins the end when all is done.
    fn progressed(&mut self, key: PartitionKey, now: Instant) {
        self.maybe_dirty = true;
        let Some(partition) = self.topics.partition(key) else { return };
        let at_end = partition.lives.iter().all(|id| {
            let life = &self.lives[id];
            life.is_done() || life.is_at_end()
        });
        if at_end && !partition.ended && !self.lives[&partition.current()].is_done() {
            self.topics.partition_mut(key).expect("it is there").ended = true;
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
