//! Writing: answers and dead letters, each acknowledged.

use std::future::Future;

use bytes::Bytes;

use crate::record::Header;

/// A record to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// The key; decides the partition, as in Kafka's own clients.
    pub key: Option<Bytes>,
    /// The value.
    pub value: Option<Bytes>,
    /// The headers, in their order.
    pub headers: Vec<Header>,
}

/// Why a write was not acknowledged.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The broker will never take this: the record or the batch is too large (MESSAGE_TOO_LARGE, RECORD_LIST_TOO_LARGE).
    #[error("too large for the broker: {reason}")]
    TooLarge {
        /// What the broker said.
        reason: String,
    },
    /// The topic is not there, or we may not write to it. Somebody has to do something; until then we wait.
    #[error("refused: {reason}")]
    Refused {
        /// What the broker said, and what to do about it.
        reason: String,
    },
    /// Not acknowledged, for a reason that may pass. The records may have been written all the same.
    #[error("{reason}")]
    Unavailable {
        /// What happened, for people.
        reason: String,
    },
}

/// Something that can write to one topic. Batching, order, retries and patience are [`Sink`]'s, not its.
pub trait PartitionWriter: Send + 'static {
    /// Writes `records` as one batch, in this order, to `partition`. `Ok` says that every in-sync replica has them all
    /// (`acks=all`). Never takes longer than the writer's own deadline, whatever the broker does.
    fn write(&mut self, partition: i32, records: &[Outgoing]) -> impl Future<Output = Result<(), WriteError>> + Send;
}
