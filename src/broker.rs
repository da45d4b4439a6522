//! An in-memory broker that speaks Kafka's protocol over TCP, on this machine only: for `longshore broker`, for
//! `longshore demo`, for trying things, and for tests that are fast and can make things go wrong.
//!
//! It keeps nothing: what was written is gone when it ends.
//!
//! ```text
//!                 ┌──────────────── one thread ────────────────┐
//! clients ──TCP──▶│ server (nodes) ──▶ connection ──▶ requests │──┐
//!                 └────────────────────────────────────────────┘  ▼
//! tests ───────────────────── Broker, Faults ─────────────────▶ state: topics ─▶ log ─▶ batch, producers
//!                                                                      groups, faults
//! ```
//!
//! In reading order: `batch`, `producers` and `log` (one partition), `topics`, `groups`, `faults`, `state` (all of
//! them together), `requests` (what each request does to it): all of these are PURE. `connection` and `server` do the
//! input and output.
//!
//! Batches are kept as they came, whatever their codec. What a real broker refuses is refused with the same error.
//! Everything has a bound: the kept bytes ([`Options::max_bytes`]), connections, the sizes of requests and answers,
//! partitions, groups, their members, remembered producers. One promise is not made: the decoder of `kafka-protocol` sets aside
//! memory for as many elements as an array claims to have, so a client that lies can exhaust the memory. The broker
//! listens on the loopback only.
//!
//! Deliberately not here: durability, replication, retention, compaction, transactions, groups by KIP-848 (clients fall back
//! to the classic protocol), fetch sessions, access control, TLS. What is created has no configuration beside `max.message.bytes`.
//!
//! ```
//! use longshore::{broker::{Broker, Options}, record::Offset};
//!
//! let broker = Broker::start(Options::default())?;
//! broker.create_topic("orders", 2)?;
//! broker.append_values("orders", 0, ["first", "second"])?;
//! assert_eq!(broker.end_offset("orders", 0), Some(Offset(2)));
//! // Clients connect to:
//! assert!(broker.address().starts_with("127.0.0.1:"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod batch;
mod connection;
mod faults;
mod groups;
mod handle;
mod inject;
mod log;
mod producers;
mod requests;
mod server;
mod state;
#[cfg(test)]
mod tests;
mod topics;

use std::{fmt, time::Duration};

pub use batch::BatchError;
pub use groups::Member;
pub use handle::{Broker, ReadError};
pub use inject::{Fault, FaultBuilder, Faults};
pub use kafka_protocol::{error::ResponseError, messages::ApiKey};
pub use topics::{AppendError, TopicError};

/// The only address that is listened on.
const HOST: &str = "127.0.0.1";

/// A node of the cluster that a broker plays, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub i32);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How a [`Broker`] is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The port of the first node; the others have those that follow. 0 lets the system pick all of them.
    pub port: u16,
    /// How many nodes it plays. Each has its own port, and the partitions are spread over them.
    pub nodes: u16,
    /// The partitions of a topic whose creator does not say how many.
    pub default_partitions: i32,
    /// Whether asking for the metadata of a topic creates it, where the client allows it.
    pub auto_create_topics: bool,
    /// The bytes that all logs may hold together. Beyond it Produce is answered with KAFKA_STORAGE_ERROR: nothing that
    /// was acknowledged is ever dropped to make room. DeleteRecords and DeleteTopics make room.
    pub max_bytes: usize,
    /// The largest batch, in bytes, where a topic does not say otherwise.
    pub max_message_bytes: usize,
    /// The shortest session timeout that a member of a group may have. Kafka's is 6 s.
    pub min_session_timeout: Duration,
    /// The longest metadata that an OffsetCommit may carry, in UTF-16 units; 4,096 at the most.
    pub max_metadata_units: usize,
    /// The connections to all nodes together. Those beyond it are closed at once.
    pub max_connections: usize,
}

impl Default for Options {
    /// One node on a port that the system picks, 1 partition, no automatic creation, 1 GiB, and Kafka's own limits of
    /// 1 MiB and 12 bytes for a batch, of 4,096 units for the metadata of a commit, and of 6 s for a session timeout.
    fn default() -> Self {
        Self {
            port: 0,
            nodes: 1,
            default_partitions: 1,
            auto_create_topics: false,
            max_bytes: 1024 * 1024 * 1024,
            max_message_bytes: 1024 * 1024 + 12,
            min_session_timeout: Duration::from_secs(6),
            max_metadata_units: 4_096,
            max_connections: 4_096,
        }
    }
}
