//! Prints what a topic holds, byte for byte, as one of Longshore's readers shows it.
//!
//! ```text
//! cargo run --release --example dump -- --brokers 127.0.0.1:9092 --topic passwords
//! ```
//!
//! There is a line for each record, by partition and offset:
//!
//! ```text
//! PARTITION OFFSET TIMESTAMP KEY VALUE HEADERS
//! ```
//!
//! Bytes are `null`, or `x` and hexadecimal digits, or, where there are more than 64 of them, `sha256:LENGTH:` and their
//! hash. Headers are `NAME=VALUE`, separated by commas, `-` where there are none. tests/kafka/readers compares this with
//! what Kafka's own consumer reads, which is printed in the same way.
//!
//! It ends where the log ended when it was last asked. Where a partition cannot be read on, it says so and goes on with the
//! next one; the exit code is then 1.
//!
//! With `--count` it prints nothing of the records. It reads all partitions at once and says, in JSON, how many records
//! there were, how many bytes of keys and values, and how long that took.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for a terminal")]

use std::{
    fmt::Write as _,
    io::{self, Write as _},
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use clap::Parser;
use longshore::{
    config::DEFAULT_MAX_IN_FLIGHT_BYTES,
    kafka::{
        Deadlines, Isolation,
        reader::{ReadBy, Reader, Readers, WireReaders},
        wire::{At, Cluster, TopicView},
    },
    record::{Header, Offset, Record, TopicPartition},
    source::{Batch, PartitionReader, ReadError},
};
use sha2::{Digest, Sha256};

/// Longer bytes are shown by their hash.
const LONGEST_SHOWN: usize = 64;
/// How long a fetch waits at the broker, if nothing is there.
const MAX_WAIT: Duration = Duration::from_millis(100);
/// So many fetches in a row that bring nothing below the end mean that no more will come.
const STALLS: u32 = 5;
/// How often a broker that cannot answer just now is asked.
const ATTEMPTS: u32 = 50;

#[derive(Debug, Parser)]
#[command(about = "Prints what a topic holds, byte for byte")]
struct Args {
    /// Bootstrap brokers
    #[arg(short, long, value_name = "HOST:PORT,...", value_delimiter = ',', required = true)]
    brokers: Vec<String>,
    /// The topic to read
    #[arg(short, long, value_name = "NAME")]
    topic: String,
    /// What reads it: auto, rskafka or wire
    #[arg(long, default_value = "auto")]
    reader: String,
    /// Which records of transactions to read: read_uncommitted or read_committed
    #[arg(long, default_value = "read_uncommitted")]
    isolation: String,
    /// Where to begin in each partition, or at its beginning if that is later
    #[arg(long, value_name = "OFFSET", default_value_t = 0)]
    from: i64,
    /// About how much to ask for at once
    #[arg(long, value_name = "BYTES", default_value_t = 1 << 20)]
    fetch_bytes: usize,
    /// Only count, all partitions at once
    #[arg(long)]
    count: bool,
}

/// A reader for each partition, in order.
fn readers(args: &Args, cluster: &Cluster, view: &TopicView) -> Result<Vec<(i32, Reader)>> {
    let by = match args.reader.as_str() {
        "auto" => ReadBy::Auto,
        "rskafka" => ReadBy::Rskafka,
        "wire" => ReadBy::Wire,
        other => bail!("--reader is auto, rskafka or wire, not {other:?}"),
    };
    let isolation = match args.isolation.as_str() {
        "read_uncommitted" => Isolation::ReadUncommitted,
        "read_committed" => Isolation::ReadCommitted,
        other => bail!("--isolation is read_uncommitted or read_committed, not {other:?}"),
    };
    let wire = WireReaders::new(cluster, isolation, DEFAULT_MAX_IN_FLIGHT_BYTES);
    let readers = Readers::new(wire, by, view.partitions.len());
    let source = |partition| Arc::new(TopicPartition::new(args.topic.as_str(), partition));
    let reader = |partition| readers.partition(&source(partition), view.id);
    Ok(view.partitions.iter().map(|p| (p.partition, reader(p.partition))).collect())
}

#[tokio::main]
async fn main() -> ExitCode {
    run().await.unwrap_or_else(|error| {
        eprintln!("dump: {error:#}");
        ExitCode::FAILURE
    })
}

async fn run() -> Result<ExitCode> {
    tracing_subscriber::fmt().with_writer(io::stderr).with_ansi(false).with_max_level(tracing::Level::WARN).init();
    let args = Args::parse();
    let brokers = args.brokers.iter().map(|broker| broker.parse()).collect::<Result<_, _>>()?;
    let cluster = Cluster::new(brokers, "longshore-dump", Deadlines::default());
    let view = cluster.topic(&args.topic).await?.with_context(|| format!("there is no topic {}", args.topic))?;
    let numbers: Vec<i32> = view.partitions.iter().map(|p| p.partition).collect();
    let earliest = cluster.offsets(&args.topic, &numbers, At::Earliest).await?;
    let begin = |partition| earliest[&partition].max(Offset(args.from));
    let readers = readers(&args, &cluster, &view)?;
    if args.count {
        let readers = readers.into_iter().map(|(n, reader)| Partition::new(reader, begin(n), args.fetch_bytes));
        count(readers.collect()).await?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut code = ExitCode::SUCCESS;
    let mut out = io::BufWriter::new(io::stdout().lock());
    for (number, reader) in readers {
        let mut partition = Partition::new(reader, begin(number), args.fetch_bytes);
        let why = loop {
            match partition.read().await {
                Ok(Some(batch)) => batch.records.iter().try_for_each(|record| writeln!(out, "{}", line(record)))?,
                Ok(None) => break None,
                Err(error) => break Some(error),
            }
        };
        if let Some(error) = why {
            eprintln!("partition {number} stops at {}: {error:#}", partition.next);
            code = ExitCode::FAILURE;
        }
    }
    out.flush()?;
    Ok(code)
}

/// One partition on the way to its end.
struct Partition<R> {
    reader: R,
    next: Offset,
    fetch_bytes: usize,
    ended: bool,
}

impl<R: PartitionReader> Partition<R> {
    fn new(reader: R, next: Offset, fetch_bytes: usize) -> Self {
        Self { reader, next, fetch_bytes, ended: false }
    }

    /// What comes next; `None` at the end.
    async fn read(&mut self) -> Result<Option<Batch>> {
        let (mut stalls, mut attempts) = (0, 0);
        while !self.ended {
            match self.reader.fetch(self.next, self.fetch_bytes, MAX_WAIT).await {
                Ok(batch) => {
                    if let Some(damage) = batch.records.iter().find_map(|record| record.damage.as_ref()) {
                        bail!("the batch up to {} is damaged: {}", damage.last, damage.reason);
                    }
                    self.ended = batch.next >= batch.high_watermark;
                    if batch.next > self.next || self.ended {
                        self.next = batch.next;
                        return Ok(Some(batch));
                    }
                    stalls += 1;
                    if stalls == STALLS {
                        bail!("nothing comes, although the log goes on to {}", batch.high_watermark);
                    }
                }
                Err(ReadError::Unavailable { reason }) if attempts < ATTEMPTS => {
                    attempts += 1;
                    tracing::warn!(reason, "asking again");
                    tokio::time::sleep(MAX_WAIT).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(None)
    }
}

/// Reads all partitions at once and says how much there was. The time begins with the first fetch.
async fn count<R: PartitionReader>(partitions: Vec<Partition<R>>) -> Result<()> {
    let begun = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for mut partition in partitions {
        tasks.spawn(async move {
            let (mut records, mut bytes) = (0_u64, 0_u64);
            while let Some(batch) = partition.read().await? {
                let length = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
                let lengths = batch.records.iter().map(|record| length(&record.key) + length(&record.value));
                records += batch.records.len() as u64;
                bytes += lengths.sum::<usize>() as u64;
            }
            anyhow::Ok((records, bytes))
        });
    }
    let (mut records, mut bytes) = (0, 0);
    while let Some(done) = tasks.join_next().await {
        let (some, long) = done??;
        records += some;
        bytes += long;
    }
    let work_ms = begun.elapsed().as_secs_f64() * 1000.0;
    println!("{}", serde_json::json!({ "records": records, "bytes": bytes, "work_ms": work_ms }));
    Ok(())
}

fn line(record: &Record) -> String {
    let Record { source, offset, timestamp_ms, key, value, headers, .. } = record;
    let headers: Vec<String> = headers
        .iter()
        .map(|Header { name, value }| format!("{}={}", shown(Some(name)), shown(value.as_deref())))
        .collect();
    let headers = if headers.is_empty() { "-".to_owned() } else { headers.join(",") };
    let (key, value) = (shown(key.as_deref()), shown(value.as_deref()));
    format!("{} {offset} {timestamp_ms} {key} {value} {headers}", source.partition)
}

fn shown(bytes: Option<&[u8]>) -> String {
    match bytes {
        None => "null".to_owned(),
        Some(bytes) if bytes.len() > LONGEST_SHOWN => format!("sha256:{}:{:x}", bytes.len(), Sha256::digest(bytes)),
        Some(bytes) => bytes.iter().fold("x".to_owned(), |mut text, byte| {
            write!(text, "{byte:02x}").expect("a String takes all");
            text
        }),
    }
}
