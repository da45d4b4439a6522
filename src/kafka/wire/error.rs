//! Why a request came to nothing.

use std::{io, time::Duration};

use super::{ErrorCode, Mechanism, RequestName};

/// Why a request came to nothing: which broker, which request, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// No connection. May pass.
    #[error("cannot connect to the broker at {broker}")]
    Connect {
        /// Its address, with its node id if it is known.
        broker: String,
        /// What the system said.
        source: io::Error,
    },
    /// TLS does not come about, and will not by itself: a certificate, a name, a port without TLS.
    #[error("no TLS with the broker at {broker}: {reason}")]
    Tls {
        /// Its address.
        broker: String,
        /// Why not, and what to do about it.
        reason: String,
    },
    /// The broker does not let us in, or is not the one that it says it is.
    #[error("{broker} does not let us in by {mechanism}: {reason}")]
    NotLetIn {
        /// Its address.
        broker: String,
        /// How we said who we are.
        mechanism: Mechanism,
        /// Why not, and what to do about it.
        reason: String,
    },
    /// The broker wants to be told who we are.
    #[error(
        "{broker} wants to know who we are: say so with --sasl, or name its port without SASL; it offers {offered}"
    )]
    WantsSasl {
        /// Its address.
        broker: String,
        /// The mechanisms that it offers.
        offered: String,
    },
    /// The connection broke before the answer was there. May pass; the request may have been carried out.
    #[error("the connection to {broker} broke during {request}")]
    Lost {
        /// Its address.
        broker: String,
        /// What was asked.
        request: RequestName,
        /// What the system said.
        source: io::Error,
    },
    /// No answer in time. May pass; the request may have been carried out.
    #[error("{broker} did not answer {request} within {after:?}")]
    TimedOut {
        /// Its address.
        broker: String,
        /// What was asked.
        request: RequestName,
        /// How long we waited.
        after: Duration,
    },
    /// An answer that says no.
    #[error("{broker} answers {request} for {subject} with {code}{}{}", said(.message), advised(*.code))]
    Answered {
        /// The broker's address.
        broker: String,
        /// What was asked.
        request: RequestName,
        /// The topic, partition or group that the code is about.
        subject: String,
        /// The code.
        code: ErrorCode,
        /// The broker's own words, where it has some.
        message: Option<String>,
    },
    /// The broker does not know this request in any version that we can use.
    #[error(
        "{broker} does not speak {request} in any version that Longshore knows ({least} to {most}); is it Kafka 0.11 or later?"
    )]
    Version {
        /// Its address.
        broker: String,
        /// What was to be asked.
        request: RequestName,
        /// The first version that we could use.
        least: i16,
        /// The last one.
        most: i16,
    },
    /// Something that is not the protocol: another service on that port, or a bug on either side.
    #[error("what {broker} and Longshore exchange as {request} is not Kafka's protocol: {reason}")]
    Garbled {
        /// Its address.
        broker: String,
        /// What was asked.
        request: RequestName,
        /// What is wrong with it.
        reason: String,
    },
    /// The partition has no leader just now. May pass.
    #[error("partition {partition} of topic {topic} has no leader at present")]
    NoLeader {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
    },
    /// There is no such topic.
    #[error("there is no topic {topic}; create it with: {by_hand}")]
    NoTopic {
        /// The topic.
        topic: String,
        /// The command that creates it.
        by_hand: String,
    },
    /// There is no such partition.
    #[error("topic {topic} has no partition {partition}")]
    NoPartition {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
    },
    /// A topic could not be created.
    #[error("cannot create topic {topic}; create it by hand with: {by_hand}")]
    NotCreated {
        /// The topic.
        topic: String,
        /// The command that creates it.
        by_hand: String,
        /// Why not.
        source: Box<WireError>,
    },
}

impl WireError {
    /// Whether the same call may well succeed in a moment.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::Lost { .. } | Self::TimedOut { .. } | Self::NoLeader { .. } => true,
            Self::Answered { code, .. } => code.may_pass(),
            Self::NotCreated { source, .. } => source.may_pass(),
            Self::Tls { .. } | Self::NotLetIn { .. } | Self::WantsSasl { .. } => false,
            Self::Version { .. } | Self::Garbled { .. } | Self::NoTopic { .. } | Self::NoPartition { .. } => false,
        }
    }

    /// Whether a broker said that we are not allowed to: authorisation, or a policy.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        self.code().is_some_and(ErrorCode::is_refusal)
    }

    /// The protocol's error code, if a broker answered with one.
    #[must_use]
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Answered { code, .. } => Some(*code),
            Self::NotCreated { source, .. } => source.code(),
            _ => None,
        }
    }
}

fn said(message: &Option<String>) -> String {
    message.as_ref().map_or_else(String::new, |text| format!(" ({text})"))
}

fn advised(code: ErrorCode) -> String {
    code.advice().map_or_else(String::new, |text| format!(": {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_says_who_what_why_and_what_to_do() {
        let error = WireError::Answered {
            broker: "kafka:9092".into(),
            request: RequestName(9),
            subject: "group g".into(),
            code: ErrorCode(30),
            message: None,
        };
        assert_eq!(
            error.to_string(),
            "kafka:9092 answers OffsetFetch for group g with GROUP_AUTHORIZATION_FAILED (30): allow this user READ on \
             the group, with kafka-acls.sh --add --group"
        );
        assert!(error.is_refusal() && !error.may_pass());
    }

    /// At the start they are final; later somebody may be changing a certificate or a password just now.
    #[test]
    fn what_is_wrong_with_security_does_not_pass_and_refuses_nothing() {
        let (broker, reason) = ("kafka:9093".to_owned(), "expired".to_owned());
        let errors = [
            WireError::Tls { broker: broker.clone(), reason: reason.clone() },
            WireError::NotLetIn { broker: broker.clone(), mechanism: Mechanism::Plain, reason },
            WireError::WantsSasl { broker, offered: "PLAIN".to_owned() },
        ];
        assert!(errors.iter().all(|error| !error.may_pass() && !error.is_refusal()));
    }
}
