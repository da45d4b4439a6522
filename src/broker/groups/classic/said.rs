//! PURE: what members say to a group by the classic protocol, and what they are told.

use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::error::ResponseError;

/// What somebody says who joins.
#[derive(Debug, Clone)]
pub(in crate::broker) struct Join<'a> {
    /// Empty if it has none yet.
    pub(in crate::broker) member: &'a str,
    pub(in crate::broker) instance: Option<&'a str>,
    pub(in crate::broker) client_id: &'a str,
    pub(in crate::broker) session_timeout: Duration,
    pub(in crate::broker) rebalance_timeout: Duration,
    pub(in crate::broker) protocol_type: &'a str,
    /// By name, the best first, with what is told to the leader.
    pub(in crate::broker) protocols: Vec<(String, Bytes)>,
    /// Whether it is to join again with the id that it is given (KIP-394).
    pub(in crate::broker) asks_for_id: bool,
    /// Whether it knows what it means to lead without assigning (KIP-814).
    pub(in crate::broker) may_skip: bool,
}

/// What somebody learns who has joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::broker) struct Joined {
    pub(in crate::broker) generation: i32,
    pub(in crate::broker) protocol: String,
    pub(in crate::broker) leader: String,
    pub(in crate::broker) member: String,
    pub(in crate::broker) skip_assignment: bool,
    /// For the leader: everybody's id, instance id and metadata.
    pub(in crate::broker) members: Vec<(String, Option<String>, Bytes)>,
}

/// Why a join came to nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::broker) struct JoinRefused {
    pub(in crate::broker) error: ResponseError,
    /// The member that is meant, or the id that is to be used.
    pub(in crate::broker) member: String,
}

/// An answer that is there, or one that has to be waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::broker) enum Turn<T, E = ResponseError> {
    Now(Result<T, E>),
    Later,
}

/// As whom, and of which generation, somebody speaks.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::broker) struct At<'a> {
    pub(in crate::broker) member: &'a str,
    pub(in crate::broker) instance: Option<&'a str>,
    pub(in crate::broker) generation: i32,
    /// Where it says so: what it takes the group for.
    pub(in crate::broker) protocol_type: Option<&'a str>,
    pub(in crate::broker) protocol: Option<&'a str>,
}
