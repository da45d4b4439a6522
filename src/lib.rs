//! Longshore runs a slow, blocking task for every message of a Kafka topic, many at once and out of order, answers in a
//! reply topic, and loses none.

mod backoff;
#[cfg(feature = "broker")]
pub mod broker;
mod committer;
pub mod config;
mod drain;
mod engine;
pub mod error;
pub mod fate;
pub mod kafka;
mod longshore;
pub mod offsets;
pub mod page;
pub mod pool;
pub mod record;
mod room;
pub mod scheduler;
pub mod sink;
pub mod source;
mod startup;
pub mod task;
#[cfg(test)]
mod testing;
pub mod tracker;

pub use self::{
    drain::Drain,
    error::RunError,
    longshore::{Builder, Longshore, Progress},
    record::Record,
    scheduler::{Counters, Summary},
    task::{Answer, Failure, Task},
};
