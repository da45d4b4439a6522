//! Reading: one fetch loop per partition, over whatever can fetch from it.
//!
//! ```text
//!   take room for bytes ──▶ fetch ──▶ for each chunk: take room for records ──▶ Fetched ──▶ engine
//!          ▲                                                                                 │
//!          └────────────────────────── room is given back as messages are finished ──────────┘
//! ```
//!
//! A loop that could not read for a while hands nothing over when it can again: another broker may lead the partition by
//! then, and its log may be another. It says so and ends; after a look at the log a new one begins (`lineage.rs`).
//!
//! A loop that finds no room waits: that is what pauses fetching. What it holds itself is at most one fetch.
//!
//! Deliberately not here: what becomes of records, and how a fetch is done ([`PartitionReader`]).

#[cfg(test)]
mod tests;

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::sync::{OwnedMutexGuard, mpsc};

use crate::{
    backoff::Backoff,
    error::RunError,
    record::{AssignmentId, LeaderEpoch, Offset, Record, TopicPartition},
    room::Room,
};

/// How long a fetch waits at the broker for something to arrive.
const MAX_WAIT: Duration = Duration::from_millis(500);
/// How many fetches in a row, each of up to [`MAX_WAIT`], may bring nothing below the high watermark before it is told.
const STALLS: u32 = 10;
/// For how long nothing but its absence must be heard of a topic before it counts as deleted: one broker's word, just
/// after its start, is not enough.
const MISSING_FOR: Duration = Duration::from_secs(5);
/// The most bytes that one fetch asks for.
const MAX_FETCH: usize = 1 << 20;
/// The most records that go to the engine at once.
const MAX_CHUNK: usize = 512;

/// What one fetch brought.
#[derive(Debug)]
pub struct Batch {
    /// Records in the order of their offsets, none below the offset that was asked for. May be empty.
    pub records: Vec<Record>,
    /// Where to read on: above the last record, and above whatever else the fetch showed to hold no record.
    pub next: Offset,
    /// The end of what may be read: the partition's high watermark, or where its first open transaction begins.
    pub high_watermark: Offset,
    /// The leader epoch of the last batch, where the reader knows it.
    pub leader_epoch: LeaderEpoch,
    /// Held until the records are let in, where they are so large that others must wait.
    pub held: Option<OwnedMutexGuard<()>>,
}

impl Batch {
    /// Nothing as yet: whoever was asked does not say what there is from `next` on.
    #[must_use]
    pub fn nothing(next: Offset) -> Self {
        Self { records: Vec::new(), next, high_watermark: next, leader_epoch: LeaderEpoch::UNKNOWN, held: None }
    }
}

/// Why a fetch brought nothing.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The offset is not in the log: below its start, where retention or a deletion took it, or beyond its end.
    #[error("offset {requested} is out of range, the log holds {earliest} to {latest}")]
    OutOfRange {
        /// The offset that was asked for.
        requested: Offset,
        /// The log's first offset.
        earliest: Offset,
        /// The high watermark.
        latest: Offset,
    },
    /// There is something at this offset that this reader cannot decode. To try again would fail again.
    #[error("cannot read what lies at offset {at}: {reason}")]
    Unreadable {
        /// The offset that was asked for.
        at: Offset,
        /// What the decoder said.
        reason: String,
    },
    /// What came is damaged. It may be the network's doing: to try again may help.
    #[error("what came for offset {at} is damaged: {reason}")]
    Damaged {
        /// The offset that was asked for.
        at: Offset,
        /// What is wrong with it.
        reason: String,
    },
    /// There is no such topic, or no such partition, as far as the broker that was asked knows.
    #[error("{reason}")]
    Missing {
        /// What was looked for.
        reason: String,
    },
    /// The broker did not answer, or said that it cannot just now. To try again may help.
    #[error("{reason}")]
    Unavailable {
        /// What happened, for people.
        reason: String,
    },
}

/// Something that can fetch from one partition. The limits and the patience are the loop's, not its.
pub trait PartitionReader: Send + 'static {
    /// Asks once for what lies at `from` and after it, up to about `max_bytes` (at least one batch, if there is one), and
    /// waits up to `max_wait` for something to arrive. Never takes much longer than `max_wait` and the reader's own
    /// deadline together, whatever the broker does, and may be dropped at any time.
    fn fetch(
        &mut self,
        from: Offset,
        max_bytes: usize,
        max_wait: Duration,
    ) -> impl Future<Output = Result<Batch, ReadError>> + Send;
}

/// What a fetch loop tells the engine.
#[derive(Debug)]
pub(crate) enum SourceEvent {
    /// Records, in order, and that nothing else lies below `next`; the leader epoch of the last of them, if the reader tells,
    /// and the end of the log.
    Fetched { assignment: AssignmentId, records: Vec<Record>, next: Offset, epoch: LeaderEpoch, latest: Offset },
    /// A fetch failed. From now on nothing is handed over without a look.
    Away(AssignmentId),
    /// The log may not be what it was: the place where to go on is not in it, or it could not be read for a while, and
    /// another broker may lead it now. The loop has ended, and is to be begun anew after a look.
    Unsure(AssignmentId),
    /// Nothing has been heard of the topic for a while but its absence. The loop goes on trying.
    Missing,
    /// What lies there is not read. The loop has ended, and so does the run.
    Gone(RunError),
}

/// The limits that all fetch loops share.
#[derive(Debug)]
pub(crate) struct Limits {
    /// Records fetched and not finished.
    pub(crate) records: Room,
    /// The bytes of them, and of fetches under way.
    pub(crate) bytes: Room,
    max_records: usize,
    max_bytes: usize,
    /// How many share them.
    partitions: AtomicUsize,
}

impl Limits {
    pub(crate) fn new(max_records: usize, max_bytes: usize) -> Self {
        let (records, bytes, partitions) = (Room::new(max_records), Room::new(max_bytes), AtomicUsize::new(1));
        Self { records, bytes, max_records, max_bytes, partitions }
    }

    /// Says how many partitions share the limits.
    pub(crate) fn share(&self, partitions: usize) {
        self.partitions.store(partitions.max(1), Ordering::Relaxed);
    }

    /// The records that one partition may hold, so that none that is held up takes all the room there is; but never so few
    /// that one that is alone in having messages leaves workers idle.
    pub(crate) fn partition_room(&self, workers: usize) -> Room {
        let partitions = self.partitions.load(Ordering::Relaxed);
        Room::new((self.max_records / partitions).max(workers * 2).min(self.max_records))
    }

    /// What one fetch asks for: all partitions together wait with half of the bytes at most, so that none is kept from
    /// waiting.
    fn fetch_bytes(&self) -> usize {
        (self.max_bytes / (2 * self.partitions.load(Ordering::Relaxed))).clamp(1, MAX_FETCH)
    }
}

/// The loop of one partition.
pub(crate) struct FetchLoop<R> {
    pub(crate) reader: R,
    pub(crate) assignment: AssignmentId,
    pub(crate) source: Arc<TopicPartition>,
    pub(crate) limits: Arc<Limits>,
    /// The records that this partition may hold.
    pub(crate) room: Arc<Room>,
    pub(crate) events: mpsc::Sender<SourceEvent>,
    /// Set where this life of the partition is over, and what is fetched of it is of no use.
    pub(crate) over: Arc<AtomicBool>,
    /// With `--until-end`: where reading ends.
    pub(crate) end: Option<Offset>,
}

impl<R: PartitionReader> FetchLoop<R> {
    /// Reads from `from` until the end or until the engine is gone, or the log does not hold what is to be read.
    pub(crate) async fn run(mut self, from: Offset) {
        let mut next = from;
        let mut trouble = Trouble { backoff: Backoff::new(), stalls: 0, was_away: false };
        while !self.is_over() && self.end.is_none_or(|end| next < end) {
            let fetch_bytes = self.limits.fetch_bytes();
            self.limits.bytes.take(fetch_bytes).await;
            let fetched = self.reader.fetch(next, fetch_bytes, MAX_WAIT).await;
            let held = fetched.as_ref().map_or(0, |batch| batch.records.iter().map(Record::size).sum());
            self.limits.bytes.adjust(fetch_bytes, held);
            let lasting = match fetched {
                Ok(batch) if batch.next == next && next < batch.high_watermark => {
                    trouble.stalled(&self, next, &batch).await
                }
                Ok(_) if trouble.was_away => {
                    trouble.over(&self.source);
                    self.limits.bytes.give(held);
                    return self.unsure().await;
                }
                Ok(batch) => {
                    trouble.over(&self.source);
                    let before = std::mem::replace(&mut next, batch.next);
                    if self.hand_over(batch, before).await.is_err() {
                        return;
                    }
                    None
                }
                Err(ReadError::OutOfRange { requested, earliest, latest })
                    if requested < earliest || requested > latest =>
                {
                    tracing::debug!(partition = %self.source, %requested, %earliest, %latest, "out of range");
                    return self.unsure().await;
                }
                Err(error) => trouble.failed(&self, next, error).await,
            };
            if let Some(error) = lasting {
                // An engine that is gone needs no news.
                let _ = self.events.send(SourceEvent::Gone(error)).await;
                return;
            }
        }
    }

    /// Leaves it to a look what is to be read. An engine that is gone needs no news.
    async fn unsure(self) {
        let _ = self.events.send(SourceEvent::Unsure(self.assignment)).await;
    }

    fn is_over(&self) -> bool {
        self.events.is_closed() || self.over.load(Ordering::Relaxed)
    }

    /// Gives the engine what was read, chunk by chunk, as there is room.
    async fn hand_over(&self, batch: Batch, before: Offset) -> Result<(), mpsc::error::SendError<SourceEvent>> {
        // What is held with it stays in `batch`, until its records are let in.
        let Batch { records, next, high_watermark: latest, leader_epoch: epoch, .. } = batch;
        let assignment = self.assignment;
        let mut records = records.into_iter();
        let mut told = before;
        while records.len() > 0 {
            // Whatever is free: what is held for long by a long task must not keep what there is room for waiting.
            let room = self.room.take_some(records.len().min(MAX_CHUNK)).await;
            let taken = self.limits.records.take_some(room).await;
            if taken < room {
                self.room.give(room - taken);
            }
            let chunk: Vec<_> = records.by_ref().take(taken).collect();
            told = chunk.last().map_or(told, |last| last.offset.next());
            self.events.send(SourceEvent::Fetched { assignment, records: chunk, next: told, epoch, latest }).await?;
        }
        if next > told {
            self.events.send(SourceEvent::Fetched { assignment, records: Vec::new(), next, epoch, latest }).await?;
        }
        Ok(())
    }
}

/// What stands in the way of a fetch loop: told now and then, and given up only where the run is to come to an end.
struct Trouble {
    backoff: Backoff,
    /// Fetches in a row that brought nothing although there is something.
    stalls: u32,
    /// Nobody could be read from for a while.
    was_away: bool,
}

impl Trouble {
    fn over(&mut self, source: &TopicPartition) {
        self.stalls = 0;
        if let Some(failed_for) = self.backoff.reset() {
            tracing::info!(partition = %source, ?failed_for, "fetching again");
        }
    }

    /// A fetch failed. Waits, unless it is for good.
    async fn failed<R>(&mut self, of: &FetchLoop<R>, at: Offset, error: ReadError) -> Option<RunError> {
        if let ReadError::Unreadable { .. } = error {
            return Some(unreadable(&of.source, at, error.to_string()));
        }
        let (wait, say) = self.backoff.fail();
        if say {
            tracing::warn!(partition = %of.source, offset = at.0, %error, "cannot fetch, trying again");
        }
        if !self.was_away && !matches!(error, ReadError::Damaged { .. }) {
            self.was_away = true;
            // An engine that is gone needs no news.
            let _ = of.events.send(SourceEvent::Away(of.assignment)).await;
        }
        if matches!(error, ReadError::Missing { .. }) && self.backoff.failing_for() > MISSING_FOR {
            // An engine that is gone needs no news.
            let _ = of.events.send(SourceEvent::Missing).await;
        }
        tokio::time::sleep(wait).await;
        None
    }

    /// A fetch brought nothing below the high watermark: what lies there is no record, and hides how far it reaches.
    async fn stalled<R>(&mut self, of: &FetchLoop<R>, at: Offset, batch: &Batch) -> Option<RunError> {
        self.stalls += 1;
        if self.stalls < STALLS {
            return None;
        }
        let latest = batch.high_watermark;
        let reason = format!(
            "nothing can be read at offset {at} although the log goes on to {latest} (compacted away, or an open transaction)"
        );
        if of.end.is_some() {
            return Some(unreadable(&of.source, at, reason));
        }
        let (wait, say) = self.backoff.fail();
        if say {
            tracing::warn!(partition = %of.source, "{reason}, trying again");
        }
        tokio::time::sleep(wait).await;
        None
    }
}

fn unreadable(source: &Arc<TopicPartition>, at: Offset, reason: String) -> RunError {
    RunError::Unreadable { source_partition: Arc::clone(source), at, reason }
}
