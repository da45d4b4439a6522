//! A seeded simulator of groups: members that join, leave, crash, are cut off or stand still, messages that are lost, a
//! coordinator that moves, topics that grow; and calm runs in which nothing fails.
//!
//! The members are [`Membership`]s, each with an engine that gives up in its own time what is revoked (`process.rs`). The
//! coordinators (`classic.rs`, `consumer.rs`) follow Kafka's. The world keeps its own books of who holds what, and believes
//! nobody. Time moves only to the next thing that happens in the world or to the deadline that a member itself returned: a
//! deadline that was lost shows as a member that is given up though nothing failed, or as a world that stands still.
//!
//! Each promise is a line that returns an error; each [`Defect`] must make one of them speak.

mod classic;
mod consumer;
mod process;
mod seeds;
mod world;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use self::process::Process;
pub(crate) use self::{classic::ClassicGroup, consumer::ConsumerGroup};
use super::{exchange::*, holdings::count, *};
use crate::{record::TopicId, testing::promise};

type Violation = String;
/// Whose request, and which.
pub(crate) type Reply = (usize, Ticket);

const SESSION: Duration = Duration::from_secs(6);
const REBALANCE: Duration = Duration::from_secs(12);
const BEAT: Duration = Duration::from_secs(2);

/// One of either protocol.
pub(crate) enum Coordinator {
    Classic(ClassicGroup),
    Consumer(ConsumerGroup),
}

impl Coordinator {
    pub(crate) fn handle(&mut self, request: Request, reply: Reply, now: Instant) {
        match self {
            Self::Classic(group) => group.handle(request, reply, now),
            Self::Consumer(group) => group.handle(request, reply, now),
        }
    }

    pub(crate) fn out(&mut self) -> Vec<(Reply, Result<Answer, Refusal>)> {
        match self {
            Self::Classic(group) => std::mem::take(&mut group.out),
            Self::Consumer(group) => std::mem::take(&mut group.out),
        }
    }

    pub(crate) fn timeout(&self) -> Option<Instant> {
        match self {
            Self::Classic(group) => group.timeout(),
            Self::Consumer(group) => group.timeout(),
        }
    }

    pub(crate) fn tick(&mut self, now: Instant) {
        match self {
            Self::Classic(group) => group.tick(now),
            Self::Consumer(group) => group.tick(now),
        }
    }

    pub(crate) fn moves(&mut self, now: Instant) {
        match self {
            Self::Classic(group) => group.moves(now),
            Self::Consumer(group) => group.moves(now),
        }
    }

    pub(crate) fn is_settled(&self, members: usize) -> bool {
        match self {
            Self::Classic(group) => group.is_settled(members),
            Self::Consumer(group) => group.is_settled(members),
        }
    }

    pub(crate) fn takes_commit(&self, epoch: &Epoch) -> Option<bool> {
        match self {
            Self::Classic(group) => group.takes_commit(epoch),
            Self::Consumer(group) => group.takes_commit(epoch),
        }
    }

    /// The same for one partition; of KIP-848, if need be, as brokers since 4.3 do it (KIP-1251): under any epoch since the
    /// partition was assigned.
    pub(crate) fn takes_commit_of(&self, epoch: &Epoch, at: (TopicId, i32), since_assigned: bool) -> bool {
        match self {
            Self::Consumer(group) if since_assigned => group.takes_commit_since_assigned(epoch, at),
            _ => self.takes_commit(epoch) == Some(true),
        }
    }

    /// Whether committed offsets are told under this epoch. The classic protocol lets anybody look.
    pub(crate) fn takes_look(&self, epoch: &Epoch) -> bool {
        match self {
            Self::Classic(_) => true,
            Self::Consumer(group) => group.takes_commit(epoch) == Some(true),
        }
    }

    /// A member is known no more.
    pub(crate) fn forgets(&mut self, id: &Arc<str>, now: Instant) {
        match self {
            Self::Classic(group) => group.forgets(id, now),
            Self::Consumer(group) => group.forgets(id),
        }
    }

    pub(crate) fn topics_change(&mut self, topics: &Topics) {
        if let Self::Consumer(group) = self {
            group.topics_change(topics);
        }
    }

    /// Whether it assigns each topic by itself: then only that is even.
    pub(crate) fn is_even_by_topic(&self) -> bool {
        matches!(self, Self::Classic(group) if group.protocol() == Assignor::Range.name())
    }
}

/// How bad the world is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    /// Members come and go, in good order.
    Calm,
    /// And now and then a message is lost, which is found out soon.
    Lossy,
    /// And whatever else can go wrong.
    Bad,
}

/// What befalls the world.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Starts,
    Leaves,
    Grows,
    Subscribes,
    Crashes,
    CutOff,
    StandsStill,
    Moves,
}

impl Fate {
    const CALM: [Self; 5] = [Self::Starts, Self::Starts, Self::Leaves, Self::Grows, Self::Subscribes];
    const BAD: [Self; 9] = [
        Self::Starts,
        Self::Starts,
        Self::Leaves,
        Self::Grows,
        Self::Subscribes,
        Self::Crashes,
        Self::CutOff,
        Self::StandsStill,
        Self::Moves,
    ];
}

#[derive(Debug)]
enum Event {
    Befalls(Fate),
    /// All faults are over.
    Heals,
    Arrives(Reply, Request),
    Answered(Reply, Result<Answer, Refusal>),
    /// The engine of this process wants to give these up, since then.
    Releases(usize, ByName, Instant),
    /// It is told what is known of topics.
    Knows(usize),
    Reconnects(usize),
    GoesOn(usize),
    /// A static member is started again.
    Restarts(Settings),
    /// The coordinator has moved.
    Loaded,
}
