//! PURE. What goes into the scheduler and comes out of it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    fate::{Kind, Step},
    record::{AssignmentId, Offset, Outgoing, Record, TopicPartition},
    tracker::Tracker,
};

/// How long an idle partition goes without a commit: Kafka lets the offsets of a group without members expire, even while
/// it is being read.
pub const IDLE_COMMIT: Duration = Duration::from_secs(3600);
/// The least time between two commits while the run ends.
pub const DRAIN_COMMIT_INTERVAL: Duration = Duration::from_millis(50);
/// How long the last commit may take once the grace time is over.
pub const LAST_COMMIT: Duration = Duration::from_secs(4);
/// Tasks shorter than this travel several to a worker.
pub(super) const SHORT_TASK: Duration = Duration::from_micros(50);
/// How much work of short tasks goes to a worker at once.
pub(super) const LOAD_TIME: Duration = Duration::from_micros(200);
/// The most records that go to a worker at once.
pub const MAX_LOAD: usize = 128;

/// What the scheduler goes by.
#[derive(Debug, Clone)]
pub struct Rules {
    /// How many tasks run at once.
    pub workers: usize,
    /// See [`SPAN`](crate::tracker::SPAN).
    pub span: usize,
    /// The least time between two commits.
    pub commit_interval: Duration,
    /// How long running tasks may finish once the run is to end.
    pub grace: Duration,
}

/// A partition that is ours from now on.
#[derive(Debug, Clone)]
pub struct Assignment {
    /// This life of it.
    pub id: AssignmentId,
    /// Which it is.
    pub source: Arc<TopicPartition>,
    /// Where reading begins.
    pub start: Offset,
    /// What the offset store holds for it.
    pub committed: Option<Offset>,
    /// With `--until-end`: what to work off, up to here and not this one.
    pub end: Option<Offset>,
}

/// Records for one worker, of one partition.
#[derive(Debug)]
pub struct Load {
    /// Whose they are.
    pub assignment: AssignmentId,
    /// At least one, at most [`MAX_LOAD`].
    pub records: Vec<Record>,
}

/// Goes with a record that is being written, and comes back with the news of it.
#[derive(Debug)]
pub struct Ticket {
    pub(super) assignment: AssignmentId,
    pub(super) offset: Offset,
    /// What the message holds of the limit on bytes in flight.
    pub(super) size: usize,
    pub(super) kind: Kind,
    pub(super) then: Option<Box<Step>>,
    pub(super) instead: Option<Box<Step>>,
}

/// Something to be written, to the reply topic or to the dead letter topic.
#[derive(Debug)]
pub struct Write {
    /// Where to, and what of.
    pub kind: Kind,
    /// To be given back.
    pub ticket: Ticket,
    /// What.
    pub record: Outgoing,
}

/// What became of a write.
#[derive(Debug)]
pub enum Written {
    /// All in-sync replicas have it.
    Acknowledged(Ticket),
    /// No broker will ever take it.
    TooLarge(Ticket, Outgoing),
}

/// What a partition gives back to the limits on what is in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Freed {
    /// Records.
    pub records: usize,
    /// Bytes, as [`Record::size`] counts them.
    pub bytes: usize,
}

pub(super) struct Partition {
    pub(super) source: Arc<TopicPartition>,
    pub(super) tracker: Tracker<Record>,
    pub(super) end: Option<Offset>,
    pub(super) committed: Option<Offset>,
    /// When we last committed it; `None` until we have, even where what is kept is right: it may be about to expire.
    pub(super) committed_at: Option<Instant>,
    pub(super) freed: Freed,
    /// It is in the ring of those that have something to start.
    pub(super) ready: bool,
    /// All that `--until-end` asks for is done here.
    pub(super) ended: bool,
}

impl Partition {
    pub(super) fn is_dirty(&self) -> bool {
        self.committed_at.is_none() || self.committed != Some(self.tracker.committable())
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.end.is_some_and(|end| self.tracker.committable() >= end)
    }
}

/// A promise to break, for the tests that must catch it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Defect {
    /// Commit one offset too many.
    CommitTooFar,
    /// Commit one offset too few, so that a commit can go back.
    CommitBackwards,
    /// Leave a partition whose commit is right uncommitted.
    SkipFirstCommit,
    /// Run a record twice.
    RunTwice,
    /// Give out more loads than there are workers.
    TooManyWorkers,
    /// Finish a message when it is sent, not when it is acknowledged.
    FinishUnacknowledged,
    /// Forget the timer of the commit.
    NoCommitTimer,
    /// Believe in a commit that failed.
    TrustFailedCommit,
    /// Start tasks while draining.
    StartWhileDraining,
}
