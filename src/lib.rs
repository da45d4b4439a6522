//! Longshore runs a slow, blocking task for every message of a Kafka topic, many at once, and loses none.

pub mod kafka;
pub mod offsets;
pub mod record;
pub mod sink;
pub mod source;
