//! PURE. What a member is told: what it holds from now on and what not, and what a person may want to know.

use std::{fmt, sync::Arc, time::Duration};

use super::exchange::ByName;

/// What has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// These are ours from now on, as of this epoch.
    Assigned { partitions: ByName, epoch: Epoch },
    /// These are to be given up: no new tasks; what runs may end, and is committed; then
    /// [`released`](super::Membership::released).
    Revoked { partitions: ByName },
    /// These are not ours any more, those that were leaving too: nothing may be committed.
    Lost { partitions: ByName, why: Loss },
    /// What is held goes on under this epoch, which commits have to carry from now on.
    Epoch(Epoch),
    /// For the log.
    News(News),
    /// It is over.
    Fatal(Fatal),
}

/// What a commit has to carry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Epoch {
    pub(crate) member: Arc<str>,
    /// The generation, or the member epoch of KIP-848.
    pub(crate) number: i32,
    pub(crate) instance: Option<Arc<str>>,
}

/// Why everything was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loss {
    /// No heartbeat was acknowledged for a session timeout.
    Session,
    /// What was revoked was not given up within the rebalance timeout.
    TooLate,
    /// The coordinator does not know us any more.
    Unknown,
    /// The group went on without us.
    Fenced,
    /// It cannot be a member any more.
    Fatal,
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Session => "no heartbeat was acknowledged for a session timeout",
            Self::TooLate => "what was revoked was not given up within the rebalance timeout",
            Self::Unknown => "the coordinator does not know this member any more",
            Self::Fenced => "the group went on without this member",
            Self::Fatal => "the coordinator refused",
        })
    }
}

/// What the log says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum News {
    /// A rebalance begins.
    Begins { why: &'static str },
    /// It is over. Partitions are counted from its beginning to its end.
    Ends { epoch: i32, held: usize, gained: usize, gone: usize, took: Duration },
    /// KIP-848 is not spoken, so that it is the classic protocol from now on.
    FallsBack { why: String },
    /// Our instance id is that of a member that has not left: waits until its session must be over.
    InstanceHeld { instance: Arc<str>, for_at_most: Duration },
}

impl fmt::Display for News {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Begins { why } => write!(f, "rebalance: {why}"),
            Self::Ends { epoch, held, gained, gone, took } => {
                let took = took.as_secs_f64();
                write!(
                    f,
                    "rebalance over after {took:.1} s: {held} partitions ({gained} new, {gone} gone), epoch {epoch}"
                )
            }
            Self::FallsBack { why } => write!(f, "the classic protocol of groups is spoken: {why}"),
            Self::InstanceHeld { instance, for_at_most } => {
                let seconds = for_at_most.as_secs();
                write!(
                    f,
                    "another member has the instance id {instance}; waits up to {seconds} s for its session to end"
                )
            }
        }
    }
}

/// Why this process cannot be a member.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fatal {
    #[error(
        "another process has taken over the instance id {0}: give every process of the group an instance id of its own"
    )]
    FencedInstance(Arc<str>),
    #[error(
        "the instance id {0} belongs to another member of the group, which is alive: give every process an instance id \
         of its own"
    )]
    InstanceHeld(Arc<str>),
    #[error(
        "the other members of the group do not do with any of our assignors, or speak another protocol ({0}): see \
         --assignors and --group-protocol"
    )]
    Incompatible(String),
    #[error("the group has as many members as the broker allows (group.max.size)")]
    Full,
    #[error("the broker does not speak KIP-848 with this group ({0}): use --group-protocol classic")]
    NotSpoken(String),
    #[error("the coordinator refuses: {0}")]
    Refused(String),
}
