//! PURE: a member of a group by the classic protocol, and what it waits for.

use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::error::ResponseError;

use super::{Join, Joined};

/// Names one request, for as long as it waits for its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::broker) struct Ticket(pub(in crate::broker) u64);

/// A request that waits, or whose outcome is there to be taken.
#[derive(Debug)]
pub(super) struct Wait<T> {
    pub(super) ticket: Ticket,
    pub(super) outcome: Option<Result<T, ResponseError>>,
}

/// A member.
#[derive(Debug)]
pub(in crate::broker) struct Member {
    pub(in crate::broker) id: String,
    pub(in crate::broker) instance: Option<String>,
    pub(in crate::broker) client_id: String,
    pub(in crate::broker) assignment: Bytes,
    pub(super) protocols: Vec<(String, Bytes)>,
    pub(super) session_timeout: Duration,
    pub(super) rebalance_timeout: Duration,
    /// When it is taken for dead, unless it says something before.
    pub(super) expires: Instant,
    /// Whether it has not been in a generation yet.
    pub(super) is_new: bool,
    /// Whether it has synced in this generation.
    pub(super) has_synced: bool,
    pub(super) join: Option<Wait<Joined>>,
    pub(super) sync: Option<Wait<Bytes>>,
}

impl Member {
    pub(super) fn new(id: &str, join: &Join<'_>, ticket: Ticket, expires: Instant) -> Self {
        Self {
            id: id.to_owned(),
            instance: join.instance.map(ToOwned::to_owned),
            client_id: join.client_id.to_owned(),
            assignment: Bytes::new(),
            protocols: join.protocols.clone(),
            session_timeout: join.session_timeout,
            rebalance_timeout: join.rebalance_timeout,
            expires,
            is_new: true,
            has_synced: false,
            join: Some(Wait { ticket, outcome: None }),
            sync: None,
        }
    }

    /// Joins again, perhaps with something new to say.
    pub(super) fn says(&mut self, join: &Join<'_>, ticket: Ticket) {
        self.protocols.clone_from(&join.protocols);
        join.client_id.clone_into(&mut self.client_id);
        self.session_timeout = join.session_timeout;
        self.rebalance_timeout = join.rebalance_timeout;
        self.join = Some(Wait { ticket, outcome: None });
    }

    pub(super) fn has_waiting(&self, ticket: Ticket) -> bool {
        let joins = self.join.as_ref().is_some_and(|wait| wait.ticket == ticket && wait.outcome.is_none());
        joins || self.sync.as_ref().is_some_and(|wait| wait.ticket == ticket && wait.outcome.is_none())
    }

    pub(super) fn waits_for_join(&self) -> bool {
        self.join.as_ref().is_some_and(|wait| wait.outcome.is_none())
    }

    /// One that waits for us is alive, but for a new one: it may have given up, and would come back under another id.
    pub(super) fn can_expire(&self) -> bool {
        let waits_for_sync = self.sync.as_ref().is_some_and(|wait| wait.outcome.is_none());
        self.is_new || !(self.waits_for_join() || waits_for_sync)
    }

    pub(super) fn knows(&self, protocol: &str) -> bool {
        self.protocols.iter().any(|(name, _)| name == protocol)
    }

    /// What it has said for this protocol.
    pub(in crate::broker) fn metadata(&self, protocol: &str) -> Bytes {
        let said = self.protocols.iter().find(|(name, _)| name == protocol);
        said.map(|(_, metadata)| metadata.clone()).unwrap_or_default()
    }

    pub(super) fn size(&self) -> usize {
        size(&self.protocols)
    }
}

/// The bytes that protocols take up.
pub(super) fn size(protocols: &[(String, Bytes)]) -> usize {
    protocols.iter().map(|(name, metadata)| name.len() + metadata.len()).sum()
}
