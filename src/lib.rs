//! Longshore runs a slow, blocking task for every message of a Kafka topic, many at once, and loses none.

mod backoff;
mod committer;
pub mod config;
mod drain;
mod engine;
pub mod error;
pub mod fate;
pub mod offsets;
pub mod pool;
pub mod record;
mod room;
pub mod scheduler;
pub mod sink;
pub mod source;
pub mod task;
#[cfg(test)]
mod testing;
pub mod tracker;

pub use self::{
    record::Record,
    task::{Answer, Failure, Task},
};
