//! A task that keeps a CPU busy: it answers each message with the SHA-256 of its value, hashed many times over, as one
//! does to make a password hard to guess.
//!
//! ```text
//! longshore broker --topic passwords:4                 (in one terminal)
//! kcat -P -b 127.0.0.1:9092 -t passwords -K :          (in another: lines such as alice:secret)
//! cargo run --release --example hash                   (in a third; Ctrl-C ends it)
//! kcat -C -b 127.0.0.1:9092 -t hashes -f '%k %s\n'
//! ```
//!
//! It takes the broker's address as an argument. As many tasks run at once as there are CPUs: more would only wait for
//! each other.
#![allow(clippy::print_stdout, reason = "a program for a terminal")]

use std::{error::Error, thread};

use longshore::{Answer, Failure, Longshore, Record, task::Format};
use sha2::{Digest, Sha256};

/// About 50 ms in a release build on a CPU with SHA instructions, several times that on others.
const ROUNDS: u32 = 1_000_000;

/// What is done for each message. It blocks its thread for as long as it takes; that is all right here.
fn hash(record: &Record) -> Result<Answer, Failure> {
    let value = record.value.as_deref().ok_or("there is nothing to hash")?;
    let mut hash = Sha256::digest(value);
    for _ in 1..ROUNDS {
        hash = Sha256::digest(hash);
    }
    Ok(Answer::value(format!("{hash:x}")))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt().with_max_level(tracing::Level::WARN).init();
    let brokers = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9092".to_owned());
    let run = Longshore::builder()
        .brokers(&brokers)
        .group("hash")
        .topic("passwords")
        .reply_topic("hashes")
        .format(Format::Bytes)
        .workers(thread::available_parallelism()?.get())
        .build(hash)?;

    let drain = run.drain();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            drain.drain();
        }
    });

    let summary = run.run().await?;
    println!("{} hashed, {} failed, committed up to {:?}", summary.succeeded, summary.failed, summary.committed);
    // Why it ended, where nobody asked it to.
    summary.error.map_or(Ok(()), |error| Err(error.into()))
}
