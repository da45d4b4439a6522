//! PURE. What a member says to its group's coordinator, and what it is told: the classic protocol (KIP-429, KIP-345) and
//! KIP-848's, without the bytes.
//!
//! `kafka/wire/membership.rs` carries a [`Request`] to the coordinator and brings back an [`Answer`] or a [`Refusal`].

use std::{collections::BTreeMap, collections::BTreeSet, sync::Arc, time::Duration};

use crate::record::TopicId;

/// Partitions, by the name of their topic.
pub(crate) type ByName = BTreeMap<Arc<str>, BTreeSet<i32>>;
/// Partitions, by the id of their topic.
pub(crate) type ById = BTreeMap<TopicId, BTreeSet<i32>>;

/// What is asked of the coordinator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Request {
    Join(Join),
    Sync(Sync),
    Beat(Beat),
    /// Also with KIP-345: a static member leaves only where it says so.
    Leave {
        member: Arc<str>,
        instance: Option<Arc<str>>,
        reason: &'static str,
    },
    ConsumerBeat(ConsumerBeat),
}

/// JoinGroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Join {
    /// Empty until the coordinator has given one.
    pub(crate) member: Arc<str>,
    pub(crate) instance: Option<Arc<str>>,
    pub(crate) session_timeout: Duration,
    pub(crate) rebalance_timeout: Duration,
    /// The assignors that we could do with, by their Kafka names, the best first; each with what we subscribe to.
    pub(crate) protocols: Vec<(&'static str, Subscription)>,
    /// KIP-800: why, for the broker's log.
    pub(crate) reason: &'static str,
}

/// ConsumerProtocolSubscription, version 3 (older ones lack the later fields).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Subscription {
    pub(crate) topics: BTreeSet<Arc<str>>,
    /// Sticky's own bytes. Java's cooperative-sticky keeps its generation there (an int32, big endian).
    pub(crate) user_data: Vec<u8>,
    pub(crate) owned: ByName,
    /// -1 where it is not told.
    pub(crate) generation: i32,
    pub(crate) rack: Option<Arc<str>>,
}

/// What the leader is told of a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Peer {
    pub(crate) member: Arc<str>,
    pub(crate) instance: Option<Arc<str>>,
    pub(crate) subscription: Subscription,
}

/// SyncGroup. Only the leader's has assignments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sync {
    pub(crate) generation: i32,
    pub(crate) member: Arc<str>,
    pub(crate) instance: Option<Arc<str>>,
    pub(crate) protocol: Arc<str>,
    pub(crate) assignments: BTreeMap<Arc<str>, ByName>,
}

/// Heartbeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Beat {
    pub(crate) generation: i32,
    pub(crate) member: Arc<str>,
    pub(crate) instance: Option<Arc<str>>,
}

/// ConsumerGroupHeartbeat (KIP-848). A field that is `None` is as in the heartbeat before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConsumerBeat {
    /// From version 1 on the member makes its own id, a UUID, and keeps it.
    pub(crate) member: Arc<str>,
    /// 0 joins, -1 leaves, -2 leaves for a while (static members).
    pub(crate) epoch: i32,
    pub(crate) instance: Option<Arc<str>>,
    pub(crate) rack: Option<Arc<str>>,
    pub(crate) rebalance_timeout: Option<Duration>,
    pub(crate) topics: Option<BTreeSet<Arc<str>>>,
    /// Version 1: an RE2 of the broker's. We send names, and look for matches ourselves.
    pub(crate) assignor: Option<Arc<str>>,
    /// What we still hold.
    pub(crate) owned: Option<ById>,
}

/// What the coordinator answers when it does what was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    Joined(Joined),
    Synced { protocol: Option<Arc<str>>, assignment: ByName },
    Beaten,
    Left,
    ConsumerBeaten(ConsumerBeaten),
}

/// To JoinGroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Joined {
    pub(crate) generation: i32,
    pub(crate) member: Arc<str>,
    pub(crate) leader: Arc<str>,
    pub(crate) protocol: Arc<str>,
    /// KIP-814: a leader that is not to assign anew.
    pub(crate) skip_assignment: bool,
    /// Everybody, to the leader; nobody to the others.
    pub(crate) members: Vec<Peer>,
}

/// To ConsumerGroupHeartbeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConsumerBeaten {
    pub(crate) member: Arc<str>,
    pub(crate) epoch: i32,
    pub(crate) interval: Duration,
    /// What is to be held; `None` where that is as it was.
    pub(crate) assignment: Option<ById>,
}

/// What the coordinator answers when it does not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// UNKNOWN_MEMBER_ID.
    UnknownMember,
    /// ILLEGAL_GENERATION.
    IllegalGeneration,
    /// REBALANCE_IN_PROGRESS.
    Rebalancing,
    /// MEMBER_ID_REQUIRED (KIP-394), with the id to use.
    MemberIdRequired(Arc<str>),
    /// FENCED_INSTANCE_ID: another process has our instance id.
    FencedInstance,
    /// FENCED_MEMBER_EPOCH.
    FencedEpoch,
    /// STALE_MEMBER_EPOCH: to commits and fetches of offsets only. Ours is not the coordinator's; the next heartbeat tells.
    StaleEpoch,
    /// UNRELEASED_INSTANCE_ID: another process has our instance id, and has not left.
    UnreleasedInstance,
    /// INCONSISTENT_GROUP_PROTOCOL: no assignor in common, or a group of another kind. With the broker's words, if any.
    InconsistentProtocol(String),
    /// GROUP_MAX_SIZE_REACHED.
    GroupFull,
    /// The broker does not know this request, or not for this group: UNSUPPORTED_VERSION, GROUP_ID_NOT_FOUND for a group
    /// of the other protocol.
    Unsupported(String),
    /// It will never do it: not authorised, a session timeout it does not take, an assignor it does not know, ...
    Never(String),
    /// Nobody could be asked, NOT_COORDINATOR, COORDINATOR_LOAD_IN_PROGRESS, ...: it may do it later.
    Passing(String),
}
