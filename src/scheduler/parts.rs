//! PURE. What goes into the scheduler and comes out of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Order, Retries};
use crate::{
    fate::{Kind, OnFailure, Policy, Step},
    lineage::{Bounds, Read, Told, Verified},
    loss::OnDataLoss,
    offsets::Committed,
    progress::{Finished, Notes},
    record::{AssignmentId, LeaderEpoch, Offset, Outgoing, PartitionKey, Record, TopicId, TopicIndex, TopicPartition},
    tracker::Tracker,
};

/// How often the log is looked at, at the least. A look is part of each commit, too.
pub const LOOK: Duration = Duration::from_secs(2);
/// How soon it is looked at again while something is odd.
pub const LOOK_AGAIN: Duration = Duration::from_millis(500);

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
    /// How long what runs of a partition that went is kept, for the partition to come back. `None` where none comes back.
    pub adoption: Option<Duration>,
    /// What follows when data is gone.
    pub on_data_loss: OnDataLoss,
    /// How long a topic that is gone is waited for, unless the run is to stop at once.
    pub patience: Duration,
    /// Whether partitions that are added to a topic are ours, too. Otherwise a topic of which no partition is left is none
    /// of our business any more.
    pub all_partitions: bool,
    /// Whether there may be more than one topic, so that the summary has to name them.
    pub several_topics: bool,
    /// Whether to work off only what is there.
    pub until_end: bool,
    /// Where answers and failures go.
    pub policy: Policy,
    /// The group, as dead letters name it.
    pub group: Arc<str>,
    /// How often what has failed is tried again, and when.
    pub retries: Retries,
    /// What runs one after the other.
    pub order: Order,
    /// How much time each start of a task takes up, where there is a limit.
    pub each_start: Option<Duration>,
    /// Whether nothing more starts while nearly all fails.
    pub circuit_breaker: bool,
}

impl Rules {
    /// Rules for so many workers, and otherwise the plainest: one topic, all of it, a short span, nothing tried again.
    #[must_use]
    pub fn of(workers: usize, commit_interval: Duration, grace: Duration) -> Self {
        Self {
            workers,
            span: 100,
            commit_interval,
            grace,
            adoption: None,
            on_data_loss: OnDataLoss::Stop,
            patience: Duration::from_secs(60),
            all_partitions: true,
            several_topics: false,
            until_end: false,
            policy: Policy { reply: false, dead_letter: false, on_failure: OnFailure::Drop },
            group: "g".into(),
            retries: Retries::NONE,
            order: Order::None,
            each_start: None,
            circuit_breaker: false,
        }
    }
}

/// What is ours from now on of one topic.
#[derive(Debug, Clone)]
pub struct Taken {
    /// Its name.
    pub topic: Arc<str>,
    /// Which topic of that name.
    pub id: TopicId,
    /// All partitions that it has. Those that are not ours are no news when they are seen.
    pub there: BTreeSet<i32>,
    /// The partitions, all of this topic. None of them is ours already.
    pub assignments: Vec<Assignment>,
}

/// A partition that is ours from now on.
#[derive(Debug, Clone)]
pub struct Assignment {
    /// Which it is.
    pub source: Arc<TopicPartition>,
    /// Where reading begins.
    pub start: Offset,
    /// What the offset store holds for it.
    pub committed: Option<Offset>,
    /// What is finished at `start` and above, as the commit says.
    pub finished: Finished,
    /// What else the commit says of what lies there.
    pub notes: Notes,
    /// With `--until-end`: what to work off, up to here and not this one.
    pub end: Option<Offset>,
    /// The end of the log, at the start.
    pub latest: Offset,
    /// The epoch of the leader, when the log was last seen to hold what lies below `start`.
    pub epoch: LeaderEpoch,
}

/// Reading that is to begin, or to begin anew at another place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Begin {
    /// In which life.
    pub id: AssignmentId,
    /// Of which partition.
    pub source: Arc<TopicPartition>,
    /// Of which topic of that name.
    pub topic_id: TopicId,
    /// Where.
    pub start: Offset,
    /// With `--until-end`: where reading ends.
    pub end: Option<Offset>,
}

/// To look at the logs of all topics, and to commit. See [`Scheduler::poll_ask`](super::Scheduler::poll_ask).
#[derive(Debug)]
pub struct Ask {
    /// What is asked of each topic; each of them once.
    pub topics: Vec<TopicAsk>,
    /// How often everything was lost before what is to be committed was worked off.
    pub era: u64,
}

impl Ask {
    /// Whether there is something to commit.
    #[must_use]
    pub fn has_commits(&self) -> bool {
        self.topics.iter().any(|topic| !topic.commits.is_empty())
    }
}

/// To look at the log of one topic, and to commit for it.
#[derive(Debug, Clone)]
pub struct TopicAsk {
    /// Which.
    pub topic: TopicIndex,
    /// Its name.
    pub name: Arc<str>,
    /// The topic of that name that was read.
    pub id: TopicId,
    /// At the last look it was not there.
    pub missing: bool,
    /// How far, by partition.
    pub reads: BTreeMap<i32, Read>,
    /// Which partitions are to be told of if they are there.
    pub newcomers: Newcomers,
    /// What to commit, if anything. The leader epochs are not known here, and the metadata is still to be made.
    pub commits: BTreeMap<i32, Committed>,
    /// What is finished above these commits.
    pub finished: BTreeMap<i32, Finished>,
    /// What else is to be said of what lies there.
    pub notes: BTreeMap<i32, Notes>,
}

/// How much of what is finished above a commit it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// All of it.
    All,
    /// What lies below an offset.
    Below {
        /// The offset.
        reach: Offset,
        /// How many finished offsets lie there and above.
        dropped: u64,
    },
    /// Nothing: metadata that short would say next to nothing.
    Nothing {
        /// How many finished offsets there are.
        dropped: u64,
    },
}

/// Which partitions of a topic are news, if a look shows that they are there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Newcomers {
    /// All but those that are known.
    AllBut(BTreeSet<i32>),
    /// These, which are ours and were not there.
    Only(BTreeSet<i32>),
}

impl Newcomers {
    /// Whether this one is.
    #[must_use]
    pub fn include(&self, partition: i32) -> bool {
        match self {
            Self::AllBut(known) => !known.contains(&partition),
            Self::Only(awaited) => awaited.contains(&partition),
        }
    }
}

/// What a look showed of one topic, and what became of the commit for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Looked {
    /// Which.
    pub topic: TopicIndex,
    /// What was found.
    pub findings: Vec<Finding>,
    /// Of no meaning where there was nothing to commit.
    pub kept: Kept,
    /// How much of what is finished above the commits they say, by partition.
    pub said: BTreeMap<i32, Said>,
}

/// What became of a commit for one topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    /// It is acknowledged, except for these partitions, which could not be decided.
    AllBut(BTreeSet<i32>),
    /// It was not made, because something is not as it was.
    Held,
    /// It is not known to be kept, or the topic could not be looked at.
    Unknown,
}

/// What a look at the log of a topic showed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Finding {
    /// The log holds what was read.
    Holds { partition: i32, life: AssignmentId, verified: Verified },
    /// It holds what lies below this, and from there on it is to be read anew. Of what there was before, it holds what
    /// lies below `held`, if that is known.
    Reread { partition: i32, life: AssignmentId, verified: Verified, held: Option<Offset> },
    /// The place where to read on lies below the first record.
    Deleted { partition: i32, life: AssignmentId, bounds: Bounds },
    /// The log was cut off, there, or it is not known where.
    Truncated { partition: i32, life: AssignmentId, at: Option<Offset>, bounds: Bounds },
    /// A partition that was not there before.
    Added { partition: i32, bounds: Bounds },
    /// The topic is another.
    Recreated { was: TopicId, now: TopicId, bounds: BTreeMap<i32, Bounds> },
    /// There is no such topic.
    Missing,
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

impl Ticket {
    /// Which message it is of, and in which life.
    #[cfg(test)]
    pub(crate) fn of(&self) -> (AssignmentId, Offset) {
        (self.assignment, self.offset)
    }
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
    /// It is not ours any more, and was not sent, or may not have been.
    Void(Ticket),
}

/// What a partition gives back to the limits on what is in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Freed {
    /// Records.
    pub records: usize,
    /// Bytes, as [`Record::size`] counts them.
    pub bytes: usize,
}

/// Below it lies nothing.
pub(super) const NOTHING: Offset = Offset(i64::MIN);

/// One life of a partition.
pub(super) struct Life {
    pub(super) key: PartitionKey,
    pub(super) source: Arc<TopicPartition>,
    pub(super) tracker: Tracker<Record>,
    pub(super) end: Option<Offset>,
    /// The life is over: only what lies below this is still ours, if anything does.
    pub(super) until: Option<Offset>,
    /// The partition is to go: nothing more is read or started.
    pub(super) leaving: bool,
    /// Tasks that began in this life, of records that are not ours any more, and that have not ended.
    pub(super) ghosts: usize,
    /// Writes of this life that have not come to their end.
    pub(super) writing: usize,
    /// The end of the log, as far as it is known.
    pub(super) latest: Offset,
    /// The same, when the log was last looked at.
    pub(super) seen: Offset,
    pub(super) verified: Verified,
    pub(super) told: Told,
    /// The log may not be what it was, and nothing is read until a look has shown it.
    pub(super) unsure: bool,
    /// It cannot be read just now.
    pub(super) away: bool,
    pub(super) freed: Freed,
    /// How often the tasks of what is unfinished have failed, where they have; and whether they have in this life.
    pub(super) attempts: BTreeMap<Offset, (u32, bool)>,
    /// It is in the ring of those that have something to start.
    pub(super) ready: bool,
}

impl Life {
    /// Whether more is read of it.
    pub(super) fn reads_on(&self) -> bool {
        self.until.is_none() && !self.leaving
    }

    /// Whether this offset is not ours any more.
    pub(super) fn is_past(&self, offset: Offset) -> bool {
        self.until.is_some_and(|until| offset >= until)
    }

    /// Whether the life is over, and all that it still had to do is done.
    pub(super) fn is_done(&self) -> bool {
        self.until.is_some_and(|until| self.tracker.committable() >= until)
    }

    /// Whether nothing of it is ours any more.
    pub(super) fn is_dead(&self) -> bool {
        self.until == Some(NOTHING)
    }

    /// Whether nothing of it is under way any more.
    pub(super) fn is_forgettable(&self) -> bool {
        self.is_done() && self.ghosts == 0 && self.tracker.unfinished() == 0
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.end.is_some_and(|end| self.tracker.committable() >= end)
    }
}

/// A partition that was revoked, and is not released yet.
pub(super) struct Settling {
    pub(super) source: Arc<TopicPartition>,
    /// What still runs then is not waited for any longer.
    pub(super) until: Instant,
    /// When to look again although nothing happens.
    pub(super) wake: Option<Instant>,
}

/// A partition, through all its lives.
pub(super) struct Partition {
    pub(super) source: Arc<TopicPartition>,
    /// The first of its lives, which tells it from the same partition before it was given up.
    pub(super) since: AssignmentId,
    /// Its lives, in their order. The last is the one that goes on.
    pub(super) lives: Vec<AssignmentId>,
    pub(super) committed: Option<Offset>,
    /// When we last committed it; `None` until we have, even where what is kept is right: it may be about to expire.
    pub(super) committed_at: Option<Instant>,
    /// All that `--until-end` asks for is done here.
    pub(super) ended: bool,
    /// It is to go: no other life begins.
    pub(super) leaving: bool,
    /// What has been finished, counted, and how much of that the last commit knew.
    pub(super) finishes: u64,
    pub(super) committed_finishes: u64,
    /// How many finished offsets the last commit had no room for.
    pub(super) dropped: u64,
}

/// A commit of a partition that is on its way.
pub(super) struct Asked {
    pub(super) offset: Offset,
    /// The first life of the partition that it is for.
    pub(super) since: AssignmentId,
    /// What had been finished by then.
    pub(super) finishes: u64,
}

impl Partition {
    /// A partition whose first life is about to begin.
    pub(super) fn new(source: Arc<TopicPartition>, since: AssignmentId, committed: Option<Offset>) -> Self {
        Self {
            source,
            since,
            lives: Vec::new(),
            committed,
            committed_at: None,
            ended: false,
            leaving: false,
            finishes: 0,
            committed_finishes: 0,
            dropped: 0,
        }
    }

    pub(super) fn current(&self) -> AssignmentId {
        *self.lives.last().expect("a partition has a life")
    }
}
