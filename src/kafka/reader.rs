//! Reading partitions: by rskafka, by wire, or by rskafka for as long as it does it right.
//!
//! ```text
//!                 no TLS, no SASL, few partitions, read_uncommitted?
//!                      │ yes                         │ no
//!                      ▼                             ▼
//!   auto:          rskafka ── cannot decode, ─────▶ wire
//!                             stalls below the end,
//!                             a record with headers,
//!                             a backlog
//! ```
//!
//! rskafka shows of headers with the same name only the last, and in the order of their names: where there are headers at
//! all, it may be wrong. And where there is a backlog, wire reads it faster (docs/adr/0010). A partition that went over to
//! wire stays there. It goes over between two fetches, or before the first record that rskafka may not have shown right: no
//! record is lost or read twice.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::{
    Isolation,
    data_plane::DataPlane,
    wire::{At, Cluster},
    with_causes,
};
use crate::{
    record::{Offset, Record, TopicId, TopicPartition},
    source::{Batch, PartitionReader, ReadError},
};

mod decode;
mod lanes;
mod rskafka;
mod wire;

pub use self::{
    rskafka::RskafkaReader,
    wire::{WireReader, WireReaders},
};

/// By what the topics are read (`--reader`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReadBy {
    /// By rskafka, and by wire where rskafka cannot, or may not do it right.
    #[default]
    Auto,
    /// By rskafka alone. What it cannot read ends the run.
    Rskafka,
    /// By wire alone.
    Wire,
}

/// Up to this many partitions are read by rskafka, unless told otherwise: it takes a connection for each.
const MAX_BY_RSKAFKA: usize = 256;

/// The readers of a run.
#[derive(Debug, Clone)]
pub struct Readers {
    rskafka: DataPlane,
    wire: WireReaders,
    by: ReadBy,
    went_over: WentOver,
}

/// The partitions that went over to wire, of which topic: a reader that takes the place of another goes on as that did.
type WentOver = Arc<Mutex<BTreeSet<(Arc<TopicPartition>, TopicId)>>>;

impl Readers {
    /// Readers by `wire`, or as `by` says. With `auto` they are by wire from the start where rskafka cannot do what is asked
    /// for: speak TLS or SASL, leave out aborted records, or share connections among many partitions.
    #[must_use]
    pub fn new(wire: WireReaders, by: ReadBy, partitions: usize) -> Self {
        let by_wire =
            !wire.cluster().is_plain() || wire.isolation() == Isolation::ReadCommitted || partitions > MAX_BY_RSKAFKA;
        let by = if by == ReadBy::Auto && by_wire { ReadBy::Wire } else { by };
        let rskafka = DataPlane::new(wire.cluster().clone());
        Self { rskafka, wire, by, went_over: WentOver::default() }
    }

    /// A reader of one partition, as long as the topic has this id. Does nothing on the network before its first fetch.
    #[must_use]
    pub fn partition(&self, source: &Arc<TopicPartition>, id: TopicId) -> Reader {
        let source = Arc::clone(source);
        let wire = self.wire.partition(Arc::clone(&source), id);
        let rskafka = || RskafkaReader::new(self.rskafka.clone(), (*source).clone());
        let way = match self.by {
            ReadBy::Auto if locked(&self.went_over).contains(&(Arc::clone(&source), id)) => Way::Wire(wire),
            ReadBy::Auto => Way::Auto(rskafka(), Some(wire)),
            ReadBy::Rskafka => Way::Rskafka(rskafka()),
            ReadBy::Wire => Way::Wire(wire),
        };
        Reader { source, id, way, went_over: Arc::clone(&self.went_over) }
    }
}

/// Reads one partition, in the way that was chosen.
#[derive(Debug)]
pub struct Reader {
    source: Arc<TopicPartition>,
    id: TopicId,
    way: Way,
    went_over: WentOver,
}

#[derive(Debug)]
enum Way {
    Rskafka(RskafkaReader),
    Wire(WireReader),
    /// By rskafka, for as long as it does it right.
    Auto(RskafkaReader, Option<WireReader>),
}

impl Reader {
    fn go_over(&mut self, at: Offset, why: &str) {
        if let Way::Auto(_, wire) = &mut self.way
            && let Some(wire) = wire.take()
        {
            tracing::info!(partition = %self.source, offset = at.0, why, "reading by wire from here on");
            locked(&self.went_over).insert((Arc::clone(&self.source), self.id));
            self.way = Way::Wire(wire);
        }
    }
}

fn locked(went_over: &WentOver) -> MutexGuard<'_, BTreeSet<(Arc<TopicPartition>, TopicId)>> {
    // Held for an insert or a look.
    went_over.lock().unwrap_or_else(PoisonError::into_inner)
}

impl PartitionReader for Reader {
    async fn fetch(&mut self, from: Offset, max_bytes: usize, max_wait: Duration) -> Result<Batch, ReadError> {
        loop {
            let fetched = match &mut self.way {
                Way::Wire(reader) => return reader.fetch(from, max_bytes, max_wait).await,
                Way::Rskafka(reader) => return reader.fetch(from, max_bytes, max_wait).await,
                Way::Auto(reader, _) => reader.fetch(from, max_bytes, max_wait).await,
            };
            match fetched {
                Ok(batch) => match right(from, batch) {
                    Ok(batch) => {
                        if is_backlog(&batch, max_bytes) {
                            self.go_over(batch.next, "it has a backlog, which wire reads faster");
                        }
                        return Ok(batch);
                    }
                    Err(why) => self.go_over(from, why),
                },
                Err(ReadError::Unreadable { reason, .. }) => self.go_over(from, &reason),
                Err(other) => return Err(other),
            }
        }
    }
}

/// What of a batch rskafka is known to have shown right; or why nothing.
fn right(from: Offset, mut batch: Batch) -> Result<Batch, &'static str> {
    if batch.records.is_empty() && from < batch.high_watermark {
        return Err("rskafka finds nothing although the log goes on");
    }
    let Some(first) = batch.records.iter().position(|record| !record.headers.is_empty()) else { return Ok(batch) };
    batch.records.truncate(first);
    batch.next = batch.records.last().map(|record| record.offset.next()).ok_or("its records have headers")?;
    Ok(batch)
}

/// Whether there was about as much as was asked for: then there is more to come.
fn is_backlog(batch: &Batch, asked: usize) -> bool {
    batch.records.iter().map(Record::size).sum::<usize>() >= asked / 2
}

/// The log's bounds, for someone who asked for what lies beyond them.
async fn out_of_range(cluster: &Cluster, source: &TopicPartition, requested: Offset) -> ReadError {
    let TopicPartition { topic, partition } = source;
    let partitions = [*partition];
    let (earliest, latest) = tokio::join!(
        cluster.offsets(topic, &partitions, At::Earliest),
        cluster.offsets(topic, &partitions, At::Latest)
    );
    match (earliest, latest) {
        (Ok(earliest), Ok(latest)) => {
            let (earliest, latest) = (earliest[partition], latest[partition]);
            if (earliest..=latest).contains(&requested) {
                // A leader that has only just become one, or a log that has grown since.
                let reason = format!("offset {requested} was out of range, and is in range again");
                return ReadError::Unavailable { reason };
            }
            ReadError::OutOfRange { requested, earliest, latest }
        }
        (Err(error), _) | (_, Err(error)) => {
            let reason =
                format!("offset {requested} is out of range, but of which is unknown: {}", with_causes(&error));
            ReadError::Unavailable { reason }
        }
    }
}

#[cfg(all(test, feature = "broker"))]
mod tests;
