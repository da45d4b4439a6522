//! Longshore's own thin client, on `kafka-protocol`: all that rskafka cannot do, or does wrong.
//!
//! Every message of the protocol comes from that crate, but for the response to a Fetch (`fetched.rs` says why). Longshore
//! adds framing, version negotiation, deadlines, leader and coordinator look-up, and retries:
//!
//! ```text
//!  topics.rs  groups.rs  group_offsets.rs  membership.rs    what to ask, and what an answer means
//!        │       │             │               │
//!        │       coordinator.rs ───────────────┘            who coordinates a group, and the lanes to it
//!        │       │
//!        cluster.rs         whom to ask: any broker, a leader, a coordinator; again, when that may help
//!            │
//!       connection.rs       one request and its response, on one connection, in time
//!        │        │
//!  security.rs  authenticate.rs    on TCP or TLS (tls.rs), and with SASL (sasl.rs) where that is asked for
//! ```
//!
//! One connection per broker, one request on it at a time. A connection on which a request failed, ran out of time or
//! was abandoned half-way is closed, never used again: an answer can never be taken for another's. A name is looked up
//! anew at each connect.
//!
//! A broker that throttles us is left alone for as long as it asks (`throttle.rs`), so that it is not taken for one that
//! hangs.
//!
//! Deliberately not in here: batches and what is in them.

mod address;
mod all_offsets;
mod authenticate;
mod cluster;
mod code;
mod connection;
mod coordinator;
mod error;
mod fetch;
mod fetched;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod group_offsets;
mod groups;
mod guarded;
mod membership;
mod produce;
mod sasl;
mod security;
mod throttle;
mod tls;
mod topics;

#[cfg(test)]
pub(in crate::kafka) mod scripted;
#[cfg(test)]
mod tests;

pub use address::{AddressError, HostPort};
pub use cluster::Cluster;
pub use code::{ErrorCode, RequestName};
pub use error::WireError;
pub(super) use fetch::Wanted;
pub(super) use fetched::Fetched;
pub use group_offsets::{Epoch, Identity, NotKept};
pub use groups::{GroupMember, GroupView};
pub(super) use produce::Place;
pub use sasl::{Mechanism, Sasl};
pub use security::Security;
pub use tls::{Tls, TlsProvider, TlsSettings};
pub use topics::{At, NamedTopic, PartitionView, TopicView};
