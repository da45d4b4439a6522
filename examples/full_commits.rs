//! Commits the offset 0 for all partitions of a topic, each with as much metadata as fits, and reads them back.
//!
//! ```text
//! cargo run --example full_commits -- --brokers 127.0.0.1:9092 --group g --topic t
//! ```
//!
//! tests/kafka/progress runs it: one request for a hundred partitions would be too large for the coordinator.
#![allow(clippy::print_stdout, reason = "a program for a terminal")]

use std::{collections::BTreeMap, time::Instant};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use longshore::{
    kafka::{Deadlines, wire::Cluster},
    offsets::Committed,
    progress::{Finished, Fits, MOST_UNITS, Place, Run, decode, encode},
    record::{LeaderEpoch, Offset},
};

/// More than can be said in one string, where every other offset is finished in no order.
const SPAN: i64 = 100_000;

#[derive(Debug, Parser)]
#[command(about = "Commits with as much metadata as fits, and reads it back")]
struct Args {
    /// Bootstrap brokers
    #[arg(short, long, value_name = "HOST:PORT,...", value_delimiter = ',', required = true)]
    brokers: Vec<String>,
    /// A group without members
    #[arg(short, long, value_name = "ID")]
    group: String,
    /// A topic, whose offsets may be anything
    #[arg(short, long, value_name = "NAME")]
    topic: String,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let Args { brokers, group, topic } = Args::parse();
    let brokers = brokers.iter().map(|broker| broker.parse()).collect::<Result<_, _>>()?;
    let cluster = Cluster::new(brokers, "full-commits", Deadlines::default());
    let view = cluster.topic(&topic).await?.context("there is no such topic")?;
    let mut rng = fastrand::Rng::with_seed(1);
    let (mut commits, mut said, mut units) = (BTreeMap::new(), BTreeMap::new(), usize::MAX);
    for partition in view.partitions.iter().map(|view| view.partition) {
        let place = Place { topic: view.id, partition, offset: Offset(0) };
        let finished = (1..SPAN).filter(|_| rng.bool()).map(|offset| Run::new(Offset(offset), Offset(offset + 1)));
        let mut finished: Finished = finished.collect();
        let encoded = encode(&place, &finished, MOST_UNITS);
        if let Fits::Below(reach) = encoded.fits {
            finished.cut_from(reach);
        }
        units = units.min(encoded.text.encode_utf16().count());
        let leader_epoch = LeaderEpoch::UNKNOWN;
        commits.insert(partition, Committed { offset: place.offset, leader_epoch, metadata: encoded.text });
        said.insert(partition, (place, finished));
    }
    let begun = Instant::now();
    cluster.offset_commit(&group, &topic, &commits).await?;
    let took = begun.elapsed();
    let partitions: Vec<_> = commits.keys().copied().collect();
    let kept = cluster.offset_fetch(&group, &topic, &partitions).await?;
    for (partition, (place, finished)) in said {
        let metadata = &kept.get(&partition).with_context(|| format!("nothing is kept for {partition}"))?.metadata;
        let (read, _) = decode(metadata, &place, Offset(SPAN), false)?;
        ensure!(read == finished, "partition {partition} is not as it was written");
    }
    println!("{} partitions, {units} units each, committed in {} ms", commits.len(), took.as_millis());
    Ok(())
}
