//! Why a run ends before its time, and the exit code that says so.

use std::{sync::Arc, time::Duration};

use crate::{
    loss::{DataLoss, list as list_losses},
    record::{Offset, TopicPartition},
};

/// Exit codes, after sysexits.h where it has one.
pub mod exit {
    /// Clean.
    pub const OK: u8 = 0;
    /// Clean, but a message failed (with `--fail-on-failure`, or `--on-failure stop`).
    pub const MESSAGE_FAILED: u8 = 1;
    /// Wrong usage or configuration (EX_USAGE).
    pub const USAGE: u8 = 64;
    /// Data is gone that was not read (EX_DATAERR).
    pub const DATA_GONE: u8 = 65;
    /// Kafka cannot be reached, or refuses (EX_UNAVAILABLE).
    pub const UNAVAILABLE: u8 = 69;
    /// Our own fault (EX_SOFTWARE).
    pub const SOFTWARE: u8 = 70;
    /// The drain was forced, or its last commit was not acknowledged: something runs again next time (EX_TEMPFAIL).
    pub const FORCED: u8 = 75;
}

/// Why a run could not begin, or had to end.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Data is gone, and `--on-data-loss stop` is what the user wants, or has not said otherwise.
    #[error(
        "{}. Nothing beyond that is committed. To go on: --on-data-loss earliest or latest, for this once or for good; or \
         reset the group's offset (kafka-consumer-groups.sh --reset-offsets)",
        list_losses(.losses)
    )]
    DataLoss {
        /// What is gone; at least one.
        losses: Vec<DataLoss>,
    },
    /// The topic is not there any more, and did not come back in time.
    #[error("topic {topic} was deleted, and was not made anew within {waited:?}: nothing more is committed for it")]
    TopicGone {
        /// Which.
        topic: Arc<str>,
        /// How long it was waited for (`--startup-timeout`).
        waited: Duration,
    },
    /// The group has no offset for a partition, and `--from stop` was said.
    #[error("group {group} has no committed offset for {}, and --from stop was said", list(.partitions))]
    NoOffset {
        /// The group.
        group: String,
        /// The partitions.
        partitions: Vec<TopicPartition>,
    },
    /// The offsets that were kept cannot be read.
    #[error("{reason}")]
    OffsetsDamaged {
        /// What is wrong, and what to do about it.
        reason: String,
    },
    /// `--assign` names a partition that the topic does not have.
    #[error("--assign names partition {partition}, but topic {topic} has {partitions}, counted from 0")]
    NoSuchPartition {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// How many there are.
        partitions: usize,
    },
    /// There is something in a partition that is not read, and never will be as things are.
    #[error("{source_partition}: {reason}; nothing from offset {at} on is done")]
    Unreadable {
        /// Where.
        source_partition: Arc<TopicPartition>,
        /// The first offset that is not read.
        at: Offset,
        /// What is in the way.
        reason: String,
    },
    /// Kafka could not be reached in time, or refuses.
    #[error("{reason}")]
    Unavailable {
        /// What happened, and what to do about it.
        reason: String,
    },
    /// Somebody else works on the same partitions for the same group.
    #[error("{reason}")]
    NotAlone {
        /// Who, and what to do about it.
        reason: String,
    },
    /// A message failed, and the user asked to stop at that.
    #[error("{source_partition} offset {offset} failed, and --on-failure stop was said: {error}")]
    MessageFailed {
        /// Where.
        source_partition: Arc<TopicPartition>,
        /// Which.
        offset: Offset,
        /// How.
        error: String,
    },
    /// Not even the shortest account of a message was small enough for the broker.
    #[error(
        "{source_partition} offset {offset}: the broker calls even a record without content too large: raise max.message.bytes \
         of the reply and dead letter topics"
    )]
    NothingWritable {
        /// Where.
        source_partition: Arc<TopicPartition>,
        /// Which.
        offset: Offset,
    },
    /// A part of Longshore ended that should not have.
    #[error("{part} ended unexpectedly: this is a fault in Longshore")]
    Fault {
        /// Which part.
        part: &'static str,
    },
}

impl RunError {
    /// The exit code that tells of it.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::DataLoss { .. } | Self::TopicGone { .. } | Self::OffsetsDamaged { .. } | Self::NoOffset { .. } => {
                exit::DATA_GONE
            }
            Self::NoSuchPartition { .. } => exit::USAGE,
            Self::Unreadable { .. }
            | Self::Unavailable { .. }
            | Self::NotAlone { .. }
            | Self::NothingWritable { .. } => exit::UNAVAILABLE,
            Self::MessageFailed { .. } => exit::MESSAGE_FAILED,
            Self::Fault { .. } => exit::SOFTWARE,
        }
    }

    /// Whether a commit after this could do harm, because what we would commit is no longer ours, or of another log; or is
    /// in vain, because commits are refused.
    #[must_use]
    pub fn forbids_commits(&self) -> bool {
        match self {
            Self::DataLoss { losses } => losses.iter().any(DataLoss::forbids_commits),
            Self::NotAlone { .. } | Self::TopicGone { .. } | Self::Unavailable { .. } | Self::Fault { .. } => true,
            _ => false,
        }
    }
}

fn list(partitions: &[TopicPartition]) -> String {
    partitions.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
