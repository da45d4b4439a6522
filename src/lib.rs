//! Longshore runs a slow, blocking task for every message of a Kafka topic, many at once, and loses none.

#[cfg(feature = "broker")]
pub mod broker;
pub mod offsets;
pub mod record;
pub mod sink;
pub mod source;
