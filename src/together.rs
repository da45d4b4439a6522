//! A seeded simulator of whole groups at work: members and engines together, on topics that grow, with answers and commits.
//!
//! ```text
//!   World ─┬─ Cluster: logs, answers, committed offsets, a model of the coordinator (membership/sim/)
//!          ├─ Process: Dealer + Membership ──Deal──▶ Share + Scheduler ──▶ tasks, sink, committer
//!          │  Process: …             ◀──Order──
//!          └─ Books: who holds what, what ran, what was answered; and what has to be true of it
//! ```
//!
//! Members join, leave, are killed, are cut off (from the coordinator or from everything) and stand still; messages are lost
//! in either direction; the coordinator moves, and forgets members; partitions and records are added. There are calm worlds,
//! too, in which processes come and go in good order, and in these nothing may ever be lost or run twice.
//!
//! What decides is the code that ships: the machines, `group/dealer.rs`, `engine/share.rs`, `standing.rs`, the metadata of
//! commits, and where partitions begin. Only what has a socket or a thread is played (`process.rs` and what follows it): each
//! of its loops is an actor here, with a message for everything that it waits for, so that they come in any order.
//!
//! Time moves only to the next thing that happens in the world or to the deadline that a machine itself returned: a wake-up
//! that was lost shows as a world that stands still, or as a partition that is never given up.
//!
//! Each promise is a line that returns an error; each defect that is planted (`seeds.rs`) must make one of them speak.
//!
//! Deliberately not here: logs that are cut off and topics that are made anew (`scheduler/sim.rs`), and how a group comes to
//! rest (`membership/sim.rs`).

mod adopting;
mod books;
mod cluster;
mod committing;
mod process;
mod seeds;
mod sending;
mod steward;
mod working;
mod world;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use self::{
    committing::Sent,
    process::{Cut, Process, Stage},
};
use crate::{
    membership::{
        self, Ticket as Asked,
        exchange::{Answer, ByName, Refusal, Request},
    },
    offsets::Committed,
    record::{AssignmentId, Offset, Record, TopicPartition},
    scheduler,
    testing::promise,
};

type Violation = String;
/// The place of a topic, and one of its partitions.
type Key = (usize, i32);
/// A record.
type At = (Key, i64);

const SESSION: Duration = Duration::from_secs(6);
const REBALANCE: Duration = Duration::from_secs(12);
const BEAT: Duration = Duration::from_secs(2);

/// A promise to break, for the tests that must catch it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Planted {
    Scheduler(scheduler::Defect),
    Membership(membership::Defect),
    /// Commit whatever the standing says, as whoever we are now.
    CommitOfAnyEra,
    /// Send answers whatever the standing says.
    SendAnyway,
    /// Never tell the group that something was given up.
    ForgetRelease,
    /// Believe that a commit was kept of which nothing was heard.
    BelieveUnheard,
}

/// How bad the world is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    /// Processes come and go, in good order.
    Calm,
    /// And messages are lost, and all the rest.
    Bad,
}

/// What befalls the world.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Starts,
    /// SIGTERM.
    Stops,
    /// More records.
    Produces,
    /// More partitions.
    Grows,
    /// SIGKILL.
    Dies,
    /// SIGSTOP.
    StandsStill,
    /// From the coordinator only.
    CutFromGroup,
    /// From everything.
    CutOff,
    /// The coordinator moves.
    Moves,
    /// The coordinator forgets a member.
    Forgets,
}

impl Fate {
    const CALM: [Self; 6] = [Self::Starts, Self::Starts, Self::Stops, Self::Produces, Self::Produces, Self::Grows];
    const BAD: [Self; 13] = [
        Self::Starts,
        Self::Starts,
        Self::Starts,
        Self::Stops,
        Self::Produces,
        Self::Grows,
        Self::Dies,
        Self::StandsStill,
        Self::StandsStill,
        Self::CutFromGroup,
        Self::CutOff,
        Self::Moves,
        Self::Forgets,
    ];
}

#[derive(Debug)]
enum Event {
    Befalls(Fate),
    /// All faults are over.
    Heals,
    /// At the coordinator: what a member asks.
    Arrives((usize, Asked), Request),
    /// At the coordinator: a commit.
    CommitArrives(Sent),
    /// At the coordinator: what is committed of what this finding is about.
    LookArrives(usize, u64, membership::Epoch),
    /// At the answers topic.
    Written(Vec<At>),
    To(usize, Incoming),
    StandsStill(usize),
    GoesOn(usize),
    Reconnects(usize),
    /// A static member is started again.
    Restarts(Arc<str>),
    /// The coordinator is there again.
    Loaded,
    /// Nobody waits any longer for this process to have left.
    Gone(usize),
}

/// What comes for one of the loops of a process.
#[derive(Debug)]
enum Incoming {
    /// For the steward.
    Answered(Asked, Result<Answer, Refusal>),
    Found(u64, BTreeMap<TopicPartition, Committed>),
    FindAgain(u64),
    Topics,
    Orders,
    /// For the engine.
    Deals,
    Drain,
    Done(AssignmentId, Vec<Record>),
    Fetched(AssignmentId, Vec<Record>, i64),
    Delivered(Vec<scheduler::Written>),
    Looked(Vec<scheduler::Looked>),
    /// For the committer.
    Seen(u64),
    Committed(u64, bool),
    Unheard(u64),
    /// For the sink.
    Attempt,
    Acknowledged(u64, bool),
}
