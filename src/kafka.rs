//! Everything that speaks Kafka. No other part of Longshore names a Kafka crate (but for the in-memory broker, which
//! speaks the other side of the protocol).
//!
//! Two clients stand side by side:
//!
//! ```text
//!  Source ── reader ─┬──────────────── rskafka: fetch, a connection per partition
//!                    │                    ▲ asked before it may speak of a topic: it would create one
//!                    ├──────────────── wire: fetch, and everything else, a connection per broker;
//!  OffsetStore ─ offsets ─────────────── the reader with two of its own,
//!  Sink ──── writer ──────────────────── each writer with one
//! ```
//!
//! * [`wire`] is Longshore's own thin client on `kafka-protocol`: topics, ends, groups, commits, writes. Start there.
//! * [`offsets`] keeps progress as the committed offsets of a group, and notices when somebody else does too.
//! * [`reader`] fetches, on rskafka or by wire. [`data_plane`] holds the rskafka client that the readers share, and replaces
//!   it when it hangs.
//! * [`writer`] writes, by wire, in batches that [`batch`] encodes; it decodes them, too.
//! * [`partitioner`] puts a key where Kafka's own clients put it.
//!
//! Every call has a deadline ([`Deadlines`]), whatever a broker does, and every error says which broker and which
//! request it was, and what to do about it.
//!
//! Deliberately not in here: patience (how often to try again is the caller's), batching, and anything that knows what a
//! record means.

use std::time::Duration;

pub mod batch;
pub mod data_plane;
pub(crate) mod member_offsets;
pub mod offsets;
pub mod partitioner;
pub mod reader;
pub mod wire;
pub mod writer;

mod descriptors;

pub use descriptors::raise_descriptor_limit;

/// Which records of transactions are read (`--isolation`; KIP-98).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Isolation {
    /// All, of transactions that are open or were aborted too. Kafka's own clients do so by default.
    #[default]
    ReadUncommitted,
    /// None of a transaction that was aborted, and none behind one that is open.
    ReadCommitted,
}

/// How long a broker may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadlines {
    /// For one connection: to look up the name, to connect, and to agree on versions. 5 s by default.
    pub connect: Duration,
    /// For one call as the caller sees it, with all its attempts. 10 s by default. One attempt gets half of it, so that
    /// another broker can be asked when one hangs. A fetch has this much on top of the time that it may wait for records.
    pub request: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self { connect: Duration::from_secs(5), request: Duration::from_secs(10) }
    }
}

/// An error with its causes, in one line: for those errors of the crate that carry their reason as text.
pub(crate) fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        // rskafka's messages hold their sources' already.
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn causes_follow_in_one_line() {
        assert_eq!(with_causes(&Outer(std::io::Error::other("inner"))), "outer: inner");
    }
}
