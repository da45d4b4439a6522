//! PURE. What an error means to a member of a group.
//!
//! Only what somebody has to change is for ever. A code that is odd, or an answer that cannot be read, may not be so the next
//! time; so are a certificate and a password, which somebody may be changing just now (at the start of a run they are found
//! out before anybody joins).

use kafka_protocol::{
    ResponseError,
    messages::{ConsumerGroupHeartbeatRequest, JoinGroupRequest, SyncGroupRequest},
    protocol::Request,
};

use crate::{
    kafka::{
        wire::{ErrorCode, RequestName, WireError},
        with_causes,
    },
    membership::exchange::Refusal,
};

impl WireError {
    /// What it means to the member of a group that has asked, to commit or to fetch offsets, too.
    pub(crate) fn as_refusal(&self) -> Refusal {
        match self {
            Self::Answered { code, .. } => of_code(*code, || with_causes(self)),
            Self::Version { .. } => of_version(self),
            Self::Connect { .. }
            | Self::Tls { .. }
            | Self::NotLetIn { .. }
            | Self::WantsSasl { .. }
            | Self::Lost { .. }
            | Self::TimedOut { .. }
            | Self::Garbled { .. }
            | Self::NoLeader { .. }
            | Self::NoTopic { .. }
            | Self::NoPartition { .. }
            | Self::NotCreated { .. } => Refusal::Passing(with_causes(self)),
        }
    }
}

fn of_code(code: ErrorCode, words: impl FnOnce() -> String) -> Refusal {
    use ResponseError as E;
    let Some(known) = ResponseError::try_from_code(code.0) else { return Refusal::Passing(words()) };
    match known {
        E::UnknownMemberId => Refusal::UnknownMember,
        E::IllegalGeneration => Refusal::IllegalGeneration,
        E::RebalanceInProgress => Refusal::Rebalancing,
        E::FencedInstanceId => Refusal::FencedInstance,
        E::FencedMemberEpoch => Refusal::FencedEpoch,
        E::StaleMemberEpoch => Refusal::StaleEpoch,
        E::UnreleasedInstanceId => Refusal::UnreleasedInstance,
        E::InconsistentGroupProtocol => Refusal::InconsistentProtocol(words()),
        E::GroupMaxSizeReached => Refusal::GroupFull,
        E::UnsupportedVersion | E::GroupIdNotFound => Refusal::Unsupported(words()),
        E::InvalidGroupId
        | E::InvalidSessionTimeout
        | E::InvalidRequest
        | E::UnsupportedAssignor
        | E::InvalidRegularExpression => Refusal::Never(words()),
        _ if code.is_refusal() => Refusal::Never(words()),
        _ => Refusal::Passing(words()),
    }
}

/// The broker knows no such request, or none that carries what it has to.
fn of_version(error: &WireError) -> Refusal {
    let WireError::Version { broker, request, .. } = error else { return Refusal::Unsupported(with_causes(error)) };
    if *request == RequestName(ConsumerGroupHeartbeatRequest::KEY) {
        return Refusal::Unsupported(format!(
            "{broker} does not know the consumer group protocol of KIP-848, which came with Kafka 4.0"
        ));
    }
    if [JoinGroupRequest::KEY, SyncGroupRequest::KEY].map(RequestName).contains(request) {
        return Refusal::Unsupported(format!(
            "{broker} does not know {request} as it is needed here: --instance-id needs Kafka 2.3, and groups Kafka 0.11"
        ));
    }
    Refusal::Unsupported(with_causes(error))
}
