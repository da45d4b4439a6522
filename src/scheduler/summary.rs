//! What a run did, told at its end.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use serde::{Serialize, Serializer};

use super::{Counters, Unfinished};
use crate::{
    error::{RunError, exit},
    loss::DataLoss,
    record::{Offset, TopicPartition},
    sink::Unwritten,
};

impl Counters {
    pub(super) fn summary(&self, now: Instant, left: Left, error: Option<RunError>) -> Summary {
        let Left { committed, uncommitted, several_topics, in_flight, unanswered, last_commit_open, .. } = left;
        let Left { progress_dropped, unfinished, data_loss, .. } = left;
        let by_partition = |offsets| PartitionOffsets { offsets, several_topics };
        let since = |from: Instant, to: Instant| millis(to.saturating_duration_since(from));
        Summary {
            received: self.received,
            already_finished: self.already_finished,
            succeeded: self.succeeded,
            failed: self.failed,
            retried: self.retried,
            circuit_opened: self.circuit_opened,
            malformed: self.malformed,
            replied: self.replied,
            failure_replies: self.failure_replies,
            dead_lettered: self.dead_lettered,
            dropped: self.dropped,
            past_life: self.past_life,
            adopted: self.adopted,
            failed_commits: self.failed_commits,
            in_flight_at_exit: in_flight as u64,
            unfinished,
            unanswered: unanswered as u64,
            unwritten: Vec::new(),
            committed: by_partition(committed),
            uncommitted: by_partition(uncommitted),
            progress_dropped,
            first_task_ms: self.first_task.map(|at| since(self.start, at)),
            work_ms: self.first_task.zip(self.last_finished).map(|(from, to)| since(from, to)),
            elapsed_ms: since(self.start, now),
            forced: self.forced || last_commit_open,
            data_loss,
            error,
        }
    }
}

/// How things stand at the end.
pub(super) struct Left {
    pub(super) committed: BTreeMap<Arc<TopicPartition>, Offset>,
    /// How far a commit could reach, where none was acknowledged that does.
    pub(super) uncommitted: BTreeMap<Arc<TopicPartition>, Offset>,
    pub(super) several_topics: bool,
    pub(super) progress_dropped: u64,
    pub(super) in_flight: usize,
    pub(super) unfinished: Vec<Unfinished>,
    pub(super) unanswered: usize,
    pub(super) last_commit_open: bool,
    pub(super) data_loss: Vec<DataLoss>,
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

fn millis(duration: Duration) -> f64 {
    // Microseconds are as fine as anyone reads.
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

/// An offset for each of some partitions.
///
/// As JSON it is an object, whose names are the numbers of the partitions, or, of a run that may have several topics,
/// `TOPIC-NUMBER`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PartitionOffsets {
    offsets: BTreeMap<Arc<TopicPartition>, Offset>,
    several_topics: bool,
}

impl PartitionOffsets {
    /// That of one partition.
    #[must_use]
    pub fn get(&self, source: &TopicPartition) -> Option<Offset> {
        self.offsets.get(source).copied()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.offsets.is_empty()
    }

    /// All of them, in the order of their topics and numbers.
    pub fn iter(&self) -> impl Iterator<Item = (&TopicPartition, Offset)> {
        self.offsets.iter().map(|(source, offset)| (&**source, *offset))
    }

    /// All of them, each with the name that its partition goes by.
    pub fn named(&self) -> impl Iterator<Item = (String, i64)> {
        self.iter().map(|(source, offset)| {
            (if self.several_topics { source.to_string() } else { source.partition.to_string() }, offset.0)
        })
    }
}

impl Serialize for PartitionOffsets {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.named())
    }
}

/// What a run did, told at its end. As JSON (`--summary json`) it is one line with these names.
#[derive(Debug, Serialize)]
pub struct Summary {
    /// Messages taken from the topic, those included that were not started.
    pub received: u64,
    /// Messages that were read and passed over: the commit at the start says that they are finished.
    pub already_finished: u64,
    /// Messages whose task succeeded.
    pub succeeded: u64,
    /// Messages whose task failed or panicked, and that were given up.
    pub failed: u64,
    /// Attempts that failed and were not the last.
    pub retried: u64,
    /// How often nearly all tasks failed, so that nothing new was started until one succeeded.
    #[serde(skip_serializing_if = "is_zero")]
    pub circuit_opened: u64,
    /// Messages that were not what `--format` asks for; their task did not run.
    pub malformed: u64,
    /// Answers of success, acknowledged.
    pub replied: u64,
    /// Answers of failure, acknowledged.
    pub failure_replies: u64,
    /// Dead letters, acknowledged.
    pub dead_lettered: u64,
    /// Failed or malformed messages that were dropped because `--on-failure drop` says so.
    pub dropped: u64,
    /// Tasks that began in a life of a partition that was over before they were (the topic was made anew, the log cut off):
    /// nothing was written or committed of them.
    pub past_life: u64,
    /// Tasks that ran on while their partition went and came back: adopted, not run again.
    pub adopted: u64,
    /// Commits that were not acknowledged, and were tried again.
    pub failed_commits: u64,
    /// Messages whose task had begun and that were not finished at the end. They run again.
    pub in_flight_at_exit: u64,
    /// Those of them whose task has ended, and whose answer or dead letter was not acknowledged.
    pub unanswered: u64,
    /// What was in the way of those, if it is known.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unwritten: Vec<Unwritten>,
    /// Where all those lie that were given to a worker and are not finished: those in flight, those that wait to be tried
    /// again or for their turn, and those that never began.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unfinished: Vec<Unfinished>,
    /// The last acknowledged commit, by partition, of those that are not ours any more, too.
    pub committed: PartitionOffsets,
    /// Where a commit would have reached further, and was not acknowledged: how far, by partition. What lies between
    /// runs again.
    #[serde(skip_serializing_if = "PartitionOffsets::is_empty")]
    pub uncommitted: PartitionOffsets,
    /// Offsets that are finished above the last commit, and that it has no room to say so of. They run again.
    pub progress_dropped: u64,
    /// From the start to the first task, in milliseconds.
    pub first_task_ms: Option<f64>,
    /// From the first task's start to the last answer (or to the end of the last task, where none is wanted), in
    /// milliseconds.
    pub work_ms: Option<f64>,
    /// From the start to the end, in milliseconds.
    pub elapsed_ms: f64,
    /// The grace time was over before all tasks and answers were, or the last commit was not acknowledged.
    pub forced: bool,
    /// The data that is gone, and where the run went on; of more than 1,000 of them the first.
    pub data_loss: Vec<DataLoss>,
    /// Why the run ended, if not by wish.
    #[serde(serialize_with = "as_text", skip_serializing_if = "Option::is_none")]
    pub error: Option<RunError>,
}

impl Summary {
    /// The exit code that tells of it: 0, the [error's](RunError::exit_code), or 75 where the end was
    /// [forced](Self::forced).
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match &self.error {
            Some(error) => error.exit_code(),
            None if self.forced => exit::FORCED,
            None => exit::OK,
        }
    }
}

fn as_text<S: serde::Serializer>(error: &Option<RunError>, serializer: S) -> Result<S::Ok, S::Error> {
    error.as_ref().map(ToString::to_string).serialize(serializer)
}
