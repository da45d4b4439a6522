//! What was done, counted.

use std::time::Instant;

use crate::fate::{Ending, Kind};

/// Counts of messages since the start. A message counts under `succeeded`, `failed` or `malformed` once its task has
/// ended, and under what was written of it once that is acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counters {
    /// Taken from the topic.
    pub received: u64,
    /// Read and passed over, because the commit at the start said that they are finished.
    pub already_finished: u64,
    /// Tasks that succeeded.
    pub succeeded: u64,
    /// Messages whose tasks failed or panicked, and that were given up.
    pub failed: u64,
    /// Failed attempts that were not the last: the message is tried again.
    pub retried: u64,
    /// How often nearly all tasks failed, so that nothing new was started for a while.
    pub circuit_opened: u64,
    /// Messages that are not what `--format` asks for.
    pub malformed: u64,
    /// Answers of success that are acknowledged.
    pub replied: u64,
    /// Answers of failure that are acknowledged.
    pub failure_replies: u64,
    /// Dead letters that are acknowledged.
    pub dead_lettered: u64,
    /// Failed messages that were dropped because the user asked for that.
    pub dropped: u64,
    /// Tasks of a life of a partition that was over before they were: not answered, not committed.
    pub past_life: u64,
    /// Tasks that ran on while their partition went and came back, and were not run again.
    pub adopted: u64,
    /// Commits that were not acknowledged.
    pub failed_commits: u64,
    /// The grace time was over before all tasks were.
    pub forced: bool,
    pub(super) start: Instant,
    pub(super) first_task: Option<Instant>,
    pub(super) last_finished: Option<Instant>,
}

impl Counters {
    pub(crate) fn new(start: Instant) -> Self {
        Self {
            received: 0,
            already_finished: 0,
            succeeded: 0,
            failed: 0,
            retried: 0,
            circuit_opened: 0,
            malformed: 0,
            replied: 0,
            failure_replies: 0,
            dead_lettered: 0,
            dropped: 0,
            past_life: 0,
            adopted: 0,
            failed_commits: 0,
            forced: false,
            start,
            first_task: None,
            last_finished: None,
        }
    }

    pub(super) fn count(&mut self, ending: &Ending) {
        match ending {
            Ending::Succeeded => self.succeeded += 1,
            // Counted when it is given up.
            Ending::Failed(_) => {}
            Ending::Malformed(_) => self.malformed += 1,
        }
    }

    pub(super) fn count_written(&mut self, kind: Kind) {
        match kind {
            Kind::Reply => self.replied += 1,
            Kind::FailureReply => self.failure_replies += 1,
            Kind::DeadLetter => self.dead_lettered += 1,
            // Counted with its last part.
            Kind::DeadLetterPart => {}
        }
    }
}
