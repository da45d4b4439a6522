//! Longshore runs a slow, blocking task for every message of a Kafka topic, many at once and out of order, answers in a
//! reply topic, and loses none.
//!
//! ```
//! use longshore::{Answer, Failure, Longshore, Record, config::ConfigErrors};
//!
//! fn main() -> Result<(), ConfigErrors> {
//!     let run = Longshore::builder()
//!         .brokers("localhost:9092")
//!         .group("lengths")
//!         .topic("texts")
//!         .reply_topic("text-lengths")
//!         .workers(100)
//!         .build(|record: &Record| {
//!             let text = record.value.as_deref().ok_or("there is no text")?;
//!             Ok::<_, Failure>(Answer::value(text.len().to_string()))
//!         })?;
//!     let drain = run.drain(); // for a signal handler
//!     # let _ = (drain, run);
//!     // let summary = run.run().await?;
//!     Ok(())
//! }
//! ```
//!
//! # What a message goes through
//!
//! ```text
//!   fetch loops ──▶ tracker ──▶ load ──▶ pool ──▶ Task ──▶ fate ──▶ sink ──▶ finished ──▶ committed
//!   (per partition)  waiting    1 to 128  threads          what is   acknowledged
//!                               records                    to write
//!                    └──────────── scheduler, owned by the engine ────────────┘
//! ```
//!
//! A record is read by the fetch loop of its partition ([`source`]), as far as there is room for it. It waits in that
//! partition's [`tracker`] until a worker is free, is checked against its [`Format`](task::Format), and run by a
//! [`Task`] on a thread of the [`pool`]. What comes of that is its [`fate`]: an answer, a dead letter, both or neither.
//! It is finished when the last thing its fate asks for is acknowledged ([`sink`]); and what a commit says is, for each
//! partition, the lowest offset that is not finished ([`offsets`]).
//!
//! So nothing is lost, and after a crash what was unfinished runs again: at least once. An answer carries the
//! coordinates of its request ([`fate::headers`]), by which a reader can tell one that is there twice.
//!
//! # In reading order
//!
//! 1. [`record`]: what flows through.
//! 2. [`task`]: what you write. [`Longshore`] and its [`Builder`] run it; [`config`] has all the settings, [`Drain`] ends
//!    a run, [`Progress`] looks at it, [`Summary`] tells what was done, and [`error`] why it ended.
//! 3. [`fate`], [`tracker`], [`progress`], [`scheduler`]: the core, which decides. It is pure: events in, decisions out, time is an
//!    argument. A simulator plays whole runs with it.
//! 4. [`pool`], [`source`], [`sink`], [`offsets`], [`kafka`]: the shell, which acts.
//! 5. [`inspect`]: how a group stands, looked at from outside.
#![cfg_attr(feature = "broker", doc = "6. [`broker`]: a Kafka in memory, for tests and for trying things.")]
//!
//! `docs/architecture.md` says what must stay so when any of this changes.

mod backoff;
#[cfg(feature = "broker")]
pub mod broker;
mod committer;
pub mod config;
mod drain;
mod engine;
pub mod error;
pub mod event;
pub mod fate;
mod gather;
mod group;
pub mod inspect;
pub mod kafka;
pub mod lineage;
mod longshore;
pub mod loss;
mod membership;
pub mod offsets;
pub mod page;
pub mod pool;
pub mod progress;
pub mod record;
mod room;
pub mod scheduler;
pub mod secret;
pub mod sink;
pub mod source;
mod standing;
mod startup;
pub mod task;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod together;
pub mod tracker;
mod varint;
mod watched;

pub use self::{
    drain::Drain,
    error::RunError,
    event::Event,
    longshore::{Builder, Events, Longshore, Progress},
    loss::{DataLoss, OnDataLoss},
    record::Record,
    scheduler::{Counters, Summary},
    task::{Advice, Answer, Failure, Task},
};
