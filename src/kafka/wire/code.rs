//! PURE: the protocol's error codes and requests, by the names that Kafka's own documentation gives them.

use std::fmt;

use kafka_protocol::{ResponseError, messages::ApiKey};

/// An error code of the protocol. Shown as `NOT_COORDINATOR (16)`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ErrorCode(pub i16);

impl ErrorCode {
    /// `Ok` for 0.
    pub(super) fn check(code: i16) -> Result<(), Self> {
        if code == 0 { Ok(()) } else { Err(Self(code)) }
    }

    fn known(self) -> ResponseError {
        ResponseError::try_from_code(self.0).unwrap_or(ResponseError::Unknown(self.0))
    }

    pub(in crate::kafka) fn is(self, error: ResponseError) -> bool {
        self.0 == error.code()
    }

    /// Whether the same request may well succeed in a moment.
    #[must_use]
    pub fn may_pass(self) -> bool {
        // Those that the protocol calls retriable, and: the broker that we ask first knows no better.
        self.known().is_retriable() || self.is(ResponseError::BrokerNotAvailable)
    }

    /// Whether the answer says that we are not allowed to.
    #[must_use]
    pub fn is_refusal(self) -> bool {
        use ResponseError as E;
        matches!(
            self.known(),
            E::TopicAuthorizationFailed
                | E::GroupAuthorizationFailed
                | E::ClusterAuthorizationFailed
                | E::TransactionalIdAuthorizationFailed
                | E::SaslAuthenticationFailed
                | E::IllegalSaslState
                | E::UnsupportedSaslMechanism
                | E::PolicyViolation
                | E::SecurityDisabled
        )
    }

    /// Whether a commit was turned down because the group has live members, which alone may commit for it.
    #[must_use]
    pub fn is_live_group(self) -> bool {
        use ResponseError as E;
        matches!(
            self.known(),
            E::UnknownMemberId
                | E::IllegalGeneration
                | E::RebalanceInProgress
                | E::FencedInstanceId
                | E::FencedMemberEpoch
                | E::StaleMemberEpoch
        )
    }

    /// Whether only a group's coordinator can say so: the answer is about a member, and the right broker gave it.
    pub(super) fn is_of_membership(self) -> bool {
        use ResponseError as E;
        self.is_live_group()
            || matches!(
                self.known(),
                E::MemberIdRequired
                    | E::UnreleasedInstanceId
                    | E::InconsistentGroupProtocol
                    | E::GroupMaxSizeReached
                    | E::UnsupportedAssignor
                    | E::InvalidSessionTimeout
            )
    }

    /// What somebody can do about it.
    pub(super) fn advice(self) -> Option<&'static str> {
        use ResponseError as E;
        Some(match self.known() {
            E::TopicAuthorizationFailed => {
                "allow this user the topic, with kafka-acls.sh --add (READ and DESCRIBE on a topic that is read, WRITE \
                 and DESCRIBE on one that is written)"
            }
            E::GroupAuthorizationFailed => "allow this user READ on the group, with kafka-acls.sh --add --group",
            E::ClusterAuthorizationFailed => {
                "allow this user that operation on the cluster, with kafka-acls.sh --add --cluster"
            }
            E::InvalidTopicException => "a topic's name has 1 to 249 letters, digits, dots, underscores or hyphens",
            E::InvalidGroupId => "choose another group",
            E::OffsetMetadataTooLarge => "raise the broker's offset.metadata.max.bytes",
            E::GroupIdNotFound => "a group of this name is of another kind (a share group, say): choose another group",
            E::UnknownTopicOrPartition => "was the topic deleted?",
            E::InconsistentGroupProtocol => {
                "the members of this group have no assignor in common (--assignors), or they are no consumers (of Kafka \
                 Connect, say): choose another group, or other assignors"
            }
            E::InvalidSessionTimeout => {
                "a broker allows session timeouts from its group.min.session.timeout.ms (6 s) to its \
                 group.max.session.timeout.ms (30 min)"
            }
            E::GroupMaxSizeReached => "raise the broker's group.max.size, or run fewer members",
            E::FencedInstanceId => "another process has the same --instance-id: give each its own",
            E::UnreleasedInstanceId => {
                "another process with the same --instance-id has not left: stop it, or give each its own"
            }
            E::UnsupportedAssignor => "name one of the broker's group.consumer.assignors",
            E::UnsupportedVersion => "the broker does not do that, or has it switched off",
            E::UnknownServerError => "the broker's own log says why",
            _ => return None,
        })
    }
}

/// `NOT_COORDINATOR (16)`
impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = self.known();
        if let ResponseError::Unknown(code) = known {
            return write!(f, "an unknown error ({code})");
        }
        for (i, c) in known.to_string().char_indices() {
            if i > 0 && c.is_ascii_uppercase() {
                f.write_str("_")?;
            }
            write!(f, "{}", c.to_ascii_uppercase())?;
        }
        write!(f, " ({})", self.0)
    }
}

impl fmt::Debug for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A request of the protocol, by its key. Shown by its name: `OffsetCommit`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestName(pub i16);

impl fmt::Display for RequestName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match ApiKey::try_from(self.0) {
            Ok(key) => write!(f, "{key:?}"),
            Err(()) => write!(f, "request {}", self.0),
        }
    }
}

impl fmt::Debug for RequestName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_requests_are_shown_by_name() {
        assert_eq!(ErrorCode(16).to_string(), "NOT_COORDINATOR (16)");
        assert_eq!(ErrorCode(-1).to_string(), "UNKNOWN_SERVER_ERROR (-1)");
        assert_eq!(ErrorCode(999).to_string(), "an unknown error (999)");
        assert_eq!(RequestName(8).to_string(), "OffsetCommit");
        assert_eq!(RequestName(-7).to_string(), "request -7");
    }

    #[test]
    fn what_may_pass_and_what_may_not() {
        for code in [3, 5, 6, 7, 8, 14, 15, 16, 41, 56, 88] {
            assert!(ErrorCode(code).may_pass(), "{}", ErrorCode(code));
        }
        for code in [-1, 12, 17, 22, 25, 29, 30, 31, 36, 44, 69, 999] {
            assert!(!ErrorCode(code).may_pass(), "{}", ErrorCode(code));
        }
    }

    #[test]
    fn a_refusal_is_told_from_a_live_group() {
        assert!(ErrorCode(29).is_refusal() && ErrorCode(30).is_refusal() && ErrorCode(44).is_refusal());
        assert!(!ErrorCode(25).is_refusal() && !ErrorCode(16).is_refusal());
        assert!(ErrorCode(25).is_live_group() && ErrorCode(22).is_live_group() && ErrorCode(113).is_live_group());
        assert!(!ErrorCode(16).is_live_group());
    }
}
