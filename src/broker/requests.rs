//! PURE: what each request does to the state, and what it is answered. One file for each family.
//!
//! Deliberately not here: groups by KIP-848, transactions, fetch sessions (every fetch is a full one), configurations,
//! access control.

mod admin;
mod fetch;
mod groups;
mod membership;
mod metadata;
mod offsets;
mod produce;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use kafka_protocol::{
    messages::ApiKey,
    protocol::{Request, StrBytes, VersionRange},
};

use super::state::{Context, State};

/// A topic that a request names, and the partition, if it names one.
pub(super) type Place = (Arc<str>, Option<i32>);

/// How a request is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reply {
    /// With its response.
    Answer,
    /// Not at all, as the client wished.
    Silence,
    /// By closing the connection.
    Close,
}

/// A request that this broker answers.
pub(super) trait Handle: Request + Send + Sync {
    /// Whether requests that wait are to look again when it is first carried out.
    const CHANGES: bool = false;

    /// The topics and partitions that the request names, for faults that are meant for one.
    fn places(&self, _: &State) -> Vec<Place> {
        Vec::new()
    }

    /// Carries it out. A request that may wait is carried out again whenever something has changed.
    fn handle(&self, state: &mut State, context: &Context) -> Self::Response;

    /// How long the answer may wait for something to happen.
    fn max_wait(&self) -> Duration {
        Duration::ZERO
    }

    /// Whether the answer is worth sending before that time is over.
    fn is_due(&self, _: &State, _: &Context, _: &Self::Response) -> bool {
        true
    }

    /// When to look again, even if nothing changes until then.
    fn look_again(&self, _: &State) -> Option<Instant> {
        None
    }

    /// How to answer.
    fn reply(&self, _: &Self::Response) -> Reply {
        Reply::Answer
    }
}

/// What this broker speaks.
pub(super) const SPOKEN: [(ApiKey, i16, i16); 19] = [
    (ApiKey::Produce, 3, 13),
    (ApiKey::Fetch, 4, 17),
    (ApiKey::ListOffsets, 1, 10),
    (ApiKey::Metadata, 0, 13),
    (ApiKey::OffsetCommit, 2, 9),
    (ApiKey::OffsetFetch, 1, 9),
    (ApiKey::FindCoordinator, 0, 6),
    (ApiKey::JoinGroup, 0, 9),
    (ApiKey::Heartbeat, 0, 4),
    (ApiKey::LeaveGroup, 0, 5),
    (ApiKey::SyncGroup, 0, 5),
    (ApiKey::DescribeGroups, 0, 6),
    (ApiKey::ListGroups, 0, 5),
    (ApiKey::ApiVersions, 0, 4),
    (ApiKey::CreateTopics, 2, 7),
    (ApiKey::DeleteTopics, 1, 6),
    (ApiKey::DeleteRecords, 0, 2),
    (ApiKey::InitProducerId, 0, 5),
    (ApiKey::OffsetForLeaderEpoch, 2, 4),
];

/// The versions of a request that are answered, if any are.
pub(super) fn spoken(state: &State, api: ApiKey) -> Option<VersionRange> {
    let (_, min, max) = SPOKEN.into_iter().find(|(key, ..)| *key == api)?;
    let max = state.newest.get(&api).map_or(max, |newest| max.min(*newest));
    (min <= max).then_some(VersionRange { min, max })
}

pub(super) use metadata::unsupported_version;

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn message(error: &impl ToString) -> Option<StrBytes> {
    Some(StrBytes::from_string(error.to_string()))
}
